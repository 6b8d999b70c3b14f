//! LpNormalization: y = x / ‖x‖ₚ along an axis, 0 where the norm is 0.
//!
//! A composition: Div(x, Where(norm = 0, 1, norm)), the norm a Reduce.
use super::{Binary, BinaryFn, Reduce, ReduceKind, Where};
use crate::onnx::{NodeCx, Outputs};
use crate::{Reason, invalid};

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let kind = match cx.int("p")?.unwrap_or(2) {
        1 => ReduceKind::L1,
        2 => ReduceKind::L2,
        p => return Err(invalid!("p is {p}, not 1 or 2")),
    };
    let axis = cx.int("axis")?.unwrap_or(-1);
    let (x, axes) = (cx.input(0)?, cx.constant_ints(&[axis]));
    let op = Reduce { kind, keepdims: true, noop_with_empty_axes: false };
    let norm = cx.push1(op, &[x, axes])?;
    let (zero, one) = (cx.scalar_like(x, 0.0)?, cx.scalar_like(x, 1.0)?);
    let is_zero = cx.push1(Binary(BinaryFn::Equal), &[norm, zero])?;
    let norm = cx.push1(Where, &[is_zero, one, norm])?;
    let y = cx.push1(Binary(BinaryFn::Div), &[x, norm])?;
    cx.done(y)
}
