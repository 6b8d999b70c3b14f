//! The register tile of bytes: `sums[r, w] = Σ A[r, k] · B[k, w]` over packed panels of words.
//!
//! 14 × 2 vectors of sums where there are 32 registers, 10 × 2 of 24, 6 × 2 of 16, 4 × 4 without
//! vectors.

use crate::simd::{Bytes, Dots, I32s, Simd};

/// What a tile reads of the left operand.
#[derive(Clone, Copy, Debug)]
pub enum Words<'a> {
    /// Words of its rows side by side, step after step.
    Panel(&'a [i32]),
    /// Its rows, `count` words each, so far apart.
    Rows {
        /// All of them.
        words: &'a [i32],
        /// Words from one to the next.
        stride: usize,
        /// Words of each.
        count: usize,
    },
}

/// Rows of a full tile.
#[inline]
pub fn rows(bytes: Bytes) -> usize {
    match (bytes.registers(), bytes.lanes()) {
        (_, 1) => 4,
        (32.., _) => 14,
        (24.., _) => 10,
        _ => 6,
    }
}

/// Vectors in a row of a full tile.
#[inline]
pub fn vectors(bytes: Bytes) -> usize {
    if bytes.lanes() == 1 { 4 } else { 2 }
}

/// Sums in the largest tile.
pub const MOST: usize = 14 * 2 * 16;

/// Sums of one tile, row after row: `a` holds words of that many rows, `b` words of as many columns
/// as there are numbers that their sums start with.
#[inline(always)]
pub fn tile<D: Dots>(
    d: D,
    (a, rows): (Words<'_>, usize),
    b: (&[i32], &[i32]),
    sums: &mut [i32; MOST],
) {
    match b.1.len() / D::Simd::LANES {
        1 => by_rows::<D, 1>(d, a, rows, b, sums),
        2 => by_rows::<D, 2>(d, a, rows, b, sums),
        n => {
            if const { D::Simd::LANES == 1 } {
                match n {
                    3 => by_rows::<D, 3>(d, a, rows, b, sums),
                    4 => by_rows::<D, 4>(d, a, rows, b, sums),
                    _ => unreachable!("{n} vectors in a tile"),
                }
            } else {
                unreachable!("{n} vectors in a tile")
            }
        }
    }
}

/// One function for each number of rows: the loop must know it.
#[inline(always)]
fn by_rows<D: Dots, const NV: usize>(
    d: D,
    a: Words<'_>,
    rows: usize,
    b: (&[i32], &[i32]),
    sums: &mut [i32; MOST],
) {
    macro_rules! cases {
        ($($r:literal $(/ $unroll:literal)?),*; $otherwise:expr) => {
            match rows {
                $($r => kernel::<D, $r, NV, { 1 $(* $unroll)? }>(d, a, b, sums),)*
                _ => $otherwise,
            }
        };
    }
    // A sum takes some cycles to be ready again: few rows take several sums each.
    cases!(1 / 4, 2 / 2, 3 / 2, 4; {
        if const { D::Simd::LANES > 1 } {
            cases!(5, 6; {
                if const { D::Simd::REGISTERS >= 32 } {
                    cases!(7, 8, 9, 10, 11, 12, 13, 14; unreachable!("{rows} rows in a tile"))
                }
            })
        }
    });
}

/// `R` rows by `NV` vectors, `U` words at a time in sums of their own.
#[inline(never)]
fn kernel<D: Dots, const R: usize, const NV: usize, const U: usize>(
    d: D,
    a: Words<'_>,
    (b, start): (&[i32], &[i32]),
    sums: &mut [i32; MOST],
) {
    d.call(
        #[inline(always)]
        move || {
            let s = d.simd();
            let lanes = <D::Simd as Simd>::LANES;
            let mut first = [s.splat_i32(0); NV];
            for j in 0..NV {
                first[j] = s.load_i32(&start[j * lanes..]);
            }
            let acc = match a {
                Words::Panel(a) => products::<D, R, NV, U>(d, a, b, first),
                Words::Rows { words, stride, count } => {
                    by_row::<D, R, NV>(d, (words, stride, count), b, first)
                }
            };
            for i in 0..R {
                for j in 0..NV {
                    acc[i][j].store(&mut sums[(i * NV + j) * lanes..]);
                }
            }
        },
    )
}

type Vector<D> = <<D as Dots>::Simd as Simd>::I32;

#[inline(always)]
fn products<D: Dots, const R: usize, const NV: usize, const U: usize>(
    d: D,
    a: &[i32],
    b: &[i32],
    first: [Vector<D>; NV],
) -> [[Vector<D>; NV]; R] {
    let zero = d.simd().splat_i32(0);
    let wide = NV * <D::Simd as Simd>::LANES;
    let mut acc = [[[zero; NV]; R]; U];
    acc[0] = [first; R];
    let (mut aa, mut bb) = (a.chunks_exact(U * R), b.chunks_exact(U * wide));
    for (a, b) in (&mut aa).zip(&mut bb) {
        for u in 0..U {
            step(d, &a[u * R..][..R], &b[u * wide..][..wide], &mut acc[u]);
        }
    }
    for (a, b) in aa.remainder().chunks_exact(R).zip(bb.remainder().chunks_exact(wide)) {
        step(d, a, b, &mut acc[0]);
    }
    let mut sum = acc[0];
    for part in &acc[1..] {
        for i in 0..R {
            for j in 0..NV {
                sum[i][j] = sum[i][j] + part[i][j];
            }
        }
    }
    sum
}

/// As [`products`], of rows that lie one after the other.
#[inline(always)]
fn by_row<D: Dots, const R: usize, const NV: usize>(
    d: D,
    (words, stride, count): (&[i32], usize, usize),
    b: &[i32],
    first: [Vector<D>; NV],
) -> [[Vector<D>; NV]; R] {
    let s = d.simd();
    let wide = NV * <D::Simd as Simd>::LANES;
    let mut rows: [&[i32]; R] = [&[]; R];
    for i in 0..R {
        rows[i] = &words[i * stride..][..count];
    }
    let b = &b[..count * wide];
    let mut acc = [first; R];
    for p in 0..count {
        let mut bv = [s.splat_i32(0); NV];
        for j in 0..NV {
            bv[j] = s.load_i32(&b[p * wide + j * <D::Simd as Simd>::LANES..]);
        }
        for i in 0..R {
            let av = s.splat_i32(rows[i][p]);
            for j in 0..NV {
                acc[i][j] = d.dot(acc[i][j], av, bv[j]);
            }
        }
    }
    acc
}

#[inline(always)]
fn step<D: Dots, const R: usize, const NV: usize>(
    d: D,
    a: &[i32],
    b: &[i32],
    acc: &mut [[Vector<D>; NV]; R],
) {
    let s = d.simd();
    let mut bv = [s.splat_i32(0); NV];
    for j in 0..NV {
        bv[j] = s.load_i32(&b[j * <D::Simd as Simd>::LANES..]);
    }
    for i in 0..R {
        let av = s.splat_i32(a[i]);
        for j in 0..NV {
            acc[i][j] = d.dot(acc[i][j], av, bv[j]);
        }
    }
}
