//! Products of 8-bit matrices: `C[m, n] = finish(Σ (A - a_zero) · (B - b_zero) + bias)`.
//!
//! Both operands are packed into panels of words ([`pack`]), left codes unsigned and right codes
//! signed whatever they were, and multiplied as they are in tiles that live in registers
//! ([`tile`]). Sums are exact (they wrap at 32 bits) and the same on every processor. Zero points
//! come in afterwards, by the sums of the rows of A and of the columns of B:
//!
//! Σ (a - p)·(b - q) = Σ a·b - p · (Σ b - k·q) - q · Σ a
//!
//! What [`Finish`] makes of the sums is made while a tile is in L1.

mod finish;
mod left;
mod pack;
#[cfg(test)]
mod tests;
mod tile;

pub use finish::{Codes, Finish, Floats, Per, Requantized, Sums};
pub use left::{Left, Rows};
pub(crate) use pack::Panel;
pub use pack::{Matrix, PackedBytes, Side};

use std::ops::Range;

use crate::par;
use crate::simd::{Bytes, Dots, F32s, I32s, MatMut, Simd};

/// Bytes of A in one block: they stay in L2.
const BLOCK_A: usize = 256 * 1024;
/// Sums that are finished together: no row of a tile is longer.
const PIECE: usize = 64;
/// Operations worth handing to another thread.
const PIECE_OPS: usize = 4_000_000;

/// A product to be computed.
#[derive(Clone, Copy, Debug)]
pub struct ByteGemm<'a> {
    /// Left operand, `m × k`.
    pub a: Left<'a>,
    /// Right operand, `k × n`.
    pub b: &'a PackedBytes,
    /// Zero points of the rows of A.
    pub a_zero: Zero<'a>,
    /// Zero points of the columns of B.
    pub b_zero: Zero<'a>,
    /// Added to the sums.
    pub bias: Bias<'a>,
}

/// Zero points of the codes as they were before packing.
#[derive(Clone, Copy, Debug)]
pub enum Zero<'a> {
    /// One for all.
    One(i32),
    /// One for each row or column.
    Each(&'a [i32]),
}

impl Zero<'_> {
    fn at(&self, i: usize) -> i32 {
        match self {
            Zero::One(zero) => *zero,
            Zero::Each(zeros) => zeros[i],
        }
    }

    fn check(&self, what: &str, need: usize) -> Result<(), String> {
        match self {
            Zero::Each(zeros) if zeros.len() != need => {
                Err(format!("{} zero points for {need} {what}", zeros.len()))
            }
            _ => Ok(()),
        }
    }
}

/// Integers added to the sums.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a> {
    /// None.
    None,
    /// One for each row of C.
    Rows(&'a [i32]),
    /// One for each column of C.
    Cols(&'a [i32]),
}

impl ByteGemm<'_> {
    /// Computes the product into `c`, whose rows start `stride` apart.
    ///
    /// # Errors
    /// The operands do not fit each other, the result or the numbers for each row and column.
    pub fn run<F: Finish>(
        &self,
        finish: &F,
        c: &mut [F::Out],
        stride: usize,
    ) -> Result<(), String> {
        let (a, b) = (self.a, self.b);
        if !a.is_left() || b.side() != Side::Right || a.bytes().step() != b.step() {
            return Err("operands packed for other sides or another processor".into());
        }
        let (m, n) = (a.lanes(), b.lanes());
        if a.k() != b.k() {
            return Err(format!("{} columns meet {} rows", a.k(), b.k()));
        }
        self.a_zero.check("rows", m)?;
        self.b_zero.check("columns", n)?;
        match self.bias {
            Bias::Rows(x) if x.len() != m => return Err(format!("{} biases, {m} rows", x.len())),
            Bias::Cols(x) if x.len() != n => {
                return Err(format!("{} biases, {n} columns", x.len()));
            }
            _ => {}
        }
        finish.check(m, n)?;
        if m == 0 || n == 0 {
            return Ok(());
        }
        let last = (m - 1).checked_mul(stride).and_then(|at| at.checked_add(n));
        if stride < n || last.is_none_or(|last| last > c.len()) {
            return Err(format!("{m} x {n} with a stride of {stride} do not fit {}", c.len()));
        }
        let job = Job { gemm: self, fixes: Fixes::new(self), finish };
        job.share(MatMut::new(c, m, n, stride));
        Ok(())
    }
}

