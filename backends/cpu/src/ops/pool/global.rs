//! Pools over whole channels: one number each.

use rinfer_graph::ops::PoolKind;
use rinfer_graph::{DType, Reason, unsupported};

use super::super::fold::{self, Which};
use super::super::staged::{self, needed};
use super::axis::Item;
use crate::kernel::{Args, Cx, Kernel};
use crate::par;
use crate::simd::Isa;

/// A kernel for channels of `len` elements each.
pub(super) fn compile(kind: PoolKind, len: usize, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (isa, scratch) = (cx.isa, staged::scratch(cx));
    Ok(match cx.dtype(0)? {
        DType::F32 | DType::F16 | DType::BF16 => Kernel::new(move |args| {
            staged::single(isa, args, |inputs, outputs| {
                each(needed(inputs, 0)?, outputs[0], len, |x| single(isa, kind, x));
                Ok(())
            })
        })
        .takes(scratch),
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

fn single(isa: Isa, kind: PoolKind, x: &[f32]) -> f32 {
    let fold = |which| fold::fold(isa, which, x, 0.0);
    match kind {
        PoolKind::Max { .. } => fold(Which::Max) as f32,
        PoolKind::Average { .. } => (fold(Which::Sum) / x.len() as f64) as f32,
        PoolKind::Lp { p: 1.0 } => fold(Which::Abs) as f32,
        PoolKind::Lp { p: 2.0 } => fold(Which::Square).sqrt() as f32,
        PoolKind::Lp { p } => {
            let sum: f64 = x.iter().map(|x| f64::from(x.abs()).powf(f64::from(p))).sum();
            sum.powf(1.0 / f64::from(p)) as f32
        }
    }
}
