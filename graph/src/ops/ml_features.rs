//! Features made ready for models (ai.onnx.ml Normalizer, Scaler, Imputer, Binarizer,
//! OneHotEncoder, FeatureVectorizer, ArrayFeatureExtractor).
use super::ml::{Labels, check_numbers, rows_and_features};
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, Type, invalid};

/// What a row is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Its largest element.
    Max,
    /// The sum of the absolute values.
    L1,
    /// The root of the sum of the squares.
    L2,
}

/// What is done with features. The last axis is that of the features, the others are rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// x / norm(row) as float; rows of norm 0 stay.
    Normalize(Norm),
    /// (x - offset) · scale as float; one offset and scale for all features, or one for each.
    #[allow(missing_docs)]
    Scale { offset: Vec<f32>, scale: Vec<f32> },
    /// x, but the value where it is `replaced`, for floats; one value for all, or one for each.
    #[allow(missing_docs)]
    ImputeFloats { values: Vec<f32>, replaced: f32 },
    /// The same for integers.
    #[allow(missing_docs)]
    ImputeInts { values: Vec<i64>, replaced: i64 },
    /// 1 where x is above the threshold, 0 elsewhere.
    Binarize(f32),
    /// x \[..\] → \[.., categories\] of float, 1 at the category that x is.
    OneHot {
        /// The categories.
        categories: Labels,
        /// Whether an unknown category is all zeros; if not it is an error.
        zeros: bool,
    },
    /// x \[n, k\].. → the first `sizes` columns of each, side by side, as float; what is missing
    /// is 0.
    Concat {
        /// How many columns of each input.
        sizes: Vec<usize>,
    },
    /// x \[.., k\], indices → x \[.., indices\]; a vector is one row.
    Select,
}

impl Features {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let last = x.shape().and_then(<[Dim]>::last).and_then(Dim::size);
        let per_feature = |what: &str, n: usize| match last {
            Some(last) if n != 1 && n != last => Err(invalid!("{n} {what} for {last} features")),
            _ => Ok(()),
        };
        let as_float = || Fact { ty: Type::Tensor(DType::F32), ..x.clone().forget() };
        one(match self {
            Features::Normalize(_) => {
                check_numbers(x)?;
                as_float()
            }
            Features::Scale { offset, scale } => {
                check_numbers(x)?;
                per_feature("offsets", offset.len())?;
                per_feature("scales", scale.len())?;
                as_float()
            }
            Features::ImputeFloats { values, .. } => match x.dtype()? {
                DType::F32 | DType::F64 => {
                    per_feature("values", values.len())?;
                    x.clone().forget()
                }
                other => return Err(invalid!("floats in place of values of type {other}")),
            },
            Features::ImputeInts { values, .. } => match x.dtype()? {
                DType::I32 | DType::I64 => {
                    per_feature("values", values.len())?;
                    x.clone().forget()
                }
                other => return Err(invalid!("integers in place of values of type {other}")),
            },
            Features::Binarize(_) => {
                check_numbers(x)?;
                x.clone().forget()
            }
            Features::OneHot { categories, .. } => {
                if (x.dtype()? == DType::String) != matches!(categories, Labels::Texts(_)) {
                    return Err(invalid!("categories of another type than {}", x.ty));
                }
                let mut fact = as_float();
                if let Some(shape) = &mut fact.shape {
                    shape.push(Dim::from(categories.len()));
                }
                fact
            }
            Features::Concat { sizes } => concat(sizes, inputs)?,
            Features::Select => select(x, inputs.get(1)?)?,
        })
    }
}

fn concat(sizes: &[usize], inputs: &Inputs<'_>) -> Result<Fact, Reason> {
    if sizes.len() != inputs.len() {
        return Err(invalid!("{} sizes for {} inputs", sizes.len(), inputs.len()));
    }
    let mut rows = Dim::Unknown;
    for i in 0..inputs.len() {
        let x = inputs.get(i)?;
        check_numbers(x)?;
        let (n, _) = rows_and_features(x)?;
        match (rows.value(), n.value()) {
            (Some(a), Some(b)) if a != b => return Err(invalid!("{a} rows beside {b}")),
            (None, _) => rows = n,
            _ => {}
        }
    }
    let width = sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    let width = width.ok_or_else(|| invalid!("sizes {sizes:?} are too large"))?;
    Ok(Fact::new(DType::F32, [rows, Dim::from(width)].into_iter().collect()))
}

