//! What depends on constants alone is computed once: f(c) → c′; If(true, a, b) → a.
//!
//! On the way every node is inferred again: what became known of its inputs (a shape that was
//! computed, say) makes more known of its outputs. What an operator knows without looking at
//! elements (the Shape of static sizes) needs no evaluation. Captures that are constants move
//! into their bodies.
//!
//! Random operators are left alone, and so is what would take too much time ([`WORK`]) or memory:
//! one value, all of them together, or more than a share of what the constants take already
//! (`Options::growth`).

use std::sync::Arc;

use super::Cx;
use crate::fact::Known;
use crate::verify::{body_inputs, captures_start};
use crate::{Fact, Graph, InputIds, Node, NodeId, Op, Value, ValueId};

/// Multiply–accumulate steps that folding one graph may take: about a second of one core.
pub(super) const WORK: u64 = 1 << 33;

pub(super) fn run(graph: &mut Graph, cx: &Cx<'_>) -> usize {
    let mut fold = Fold { uses: graph.use_counts(), cx, changes: 0, order: Vec::new() };
    for id in graph.order().to_vec() {
        fold.node(graph, id);
    }
    let Fold { changes, order, .. } = fold;
    if changes > 0 {
        graph.set_order(order);
    }
    changes
}

struct Fold<'a> {
    uses: Vec<u32>,
    cx: &'a Cx<'a>,
    changes: usize,
    order: Vec<NodeId>,
}

impl Fold<'_> {
    fn node(&mut self, graph: &mut Graph, id: NodeId) {
        if let Some(nodes) = chosen_branch(graph, id) {
            self.changes += 1;
            self.uses.resize(graph.value_count(), 0);
            for v in nodes.iter().flat_map(|&n| graph.node(n).inputs.iter().flatten()) {
                self.uses[v.index()] += 1;
            }
            nodes.into_iter().for_each(|inlined| self.node(graph, inlined));
            return;
        }
        self.changes += sink_captures(graph, id);
        self.changes += infer_again(graph, id);
        if self.known(graph, id) || self.evaluate(graph, id).is_some() {
            self.changes += 1;
            return;
        }
        self.order.push(id);
    }

    /// Whether every output is known without running the node.
    fn known(&self, graph: &Graph, id: NodeId) -> bool {
        let node = graph.node(id);
        let known = |v: &ValueId| graph.fact(*v).is_const();
        !node.op.is_random() && !node.outputs.is_empty() && node.outputs.iter().all(known)
    }

    /// Runs the node if all it reads is known and the result is worth keeping.
    fn evaluate(&mut self, graph: &mut Graph, id: NodeId) -> Option<()> {
        let node = graph.node(id);
        if node.op.is_random() || node.op.is_control() {
            return None;
        }
        let inputs: Vec<Option<Value>> = node
            .inputs
            .iter()
            .map(|v| v.map_or(Some(None), |v| graph.fact(v).value().map(Some)))
            .collect::<Option<_>>()?;
        let freed = self.freed(graph, node);
        let known: Option<usize> =
            node.outputs.iter().try_fold(0usize, |n, &v| n.checked_add(bytes(graph.fact(v))?));
        self.affordable(known.unwrap_or(0), freed).then_some(())?;
        // Quantized weights are small on purpose, and fuse with what reads them.
        if matches!(node.op, Op::DequantizeLinear(_)) && known.is_none_or(|n| n > 4096) {
            return None;
        }
        // A model must not spend at load what only a run may be asked for.
        let work = crate::cost::at_most(graph, node);
        let left = &self.cx.work_left;
        left.set(left.get().checked_sub(work)?);
        let values = self.cx.eval.eval(graph, id, &inputs).ok()?;
        let made = values.iter().try_fold(0usize, |n, v| n.checked_add(v.byte_len()))?;
        let outputs = node.outputs.clone();
        let agrees =
            |(v, value): (&ValueId, &Value)| graph.fact(*v).compatible(&Fact::of_value(value));
        let sound = values.len() == outputs.len() && outputs.iter().zip(&values).all(agrees);
        (sound && self.affordable(made, freed)).then_some(())?;
        let left = &self.cx.fold_left;
        left.set(left.get().saturating_sub(made));
        let growth = &self.cx.growth_left;
        growth.set(growth.get().saturating_sub(made.saturating_sub(freed)));
        for v in graph.node(id).inputs.clone().into_iter().flatten() {
            self.uses[v.index()] = self.uses[v.index()].saturating_sub(1);
        }
        for (v, value) in outputs.iter().zip(values) {
            graph.set_fact(*v, Fact::of_value(&value));
        }
        Some(())
    }

    fn affordable(&self, made: usize, freed: usize) -> bool {
        let (options, cx) = (self.cx.options, self.cx);
        // A constant as small as the node that made it is always welcome.
        let grows = if made <= 64 { 0 } else { made.saturating_sub(freed) };
        made <= options.limits.fold_value
            && made <= cx.fold_left.get()
            && grows <= cx.growth_left.get()
    }

    /// Bytes of the constants that nobody needs once the node is gone.
    fn freed(&self, graph: &Graph, node: &Node) -> usize {
        let dies = |v: &&ValueId| self.uses[v.index()] == 1 && graph.producer(**v).is_none();
        let dying = node.inputs.iter().flatten().filter(dies);
        dying.map(|&v| bytes(graph.fact(v)).unwrap_or(0)).sum()
    }
}

