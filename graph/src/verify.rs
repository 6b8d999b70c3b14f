//! Checks that a graph keeps every promise that the rest of the engine builds on.
//!
//! Run after import and after each pass (in debug builds and tests): what it finds is a mistake of
//! ours, never of the model. One walk over the nodes, bodies included.

use crate::{Fact, Graph, Node, NodeId, Op, ValueId};

/// A graph that breaks a promise: a mistake of whoever changed it last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after {pass}: {what}")]
pub struct VerifyError {
    /// Who changed the graph last.
    pub pass: String,
    /// What is wrong, with the node or value it is wrong with.
    pub what: String,
}

/// Bodies inside bodies, no deeper than this.
const MAX_DEPTH: usize = 64;

/// Checks `graph` and the bodies in it; `pass` is who changed it last.
///
/// - ids are in range, no node stands twice in the order, no value is made twice;
/// - inputs are not made by nodes and are not constants;
/// - what a node or the graph's outputs read is an input, a constant, or made before;
/// - what is known of a value agrees with what its operator says of it, and no size is negative;
/// - a body has as many inputs as its node gives it, of the same types.
pub fn verify(graph: &Graph, pass: &str) -> Result<(), VerifyError> {
    verify_at(graph, 0).map_err(|what| VerifyError { pass: pass.to_string(), what })
}

/// `Err` unless every node accepts its inputs: more than [`verify`] asks, because a model may be
/// wrong in ways that only show once its constants are folded.
pub fn verify_nodes(graph: &Graph, pass: &str) -> Result<(), VerifyError> {
    let error = |what| VerifyError { pass: pass.to_string(), what };
    for (id, node) in graph.nodes() {
        infer(graph, node).map_err(|r| error(format!("{}: {r}", describe(graph, id))))?;
        for body in node.op.bodies() {
            verify_nodes(body, pass)?;
        }
    }
    Ok(())
}

fn infer(graph: &Graph, node: &Node) -> Result<crate::Facts, crate::Reason> {
    graph.infer(&node.op, &node.inputs, node.outputs.len())
}

fn describe(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let name = match (&*node.name, node.outputs.first()) {
        ("", Some(&v)) => crate::text::name(graph, v),
        (name, _) => name.to_string(),
    };
    format!("node {name} ({})", node.op.name())
}

fn verify_at(graph: &Graph, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("bodies are nested more than {MAX_DEPTH} deep"));
    }
    let mut defined = vec![false; graph.value_count()];
    for v in graph.values() {
        let fact = graph.fact(v);
        check_fact(fact)
            .map_err(|what| format!("value {}: {what}", crate::text::name(graph, v)))?;
        defined[v.index()] = fact.is_const() && graph.producer(v).is_none();
    }
    for &v in graph.inputs() {
        let entry = defined
            .get_mut(v.index())
            .ok_or_else(|| format!("input {} is out of range", v.index()))?;
        let name = || crate::text::name(graph, v);
        if std::mem::replace(entry, true) {
            return Err(format!("input {} stands twice, or is a constant", name()));
        }
        if graph.producer(v).is_some() {
            return Err(format!("input {} is made by a node", name()));
        }
    }
    let mut placed = vec![false; graph.node_count()];
    for &id in graph.order() {
        match placed.get_mut(id.index()) {
            None => return Err(format!("node {} is out of range", id.index())),
            Some(true) => return Err(format!("{} stands twice", describe(graph, id))),
            Some(place) => *place = true,
        }
        let node = graph.node(id);
        check_node(graph, id, &mut defined)
            .and_then(|()| check_bodies(graph, node, depth))
            .map_err(|what| format!("{}: {what}", describe(graph, id)))?;
    }
    for &v in graph.outputs() {
        if defined.get(v.index()) != Some(&true) {
            return Err(format!("nothing makes the output {}", crate::text::name(graph, v)));
        }
    }
    Ok(())
}

fn check_fact(fact: &Fact) -> Result<(), String> {
    let negative = |d: &&crate::Dim| d.value().is_some_and(|n| n < 0);
    if let Some(dim) = fact.shape().unwrap_or(&[]).iter().find(negative) {
        return Err(format!("size {dim}"));
    }
    match fact.value() {
        Some(value) if !fact.compatible(&Fact::of_value(&value)) => {
            Err(format!("{fact} holds a {}", Fact::of_value(&value)))
        }
        _ => Ok(()),
    }
}

