//! Shape and Size: the sizes of a tensor's axes, and their product, as int64.
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason};

/// The sizes of axes `start..end` (negative counts from the end, out of range is clamped).
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// First axis.
    pub start: i64,
    /// Axis after the last; `None` is all to the end.
    pub end: Option<i64>,
}

impl Shape {
    /// The axes that are meant, for a tensor of this rank.
    pub fn range(&self, rank: usize) -> std::ops::Range<usize> {
        let clamp = |axis: i64| {
            let axis = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
            axis.clamp(0, rank as i64) as usize
        };
        let (start, end) = (clamp(self.start), self.end.map_or(rank, clamp));
        start..end.max(start)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        one(match inputs.shape(0)? {
            Some(shape) => Fact::of_dims(shape[self.range(shape.len())].to_vec(), false),
            None => Fact::ranked(DType::I64, 1),
        })
    }
}

/// The number of elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Size;

impl Size {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let product = |shape: &[Dim]| shape.iter().fold(Dim::N(1), |n, d| n.mul(d));
        one(match inputs.shape(0)?.map(product) {
            Some(n) if n != Dim::Unknown => Fact::of_dims(vec![n], true),
            _ => Fact::ranked(DType::I64, 0),
        })
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let (start, end) = (cx.int("start")?.unwrap_or(0), cx.int("end")?);
    cx.emit(Shape { start, end })
}

pub(super) fn import_size(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.emit(Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_axes_are_clamped() {
        assert_eq!(Shape { start: -10, end: Some(10) }.range(3), 0..3);
        assert_eq!(Shape { start: 2, end: Some(1) }.range(3), 2..2);
        assert_eq!(Shape { start: -1, end: None }.range(3), 2..3);
    }
}
