//! What looks at places in pictures: grids, regions, deformed windows, pictures themselves.

use super::conv::grouped;
use super::node::{NodeOut, flag, float, int, ints, sizes, string};
use crate::Reason;
use crate::ops::{
    AffineGrid, DeformConv, GridMode, GridPadding, GridSample, ImageDecoder, MaxRoiPool, MaxUnpool,
    PixelFormat, RoiAlign,
};

pub(super) fn grid_sample(op: &GridSample, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mode = match op.mode {
        GridMode::Nearest => "nearest",
        GridMode::Linear => "linear",
        GridMode::Cubic => "cubic",
    };
    let padding = match op.padding {
        GridPadding::Zeros => "zeros",
        GridPadding::Border => "border",
        GridPadding::Reflection => "reflection",
    };
    let attrs = vec![string("mode", mode), string("padding_mode", padding)];
    out.plain("GridSample", [attrs, vec![flag("align_corners", op.align_corners)]].concat())
}

pub(super) fn affine_grid(op: &AffineGrid, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("AffineGrid", vec![flag("align_corners", op.align_corners)])
}

pub(super) fn roi_align(op: &RoiAlign, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let transformation = if op.half_pixel { "half_pixel" } else { "output_half_pixel" };
    let attrs = vec![
        string("mode", if op.max { "max" } else { "avg" }),
        string("coordinate_transformation_mode", transformation),
        int("output_height", op.height as i64),
        int("output_width", op.width as i64),
        int("sampling_ratio", op.sampling_ratio as i64),
        float("spatial_scale", op.spatial_scale),
    ];
    out.plain("RoiAlign", attrs)
}

pub(super) fn max_roi_pool(op: &MaxRoiPool, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let shape = ints("pooled_shape", &[op.height as i64, op.width as i64]);
    out.plain("MaxRoiPool", vec![shape, float("spatial_scale", op.spatial_scale)])
}

pub(super) fn deform_conv(op: &DeformConv, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = grouped(&op.window, op.group);
    attrs.push(int("offset_group", op.offset_group as i64));
    out.plain("DeformConv", attrs)
}

pub(super) fn max_unpool(op: &MaxUnpool, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let lists = [("kernel_shape", &op.kernel), ("strides", &op.strides), ("pads", &op.pads)];
    let given = lists.iter().filter(|(_, list)| !list.is_empty());
    out.plain("MaxUnpool", given.map(|(name, list)| sizes(name, list)).collect())
}

pub(super) fn image_decoder(op: &ImageDecoder, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let format = match op.format {
        PixelFormat::Rgb => "RGB",
        PixelFormat::Bgr => "BGR",
        PixelFormat::Grayscale => "Grayscale",
    };
    out.plain("ImageDecoder", vec![string("pixel_format", format)])
}
