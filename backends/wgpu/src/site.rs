//! Where each node runs: on the GPU, or on the host because shapes depend on what it makes.
//!
//! Shape arithmetic stays on the host: Shape and Size, what makes a value whose content decides
//! shapes (the target of a Reshape, the bounds of a Slice), and what those are computed from. That
//! is part of the design, not a way out: an operator that has no kernel is refused.

use std::collections::HashSet;

use rinfer_graph::{DType, Fact, Graph, Op, Reason, ValueId};

use crate::ops;

/// Where a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Gpu,
    Host,
}

/// Inputs whose content an operator must know before it can be planned.
pub(crate) fn content_inputs(op: &Op) -> &'static [usize] {
    match op {
        Op::Range(_) => &[0, 1, 2],
        Op::Expand(_)
        | Op::Reshape(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Tile(_)
        | Op::Reduce(_)
        | Op::Split(_)
        | Op::CenterCropPad(_)
        | Op::OneHot(_)
        | Op::Trilu(_)
        | Op::TopK(_)
        | Op::Cumulative(_) => &[1],
        Op::AffineGrid(_) => &[1],
        Op::CosineWindow(_) => &[0],
        Op::DFT(_) | Op::Col2Im(_) => &[1, 2],
        Op::MaxUnpool(_) => &[2],
        Op::MelWeightMatrix(_) => &[0, 1, 2, 3, 4],
        Op::STFT(_) => &[1, 3],
        Op::Slice(_) => &[1, 2, 3, 4],
        Op::Pad(_) => &[1, 3],
        Op::Resize(_) => &[1, 2, 3],
        _ => &[],
    }
}

/// Whether a value is what shapes are made of: integers, truth values, or a handful of numbers.
fn is_shape_like(fact: &Fact) -> bool {
    match fact.dtype() {
        Ok(DType::I64 | DType::I32 | DType::Bool) => true,
        Ok(_) => fact.rank().is_some_and(|rank| rank <= 1) && fact.len().is_none_or(|n| n <= 64),
        Err(_) => false,
    }
}

/// Whether a node runs on the host whatever its inputs are: its result's size is their content,
/// or its values are no tensors, or it draws random numbers in NumPy's order.
fn stays(op: &Op, facts: &[Option<&Fact>], outputs: &[&Fact]) -> bool {
    let sized_by_content = matches!(
        op,
        Op::Range(_)
            | Op::CosineWindow(_)
            | Op::MelWeightMatrix(_)
            | Op::NonZero(_)
            | Op::Compress(_)
            | Op::Unique(_)
            | Op::NonMaxSuppression(_)
            | Op::ImageDecoder(_)
    );
    let random =
        matches!(op, Op::Random(_) | Op::Bernoulli(_) | Op::Multinomial(_) | Op::Dropout(_));
    let structure = matches!(op, Op::Sequence(_) | Op::Optional(_) | Op::Identity(_))
        && facts.iter().flatten().chain(outputs).any(|f| f.ty.dtype().is_none());
    sized_by_content || random || structure || matches!(op, Op::Sequence(_) | Op::Optional(_))
}

/// Where each node runs, in the graph's order, or why it cannot.
pub(crate) fn sites(graph: &Graph) -> Vec<Result<Site, Reason>> {
    let mut wanted: HashSet<ValueId> = HashSet::new();
    let mut sites = Vec::with_capacity(graph.order().len());
    for &id in graph.order().iter().rev() {
        let node = graph.node(id);
        let made = node.outputs.iter().any(|v| wanted.contains(v));
        let like = node.outputs.iter().all(|&v| is_shape_like(graph.fact(v)));
        let reads_shapes = matches!(node.op, Op::Shape(_) | Op::Size(_));
        let inputs: Vec<Option<&Fact>> =
            node.inputs.iter().map(|v| v.map(|v| graph.fact(v))).collect();
        let outputs: Vec<&Fact> = node.outputs.iter().map(|&v| graph.fact(v)).collect();
        let site = if node.op.is_control() {
            Err(rinfer_graph::unsupported!("{} is run by the session", node.op.name()))
        } else if reads_shapes || (made && like) || stays(&node.op, &inputs, &outputs) {
            Ok(Site::Host)
        } else {
            ops::supports(&node.op, &inputs, &outputs).map(|()| Site::Gpu)
        };
        let content = content_inputs(&node.op).iter().filter_map(|&i| *node.inputs.get(i)?);
        wanted.extend(content);
        if site == Ok(Site::Host) && !reads_shapes {
            wanted.extend(node.inputs.iter().flatten());
        }
        sites.push(site);
    }
    sites.reverse();
    sites
}

#[cfg(test)]
mod tests {
    use super::*;
    use rinfer_graph::ops::{Binary, BinaryFn, Reshape, Shape, Unary, UnaryFn};
    use rinfer_graph::{Dim, Tensor};

    #[test]
    fn what_makes_a_shape_stays_on_the_host() {
        let mut g = Graph::new();
        let shape = [Dim::symbol("n"), Dim::N(4)].into_iter().collect();
        let x = g.input("x", Fact::new(DType::F32, shape));
        let y = g.push1(Unary(UnaryFn::Exp), &[x]).unwrap();
        let sizes = g.push1(Shape { start: 0, end: None }, &[y]).unwrap();
        let two = g.constant(Tensor::vector(&[2i64, 2]));
        let target = g.push1(Binary(BinaryFn::Mul), &[sizes, two]).unwrap();
        let z = g.push1(Reshape { allowzero: false }, &[y, target]).unwrap();
        g.output(z);
        let found: Vec<Site> = sites(&g).into_iter().map(Result::unwrap).collect();
        assert_eq!(found, [Site::Gpu, Site::Host, Site::Host, Site::Gpu]);
    }
}
