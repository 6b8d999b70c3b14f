//! QuantizeRows: codes of 8 bits with a scale for each row, found in the run. Passes make it; ONNX
//! has no such operator.
//!
//! scale = max(max|x|, least) / levels over the last axis
//! codes = saturate(round(x / scale) + zero), uint8
//!
//! x [.., k] → codes [.., k], scale [.., 1]

use super::Inputs;
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Input x; outputs codes and scale.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeRows {
    /// What stands for the largest number of a row, in units of the scale.
    pub levels: f32,
    /// What a row of zeros is measured by.
    pub least: f32,
    /// The code of 0.
    pub zero: u8,
}

impl QuantizeRows {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        if x.dtype()? != DType::F32 {
            return Err(unsupported!("rows of {} in codes", x.ty));
        }
        let scale = match x.shape() {
            None => Fact::unranked(DType::F32),
            Some([]) => return Err(invalid!("a scalar has no rows")),
            Some([rows @ .., _]) => {
                Fact::new(DType::F32, rows.iter().cloned().chain([Dim::N(1)]).collect())
            }
        };
        let codes = Fact { shape: x.shape.clone(), ..Fact::unranked(DType::U8) };
        Ok([codes, scale].into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_one_scale() {
        let op = QuantizeRows { levels: 127.0, least: 1e-30, zero: 128 };
        let infer = |x: &Fact| {
            let all = [Some(x)];
            op.infer(&Inputs::new(&all, 2))
        };
        let facts = infer(&Fact::sized(DType::F32, &[2, 5, 8])).unwrap();
        assert_eq!(facts[0].to_string(), "uint8[2, 5, 8]");
        assert_eq!(facts[1].to_string(), "float[2, 5, 1]");
        assert!(infer(&Fact::sized(DType::F32, &[])).is_err());
        assert!(infer(&Fact::sized(DType::F16, &[2])).is_err());
    }
}
