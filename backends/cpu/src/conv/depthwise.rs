//! Convolution with one input channel per group: each output channel by itself.
//!
//! On the image laid out by [`Source`] an output is Σ w[k] · x[tap k + place]; places of outputs in
//! one row stand side by side, rows a pitch apart. All places up to the last output are computed
//! as one long row, the few between rows in vain, and rows are then copied out.

use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;

use super::Follow;
use super::geometry::Geometry;
use super::source::Source;
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch;
use crate::simd::{F32s, Isa, Simd};

/// A depthwise convolution, made ready.
pub struct Plan {
    g: Geometry,
    source: Source,
    /// Places from the first to the last output.
    places: usize,
}

impl Plan {
    /// `None` if it is no depthwise convolution, or the sizes overflow.
    pub fn new(g: &Geometry) -> Option<Plan> {
        if g.c != 1 || g.out_len() == 0 {
            return None;
        }
        let source = Source::new(g)?;
        let [d, h, w] = g.axes.map(|a| a.output - 1);
        let places = d * source.pitch[0] + h * source.pitch[1] + w + 1;
        Some(Plan { g: g.clone(), source, places })
    }

    /// `y = follow(conv(x, w))`
    pub fn run(
        &self,
        isa: Isa,
        (x, w): (&[f32], &[f32]),
        follow: &Follow<'_>,
        y: &mut [f32],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let g = &self.g;
        let (len, out, taps) = (g.in_len(), g.out_len(), g.taps());
        let channels = g.group * g.m;
        let own = if self.source.as_is { 0 } else { self.source.channel };
        let ns = self.places.saturating_mul(taps) / 16 + own / 8;
        let failure = par::Failure::default();
        par::chunks_mut(y, out, par::grain(ns), |i, y| {
            failure.attempt(|| {
                cx.check()?;
                let (image, channel) = (i / channels, i % channels);
                let x = &x[(image * g.group + channel / g.m) * len..][..len];
                let follow = follow.channels(channel, 1, i * out, out);
                let w = &w[channel * taps..][..taps];
                with_scratch(own + self.places.next_multiple_of(STEP), |scratch| {
                    let (laid_out, sums) = scratch.split_at_mut(own);
                    let x = if self.source.as_is {
                        x
                    } else {
                        self.source.lay_out_channel(g, x, laid_out);
                        &*laid_out
                    };
                    long_row(isa, x, w, &self.source.taps, &mut sums[..self.places]);
                    finish(isa, self, sums, &follow, y);
                })
                .map_err(limit)
            });
        });
        failure.result()
    }
}

/// What a row of sums is rounded up to.
const STEP: usize = 16;
/// Vectors of sums side by side.
const SUMS: usize = 6;

crate::simd_fn! {
    /// `y[i] = Σ w[k] · x[taps[k] + i]`
    fn long_row(s: S, x: &[f32], w: &[f32], taps: &[usize], y: &mut [f32]) {
        match w.len() {
            9 => taps_of::<S, 9>(s, x, w, taps, y),
            25 => taps_of::<S, 25>(s, x, w, taps, y),
            _ => {
                let mut at = 0;
                while at < y.len() {
                    let n = y.len() - at;
                    if n >= SUMS * S::LANES {
                        sums::<S, SUMS>(s, x, w, taps, at, y);
                        at += SUMS * S::LANES;
                    } else {
                        sums::<S, 1>(s, x, w, taps, at, y);
                        at += S::LANES;
                    }
                }
            }
        }
    }
}

/// A number of taps that is known beforehand.
#[inline(always)]
fn taps_of<S: Simd, const K: usize>(s: S, x: &[f32], w: &[f32], taps: &[usize], y: &mut [f32]) {
    let (w, taps): (&[f32; K], &[usize; K]) = match (w.try_into(), taps.try_into()) {
        (Ok(w), Ok(taps)) => (w, taps),
        _ => return,
    };
    let mut at = 0;
    while at < y.len() {
        let n = y.len() - at;
        if n >= SUMS * S::LANES {
            sums::<S, SUMS>(s, x, w, taps, at, y);
            at += SUMS * S::LANES;
        } else {
            sums::<S, 1>(s, x, w, taps, at, y);
            at += S::LANES;
        }
    }
}

#[inline(always)]
fn sums<S: Simd, const N: usize>(
    s: S,
    x: &[f32],
    w: &[f32],
    taps: &[usize],
    at: usize,
    y: &mut [f32],
) {
    let mut acc = [s.zero(); N];
    let whole = y.len() - at >= N * S::LANES;
    for (&w, &tap) in w.iter().zip(taps) {
        let w = s.splat(w);
        if whole {
            let x = &x[tap + at..][..N * S::LANES];
            for j in 0..N {
                acc[j] = w.mul_add(s.load(&x[j * S::LANES..]), acc[j]);
            }
        } else {
            acc[0] = w.mul_add(s.load_partial(&x[tap + at..], 0.0), acc[0]);
        }
    }
    for j in 0..N {
        acc[j].store_partial(&mut y[at + j * S::LANES..]);
    }
}

crate::simd_fn! {
    /// Copies the rows out of the long one, adds what follows and applies the activation.
    fn finish(s: S, plan: &Plan, sums: &[f32], follow: &Follow<'_>, y: &mut [f32]) {
        let [_, h, w] = plan.g.axes.map(|a| a.output);
        let pitch = plan.source.pitch;
        let bias = s.splat(follow.bias.map_or(0.0, |b| b[0]));
        for (r, y) in y.chunks_exact_mut(w).enumerate() {
            let sums = &sums[r / h * pitch[0] + r % h * pitch[1]..][..w];
            let mut j = 0;
            while j < w {
                let mut v = s.load_partial(&sums[j..], 0.0) + bias;
                if let Some(residual) = follow.residual {
                    v = v + s.load_partial(&residual[r * w + j..(r + 1) * w], 0.0);
                }
                v.store_partial(&mut y[j..]);
                j += S::LANES;
            }
        }
        follow.activation.apply_slice(s, y);
    }
}
