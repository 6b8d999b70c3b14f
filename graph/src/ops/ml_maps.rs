//! Values looked up and maps (ai.onnx.ml LabelEncoder, CategoryMapper, CastMap, DictVectorizer,
//! ZipMap).
use super::ml::Labels;
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, Strings, Tensor, Type, Value, invalid};

/// x → the value beside the key that x is, or the default.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelEncoder {
    /// What x may be, a vector; of equal keys the first counts, and NaN equals NaN.
    pub keys: Value,
    /// What it becomes, as many as keys.
    pub values: Value,
    /// What everything else becomes, one element.
    pub default: Value,
}

impl LabelEncoder {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        if x.ty != self.keys.ty() {
            return Err(invalid!("keys of type {} for {}", self.keys.ty(), x.ty));
        }
        one(Fact { ty: self.values.ty(), ..x.clone().forget() })
    }

    fn checked(self) -> Result<LabelEncoder, Reason> {
        let len = |v: &Value| v.shape().map(|s| s.iter().product::<usize>());
        let (keys, values) = (len(&self.keys), len(&self.values));
        if keys != values || keys.is_none() {
            return Err(invalid!("{keys:?} keys for {values:?} values"));
        }
        if self.default.ty() != self.values.ty() || len(&self.default) != Some(1) {
            return Err(invalid!("a default of {} beside {}", self.default.ty(), self.values.ty()));
        }
        Ok(self)
    }
}

fn texts(data: Vec<String>) -> Result<Value, Reason> {
    Ok(Value::Text(Strings::new(&[data.len()], data)?))
}

/// The one of these attributes that is given, a list or (since version 4) a tensor.
fn column(cx: &NodeCx<'_>, name: &str) -> Result<Value, Reason> {
    let mut found = Vec::new();
    if let Some(v) = cx.ints(&format!("{name}_int64s"))?.filter(|v| !v.is_empty()) {
        found.push(Value::Tensor(Tensor::vector(&v)));
    }
    if let Some(v) = cx.floats(&format!("{name}_floats"))?.filter(|v| !v.is_empty()) {
        found.push(Value::Tensor(Tensor::vector(&v)));
    }
    if let Some(v) = cx.strings(&format!("{name}_strings"))?.filter(|v| !v.is_empty()) {
        found.push(texts(v)?);
    }
    if cx.version >= 4 {
        found.extend(cx.tensor(&format!("{name}_tensor"))?);
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        n => Err(invalid!("{n} of the attributes {name}_* are given where one is needed")),
    }
}

pub(super) fn import_encoder(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    if cx.version < 2 {
        let classes = cx.strings("classes_strings")?.unwrap_or_default();
        let numbers = (0..classes.len() as i64).collect();
        return import_pairs(cx, classes, numbers);
    }
    let (keys, values) = (column(cx, "keys")?, column(cx, "values")?);
    let int = cx.int("default_int64")?.unwrap_or(-1);
    let float = cx.float("default_float")?.unwrap_or(-0.0);
    let text = cx.string("default_string")?.unwrap_or("_Unused").to_string();
    let tensor = if cx.version >= 4 { cx.tensor("default_tensor")? } else { None };
    let default = match (tensor, values.ty().dtype()) {
        (Some(tensor), _) => tensor,
        (None, Some(DType::String)) => texts(vec![text])?,
        (None, Some(DType::F32)) => Tensor::scalar(float).into(),
        (None, Some(DType::F64)) => Tensor::scalar(f64::from(float)).into(),
        (None, Some(DType::I64)) => Tensor::scalar(int).into(),
        (None, Some(dtype)) if dtype.is_int() => {
            crate::onnx::tensors::float_scalar(dtype, int as f32)?.into()
        }
        (None, other) => return Err(invalid!("values of type {other:?}")),
    };
    cx.emit(LabelEncoder { keys, values, default }.checked()?)
}

pub(super) fn import_mapper(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let names = cx.strings("cats_strings")?.unwrap_or_default();
    let numbers = cx.ints("cats_int64s")?.unwrap_or_default();
    import_pairs(cx, names, numbers)
}

/// Names to numbers or numbers to names, as the input asks.
fn import_pairs(
    cx: &mut NodeCx<'_>,
    names: Vec<String>,
    numbers: Vec<i64>,
) -> Result<Outputs, Reason> {
    let int = cx.int("default_int64")?.unwrap_or(-1);
    let text = cx.string("default_string")?.unwrap_or("_Unused").to_string();
    let (names, numbers) = (texts(names)?, Value::Tensor(Tensor::vector(&numbers)));
    let op = match cx.dtype(cx.input(0)?)? {
        DType::String => {
            LabelEncoder { keys: names, values: numbers, default: Tensor::scalar(int).into() }
        }
        _ => LabelEncoder { keys: numbers, values: names, default: texts(vec![text])? },
    };
    cx.emit(op.checked()?)
}

