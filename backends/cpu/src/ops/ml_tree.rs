//! Tree ensembles: rows in blocks, trees in order, one row's votes always added in that order.
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{Aggregate, Labels, PostTransform, TreeEnsemble, TreeOutput};
use rinfer_graph::sync::Mutex;
use rinfer_graph::{DType, Element, Reason, Tensor, invalid, scarce, with_dtype};

use super::ml;
use super::ml_forest::{Real, Trees};
use crate::kernel::{Cx, Kernel};
use crate::par;

/// Rows that are scored together: their scores stay in L1 while the trees pass.
const ROWS: usize = 64;

/// The votes for one target; whether there was one decides some rules.
#[derive(Clone, Copy)]
struct Score<T> {
    sum: T,
    voted: bool,
}

/// How a row's votes become its scores and its class.
struct Finish {
    aggregate: Aggregate,
    post: PostTransform,
    base: Vec<f64>,
    targets: usize,
    trees: usize,
    /// What a classifier needs; `None` for scores alone.
    classes: Option<Classes>,
}

struct Classes {
    /// There are two classes, and this is the only one that votes are for.
    only: Option<usize>,
    /// No vote is negative: scores are probabilities.
    positive: bool,
}

pub(super) fn compile(op: &TreeEnsemble, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    match sizes.last() {
        None => return Err(invalid!("rank 0 where rows are needed")),
        Some(&n) if n < op.features().max(1) => {
            return Err(invalid!("{n} features where {} are needed", op.features().max(1)));
        }
        Some(_) => {}
    }
    match op.forest.double || cx.dtype(0)? == DType::F64 {
        true => typed(op, cx, Trees::new(&op.forest)?, ml::as_f64),
        false => typed(op, cx, Trees::new(&op.forest)?, ml::as_f32),
    }
}

fn typed<T: Real>(
    op: &TreeEnsemble,
    cx: &Cx<'_>,
    trees: Trees<T>,
    convert: impl Fn(&Tensor) -> Result<std::borrow::Cow<'_, [T]>, Reason> + Send + Sync + 'static,
) -> Result<Kernel, Reason> {
    let finish = Finish::new(op);
    let labels: Option<Labels> = match &op.output {
        // Of a single class it is said whether a row belongs to it.
        TreeOutput::Classes(labels) if labels.len() == 1 => Some(Labels::Ints(vec![0, 1])),
        TreeOutput::Classes(labels) => Some(labels.clone()),
        _ => None,
    };
    let dtype = match op.output {
        TreeOutput::Same(_) => cx.dtype(0)?,
        _ => DType::F32,
    };
    Ok(Kernel::values(move |inputs, cx| {
        let x = inputs.first().and_then(Option::as_ref);
        let x = x.ok_or_else(|| invalid!("input 0 is missing"))?.as_tensor()?;
        let (rows, features) = ml::rows_and_features(x)?;
        let x = convert(x)?;
        let mut y = Tensor::try_zeros(dtype, &[rows, finish.targets])?;
        let mut classes = scarce::zeros::<u32>(rows);
        let batch = Batch { trees: &trees, finish: &finish, features, cx };
        with_dtype!(dtype, [f32, f64, half::f16], Y => {
            batch.run(&x, y.as_mut_slice::<Y>(), &mut classes)?
        }, else return Err(invalid!("scores of type {dtype}")));
        Ok(match &labels {
            Some(labels) => vec![ml::labels(labels, &classes)?, y.into()],
            None => vec![y.into()],
        })
    }))
}

/// What every block of rows needs.
struct Batch<'a, T> {
    trees: &'a Trees<T>,
    finish: &'a Finish,
    features: usize,
    cx: &'a RunCx<'a>,
}

impl<T: Real> Batch<'_, T> {
    fn run<Y: FromScore>(&self, x: &[T], y: &mut [Y], classes: &mut [u32]) -> Result<(), Reason> {
        let (x_len, y_len) = (self.features * ROWS, self.finish.targets * ROWS);
        let blocks = classes.len().div_ceil(ROWS);
        // Two nanoseconds a step, some eight steps a walk.
        let block_ns = ROWS * (self.finish.trees * 16 + 20 * self.finish.targets);
        let failed = Mutex::new(None);
        let work = ((x, x_len), (y, y_len), (classes, ROWS));
        par::split(work, blocks, par::grain(block_ns), |_, (x, y, classes)| {
            let blocks = x.0.chunks(x_len).zip(y.0.chunks_mut(y_len));
            for ((x, y), classes) in blocks.zip(classes.0.chunks_mut(ROWS)) {
                if let Err(reason) = self.cx.check() {
                    *failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(reason);
                    return;
                }
                self.block(x, y, classes);
            }
        });
        match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    fn block<Y: FromScore>(&self, x: &[T], y: &mut [Y], classes: &mut [u32]) {
        let targets = self.finish.targets;
        let none = Score { sum: T::from_f64(0.0), voted: false };
        let mut scores = vec![none; classes.len() * targets];
        let mut tally = |better: fn(T, T) -> bool| {
            self.trees.score(x, self.features, |row, target, weight| {
                let score = &mut scores[row * targets + target as usize];
                if !score.voted || better(weight, score.sum) {
                    *score = Score { sum: weight, voted: true };
                }
            });
        };
        match self.finish.aggregate {
            Aggregate::Min => tally(|a, b| a < b),
            Aggregate::Max => tally(|a, b| a > b),
            Aggregate::Sum | Aggregate::Average => {
                self.trees.score(x, self.features, |row, target, weight| {
                    let score = &mut scores[row * targets + target as usize];
                    score.sum += weight;
                    score.voted = true;
                });
            }
        }
        let mut row = Vec::with_capacity(targets);
        let scores = scores.chunks(targets).zip(y.chunks_mut(targets));
        for ((scores, y), class) in scores.zip(classes) {
            row.clear();
            row.extend(scores.iter().map(|s| s.voted.then(|| s.sum.to_f64())));
            *class = self.finish.row(&mut row, y);
        }
    }
}

