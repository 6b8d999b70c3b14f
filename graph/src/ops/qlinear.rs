//! com.microsoft's QLinear operators: functions of quantized tensors, as compositions.
//!
//! y = quantize(f(dequantize(x), ..)): each operand has its scale and zero point (0 if omitted),
//! and so has the result, which is of the operands' type. Also the layouts with channels last,
//! which become the usual ones between two transpositions.

use super::quantize::{dequantized, quantized};
use super::{
    Axis, Binary, BinaryFn, Concat, Conv, Flatten, Pool, PoolKind, QLinearConv, Reduce, ReduceKind,
    Reshape, Shape, Softmax, SoftmaxKind, Transpose, Unary, UnaryFn, Where, Window, conv, pool,
};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Op, Reason, ValueId, invalid};

/// The float value of the operand whose codes, scale and zero point begin at input `i`.
fn operand(cx: &mut NodeCx<'_>, i: usize) -> Result<ValueId, Reason> {
    let (x, scale, zero) = (cx.input(i)?, cx.input(i + 1)?, cx.opt_input(i + 2));
    dequantized(cx, x, scale, zero)
}

/// `y` as codes of the type of input `like`, scaled as inputs `i` and `i + 1` say.
fn result(cx: &mut NodeCx<'_>, y: ValueId, i: usize, like: usize) -> Result<Outputs, Reason> {
    let codes = codes(cx, y, i, like)?;
    cx.done(codes)
}

fn codes(cx: &mut NodeCx<'_>, y: ValueId, i: usize, like: usize) -> Result<ValueId, Reason> {
    let (scale, zero) = (cx.input(i)?, cx.opt_input(i + 1));
    let dtype = cx.dtype(cx.input(like)?)?;
    quantized(cx, y, scale, zero, dtype)
}

fn byte(cx: &NodeCx<'_>, i: usize) -> Result<(), Reason> {
    match cx.dtype(cx.input(i)?)? {
        DType::U8 | DType::I8 => Ok(()),
        dtype => Err(invalid!("input {i} is {dtype} where int8 or uint8 is needed")),
    }
}

/// QLinearAdd, QLinearMul.
pub(super) fn import_binary(cx: &mut NodeCx<'_>, f: BinaryFn) -> Result<Outputs, Reason> {
    cx.check_inputs(7, 8)?;
    byte(cx, 0)?;
    byte(cx, 3)?;
    let (a, b) = (operand(cx, 0)?, operand(cx, 3)?);
    let y = cx.push1(Binary(f), &[a, b])?;
    result(cx, y, 6, 0)
}

fn unary(cx: &mut NodeCx<'_>, f: UnaryFn) -> Result<Outputs, Reason> {
    cx.check_inputs(4, 5)?;
    byte(cx, 0)?;
    let x = operand(cx, 0)?;
    let y = cx.push1(Unary(f), &[x])?;
    result(cx, y, 3, 0)
}

pub(super) fn import_sigmoid(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    unary(cx, UnaryFn::Sigmoid)
}

pub(super) fn import_leaky_relu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let alpha = cx.float("alpha")?.unwrap_or(0.01);
    unary(cx, UnaryFn::LeakyRelu { alpha })
}

/// Attribute `opset` says which Softmax is meant: up to 12 all axes from `axis` on are one.
pub(super) fn import_softmax(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(4, 5)?;
    byte(cx, 0)?;
    let opset = cx.int("opset")?.ok_or_else(|| invalid!("attribute opset is missing"))?;
    let axis = Axis(cx.int("axis")?.unwrap_or(if opset < 13 { 1 } else { -1 }));
    let kind = SoftmaxKind::Softmax;
    let x = operand(cx, 0)?;
    let y = if opset < 13 {
        let shape = cx.push1(Shape { start: 0, end: None }, &[x])?;
        let rows = cx.push1(Flatten { axis }, &[x])?;
        let y = cx.push1(Softmax { kind, axis: Axis(1) }, &[rows])?;
        cx.push1(Reshape { allowzero: true }, &[y, shape])?
    } else {
        cx.push1(Softmax { kind, axis }, &[x])?
    };
    result(cx, y, 3, 0)
}

