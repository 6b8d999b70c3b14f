//! SwiGLU: y = a · sigmoid(alpha a) · b, a composition of Swish and Mul.

use super::{Binary, BinaryFn, Unary, UnaryFn};
use crate::onnx::{NodeCx, Outputs};
use crate::{Reason, invalid};

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if !cx.fact(a).compatible(cx.fact(b)) {
        return Err(invalid!("inputs {} and {} differ", cx.fact(a), cx.fact(b)));
    }
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    let gate = cx.push1(Unary(UnaryFn::Swish { alpha }), &[a])?;
    cx.push(Binary(BinaryFn::Mul), &[Some(gate), Some(b)])
}