fn check_node(graph: &Graph, id: NodeId, defined: &mut [bool]) -> Result<(), String> {
    let node = graph.node(id);
    for &v in node.inputs.iter().flatten() {
        match defined.get(v.index()) {
            None => return Err(format!("reads value {}, which is out of range", v.index())),
            Some(false) => {
                return Err(format!("reads {} before it is made", crate::text::name(graph, v)));
            }
            Some(true) => {}
        }
    }
    for &v in &node.outputs {
        match defined.get_mut(v.index()) {
            None => return Err(format!("makes value {}, which is out of range", v.index())),
            Some(true) => {
                return Err(format!("makes {} once more", crate::text::name(graph, v)));
            }
            Some(defined) => *defined = true,
        }
        if graph.producer(v) != Some(id) {
            return Err(format!("{} does not name it as its maker", crate::text::name(graph, v)));
        }
    }
    // A model may be wrong in ways that show only now: that is for whoever runs it to say.
    let Ok(facts) = infer(graph, node) else { return Ok(()) };
    for (&v, fact) in node.outputs.iter().zip(&facts) {
        let known = graph.fact(v);
        if !known.compatible(fact) {
            let name = crate::text::name(graph, v);
            return Err(format!("{name} is said to be {known}, the operator makes {fact}"));
        }
    }
    Ok(())
}

fn check_bodies(graph: &Graph, node: &Node, depth: usize) -> Result<(), String> {
    for (body, given) in node.op.bodies().into_iter().zip(body_inputs(node)?) {
        for (i, (&inner, v)) in body.inputs().iter().zip(given).enumerate() {
            let Some(v) = *v else { continue };
            let (outer, inner) = (graph.fact(v), body.fact(inner));
            if i >= captures_start(&node.op) && outer.ty != inner.ty {
                return Err(format!("captures a {} as a {}", outer.ty, inner.ty));
            }
        }
        verify_at(body, depth + 1)?;
    }
    Ok(())
}

/// Where captures begin among a body's inputs.
pub(crate) fn captures_start(op: &Op) -> usize {
    match op {
        Op::Loop(op) => 2 + op.state,
        Op::Scan(op) => op.state + op.inputs.len(),
        _ => 0,
    }
}

/// For each body of the node, the values that become its inputs.
pub(crate) fn body_inputs(node: &Node) -> Result<Vec<&[Option<ValueId>]>, String> {
    let counts: Vec<usize> = node.op.bodies().iter().map(|b| b.inputs().len()).collect();
    let mut rest = &node.inputs[..];
    if matches!(node.op, Op::If(_)) {
        rest = rest.get(1..).ok_or("there is no condition")?;
    }
    let wrong = || format!("{} inputs for bodies that take {counts:?}", node.inputs.len());
    let mut given = Vec::new();
    for &n in &counts {
        let (these, others) = rest.split_at_checked(n).ok_or_else(wrong)?;
        given.push(these);
        rest = others;
    }
    if !rest.is_empty() && !counts.is_empty() {
        return Err(wrong());
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::Identity;

    fn chain() -> (Graph, ValueId, ValueId) {
        let mut g = Graph::new();
        let x = g.input("x", Fact::sized(DType::F32, &[2]));
        let a = g.push1(Identity, &[x]).unwrap();
        let b = g.push1(Identity, &[a]).unwrap();
        g.set_name(a, "a");
        g.set_name(b, "b");
        g.output(b);
        (g, a, b)
    }

    fn check(g: &Graph, expected: &str) {
        let found = verify(g, "a test").map_or_else(|e| e.to_string(), |()| "fine".into());
        assert_eq!(found, expected);
    }

    #[test]
    fn a_graph_as_it_is_built_is_fine() {
        check(&chain().0, "fine");
    }

    #[test]
    fn a_value_read_before_it_is_made_is_found() {
        let (mut g, ..) = chain();
        let order: Vec<_> = g.order().iter().rev().copied().collect();
        g.set_order(order);
        check(&g, "after a test: node b (Identity): reads a before it is made");
    }

    #[test]
    fn an_output_that_nothing_makes_is_found() {
        let (mut g, ..) = chain();
        let order = g.order()[..1].to_vec();
        g.set_order(order);
        check(&g, "after a test: nothing makes the output b");
    }

    #[test]
    fn a_fact_that_the_operator_contradicts_is_found() {
        let (mut g, a, _) = chain();
        g.set_fact(a, Fact::sized(DType::F32, &[3]));
        let said = "a is said to be float[3], the operator makes float[2]";
        check(&g, &format!("after a test: node a (Identity): {said}"));
    }

    #[test]
    fn an_input_that_a_node_makes_is_found() {
        let (mut g, a, _) = chain();
        let mut inputs = g.inputs().to_vec();
        inputs.push(a);
        g.set_inputs(inputs);
        check(&g, "after a test: input a is made by a node");
    }

    #[test]
    fn a_value_made_twice_is_found() {
        let (mut g, a, _) = chain();
        let node = g.node(g.order()[0]).clone();
        assert_eq!(node.outputs[0], a);
        g.push_node(node);
        assert!(verify(&g, "a test").is_err());
    }
}
