//! Identity: the input, whatever its type.
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{Facts, Reason};

/// y = x
#[derive(Clone, Debug, PartialEq)]
pub struct Identity;

impl Identity {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        one(inputs.get(0)?.clone())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.emit(Identity)
}
