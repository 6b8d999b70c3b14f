//! OneHot: a new axis that holds `on` at the index and `off` elsewhere.
//!
//! indices [a.., b..], depth, values [off, on] → [a.., depth, b..]
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{Dim, Fact, Facts, Reason, invalid};

/// Indices outside -depth..depth make a row of `off`.
#[derive(Clone, Debug, PartialEq)]
pub struct OneHot {
    /// The position of the new axis in the output.
    pub axis: Axis,
}

impl OneHot {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (indices, depth, values) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let dtype = values.dtype()?;
        inputs.check_rank(2, 1)?;
        if values.shape().is_some_and(|s| s[0].value().is_some_and(|n| n != 2)) {
            return Err(invalid!("values of {values} where two elements are needed"));
        }
        let Some(shape) = indices.shape() else { return one(Fact::unranked(dtype)) };
        let axis = self.axis.resolve(shape.len() + 1)?;
        let size = match depth.dims() {
            Some(dims) if dims.len() == 1 => dims[0].clone(),
            Some(dims) => return Err(invalid!("depth has {} elements", dims.len())),
            None => match depth.tensor() {
                Some(t) => Dim::N(super::range::number(t)? as i64),
                None => Dim::Unknown,
            },
        };
        let mut out: crate::shape::Shape = shape.into();
        out.insert(axis, size);
        one(Fact::new(dtype, out))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(-1));
    cx.emit(OneHot { axis })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tensor};

    #[test]
    fn the_new_axis_has_size_depth() {
        let indices = Fact::sized(DType::F32, &[2, 3]);
        let values = Fact::sized(DType::I32, &[2]);
        for depth in [Tensor::vector(&[10f32]), Tensor::scalar(10u64), Tensor::scalar(10i8)] {
            let depth = Fact::constant(depth);
            let inputs = [Some(&indices), Some(&depth), Some(&values)];
            let out = OneHot { axis: Axis(-2) }.infer(&Inputs::new(&inputs, 1)).unwrap();
            assert_eq!(out[0].to_string(), "int32[2, 10, 3]");
        }
    }
}
