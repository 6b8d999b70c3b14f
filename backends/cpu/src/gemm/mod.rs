//! Matrix products: `C[m, n] = activation(alpha · A[m, k] · B[k, n] (+ C) + bias + residual)`.
//!
//! B is packed into panels, ahead of time ([`PackedB`]) or on the way; so is A ([`PackedA`]), unless its
//! rows can be read as they lie; then tiles that live in registers walk along `k` ([`tile`]). C is cut in two dimensions for
//! threads; which piece computes an element never changes how it is computed. A with few rows
//! times B as it lies in memory takes another way, which reads B once ([`thin`]).

pub mod bytes;
pub mod codes;
mod generic;
mod grid;
mod made;
mod pack;
pub mod room;
#[cfg(test)]
mod tests;
mod thin;
pub mod tile;

pub use generic::{Number, gemm_generic};
use grid::Job;
pub use made::{Made, MadeRows};
pub(crate) use made::{panel_lanes, panels_len, run_panels};
pub use pack::{Layout, Left, Packed, PackedA, PackedB, Right, Side, Strided};

use crate::math::Activation;
use crate::par;
use crate::pool::with_scratch;
use crate::simd::{F32s, Isa, MatMut, Simd};
pub(crate) use pack::{PanelPlan, Panels};
use rinfer_graph::sync::OnceLock;
use room::Blocks;
use tile::Shape;

/// Steps of `k` that tiles take before the next block. Each block reads and writes C once more,
/// which costs more than panels of B that stay in L2 instead of L1.
const STEPS: usize = 1024;
/// Elements of A in one block, about: they stay in L2.
const BLOCK_A: usize = 160 * 1024;
/// Elements of A or B packed on the way, at a time, by all threads together.
const CHUNK: usize = 2 * 1024 * 1024;
/// Elements of B that a thread packs for itself, at a time: they stay in L2.
const OWN: usize = 128 * 1024;
/// Operations worth handing to another thread.
const PIECE_FLOPS: usize = 1_500_000;
/// Elements of B worth handing to another thread.
const PIECE_READ: usize = 100_000;
/// Most rows for which B is read as it lies in memory.
const THIN: usize = 8;

