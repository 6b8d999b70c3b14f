//! How much arithmetic a graph is, in multiply–accumulate steps of its products, and how large.

use crate::{Dim, Fact, Graph, Node, Op, Tensor};

/// The bytes of all constants, those of bodies of control flow included.
pub fn weight_bytes(graph: &Graph) -> usize {
    let constants = graph.values().filter_map(|v| graph.tensor(v)).map(Tensor::byte_len);
    let bodies = graph.nodes().flat_map(|(_, node)| node.op.bodies());
    constants.chain(bodies.map(|body| weight_bytes(body))).fold(0, usize::saturating_add)
}

/// Multiply–accumulate steps of matrix products and convolutions, bodies of control flow counted
/// once. Sizes that are not known count as 1: give symbolic dimensions sizes for a full count.
pub fn macs(graph: &Graph) -> u64 {
    graph.nodes().map(|(_, node)| node_macs(graph, node)).fold(0, u64::saturating_add)
}

fn size(dim: &Dim) -> u64 {
    dim.eval(&|_| Some(1)).and_then(|n| u64::try_from(n).ok()).unwrap_or(1)
}

fn elements(fact: &Fact) -> u64 {
    fact.shape().unwrap_or(&[]).iter().map(size).fold(1, u64::saturating_mul)
}

/// Multiply–accumulate steps of one node, or more: where they are not worked out, every element of
/// an input may meet every element of the others.
pub(crate) fn at_most(graph: &Graph, node: &Node) -> u64 {
    let inputs = node.inputs.iter().flatten().map(|&v| elements(graph.fact(v)));
    match node.op.name() {
        "Einsum" | "Attention" | "FlexAttention" | "LinearAttention" | "DFT" | "STFT" | "Det"
        | "DeformConv" | "NonMaxSuppression" => inputs.fold(1, |n, m| n.saturating_mul(m.max(1))),
        _ => node_macs(graph, node).saturating_add(inputs.fold(0, u64::saturating_add)),
    }
}

fn node_macs(graph: &Graph, node: &Node) -> u64 {
    let inputs: Vec<_> = node.inputs.iter().map(|v| v.map(|v| graph.fact(v))).collect();
    let output = node.outputs.first().map(|&v| graph.fact(v));
    let bodies = node.op.bodies().into_iter().map(|body| macs(body));
    bodies.fold(op_macs(&node.op, &inputs, output), u64::saturating_add)
}

/// Multiply–accumulate steps of one operator, without those of its bodies.
pub fn op_macs(op: &Op, inputs: &[Option<&Fact>], output: Option<&Fact>) -> u64 {
    let input = |i: usize| inputs.get(i).copied().flatten();
    let made = output.map_or(0, elements);
    let axis = |fact: Option<&Fact>, i: usize| {
        fact.and_then(Fact::shape).and_then(|s| s.get(i)).map_or(1, size).max(1)
    };
    match op.name() {
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => {
            // elements of a = rows · k, elements of y = rows · n, per matrix of the batch.
            let (a, b) = (input(0), input(if op.name() == "QLinearMatMul" { 3 } else { 1 }));
            let n = output.and_then(Fact::shape).and_then(|s| s.last()).map_or(1, size).max(1);
            let rank_of_b = b.and_then(Fact::rank).unwrap_or(2);
            let batch: u64 = match a.and_then(Fact::rank) {
                Some(r) if r >= rank_of_b => a.map_or(0, elements),
                _ => b.map_or(0, elements) / n * axis(a, 0),
            };
            batch.saturating_mul(n)
        }
        "Conv" | "ConvInteger" | "QLinearConv" => {
            let w = input(if op.name() == "QLinearConv" { 3 } else { 1 });
            made.saturating_mul(w.map_or(0, elements) / axis(w, 0))
        }
        "ConvTranspose" => {
            let (x, w) = (input(0).map_or(0, elements), input(1));
            x.saturating_mul(w.map_or(0, elements) / axis(w, 0))
        }
        "Attention" => {
            // Every query meets every key twice; a past is counted by what it holds.
            let (q, k) = (input(0).map_or(0, elements), input(1));
            let last =
                |fact: Option<&Fact>, i| axis(fact, fact.and_then(Fact::rank).unwrap_or(2) - i);
            let past = input(4).map_or(0, |past| axis(Some(past), 2));
            q.saturating_add(made).saturating_mul(last(k, 2).saturating_add(past))
        }
        "Lstm" | "Gru" | "Rnn" | "Recurrent" | "LSTM" | "GRU" | "RNN" => {
            let (x, w, r) = (input(0), input(1).map_or(0, elements), input(2).map_or(0, elements));
            (w + r).saturating_mul(axis(x, 0)).saturating_mul(axis(x, 1))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::parse;

    #[test]
    fn a_product_counts_rows_times_columns_times_depth() {
        let g = parse("a: float[2, 3, 4]\nb: float[4, 5]\ny = MatMul(a, b)\n→ y\n");
        assert_eq!(macs(&g.unwrap()), 2 * 3 * 4 * 5);
    }

    #[test]
    fn attention_counts_both_products() {
        let (q, k) = ("q: float[1, 2, 3, 4]\n", "k: float[1, 2, 5, 4]\nv: float[1, 2, 5, 6]\n");
        let g = parse(&format!("{q}{k}y = Attention(q, k, v)\n→ y\n"));
        assert_eq!(macs(&g.unwrap()), 2 * 3 * 5 * (4 + 6));
    }
}
