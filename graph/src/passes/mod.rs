//! Rewrites of graphs, one per file, in the order they run.
//!
//! A pass is a row of [`PIPELINE`]. Most are *rules*: `fn rule(g: &GraphView, id: NodeId) ->
//! Option<Rewrite>`, a pure function that looks at one node and what feeds it and says what could
//! stand in its place. A few must see the whole graph: `fn(&mut Graph, &Cx) -> usize`, the number
//! of things they changed.
//!
//! **Writing a rule.** Start from the last node of the pattern and match upwards, refusing early:
//! ```ignore
//! //! Relu(Relu(x)) → Relu(x)
//! pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
//!     let Op::Unary(Unary::Relu) = g.op(id) else { return None };
//!     let x = g.input(id, 0)?;
//!     let Op::Unary(Unary::Relu) = g.made_by(x)?.op else { return None };
//!     g.alias(x)
//! }
//! ```
//! - [`GraphView`] answers: `input(id, i)`, `fact(v)`, `constant(v)`, `scalar(v)`, `producer(v)`,
//!   `made_by(v)`, `uses(v)` (readers, graph outputs counted), `single_use(v)`.
//! - [`GraphView::alias`] says that the node's only output is a value that exists already.
//! - [`GraphView::patch`] begins new nodes: `p.constant(t)`, `p.push1(op, &[a, b])?`,
//!   `p.push(op, &inputs, outputs)?`. Each is inferred as it is pushed, so facts are right and
//!   what the operator refuses ends the rule with `None`. `p.finish(&[y])` names, for each output
//!   of the node, the value (old or new) that takes its place.
//! - Nodes that only the replaced one read need not be mentioned: they die with it. Where the
//!   rewrite is only worth it if an inner node disappears, ask `g.single_use(v)`.
//! - A rule may read only values that are made before the node.
//!
//! **What the driver does** ([`optimize`]): one sweep over the nodes per rule and round, in order,
//! so a rule sees everything upstream already rewritten; replaced values are forwarded by a table,
//! so a sweep is linear. A rewrite whose values contradict what was known of the old ones (dtype,
//! rank, sizes) is refused, loudly in debug builds. Names stay with values. Then it does the same
//! in the bodies of If, Loop and Scan, verifies (debug builds and tests), and repeats the pipeline
//! while something changes, a few rounds at most.
//!
//! **Testing a rule.** Text in, text out: `check(&[PASS], "x: float[n]; y = Relu(x); … → y", "…")`
//! in [`testing`]; inputs are ONNX ([`crate::onnx::parse()`]), the expected text is the IR's
//! (`Display`).

mod attention_groups;
mod batched_transposes;
mod common_subexpressions;
mod dedupe_constants;
mod drop_dead;
mod fold_constants;
mod fuse_activations;
mod fuse_attention;
mod fuse_conv;
mod fuse_epilogue;
mod fuse_matmul;
mod fuse_norms;
mod fuse_pointwise;
mod fuse_quantized;
mod identities;
mod pattern;
mod reshapes;
mod rewrite;
mod sink_transposes;
mod transposes;

pub use rewrite::{GraphView, Patch, Rewrite};

use std::cell::Cell;
use std::sync::Arc;

use crate::backend::Eval;
use crate::verify::{VerifyError, verify};
use crate::{Graph, Limits, NodeId, ValueId};

