//! ScatterElements, ScatterND, TensorScatter: indices are checked, then the data is copied (or is
//! there already), then updates are applied in order.
use std::sync::Arc;

use half::{bf16, f16};
use rinfer_graph::ops::{Reduction, ScatterElements, ScatterND, TensorScatter};
use rinfer_graph::{Bool, Element, Reason, invalid, unsupported, with_dtype, with_width};

use super::copy::{Word, copy_flat, for_runs};
use super::gather::{ElementRows, Positions, map_indices, positions, tuple_offsets};
use crate::kernel::{Args, Cx, Kernel};

/// A number that updates can be reduced into.
trait Reduce: Element + Word {
    fn reduce(self, update: Self, reduction: Reduction) -> Self;
}

macro_rules! reduce {
    ($($t:ty: $a:ident $b:ident => $add:expr, $mul:expr, $max:expr, $min:expr;)*) => {
        $(impl Reduce for $t {
            #[inline]
            fn reduce(self, update: $t, reduction: Reduction) -> $t {
                let ($a, $b) = (self, update);
                match reduction {
                    Reduction::None => $b,
                    Reduction::Add => $add,
                    Reduction::Mul => $mul,
                    Reduction::Max => $max,
                    Reduction::Min => $min,
                }
            }
        })*
    };
}
macro_rules! reduce_ints {
    ($($t:ty)*) => { reduce! { $($t: a b => a.wrapping_add(b), a.wrapping_mul(b), a.max(b), a.min(b);)* } };
}
reduce_ints!(i8 i16 i32 i64 u8 u16 u32 u64);
// NaN wins, as in NumPy.
reduce! {
    f32: a b => a + b, a * b,
        if a > b || a.is_nan() { a } else { b }, if a < b || a.is_nan() { a } else { b };
    f64: a b => a + b, a * b,
        if a > b || a.is_nan() { a } else { b }, if a < b || a.is_nan() { a } else { b };
    f16: a b => f16::from_f32(a.to_f32() + b.to_f32()), f16::from_f32(a.to_f32() * b.to_f32()),
        if a > b || a.is_nan() { a } else { b }, if a < b || a.is_nan() { a } else { b };
    bf16: a b => bf16::from_f32(a.to_f32() + b.to_f32()), bf16::from_f32(a.to_f32() * b.to_f32()),
        if a > b || a.is_nan() { a } else { b }, if a < b || a.is_nan() { a } else { b };
    Bool: a b => Bool(a.0 | b.0), Bool(a.0 & b.0), Bool(a.0 | b.0), Bool(a.0 & b.0);
}

/// The kernel that `plan` describes, for the dtype of input 0.
fn reducing(cx: &Cx<'_>, reduction: Reduction, plan: Arc<dyn Plan>) -> Result<Kernel, Reason> {
    let dtype = cx.dtype(0)?;
    if reduction == Reduction::None {
        return super::text::moves(cx, |cx| {
            let (dtype, plan) = (cx.dtype(0)?, plan.clone());
            with_width!(dtype, W => {
                let kernel = Kernel::new(move |args| apply(&*plan, args, |_: W, update| update));
                Ok(kernel.in_place(&[0]))
            }, else Err(invalid!("{dtype} does not move by itself")))
        });
    }
    with_dtype!(dtype, [f32, f64, f16, bf16, i8, i16, i32, i64, u8, u16, u32, u64, Bool], T => {
        let kernel =
            Kernel::new(move |args| apply(&*plan, args, |a: T, b| T::reduce(a, b, reduction)));
        Ok(kernel.in_place(&[0]))
    }, else Err(unsupported!("a reducing scatter of {dtype} is not supported")))
}

