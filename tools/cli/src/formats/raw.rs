//! Bare little-endian elements; dtype and shape come from the model.

use rinfer::{DType, Tensor};

/// A tensor of exactly this shape.
pub fn decode(bytes: Vec<u8>, dtype: DType, shape: &[usize]) -> Result<Tensor, String> {
    Tensor::from_bytes(dtype, shape, bytes.into()).map_err(|e| e.to_string())
}
