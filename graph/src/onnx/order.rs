//! The nodes of a file: in which order they can be imported, and which operators they are.

use std::collections::HashMap;

use rinfer_onnx_proto as pb;

use super::import::{ImportError, canonical, opset_map};
use crate::{Reason, invalid};

/// The operators that a model uses, node by node, functions' and subgraphs' too: domain, name and
/// opset. Weights are not looked at.
pub fn operators(bytes: bytes::Bytes) -> Result<Vec<(String, String, i64)>, ImportError> {
    let model = pb::decode(bytes)?;
    let own: Vec<_> = model.functions.iter().map(|f| (canonical(f.domain()), f.name())).collect();
    let mut found = Vec::new();
    let graph = model.graph.iter().map(|g| (&g.node, opset_map(&model.opset_import)));
    let functions = model.functions.iter().map(|f| (&f.node, opset_map(&f.opset_import)));
    for (nodes, opsets) in graph.chain(functions) {
        let mut todo: Vec<&pb::NodeProto> = nodes.iter().collect();
        while let Some(node) = todo.pop() {
            let domain = canonical(node.domain());
            if !own.contains(&(domain, node.op_type())) {
                let opset = opsets.get(domain).copied().unwrap_or(1);
                found.push((domain.to_string(), node.op_type().to_string(), opset));
            }
            let bodies = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
            todo.extend(bodies.flat_map(|g| &g.node));
        }
    }
    Ok(found)
}

/// The nodes' positions in an order in which producers stand before their consumers; the file's
/// own order wherever that is one. `Err` if they form a cycle.
pub(super) fn sorted(nodes: &[pb::NodeProto]) -> Result<Vec<usize>, Reason> {
    let mut made_by: HashMap<&str, usize> = HashMap::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        made_by.extend(node.output.iter().filter(|o| !o.is_empty()).map(|o| (o.as_str(), i)));
    }
    let mut reads: Vec<Vec<&str>> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut names: Vec<&str> = node.input.iter().map(String::as_str).collect();
        for a in &node.attribute {
            a.g.iter().chain(&a.graphs).for_each(|g| free_names(g, &mut names));
        }
        reads.push(names);
    }
    let before = |i: usize, name: &&str| made_by.get(name).copied().filter(|&j| j != i);
    let is_sorted =
        (0..nodes.len()).all(|i| reads[i].iter().filter_map(|n| before(i, n)).all(|j| j < i));
    if is_sorted {
        return Ok((0..nodes.len()).collect());
    }
    let mut waits = vec![0usize; nodes.len()];
    let mut readers = vec![Vec::new(); nodes.len()];
    for i in 0..nodes.len() {
        for j in reads[i].iter().filter_map(|n| before(i, n)) {
            waits[i] += 1;
            readers[j].push(i);
        }
    }
    let mut ready: std::collections::BinaryHeap<_> =
        (0..nodes.len()).filter(|&i| waits[i] == 0).map(std::cmp::Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(std::cmp::Reverse(i)) = ready.pop() {
        order.push(i);
        for &r in &readers[i] {
            waits[r] -= 1;
            if waits[r] == 0 {
                ready.push(std::cmp::Reverse(r));
            }
        }
    }
    if order.len() < nodes.len() {
        return Err(invalid!("{} nodes feed each other in a cycle", nodes.len() - order.len()));
    }
    Ok(order)
}

/// The names that a body may read from outside (its own are among them: they match no producer).
fn free_names<'a>(graph: &'a pb::GraphProto, names: &mut Vec<&'a str>) {
    // Bodies nest no deeper than the decoder's limit on messages.
    names.extend(graph.output.iter().map(|o| o.name()));
    for node in &graph.node {
        names.extend(node.input.iter().map(String::as_str));
        for a in &node.attribute {
            a.g.iter().chain(&a.graphs).for_each(|g| free_names(g, names));
        }
    }
}
