//! What this processor can do at most: multiply-adds from registers, and reading memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

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

/// Measures for a fifth of a second on the threads of the pool that is installed.
///
/// # Errors
/// There is no memory for what is read.
pub fn measure(isa: Isa) -> Result<Peak, String> {
    let threads = par::threads();
    let each = |f: &(dyn Fn(usize) + Sync)| par::for_each_index(threads, 1, f);
    let flops = (2 * STEPS * SUMS * isa.lanes() * threads) as f64;
    let gflops = best(flops, || {
        each(&|_| {
            black_box(multiply_adds(isa, STEPS, black_box(0.5)));
        });
    });
    let far = crate::pool::Buffer::zeroed::<f32>(FAR)?;
    let (far, part) = (far.as_slice::<f32>(), FAR / threads);
    let gbytes = best((4 * part * threads) as f64, || {
        each(&|i| {
            black_box(sum(isa, &far[i * part..][..part]));
        });
    });
    Ok(Peak { gflops, gbytes })
}

/// Work per nanosecond: the best of a tenth of a second.
fn best(work: f64, f: impl Fn()) -> f64 {
    let (mut best, begin) = (0.0f64, Instant::now());
    while begin.elapsed() < Duration::from_millis(100) {
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
