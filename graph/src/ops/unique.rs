//! Unique: each element, or each slice along an axis, once.
use smallvec::smallvec;

use super::{Axis, Inputs};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason};

/// x → y, index of each first occurrence [k], index into y of each of x [n], counts [k].
#[derive(Clone, Debug, PartialEq)]
pub struct Unique {
    /// The axis whose slices are compared; `None` compares elements of the flattened input.
    pub axis: Option<Axis>,
    /// Whether y is in ascending order; otherwise in the order of first occurrence.
    pub sorted: bool,
}

impl Unique {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        let (y, n) = match (self.axis, x.shape()) {
            (None, shape) => {
                let fold = |s: &[Dim]| s.iter().fold(Dim::N(1), |n, d| n.mul(d));
                (Fact::ranked(dtype, 1), shape.map_or(Dim::Unknown, fold))
            }
            (Some(_), None) => (Fact::unranked(dtype), Dim::Unknown),
            (Some(axis), Some(shape)) => {
                let axis = axis.resolve(shape.len())?;
                let mut out: Shape = shape.into();
                let n = std::mem::replace(&mut out[axis], Dim::Unknown);
                (Fact::new(dtype, out), n)
            }
        };
        let vector = |n: Dim| Fact::new(DType::I64, [n].into_iter().collect());
        Ok(smallvec![y, vector(Dim::Unknown), vector(n), vector(Dim::Unknown)])
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let (axis, sorted) = (cx.int("axis")?.map(Axis), cx.flag("sorted", true)?);
    cx.emit(Unique { axis, sorted })
}
