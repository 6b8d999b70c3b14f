//! SmoothQuant: outliers of activations go into the weight, where every channel has its own scale.
//!
//! x·w = (x / s)·(s w); sₖ = max|xₖ|^α / max|wₖ|^(1-α) for each channel k that is summed over
//! (Xiao et al. 2023). Layers that read one value share s, so it is divided once.

use std::sync::{Arc, Mutex};

use rinfer::{Reason, Tensor};

use crate::calibrate::Look;
use crate::forms::{Choice, Form};
use crate::layers::{Layer, Role};
use crate::plan::Job;
use crate::scheme::Scheme;
use crate::weights::{WeightScheme, chunks};

/// The ends of each channel of a value: of each position along its last axis.
#[derive(Clone, Debug, Default)]
pub struct Peaks {
    /// The least number of each channel, or 0.
    pub lo: Vec<f32>,
    /// The greatest number of each channel, or 0.
    pub hi: Vec<f32>,
    /// The sum of |x| of each channel, and how many were summed.
    pub sum: Vec<f64>,
    /// Rows that were seen.
    pub rows: u64,
    /// xᵀx of every [`TOGETHER`] channels.
    pub grams: Vec<f32>,
}

/// Channels whose products with each other are summed.
const TOGETHER: usize = 32;

impl Peaks {
    /// The mean of |x| of each channel.
    pub fn means(&self) -> Vec<f64> {
        self.sum.iter().map(|s| s / self.rows.max(1) as f64).collect()
    }

    /// How much of the products it meets an error of the weights from row `first` on makes: dᵀxᵀxd,
    /// but for what channels of different blocks have in common.
    pub fn noise(&self, first: usize, d: &[f32]) -> f32 {
        let (mut at, mut left, mut sum) = (first, d, 0f32);
        while !left.is_empty() {
            let (block, from) = (at / TOGETHER, at % TOGETHER);
            let (now, rest) = left.split_at((TOGETHER - from).min(left.len()));
            let gram = &self.grams[block * TOGETHER * TOGETHER..][..TOGETHER * TOGETHER];
            for (row, d) in gram.chunks_exact(TOGETHER).skip(from).zip(now) {
                sum += d * row[from..].iter().zip(now).map(|(g, d)| g * d).sum::<f32>();
            }
            (at, left) = (at + now.len(), rest);
        }
        sum
    }

    /// The mean square of channel `k`.
    pub fn square(&self, k: usize) -> f32 {
        let (block, i) = (k / TOGETHER, k % TOGETHER);
        self.grams[(block * TOGETHER + i) * TOGETHER + i] / self.rows.max(1) as f32
    }
}

impl Look for Mutex<Peaks> {
    fn look(&self, shape: &[usize], x: &[f32]) {
        let n = shape.last().copied().unwrap_or(1);
        let mut p = self.lock().unwrap_or_else(|e| e.into_inner());
        if p.lo.is_empty() {
            (p.lo, p.hi, p.sum) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
            p.grams = vec![0.0; n.div_ceil(TOGETHER) * TOGETHER * TOGETHER];
        }
        if p.lo.len() != n || n == 0 {
            return;
        }
        let Peaks { lo, hi, sum, rows, grams } = &mut *p;
        for row in x.chunks_exact(n) {
            *rows += 1;
            let blocks = grams.chunks_exact_mut(TOGETHER * TOGETHER).zip(row.chunks(TOGETHER));
            for (gram, part) in blocks.filter(|(_, part)| part.iter().all(|x| x.is_finite())) {
                for (gram, a) in gram.chunks_exact_mut(TOGETHER).zip(part) {
                    gram.iter_mut().zip(part).for_each(|(g, b)| *g += a * b);
                }
            }
            for (k, &x) in row.iter().enumerate() {
                lo[k] = if x < lo[k] && x.is_finite() { x } else { lo[k] };
                hi[k] = if x > hi[k] && x.is_finite() { x } else { hi[k] };
                sum[k] += f64::from(x.abs());
            }
        }
    }
}

/// A weight with its rows multiplied: [k, n], or [n, k] if columns come first.
pub(crate) fn scaled(t: &Tensor, columns_first: bool, by: &[f32]) -> Result<Tensor, Reason> {
    let width = t.shape().last().copied().unwrap_or(1);
    let mut made = Tensor::try_zeros(t.dtype(), t.shape())?;
    let out = made.as_mut_slice::<f32>();
    chunks(t, width, &mut |i, x| {
        for (j, &x) in x.iter().enumerate() {
            out[i * width + j] = x * by[if columns_first { j } else { i }];
        }
    });
    Ok(made)
}

/// The largest |w| of each row of a product's weight.
pub(crate) fn row_peaks(t: &Tensor, columns_first: bool) -> Vec<f32> {
    let width = t.shape()[1];
    let mut peaks = vec![0f32; if columns_first { width } else { t.shape()[0] }];
    chunks(t, width, &mut |i, x| match columns_first {
        true => peaks.iter_mut().zip(x).for_each(|(p, x)| *p = p.max(x.abs())),
        false => peaks[i] = x.iter().fold(0f32, |p, x| p.max(x.abs())),
    });
    peaks
}

impl Job {
    /// The static form of a product with outliers moved into its weight, `alpha` of them; `None`
    /// if what it reads was not seen.
    pub fn smoothed(&self, layer: &Layer, alpha: f32, weight: WeightScheme) -> Option<Choice> {
        let (by, lo, hi) = self.smoothing(layer, alpha)?;
        let scheme = Scheme { bits: 8, ..self.config.activations };
        let form = Form::Static { weight, input: scheme.fit(lo, hi), output: None };
        Some(Choice { smooth: Some(Arc::new(by)), ..form.into() })
    }

    /// The factors of a product's input, and the ends of what is left of it.
    pub(crate) fn smoothing(&self, layer: &Layer, alpha: f32) -> Option<(Vec<f32>, f32, f32)> {
        if layer.role != Role::Product || layer.shape.len() != 2 {
            return None;
        }
        let peaks = self.peaks.get(&(layer.site.graph, layer.data))?;
        let mut rows = vec![0f32; layer.k_n().0];
        let graphs = crate::rebuild::graphs(self.model.graph());
        let g = graphs.get(&layer.site.graph)?;
        let same = |l: &&Layer| l.site.graph == layer.site.graph && l.data == layer.data;
        for other in self.layers.iter().filter(same).filter(|l| l.role == Role::Product) {
            let found = row_peaks(g.tensor(other.weight)?, other.channels == Some(0));
            if found.len() != rows.len() {
                return None;
            }
            rows.iter_mut().zip(found).for_each(|(a, b)| *a = a.max(b));
        }
        if peaks.lo.len() != rows.len() {
            return None;
        }
        let factor = |k: usize| {
            let x = peaks.hi[k].max(-peaks.lo[k]);
            let s = x.powf(alpha) / rows[k].powf(1.0 - alpha);
            if s.is_finite() && s > 0.0 { s.clamp(1e-5, 1e5) } else { 1.0 }
        };
        let by: Vec<f32> = (0..rows.len()).map(factor).collect();
        let lo = by.iter().zip(&peaks.lo).map(|(s, x)| x / s).fold(0f32, f32::min);
        let hi = by.iter().zip(&peaks.hi).map(|(s, x)| x / s).fold(0f32, f32::max);
        Some((by, lo, hi))
    }
}
