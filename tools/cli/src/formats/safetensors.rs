//! safetensors: the length of a head, a JSON object of names, and the elements.

use rinfer::{DType, Tensor};
use serde_json::Value as Json;

/// Its names of dtypes.
const NAMES: &[(&str, DType)] = &[
    ("BOOL", DType::Bool),
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("F8_E5M2", DType::F8E5M2),
    ("F8_E4M3", DType::F8E4M3FN),
    ("F8_E8M0", DType::F8E8M0),
    ("I16", DType::I16),
    ("U16", DType::U16),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("I32", DType::I32),
    ("U32", DType::U32),
    ("F32", DType::F32),
    ("C64", DType::C64),
    ("F64", DType::F64),
    ("I64", DType::I64),
    ("U64", DType::U64),
];

/// The longest head that the format allows.
const MAX_HEAD: u64 = 100_000_000;

/// One tensor: the one named `key`, or the only one.
pub fn pick(bytes: Vec<u8>, key: Option<&str>) -> Result<Tensor, String> {
    let (len, rest) = bytes.split_first_chunk::<8>().ok_or("shorter than 8 bytes")?;
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEAD || len > rest.len() as u64 {
        return Err(format!("a head of {len} bytes"));
    }
    let (head, data) = rest.split_at(len as usize);
    let head: Json = serde_json::from_slice(head).map_err(|e| e.to_string())?;
    let head = head.as_object().ok_or("the head is no JSON object")?;
    let names: Vec<&String> = head.keys().filter(|k| *k != "__metadata__").collect();
    let name = match key {
        Some(key) => key,
        None if names.len() == 1 => names[0],
        None => "",
    };
    let all = || names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    let entry = head.get(name).ok_or_else(|| format!("name one of its tensors: {}", all()))?;
    let dtype = entry["dtype"].as_str().unwrap_or("");
    let dtype = NAMES.iter().find(|row| row.0 == dtype).map(|row| row.1);
    let dtype = dtype.ok_or_else(|| format!("{name}: dtype {}", entry["dtype"]))?;
    let ints = |v: &Json| -> Option<Vec<usize>> {
        v.as_array()?.iter().map(|n| usize::try_from(n.as_u64()?).ok()).collect()
    };
    let shape = ints(&entry["shape"]).ok_or_else(|| format!("{name}: shape {}", entry["shape"]))?;
    let range = ints(&entry["data_offsets"]).filter(|r| r.len() == 2);
    let range = range.ok_or_else(|| format!("{name}: data_offsets {}", entry["data_offsets"]))?;
    let data =
        data.get(range[0]..range[1]).ok_or_else(|| format!("{name}: outside of the file"))?;
    Tensor::from_bytes(dtype, &shape, data.to_vec().into()).map_err(|e| format!("{name}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_outside_of_the_file_are_errors() {
        let file = |offsets: &str| {
            let head =
                format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{offsets}}}}}");
            let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(&1.5f32.to_le_bytes());
            bytes
        };
        assert_eq!(pick(file("[0,4]"), None).unwrap().as_slice::<f32>(), [1.5]);
        assert!(pick(file("[0,8]"), None).is_err());
        assert!(pick(file("[4,0]"), None).is_err());
        assert!(pick(file("[0,4]"), Some("b")).is_err());
    }
}
