//! Normalizations from their pieces, over the last axis:
//! d = x − mean(x): d / √(mean(d²) + ε) → LayerNormalization(x, 1), and
//! x / √(mean(x²) + ε) → RmsNormalization(x, 1); then a factor and a summand move into scale and
//! bias: LayerNormalization(x, 1) · w + b → LayerNormalization(x, w, b).

use super::pattern::{binary, is_f32, is_row, mean_of_last_axis, plus_number, product, unary};
use super::{GraphView, Rewrite};
use crate::ops::{Axis, Binary, BinaryFn, LayerNormalization, RmsNormalization, UnaryFn};
use crate::{DType, Node, NodeId, Op, Tensor, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let Op::Binary(Binary(f)) = g.op(id) else { return None };
    let (a, b) = (g.input(id, 0)?, g.input(id, 1)?);
    if !is_f32(g, a) {
        return None;
    }
    match f {
        BinaryFn::Div => normalized(g, a, unary(g, b, UnaryFn::Sqrt)?),
        BinaryFn::Mul => {
            let inverse = |v| unary(g, unary(g, v, UnaryFn::Reciprocal)?, UnaryFn::Sqrt);
            let inverse_root = |v| inverse(v).or_else(|| reciprocal_by_division(g, v));
            let scaled = || scale(g, a, b).or_else(|| scale(g, b, a));
            match (inverse_root(b), inverse_root(a)) {
                (Some(v), _) => normalized(g, a, v),
                (_, Some(v)) => normalized(g, b, v),
                _ => scaled(),
            }
        }
        BinaryFn::Add => bias(g, a, b).or_else(|| bias(g, b, a)),
        _ => None,
    }
}

/// u, if `v` is 1 / √u.
fn reciprocal_by_division(g: &GraphView<'_>, v: ValueId) -> Option<ValueId> {
    let [one, root] = binary(g, v, BinaryFn::Div)?;
    (g.scalar(one)? == 1.0).then(|| unary(g, root, UnaryFn::Sqrt)).flatten()
}

/// top / √under, if that is a normalization.
fn normalized(g: &GraphView<'_>, top: ValueId, under: ValueId) -> Option<Rewrite> {
    let (mean, epsilon) = plus_number(g, under)?;
    let square = product(g, mean_of_last_axis(g, mean)?);
    if square.number != 1.0 || square.factors[..] != [top, top] {
        return None;
    }
    let n = g.fact(top).shape()?.last()?.size()?;
    let ones = Tensor::try_from_slice(&[n], &vec![1f32; n]).ok()?;
    let mut p = g.patch();
    let ones = p.constant(ones);
    let centred = || {
        let [x, mean] = binary(g, top, BinaryFn::Sub)?;
        (mean_of_last_axis(g, mean)? == x).then_some(x)
    };
    let y = match centred() {
        Some(x) => {
            let op = LayerNormalization { axis: Axis(-1), epsilon, stash: DType::F32 };
            p.push1(op, &[x, ones])?
        }
        None => p.push1(RmsNormalization { axis: Axis(-1), epsilon }, &[top, ones])?,
    };
    p.finish(&[y])
}

/// Whether a value is a constant vector of ones.
fn is_ones(g: &GraphView<'_>, v: ValueId) -> bool {
    g.constant(v).is_some_and(|t| {
        t.dtype() == DType::F32 && t.rank() == 1 && t.as_slice::<f32>().iter().all(|&x| x == 1.0)
    })
}

/// A normalization whose scale is 1 and that nobody else reads, times a row.
fn scale(g: &GraphView<'_>, norm: ValueId, w: ValueId) -> Option<Rewrite> {
    let Node { op, inputs, outputs, .. } = g.made_by(norm)?;
    let (x, ones) = (inputs[0]?, (*inputs.get(1)?)?);
    let plain = inputs.len() == 2 && outputs.len() == 1 && g.single_use(norm) && is_ones(g, ones);
    if !plain || !is_row_of(g, norm, w) || g.fact(w).rank()? != 1 || !is_f32(g, w) {
        return None;
    }
    match op {
        Op::LayerNormalization(op) => g.replace(op.clone(), &[x, w]),
        Op::RmsNormalization(op) => g.replace(op.clone(), &[x, w]),
        _ => None,
    }
}

fn is_row_of(g: &GraphView<'_>, v: ValueId, row: ValueId) -> bool {
    g.fact(v).shape().and_then(|s| s.last()).is_some_and(|n| is_row(g, row, n))
}

/// A layer normalization without bias that nobody else reads, plus a row.
fn bias(g: &GraphView<'_>, norm: ValueId, b: ValueId) -> Option<Rewrite> {
    let Node { op: Op::LayerNormalization(op), inputs, outputs, .. } = g.made_by(norm)? else {
        return None;
    };
    let plain = inputs.len() == 2 && outputs.len() == 1 && g.single_use(norm);
    if !plain || !is_row_of(g, norm, b) || g.fact(b).rank()? != 1 || !is_f32(g, b) {
        return None;
    }
    g.replace(op.clone(), &[inputs[0]?, inputs[1]?, b])
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::rewritten;

    const PASSES: &[&str] = &["fuse_norms", "drop_dead"];

    fn ops(text: &str) -> Vec<&'static str> {
        rewritten(PASSES, text).nodes().map(|(_, n)| n.op.name()).collect()
    }

    const CENTRED: &str = "x: float[n, 4]\nw: float[4]\nb: float[4]\nm = ReduceMean(x, [-1])\n\
        d = Sub(x, m)\nq = Pow(d, 2.0)\nv = ReduceMean(q, [-1])\ne = Add(v, 0.00001)\n\
        s = Sqrt(e)\n";

    #[test]
    fn layer_norm_takes_scale_and_bias() {
        let text = format!("{CENTRED}z = Div(d, s)\nu = Mul(z, w)\ny = Add(u, b)\n→ y");
        assert_eq!(ops(&text), ["LayerNormalization"]);
    }

    #[test]
    fn rms_norm_by_reciprocal_takes_its_scale() {
        let text = "x: float[n, 4]\nw: float[4]\nq = Pow(x, 2.0)\nv = ReduceMean(q, [-1])\n\
            e = Add(v, 0.00001)\ns = Sqrt(e)\nr = Reciprocal(s)\nz = Mul(x, r)\ny = Mul(w, z)\n→ y";
        assert_eq!(ops(text), ["RmsNormalization"]);
    }

    #[test]
    fn a_mean_over_another_axis_is_left_alone() {
        let text = "x: float[n, 4]\nq = Pow(x, 2.0)\nv = ReduceMean(q, [0])\n\
            e = Add(v, 0.00001)\ns = Sqrt(e)\ny = Div(x, s)\n→ y";
        assert_eq!(ops(text).len(), 5);
    }
}
