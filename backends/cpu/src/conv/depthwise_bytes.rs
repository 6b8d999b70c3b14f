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
/// Outputs whose sums are finished together.
const TOGETHER: usize = 32;

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
        let window = matches!(kernel, 3 | 5) && h.kernel == kernel && wide.stride <= 2;
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
    let row = wide.output * c;
    let failure = par::Failure::default();
    par::chunks_mut(y, row, grain(g), |r, y| {
        failure.attempt(|| {
            with_scratch_of(wide.input * c, |beyond: &mut [u8]| {
                beyond.fill(x.zero as u8);
                let job = Job {
                    g,
                    x: &x.data[r / h.output * image..][..image],
                    beyond,
                    signed: x.signed,
                    zero: x.zero,
                    w,
                    bias,
                    finish,
                };
                let mut y = MatMut::new(y, wide.output, c, c);
                crate::dots_dispatch!(w.bytes, d => job.row(d, r, &mut y));
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

/// Bytes of scratch that a row of outputs takes: a row of the image as it is beyond its edges.
pub fn scratch(g: &Geometry) -> usize {
    g.axes[2].input * g.group
}

/// One image.
struct Job<'a, F> {
    g: &'a Geometry,
    x: &'a [u8],
    /// A row that is not in the image: the zero point.
    beyond: &'a [u8],
    signed: bool,
    zero: i32,
    w: &'a Words,
    bias: Option<&'a [i32]>,
    finish: &'a F,
}

type Vector<D> = <<D as Dots>::Simd as Simd>::I32;

impl<F: Finish> Job<'_, F> {
    /// Row `r` of all images' outputs.
    #[inline(always)]
    fn row<D: Dots>(&self, d: D, r: usize, y: &mut MatMut<'_, F::Out>) {
        let [_, _, w] = &self.g.axes;
        match (w.kernel, w.stride) {
            (3, 1) => self.channels::<D, 3, 1>(d, r, y),
            (3, _) => self.channels::<D, 3, 2>(d, r, y),
            (_, 1) => self.channels::<D, 5, 1>(d, r, y),
            _ => self.channels::<D, 5, 2>(d, r, y),
        }
    }

    #[inline(always)]
    fn channels<D: Dots, const K: usize, const STRIDE: usize>(
        &self,
        d: D,
        r: usize,
        y: &mut MatMut<'_, F::Out>,
    ) {
        let [_, h, w] = &self.g.axes;
        let (c, in_row) = (self.g.group, w.input * self.g.group);
        let mut rows = [self.beyond; K];
        for (ky, row) in rows.iter_mut().enumerate() {
            let iy = (r % h.output * h.stride + ky).checked_sub(h.before);
            if let Some(iy) = iy.filter(|&iy| iy < h.input) {
                *row = &self.x[iy * in_row..][..in_row];
            }
        }
        let lanes = <D::Simd as Simd>::LANES;
        for c0 in (0..c).step_by(lanes) {
            // The last vector overlaps the one before it instead of being partial.
            self.channel::<D, K, STRIDE>(d, &rows, (r, c0.min(c - lanes)), y);
        }
    }

    /// As many channels as a vector holds, from `at.1` on: from left to right.
    #[inline(always)]
    fn channel<D: Dots, const K: usize, const STRIDE: usize>(
        &self,
        d: D,
        rows: &[&[u8]; K],
        at: (usize, usize),
        y: &mut MatMut<'_, F::Out>,
    ) {
        let (s, (r, c0), c) = (d.simd(), at, self.g.group);
        let (parts, lanes) = (K.div_ceil(D::STEP), <D::Simd as Simd>::LANES);
        let w = &self.g.axes[2];
        let mut weights = [[s.splat_i32(0); MOST]; K];
        for kx in 0..K {
            for part in 0..parts {
                weights[kx][part] = s.load_i32(&self.w.words[(kx * parts + part) * c + c0..]);
            }
        }
        // Unsigned codes are multiplied: those of int8 are 128 more, and so is their zero point.
        let code = if D::STEP == 4 { 0x0101_0101 } else { 0x0001_0001 };
        let (flip, zero) = if self.signed { (0x80, self.zero + 128) } else { (0, self.zero) };
        let flip = s.splat_i32(i32::wrapping_mul(code, flip));
        let beyond = s.splat_i32(i32::wrapping_mul(code, zero));
        let mut start = s.load_i32(&self.w.sums[c0..]) * s.splat_i32(-zero);
        if let Some(bias) = self.bias {
            start = start + s.load_i32(&bias[c0..]);
        }
        let columns = Columns::<D, K> { rows, span: w, c, c0, flip, beyond };
        let mut seen = [[beyond; MOST]; K];
        for kx in STRIDE..K {
            seen[kx] = columns.at(d, kx - STRIDE);
        }
        let mut sums = [0; TOGETHER * MAX_LANES];
        for ox0 in (0..w.output).step_by(TOGETHER) {
            let outputs = TOGETHER.min(w.output - ox0);
            for (ox, sums) in (ox0..ox0 + outputs).zip(sums.chunks_exact_mut(lanes)) {
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
            let place = (r * w.output + ox0, c0);
            let mut y = y.block(ox0, outputs, c0, lanes);
            self.finish.tile(s, place, (&mut sums[..outputs * lanes], lanes), &mut y);
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
