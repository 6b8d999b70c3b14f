//! Operators that move elements, as com.microsoft spells them: ExpandDims, GatherND, GridSample,
//! Pad, Range, Unique, UnfoldTensor.

use super::super::pad::{Pad, PadMode};
use super::super::{Axis, BinaryFn, Gather, GatherND, Range, Unique, Unsqueeze, grid_sample};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, invalid, unsupported};

/// x, axis (int32) → x with an axis of size 1
pub(in super::super) fn import_expand_dims(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (x, axis) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.cast(axis, DType::I64)?;
    let axis = cx.reshape(axis, &[1])?;
    let y = cx.push1(Unsqueeze, &[x, axis])?;
    cx.done(y)
}

pub(in super::super) fn import_gather_nd(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let indices = cx.cast(indices, DType::I64)?;
    let y = cx.push1(GatherND { batch_dims: 0 }, &[x, indices])?;
    cx.done(y)
}

/// Cubic samples beyond the border are refused: ONNX Runtime moves the place itself to the border,
/// ONNX (and PyTorch) each of the pixels around it.
pub(in super::super) fn import_grid_sample(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    if cx.string("mode")? == Some("bicubic") && cx.string("padding_mode")? == Some("border") {
        return Err(unsupported!("GridSample with bicubic samples and padding by the border"));
    }
    grid_sample::import(cx)
}

/// x, pads [2·rank] or [1, 2·rank], value [] or [1]
pub(in super::super) fn import_pad(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let mode = match cx.string("mode")?.unwrap_or("constant") {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        mode => return Err(invalid!("mode {mode:?} of Pad")),
    };
    let (x, pads) = (cx.input(0)?, cx.input(1)?);
    let pads = cx.reshape(pads, &[-1])?;
    let value = cx.opt_input(2).map(|value| cx.reshape(value, &[])).transpose()?;
    cx.push_n(Pad { mode }, &[Some(x), Some(pads), value], 1)
}

/// start, limit, delta (1 if omitted), each [] or [1]
pub(in super::super) fn import_range(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let (start, limit) = (cx.input(0)?, cx.input(1)?);
    let delta = match cx.opt_input(2) {
        Some(delta) => delta,
        None => {
            let one = cx.constant(crate::Tensor::scalar(1i64));
            let dtype = cx.dtype(start)?;
            cx.cast(one, dtype)?
        }
    };
    let mut inputs = [start, limit, delta];
    for v in &mut inputs {
        if cx.fact(*v).rank() != Some(0) {
            *v = cx.reshape(*v, &[])?;
        }
    }
    let y = cx.push1(Range, &inputs)?;
    cx.done(y)
}

/// x [n] → its elements once, as they first occur; where each of x stands among them; how often
pub(in super::super) fn import_unique(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let x = cx.input(0)?;
    if let Some(rank) = cx.fact(x).rank().filter(|&rank| rank != 1) {
        return Err(invalid!("Unique of an input of rank {rank} where 1 is needed"));
    }
    let made = cx.push_n(Unique { axis: None, sorted: false }, &[Some(x)], 4)?;
    let outputs = [made[0], made[2], made[3]];
    Ok(outputs.into_iter().take(cx.outputs().max(1)).collect())
}

/// x [.., n, ..] → [.., (n - size) / step + 1, .., size]: every window of `size` elements along an
/// axis.
pub(in super::super) fn import_unfold(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let x = cx.input(0)?;
    let axis = Axis(cx.int("dim")?.unwrap_or(-1));
    let size = cx.size("size")?.ok_or_else(|| invalid!("attribute size is missing"))?;
    let step = cx.size("step")?.unwrap_or(1);
    let Some(shape) = cx.fact(x).shape() else {
        return Err(unsupported!("UnfoldTensor of an input of unknown rank"));
    };
    let rank = shape.len();
    let at = axis.resolve(rank)?;
    let known = shape[at].size();
    if step == 0 || size == 0 || known.is_some_and(|n| size > n) {
        return Err(invalid!(
            "windows of {size}, {step} apart, along an axis of size {}",
            shape[at]
        ));
    }
    let size = i64::try_from(size).ok().filter(|&n| n <= 1 << 24);
    let (Some(size), Ok(step)) = (size, i64::try_from(step)) else {
        return Err(unsupported!("windows of more than 2^24 elements"));
    };
    let n = cx.size_of(x, at as i64)?;
    let less = cx.constant_ints(&[size - 1]);
    let end = cx.binary(BinaryFn::Sub, n, less)?;
    let end = cx.squeeze(end, &[0])?;
    let (zero, step) = (cx.constant_int(0), cx.constant_int(step));
    let starts = cx.push1(Range, &[zero, end, step])?;
    let starts = cx.unsqueeze(starts, &[1])?;
    let within: Vec<i64> = (0..size).collect();
    let within = cx.constant_ints(&within);
    let indices = cx.binary(BinaryFn::Add, starts, within)?;
    let y = cx.push1(Gather { axis: Axis(at as i64) }, &[x, indices])?;
    let perm: Vec<usize> = (0..=at).chain(at + 2..=rank).chain([at + 1]).collect();
    let y = cx.transpose(y, &perm)?;
    cx.done(y)
}
