//! Metrics: how good outputs are beside the float model's, or beside the right answers.
//!
//! Each sample gives outcomes; a metric is one number of many outcomes, so that it can be drawn
//! again from some of them (the bootstrap).

use rinfer::{DType, Tensor, Value};

/// What is measured. Larger is better, in all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// How often the largest number stands at the label, in percent; without labels: where the
    /// float model has it. What has a label below zero is not counted.
    Top1,
    /// The mean over classes of F1, in percent; labels as for top1.
    F1,
    /// The mean cosine of outputs and the float model's, in percent.
    Cosine,
    /// The mean signal over noise, in decibels.
    Sqnr,
    /// The mean Kullback–Leibler divergence from the float model's softmax, negative, in nats.
    Kl,
    /// What a command of the user prints.
    Command(String),
}

impl Metric {
    /// `top1`, `f1`, `cos`, `sqnr`, `kl`, `cmd:…`.
    ///
    /// # Errors
    /// It is none of them.
    pub fn parse(text: &str) -> Result<Metric, String> {
        Ok(match text {
            "top1" => Metric::Top1,
            "f1" => Metric::F1,
            "cos" => Metric::Cosine,
            "sqnr" => Metric::Sqnr,
            "kl" => Metric::Kl,
            other => match other.strip_prefix("cmd:") {
                Some(command) => Metric::Command(command.into()),
                None => return Err(format!("{other}: top1, f1, cos, sqnr, kl, cmd:COMMAND")),
            },
        })
    }

    /// Its unit.
    pub fn unit(&self) -> &'static str {
        match self {
            Metric::Top1 | Metric::F1 | Metric::Cosine => "%",
            Metric::Sqnr => " dB",
            Metric::Kl => " nats",
            Metric::Command(_) => "",
        }
    }

    /// What the float model has by itself.
    pub fn perfect(&self) -> f64 {
        match self {
            Metric::Kl => 0.0,
            Metric::Sqnr => f64::INFINITY,
            _ => 100.0,
        }
    }

    /// The outcomes of a sample.
    pub fn outcomes(&self, want: &[Value], got: &[Value], labels: Option<&[i64]>) -> Vec<Outcome> {
        let pairs = want.iter().zip(got).filter_map(|(a, b)| Some((floats(a)?, floats(b)?)));
        match self {
            Metric::Top1 | Metric::F1 => {
                let Some(((width, want), (_, got))) = pairs.into_iter().next() else {
                    return Vec::new();
                };
                let rows = want.chunks(width.max(1)).zip(got.chunks(width.max(1))).enumerate();
                let counted = |(i, (want, got)): (usize, (&[f32], &[f32]))| {
                    let label = labels.and_then(|l| l.get(i).copied());
                    let want = label.unwrap_or_else(|| largest(want));
                    (want >= 0).then(|| Outcome::Class { want, got: largest(got) })
                };
                rows.filter_map(counted).collect()
            }
            Metric::Kl => {
                let mut all = Vec::new();
                for ((width, want), (_, got)) in pairs {
                    let rows = want.chunks(width.max(1)).zip(got.chunks(width.max(1)));
                    all.extend(rows.map(|(a, b)| Outcome::Number(-divergence(a, b))));
                }
                all
            }
            _ => pairs.map(|((_, a), (_, b))| Outcome::Number(self.of(&a, &b))).collect(),
        }
    }

    fn of(&self, want: &[f32], got: &[f32]) -> f64 {
        match self {
            Metric::Sqnr => crate::weights::sqnr(want, got).min(120.0),
            _ => 100.0 * cosine(want, got),
        }
    }

    /// The metric of these outcomes.
    pub fn value<'a>(&self, outcomes: impl Iterator<Item = &'a Outcome>) -> f64 {
        if *self == Metric::F1 {
            return macro_f1(outcomes);
        }
        let (mut sum, mut n) = (0.0, 0.0);
        for outcome in outcomes {
            sum += match outcome {
                Outcome::Number(x) => *x,
                Outcome::Class { want, got } => 100.0 * f64::from(u8::from(want == got)),
            };
            n += 1.0;
        }
        if n == 0.0 { f64::NAN } else { sum / n }
    }
}

/// What a sample says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// A class, and the right one.
    Class {
        /// The right one.
        want: i64,
        /// The one found.
        got: i64,
    },
    /// A number whose mean is the metric.
    Number(f64),
}

/// The mean over classes of 2·hits / (answers + cases).
fn macro_f1<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> f64 {
    let mut classes = std::collections::BTreeMap::<i64, (f64, f64)>::new();
    for outcome in outcomes {
        let Outcome::Class { want, got } = outcome else { continue };
        classes.entry(*want).or_default().1 += 1.0;
        classes.entry(*got).or_default().1 += 1.0;
        if want == got {
            classes.entry(*got).or_default().0 += 1.0;
        }
    }
    let n = classes.len() as f64;
    100.0 * classes.values().map(|(hits, all)| 2.0 * hits / all).sum::<f64>() / n
}

/// A value's numbers, and the size of its last axis.
pub(crate) fn floats(v: &Value) -> Option<(usize, Vec<f32>)> {
    let Value::Tensor(t) = v else { return None };
    let numbers = match t.dtype() {
        DType::F32 => t.as_slice::<f32>().to_vec(),
        DType::F64 => t.as_slice::<f64>().iter().map(|&x| x as f32).collect(),
        DType::F16 => t.as_slice::<half::f16>().iter().map(|x| x.to_f32()).collect(),
        DType::BF16 => t.as_slice::<half::bf16>().iter().map(|x| x.to_f32()).collect(),
        _ => return None,
    };
    Some((Tensor::shape(t).last().copied().unwrap_or(1), numbers))
}

