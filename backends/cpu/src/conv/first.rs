//! Convolution of images with few channels, as the first layer of a network reads them.
//!
//! x [n, c, h, w]  →  y [n, h', w', m]
//!
//! A matrix product would spend more time on gathering patches than on multiplying them. Here the
//! rows under a row of windows are laid out with their padding, and each number in them meets
//! vectors of output channels. Reading planes spares the first turn of the image as well.

use rinfer_graph::{Reason, scarce};

use super::Follow;
use super::geometry::{Geometry, tap};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::{F32s, Isa, MAX_LANES, Simd};

/// Channels that are few.
const FEW: usize = 4;
/// Vectors of output channels that are summed at the same time.
const VECTORS: usize = 2;

/// Whether the convolution is one of few channels that is no mere product of pixels.
pub fn suits(g: &Geometry) -> bool {
    let few = g.group == 1 && g.c <= FEW && g.taps() > 1;
    few && g.is_flat() && g.axes[2].stride <= 4 && g.out_len() > 0
}

/// Filters by panel of [`panel`] output channels, row of the window, channel, and column.
pub struct Weights(Vec<f32>);

/// Output channels of a panel.
fn panel(isa: Isa) -> usize {
    VECTORS * isa.lanes()
}

impl Weights {
    /// Makes weights [m, c, h, w] ready.
    pub fn pack(isa: Isa, g: &Geometry, w: &[f32]) -> Weights {
        let (panel, [_, h, wide]) = (panel(isa), &g.axes);
        let (k, row) = (g.c * g.taps(), wide.kernel);
        let mut packed = scarce::zeros(g.m.next_multiple_of(panel) * k);
        for (p, packed) in packed.chunks_exact_mut(panel * k).enumerate() {
            for (t, packed) in packed.chunks_exact_mut(panel).enumerate() {
                let (ky, c, kx) = (t / row / g.c, t / row % g.c, t % row);
                for (m, to) in (p * panel..g.m).zip(packed) {
                    *to = w[((m * g.c + c) * h.kernel + ky) * row + kx];
                }
            }
        }
        Weights(packed)
    }
}

struct Job<'a> {
    g: &'a Geometry,
    x: &'a [f32],
    w: &'a [f32],
    follow: &'a Follow<'a>,
    /// Elements of a padded row.
    pitch: usize,
}

/// `y = follow(conv(x, w))`; a residual lies as y does.
///
/// # Errors
/// The memory for some rows of the image cannot be had.
pub fn run(
    isa: Isa,
    g: &Geometry,
    (x, w): (&[f32], &Weights),
    follow: &Follow<'_>,
    y: &mut [f32],
) -> Result<(), Reason> {
    let failure = par::Failure::default();
    par::rows(y, g.axes[2].output * g.m, row_ns(g), |at, y| {
        failure.attempt(|| rows(isa, g, (x, w), follow, at.start, y));
    });
    failure.result()
}

/// What [`run`] takes.
pub fn scratch(g: &Geometry) -> Scratch {
    rows_scratch(g).in_loop(g.batch * g.axes[1].output, par::grain(row_ns(g)))
}

/// What [`rows`] takes: the rows of an image under a row of windows.
pub fn rows_scratch(g: &Geometry) -> Scratch {
    Scratch::floats(g.axes[1].kernel * g.c * pitch(g))
}

/// Nanoseconds that a row of outputs takes, about.
fn row_ns(g: &Geometry) -> usize {
    g.axes[2].output * g.m * g.c * g.taps() / 32
}

/// Elements of a padded row.
fn pitch(g: &Geometry) -> usize {
    let wide = &g.axes[2];
    (wide.output - 1) * wide.stride + wide.extent()
}

/// As [`run`], for the rows from `first` on of all images' outputs, as many as `y` holds, on this
/// thread.
///
/// # Errors
/// The memory for some rows of the image cannot be had.
pub fn rows(
    isa: Isa,
    g: &Geometry,
    (x, w): (&[f32], &Weights),
    follow: &Follow<'_>,
    first: usize,
    y: &mut [f32],
) -> Result<(), Reason> {
    let [_, h, wide] = &g.axes;
    let pitch = pitch(g);
    let job = Job { g, x, w: &w.0, follow, pitch };
    with_scratch(h.kernel * g.c * pitch, |lines| {
        for (r, y) in (first..).zip(y.chunks_exact_mut(wide.output * g.m)) {
            lay_out(&job, (r / h.output, r % h.output), lines);
            output_row(isa, &job, lines, r, y);
        }
    })
    .map_err(limit)
}

/// The rows of an image that a row of windows sees, by row and channel, with their padding.
fn lay_out(job: &Job<'_>, (image, oy): (usize, usize), lines: &mut [f32]) {
    let (g, [_, h, w]) = (job.g, &job.g.axes);
    let x = &job.x[image * g.c * g.in_len()..][..g.c * g.in_len()];
    for (i, line) in lines.chunks_exact_mut(job.pitch).enumerate() {
        let (ky, c) = (i / g.c, i % g.c);
        let Some(iy) = tap(h, oy, ky) else {
            line.fill(0.0);
            continue;
        };
        let (before, line) = line.split_at_mut(w.before.min(job.pitch));
        let (inside, after) = line.split_at_mut(w.input.min(line.len()));
        before.fill(0.0);
        inside.copy_from_slice(&x[(c * h.input + iy) * w.input..][..inside.len()]);
        after.fill(0.0);
    }
}

