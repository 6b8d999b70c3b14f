//! An image laid out so that every tap of a convolution reads it in steps of one.
//!
//! x [c, d, h, w]  →  [c, phases.., d', h', w'], padded with zeros
//!
//! With stride s the outputs 0, 1, 2… read elements a whole stride apart, which belong to one of s
//! phases; elements of one phase stand side by side. With stride 1 there is one phase, and without
//! padding the image is used as it is.

use super::geometry::Geometry;
use crate::par;
use crate::simd::{F32s, Isa, Simd};

/// Where the elements that a convolution reads stand.
#[derive(Clone, Debug)]
pub struct Source {
    /// Elements of a channel.
    pub channel: usize,
    /// Distance between planes and between rows of one phase.
    pub pitch: [usize; 2],
    /// Where tap by tap the first output's element stands, within a channel.
    pub taps: Vec<usize>,
    /// Whether the image is used as it is.
    pub as_is: bool,
    /// The phases of each axis that any tap reads.
    phases: [Vec<usize>; 3],
    /// Elements of one phase along each axis.
    sizes: [usize; 3],
}

impl Source {
    /// The layout for a convolution; `None` if it would overflow.
    pub fn new(g: &Geometry) -> Option<Source> {
        let as_is = g.axes.iter().all(|a| a.stride == 1 && a.before == 0 && a.after == 0);
        let mut phases: [Vec<usize>; 3] = Default::default();
        let mut sizes = [0; 3];
        for (i, a) in g.axes.iter().enumerate() {
            for k in 0..a.kernel {
                let phase = k * a.dilation % a.stride;
                if !phases[i].contains(&phase) {
                    phases[i].push(phase);
                }
            }
            phases[i].sort_unstable();
            let furthest = (a.kernel - 1) * a.dilation / a.stride;
            sizes[i] = if as_is { a.input } else { a.output.checked_add(furthest)? };
        }
        let plane = sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s))?;
        let count: usize = phases.iter().map(Vec::len).product();
        let channel = plane.checked_mul(count)?;
        channel.checked_mul(g.c)?.checked_mul(4)?;
        let pitch = [sizes[1] * sizes[2], sizes[2]];
        let mut source = Source { channel, pitch, taps: Vec::new(), as_is, phases, sizes };
        source.taps = source.find_taps(g);
        Some(source)
    }

    fn find_taps(&self, g: &Geometry) -> Vec<usize> {
        let mut taps = Vec::with_capacity(g.taps());
        let [d, h, w] = &g.axes;
        let plane: usize = self.sizes.iter().product();
        for kd in 0..d.kernel {
            for kh in 0..h.kernel {
                for kw in 0..w.kernel {
                    let (mut phase, mut at) = (0, 0);
                    for (i, (a, k)) in [(d, kd), (h, kh), (w, kw)].into_iter().enumerate() {
                        let step = k * a.dilation;
                        let p = self.phases[i].iter().position(|&p| p == step % a.stride);
                        phase = phase * self.phases[i].len() + p.unwrap_or(0);
                        at = at * self.sizes[i] + step / a.stride;
                    }
                    taps.push(phase * plane + at);
                }
            }
        }
        taps
    }

    /// Lays out every channel of `x` in `y`, on as many threads as there are.
    pub fn lay_out(&self, isa: Isa, g: &Geometry, x: &[f32], y: &mut [f32]) {
        let len = g.in_len();
        let grain = par::grain(self.channel / 4);
        par::chunks_mut(y, self.channel, grain, |c, y| {
            self.lay_out_channel(isa, g, &x[c * len..][..len], y);
        });
    }

    /// Lays out one channel.
    pub fn lay_out_channel(&self, isa: Isa, g: &Geometry, x: &[f32], y: &mut [f32]) {
        crate::simd_dispatch!(isa, s => self.phases(s, g, x, y));
    }

    /// As [`Source::lay_out_channel`], inside a kernel.
    #[inline(always)]
    pub(super) fn phases<S: Simd>(&self, s: S, g: &Geometry, x: &[f32], y: &mut [f32]) {
        let [d, h, w] = &g.axes;
        let [dn, hn, wn] = self.sizes;
        let (plane, across) = (dn * hn * wn, &self.phases[2]);
        if plane == 0 {
            return;
        }
        let down =
            self.phases[0].iter().flat_map(|&pd| self.phases[1].iter().map(move |&ph| (pd, ph)));
        for ((pd, ph), y) in down.zip(y.chunks_exact_mut(plane * across.len())) {
            for at in (0..dn).flat_map(|z| (0..hn).map(move |r| (z, r))) {
                let z = (at.0 * d.stride + pd).checked_sub(d.before).filter(|&z| z < d.input);
                let r = (at.1 * h.stride + ph).checked_sub(h.before).filter(|&r| r < h.input);
                let x = match (z, r) {
                    (Some(z), Some(r)) => &x[(z * h.input + r) * w.input..][..w.input],
                    _ => &[],
                };
                let at = (at.0 * hn + at.1) * wn;
                match (w.stride, across.len()) {
                    (1, 1) => spread(s, x, wn, [&mut y[at..]], w.before),
                    (2, 2) => {
                        let (a, b) = y.split_at_mut(plane);
                        spread(s, x, wn, [&mut a[at..], &mut b[at..]], w.before);
                    }
                    (4, 4) => {
                        let (ab, cd) = y.split_at_mut(2 * plane);
                        let ((a, b), (c, d)) = (ab.split_at_mut(plane), cd.split_at_mut(plane));
                        let rows = [&mut a[at..], &mut b[at..], &mut c[at..], &mut d[at..]];
                        spread(s, x, wn, rows, w.before);
                    }
                    _ => {
                        for (&phase, y) in across.iter().zip(y.chunks_exact_mut(plane)) {
                            row(x, &mut y[at..at + wn], (w.stride, phase), w.before);
                        }
                    }
                }
            }
        }
    }
}

