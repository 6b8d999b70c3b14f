//! MeanVarianceNormalization: y = (x - mean) / (√var + 1e-9), mean and var over `axes`.
//!
//! A composition of Reduce and arithmetic, as ONNX's own function of that name; in f32 where x is
//! of 16 bits, which would lose its variance.
use super::{Binary, BinaryFn, Reduce, ReduceKind, Unary, UnaryFn};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason};

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let axes = cx.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let (x, axes) = (cx.input(0)?, cx.constant_ints(&axes));
    let dtype = cx.dtype(x)?;
    let x = match dtype {
        DType::F16 | DType::BF16 => cx.cast(x, DType::F32)?,
        _ => x,
    };
    let mean = Reduce { kind: ReduceKind::Mean, keepdims: true, noop_with_empty_axes: false };
    let centre = cx.push1(mean.clone(), &[x, axes])?;
    let centred = cx.push1(Binary(BinaryFn::Sub), &[x, centre])?;
    let squares = cx.push1(Binary(BinaryFn::Mul), &[centred, centred])?;
    let var = cx.push1(mean, &[squares, axes])?;
    let deviation = cx.push1(Unary(UnaryFn::Sqrt), &[var])?;
    let epsilon = cx.scalar_like(x, 1e-9)?;
    let deviation = cx.push1(Binary(BinaryFn::Add), &[deviation, epsilon])?;
    let y = cx.push1(Binary(BinaryFn::Div), &[centred, deviation])?;
    let y = cx.cast(y, dtype)?;
    cx.done(y)
}
