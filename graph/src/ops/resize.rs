//! Resize and Upsample: a tensor sampled at other places along some axes.
//!
//! x, roi [2r], scales [r] or sizes [r]  →  y; r is the number of `axes`
//!
//! size = ⌊input · scale⌋; y is interpolated axis by axis.

use smallvec::SmallVec;

use super::{Inputs, one, resolve_axes};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason, Tensor, ValueId, invalid, unsupported};

/// How values between samples are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interpolation {
    /// The nearest sample.
    Nearest(Rounding),
    /// The two nearest samples, weighted by distance.
    Linear,
    /// The four nearest samples, weighted by a cubic with this slope at distance 1.
    Cubic(f32),
}

/// Which sample a place between two belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The nearer; the lower when both are as near.
    PreferFloor,
    /// The nearer; the upper when both are as near.
    PreferCeil,
    /// The lower.
    Floor,
    /// The upper.
    Ceil,
    /// The lower when enlarging, the upper when shrinking: Resize before opset 11.
    Simple,
}

/// Which place of the input an output's index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// (i + ½) / scale - ½
    HalfPixel,
    /// The same, around the centre of the input when the scale is not exact.
    HalfPixelSymmetric,
    /// The same as half_pixel, but 0 where the output has one element.
    PytorchHalfPixel,
    /// i · (input - 1) / (output - 1)
    AlignCorners,
    /// i / scale
    Asymmetric,
    /// Between the ends of the region of interest.
    TfCropAndResize,
    /// (i + ½) / scale
    TfHalfPixelForNn,
}

/// What becomes of sizes that would change the aspect ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AspectRatio {
    /// It changes.
    Stretch,
    /// No axis becomes larger than asked for.
    NotLarger,
    /// No axis becomes smaller than asked for.
    NotSmaller,
}

/// x, roi, scales, sizes → x sampled anew; scales or sizes may be omitted or empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// How values between samples are found.
    pub interpolation: Interpolation,
    /// Which place an index stands for.
    pub coordinates: Coordinates,
    /// Whether shrinking widens the filter.
    pub antialias: bool,
    /// Whether samples outside get no weight (else they repeat the border).
    pub exclude_outside: bool,
    /// What stands outside the input, for `TfCropAndResize`.
    pub extrapolation_value: f32,
    /// What becomes of sizes that would change the aspect ratio.
    pub aspect_ratio: AspectRatio,
    /// The axes that roi, scales and sizes are for; `None` is all of them.
    pub axes: Option<Vec<i64>>,
}

/// One axis made ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResizedAxis {
    /// The axis.
    pub axis: usize,
    /// Its size in the output.
    pub output: usize,
    /// Output over input.
    pub scale: f32,
}

impl Resize {
    /// The axes that are meant, for a tensor of this rank.
    pub fn resolve_axes(&self, rank: usize) -> Result<SmallVec<[usize; 4]>, Reason> {
        match &self.axes {
            Some(axes) => resolve_axes(axes, rank),
            None => Ok((0..rank).collect()),
        }
    }

    /// The axes with their scales and sizes; exactly one of `scales` and `sizes` is given.
    pub fn resolve(
        &self,
        input: &[usize],
        scales: Option<&[f32]>,
        sizes: Option<&[i64]>,
    ) -> Result<Vec<ResizedAxis>, Reason> {
        let axes = self.resolve_axes(input.len())?;
        let count = scales.map_or(0, <[f32]>::len).max(sizes.map_or(0, <[i64]>::len));
        if count != axes.len() {
            return Err(invalid!("{count} scales or sizes for {} axes", axes.len()));
        }
        match (scales, sizes) {
            (Some(scales), None) => axes
                .iter()
                .zip(scales)
                .map(|(&axis, &scale)| by_scale(axis, input[axis], scale))
                .collect(),
            (None, Some(sizes)) => self.by_sizes(input, &axes, sizes),
            _ => Err(invalid!("both scales and sizes, or neither")),
        }
    }