/// Every phase of a row with stride N at once: `y[p][i] = x[i · N + p - before]` for `i < n`, zero
/// outside. Whole vectors are written, for what follows a row in `y` is written after it: masked
/// stores are slow, and what they wrote is slow to be read.
#[inline(always)]
fn spread<S: Simd, const N: usize>(s: S, x: &[f32], n: usize, y: [&mut [f32]; N], before: usize) {
    // In the order of the elements of x: element N·i + r goes to place i of part r.
    let mut parts: [&mut [f32]; N] = std::array::from_fn(|_| &mut [][..]);
    let mut longest = 0;
    for (phase, y) in y.into_iter().enumerate() {
        let r = (phase + N - before % N) % N;
        let zeros = ((r + before) / N).min(n);
        for i in (0..zeros).step_by(S::LANES) {
            s.zero().store_partial(&mut y[i..]);
        }
        longest = longest.max(n - zeros);
        parts[r] = &mut y[zeros..];
    }
    for i in (0..longest).step_by(S::LANES) {
        let mut v = [s.zero(); N];
        for (j, v) in v.iter_mut().enumerate() {
            *v = s.load_partial(x.get(N * i + j * S::LANES..).unwrap_or_default(), 0.0);
        }
        let v = apart(s, v);
        for (v, part) in v.into_iter().zip(&mut parts) {
            v.store_partial(part.get_mut(i..).unwrap_or_default());
        }
    }
}

/// Every N-th lane of all vectors, from the first, from the second, and so on; N is 1, 2 or 4.
#[inline(always)]
fn apart<S: Simd, const N: usize>(s: S, mut v: [S::F32; N]) -> [S::F32; N] {
    if N == 2 {
        (v[0], v[1]) = s.unzip(v[0], v[1]);
    }
    if N == 4 {
        let ((even, odd), (even2, odd2)) = (s.unzip(v[0], v[1]), s.unzip(v[2], v[3]));
        (v[0], v[2]) = s.unzip(even, even2);
        (v[1], v[3]) = s.unzip(odd, odd2);
    }
    v
}

/// One phase of a row: `y[i] = x[i · stride + phase - before]`, zero outside.
#[inline(always)]
fn row(x: &[f32], y: &mut [f32], (stride, phase): (usize, usize), before: usize) {
    let first = before.saturating_sub(phase).div_ceil(stride).min(y.len());
    let (zeros, y) = y.split_at_mut(first);
    zeros.fill(0.0);
    let from = (first * stride + phase).saturating_sub(before);
    let x = x.get(from..).unwrap_or_default();
    let n = x.len().div_ceil(stride).min(y.len());
    let (y, zeros) = y.split_at_mut(n);
    zeros.fill(0.0);
    y.iter_mut().zip(x.iter().step_by(stride)).for_each(|(y, x)| *y = *x);
}

#[cfg(test)]
mod tests {
    use super::super::geometry::tap;
    use super::super::testing::Random;
    use super::*;

    /// Every tap of every output reads what the definition says, zero in the padding.
    #[test]
    fn each_tap_reads_the_element_under_it() {
        let mut random = Random::new(11);
        for _ in 0..200 {
            let g = Geometry::random(&mut random, 1);
            let x = random.floats(g.c * g.in_len());
            let source = Source::new(&g).unwrap();
            let mut y = vec![f32::NAN; g.c * source.channel];
            if source.as_is {
                y.copy_from_slice(&x);
            } else {
                source.lay_out(Isa::best(), &g, &x, &mut y);
            }
            let [d, h, w] = &g.axes;
            let c = random.below(g.c);
            let (x, y) = (&x[c * g.in_len()..], &y[c * source.channel..]);
            for _ in 0..50 {
                let o = g.axes.map(|a| random.below(a.output));
                let k = g.axes.map(|a| random.below(a.kernel));
                let i = (tap(d, o[0], k[0]), tap(h, o[1], k[1]), tap(w, o[2], k[2]));
                let wanted = match i {
                    (Some(z), Some(r), Some(c)) => x[(z * h.input + r) * w.input + c],
                    _ => 0.0,
                };
                let t = source.taps[(k[0] * h.kernel + k[1]) * w.kernel + k[2]];
                let at = t + o[0] * source.pitch[0] + o[1] * source.pitch[1] + o[2];
                assert_eq!(y[at], wanted, "{g:?} at {o:?} tap {k:?}");
            }
        }
    }
}
