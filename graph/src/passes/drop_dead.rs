//! Nodes, constants and captures that nothing reads are dropped.

use std::sync::Arc;

use super::Cx;
use crate::verify::captures_start;
use crate::{Graph, InputIds, NodeId, Op, ValueId};

pub(super) fn run(graph: &mut Graph, _: &Cx<'_>) -> usize {
    drop_captures(graph) + drop_nodes(graph) + forget_constants(graph)
}

/// Keeps the nodes that an output needs: one walk from the end to the start.
fn drop_nodes(graph: &mut Graph) -> usize {
    let mut needed = vec![false; graph.value_count()];
    graph.outputs().iter().for_each(|v| needed[v.index()] = true);
    let mut kept = Vec::with_capacity(graph.order().len());
    for &id in graph.order().iter().rev() {
        let node = graph.node(id);
        if node.outputs.iter().any(|v| needed[v.index()]) {
            node.inputs.iter().flatten().for_each(|v| needed[v.index()] = true);
            kept.push(id);
        }
    }
    let dropped = graph.order().len() - kept.len();
    if dropped > 0 {
        kept.reverse();
        graph.set_order(kept);
    }
    dropped
}

/// Gives back the memory of constants that nothing reads.
fn forget_constants(graph: &mut Graph) -> usize {
    let uses = graph.use_counts();
    let mut dropped = 0;
    for v in graph.values() {
        // A gone node's outputs are made by nothing and hold nothing.
        if uses[v.index()] == 0 && graph.producer(v).is_none() && graph.fact(v).is_const() {
            let fact = graph.fact(v).clone().forget();
            graph.set_fact(v, fact);
            dropped += 1;
        }
    }
    dropped
}

/// Drops captures that a body does not read.
fn drop_captures(graph: &mut Graph) -> usize {
    let mut dropped = 0;
    for id in super::control_nodes(graph) {
        dropped += drop_captures_of(graph, id);
    }
    dropped
}

fn drop_captures_of(graph: &mut Graph, id: NodeId) -> usize {
    let node = graph.node_mut(id);
    let start = captures_start(&node.op);
    let mut inputs = InputIds::new();
    let mut rest = &node.inputs[..];
    if let (Op::If(_), [cond, others @ ..]) = (&node.op, rest) {
        inputs.push(*cond);
        rest = others;
    }
    let mut dropped = 0;
    for body in node.op.bodies_mut() {
        let used = body.use_counts();
        let keep: Vec<bool> =
            (0..).zip(body.inputs()).map(|(i, v)| i < start || used[v.index()] > 0).collect();
        if rest.len() < keep.len() {
            return dropped;
        }
        let (these, others) = rest.split_at(keep.len());
        rest = others;
        inputs.extend(these.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(v, _)| *v));
        let unused = keep.iter().filter(|keep| !**keep).count();
        if unused > 0 {
            let body = Arc::make_mut(body);
            let all = body.inputs().iter().zip(&keep);
            let kept: Vec<ValueId> = all.filter(|(_, keep)| **keep).map(|(v, _)| *v).collect();
            body.set_inputs(kept);
            dropped += unused;
        }
    }
    node.inputs = inputs;
    dropped
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, rewritten};

    #[test]
    fn nodes_that_no_output_needs_go() {
        check(
            &["drop_dead"],
            "x: float[2]; w: float[2] = 1; a = Identity(w); y = Identity(x); b = Identity(y); → y",
            "x: float[2]\ny = Identity(x)\n→ y",
        );
    }

    #[test]
    fn unread_constants_give_their_memory_back() {
        let g = rewritten(&["drop_dead"], "x: float[2]; w: float[9] = 1; y = Identity(x); → y");
        assert!(g.values().all(|v| !g.fact(v).is_const()));
    }

    #[test]
    fn captures_that_a_body_does_not_read_go() {
        check(
            &["drop_dead"],
            "c: bool; x: float[2]; y = If<then_branch = { a = Identity(x); b = Identity(x); → b }, \
             else_branch = { z = Identity(x); w: float[2] = 1; → w }>(c); → y",
            "c: bool[]
             x: float[2]
             y = If(c, x)
               then_branch:
                 x: float[2]
                 b = Identity(x)
                 → b
               else_branch:
                 w: float[2] = 1.0
                 → w
             → y",
        );
    }
}