/// Bytes of a value whose size is known.
fn bytes(fact: &Fact) -> Option<usize> {
    match &fact.known {
        Some(Known::Const(t)) => Some(t.byte_len()),
        Some(Known::Value(v)) => Some(v.byte_len()),
        _ => crate::tensor::size_in_bytes(fact.ty.dtype()?, &fact.sizes()?).ok(),
    }
}

/// Adds to what is known of a node's outputs. Returns how many facts changed.
fn infer_again(graph: &mut Graph, id: NodeId) -> usize {
    let node = graph.node(id);
    // What the operator refuses now is for whoever runs it to report.
    let Ok(facts) = graph.infer(&node.op, &node.inputs, node.outputs.len()) else { return 0 };
    let mut changes = 0;
    for (v, new) in node.outputs.clone().into_iter().zip(facts) {
        let old = graph.fact(v);
        if !old.compatible(&new) {
            continue;
        }
        let fact = old.clone().refined(&new);
        if !same_knowledge(old, &fact) {
            graph.set_fact(v, fact);
            changes += 1;
        }
    }
    changes
}

/// Whether both know the same; content that both know is not compared, being the same.
fn same_knowledge(a: &Fact, b: &Fact) -> bool {
    a.shape == b.shape && a.known.is_some() == b.known.is_some()
}

/// Tells bodies what became known of the values they capture; constants move in.
fn sink_captures(graph: &mut Graph, id: NodeId) -> usize {
    let node = graph.node(id);
    if !node.op.is_control() {
        return 0;
    }
    let start = captures_start(&node.op);
    let Ok(given) = body_inputs(node) else { return 0 };
    let outer = |v: &Option<ValueId>| v.map(|v| graph.fact(v).clone());
    let facts: Vec<Vec<Option<Fact>>> =
        given.iter().map(|ids| ids.iter().map(outer).collect()).collect();
    let known =
        |i: usize, fact: &Option<Fact>| i >= start && fact.as_ref().is_some_and(Fact::is_const);
    // The condition of an If, which is no body's input, stays.
    let ahead = node.inputs.len() - given.iter().map(|ids| ids.len()).sum::<usize>();
    let mut inputs: InputIds = node.inputs[..ahead].into();
    for (ids, facts) in given.iter().zip(&facts) {
        let kept = (0..).zip(ids.iter().zip(facts)).filter(|(i, (_, fact))| !known(*i, fact));
        inputs.extend(kept.map(|(_, (v, _))| *v));
    }
    let node = graph.node_mut(id);
    node.inputs = inputs;
    let mut changes = 0;
    for (body, facts) in node.op.bodies_mut().into_iter().zip(facts) {
        changes += sink_into(body, start, &facts);
    }
    changes
}

