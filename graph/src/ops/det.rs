//! Det: the determinant of each square matrix.
//!
//! x [.., m, m] → [..]
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Fact, Facts, Reason, invalid, unsupported};

/// x → the determinants of its last two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Det;

impl Det {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Err(unsupported!("Det of {dtype} is not supported"));
        }
        one(match inputs.shape(0)? {
            None => Fact::unranked(dtype),
            Some([.., m, n]) if m.value().is_some() && n.value().is_some() && m != n => {
                return Err(invalid!("the determinant of a {m} x {n} matrix"));
            }
            Some([batch @ .., _, _]) => Fact::new(dtype, batch.into()),
            Some(shape) => return Err(invalid!("Det of a tensor of rank {}", shape.len())),
        })
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.emit(Det)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_must_be_square() {
        let det = |shape: &[usize]| {
            let facts = Det.infer(&Inputs::new(&[Some(&Fact::sized(DType::F32, shape))], 1));
            facts.map_or_else(|e| e.to_string(), |f| f[0].to_string())
        };
        assert_eq!(det(&[5, 2, 2]), "float[5]");
        assert_eq!(det(&[2, 3]), "the determinant of a 2 x 3 matrix");
        assert_eq!(det(&[2]), "Det of a tensor of rank 1");
    }
}
