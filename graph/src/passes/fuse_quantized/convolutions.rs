//! Convolutions of codes: into floats, and into codes.

use smallvec::SmallVec;

use super::{Codes, few, given, idle, zero};
use crate::ops::{Axis, Clip, Conv, QLinearConv, Unary, UnaryFn};
use crate::passes::fuse_epilogue::activation_of;
use crate::passes::{GraphView, Rewrite};
use crate::{DType, NodeId, Op, Tensor, ValueId};

/// Conv(D(x), D(w), bias), the bias D(int32) or floats that are known.
pub(super) fn floats(g: &GraphView<'_>, id: NodeId, op: &Conv) -> Option<Rewrite> {
    let Conv { window, group, activation: None } = op else { return None };
    let (x, w) = (Codes::read(g, g.input(id, 0)?)?, Codes::read(g, g.input(id, 1)?)?);
    let channels = w.axis.is_none_or(|axis| axis == Axis(0));
    let terms = g.fact(w.x).sizes()?.iter().skip(1).product::<usize>();
    let bytes = x.byte() && w.byte() && x.axis.is_none() && channels && few(Some(terms as i64));
    if !bytes || g.input(id, 3).is_some() {
        return None;
    }
    let bias = match g.input(id, 2) {
        Some(bias) => Some(sums_bias(g, bias, &x, &w).or_else(|| rounded(g, bias, &x, &w, terms))?),
        None => None,
    };
    let mut p = g.patch();
    let bias = bias.map(|bias| match bias {
        Bias::There(v) => v,
        Bias::Made(t) => p.constant(t),
    });
    let zeros = [&x, &w].map(|c| c.zero.unwrap_or_else(|| p.constant(zero(c.dtype))));
    let (x, w) = ([x.x, x.scale, zeros[0]], [w.x, w.scale, zeros[1]]);
    let mut inputs: SmallVec<[Option<ValueId>; 9]> = x.into_iter().chain(w).map(Some).collect();
    inputs.extend([None, None, bias]);
    let y = p.push(QLinearConv { window: window.clone(), group: *group }, given(&inputs), 1)?[0];
    p.finish(&[y])
}

/// Q of a convolution into floats, with or without a Relu that saturation does.
pub(super) fn codes(g: &GraphView<'_>, q: &Codes) -> Option<Rewrite> {
    let made = g.producer(q.x)?;
    let relu = matches!(g.op(made), Op::Unary(Unary(UnaryFn::Relu)) | Op::Clip(Clip { .. }));
    let cut = relu && g.single_use(q.x) && idle(g, q, activation_of(g, made)?);
    let y = if cut { g.input(made, 0)? } else { q.x };
    let node = g.made_by(y)?;
    let Op::QLinearConv(op) = &node.op else { return None };
    if node.inputs.get(6).copied().flatten().is_some() || !g.single_use(y) {
        return None;
    }
    let mut p = g.patch();
    let zero = q.zero.unwrap_or_else(|| p.constant(zero(q.dtype)));
    let mut inputs = [None; 9];
    inputs[..node.inputs.len()].copy_from_slice(&node.inputs);
    (inputs[6], inputs[7]) = (Some(q.scale), Some(zero));
    let y = p.push(op.clone(), given(&inputs), 1)?[0];
    p.finish(&[y])
}

/// A bias in units of both scales.
enum Bias {
    There(ValueId),
    Made(Tensor),
}

/// The int32 bias that stands in the sums, if `v` is dequantized with the product of the scales.
fn sums_bias(g: &GraphView<'_>, v: ValueId, x: &Codes, w: &Codes) -> Option<Bias> {
    let bias = Codes::read(g, v)?;
    let numbers = |v: ValueId| g.constant(v).map(|t| t.as_slice::<f32>());
    let (have, x, w) = (numbers(bias.scale)?, g.scalar(x.scale)?, numbers(w.scale)?);
    let at = |list: &[f32], i: usize| list[if list.len() == 1 { 0 } else { i }];
    let near = |i: usize| (at(have, i) - x * at(w, i)).abs() <= 1e-5 * at(have, i).abs();
    let fits = have.len() == 1 || w.len() == 1 || have.len() == w.len();
    let zero = bias.zero_number(g) == Some(0)
        || bias
            .zero
            .and_then(|v| g.constant(v)?.to_ints())
            .is_some_and(|z| z.iter().all(|&z| z == 0));
    let same = fits && zero && (0..have.len().max(w.len())).all(near);
    (bias.dtype == DType::I32 && same).then_some(Bias::There(bias.x))
}

/// Floats that are known, rounded to units of both scales: a step of one of the codes that are
/// summed is as much as a hundred of those. Beside sums of so many terms they fit into 32 bits.
fn rounded(g: &GraphView<'_>, v: ValueId, x: &Codes, w: &Codes, terms: usize) -> Option<Bias> {
    let numbers =
        |v: ValueId| g.constant(v).filter(|t| t.dtype() == DType::F32).map(|t| t.as_slice::<f32>());
    let (bias, x, w) = (numbers(v)?, f64::from(g.scalar(x.scale)?), numbers(w.scale)?);
    let room = f64::from(i32::MAX) - 255.0 * 255.0 * terms as f64;
    let code = |(i, &b): (usize, &f32)| {
        let unit = x * f64::from(*w.get(if w.len() == 1 { 0 } else { i })?);
        let code = (f64::from(b) / unit).round_ties_even();
        (code.abs() <= room).then_some(code as i32)
    };
    let codes: Vec<i32> = bias.iter().enumerate().map(code).collect::<Option<_>>()?;
    Some(Bias::Made(Tensor::vector(&codes)))
}