/// Inputs y_scale, y_zero_point, then codes, scale and zero point of each tensor.
pub(super) fn import_concat(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let axis = Axis(cx.int("axis")?.ok_or_else(|| invalid!("attribute axis is missing"))?);
    let n = cx.inputs().len();
    if n < 5 || !(n - 2).is_multiple_of(3) {
        return Err(invalid!("{n} inputs, where 2 and 3 for each tensor are needed"));
    }
    let mut parts = Vec::with_capacity((n - 2) / 3);
    for i in (2..n).step_by(3) {
        byte(cx, i)?;
        parts.push(operand(cx, i)?);
    }
    let y = cx.push1(Concat { axis }, &parts)?;
    result(cx, y, 0, 1)
}

/// Inputs condition, then codes, scale and zero point of x and of y, then z's scale and zero point.
pub(super) fn import_where(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(9, 9)?;
    byte(cx, 1)?;
    byte(cx, 4)?;
    let (condition, x, y) = (cx.input(0)?, operand(cx, 1)?, operand(cx, 4)?);
    let z = cx.push1(Where, &[condition, x, y])?;
    result(cx, z, 7, 1)
}

pub(super) fn import_reduce_mean(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(4, 5)?;
    byte(cx, 0)?;
    let keepdims = cx.flag("keepdims", true)?;
    let axes = cx.ints("axes")?.unwrap_or_default();
    let (x, axes) = (operand(cx, 0)?, cx.constant_ints(&axes));
    let op = Reduce { kind: ReduceKind::Mean, keepdims, noop_with_empty_axes: false };
    let y = cx.push1(op, &[x, axes])?;
    result(cx, y, 3, 0)
}

pub(super) fn import_average_pool(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(4, 5)?;
    let count_include_pad = cx.flag("count_include_pad", false)?;
    let window = pool::import_window(cx)?;
    average(cx, Pool { kind: PoolKind::Average { count_include_pad }, window })
}

pub(super) fn import_global_average_pool(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(5, 5)?;
    let kind = PoolKind::Average { count_include_pad: false };
    average(cx, Pool { kind, window: None })
}

fn average(cx: &mut NodeCx<'_>, pool: Pool) -> Result<Outputs, Reason> {
    byte(cx, 0)?;
    let last = cx.flag("channels_last", false)?;
    let mut x = operand(cx, 0)?;
    if last {
        x = channels(cx, x, Channels::First)?;
    }
    let y = cx.push1(pool, &[x])?;
    let mut y = codes(cx, y, 3, 0)?;
    if last {
        y = channels(cx, y, Channels::Last)?;
    }
    cx.done(y)
}

/// Where the axis of channels is to go.
#[derive(Clone, Copy)]
enum Channels {
    First,
    Last,
}

/// `[n, s.., c]` as `[n, c, s..]`, or the other way round.
fn channels(cx: &mut NodeCx<'_>, x: ValueId, to: Channels) -> Result<ValueId, Reason> {
    let rank = cx.fact(x).rank().ok_or_else(|| invalid!("the rank of an image is not known"))?;
    if rank < 3 {
        return Err(invalid!("an image of rank {rank} has no spatial axis"));
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    match to {
        Channels::First => perm[1..].rotate_right(1),
        Channels::Last => perm[1..].rotate_left(1),
    }
    cx.push1(Transpose::new(&perm), &[x])
}

/// The node with its first input and its output transposed.
fn channels_last(cx: &mut NodeCx<'_>, op: impl Into<Op>) -> Result<Outputs, Reason> {
    let mut inputs = cx.inputs().to_vec();
    let x = cx.input(0)?;
    inputs[0] = Some(channels(cx, x, Channels::First)?);
    let y = cx.push_n(op, &inputs, 1)?[0];
    let y = channels(cx, y, Channels::Last)?;
    cx.done(y)
}

pub(super) fn import_conv(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    conv::check_qlinear(cx)?;
    let op = QLinearConv { window: Window::import(cx)?, group: conv::import_group(cx)? };
    match cx.flag("channels_last", false)? {
        true => channels_last(cx, op),
        false => cx.emit(op),
    }
}

pub(super) fn import_nhwc_conv(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let (window, group) = (Window::import(cx)?, conv::import_group(cx)?);
    channels_last(cx, Conv { window, group, activation: None })
}

pub(super) fn import_nhwc_max_pool(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    byte(cx, 0)?;
    let window = pool::import_window(cx)?;
    channels_last(cx, Pool { kind: PoolKind::Max { column_major: false }, window })
}
