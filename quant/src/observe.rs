//! Observers: what range of numbers a value takes, seen one sample at a time.
//!
//! Memory does not grow with the number of samples. The histogram has [`BINS`] bins over
//! [-2ⁿ, 2ⁿ); where a number falls outside n grows and neighbouring bins are added up, so nothing
//! need be known beforehand and the order of samples does not matter.

use serde_json::{Value as Json, json};

use crate::scheme::Scheme;

/// How a range is chosen from what was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The least and the greatest number.
    MinMax,
    /// A running mean of each sample's ends; the newest weighs this much.
    Ema(f64),
    /// The ends that this share of all numbers stays within, in percent.
    Percentile(f64),
    /// The ends that lose least information (Kullback–Leibler), as in TensorRT.
    Entropy,
    /// The ends with the least mean squared error of rounding and clipping.
    Mse,
}

impl Method {
    /// `minmax`, `ema`, `ema=0.1`, `percentile`, `percentile=99.99`, `entropy`, `mse`, `auto`.
    pub fn parse(text: &str) -> Result<Method, String> {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => {
                let number: f64 = number.parse().map_err(|_| format!("{number} is no number"))?;
                (name, Some(number))
            }
            None => (text, None),
        };
        let method = match name {
            "minmax" => Method::MinMax,
            "ema" => Method::Ema(number.unwrap_or(0.1)),
            "percentile" => Method::Percentile(number.unwrap_or(99.99)),
            "entropy" => Method::Entropy,
            "mse" | "auto" => Method::Mse,
            other => {
                return Err(format!(
                    "{other} is no method: minmax, ema=0.1, percentile=99.99, entropy, mse"
                ));
            }
        };
        match method {
            Method::Ema(x) if !(x > 0.0 && x <= 1.0) => Err(format!("{x} is not in (0, 1]")),
            Method::Percentile(x) if !(x > 50.0 && x <= 100.0) => {
                Err(format!("{x} is not in (50, 100]"))
            }
            Method::MinMax | Method::Entropy | Method::Mse if number.is_some() => {
                Err(format!("{name} takes no number"))
            }
            method => Ok(method),
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Method::MinMax => write!(f, "minmax"),
            Method::Ema(x) => write!(f, "ema={x}"),
            Method::Percentile(x) => write!(f, "percentile={x}"),
            Method::Entropy => write!(f, "entropy"),
            Method::Mse => write!(f, "mse"),
        }
    }
}

/// Bins of a histogram.
pub const BINS: usize = 4096;

/// What was seen of one value.
#[derive(Clone, Debug)]
pub struct Observer {
    lo: f32,
    hi: f32,
    /// The running mean of each sample's ends, and the weight of the newest.
    mean: Option<(f64, f64)>,
    weight: f64,
    /// Numbers by size: bin `i` holds [(i - BINS/2) · step, (i + 1 - BINS/2) · step).
    bins: Vec<u64>,
    /// The histogram covers [-2^exponent, 2^exponent).
    exponent: i32,
    numbers: u64,
    /// NaN and infinities, which no range can hold.
    strange: u64,
    samples: u64,
}

impl Observer {
    /// An observer that has seen nothing; `method` says what it must remember.
    pub fn new(method: Method) -> Observer {
        let counts = matches!(method, Method::Percentile(_) | Method::Entropy | Method::Mse);
        let weight = if let Method::Ema(weight) = method { weight } else { 1.0 };
        Observer {
            lo: f32::INFINITY,
            hi: f32::NEG_INFINITY,
            mean: None,
            weight,
            bins: if counts { vec![0; BINS] } else { Vec::new() },
            exponent: i32::MIN,
            numbers: 0,
            strange: 0,
            samples: 0,
        }
    }

    /// Sees the numbers of one sample.
    pub fn see(&mut self, x: &[f32]) {
        let (mut lo, mut hi) = ends(x);
        let whole = lo.is_finite() && hi.is_finite() && !x.iter().any(|x| x.is_nan());
        let kept: Vec<f32>;
        let mut x = x;
        if !whole {
            kept = x.iter().copied().filter(|x| x.is_finite()).collect();
            self.strange += (x.len() - kept.len()) as u64;
            x = &kept;
            (lo, hi) = ends(x);
        }
        if x.is_empty() {
            return;
        }
        self.samples += 1;
        self.numbers += x.len() as u64;
        (self.lo, self.hi) = (self.lo.min(lo), self.hi.max(hi));
        let (lo64, hi64) = (lo as f64, hi as f64);
        self.mean = Some(match self.mean {
            None => (lo64, hi64),
            Some((a, b)) => (a + self.weight * (lo64 - a), b + self.weight * (hi64 - b)),
        });
        if !self.bins.is_empty() {
            self.count(x, lo.abs().max(hi.abs()));
        }
    }

