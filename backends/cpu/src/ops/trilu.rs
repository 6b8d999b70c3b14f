//! Trilu and EyeLike: rows of matrices, cut or marked at a diagonal.
use bytemuck::Zeroable;
use rinfer_graph::ops::{EyeLike, Trilu};
use rinfer_graph::{DType, Reason, Tensor, invalid, unsupported, with_width};

use super::copy::by_rows;
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
                    // The lower triangle keeps the diagonal's column too.
                    let first = column(row % rows, if upper { k } else { k.saturating_add(1) }, cols);
                    y[if upper { 0..first } else { first..cols }].fill(W::zeroed());
                }
            })
        });
        Ok(kernel.in_place(&[0]))
    }, else Err(invalid!("{dtype} does not move by itself")))
}

pub(super) fn compile_eye(op: &EyeLike, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.out_sizes(0)?;
    let [_, cols] = sizes[..] else { return Err(invalid!("rank {} is not 2", sizes.len())) };
    let (k, dtype) = (op.k, cx.outputs[0].dtype()?);
    let mut one = Tensor::try_zeros(dtype, &[1])?;
    let known = matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Bool);
    if !known && (!dtype.is_int() || dtype.is_packed()) {
        return Err(unsupported!("EyeLike of {dtype} is not supported"));
    }
    super::cast::from_doubles(&[1.0], &mut one)?;
    let size = dtype.size();
    Ok(Kernel::new(move |args| {
        by_rows(args.cx, args.outputs[0].as_mut_bytes(), cols * size, |rows, y| {
            y.fill(0);
            for (i, y) in rows.zip(y.chunks_mut(cols * size)) {
                let at = i64::try_from(i).ok().and_then(|i| i.checked_add(k));
                let at = at.and_then(|at| usize::try_from(at).ok()).filter(|&at| at < cols);
                if let Some(at) = at {
                    y[at * size..][..size].copy_from_slice(one.as_bytes());
                }
            }
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    fn check(upper: bool, k: i64, expected: [i8; 6]) {
        let x = Tensor::from_slice(&[2, 3], &[1i8, 2, 3, 4, 5, 6]);
        let y = run1(Isa::best(), Trilu { upper }, &[x, Tensor::scalar(k)]).unwrap();
        assert_eq!(y.as_slice::<i8>(), expected);
    }

    #[test]
    fn triangles_begin_at_the_diagonal() {
        check(true, 0, [1, 2, 3, 0, 5, 6]);
        check(true, 2, [0, 0, 3, 0, 0, 0]);
        check(true, i64::MIN, [1, 2, 3, 4, 5, 6]);
        check(false, 0, [1, 0, 0, 4, 5, 0]);
        check(false, -1, [0, 0, 0, 4, 0, 0]);
        check(false, i64::MIN, [0; 6]);
        check(false, i64::MAX, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn ones_stand_on_the_diagonal() {
        let eye = |k| {
            let op = EyeLike { dtype: None, k };
            run1(Isa::best(), op, &[Tensor::from_slice(&[2, 3], &[9u8; 6])]).unwrap()
        };
        assert_eq!(eye(1).as_slice::<u8>(), [0, 1, 0, 0, 0, 1]);
        assert_eq!(eye(-1).as_slice::<u8>(), [0, 0, 0, 1, 0, 0]);
        assert_eq!(eye(i64::MAX).as_slice::<u8>(), [0; 6]);
    }
}
