//! `SequenceProto`, `OptionalProto` and `MapProto` to values and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rinfer_onnx_proto as pb;

use super::external::NoExternalData;
use super::tensors;
use crate::{DType, Key, Reason, Type, Value, invalid, unsupported};

/// Decodes the file of one value, a `.pb` file of ONNX's test folders: `ty` says which message.
pub fn decode(bytes: Bytes, ty: &Type) -> Result<Value, Reason> {
    let bad = |e: pb::DecodeError| invalid!("{e}");
    match ty {
        // A tensor of no elements and rank 0 sizes may well be an empty message.
        Type::Tensor(_) => {
            tensors::tensor(&pb::decode_message(bytes).map_err(bad)?, &NoExternalData)
        }
        Type::Sequence(of) => sequence(&pb::decode_message(bytes).map_err(bad)?, of, 0),
        Type::Optional(of) => optional(&pb::decode_message(bytes).map_err(bad)?, of, 0),
        Type::Map(key, of) => map(&pb::decode_message(bytes).map_err(bad)?, *key, of, 0),
    }
}

/// The name that a tensor file carries; empty if none.
pub fn tensor_name(bytes: Bytes) -> Option<String> {
    pb::decode_message::<pb::TensorProto>(bytes).ok().map(|t| t.name().to_string())
}

/// Encodes one value as the message that its type has.
pub fn encode(name: &str, value: &Value) -> Result<Vec<u8>, Reason> {
    Ok(match value {
        Value::Tensor(_) | Value::Text(_) => pb::encode_message(&tensors::to_proto(name, value)?),
        Value::Seq { of, items } => pb::encode_message(&sequence_proto(name, of, items)?),
        Value::Optional { of, value } => {
            pb::encode_message(&optional_proto(name, of, value.as_deref())?)
        }
        Value::Map { key, of, entries } => pb::encode_message(&map_proto(name, *key, of, entries)?),
    })
}

fn deeper(depth: usize) -> Result<usize, Reason> {
    if depth >= 16 { Err(invalid!("a value nested more than 16 deep")) } else { Ok(depth + 1) }
}

fn sequence(s: &pb::SequenceProto, of: &Type, depth: usize) -> Result<Value, Reason> {
    let depth = deeper(depth)?;
    let items: Vec<Value> = match of {
        Type::Tensor(_) => s
            .tensor_values
            .iter()
            .map(|t| tensors::tensor(t, &NoExternalData))
            .collect::<Result<_, _>>()?,
        Type::Sequence(of) => {
            s.sequence_values.iter().map(|s| sequence(s, of, depth)).collect::<Result<_, _>>()?
        }
        Type::Optional(of) => {
            s.optional_values.iter().map(|o| optional(o, of, depth)).collect::<Result<_, _>>()?
        }
        Type::Map(key, of) => {
            s.map_values.iter().map(|m| map(m, *key, of, depth)).collect::<Result<_, _>>()?
        }
    };
    if let Some(odd) = items.iter().find(|v| v.ty() != *of) {
        return Err(invalid!("a {} in a sequence of {of}", odd.ty()));
    }
    Ok(Value::sequence(of.clone(), items))
}

fn optional(o: &pb::OptionalProto, of: &Type, depth: usize) -> Result<Value, Reason> {
    let depth = deeper(depth)?;
    let value = match of {
        Type::Tensor(_) => {
            o.tensor_value.as_ref().map(|t| tensors::tensor(t, &NoExternalData)).transpose()?
        }
        Type::Sequence(of) => {
            o.sequence_value.as_ref().map(|s| sequence(s, of, depth)).transpose()?
        }
        Type::Optional(of) => {
            o.optional_value.as_ref().map(|o| optional(o, of, depth)).transpose()?
        }
        Type::Map(key, of) => o.map_value.as_ref().map(|m| map(m, *key, of, depth)).transpose()?,
    };
    Ok(Value::Optional { of: of.clone(), value: value.map(Arc::new) })
}

