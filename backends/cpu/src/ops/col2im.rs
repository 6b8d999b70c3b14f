//! Col2Im: each element of each block is added to its pixel; what falls into the padding is lost.
use half::{bf16, f16};
use rinfer_graph::ops::{Col2Im, ImageAxis};
use rinfer_graph::{Fact, Reason, invalid, unsupported, with_dtype};
use smallvec::SmallVec;

use super::copy::by_rows;
use crate::kernel::{Cx, Kernel};

/// A number that blocks are added up in.
trait Sum: rinfer_graph::Element {
    fn plus(self, other: Self) -> Self;
}
macro_rules! sums {
    ($($t:ty: $a:ident $b:ident => $e:expr;)*) => {
        $(impl Sum for $t { fn plus(self, other: $t) -> $t { let ($a, $b) = (self, other); $e } })*
    };
}
sums! {
    f32: a b => a + b;
    f64: a b => a + b;
    f16: a b => f16::from_f32(a.to_f32() + b.to_f32());
    bf16: a b => bf16::from_f32(a.to_f32() + b.to_f32());
    i64: a b => a.wrapping_add(b);
    i32: a b => a.wrapping_add(b);
}

pub(super) fn compile(op: &Col2Im, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let ints = |i: usize| {
        let ints = cx.input(i).map(Fact::ints)?;
        ints.ok_or_else(|| invalid!("the content of input {i} is not known"))
    };
    let axes = op.axes(&ints(1)?, &ints(2)?)?;
    let out = cx.out_sizes(0)?;
    let product = |f: fn(&ImageAxis) -> usize| axes.iter().map(f).product::<usize>();
    let (image, block, blocks) = (product(|a| a.size), product(|a| a.block), product(|a| a.blocks));
    let expected = [out[0], out[1] * block, blocks];
    if cx.sizes(0)?[..] != expected {
        return Err(invalid!("columns of shape {:?} where {expected:?} is needed", cx.sizes(0)?));
    }
    let dtype = cx.dtype(0)?;
    with_dtype!(dtype, [f32, f64, f16, bf16, i32, i64], T => Ok(Kernel::new(move |args| {
        let x = args.input(0)?.as_slice::<T>();
        by_rows(args.cx, args.outputs[0].as_mut_bits::<T>(), image, |channels, y| {
            for (channel, y) in channels.zip(y.chunks_exact_mut(image)) {
                y.fill(T::default());
                let x = &x[channel * block * blocks..][..block * blocks];
                for (element, x) in x.chunks_exact(blocks).enumerate() {
                    add_plane(&axes, element, x, y);
                }
            }
        })
    })), else Err(unsupported!("Col2Im of {dtype} is not supported")))
}

/// Adds element number `element` of every block of one channel.
fn add_plane<T: Sum>(axes: &[ImageAxis], element: usize, x: &[T], y: &mut [T]) {
    // Where this element of the first block lies along each axis, the padding's edge at 0.
    let mut inside = SmallVec::<[usize; 4]>::from_elem(0, axes.len());
    let mut rest = element;
    for (at, axis) in inside.iter_mut().zip(axes).rev() {
        *at = rest % axis.block * axis.dilation;
        rest /= axis.block;
    }
    let mut index = SmallVec::<[usize; 4]>::from_elem(0, axes.len());
    for &x in x {
        let pixel = axes.iter().zip(&inside).zip(&index).try_fold(0, |pixel, ((axis, at), i)| {
            let at = (at + i * axis.stride).checked_sub(axis.pad).filter(|&at| at < axis.size)?;
            Some(pixel * axis.size + at)
        });
        if let Some(pixel) = pixel {
            y[pixel] = y[pixel].plus(x);
        }
        for (i, axis) in index.iter_mut().zip(axes).rev() {
            *i += 1;
            if *i < axis.blocks {
                break;
            }
            *i = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    #[test]
    fn overlapping_blocks_add_up() {
        let x = Tensor::from_slice(&[1, 2, 4], &[1f32, 2., 3., 4., 10., 20., 30., 40.]);
        let op = Col2Im { dilations: vec![], pads: vec![1, 0], strides: vec![] };
        let y = run1(Isa::best(), op, &[x, Tensor::vector(&[4i64]), Tensor::vector(&[2i64])]);
        assert_eq!(y.unwrap().as_slice::<f32>(), [12., 23., 34., 40.]);
    }
}
