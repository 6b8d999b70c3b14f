//! Transpose(Transpose(x, p), q) → Transpose(x, p∘q); one that moves nothing disappears, and one
//! that moves only axes of size 1 is a Reshape, which costs nothing.

use smallvec::SmallVec;

use super::reshapes::wanted;
use super::{GraphView, Rewrite};
use crate::ops::{Reshape, Transpose};
use crate::{NodeId, Op, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let perm = perm(g, id)?;
    let x = g.input(id, 0)?;
    if is_identity(&perm) {
        return g.alias(x);
    }
    if let Some(inner) = g.producer(x)
        && let Some(first) = self::perm(g, inner)
    {
        let both = compose(&first, &perm);
        let source = g.input(inner, 0)?;
        return match is_identity(&both) {
            true => g.alias(source),
            false => g.replace(Transpose::new(&both), &[source]),
        };
    }
    reshape(g, x, g.output(id, 0)?, &perm)
}

/// The permutation of a Transpose whose rank is known.
pub(super) fn perm(g: &GraphView<'_>, id: NodeId) -> Option<SmallVec<[usize; 6]>> {
    let Op::Transpose(op) = g.op(id) else { return None };
    op.resolve(g.fact(g.input(id, 0)?).rank()?).ok()
}

/// What `first` and then `second` do together.
pub(super) fn compose(first: &[usize], second: &[usize]) -> SmallVec<[usize; 6]> {
    second.iter().map(|&axis| first[axis]).collect()
}

pub(super) fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, &axis)| i == axis)
}

/// A Reshape, if the axes that are not of size 1 stay in order.
fn reshape(g: &GraphView<'_>, x: ValueId, y: ValueId, perm: &[usize]) -> Option<Rewrite> {
    let from = g.fact(x).shape()?;
    let long: SmallVec<[usize; 6]> =
        perm.iter().copied().filter(|&axis| !from[axis].is(1)).collect();
    if !long.is_sorted() {
        return None;
    }
    let mut p = g.patch();
    let shape = p.ints(&wanted(from, g.fact(y).shape()?)?);
    let y = p.push1(Reshape { allowzero: false }, &[x, shape])?;
    p.finish(&[y])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, unchanged};

    #[test]
    fn there_and_back_is_nothing() {
        check(
            &["transposes"],
            "x: float[n, 3, 4, 5]; a = Transpose<perm = [0, 2, 3, 1]>(x); \
             y = Transpose<perm = [0, 3, 1, 2]>(a); → y",
            "x: float[n, 3, 4, 5]\n→ x",
        );
    }

    #[test]
    fn two_become_one() {
        check(
            &["transposes"],
            "x: float[2, 3, 4]; a = Transpose<perm = [1, 2, 0]>(x); \
             y = Transpose<perm = [0, 2, 1]>(a); → y",
            "x: float[2, 3, 4]
             y = Transpose{perm: Some([1, 0, 2])}(x)
             → y",
        );
    }

    #[test]
    fn moving_axes_of_size_one_is_a_reshape() {
        check(
            &["transposes"],
            "x: float[1, n, 12, 64]; y = Transpose<perm = [1, 0, 2, 3]>(x); → y",
            "x: float[1, n, 12, 64]
             y = Reshape{allowzero: false}(x, [-1, 1, 12, 64])
             → y",
        );
        let two = "x: float[1, n, m]; y = Transpose<perm = [1, 0, 2]>(x); → y";
        unchanged(&["transposes"], two);
    }
}
