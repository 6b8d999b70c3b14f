//! MaxUnpool: each element back where a max pool found it.

use rinfer_graph::ops::MaxUnpool;
use rinfer_graph::shape::{Sizes, count, strides};
use rinfer_graph::{Dim, Reason, Tensor, invalid, unsupported, with_width};

use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &MaxUnpool, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let dims: Vec<Dim> = cx.sizes(0)?.iter().map(|&n| Dim::from(n)).collect();
    let inner: Option<Sizes> = op.shape(&dims)?.iter().map(Dim::size).collect();
    let inner = inner.ok_or_else(|| invalid!("an unpooled size is negative"))?;
    let outer = cx.out_sizes(0)?;
    if inner.len() != outer.len() || inner.iter().zip(&outer).any(|(a, b)| a > b) {
        return Err(invalid!("an output {outer:?} does not hold the pool's input {inner:?}"));
    }
    count(&inner).ok_or_else(|| invalid!("{inner:?} is larger than any memory"))?;
    let dtype = cx.dtype(0)?;
    Ok(Kernel::new(move |args| {
        let (x, places) = (args.input(0)?, args.input(1)?.as_slice::<i64>());
        let y = &mut args.outputs[0];
        with_width!(dtype, W => unpool::<W>(x, places, (&inner, &outer), y),
            else Err(unsupported!("MaxUnpool of {dtype} is not supported")))
    }))
}

fn unpool<W: bytemuck::Pod>(
    x: &Tensor,
    places: &[i64],
    (inner, outer): (&[usize], &[usize]),
    y: &mut Tensor,
) -> Result<(), Reason> {
    let (from, to) = (strides(inner), strides(outer));
    let total = count(inner).unwrap_or(0);
    let y = y.as_mut_bits::<W>();
    y.fill(W::zeroed());
    for (&x, &place) in x.as_bits::<W>().iter().zip(places) {
        let at = usize::try_from(place).ok().filter(|&at| at < total);
        let at = at.ok_or_else(|| invalid!("place {place} is out of range for {inner:?}"))?;
        let axes = from.iter().zip(&to).zip(inner);
        y[axes.map(|((from, to), n)| at / from % n * to).sum::<usize>()] = x;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    fn op() -> MaxUnpool {
        MaxUnpool {
            kernel: [2].into_iter().collect(),
            strides: [2].into_iter().collect(),
            pads: Default::default(),
        }
    }

    #[test]
    fn places_count_in_what_the_pool_read() {
        let x = Tensor::from_slice(&[1, 2, 1], &[5f32, 6.0]);
        let places = Tensor::from_slice(&[1, 2, 1], &[1i64, 2]);
        let shape = Tensor::vector(&[1i64, 2, 3]);
        let y = run1(Isa::best(), op(), &[x, places, shape]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [0.0, 5.0, 0.0, 6.0, 0.0, 0.0]);
    }

    #[test]
    fn a_place_outside_is_refused() {
        let x = Tensor::from_slice(&[1, 1, 1], &[5f32]);
        let places = Tensor::from_slice(&[1, 1, 1], &[2i64]);
        let err = run1(Isa::best(), op(), &[x, places]).unwrap_err();
        assert_eq!(err.to_string(), "place 2 is out of range for [1, 1, 2]");
    }
}
