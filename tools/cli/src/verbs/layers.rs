//! `rinfer compare --per-layer` of one model on two backends: each node of the second is given
//! what the first computed, so that the node that is wrong stands alone.
//!
//! A node's budget is relative to the largest number that is expected: `|found − expected| ≤ atol +
//! rtol · max|expected|`, with no less than two units in the last place of float16 and bfloat16
//! for outputs of these types; everything that is no float must be equal. The first node over it is
//! written as a model of its own, in ONNX's test layout.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rinfer::graph::{Node, NodeId, ValueId};
use rinfer::{DType, Fact, Graph, Kind, Model, Session, Value};
use serde_json::{Value as Json, json};

use crate::args::{CompareArgs, EngineArgs, PrintArgs};
use crate::compare::{Tolerance, compare as equal, distance};
use crate::context;
use crate::failure::{Code, Failure, OrFail, Result};
use crate::formats;
use crate::inputs::Inputs;
use crate::outputs::file_name;
use crate::stats::{numbers, short};
use crate::table::Table;

/// One node alone: a model, what it is given, what is expected.
struct Alone {
    model: Model,
    inputs: Inputs,
    expected: Vec<(String, Value)>,
}

/// How a node fared.
enum Verdict {
    Within,
    Over(String),
    /// The backend does not run it: why.
    Elsewhere(String),
}

/// Runs the model on `first`, and each of its nodes alone on `second`; exit code 1 if one is over
/// its budget.
pub fn compare(
    mut model: Model,
    given: Inputs,
    (first, second): (&EngineArgs, &EngineArgs),
    args: &CompareArgs,
    print: &PrintArgs,
) -> Result<()> {
    let path = &args.a;
    if !first.no_optimize {
        model.optimize().map_err(|e| Failure::load(path, e))?;
    }
    let graph = named(model.graph().clone());
    let names = made(&graph);
    let values = reference(path, model.with_graph(graph.clone()), given, first, &names, print)?;
    let device = context::device(second, print)?;
    let tuning = context::tuning(second)?;
    let mut table = Table::new(&["node", "op", "max abs", "of largest", "verdict"]);
    let (mut rows, mut over, mut elsewhere) = (Vec::new(), Vec::new(), 0);
    for &id in graph.order() {
        let node = graph.node(id);
        if node.op.is_control() {
            continue;
        }
        let name = node_name(&graph, id);
        let alone = alone(&graph, node, &values).or_fail(Code::Run, &name)?;
        let builder = Session::builder().device(device.clone()).optimize(false);
        let builder = builder.threads(second.threads).limits(context::limits(&second.limits));
        let builder = match &tuning {
            Some(tuning) => builder.tuning(tuning),
            None => builder,
        };
        let (found, verdict) = match judge(&alone, builder, args)? {
            (found, Verdict::Over(why)) => {
                over.push((name.clone(), alone));
                (found, why)
            }
            (found, Verdict::Within) => (found, "within".to_string()),
            (found, Verdict::Elsewhere(why)) => {
                elsewhere += 1;
                (found, why)
            }
        };
        let (max, share) = found.unwrap_or((f64::NAN, f64::NAN));
        table.row([name.clone(), node.op.name().into(), short(max), short(share), verdict.clone()]);
        let ok = verdict == "within";
        rows.push(json!({"node": name, "op": node.op.name(), "max_abs": number(max),
            "of_largest": number(share), "within": ok, "why": (!ok).then_some(verdict)}));
    }
    show(&table, rows, elsewhere, print);
    match over.into_iter().next() {
        None => Ok(()),
        Some((name, alone)) => {
            let dir = folder(args, &name);
            write(&dir, &alone, args.overwrite)?;
            let text = format!("{name} is the first node over its budget: {}", dir.display());
            Err(Failure::new(Code::Differs, text))
        }
    }
}

