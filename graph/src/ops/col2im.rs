//! Col2Im: columns of blocks added back to the image they were taken from.
//!
//! x [n, c·∏block, blocks] → [n, c, image..]; the inverse of cutting an image into sliding blocks,
//! but where blocks overlap their elements add up.
use smallvec::SmallVec;

use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::show;
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// x, image_shape: int64 [k], block_shape: int64 [k] → image. Empty attributes mean ones (strides,
/// dilations) and zeros (pads).
#[derive(Clone, Debug, PartialEq)]
pub struct Col2Im {
    /// From one element of a block to the next, for each axis.
    pub dilations: Vec<i64>,
    /// Elements that blocks reach beyond the image: all begins, then all ends.
    pub pads: Vec<i64>,
    /// From one block to the next, for each axis.
    pub strides: Vec<i64>,
}

/// One axis of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageAxis {
    /// Size of the image.
    pub size: usize,
    /// Elements of a block.
    pub block: usize,
    /// How many blocks lie along the axis.
    pub blocks: usize,
    /// From one element of a block to the next.
    pub dilation: usize,
    /// How far the first block reaches out of the image.
    pub pad: usize,
    /// From one block to the next.
    pub stride: usize,
}

impl Col2Im {
    /// The axes of an image of these sizes, cut into blocks of these.
    pub fn axes(&self, image: &[i64], block: &[i64]) -> Result<SmallVec<[ImageAxis; 3]>, Reason> {
        let k = image.len();
        let fits = |list: &[i64], n: usize| list.is_empty() || list.len() == n;
        if block.len() != k
            || !fits(&self.dilations, k)
            || !fits(&self.pads, 2 * k)
            || !fits(&self.strides, k)
        {
            return Err(invalid!(
                "an image of {k} axes, blocks of {}, {} dilations, {} pads and {} strides",
                block.len(),
                self.dilations.len(),
                self.pads.len(),
                self.strides.len()
            ));
        }
        let get = |list: &[i64], i: usize, default| list.get(i).copied().unwrap_or(default);
        (0..k)
            .map(|i| {
                let (before, after) = (get(&self.pads, i, 0), get(&self.pads, k + i, 0));
                let dilation = get(&self.dilations, i, 1);
                image_axis(image[i], block[i], (before, after), dilation, get(&self.strides, i, 1))
            })
            .collect()
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        inputs.check_rank(0, 3)?;
        let dtype = x.dtype()?;
        let (image, block) = (inputs.get(1)?.dims(), inputs.get(2)?.ints());
        let Some(image) = image else { return one(Fact::unranked(dtype)) };
        let unknown = [Dim::Unknown, Dim::Unknown, Dim::Unknown];
        let shape = x.shape().unwrap_or(&unknown);
        let mut channels = Dim::Unknown;
        if let Some(block) = block {
            let area = block.iter().try_fold(1i64, |n, &b| n.checked_mul(b)).filter(|&n| n > 0);
            let area = area.ok_or_else(|| invalid!("blocks of {block:?}"))?;
            if shape[1].value().is_some_and(|n| n % area != 0) {
                return Err(invalid!("{} rows are no multiple of {area}, a block", shape[1]));
            }
            channels = shape[1].div(&Dim::N(area));
            if let Some(sizes) = image.iter().map(Dim::value).collect::<Option<Vec<i64>>>() {
                let axes = self.axes(&sizes, &block)?;
                let blocks = axes.iter().try_fold(1usize, |n, a| n.checked_mul(a.blocks));
                if blocks.zip(shape[2].size()).is_some_and(|(a, b)| a != b) {
                    return Err(invalid!("{} is not {blocks:?} blocks", show(shape)));
                }
            }
        }
        let batch = [shape[0].clone(), channels];
        one(Fact::new(dtype, batch.into_iter().chain(image).collect()))
    }
}

fn image_axis(
    size: i64,
    block: i64,
    (before, after): (i64, i64),
    dilation: i64,
    stride: i64,
) -> Result<ImageAxis, Reason> {
    let axis = || {
        if size < 0 || before < 0 || after < 0 || block < 1 || dilation < 1 || stride < 1 {
            return None;
        }
        let reach = block.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        let room = size.checked_add(before)?.checked_add(after)?.checked_sub(reach)?;
        if room < 0 {
            return None;
        }
        Some(ImageAxis {
            size: usize::try_from(size).ok()?,
            block: usize::try_from(block).ok()?,
            blocks: usize::try_from(room / stride + 1).ok()?,
            dilation: usize::try_from(dilation).ok()?,
            pad: usize::try_from(before).ok()?,
            stride: usize::try_from(stride).ok()?,
        })
    };
    axis().ok_or_else(|| {
        invalid!(
            "blocks of {block}, dilated {dilation}, every {stride}, in an image of {size} with \
             pads {before} and {after}"
        )
    })
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let dilations = cx.ints("dilations")?.unwrap_or_default();
    let pads = cx.ints("pads")?.unwrap_or_default();
    let strides = cx.ints("strides")?.unwrap_or_default();
    let op = Col2Im { dilations, pads, strides };
    let x = cx.input(0)?;
    let dtype = cx.dtype(x)?;
    if !(dtype == DType::Bool || dtype.is_int()) || matches!(dtype, DType::I32 | DType::I64) {
        return cx.emit(op);
    }
    // Sums wrap where the narrow type's would; of truth values any makes true.
    let wide = cx.cast(x, DType::I64)?;
    let y = cx.push1(op, &[wide, cx.input(1)?, cx.input(2)?])?;
    let y = cx.cast(y, dtype)?;
    cx.done(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_as_a_convolution_does() {
        let axis = image_axis(5, 3, (1, 1), 1, 2).unwrap();
        assert_eq!(axis.blocks, 3);
        assert!(image_axis(5, 3, (0, 0), 3, 1).is_err());
        assert!(image_axis(5, 3, (0, 0), 1, 0).is_err());
    }
}
