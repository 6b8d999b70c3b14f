//! EyeLike: ones on a diagonal, zeros elsewhere.
//!
//! y[i, j] = 1 where j = i + k
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Fact, Facts, Reason};

/// x [m, n] → [m, n]; only the shape of x matters.
#[derive(Clone, Debug, PartialEq)]
pub struct EyeLike {
    /// The output's dtype; `None` is the input's.
    pub dtype: Option<DType>,
    /// The diagonal: 0 is the main one, above it if positive.
    pub k: i64,
}

impl EyeLike {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        inputs.check_rank(0, 2)?;
        let dtype = self.dtype.map_or_else(|| inputs.dtype(0), Ok)?;
        one(match inputs.shape(0)? {
            Some(shape) => Fact::new(dtype, shape.into()),
            None => Fact::ranked(dtype, 2),
        })
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let (dtype, k) = (cx.dtype_attr("dtype")?, cx.int("k")?.unwrap_or(0));
    cx.emit(EyeLike { dtype, k })
}
