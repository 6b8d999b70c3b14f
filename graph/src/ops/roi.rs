//! RoiAlign and MaxRoiPool: regions of images pooled to one size.
//!
//! x [n, c, h, w], rois [r, 4 or 5]  →  [r, c, height, width]

use super::window::check_float;
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// x, rois [r, 4] (x1, y1, x2, y2), batch_indices int64 [r]: bilinear samples of each bin, averaged
/// or their largest.
#[derive(Clone, Debug, PartialEq)]
pub struct RoiAlign {
    /// Whether a bin is its largest weighted sample, not the mean of all.
    pub max: bool,
    /// Whether regions are shifted by half a pixel, and may be smaller than one.
    pub half_pixel: bool,
    /// Rows of the output.
    pub height: usize,
    /// Columns of the output.
    pub width: usize,
    /// Samples along each side of a bin; 0 is as many as it has pixels.
    pub sampling_ratio: usize,
    /// Pixels of x for one of the units in which regions are given.
    pub spatial_scale: f32,
}

impl RoiAlign {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        check_float("RoiAlign", dtype)?;
        inputs.same_dtype(0, 1)?;
        if inputs.dtype(2)? != DType::I64 {
            return Err(invalid!("batch indices are {}, not int64", inputs.get(2)?.ty));
        }
        inputs.check_rank(2, 1)?;
        let indices = inputs.shape(2)?.map_or(Dim::Unknown, |s| s[0].clone());
        regions(inputs, 4, Some(indices), self.height, self.width)
    }
}

/// x, rois [r, 5] (image, x1, y1, x2, y2): the largest pixel of each bin.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxRoiPool {
    /// Rows of the output.
    pub height: usize,
    /// Columns of the output.
    pub width: usize,
    /// Pixels of x for one of the units in which regions are given.
    pub spatial_scale: f32,
}

impl MaxRoiPool {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        check_float("MaxRoiPool", inputs.dtype(0)?)?;
        inputs.same_dtype(0, 1)?;
        regions(inputs, 5, None, self.height, self.width)
    }
}

fn regions(
    inputs: &Inputs<'_>,
    columns: i64,
    indices: Option<Dim>,
    height: usize,
    width: usize,
) -> Result<Facts, Reason> {
    if height == 0 || width == 0 {
        return Err(invalid!("regions pooled to {height} x {width}"));
    }
    inputs.check_rank(0, 4)?;
    inputs.check_rank(1, 2)?;
    let channels = inputs.shape(0)?.map_or(Dim::Unknown, |s| s[1].clone());
    let mut count = Dim::Unknown;
    if let Some([rows, cols]) = inputs.shape(1)? {
        if cols.value().is_some_and(|n| n != columns) {
            return Err(invalid!("regions of {cols} numbers where {columns} are needed"));
        }
        count = rows.clone();
    }
    if let Some(indices) = indices {
        match (count.value(), indices.value()) {
            (Some(a), Some(b)) if a != b => {
                return Err(invalid!("{b} batch indices for {a} regions"));
            }
            (None, Some(_)) => count = indices,
            _ => {}
        }
    }
    let shape = [count, channels, height.into(), width.into()].into_iter().collect();
    one(Fact::new(inputs.dtype(0)?, shape))
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let default = if cx.version < 16 { "output_half_pixel" } else { "half_pixel" };
    let op = RoiAlign {
        max: match cx.string("mode")?.unwrap_or("avg") {
            "avg" => false,
            "max" => true,
            other => return Err(invalid!("mode {other:?} of RoiAlign")),
        },
        half_pixel: match cx.string("coordinate_transformation_mode")?.unwrap_or(default) {
            "half_pixel" => true,
            "output_half_pixel" => false,
            other => return Err(invalid!("coordinate_transformation_mode {other:?}")),
        },
        height: cx.size("output_height")?.unwrap_or(1),
        width: cx.size("output_width")?.unwrap_or(1),
        sampling_ratio: cx.size("sampling_ratio")?.unwrap_or(0),
        spatial_scale: cx.float("spatial_scale")?.unwrap_or(1.0),
    };
    cx.emit(op)
}

pub(super) fn import_max(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let shape = super::window::per_axis(cx, "pooled_shape")?;
    let [height, width] = shape[..] else {
        return Err(invalid!("pooled_shape {shape:?}, which has not two numbers"));
    };
    let spatial_scale = cx.float("spatial_scale")?.unwrap_or(1.0);
    cx.emit(MaxRoiPool { height, width, spatial_scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_output_per_region() {
        let x = Fact::sized(DType::F32, &[2, 8, 20, 30]);
        let rois = Fact::new(DType::F32, [Dim::symbol("r"), 4.into()].into_iter().collect());
        let indices = Fact::new(DType::I64, [Dim::symbol("r")].into_iter().collect());
        let op = RoiAlign {
            max: false,
            half_pixel: true,
            height: 7,
            width: 5,
            sampling_ratio: 2,
            spatial_scale: 0.25,
        };
        let out = op.infer(&Inputs::new(&[Some(&x), Some(&rois), Some(&indices)], 1)).unwrap();
        assert_eq!(out[0].to_string(), "float[r, 8, 7, 5]");
        let pool = MaxRoiPool { height: 7, width: 5, spatial_scale: 1.0 };
        assert!(pool.infer(&Inputs::new(&[Some(&x), Some(&rois)], 1)).is_err());
    }
}
