//! Attention(q, repeat(k), repeat(v)) → Attention(q, k, v): a head of keys serves a group of heads
//! of queries without being copied for each.
//!
//! repeat is how exporters write it: k [b, h, t, d] → [b, h, 1, t, d] → [b, h, g, t, d] →
//! [b, h·g, t, d], by Unsqueeze (or Reshape), Expand and Reshape.

use super::{GraphView, Rewrite};
use crate::{NodeId, Op, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let Op::Attention(op) = g.op(id) else { return None };
    let past = g.input(id, 4).is_some() || g.input(id, 5).is_some();
    if past || g.node(id).outputs.len() != 1 {
        return None;
    }
    let (k, v) = (repeated(g, g.input(id, 1)?)?, repeated(g, g.input(id, 2)?)?);
    if !g.fact(k).shape()?[1].same(&g.fact(v).shape()?[1]) {
        return None;
    }
    let mut inputs = g.node(id).inputs.clone();
    (inputs[1], inputs[2]) = (Some(k), Some(v));
    let mut patch = g.patch();
    let y = patch.push(op.clone(), &inputs, 1)?[0];
    patch.finish(&[y])
}

/// What each head of `v` is a copy of.
fn repeated(g: &GraphView<'_>, v: ValueId) -> Option<ValueId> {
    let of = |v: ValueId| *g.made_by(v)?.inputs.first()?;
    let wide = of(v).filter(|_| matches!(g.made_by(v).map(|n| &n.op), Some(Op::Reshape(_))))?;
    let one = of(wide).filter(|_| matches!(g.made_by(wide).map(|n| &n.op), Some(Op::Expand(_))))?;
    let made = &g.made_by(one)?.op;
    let x = of(one).filter(|_| matches!(made, Op::Reshape(_) | Op::Unsqueeze(_)))?;
    let shape = |v: ValueId| g.fact(v).shape();
    let (source, x) = (x, shape(x)?);
    let (y, wide, one) = (shape(v)?, shape(wide)?, shape(one)?);
    if [y.len(), wide.len(), one.len(), x.len()] != [4, 5, 5, 4] {
        return None;
    }
    let (heads, group) = (wide[1].size()?, wide[2].size()?);
    let kept = |i: usize, j: usize| x[i].same(&one[j]) && x[i].same(&wide[j]);
    let same = kept(0, 0) && kept(1, 1) && kept(2, 3) && kept(3, 4);
    let merged = [0, 2, 3].iter().all(|&i| x[i].same(&y[i]));
    let grows = one[2].is(1) && y[1].size()? == heads.checked_mul(group)?;
    (same && merged && grows).then_some(source)
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::rewritten;

    const PASSES: &[&str] = &["attention_groups", "drop_dead"];

    /// The operators left when k and v are expanded to `wide`.
    fn ops(wide: &str) -> Vec<&'static str> {
        let text = format!(
            "q: float[b, 12, s, 8]\nk: float[b, 4, t, 8]\nv: float[b, 4, t, 8]\n\
             axis: int64[1] = [2]\nwide: int64[5] = {wide}\nto: int64[4] = [0, 12, -1, 8]\n\
             ku = Unsqueeze(k, axis)\nvu = Unsqueeze(v, axis)\n\
             ke = Expand(ku, wide)\nve = Expand(vu, wide)\n\
             kr = Reshape(ke, to)\nvr = Reshape(ve, to)\nz = Attention(q, kr, vr)\n→ z"
        );
        rewritten(PASSES, &text).nodes().map(|(_, n)| n.op.name()).collect()
    }

    #[test]
    fn heads_of_keys_are_shared_instead_of_copied() {
        assert_eq!(ops("[1, 4, 3, 1, 8]"), ["Attention"]);
    }

    #[test]
    fn a_repeated_batch_stays() {
        assert!(ops("[3, 4, 1, 1, 8]").contains(&"Expand"));
    }
}
