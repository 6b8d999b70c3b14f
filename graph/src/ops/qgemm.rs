//! com.microsoft's products of 8-bit matrices: DynamicQuantizeMatMul, MatMulIntegerToFloat, QGemm,
//! and MatMulInteger16, as compositions around MatMulInteger.
//!
//! y = (a - a_zero)·(b - b_zero) · a_scale·b_scale + bias; QGemm rounds that to codes if it has a
//! y_scale. Scales and zero points of b: one for all or one for each column.

use super::quantize::quantized;
use super::{
    Binary, BinaryFn, Cast, DynamicQuantizeLinear, MatMul, MatMulInteger, Transpose, Unsqueeze,
};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, Tensor, ValueId, invalid, unsupported};

/// Codes, scale and zero point of an operand.
pub(super) struct Codes {
    pub x: ValueId,
    pub scale: ValueId,
    pub zero: Option<ValueId>,
}

/// `(a - a_zero)·(b - b_zero) · a_scale·b_scale + bias`, in float.
pub(super) fn product(
    cx: &mut NodeCx<'_>,
    a: &Codes,
    b: &Codes,
    bias: Option<ValueId>,
) -> Result<ValueId, Reason> {
    let sums = cx.push_n(MatMulInteger, &[Some(a.x), Some(b.x), a.zero, b.zero], 1)?[0];
    let sums = cx.push1(Cast::to(DType::F32), &[sums])?;
    let b_scale = per_column(cx, b)?;
    let scale = cx.push1(Binary(BinaryFn::Mul), &[a.scale, b_scale])?;
    let y = cx.push1(Binary(BinaryFn::Mul), &[sums, scale])?;
    match bias {
        Some(bias) => cx.push1(Binary(BinaryFn::Add), &[y, bias]),
        None => Ok(y),
    }
}

/// The scales of b such that they broadcast over the product: those of a batch of matrices,
/// [.., n], stand for all rows.
fn per_column(cx: &mut NodeCx<'_>, b: &Codes) -> Result<ValueId, Reason> {
    let rank = cx.fact(b.scale).rank();
    match (rank, cx.fact(b.x).rank()) {
        (Some(rank), Some(of)) if rank >= 2 && rank + 1 == of => {
            let axis = cx.constant_ints(&[rank as i64 - 1]);
            cx.push1(Unsqueeze, &[b.scale, axis])
        }
        _ => Ok(b.scale),
    }
}

fn as_f32(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId, Reason> {
    match cx.dtype(x)? {
        DType::F32 => Ok(x),
        _ => cx.push1(Cast::to(DType::F32), &[x]),
    }
}

/// Inputs a (float), b, b_scale, b_zero_point, bias.
pub(super) fn import_dynamic(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 5)?;
    let x = cx.input(0)?;
    let made = cx.push_n(DynamicQuantizeLinear, &[Some(x)], 3)?;
    let a = Codes { x: made[0], scale: made[1], zero: Some(made[2]) };
    let b = Codes { x: cx.input(1)?, scale: cx.input(2)?, zero: cx.opt_input(3) };
    let y = product(cx, &a, &b, cx.opt_input(4))?;
    cx.done(y)
}

/// Inputs a, b, a_scale, b_scale, a_zero_point, b_zero_point, bias.
pub(super) fn import_to_float(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(4, 7)?;
    let dtype = cx.dtype(cx.input(2)?)?;
    if !matches!(dtype, DType::F32 | DType::F16) {
        return Err(unsupported!("MatMulIntegerToFloat with scales of {dtype}"));
    }
    let (a_scale, b_scale) = (cx.input(2)?, cx.input(3)?);
    if cx.fact(a_scale).len().is_some_and(|n| n != 1) {
        return Err(unsupported!("scales of {}, of which only one is allowed", cx.fact(a_scale)));
    }
    let (a_scale, b_scale) = (as_f32(cx, a_scale)?, as_f32(cx, b_scale)?);
    let bias = cx.opt_input(6).map(|bias| as_f32(cx, bias)).transpose()?;
    let a = Codes { x: cx.input(0)?, scale: a_scale, zero: cx.opt_input(4) };
    let b = Codes { x: cx.input(1)?, scale: b_scale, zero: cx.opt_input(5) };
    let y = product(cx, &a, &b, bias)?;
    match dtype {
        DType::F32 => cx.done(y),
        _ => cx.push(Cast::to(dtype), &[Some(y)]),
    }
}

/// Inputs a, a_scale, a_zero_point, b, b_scale, b_zero_point, c (int32), y_scale, y_zero_point.
pub(super) fn import_gemm(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(6, 9)?;
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    let (trans_a, trans_b) = (cx.flag("transA", false)?, cx.flag("transB", false)?);
    let (mut a, mut b) = (cx.input(0)?, cx.input(3)?);
    for (x, trans) in [(&mut a, trans_a), (&mut b, trans_b)] {
        if let Some(rank) = cx.fact(*x).rank()
            && rank != 2
        {
            return Err(invalid!("QGemm of an operand of rank {rank}, where 2 is needed"));
        }
        if trans {
            *x = cx.push1(Transpose::new(&[1, 0]), &[*x])?;
        }
    }
    let dtype = cx.dtype(a)?;
    let zeros = [cx.opt_input(2), cx.opt_input(5)];
    let mut sums = cx.push_n(MatMulInteger, &[Some(a), Some(b), zeros[0], zeros[1]], 1)?[0];
    if let Some(c) = cx.opt_input(6) {
        sums = cx.push1(Binary(BinaryFn::Add), &[sums, c])?;
    }
    let sums = cx.push1(Cast::to(DType::F32), &[sums])?;
    let mut scale = cx.input(1)?;
    if alpha != 1.0 {
        let alpha = cx.constant(Tensor::scalar(alpha));
        scale = cx.push1(Binary(BinaryFn::Mul), &[scale, alpha])?;
    }
    let b_scale = cx.input(4)?;
    scale = cx.push1(Binary(BinaryFn::Mul), &[scale, b_scale])?;
    let Some(y_scale) = cx.opt_input(7) else {
        let y = cx.push1(Binary(BinaryFn::Mul), &[sums, scale])?;
        return cx.done(y);
    };
    // One factor, rounded once: ONNX Runtime's result to the bit.
    scale = cx.push1(Binary(BinaryFn::Div), &[scale, y_scale])?;
    let y = cx.push1(Binary(BinaryFn::Mul), &[sums, scale])?;
    let one = cx.constant(Tensor::scalar(1.0f32));
    let y = quantized(cx, y, one, cx.opt_input(8), dtype)?;
    cx.done(y)
}

/// Products of 16-bit matrices, summed in 32 bits; sums wrap.
pub(super) fn import_16(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let to = match (cx.dtype(a)?, cx.dtype(b)?) {
        (DType::I16 | DType::U16, DType::I16) | (DType::I16, DType::U16) => DType::I32,
        (DType::U16, DType::U16) => DType::U32,
        (a, b) => return Err(invalid!("MatMulInteger16 of {a} and {b}")),
    };
    let (a, b) = (cx.push1(Cast::to(to), &[a])?, cx.push1(Cast::to(to), &[b])?);
    cx.push(MatMul::PLAIN, &[Some(a), Some(b)])
}
