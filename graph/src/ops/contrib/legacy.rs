//! Experimental operators of ONNX's first releases, which models converted from Core ML, Keras and
//! Caffe2 still have. ONNX took them out; ONNX Runtime kept them, in f32.
//!
//! Affine = alpha·x + beta, Scale = scale·x, ScaledTanh = alpha·tanh(beta·x),
//! ParametricSoftplus = alpha·ln(exp(beta·x) + 1), ImageScaler = scale·x + bias of each channel,
//! Crop takes borders off an image, DynamicSlice is Slice.

use super::super::{BinaryFn, Slice, UnaryFn};
use crate::onnx::{NodeCx, Outputs};
use crate::{Reason, Tensor, ValueId, invalid};

/// `Err` for another number of inputs, and from opset 10 on.
fn check(cx: &NodeCx<'_>, least: usize, most: usize) -> Result<(), Reason> {
    match cx.version {
        ..10 => cx.check_inputs(least, most),
        _ => Err(invalid!("an operator that ends with opset 9")),
    }
}

/// a·x
fn times(cx: &mut NodeCx<'_>, x: ValueId, a: f32) -> Result<ValueId, Reason> {
    let a = cx.scalar_like(x, a)?;
    cx.binary(BinaryFn::Mul, x, a)
}

fn attribute(cx: &NodeCx<'_>, name: &str) -> Result<f32, Reason> {
    cx.float(name)?.ok_or_else(|| invalid!("attribute {name} is missing"))
}

pub(in super::super) fn import_affine(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    check(cx, 1, 1)?;
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    let beta = cx.float("beta")?.unwrap_or(0.0);
    let x = cx.input(0)?;
    let y = times(cx, x, alpha)?;
    let beta = cx.scalar_like(x, beta)?;
    let y = cx.binary(BinaryFn::Add, y, beta)?;
    cx.done(y)
}

pub(in super::super) fn import_scale(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    check(cx, 1, 1)?;
    let scale = cx.float("scale")?.unwrap_or(1.0);
    let x = cx.input(0)?;
    let y = times(cx, x, scale)?;
    cx.done(y)
}

pub(in super::super) fn import_scaled_tanh(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    curved(cx, UnaryFn::Tanh)
}

pub(in super::super) fn import_softplus(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    curved(cx, UnaryFn::Softplus)
}

/// alpha·f(beta·x)
fn curved(cx: &mut NodeCx<'_>, f: UnaryFn) -> Result<Outputs, Reason> {
    check(cx, 1, 1)?;
    let (alpha, beta) = (attribute(cx, "alpha")?, attribute(cx, "beta")?);
    let x = cx.input(0)?;
    let y = times(cx, x, beta)?;
    let y = cx.unary(f, y)?;
    let y = times(cx, y, alpha)?;
    cx.done(y)
}

/// x [n, c, h, w]
pub(in super::super) fn import_image_scaler(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    check(cx, 1, 1)?;
    let scale = cx.float("scale")?.unwrap_or(1.0);
    let bias = cx.floats("bias")?.unwrap_or_default();
    let x = image(cx)?;
    let channels = cx.fact(x).shape().and_then(|s| s[1].size());
    if channels.is_some_and(|c| c != bias.len()) {
        return Err(invalid!("a bias of {} channels for {}", bias.len(), cx.fact(x)));
    }
    let y = times(cx, x, scale)?;
    let bias = cx.constant(Tensor::from_slice(&[bias.len(), 1, 1], &bias));
    let y = cx.binary(BinaryFn::Add, y, bias)?;
    cx.done(y)
}

/// x [n, c, h, w] without its left, top, right and bottom border; or as high and wide as `scale`
/// says, from the left and top border on.
pub(in super::super) fn import_crop(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    check(cx, 1, 1)?;
    let x = image(cx)?;
    let border = cx.ints("border")?.unwrap_or_default();
    let [left, top, right, bottom] = border[..] else {
        return Err(invalid!("border is {border:?}, not left, top, right and bottom"));
    };
    if border.iter().any(|&n| n < 0) {
        return Err(invalid!("border is {border:?}"));
    }
    let ends = match cx.ints("scale")? {
        None => {
            let size = cx.push1(super::super::Shape { start: 2, end: Some(4) }, &[x])?;
            let off = cx.constant_ints(&[bottom, right]);
            cx.binary(BinaryFn::Sub, size, off)?
        }
        Some(scale) => match scale[..] {
            [high, wide] if high >= 0 && wide >= 0 => {
                cx.constant_ints(&[top.saturating_add(high), left.saturating_add(wide)])
            }
            _ => return Err(invalid!("scale is {scale:?}, not height and width")),
        },
    };
    let (starts, axes) = (cx.constant_ints(&[top, left]), cx.constant_ints(&[2, 3]));
    let y = cx.push1(Slice, &[x, starts, ends, axes])?;
    cx.done(y)
}

fn image(cx: &NodeCx<'_>) -> Result<ValueId, Reason> {
    let x = cx.input(0)?;
    match cx.fact(x).rank() {
        None | Some(4) => Ok(x),
        Some(rank) => Err(invalid!("an image of rank {rank}, not 4")),
    }
}

/// data, starts, ends, axes
pub(in super::super) fn import_dynamic_slice(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    check(cx, 3, 4)?;
    cx.emit(Slice)
}
