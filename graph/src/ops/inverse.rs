//! Inverse: the inverse of each square matrix.
//!
//! x [.., m, m] → [.., m, m]
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, invalid, unsupported};

/// x → the inverses of its last two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Inverse;

impl Inverse {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        if !matches!(x.dtype()?, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Err(unsupported!("Inverse of {} is not supported", x.ty));
        }
        match x.shape() {
            Some([.., m, n]) if m.value().is_some() && n.value().is_some() && m != n => {
                Err(invalid!("the inverse of a {m} x {n} matrix"))
            }
            Some([_]) | Some([]) => Err(invalid!("Inverse of a tensor of rank below 2")),
            _ => one(x.clone().forget()),
        }
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.emit(Inverse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fact;

    #[test]
    fn matrices_must_be_square() {
        let infer = |shape: &[usize]| {
            let facts = Inverse.infer(&Inputs::new(&[Some(&Fact::sized(DType::F32, shape))], 1));
            facts.map_or_else(|e| e.to_string(), |f| f[0].to_string())
        };
        assert_eq!(infer(&[5, 2, 2]), "float[5, 2, 2]");
        assert_eq!(infer(&[2, 3]), "the inverse of a 2 x 3 matrix");
    }
}