    fn count(&mut self, x: &[f32], most: f32) {
        // 2^exponent > most; zeros alone take the least exponent there is.
        let needed = if most == 0.0 { -100 } else { (most.log2().floor() as i32 + 1).max(-100) };
        if self.exponent == i32::MIN {
            self.exponent = needed;
        }
        while self.exponent < needed {
            self.double();
        }
        let half = (BINS / 2) as f32;
        let per_unit = half / 2f32.powi(self.exponent);
        let bin = |x: f32| ((x * per_unit + half) as usize).min(BINS - 1);
        if x.len() < 4 * BINS {
            x.iter().for_each(|&x| self.bins[bin(x)] += 1);
            return;
        }
        // Neighbours often fall into one bin, and adding to it twice in a row waits: four take
        // turns.
        let mut turns = vec![[0u32; 4]; BINS];
        for x in x.chunks(1 << 30) {
            let whole = x.chunks_exact(4);
            whole.remainder().iter().for_each(|&x| turns[bin(x)][0] += 1);
            for x in whole {
                for i in 0..4 {
                    turns[bin(x[i])][i] += 1;
                }
            }
            for (sum, turn) in self.bins.iter_mut().zip(&mut turns) {
                *sum += turn.iter().map(|&n| u64::from(n)).sum::<u64>();
                *turn = [0; 4];
            }
        }
    }

    /// Twice the range: every two bins become one.
    fn double(&mut self) {
        let mut bins = vec![0; BINS];
        for (i, n) in self.bins.iter().enumerate() {
            bins[BINS / 4 + i / 2] += n;
        }
        self.bins = bins;
        self.exponent += 1;
    }

    /// How many samples had numbers in them.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// How many NaN and infinities were seen.
    pub fn strange(&self) -> u64 {
        self.strange
    }

    /// The least and the greatest number that was seen.
    pub fn ends(&self) -> Option<(f32, f32)> {
        (self.samples > 0).then_some((self.lo, self.hi))
    }

    /// The range that `method` chooses for codes of `scheme`; `None` if nothing was seen.
    pub fn range(&self, method: Method, scheme: Scheme) -> Option<(f32, f32)> {
        let (lo, hi) = self.ends()?;
        Some(match method {
            Method::MinMax => (lo, hi),
            Method::Ema(_) => self.mean.map(|(lo, hi)| (lo as f32, hi as f32))?,
            Method::Percentile(percent) => self.percentile(percent / 100.0),
            Method::Entropy => self.best(scheme, &|h, lo, hi| h.divergence(scheme, lo, hi)),
            Method::Mse => self.best(scheme, &|h, lo, hi| h.squared_error(scheme, lo, hi)),
        })
    }

    fn step(&self) -> f64 {
        2f64.powi(self.exponent) / (BINS / 2) as f64
    }

    /// The tightest range that leaves out the smaller and the larger numbers in equal shares.
    fn percentile(&self, share: f64) -> (f32, f32) {
        let out = (self.numbers as f64 * (1.0 - share) / 2.0) as u64;
        let edge = |bin: usize| (bin as f64 - (BINS / 2) as f64) * self.step();
        let past = |mut sum: u64| {
            move |i: &usize| {
                sum += self.bins[*i];
                sum > out
            }
        };
        let first = (0..BINS).find(past(0)).unwrap_or(0);
        let last = (0..BINS).rev().find(past(0)).unwrap_or(BINS - 1);
        ((edge(first) as f32).max(self.lo), (edge(last + 1) as f32).min(self.hi))
    }