/// What is added to a sum, by row and by column:
/// `sum + row + col - row_zero · col_sum - col_zero · row_sum`.
#[derive(Debug)]
struct Fixes {
    /// Empty if all rows are alike, and nothing is added for a row.
    rows: Vec<RowFix>,
    /// What the sums of each column start with, to the end of its vector.
    cols: Vec<i32>,
    /// Σ b - k·q of each column; empty if all rows have one zero point.
    col_sums: Vec<i32>,
    /// Zero points of the columns; empty if none has one.
    col_zeros: Vec<i32>,
}

#[derive(Clone, Copy, Debug)]
struct RowFix {
    bias: i32,
    zero: i32,
    sum: i32,
}

impl Fixes {
    fn new(gemm: &ByteGemm<'_>) -> Fixes {
        let (a, b) = (gemm.a, gemm.b);
        let k = a.k() as i32;
        let col_zero = |j: usize| gemm.b_zero.at(j).wrapping_add(b.offset());
        let mut col_zeros: Vec<i32> = (0..b.lanes()).map(col_zero).collect();
        if col_zeros.iter().all(|&z| z == 0) {
            col_zeros.clear();
        }
        let col_sum = |j: usize| b.sums()[j].wrapping_sub(k.wrapping_mul(col_zero(j)));
        let row_zero = |i: usize| gemm.a_zero.at(i).wrapping_add(a.offset());
        let mut cols = if let Bias::Cols(x) = gemm.bias { x.to_vec() } else { Vec::new() };
        cols.resize(b.lanes().next_multiple_of(b.bytes().lanes()), 0);
        let mut col_sums = Vec::new();
        match gemm.a_zero {
            // What it adds is the same in each row.
            Zero::One(_) if row_zero(0) != 0 => {
                for (j, col) in cols[..b.lanes()].iter_mut().enumerate() {
                    *col = col.wrapping_sub(row_zero(0).wrapping_mul(col_sum(j)));
                }
            }
            Zero::One(_) => {}
            Zero::Each(_) => col_sums = (0..b.lanes()).map(col_sum).collect(),
        }
        let row = |i: usize| RowFix {
            bias: if let Bias::Rows(x) = gemm.bias { x[i] } else { 0 },
            zero: row_zero(i),
            sum: if col_zeros.is_empty() { 0 } else { a.sum(i) },
        };
        let by_row = matches!(gemm.bias, Bias::Rows(_));
        let rows = match by_row || !col_sums.is_empty() || !col_zeros.is_empty() {
            true => (0..a.lanes()).map(row).collect(),
            false => Vec::new(),
        };
        Fixes { rows, cols, col_sums, col_zeros }
    }

    /// Fixes sums of row `i` from column `col` on.
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, i: usize, col: usize, sums: &mut [i32]) {
        let row = self.rows[i];
        add_row(s, row.bias, sums);
        if !self.col_sums.is_empty() {
            add_scaled(s, row.zero.wrapping_neg(), &self.col_sums[col..], sums);
        }
        if !self.col_zeros.is_empty() {
            add_scaled(s, row.sum.wrapping_neg(), &self.col_zeros[col..], sums);
        }
    }
}

/// `sums += x`
#[inline(always)]
fn add_row<S: Simd>(s: S, x: i32, sums: &mut [i32]) {
    if x == 0 {
        return;
    }
    let mut vectors = sums.chunks_exact_mut(S::LANES);
    for sums in &mut vectors {
        (s.load_i32(sums) + s.splat_i32(x)).store(sums);
    }
    for sum in vectors.into_remainder() {
        *sum = sum.wrapping_add(x);
    }
}

