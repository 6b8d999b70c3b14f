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
        let (out, taps) = (self.g.out_len(), self.g.taps());
        let own = if self.source.as_is { 0 } else { self.source.channel };
        let ns = self.places.saturating_mul(taps) / 16 + own / 8 + 100;
        let failure = par::Failure::default();
        let n = y.len() / out;
        par::split((y, out), n, par::grain(ns), |first, (y, _)| {
            for (i, y) in y.chunks_mut(out * TOGETHER).enumerate() {
                failure.attempt(|| {
                    cx.check()?;
                    with_scratch(own + self.places.next_multiple_of(STEP), |scratch| {
                        let first = first + i * TOGETHER;
                        channels(isa, self, (x, w), follow, first, y, scratch.split_at_mut(own));
                    })
                    .map_err(limit)
                });
            }
        });
        failure.result()
    }
}

/// Channels between two looks at whether to stop.
const TOGETHER: usize = 64;
/// What a row of sums is rounded up to.
const STEP: usize = 16;
/// Vectors of sums side by side.
const SUMS: usize = 6;

crate::simd_fn! {
    /// Output channels from `first` on, as many as `y` holds.
    fn channels(
        s: S,
        plan: &Plan,
        operands: (&[f32], &[f32]),
        follow: &Follow<'_>,
        first: usize,
        y: &mut [f32],
        scratch: (&mut [f32], &mut [f32]),
    ) {
        let ((x, w), g, (laid_out, sums)) = (operands, &plan.g, scratch);
        let (len, out, taps) = (g.in_len(), g.out_len(), g.taps());
        let mut last = usize::MAX;
        for (i, y) in (first..).zip(y.chunks_exact_mut(out)) {
            let (image, channel) = (i / (g.group * g.m), i % (g.group * g.m));
            let source = image * g.group + channel / g.m;
            let x = &x[source * len..][..len];
            let w = &w[channel * taps..][..taps];
            if plan.source.as_is {
                long_row(s, x, w, &plan.source.taps, &mut sums[..plan.places]);
            } else {
                if last != source {
                    plan.source.phases(g, x, laid_out);
                    last = source;
                }
                long_row(s, laid_out, w, &plan.source.taps, &mut sums[..plan.places]);
            }
            finish(s, plan, sums, &follow.channels(channel, 1, i * out, out), y);
        }
    }
}

/// `y[i] = Σ w[k] · x[taps[k] + i]`
#[inline(always)]
fn long_row<S: Simd>(s: S, x: &[f32], w: &[f32], taps: &[usize], y: &mut [f32]) {
    match w.len() {
        9 => taps_of::<S, 9>(s, x, w, taps, y),
        25 => taps_of::<S, 25>(s, x, w, taps, y),
        _ => all_sums(s, x, w, taps, y),
    }
}

/// A number of taps that is known beforehand.
#[inline(always)]
fn taps_of<S: Simd, const K: usize>(s: S, x: &[f32], w: &[f32], taps: &[usize], y: &mut [f32]) {
    let (w, taps): (&[f32; K], &[usize; K]) = match (w.try_into(), taps.try_into()) {
        (Ok(w), Ok(taps)) => (w, taps),
        _ => return,
    };
    all_sums(s, x, w, taps, y);
}

#[inline(always)]
fn all_sums<S: Simd>(s: S, x: &[f32], w: &[f32], taps: &[usize], y: &mut [f32]) {
    let mut at = 0;
    while at < y.len() {
        let n = (y.len() - at).div_ceil(S::LANES);
        at += S::LANES
            * match n {
                SUMS.. => sums::<S, SUMS>(s, x, w, taps, at, y),
                4.. => sums::<S, 4>(s, x, w, taps, at, y),
                2.. => sums::<S, 2>(s, x, w, taps, at, y),
                _ => sums::<S, 1>(s, x, w, taps, at, y),
            };
    }
}

/// N vectors of sums from `at` on; the last may be partial.
#[inline(always)]
fn sums<S: Simd, const N: usize>(
    s: S,
    x: &[f32],
    w: &[f32],
    taps: &[usize],
    at: usize,
    y: &mut [f32],
) -> usize {
    let mut acc = [s.zero(); N];
    for (&w, &tap) in w.iter().zip(taps) {
        let (w, x) = (s.splat(w), &x[tap + at..]);
        let (whole, last) = x.split_at((N - 1) * S::LANES);
        for j in 0..N - 1 {
            acc[j] = w.mul_add(s.load(&whole[j * S::LANES..]), acc[j]);
        }
        acc[N - 1] = w.mul_add(s.load_partial(last, 0.0), acc[N - 1]);
    }
    for j in 0..N {
        acc[j].store_partial(&mut y[at + j * S::LANES..]);
    }
    N
}

/// Copies the rows out of the long one, adds what follows and applies the activation.
#[inline(always)]
fn finish<S: Simd>(s: S, plan: &Plan, sums: &[f32], follow: &Follow<'_>, y: &mut [f32]) {
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
