//! Linear models and support vector machines over rows (ai.onnx.ml LinearClassifier,
//! LinearRegressor, SVMClassifier, SVMRegressor).
use super::ml::{
    Labels, PostTransform, check_features, check_numbers, classified, rows_and_features,
};
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// x \[n, f\] → scores x·Cᵀ + b \[n, targets\]; with labels also the best class, \[n\].
#[derive(Clone, Debug, PartialEq)]
pub struct LinearModel {
    /// C, rows of features, one for each target.
    pub coefficients: Vec<f32>,
    /// b; empty if it is zero.
    pub intercepts: Vec<f32>,
    /// How many scores are computed: one for two classes may be.
    pub targets: usize,
    /// What is done with a row's scores.
    pub post_transform: PostTransform,
    /// The names of the classes, if classes are asked for.
    pub labels: Option<Labels>,
}

impl LinearModel {
    /// How many features a row has.
    pub fn features(&self) -> usize {
        self.coefficients.len() / self.targets
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        check_numbers(x)?;
        let (rows, features) = rows_and_features(x)?;
        same_features(&features, self.features())?;
        match &self.labels {
            Some(labels) => Ok(classified(&rows, labels)),
            None => {
                let shape = [rows, Dim::from(self.targets)].into_iter().collect();
                one(Fact::new(DType::F32, shape))
            }
        }
    }

    fn checked(self) -> Result<LinearModel, Reason> {
        let (n, targets) = (self.coefficients.len(), self.targets);
        if targets == 0 || n == 0 || n % targets != 0 {
            return Err(invalid!("{n} coefficients for {targets} targets"));
        }
        if !self.intercepts.is_empty() && self.intercepts.len() != targets {
            return Err(invalid!("{} intercepts for {targets} targets", self.intercepts.len()));
        }
        match self.labels.as_ref().map(Labels::len) {
            Some(classes) if classes != targets && (targets, classes) != (1, 2) => {
                Err(invalid!("{targets} scores for {classes} classes"))
            }
            Some(1) => Err(unsupported!("a linear classifier with a single class")),
            _ => Ok(self),
        }
    }
}

fn same_features(features: &Dim, needed: usize) -> Result<(), Reason> {
    check_features(features, needed)?;
    match features.size() {
        Some(n) if n != needed => Err(invalid!("{n} features where {needed} are needed")),
        _ => Ok(()),
    }
}

pub(super) fn import_linear_classifier(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    // It says how a solver was trained; the scores do not depend on it.
    cx.ignore(&["multi_class"]);
    let labels = Labels::read(cx, "classlabels_ints", "classlabels_strings")?;
    let intercepts = cx.floats("intercepts")?.unwrap_or_default();
    let targets = if intercepts.is_empty() { labels.len() } else { intercepts.len() };
    let op = LinearModel {
        coefficients: cx.floats("coefficients")?.unwrap_or_default(),
        intercepts,
        targets,
        post_transform: PostTransform::read(cx)?,
        labels: Some(labels),
    };
    cx.emit(op.checked()?)
}

pub(super) fn import_linear_regressor(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let op = LinearModel {
        coefficients: cx.floats("coefficients")?.unwrap_or_default(),
        intercepts: cx.floats("intercepts")?.unwrap_or_default(),
        targets: cx.size("targets")?.unwrap_or(1),
        post_transform: PostTransform::read(cx)?,
        labels: None,
    };
    cx.emit(op.checked()?)
}

/// What two rows are compared by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SvmKernel {
    /// a·b
    Linear,
    /// (γ a·b + coef0)^degree
    #[allow(missing_docs)]
    Poly { gamma: f32, coef0: f32, degree: f32 },
    /// e^(-γ |a - b|²)
    #[allow(missing_docs)]
    Rbf { gamma: f32 },
    /// tanh(γ a·b + coef0)
    #[allow(missing_docs)]
    Sigmoid { gamma: f32, coef0: f32 },
}

/// What a support vector machine gives.
#[derive(Clone, Debug, PartialEq)]
pub enum SvmOutput {
    /// One score a row, \[n, 1\]; its sign alone if `one_class`.
    #[allow(missing_docs)]
    Score { one_class: bool },
    /// The best class \[n\], and scores.
    Classes(SvmClasses),
}

