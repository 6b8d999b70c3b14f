//! One strided copy for every operator that only moves elements: Transpose, Slice, Expand, Tile,
//! Split, DepthToSpace.
//!
//! y[i₀, i₁, …] = x[offset + Σ iₖ·strideₖ], y dense and row-major. Axes that run on into each
//! other are merged first; what is left decides how elements are copied:
//! whole rows (innermost stride 1), one element repeated (0), tiles of a transposition (another
//! axis has stride 1), or element by element.
use std::ops::Range;

use bytemuck::Pod;
use rinfer_graph::backend::RunCx;
use rinfer_graph::{DType, Reason, invalid, with_width};
use smallvec::SmallVec;

use super::transpose::tiles;
use crate::kernel::Kernel;
use crate::par;
use crate::simd::Isa;

/// A word that moves: as wide as an element, whatever the element means.
pub(super) trait Word: Pod + Send + Sync + PartialEq {}
impl<W: Pod + Send + Sync + PartialEq> Word for W {}

/// One axis of a strided copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stride {
    /// Elements along it.
    pub size: usize,
    /// Elements of the source from one to the next.
    pub step: isize,
}

/// What is copied where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Copy {
    offset: usize,
    /// Outermost first, merged; empty for a single element.
    axes: SmallVec<[Stride; 6]>,
    /// Elements of the result.
    len: usize,
    /// Elements of the source.
    source: usize,
}

impl Copy {
    /// A copy of elements of a source of `source` elements; `Err` if it would reach outside.
    pub fn new(source: usize, offset: usize, axes: &[Stride]) -> Result<Copy, Reason> {
        let sizes: SmallVec<[usize; 6]> = axes.iter().map(|a| a.size).collect();
        let too_large = || invalid!("{sizes:?} elements are more than any memory holds");
        let len = rinfer_graph::shape::count(&sizes).ok_or_else(too_large)?;
        if len > 0 {
            // The first and last elements that are read.
            let (mut lo, mut hi) = (offset as i128, offset as i128);
            for axis in axes {
                let span = (axis.size as i128 - 1) * axis.step as i128;
                if span < 0 { lo += span } else { hi += span }
            }
            if lo < 0 || hi >= source as i128 {
                return Err(invalid!("elements {lo} to {hi} of a tensor of {source} are needed"));
            }
        }
        Ok(Copy { offset, axes: merged(axes), len, source })
    }

    /// A dense tensor seen with its axes in another order.
    pub fn permuted(sizes: &[usize], perm: &[usize]) -> Result<Copy, Reason> {
        let strides = dense(sizes);
        let axes: SmallVec<[Stride; 8]> = perm.iter().map(|&axis| strides[axis]).collect();
        Copy::new(sizes.iter().product(), 0, &axes)
    }

    /// Whether the result is the source as it is.
    pub fn is_whole(&self) -> bool {
        self.offset == 0
            && self.len == self.source
            && (self.len == 0 || matches!(self.axes[..], [] | [Stride { step: 1, .. }]))
    }

    /// The kernel that copies input 0 to output 0; a view if there is nothing to do.
    pub fn kernel(self, isa: Isa, dtype: DType) -> Result<Kernel, Reason> {
        if self.is_whole() {
            return Ok(Kernel::view());
        }
        with_width!(dtype, W => Ok(Kernel::new(move |args| {
            let x = args.input(0)?;
            self.run::<W>(isa, args.cx, x.as_bits(), args.outputs[0].as_mut_bits())
        })), else Err(invalid!("{dtype} does not move by itself")))
    }

    /// Fills `y` from `x`.
    pub fn run<W: Word>(
        &self,
        isa: Isa,
        cx: &RunCx<'_>,
        x: &[W],
        y: &mut [W],
    ) -> Result<(), Reason> {
        if x.len() != self.source || y.len() != self.len {
            let (from, to) = (x.len(), y.len());
            return Err(invalid!(
                "{from} and {to} elements, {} and {} planned",
                self.source,
                self.len
            ));
        }
        if self.len == 0 {
            return Ok(());
        }
        let Some((&last, outer)) = self.axes.split_last() else {
            y[0] = x[self.offset];
            return Ok(());
        };
        if last.step == 1 && outer.is_empty() {
            return copy_flat(cx, &x[self.offset..][..self.len], y);
        }
        if last.step != 1
            && last.step > 1
            && let Some(at) = outer.iter().position(|axis| axis.step == 1)
        {
            return tiles(isa, cx, (x, self.offset, &self.axes, at), y);
        }
        by_rows(cx, y, last.size, |rows, y| {
            let mut y = y;
            for_runs(outer, self.offset, rows, |base, step, count| {
                let part = std::mem::take(&mut y);
                let (now, later) = part.split_at_mut(count * last.size);
                y = later;
                copy_rows(x, (base, step), last, now);
            });
        })
    }
}

