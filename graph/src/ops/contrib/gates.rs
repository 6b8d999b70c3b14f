//! What stands around attention in gated models: LinearAttentionGate, GatedRMSNorm, GatedAdd,
//! ScaledSiLU, and the states that carry over from one call to the next.
//!
//! Gates are computed in f32, whatever the type of the tensors.

use smallvec::smallvec;

use super::super::{Axis, BinaryFn, RmsNormalization, UnaryFn, causal_conv, linear_attention};
use super::heads;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, invalid, unsupported};

/// a, dt_bias, decay_scale, b → decay_scale · softplus(a + dt_bias), sigmoid(b)
pub(in super::super) fn import_linear_gate(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 4)?;
    let (a, bias, scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let dtype = cx.dtype(a)?;
    let wide = cx.cast(a, DType::F32)?;
    let sum = cx.binary(BinaryFn::Add, wide, bias)?;
    let soft = cx.unary(UnaryFn::Softplus, sum)?;
    let decay = cx.binary(BinaryFn::Mul, soft, scale)?;
    let mut made: Outputs = smallvec![cx.cast(decay, dtype)?];
    if cx.outputs() > 1 {
        let b = cx.input(3)?;
        let wide = cx.cast(b, DType::F32)?;
        let beta = cx.unary(UnaryFn::Sigmoid, wide)?;
        made.push(cx.cast(beta, dtype)?);
    }
    Ok(made)
}

/// x [.., h·c], scale [c], gate [.., h·c] → x / root of each c's mean square · scale · f(gate)
pub(in super::super) fn import_rms_norm(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    let f = match cx.string("activation")?.unwrap_or("silu") {
        "silu" | "swish" => UnaryFn::Swish { alpha: 1.0 },
        "sigmoid" => UnaryFn::Sigmoid,
        other => return Err(invalid!("activation {other:?} of GatedRMSNorm")),
    };
    let (x, scale, gate) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let dtype = cx.dtype(x)?;
    let [x, scale, gate] =
        [cx.cast(x, DType::F32)?, cx.cast(scale, DType::F32)?, cx.cast(gate, DType::F32)?];
    let size = heads::known(cx, scale, 0, "the scale")?;
    let whole = cx.fact(x).shape().and_then(|s| s.last()).is_some_and(|d| d.is(size));
    let rows = if whole { x } else { cx.reshape(x, &[-1, size])? };
    let mut y = cx.push1(RmsNormalization { axis: Axis(-1), epsilon }, &[rows, scale])?;
    if !whole {
        let shape = cx.push1(super::super::Shape { start: 0, end: None }, &[x])?;
        y = cx.push1(super::super::Reshape { allowzero: true }, &[y, shape])?;
    }
    let gate = cx.unary(f, gate)?;
    let y = cx.binary(BinaryFn::Mul, y, gate)?;
    let y = cx.cast(y, dtype)?;
    cx.done(y)
}

/// x, y, gate → x + y · gate
pub(in super::super) fn import_add(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let (x, y, gate) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let scaled = cx.binary(BinaryFn::Mul, y, gate)?;
    let y = cx.binary(BinaryFn::Add, x, scaled)?;
    cx.done(y)
}

/// x, scale (or the attribute alpha) → silu(scale · x)
pub(in super::super) fn import_silu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 2)?;
    let x = cx.input(0)?;
    let dtype = cx.dtype(x)?;
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    let scale = match cx.opt_input(1) {
        Some(scale) => cx.cast(scale, DType::F32)?,
        None => cx.constant(crate::Tensor::scalar(alpha)),
    };
    let scale = cx.reshape(scale, &[])?;
    let wide = cx.cast(x, DType::F32)?;
    let scaled = cx.binary(BinaryFn::Mul, wide, scale)?;
    let scaled = cx.cast(scaled, dtype)?;
    let y = cx.unary(UnaryFn::Swish { alpha: 1.0 }, scaled)?;
    cx.done(y)
}

pub(in super::super) fn import_linear_attention(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    no_window(cx)?;
    linear_attention::import(cx)
}

pub(in super::super) fn import_causal_conv(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    no_window(cx)?;
    let (ndim, dilation) = (cx.int("ndim")?.unwrap_or(1), cx.int("dilation")?.unwrap_or(1));
    if ndim != 1 || dilation != 1 || cx.flag("channels_last", false)? {
        return Err(unsupported!(
            "CausalConvWithState of {ndim} axes, dilation {dilation}, or with channels last"
        ));
    }
    causal_conv::import(cx)
}

/// `Err` if the states of several steps are asked for.
fn no_window(cx: &NodeCx<'_>) -> Result<(), Reason> {
    match cx.int("state_window")?.unwrap_or(0) {
        0 => Ok(()),
        n => Err(unsupported!("a state_window of {n}")),
    }
}
