//! Codes with a scale for each row, and products of them.
//!
//! Q(x / s), s = max(max|x|, least) / levels along the last axis → QuantizeRows(x)
//! QuantizedMatMul(…) · column → QuantizedMatMul(…, column)

use super::{Codes, floats, given};
use crate::ops::{Axis, BinaryFn, QuantizeRows, Reduce, ReduceKind, UnaryFn};
use crate::passes::pattern::{binary, is_f32, unary};
use crate::passes::{GraphView, Rewrite};
use crate::{DType, Node, Op, ValueId};

/// x, and how its rows are measured, if `v` is the scale of each row of x.
fn scale(g: &GraphView<'_>, v: ValueId) -> Option<(ValueId, QuantizeRows)> {
    let [most, levels] = binary(g, v, BinaryFn::Div)?;
    let [a, b] = binary(g, most, BinaryFn::Max)?;
    let (most, least) = match (g.scalar(a), g.scalar(b)) {
        (None, Some(least)) => (a, least),
        (Some(least), None) => (b, least),
        _ => return None,
    };
    let Node { op: Op::Reduce(reduce), inputs, .. } = g.made_by(most)? else { return None };
    let size = inputs[0]?;
    let axes = g.ints((*inputs.get(1)?)?)?;
    let x = unary(g, size, UnaryFn::Abs)?;
    let rank = g.fact(x).rank()?;
    let last = matches!(*axes, [axis] if Axis(axis).resolve(rank) == Ok(rank.checked_sub(1)?));
    let largest = matches!(reduce, Reduce { kind: ReduceKind::Max, keepdims: true, .. });
    let levels = g.scalar(levels)?;
    let sound = levels > 0.0 && levels <= 127.0 && least > 0.0;
    let fits = last && largest && sound && is_f32(g, x);
    fits.then_some((x, QuantizeRows { levels, least, zero: 0 }))
}

/// Q(x / scale of x's rows)
pub(super) fn codes(g: &GraphView<'_>, q: &Codes) -> Option<Rewrite> {
    let [x, divisor] = binary(g, q.x, BinaryFn::Div)?;
    let (measured, op) = scale(g, divisor)?;
    let plain = q.dtype == DType::U8 && g.scalar(q.scale) == Some(1.0) && measured == x;
    if !plain {
        return None;
    }
    let zero = u8::try_from(q.zero_number(g)?).ok()?;
    let mut p = g.patch();
    let made = p.push(QuantizeRows { zero, ..op }, &[Some(x)], 2)?;
    p.finish(&[made[0]])
}

/// product · column
pub(super) fn scaled(g: &GraphView<'_>, v: ValueId, column: ValueId) -> Option<Rewrite> {
    let (op, node) = floats(g, v)?;
    let at = |i: usize| node.inputs.get(i).copied().flatten();
    let (y, factors) = (g.fact(v).shape()?, g.fact(column).shape()?);
    let (rows, sizes) = (y.split_last()?.1, factors.split_last()?);
    let same = sizes.1.len() == rows.len() && sizes.1.iter().zip(rows).all(|(a, b)| a.same(b));
    let each = same && !rows.is_empty() && sizes.0.is(1);
    let free = at(5).is_none() && at(8).is_none() && op.activation.is_none();
    if !each || !free || !is_f32(g, column) {
        return None;
    }
    let mut inputs = [None; 9];
    inputs[..node.inputs.len()].copy_from_slice(&node.inputs);
    inputs[8] = Some(found(g, at(0)?, column).unwrap_or(column));
    let mut p = g.patch();
    let y = p.push(op.clone(), given(&inputs), 1)?[0];
    p.finish(&[y])
}

/// The scales that were found with the codes, if `column` is the same.
fn found(g: &GraphView<'_>, codes: ValueId, column: ValueId) -> Option<ValueId> {
    let Node { op: Op::QuantizeRows(op), inputs, outputs, .. } = g.made_by(codes)? else {
        return None;
    };
    let (x, measured) = scale(g, column)?;
    let same = inputs[0] == Some(x) && QuantizeRows { zero: op.zero, ..measured } == *op;
    if same { outputs.get(1).copied() } else { None }
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::rewritten;

    const MEASURED: &str = "x: float[b, n, 4]\nw: int8[4, 3]\nws: float[3]\nr: float[3]\n\
        least: float = 1e-30\nlevels: float = 127\none: float = 1\nz: uint8 = 128\n\
        axes: int64[1] = -1\nm = Abs(x)\nl = ReduceMax<keepdims = 1>(m, axes)\n\
        k = Max(l, least)\ns = Div(k, levels)\nd = Div(x, s)\na = QuantizeLinear(d, one, z)\n";

    fn ops(text: &str) -> Vec<&'static str> {
        let g = rewritten(&["fuse_quantized", "drop_dead"], text);
        g.nodes().map(|(_, node)| node.op.name()).collect()
    }

    #[test]
    fn a_product_of_rows_takes_their_scales_and_what_follows() {
        let text = format!(
            "{MEASURED}c = MatMulInteger(a, w, z)\nf = Cast<to = 1>(c)\ng = Mul(f, ws)\n\
             h = Mul(g, s)\ni = Add(h, r)\ny = Relu(i)\n→ y"
        );
        assert_eq!(ops(&text), ["QuantizeRows", "QuantizedMatMul"]);
    }

    #[test]
    fn another_scale_than_that_of_the_codes_is_a_factor_like_any() {
        let text = format!(
            "{MEASURED}o: float[b, n, 1]\nc = MatMulInteger(a, w, z)\nf = Cast<to = 1>(c)\n\
             g = Mul(f, ws)\ny = Mul(g, o)\n→ y"
        );
        assert_eq!(ops(&text), ["QuantizeRows", "QuantizedMatMul"]);
    }

    #[test]
    fn a_factor_for_each_element_stays() {
        let text = format!(
            "{MEASURED}o: float[b, n, 3]\nc = MatMulInteger(a, w, z)\nf = Cast<to = 1>(c)\n\
             g = Mul(f, ws)\ny = Mul(g, o)\n→ y"
        );
        assert_eq!(ops(&text), ["QuantizeRows", "QuantizedMatMul", "Binary"]);
    }

    #[test]
    fn codes_of_the_whole_divided_by_another_value_stay() {
        let text = format!(
            "{MEASURED}e: float[b, n, 4]\nf = Div(e, s)\n\
             y = QuantizeLinear(f, one, z)\n→ y"
        );
        assert!(ops(&text).contains(&"QuantizeLinear"));
    }
}