/// `sums += factor · x`
#[inline(always)]
fn add_scaled<S: Simd>(s: S, factor: i32, x: &[i32], sums: &mut [i32]) {
    let x = &x[..sums.len()];
    let (mut vectors, mut xs) = (sums.chunks_exact_mut(S::LANES), x.chunks_exact(S::LANES));
    for (sums, x) in (&mut vectors).zip(&mut xs) {
        (s.load_i32(sums) + s.load_i32(x) * s.splat_i32(factor)).store(sums);
    }
    for (sum, &x) in vectors.into_remainder().iter_mut().zip(xs.remainder()) {
        *sum = sum.wrapping_add(x.wrapping_mul(factor));
    }
}

/// Turns the sums of a whole product, row after row, into results.
///
/// # Errors
/// The sizes do not fit.
pub fn finish_sums<F: Finish>(
    bytes: Bytes,
    finish: &F,
    sums: &[i32],
    (m, n): (usize, usize),
    y: &mut [F::Out],
) -> Result<(), String> {
    finish.check(m, n)?;
    if sums.len() != y.len() || m.checked_mul(n) != Some(y.len()) {
        return Err(format!("{} sums and {} results of {m} x {n}", sums.len(), y.len()));
    }
    crate::dots_dispatch!(bytes, d => {
        let rows = sums.chunks(n.max(1)).zip(y.chunks_mut(n.max(1)));
        for (i, (sums, y)) in rows.enumerate() {
            // In pieces as long as the rows of tiles are.
            for (p, (sums, y)) in sums.chunks(PIECE).zip(y.chunks_mut(PIECE)).enumerate() {
                let mut whole = [0; PIECE];
                whole[..sums.len()].copy_from_slice(sums);
                finish_row(d.simd(), finish, (i, p * PIECE), &mut whole, y);
            }
        }
    });
    Ok(())
}

/// As [`finish_sums`], of sums in floats, which hold them exactly, and a bias for each column.
///
/// # Errors
/// The sizes do not fit.
pub fn finish_floats<F: Finish>(
    bytes: Bytes,
    finish: &F,
    (sums, bias): (&[f32], Option<&[i32]>),
    (m, n): (usize, usize),
    y: &mut [F::Out],
) -> Result<(), String> {
    finish.check(m, n)?;
    if sums.len() != y.len() || m.checked_mul(n) != Some(y.len()) {
        return Err(format!("{} sums and {} results of {m} x {n}", sums.len(), y.len()));
    }
    if let Some(bias) = bias.filter(|bias| bias.len() != n) {
        return Err(format!("{} biases, {n} columns", bias.len()));
    }
    crate::dots_dispatch!(bytes, d => {
        let s = d.simd();
        let rows = sums.chunks(n.max(1)).zip(y.chunks_mut(n.max(1)));
        for (i, (sums, y)) in rows.enumerate() {
            for (p, (sums, y)) in sums.chunks(PIECE).zip(y.chunks_mut(PIECE)).enumerate() {
                let mut whole = [0; PIECE];
                to_whole(s, sums, &mut whole[..sums.len()]);
                if let Some(bias) = bias {
                    add_scaled(s, 1, &bias[p * PIECE..], &mut whole[..sums.len()]);
                }
                finish_row(s, finish, (i, p * PIECE), &mut whole, y);
            }
        }
    });
    Ok(())
}

/// Some results of a row.
#[inline(always)]
fn finish_row<S: Simd, F: Finish>(
    s: S,
    finish: &F,
    place: (usize, usize),
    sums: &mut [i32; PIECE],
    y: &mut [F::Out],
) {
    let n = y.len();
    finish.tile(s, place, (sums, PIECE), &mut MatMut::new(y, 1, n, n));
}

/// Whole numbers in floats, as such.
#[inline(always)]
fn to_whole<S: Simd>(s: S, x: &[f32], y: &mut [i32]) {
    let whole = x.len() - x.len() % S::LANES;
    for j in (0..whole).step_by(S::LANES) {
        s.load(&x[j..]).trunc_i32().store(&mut y[j..]);
    }
    y[whole..].iter_mut().zip(&x[whole..]).for_each(|(y, &x)| *y = x as i32);
}

struct Job<'a, F> {
    gemm: &'a ByteGemm<'a>,
    fixes: Fixes,
    finish: &'a F,
}