/// What is written where, settled for given sizes.
trait Plan: Send + Sync {
    /// Where each update goes, and of how many elements it is.
    fn targets(&self, args: &Args<'_>) -> Result<(Positions, usize), Reason>;
}

fn apply<W: Word>(
    plan: &dyn Plan,
    args: &mut Args<'_>,
    f: impl Fn(W, W) -> W,
) -> Result<(), Reason> {
    let (at, inner) = plan.targets(args)?;
    begin(args)?;
    let updates = args.input(2)?.as_bits::<W>();
    let y = args.outputs[0].as_mut_bits::<W>();
    if inner == 1 {
        for (&at, &update) in at.iter().zip(updates) {
            y[at] = f(y[at], update);
        }
    } else if inner > 1 {
        for (&at, updates) in at.iter().zip(updates.chunks_exact(inner)) {
            for (y, &update) in y[at..][..inner].iter_mut().zip(updates) {
                *y = f(*y, update);
            }
        }
    }
    Ok(())
}

/// Makes output 0 hold the data, unless it does already.
fn begin(args: &mut Args<'_>) -> Result<(), Reason> {
    match args.opt(0) {
        Some(x) => copy_flat(args.cx, x.as_bytes(), args.outputs[0].as_mut_bytes()),
        None => Ok(()),
    }
}

impl Plan for ElementRows {
    fn targets(&self, args: &Args<'_>) -> Result<(Positions, usize), Reason> {
        let mut at = positions(args.input(1)?, self.size)?;
        let count = at.len().checked_div(self.len).unwrap_or(0);
        let mut rest = at.iter_mut();
        for_runs(&self.outer, 0, 0..count, |base, step, count| {
            for row in 0..count as isize {
                let base = (base as isize + row * step) as usize;
                for (k, at) in rest.by_ref().take(self.len).enumerate() {
                    *at = base + k * self.along + *at * self.step;
                }
            }
        });
        Ok((at, 1))
    }
}

pub(super) fn compile_elements(op: &ScatterElements, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, indices) = (cx.sizes(0)?, cx.sizes(1)?);
    let rows = ElementRows::new(&sizes, &indices, op.axis.resolve(sizes.len())?)?;
    if cx.sizes(2)? != indices {
        return Err(invalid!("updates of shape {:?} for {indices:?} indices", cx.sizes(2)?));
    }
    reducing(cx, op.reduction, Arc::new(rows))
}

struct Slices {
    sizes: rinfer_graph::shape::Sizes,
    tuple: usize,
    inner: usize,
}

impl Plan for Slices {
    fn targets(&self, args: &Args<'_>) -> Result<(Positions, usize), Reason> {
        let at = tuple_offsets(&self.sizes, self.tuple, (0, usize::MAX), args.input(1)?)?;
        Ok((at, self.inner))
    }
}

pub(super) fn compile_nd(op: &ScatterND, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, indices) = (cx.sizes(0)?, cx.sizes(1)?);
    let tuple = indices.last().copied().filter(|&n| n <= sizes.len());
    let tuple = tuple.ok_or_else(|| invalid!("indices of shape {indices:?} into {sizes:?}"))?;
    let inner = sizes[tuple..].iter().product();
    reducing(cx, op.reduction, Arc::new(Slices { sizes, tuple, inner }))
}

/// cache [rows, n, inner], update [rows, m, inner]; `rows / batch` rows belong to each sample.
#[derive(Clone, Debug)]
struct Cache {
    circular: bool,
    rows_per_sample: usize,
    n: usize,
    m: usize,
    inner: usize,
}

impl Cache {
    /// Where the update of a sample begins.
    fn first(&self, index: i64) -> Result<usize, Reason> {
        let n = i64::try_from(self.n).unwrap_or(i64::MAX);
        if self.circular && n > 0 {
            return Ok(index.rem_euclid(n) as usize);
        }
        usize::try_from(index)
            .ok()
            .filter(|at| at.checked_add(self.m).is_some_and(|end| end <= self.n))
            .ok_or_else(|| {
                let (n, m) = (self.n, self.m);
                invalid!("{m} elements do not fit at {index} of an axis of size {n}")
            })
    }
}

