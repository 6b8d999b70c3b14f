//! Reshape(Reshape(x, s), t) → Reshape(x, t); one that keeps the shape disappears; a shape that
//! was computed but is known becomes a constant: Reshape(x, Concat(n, 768)) → Reshape(x, [-1, 768])
//!
//! Reshape here is any of Reshape, Flatten, Squeeze, Unsqueeze: all keep the elements in order.

use super::identities::same_shape;
use super::{GraphView, Rewrite};
use crate::ops::Reshape;
use crate::{Dim, NodeId, Op, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    if !reshapes(g.op(id)) {
        return None;
    }
    let (x, y) = (g.input(id, 0)?, g.output(id, 0)?);
    if same_shape(g.fact(x), g.fact(y)) {
        return g.alias(x);
    }
    let source = source(g, x);
    if same_shape(g.fact(source), g.fact(y)) {
        return g.alias(source);
    }
    if source != x {
        return reshape(g, source, y);
    }
    match g.op(id) {
        // A constant is as good as it gets.
        Op::Reshape(_) if !g.fact(g.input(id, 1)?).is_const() => reshape(g, x, y),
        _ => None,
    }
}

fn reshapes(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_))
}

/// The value whose elements, in order, are those of `x`, if `x` is a reshaped one.
fn source(g: &GraphView<'_>, x: ValueId) -> ValueId {
    // Chains are rewritten link by link, first to last, so one step reaches the start.
    let made = g.made_by(x).filter(|node| reshapes(&node.op));
    made.and_then(|node| *node.inputs.first()?).unwrap_or(x)
}

/// Reshapes `x` to the shape of `y`, if a constant can say it.
fn reshape(g: &GraphView<'_>, x: ValueId, y: ValueId) -> Option<Rewrite> {
    let mut p = g.patch();
    let shape = p.ints(&wanted(g.fact(x).shape()?, g.fact(y).shape()?)?);
    let y = p.push1(Reshape { allowzero: false }, &[x, shape])?;
    p.finish(&[y])
}

/// What Reshape must be told to make `from` into `to`, whatever the symbols' sizes are.
pub(super) fn wanted(from: &[Dim], to: &[Dim]) -> Option<Vec<i64>> {
    let copies = |i: usize| from.get(i).is_some_and(|d| d.same(&to[i]));
    let numbers: Vec<Option<i64>> = to.iter().map(Dim::value).collect();
    // 0 says: copy. A size that is 0 cannot be said but by copying one.
    let say = |i: usize, n: Option<i64>| match n {
        Some(n) if n > 0 => Some(n),
        _ => copies(i).then_some(0),
    };
    let mut wanted: Vec<Option<i64>> =
        numbers.iter().enumerate().map(|(i, &n)| say(i, n)).collect();
    if let Some(only) = wanted.iter().position(Option::is_none) {
        // -1 is what is left, which means nothing beside a size that turns out to be 0.
        let others = numbers.iter().enumerate().filter(|(i, _)| *i != only);
        if !others.clone().all(|(_, n)| n.is_some_and(|n| n > 0)) || numbers[only].is_some() {
            return None;
        }
        wanted[only] = Some(-1);
    }
    wanted.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, unchanged};

    #[test]
    fn a_chain_becomes_its_last_link() {
        check(
            &["reshapes"],
            "x: float[n, 4, 3]; a = Flatten(x); b = Unsqueeze(a, [0]); y = Reshape(b, [-1, 2]); → y",
            "x: float[n, 4, 3]
             y = Reshape{allowzero: false}(x, [-1, 2])
             → y",
        );
    }

    #[test]
    fn there_and_back_is_nothing() {
        check(
            &["reshapes"],
            "x: float[n, 4]; a = Unsqueeze(x, [1]); y = Squeeze(a, [1]); b = Reshape(x, [0, 4]); \
             → y, b",
            "x: float[n, 4]
             → x, x",
        );
    }

    #[test]
    fn a_computed_shape_that_is_known_becomes_a_constant() {
        check(
            &["reshapes", "drop_dead"],
            "x: float[n, m, 12, 64]; z: float[n, m, 768]; s = Shape(z); y = Reshape(x, s); → y",
            "x: float[n, m, 12, 64]
             z: float[n, m, 768]
             y = Reshape{allowzero: false}(x, [0, 0, 768])
             → y",
        );
    }

    #[test]
    fn two_sizes_that_cannot_be_said_stay_computed() {
        unchanged(
            &["reshapes"],
            "x: float[n, m]; z: float[m, n]; s = Shape(z); y = Reshape(x, s); → y",
        );
    }
}
