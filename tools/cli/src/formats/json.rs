//! JSON: nested lists of numbers, bools or strings, or `{"dtype", "shape", "data"}`.

use rinfer::{Bool, DType, Strings, Tensor, Type, Value};
use serde_json::{Value as Json, json};

use crate::stats;

/// Reads a tensor of this dtype; the nesting gives the shape.
pub fn decode(bytes: &[u8], ty: &Type) -> Result<Value, String> {
    let dtype = ty.dtype().ok_or_else(|| format!("a {ty} cannot be read from JSON"))?;
    let json: Json = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let (data, shape) = match &json {
        Json::Object(o) => (o.get("data").ok_or("an object without data")?, o.get("shape")),
        other => (other, None),
    };
    let mut leaves = Vec::new();
    let mut sizes = Vec::new();
    flatten(data, 0, &mut sizes, &mut leaves)?;
    if let Some(shape) = shape {
        let size = |n: &Json| n.as_u64().and_then(|n| usize::try_from(n).ok());
        let shape = shape.as_array().and_then(|s| s.iter().map(size).collect());
        sizes = shape.ok_or("shape is no list of sizes")?;
    }
    tensor(dtype, &sizes, &leaves)
}

/// Leaves in order; every list of one depth must have the same length.
fn flatten<'a>(
    json: &'a Json,
    depth: usize,
    sizes: &mut Vec<usize>,
    leaves: &mut Vec<&'a Json>,
) -> Result<(), String> {
    let Json::Array(items) = json else {
        return if depth == sizes.len() {
            leaves.push(json);
            Ok(())
        } else {
            Err("ragged lists".into())
        };
    };
    if depth == sizes.len() && leaves.is_empty() {
        sizes.push(items.len());
    } else if sizes.get(depth) != Some(&items.len()) {
        return Err("ragged lists".into());
    }
    items.iter().try_for_each(|item| flatten(item, depth + 1, sizes, leaves))
}

fn tensor(dtype: DType, shape: &[usize], leaves: &[&Json]) -> Result<Value, String> {
    let bad = |j: &Json| format!("{j} is no {dtype}");
    macro_rules! numbers {
        ($T:ty, $f:expr) => {{
            let data: Vec<$T> =
                leaves.iter().map(|j| $f(j).ok_or_else(|| bad(j))).collect::<Result<_, _>>()?;
            Tensor::try_from_slice(shape, &data).map(Value::from).map_err(|e| e.to_string())
        }};
    }
    macro_rules! ints {
        ($T:ty) => {
            numbers!($T, |j: &Json| j.as_i64().and_then(|n| <$T>::try_from(n).ok()))
        };
    }
    match dtype {
        DType::F32 => numbers!(f32, |j: &Json| j.as_f64().map(|x| x as f32)),
        DType::F64 => numbers!(f64, Json::as_f64),
        DType::F16 => numbers!(half::f16, |j: &Json| j.as_f64().map(half::f16::from_f64)),
        DType::BF16 => numbers!(half::bf16, |j: &Json| j.as_f64().map(half::bf16::from_f64)),
        DType::I8 => ints!(i8),
        DType::I16 => ints!(i16),
        DType::I32 => ints!(i32),
        DType::I64 => numbers!(i64, Json::as_i64),
        DType::U8 => ints!(u8),
        DType::U16 => ints!(u16),
        DType::U32 => ints!(u32),
        DType::U64 => numbers!(u64, Json::as_u64),
        DType::Bool => numbers!(Bool, |j: &Json| j.as_bool().map(Bool::from)),
        DType::String => {
            let text = |j: &&Json| j.as_str().map(str::to_string).ok_or_else(|| bad(j));
            let data = leaves.iter().map(text).collect::<Result<_, _>>()?;
            Strings::new(shape, data).map(Value::from).map_err(|e| e.to_string())
        }
        other => Err(format!("{other} cannot be read from JSON")),
    }
}

/// A value as `{"type", "shape", "data"}`; NaN and infinities become strings.
pub fn encode(value: &Value) -> Json {
    match value {
        Value::Tensor(t) => {
            let data = match (t.dtype(), stats::numbers(t)) {
                (DType::I64, _) => t.as_slice::<i64>().iter().map(|&n| json!(n)).collect(),
                (DType::U64, _) => t.as_slice::<u64>().iter().map(|&n| json!(n)).collect(),
                (DType::Bool, _) => t.as_slice::<Bool>().iter().map(|b| json!(b.get())).collect(),
                (dtype, Some(x)) if dtype.is_float() => x.into_iter().map(number).collect(),
                (_, Some(x)) => x.into_iter().map(|x| json!(x as i64)).collect(),
                (_, None) => t.as_bytes().iter().map(|&b| json!(b)).collect::<Vec<_>>(),
            };
            json!({"type": value.ty().to_string(), "shape": t.shape(), "data": data})
        }
        Value::Text(s) => {
            json!({"type": value.ty().to_string(), "shape": s.shape(), "data": s.as_slice()})
        }
        Value::Seq { items, .. } => {
            let items: Vec<Json> = items.iter().map(encode).collect();
            json!({"type": value.ty().to_string(), "items": items})
        }
        Value::Optional { value: inner, .. } => {
            json!({"type": value.ty().to_string(), "value": inner.as_ref().map(|v| encode(v))})
        }
        Value::Map { entries, .. } => {
            let key = |k: &rinfer::Key| match k {
                rinfer::Key::Int(n) => n.to_string(),
                rinfer::Key::Text(s) => s.clone(),
            };
            let entries: serde_json::Map<String, Json> =
                entries.iter().map(|(k, v)| (key(k), encode(v))).collect();
            json!({"type": value.ty().to_string(), "entries": entries})
        }
    }
}

fn number(x: f64) -> Json {
    if x.is_finite() { json!(x) } else { json!(x.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_gives_the_shape() {
        let ty = Type::Tensor(DType::F32);
        let v = decode(b"[[1, 2.5], [3, 4]]", &ty).unwrap();
        assert_eq!(v, Tensor::from_slice(&[2, 2], &[1f32, 2.5, 3.0, 4.0]).into());
        assert!(decode(b"[[1, 2], [3]]", &ty).is_err());
        assert!(decode(b"[1, [2]]", &ty).is_err());
        assert!(decode(b"[\"a\"]", &ty).is_err());
    }
}