    /// The range with the least cost of those that cut both ends in proportion, then one end.
    fn best(&self, scheme: Scheme, cost: &dyn Fn(&Histogram<'_>, f64, f64) -> f64) -> (f32, f32) {
        let histogram = Histogram { bins: &self.bins, step: self.step() };
        let (lo, hi) = (self.lo.min(0.0) as f64, self.hi.max(0.0) as f64);
        let at = |a: f64, b: f64| cost(&histogram, lo * a, hi * b);
        let shares = (8..=100).map(|i| i as f64 / 100.0);
        // Ties go to the wider range.
        let least = |best: (f64, f64), new: (f64, f64)| if new.0 <= best.0 { new } else { best };
        let none = (f64::INFINITY, 1.0);
        let (mut all, both) = shares.clone().map(|s| (at(s, s), s)).fold(none, least);
        let (mut a, mut b) = (both, both);
        if lo < 0.0 && hi > 0.0 && !scheme.symmetric {
            for s in shares.clone() {
                if at(s, b) < all {
                    (all, a) = (at(s, b), s);
                }
            }
            for s in shares {
                if at(a, s) < all {
                    (all, b) = (at(a, s), s);
                }
            }
        }
        ((lo * a) as f32, (hi * b) as f32)
    }

    /// What was seen, for a file.
    pub fn to_json(&self) -> Json {
        let bins: Vec<Json> = (0..self.bins.len())
            .filter(|&i| self.bins[i] > 0)
            .map(|i| json!([i, self.bins[i]]))
            .collect();
        let finite = |x: f32| if x.is_finite() { json!(x) } else { Json::Null };
        json!({"min": finite(self.lo), "max": finite(self.hi), "samples": self.samples,
               "numbers": self.numbers, "not_finite": self.strange,
               "mean_min": self.mean.map(|m| m.0), "mean_max": self.mean.map(|m| m.1),
               "exponent": (!bins.is_empty()).then_some(self.exponent), "bins": bins})
    }

    /// What [`Observer::to_json`] wrote.
    pub fn from_json(json: &Json, method: Method) -> Result<Observer, String> {
        let number = |key: &str| json[key].as_f64();
        let count = |key: &str| json[key].as_u64().ok_or_else(|| format!("{key} is no number"));
        let mut o = Observer::new(method);
        (o.samples, o.numbers) = (count("samples")?, count("numbers")?);
        o.strange = json["not_finite"].as_u64().unwrap_or(0);
        if o.samples == 0 {
            return Ok(o);
        }
        let end = |key: &str| number(key).ok_or_else(|| format!("{key} is no number"));
        (o.lo, o.hi) = (end("min")? as f32, end("max")? as f32);
        o.mean = number("mean_min").zip(number("mean_max"));
        if o.bins.is_empty() {
            return Ok(o);
        }
        let none = || format!("{method} needs a histogram, which was not recorded");
        let exponent = json["exponent"].as_i64().ok_or_else(none)?;
        o.exponent = i32::try_from(exponent).map_err(|e| e.to_string())?;
        for entry in json["bins"].as_array().ok_or_else(none)? {
            let pair = entry[0].as_u64().zip(entry[1].as_u64());
            let (i, n) = pair.filter(|(i, _)| *i < BINS as u64).ok_or("a bin that is none")?;
            o.bins[i as usize] = n;
        }
        Ok(o)
    }
}

/// The least and the greatest number.
fn ends(x: &[f32]) -> (f32, f32) {
    let mut lo = [f32::INFINITY; 16];
    let mut hi = [f32::NEG_INFINITY; 16];
    let chunks = x.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..16 {
            lo[i] = if chunk[i] < lo[i] { chunk[i] } else { lo[i] };
            hi[i] = if chunk[i] > hi[i] { chunk[i] } else { hi[i] };
        }
    }
    let lo = lo.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
    let hi = hi.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    (lo, hi)
}

struct Histogram<'a> {
    bins: &'a [u64],
    step: f64,
}

