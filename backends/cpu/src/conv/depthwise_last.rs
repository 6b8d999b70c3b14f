//! Convolution of each channel by itself, in vectors of channels.
//!
//! y[p, c] = Σ w[tap, c] · x[place(p, tap), c]
//!
//! Some outputs in a row are summed at the same time, so that a vector of weights serves them all.
//! For windows of 3 and 5 with stride 1 or 2 a vector of x is loaded once for all the outputs that
//! it belongs to ([`Part::shared`]); others load it for each ([`Part::sums_of`]).

use std::ops::Range;

use super::Follow;
use super::geometry::{Geometry, inside, taps_inside};
use crate::par;
use crate::simd::{F32s, Isa, Simd};

/// Whether every channel is a group.
pub fn suits(g: &Geometry) -> bool {
    g.c == 1 && g.m == 1 && g.group > 1
}

/// Outputs summed at the same time.
const SUMS: usize = 8;

/// `y = follow(conv(x, w))`, w by tap.
pub fn run(isa: Isa, g: &Geometry, (x, w): (&[f32], &[f32]), follow: &Follow<'_>, y: &mut [f32]) {
    let [_, h, wide] = &g.axes;
    let row = wide.output * g.group;
    let image = g.group * g.in_len();
    let job = Job { g, w, follow };
    par::rows(y, row, row * g.taps() / 16, |rows, y| {
        for (r, y) in rows.zip(y.chunks_exact_mut(row)) {
            let residual = follow.residual.map(|all| &all[r * row..][..row]);
            let x = Image { x: &x[r / h.output * image..][..image], top: 0 };
            output_row(isa, &job, x, (r % h.output, residual), y);
        }
    });
}

/// Some rows of an image.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    /// The rows.
    pub x: &'a [f32],
    /// Which row is the first.
    pub top: usize,
}

/// As [`run`], for the rows from `first` on of one image, as many as `y` holds, on this thread; `x`
/// has the rows that they see. There is no residual.
pub fn rows(
    isa: Isa,
    g: &Geometry,
    (x, w): (Image<'_>, &[f32]),
    follow: &Follow<'_>,
    first: usize,
    y: &mut [f32],
) {
    let row = g.axes[2].output * g.group;
    for (oy, y) in (first..).zip(y.chunks_exact_mut(row)) {
        output_row(isa, &Job { g, w, follow }, x, (oy, None), y);
    }
}

struct Job<'a> {
    g: &'a Geometry,
    w: &'a [f32],
    follow: &'a Follow<'a>,
}

/// Where outputs stand: row, first column, first channel.
type At = (usize, usize, usize);

crate::simd_fn! {
    /// Row `at.0` of one image's outputs, to which `at.1` is added.
    fn output_row(
        s: S,
        job: &Job<'_>,
        x: Image<'_>,
        at: (usize, Option<&[f32]>),
        y: &mut [f32],
    ) {
        let ([_, h, w], c, (oy, residual)) = (&job.g.axes, job.g.group, at);
        let clip = job.follow.clip();
        let part = Part { job, x, residual, clip, c, rows: taps_inside(h, oy) };
        match (w.kernel, w.stride, w.dilation) {
            _ if c < S::LANES || w.output < SUMS / 2 => part.any(s, oy, y),
            (3, 1, 1) => part.row::<S, 3, 1>(s, oy, y),
            (3, 2, 1) => part.row::<S, 3, 2>(s, oy, y),
            (5, 1, 1) => part.row::<S, 5, 1>(s, oy, y),
            (5, 2, 1) => part.row::<S, 5, 2>(s, oy, y),
            _ => part.any(s, oy, y),
        }
        job.follow.after_clip(s, y);
    }
}

/// A row of outputs.
struct Part<'a> {
    job: &'a Job<'a>,
    x: Image<'a>,
    residual: Option<&'a [f32]>,
    /// What outputs are clipped to.
    clip: (f32, f32),
    c: usize,
    /// The rows of the window that lie inside the image.
    rows: Range<usize>,
}