/// What is done with maps.
#[derive(Clone, Debug, PartialEq)]
pub enum MapOp {
    /// A map from integers → \[1, n\] of `to`, values in the order of their keys; or, if `width`
    /// is given, each in the column that is its key and nothing in the others.
    #[allow(missing_docs)]
    Cast { to: DType, width: Option<usize> },
    /// A map → \[1, n\]: for each key here the map's value, or nothing.
    Vectorize(Labels),
    /// x \[n, keys\] → n maps from the keys to the row's elements.
    Zip(Labels),
}

impl MapOp {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let map = || match &x.ty {
            Type::Map(key, of) => Ok((*key, (**of).clone())),
            other => Err(invalid!("a {other} where a map is expected")),
        };
        one(match self {
            MapOp::Cast { to, width } => {
                let (key, of) = map()?;
                if key != DType::I64 || !matches!(of.dtype(), Some(DType::F32 | DType::String)) {
                    return Err(invalid!("a {} where a map(int64,float) is expected", x.ty));
                }
                let width = width.map_or(Dim::Unknown, Dim::from);
                Fact::new(*to, [Dim::N(1), width].into_iter().collect())
            }
            MapOp::Vectorize(keys) => {
                let (key, of) = map()?;
                if key != keys.dtype() {
                    return Err(invalid!("keys of type {} for a {}", keys.dtype(), x.ty));
                }
                let dtype = of.dtype().ok_or_else(|| invalid!("values of type {of}"))?;
                Fact::sized(dtype, &[1, keys.len()])
            }
            MapOp::Zip(keys) => {
                if x.dtype()? != DType::F32 {
                    return Err(invalid!("values of type {}", x.ty));
                }
                let width = x.shape().and_then(<[Dim]>::last).and_then(Dim::size);
                if let Some(width) = width.filter(|&width| width != keys.len()) {
                    return Err(invalid!("{} keys for {width} columns", keys.len()));
                }
                let map = Type::Map(keys.dtype(), Box::new(Type::Tensor(DType::F32)));
                Fact::of(Type::Sequence(Box::new(map)))
            }
        })
    }
}

pub(super) fn import_cast_map(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let to = match cx.string("cast_to")?.unwrap_or("TO_FLOAT") {
        "TO_FLOAT" => DType::F32,
        "TO_INT64" => DType::I64,
        "TO_STRING" => DType::String,
        other => return Err(invalid!("cast_to {other:?} is unknown")),
    };
    let most = cx.size("max_map")?.unwrap_or(1);
    let width = match cx.string("map_form")?.unwrap_or("DENSE") {
        "DENSE" => None,
        "SPARSE" => Some(most),
        other => return Err(invalid!("map_form {other:?} is unknown")),
    };
    cx.emit(MapOp::Cast { to, width })
}

pub(super) fn import_vectorizer(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let keys = Labels::read(cx, "int64_vocabulary", "string_vocabulary")?;
    cx.emit(MapOp::Vectorize(keys))
}

pub(super) fn import_zip(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let keys = Labels::read(cx, "classlabels_int64s", "classlabels_strings")?;
    cx.emit(MapOp::Zip(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(op: impl Into<crate::Op>, x: Fact) -> Result<Fact, Reason> {
        op.into().infer(&Inputs::new(&[Some(&x)], 1)).map(|mut f| f.remove(0))
    }

    #[test]
    fn keys_have_the_type_of_the_input() {
        let op = LabelEncoder {
            keys: texts(vec!["a".into()]).unwrap(),
            values: Tensor::vector(&[1i16]).into(),
            default: Tensor::scalar(0i16).into(),
        };
        let y = infer(op.clone(), Fact::sized(DType::String, &[2, 2])).unwrap();
        assert_eq!(y, Fact::sized(DType::I16, &[2, 2]));
        assert!(infer(op.clone(), Fact::sized(DType::I64, &[2])).is_err());
        assert!(LabelEncoder { default: Tensor::scalar(0f32).into(), ..op }.checked().is_err());
    }

    #[test]
    fn there_are_as_many_keys_as_columns() {
        let op = MapOp::Zip(Labels::Ints(vec![7, 8]));
        let y = infer(op.clone(), Fact::sized(DType::F32, &[5, 2])).unwrap();
        assert_eq!(y.ty.to_string(), "seq(map(int64,tensor(float)))");
        assert!(infer(op, Fact::sized(DType::F32, &[5, 3])).is_err());
    }
}