/// How a pass works.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Looks at one node at a time.
    Rule(fn(&GraphView<'_>, NodeId) -> Option<Rewrite>),
    /// Changes the graph as a whole; returns how many things it changed.
    Whole(fn(&mut Graph, &Cx<'_>) -> usize),
}

/// Which passes run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// None.
    Off,
    /// Those that keep every result to the bit.
    Exact,
    /// Those too that fuse operators, which may round differently.
    #[default]
    Full,
}

/// A row of the [`PIPELINE`].
#[derive(Clone, Copy)]
pub struct Pass {
    /// Its name: that of its file.
    pub name: &'static str,
    /// The level from which on it runs.
    pub level: Level,
    /// What it does.
    pub kind: Kind,
}

const fn rule(
    name: &'static str,
    level: Level,
    f: fn(&GraphView<'_>, NodeId) -> Option<Rewrite>,
) -> Pass {
    Pass { name, level, kind: Kind::Rule(f) }
}

const fn whole(name: &'static str, level: Level, f: fn(&mut Graph, &Cx<'_>) -> usize) -> Pass {
    Pass { name, level, kind: Kind::Whole(f) }
}

/// Every pass, in running order.
pub static PIPELINE: &[Pass] = &[
    rule("fuse_quantized", Level::Full, fuse_quantized::rule),
    whole("fold_constants", Level::Exact, fold_constants::run),
    rule("identities", Level::Exact, identities::rule),
    rule("reshapes", Level::Exact, reshapes::rule),
    rule("transposes", Level::Exact, transposes::rule),
    rule("sink_transposes", Level::Exact, sink_transposes::rule),
    rule("batched_transposes", Level::Exact, batched_transposes::rule),
    rule("fuse_activations", Level::Full, fuse_activations::rule),
    rule("fuse_norms", Level::Full, fuse_norms::rule),
    rule("fuse_matmul", Level::Full, fuse_matmul::rule),
    rule("fuse_conv", Level::Full, fuse_conv::rule),
    rule("fuse_attention", Level::Full, fuse_attention::rule),
    rule("attention_groups", Level::Exact, attention_groups::rule),
    rule("fuse_pointwise", Level::Full, fuse_pointwise::rule),
    whole("dedupe_constants", Level::Exact, dedupe_constants::run),
    whole("common_subexpressions", Level::Exact, common_subexpressions::run),
    whole("drop_dead", Level::Exact, drop_dead::run),
];

/// What a model goes through before it is quantized: constants become one, nodes stay the user's.
pub static PREPARE: &[Pass] = &[
    whole("fold_constants", Level::Exact, fold_constants::run),
    rule("identities", Level::Exact, identities::rule),
    rule("fold_conv_constants", Level::Full, fuse_conv::constants),
    whole("dedupe_constants", Level::Exact, dedupe_constants::run),
    whole("drop_dead", Level::Exact, drop_dead::run),
];

/// What to do, and how far to go.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Which passes run.
    pub level: Level,
    /// Passes of that level that do not run, by name.
    pub disabled: &'a [&'a str],
    /// Bounds on what constant folding makes.
    pub limits: &'a Limits,
    /// By how much constant folding may enlarge the constants, as a share of what they take.
    pub growth: f64,
    /// Called after each pass that changed something.
    pub observer: Option<&'a dyn Fn(&Step<'_>)>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        static LIMITS: Limits = Limits::trusted();
        Options { level: Level::Full, disabled: &[], limits: &LIMITS, growth: 0.1, observer: None }
    }
}

/// A pass that changed something.
pub struct Step<'a> {
    /// Its name.
    pub pass: &'static str,
    /// In which round, from 0.
    pub round: usize,
    /// How many things it changed.
    pub changes: usize,
    /// The graph after it.
    pub graph: &'a Graph,
}

/// What [`optimize`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many things each pass changed, in pipeline order; those that changed nothing left out.
    pub changes: Vec<(&'static str, usize)>,
    /// Nodes before, bodies included.
    pub nodes_before: usize,
    /// Nodes after, bodies included.
    pub nodes_after: usize,
    /// Bytes of constants before, bodies included.
    pub bytes_before: usize,
    /// Bytes of constants after, bodies included.
    pub bytes_after: usize,
}

/// What whole-graph passes may use.
pub struct Cx<'a> {
    /// Runs nodes on constants.
    pub eval: &'a dyn Eval,
    /// What to do, and how far to go.
    pub options: &'a Options<'a>,
    /// Bytes that constant folding may still make.
    pub fold_left: Cell<usize>,
    /// Multiply–accumulate steps that constant folding may still take.
    pub work_left: Cell<u64>,
    /// Bytes by which constant folding may still enlarge the constants.
    pub growth_left: Cell<usize>,
}