/// What a support vector classifier needs besides its vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct SvmClasses {
    /// The names of the classes.
    pub labels: Labels,
    /// How many of the vectors belong to each class; empty for a linear model.
    pub vectors: Vec<usize>,
    /// Platt's sigmoid 1 / (1 + e^(a·score + b)) for each pair of classes; empty if scores are
    /// not made probabilities.
    pub sigmoids: Vec<[f32; 2]>,
    /// What is done with a row's scores.
    pub post_transform: PostTransform,
}

/// Scores rows by how they compare with support vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct SupportVectors {
    /// What rows and vectors are compared by.
    pub kernel: SvmKernel,
    /// The vectors, one after the other; empty if the coefficients are those of a linear model.
    pub vectors: Vec<f32>,
    /// How many vectors there are.
    pub count: usize,
    /// A weight for each vector; for classes, \[classes - 1, count\] as libsvm has it.
    pub coefficients: Vec<f32>,
    /// Added to each score.
    pub rho: Vec<f32>,
    /// What is made of the scores.
    pub output: SvmOutput,
}

impl SupportVectors {
    /// How many features a row has.
    pub fn features(&self) -> usize {
        match (self.count, &self.output) {
            (0, SvmOutput::Score { .. }) => self.coefficients.len(),
            (0, SvmOutput::Classes(c)) => self.coefficients.len() / c.labels.len().max(1),
            (n, _) => self.vectors.len() / n,
        }
    }

    /// How many scores a row has.
    pub fn scores(&self) -> usize {
        match &self.output {
            SvmOutput::Score { .. } => 1,
            SvmOutput::Classes(c) => match c.labels.len() {
                n if self.count == 0 || !c.sigmoids.is_empty() || n <= 2 => n,
                n => pairs(n),
            },
        }
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        check_numbers(x)?;
        let (rows, features) = rows_and_features(x)?;
        same_features(&features, self.features())?;
        let scores = [rows.clone(), Dim::from(self.scores())].into_iter().collect();
        let scores = Fact::new(DType::F32, scores);
        match &self.output {
            SvmOutput::Score { .. } => one(scores),
            SvmOutput::Classes(c) => {
                let labels = Fact::new(c.labels.dtype(), [rows].into_iter().collect());
                Ok(smallvec::smallvec![labels, scores])
            }
        }
    }

    fn checked(self) -> Result<SupportVectors, Reason> {
        let (count, vectors) = (self.count, self.vectors.len());
        if count > 0 && (vectors == 0 || vectors % count != 0) {
            return Err(invalid!("{vectors} numbers for {count} support vectors"));
        }
        let (needed, rho) = match &self.output {
            SvmOutput::Score { .. } => (count.max(1), 1),
            SvmOutput::Classes(c) => {
                let n = c.labels.len();
                if n < 2 {
                    return Err(unsupported!("a support vector classifier with {n} classes"));
                }
                let sigmoids = c.sigmoids.len();
                if sigmoids > 0 && (sigmoids < pairs(n) || count == 0) {
                    return Err(invalid!("{sigmoids} sigmoids for {n} classes"));
                }
                if count > 0 && c.vectors.len() != n {
                    return Err(invalid!("vectors of {} classes of {n}", c.vectors.len()));
                }
                match count {
                    0 => (n, 1),
                    _ => (count.saturating_mul(n - 1), pairs(n)),
                }
            }
        };
        let short = self.coefficients.len() < needed || self.rho.len() < rho;
        let uneven = count == 0 && !self.coefficients.len().is_multiple_of(needed);
        if short || uneven || self.features() == 0 {
            return Err(invalid!(
                "{} coefficients and {} rho where {needed} and {rho} are needed",
                self.coefficients.len(),
                self.rho.len()
            ));
        }
        Ok(self)
    }
}

/// How many pairs n classes make.
fn pairs(n: usize) -> usize {
    n.saturating_mul(n.saturating_sub(1)) / 2
}

