//! Pad and CenterCropPad: more elements around a tensor, or fewer.
//!
//! x [n₀, n₁, …] → [before₀ + n₀ + after₀, …]; negative pads take elements away
use smallvec::SmallVec;

use super::{Inputs, one, resolve_axes};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{Dim, Fact, Facts, Reason, invalid};

/// What stands around the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// One value.
    Constant,
    /// The tensor mirrored at its first and last elements, which are not repeated.
    Reflect,
    /// The first and last elements.
    Edge,
    /// The tensor again and again.
    Wrap,
}

/// x, pads: int64 [2·axes] (all before, then all after), value (optional), axes (optional) → y.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// What stands around the tensor.
    pub mode: PadMode,
}

/// Elements to add before and after each axis.
pub type Pads = SmallVec<[(i64, i64); 6]>;

impl Pad {
    /// The pads of each axis of a tensor of this rank, from inputs 1 and 3.
    pub fn pads(rank: usize, pads: &[i64], axes: Option<&[i64]>) -> Result<Pads, Reason> {
        let axes = match axes {
            Some(axes) => resolve_axes(axes, rank)?,
            None => (0..rank).collect(),
        };
        check_pads(pads.len(), axes.len())?;
        let mut all = Pads::from_elem((0, 0), rank);
        for (i, &axis) in axes.iter().enumerate() {
            all[axis] = (pads[i], pads[axes.len() + i]);
        }
        Ok(all)
    }

    fn shape(inputs: &Inputs<'_>, shape: &[Dim]) -> Result<Option<Shape>, Reason> {
        let axes: SmallVec<[usize; 4]> = match inputs.opt(3).map(Fact::ints) {
            None => (0..shape.len()).collect(),
            Some(Some(axes)) => resolve_axes(&axes, shape.len())?,
            Some(None) => return Ok(None),
        };
        let Some(pads) = inputs.get(1)?.dims() else {
            let mut out: Shape = shape.into();
            axes.iter().for_each(|&axis| out[axis] = Dim::Unknown);
            return Ok(Some(out));
        };
        check_pads(pads.len(), axes.len())?;
        let mut out: Shape = shape.into();
        for (i, &axis) in axes.iter().enumerate() {
            out[axis] = out[axis].add(&pads[i]).add(&pads[axes.len() + i]);
        }
        Ok(Some(out))
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        inputs.same_dtype(0, 2)?;
        let dtype = x.dtype()?;
        let Some(shape) = x.shape() else { return one(Fact::unranked(dtype)) };
        one(match Pad::shape(inputs, shape)? {
            Some(out) => Fact::new(dtype, out),
            None => Fact::ranked(dtype, shape.len()),
        })
    }
}

fn check_pads(pads: usize, axes: usize) -> Result<(), Reason> {
    match pads == 2 * axes {
        true => Ok(()),
        false => Err(invalid!("{pads} pads for {axes} axes, which take {}", 2 * axes)),
    }
}

/// x, shape: int [axes] → x with those sizes, cut or filled up with zeros evenly on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct CenterCropPad {
    /// The axes that `shape` is about; `None` is all of them.
    pub axes: Option<Vec<i64>>,
}

impl CenterCropPad {
    /// The axes for a tensor of this rank, as many as there are elements in `shape`.
    fn axes(&self, rank: usize, wanted: usize) -> Result<SmallVec<[usize; 4]>, Reason> {
        let axes = match &self.axes {
            Some(axes) => resolve_axes(axes, rank)?,
            None => (0..rank).collect(),
        };
        match axes.len() == wanted {
            true => Ok(axes),
            false => Err(invalid!("a shape of {wanted} sizes for {} axes", axes.len())),
        }
    }

    /// The pads that give a tensor of these sizes the sizes `wanted`.
    pub fn pads(&self, sizes: &[usize], wanted: &[i64]) -> Result<Pads, Reason> {
        let mut pads = Pads::from_elem((0, 0), sizes.len());
        for (&axis, &size) in self.axes(sizes.len(), wanted.len())?.iter().zip(wanted) {
            let old = i64::try_from(sizes[axis]).map_err(|_| invalid!("size {}", sizes[axis]))?;
            let more = size.checked_sub(old).filter(|_| size >= 0);
            let more = more.ok_or_else(|| invalid!("size {size} for axis {axis}"))?;
            // The smaller half stands, or is cut away, before.
            pads[axis] = (more / 2, more - more / 2);
        }
        Ok(pads)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let Some(shape) = x.shape() else { return one(Fact::unranked(x.dtype()?)) };
        let Some(wanted) = inputs.get(1)?.dims() else {
            return one(Fact::ranked(x.dtype()?, shape.len()));
        };
        let mut out: Shape = shape.into();
        for (axis, size) in self.axes(shape.len(), wanted.len())?.into_iter().zip(wanted) {
            out[axis] = size;
        }
        one(Fact::new(x.dtype()?, out))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let mode = match cx.string("mode")?.unwrap_or("constant") {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" if cx.version >= 19 => PadMode::Wrap,
        mode => return Err(invalid!("mode {mode:?} of Pad-{}", cx.version)),
    };
    if cx.version < 11 {
        let name = if cx.version < 2 { "paddings" } else { "pads" };
        let pads = cx.ints(name)?.ok_or_else(|| invalid!("attribute {name} is missing"))?;
        let pads = cx.constant_ints(&pads);
        cx.set_input(1, pads);
        let x = cx.input(0)?;
        let value = cx.float("value")?.unwrap_or(0.0);
        if value != 0.0 {
            let value = cx.scalar_like(x, value)?;
            cx.set_input(2, value);
        }
    }
    cx.check_inputs(2, 4)?;
    cx.emit(Pad { mode })
}

pub(super) fn import_center_crop_pad(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let axes = cx.ints("axes")?;
    cx.check_inputs(2, 2)?;
    cx.emit(CenterCropPad { axes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tensor};

    #[test]
    fn pads_add_to_the_sizes_of_their_axes() {
        let x = Fact::new(DType::F32, [Dim::symbol("n"), Dim::N(5)].into_iter().collect());
        let ints = |v: &[i64]| Fact::constant(Tensor::vector(v));
        let (pads, axes) = (ints(&[-1, 3]), ints(&[-1]));
        let inputs = [Some(&x), Some(&pads), None, Some(&axes)];
        let out = Pad { mode: PadMode::Edge }.infer(&Inputs::new(&inputs, 1)).unwrap();
        assert_eq!(out[0].to_string(), "float[n, 7]");
        assert!(Pad::pads(2, &[1, 2, 3], None).is_err());
    }

    #[test]
    fn the_odd_element_goes_to_the_end() {
        let op = CenterCropPad { axes: None };
        assert_eq!(op.pads(&[5, 4], &[2, 7]).unwrap()[..], [(-1, -2), (1, 2)]);
    }
}
