//! ReverseSequence: the first elements of each sequence in a batch, backwards.
//!
//! y[t, b, …] = x[len(b) - 1 - t, b, …] for t < len(b), x[t, b, …] for the others
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, invalid};

/// x [.., time, .., batch, ..], sequence_lens: int64 [batch] → y
#[derive(Clone, Debug, PartialEq)]
pub struct ReverseSequence {
    /// The axis of the sequences in the batch.
    pub batch_axis: Axis,
    /// The axis that is reversed.
    pub time_axis: Axis,
}

impl ReverseSequence {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, lens) = (inputs.get(0)?, inputs.get(1)?);
        inputs.check_rank(1, 1)?;
        if lens.dtype()? != DType::I64 {
            return Err(invalid!("sequence_lens of type {} where int64 is needed", lens.dtype()?));
        }
        if let Some(shape) = x.shape() {
            let batch = self.batch_axis.resolve(shape.len())?;
            if batch == self.time_axis.resolve(shape.len())? {
                return Err(invalid!("axis {batch} is both time and batch"));
            }
            if let Some([n]) = lens.shape()
                && n.value().zip(shape[batch].value()).is_some_and(|(a, b)| a != b)
            {
                return Err(invalid!("{n} lengths for a batch of {}", shape[batch]));
            }
        }
        one(x.clone().forget())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let batch_axis = Axis(cx.int("batch_axis")?.unwrap_or(1));
    let time_axis = Axis(cx.int("time_axis")?.unwrap_or(0));
    cx.emit(ReverseSequence { batch_axis, time_axis })
}