    fn by_sizes(
        &self,
        input: &[usize],
        axes: &[usize],
        sizes: &[i64],
    ) -> Result<Vec<ResizedAxis>, Reason> {
        let mut made = Vec::with_capacity(axes.len());
        for (&axis, &size) in axes.iter().zip(sizes) {
            let output = usize::try_from(size).map_err(|_| invalid!("size {size}"))?;
            let scale = match input[axis] {
                0 if output == 0 => 1.0,
                0 => return Err(invalid!("axis {axis} of size 0 cannot become {size}")),
                n => output as f32 / n as f32,
            };
            made.push(ResizedAxis { axis, output, scale });
        }
        let scales = made.iter().map(|a| a.scale);
        let scale = match self.aspect_ratio {
            AspectRatio::Stretch => return Ok(made),
            AspectRatio::NotLarger => scales.fold(f32::INFINITY, f32::min),
            AspectRatio::NotSmaller => scales.fold(0.0, f32::max),
        };
        for a in &mut made {
            a.scale = scale;
            a.output = (f64::from(scale) * input[a.axis] as f64 + 0.5) as usize;
        }
        Ok(made)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        let nearest = matches!(self.interpolation, Interpolation::Nearest(_));
        if nearest && self.antialias {
            return Err(invalid!("antialias with mode nearest"));
        }
        let numbers = matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
            || (dtype.is_int() && !dtype.is_packed());
        if !nearest && !numbers {
            return Err(unsupported!("Resize of {dtype} by interpolation is not supported"));
        }
        let Some(shape) = x.shape() else { return one(Fact::unranked(dtype)) };
        let axes = self.resolve_axes(shape.len())?;
        let mut out: Shape = shape.into();
        match self.known(inputs)? {
            Known::Unknown => axes.iter().for_each(|&axis| out[axis] = Dim::Unknown),
            Known::Scales(scales) => {
                if scales.len() != axes.len() {
                    return Err(invalid!("{} scales for {} axes", scales.len(), axes.len()));
                }
                for (&axis, &scale) in axes.iter().zip(&scales) {
                    out[axis] = scaled(axis, &shape[axis], scale)?;
                }
            }
            Known::Sizes(sizes) => {
                let concrete: Option<Vec<usize>> = shape.iter().map(Dim::size).collect();
                let numbers: Option<Vec<i64>> = sizes.iter().map(Dim::value).collect();
                if let (Some(input), Some(sizes)) = (&concrete, numbers) {
                    for a in self.resolve(input, None, Some(&sizes))? {
                        out[a.axis] = Dim::from(a.output);
                    }
                } else if sizes.len() != axes.len() {
                    return Err(invalid!("{} sizes for {} axes", sizes.len(), axes.len()));
                } else {
                    let stretch = self.aspect_ratio == AspectRatio::Stretch;
                    for (&axis, size) in axes.iter().zip(sizes) {
                        out[axis] = if stretch { size } else { Dim::Unknown };
                    }
                }
            }
        }
        one(Fact::new(dtype, out))
    }

    fn known(&self, inputs: &Inputs<'_>) -> Result<Known, Reason> {
        let given = |i: usize| inputs.opt(i).filter(|f| !f.is_empty());
        match (given(2), given(3)) {
            (Some(scales), None) => Ok(match scales.tensor() {
                Some(t) => Known::Scales(to_floats(t)?),
                None => Known::Unknown,
            }),
            (None, Some(sizes)) => Ok(match sizes.dims() {
                Some(dims) => Known::Sizes(dims.to_vec()),
                None => Known::Unknown,
            }),
            (None, None) => Err(invalid!("neither scales nor sizes")),
            // Which of the two is empty shows when the model runs.
            (Some(a), Some(b)) if a.len().is_none() || b.len().is_none() => Ok(Known::Unknown),
            _ => Err(invalid!("both scales and sizes")),
        }
    }
}

enum Known {
    Scales(Vec<f32>),
    Sizes(Vec<Dim>),
    Unknown,
}

/// The elements of a small tensor of floats as `f32`.
pub fn to_floats(t: &Tensor) -> Result<Vec<f32>, Reason> {
    Ok(match t.dtype() {
        DType::F32 => t.as_slice::<f32>().to_vec(),
        DType::F64 => t.as_slice::<f64>().iter().map(|&x| x as f32).collect(),
        DType::F16 => t.as_slice::<half::f16>().iter().map(|x| x.to_f32()).collect(),
        DType::BF16 => t.as_slice::<half::bf16>().iter().map(|x| x.to_f32()).collect(),
        other => return Err(invalid!("{other} where floats are expected")),
    })
}

fn check_scale(axis: usize, scale: f32) -> Result<(), Reason> {
    if scale > 0.0 && scale.is_finite() {
        return Ok(());
    }
    Err(invalid!("scale {scale} for axis {axis}"))
}

fn by_scale(axis: usize, input: usize, scale: f32) -> Result<ResizedAxis, Reason> {
    check_scale(axis, scale)?;
    // In single precision, as ONNX's own inference and ONNX Runtime compute it.
    let output = (input as f32 * scale).floor();
    if output >= isize::MAX as f32 {
        return Err(invalid!("axis {axis} of size {input} times {scale} is too large"));
    }
    Ok(ResizedAxis { axis, output: output as usize, scale })
}

fn scaled(axis: usize, input: &Dim, scale: f32) -> Result<Dim, Reason> {
    check_scale(axis, scale)?;
    match input.size() {
        Some(input) => Ok(Dim::from(by_scale(axis, input, scale)?.output)),
        None if scale.fract() == 0.0 && scale < 1e6 => Ok(input.scale(scale as i64)),
        None => Ok(Dim::Unknown),
    }
}

fn import_coordinates(cx: &NodeCx<'_>) -> Result<Coordinates, Reason> {
    Ok(match cx.string("coordinate_transformation_mode")?.unwrap_or("half_pixel") {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_crop_and_resize" => Coordinates::TfCropAndResize,
        "tf_half_pixel_for_nn" => Coordinates::TfHalfPixelForNn,
        other => return Err(invalid!("coordinate_transformation_mode {other:?}")),
    })
}

