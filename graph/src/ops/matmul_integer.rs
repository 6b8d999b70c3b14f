//! MatMulInteger and QLinearMatMul: products of 8-bit matrices.
//!
//! MatMulInteger: y = (a - a_zero)·(b - b_zero) in int32.
//! QLinearMatMul: y = saturate(round((a - a_zero)·(b - b_zero) · a_scale·b_scale / y_scale) + y_zero)
//!
//! Scales and zero points: one for all, or one for each row of a and y ([m] or [.., m, 1]) and each
//! column of b ([n] or [.., 1, n]).

use super::{Inputs, MatMul, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Fact, Facts, Reason, invalid, unsupported};

/// Inputs a, b, a_zero_point, b_zero_point (both optional).
#[derive(Clone, Debug, PartialEq)]
pub struct MatMulInteger;

/// Inputs a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point.
#[derive(Clone, Debug, PartialEq)]
pub struct QLinearMatMul;

/// The product's shape as far as it is known.
fn product(inputs: &Inputs<'_>, a: usize, b: usize, dtype: DType) -> Result<Facts, Reason> {
    match (inputs.shape(a)?, inputs.shape(b)?) {
        (Some(a), Some(b)) => one(Fact::new(dtype, MatMul::PLAIN.resolve(a, b)?)),
        _ => one(Fact::unranked(dtype)),
    }
}

impl MatMulInteger {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        for i in [0, 1] {
            let dtype = inputs.dtype(i)?;
            if !matches!(dtype, DType::I8 | DType::U8) {
                return Err(unsupported!("MatMulInteger of {dtype} is not supported"));
            }
            inputs.same_dtype(i, i + 2)?;
        }
        product(inputs, 0, 1, DType::I32)
    }
}

impl QLinearMatMul {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        use DType::*;
        for (i, zero) in [(0, 2), (3, 5)] {
            inputs.same_dtype(i, zero)?;
        }
        for i in [0, 3, 7] {
            let dtype = inputs.dtype(i)?;
            let float8 = dtype.is_float8() && dtype != F8E8M0;
            if !matches!(dtype, I8 | U8) && !float8 {
                return Err(unsupported!("QLinearMatMul of {dtype} is not supported"));
            }
        }
        for i in [1, 4, 6] {
            let dtype = inputs.dtype(i)?;
            if !matches!(dtype, F32 | F16 | BF16) {
                return Err(invalid!("scales of type {dtype}"));
            }
        }
        product(inputs, 0, 3, inputs.dtype(7)?)
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 4)?;
    cx.emit(MatMulInteger)
}

pub(super) fn import_qlinear(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(8, 8)?;
    cx.emit(QLinearMatMul)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_make_words() {
        let (a, b) = (Fact::sized(DType::U8, &[2, 3]), Fact::sized(DType::I8, &[3, 4]));
        let made = MatMulInteger.infer(&Inputs::new(&[Some(&a), Some(&b)], 1)).unwrap();
        assert_eq!(made[0].to_string(), "int32[2, 4]");
        assert!(MatMulInteger.infer(&Inputs::new(&[Some(&b), Some(&a)], 1)).is_err());
    }
}
