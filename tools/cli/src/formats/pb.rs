//! ONNX's own files of values: TensorProto, SequenceProto, OptionalProto, MapProto by type.

use rinfer::graph::onnx::values;
use rinfer::{Type, Value};

/// Reads the value of an input of this type.
pub fn decode(bytes: Vec<u8>, ty: &Type) -> Result<Value, String> {
    values::decode(bytes.into(), ty).map_err(|e| e.to_string())
}

/// Writes a value under a name.
pub fn encode(name: &str, value: &Value) -> Result<Vec<u8>, String> {
    values::encode(name, value).map_err(|e| e.to_string())
}
