//! What surrounds a matrix product moves into it: MatMul(a, bᵀ), c · MatMul(a, b), MatMul(c · a, b),
//! MatMul(a, b) + row, MatMul(a, b) + residual, f(MatMul(a, b)).

use super::fuse_epilogue::activation_of;
use super::pattern::{is_f32, is_row, same_shape};
use super::{GraphView, Rewrite};
use crate::ops::{Binary, BinaryFn, MatMul, Transpose};
use crate::{Node, NodeId, Op, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    match g.op(id) {
        Op::MatMul(op) => transposed(g, id, op).or_else(|| scaled_operand(g, id, op)),
        Op::Binary(Binary(BinaryFn::Add)) => {
            let (a, b) = (g.input(id, 0)?, g.input(id, 1)?);
            sum(g, id, a, b).or_else(|| sum(g, id, b, a))
        }
        Op::Binary(Binary(BinaryFn::Mul | BinaryFn::Div)) => scaled(g, id),
        _ => activated(g, id),
    }
}

/// The product that makes `v`, if nobody else reads it and nothing is applied to it yet.
fn plain<'a>(g: &GraphView<'a>, v: ValueId) -> Option<(&'a MatMul, &'a Node)> {
    let node = g.made_by(v)?;
    let Op::MatMul(op) = &node.op else { return None };
    (g.single_use(v) && op.activation.is_none() && is_f32(g, v)).then_some((op, node))
}

/// Product of a transposed right (or left) side: the exchange of its last two axes moves in where
/// that leaves the innermost axis of what is transposed innermost.
fn transposed(g: &GraphView<'_>, id: NodeId, op: &MatMul) -> Option<Rewrite> {
    let mut p = g.patch();
    let mut swapped = |v: ValueId| {
        let made = g.producer(v)?;
        let mut perm = super::transposes::perm(g, made)?;
        let x = g.input(made, 0)?;
        let r = perm.len();
        if r < 2 || perm[r - 2] < perm[r - 1] {
            return None;
        }
        perm.swap(r - 1, r - 2);
        match super::transposes::is_identity(&perm) {
            true => Some(x),
            false => p.push1(Transpose::new(&perm), &[x]),
        }
    };
    let (a, b) = (g.input(id, 0)?, g.input(id, 1)?);
    // A vector has no last two axes; where one side is a vector the other is left alone too.
    let matrices = g.fact(a).rank()? >= 2 && g.fact(b).rank()? >= 2;
    let (sa, sb) = (swapped(a), swapped(b));
    if !matrices || (sa.is_none() && sb.is_none()) {
        return None;
    }
    let op = MatMul {
        trans_a: op.trans_a ^ sa.is_some(),
        trans_b: op.trans_b ^ sb.is_some(),
        ..op.clone()
    };
    let mut inputs = g.node(id).inputs.clone();
    (inputs[0], inputs[1]) = (Some(sa.unwrap_or(a)), Some(sb.unwrap_or(b)));
    let y = p.push(op, &inputs, 1)?[0];
    p.finish(&[y])
}

/// Product of an operand that is a number times something else, which nobody else reads.
fn scaled_operand(g: &GraphView<'_>, id: NodeId, op: &MatMul) -> Option<Rewrite> {
    let mut inputs = g.node(id).inputs.clone();
    if !is_f32(g, inputs[0]?) {
        return None;
    }
    let mut alpha = op.alpha;
    for input in inputs.iter_mut().take(2) {
        let v = (*input)?;
        let Some((x, factor)) = times_number(g, v) else { continue };
        if g.single_use(v) && g.fact(x).rank() == g.fact(v).rank() {
            (*input, alpha) = (Some(x), alpha * factor);
        }
    }
    let changed = inputs != g.node(id).inputs && alpha.is_finite();
    changed.then(|| with_inputs(g, MatMul { alpha, ..op.clone() }, &inputs)).flatten()
}

