//! Weights of 2, 4 or 8 bits that stay so in memory: `C[m, n] = A · B (+ bias)`,
//! `B[k, n] = (code - zero) · scale`, scale and zero for each block of a column.
//!
//! Columns lie in groups of 16, a word of each side by side: `[group][word][16]`. A few rows of A
//! are multiplied as the words are read, once; for more rows B is unpacked panel by panel and
//! multiplied as floats are.

use std::ops::Range;

use rinfer_graph::scarce;

use super::Made;
use crate::par;
use crate::pool::Buffer;
use crate::simd::{F32s, I32s, Isa, MAX_LANES, MatMut, Simd};

/// Columns of a group.
const GROUP: usize = 16;
/// Most rows that are multiplied while words are read.
pub const FEW: usize = 4;

/// The sizes of a matrix of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Columns.
    pub n: usize,
    /// Rows.
    pub k: usize,
    /// Bits of a code: 2, 4 or 8.
    pub bits: usize,
    /// Codes of a column that share a scale: whole words.
    pub block: usize,
}

impl Shape {
    /// Codes in a word.
    fn each(&self) -> usize {
        32 / self.bits
    }

    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// Words of a block.
    fn words(&self) -> usize {
        self.block / self.each()
    }

    fn groups(&self) -> usize {
        self.n.div_ceil(GROUP)
    }
}

/// Codes, packed for products.
#[derive(Debug)]
pub struct PackedCodes {
    shape: Shape,
    words: Buffer,
    /// `[group][block][16]`
    scales: Vec<f32>,
    zeros: Zeros,
}

/// What is taken off the codes.
#[derive(Debug)]
enum Zeros {
    /// The same of all.
    One(f32),
    /// `[group][block][16]`
    Bytes(Vec<u8>),
    /// `[group][block][16]`
    Floats(Vec<f32>),
}

/// Zero points of a matrix of codes, each for a column and a block: `[n][blocks]`.
#[derive(Clone, Copy, Debug)]
pub enum ZeroPoints<'a> {
    /// The same of all.
    One(f32),
    /// Of each, small integers.
    Bytes(&'a [u8]),
    /// Of each.
    Floats(&'a [f32]),
}

impl PackedCodes {
    /// Packs columns of codes, the first in the low bits, each padded to whole blocks:
    /// `codes` holds `[n][blocks][block · bits / 8]`, `scales` `[n][blocks]`.
    ///
    /// # Errors
    /// The sizes do not fit, or memory cannot be had.
    pub fn pack(
        shape: Shape,
        codes: &[u8],
        scales: &[f32],
        zeros: ZeroPoints<'_>,
    ) -> Result<PackedCodes, String> {
        let (words, blocks) = (shape.words(), shape.blocks());
        let column = words * blocks * 4;
        let zero_len = match zeros {
            ZeroPoints::One(_) => scales.len(),
            ZeroPoints::Bytes(zeros) => zeros.len(),
            ZeroPoints::Floats(zeros) => zeros.len(),
        };
        let whole = matches!(shape.bits, 2 | 4 | 8) && shape.block.is_multiple_of(shape.each());
        let fits = column.checked_mul(shape.n) == Some(codes.len())
            && blocks.checked_mul(shape.n) == Some(scales.len())
            && zero_len == scales.len();
        if !whole || !fits {
            return Err(format!("{} bytes and {} scales for {shape:?}", codes.len(), scales.len()));
        }
        let len = (words * blocks * GROUP).checked_mul(shape.groups());
        let len = len.ok_or_else(|| format!("codes of {shape:?} are too large"))?;
        let mut buffer = Buffer::zeroed::<u32>(len)?;
        let group = (words * blocks * GROUP).max(1);
        let to = &mut buffer.as_mut_slice::<u32>()[..len];
        par::chunks_mut(to, group, par::grain(group), |g, to| {
            for (lane, from) in
                codes.chunks_exact(column.max(1)).skip(g * GROUP).take(GROUP).enumerate()
            {
                let places = to[lane..].iter_mut().step_by(GROUP);
                for (to, from) in places.zip(from.as_chunks::<4>().0) {
                    *to = u32::from_le_bytes(*from);
                }
            }
        });
        let zeros = match zeros {
            ZeroPoints::One(zero) => Zeros::One(zero),
            ZeroPoints::Bytes(zeros) => Zeros::Bytes(grouped(&shape, zeros)),
            ZeroPoints::Floats(zeros) => Zeros::Floats(grouped(&shape, zeros)),
        };
        Ok(PackedCodes { shape, words: buffer, scales: grouped(&shape, scales), zeros })
    }

    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Multiplies up to [`FEW`] rows of A, `k` apart in `a`; rows of `c` are `n` apart.
    ///
    /// # Errors
    /// There are more rows, or the slices do not fit.
    pub fn multiply_few(
        &self,
        isa: Isa,
        a: &[f32],
        m: usize,
        bias: Option<&[f32]>,
        c: &mut [f32],
    ) -> Result<(), String> {
        let Shape { n, k, block, .. } = self.shape;
        let fits = a.len() == m * k && c.len() == m * n && bias.is_none_or(|b| b.len() == n);
        if m > FEW || !fits {
            return Err(format!("{m} rows of {} times codes of {:?}", a.len(), self.shape));
        }
        if m == 0 || n == 0 {
            return Ok(());
        }
        // Rows padded to whole blocks, and the sum of each block.
        let blocks = self.shape.blocks();
        let wide = blocks * block;
        let mut rows = scarce::zeros(m * wide);
        let mut sums = scarce::zeros(m * blocks);
        if k > 0 {
            for (row, a) in rows.chunks_exact_mut(wide).zip(a.chunks_exact(k)) {
                row[..k].copy_from_slice(a);
            }
            for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(block)) {
                *sum = summed(row);
            }
        }
        let few = Few { codes: self, rows: &rows, sums: &sums, bias };
        let c = Groups(MatMut::new(c, m, n, n));
        // A word is read in about a nanosecond.
        let grain = par::grain(self.shape.words() * blocks * 4);
        par::split(c, self.shape.groups(), grain, |first, Groups(mut c)| {
            for (i, at) in (0..c.cols()).step_by(GROUP).enumerate() {
                let cols = GROUP.min(c.cols() - at);
                few.group(isa, first + i, &mut c.block(0, m, at, cols));
            }
        });
        Ok(())
    }
}

