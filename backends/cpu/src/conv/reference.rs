//! Convolution as it is defined: the plain loops that the fast ways are tested against.

use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;

use super::geometry::{Geometry, tap};
use crate::par;

/// A number to convolve with; sums of integers wrap.
pub trait Number: Copy + Send + Sync {
    /// Nothing.
    const ZERO: Self;
    /// `self · w + sum`
    fn mul_add(self, w: Self, sum: Self) -> Self;
}

macro_rules! numbers {
    ($($T:ty: $x:ident $w:ident $sum:ident => $e:expr;)*) => { $(
        impl Number for $T {
            const ZERO: $T = 0 as $T;
            #[inline(always)]
            fn mul_add(self, $w: $T, $sum: $T) -> $T {
                let $x = self;
                $e
            }
        }
    )* };
}
numbers! {
    f32: x w sum => x * w + sum;
    f64: x w sum => x * w + sum;
    i32: x w sum => x.wrapping_mul(w).wrapping_add(sum);
}

/// `y = conv(x, w)`, then `finish(channel, y)` for each output channel of each image.
pub fn convolve<T: Number>(
    g: &Geometry,
    (x, w): (&[T], &[T]),
    y: &mut [T],
    cx: &RunCx<'_>,
    finish: impl Fn(usize, &mut [T]) + Sync,
) -> Result<(), Reason> {
    let (out, channels) = (g.out_len(), g.group * g.m);
    if y.is_empty() || out == 0 {
        return Ok(());
    }
    let ns = out.saturating_mul(g.c * g.taps());
    let failure = par::Failure::default();
    par::chunks_mut(y, out, par::grain(ns), |i, y| {
        failure.attempt(|| {
            let (n, m) = (i / channels, i % channels);
            channel(g, (x, w), n, m, y);
            finish(m, y);
            cx.check()
        });
    });
    failure.result()
}

/// Output channel `m` of image `n`.
fn channel<T: Number>(g: &Geometry, (x, w): (&[T], &[T]), n: usize, m: usize, y: &mut [T]) {
    let [d, h, wd] = &g.axes;
    let (len, taps) = (g.in_len(), g.taps());
    y.fill(T::ZERO);
    for c in 0..g.c {
        let x = &x[((n * g.group + m / g.m) * g.c + c) * len..][..len];
        let w = &w[(m * g.c + c) * taps..][..taps];
        let mut at = 0;
        for z in 0..d.output {
            for r in 0..h.output {
                let row = &mut y[at..at + wd.output];
                at += wd.output;
                for (kz, kr) in (0..d.kernel).flat_map(|a| (0..h.kernel).map(move |b| (a, b))) {
                    let (Some(iz), Some(ir)) = (tap(d, z, kz), tap(h, r, kr)) else { continue };
                    let x = &x[(iz * h.input + ir) * wd.input..][..wd.input];
                    let w = &w[(kz * h.kernel + kr) * wd.kernel..][..wd.kernel];
                    for (o, y) in row.iter_mut().enumerate() {
                        for (k, &w) in w.iter().enumerate() {
                            if let Some(i) = tap(wd, o, k) {
                                *y = x[i].mul_add(w, *y);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The transpose: `g` describes the convolution that takes `y` (its input) to `x` (its output), so
/// `x` is [batch, group · m, o..], `w` [group · m, c, k..], `y` [batch, group · c, s..].
pub fn transposed<T: Number>(
    g: &Geometry,
    (x, w): (&[T], &[T]),
    y: &mut [T],
    cx: &RunCx<'_>,
    finish: impl Fn(usize, &mut [T]) + Sync,
) -> Result<(), Reason> {
    let (len, channels) = (g.in_len(), g.group * g.c);
    if y.is_empty() || len == 0 {
        return Ok(());
    }
    let ns = g.out_len().saturating_mul(g.m * g.taps());
    let failure = par::Failure::default();
    par::chunks_mut(y, len, par::grain(ns), |i, y| {
        failure.attempt(|| {
            let (n, c) = (i / channels, i % channels);
            spread(g, (x, w), n, c, y);
            finish(c, y);
            cx.check()
        });
    });
    failure.result()
}

/// Channel `ch` of image `n` of the transpose's result.
fn spread<T: Number>(g: &Geometry, (x, w): (&[T], &[T]), n: usize, ch: usize, y: &mut [T]) {
    let [d, h, wd] = &g.axes;
    let (out, taps) = (g.out_len(), g.taps());
    y.fill(T::ZERO);
    let (group, c) = (ch / g.c, ch % g.c);
    for m in group * g.m..(group + 1) * g.m {
        let x = &x[(n * g.group * g.m + m) * out..][..out];
        let w = &w[(m * g.c + c) * taps..][..taps];
        let places = (0..d.output).flat_map(|z| (0..h.output).map(move |r| (z, r)));
        for ((z, r), x) in places.zip(x.chunks_exact(wd.output)) {
            for (kz, kr) in (0..d.kernel).flat_map(|a| (0..h.kernel).map(move |b| (a, b))) {
                let (Some(iz), Some(ir)) = (tap(d, z, kz), tap(h, r, kr)) else { continue };
                let y = &mut y[(iz * h.input + ir) * wd.input..][..wd.input];
                let w = &w[(kz * h.kernel + kr) * wd.kernel..][..wd.kernel];
                for (o, &x) in x.iter().enumerate() {
                    for (k, &w) in w.iter().enumerate() {
                        if let Some(i) = tap(wd, o, k) {
                            y[i] = x.mul_add(w, y[i]);
                        }
                    }
                }
            }
        }
    }
}
