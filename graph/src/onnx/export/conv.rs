//! Convolutions, pools, Resize.

use super::elementwise::epilogue;
use super::node::{Attrs, NodeOut, flag, float, int, ints, sizes, string};
use crate::ops::{
    AspectRatio, Conv, ConvInteger, ConvTranspose, Coordinates, Interpolation, Padding, Pool,
    PoolKind, QLinearConv, Resize, Rounding, Window,
};
use crate::{Reason, unsupported};

/// The attributes of a window.
fn window(w: &Window) -> Attrs {
    let mut attrs = vec![];
    let lists = [("kernel_shape", &w.kernel), ("strides", &w.strides), ("dilations", &w.dilations)];
    for (name, list) in lists {
        if !list.is_empty() {
            attrs.push(sizes(name, list));
        }
    }
    match &w.padding {
        Padding::Explicit(pads) if pads.is_empty() => {}
        Padding::Explicit(pads) => attrs.push(sizes("pads", pads)),
        Padding::SameUpper => attrs.push(string("auto_pad", "SAME_UPPER")),
        Padding::SameLower => attrs.push(string("auto_pad", "SAME_LOWER")),
        Padding::Valid => attrs.push(string("auto_pad", "VALID")),
    }
    if w.ceil_mode {
        attrs.push(flag("ceil_mode", true));
    }
    attrs
}

pub(super) fn grouped(w: &Window, group: usize) -> Attrs {
    let mut attrs = window(w);
    attrs.push(int("group", group as i64));
    attrs
}

pub(super) fn conv(op: &Conv, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    epilogue(op.activation, out, &[3], |out, y| {
        let inputs = vec![out.input(0)?, out.input(1)?, out.input(2)?];
        let y = y.unwrap_or_else(|| out.graph.shared.name("convolved"));
        out.write("Conv", inputs, vec![y.clone()], grouped(&op.window, op.group))?;
        Ok(y)
    })
}

pub(super) fn conv_integer(op: &ConvInteger, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("ConvInteger", grouped(&op.window, op.group))
}

/// With floats for a result: of codes that are floats again, which is what passes make it from.
pub(super) fn qlinear_conv(op: &QLinearConv, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let attrs = grouped(&op.window, op.group);
    if out.has(6) {
        return out.plain("QLinearConv", attrs);
    }
    let mut at = |i: usize| out.input(i);
    let (x, w) = ([at(0)?, at(1)?, at(2)?], [at(3)?, at(4)?, at(5)?]);
    let channels = || vec![int("axis", 0)];
    let scale = out.step("Mul", &[&x[1], &w[1]], vec![])?;
    let x = out.step("DequantizeLinear", &[&x[0], &x[1], &x[2]], vec![])?;
    let w = out.step("DequantizeLinear", &[&w[0], &w[1], &w[2]], channels())?;
    let mut inputs = vec![x, w];
    if out.has(8) {
        let bias = out.input(8)?;
        inputs.push(out.step("DequantizeLinear", &[&bias, &scale], channels())?);
    }
    out.last("Conv", inputs, attrs)
}

pub(super) fn conv_transpose(op: &ConvTranspose, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = grouped(&op.window, op.group);
    if !op.output_padding.is_empty() {
        attrs.push(sizes("output_padding", &op.output_padding));
    }
    if !op.output_shape.is_empty() {
        attrs.push(sizes("output_shape", &op.output_shape));
    }
    epilogue(op.activation, out, &[3], |out, y| {
        let inputs = vec![out.input(0)?, out.input(1)?, out.input(2)?];
        let y = y.unwrap_or_else(|| out.graph.shared.name("convolved"));
        out.write("ConvTranspose", inputs, vec![y.clone()], attrs)?;
        Ok(y)
    })
}

pub(super) fn pool(op: &Pool, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = op.window.as_ref().map_or(vec![], window);
    let name = match op.kind {
        PoolKind::Max { column_major } => {
            if column_major {
                attrs.push(flag("storage_order", true));
            }
            "MaxPool"
        }
        PoolKind::Average { count_include_pad } => {
            if count_include_pad {
                attrs.push(flag("count_include_pad", true));
            }
            "AveragePool"
        }
        PoolKind::Lp { p } => {
            if p.fract() != 0.0 {
                return Err(unsupported!("a pool of order {p} cannot be written"));
            }
            attrs.push(int("p", p as i64));
            "LpPool"
        }
    };
    match op.window {
        Some(_) => out.plain(name, attrs),
        None => {
            attrs.retain(|a| a.name() == "p");
            out.plain(&format!("Global{name}"), attrs)
        }
    }
}

pub(super) fn resize(op: &Resize, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let coordinates = match op.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::Asymmetric => "asymmetric",
        Coordinates::TfCropAndResize => "tf_crop_and_resize",
        Coordinates::TfHalfPixelForNn => {
            return Err(unsupported!("tf_half_pixel_for_nn is gone from ONNX since opset 13"));
        }
    };
    let mut attrs = vec![string("coordinate_transformation_mode", coordinates)];
    match op.interpolation {
        Interpolation::Nearest(rounding) => {
            attrs.push(string("mode", "nearest"));
            attrs.push(string("nearest_mode", nearest(rounding, out)?));
        }
        Interpolation::Linear => attrs.push(string("mode", "linear")),
        Interpolation::Cubic(a) => {
            attrs.extend([string("mode", "cubic"), float("cubic_coeff_a", a)]);
        }
    }
    let policy = match op.aspect_ratio {
        AspectRatio::Stretch => "stretch",
        AspectRatio::NotLarger => "not_larger",
        AspectRatio::NotSmaller => "not_smaller",
    };
    attrs.push(string("keep_aspect_ratio_policy", policy));
    attrs.push(flag("antialias", op.antialias));
    attrs.push(flag("exclude_outside", op.exclude_outside));
    attrs.push(float("extrapolation_value", op.extrapolation_value));
    attrs.extend(op.axes.as_ref().map(|axes| ints("axes", axes)));
    out.plain("Resize", attrs)
}

fn nearest(rounding: Rounding, out: &NodeOut<'_, '_>) -> Result<&'static str, Reason> {
    Ok(match rounding {
        Rounding::PreferFloor => "round_prefer_floor",
        Rounding::PreferCeil => "round_prefer_ceil",
        Rounding::Floor => "floor",
        Rounding::Ceil => "ceil",
        // What Resize did before opset 11 depends on the scale, for each axis by itself.
        Rounding::Simple => {
            let scales = out.fact(2)?.tensor().filter(|t| t.dtype() == crate::DType::F32);
            let scales = scales.map(|t| t.as_slice::<f32>()).unwrap_or(&[]);
            match scales {
                [_, ..] if scales.iter().all(|&s| s >= 1.0) => "floor",
                [_, ..] if scales.iter().all(|&s| s <= 1.0) => "ceil",
                _ => return Err(unsupported!("rounding of Resize-10 by the scale of each axis")),
            }
        }
    })
}
