//! Pools over whole channels: one number each.

use rinfer_graph::ops::PoolKind;
use rinfer_graph::{DType, Reason, unsupported};

use super::super::staged::{self, needed};
use super::axis::Item;
use crate::kernel::{Args, Kernel};
use crate::par;
use crate::simd::{F32s, Isa, Simd};

/// A kernel for channels of `len` elements each.
pub(super) fn compile(
    isa: Isa,
    kind: PoolKind,
    dtype: DType,
    len: usize,
) -> Result<Kernel, Reason> {
    Ok(match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Kernel::new(move |args| {
            staged::single(isa, args, |inputs, outputs| {
                each(needed(inputs, 0)?, outputs[0], len, |x| single(isa, kind, x));
                Ok(())
            })
        }),
        DType::F64 => Kernel::new(move |args| plain::<f64>(kind, len, args)),
        DType::I8 => Kernel::new(move |args| plain::<i8>(kind, len, args)),
        DType::U8 => Kernel::new(move |args| plain::<u8>(kind, len, args)),
        other => return Err(unsupported!("a pool over {other} is not supported")),
    })
}

/// `y[i] = f(channel i)`; an empty channel is passed as such.
fn each<T: Copy + Sync, U: Send>(x: &[T], y: &mut [U], len: usize, f: impl Fn(&[T]) -> U + Sync) {
    par::chunks_mut(y, 1, par::grain(len / 4 + 1), |i, y| y[0] = f(&x[i * len..][..len]));
}

fn plain<T: Item>(kind: PoolKind, len: usize, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?.as_slice::<T>();
    each(x, args.outputs[0].as_mut_slice::<T>(), len, |x| {
        let sum = |p: f32| x.iter().fold(T::ZERO, |sum, &x| sum.add(x.power(p)));
        match kind {
            PoolKind::Max { .. } => x
                .iter()
                .fold(T::LEAST, |a, &b| if a > b || a.partial_cmp(&a).is_none() { a } else { b }),
            PoolKind::Average { .. } => {
                x.iter().fold(T::ZERO, |sum, &x| sum.add(x)).divide(x.len())
            }
            PoolKind::Lp { p } => sum(p).root(p),
        }
    });
    Ok(())
}

/// Several sums side by side, so that one need not wait for the last.
const SUMS: usize = 4;

crate::simd_fn! {
    fn single(s: S, kind: PoolKind, x: &[f32]) -> f32 {
        match kind {
            PoolKind::Max { .. } => {
                let least = f32::NEG_INFINITY;
                fold(s, x, least, |a, b| s.max_nan(a, b)).reduce_max()
            }
            PoolKind::Average { .. } => fold(s, x, 0.0, |a, b| a + b).reduce_add() / x.len() as f32,
            PoolKind::Lp { p: 1.0 } => fold(s, x, 0.0, |a, b| a + b.abs()).reduce_add(),
            PoolKind::Lp { p: 2.0 } => fold(s, x, 0.0, |a, b| b.mul_add(b, a)).reduce_add().sqrt(),
            PoolKind::Lp { p } => {
                let sum: f64 = x.iter().map(|x| f64::from(x.abs()).powf(f64::from(p))).sum();
                sum.powf(1.0 / f64::from(p)) as f32
            }
        }
    }
}

#[inline(always)]
fn fold<S: Simd>(
    s: S,
    x: &[f32],
    init: f32,
    f: impl Fn(S::F32, S::F32) -> S::F32 + Copy,
) -> S::F32 {
    let mut sums = [s.splat(init); SUMS];
    let mut chunks = x.chunks_exact(SUMS * S::LANES);
    for x in &mut chunks {
        for i in 0..SUMS {
            sums[i] = f(sums[i], s.load(&x[i * S::LANES..]));
        }
    }
    let rest = chunks.remainder();
    let mut i = 0;
    while i * S::LANES < rest.len() {
        sums[i] = f(sums[i], s.load_partial(&rest[i * S::LANES..], init));
        i += 1;
    }
    // Not by f: a power is taken of elements, not of sums.
    let mut total = sums[0];
    for &sum in &sums[1..] {
        total = if init == 0.0 { total + sum } else { s.max_nan(total, sum) };
    }
    total
}