/// Σ x in lanes that do not wait for each other, the same on every instruction set.
fn summed(x: &[f32]) -> f32 {
    let mut lanes = [0.0; MAX_LANES];
    for x in x.chunks(MAX_LANES) {
        lanes.iter_mut().zip(x).for_each(|(lane, x)| *lane += x);
    }
    let mut n = MAX_LANES;
    while n > 1 {
        n /= 2;
        (0..n).for_each(|i| lanes[i] += lanes[n + i]);
    }
    lanes[0]
}

/// `[n][blocks]` as `[group][block][16]`.
fn grouped<T: Copy + Default>(shape: &Shape, from: &[T]) -> Vec<T> {
    let blocks = shape.blocks();
    let mut to = vec![T::default(); shape.groups() * blocks * GROUP];
    for (i, &x) in from.iter().enumerate() {
        let (column, b) = (i / blocks, i % blocks);
        to[(column / GROUP * blocks + b) * GROUP + column % GROUP] = x;
    }
    to
}

/// C, cut by groups of columns.
struct Groups<'a>(MatMut<'a, f32>);

impl par::Split for Groups<'_> {
    fn split(self, at: usize) -> (Self, Self) {
        let at = at.saturating_mul(GROUP).min(self.0.cols());
        let (a, b) = self.0.split_cols(at);
        (Groups(a), Groups(b))
    }
}

/// A product of few rows.
struct Few<'a> {
    codes: &'a PackedCodes,
    /// Rows of A, padded to whole blocks.
    rows: &'a [f32],
    /// The sum of each block of each row.
    sums: &'a [f32],
    bias: Option<&'a [f32]>,
}

impl Few<'_> {
    /// The columns of group `g`.
    fn group(&self, isa: Isa, g: usize, c: &mut MatMut<'_, f32>) {
        let bits = self.codes.shape.bits;
        macro_rules! rows {
            ($($r:literal),*) => {
                match (c.rows(), bits) {
                    $(($r, 2) => columns::<$r, 2>(isa, self, g, c),
                    ($r, 4) => columns::<$r, 4>(isa, self, g, c),
                    ($r, _) => columns::<$r, 8>(isa, self, g, c),)*
                    (rows, _) => unreachable!("{rows} rows are not few"),
                }
            };
        }
        rows!(1, 2, 3, 4);
    }
}