/// Axes of a dense tensor.
pub(super) fn dense(sizes: &[usize]) -> SmallVec<[Stride; 6]> {
    let strides = rinfer_graph::shape::strides(sizes);
    let axis = |(&size, step)| Stride { size, step: isize::try_from(step).unwrap_or(0) };
    sizes.iter().zip(strides).map(axis).collect()
}

/// The same axes, without those of size 1, those merged that run on into each other.
fn merged(axes: &[Stride]) -> SmallVec<[Stride; 6]> {
    let mut out = SmallVec::<[Stride; 6]>::new();
    for &axis in axes.iter().filter(|axis| axis.size != 1) {
        match out.last_mut() {
            Some(last) if Some(last.step) == axis.step.checked_mul(axis.size as isize) => {
                *last = Stride { size: last.size.saturating_mul(axis.size), step: axis.step };
            }
            _ => out.push(axis),
        }
    }
    out
}

/// Bytes that are copied between two looks at whether the run is to stop.
const SLAB: usize = 8 << 20;

/// Runs `f(rows, part of y)` on pieces of `y`, which has rows of `row` elements, on all threads.
pub(super) fn by_rows<W: Word>(
    cx: &RunCx<'_>,
    y: &mut [W],
    row: usize,
    f: impl Fn(Range<usize>, &mut [W]) + Sync,
) -> Result<(), Reason> {
    by_slabs(cx, y, row, &f)
}

fn by_slabs<W: Word>(
    cx: &RunCx<'_>,
    y: &mut [W],
    row: usize,
    f: &(dyn Fn(Range<usize>, &mut [W]) + Sync),
) -> Result<(), Reason> {
    if y.is_empty() {
        return Ok(());
    }
    let bytes = row.saturating_mul(size_of::<W>());
    let slab = (SLAB / bytes.max(1)).max(1);
    for (i, y) in y.chunks_mut(slab.saturating_mul(row)).enumerate() {
        cx.check()?;
        par::rows(y, row, row_ns(bytes), |rows, y| {
            f(rows.start + i * slab..rows.end + i * slab, y);
        });
    }
    Ok(())
}

/// Nanoseconds that moving a row of this many bytes takes, about.
pub(super) fn row_ns(bytes: usize) -> usize {
    1 + bytes / 8
}

/// Copies `x` to `y`, of the same length, on all threads if that is worth it.
pub(super) fn copy_flat<W: Word>(cx: &RunCx<'_>, x: &[W], y: &mut [W]) -> Result<(), Reason> {
    const PIECE: usize = 1 << 16;
    let bytes = size_of_val(x);
    if bytes <= 4 * PIECE {
        y.copy_from_slice(x);
        return Ok(());
    }
    let piece = PIECE / size_of::<W>();
    by_rows(cx, y, piece, |rows, y| {
        let start = rows.start * piece;
        y.copy_from_slice(&x[start..start + y.len()]);
    })
}

/// Calls `f(base, step, count)` for runs of rows that lie `step` apart: together the rows `rows`
/// of the index space `axes`, in order; `base` is where the run's first row begins in the source.
pub(super) fn for_runs(
    axes: &[Stride],
    offset: usize,
    rows: Range<usize>,
    mut f: impl FnMut(usize, isize, usize),
) {
    each_run(axes, offset, rows, &mut f);
}

fn each_run(
    axes: &[Stride],
    offset: usize,
    rows: Range<usize>,
    f: &mut dyn FnMut(usize, isize, usize),
) {
    let Some((last, outer)) = axes.split_last() else {
        if !rows.is_empty() {
            f(offset, 0, 1);
        }
        return;
    };
    // The index of the first row, innermost axis last.
    let mut index = SmallVec::<[usize; 8]>::from_elem(0, outer.len());
    let mut rest = rows.start / last.size;
    let mut base = offset as isize;
    for (i, axis) in outer.iter().enumerate().rev() {
        index[i] = rest % axis.size;
        rest /= axis.size;
        base += index[i] as isize * axis.step;
    }
    let mut first = rows.start % last.size;
    let mut left = rows.len();
    while left > 0 {
        let count = left.min(last.size - first);
        f((base + first as isize * last.step) as usize, last.step, count);
        left -= count;
        first = 0;
        for (i, axis) in outer.iter().enumerate().rev() {
            index[i] += 1;
            base += axis.step;
            if index[i] < axis.size {
                break;
            }
            index[i] = 0;
            base -= axis.size as isize * axis.step;
        }
    }
}