fn import_interpolation(cx: &NodeCx<'_>) -> Result<Interpolation, Reason> {
    let rounding = match cx.string("nearest_mode")?.unwrap_or("round_prefer_floor") {
        "round_prefer_floor" => Rounding::PreferFloor,
        "round_prefer_ceil" => Rounding::PreferCeil,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => return Err(invalid!("nearest_mode {other:?}")),
    };
    let a = cx.float("cubic_coeff_a")?.unwrap_or(-0.75);
    interpolation(cx, rounding, a)
}

fn interpolation(cx: &NodeCx<'_>, rounding: Rounding, a: f32) -> Result<Interpolation, Reason> {
    Ok(match cx.string("mode")?.unwrap_or("nearest") {
        "nearest" => Interpolation::Nearest(rounding),
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic(a),
        other => return Err(invalid!("mode {other:?}")),
    })
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    if cx.version == 10 {
        return import_legacy(cx);
    }
    let aspect_ratio = match cx.string("keep_aspect_ratio_policy")?.unwrap_or("stretch") {
        "stretch" => AspectRatio::Stretch,
        "not_larger" => AspectRatio::NotLarger,
        "not_smaller" => AspectRatio::NotSmaller,
        other => return Err(invalid!("keep_aspect_ratio_policy {other:?}")),
    };
    let op = Resize {
        interpolation: import_interpolation(cx)?,
        coordinates: import_coordinates(cx)?,
        antialias: cx.flag("antialias", false)?,
        exclude_outside: cx.flag("exclude_outside", false)?,
        extrapolation_value: cx.float("extrapolation_value")?.unwrap_or(0.0),
        aspect_ratio,
        axes: cx.ints("axes")?,
    };
    cx.emit(op)
}

/// Resize-10 and Upsample: x, scales.
fn import_legacy(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (x, scales) = (cx.input(0)?, cx.input(1)?);
    legacy(cx, x, scales)
}

fn legacy(cx: &mut NodeCx<'_>, x: ValueId, scales: ValueId) -> Result<Outputs, Reason> {
    let op = Resize {
        interpolation: interpolation(cx, Rounding::Simple, -0.75)?,
        coordinates: Coordinates::Asymmetric,
        antialias: false,
        exclude_outside: false,
        extrapolation_value: 0.0,
        aspect_ratio: AspectRatio::Stretch,
        axes: None,
    };
    cx.push(op, &[Some(x), None, Some(scales)])
}

pub(super) fn import_upsample(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let scales = match cx.version {
        1 => {
            let scale =
                |name| cx.float(name)?.ok_or_else(|| invalid!("attribute {name} is missing"));
            vec![1.0, 1.0, scale("height_scale")?, scale("width_scale")?]
        }
        7 => cx.floats("scales")?.ok_or_else(|| invalid!("attribute scales is missing"))?,
        _ => return import_legacy(cx),
    };
    let (x, scales) = (cx.input(0)?, cx.constant(Tensor::vector(&scales)));
    legacy(cx, x, scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(aspect_ratio: AspectRatio) -> Resize {
        Resize {
            interpolation: Interpolation::Linear,
            coordinates: Coordinates::HalfPixel,
            antialias: false,
            exclude_outside: false,
            extrapolation_value: 0.0,
            aspect_ratio,
            axes: Some(vec![-2, -1]),
        }
    }

    #[test]
    fn sizes_keep_the_aspect_ratio_if_asked() {
        let sizes = |policy| {
            let made = op(policy).resolve(&[1, 2, 4], None, Some(&[7, 8])).unwrap();
            made.iter().map(|a| a.output).collect::<Vec<_>>()
        };
        assert_eq!(sizes(AspectRatio::Stretch), [7, 8]);
        assert_eq!(sizes(AspectRatio::NotLarger), [4, 8]);
        assert_eq!(sizes(AspectRatio::NotSmaller), [7, 14]);
    }

    #[test]
    fn scales_round_down_in_single_precision() {
        let made = op(AspectRatio::Stretch).resolve(&[1, 10, 3], Some(&[0.7, 1.5]), None).unwrap();
        assert_eq!((made[0].output, made[1].output), (7, 4));
    }

    #[test]
    fn a_symbolic_size_takes_whole_scales() {
        let x = Fact::new(
            DType::F32,
            [3.into(), Dim::symbol("h"), Dim::symbol("w")].into_iter().collect(),
        );
        let scales = Fact::constant(Tensor::vector(&[2f32, 0.5]));
        let out = op(AspectRatio::Stretch)
            .infer(&Inputs::new(&[Some(&x), None, Some(&scales)], 1))
            .unwrap();
        assert_eq!(out[0].to_string(), "float[3, 2h, ?]");
    }

    #[test]
    fn bad_scales_are_refused() {
        let resolve = |s: &[f32]| op(AspectRatio::Stretch).resolve(&[1, 2, 4], Some(s), None);
        assert!(resolve(&[0.0, 1.0]).is_err());
        assert!(resolve(&[f32::NAN, 1.0]).is_err());
        assert!(resolve(&[1e30, 1.0]).is_err());
        assert!(resolve(&[1.0]).is_err());
    }
}
