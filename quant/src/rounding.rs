//! Codes of blocks that are better than the nearest: HQQ without data, GPTQ with it.
//!
//! HQQ (Badri & Shaji 2023): the zero point of a block minimizes |w - ŵ|^p, p < 1, by half-quadratic
//! splitting, so that few large errors are rather taken than many middling ones; the scale is then
//! fitted by least squares.
//!
//! GPTQ (Frantar et al. 2023): rows of a column are rounded one after the other; what each loses is
//! made up for by those after it, as far as activations move together (H = XᵀX).

use rinfer::{Kind, Reason};

use crate::blocks::{BlockScheme, Blocks};
use crate::weights::round;

/// Scale and zero point of a block by HQQ; never worse than nearest rounding by squared error.
pub fn hqq(block: &[f32], how: BlockScheme) -> (f32, i32) {
    let lo = block.iter().copied().fold(0f32, f32::min);
    let hi = block.iter().copied().fold(0f32, f32::max);
    let first = how.fit(lo, hi);
    let mut best = (squared(block, first, how), first);
    let mut keep = |p: (f32, i32)| {
        let fitted = (least_squares(block, p, how).unwrap_or(p.0), p.1);
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

fn squared(block: &[f32], (scale, zero): (f32, i32), how: BlockScheme) -> f32 {
    let error = |&w: &f32| {
        let d = w - (how.code(w, scale, zero) as i32 - zero) as f32 * scale;
        d * d
    };
    block.iter().map(error).sum()
}

/// The scale with the least squared error for the codes that this scale gives.
fn least_squares(block: &[f32], (scale, zero): (f32, i32), how: BlockScheme) -> Option<f32> {
    let (mut top, mut bottom) = (0f32, 0f32);
    for &w in block {
        let step = (how.code(w, scale, zero) as i32 - zero) as f32;
        top += step * w;
        bottom += step * step;
    }
    let fitted = top / bottom;
    (fitted.is_finite() && fitted != 0.0 && (fitted > 0.0) == (scale > 0.0)).then_some(fitted)
}

/// Blocks of a matrix [n, k] by GPTQ. `h` is XᵀX, [k, k].
///
/// # Errors
/// The numbers are none that can be worked with.
pub fn gptq(w: &[f32], k: usize, n: usize, h: &[f32], how: BlockScheme) -> Result<Blocks, Reason> {
    const LAZY: usize = 128;
    if w.iter().chain(h).any(|x| !x.is_finite()) {
        return Err(Reason::new(Kind::Invalid, "the weight or the activations are not finite"));
    }
    let mut u = damped(h, k);
    upper_inverse(&mut u, k)?;
    let per_column = k.div_ceil(how.size);
    let mut made = Blocks {
        how,
        k,
        n,
        codes: vec![0; n * k],
        scales: vec![0.0; n * per_column],
        zeros: vec![0; n * per_column],
    };
    let mut w = w.to_vec();
    let mut errors = [0f32; LAZY];
    for from in (0..k).step_by(LAZY) {
        let to = k.min(from + LAZY);
        for (row, w) in w.chunks_mut(k.max(1)).enumerate() {
            for j in from..to {
                let b = row * per_column + j / how.size;
                if j % how.size == 0 {
                    let (scale, zero) = hqq(&w[j..k.min(j + how.size)], how);
                    (made.scales[b], made.zeros[b]) = (scale, zero as u8);
                }
                let (scale, zero) = (made.scales[b], made.zeros[b] as i32);
                let code = how.code(w[j], scale, zero);
                made.codes[row * k + j] = code;
                let error = (w[j] - (code as i32 - zero) as f32 * scale) / u[j * k + j];
                errors[j - from] = error;
                // Blocks that begin within this stretch must see what is made up for.
                subtract(&mut w[j + 1..to], error, &u[j * k + j + 1..j * k + to]);
            }
            for j in from..to {
                subtract(&mut w[to..], errors[j - from], &u[j * k + to..(j + 1) * k]);
            }
        }
    }
    Ok(made)
}

/// y -= a · x
fn subtract(y: &mut [f32], a: f32, x: &[f32]) {
    if a != 0.0 {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y -= a * x);
    }
}

/// H with a hundredth of its mean diagonal added to the diagonal; what never moves gets one.
fn damped(h: &[f32], k: usize) -> Vec<f32> {
    let mut h = h.to_vec();
    let mean = (0..k).map(|i| h[i * k + i] as f64).sum::<f64>() / k.max(1) as f64;
    let damp = (mean * 0.01).max(1e-8) as f32;
    for i in 0..k {
        h[i * k + i] += damp;
    }
    h
}

/// U with UᵀU = H⁻¹, U upper triangular, in H's place.
///
/// H = A·Aᵀ with A upper triangular (Cholesky from the last row up), then U = A⁻¹.
fn upper_inverse(h: &mut [f32], k: usize) -> Result<(), Reason> {
    // Reversed in both axes, A is lower triangular and rows are what is read in a row.
    let mut l: Vec<f32> = (0..k * k).map(|i| h[k * k - 1 - i]).collect();
    cholesky(&mut l, k)?;
    let m = lower_inverse(&l, k);
    for (i, x) in h.iter_mut().enumerate() {
        *x = m[k * k - 1 - i];
    }
    Ok(())
}

/// L with L·Lᵀ = A in A's place; above the diagonal zeros. Rows in panels, so that each row that
/// is read serves several.
fn cholesky(a: &mut [f32], k: usize) -> Result<(), Reason> {
    const PANEL: usize = 16;
    for from in (0..k).step_by(PANEL) {
        let to = k.min(from + PANEL);
        let (done, rest) = a.split_at_mut(from * k);
        for j in 0..from {
            let other = &done[j * k..j * k + j + 1];
            for row in rest.chunks_mut(k).take(to - from) {
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
        }
        for i in 0..to - from {
            let (above, row) = rest.split_at_mut(i * k);
            for j in from..from + i {
                let other = &above[(j - from) * k..(j - from) * k + j + 1];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
            let at = from + i;
            let square = row[at] - dot(&row[..at], &row[..at]);
            if !square.is_finite() || square <= 0.0 {
                let text = "the activations' products are no positive definite matrix";
                return Err(Reason::new(Kind::Invalid, text));
            }
            row[at] = square.sqrt();
            row[at + 1..k].fill(0.0);
        }
    }
    Ok(())
}

/// L⁻¹ of a lower triangular L.
fn lower_inverse(l: &[f32], k: usize) -> Vec<f32> {
    // Row i of the inverse is a sum of the rows above it: read and written in a row.
    let mut m = vec![0f32; k * k];
    for i in 0..k {
        let (above, row) = m.split_at_mut(i * k);
        let own = 1.0 / l[i * k + i];
        for j in 0..i {
            subtract(&mut row[..j + 1], l[i * k + j] * own, &above[j * k..j * k + j + 1]);
        }
        row[i] = own;
    }
    m
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (a, b) = (x.chunks_exact(16), y.chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a.zip(b) {
        for i in 0..16 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: BlockScheme = BlockScheme { bits: 4, size: 16, symmetric: false, packed: true };

    fn random(n: usize, seed: u64) -> Vec<f32> {
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
                let (a, b) =
                    (squared(&block, hqq(&block, how), how), squared(&block, nearest, how));
                assert!(a <= b);
                lost = (lost.0 + a, lost.1 + b);
            }
            assert!(lost.0 < 0.97 * lost.1, "{lost:?}");
        }
    }

    #[test]
    fn the_inverse_is_one() {
        let k = 37;
        let x = random(k * 60, 5);
        let h: Vec<f32> = (0..k * k)
            .map(|i| (0..60).map(|t| x[t * k + i / k] * x[t * k + i % k]).sum())
            .collect();
        let mut u = h.clone();
        upper_inverse(&mut u, k).unwrap();
        // UᵀU·H = 1
        for i in 0..k {
            for j in 0..k {
                let at = |a: usize| -> f32 {
                    let inverse: f32 = (0..k).map(|t| u[t * k + i] * u[t * k + a]).sum();
                    inverse * h[a * k + j]
                };
                let sum: f32 = (0..k).map(at).sum();
                assert!((sum - f32::from(u8::from(i == j))).abs() < 0.05, "{i} {j}: {sum}");
                assert!(i <= j || u[i * k + j] == 0.0);
            }
        }
    }

    #[test]
    fn gptq_loses_less_of_the_product() {
        let (k, n, tokens) = (96, 8, 200);
        // Activations that move together: each a mix of a few.
        let (base, mix) = (random(tokens * 12, 1), random(12 * k, 2));
        let x: Vec<f32> = (0..tokens * k)
            .map(|i| (0..12).map(|t| base[i / k * 12 + t] * mix[t * k + i % k]).sum())
            .collect();
        let h: Vec<f32> = (0..k * k)
            .map(|i| (0..tokens).map(|t| x[t * k + i / k] * x[t * k + i % k]).sum())
            .collect();
        let w = random(n * k, 3);
        let lost = |numbers: Vec<f32>| -> f32 {
            (0..tokens * n)
                .map(|i| {
                    let (t, c) = (i / n, i % n);
                    let d = |j: usize| (w[c * k + j] - numbers[c * k + j]) * x[t * k + j];
                    (0..k).map(d).sum::<f32>().powi(2)
                })
                .sum()
        };
        let blocks = Blocks::chosen(&w, k, n, HOW, &mut |b| hqq(b, HOW)).unwrap();
        let (a, b) = (lost(gptq(&w, k, n, &h, HOW).unwrap().numbers()), lost(blocks.numbers()));
        assert!(a < 0.5 * b, "{a} {b}");
    }
}
