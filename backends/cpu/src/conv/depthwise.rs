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
use crate::scratch::Scratch;
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
        let out = self.g.out_len();
        let failure = par::Failure::default();
        let n = y.len() / out;
        let (count, (own, row)) = (self.together(), self.room());
        par::split((y, out), n, self.grain(), |first, (y, _)| {
            for (i, y) in y.chunks_mut(out * count).enumerate() {
                failure.attempt(|| {
                    cx.check()?;
                    with_scratch(own + row, |scratch| {
                        let scratch = scratch.split_at_mut(own);
                        channels(isa, self, (x, w), follow, first + i * count, y, scratch);
                    })
                    .map_err(limit)
                });
            }
        });
        failure.result()
    }

    /// What a run takes that makes `n` output channels, of all images.
    pub fn scratch(&self, n: usize) -> Scratch {
        let (own, row) = self.room();
        Scratch::floats(own + row).in_loop(n, self.grain())
    }

    /// Output channels worth handing to another thread.
    fn grain(&self) -> usize {
        let own = if self.source.as_is { 0 } else { self.source.channel };
        par::grain(self.places.saturating_mul(self.g.taps()) / 16 + own / 8 + 100)
    }

    /// Numbers laid out, and sums, for the channels worked on at a time.
    fn room(&self) -> (usize, usize) {
        let (own, count) =
            (if self.source.as_is { 0 } else { self.source.channel }, self.together());
        (own * count, self.places.next_multiple_of(STEP) * count)
    }

    /// Output channels worked on at a time, step by step: what one step stored is then not read
    /// by the next before it has reached the cache.
    fn together(&self) -> usize {
        (TOGETHER / (self.places + self.source.channel)).max(1)
    }
}

/// Numbers laid out and sums made for channels together: they stay in L1.
const TOGETHER: usize = 4096;
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
        let (own, row) = (plan.source.channel, plan.places.next_multiple_of(STEP));
        let (last, from) = (first + y.len() / out, first / g.m);
        if !plan.source.as_is {
            let images = x[from * len..].chunks_exact(len).take(last.div_ceil(g.m) - from);
            for (x, y) in images.zip(laid_out.chunks_exact_mut(own)) {
                plan.source.phases(s, g, x, y);
            }
        }
        for (i, sums) in (first..last).zip(sums.chunks_exact_mut(row)) {
            let x = if plan.source.as_is {
                &x[i / g.m * len..][..len]
            } else {
                &laid_out[(i / g.m - from) * own..][..own]
            };
            let w = &w[i % (g.group * g.m) * taps..][..taps];
            long_row(s, x, w, &plan.source.taps, plan.places, sums);
        }
        for ((i, y), sums) in (first..).zip(y.chunks_exact_mut(out)).zip(sums.chunks_exact(row)) {
            let channel = i % (g.group * g.m);
            finish(s, plan, sums, &follow.channels(channel, 1, i * out, out), y);
        }
    }
}

/// `y[i] = Σ w[k] · x[taps[k] + i]` for `i < n`, and anything up to a whole vector.
#[inline(always)]
fn long_row<S: Simd>(s: S, x: &[f32], w: &[f32], taps: &[usize], n: usize, y: &mut [f32]) {
    match w.len() {
        9 => taps_of::<S, 9>(s, x, w, taps, n, y),
        25 => taps_of::<S, 25>(s, x, w, taps, n, y),
        _ => all_sums(s, x, w, taps, n, y),
    }
}

/// A number of taps that is known beforehand.
#[inline(always)]
fn taps_of<S: Simd, const K: usize>(
    s: S,
    x: &[f32],
    w: &[f32],
    taps: &[usize],
    n: usize,
    y: &mut [f32],
) {
    let (w, taps): (&[f32; K], &[usize; K]) = match (w.try_into(), taps.try_into()) {
        (Ok(w), Ok(taps)) => (w, taps),
        _ => return,
    };
    all_sums(s, x, w, taps, n, y);
}

#[inline(always)]
fn all_sums<S: Simd>(s: S, x: &[f32], w: &[f32], taps: &[usize], n: usize, y: &mut [f32]) {
    let mut at = 0;
    while at < n {
        let y = &mut y[at..];
        at += S::LANES
            * match (n - at).div_ceil(S::LANES) {
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
        acc[j].store(&mut y[j * S::LANES..]);
    }
    N
}

/// Copies the rows out of the long one, adds what follows and applies the activation. In order,
/// so that whole vectors may be written: what is too much the next row overwrites.
#[inline(always)]
fn finish<S: Simd>(s: S, plan: &Plan, sums: &[f32], follow: &Follow<'_>, y: &mut [f32]) {
    let [d, h, w] = plan.g.axes.map(|a| a.output);
    let pitch = plan.source.pitch;
    let bias = s.splat(follow.bias.map_or(0.0, |b| b[0]));
    for (row, (z, r)) in (0..d).flat_map(|z| (0..h).map(move |r| (z, r))).enumerate() {
        let sums = &sums[z * pitch[0] + r * pitch[1]..];
        for j in (0..w).step_by(S::LANES) {
            let mut v = s.load_partial(&sums[j..], 0.0) + bias;
            if let Some(residual) = follow.residual {
                v = v + s.load_partial(&residual[row * w + j..], 0.0);
            }
            follow.activation.apply(s, v).store_partial(&mut y[row * w + j..]);
        }
    }
}