fn largest(row: &[f32]) -> i64 {
    let better =
        |best: (usize, f32), (i, &x): (usize, &f32)| if x > best.1 { (i, x) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0 as i64
}

/// The cosine of the angle between two vectors; 1 if both are zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&x, &y)| x as f64 * y as f64).sum() };
    let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
    if aa == 0.0 && bb == 0.0 { 1.0 } else { ab / (aa * bb).sqrt().max(f64::MIN_POSITIVE) }
}

/// KL(softmax(want) ‖ softmax(got)).
fn divergence(want: &[f32], got: &[f32]) -> f64 {
    let log_softmax = |x: &[f32]| -> Vec<f64> {
        let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let sum: f64 = x.iter().map(|&x| (x as f64 - most).exp()).sum();
        x.iter().map(|&x| x as f64 - most - sum.ln()).collect()
    };
    let (p, q) = (log_softmax(want), log_softmax(got));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>().max(0.0)
}

/// Noise over signal of outputs beside the float model's: how much a change harms, in one number
/// that has no steps.
pub fn damage(want: &[Value], got: &[Value]) -> f64 {
    let (mut signal, mut noise) = (0f64, 0f64);
    for (want, got) in want.iter().zip(got) {
        let (Some((_, a)), Some((_, b))) = (floats(want), floats(got)) else { continue };
        for (&x, &y) in a.iter().zip(&b) {
            let d = x as f64 - y as f64;
            signal += x as f64 * x as f64;
            noise += if d.is_finite() { d * d } else { f64::from(u8::from(x != y)) * 1e30 };
        }
    }
    if signal == 0.0 { noise } else { noise / signal }
}

/// What is asked of the metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most so much less than the float model.
    Drop(f64),
    /// At least this share of the float model's, in percent.
    Share(f64),
    /// At least this.
    Least(f64),
}

impl Goal {
    /// The least that the quantized model must have.
    pub fn least(self, float: f64) -> f64 {
        match self {
            Goal::Drop(drop) => float - drop,
            Goal::Share(share) => float * share / 100.0,
            Goal::Least(least) => least,
        }
    }
}

/// The metric's drop with an interval that holds the true one in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// What was measured.
    pub drop: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The drop from `float` to `quantized`, sample by sample, drawn again 2000 times (paired
/// bootstrap). Where no draw differs, the rule of three says what may have been missed.
pub fn interval(
    metric: &Metric,
    float: &[Vec<Outcome>],
    quantized: &[Vec<Outcome>],
    seed: u64,
) -> Interval {
    const DRAWS: usize = 2000;
    let n = float.len();
    let value = |of: &[Vec<Outcome>], which: &[usize]| {
        metric.value(which.iter().flat_map(|&i| of[i].iter()))
    };
    let all: Vec<usize> = (0..n).collect();
    let drop = value(float, &all) - value(quantized, &all);
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut draw = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) as usize) % n.max(1)
    };
    let mut drops: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let which: Vec<usize> = (0..n).map(|_| draw()).collect();
            value(float, &which) - value(quantized, &which)
        })
        .collect();
    drops.sort_by(f64::total_cmp);
    let (low, mut high) = (drops[DRAWS / 40], drops[DRAWS - 1 - DRAWS / 40]);
    let classes = matches!(metric, Metric::Top1 | Metric::F1);
    let cases: usize = float.iter().map(Vec::len).sum();
    if classes && cases > 0 && low == high {
        high = drop + 300.0 / cases as f64;
    }
    Interval { drop, low, high }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(x: &[f32]) -> Vec<Value> {
        vec![Tensor::from_slice(&[1, x.len()], x).into()]
    }

    #[test]
    fn metrics_of_known_outputs() {
        let (want, got) = (row(&[1.0, 2.0, 0.0]), row(&[3.0, 2.0, 0.0]));
        let one = |m: Metric, labels| m.value(m.outcomes(&want, &got, labels).iter());
        assert_eq!(one(Metric::Top1, None), 0.0);
        assert_eq!(one(Metric::Top1, Some(&[0][..])), 100.0);
        assert!(Metric::Top1.outcomes(&want, &got, Some(&[-1])).is_empty());
        assert!((one(Metric::Cosine, None) - 100.0 * 7.0 / (5f64 * 13.0).sqrt()).abs() < 1e-9);
        assert!((one(Metric::Sqnr, None) - 10.0 * (5.0f64 / 4.0).log10()).abs() < 1e-9);
        assert!(one(Metric::Kl, None) < -0.1);
        let same = Metric::Kl.outcomes(&want, &want, None);
        assert_eq!(Metric::Kl.value(same.iter()), 0.0);
    }

    #[test]
    fn f1_is_the_mean_over_classes() {
        let class = |want, got| Outcome::Class { want, got };
        let all = [class(0, 0), class(0, 0), class(1, 0), class(1, 1)];
        // Class 0: 2·2 / (3 + 2); class 1: 2·1 / (1 + 2).
        let f1 = Metric::F1.value(all.iter());
        assert!((f1 - 100.0 * (0.8 + 2.0 / 3.0) / 2.0).abs() < 1e-9);
    }

    #[test]
    fn few_samples_show_little() {
        let right = vec![vec![Outcome::Class { want: 1, got: 1 }]; 30];
        let same = interval(&Metric::Top1, &right, &right, 0);
        assert_eq!((same.drop, same.high), (0.0, 10.0));
        let mut worse = right.clone();
        worse[3] = vec![Outcome::Class { want: 1, got: 0 }];
        let i = interval(&Metric::Top1, &right, &worse, 0);
        assert!((i.drop - 100.0 / 30.0).abs() < 1e-9 && i.high > i.drop && i.low >= 0.0);
        assert_eq!(i, interval(&Metric::Top1, &right, &worse, 0));
    }
}