/// A number for JSON, which has no NaN.
fn number(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

fn show(table: &Table, rows: Vec<Json>, elsewhere: usize, print: &PrintArgs) {
    if elsewhere > 0 {
        context::say(print, format!("{elsewhere} nodes do not run on the second backend"));
    }
    if print.json {
        println!("{}", json!({"nodes": rows}));
    } else {
        print!("{table}");
    }
}

/// The graph with a name of its own for every value that a node makes.
fn named(mut graph: Graph) -> Graph {
    let mut seen: HashSet<String> =
        graph.inputs().iter().filter_map(|&v| graph.name(v).map(|n| n.to_string())).collect();
    let outputs = graph.order().iter().flat_map(|&id| graph.node(id).outputs.clone());
    let outputs: Vec<ValueId> = outputs.collect();
    // What passes left behind may bear the same names.
    let live: HashSet<ValueId> = graph.inputs().iter().chain(&outputs).copied().collect();
    graph.values().filter(|v| !live.contains(v)).for_each(|v| graph.clear_name(v));
    for v in outputs {
        let name = graph.name(v).map_or_else(|| format!("v{}", v.index()), |n| n.to_string());
        let mut free = name.clone();
        while !seen.insert(free.clone()) {
            free = format!("{name}.{}", seen.len());
        }
        graph.set_name(v, &free);
    }
    graph
}

/// The names of the values that nodes make, in order.
fn made(graph: &Graph) -> Vec<String> {
    let outputs = graph.order().iter().flat_map(|&id| graph.node(id).outputs.iter());
    outputs.filter_map(|&v| graph.name(v).map(|n| n.to_string())).collect()
}

/// Every value of a run, by name.
fn reference(
    path: &Path,
    model: Model,
    given: Inputs,
    engine: &EngineArgs,
    names: &[String],
    print: &PrintArgs,
) -> Result<HashMap<String, Value>> {
    let engine = EngineArgs { no_optimize: true, ..engine.clone() };
    let session = context::session(path, model, &engine, print, |b| b.outputs(names.to_vec()))?;
    let options = context::run_options(engine.timeout)?;
    let made = session.run_with(given.clone(), &options).map_err(|e| Failure::run(path, e))?;
    Ok(given.into_iter().chain(names.iter().cloned().zip(made)).collect())
}

/// The node's name, or that of its first output.
fn node_name(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let output = || node.outputs.first().and_then(|&v| graph.name(v)).map(|n| n.to_string());
    match node.name.is_empty() {
        true => output().unwrap_or_else(|| format!("#{}", id.index())),
        false => node.name.to_string(),
    }
}

/// A node with its constants; the other inputs are as the reference computed them.
fn alone(
    graph: &Graph,
    node: &Node,
    values: &HashMap<String, Value>,
) -> std::result::Result<Alone, String> {
    let value_of = |v: ValueId| {
        let name = graph.name(v).ok_or("a value without a name")?.to_string();
        let value = values.get(&name).cloned().ok_or_else(|| format!("{name} was not made"))?;
        Ok::<_, String>((name, value))
    };
    let mut g = Graph::new();
    let mut inputs = Inputs::new();
    let mut known: HashMap<ValueId, ValueId> = HashMap::new();
    for &v in node.inputs.iter().flatten() {
        if known.contains_key(&v) {
            continue;
        }
        let constant = graph.producer(v).is_none() && !graph.inputs().contains(&v);
        let id = match graph.fact(v).value().filter(|_| constant) {
            Some(value) => g.constant_value(&value),
            None => {
                let (name, value) = value_of(v)?;
                let id = g.input(&name, Fact::of_value(&value).forget());
                inputs.push((name, value));
                id
            }
        };
        known.insert(v, id);
    }
    let mut expected = Vec::new();
    let mut outputs = Vec::new();
    for &v in &node.outputs {
        let (name, value) = value_of(v)?;
        let id = g.value(Fact::of_value(&value).forget());
        g.set_name(id, &name);
        outputs.push(id);
        expected.push((name, value));
    }
    let given = node.inputs.iter().map(|v| v.map(|v| known[&v])).collect();
    let ids = outputs.iter().copied().collect();
    g.push_node(Node { inputs: given, outputs: ids, ..node.clone() });
    outputs.into_iter().for_each(|id| g.output(id));
    Ok(Alone { model: Model::from_graph(g), inputs, expected })
}

/// Runs one node: the largest difference, the same relative to the largest number expected, and
/// whether that is within its budget.
fn judge(
    alone: &Alone,
    builder: rinfer::SessionBuilder,
    args: &CompareArgs,
) -> Result<(Option<(f64, f64)>, Verdict)> {
    let model = alone.model.with_graph(alone.model.graph().clone());
    let elsewhere = |e: &rinfer::Error| e.kind() == Kind::Unsupported;
    let session = match builder.build(model) {
        Ok(session) => session,
        Err(e) if elsewhere(&e) => return Ok((None, Verdict::Elsewhere(e.to_string()))),
        Err(e) => return Err(Failure::load(&args.a, e)),
    };
    let options = context::run_options(args.timeout)?;
    let made = match session.run_with(alone.inputs.clone(), &options) {
        Ok(made) => made,
        Err(e) if elsewhere(&e) => return Ok((None, Verdict::Elsewhere(e.to_string()))),
        Err(e) if matches!(e.kind(), Kind::Deadline | Kind::Cancelled) => {
            return Err(Failure::run(&args.a, e));
        }
        Err(e) => return Ok((None, Verdict::Over(e.to_string()))),
    };
    let mut worst: Option<(f64, f64)> = None;
    let mut verdict = Verdict::Within;
    for (found, (name, expected)) in made.iter().zip(&alone.expected) {
        if let Some(d) = distance(found, expected) {
            let share = if d.max_abs == 0.0 { 0.0 } else { d.max_abs / largest(expected) };
            if worst.is_none_or(|w| share >= w.1) {
                worst = Some((d.max_abs, share));
            }
        }
        if let Err(why) = within(found, expected, args.tolerance.into()) {
            verdict = Verdict::Over(format!("{name}: {why}"));
        }
    }
    Ok((worst, verdict))
}

/// The largest finite number.
fn largest(value: &Value) -> f64 {
    let Value::Tensor(t) = value else { return 0.0 };
    let all = numbers(t).unwrap_or_default();
    all.into_iter().filter(|x| x.is_finite()).fold(0.0, |most, x| most.max(x.abs()))
}

/// `Err` says how far a value is over its budget.
fn within(found: &Value, expected: &Value, tol: Tolerance) -> std::result::Result<(), String> {
    let step = match expected.ty().dtype() {
        Some(DType::F32 | DType::F64) => 0.0,
        Some(DType::F16) => 2f64.powi(-9),
        Some(DType::BF16) => 2f64.powi(-6),
        _ => return equal(found, expected, Tolerance { rtol: 0.0, atol: 0.0 }),
    };
    let atol = tol.atol + tol.rtol.max(step) * largest(expected);
    // The comparison's own allowance for bfloat16 is relative to each element, and smaller.
    equal(found, expected, Tolerance { rtol: 0.0, atol })
}

/// Where the first node over its budget is written.
fn folder(args: &CompareArgs, node: &str) -> PathBuf {
    args.output_dir.clone().unwrap_or_else(|| {
        let stem = args.a.file_stem().unwrap_or_default().to_string_lossy();
        PathBuf::from(file_name(&format!("{stem}-{node}")))
    })
}

/// Writes a node in ONNX's test layout.
fn write(dir: &Path, alone: &Alone, overwrite: bool) -> Result<()> {
    let set = dir.join("test_data_set_0");
    std::fs::create_dir_all(&set).or_fail(Code::Run, set.display())?;
    let onnx = alone.model.to_onnx().map_err(|e| Failure::load(dir, e))?;
    formats::write(&dir.join("model.onnx"), &onnx, overwrite)?;
    for (kind, values) in [("input", &alone.inputs), ("output", &alone.expected)] {
        for (i, (name, value)) in values.iter().enumerate() {
            let file = set.join(format!("{kind}_{i}.pb"));
            let bytes = formats::pb::encode(name, value).or_fail(Code::Run, file.display())?;
            formats::write(&file, &bytes, overwrite)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rinfer::Tensor;

    #[test]
    fn a_budget_is_relative_to_the_largest_number() {
        let v = |x: &[f32]| Value::from(Tensor::vector(x));
        let tol = Tolerance { rtol: 1e-3, atol: 0.0 };
        assert!(within(&v(&[100.0, 0.05]), &v(&[100.0, 0.0]), tol).is_ok());
        assert!(within(&v(&[100.0, 0.2]), &v(&[100.0, 0.0]), tol).is_err());
    }

    #[test]
    fn a_node_alone_has_its_constants_and_the_values_it_was_given() {
        let model = Model::from_text("x: float[2]; y = Exp(x); z = Add(y, [1.0]); → z").unwrap();
        let graph = named(model.graph().clone());
        let values: HashMap<String, Value> = made(&graph)
            .into_iter()
            .chain(["x".to_string()])
            .map(|name| (name, Tensor::vector(&[0f32, 1.0]).into()))
            .collect();
        let add = graph.node(graph.order()[graph.order().len() - 1]);
        let alone = alone(&graph, add, &values).unwrap();
        assert_eq!(alone.inputs.len(), 1);
        assert_eq!(alone.inputs[0].0, "y");
        assert!(alone.model.to_onnx().is_ok());
    }
}
