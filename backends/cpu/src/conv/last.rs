//! Convolutions of images whose channels stand side by side in memory.
//!
//! x [n, h, w, c]  →  y [n, h', w', m]
//!
//! One channel per group takes vectors of channels ([`depthwise_last`]), 3 × 3 with stride 1 goes
//! by tiles ([`winograd_last`]), everything else is a matrix product of patches [outputs, taps · c]
//! with the weights [taps · c, m]. A patch is a few runs of memory; of a 1 × 1 kernel it is the
//! pixel, and nothing is copied at all.

use rinfer_graph::backend::RunCx;
use rinfer_graph::{Reason, unsupported};

use super::geometry::{Geometry, tap, taps_inside};
use super::{Among, Follow, depthwise_last, winograd, winograd_last};
use crate::gemm::room::{self, Lies};
use crate::gemm::{Bias, Epilogue, Gemm, Lhs, MadeRows, PackedB, Rhs, Strided};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::{F32s, Isa, Simd};

/// Whether this file computes the convolution: images, in one group or one group per channel.
pub fn suits(g: &Geometry) -> bool {
    g.is_flat() && (g.group == 1 || depthwise_last::suits(g)) && g.out_len() > 0
}

/// Weights made ready.
pub enum Weights {
    /// By tap, a number for each channel.
    Depthwise(Vec<f32>),
    /// Transformed, for tiles.
    Winograd(winograd_last::Weights),
    /// A matrix [taps · c, m].
    Patches(PackedB),
}

impl Weights {
    /// Makes weights [m, c, h, w] ready for the way that suits these sizes.
    pub fn pack(isa: Isa, g: &Geometry, w: &[f32]) -> Result<Weights, Reason> {
        let (c, taps) = (g.c, g.taps());
        if depthwise_last::suits(g) {
            return Ok(Weights::Depthwise(by_tap(g.group, taps, w).collect()));
        }
        if winograd::suits(g) {
            return winograd_last::pack(isa, g.m, c, w).map(Weights::Winograd);
        }
        let k = c * taps;
        let packed = match taps {
            1 => PackedB::pack(isa, k, g.m, Strided::rows(w, c).transposed()),
            _ => with_scratch(k * g.m, |turned| {
                for (w, turned) in w.chunks_exact(k).zip(turned.chunks_exact_mut(k)) {
                    by_tap(c, taps, w).zip(turned).for_each(|(w, to)| *to = w);
                }
                PackedB::pack(isa, k, g.m, Strided::rows(turned, k).transposed())
            })
            .map_err(limit)?,
        };
        Ok(Weights::Patches(packed.map_err(limit)?))
    }
}

/// The elements of w [channels, taps] by tap.
fn by_tap(channels: usize, taps: usize, w: &[f32]) -> impl Iterator<Item = f32> {
    (0..taps).flat_map(move |t| (0..channels).map(move |c| w[c * taps + t]))
}

/// `y = follow(conv(x, weights))`, y and the residual with the outputs' channels alone.
pub fn run(
    isa: Isa,
    g: &Geometry,
    (x, weights): (&[f32], &Weights),
    follow: &Follow<'_>,
    y: &mut [f32],
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    match weights {
        Weights::Depthwise(w) => {
            cx.check()?;
            depthwise_last::run(isa, g, (x, w), follow, y);
            Ok(())
        }
        _ => run_among(isa, g, (x, weights), follow, (y, Among { all: g.m, first: 0 }), cx),
    }
}

/// As [`run`], into some of the channels of `y`; the residual has the outputs' channels alone.
///
/// # Errors
/// It is to stop, memory cannot be had, or the convolution goes channel by channel.
pub fn run_among(
    isa: Isa,
    g: &Geometry,
    (x, weights): (&[f32], &Weights),
    follow: &Follow<'_>,
    (y, among): (&mut [f32], Among),
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    cx.check()?;
    match weights {
        Weights::Depthwise(_) => Err(unsupported!("a depthwise convolution among other channels")),
        Weights::Winograd(w) => winograd_last::run(isa, g, (x, w), follow, (y, among), cx),
        Weights::Patches(w) => patches(isa, g, (x, w), follow, (y, among)),
    }
}

/// What [`run`] takes.
pub fn scratch(isa: Isa, g: &Geometry, weights: &Weights) -> Scratch {
    match weights {
        Weights::Depthwise(_) => Scratch::none(),
        Weights::Winograd(_) => winograd_last::scratch(isa, g),
        Weights::Patches(_) if is_pixelwise(g) => pixels_scratch(isa, g, g.batch * g.out_len()),
        Weights::Patches(_) => {
            let sizes = (g.batch * g.out_len(), g.m, g.c * g.taps());
            room::scratch(isa, sizes, Lies::Made, Lies::Packed)
        }
    }
}

/// What [`pixels`] takes for so many.
pub fn pixels_scratch(isa: Isa, g: &Geometry, pixels: usize) -> Scratch {
    room::scratch(isa, (pixels, g.m, g.c), Lies::Plain([g.c, 1]), Lies::Packed)
}

