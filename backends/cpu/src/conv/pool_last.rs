//! Pools over images whose channels stand side by side: windows over each channel, as those of
//! [`depthwise_last`](super::depthwise_last), whose largest element or mean is looked for.

use std::ops::Range;

use rinfer_graph::ops::Span;

use super::depthwise_last::Image;
use super::geometry::{Geometry, taps_inside};
use crate::par;
use crate::simd::{F32s, Isa, Simd};

/// What is taken of the elements under a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// The largest.
    Max,
    /// The mean of those inside the image.
    Mean,
    /// The mean, with padding as zeros.
    PaddedMean,
}

/// A pool.
pub struct Pool {
    /// Its sizes: every channel is a group.
    g: Geometry,
    /// Elements under the window along each axis: what a mean is divided by.
    counts: [Vec<usize>; 2],
    take: Take,
}

impl Pool {
    /// The pool with these sizes, every channel a group.
    pub fn new(g: Geometry, take: Take) -> Pool {
        let counts = [1, 2].map(|i| {
            let a: Span = g.axes[i];
            // Padding counts only as far as it goes: a last window may end beyond it.
            let padded = Span { input: a.input + a.before + a.after, before: 0, ..a };
            let counted = if take == Take::PaddedMean { padded } else { a };
            (0..a.output).map(|o| taps_inside(&counted, o).len()).collect()
        });
        Pool { g, counts, take }
    }

    /// `y = pool(x)`
    pub fn run(&self, isa: Isa, x: &[f32], y: &mut [f32]) {
        let [_, h, w] = &self.g.axes;
        let row = w.output * self.g.group;
        let image = self.g.group * self.g.in_len();
        par::rows(y, row, row * self.g.taps() / 16, |rows, y| {
            for (r, y) in rows.zip(y.chunks_exact_mut(row)) {
                let x = Image { x: &x[r / h.output * image..][..image], top: 0 };
                output_row(isa, self, x, r % h.output, y);
            }
        });
    }

    /// As [`Pool::run`], for the rows from `first` on of one image, as many as `y` holds, on this
    /// thread; `x` has the rows that they see.
    pub fn rows(&self, isa: Isa, x: Image<'_>, first: usize, y: &mut [f32]) {
        let row = self.g.axes[2].output * self.g.group;
        for (oy, y) in (first..).zip(y.chunks_exact_mut(row)) {
            output_row(isa, self, x, oy, y);
        }
    }
}

crate::simd_fn! {
    /// One row of one image's outputs.
    fn output_row(s: S, pool: &Pool, image: Image<'_>, oy: usize, y: &mut [f32]) {
        let ([_, h, w], c) = (&pool.g.axes, pool.g.group);
        for (ox, y) in y.chunks_exact_mut(c).enumerate() {
            let window = Window {
                image,
                rows: taps_inside(h, oy),
                columns: taps_inside(w, ox),
                corner: (oy * h.stride, ox * w.stride),
                count: (pool.counts[0][oy] * pool.counts[1][ox]) as f32,
            };
            let wide = TOGETHER * S::LANES;
            let mut c0 = 0;
            while c - c0 >= wide {
                pool.channels::<S, TOGETHER>(s, &window, c0, &mut y[c0..c0 + wide]);
                c0 += wide;
            }
            for c0 in (c0..c).step_by(S::LANES) {
                pool.channels::<S, 1>(s, &window, c0, &mut y[c0..c.min(c0 + S::LANES)]);
            }
        }
    }
}

/// Vectors of channels that go through a window at the same time.
const TOGETHER: usize = 4;

/// The part of an image under one window, as far as it is inside the image.
struct Window<'a> {
    image: Image<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Row and column of its first tap, padding included.
    corner: (usize, usize),
    /// What a mean is divided by.
    count: f32,
}

impl Pool {
    /// The channels from `c0` on that `y` holds: V vectors of them, or one that is not full.
    #[inline(always)]
    fn channels<S: Simd, const V: usize>(
        &self,
        s: S,
        window: &Window<'_>,
        c0: usize,
        y: &mut [f32],
    ) {
        let ([_, h, w], c) = (&self.g.axes, self.g.group);
        // Of several vectors all are full: then what is read below needs no tests.
        let n = if V > 1 { V * S::LANES } else { y.len() };
        let mean = self.take != Take::Max;
        let start = if mean { s.zero() } else { s.splat(f32::NEG_INFINITY) };
        let mut acc = [start; V];
        for ky in window.rows.clone() {
            let iy = window.corner.0 + ky * h.dilation - h.before - window.image.top;
            for kx in window.columns.clone() {
                let ix = window.corner.1 + kx * w.dilation - w.before;
                let x = &window.image.x[(iy * w.input + ix) * c + c0..][..n];
                for v in 0..V {
                    let x = s.load_partial(&x[v * S::LANES..], 0.0);
                    acc[v] = if mean { acc[v] + x } else { s.max_nan(acc[v], x) };
                }
            }
        }
        let count = s.splat(window.count);
        for v in 0..V {
            let made = if mean { acc[v] / count } else { acc[v] };
            made.store_partial(&mut y[v * S::LANES..]);
        }
    }
}