/// A type of scores.
trait FromScore: Element {
    fn from_score(x: f64) -> Self;
}
impl FromScore for f32 {
    fn from_score(x: f64) -> f32 {
        x as f32
    }
}
impl FromScore for f64 {
    fn from_score(x: f64) -> f64 {
        x
    }
}
impl FromScore for half::f16 {
    fn from_score(x: f64) -> half::f16 {
        half::f16::from_f64(x)
    }
}

impl Finish {
    fn new(op: &TreeEnsemble) -> Finish {
        let votes = || op.forest.leaves.iter().flatten();
        let first = votes().next().map(|vote| vote.target);
        let one = op.targets() == 2 && votes().all(|vote| Some(vote.target) == first);
        let classes = matches!(op.output, TreeOutput::Classes(_)).then(|| Classes {
            only: first.filter(|_| one),
            positive: votes().all(|vote| vote.weight >= 0.0),
        });
        Finish {
            aggregate: op.aggregate,
            post: op.post_transform,
            base: op.base_values.clone(),
            targets: op.targets(),
            trees: op.forest.roots.len(),
            classes,
        }
    }

    /// Writes the scores of a row and returns its class, if there are classes.
    fn row<Y: FromScore>(&self, votes: &mut [Option<f64>], y: &mut [Y]) -> u32 {
        if self.aggregate == Aggregate::Average {
            votes.iter_mut().flatten().for_each(|v| *v /= self.trees as f64);
        }
        let mut z: smallvec::SmallVec<[f64; 16]> = votes.iter().map(|v| v.unwrap_or(0.0)).collect();
        if self.base.len() == z.len() {
            z.iter_mut().zip(&self.base).for_each(|(z, b)| *z += b);
        }
        let class = match &self.classes {
            Some(classes) => self.classify(classes, votes, &mut z),
            None => {
                self.transform(&mut z);
                0
            }
        };
        y.iter_mut().zip(&z).for_each(|(y, &z)| *y = Y::from_score(z));
        class
    }

    /// ONNX Runtime gives a single score back as it is unless PROBIT is asked for, and models are
    /// exported for that.
    fn transform(&self, z: &mut [f64]) {
        if z.len() > 1 || self.post == PostTransform::Probit {
            ml::transform(self.post, z);
        }
    }

    /// Transforms the scores of a row and returns its class.
    fn classify(&self, classes: &Classes, votes: &[Option<f64>], z: &mut [f64]) -> u32 {
        let least = if classes.positive { 0.5 } else { 0.0 };
        match (z.len(), classes.only) {
            (1, _) => {
                let class = z[0] > 0.0;
                self.transform(z);
                u32::from(class)
            }
            // All trees vote for one of two classes, as gradient boosting does: what speaks for
            // the one speaks against the other.
            (_, Some(0)) if self.base.len() < 2 => {
                let s = z[0] + self.base.first().copied().unwrap_or(0.0);
                let against = if classes.positive { 1.0 - s } else { -s };
                [z[0], z[1]] = match self.post {
                    PostTransform::Logistic => [ml::logistic(-s), ml::logistic(s)],
                    PostTransform::Probit => [ml::probit(1.0 - s), ml::probit(s)],
                    _ => [against, s],
                };
                u32::from(s > least)
            }
            (_, Some(only)) => {
                let class = z[only] > least;
                self.transform(z);
                u32::from(class)
            }
            _ => {
                let counts = |i: usize| votes[i].is_some() || !self.base.is_empty();
                let mut best = None;
                for (i, &score) in z.iter().enumerate().filter(|&(i, _)| counts(i)) {
                    if best.is_none_or(|b: usize| score > z[b]) {
                        best = Some(i);
                    }
                }
                self.transform(z);
                best.unwrap_or(0) as u32
            }
        }
    }
}