/// Copies rows of `row.size` elements; the first begins at `base`, each `step` after the one before.
#[inline]
fn copy_rows<W: Word>(x: &[W], (base, step): (usize, isize), row: Stride, y: &mut [W]) {
    let starts = (0..).map(|i: isize| (base as isize + i * step) as usize);
    match row.step {
        1 => match row.size {
            2 => copy_short::<W, 2>(x, starts, y),
            3 => copy_short::<W, 3>(x, starts, y),
            4 => copy_short::<W, 4>(x, starts, y),
            8 => copy_short::<W, 8>(x, starts, y),
            n => {
                for (start, y) in starts.zip(y.chunks_exact_mut(n)) {
                    y.copy_from_slice(&x[start..start + n]);
                }
            }
        },
        0 => {
            for (start, y) in starts.zip(y.chunks_exact_mut(row.size)) {
                y.fill(x[start]);
            }
        }
        by if by > 0 => {
            for (start, y) in starts.zip(y.chunks_exact_mut(row.size)) {
                for (y, x) in y.iter_mut().zip(x[start..].iter().step_by(by as usize)) {
                    *y = *x;
                }
            }
        }
        by => {
            for (start, y) in starts.zip(y.chunks_exact_mut(row.size)) {
                let x = x[..=start].iter().rev().step_by(by.unsigned_abs());
                for (y, x) in y.iter_mut().zip(x) {
                    *y = *x;
                }
            }
        }
    }
}

/// Rows so short that a call to copy them would cost more than copying.
#[inline]
fn copy_short<W: Word, const N: usize>(x: &[W], starts: impl Iterator<Item = usize>, y: &mut [W]) {
    for (start, y) in starts.zip(y.as_chunks_mut::<N>().0) {
        if let Some(x) = x[start..].first_chunk::<N>() {
            *y = *x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::par::Pool;

    /// Copies by the definition.
    fn naive(x: &[u32], offset: usize, axes: &[Stride]) -> Vec<u32> {
        match axes.split_first() {
            None => vec![x[offset]],
            Some((axis, rest)) => (0..axis.size as isize)
                .flat_map(|i| naive(x, (offset as isize + i * axis.step) as usize, rest))
                .collect(),
        }
    }

    fn check(source: usize, offset: usize, axes: &[(usize, isize)]) {
        let axes: Vec<Stride> = axes.iter().map(|&(size, step)| Stride { size, step }).collect();
        let x: Vec<u32> = (0..source as u32).collect();
        let copy = Copy::new(source, offset, &axes).unwrap();
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut y = vec![0; copy.len];
                Pool::new(threads).unwrap().install(|| {
                    copy.run(isa, &RunCx::unbounded(), &x, &mut y).unwrap();
                });
                assert!(y == naive(&x, offset, &axes), "{} {axes:?}", isa.name());
            }
        }
    }

    #[test]
    fn every_kind_of_stride_is_followed() {
        check(24, 0, &[(2, 12), (3, 4), (4, 1)]);
        check(24, 5, &[(2, 12), (2, 4), (3, 1)]);
        check(24, 0, &[(4, 1), (3, 4), (2, 12)]);
        check(6, 2, &[(5, 0), (2, 3), (4, 0)]);
        check(24, 23, &[(2, -12), (3, -4), (4, -1)]);
        check(24, 20, &[(3, -8), (4, 1), (2, -2)]);
        check(60, 1, &[(3, 20), (5, 3)]);
        check(7, 3, &[]);
        check(64 * 300, 0, &[(300, 64), (64, 1)]);
    }

    #[test]
    fn transpositions_of_every_size_are_right() {
        for (m, n) in [(1, 5), (7, 9), (16, 16), (17, 33), (64, 3), (3, 64), (130, 70)] {
            check(m * n, 0, &[(n, 1), (m, n as isize)]);
            check(2 * m * n, 0, &[(2, (m * n) as isize), (n, 1), (m, n as isize)]);
            check(2 * m * n, 0, &[(n, 1), (2, (m * n) as isize), (m, n as isize)]);
            check(2 * m * n, 0, &[(n, 2), (2, 1), (m, 2 * n as isize)]);
        }
        check(512 * 1024, 0, &[(512, 1), (1024, 512)]);
    }

    #[test]
    fn nothing_to_do_is_a_view() {
        assert!(Copy::permuted(&[1, 5, 1, 3], &[1, 0, 3, 2]).unwrap().is_whole());
        assert!(!Copy::permuted(&[2, 5], &[1, 0]).unwrap().is_whole());
        assert!(Copy::new(0, 0, &dense(&[0, 3])).unwrap().is_whole());
        assert!(Copy::new(4, 0, &dense(&[5])).is_err());
        assert!(Copy::new(4, 1, &[Stride { size: 3, step: -1 }]).is_err());
    }
}