fn patches(
    isa: Isa,
    g: &Geometry,
    (x, w): (&[f32], &PackedB),
    follow: &Follow<'_>,
    (y, among): (&mut [f32], Among),
) -> Result<(), Reason> {
    let made = Patches { isa, g, x };
    let a = match is_pixelwise(g) {
        true => Lhs::Plain(Strided::rows(x, g.c)),
        false => Lhs::Made(&made),
    };
    let size = (g.batch * g.out_len(), g.m, g.c * g.taps());
    product(isa, size, (a, w), follow, (&mut y[among.first..], among.all))
}

/// Whether an output sees the pixel at its own place alone.
pub fn is_pixelwise(g: &Geometry) -> bool {
    g.axes.iter().all(|a| a.kernel == 1 && a.stride == 1 && a.before == 0 && a.after == 0)
}

/// As [`run`] for a convolution that [`is_pixelwise`], of as many pixels as `y` has.
///
/// # Errors
/// Memory cannot be had.
pub fn pixels(
    isa: Isa,
    g: &Geometry,
    (x, w): (&[f32], &PackedB),
    follow: &Follow<'_>,
    y: &mut [f32],
) -> Result<(), Reason> {
    let a = Lhs::Plain(Strided::rows(x, g.c));
    product(isa, (y.len() / g.m, g.m, g.c), (a, w), follow, (y, g.m))
}

fn product(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    (a, w): (Lhs<'_>, &PackedB),
    follow: &Follow<'_>,
    (y, stride): (&mut [f32], usize),
) -> Result<(), Reason> {
    let epilogue = Epilogue {
        bias: follow.bias.map(Bias::Row),
        residual: follow.residual.map(|r| (r, n)),
        activation: follow.activation,
    };
    let gemm = Gemm::new((m, n, k), a, Rhs::Packed(w));
    Gemm { epilogue, ..gemm }.run(isa, y, stride).map_err(limit)
}

/// What each output sees, output by output.
struct Patches<'a> {
    isa: Isa,
    g: &'a Geometry,
    x: &'a [f32],
}

impl std::fmt::Debug for Patches<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Patches(of {})", self.x.len())
    }
}

/// Rows that are made by one call.
const ROWS: usize = 16;

impl MadeRows for Patches<'_> {
    fn rows(&self, first: usize, rows: &mut [f32]) {
        let k = self.g.c * self.g.taps();
        par::chunks_mut(rows, ROWS * k, par::grain(ROWS * (k / 8 + 20)), |i, rows| {
            fill(self.isa, self, first + i * ROWS, rows);
        });
    }
}

crate::simd_fn! {
    /// What the outputs from `first` on see, as many as `rows` holds.
    fn fill(s: S, job: &Patches<'_>, first: usize, rows: &mut [f32]) {
        let (g, [_, h, w]) = (job.g, &job.g.axes);
        let mut at = 0;
        for p in first..first + rows.len() / (g.c * g.taps()) {
            let (ox, oy, image) = (p % w.output, p / w.output % h.output, p / g.out_len());
            let x = &job.x[image * g.c * g.in_len()..];
            // Without dilation the taps of a row that lie inside the image are one run.
            let (inside, step) = match w.dilation {
                1 => (taps_inside(w, ox), w.kernel.max(1)),
                _ => (0..w.kernel, 1),
            };
            for ky in 0..h.kernel {
                let Some(iy) = tap(h, oy, ky) else {
                    at += zeros(&mut rows[at..], w.kernel * g.c);
                    continue;
                };
                at += zeros(&mut rows[at..], inside.start * g.c);
                for kx in inside.clone().step_by(step) {
                    let run = if step == 1 { 1 } else { inside.len() };
                    let Some(ix) = tap(w, ox, kx) else {
                        at += zeros(&mut rows[at..], g.c);
                        continue;
                    };
                    copy(s, &x[(iy * w.input + ix) * g.c..], run * g.c, &mut rows[at..]);
                    at += run * g.c;
                }
                at += zeros(&mut rows[at..], (w.kernel - inside.end) * g.c);
            }
        }
    }
}

/// Zeros in the first `n` of `y`.
#[inline(always)]
fn zeros(y: &mut [f32], n: usize) -> usize {
    y[..n].fill(0.0);
    n
}

/// `y[..n] = x[..n]` in whole vectors where there is room: what is too much is written over next.
#[inline(always)]
fn copy<S: Simd>(s: S, x: &[f32], n: usize, y: &mut [f32]) {
    for j in (0..n).step_by(S::LANES) {
        if x.len() >= j + S::LANES && y.len() >= j + S::LANES {
            s.load(&x[j..]).store(&mut y[j..]);
        } else {
            y[j..n.min(j + S::LANES)].copy_from_slice(&x[j..n.min(j + S::LANES)]);
        }
    }
}