fn select(x: &Fact, indices: &Fact) -> Result<Fact, Reason> {
    let dtype = x.dtype()?;
    if indices.dtype()? != DType::I64 {
        return Err(invalid!("indices of type {}", indices.ty));
    }
    let Some(shape) = x.shape() else { return Ok(Fact::unranked(dtype)) };
    let n = indices.len().map_or(Dim::Unknown, Dim::from);
    Ok(match shape {
        [] => return Err(invalid!("features of rank 0")),
        [_] => Fact::new(dtype, [Dim::N(1), n].into_iter().collect()),
        [rows @ .., _] => Fact::new(dtype, rows.iter().cloned().chain([n]).collect()),
    })
}

pub(super) fn import_normalizer(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let norm = match cx.string("norm")?.unwrap_or("MAX") {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        other => return Err(invalid!("norm {other:?} is unknown")),
    };
    cx.emit(Features::Normalize(norm))
}

pub(super) fn import_scaler(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let offset = cx.floats("offset")?.filter(|v| !v.is_empty()).unwrap_or_else(|| vec![0.0]);
    let scale = cx.floats("scale")?.filter(|v| !v.is_empty()).unwrap_or_else(|| vec![1.0]);
    cx.emit(Features::Scale { offset, scale })
}

pub(super) fn import_imputer(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let floats = cx.floats("imputed_value_floats")?.filter(|v| !v.is_empty());
    let ints = cx.ints("imputed_value_int64s")?.filter(|v| !v.is_empty());
    let float = cx.float("replaced_value_float")?.unwrap_or(0.0);
    let int = cx.int("replaced_value_int64")?.unwrap_or(0);
    let is_float = cx.dtype(cx.input(0)?)?.is_float();
    match (is_float, floats, ints) {
        (true, Some(values), _) => cx.emit(Features::ImputeFloats { values, replaced: float }),
        (false, _, Some(values)) => cx.emit(Features::ImputeInts { values, replaced: int }),
        _ => Err(invalid!("no imputed values of the input's type")),
    }
}

pub(super) fn import_binarizer(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let threshold = cx.float("threshold")?.unwrap_or(0.0);
    cx.emit(Features::Binarize(threshold))
}

pub(super) fn import_one_hot(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let categories = Labels::read(cx, "cats_int64s", "cats_strings")?;
    let zeros = cx.flag("zeros", true)?;
    cx.emit(Features::OneHot { categories, zeros })
}

pub(super) fn import_vectorizer(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, usize::MAX)?;
    let sizes = cx.ints("inputdimensions")?.unwrap_or_default();
    let size = |n: i64| usize::try_from(n).map_err(|_| invalid!("{n} in inputdimensions"));
    let sizes = sizes.into_iter().map(size).collect::<Result<_, _>>()?;
    cx.emit(Features::Concat { sizes })
}

pub(super) fn import_extractor(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    cx.emit(Features::Select)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(op: Features, facts: &[Fact]) -> Result<Fact, Reason> {
        let facts: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        op.infer(&Inputs::new(&facts, 1)).map(|mut f| f.remove(0))
    }

    #[test]
    fn there_is_one_scale_or_one_for_each_feature() {
        let op = |n: usize| Features::Scale { offset: vec![0.0], scale: vec![1.0; n] };
        let x = Fact::sized(DType::I64, &[5, 3]);
        assert_eq!(infer(op(1), &[x.clone()]).unwrap(), Fact::sized(DType::F32, &[5, 3]));
        assert!(infer(op(3), &[x.clone()]).is_ok());
        assert!(infer(op(2), &[x]).is_err());
    }

    #[test]
    fn columns_are_selected_and_put_side_by_side() {
        let (x, i) = (Fact::sized(DType::F32, &[3]), Fact::sized(DType::I64, &[1, 2]));
        assert_eq!(infer(Features::Select, &[x, i]).unwrap(), Fact::sized(DType::F32, &[1, 2]));
        let (x, y) = (Fact::sized(DType::F32, &[4, 3]), Fact::sized(DType::I64, &[4, 1]));
        let op = Features::Concat { sizes: vec![2, 1] };
        assert_eq!(infer(op.clone(), &[x.clone(), y]).unwrap(), Fact::sized(DType::F32, &[4, 3]));
        assert!(infer(op, &[x, Fact::sized(DType::F32, &[5, 1])]).is_err());
    }
}
