//! Transpose(f(Transpose(x, p)), q) → Transpose(f(x), p∘q): a Transpose moves below what does not
//! care about the order of axes where it meets another one.
//!
//! f is a chain of element-wise operators, Softmax and reductions that keep the rank, each read by
//! the next alone. The other operands of f are constants, or come through a Transpose with the same p.

use smallvec::SmallVec;

use super::transposes::{compose, is_identity, perm};
use super::{GraphView, Patch, Rewrite};
use crate::ops::{Axis, Binary, Softmax, Transpose, Unsqueeze, resolve_axes};
use crate::{NodeId, Op, ValueId};

/// Operators between two transpositions, at most.
const LONGEST: usize = 16;

type Perm = SmallVec<[usize; 6]>;

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let last = perm(g, id)?;
    let (chain, top, first) = chain(g, g.input(id, 0)?)?;
    let mut p = g.patch();
    let mut x = g.input(top, 0)?;
    for &step in chain.iter().rev() {
        x = moved(g, &mut p, step, x, &first)?;
    }
    let both = compose(&first, &last);
    if !is_identity(&both) {
        x = p.push1(Transpose::new(&both), &[x])?;
    }
    p.finish(&[x])
}

/// The operators from `v` up to a Transpose, last first; that Transpose and its permutation.
fn chain(g: &GraphView<'_>, v: ValueId) -> Option<(SmallVec<[NodeId; 4]>, NodeId, Perm)> {
    let mut chain = SmallVec::new();
    let mut v = v;
    while chain.len() < LONGEST {
        let id = g.producer(v)?;
        if let Some(first) = perm(g, id) {
            return (!chain.is_empty()).then_some((chain, id, first));
        }
        if !g.single_use(v) {
            return None;
        }
        chain.push(id);
        v = g.input(id, through(g, id)?)?;
    }
    None
}

/// The input along which a Transpose may come to this node.
fn through(g: &GraphView<'_>, id: NodeId) -> Option<usize> {
    match g.op(id) {
        Op::Unary(_) | Op::Cast(_) | Op::Clip(_) | Op::Softmax(_) => Some(0),
        Op::Reduce(op) if op.keepdims => Some(0),
        Op::Binary(_) => {
            // The one that is no constant; of two that vary, the first (both are transposed then).
            let varies = |i: usize| g.input(id, i).is_some_and(|v| g.constant(v).is_none());
            (0..2).find(|&i| varies(i))
        }
        _ => None,
    }
}

/// The node `id` on `x`, which is what it reads but for a Transpose with `first`.
fn moved(
    g: &GraphView<'_>,
    p: &mut Patch<'_>,
    id: NodeId,
    x: ValueId,
    first: &Perm,
) -> Option<ValueId> {
    let at = through(g, id)?;
    match g.op(id) {
        op @ (Op::Unary(_) | Op::Cast(_)) => p.push1(op.clone(), &[x]),
        op @ Op::Clip(_) => {
            let mut inputs = g.node(id).inputs.clone();
            inputs[0] = Some(x);
            Some(p.push(op.clone(), &inputs, 1)?[0])
        }
        Op::Softmax(op) => {
            let axis = Axis(first[op.axis.resolve(first.len()).ok()?] as i64);
            p.push1(Softmax { axis, ..op.clone() }, &[x])
        }
        Op::Reduce(op) => {
            let Some(axes) = g.input(id, 1) else { return p.push1(op.clone(), &[x]) };
            let axes = resolve_axes(&g.ints(axes)?, first.len()).ok()?;
            let axes = p.ints(&axes.iter().map(|&a| first[a] as i64).collect::<Vec<_>>());
            p.push1(op.clone(), &[x, axes])
        }
        Op::Binary(op) => {
            let other = untransposed(g, p, g.input(id, 1 - at)?, first)?;
            let operands = if at == 0 { [x, other] } else { [other, x] };
            p.push1(Binary(op.0), &operands)
        }
        _ => None,
    }
}

/// The value that `v` is but for a Transpose with `first`.
fn untransposed(g: &GraphView<'_>, p: &mut Patch<'_>, v: ValueId, first: &Perm) -> Option<ValueId> {
    if let Some(id) = g.producer(v) {
        return (perm(g, id)? == *first).then(|| g.input(id, 0)).flatten();
    }
    let sizes = g.constant(v)?.shape();
    if sizes.iter().all(|&n| n == 1) && sizes.len() <= first.len() {
        return Some(v);
    }
    // A constant is turned the other way; folding makes a constant of that again.
    let missing = first.len().checked_sub(sizes.len())?;
    let mut v = v;
    if missing > 0 {
        let axes = p.ints(&(0..missing as i64).collect::<Vec<_>>());
        v = p.push1(Unsqueeze, &[v, axes])?;
    }
    let mut inverse: Perm = SmallVec::from_elem(0, first.len());
    first.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
    p.push1(Transpose::new(&inverse), &[v])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, unchanged};

    #[test]
    fn two_meet_below_what_stands_between() {
        check(
            &["sink_transposes"],
            "x: float[n, 3, 4, 5]; a = Transpose<perm = [0, 2, 3, 1]>(x); b = Relu(a); \
             c = Mul(2.0, b); y = Transpose<perm = [0, 3, 1, 2]>(c); → y",
            "x: float[n, 3, 4, 5]
             %0 = Relu(x)
             y = Mul(2.0, %0)
             → y",
        );
    }

    #[test]
    fn a_constant_is_turned_instead() {
        check(
            &["sink_transposes"],
            "x: float[n, 3, 4]; w: float[3] = [1, 2, 3]; a = Transpose<perm = [0, 2, 1]>(x); \
             b = Add(a, w); y = Transpose<perm = [0, 2, 1]>(b); → y",
            "x: float[n, 3, 4]
             w: float[3] = [1.0, 2.0, 3.0]
             %0 = Unsqueeze(w, [0, 1])
             %1 = Transpose{perm: Some([0, 2, 1])}(%0)
             y = Add(x, %1)
             → y",
        );
    }

    #[test]
    fn both_operands_may_be_transposed() {
        check(
            &["sink_transposes"],
            "x: float[n, 3, 4]; z: float[n, 3, 4]; a = Transpose<perm = [0, 2, 1]>(x); \
             b = Transpose<perm = [0, 2, 1]>(z); c = Add(a, b); \
             y = Transpose<perm = [2, 0, 1]>(c); → y",
            "x: float[n, 3, 4]
             z: float[n, 3, 4]
             %0 = Add(x, z)
             y = Transpose{perm: Some([1, 0, 2])}(%0)
             → y",
        );
    }

    #[test]
    fn axes_are_renamed() {
        check(
            &["sink_transposes"],
            "x: float[n, 3, 4]; a = Transpose<perm = [0, 2, 1]>(x); b = Softmax<axis = 1>(a); \
             c = ReduceMax(b, [-1]); y = Transpose<perm = [0, 2, 1]>(c); → y",
            "x: float[n, 3, 4]
             %0 = Softmax{kind: Softmax, axis: Axis(2)}(x)
             y = Reduce{kind: Max, keepdims: true, noop_with_empty_axes: false}(%0, [1])
             → y",
        );
    }

    #[test]
    fn what_others_read_stays() {
        unchanged(
            &["sink_transposes"],
            "x: float[n, 3]; a = Transpose(x); b = Relu(a); y = Transpose(b); → y, b",
        );
        unchanged(
            &["sink_transposes"],
            "x: float[n, 3]; z: float[3, n]; a = Transpose(x); b = Add(a, z); y = Transpose(b); → y",
        );
    }
}