/// Gives a body's captures their facts; those that are constants are inputs no more.
fn sink_into(body: &mut Arc<Graph>, start: usize, facts: &[Option<Fact>]) -> usize {
    let mut updates = Vec::new();
    let mut kept = Vec::new();
    for (i, (&v, fact)) in body.inputs().iter().zip(facts).enumerate() {
        let inner = body.fact(v);
        match fact {
            Some(fact) if i >= start && fact.is_const() => updates.push((v, fact.clone())),
            Some(fact) if i >= start && fact.compatible(inner) => {
                let refined = inner.clone().refined(&fact.clone().forget());
                if !same_knowledge(inner, &refined) {
                    updates.push((v, refined));
                }
                kept.push(v);
            }
            _ => kept.push(v),
        }
    }
    if updates.is_empty() {
        return 0;
    }
    let changes = updates.len();
    let body = Arc::make_mut(body);
    updates.into_iter().for_each(|(v, fact)| body.set_fact(v, fact));
    body.set_inputs(kept);
    changes
}

/// The nodes of the branch that an If with a constant condition takes, as nodes of `graph`.
///
/// They make the If's outputs; nothing stands in the order yet.
fn chosen_branch(graph: &mut Graph, id: NodeId) -> Option<Vec<NodeId>> {
    let node = graph.node(id);
    let Op::If(op) = &node.op else { return None };
    let cond = graph.tensor(node.inputs.first().copied().flatten()?)?;
    if cond.dtype() != crate::DType::Bool || cond.len() != 1 {
        return None;
    }
    let first = cond.as_slice::<crate::Bool>()[0].get();
    let given = body_inputs(node).ok()?;
    let (branch, captures) = match first {
        true => (op.then_branch.clone(), given[0].to_vec()),
        false => (op.else_branch.clone(), given[1].to_vec()),
    };
    let outputs = node.outputs.clone();
    // An optional may meet what it holds here; nodes around expect the If's own type.
    let same = |(&v, &inner): (&ValueId, &ValueId)| graph.fact(v).compatible(branch.fact(inner));
    if outputs.len() > branch.outputs().len() || !outputs.iter().zip(branch.outputs()).all(same) {
        return None;
    }
    let mut here: Vec<Option<ValueId>> = vec![None; branch.value_count()];
    for (&inner, outer) in branch.inputs().iter().zip(captures) {
        here[inner.index()] = Some(outer?);
    }
    // A value that a node of the branch makes, and that is one output, is that output here.
    for (&inner, &outer) in branch.outputs().iter().zip(&outputs) {
        if branch.producer(inner).is_some() && here[inner.index()].is_none() {
            here[inner.index()] = Some(outer);
        }
    }
    let mut nodes = Vec::new();
    for (_, node) in branch.nodes() {
        let mut node = node.clone();
        for v in node.inputs.iter_mut().flatten() {
            *v = bring(graph, &branch, &mut here, *v);
        }
        for v in node.outputs.iter_mut() {
            *v = bring(graph, &branch, &mut here, *v);
        }
        nodes.push(graph.add_node(node));
    }
    for (&inner, &outer) in branch.outputs().iter().zip(&outputs) {
        let here = bring(graph, &branch, &mut here, inner);
        if here != outer {
            nodes.push(graph.add_node(Node {
                op: crate::ops::Identity.into(),
                inputs: [Some(here)].into_iter().collect(),
                outputs: [outer].into_iter().collect(),
                name: "".into(),
            }));
        } else {
            let fact = graph.fact(outer).clone().refined(branch.fact(inner));
            graph.set_fact(outer, fact);
        }
    }
    Some(nodes)
}

