//! Codes of blocks by GPTQ (Frantar et al. 2023): rows of a column are rounded one after the other;
//! what each loses is made up for by those after it, as far as activations move together (H = XᵀX).
//!
//! What is large are products of matrices: H is factored in blocks, and what a stretch of rows
//! loses is made up for in all later rows at once.

use rinfer::{Kind, Reason};

use crate::blocks::{BlockScheme, Blocks};
use crate::products::{Part, Products};
use crate::rounding::hqq;
use crate::share::share;

/// Rows of a stretch, and of a block of H.
const LAZY: usize = 128;

/// What computes.
pub(crate) struct Engine {
    /// Products.
    pub products: Products,
    /// Threads for the rest; 0 is one for each core.
    pub threads: usize,
}

impl Engine {
    /// With so many threads.
    pub fn new(threads: usize) -> Result<Engine, Reason> {
        Ok(Engine { products: Products::new(Some(threads))?, threads })
    }
}

/// U with UᵀU = (H + damping)⁻¹, upper triangular. `h` is H = XᵀX, [k, k].
///
/// # Errors
/// The numbers are none that can be worked with.
pub(crate) fn factor(h: &[f32], k: usize, engine: &Engine) -> Result<Vec<f32>, Reason> {
    if h.iter().any(|x| !x.is_finite()) {
        return Err(Reason::new(Kind::Invalid, "the activations are not finite"));
    }
    // Reversed in both axes the factor is a lower triangle: rows are what is read in a row.
    let mut l: Vec<f32> = damped(h, k);
    l.reverse();
    cholesky(&mut l, k, engine)?;
    let mut u = lower_inverse(&l, k, engine)?;
    u.reverse();
    Ok(u)
}

/// Columns that one thread rounds: their weights, and what is found for them.
struct Columns<'a> {
    w: &'a mut [f32],
    codes: &'a mut [u8],
    scales: &'a mut [f32],
    zeros: &'a mut [u8],
    errors: &'a mut [f32],
}

/// Blocks of a matrix [n, k] by GPTQ, `u` from [`factor`].
///
/// # Errors
/// The weight is not finite.
pub(crate) fn gptq(
    w: &[f32],
    (k, n): (usize, usize),
    u: &[f32],
    how: BlockScheme,
    engine: &Engine,
) -> Result<Blocks, Reason> {
    if w.iter().any(|x| !x.is_finite()) {
        return Err(Reason::new(Kind::Invalid, "the weight is not finite"));
    }
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
    let mut errors = vec![0f32; n * LAZY];
    for from in (0..k).step_by(LAZY) {
        let to = k.min(from + LAZY);
        const TOGETHER: usize = 16;
        let pieces = w
            .chunks_mut(TOGETHER * k)
            .zip(made.codes.chunks_mut(TOGETHER * k))
            .zip(made.scales.chunks_mut(TOGETHER * per_column))
            .zip(made.zeros.chunks_mut(TOGETHER * per_column))
            .zip(errors.chunks_mut(TOGETHER * LAZY))
            .map(|((((w, codes), scales), zeros), errors)| Columns {
                w,
                codes,
                scales,
                zeros,
                errors,
            });
        share(engine.threads, pieces.collect(), &|columns| {
            stretch(columns, (from, to, k), u, how);
        });
        let lost = Part { data: &errors, at: 0, stride: LAZY, rows: n, cols: to - from };
        let later = Part { data: u, at: from * k + to, stride: k, rows: to - from, cols: k - to };
        engine.products.each((lost, false), later, |i, row| {
            w[i * k + to..(i + 1) * k].iter_mut().zip(row).for_each(|(w, x)| *w -= x);
        })?;
    }
    Ok(made)
}

/// Rounds rows `from` … `to` of columns, one row after the other.
fn stretch(
    columns: Columns<'_>,
    (from, to, k): (usize, usize, usize),
    u: &[f32],
    how: BlockScheme,
) {
    let per_column = k.div_ceil(how.size);
    let all = columns.w.chunks_mut(k).zip(columns.codes.chunks_mut(k));
    for (column, (w, codes)) in all.enumerate() {
        for j in from..to {
            let b = column * per_column + j / how.size;
            if j % how.size == 0 {
                let (scale, zero) = hqq(&w[j..k.min(j + how.size)], how);
                let scale = how.stored(scale);
                (columns.scales[b], columns.zeros[b]) = (scale, zero as u8);
            }
            let (scale, zero) = (columns.scales[b], i32::from(columns.zeros[b]));
            let code = how.code(w[j], scale, zero);
            codes[j] = code;
            let error = (w[j] - (i32::from(code) - zero) as f32 * scale) / u[j * k + j];
            columns.errors[column * LAZY + j - from] = error;
            // Blocks that begin within this stretch must see what is made up for.
            subtract(&mut w[j + 1..to], error, &u[j * k + j + 1..j * k + to]);
        }
    }
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
    let mean = (0..k).map(|i| f64::from(h[i * k + i])).sum::<f64>() / k.max(1) as f64;
    let damp = (mean * 0.01).max(1e-8) as f32;
    for i in 0..k {
        h[i * k + i] += damp;
    }
    h
}

