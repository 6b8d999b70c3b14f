//! Convolutions of bytes whose channels stand side by side in memory, summed exactly in 32 bits.
//!
//! x [n, h, w, c]  →  y [n, h', w', m]
//!
//! Products are of patches [outputs, taps · c], made some rows at a time, with the weights
//! [taps · c, m]; of a 1 × 1 kernel the patch is the pixel, read where it lies. One channel per
//! group has a kernel of its own ([`depthwise_bytes`]); windows that this does not have go strip by
//! strip through the kernel for floats, which hold such sums exactly.

use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::Span;

use super::geometry::{Geometry, tap, taps_inside};
use super::integer::{EXACT, Image};
use super::{Follow, depthwise_bytes, depthwise_last};
use crate::gemm::bytes::{
    Bias, ByteGemm, Finish, Left, Matrix, PackedBytes, Rows, Side, Zero, finish_floats,
};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch_of;
use crate::scratch::Scratch;
use crate::simd::{Bytes, F32s, I32s, Isa};

/// Bytes of patches that are made at a time: they stay in cache.
const BLOCK: usize = 128 * 1024;
/// Codes that are copied in one move.
const SHORT: usize = 16;
/// Floats of a strip of an image: they stay in cache.
const STRIP: usize = 48 * 1024;

/// Whether this file computes the convolution: images, in one group or one group per channel.
pub fn suits(g: &Geometry) -> bool {
    let depthwise = depthwise_last::suits(g) && g.taps() <= EXACT;
    g.is_flat() && (g.group == 1 || depthwise) && g.out_len() > 0 && g.c * g.taps() > 0
}

/// Weights made ready, and the zero points of the output channels.
#[derive(Debug)]
pub enum Weights {
    /// A matrix [taps · c, m].
    Patches(PackedBytes, Vec<i32>),
    /// By tap, a number for each channel, less their zero points.
    Depthwise(Vec<f32>),
    /// By column of the window.
    Words(depthwise_bytes::Words),
}

impl Weights {
    /// Makes codes [m, c, h, w] ready; whether they are int8, the zero point of each channel.
    pub fn pack(
        isa: Isa,
        g: &Geometry,
        (w, signed): (&[u8], bool),
        zeros: Vec<i32>,
    ) -> Result<Weights, Reason> {
        let (c, taps) = (g.c, g.taps());
        if depthwise_last::suits(g) {
            if let Some(words) =
                depthwise_bytes::Words::pack(Bytes::of(isa), g, (w, signed), &zeros)
            {
                return Ok(Weights::Words(words));
            }
            let wide = |i: usize| {
                let (channel, tap) = (i % g.group, i / g.group);
                let code = w[channel * taps + tap];
                let code = if signed { i32::from(code as i8) } else { i32::from(code) };
                (code - zeros[channel]) as f32
            };
            return Ok(Weights::Depthwise((0..g.group * taps).map(wide).collect()));
        }
        let k = c * taps;
        let turned: Vec<u8> =
            w.chunks_exact(k).flat_map(|w| (0..k).map(move |i| w[i % c * taps + i / c])).collect();
        let matrix = Matrix { data: &turned, signed, lanes: g.m, k, lane: k, step: 1 };
        let packed = PackedBytes::pack(Bytes::of(isa), Side::Right, &matrix).map_err(limit)?;
        Ok(Weights::Patches(packed, zeros))
    }
}

