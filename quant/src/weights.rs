//! Weights in codes of 8 bits: one scale for all, or one for each channel.

use rinfer::{DType, Reason, Tensor};

use crate::scheme::{Params, Scheme};

/// How a weight becomes codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightScheme {
    /// The codes, of 8 bits.
    pub scheme: Scheme,
    /// Whether every channel has a scale of its own.
    pub per_channel: bool,
    /// How the range of a channel is chosen.
    pub fit: Fit,
}

/// How the range of weights is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Nothing is cut off.
    Ends,
    /// What is cut off and what is rounded have the least squared error together.
    Mse,
}

impl WeightScheme {
    /// int8, symmetric, one scale for each channel.
    pub const DEFAULT: WeightScheme =
        WeightScheme { scheme: Scheme::INT8, per_channel: true, fit: Fit::Ends };
}

/// A weight in codes.
#[derive(Clone, Debug)]
pub struct Codes {
    /// int8 or uint8, as the weight lies.
    pub codes: Tensor,
    /// One for all, or one for each channel.
    pub scales: Vec<f32>,
    /// Likewise; all zero if the codes are symmetric and signed.
    pub zeros: Vec<i32>,
    /// The axis that scales lie along, if there are several.
    pub axis: Option<usize>,
}

/// A tensor's floats, so many at a time; misaligned ones need no copy of the whole.
pub(crate) fn chunks(t: &Tensor, len: usize, f: &mut dyn FnMut(usize, &[f32])) {
    let mut scratch = vec![0f32; len];
    for (i, bytes) in t.as_bytes().chunks(len.max(1) * 4).enumerate() {
        let n = bytes.len() / 4;
        for (x, b) in scratch.iter_mut().zip(bytes.chunks_exact(4)) {
            *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
        f(i, &scratch[..n]);
    }
}

/// How a weight lies in memory, seen from its channels.
struct Lie {
    /// Channels; 1 if there is one scale for all.
    channels: usize,
    /// Numbers in a row that belong to one channel.
    inner: usize,
}

impl Lie {
    fn new(shape: &[usize], axis: Option<usize>) -> Lie {
        match axis {
            Some(axis) => Lie { channels: shape[axis], inner: shape[axis + 1..].iter().product() },
            None => Lie { channels: 1, inner: shape.iter().product() },
        }
    }

    /// Calls `f` with numbers and their first channel: a run of one channel, or (`inner` is 1) one
    /// number of each channel.
    fn each(&self, t: &Tensor, f: &mut dyn FnMut(usize, usize, &[f32])) {
        if self.inner == 1 {
            chunks(t, self.channels, &mut |i, x| f(i * self.channels, 0, x));
        } else {
            // Long runs are cut, so that the copy of one stays in the cache.
            let cut = (1..)
                .map(|n| self.inner.div_ceil(n))
                .find(|n| *n <= 1 << 14 && self.inner % n == 0);
            let run = cut.filter(|n| *n >= 256).unwrap_or(self.inner).max(1);
            let runs = (self.inner / run).max(1);
            chunks(t, run, &mut |i, x| f(i * run, i / runs % self.channels, x));
        }
    }
}

/// A weight in codes. `least` are scales that no channel's may be below (for the bias to fit).
///
/// # Errors
/// The weight holds NaN or infinities, or the machine has no memory for the codes.
pub fn quantize(
    t: &Tensor,
    channels: Option<usize>,
    how: WeightScheme,
    least: Option<&[f32]>,
) -> Result<Codes, Reason> {
    let axis = channels.filter(|_| how.per_channel);
    let lie = Lie::new(t.shape(), axis);
    let (lo, hi) = ends(t, &lie)?;
    let fit = |c: usize, share: f32| how.scheme.fit(lo[c] * share, hi[c] * share);
    let mut params: Vec<Params> = match how.fit {
        Fit::Ends => (0..lie.channels).map(|c| fit(c, 1.0)).collect(),
        Fit::Mse => {
            let shares = best_shares(t, &lie, &fit);
            shares.iter().enumerate().map(|(c, &share)| fit(c, share)).collect()
        }
    };
    for (c, p) in params.iter_mut().enumerate() {
        let least = least.map_or(0.0, |least| least[if least.len() == 1 { 0 } else { c }]);
        // Nothing but zeros: any scale will do, and the bias wants a small one.
        if lo[c] == 0.0 && hi[c] == 0.0 && least > 0.0 {
            p.scale = least;
        }
        p.scale = p.scale.max(least);
    }
    let codes = encode(t, &lie, &params)?;
    Ok(Codes {
        codes,
        scales: params.iter().map(|p| p.scale).collect(),
        zeros: params.iter().map(|p| p.zero).collect(),
        axis,
    })
}

/// The least and the greatest number of each channel.
fn ends(t: &Tensor, lie: &Lie) -> Result<(Vec<f32>, Vec<f32>), Reason> {
    let mut lo = vec![0f32; lie.channels];
    let mut hi = vec![0f32; lie.channels];
    let mut strange = false;
    let inner = lie.inner;
    lie.each(t, &mut |_, c, x| {
        // x · 0 is NaN where x is none that a range can hold.
        strange |= !x.iter().map(|x| x * 0.0).fold(0f32, |a, b| a + b).eq(&0.0);
        if inner == 1 {
            for ((lo, hi), &x) in lo.iter_mut().zip(&mut hi).zip(x) {
                *lo = if x < *lo { x } else { *lo };
                *hi = if x > *hi { x } else { *hi };
            }
        } else {
            let mut a = [lo[c]; 8];
            let mut b = [hi[c]; 8];
            let whole = x.chunks_exact(8);
            for &x in whole.remainder() {
                (a[0], b[0]) = (a[0].min(x), b[0].max(x));
            }
            for x in whole {
                for i in 0..8 {
                    a[i] = if x[i] < a[i] { x[i] } else { a[i] };
                    b[i] = if x[i] > b[i] { x[i] } else { b[i] };
                }
            }
            lo[c] = a.iter().copied().fold(a[0], f32::min);
            hi[c] = b.iter().copied().fold(b[0], f32::max);
        }
    });
    match strange {
        true => Err(Reason::new(rinfer::Kind::Invalid, "the weight holds NaN or infinities")),
        false => Ok((lo, hi)),
    }
}

/// Shares of each channel's range that are tried.
const SHARES: [f32; 16] =
    [1.0, 0.98, 0.96, 0.94, 0.92, 0.9, 0.87, 0.84, 0.8, 0.76, 0.72, 0.67, 0.62, 0.56, 0.5, 0.42];

/// The share of each channel's range with the least squared error.
fn best_shares(t: &Tensor, lie: &Lie, fit: &dyn Fn(usize, f32) -> Params) -> Vec<f32> {
    let mut best = vec![(f32::INFINITY, 1.0); lie.channels];
    for share in SHARES {
        let params: Vec<Params> = (0..lie.channels).map(|c| fit(c, share)).collect();
        let rounders: Vec<Rounder> = params.iter().map(Rounder::new).collect();
        let mut errors = vec![0f32; lie.channels];
        lie.each(t, &mut |_, c, x| {
            if lie.inner == 1 {
                for ((e, r), &x) in errors.iter_mut().zip(&rounders).zip(x) {
                    let d = x - r.steps(x) * r.scale;
                    *e += d * d;
                }
            } else {
                let r = &rounders[c];
                let square = |x: &f32| (x - r.steps(*x) * r.scale).powi(2);
                errors[c] += x.iter().map(square).sum::<f32>();
            }
        });
        for (best, e) in best.iter_mut().zip(errors) {
            if e < best.0 {
                *best = (e, share);
            }
        }
    }
    best.into_iter().map(|(_, share)| share).collect()
}

/// Rounds to codes without a call to a library: adding 1.5·2²³ leaves the integer in the low bits.
struct Rounder {
    scale: f32,
    least: f32,
    most: f32,
    zero: i32,
}

const MAGIC: f32 = 12_582_912.0;

/// The nearest integer, ties to even, of a number far below 2²².
pub(crate) fn round(x: f32) -> f32 {
    (x + MAGIC) - MAGIC
}

impl Rounder {
    fn new(p: &Params) -> Rounder {
        let (least, most) = p.scheme.limits();
        // Symmetric signed codes leave the least one out.
        let least = if p.scheme.symmetric && p.scheme.signed { least + 1 } else { least };
        let bound = |code: i32| (code - p.zero) as f32;
        Rounder { scale: p.scale, least: bound(least), most: bound(most), zero: p.zero }
    }

    fn bounded(&self, x: f32) -> f32 {
        let t = x / self.scale;
        let t = if t < self.least { self.least } else { t };
        if t > self.most { self.most } else { t }
    }

    fn steps(&self, x: f32) -> f32 {
        round(self.bounded(x))
    }

    fn code(&self, x: f32) -> u8 {
        let bits = (self.bounded(x) + MAGIC).to_bits();
        (bits.wrapping_sub(MAGIC.to_bits()) as i32).wrapping_add(self.zero) as u8
    }
}

fn encode(t: &Tensor, lie: &Lie, params: &[Params]) -> Result<Tensor, Reason> {
    let mut codes =
        Tensor::try_zeros(params.first().map_or(DType::I8, |p| p.scheme.dtype()), t.shape())?;
    let out = codes.as_mut_bytes();
    let rounders: Vec<Rounder> = params.iter().map(Rounder::new).collect();
    lie.each(t, &mut |at, c, x| {
        let out = &mut out[at..at + x.len()];
        if lie.inner == 1 {
            for ((y, r), &x) in out.iter_mut().zip(&rounders).zip(x) {
                *y = r.code(x);
            }
        } else {
            let r = &rounders[c];
            for (y, &x) in out.iter_mut().zip(x) {
                *y = r.code(x);
            }
        }
    });
    Ok(codes)
}

impl Codes {
    /// The numbers that the codes stand for.
    pub fn numbers(&self) -> Vec<f32> {
        let lie = Lie::new(self.codes.shape(), self.axis);
        let signed = self.codes.dtype() == DType::I8;
        let bytes = self.codes.as_bytes().iter().enumerate();
        bytes
            .map(|(i, &b)| {
                let c = i / lie.inner.max(1) % lie.channels;
                let code = if signed { b as i8 as i32 } else { b as i32 };
                (code - self.zeros[c]) as f32 * self.scales[c]
            })
            .collect()
    }

    /// The scales as a tensor: a scalar if there is one.
    pub fn scale_tensor(&self) -> Tensor {
        match self.axis {
            Some(_) => Tensor::vector(&self.scales),
            None => Tensor::scalar(self.scales[0]),
        }
    }

    /// The zero points as a tensor like the scales'; `None` if all are zero.
    pub fn zero_tensor(&self) -> Option<Tensor> {
        if self.zeros.iter().all(|&z| z == 0) {
            return None;
        }
        let shape: &[usize] = if self.axis.is_some() { &[self.zeros.len()] } else { &[] };
        Some(match self.codes.dtype() {
            DType::I8 => {
                Tensor::from_slice(shape, &self.zeros.iter().map(|&z| z as i8).collect::<Vec<_>>())
            }
            _ => {
                Tensor::from_slice(shape, &self.zeros.iter().map(|&z| z as u8).collect::<Vec<_>>())
            }
        })
    }

    /// The codes of a matrix with its axes swapped.
    ///
    /// # Errors
    /// The machine has no memory for them.
    pub fn swapped(&self) -> Result<Codes, Reason> {
        let (m, n) = (self.codes.shape()[0], self.codes.shape()[1]);
        let mut codes = Tensor::try_zeros(self.codes.dtype(), &[n, m])?;
        let (from, to) = (self.codes.as_bytes(), codes.as_mut_bytes());
        // In tiles, so that both sides stay in the cache.
        for i0 in (0..m).step_by(32) {
            for j0 in (0..n).step_by(32) {
                for i in i0..m.min(i0 + 32) {
                    for j in j0..n.min(j0 + 32) {
                        to[j * m + i] = from[i * n + j];
                    }
                }
            }
        }
        Ok(Codes { codes, axis: self.axis.map(|axis| 1 - axis), ..self.clone() })
    }
}

/// Signal over noise in decibels of numbers that came out as others.
pub fn sqnr(want: &[f32], got: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let signal: f64 = want.iter().map(|&x| square(x as f64)).sum();
    let noise: f64 = want.iter().zip(got).map(|(&a, &b)| square(a as f64 - b as f64)).sum();
    match (signal, noise) {
        (_, 0.0) => f64::INFINITY,
        (0.0, _) => f64::NEG_INFINITY,
        (signal, noise) => 10.0 * (signal / noise).log10(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 250.0 * (1 + i % 3) as f32).collect()
    }

    #[test]
    fn codes_are_those_of_the_formula() {
        let x = numbers(6 * 5 * 3);
        let t = Tensor::from_slice(&[6, 5, 3], &x);
        for scheme in [Scheme::INT8, Scheme { symmetric: false, ..Scheme::INT8 }, Scheme::UINT8] {
            for axis in [None, Some(0), Some(1), Some(2)] {
                let how = WeightScheme { scheme, per_channel: true, fit: Fit::Ends };
                let codes = quantize(&t, axis, how, None).unwrap();
                for (i, (&x, y)) in x.iter().zip(codes.numbers()).enumerate() {
                    let c = axis.map_or(0, |a| i / [15, 3, 1][a] % [6, 5, 3][a]);
                    let zero = codes.zeros[c];
                    let p = Params { scale: codes.scales[c], zero, scheme };
                    assert_eq!(y, p.round(x), "{scheme:?} {axis:?} {i}");
                    assert!((x - y).abs() <= p.scale * 0.501, "{x} became {y}");
                }
            }
        }
    }

    #[test]
    fn the_least_squared_error_is_no_larger() {
        let mut x = numbers(64 * 4);
        x[7] = 60.0;
        let t = Tensor::from_slice(&[64, 4], &x);
        let of = |fit| {
            let how = WeightScheme { fit, ..WeightScheme::DEFAULT };
            sqnr(&x, &quantize(&t, Some(1), how, None).unwrap().numbers())
        };
        assert!(of(Fit::Mse) >= of(Fit::Ends));
    }

    #[test]
    fn swapping_keeps_the_numbers() {
        let t = Tensor::from_slice(&[40, 50], &numbers(2000));
        let codes = quantize(&t, Some(0), WeightScheme::DEFAULT, None).unwrap();
        let (a, b) = (codes.numbers(), codes.swapped().unwrap().numbers());
        assert!((0..40).all(|i| (0..50).all(|j| a[i * 50 + j] == b[j * 40 + i])));
    }

    #[test]
    fn a_weight_without_numbers_is_refused() {
        let t = Tensor::from_slice(&[1, 2], &[1.0, f32::NAN]);
        assert!(quantize(&t, Some(1), WeightScheme::DEFAULT, None).is_err());
    }

    #[test]
    fn a_channel_of_zeros_takes_the_scale_of_its_bias() {
        let t = Tensor::from_slice(&[2, 2], &[0.0f32, 1.0, 0.0, -2.0]);
        let codes = quantize(&t, Some(1), WeightScheme::DEFAULT, Some(&[1e-4, 1e-4])).unwrap();
        assert_eq!(codes.scales, [1e-4, 2.0 / 127.0]);
    }
}
