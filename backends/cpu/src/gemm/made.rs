//! A right operand that is made as it is needed: a convolution's patches are larger than the image
//! they come from, so only those columns exist that are being multiplied.
//!
//! Blocks of columns that fit L2 are made and used at once, each by one thread. Where there are too
//! few of them for the threads, all columns are made first and the product is cut by rows too.

use std::sync::OnceLock;

use super::pack::PanelPlan;
use super::tile::Shape;
use super::{CHUNK, Gemm, Job, Lhs, PIECE_FLOPS, Right};
use crate::par;
use crate::pool::with_scratch;
use crate::simd::{Isa, MatMut};

/// Elements of the right operand made at a time by one thread: they stay in L2.
const BLOCK_B: usize = 96 * 1024;

/// The columns of a matrix, made on demand.
pub trait Made: Sync + std::fmt::Debug {
    /// Writes columns `first..first + cols` to `panel`, row after row, `width` elements each; what
    /// stands beyond `cols` may be anything.
    fn panel(&self, isa: Isa, first: usize, cols: usize, width: usize, panel: &mut [f32]);
}

pub(super) fn run(
    isa: Isa,
    gemm: &Gemm<'_>,
    b: &dyn Made,
    c: MatMut<'_, f32>,
) -> Result<(), String> {
    let a = match gemm.a {
        Lhs::Packed(_) => return blocks(isa, gemm, b, c),
        Lhs::Plain(a) => a,
    };
    let packed = super::PackedA::pack(isa, gemm.m, gemm.k, a)?;
    blocks(isa, &Gemm { a: Lhs::Packed(&packed), ..*gemm }, b, c)
}

fn blocks(isa: Isa, gemm: &Gemm<'_>, b: &dyn Made, c: MatMut<'_, f32>) -> Result<(), String> {
    let shape = Shape::of(isa);
    let chunk =
        |elements: usize| (elements / gemm.k.max(1) / shape.cols * shape.cols).max(shape.cols);
    let (block, most) = (chunk(BLOCK_B), chunk(CHUNK));
    let threads = par::threads();
    let worth = gemm.flops() / PIECE_FLOPS >= 2;
    let failed = OnceLock::new();
    let work = Columns { isa, gemm, b, failed: &failed };
    if threads == 1 || !worth || gemm.n.div_ceil(block) >= 2 * threads {
        let pieces = if worth { (2 * threads).min(gemm.flops() / PIECE_FLOPS) } else { 1 };
        work.cut(c, 0, block, if threads == 1 { 1 } else { pieces });
    } else {
        work.together(c, most);
    }
    failed.into_inner().map_or(Ok(()), Err)
}

/// A product whose right operand is made.
struct Columns<'a> {
    isa: Isa,
    gemm: &'a Gemm<'a>,
    b: &'a dyn Made,
    failed: &'a OnceLock<String>,
}

impl Columns<'_> {
    /// Cuts C by columns, at whole panels, one piece a thread.
    fn cut(&self, c: MatMut<'_, f32>, col0: usize, block: usize, pieces: usize) {
        let panels = c.cols().div_ceil(Shape::of(self.isa).cols);
        let at = panels * (pieces / 2) / pieces.max(1) * Shape::of(self.isa).cols;
        if pieces > 1 && at > 0 && at < c.cols() {
            let (left, right) = c.split_cols(at);
            let half = pieces / 2;
            par::join(
                || self.cut(left, col0, block, half),
                || self.cut(right, col0 + at, block, pieces - half),
            );
            return;
        }
        let (mut c, mut done) = (c, 0);
        while done < c.cols() {
            let n = block.min(c.cols() - done);
            let (m, first) = (c.rows(), col0 + done);
            self.block(c.block(0, m, done, n), first, 1);
            done += n;
        }
    }

    /// Makes all columns, `most` at a time, before the product is cut for the threads.
    fn together(&self, mut c: MatMut<'_, f32>, most: usize) {
        for first in (0..c.cols()).step_by(most) {
            let n = most.min(c.cols() - first);
            let m = c.rows();
            let pieces = (self.gemm.flops() / PIECE_FLOPS).clamp(1, 4 * par::threads());
            self.block(c.block(0, m, first, n), first, pieces);
        }
    }

    fn block(&self, c: MatMut<'_, f32>, first: usize, pieces: usize) {
        let plan = PanelPlan::new::<Right>(Shape::of(self.isa), self.gemm.k, c.cols());
        let done = plan.len().and_then(|len| {
            with_scratch(len, |packed| {
                plan.each(packed, pieces > 1, |p, panel| {
                    let lanes = plan.lanes(p);
                    let width = plan.stored(p);
                    self.b.panel(self.isa, first + lanes.start, lanes.len(), width, panel);
                });
                let Lhs::Packed(a) = self.gemm.a else { return Ok(()) };
                let a = a.panels(self.isa, self.gemm.m, self.gemm.k)?;
                let b = plan.view(packed);
                let job = Job { isa: self.isa, gemm: self.gemm, a, b, row0: 0, col0: first };
                job.cut((0..a.plan().count(), 0..plan.count()), c, pieces);
                Ok(())
            })
        });
        if let Err(e) | Ok(Err(e)) = done {
            self.failed.get_or_init(|| e);
        }
    }
}