/// `y = finish(conv(x, weights) + bias)`, the finish of one row of y for each output.
pub fn run<F: Finish>(
    isa: Isa,
    g: &Geometry,
    (x, weights): (Image<'_>, &Weights),
    bias: Option<&[i32]>,
    finish: &F,
    y: &mut [F::Out],
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    cx.check()?;
    match weights {
        Weights::Depthwise(w) => depthwise((isa, g), (x, w), bias, finish, y),
        Weights::Words(w) => depthwise_bytes::run(g, (x, w), bias, finish, y),
        Weights::Patches(w, zeros) => patches((isa, g), x, (w, zeros), bias, finish, y),
    }
}

fn patches<F: Finish>(
    (isa, g): (Isa, &Geometry),
    x: Image<'_>,
    (w, zeros): (&PackedBytes, &[i32]),
    bias: Option<&[i32]>,
    finish: &F,
    y: &mut [F::Out],
) -> Result<(), Reason> {
    let (bytes, k, outputs) = (Bytes::of(isa), g.c * g.taps(), g.batch * g.out_len());
    let b_zero = match zeros.iter().all(|&z| z == zeros[0]) {
        true => Zero::One(zeros[0]),
        false => Zero::Each(zeros),
    };
    let product = |a: Left<'_>, zero: i32, y: &mut [F::Out]| {
        let a_zero = Zero::One(zero);
        let bias = bias.map_or(Bias::None, Bias::Cols);
        ByteGemm { a, b: w, a_zero, b_zero, bias }.run(finish, y, g.m).map_err(limit)
    };
    let pixel = |a: &Span| a.kernel == 1 && a.stride == 1 && a.before == 0 && a.after == 0;
    let pixels = g.axes.iter().all(pixel) && !x.signed;
    if let Some(rows) = Rows::new(bytes, x.data, (outputs, k), k).filter(|_| pixels) {
        return product(Left::Rows(rows), x.zero, y);
    }
    // Patches are unsigned: codes of int8 are shifted as they are copied.
    let (flip, zero) = if x.signed { (0x80, x.zero + 128) } else { (0, x.zero) };
    let stride = k.next_multiple_of(4);
    let (together, grain) = blocks(g);
    let failure = par::Failure::default();
    par::chunks_mut(y, together * g.m, grain, |i, y| {
        failure.attempt(|| {
            let rows = y.len() / g.m;
            with_scratch_of((rows * stride).div_ceil(4), |words: &mut [i32]| {
                let made: &mut [u8] = &mut bytemuck::cast_slice_mut(words)[..rows * stride];
                let job = Patches { g, x: x.data, flip, padding: zero as u8 };
                job.fill(i * together, made, stride);
                if let Some(rows) = Rows::new(bytes, made, (rows, k), stride) {
                    return product(Left::Rows(rows), zero, y);
                }
                let matrix =
                    Matrix { data: made, signed: false, lanes: rows, k, lane: stride, step: 1 };
                let packed = PackedBytes::pack(bytes, Side::Left, &matrix).map_err(limit)?;
                product(Left::Packed(&packed), zero, y)
            })
            .map_err(limit)?
        });
    });
    failure.result()
}

/// Outputs whose patches are made together, and blocks of them worth handing to another thread.
fn blocks(g: &Geometry) -> (usize, usize) {
    let k = g.c * g.taps();
    let together = (BLOCK / k.next_multiple_of(4) / 28).max(1) * 28;
    (together, par::grain(together.saturating_mul(g.m).saturating_mul(k) / 64))
}

/// Rows of outputs that a strip makes, and strips worth handing to another thread.
fn strips(g: &Geometry) -> (usize, usize) {
    let [_, h, wide] = &g.axes;
    let (in_row, out_row) = (wide.input * g.group, wide.output * g.group);
    let overlap = h.extent().saturating_sub(h.stride);
    let fit = (STRIP / in_row.max(1)).saturating_sub(overlap) / h.stride;
    let together = fit.clamp(1, h.output);
    (together, par::grain(together.saturating_mul(out_row).saturating_mul(g.taps()) / 16))
}

/// What [`run`] takes: a block of patches, packed again if rows are not read as they lie; a strip of
/// an image as floats, and its sums; or a row beyond the image.
pub fn scratch(isa: Isa, g: &Geometry, weights: &Weights) -> Scratch {
    let [_, h, wide] = &g.axes;
    match weights {
        Weights::Depthwise(_) => {
            let (together, grain) = strips(g);
            let seen = ((together - 1) * h.stride + h.extent()).min(h.input);
            let strip = seen * wide.input * g.group + together * wide.output * g.group;
            Scratch::floats(strip).in_loop(h.output.div_ceil(together), grain)
        }
        Weights::Words(_) => Scratch::of::<u8>(depthwise_bytes::scratch(g))
            .in_loop(g.batch * h.output, depthwise_bytes::grain(g)),
        Weights::Patches(..) => {
            let (bytes, k, outputs) = (Bytes::of(isa), g.c * g.taps(), g.batch * g.out_len());
            let ((together, grain), stride) = (blocks(g), k.next_multiple_of(4));
            let rows = together.min(outputs);
            let packed = if bytes.step() == 4 { 0 } else { 1 };
            let packed = packed * PackedBytes::room(bytes, Side::Left, (rows, k));
            Scratch::of::<u8>(rows * stride)
                .and(Scratch::of::<u8>(packed))
                .in_loop(outputs.div_ceil(together), grain)
        }
    }
}

/// What each output sees, output by output.
struct Patches<'a> {
    g: &'a Geometry,
    x: &'a [u8],
    flip: u8,
    /// What stands beyond the image: the zero point.
    padding: u8,
}

