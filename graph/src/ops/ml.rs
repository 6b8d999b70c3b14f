//! What several operators of ai.onnx.ml share: labels of classes, transforms of scores.
use crate::onnx::NodeCx;
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Reason, Tensor, Value, invalid};

/// The names of classes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

impl Labels {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Labels::Ints(labels) => labels.len(),
            Labels::Texts(labels) => labels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of a tensor of them.
    pub fn dtype(&self) -> DType {
        match self {
            Labels::Ints(_) => DType::I64,
            Labels::Texts(_) => DType::String,
        }
    }

    /// The labels in one of two attributes; `Err` if neither or both are given.
    pub(super) fn read(cx: &NodeCx<'_>, ints: &str, texts: &str) -> Result<Labels, Reason> {
        let some = |n: usize| n > 0;
        match (
            cx.ints(ints)?.filter(|v| some(v.len())),
            cx.strings(texts)?.filter(|v| some(v.len())),
        ) {
            (Some(labels), None) => Ok(Labels::Ints(labels)),
            (None, Some(labels)) => Ok(Labels::Texts(labels)),
            (None, None) => Err(invalid!("neither {ints} nor {texts} is given")),
            (Some(_), Some(_)) => Err(invalid!("both {ints} and {texts} are given")),
        }
    }
}

/// What is done to the scores of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PostTransform {
    None,
    Softmax,
    Logistic,
    /// Softmax that leaves scores near zero out.
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    /// The attribute `post_transform`, a name.
    pub(super) fn read(cx: &NodeCx<'_>) -> Result<PostTransform, Reason> {
        Ok(match cx.string("post_transform")?.unwrap_or("NONE") {
            "NONE" => PostTransform::None,
            "SOFTMAX" => PostTransform::Softmax,
            "LOGISTIC" => PostTransform::Logistic,
            "SOFTMAX_ZERO" => PostTransform::SoftmaxZero,
            "PROBIT" => PostTransform::Probit,
            other => return Err(invalid!("post_transform {other:?} is unknown")),
        })
    }
}

/// Rows and features of the input of a model over rows: rank 2, or rank 1 for one row.
pub(super) fn rows_and_features(x: &Fact) -> Result<(Dim, Dim), Reason> {
    match x.shape() {
        None => Ok((Dim::Unknown, Dim::Unknown)),
        Some([f]) => Ok((Dim::N(1), f.clone())),
        Some([n, f]) => Ok((n.clone(), f.clone())),
        Some(shape) => Err(invalid!("rank {} where rows of features are needed", shape.len())),
    }
}

/// `Err` if the input has certainly fewer features than are read.
pub(super) fn check_features(features: &Dim, needed: usize) -> Result<(), Reason> {
    match features.size() {
        Some(n) if n < needed => Err(invalid!("{n} features where {needed} are needed")),
        _ => Ok(()),
    }
}

/// The dtypes that models over rows take: float, double, int64, int32.
pub(super) fn check_numbers(x: &Fact) -> Result<(), Reason> {
    match x.dtype()? {
        DType::F32 | DType::F64 | DType::I64 | DType::I32 => Ok(()),
        other => Err(invalid!("features of type {other}")),
    }
}

/// The facts of a classifier's outputs: labels \[n\], scores \[n, classes\].
pub(super) fn classified(rows: &Dim, labels: &Labels) -> crate::Facts {
    let labels_shape: Shape = [rows.clone()].into_iter().collect();
    let scores: Shape = [rows.clone(), Dim::from(labels.len())].into_iter().collect();
    smallvec::smallvec![Fact::new(labels.dtype(), labels_shape), Fact::new(DType::F32, scores)]
}

/// The elements of a tensor of floats, exact.
pub(super) fn floats_of(name: &str, t: &Tensor) -> Result<Vec<f64>, Reason> {
    Ok(match t.dtype() {
        DType::F32 => t.as_slice::<f32>().iter().map(|&x| x as f64).collect(),
        DType::F64 => t.as_slice::<f64>().to_vec(),
        DType::F16 => t.as_slice::<half::f16>().iter().map(|x| x.to_f64()).collect(),
        other => return Err(invalid!("attribute {name} is a tensor of {other}")),
    })
}

/// A tensor attribute; `None` if it is not given or has no elements.
pub(super) fn tensor(cx: &NodeCx<'_>, name: &str) -> Result<Option<Tensor>, Reason> {
    let value = cx.tensor(name)?.map(Value::into_tensor).transpose()?;
    Ok(value.filter(|t| !t.is_empty()))
}