pub(super) fn compile_tensor(op: &TensorScatter, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    super::text::moves(cx, |cx| {
        let (sizes, update) = (cx.sizes(0)?, cx.sizes(1)?);
        let axis = op.axis.resolve(sizes.len())?;
        let cache = Cache {
            circular: op.circular,
            rows_per_sample: sizes[1..axis].iter().product(),
            n: sizes[axis],
            m: update[axis],
            inner: sizes[axis + 1..].iter().product(),
        };
        let batch = sizes[0];
        Ok(Kernel::new(move |args| update_cache(&cache, batch, args)).in_place(&[0]))
    })
}

fn update_cache(cache: &Cache, batch: usize, args: &mut Args<'_>) -> Result<(), Reason> {
    let first = match args.opt(2) {
        Some(first) if first.len() == batch => map_indices(first, |i| cache.first(i))?,
        Some(first) => return Err(invalid!("{} write indices, {batch} samples", first.len())),
        None => smallvec::smallvec![0; batch],
    };
    let (updates, size) = (args.input(1)?.as_bytes(), args.input(1)?.dtype().size());
    begin(args)?;
    let inner = cache.inner * size;
    let (row, part) = (cache.n * inner, cache.m * inner);
    if part == 0 {
        return Ok(());
    }
    let y = args.outputs[0].as_mut_bytes();
    for (i, (y, update)) in y.chunks_exact_mut(row).zip(updates.chunks_exact(part)).enumerate() {
        let at = first[i / cache.rows_per_sample.max(1)] * inner;
        let (one, rest) = update.split_at(part.min(row - at));
        y[at..at + one.len()].copy_from_slice(one);
        // A circular update goes on at the front.
        y[..rest.len()].copy_from_slice(rest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::Axis;

    #[test]
    fn updates_meet_elements_in_order() {
        let data = Tensor::from_slice(&[1, 4], &[1i32, 2, 3, 4]);
        let scatter = |reduction| {
            let indices = Tensor::from_slice(&[1, 3], &[1i64, -1, 1]);
            let updates = Tensor::from_slice(&[1, 3], &[5i32, 3, 2]);
            let op = ScatterElements { axis: Axis(1), reduction };
            let y = run1(Isa::best(), op, &[data.clone(), indices, updates]).unwrap();
            y.as_slice::<i32>().to_vec()
        };
        assert_eq!(scatter(Reduction::None), [1, 2, 3, 3]);
        assert_eq!(scatter(Reduction::Add), [1, 9, 3, 7]);
        assert_eq!(scatter(Reduction::Mul), [1, 20, 3, 12]);
        assert_eq!(scatter(Reduction::Max), [1, 5, 3, 4]);
        assert_eq!(scatter(Reduction::Min), [1, 2, 3, 3]);
    }

    #[test]
    fn slices_are_replaced() {
        let data = Tensor::from_slice(&[3, 2], &[0u8; 6]);
        let scatter = |indices: &[i64]| {
            let indices = Tensor::from_slice(&[2, 1], indices);
            let updates = Tensor::from_slice(&[2, 2], &[1u8, 2, 3, 4]);
            let op = ScatterND { reduction: Reduction::None };
            run1(Isa::best(), op, &[data.clone(), indices, updates])
        };
        assert_eq!(scatter(&[2, 0]).unwrap().as_slice::<u8>(), [3, 4, 0, 0, 1, 2]);
        assert!(scatter(&[2, 3]).is_err());
        assert!(scatter(&[2, i64::MIN]).is_err());
    }

    #[test]
    fn a_circular_cache_goes_on_at_the_front() {
        let cache = Tensor::from_slice(&[2, 3, 1], &[0f32; 6]);
        let update = Tensor::from_slice(&[2, 2, 1], &[1f32, 2., 3., 4.]);
        let write = |circular, first: &[i64]| {
            let op = TensorScatter { axis: Axis(-2), circular };
            run1(Isa::best(), op, &[cache.clone(), update.clone(), Tensor::vector(first)])
        };
        let y = write(true, &[2, 4]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [2., 0., 1., 0., 3., 4.]);
        assert_eq!(write(false, &[0, 1]).unwrap().as_slice::<f32>(), [1., 2., 0., 0., 3., 4.]);
        assert!(write(false, &[0, 2]).is_err());
        assert!(write(false, &[-1, 0]).is_err());
    }
}
