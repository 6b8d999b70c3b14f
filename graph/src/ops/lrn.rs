//! LRN: each element divided by the size of its neighbours in the channels around it.
//!
//! y = x / (bias + alpha / size · Σ x²)^beta, the sum over `size` channels around x's
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, invalid, unsupported};

/// x [n, c, …] → y
#[derive(Clone, Debug, PartialEq)]
pub struct Lrn {
    /// Factor of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// What is added to the mean square.
    pub bias: f32,
    /// How many channels are summed over: ⌊(size-1)/2⌋ before and ⌈(size-1)/2⌉ after x's.
    pub size: usize,
}

impl Lrn {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Err(unsupported!("LRN of {dtype} is not supported"));
        }
        if x.rank().is_some_and(|rank| rank < 2) {
            return Err(invalid!("LRN of {x}, which has no channels"));
        }
        if self.size == 0 {
            return Err(invalid!("LRN over 0 channels"));
        }
        one(x.clone().forget())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let alpha = cx.float("alpha")?.unwrap_or(1e-4);
    let beta = cx.float("beta")?.unwrap_or(0.75);
    let bias = cx.float("bias")?.unwrap_or(1.0);
    let size = cx.size("size")?.ok_or_else(|| invalid!("attribute size is missing"))?;
    cx.emit(Lrn { alpha, beta, bias, size })
}