/// The left operand.
#[derive(Clone, Copy, Debug)]
pub enum Lhs<'a> {
    /// As it lies in memory.
    Plain(Strided<'a>),
    /// Packed ahead of time.
    Packed(&'a PackedA),
    /// Made some rows at a time.
    Made(&'a dyn MadeRows),
}

/// The right operand.
#[derive(Clone, Copy, Debug)]
pub enum Rhs<'a> {
    /// As it lies in memory.
    Plain(Strided<'a>),
    /// Packed ahead of time.
    Packed(&'a PackedB),
    /// Made panel by panel.
    Made(&'a dyn Made),
}

/// What happens to what C holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Write {
    /// It is overwritten.
    #[default]
    Set,
    /// The product is added to it.
    Add,
}

/// A vector added to the product.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a> {
    /// A row: one number per column of C.
    Row(&'a [f32]),
    /// A column: one number per row of C.
    Col(&'a [f32]),
}

/// What follows the product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added first.
    pub bias: Option<Bias<'a>>,
    /// A matrix like C, and the distance between its rows; added next.
    pub residual: Option<(&'a [f32], usize)>,
    /// Applied last.
    pub activation: Activation,
}

/// A matrix product to be computed.
#[derive(Clone, Copy, Debug)]
pub struct Gemm<'a> {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// What the product is multiplied by.
    pub alpha: f32,
    /// Left operand, `m × k`.
    pub a: Lhs<'a>,
    /// Right operand, `k × n`.
    pub b: Rhs<'a>,
    /// What happens to what C holds.
    pub write: Write,
    /// What follows.
    pub epilogue: Epilogue<'a>,
    /// Whether few rows meet B from its last column to its first. A weight that just does not fit
    /// a cache, and is read again and again in one direction, is never there when it is needed;
    /// read to and fro, most of it is.
    pub backwards: bool,
    /// Whether rows are samples of a batch: each then has the same bits however many there are.
    pub by_sample: bool,
}

impl<'a> Gemm<'a> {
    /// `C = A · B`.
    pub fn new((m, n, k): (usize, usize, usize), a: Lhs<'a>, b: Rhs<'a>) -> Self {
        let (write, epilogue) = (Write::Set, Epilogue::default());
        let (backwards, by_sample) = (false, false);
        Gemm { m, n, k, alpha: 1.0, a, b, write, epilogue, backwards, by_sample }
    }

    /// Computes the product into `c`, whose rows start `stride` apart.
    ///
    /// # Errors
    /// A slice is too short for its matrix, a packed operand was made for another size or
    /// instruction set, or memory cannot be had.
    pub fn run(&self, isa: Isa, c: &mut [f32], stride: usize) -> Result<(), String> {
        if self.m == 0 || self.n == 0 {
            return Ok(());
        }
        Strided { data: c, row: stride, col: 1 }.check("the result", self.m, self.n)?;
        if stride < self.n && self.m > 1 {
            return Err(format!("rows of {} do not fit a stride of {stride}", self.n));
        }
        self.epilogue.check(self.m, self.n)?;
        if let Lhs::Plain(a) = self.a {
            a.check("the left operand", self.m, self.k)?;
        }
        if let Rhs::Plain(b) = self.b {
            b.check("the right operand", self.k, self.n)?;
        }
        let c = MatMut::new(c, self.m, self.n, stride);
        match (self.a, self.b) {
            (Lhs::Plain(a), Rhs::Plain(b)) if self.is_thin(b) => thin::run(isa, self, a, b, c),
            _ => self.run_packed(isa, c),
        }
    }

    /// Computes `count` products into `c`, `c_step` elements apart: product `i` takes its plain
    /// operands from the offsets that `offsets(i)` gives for A and B, its residual from
    /// `i · c_step`. Packed operands and the bias are shared.
    ///
    /// # Errors
    /// As [`Gemm::run`].
    pub fn run_batch(
        &self,
        isa: Isa,
        count: usize,
        offsets: impl Fn(usize) -> (usize, usize) + Sync,
        c: &mut [f32],
        (stride, c_step): (usize, usize),
    ) -> Result<(), String> {
        if count == 0 || self.m == 0 || self.n == 0 {
            return Ok(());
        }
        let need = (count - 1).checked_mul(c_step).and_then(|n| n.checked_add(1));
        if need.is_none_or(|need| need > c.len()) || (c_step == 0 && count > 1) {
            return Err(format!("{count} products {c_step} apart do not fit {} elements", c.len()));
        }
        let flops = flops((self.m, self.n, self.k)).max(1);
        let failed = OnceLock::new();
        par::chunks_mut(c, c_step.max(1), PIECE_FLOPS.div_ceil(flops), |i, c| {
            if i >= count {
                return;
            }
            let (a, b) = offsets(i);
            if let Err(e) = self.at(a, b, i.saturating_mul(c_step)).run(isa, c, stride) {
                failed.get_or_init(|| e);
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Whether B is read as it lies: that adds up in another order than tiles do.
    fn is_thin(&self, b: Strided<'_>) -> bool {
        self.m <= THIN && (b.col == 1 || b.row == 1) && !self.by_sample
    }

    /// The product with plain operands and residual from these offsets on.
    fn at(&self, a: usize, b: usize, residual: usize) -> Self {
        let skip =
            |x: Strided<'a>, at: usize| Strided { data: x.data.get(at..).unwrap_or_default(), ..x };
        let mut gemm = *self;
        if let Lhs::Plain(x) = self.a {
            gemm.a = Lhs::Plain(skip(x, a));
        }
        if let Rhs::Plain(x) = self.b {
            gemm.b = Rhs::Plain(skip(x, b));
        }
        if let Some((x, stride)) = self.epilogue.residual {
            gemm.epilogue.residual = Some((x.get(residual..).unwrap_or_default(), stride));
        }
        gemm
    }

    /// Packs what is not packed.
    fn run_packed(&self, isa: Isa, c: MatMut<'_, f32>) -> Result<(), String> {
        match self.b {
            Rhs::Packed(b) => {
                let b = b.panels(isa, self.k, self.n)?;
                self.each_left(isa, c, |a, row0, c| {
                    Job { isa, gemm: self, a, b, row0, col0: 0 }.share(c);
                    Ok(())
                })
            }
            Rhs::Plain(b) => {
                let pack = |first: usize, plan: PanelPlan, packed: &mut [f32]| {
                    plan.pack(isa, b.from(0, first).transposed(), packed);
                };
                self.each_left(isa, c, |a, row0, c| self.unpacked_right(isa, a, row0, &pack, c))
            }
            Rhs::Made(b) => {
                let pack = |first: usize, plan: PanelPlan, packed: &mut [f32]| {
                    plan.each(packed, |p, panel| {
                        let lanes = plan.lanes(p);
                        b.panel(isa, first + lanes.start, lanes.len(), plan.stored(p), panel);
                    });
                };
                self.each_left(isa, c, |a, row0, c| self.unpacked_right(isa, a, row0, &pack, c))
            }
        }
    }

    /// Calls `f` with panels of A, the row of C at which they start, and those rows of C.
    fn each_left(
        &self,
        isa: Isa,
        c: MatMut<'_, f32>,
        f: impl Fn(Panels<'_>, usize, MatMut<'_, f32>) -> Result<(), String> + Sync,
    ) -> Result<(), String> {
        if let Lhs::Packed(a) = self.a {
            return f(a.panels(isa, self.m, self.k)?, 0, c);
        }
        let shape = Shape::of(isa);
        let pack = |first: usize, c: MatMut<'_, f32>| {
            let plan = PanelPlan::new::<Left>(shape, c.rows(), self.k);
            let panels = |a: Strided<'_>| match plan.lying(a) {
                Some(panels) => f(panels, first, c),
                None => with_scratch(plan.len()?, |packed| {
                    plan.pack(isa, a, packed);
                    f(plan.view(packed), first, c)
                })?,
            };
            match self.a {
                Lhs::Plain(a) => panels(a.from(first, 0)),
                Lhs::Made(a) => with_scratch(plan.extent * self.k, |rows| {
                    a.rows(first, rows);
                    panels(Strided::rows(rows, self.k))
                })?,
                Lhs::Packed(_) => Err("the left operand is packed already".into()),
            }
        };
        let Blocks { size: rows, count, grain } = Blocks::of_left(shape, (self.m, self.n, self.k));
        let failed = OnceLock::new();
        par::split(Rows { c, height: rows }, count, grain, |first, mut part| {
            let (all, cols) = (part.c.rows(), part.c.cols());
            for at in (0..all).step_by(rows) {
                let c = part.c.block(at, rows.min(all - at), 0, cols);
                if let Err(e) = pack(first * rows + at, c) {
                    failed.get_or_init(|| e);
                }
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Packs B in chunks of columns, by `pack(first column, plan, memory)`: each thread its own if
    /// there are enough of them, all threads together otherwise.
    fn unpacked_right(
        &self,
        isa: Isa,
        a: Panels<'_>,
        row0: usize,
        pack: &(dyn Fn(usize, PanelPlan, &mut [f32]) + Sync),
        c: MatMut<'_, f32>,
    ) -> Result<(), String> {
        let shape = Shape::of(isa);
        let sizes = (c.rows(), self.n, self.k);
        let Blocks { size: width, count, grain } = Blocks::of_right(shape, sizes);
        let one = |first: usize, c: MatMut<'_, f32>| {
            let plan = PanelPlan::new::<Right>(shape, self.k, c.cols());
            with_scratch(plan.len()?, |packed| {
                pack(first, plan, packed);
                Job { isa, gemm: self, a, b: plan.view(packed), row0, col0: first }.share(c);
            })
        };
        let failed = OnceLock::new();
        par::split(Columns { c, width }, count, grain, |first, mut part| {
            let cols = part.c.cols();
            for at in (0..cols).step_by(width) {
                let rows = part.c.rows();
                let c = part.c.block(0, rows, at, width.min(cols - at));
                if let Err(e) = one(first * width + at, c) {
                    failed.get_or_init(|| e);
                }
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }
}

/// Operations of a product.
fn flops((m, n, k): (usize, usize, usize)) -> usize {
    m.saturating_mul(n).saturating_mul(k).saturating_mul(2)
}

/// Lanes, in whole panels of `width`, that hold about `elements` when they are `k` long.
fn chunk(elements: usize, k: usize, width: usize) -> usize {
    (elements / k.max(1)).max(1).next_multiple_of(width)
}

/// A matrix that is cut by columns, `width` to an item.
pub(crate) struct Columns<'a> {
    pub c: MatMut<'a, f32>,
    pub width: usize,
}

impl par::Split for Columns<'_> {
    fn split(self, at: usize) -> (Self, Self) {
        let (a, b) = self.c.split_cols(at.saturating_mul(self.width));
        (Columns { c: a, width: self.width }, Columns { c: b, width: self.width })
    }
}

/// A matrix that is cut by rows, `height` to an item.
struct Rows<'a> {
    c: MatMut<'a, f32>,
    height: usize,
}

impl par::Split for Rows<'_> {
    fn split(self, at: usize) -> (Self, Self) {
        let at = at.saturating_mul(self.height).min(self.c.rows());
        let (a, b) = self.c.split_rows(at);
        (Rows { c: a, height: self.height }, Rows { c: b, height: self.height })
    }
}

impl Epilogue<'_> {
    fn check(&self, m: usize, n: usize) -> Result<(), String> {
        let (have, need) = match self.bias {
            Some(Bias::Row(x)) => (x.len(), n),
            Some(Bias::Col(x)) => (x.len(), m),
            None => (0, 0),
        };
        if have < need {
            return Err(format!("a bias of {have} elements is shorter than {need}"));
        }
        let residual = self.residual.map(|(data, row)| Strided { data, row, col: 1 });
        residual.map_or(Ok(()), |r| r.check("the residual", m, n))
    }

    /// Asks for what [`Epilogue::finish`] will read: the residual of these rows and columns.
    #[inline(always)]
    fn expect<S: Simd>(&self, s: S, (row, rows): (usize, usize), (col, cols): (usize, usize)) {
        if let Some((x, stride)) = self.residual {
            for i in row..row + rows {
                s.prefetch(x, i * stride + col);
                s.prefetch(x, i * stride + col + cols - 1);
            }
        }
    }

    /// Applies to a block of C, whose corner is at `(row, col)`, what tiles did not: the bias if
    /// the product was added to C, the residual, the activation. A function of its own: it is
    /// long, and called from several places.
    #[inline(never)]
    fn finish<S: Simd>(&self, s: S, write: Write, c: &mut MatMut<'_, f32>, at: (usize, usize)) {
        s.call(
            #[inline(always)]
            move || self.finish_inline(s, write, c, at),
        )
    }

    #[inline(always)]
    fn finish_inline<S: Simd>(
        &self,
        s: S,
        write: Write,
        c: &mut MatMut<'_, f32>,
        (row, col): (usize, usize),
    ) {
        for i in 0..c.rows() {
            let y = c.row(i);
            if write == Write::Add {
                match self.bias {
                    Some(Bias::Row(x)) => add(s, y, &x[col..]),
                    Some(Bias::Col(x)) => add_one(s, y, x[row + i]),
                    None => {}
                }
            }
            if let Some((x, stride)) = self.residual {
                add(s, y, &x[(row + i) * stride + col..]);
            }
            self.activation.apply_slice(s, y);
        }
    }
}

/// `y += x`
#[inline(always)]
fn add<S: Simd>(s: S, y: &mut [f32], x: &[f32]) {
    let x = &x[..y.len()];
    let (mut ys, mut xs) = (y.chunks_exact_mut(S::LANES), x.chunks_exact(S::LANES));
    for (y, x) in (&mut ys).zip(&mut xs) {
        (s.load(y) + s.load(x)).store(y);
    }
    let (y, x) = (ys.into_remainder(), xs.remainder());
    if !y.is_empty() {
        (s.load_partial(y, 0.0) + s.load_partial(x, 0.0)).store_partial(y);
    }
}

/// `y += x` with one `x` for all.
#[inline(always)]
fn add_one<S: Simd>(s: S, y: &mut [f32], x: f32) {
    for y in y.chunks_mut(S::LANES) {
        (s.load_partial(y, 0.0) + s.splat(x)).store_partial(y);
    }
}