/// Rounds of the pipeline at most: what one pass uncovers for an earlier one waits for the next.
const MAX_ROUNDS: usize = 8;

/// Runs the pipeline on a graph, and on the bodies in it.
///
/// `Err` is a mistake in a pass; the model may have been changed into something wrong.
pub fn optimize(
    graph: &mut Graph,
    eval: &dyn Eval,
    options: &Options<'_>,
) -> Result<Report, VerifyError> {
    run_passes(graph, PIPELINE, eval, options)
}

/// Runs these passes instead of the whole pipeline.
pub fn run_passes(
    graph: &mut Graph,
    passes: &[Pass],
    eval: &dyn Eval,
    options: &Options<'_>,
) -> Result<Report, VerifyError> {
    let (nodes_before, bytes_before) = measure(graph);
    // A folded node leaves the file, which pays for a constant of about its size.
    let pays = nodes_before.saturating_mul(64).saturating_add(bytes_before);
    let cx = Cx {
        eval,
        options,
        fold_left: Cell::new(options.limits.fold_total),
        work_left: Cell::new(fold_constants::WORK),
        growth_left: Cell::new((pays as f64 * options.growth) as usize),
    };
    let runs = |p: &&Pass| p.level <= options.level && !options.disabled.contains(&p.name);
    let passes: Vec<&Pass> = passes.iter().filter(runs).collect();
    let mut changes = vec![0usize; passes.len()];
    // The state of the graph, counted by changes, that each pass has nothing to say about.
    let (mut state, mut done) = (0usize, vec![usize::MAX; passes.len()]);
    for round in 0..MAX_ROUNDS {
        let before = state;
        for (i, pass) in passes.iter().enumerate() {
            if done[i] == state {
                continue;
            }
            let n = run_pass(graph, pass, &cx)?;
            if n > 0 {
                state += 1;
                changes[i] += n;
                if cfg!(debug_assertions) {
                    verify(graph, pass.name)?;
                }
                if let Some(observer) = options.observer {
                    observer(&Step { pass: pass.name, round, changes: n, graph });
                }
            } else {
                done[i] = state;
            }
        }
        if state == before {
            break;
        }
    }
    let (nodes_after, bytes_after) = measure(graph);
    let changes = passes.iter().zip(changes).filter(|(_, n)| *n > 0);
    let changes = changes.map(|(pass, n)| (pass.name, n)).collect();
    Ok(Report { changes, nodes_before, nodes_after, bytes_before, bytes_after })
}

/// One pass over a graph, then over the bodies in it.
fn run_pass(graph: &mut Graph, pass: &Pass, cx: &Cx<'_>) -> Result<usize, VerifyError> {
    let mut changes = match pass.kind {
        Kind::Rule(rule) => rewrite::sweep(graph, pass.name, rule)?,
        Kind::Whole(run) => run(graph, cx),
    };
    for id in control_nodes(graph) {
        for body in graph.node_mut(id).op.bodies_mut() {
            changes += run_pass(Arc::make_mut(body), pass, cx)?;
        }
    }
    Ok(changes)
}

/// The nodes that have bodies.
fn control_nodes(graph: &Graph) -> Vec<NodeId> {
    graph.nodes().filter(|(_, n)| n.op.is_control()).map(|(id, _)| id).collect()
}

/// Makes whatever reads a value read what `alias` puts in its place; one hop leads to the end.
fn replace_values(graph: &mut Graph, alias: &[Option<ValueId>]) {
    let now = |v: ValueId| alias[v.index()].unwrap_or(v);
    for id in graph.order().to_vec() {
        graph.node_mut(id).inputs.iter_mut().flatten().for_each(|v| *v = now(*v));
    }
    let outputs = graph.outputs().iter().map(|&v| now(v)).collect();
    graph.set_outputs(outputs);
}