impl Patches<'_> {
    /// What the outputs from `first` on see, each `stride` bytes; what is beyond the last tap of one
    /// may be anything.
    fn fill(&self, first: usize, made: &mut [u8], stride: usize) {
        let (g, [_, h, w]) = (self.g, &self.g.axes);
        let (c, row) = (g.c, w.kernel * g.c);
        for n in 0..made.len() / stride {
            let p = first + n;
            let (ox, oy, image) = (p % w.output, p / w.output % h.output, p / g.out_len());
            let x = &self.x[image * c * g.in_len()..][..c * g.in_len()];
            // Without dilation the taps of a row that lie inside the image are one run.
            let inside = if w.dilation == 1 { taps_inside(w, ox) } else { 0..0 };
            for ky in 0..h.kernel {
                let at = n * stride + ky * row;
                let Some(iy) = tap(h, oy, ky) else {
                    made[at..at + row].fill(self.padding);
                    continue;
                };
                let pixels = &x[iy * w.input * c..];
                if inside.len() == w.kernel {
                    self.run(&pixels[(ox * w.stride - w.before) * c..], &mut made[at..], row);
                    continue;
                }
                for (kx, to) in made[at..at + row].chunks_exact_mut(c).enumerate() {
                    match tap(w, ox, kx) {
                        Some(ix) => self.copy(&pixels[ix * c..][..c], to),
                        None => to.fill(self.padding),
                    }
                }
            }
        }
    }

    /// The first `len` codes, and some more where there is room: those of a few taps are one move,
    /// and what is written too far is written again.
    #[inline(always)]
    fn run(&self, x: &[u8], to: &mut [u8], len: usize) {
        if let (0..=SHORT, 0, Some(x), Some(to)) =
            (len, self.flip, x.first_chunk::<SHORT>(), to.first_chunk_mut::<SHORT>())
        {
            *to = *x;
        } else {
            self.copy(&x[..len], &mut to[..len]);
        }
    }

    #[inline(always)]
    fn copy(&self, x: &[u8], to: &mut [u8]) {
        match self.flip {
            0 => to.copy_from_slice(x),
            flip => to.iter_mut().zip(x).for_each(|(to, x)| *to = x ^ flip),
        }
    }
}

