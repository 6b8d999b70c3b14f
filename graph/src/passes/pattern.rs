//! What the rules of fusions have in common: looking through nodes that compute one expression.

use smallvec::SmallVec;

use super::GraphView;
use crate::ops::{Axis, Binary, BinaryFn, Reduce, ReduceKind, Unary, UnaryFn};
use crate::{DType, Dim, Node, Op, ValueId};

/// A product: its factors, constants of one element multiplied into one number.
#[derive(Debug)]
pub(super) struct Product {
    pub number: f32,
    pub factors: SmallVec<[ValueId; 4]>,
}

/// The factors of `v`. Products inside are looked into if nobody else reads them, division by a
/// number and small whole powers are products too.
pub(super) fn product(g: &GraphView<'_>, v: ValueId) -> Product {
    let mut all = Product { number: 1.0, factors: SmallVec::new() };
    let mut todo: SmallVec<[(ValueId, usize); 8]> = smallvec::smallvec![(v, 0)];
    while let Some((u, depth)) = todo.pop() {
        if let Some(number) = g.scalar(u) {
            all.number *= number;
            continue;
        }
        let open = depth == 0 || (depth < 6 && g.single_use(u));
        match open.then(|| g.made_by(u)).flatten() {
            Some(Node { op: Op::Binary(Binary(BinaryFn::Mul)), inputs, .. }) => {
                // The first factor stays first.
                todo.extend(inputs.iter().rev().flatten().map(|&w| (w, depth + 1)));
            }
            Some(Node { op: Op::Binary(Binary(f)), inputs, .. }) => {
                match (*f, inputs[0], inputs[1].and_then(|c| g.scalar(c))) {
                    (BinaryFn::Div, Some(x), Some(c)) if c != 0.0 => {
                        all.number /= c;
                        todo.push((x, depth + 1));
                    }
                    (BinaryFn::Pow, Some(x), Some(c)) if c == 2.0 || c == 3.0 => {
                        (0..c as usize).for_each(|_| todo.push((x, depth + 1)));
                    }
                    _ => all.factors.push(u),
                }
            }
            _ => all.factors.push(u),
        }
    }
    all
}

/// Both inputs of the node that makes `v`, if it is this function of two.
pub(super) fn binary(g: &GraphView<'_>, v: ValueId, f: BinaryFn) -> Option<[ValueId; 2]> {
    match g.made_by(v)? {
        Node { op: Op::Binary(Binary(found)), inputs, .. } if *found == f => {
            Some([inputs[0]?, inputs[1]?])
        }
        _ => None,
    }
}

/// x, if `v` is f(x).
pub(super) fn unary(g: &GraphView<'_>, v: ValueId, f: UnaryFn) -> Option<ValueId> {
    match g.made_by(v)? {
        Node { op: Op::Unary(Unary(found)), inputs, .. } if *found == f => inputs[0],
        _ => None,
    }
}

/// x and the number c, if `v` is x + c.
pub(super) fn plus_number(g: &GraphView<'_>, v: ValueId) -> Option<(ValueId, f32)> {
    let [a, b] = binary(g, v, BinaryFn::Add)?;
    match (g.scalar(a), g.scalar(b)) {
        (None, Some(c)) => Some((a, c)),
        (Some(c), None) => Some((b, c)),
        _ => None,
    }
}

/// x, if `v` is the mean of x over its last axis, which stays.
pub(super) fn mean_of_last_axis(g: &GraphView<'_>, v: ValueId) -> Option<ValueId> {
    let Node { op: Op::Reduce(reduce), inputs, .. } = g.made_by(v)? else { return None };
    let x = inputs[0]?;
    let rank = g.fact(x).rank()?;
    let axes = g.ints((*inputs.get(1)?)?)?;
    let last = matches!(*axes, [axis] if Axis(axis).resolve(rank) == Ok(rank.checked_sub(1)?));
    let mean = matches!(reduce, Reduce { kind: ReduceKind::Mean, keepdims: true, .. });
    (last && mean).then_some(x)
}

/// Whether two numbers are the same but for rounding.
pub(super) fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-4 * b.abs()
}

/// Whether the value is a float32 tensor.
pub(super) fn is_f32(g: &GraphView<'_>, v: ValueId) -> bool {
    g.fact(v).dtype() == Ok(DType::F32)
}

/// Whether the value is a tensor of a type that is computed in f32 and rounded.
pub(super) fn is_half(g: &GraphView<'_>, v: ValueId) -> bool {
    matches!(g.fact(v).dtype(), Ok(DType::F16 | DType::BF16))
}

/// Whether both shapes are known to be the same.
pub(super) fn same_shape(g: &GraphView<'_>, a: ValueId, b: ValueId) -> bool {
    match (g.fact(a).shape(), g.fact(b).shape()) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
        _ => false,
    }
}

/// Whether the value is a row: its last size is `n`, its other sizes are 1.
pub(super) fn is_row(g: &GraphView<'_>, v: ValueId, n: &Dim) -> bool {
    match g.fact(v).shape().and_then(|s| s.split_last()) {
        Some((last, rest)) => last.same(n) && rest.iter().all(|d| d.is(1)),
        None => false,
    }
}

/// The node that makes `v`, if its operator has this name.
pub(super) fn made_by_op<'a>(g: &GraphView<'a>, v: ValueId, name: &str) -> Option<&'a Node> {
    g.made_by(v).filter(|node| node.op.name() == name)
}