/// Sums of a row that do not wait for each other.
const CHAINS: usize = 4;

/// Groups of words that are asked for before they are needed: a page, at whose end the processor
/// stops looking ahead by itself. From memory 9.4 → 17.5 GB/s on Zen 4, of 22 GB/s.
const AHEAD: usize = 64;

/// The most vectors that a group takes.
const VECTORS: usize = 16;

crate::simd_fn! {
    /// `R` rows times one group of columns.
    fn columns<const R: usize, const BITS: u32>(
        s: S, few: &Few<'_>, g: usize, c: &mut MatMut<'_, f32>
    ) {
        let shape = &few.codes.shape;
        let (blocks, words) = (shape.blocks(), shape.words());
        let each = 32 / BITS as usize;
        let (all, start) = (few.codes.words.as_slice::<i32>(), g * blocks * words * GROUP);
        let all = &all[start..][..blocks * words * GROUP];
        let lines = few.codes.words.as_slice::<f32>();
        let mut y = [[s.zero(); VECTORS]; R];
        let vectors = GROUP / S::LANES;
        let wide = blocks * shape.block;
        for (b, block) in all.chunks_exact(words * GROUP).enumerate() {
            let at = (g * blocks + b) * GROUP;
            for v in 0..vectors {
                let mut acc = [[s.zero(); CHAINS]; R];
                for (w, word) in block.chunks_exact(GROUP).enumerate() {
                    let k = b * shape.block + w * each;
                    s.prefetch(lines, start + (b * words + w + AHEAD) * GROUP);
                    let word = s.load_i32(&word[v * S::LANES..]);
                    let a: [&[f32]; R] =
                        std::array::from_fn(|r| &few.rows[r * wide + k..][..each]);
                    multiply::<S, R, BITS>(s, word, a, &mut acc);
                }
                let lanes = at + v * S::LANES;
                let scale = s.load(&few.codes.scales[lanes..]);
                let zero = few.codes.zeros.load(s, lanes);
                for r in 0..R {
                    let sum = s.splat(few.sums[r * blocks + b]);
                    let [p, q, t, u] = acc[r];
                    y[r][v] = scale.mul_add((p + q) + (t + u) - zero * sum, y[r][v]);
                }
            }
        }
        for r in 0..R {
            let row = c.row(r);
            for (v, part) in row.chunks_mut(S::LANES).enumerate() {
                let mut x = y[r][v];
                if let Some(bias) = few.bias {
                    x = x + s.load_partial(&bias[g * GROUP + v * S::LANES..][..part.len()], 0.0);
                }
                x.store_partial(part);
            }
        }
    }
}

/// `acc[r] += Σ a[r][q] · code q`, over the codes of a word.
#[inline(always)]
fn multiply<S: Simd, const R: usize, const BITS: u32>(
    s: S,
    word: S::I32,
    a: [&[f32]; R],
    acc: &mut [[S::F32; CHAINS]; R],
) {
    macro_rules! steps {
        ($bits:literal: $($q:literal << $shift:literal)*) => {
            { $(step::<S, R>(s, $q, s.low_bits::<$bits>(word.shr::<$shift>()), a, acc);)* }
        };
    }
    step::<S, R>(s, 0, s.low_bits::<BITS>(word), a, acc);
    match BITS {
        8 => steps!(8: 1 << 8 2 << 16 3 << 24),
        4 => steps!(4: 1 << 4 2 << 8 3 << 12 4 << 16 5 << 20 6 << 24 7 << 28),
        _ => steps!(2: 1 << 2 2 << 4 3 << 6 4 << 8 5 << 10 6 << 12 7 << 14
            8 << 16 9 << 18 10 << 20 11 << 22 12 << 24 13 << 26 14 << 28 15 << 30),
    }
}

/// Code `q` of a word, times one number of each row.
#[inline(always)]
fn step<S: Simd, const R: usize>(
    s: S,
    q: usize,
    code: S::F32,
    a: [&[f32]; R],
    acc: &mut [[S::F32; CHAINS]; R],
) {
    for r in 0..R {
        acc[r][q % CHAINS] = s.splat(a[r][q]).mul_add(code, acc[r][q % CHAINS]);
    }
}

impl Zeros {
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, at: usize) -> S::F32 {
        match self {
            Zeros::One(zero) => s.splat(*zero),
            Zeros::Floats(zeros) => s.load(&zeros[at..]),
            Zeros::Bytes(zeros) => s.load_u8(&zeros[at..]).to_f32(),
        }
    }
}

