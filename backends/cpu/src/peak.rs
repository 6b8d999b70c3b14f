//! What this processor can do at most: multiply-adds from registers, and reading memory.

use std::hint::black_box;
use std::time::Duration;

use web_time::Instant;

use crate::par;
use crate::simd::{F32s, Isa};

/// Rates that no kernel exceeds, of the threads they were measured on.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// Floating-point operations per nanosecond, a multiply-add counted as two.
    pub gflops: f64,
    /// Bytes read from memory per nanosecond.
    pub gbytes: f64,
}

/// Elements that are read: more than caches hold.
const FAR: usize = 48 << 20;
/// Multiply-adds in a row, and sums at a time: enough of both to hide how long one takes.
const STEPS: usize = 200_000;
const SUMS: usize = 12;
/// How long each rate is measured.
const TIME: Duration = Duration::from_millis(100);

/// Measures for a fifth of a second on the threads of the pool that is installed.
///
/// # Errors
/// There is no memory for what is read.
pub fn measure(isa: Isa) -> Result<Peak, String> {
    Ok(Peak { gflops: gflops(isa), gbytes: gbytes(isa)? })
}

/// Floating-point operations per nanosecond on the threads of the pool that is installed.
pub fn gflops(isa: Isa) -> f64 {
    let threads = par::threads();
    let flops = (2 * STEPS * SUMS * isa.lanes() * threads) as f64;
    rate(flops, TIME, || {
        par::for_each_index(threads, 1, |_| {
            black_box(multiply_adds(isa, STEPS, black_box(0.5)));
        });
    })
}

/// Bytes read from memory per nanosecond on the threads of the pool that is installed.
///
/// # Errors
/// There is no memory for what is read.
pub fn gbytes(isa: Isa) -> Result<f64, String> {
    let threads = par::threads();
    let far = crate::pool::Buffer::zeroed::<f32>(FAR)?;
    let (far, part) = (far.as_slice::<f32>(), FAR / threads);
    Ok(rate((4 * part * threads) as f64, TIME, || {
        par::for_each_index(threads, 1, |i| {
            black_box(sum(isa, &far[i * part..][..part]));
        });
    }))
}

/// `work` per nanosecond: the best of the runs of `f` in this time, after one that warms up.
pub fn rate(work: f64, time: Duration, mut f: impl FnMut()) -> f64 {
    f();
    let (mut best, begin) = (0.0f64, Instant::now());
    while best == 0.0 || begin.elapsed() < time {
        let start = Instant::now();
        f();
        best = best.max(work / start.elapsed().as_nanos().max(1) as f64);
    }
    best
}

crate::simd_fn! {
    /// `n` multiply-adds on each of the sums: no loads, no waiting.
    fn multiply_adds(s: S, n: usize, x: f32) -> f32 {
        let (b, c) = (s.splat(x), s.splat(0.5));
        let mut acc = [s.splat(1.0); SUMS];
        for _ in 0..n {
            for i in 0..SUMS {
                acc[i] = acc[i].mul_add(b, c);
            }
        }
        let mut sum = acc[0];
        for v in &acc[1..] {
            sum = sum + *v;
        }
        sum.reduce_add()
    }
}

crate::simd_fn! {
    /// The sum of `x`.
    fn sum(s: S, x: &[f32]) -> f32 {
        let mut acc = [s.zero(); 4];
        for x in x.chunks_exact(4 * S::LANES) {
            for i in 0..4 {
                acc[i] = acc[i] + s.load(&x[i * S::LANES..]);
            }
        }
        ((acc[0] + acc[1]) + (acc[2] + acc[3])).reduce_add()
    }
}
