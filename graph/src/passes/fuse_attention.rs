//! Attention from its pieces: Softmax(c · q kᵀ + mask) v → Attention(q, k, v, mask).
//!
//! q [b, h, s, d], k [b, h, t, d] (or kᵀ), v [b, h, t, e]; the mask broadcasts to [b, h, s, t] and
//! may be missing. Softmax may be guarded against rows that are masked in full, as torch 2 writes
//! it: Where(IsNaN(p), 0, p). Such rows are 0 in Attention.

use super::pattern::{binary, is_f32, unary};
use super::{GraphView, Rewrite};
use crate::ops::{Attention, BinaryFn, MatMul, Softmax, SoftmaxKind, Transpose, UnaryFn};
use crate::{Dim, Node, NodeId, Op, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let Op::MatMul(MatMul { trans_a: false, trans_b: false, alpha: 1.0, activation: None }) =
        g.op(id)
    else {
        return None;
    };
    let (p, v) = (g.input(id, 0)?, g.input(id, 1)?);
    let plain = g.node(id).inputs.len() == 2 && is_f32(g, p) && g.fact(v).rank()? == 4;
    if !plain || !g.single_use(p) {
        return None;
    }
    let (product, mask) = scores(g, softmax_of(g, p)?)?;
    let Node { op: Op::MatMul(op), inputs, .. } = g.made_by(product)? else { return None };
    let (q, k) = (inputs[0]?, inputs[1]?);
    let ranks = g.fact(q).rank()? == 4 && g.fact(k).rank()? == 4;
    if !ranks || op.trans_a || op.activation.is_some() || !same_heads(g, [q, k, v], op.trans_b) {
        return None;
    }
    if mask
        .is_some_and(|m| !g.fact(m).rank().is_some_and(|r| (2..=4).contains(&r)) || !is_f32(g, m))
    {
        return None;
    }
    let mut patch = g.patch();
    let k = match op.trans_b {
        true => k,
        false => patch.push1(Transpose::new(&[0, 1, 3, 2]), &[k])?,
    };
    let attention = Attention { scale: Some(op.alpha), ..Attention::PLAIN };
    let inputs = [Some(q), Some(k), Some(v), mask];
    let given = if mask.is_some() { 4 } else { 3 };
    let y = patch.push(attention, &inputs[..given], 1)?[0];
    patch.finish(&[y])
}

/// What softmax over the last axis was taken of, guarded or not.
fn softmax_of(g: &GraphView<'_>, p: ValueId) -> Option<ValueId> {
    if let Node { op: Op::Where(_), inputs, .. } = g.made_by(p)? {
        let (cond, zero, q) = (inputs[0]?, inputs[1]?, inputs[2]?);
        let guard = unary(g, cond, UnaryFn::IsNaN)? == q && g.scalar(zero)? == 0.0;
        return (guard && g.uses(q) == 2).then(|| softmax_of(g, q)).flatten();
    }
    let Node { op: Op::Softmax(op), inputs, .. } = g.made_by(p)? else { return None };
    let x = inputs[0]?;
    let Softmax { kind: SoftmaxKind::Softmax, axis } = op else { return None };
    let rank = g.fact(x).rank()?;
    (axis.resolve(rank) == Ok(rank - 1) && rank == 4 && g.single_use(x)).then_some(x)
}

/// The product and the mask that were added up to scores.
fn scores(g: &GraphView<'_>, x: ValueId) -> Option<(ValueId, Option<ValueId>)> {
    let is_product = |v: ValueId| {
        let Node { op: Op::MatMul(_), inputs, .. } = g.made_by(v)? else { return None };
        // What was added inside of the product is the mask.
        match (inputs.get(2).copied().flatten(), inputs.get(3).copied().flatten()) {
            (None, mask) => Some((v, mask)),
            _ => None,
        }
    };
    if let Some(found) = is_product(x) {
        return Some(found);
    }
    let [a, b] = binary(g, x, BinaryFn::Add)?;
    match (is_product(a), is_product(b)) {
        (Some((v, None)), _) if g.single_use(a) => Some((v, Some(b))),
        (_, Some((v, None))) if g.single_use(b) => Some((v, Some(a))),
        _ => None,
    }
}

/// Whether batch and heads of all three may be the same, and head sizes are.
///
/// Where a size is not known, Attention itself refuses sizes that do not fit when it runs. A 1
/// against something else is a broadcast that somebody meant: that stays a product.
fn same_heads(g: &GraphView<'_>, [q, k, v]: [ValueId; 3], trans_b: bool) -> bool {
    let may_be_same = |a: &Dim, b: &Dim| {
        let numbers = a.value().is_some() && b.value().is_some();
        a.same(b) || !(numbers || a.is(1) || b.is(1))
    };
    let check = || {
        let (q, k, v) = (g.fact(q).shape()?, g.fact(k).shape()?, g.fact(v).shape()?);
        let (size, keys) = if trans_b { (&k[3], &k[2]) } else { (&k[2], &k[3]) };
        let same = (0..2).all(|i| may_be_same(&q[i], &k[i]) && may_be_same(&q[i], &v[i]));
        let sizes = q[3].size()? > 0 && size.size()? == q[3].size()?;
        let certain = keys.value().is_none() || v[2].value().is_none() || keys == &v[2];
        Some(same && sizes && certain)
    };
    check() == Some(true)
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::rewritten;

    const PASSES: &[&str] = &["transposes", "fuse_matmul", "fuse_attention", "drop_dead"];

    fn ops(text: &str) -> Vec<&'static str> {
        rewritten(PASSES, text).nodes().map(|(_, n)| n.op.name()).collect()
    }

    const SHAPES: &str = "q: float[b, 2, s, 8]\nk: float[b, 2, t, 8]\nv: float[b, 2, t, 8]\n";

    #[test]
    fn older_exporters_divide_and_add_the_mask() {
        let text = format!(
            "{SHAPES}m: float[b, 1, 1, t]\nkt = Transpose<perm = [0, 1, 3, 2]>(k)\na = MatMul(q, kt)\n\
             c = Div(a, 2.828427)\nd = Add(c, m)\np = Softmax(d)\ny = MatMul(p, v)\n→ y"
        );
        assert_eq!(ops(&text), ["Attention"]);
    }

    #[test]
    fn torch_2_scales_both_sides_and_guards_the_rows() {
        let text = format!(
            "{SHAPES}m: float[b, 1, s, t]\nkt = Transpose<perm = [0, 1, 3, 2]>(k)\n\
             qs = Mul(q, 0.5946)\nks = Mul(kt, 0.5946)\na = MatMul(qs, ks)\nd = Add(a, m)\n\
             p = Softmax(d)\nn = IsNaN(p)\nz: float = 0.0\nw = Where(n, z, p)\ny = MatMul(w, v)\n→ y"
        );
        assert_eq!(ops(&text), ["Attention"]);
    }

    #[test]
    fn attention_without_a_mask_is_found() {
        let text = format!(
            "{SHAPES}kt = Transpose<perm = [0, 1, 3, 2]>(k)\na = MatMul(q, kt)\np = Softmax(a)\n\
             y = MatMul(p, v)\n→ y"
        );
        assert_eq!(ops(&text), ["Attention"]);
    }

    #[test]
    fn scores_that_somebody_else_reads_stay() {
        let text = format!(
            "{SHAPES}kt = Transpose<perm = [0, 1, 3, 2]>(k)\na = MatMul(q, kt)\np = Softmax(a)\n\
             y = MatMul(p, v)\n→ y, p"
        );
        assert!(!ops(&text).contains(&"Attention"));
    }
}
