//! Compress and NonZero: what a condition selects, and where it holds.
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// x, condition: bool [n] → the slices along `axis` whose condition is true. A condition shorter
/// than the axis is false beyond its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Compress {
    /// The axis; `None` takes elements of the flattened input.
    pub axis: Option<Axis>,
}

impl Compress {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, condition) = (inputs.get(0)?, inputs.get(1)?);
        inputs.check_rank(1, 1)?;
        if condition.dtype()? != DType::Bool {
            return Err(invalid!("a condition of type {}", condition.dtype()?));
        }
        one(match (self.axis, x.shape()) {
            (None, _) => Fact::ranked(x.dtype()?, 1),
            (Some(_), None) => Fact::unranked(x.dtype()?),
            (Some(axis), Some(shape)) => {
                let mut out: Shape = shape.into();
                out[axis.resolve(shape.len())?] = Dim::Unknown;
                Fact::new(x.dtype()?, out)
            }
        })
    }
}

/// x [d..] → int64 [rank, count]: the index of every element that is not zero, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct NonZero;

impl NonZero {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let rank = inputs.shape(0)?.map_or(Dim::Unknown, |shape| Dim::from(shape.len()));
        one(Fact::new(DType::I64, [rank, Dim::Unknown].into_iter().collect()))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let axis = cx.int("axis")?.map(Axis);
    cx.emit(Compress { axis })
}

pub(super) fn import_non_zero(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.emit(NonZero)
}
