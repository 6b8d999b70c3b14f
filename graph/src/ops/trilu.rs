//! Trilu: the upper or lower triangle of matrices, zeros elsewhere.
//!
//! y[.., i, j] = x[.., i, j] where j ≥ i + k (upper) or j ≤ i + k (lower)
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, invalid};

/// x [.., m, n], k: int64 scalar (optional, 0) → [.., m, n]
#[derive(Clone, Debug, PartialEq)]
pub struct Trilu {
    /// Whether the upper triangle is kept; the lower one otherwise.
    pub upper: bool,
}

impl Trilu {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        if let Some(rank) = x.rank().filter(|&rank| rank < 2) {
            return Err(invalid!("rank {rank} where at least 2 is needed"));
        }
        if let Some(k) = inputs.opt(1)
            && k.dtype()? != DType::I64
        {
            return Err(invalid!("k of type {} where int64 is needed", k.dtype()?));
        }
        one(x.clone().forget())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 2)?;
    let upper = cx.flag("upper", true)?;
    cx.emit(Trilu { upper })
}
