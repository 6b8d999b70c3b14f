//! Convolution of each channel of bytes by itself, summed exactly: windows of 3 × 3 and 5 × 5.
//!
//! y[p, c] = finish(Σ w[tap, c] · (x[place(p, tap), c] - zero) + bias[c])
//!
//! A word holds what one column of the window has in some rows, so that one instruction multiplies
//! a column, or a part of it. The words of a channel go through registers from left to right: each
//! is made once for all the outputs of the row that see it.

use rinfer_graph::Reason;
use rinfer_graph::ops::Span;

use super::geometry::Geometry;
use super::integer::Image;
use crate::gemm::bytes::Finish;
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch_of;
use crate::simd::{Bytes, Dots, I32s, MAX_LANES, MatMut, Simd};

/// Words that hold the column of a window at most: five rows, two in a word.
const MOST: usize = 3;

/// Whether all windows have a kernel of their own here: a module for browsers is downloaded, and has
/// the most frequent one, 3 × 3 with stride 1.
const ALL: bool = !cfg!(target_arch = "wasm32");

/// Weights, in words as the processor multiplies them.
#[derive(Debug)]
pub struct Words {
    bytes: Bytes,
    /// By column of the window, by word of the column, by channel.
    words: Vec<i32>,
    /// The sum of each channel's codes.
    sums: Vec<i32>,
}

impl Words {
    /// Makes codes [channels, h, w] ready; whether they are int8, the zero point of each channel.
    /// `None` for windows of other kinds, for fewer channels than a vector holds, and for
    /// differences beyond int8.
    pub fn pack(
        bytes: Bytes,
        g: &Geometry,
        (w, signed): (&[u8], bool),
        zeros: &[i32],
    ) -> Option<Words> {
        let [_, h, wide] = &g.axes;
        let kernel = wide.kernel;
        let window = match (kernel, wide.stride) {
            (3, 1) => true,
            (3 | 5, 1 | 2) => ALL,
            _ => false,
        };
        let window = window && h.kernel == kernel;
        if !window || h.dilation != 1 || wide.dilation != 1 || g.group < bytes.lanes() {
            return None;
        }
        let (c, step) = (g.group, bytes.step());
        let code = |channel: usize, ky: usize, kx: usize| -> Option<i8> {
            let code = w[(channel * kernel + ky) * kernel + kx];
            let code = if signed { i32::from(code as i8) } else { i32::from(code) };
            i8::try_from(code - zeros[channel]).ok()
        };
        let mut words = Vec::with_capacity(kernel * kernel.div_ceil(step) * c);
        let mut sums = vec![0; c];
        for kx in 0..kernel {
            for top in (0..kernel).step_by(step) {
                for (channel, sum) in sums.iter_mut().enumerate() {
                    let mut word = 0u32;
                    for ky in top..kernel.min(top + step) {
                        let code = code(channel, ky, kx)?;
                        *sum += i32::from(code);
                        word |= match step {
                            4 => u32::from(code as u8) << (8 * (ky - top)),
                            _ => u32::from(i16::from(code) as u16) << (16 * (ky - top)),
                        };
                    }
                    words.push(word as i32);
                }
            }
        }
        Some(Words { bytes, words, sums })
    }
}

/// The convolution of `x` with `w`, of which `finish` makes one row for each output.
pub fn run<F: Finish>(
    g: &Geometry,
    (x, w): (Image<'_>, &Words),
    bias: Option<&[i32]>,
    finish: &F,
    y: &mut [F::Out],
) -> Result<(), Reason> {
    let [_, h, wide] = &g.axes;
    let (c, image) = (g.group, g.group * g.in_len());
    finish.check(g.batch * g.out_len(), c).map_err(limit)?;
    let lanes = w.bytes.lanes();
    let failure = par::Failure::default();
    par::chunks_mut(y, wide.output * c, grain(g), |r, y| {
        failure.attempt(|| {
            with_scratch_of(scratch(g) / 4, |scratch: &mut [i32]| {
                let (sums, beyond) = scratch.split_at_mut(wide.output * lanes);
                let beyond: &mut [u8] = bytemuck::must_cast_slice_mut(beyond);
                beyond.fill(x.zero as u8);
                let x = Image { data: &x.data[r / h.output * image..][..image], ..x };
                let row = Row { g, x, beyond: &beyond[..wide.input * c], w, bias };
                let mut y = MatMut::new(y, wide.output, c, c);
                crate::dots_dispatch!(w.bytes, d => {
                    for c0 in (0..c).step_by(lanes) {
                        // The last vector overlaps the one before it instead of being partial.
                        let c0 = c0.min(c - lanes);
                        row.sums(d, (r % h.output, c0), sums);
                        let mut y = y.block(0, wide.output, c0, lanes);
                        finish.tile(d.simd(), (r * wide.output, c0), (sums, lanes), &mut y);
                    }
                });
            })
            .map_err(limit)
        });
    });
    failure.result()
}

/// Rows of outputs worth handing to another thread.
pub fn grain(g: &Geometry) -> usize {
    par::grain(g.axes[2].output * g.group * g.axes[2].kernel / 8)
}

/// Bytes of scratch that a row of outputs takes: the sums of a vector of channels, and a row of the
/// image as it is beyond its edges.
pub fn scratch(g: &Geometry) -> usize {
    let wide = &g.axes[2];
    wide.output * MAX_LANES * 4 + (wide.input * g.group).next_multiple_of(4)
}

/// What a row of outputs is made of.
struct Row<'a> {
    g: &'a Geometry,
    /// Its image.
    x: Image<'a>,
    /// A row that is not in the image: the zero point.
    beyond: &'a [u8],
    w: &'a Words,
    bias: Option<&'a [i32]>,
}