/// Nodes, and bytes of constants that are read, bodies included.
fn measure(graph: &Graph) -> (usize, usize) {
    let mut nodes = graph.order().len();
    let mut bytes = 0usize;
    let mut seen = vec![false; graph.value_count()];
    let read = graph.nodes().flat_map(|(_, n)| n.inputs.iter().flatten());
    for &v in read.chain(graph.outputs()) {
        if graph.producer(v).is_none() && !std::mem::replace(&mut seen[v.index()], true) {
            bytes = bytes.saturating_add(graph.fact(v).value().map_or(0, |v| v.byte_len()));
        }
    }
    for (_, node) in graph.nodes() {
        for body in node.op.bodies() {
            let (n, b) = measure(body);
            nodes += n;
            bytes = bytes.saturating_add(b);
        }
    }
    (nodes, bytes)
}

/// Helpers for the tests of passes.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::onnx::parse;
    use crate::ops::{Custom, CustomOp, Inputs};
    use crate::verify::verify_nodes;
    use crate::{Facts, Op, Reason, Value, unsupported};

    /// Evaluates nothing: for passes that need no evaluation.
    pub struct NoEval;

    impl Eval for NoEval {
        fn eval(&self, _: &Graph, _: NodeId, _: &[Option<Value>]) -> Result<Vec<Value>, Reason> {
            Err(unsupported!("nothing is evaluated here"))
        }
    }

    struct Draw;

    impl CustomOp for Draw {
        fn name(&self) -> &str {
            "Draw"
        }
        fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
            Ok([inputs.get(0)?.clone().forget()].into_iter().collect())
        }
        fn run(&self, inputs: &[Option<Value>]) -> Result<Vec<Value>, Reason> {
            Ok(inputs.iter().flatten().cloned().collect())
        }
        fn deterministic(&self) -> bool {
            false
        }
    }

    /// An operator that gives other results each time, as far as anyone knows.
    pub fn draw() -> Op {
        Custom(Arc::new(Draw)).into()
    }

    /// The pass with this name.
    pub fn pass(name: &str) -> Pass {
        *PIPELINE.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no pass {name}"))
    }

    /// The graph in `text` after the named passes.
    pub fn rewritten(passes: &[&str], text: &str) -> Graph {
        let mut g = parse(text).unwrap_or_else(|r| panic!("{text}: {r}"));
        verify(&g, "parse").unwrap();
        let passes: Vec<Pass> = passes.iter().map(|name| pass(name)).collect();
        run_passes(&mut g, &passes, &NoEval, &Options::default()).unwrap();
        verify_nodes(&g, "the passes").unwrap();
        g
    }

    /// Checks that the named passes turn `text` into `expected`; lines' indentation is ignored.
    #[track_caller]
    pub fn check(passes: &[&str], text: &str, expected: &str) {
        let lines =
            |s: &str| s.lines().map(|l| l.trim().to_string()).collect::<Vec<_>>().join("\n");
        let found = rewritten(passes, text).to_string();
        assert_eq!(lines(&found), lines(expected.trim()), "found:\n{found}");
    }

    /// Checks that the named passes leave `text` alone.
    #[track_caller]
    pub fn unchanged(passes: &[&str], text: &str) {
        let before = parse(text).unwrap_or_else(|r| panic!("{text}: {r}"));
        assert_eq!(rewritten(passes, text).to_string(), before.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::testing::NoEval;
    use super::*;
    use crate::ops::Identity;
    use crate::{DType, Fact};

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = PIPELINE.iter().map(|p| p.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PIPELINE.len());
    }

    #[test]
    fn two_hundred_thousand_nodes_take_no_time() {
        let mut g = Graph::new();
        let mut x = g.input("x", Fact::sized(DType::F32, &[2]));
        for _ in 0..200_000 {
            x = g.push1(Identity, &[x]).unwrap();
        }
        g.output(x);
        let start = std::time::Instant::now();
        optimize(&mut g, &NoEval, &Options::default()).unwrap();
        // A loose bound for debug builds on a busy machine; anything quadratic takes minutes.
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