impl Made for PackedCodes {
    fn panel(&self, isa: Isa, first: usize, cols: usize, width: usize, panel: &mut [f32]) {
        unpack(isa, self, first..first + cols, width, panel);
    }
}

crate::simd_fn! {
    /// Columns as floats, row after row of `width`; the columns begin where a vector does.
    fn unpack(s: S, codes: &PackedCodes, columns: Range<usize>, width: usize, panel: &mut [f32]) {
        let shape = &codes.shape;
        let (blocks, words, each) = (shape.blocks(), shape.words(), shape.each());
        let all = codes.words.as_slice::<i32>();
        let mask = s.splat_i32(((1u64 << shape.bits) - 1) as i32);
        for column in columns.clone().step_by(S::LANES) {
            let (g, lane) = (column / GROUP, column % GROUP);
            let to = column - columns.start;
            for b in 0..blocks {
                let at = (g * blocks + b) * GROUP + lane;
                let (scale, zero) = (s.load(&codes.scales[at..]), codes.zeros.load(s, at));
                for w in 0..words {
                    let k = b * shape.block + w * each;
                    let place = ((g * blocks + b) * words + w) * GROUP + lane;
                    let mut word = s.load_i32(&all[place..]);
                    for p in k..(k + each).min(shape.k) {
                        let value = ((word & mask).to_f32() - zero) * scale;
                        value.store(&mut panel[p * width + to..]);
                        word = match shape.bits {
                            2 => word.shr::<2>(),
                            4 => word.shr::<4>(),
                            _ => word.shr::<8>(),
                        };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::{Bias, Gemm, Lhs, Rhs, Strided};

    #[test]
    fn few_rows_and_many_agree_with_the_definition() {
        let mut seed = 7u32;
        let mut next = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 16
        };
        for (bits, n, k, block) in [(4, 37, 70, 32), (8, 16, 64, 16), (2, 5, 40, 16)] {
            let shape = Shape { n, k, bits, block };
            let blocks = shape.blocks();
            let codes: Vec<u8> = (0..n * blocks * block * bits / 8).map(|_| next() as u8).collect();
            let scales: Vec<f32> = (0..n * blocks).map(|_| (next() % 9) as f32 / 8.0).collect();
            let bytes: Vec<u8> = (0..n * blocks).map(|_| (next() % 4) as u8).collect();
            let floats: Vec<f32> = bytes.iter().map(|&z| f32::from(z)).collect();
            let m = 9;
            let a: Vec<f32> = (0..m * k).map(|_| (next() % 17) as f32 - 8.0).collect();
            let bias: Vec<f32> = (0..n).map(|j| j as f32).collect();
            let weight = |j: usize, p: usize| {
                let bit = (j * blocks * block + p) * bits;
                let code = codes[bit / 8] >> (bit % 8) & ((1u16 << bits) - 1) as u8;
                (f32::from(code) - floats[j * blocks + p / block]) * scales[j * blocks + p / block]
            };
            let want = |i: usize, j: usize| {
                (0..k).map(|p| a[i * k + p] * weight(j, p)).sum::<f32>() + bias[j]
            };
            for zeros in [ZeroPoints::Bytes(&bytes), ZeroPoints::Floats(&floats)] {
                let packed = PackedCodes::pack(shape, &codes, &scales, zeros).unwrap();
                for isa in Isa::available() {
                    let mut y = vec![0.0; m * n];
                    for (a, y) in a.chunks(4 * k).zip(y.chunks_mut(4 * n)) {
                        packed.multiply_few(isa, a, a.len() / k, Some(&bias), y).unwrap();
                    }
                    let mut many = vec![0.0; m * n];
                    let lhs = Lhs::Plain(Strided::rows(&a, k));
                    let mut gemm = Gemm::new((m, n, k), lhs, Rhs::Made(&packed));
                    gemm.epilogue.bias = Some(Bias::Row(&bias));
                    gemm.run(isa, &mut many, n).unwrap();
                    for ij in 0..m * n {
                        let want = want(ij / n, ij % n);
                        let near = |y: f32| (y - want).abs() <= 1e-3 * (1.0 + want.abs());
                        assert!(near(y[ij]) && near(many[ij]), "{shape:?} {ij} {}", isa.name());
                    }
                }
            }
        }
    }
}
