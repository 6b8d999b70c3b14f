//! GridSample and AffineGrid: images sampled at given places, and the places an affine map gives.
//!
//! x [n, c, s1..sr], grid [n, o1..or, r]  →  [n, c, o1..or]; places from -1 to 1, last axis first

use smallvec::SmallVec;

use super::window::check_float;
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// How a value between pixels is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GridMode {
    /// The nearest pixel, ties to even.
    Nearest,
    /// The 2 nearest along each axis.
    Linear,
    /// The 4 nearest along each axis.
    Cubic,
}

/// What stands outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GridPadding {
    /// Zeros.
    Zeros,
    /// The border's pixels.
    Border,
    /// The image mirrored.
    Reflection,
}

/// x, grid → x sampled at the grid's places.
#[derive(Clone, Debug, PartialEq)]
pub struct GridSample {
    /// How a value between pixels is found.
    pub mode: GridMode,
    /// What stands outside.
    pub padding: GridPadding,
    /// Whether -1 and 1 are the centres of the corner pixels, not their outer edges.
    pub align_corners: bool,
}

impl GridSample {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        check_float("GridSample", dtype)?;
        check_float("GridSample at places", inputs.dtype(1)?)?;
        let (x, grid) = (inputs.shape(0)?, inputs.shape(1)?);
        let rank = match (x, grid) {
            (Some(x), Some(grid)) if x.len() != grid.len() => {
                return Err(invalid!("a grid of rank {} for rank {}", grid.len(), x.len()));
            }
            (Some(s), _) | (_, Some(s)) => s.len(),
            _ => return one(Fact::unranked(dtype)),
        };
        let Some(axes) = rank.checked_sub(2).filter(|&axes| axes > 0) else {
            return Err(invalid!("GridSample of rank {rank}"));
        };
        let unknown: Shape = SmallVec::from_elem(Dim::Unknown, rank);
        let (x, grid) = (x.unwrap_or(&unknown), grid.unwrap_or(&unknown));
        if grid[rank - 1].value().is_some_and(|n| n != axes as i64) {
            return Err(invalid!("places of {} numbers for {axes} axes", grid[rank - 1]));
        }
        if let (Some(a), Some(b)) = (x[0].value(), grid[0].value())
            && a != b
        {
            return Err(invalid!("a grid of {b} for a batch of {a}"));
        }
        let mut shape: Shape = x[..2].iter().cloned().collect();
        shape.extend(grid[1..rank - 1].iter().cloned());
        one(Fact::new(dtype, shape))
    }
}

/// theta [n, r, r + 1], size int64 [r + 2]  →  grid [n, size.., r], for r = 2 or 3.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineGrid {
    /// Whether -1 and 1 are the centres of the corner pixels, not their outer edges.
    pub align_corners: bool,
}

impl AffineGrid {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        check_float("AffineGrid", dtype)?;
        inputs.check_rank(0, 3)?;
        inputs.check_rank(1, 1)?;
        let count = |shape: Option<&[Dim]>, i: usize| shape.and_then(|s| s[i].size());
        let axes = count(inputs.shape(0)?, 1);
        let axes = axes.or(count(inputs.shape(1)?, 0).and_then(|n| n.checked_sub(2)));
        let Some(axes) = axes else { return one(Fact::unranked(dtype)) };
        let columns = count(inputs.shape(0)?, 2).unwrap_or(axes + 1);
        if !(2..=3).contains(&axes) || columns != axes + 1 {
            return Err(invalid!("affine maps of {axes} x {columns}"));
        }
        let Some(size) = inputs.get(1)?.dims() else { return one(Fact::ranked(dtype, axes + 2)) };
        if size.len() != axes + 2 {
            return Err(invalid!("a size of {} numbers for {axes} axes", size.len()));
        }
        let mut shape: Shape = SmallVec::new();
        let batch = inputs.shape(0)?.map_or(Dim::Unknown, |s| s[0].clone());
        if let (Some(a), Some(b)) = (batch.value(), size[0].value())
            && a != b
        {
            return Err(invalid!("{a} affine maps for a batch of {b}"));
        }
        shape.push(if batch.value().is_some() { batch } else { size[0].clone() });
        shape.extend(size[2..].iter().cloned());
        shape.push(Dim::from(axes));
        one(Fact::new(dtype, shape))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let op = GridSample {
        mode: match cx.string("mode")?.unwrap_or("linear") {
            "nearest" => GridMode::Nearest,
            "linear" | "bilinear" => GridMode::Linear,
            "cubic" | "bicubic" => GridMode::Cubic,
            other => return Err(invalid!("mode {other:?} of GridSample")),
        },
        padding: match cx.string("padding_mode")?.unwrap_or("zeros") {
            "zeros" => GridPadding::Zeros,
            "border" => GridPadding::Border,
            "reflection" => GridPadding::Reflection,
            other => return Err(invalid!("padding_mode {other:?}")),
        },
        align_corners: cx.flag("align_corners", false)?,
    };
    let x = cx.input(0)?;
    let dtype = cx.dtype(x)?;
    let small = dtype.is_int() && dtype.size() <= 4 && !dtype.is_packed();
    if op.mode != GridMode::Nearest || !(small || dtype == DType::Bool) {
        return cx.emit(op);
    }
    // float64 holds all integers of 32 bits.
    let wide = cx.cast(x, DType::F64)?;
    let y = cx.push1(op, &[wide, cx.input(1)?])?;
    let y = cx.cast(y, dtype)?;
    cx.done(y)
}

pub(super) fn import_affine(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let align_corners = cx.flag("align_corners", false)?;
    if let Some(size) = cx.opt_input(1)
        && cx.dtype(size)? != DType::I64
    {
        return Err(invalid!("the size is {}, not int64", cx.dtype(size)?));
    }
    cx.emit(AffineGrid { align_corners })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_gives_the_spatial_sizes() {
        let x = Fact::sized(DType::F32, &[2, 3, 8, 9]);
        let grid = Fact::sized(DType::F32, &[2, 5, 6, 2]);
        let op = GridSample {
            mode: GridMode::Linear,
            padding: GridPadding::Zeros,
            align_corners: false,
        };
        let out = op.infer(&Inputs::new(&[Some(&x), Some(&grid)], 1)).unwrap();
        assert_eq!(out[0].to_string(), "float[2, 3, 5, 6]");
        let flat = Fact::sized(DType::F32, &[2, 5, 6, 3]);
        assert!(op.infer(&Inputs::new(&[Some(&x), Some(&flat)], 1)).is_err());
    }

    #[test]
    fn an_affine_grid_has_the_size_that_is_asked_for() {
        let theta = Fact::sized(DType::F32, &[2, 3, 4]);
        let size = Fact::constant(crate::Tensor::vector(&[2i64, 1, 4, 5, 6]));
        let op = AffineGrid { align_corners: true };
        let out = op.infer(&Inputs::new(&[Some(&theta), Some(&size)], 1)).unwrap();
        assert_eq!(out[0].to_string(), "float[2, 4, 5, 6, 3]");
    }
}