fn map(m: &pb::MapProto, key: DType, of: &Type, depth: usize) -> Result<Value, Reason> {
    let depth = deeper(depth)?;
    let values = m.values.as_ref().ok_or_else(|| invalid!("a map without values"))?;
    let values = sequence(values, of, depth)?;
    let keys: Vec<Key> = if key == DType::String {
        let text = |b: &Bytes| {
            String::from_utf8(b.to_vec()).map_err(|_| invalid!("a key that is not UTF-8"))
        };
        m.string_keys.iter().map(|b| text(b).map(Key::Text)).collect::<Result<_, _>>()?
    } else {
        m.keys.iter().map(|&k| Key::Int(k)).collect()
    };
    let values = values.as_sequence()?;
    if keys.len() != values.len() {
        return Err(invalid!("{} keys for {} values", keys.len(), values.len()));
    }
    let entries: BTreeMap<Key, Value> = keys.into_iter().zip(values.iter().cloned()).collect();
    Ok(Value::Map { key, of: of.clone(), entries: Arc::new(entries) })
}

fn sequence_proto(name: &str, of: &Type, items: &[Value]) -> Result<pb::SequenceProto, Reason> {
    use pb::sequence_proto::DataType as Ty;
    let mut s = pb::SequenceProto { name: Some(name.into()), ..Default::default() };
    let ty = match of {
        Type::Tensor(_) => Ty::Tensor,
        Type::Sequence(_) => Ty::Sequence,
        Type::Optional(_) => Ty::Optional,
        Type::Map(..) => Ty::Map,
    };
    s.elem_type = Some(ty as i32);
    for item in items {
        match item {
            Value::Tensor(_) | Value::Text(_) => s.tensor_values.push(tensors::to_proto("", item)?),
            Value::Seq { of, items } => s.sequence_values.push(sequence_proto("", of, items)?),
            Value::Optional { of, value } => {
                s.optional_values.push(optional_proto("", of, value.as_deref())?);
            }
            Value::Map { key, of, entries } => s.map_values.push(map_proto("", *key, of, entries)?),
        }
    }
    Ok(s)
}

fn optional_proto(
    name: &str,
    of: &Type,
    value: Option<&Value>,
) -> Result<pb::OptionalProto, Reason> {
    use pb::optional_proto::DataType as Ty;
    let mut o = pb::OptionalProto { name: Some(name.into()), ..Default::default() };
    o.elem_type = Some(match of {
        Type::Tensor(_) => Ty::Tensor,
        Type::Sequence(_) => Ty::Sequence,
        Type::Optional(_) => Ty::Optional,
        Type::Map(..) => Ty::Map,
    } as i32);
    match value {
        None => {}
        Some(v @ (Value::Tensor(_) | Value::Text(_))) => {
            o.tensor_value = Some(tensors::to_proto("", v)?)
        }
        Some(Value::Seq { of, items }) => o.sequence_value = Some(sequence_proto("", of, items)?),
        Some(Value::Optional { of, value }) => {
            o.optional_value = Some(Box::new(optional_proto("", of, value.as_deref())?));
        }
        Some(Value::Map { key, of, entries }) => {
            o.map_value = Some(map_proto("", *key, of, entries)?)
        }
    }
    Ok(o)
}

fn map_proto(
    name: &str,
    key: DType,
    of: &Type,
    entries: &BTreeMap<Key, Value>,
) -> Result<pb::MapProto, Reason> {
    let mut m = pb::MapProto {
        name: Some(name.into()),
        key_type: Some(key.to_onnx()),
        ..Default::default()
    };
    for k in entries.keys() {
        match k {
            Key::Int(k) if key != DType::String => m.keys.push(*k),
            Key::Text(k) if key == DType::String => {
                m.string_keys.push(Bytes::from(k.clone().into_bytes()))
            }
            _ => return Err(unsupported!("a map of {key} with other keys")),
        }
    }
    let values: Vec<Value> = entries.values().cloned().collect();
    m.values = Some(sequence_proto("", of, &values)?);
    Ok(m)
}