/// One channel per group: strips of images as floats, their sums, and what becomes of them.
fn depthwise<F: Finish>(
    (isa, g): (Isa, &Geometry),
    (x, w): (Image<'_>, &[f32]),
    bias: Option<&[i32]>,
    finish: &F,
    y: &mut [F::Out],
) -> Result<(), Reason> {
    let [_, h, wide] = &g.axes;
    let c = g.group;
    let (in_row, out_row) = (wide.input * c, wide.output * c);
    let (together, grain) = strips(g);
    let failure = par::Failure::default();
    for (image, y) in y.chunks_mut(h.output * out_row).enumerate() {
        let codes = &x.data[image * c * g.in_len()..][..c * g.in_len()];
        par::chunks_mut(y, together * out_row, grain, |strip, y| {
            failure.attempt(|| {
                let (part, rows) = strip_of(g, strip * together, y.len() / out_row);
                let codes = &codes[rows.start * in_row..rows.end * in_row];
                with_scratch_of(codes.len() + y.len(), |scratch: &mut [f32]| {
                    let (floats, sums) = scratch.split_at_mut(codes.len());
                    widen(isa, (codes, x.signed, x.zero), floats);
                    depthwise_last::run(isa, &part, (floats, w), &Follow::default(), sums);
                    let size = (y.len() / c, c);
                    finish_floats(Bytes::of(isa), finish, (sums, bias), size, y).map_err(limit)
                })
                .map_err(limit)?
            });
        });
    }
    failure.result()
}

/// Outputs in `rows` rows from `first` on, as a convolution of the rows of the image that they see.
fn strip_of(g: &Geometry, first: usize, rows: usize) -> (Geometry, std::ops::Range<usize>) {
    let h = &g.axes[1];
    let start = first * h.stride;
    let end = (first + rows - 1) * h.stride + h.extent();
    let seen =
        start.saturating_sub(h.before).min(h.input)..end.saturating_sub(h.before).clamp(0, h.input);
    let seen = seen.start.min(seen.end)..seen.end;
    let before = (h.before + seen.start).saturating_sub(start);
    let (input, output) = (seen.len(), rows);
    let after = (end - start).saturating_sub(before + input);
    let mut axes = g.axes;
    axes[1] = Span { input, output, before, after, ..*h };
    (Geometry { batch: 1, axes, ..g.clone() }, seen)
}

crate::simd_fn! {
    /// Codes less their zero point, as floats.
    fn widen(s: S, codes: (&[u8], bool, i32), y: &mut [f32]) {
        let (codes, signed, zero) = codes;
        let whole = y.len() - y.len() % S::LANES;
        let zeros = s.splat_i32(zero);
        for j in (0..whole).step_by(S::LANES) {
            let x = s.load_u8(&codes[j..]);
            let x = if signed { x.shl::<24>().sar::<24>() } else { x };
            (x - zeros).to_f32().store(&mut y[j..]);
        }
        for (y, &x) in y[whole..].iter_mut().zip(&codes[whole..]) {
            *y = (if signed { i32::from(x as i8) } else { i32::from(x) } - zero) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::super::testing::Random;
    use super::*;
    use crate::gemm::bytes::Sums;

    /// [n, c, pixels] → [n, pixels, c]
    fn turned<T: Copy>(x: &[T], c: usize, pixels: usize) -> Vec<T> {
        let of = |image: &[T]| -> Vec<T> {
            (0..c * pixels).map(|i| image[i % c * pixels + i / c]).collect()
        };
        x.chunks(c * pixels).flat_map(of).collect()
    }

    fn check(r: &mut Random, g: &Geometry, round: usize) {
        let mut bytes = |n: usize| -> Vec<u8> { (0..n).map(|_| r.below(256) as u8).collect() };
        let (cs, ms) = (g.group * g.c, g.group * g.m);
        let x = bytes(g.batch * cs * g.in_len());
        let w = bytes(ms * g.c * g.taps());
        let bias: Vec<i32> = bytes(ms).iter().map(|&b| i32::from(b) * 99 - 9000).collect();
        let zeros: Vec<i32> = match round % 3 {
            0 => vec![0; ms],
            1 => vec![7; ms],
            _ => bytes(ms).iter().map(|&z| i32::from(z as i8)).collect(),
        };
        let (signed, zero) = [(false, 3), (true, -128), (false, 0)][round / 3 % 3];
        let number = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
        let wide: Vec<i32> = x.iter().map(|&x| number(x, signed) - zero).collect();
        let k = g.c * g.taps();
        let plain: Vec<i32> =
            w.iter().enumerate().map(|(i, &w)| number(w, true) - zeros[i / k]).collect();
        let mut wanted = vec![0; g.batch * ms * g.out_len()];
        let cx = RunCx::unbounded();
        reference::convolve(g, (&wide, &plain), &mut wanted, &cx, |m, sums| {
            sums.iter_mut().for_each(|sum| *sum += bias[m]);
        })
        .unwrap();
        let (x, wanted) = (turned(&x, cs, g.in_len()), turned(&wanted, ms, g.out_len()));
        for isa in Isa::available() {
            let weights = Weights::pack(isa, g, (&w, true), zeros.clone()).unwrap();
            let mut y = vec![0; wanted.len()];
            let image = Image { data: &x, signed, zero };
            run(isa, g, (image, &weights), Some(&bias), &Sums, &mut y, &cx).unwrap();
            assert_eq!(y, wanted, "{g:?} {}", isa.name());
        }
    }

    #[test]
    fn sums_agree_with_the_plain_loops() {
        let mut r = Random::new(8);
        let (mut products, mut rounds) = (0, 0);
        while products < 60 {
            let g = Geometry::random(&mut r, 1);
            rounds += 1;
            if suits(&g) {
                check(&mut r, &g, rounds);
                products += 1;
            }
        }
        // Of channels by themselves, some in more strips than one.
        for round in 0..30 {
            let c = [3, 16, 40, 300][round % 4];
            let one = Geometry::random(&mut r, 1);
            let [d, mut h, w] = one.axes;
            if round % 3 == 0 && h.kernel == 1 {
                h = Span {
                    kernel: 3,
                    before: 1,
                    after: 1,
                    dilation: 1,
                    stride: 1,
                    output: h.input,
                    ..h
                };
            }
            let g = Geometry { group: c, c: 1, m: 1, axes: [d, h, w], ..one };
            if suits(&g) {
                check(&mut r, &g, round);
            }
        }
        // Windows whose columns are words.
        for round in 0..48 {
            let (kernel, stride) = ([3, 5][round % 2], [1, 2][round / 2 % 2]);
            let mut axis = |before: usize, after: usize| {
                let input = kernel + r.below(40);
                let output = (input + before + after - kernel) / stride + 1;
                Span { input, kernel, stride, dilation: 1, before, after, output }
            };
            let one = axis(0, 0);
            let axes = [
                Span { input: 1, kernel: 1, stride: 1, output: 1, ..one },
                axis(round % 3, round % 2),
                axis(round / 2 % 3, round % 3),
            ];
            let c = [16, 17, 40, 96][round / 4 % 4];
            let g = Geometry { batch: 1 + round % 2, group: c, c: 1, m: 1, axes };
            assert!(suits(&g));
            check(&mut r, &g, round);
        }
    }
}
