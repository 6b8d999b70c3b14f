//! Gaussian error linear units with a bias, and softmax with a bias.
//!
//! BiasGelu = Gelu(x + b), FastGelu = Gelu by tanh (x + b), QuickGelu = x · sigmoid(alpha x),
//! BiasSplitGelu = left · Gelu(right) of x + b, BiasSoftmax = softmax(x + b)

use super::super::{Axis, BinaryFn, Split, UnaryFn, softmax};
use crate::Reason;
use crate::onnx::{NodeCx, Outputs};

pub(in super::super) fn import_gelu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    biased(cx, UnaryFn::Gelu)
}

pub(in super::super) fn import_bias_gelu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    cx.input(1)?;
    biased(cx, UnaryFn::Gelu)
}

pub(in super::super) fn import_fast_gelu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 2)?;
    biased(cx, UnaryFn::GeluTanh)
}

pub(in super::super) fn import_quick_gelu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let alpha = cx.float("alpha")?.unwrap_or(1.702);
    biased(cx, UnaryFn::Swish { alpha })
}

fn biased(cx: &mut NodeCx<'_>, f: UnaryFn) -> Result<Outputs, Reason> {
    let (x, bias) = (cx.input(0)?, cx.opt_input(1));
    let x = cx.add_opt(x, bias)?;
    let y = cx.unary(f, x)?;
    cx.done(y)
}

pub(in super::super) fn import_bias_split_gelu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (x, bias) = (cx.input(0)?, cx.input(1)?);
    let x = cx.binary(BinaryFn::Add, x, bias)?;
    let halves = cx.push_n(Split { axis: Axis(-1), num_outputs: Some(2) }, &[Some(x)], 2)?;
    let gate = cx.unary(UnaryFn::Gelu, halves[1])?;
    let y = cx.binary(BinaryFn::Mul, halves[0], gate)?;
    cx.done(y)
}

pub(in super::super) fn import_bias_add(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let (x, bias, skip) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let x = cx.binary(BinaryFn::Add, x, bias)?;
    let y = cx.binary(BinaryFn::Add, x, skip)?;
    cx.done(y)
}

/// The bias has axes of size 1 where it is repeated, wherever these are.
pub(in super::super) fn import_bias_softmax(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    cx.ignore(&["is_inner_broadcast"]);
    let axis = Axis(cx.int("axis")?.unwrap_or(1));
    let (x, bias) = (cx.input(0)?, cx.input(1)?);
    let x = cx.binary(BinaryFn::Add, x, bias)?;
    let y = softmax::of_rows(cx, softmax::SoftmaxKind::Softmax, x, axis)?;
    cx.done(y)
}
