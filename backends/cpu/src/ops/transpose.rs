//! Transpose: rows where the last axis stays, tiles where it changes place.
//!
//! A transposition is a strided copy; this file holds its compilation and the tiles, which the
//! strided copy uses whenever another axis than the last one is dense in the source.
use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::Transpose;

use super::copy::{Copy, Stride, Word, by_rows, for_runs};
use crate::kernel::{Cx, Kernel};
use crate::simd::{F32s, Isa, MAX_LANES};
use crate::simd_fn;

pub(super) fn compile(op: &Transpose, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let perm = op.resolve(sizes.len())?;
    Copy::permuted(&sizes, &perm)?.kernel(cx.isa, cx.dtype(0)?)
}

/// A transposition of `rows × cols` elements: `y[r·y_row + c] = x[r + c·x_col]`.
struct Tile {
    rows: usize,
    cols: usize,
    x_col: usize,
    y_row: usize,
}

/// Columns that are transposed together: their lines of `y` fit into the first-level cache.
const COLS: usize = 64;

/// Fills `y`, whose axis `at` has step 1 in `x` and whose last axis has not.
pub(super) fn tiles<W: Word>(
    isa: Isa,
    cx: &RunCx<'_>,
    (x, offset, axes, at): (&[W], usize, &[Stride], usize),
    y: &mut [W],
) -> Result<(), Reason> {
    let (last, middle) = (axes[axes.len() - 1], &axes[at + 1..axes.len() - 1]);
    let row: usize = axes[at + 1..].iter().map(|a| a.size).product();
    // The axes before the last one's in the source, which step along the columns of each tile.
    let planes: usize = middle.iter().map(|a| a.size).product();
    by_rows(cx, y, row, |rows, y| {
        let mut y = y;
        for_runs(&axes[..=at], offset, rows, |base, _, count| {
            let part = std::mem::take(&mut y);
            let (now, later) = part.split_at_mut(count * row);
            y = later;
            let tile = Tile { rows: count, cols: last.size, x_col: last.step as usize, y_row: row };
            let mut to = 0;
            for_runs(middle, base, 0..planes, |base, step, planes| {
                for p in 0..planes as isize {
                    let from = (base as isize + p * step) as usize;
                    transpose_tile(isa, &tile, &x[from..], &mut now[to..]);
                    to += last.size;
                }
            });
        });
    })
}

fn transpose_tile<W: Word>(isa: Isa, tile: &Tile, x: &[W], y: &mut [W]) {
    let lanes = isa.lanes();
    if size_of::<W>() == 4 && lanes > 1 && tile.rows >= lanes && tile.cols >= lanes {
        // Bits are only moved: a load and a store change none of them.
        transpose_f32(isa, tile, bytemuck::cast_slice(x), bytemuck::cast_slice_mut(y));
    } else if tile.cols < 16 {
        for c in 0..tile.cols {
            let x = &x[c * tile.x_col..][..tile.rows];
            for (y, x) in y[c..].iter_mut().step_by(tile.y_row).zip(x) {
                *y = *x;
            }
        }
    } else {
        transpose_blocks(tile, x, y);
    }
}

/// Block by block, so that lines of `x` are used while they are near.
fn transpose_blocks<W: Word>(tile: &Tile, x: &[W], y: &mut [W]) {
    let block = (64 / size_of::<W>()).max(8);
    for c0 in (0..tile.cols).step_by(COLS) {
        let cols = COLS.min(tile.cols - c0);
        for r0 in (0..tile.rows).step_by(block) {
            for r in r0..(r0 + block).min(tile.rows) {
                let y = &mut y[r * tile.y_row + c0..][..cols];
                let x = x[r + c0 * tile.x_col..].iter().step_by(tile.x_col);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = *x;
                }
            }
        }
    }
}

simd_fn! {
    /// Squares of `LANES × LANES`; the last ones are moved back to end with the tile, so that
    /// some elements are written twice.
    fn transpose_f32(s: S, tile: &Tile, x: &[f32], y: &mut [f32]) {
        let lanes = S::LANES;
        let mut block = [s.zero(); MAX_LANES];
        let mut c_begin = 0;
        while c_begin < tile.cols {
            let c_end = (c_begin + COLS).min(tile.cols);
            let mut r = 0;
            while r < tile.rows {
                let r0 = r.min(tile.rows - lanes);
                let mut c = c_begin;
                while c < c_end {
                    let c0 = c.min(tile.cols - lanes);
                    for (i, lane) in block.iter_mut().enumerate().take(lanes) {
                        *lane = s.load(&x[(c0 + i) * tile.x_col + r0..]);
                    }
                    s.transpose(&mut block);
                    for (j, lane) in block.iter().enumerate().take(lanes) {
                        lane.store(&mut y[(r0 + j) * tile.y_row + c0..]);
                    }
                    c += lanes;
                }
                r += lanes;
            }
            c_begin += COLS;
        }
    }
}
