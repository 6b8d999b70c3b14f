//! The grid where panels of A meet panels of B: how it is cut, and in which order tiles are made.

use std::ops::Range;

use super::tile::{self, Shape, Start, Store};
use super::{BLOCK_A, Bias, Gemm, PIECE_FLOPS, PIECE_READ, Panels, STEPS, Write};
use crate::math::Activation;
use crate::par;
use crate::simd::{Isa, MatMut, Simd};
use crate::stop::checkpoint;

/// Elements of B that are read again for each panel of A, for they stay in L2: whole rows of C are
/// then written one after the other.
const NEAR: usize = 48 * 1024;

/// Rows and columns of C that two sets of panels make.
pub(super) struct Job<'a> {
    pub isa: Isa,
    pub gemm: &'a Gemm<'a>,
    pub a: Panels<'a>,
    pub b: Panels<'a>,
    /// Where in C the panels start.
    pub row0: usize,
    pub col0: usize,
}

impl Job<'_> {
    /// Computes all of it, on as many threads as it is worth.
    pub fn share(&self, c: MatMut<'_, f32>) {
        let flops = 2usize.saturating_mul(c.rows()).saturating_mul(c.cols());
        let (flops, read) =
            (flops.saturating_mul(self.gemm.k), c.cols().saturating_mul(self.gemm.k));
        let pieces = match par::threads() {
            1 => 1,
            // Few rows take as long as B takes to be read.
            t => (flops / PIECE_FLOPS).max(read / PIECE_READ).clamp(1, 4 * t),
        };
        self.cut((0..self.a.plan().count(), 0..self.b.plan().count()), c, pieces);
    }

    /// Cuts the grid of panels into `pieces`, along the longer side, and computes each.
    fn cut(&self, grid: (Range<usize>, Range<usize>), c: MatMut<'_, f32>, pieces: usize) {
        let (rows, cols) = grid;
        if pieces <= 1 || rows.len() * cols.len() <= 1 {
            let mut c = c;
            return block(self.isa, self, (rows, cols), &mut c);
        }
        let left = pieces / 2;
        let by_cols = rows.len() <= 1 || (cols.len() > 1 && c.cols() >= c.rows());
        let side = if by_cols { &cols } else { &rows };
        let mid = side.start + (side.len() * left / pieces).clamp(1, side.len() - 1);
        let (first, second, c1, c2) = if by_cols {
            let at = self.b.plan().lanes(mid).start - self.b.plan().lanes(cols.start).start;
            let (c1, c2) = c.split_cols(at);
            ((rows.clone(), cols.start..mid), (rows, mid..cols.end), c1, c2)
        } else {
            let at = self.a.plan().lanes(mid).start - self.a.plan().lanes(rows.start).start;
            let (c1, c2) = c.split_rows(at);
            ((rows.start..mid, cols.clone()), (mid..rows.end, cols), c1, c2)
        };
        par::join(|| self.cut(first, c1, left), || self.cut(second, c2, pieces - left));
    }

    /// What a tile at these lanes starts from and is clipped to, when it takes these steps.
    #[inline(always)]
    fn store(&self, rows: &Range<usize>, cols: &Range<usize>, steps: &Range<usize>) -> Store<'_> {
        let gemm = self.gemm;
        let start = match gemm.epilogue.bias {
            _ if steps.start > 0 || gemm.write == Write::Add => Start::Load,
            Some(Bias::Row(x)) => Start::Row(&x[self.col0 + cols.start..self.col0 + cols.end]),
            Some(Bias::Col(x)) => Start::Col(&x[self.row0 + rows.start..self.row0 + rows.end]),
            None => Start::Zero,
        };
        let clip = match gemm.epilogue.activation {
            _ if steps.end < gemm.k || self.late() => None,
            Activation::Relu => Some((0.0, f32::INFINITY)),
            Activation::Clip(lo, hi) => Some((lo, hi)),
            _ => None,
        };
        Store { alpha: gemm.alpha, start, clip }
    }

    /// Something is added after the last step.
    #[inline(always)]
    fn late(&self) -> bool {
        let e = &self.gemm.epilogue;
        e.residual.is_some() || (e.bias.is_some() && self.gemm.write == Write::Add)
    }

    /// The epilogue is not done by what [`Job::store`] says.
    #[inline(always)]
    fn needs_finish(&self) -> bool {
        let light = matches!(
            self.gemm.epilogue.activation,
            Activation::None | Activation::Relu | Activation::Clip(..)
        );
        self.late() || !light
    }
}