/// L with L·Lᵀ = A in A's place; above the diagonal zeros. Block column after block column: what
/// the columns before say is a product, then the block is factored and what is below it solved.
fn cholesky(a: &mut [f32], k: usize, engine: &Engine) -> Result<(), Reason> {
    for from in (0..k).step_by(LAZY) {
        let to = k.min(from + LAZY);
        let width = to - from;
        // Lᵀ of this block's rows, left of it.
        let mut across = vec![0f32; from * width];
        for i in 0..width {
            for j in 0..from {
                across[j * width + i] = a[(from + i) * k + j];
            }
        }
        let left = Part { data: a, at: from * k, stride: k, rows: k - from, cols: from };
        let right = Part { data: &across, at: 0, stride: width, rows: from, cols: width };
        let mut panel = vec![0f32; (k - from) * width];
        engine.products.each((left, false), right, |i, row| {
            panel[i * width..][..width].copy_from_slice(row);
        })?;
        for (i, row) in panel.chunks_mut(width).enumerate() {
            let own = &a[(from + i) * k + from..][..width];
            row.iter_mut().zip(own).for_each(|(p, a)| *p = a - *p);
        }
        let mut block = panel[..width * width].to_vec();
        small_cholesky(&mut block, width)?;
        let inverse = small_inverse(&block, width);
        let mut turned = vec![0f32; width * width];
        for i in 0..width * width {
            turned[i % width * width + i / width] = inverse[i];
        }
        for i in 0..width {
            let row = &mut a[(from + i) * k..][..k];
            row[from..to].copy_from_slice(&block[i * width..][..width]);
            row[to..].fill(0.0);
        }
        let below =
            Part { data: &panel, at: width * width, stride: width, rows: k - to, cols: width };
        let turned = Part { data: &turned, at: 0, stride: width, rows: width, cols: width };
        engine.products.each((below, false), turned, |i, row| {
            a[(to + i) * k + from..][..width].copy_from_slice(row);
        })?;
    }
    Ok(())
}

/// L with L·Lᵀ = A in A's place, of a small A.
fn small_cholesky(a: &mut [f32], k: usize) -> Result<(), Reason> {
    for i in 0..k {
        let (above, row) = a.split_at_mut(i * k);
        for j in 0..i {
            let other = &above[j * k..j * k + j + 1];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let square = row[i] - dot(&row[..i], &row[..i]);
        if !square.is_finite() || square <= 0.0 {
            let text = "the activations' products are no positive definite matrix";
            return Err(Reason::new(Kind::Invalid, text));
        }
        row[i] = square.sqrt();
        row[i + 1..k].fill(0.0);
    }
    Ok(())
}

/// L⁻¹ of a lower triangular L. Of a block of rows M = -D⁻¹·(L·M above), D the diagonal's block.
fn lower_inverse(l: &[f32], k: usize, engine: &Engine) -> Result<Vec<f32>, Reason> {
    let mut m = vec![0f32; k * k];
    for from in (0..k).step_by(LAZY) {
        let to = k.min(from + LAZY);
        let width = to - from;
        let mut block = Vec::with_capacity(width * width);
        for i in from..to {
            block.extend_from_slice(&l[i * k + from..i * k + to]);
        }
        let inverse = small_inverse(&block, width);
        let left = Part { data: l, at: from * k, stride: k, rows: width, cols: from };
        let above = Part { data: &m, at: 0, stride: k, rows: from, cols: from };
        let mut sums = vec![0f32; width * from];
        engine.products.each((left, false), above, |i, row| {
            sums[i * from..][..from].copy_from_slice(row);
        })?;
        let own = Part { data: &inverse, at: 0, stride: width, rows: width, cols: width };
        let sums = Part { data: &sums, at: 0, stride: from, rows: width, cols: from };
        engine.products.each((own, false), sums, |i, row| {
            m[(from + i) * k..][..from].iter_mut().zip(row).for_each(|(m, x)| *m = -x);
        })?;
        for i in 0..width {
            m[(from + i) * k + from..][..width].copy_from_slice(&inverse[i * width..][..width]);
        }
    }
    Ok(m)
}

/// L⁻¹ of a small lower triangular L.
fn small_inverse(l: &[f32], k: usize) -> Vec<f32> {
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
    use crate::rounding::tests::{HOW, random};

    #[test]
    fn the_inverse_is_one() {
        let (k, tokens) = (LAZY + 37, 400);
        let x = random(k * tokens, 5);
        let h: Vec<f32> = (0..k * k)
            .map(|i| (0..tokens).map(|t| x[t * k + i / k] * x[t * k + i % k]).sum())
            .collect();
        let u = factor(&h, k, &Engine::new(1).unwrap()).unwrap();
        let sum = |a: &[f32], b: &[f32], i: usize, j: usize, turned: bool| -> f32 {
            let at = |t: usize| if turned { a[t * k + i] } else { a[i * k + t] };
            (0..k).map(|t| at(t) * b[t * k + j]).sum()
        };
        // UᵀU·H = 1, but for the damping.
        let inverse: Vec<f32> = (0..k * k).map(|i| sum(&u, &u, i / k, i % k, true)).collect();
        for i in 0..k {
            for j in 0..k {
                let found = sum(&inverse, &h, i, j, false);
                assert!((found - f32::from(u8::from(i == j))).abs() < 0.1, "{i} {j}: {found}");
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
        let blocks = Blocks::chosen(&w, k, n, HOW, &|b, _| hqq(b, HOW)).unwrap();
        let engine = Engine::new(2).unwrap();
        let u = factor(&h, k, &engine).unwrap();
        let found = gptq(&w, (k, n), &u, HOW, &engine).unwrap();
        let (a, b) = (lost(found.numbers()), lost(blocks.numbers()));
        assert!(a < 0.5 * b, "{a} {b}");
    }
}
