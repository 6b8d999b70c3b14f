//! CropAndResize: boxes of images, each stretched to one size, corner on corner.
//!
//! x [n, c, h, w], boxes [r, 4] (y1, x1, y2, x2, 0 and 1 are the centres of the corner pixels),
//! batch_indices int32 [r], crop_size int32 [2]  →  [r, c, crop_size..]

use super::window::check_float;
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// What each place of the output takes from its box.
#[derive(Clone, Debug, PartialEq)]
pub struct CropAndResize {
    /// Whether it is the nearest pixel, not a mean of the four around.
    pub nearest: bool,
    /// What stands outside of the image.
    pub outside: f32,
}

impl CropAndResize {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        check_float("CropAndResize", dtype)?;
        inputs.same_dtype(0, 1)?;
        for (i, rank) in [(0, 4), (1, 2), (2, 1), (3, 1)] {
            inputs.check_rank(i, rank)?;
            if i > 1 && inputs.dtype(i)? != DType::I32 {
                return Err(invalid!("input {i} is {}, not int32", inputs.dtype(i)?));
            }
        }
        if let Some([rows, cols]) = inputs.shape(1)? {
            let indices = inputs.shape(2)?.map_or(Dim::Unknown, |s| s[0].clone());
            let differ = rows.value().zip(indices.value()).is_some_and(|(a, b)| a != b);
            if differ || cols.value().is_some_and(|n| n != 4) {
                return Err(invalid!("boxes [{rows}, {cols}] for {indices} indices"));
            }
        }
        let size = match inputs.get(3)?.ints().as_deref() {
            None => [Dim::Unknown, Dim::Unknown],
            Some(&[h, w]) if h > 0 && w > 0 => [Dim::N(h), Dim::N(w)],
            Some(other) => return Err(invalid!("crop_size is {other:?}")),
        };
        let count = inputs.shape(2)?.map_or(Dim::Unknown, |s| s[0].clone());
        let channels = inputs.shape(0)?.map_or(Dim::Unknown, |s| s[1].clone());
        one(Fact::new(dtype, [count, channels].into_iter().chain(size).collect()))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(4, 4)?;
    let nearest = match cx.string("mode")?.unwrap_or("bilinear") {
        "bilinear" => false,
        "nearest" => true,
        other => return Err(invalid!("mode {other:?} of CropAndResize")),
    };
    let outside = cx.float("extrapolation_value")?.unwrap_or(0.0);
    cx.emit(CropAndResize { nearest, outside })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn every_box_has_the_wanted_size() {
        let x = Fact::sized(DType::F32, &[2, 3, 8, 9]);
        let boxes = Fact::new(DType::F32, [Dim::symbol("r"), 4.into()].into_iter().collect());
        let indices = Fact::new(DType::I32, [Dim::symbol("r")].into_iter().collect());
        let size = Fact::constant(Tensor::vector(&[5i32, 6]));
        let op = CropAndResize { nearest: false, outside: 0.0 };
        let inputs = [Some(&x), Some(&boxes), Some(&indices), Some(&size)];
        assert_eq!(op.infer(&Inputs::new(&inputs, 1)).unwrap()[0].to_string(), "float[r, 3, 5, 6]");
    }
}