crate::simd_fn! {
    /// The tiles where panels `grid.0` of A meet panels `grid.1` of B; `c` is just these.
    fn block(s: S, job: &Job<'_>, grid: (Range<usize>, Range<usize>), c: &mut MatMut<'_, f32>) {
        let (rows, cols) = grid;
        let (a, b, k) = (job.a, job.b, job.gemm.k);
        let (row0, col0) = (a.plan().lanes(rows.start).start, b.plan().lanes(cols.start).start);
        // How steps are cut says in which order a sum is added up: it depends on k alone, so that
        // a row is the same whatever rows are computed beside it.
        let steps = k.div_ceil(k.div_ceil(STEPS).max(1)).max(1);
        if a.plan().count() == 1 {
            return few(s, job, cols, steps, c);
        }
        let block = (c.rows() * steps).div_ceil(BLOCK_A).max(1);
        let together = rows.len().div_ceil(block).max(1);
        let near = steps * c.cols() <= NEAR;
        let mut k0 = 0;
        loop {
            let k1 = k.min(k0 + steps);
            let mut p0 = rows.start;
            while p0 < rows.end {
                checkpoint();
                let p1 = rows.end.min(p0 + together);
                let (panels, columns) = (p1 - p0, cols.len());
                for i in 0..panels * columns {
                    let (p, q) = match near {
                        true => (p0 + i / columns, cols.start + i % columns),
                        false => (p0 + i % panels, cols.start + i / panels),
                    };
                    let (r, lanes) = (a.plan().lanes(p), b.plan().lanes(q));
                    let mut c = c.block(r.start - row0, r.len(), lanes.start - col0, lanes.len());
                    meet(s, job, p, q..q + 1, &(k0..k1), &mut c);
                }
                p0 = p1;
            }
            if k1 == k {
                return;
            }
            k0 = k1;
        }
    }
}

/// As [`block`], where A has one panel: there is nothing to keep B for, it is read in one run.
#[inline(always)]
fn few<S: Simd>(s: S, job: &Job<'_>, cols: Range<usize>, steps: usize, c: &mut MatMut<'_, f32>) {
    let (k, plan) = (job.gemm.k, job.b.plan());
    let col0 = plan.lanes(cols.start).start;
    let full = Shape::of(job.isa).cols;
    let wide = tile::together::<S>(c.rows());
    let groups = cols.len().div_ceil(wide);
    for i in 0..groups {
        checkpoint();
        let i = if job.gemm.backwards { groups - 1 - i } else { i };
        let start = cols.start + i * wide;
        let group = start..cols.end.min(start + wide);
        let whole = group.len() == wide && plan.lanes(group.end - 1).len() == full;
        let each = if whole { wide } else { 1 };
        for q in group.clone().step_by(each) {
            let panels = q..q + each;
            let lanes = plan.lanes(q).start..plan.lanes(panels.end - 1).end;
            let mut c = c.block(0, c.rows(), lanes.start - col0, lanes.len());
            for k0 in (0..k.max(1)).step_by(steps) {
                meet(s, job, 0, panels.clone(), &(k0..k.min(k0 + steps)), &mut c);
            }
        }
    }
}

/// The tile where panel `p` of A meets panels `q` of B in these steps.
#[inline(always)]
fn meet<S: Simd>(
    s: S,
    job: &Job<'_>,
    p: usize,
    q: Range<usize>,
    steps: &Range<usize>,
    c: &mut MatMut<'_, f32>,
) {
    let (a, b, epilogue) = (job.a, job.b, &job.gemm.epilogue);
    let r = a.plan().lanes(p);
    let lanes = b.plan().lanes(q.start).start..b.plan().lanes(q.end - 1).end;
    let at = (job.row0 + r.start, job.col0 + lanes.start);
    let last = steps.end == job.gemm.k && job.needs_finish();
    if last {
        epilogue.expect(s, (at.0, r.len()), (at.1, lanes.len()));
    }
    let store = job.store(&r, &lanes, steps);
    let panel = |i: usize| b.steps((q.start + i).min(q.end - 1), steps.clone());
    match (q.len(), a.lying(p, steps.clone())) {
        (1, Some(a)) => tile::tile(s, a, panel(0), c, store),
        (1, None) => tile::tile(s, a.panel(p, steps.clone()), panel(0), c, store),
        (_, Some(a)) => tile::wide(s, a, std::array::from_fn(panel), c, store),
        (_, None) => tile::wide(s, a.panel(p, steps.clone()), std::array::from_fn(panel), c, store),
    }
    if last {
        epilogue.finish(s, job.gemm.write, c, at);
    }
}