/// x and c, if `v` is c · x or x / (1/c).
fn times_number(g: &GraphView<'_>, v: ValueId) -> Option<(ValueId, f32)> {
    let Node { op: Op::Binary(Binary(f)), inputs, .. } = g.made_by(v)? else { return None };
    let (a, b) = (inputs[0]?, inputs[1]?);
    match (f, g.scalar(a), g.scalar(b)) {
        (BinaryFn::Mul, None, Some(c)) => Some((a, c)),
        (BinaryFn::Mul, Some(c), None) => Some((b, c)),
        (BinaryFn::Div, None, Some(c)) => Some((a, 1.0 / c)),
        _ => None,
    }
}

fn with_inputs(g: &GraphView<'_>, op: MatMul, inputs: &[Option<ValueId>]) -> Option<Rewrite> {
    let mut p = g.patch();
    let y = p.push(op, inputs, 1)?[0];
    p.finish(&[y])
}

/// product + other: a row becomes the bias, a value of the product's shape the residual.
fn sum(g: &GraphView<'_>, id: NodeId, product: ValueId, other: ValueId) -> Option<Rewrite> {
    let (op, node) = plain(g, product)?;
    if !is_f32(g, other) || other == product {
        return None;
    }
    let y = g.output(id, 0)?;
    let at = |i: usize| node.inputs.get(i).copied().flatten();
    let n = g.fact(product).shape()?.last()?;
    let rank = g.fact(product).rank()?;
    let mut inputs = [at(0), at(1), at(2), at(3)];
    if at(2).is_none() && at(3).is_none() && is_row(g, other, n) && g.fact(other).rank()? <= rank {
        inputs[2] = Some(other);
    } else if at(3).is_none() && same_shape(g, product, other) && same_shape(g, product, y) {
        inputs[3] = Some(other);
    } else {
        return None;
    }
    let last = inputs.iter().rposition(Option::is_some)?;
    with_inputs(g, op.clone(), &inputs[..=last])
}

/// A number times the product.
fn scaled(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let (product, factor) = times_number(g, g.output(id, 0)?)?;
    let (op, node) = plain(g, product)?;
    // A constant of higher rank would add axes.
    let same = g.fact(g.output(id, 0)?).rank()? == g.fact(product).rank()?;
    if node.inputs.len() > 2 || !factor.is_finite() || !same {
        return None;
    }
    with_inputs(g, MatMul { alpha: op.alpha * factor, ..op.clone() }, &node.inputs)
}

/// A function of the product.
fn activated(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let activation = activation_of(g, id)?;
    let (op, node) = plain(g, g.input(id, 0)?)?;
    with_inputs(g, MatMul { activation: Some(activation), ..op.clone() }, &node.inputs)
}

#[cfg(test)]
mod tests {
    use crate::Op;
    use crate::passes::testing::rewritten;

    fn only_product(text: &str) -> (crate::ops::MatMul, usize) {
        let g = rewritten(&["fuse_matmul", "drop_dead"], text);
        let (_, node) = g.nodes().next().unwrap();
        let Op::MatMul(op) = &node.op else { panic!("{g}") };
        assert_eq!(g.nodes().len(), 1, "{g}");
        (op.clone(), node.inputs.len())
    }

    #[test]
    fn bias_and_activation_move_in() {
        let text = "x: float[n, 4]\nw: float[4, 3]\nb: float[3]\na = MatMul(x, w)\n\
            c = Add(b, a)\ny = Relu(c)\n→ y";
        let (op, inputs) = only_product(text);
        assert_eq!((op.activation, inputs), (Some(crate::ops::Activation::Relu), 3));
    }

    #[test]
    fn transposition_and_factor_move_in() {
        let text = "x: float[n, 4]\nw: float[3, 4]\nt = Transpose<perm = [1, 0]>(w)\n\
            a = MatMul(x, t)\ny = Mul(a, 0.5)\n→ y";
        let (op, _) = only_product(text);
        assert_eq!((op.trans_b, op.alpha), (true, 0.5));
    }

    #[test]
    fn a_residual_of_the_same_shape_moves_in() {
        let text =
            "x: float[2, 4]\nw: float[4, 3]\nr: float[2, 3]\na = MatMul(x, w)\ny = Add(a, r)\n→ y";
        assert_eq!(only_product(text).1, 4);
    }
}
