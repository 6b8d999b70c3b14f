//! Gather, GatherElements, GatherND: indices are checked, all of them, before anything is copied.
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{Gather, GatherElements, GatherND, position};
use rinfer_graph::{DType, Reason, Tensor, invalid, with_width};
use smallvec::SmallVec;

use super::copy::{Stride, Word, by_rows, dense, for_runs};
use crate::kernel::{Cx, Kernel};

/// Indices as positions on an axis of `n` elements; few of them need no memory of their own.
pub(super) type Positions = SmallVec<[usize; 16]>;

/// `f` of every index, as int64; `Err` for other types than int32 and int64.
pub(super) fn map_indices<T>(
    indices: &Tensor,
    f: impl Fn(i64) -> Result<T, Reason>,
) -> Result<SmallVec<[T; 16]>, Reason> {
    match indices.dtype() {
        DType::I32 => indices.as_slice::<i32>().iter().map(|&i| f(i64::from(i))).collect(),
        DType::I64 => indices.as_slice::<i64>().iter().map(|&i| f(i)).collect(),
        other => Err(invalid!("indices of type {other}")),
    }
}

/// Every index as a position on an axis of `n` elements; `Err` if one is out of range.
pub(super) fn positions(indices: &Tensor, n: usize) -> Result<Positions, Reason> {
    map_indices(indices, |i| position(i, n))
}

/// x [outer, n, inner], positions [i] → y [outer, i, inner]
pub(super) fn gather_rows<W: Word>(
    cx: &RunCx<'_>,
    x: &[W],
    (n, inner): (usize, usize),
    at: &[usize],
    y: &mut [W],
) -> Result<(), Reason> {
    if inner == 1 {
        return by_rows(cx, y, at.len(), |rows, y| {
            for (outer, y) in rows.zip(y.chunks_mut(at.len())) {
                let x = &x[outer * n..][..n];
                for (y, &at) in y.iter_mut().zip(at) {
                    *y = x[at];
                }
            }
        });
    }
    by_rows(cx, y, inner, |rows, y| {
        for (row, y) in rows.zip(y.chunks_mut(inner)) {
            let (outer, i) = (row / at.len(), row % at.len());
            y.copy_from_slice(&x[(outer * n + at[i]) * inner..][..inner]);
        }
    })
}

pub(super) fn compile(op: &Gather, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let (n, inner) = (sizes[axis], sizes[axis + 1..].iter().product());
    let (dtype, size) = (cx.dtype(0)?, cx.dtype(0)?.size());
    with_width!(dtype, W => Ok(Kernel::new(move |args| {
        let at = positions(args.input(1)?, n)?;
        let (x, y) = (args.input(0)?, &mut args.outputs[0]);
        if inner > 1 {
            // Bytes: a few rows of a mapped table must not cost a copy of all to align it.
            return gather_rows(args.cx, x.as_bytes(), (n, inner * size), &at, y.as_mut_bytes());
        }
        gather_rows(args.cx, x.as_bits::<W>(), (n, inner), &at, y.as_mut_bits())
    })), else Err(invalid!("{dtype} does not move by itself")))
}

/// The rows of the indices of GatherElements and ScatterElements, over the data.
pub(super) struct ElementRows {
    /// The axes of a row's number, stepping through the data; the indexed axis stands still.
    pub outer: SmallVec<[Stride; 6]>,
    /// Indices in a row.
    pub len: usize,
    /// From one element of a row to the next in the data; 0 if the last axis is the indexed one.
    pub along: usize,
    /// From one index to the next in the data.
    pub step: usize,
    /// Size of the indexed axis.
    pub size: usize,
}

impl ElementRows {
    pub fn new(data: &[usize], indices: &[usize], axis: usize) -> Result<ElementRows, Reason> {
        let steps = dense(data);
        let fits = |(k, &n): (usize, &usize)| k == axis || n <= data[k];
        if data.len() != indices.len() || !indices.iter().enumerate().all(fits) {
            return Err(invalid!("indices of shape {indices:?} for data of shape {data:?}"));
        }
        let last = data.len() - 1;
        let still =
            |k: usize| Stride { size: indices[k], step: if k == axis { 0 } else { steps[k].step } };
        Ok(ElementRows {
            outer: (0..last).map(still).collect(),
            len: indices[last],
            along: usize::from(axis != last),
            step: steps[axis].step.unsigned_abs(),
            size: data[axis],
        })
    }
}

pub(super) fn compile_elements(op: &GatherElements, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, indices) = (cx.sizes(0)?, cx.sizes(1)?);
    let rows = ElementRows::new(&sizes, &indices, op.axis.resolve(sizes.len())?)?;
    let dtype = cx.dtype(0)?;
    with_width!(dtype, W => Ok(Kernel::new(move |args| {
        let at = positions(args.input(1)?, rows.size)?;
        let x = args.input(0)?.as_bits::<W>();
        by_rows(args.cx, args.outputs[0].as_mut_bits::<W>(), rows.len, |range, y| {
            let mut i = range.start * rows.len;
            let mut y = y.iter_mut();
            for_runs(&rows.outer, 0, range, |base, step, count| {
                for row in 0..count as isize {
                    let base = (base as isize + row * step) as usize;
                    for k in 0..rows.len {
                        if let Some(y) = y.next() {
                            *y = x[base + k * rows.along + at[i] * rows.step];
                        }
                        i += 1;
                    }
                }
            });
        })
    })), else Err(invalid!("{dtype} does not move by itself")))
}

