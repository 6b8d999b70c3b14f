//! Values to JavaScript and back: `{type, dims, data}` is a tensor, an array a sequence, a `Map` a
//! map, `null` an optional without content.

use std::collections::BTreeMap;
use std::sync::Arc;

use js_sys::{Array, BigInt, Map, Object, Reflect, Uint8Array};
use rinfer::graph::shape::count;
use rinfer::graph::{invalid, tensor};
use rinfer::{DType, Key, Reason, RunValue, Strings, Tensor, Type, Value};
use wasm_bindgen::{JsCast, JsValue};

use crate::resident;

/// A dtype by its name in JavaScript, which is ONNX's but for `float32` and `float64`.
pub(crate) fn dtype(name: &str) -> Option<DType> {
    DType::all().find(|&dtype| name_of(dtype) == name)
}

/// The name of a dtype in JavaScript.
pub(crate) fn name_of(dtype: DType) -> String {
    match dtype {
        DType::F32 => "float32".to_string(),
        DType::F64 => "float64".to_string(),
        other => other.to_string(),
    }
}

fn get(object: &JsValue, key: &str) -> Result<JsValue, Reason> {
    Reflect::get(object, &key.into()).map_err(|_| invalid!("is no object with {key:?}"))
}

/// An object with these properties.
pub(crate) fn object(entries: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (key, value) in entries {
        // An object that was just made takes every property.
        let _ = Reflect::set(&object, &(*key).into(), value);
    }
    object.into()
}

/// What a port of type `ty` is given: a value, or by its number a tensor that stays on the GPU.
pub(crate) fn fed(value: &JsValue, ty: &Type) -> Result<RunValue, Reason> {
    let number = Reflect::get(value, &"gpu".into()).ok().and_then(|number| number.as_f64());
    match number {
        Some(number) => Ok(resident::find(number)?.into()),
        None => Ok(from_js(value, ty)?.into()),
    }
}

/// What a run made, as JavaScript gets it; a tensor that stays on the GPU has a number there.
pub(crate) fn made_to_js(value: RunValue) -> Result<JsValue, Reason> {
    let tensor = match value {
        RunValue::Host(value) => return to_js(&value),
        RunValue::Device(tensor) => tensor,
    };
    let dims = tensor.shape().iter().map(|&n| JsValue::from(n as u32)).collect::<Array>();
    Ok(object(&[
        ("type", name_of(tensor.dtype()).into()),
        ("dims", dims.into()),
        ("gpu", resident::keep(tensor).into()),
    ]))
}

/// The value that a port of type `ty` is given.
pub(crate) fn from_js(value: &JsValue, ty: &Type) -> Result<Value, Reason> {
    match ty {
        Type::Optional(of) if value.is_null() || value.is_undefined() => {
            Ok(Value::Optional { of: (**of).clone(), value: None })
        }
        Type::Optional(of) => from_js(value, of),
        Type::Sequence(of) => {
            let Some(items) = value.dyn_ref::<Array>() else {
                return Err(invalid!("is no array, the model needs {ty}"));
            };
            let items = items.iter().map(|item| from_js(&item, of));
            Ok(Value::sequence((**of).clone(), items.collect::<Result<_, _>>()?))
        }
        Type::Map(key, of) => from_map(value, *key, of),
        Type::Tensor(_) => from_tensor(value),
    }
}

fn from_map(value: &JsValue, key: DType, of: &Type) -> Result<Value, Reason> {
    let Some(map) = value.dyn_ref::<Map>() else {
        return Err(invalid!(
            "is no Map, the model needs {}",
            Type::Map(key, Box::new(of.clone()))
        ));
    };
    let mut entries = BTreeMap::new();
    for entry in map.entries().into_iter().flatten() {
        let (name, value) = (Reflect::get_u32(&entry, 0), Reflect::get_u32(&entry, 1));
        let (Ok(name), Ok(value)) = (name, value) else { continue };
        let int = || i64::try_from(BigInt::from(name.clone().dyn_into::<BigInt>().ok()?)).ok();
        let name = match name.as_string() {
            Some(text) => Key::Text(text),
            None => Key::Int(match name.as_f64() {
                Some(number) if number.fract() == 0.0 && number.abs() < 9e15 => number as i64,
                _ => int().ok_or_else(|| invalid!("has a key that is no integer and no string"))?,
            }),
        };
        let fact = DType::String == key;
        if fact != matches!(name, Key::Text(_)) {
            return Err(invalid!("has keys that are not of type {key}"));
        }
        entries.insert(name, scalar(&value, of)?);
    }
    Ok(Value::Map { key, of: of.clone(), entries: Arc::new(entries) })
}