crate::simd_fn! {
    /// Row `row` of all images' outputs.
    fn output_row(s: S, job: &Job<'_>, lines: &[f32], row: usize, y: &mut [f32]) {
        let at = row * y.len();
        let residual = job.follow.residual.map(|r| &r[at..at + y.len()]);
        let part = Part { job, lines, residual };
        match job.g.axes[2].stride {
            1 => part.strided::<S, 1>(s, y),
            2 => part.strided::<S, 2>(s, y),
            3 => part.strided::<S, 3>(s, y),
            _ => part.strided::<S, 4>(s, y),
        }
        job.follow.after_clip(s, y);
    }
}

/// A row of outputs.
struct Part<'a> {
    job: &'a Job<'a>,
    lines: &'a [f32],
    residual: Option<&'a [f32]>,
}

impl Part<'_> {
    #[inline(always)]
    fn strided<S: Simd, const STEP: usize>(&self, s: S, y: &mut [f32]) {
        // Two vectors of weights, a number of x, and as many sums as then fit in registers.
        match S::REGISTERS {
            32.. => self.row::<S, STEP, 12>(s, y),
            _ => self.row::<S, STEP, 6>(s, y),
        }
    }

    /// N outputs side by side at a time.
    #[inline(always)]
    fn row<S: Simd, const STEP: usize, const N: usize>(&self, s: S, y: &mut [f32]) {
        let (m, width) = (self.job.g.m, self.job.g.axes[2].output);
        let mut sums = [[[0.0; MAX_LANES]; VECTORS]; N];
        for m0 in (0..m).step_by(VECTORS * S::LANES) {
            for ox in (0..width).step_by(N) {
                // The last outputs overlap those before them.
                let ox = ox.min(width.saturating_sub(N));
                match (width >= N, m - m0 > S::LANES) {
                    (true, true) => self.tile::<S, STEP, N, VECTORS>(s, (ox, m0), &mut sums, y),
                    (true, false) => self.tile::<S, STEP, N, 1>(s, (ox, m0), &mut sums, y),
                    (false, _) => {
                        for ox in 0..width {
                            let sums = &mut [sums[0]];
                            self.tile::<S, STEP, 1, VECTORS>(s, (ox, m0), sums, y);
                        }
                    }
                }
            }
        }
    }

    /// N outputs from column `ox` on, V vectors of their channels from `m0` on. Their sums go by way
    /// of `tile`: from registers what follows would need code for each of them here.
    #[inline(always)]
    fn tile<S: Simd, const STEP: usize, const N: usize, const V: usize>(
        &self,
        s: S,
        (ox, m0): (usize, usize),
        tile: &mut [[[f32; MAX_LANES]; VECTORS]; N],
        y: &mut [f32],
    ) {
        let (Job { g, follow, .. }, lanes) = (self.job, S::LANES);
        let sums = self.sums::<S, STEP, N, V>(s, ox, m0);
        for j in 0..N {
            for v in 0..V {
                sums[j][v].store(&mut tile[j][v]);
            }
        }
        let (lo, hi) = follow.clip();
        for v in 0..V {
            let (m0, m) = ((m0 + v * lanes).min(g.m), (m0 + (v + 1) * lanes).min(g.m));
            let bias = follow.bias.map_or(s.zero(), |b| s.load_partial(&b[m0..m], 0.0));
            for j in 0..N {
                let at = (ox + j) * g.m + m0..(ox + j) * g.m + m;
                let mut sum = s.load(&tile[j][v]) + bias;
                if let Some(residual) = self.residual {
                    sum = sum + s.load_partial(&residual[at.clone()], 0.0);
                }
                s.splat(hi).min(s.splat(lo).max(sum)).store_partial(&mut y[at]);
            }
        }
    }

    #[inline(always)]
    fn sums<S: Simd, const STEP: usize, const N: usize, const V: usize>(
        &self,
        s: S,
        ox: usize,
        m0: usize,
    ) -> [[S::F32; V]; N] {
        let Job { g, w, pitch, .. } = self.job;
        let (axis, k, lanes) = (&g.axes[2], g.c * g.taps(), S::LANES);
        let panel = &w[m0 * k..][..VECTORS * lanes * k];
        let mut sums = [[s.zero(); V]; N];
        let rows = panel.chunks_exact(VECTORS * lanes * axis.kernel);
        for (line, taps) in self.lines.chunks_exact(*pitch).zip(rows) {
            let line = &line[ox * STEP..];
            for (kx, tap) in taps.chunks_exact(VECTORS * lanes).enumerate() {
                let x = &line[kx * axis.dilation..][..(N - 1) * STEP + 1];
                let mut weights = [s.zero(); V];
                for v in 0..V {
                    weights[v] = s.load(&tap[v * lanes..]);
                }
                for j in 0..N {
                    let x = s.splat(x[j * STEP]);
                    for v in 0..V {
                        sums[j][v] = weights[v].mul_add(x, sums[j][v]);
                    }
                }
            }
        }
        sums
    }
}
