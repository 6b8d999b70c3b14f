//! Where Resize samples an axis, and with which weights.

use super::{Coordinates, Interpolation, Resize, ResizedAxis, Rounding};
use crate::{Reason, invalid};

/// The samples of one axis: each output is a sum of `taps` inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// Inputs that go into each output.
    pub taps: usize,
    /// `taps` indices for each output.
    pub index: Vec<usize>,
    /// `taps` weights for each output.
    pub weight: Vec<f32>,
    /// What stands where the place lies outside the input, and whether it does for each output.
    pub outside: Option<(f32, Vec<bool>)>,
}

impl Samples {
    /// The samples of an axis of size `input`; `roi` is where its region of interest starts and
    /// ends.
    ///
    /// # Errors
    /// The coordinates need a region and there is none.
    pub fn new(
        op: &Resize,
        input: usize,
        a: &ResizedAxis,
        roi: Option<(f32, f32)>,
    ) -> Result<Samples, Reason> {
        Ok(samples(op, input, a, &places(op, input, a, roi)?))
    }

    /// Whether the output is the input.
    pub fn is_identity(&self, input: usize) -> bool {
        let outputs = self.index.len() / self.taps.max(1);
        let exact = |o: usize| {
            let at = o * self.taps..(o + 1) * self.taps;
            let pairs = self.index[at.clone()].iter().zip(&self.weight[at]);
            let sum: f32 = pairs.clone().filter(|(i, _)| **i == o).map(|(_, w)| w).sum();
            sum == 1.0 && pairs.clone().all(|(i, w)| *i == o || *w == 0.0)
        };
        self.outside.is_none() && outputs == input && (0..outputs).all(exact)
    }

    /// The one input that each output is, for nearest.
    pub fn nearest(&self) -> Vec<usize> {
        self.index.clone()
    }
}

/// The place in the input of each output along an axis.
fn places(
    op: &Resize,
    input: usize,
    a: &ResizedAxis,
    roi: Option<(f32, f32)>,
) -> Result<Vec<f32>, Reason> {
    let (n, scale) = (a.output, a.scale);
    // What the output's size would be if it were no whole number.
    let exact = scale * input as f32;
    let last = input.saturating_sub(1) as f32;
    let place: Box<dyn Fn(f32) -> f32> = match op.coordinates {
        Coordinates::HalfPixel => Box::new(move |i| (i + 0.5) / scale - 0.5),
        Coordinates::PytorchHalfPixel if n == 1 => Box::new(|_| 0.0),
        Coordinates::PytorchHalfPixel => Box::new(move |i| (i + 0.5) / scale - 0.5),
        Coordinates::HalfPixelSymmetric => {
            let offset = input as f32 / 2.0 * (1.0 - n as f32 / exact);
            Box::new(move |i| offset + (i + 0.5) / scale - 0.5)
        }
        Coordinates::AlignCorners if exact == 1.0 || n == 1 => Box::new(|_| 0.0),
        Coordinates::AlignCorners => Box::new(move |i| i * last / (exact - 1.0)),
        Coordinates::Asymmetric => Box::new(move |i| i / scale),
        Coordinates::TfHalfPixelForNn => Box::new(move |i| (i + 0.5) / scale),
        Coordinates::TfCropAndResize => {
            let (start, end) = roi.ok_or_else(|| invalid!("there is no region of interest"))?;
            if n == 1 {
                Box::new(move |_| 0.5 * (start + end) * last)
            } else {
                let step = (end - start) * last / (exact - 1.0);
                Box::new(move |i| start * last + i * step)
            }
        }
    };
    Ok((0..n).map(|i| place(i as f32)).collect())
}

/// The samples for these places.
fn samples(op: &Resize, input: usize, a: &ResizedAxis, places: &[f32]) -> Samples {
    let crop = op.coordinates == Coordinates::TfCropAndResize;
    let beyond = |&p: &f32| p < 0.0 || p > input.saturating_sub(1) as f32;
    let outside = (crop && places.iter().any(beyond))
        .then(|| (op.extrapolation_value, places.iter().map(beyond).collect()));
    let last = input.saturating_sub(1) as i64;
    let mut s = Samples { taps: 1, index: Vec::new(), weight: Vec::new(), outside };
    for &p in places {
        let (start, weights) = match op.interpolation {
            Interpolation::Nearest(rounding) => (nearest(rounding, a.scale, p), vec![1.0]),
            Interpolation::Linear => around(p, a.scale, 1.0, op.antialias, linear),
            Interpolation::Cubic(slope) => {
                around(p, a.scale, 2.0, op.antialias, |x| cubic(slope, x))
            }
        };
        let weights = normalized(weights, start, last, op.exclude_outside);
        s.taps = weights.len();
        s.index.extend((start..).take(weights.len()).map(|i| i.clamp(0, last) as usize));
        s.weight.extend(weights);
    }
    s
}

fn nearest(rounding: Rounding, scale: f32, p: f32) -> i64 {
    let p = f64::from(p);
    (match rounding {
        Rounding::PreferFloor => (p - 0.5).ceil(),
        Rounding::PreferCeil => (p + 0.5).floor(),
        Rounding::Floor => p.floor(),
        Rounding::Ceil => p.ceil(),
        Rounding::Simple if scale < 1.0 => p.ceil(),
        Rounding::Simple => p.floor(),
    }) as i64
}

/// The weights of the samples within `radius` of `p`; shrinking widens an antialiasing filter.
fn around(
    p: f32,
    scale: f32,
    radius: f64,
    antialias: bool,
    filter: impl Fn(f64) -> f64,
) -> (i64, Vec<f64>) {
    let floor = p.floor();
    let ratio = f64::from(p - floor);
    let shrink = if antialias { f64::from(scale.min(1.0)) } else { 1.0 };
    let reach = (radius / shrink).ceil() as i64;
    let from = 1 - reach;
    let weights = (from..=reach).map(|i| filter((i as f64 - ratio).abs() * shrink)).collect();
    (floor as i64 + from, weights)
}

fn linear(x: f64) -> f64 {
    (1.0 - x).max(0.0)
}

/// Keys' cubic convolution kernel.
fn cubic(slope: f32, x: f64) -> f64 {
    let a = f64::from(slope);
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

fn normalized(mut weights: Vec<f64>, start: i64, last: i64, exclude: bool) -> Vec<f32> {
    if exclude {
        for (i, w) in (start..).zip(&mut weights) {
            if i < 0 || i > last {
                *w = 0.0;
            }
        }
    }
    let sum: f64 = weights.iter().sum();
    let sum = if sum == 0.0 { 1.0 } else { sum };
    weights.iter().map(|w| (w / sum) as f32).collect()
}
