//! Codes of blocks that are better than the nearest, without data.
//!
//! HQQ (Badri & Shaji 2023): the zero point of a block minimizes |w - ŵ|^p, p < 1, by half-quadratic
//! splitting, so that few large errors are rather taken than many middling ones; the scale is then
//! fitted by least squares.
//!
//! [`clipped`] cuts ranges where that loses less of what numbers are multiplied with (AWQ).

use crate::blocks::BlockScheme;
use crate::weights::round;

/// Scale and zero point of a block by HQQ; never worse than nearest rounding by squared error.
pub fn hqq(block: &[f32], how: BlockScheme) -> (f32, i32) {
    let lo = block.iter().copied().fold(0f32, f32::min);
    let hi = block.iter().copied().fold(0f32, f32::max);
    let first = how.fit(lo, hi);
    let mut best = (squared(block, first, how), first);
    let mut keep = |p: (f32, i32)| {
        let fitted = (least_squares(block, p, how, |_| 1.0).unwrap_or(p.0), p.1);
        for p in [p, fitted] {
            let error = squared(block, p, how);
            if error < best.0 {
                best = (error, p);
            }
        }
    };
    for share in [0.95, 0.9, 0.85, 0.8] {
        keep(how.fit(lo * share, hi * share));
    }
    keep(first);
    if !how.symmetric {
        let mut last = first.1;
        for zero in half_quadratic(block, first.0, first.1 as f32, how) {
            let zero = (round(zero) as i32).clamp(0, how.most());
            if zero != std::mem::replace(&mut last, zero) {
                keep((first.0, zero));
            }
        }
    }
    best.1
}

/// Steps of half-quadratic splitting.
const STEPS: usize = 10;

/// The zero points that half-quadratic splitting passes through.
fn half_quadratic(block: &[f32], scale: f32, zero: f32, how: BlockScheme) -> [f32; STEPS] {
    let (mut zero, mut beta) = (zero, 10.0f32);
    let mut passed = [0.0; STEPS];
    for passed in &mut passed {
        let mut sum = 0.0;
        for &w in block {
            let code = round((w / scale + zero).clamp(0.0, how.most() as f32));
            let error = w - (code - zero) * scale;
            // The shrinkage operator of |·|^p.
            let size = error.abs().max(1e-12);
            let kept = (size - power(size) / beta).max(0.0).copysign(error);
            sum += code - (w - kept) / scale;
        }
        zero = sum / block.len() as f32;
        beta *= 1.01;
        *passed = zero;
    }
    passed
}

/// x^(p - 1) for p = 0.7, within a few percent: a float's bits are nearly its logarithm.
fn power(x: f32) -> f32 {
    const ONE: f32 = 1_065_353_216.0;
    f32::from_bits((ONE - 0.3 * (x.to_bits() as f32 - ONE)) as u32)
}

/// Scale and zero point of a block whose rounding errors are the least by `noise`, its ends cut by
/// the same share; scales are fitted with a factor for each number. Never worse than the nearest.
pub fn clipped(
    block: &[f32],
    how: BlockScheme,
    weights: &[f32],
    noise: impl Fn(&[f32]) -> f32,
) -> (f32, i32) {
    let lo = block.iter().copied().fold(0f32, f32::min);
    let hi = block.iter().copied().fold(0f32, f32::max);
    let mut best = (f32::INFINITY, how.fit(lo, hi));
    let mut errors = vec![0f32; block.len()];
    for share in [1.0, 0.95, 0.9, 0.85, 0.8, 0.7] {
        let (scale, zero) = how.fit(lo * share, hi * share);
        let fitted = least_squares(block, (scale, zero), how, |i| weights[i]).unwrap_or(scale);
        for scale in [scale, fitted] {
            for (e, &w) in errors.iter_mut().zip(block) {
                *e = w - (how.code(w, scale, zero) as i32 - zero) as f32 * scale;
            }
            let found = noise(&errors);
            if found < best.0 {
                best = (found, (scale, zero));
            }
        }
    }
    best.1
}

fn squared(block: &[f32], (scale, zero): (f32, i32), how: BlockScheme) -> f32 {
    let error = |&w: &f32| {
        let d = w - (how.code(w, scale, zero) as i32 - zero) as f32 * scale;
        d * d
    };
    block.iter().map(error).sum()
}

/// The scale with the least squared error for the codes that this scale gives.
fn least_squares(
    block: &[f32],
    (scale, zero): (f32, i32),
    how: BlockScheme,
    weigh: impl Fn(usize) -> f32,
) -> Option<f32> {
    let (mut top, mut bottom) = (0f32, 0f32);
    for (i, &w) in block.iter().enumerate() {
        let step = (how.code(w, scale, zero) as i32 - zero) as f32;
        top += step * w * weigh(i);
        bottom += step * step * weigh(i);
    }
    let fitted = top / bottom;
    (fitted.is_finite() && fitted != 0.0 && (fitted > 0.0) == (scale > 0.0)).then_some(fitted)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const HOW: BlockScheme =
        BlockScheme { bits: 4, size: 16, symmetric: false, packed: true, half: false };

    pub(crate) fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| uniform() + uniform() + uniform()).collect()
    }

    #[test]
    fn hqq_is_no_worse_than_the_nearest() {
        for symmetric in [false, true] {
            let how = BlockScheme { symmetric, ..HOW };
            let mut lost = (0.0, 0.0);
            for seed in 0..50 {
                let mut block = random(16, seed);
                block[3] *= 4.0;
                let nearest = how.fit(
                    block.iter().copied().fold(0.0, f32::min),
                    block.iter().copied().fold(0.0, f32::max),
                );
                let error = |p| squared(&block, p, how);
                let (a, b) = (error(hqq(&block, how)), error(nearest));
                assert!(a <= b);
                lost = (lost.0 + a, lost.1 + b);
            }
            assert!(lost.0 < 0.97 * lost.1, "{lost:?}");
        }
    }
    #[test]
    fn what_meets_little_is_clipped_for_what_meets_much() {
        let weights: Vec<f32> = (0..16).map(|i| if i == 3 { 0.001 } else { 1.0 }).collect();
        let noise = |d: &[f32]| d.iter().zip(&weights).map(|(d, w)| d * d * w).sum::<f32>();
        let (mut plain, mut weighed) = (0f32, 0f32);
        for seed in 0..50 {
            let mut block = random(16, seed);
            block[3] = 2.0;
            let error = |(scale, zero)| {
                let code = |w| (HOW.code(w, scale, zero) as i32 - zero) as f32 * scale;
                noise(&block.iter().map(|&w| w - code(w)).collect::<Vec<_>>())
            };
            plain += error(hqq(&block, HOW));
            weighed += error(clipped(&block, HOW, &weights, noise));
        }
        assert!(weighed < 0.9 * plain, "{weighed} {plain}");
    }
}
