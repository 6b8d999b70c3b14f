//! Expand and Tile: a strided copy with steps of 0 along what is repeated.
use rinfer_graph::Reason;
use rinfer_graph::ops::{Expand, Tile};
use smallvec::SmallVec;

use super::copy::{Copy, Stride, dense};
use crate::kernel::{Cx, Kernel};

pub(super) fn compile(_: &Expand, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, out) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let new = out.len() - sizes.len();
    let old = dense(&sizes);
    let axes: SmallVec<[Stride; 8]> = (0..out.len())
        .map(|i| match i.checked_sub(new).map(|i| old[i]) {
            Some(axis) if axis.size != 1 => axis,
            _ => Stride { size: out[i], step: 0 },
        })
        .collect();
    repeat(cx, &sizes, &axes)
}

pub(super) fn compile_tile(_: &Tile, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, out) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let mut axes = SmallVec::<[Stride; 8]>::new();
    for (axis, &out) in dense(&sizes).into_iter().zip(&out) {
        // With an empty axis nothing is copied, however often.
        axes.push(Stride { size: out.checked_div(axis.size).unwrap_or(0), step: 0 });
        axes.push(axis);
    }
    repeat(cx, &sizes, &axes)
}

fn repeat(cx: &Cx<'_>, sizes: &[usize], axes: &[Stride]) -> Result<Kernel, Reason> {
    Copy::new(sizes.iter().product(), 0, axes)?.kernel(cx.isa, cx.dtype(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    #[test]
    fn expand_repeats_axes_of_size_one() {
        let x = Tensor::from_slice(&[2, 1], &[1f32, 2.0]);
        let y = run1(Isa::best(), Expand, &[x, Tensor::vector(&[2i64, 1, 3])]).unwrap();
        assert_eq!(y.shape(), [2, 2, 3]);
        assert_eq!(y.as_slice::<f32>(), [1., 1., 1., 2., 2., 2., 1., 1., 1., 2., 2., 2.]);
    }

    #[test]
    fn tile_repeats_the_whole() {
        let x = Tensor::from_slice(&[2, 2], &[1u8, 2, 3, 4]);
        let tile = |n: &[i64]| run1(Isa::best(), Tile, &[x.clone(), Tensor::vector(n)]).unwrap();
        assert_eq!(tile(&[2, 2]).as_slice::<u8>(), [1, 2, 1, 2, 3, 4, 3, 4].repeat(2));
        assert_eq!(tile(&[1, 0]).shape(), [2, 0]);
    }
}
