//! ArgMax and ArgMin: where the largest or smallest element along an axis stands.
//!
//! NaN is further out than any number, as in NumPy.

use std::cmp::Ordering;

use half::{bf16, f16};
use rinfer_graph::ops::{Arg, Extreme};
use rinfer_graph::{DType, Element, Reason, unsupported, with_dtype};

use super::fold::{self, Which};
use crate::kernel::{Args, Cx, Kernel};
use crate::par;
use crate::simd::Isa;

/// x as blocks of `n` rows of `inner` elements; the search runs down the rows.
#[derive(Clone, Copy)]
struct Search {
    extreme: Extreme,
    last: bool,
    n: usize,
    inner: usize,
}

pub(super) fn compile(op: &Arg, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let inner = sizes[axis + 1..].iter().product();
    let last = op.select_last_index;
    let search = Search { extreme: op.extreme, last, n: sizes[axis], inner };
    let (dtype, isa) = (cx.dtype(0)?, cx.isa);
    if dtype == DType::F32 && inner == 1 && !last {
        return Ok(Kernel::new(move |args| run_rows(isa, search, args)));
    }
    with_dtype!(dtype, [i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64], T => {
        Ok(Kernel::new(move |args| run::<T>(search, args)))
    }, else Err(unsupported!("Arg{:?} of {dtype} is not supported", op.extreme)))
}

/// Whether `a` is further out than `b`.
fn beats<T: PartialOrd>(extreme: Extreme, a: &T, b: &T) -> bool {
    match (a.partial_cmp(b), extreme) {
        (Some(order), Extreme::Max) => order == Ordering::Greater,
        (Some(order), Extreme::Min) => order == Ordering::Less,
        (None, _) => a.partial_cmp(a).is_none() && b.partial_cmp(b).is_some(),
    }
}

fn run<T: Element + PartialOrd>(search: Search, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?.as_slice::<T>();
    let (cx, y) = (args.cx, args.outputs[0].as_mut_slice::<i64>());
    let Search { extreme, last, n, inner } = search;
    if y.is_empty() {
        return Ok(());
    }
    par::zip_chunks((x, n * inner), (y, inner), par::grain(n * inner), |_, x, y| {
        if cx.check().is_err() {
            return;
        }
        y.fill(0);
        let mut best: Vec<T> = x[..inner].to_vec();
        for (r, row) in x.chunks_exact(inner).enumerate().skip(1) {
            for ((x, best), y) in row.iter().zip(&mut best).zip(&mut *y) {
                if beats(extreme, x, best) || (last && !beats(extreme, best, x)) {
                    (*best, *y) = (*x, r as i64);
                }
            }
        }
    });
    cx.check()
}

/// Rows of f32: the extreme first, then where it stands.
fn run_rows(isa: Isa, search: Search, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?.as_slice::<f32>();
    let (cx, y) = (args.cx, args.outputs[0].as_mut_slice::<i64>());
    let which = match search.extreme {
        Extreme::Max => Which::Max,
        Extreme::Min => Which::Min,
    };
    par::zip_chunks((x, search.n), (y, 1), par::grain(20 + search.n / 4), |i, x, y| {
        if i % 64 == 0 && cx.check().is_err() {
            return;
        }
        let best = fold::fold(isa, which, x, 0.0) as f32;
        y[0] = position(x, |x| x == best || (x.is_nan() && best.is_nan())) as i64;
    });
    cx.check()
}

/// The first element for which `is` holds.
fn position(x: &[f32], is: impl Fn(f32) -> bool) -> usize {
    for (i, block) in x.chunks(64).enumerate() {
        // Without an exit in the middle, so that the block is compared by vectors.
        if block.iter().fold(false, |any, &x| any | is(x)) {
            return i * 64 + block.iter().position(|&x| is(x)).unwrap_or(0);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::Axis;

    fn arg(extreme: Extreme, axis: i64, select_last_index: bool, x: Tensor) -> Vec<i64> {
        let op = Arg { extreme, axis: Axis(axis), keepdims: false, select_last_index };
        run1(Isa::best(), op, &[x]).unwrap().as_slice::<i64>().to_vec()
    }

    #[test]
    fn the_first_or_the_last_of_equal_elements_is_found() {
        let x = || Tensor::from_slice(&[2, 3], &[2.0f32, 5.0, 5.0, 7.0, 1.0, 1.0]);
        assert_eq!(arg(Extreme::Max, 1, false, x()), [1, 0]);
        assert_eq!(arg(Extreme::Max, 1, true, x()), [2, 0]);
        assert_eq!(arg(Extreme::Min, 1, false, x()), [0, 1]);
        assert_eq!(arg(Extreme::Min, 0, false, x()), [0, 1, 1]);
    }

    #[test]
    fn integers_and_halves_are_searched_too() {
        assert_eq!(arg(Extreme::Max, 0, false, Tensor::vector(&[u64::MAX - 1, u64::MAX])), [1]);
        let x = Tensor::vector(&[1.0, -2.0, 0.5].map(f16::from_f32));
        assert_eq!(arg(Extreme::Min, 0, false, x), [1]);
    }

    #[test]
    fn a_long_row_is_searched_by_vectors() {
        let mut x: Vec<f32> = (0..1000).map(|i| (i * 37 % 500) as f32).collect();
        x[777] = 1e9;
        assert_eq!(arg(Extreme::Max, 0, false, Tensor::vector(&x)), [777]);
        x[300] = f32::NAN;
        assert_eq!(arg(Extreme::Max, 0, false, Tensor::vector(&x)), [300]);
        assert_eq!(arg(Extreme::Min, 0, true, Tensor::vector(&x)), [300]);
    }
}