/// The value of a branch as a value of the graph around it.
fn bring(graph: &mut Graph, branch: &Graph, here: &mut [Option<ValueId>], v: ValueId) -> ValueId {
    *here[v.index()].get_or_insert_with(|| {
        let id = graph.value(branch.fact(v).clone());
        if let Some(name) = branch.name(v) {
            graph.set_name(id, name);
        }
        id
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, draw, pass};
    use super::super::{Options, run_passes};
    use crate::backend::Eval;
    use crate::onnx::parse;
    use crate::{Graph, NodeId, Reason, Tensor, Value};

    /// Gives ones of the shape that was inferred.
    struct Ones;

    impl Eval for Ones {
        fn eval(
            &self,
            graph: &Graph,
            node: NodeId,
            _: &[Option<Value>],
        ) -> Result<Vec<Value>, Reason> {
            let fact = graph.fact(graph.node(node).outputs[0]);
            let sizes = fact.sizes().ok_or_else(|| crate::invalid!("no sizes"))?;
            let ones = vec![1f32; sizes.iter().product()];
            Ok(vec![Value::Tensor(Tensor::try_from_slice(&sizes, &ones)?)])
        }
    }

    #[test]
    fn a_shape_that_is_known_needs_no_evaluation() {
        check(
            &["fold_constants"],
            "x: float[2, 3]; y: float[n]; s = Shape(x); a = Reshape(y, s); → a, s",
            "x: float[2, 3]
             y: float[n]
             s: int64[2] = [2, 3]
             a = Reshape{allowzero: false}(y, s)
             → a, s",
        );
    }

    #[test]
    fn an_if_with_a_known_condition_is_the_branch() {
        check(
            &["fold_constants"],
            "x: float[2]; c: bool = 1; y, z = If<then_branch = { a = Flatten(x); b = Flatten(a); \
             → b, x }, else_branch = { → x, x }>(c); → y, z",
            "x: float[2]
             a = Flatten{axis: Axis(1)}(x)
             y = Flatten{axis: Axis(1)}(a)
             z = Identity(x)
             → y, z",
        );
    }

    #[test]
    fn random_numbers_are_never_folded() {
        let mut g = Graph::new();
        let w = g.constant(Tensor::vector(&[1f32]));
        let y = g.push1(draw(), &[w]).unwrap();
        g.output(y);
        run_passes(&mut g, &[pass("fold_constants")], &Ones, &Options::default()).unwrap();
        assert_eq!(g.order().len(), 1);
    }

    #[test]
    fn a_node_on_constants_becomes_a_constant() {
        let text = "x: float[2]; w: float[2, 3] = 2; t = Transpose(w); → t";
        assert_eq!(folded(text), "x: float[2]\nt: float[3, 2] = 1.0\n→ t");
    }

    #[test]
    fn what_grows_too_much_stays() {
        let text = "x: float[2]; w: float[2] = 1; y = Expand(w, [1000, 2]); → y";
        assert_eq!(folded(text), parse(text).unwrap().to_string());
    }

    #[test]
    fn what_frees_as_much_as_it_takes_is_folded() {
        let text = "x: float[2]; w: float[50, 20] = 2; t = Transpose(w); → t";
        assert_eq!(folded(text), "x: float[2]\nt: float[20, 50] = 1.0\n→ t");
    }

    #[test]
    fn constants_move_into_bodies() {
        let text = folded(
            "x: float[3, 2]; c: bool; w: float[2, 3] = 2; t = Transpose(w); \
             y = If<then_branch = { a = Add(x, t); → a }, else_branch = { → x }>(c); → y",
        );
        assert!(text.contains("y = If(c, x, x)"), "{text}");
        assert!(text.contains("    t: float[3, 2] = 1.0"), "{text}");
    }
    fn folded(text: &str) -> String {
        let mut g = parse(text).unwrap();
        let passes = ["fold_constants", "drop_dead"].map(pass);
        run_passes(&mut g, &passes, &Ones, &Options::default()).unwrap();
        g.to_string()
    }
}