impl Part<'_> {
    /// The row, for windows of any kind.
    #[inline(always)]
    fn any<S: Simd>(&self, s: S, oy: usize, y: &mut [f32]) {
        let w = &self.job.g.axes[2];
        let whole = inside(w);
        for ox in (0..whole.start).chain(whole.end..w.output) {
            self.outputs::<S, 1>(s, (oy, ox), taps_inside(w, ox), y);
        }
        let mut ox = whole.start;
        while ox < whole.end {
            ox += match whole.end - ox {
                SUMS.. => self.outputs::<S, SUMS>(s, (oy, ox), 0..w.kernel, y),
                _ => self.outputs::<S, 1>(s, (oy, ox), 0..w.kernel, y),
            };
        }
    }

    /// N outputs side by side, from row and column `at` on.
    #[inline(always)]
    fn outputs<S: Simd, const N: usize>(
        &self,
        s: S,
        (oy, ox): (usize, usize),
        columns: Range<usize>,
        y: &mut [f32],
    ) -> usize {
        if self.c < S::LANES {
            self.sums_of::<S, N, true>(s, (oy, ox, 0), &columns, y);
            return N;
        }
        for c0 in (0..self.c).step_by(S::LANES) {
            // The last vector overlaps the one before it instead of being partial.
            let c0 = c0.min(self.c - S::LANES);
            self.sums_of::<S, N, false>(s, (oy, ox, c0), &columns, y);
        }
        N
    }

    /// Of as many channels as a vector holds.
    #[inline(always)]
    fn sums_of<S: Simd, const N: usize, const PART: bool>(
        &self,
        s: S,
        (oy, ox, c0): At,
        columns: &Range<usize>,
        y: &mut [f32],
    ) {
        let (c, [_, h, w]) = (self.c, &self.job.g.axes);
        let step = w.stride * c;
        let mut acc = [s.zero(); N];
        for ky in self.rows.clone() {
            let iy = oy * h.stride + ky * h.dilation - h.before - self.x.top;
            for kx in columns.clone() {
                let ix = ox * w.stride + kx * w.dilation - w.before;
                let weight = load::<S, PART>(s, c, &self.job.w[(ky * w.kernel + kx) * c + c0..]);
                let x = &self.x.x[(iy * w.input + ix) * c + c0..];
                for j in 0..N {
                    acc[j] = weight.mul_add(load::<S, PART>(s, c, &x[j * step..]), acc[j]);
                }
            }
        }
        self.finish::<S, N, PART>(s, acc, (ox, c0), y);
    }

    /// The row, for windows K wide in steps of STEP.
    #[inline(always)]
    fn row<S: Simd, const K: usize, const STEP: usize>(&self, s: S, oy: usize, y: &mut [f32]) {
        let w = &self.job.g.axes[2];
        let whole = inside(w);
        // With larger steps outputs share less, and more of them would not fit in registers.
        let n = if STEP > 1 || w.output < SUMS { SUMS / 2 } else { SUMS };
        for ox in (0..w.output).step_by(n) {
            // The last outputs overlap those before them.
            let ox = ox.min(w.output - n);
            match (n, ox < whole.start || ox + n > whole.end) {
                (SUMS, false) => self.shared::<S, SUMS, K, STEP, false>(s, (oy, ox), y),
                (SUMS, true) => self.shared::<S, SUMS, K, STEP, true>(s, (oy, ox), y),
                (_, false) => self.shared::<S, { SUMS / 2 }, K, STEP, false>(s, (oy, ox), y),
                (_, true) => self.shared::<S, { SUMS / 2 }, K, STEP, true>(s, (oy, ox), y),
            }
        }
    }

    /// N outputs side by side; EDGE if some of their windows leave the image.
    #[inline(always)]
    fn shared<S: Simd, const N: usize, const K: usize, const STEP: usize, const EDGE: bool>(
        &self,
        s: S,
        (oy, ox): (usize, usize),
        y: &mut [f32],
    ) {
        let (c, [_, h, w]) = (self.c, &self.job.g.axes);
        for c0 in (0..c).step_by(S::LANES) {
            let c0 = c0.min(c - S::LANES);
            let mut acc = [s.zero(); N];
            for ky in self.rows.clone() {
                let iy = oy * h.stride + ky * h.dilation - h.before - self.x.top;
                let mut weights = [s.zero(); K];
                for kx in 0..K {
                    weights[kx] = s.load(&self.job.w[(ky * K + kx) * c + c0..]);
                }
                let row = &self.x.x[iy * w.input * c..][..w.input * c];
                for i in 0..(N - 1) * STEP + K {
                    let column = (ox * STEP + i).wrapping_sub(w.before);
                    if EDGE && column >= w.input {
                        continue;
                    }
                    let x = s.load(&row[column * c + c0..]);
                    for kx in 0..K {
                        if i >= kx && (i - kx) % STEP == 0 && (i - kx) / STEP < N {
                            let j = (i - kx) / STEP;
                            acc[j] = weights[kx].mul_add(x, acc[j]);
                        }
                    }
                }
            }
            self.finish::<S, N, false>(s, acc, (ox, c0), y);
        }
    }

    /// Writes sums with what follows them, but for an activation that is more than a clip.
    #[inline(always)]
    fn finish<S: Simd, const N: usize, const PART: bool>(
        &self,
        s: S,
        acc: [S::F32; N],
        (ox, c0): (usize, usize),
        y: &mut [f32],
    ) {
        let c = self.c;
        let bias = match self.job.follow.bias {
            Some(bias) => load::<S, PART>(s, c, &bias[c0..]),
            None => s.zero(),
        };
        let (lo, hi) = (s.splat(self.clip.0), s.splat(self.clip.1));
        for j in 0..N {
            let at = (ox + j) * c + c0;
            let mut v = acc[j] + bias;
            if let Some(residual) = self.residual {
                v = v + load::<S, PART>(s, c, &residual[at..]);
            }
            let v = hi.min(lo.max(v));
            if PART {
                v.store_partial(&mut y[at..at + c]);
            } else {
                v.store(&mut y[at..]);
            }
        }
    }
}

/// The first channels at `x`: a vector of them, or all `c` if there are fewer. No closure, for
/// those are compiled apart from the kernel, without its instructions.
#[inline(always)]
fn load<S: Simd, const PART: bool>(s: S, c: usize, x: &[f32]) -> S::F32 {
    if PART { s.load_partial(&x[..c], 0.0) } else { s.load(x) }
}