/// What a map holds: a tensor, or a number or string that stands for one without axes.
fn scalar(value: &JsValue, of: &Type) -> Result<Value, Reason> {
    match (of.dtype(), value.as_f64(), value.as_string()) {
        (Some(DType::F32), Some(x), _) => Ok(Tensor::scalar(x as f32).into()),
        (Some(DType::F64), Some(x), _) => Ok(Tensor::scalar(x).into()),
        (Some(DType::I64), Some(x), _) if x.fract() == 0.0 => Ok(Tensor::scalar(x as i64).into()),
        (Some(DType::String), _, Some(text)) => Ok(Strings::new(&[], vec![text])?.into()),
        _ => from_js(value, of),
    }
}

fn sizes(dims: &JsValue) -> Result<Vec<usize>, Reason> {
    let bad = || invalid!("has dims that are no array of whole numbers");
    let dims = dims.dyn_ref::<Array>().ok_or_else(bad)?;
    let size = |d: JsValue| {
        let n = d.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=u32::MAX as f64).contains(n));
        n.map(|n| n as usize).ok_or_else(bad)
    };
    dims.iter().map(size).collect()
}

fn from_tensor(value: &JsValue) -> Result<Value, Reason> {
    let name = get(value, "type")?.as_string().unwrap_or_default();
    let dtype = dtype(&name).ok_or_else(|| invalid!("has the unknown type {name:?}"))?;
    let sizes = sizes(&get(value, "dims")?)?;
    let data = get(value, "data")?;
    if dtype == DType::String {
        let bad = || invalid!("is no array of strings");
        let items = data.dyn_ref::<Array>().ok_or_else(bad)?;
        if count(&sizes) != Some(items.length() as usize) {
            return Err(invalid!("has {} strings for dims {sizes:?}", items.length()));
        }
        let items = items.iter().map(|item| item.as_string().ok_or_else(bad));
        return Ok(Strings::new(&sizes, items.collect::<Result<_, _>>()?)?.into());
    }
    let bytes = bytes_of(&data)?;
    let needed = tensor::size_in_bytes(dtype, &sizes)?;
    if bytes.length() as usize != needed {
        return Err(invalid!(
            "has {} bytes of data, {name} with dims {sizes:?} takes {needed}",
            bytes.length()
        ));
    }
    let mut made = Tensor::try_zeros(dtype, &sizes)?;
    bytes.copy_to(made.as_mut_bytes());
    if dtype == DType::Bool {
        made.as_mut_bytes().iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    Ok(made.into())
}

/// A typed array as bytes, not copied.
fn bytes_of(data: &JsValue) -> Result<Uint8Array, Reason> {
    if let Some(bytes) = data.dyn_ref::<Uint8Array>() {
        return Ok(bytes.clone());
    }
    let number = |key| Ok::<_, Reason>(get(data, key)?.as_f64().unwrap_or(-1.0));
    let (offset, length) = (number("byteOffset")?, number("byteLength")?);
    if offset < 0.0 || length < 0.0 {
        return Err(invalid!("has data that is no typed array"));
    }
    let buffer = get(data, "buffer")?;
    Ok(Uint8Array::new_with_byte_offset_and_length(&buffer, offset as u32, length as u32))
}

/// A value as JavaScript gets it; tensors' data are bytes.
pub(crate) fn to_js(value: &Value) -> Result<JsValue, Reason> {
    let dims = |shape: &[usize]| shape.iter().map(|&n| JsValue::from(n as u32)).collect::<Array>();
    Ok(match value {
        Value::Tensor(t) => {
            let data = Uint8Array::new_with_length(t.byte_len() as u32);
            data.copy_from(t.as_bytes());
            let name = name_of(t.dtype());
            object(&[
                ("type", name.into()),
                ("dims", dims(t.shape()).into()),
                ("data", data.into()),
            ])
        }
        Value::Text(s) => {
            let data: Array =
                s.as_slice().iter().map(|text| JsValue::from(text.as_str())).collect();
            let dims = dims(s.shape());
            object(&[("type", "string".into()), ("dims", dims.into()), ("data", data.into())])
        }
        Value::Seq { items, .. } => items.iter().map(to_js).collect::<Result<Array, _>>()?.into(),
        Value::Optional { value: None, .. } => JsValue::NULL,
        Value::Optional { value: Some(value), .. } => to_js(value)?,
        Value::Map { entries, .. } => {
            let map = Map::new();
            for (key, value) in entries.iter() {
                let key = match key {
                    Key::Int(n) => JsValue::from(*n),
                    Key::Text(text) => JsValue::from(text.as_str()),
                };
                map.set(&key, &to_js(value)?);
            }
            map.into()
        }
    })
}