type Vector<D> = <<D as Dots>::Simd as Simd>::I32;

impl Row<'_> {
    /// The sums of row `at.0` of the outputs, of as many channels as a vector holds from `at.1` on:
    /// the same code whatever becomes of them.
    #[inline(never)]
    fn sums<D: Dots>(&self, d: D, at: (usize, usize), sums: &mut [i32]) {
        let w = &self.g.axes[2];
        d.call(
            #[inline(always)]
            move || match (w.kernel, w.stride) {
                (3, 1) => self.window::<D, 3, 1>(d, at, sums),
                _ if const { !ALL } => unreachable!("such windows have no words"),
                (3, _) => self.window::<D, 3, 2>(d, at, sums),
                (_, 1) => self.window::<D, 5, 1>(d, at, sums),
                _ => self.window::<D, 5, 2>(d, at, sums),
            },
        );
    }

    /// Windows of `K` columns and rows, from left to right.
    #[inline(always)]
    fn window<D: Dots, const K: usize, const STRIDE: usize>(
        &self,
        d: D,
        (oy, c0): (usize, usize),
        sums: &mut [i32],
    ) {
        let (s, c, [_, h, w]) = (d.simd(), self.g.group, &self.g.axes);
        let (parts, lanes) = (K.div_ceil(D::STEP), <D::Simd as Simd>::LANES);
        let mut rows = [self.beyond; K];
        for (ky, row) in rows.iter_mut().enumerate() {
            let iy = (oy * h.stride + ky).checked_sub(h.before);
            if let Some(iy) = iy.filter(|&iy| iy < h.input) {
                *row = &self.x.data[iy * w.input * c..][..w.input * c];
            }
        }
        let mut weights = [[s.splat_i32(0); MOST]; K];
        for kx in 0..K {
            for part in 0..parts {
                weights[kx][part] = s.load_i32(&self.w.words[(kx * parts + part) * c + c0..]);
            }
        }
        // Unsigned codes are multiplied: those of int8 are 128 more, and so is their zero point.
        let code = if D::STEP == 4 { 0x0101_0101 } else { 0x0001_0001 };
        let (flip, zero) = if self.x.signed { (0x80, self.x.zero + 128) } else { (0, self.x.zero) };
        let flip = s.splat_i32(i32::wrapping_mul(code, flip));
        let beyond = s.splat_i32(i32::wrapping_mul(code, zero));
        let mut start = s.load_i32(&self.w.sums[c0..]) * s.splat_i32(-zero);
        if let Some(bias) = self.bias {
            start = start + s.load_i32(&bias[c0..]);
        }
        let columns = Columns::<D, K> { rows: &rows, span: w, c, c0, flip, beyond };
        let mut seen = [[beyond; MOST]; K];
        for kx in STRIDE..K {
            seen[kx] = columns.at(d, kx - STRIDE);
        }
        for (ox, sums) in sums.chunks_exact_mut(lanes).enumerate() {
            for kx in 0..K - STRIDE {
                seen[kx] = seen[kx + STRIDE];
            }
            for kx in K - STRIDE..K {
                seen[kx] = columns.at(d, ox * STRIDE + kx);
            }
            let mut sum = start;
            for kx in 0..K {
                for part in 0..parts {
                    sum = d.dot(sum, seen[kx][part], weights[kx][part]);
                }
            }
            sum.store(sums);
        }
    }
}

/// What a vector of channels sees.
struct Columns<'a, D: Dots, const K: usize> {
    rows: &'a [&'a [u8]; K],
    span: &'a Span,
    c: usize,
    c0: usize,
    /// What makes codes unsigned.
    flip: Vector<D>,
    /// The word of a column that is not in the image.
    beyond: Vector<D>,
}

impl<D: Dots, const K: usize> Columns<'_, D, K> {
    /// The words of column `x`, of which the first is the first of the padding.
    #[inline(always)]
    fn at(&self, d: D, x: usize) -> [Vector<D>; MOST] {
        let s = d.simd();
        let Some(x) = x.checked_sub(self.span.before).filter(|&x| x < self.span.input) else {
            return [self.beyond; MOST];
        };
        let at = x * self.c + self.c0;
        let mut words = [self.flip; MOST];
        for (ky, row) in self.rows.iter().enumerate() {
            let codes = s.load_u8(&row[at..]);
            let codes = match (D::STEP, ky % D::STEP) {
                (_, 0) => codes,
                (4, 1) => codes.shl::<8>(),
                (4, 3) => codes.shl::<24>(),
                _ => codes.shl::<16>(),
            };
            let word = &mut words[ky / D::STEP];
            *word = *word ^ codes;
        }
        words
    }
}
