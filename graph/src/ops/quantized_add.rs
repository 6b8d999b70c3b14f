//! QuantizedAdd: the sum of two tensors in codes, as codes. Passes make it; ONNX has no such
//! operator.
//!
//! y = saturate(round(activation((a - a_zero)·a_scale + (b - b_zero)·b_scale) / y_scale) + y_zero)
//!
//! a, b and y have one shape and 8 bits; each scale and zero point is one number.

use super::epilogue::Activation;
use super::{Inputs, one};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Inputs a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero; a_zero and b_zero may be
/// omitted.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedAdd {
    /// What follows the sum.
    pub activation: Option<Activation>,
}

impl QuantizedAdd {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        for i in [0, 3, 7] {
            let dtype = inputs.dtype(i)?;
            if !matches!(dtype, DType::I8 | DType::U8) {
                return Err(unsupported!("a sum of codes of {dtype} is not supported"));
            }
        }
        for i in [0, 3] {
            inputs.same_dtype(i, i + 2)?;
        }
        for i in [1, 4, 6] {
            if inputs.dtype(i)? != DType::F32 {
                return Err(invalid!("input {i} is {} where float is needed", inputs.get(i)?.ty));
            }
        }
        for i in [1, 2, 4, 5, 6, 7] {
            if let Some(len) = inputs.opt(i).and_then(Fact::len).filter(|&len| len != 1) {
                return Err(invalid!("input {i} has {len} elements, not one"));
            }
        }
        if let (Some(a), Some(b)) = (inputs.shape(0)?, inputs.shape(3)?)
            && (a.len() != b.len() || a.iter().zip(b).any(|(a, b)| differ(a, b)))
        {
            return Err(unsupported!("a sum of codes of two shapes"));
        }
        let shape = inputs.get(0)?.shape.clone().or_else(|| inputs.get(3).ok()?.shape.clone());
        one(Fact { shape, ..Fact::unranked(inputs.dtype(7)?) })
    }
}

fn differ(a: &Dim, b: &Dim) -> bool {
    matches!((a.value(), b.value()), (Some(a), Some(b)) if a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_have_one_shape() {
        let (a, c) = (Fact::sized(DType::U8, &[2, 3]), Fact::sized(DType::U8, &[1, 3]));
        let (scale, zero) = (Fact::sized(DType::F32, &[]), Fact::sized(DType::I8, &[]));
        let infer = |b: &Fact| {
            let all = [Some(&a), Some(&scale), None, Some(b), Some(&scale), None];
            let rest = [Some(&scale), Some(&zero)];
            let op = QuantizedAdd { activation: Some(Activation::Relu) };
            op.infer(&Inputs::new(&[&all[..], &rest].concat(), 1)).map(|f| f[0].to_string())
        };
        assert_eq!(infer(&a).unwrap(), "int8[2, 3]");
        assert!(infer(&c).is_err());
    }
}
