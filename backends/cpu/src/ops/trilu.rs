//! Trilu and EyeLike: rows of matrices, cut or marked at a diagonal.
use half::{bf16, f16};
use rinfer_graph::ops::{EyeLike, Trilu};
use rinfer_graph::{Bool, Element, Reason, invalid, unsupported, with_width};

use super::copy::{Word, by_rows};
use crate::kernel::{Cx, Kernel};

/// The column of row `i` on diagonal `k`, between 0 and `cols`.
fn column(i: usize, k: i64, cols: usize) -> usize {
    let at = i64::try_from(i).unwrap_or(i64::MAX).saturating_add(k);
    usize::try_from(at.max(0)).unwrap_or(usize::MAX).min(cols)
}

pub(super) fn compile(op: &Trilu, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let [.., rows, cols] = sizes[..] else { return Err(invalid!("rank {} below 2", sizes.len())) };
    let (upper, dtype) = (op.upper, cx.dtype(0)?);
    with_width!(dtype, W => {
        let kernel = Kernel::new(move |args| {
            let k = match args.opt(1).map(|k| k.as_slice::<i64>()) {
                None => 0,
                Some([k]) => *k,
                Some(k) => return Err(invalid!("k has {} elements", k.len())),
            };
            let x = args.opt(0).map(|x| x.as_bits::<W>());
            by_rows(args.cx, args.outputs[0].as_mut_bits(), cols, |range, y| {
                for (row, y) in range.zip(y.chunks_mut(cols)) {
                    if let Some(x) = x {
                        y.copy_from_slice(&x[row * cols..][..cols]);
                    }
                    cut(y, column(row % rows, k, cols), upper);
                }
            })
        });
        Ok(kernel.in_place(&[0]))
    }, else Err(invalid!("{dtype} does not move by itself")))
}

/// Zeros on the side of the diagonal that is not kept.
fn cut<W: Word>(row: &mut [W], diagonal: usize, upper: bool) {
    let cols = row.len();
    let zeros = if upper { 0..diagonal } else { diagonal.saturating_add(1).min(cols)..cols };
    row[zeros].fill(W::zeroed());
}

pub(super) fn compile_eye(op: &EyeLike, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.out_sizes(0)?;
    let [_, cols] = sizes[..] else { return Err(invalid!("rank {} is not 2", sizes.len())) };
    let (k, dtype) = (op.k, cx.outputs[0].dtype()?);
    macro_rules! eye {
        ($($t:ty = $one:expr),*) => {
            match dtype {
                $(<$t as Element>::DTYPE => Ok(Kernel::new(move |args| {
                    by_rows(args.cx, args.outputs[0].as_mut_slice::<$t>(), cols, |rows, y| {
                        y.fill(<$t>::default());
                        for (i, y) in rows.zip(y.chunks_mut(cols)) {
                            let at = i64::try_from(i).ok().and_then(|i| i.checked_add(k));
                            let at = at.and_then(|at| usize::try_from(at).ok());
                            if let Some(y) = at.and_then(|at| y.get_mut(at)) {
                                *y = $one;
                            }
                        }
                    })
                })),)*
                _ => Err(unsupported!("EyeLike of {dtype} is not supported")),
            }
        };
    }
    eye!(
        f32 = 1.0,
        f64 = 1.0,
        f16 = f16::ONE,
        bf16 = bf16::ONE,
        Bool = Bool(1),
        i8 = 1,
        i16 = 1,
        i32 = 1,
        i64 = 1,
        u8 = 1,
        u16 = 1,
        u32 = 1,
        u64 = 1
    )
}