/// Where the slices begin that indices [.., tuple] mean in data with these sizes. `batch` leading
/// axes are counted through, `per_batch` tuples for each.
pub(super) fn tuple_offsets(
    sizes: &[usize],
    tuple: usize,
    (batch, per_batch): (usize, usize),
    indices: &Tensor,
) -> Result<SmallVec<[usize; 16]>, Reason> {
    let steps = dense(sizes);
    let axes = batch..batch + tuple;
    let one_batch: usize = sizes[batch..].iter().product();
    let place = |(i, index): (usize, &[i64])| {
        let mut at = i / per_batch.max(1) * one_batch;
        for (&index, axis) in index.iter().zip(axes.clone()) {
            at += position(index, sizes[axis])? * steps[axis].step.unsigned_abs();
        }
        Ok(at)
    };
    if tuple == 0 {
        // No indices at all: each means everything.
        let count = indices.shape()[..indices.rank() - 1].iter().product::<usize>();
        return (0..count).map(|i| place((i, &[]))).collect();
    }
    indices.as_slice::<i64>().chunks_exact(tuple).enumerate().map(place).collect()
}

pub(super) fn compile_nd(op: &GatherND, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, indices) = (cx.sizes(0)?, cx.sizes(1)?);
    let Some((&tuple, outer)) = indices.split_last() else {
        return Err(invalid!("indices of rank 0"));
    };
    let batch = op.batch_dims;
    let per_batch: usize = outer[batch..].iter().product();
    let inner: usize = sizes[batch + tuple..].iter().product();
    let (dtype, size) = (cx.dtype(0)?, cx.dtype(0)?.size());
    with_width!(dtype, W => Ok(Kernel::new(move |args| {
        if args.outputs[0].is_empty() {
            // Indices into an axis of size 0 are wrong all the same.
            return tuple_offsets(&sizes, tuple, (batch, per_batch), args.input(1)?).map(drop);
        }
        let at = tuple_offsets(&sizes, tuple, (batch, per_batch), args.input(1)?)?;
        let (x, y) = (args.input(0)?, &mut args.outputs[0]);
        if inner > 1 {
            return pick(args.cx, x.as_bytes(), &at, (size, inner * size), y.as_mut_bytes());
        }
        pick(args.cx, x.as_bits::<W>(), &at, (1, 1), y.as_mut_bits())
    })), else Err(invalid!("{dtype} does not move by itself")))
}

/// Copies the slices of `len` words that begin `at` elements of `unit` words into `x`.
fn pick<W: Word>(
    cx: &RunCx<'_>,
    x: &[W],
    at: &[usize],
    (unit, len): (usize, usize),
    y: &mut [W],
) -> Result<(), Reason> {
    by_rows(cx, y, len, |rows, y| {
        for (row, y) in rows.zip(y.chunks_mut(len)) {
            y.copy_from_slice(&x[at[row] * unit..][..len]);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::ops::Axis;

    fn data() -> Tensor {
        Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])
    }

    #[test]
    fn slices_are_picked_along_the_axis() {
        let gather = |axis, indices: &[i64]| {
            let op = Gather { axis: Axis(axis) };
            run1(Isa::best(), op, &[data(), Tensor::vector(indices)])
        };
        assert_eq!(gather(0, &[1, -2]).unwrap().as_slice::<f32>(), [4., 5., 6., 1., 2., 3.]);
        assert_eq!(gather(1, &[2, 0]).unwrap().as_slice::<f32>(), [3., 1., 6., 4.]);
        assert_eq!(gather(1, &[]).unwrap().shape(), [2, 0]);
        let error = gather(0, &[2]).unwrap_err().to_string();
        assert_eq!(error, "index 2 is out of range for an axis of size 2");
    }

    #[test]
    fn elements_are_picked_one_by_one() {
        let gather = |axis, sizes: &[usize], indices: &[i32]| {
            let indices = Tensor::from_slice(sizes, indices);
            run1(Isa::best(), GatherElements { axis: Axis(axis) }, &[data(), indices])
        };
        let y = gather(0, &[1, 3], &[1, 0, -1]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [4., 2., 6.]);
        let y = gather(1, &[2, 4], &[0, 0, 2, -1, 1, 1, 0, 2]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [1., 1., 3., 3., 5., 5., 4., 6.]);
        assert!(gather(0, &[1, 3], &[2, 0, 0]).is_err());
    }

    #[test]
    fn tuples_pick_slices_in_their_batch() {
        let nd = |batch_dims, sizes: &[usize], indices: &[i64]| {
            let indices = Tensor::from_slice(sizes, indices);
            run1(Isa::best(), GatherND { batch_dims }, &[data(), indices])
        };
        assert_eq!(nd(0, &[2, 2], &[0, -1, 1, 0]).unwrap().as_slice::<f32>(), [3., 4.]);
        assert_eq!(nd(0, &[1, 1], &[1]).unwrap().as_slice::<f32>(), [4., 5., 6.]);
        assert_eq!(nd(1, &[2, 1], &[2, 0]).unwrap().as_slice::<f32>(), [3., 4.]);
        assert_eq!(nd(0, &[2, 0], &[]).unwrap().shape(), [2, 2, 3]);
        assert!(nd(0, &[1, 2], &[0, 3]).is_err());
    }
}