impl<F: Finish> Job<'_, F> {
    /// Computes all of it, on as many threads as it is worth.
    fn share(&self, c: MatMut<'_, F::Out>) {
        let (a, b) = (self.gemm.a, self.gemm.b);
        let ops = 2usize.saturating_mul(c.rows()).saturating_mul(c.cols()).saturating_mul(a.k());
        let pieces = match par::threads() {
            1 => 1,
            t => (ops / PIECE_OPS).clamp(1, 4 * t),
        };
        self.cut((0..a.count(), 0..b.count()), c, pieces);
    }

    /// Cuts the grid of panels into `pieces`, along the longer side, and computes each.
    fn cut(&self, grid: (Range<usize>, Range<usize>), c: MatMut<'_, F::Out>, pieces: usize) {
        let (rows, cols) = grid;
        if pieces <= 1 || rows.len() * cols.len() <= 1 {
            let mut c = c;
            return self.block((rows, cols), &mut c);
        }
        let left = pieces / 2;
        let by_cols = rows.len() <= 1 || (cols.len() > 1 && c.cols() >= c.rows());
        let side = if by_cols { &cols } else { &rows };
        let mid = side.start + (side.len() * left / pieces).clamp(1, side.len() - 1);
        let (a, b) = (self.gemm.a, self.gemm.b);
        let (first, second, c1, c2) = if by_cols {
            let (c1, c2) = c.split_cols(b.panel(mid).start - b.panel(cols.start).start);
            ((rows.clone(), cols.start..mid), (rows, mid..cols.end), c1, c2)
        } else {
            let (c1, c2) = c.split_rows(a.panel(mid).start - a.panel(rows.start).start);
            ((rows.start..mid, cols.clone()), (mid..rows.end, cols), c1, c2)
        };
        par::join(|| self.cut(first, c1, left), || self.cut(second, c2, pieces - left));
    }

    /// The tiles where panels `rows` of A meet panels `cols` of B; `c` is just these.
    fn block(&self, grid: (Range<usize>, Range<usize>), c: &mut MatMut<'_, F::Out>) {
        crate::dots_dispatch!(self.gemm.a.bytes(), d => self.tiles(d, grid, c));
    }

    #[inline(always)]
    fn tiles<D: Dots>(
        &self,
        d: D,
        (rows, cols): (Range<usize>, Range<usize>),
        c: &mut MatMut<'_, F::Out>,
    ) {
        let (a, b) = (self.gemm.a, self.gemm.b);
        let (row0, col0) = (a.panel(rows.start).start, b.panel(cols.start).start);
        let together = (BLOCK_A / (a.panel(rows.start).len() * a.k()).max(1)).max(1);
        let mut sums = [0; tile::MOST];
        let mut p0 = rows.start;
        while p0 < rows.end {
            let p1 = rows.end.min(p0 + together);
            for q in cols.clone() {
                for p in p0..p1 {
                    let (r, l) = (a.panel(p), b.panel(q));
                    let mut c = c.block(r.start - row0, r.len(), l.start - col0, l.len());
                    self.tile(d, (p, q), &mut sums, &mut c);
                }
            }
            p0 = p1;
        }
    }

    /// One tile: sums in registers, then in L1, where they become the result.
    #[inline(always)]
    fn tile<D: Dots>(
        &self,
        d: D,
        (p, q): (usize, usize),
        sums: &mut [i32; tile::MOST],
        c: &mut MatMut<'_, F::Out>,
    ) {
        let (a, b) = (self.gemm.a, self.gemm.b);
        let (rows, cols) = (a.panel(p), b.panel(q));
        let width = b.stored(q);
        let start = &self.fixes.cols[cols.start..][..width];
        tile::tile(d, (a.words(p), rows.len()), (b.words(q), start), sums);
        let s = d.simd();
        if !self.fixes.rows.is_empty() {
            for (i, sums) in rows.clone().zip(sums.chunks_exact_mut(width)) {
                self.fixes.apply(s, i, cols.start, &mut sums[..cols.len()]);
            }
        }
        self.finish.tile(s, (rows.start, cols.start), (sums, width), c);
    }
}