fn kernel(cx: &NodeCx<'_>, count: usize) -> Result<SvmKernel, Reason> {
    let params = cx.floats("kernel_params")?.unwrap_or_default();
    let [gamma, coef0, degree] = match params[..] {
        [] => [0.0; 3],
        [gamma, coef0, degree] => [gamma, coef0, degree],
        _ => return Err(invalid!("{} kernel_params where 3 are needed", params.len())),
    };
    Ok(match cx.string("kernel_type")?.unwrap_or("LINEAR") {
        // Without vectors the coefficients are those of a linear model.
        "LINEAR" => SvmKernel::Linear,
        "POLY" | "RBF" | "SIGMOID" if count == 0 => SvmKernel::Linear,
        "POLY" => SvmKernel::Poly { gamma, coef0, degree },
        "RBF" => SvmKernel::Rbf { gamma },
        "SIGMOID" => SvmKernel::Sigmoid { gamma, coef0 },
        other => return Err(invalid!("kernel_type {other:?} is unknown")),
    })
}

pub(super) fn import_svm_classifier(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let labels = Labels::read(cx, "classlabels_ints", "classlabels_strings")?;
    let size = |n: i64| usize::try_from(n).map_err(|_| invalid!("{n} in vectors_per_class"));
    let vectors: Vec<usize> = cx
        .ints("vectors_per_class")?
        .unwrap_or_default()
        .into_iter()
        .map(size)
        .collect::<Result<_, _>>()?;
    let count = vectors.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    let count = count.ok_or_else(|| invalid!("vectors_per_class overflows"))?;
    let (a, b) = (cx.floats("prob_a")?.unwrap_or_default(), cx.floats("prob_b")?);
    let b = b.unwrap_or_default();
    if a.len() != b.len() {
        return Err(invalid!("{} of prob_a, {} of prob_b", a.len(), b.len()));
    }
    let classes = SvmClasses {
        labels,
        vectors,
        sigmoids: a.into_iter().zip(b).map(|(a, b)| [a, b]).collect(),
        post_transform: PostTransform::read(cx)?,
    };
    import_svm(cx, count, SvmOutput::Classes(classes))
}

pub(super) fn import_svm_regressor(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    if PostTransform::read(cx)? != PostTransform::None {
        return Err(unsupported!("SVMRegressor with a post_transform is not supported"));
    }
    let one_class = cx.flag("one_class", false)?;
    let count = cx.size("n_supports")?.unwrap_or(0);
    import_svm(cx, count, SvmOutput::Score { one_class })
}

fn import_svm(cx: &mut NodeCx<'_>, count: usize, output: SvmOutput) -> Result<Outputs, Reason> {
    let op = SupportVectors {
        kernel: kernel(cx, count)?,
        vectors: cx.floats("support_vectors")?.unwrap_or_default(),
        count,
        coefficients: cx.floats("coefficients")?.unwrap_or_default(),
        rho: cx.floats("rho")?.unwrap_or_default(),
        output,
    };
    cx.emit(op.checked()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(targets: usize, classes: usize) -> Result<LinearModel, Reason> {
        LinearModel {
            coefficients: vec![0.5; 6],
            intercepts: Vec::new(),
            targets,
            post_transform: PostTransform::None,
            labels: Some(Labels::Ints((0..classes as i64).collect())),
        }
        .checked()
    }

    #[test]
    fn one_score_may_stand_for_two_classes() {
        assert_eq!(linear(1, 2).unwrap().features(), 6);
        assert_eq!(linear(3, 3).unwrap().features(), 2);
        assert!(linear(2, 3).is_err() && linear(1, 1).is_err() && linear(4, 4).is_err());
    }

    #[test]
    fn three_classes_without_probabilities_have_a_score_for_each_pair() {
        let svm = |classes: usize, sigmoids: usize| {
            SupportVectors {
                kernel: SvmKernel::Linear,
                vectors: vec![1.0; 2 * 2 * classes],
                count: 2 * classes,
                coefficients: vec![1.0; (classes - 1) * 2 * classes],
                rho: vec![0.0; pairs(classes)],
                output: SvmOutput::Classes(SvmClasses {
                    labels: Labels::Ints((0..classes as i64).collect()),
                    vectors: vec![2; classes],
                    sigmoids: vec![[1.0, 0.0]; sigmoids],
                    post_transform: PostTransform::None,
                }),
            }
            .checked()
        };
        assert_eq!(svm(4, 0).unwrap().scores(), 6);
        assert_eq!(svm(4, 6).unwrap().scores(), 4);
        assert_eq!(svm(2, 0).unwrap().scores(), 2);
        assert!(svm(4, 5).is_err());
    }
}