impl Histogram<'_> {
    /// The middles of the bins that hold anything, and how much.
    fn places(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let half = (self.bins.len() / 2) as f64;
        let at = move |i: usize| (i as f64 + 0.5 - half) * self.step;
        let held = self.bins.iter().enumerate().filter(|(_, n)| **n > 0);
        held.map(move |(i, &n)| (at(i), n as f64))
    }

    /// Squared error of clipping to [lo, hi], and of rounding within: step² / 12 for each number.
    fn squared_error(&self, scheme: Scheme, lo: f64, hi: f64) -> f64 {
        let p = scheme.fit(lo as f32, hi as f32);
        let (least, most) = scheme.limits();
        let (lo, hi) = (p.number(least) as f64, p.number(most) as f64);
        let rounding = (p.scale as f64).powi(2) / 12.0;
        let error = |(x, n): (f64, f64)| {
            let out = (lo - x).max(x - hi).max(0.0);
            n * (out * out + if out > 0.0 { 0.0 } else { rounding })
        };
        self.places().map(error).sum()
    }

    /// What the codes tell less than the numbers: KL(P ‖ Q), P clipped to [lo, hi] and Q its
    /// picture in so many levels, spread evenly over the bins that hold anything.
    fn divergence(&self, scheme: Scheme, lo: f64, hi: f64) -> f64 {
        let p = scheme.fit(lo as f32, hi as f32);
        let (least, most) = scheme.limits();
        let levels = (most - least + 1) as usize;
        let (mut sums, mut held) = (vec![0f64; levels], vec![0f64; levels]);
        let level = |x: f64| (p.code(x as f32) - least) as usize;
        let (low, high) = (p.number(least) as f64, p.number(most) as f64);
        let inside = |x: f64| x >= low - self.step && x <= high + self.step;
        let mut total = 0.0;
        for (x, n) in self.places() {
            total += n;
            if inside(x) {
                sums[level(x)] += n;
                held[level(x)] += 1.0;
            }
        }
        let kept: f64 = sums.iter().sum();
        let mut cost = 0.0;
        let (mut below, mut above) = (total - kept, 0.0);
        for (x, n) in self.places().filter(|(x, _)| !inside(*x)) {
            if x > 0.0 {
                above += n;
                below -= n;
            }
        }
        // What is clipped lands in the outermost numbers that are there, and Q knows nothing of it.
        let holds = |n: &f64| *n > 0.0;
        let ends = [held.iter().position(holds), held.iter().rposition(holds)];
        for (x, n) in self.places().filter(|(x, _)| inside(*x)) {
            let l = level(x);
            let below = if ends[0] == Some(l) { below } else { 0.0 };
            let above = if ends[1] == Some(l) { above } else { 0.0 };
            let extra = below + above;
            let p = (n + extra / held[l]) / total;
            let q = sums[l] / held[l] / kept;
            cost += p * (p / q).ln();
        }
        if kept == 0.0 { f64::INFINITY } else { cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bell(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    fn seen(method: Method, samples: &[Vec<f32>]) -> Observer {
        let mut o = Observer::new(method);
        samples.iter().for_each(|x| o.see(x));
        o
    }

    #[test]
    fn the_order_of_samples_does_not_matter() {
        let samples = [vec![0.001, -0.002], bell(1000, 1), vec![40.0, -3.0]];
        let back: Vec<_> = samples.iter().rev().cloned().collect();
        for method in [Method::MinMax, Method::Percentile(99.0), Method::Entropy, Method::Mse] {
            let ranges =
                [&samples[..], &back].map(|s| seen(method, s).range(method, Scheme::UINT8));
            assert_eq!(ranges[0], ranges[1], "{method}");
        }
    }

    #[test]
    fn an_outlier_is_cut_off_by_all_but_minmax() {
        let mut x = bell(20_000, 2);
        x.push(100.0);
        let of = |method| seen(method, &[x.clone()]).range(method, Scheme::UINT8).unwrap();
        assert_eq!(of(Method::MinMax).1, 100.0);
        assert!(of(Method::Percentile(99.9)).1 < 10.0);
        assert!(of(Method::Entropy).1 < 20.0, "{:?}", of(Method::Entropy));
        // 100² of one number against rounding of all: the square says how far.
        assert!(of(Method::Mse).1 < 100.0, "{:?}", of(Method::Mse));
    }

    #[test]
    fn nobody_cuts_off_much_of_what_is_spread_evenly() {
        let x: Vec<f32> = (0..3456).map(|i| (i * 7919 % 3457) as f32 / 3457.0).collect();
        for method in [Method::Mse, Method::Entropy, Method::Percentile(99.9)] {
            let (lo, hi) = seen(method, &[x.clone()]).range(method, Scheme::UINT8).unwrap();
            assert!(lo <= 0.01 && hi > 0.9, "{method}: {lo} {hi}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_left_out() {
        let o = seen(Method::MinMax, &[vec![f32::NAN, 1.0, f32::INFINITY, -2.0]]);
        assert_eq!((o.ends(), o.strange()), (Some((-2.0, 1.0)), 2));
        assert_eq!(seen(Method::Mse, &[vec![f32::NAN]]).range(Method::Mse, Scheme::UINT8), None);
    }

    #[test]
    fn what_is_kept_in_a_file_says_the_same() {
        let o = seen(Method::Mse, &[bell(500, 3)]);
        let back = Observer::from_json(&o.to_json(), Method::Mse).unwrap();
        for method in [Method::MinMax, Method::Mse, Method::Percentile(99.0)] {
            assert_eq!(back.range(method, Scheme::UINT8), o.range(method, Scheme::UINT8));
        }
        let minmax = seen(Method::MinMax, &[vec![1.0]]).to_json();
        assert!(Observer::from_json(&minmax, Method::Mse).is_err());
    }

    #[test]
    fn running_means_follow_the_samples() {
        let o = seen(Method::Ema(0.5), &[vec![0.0, 1.0], vec![0.0, 3.0]]);
        assert_eq!(o.range(Method::Ema(0.5), Scheme::UINT8), Some((0.0, 2.0)));
    }

    #[test]
    fn methods_are_parsed() {
        assert_eq!(Method::parse("percentile=99.9"), Ok(Method::Percentile(99.9)));
        assert!(Method::parse("percentile=5").is_err() && Method::parse("mse=3").is_err());
        assert!(Method::parse("best").is_err());
    }
}
