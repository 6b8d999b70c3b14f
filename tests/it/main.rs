//! The integration tests: one binary.

mod agree;
mod contrib;
mod matrix;
mod models;
mod onnx_node;
mod quantized;
mod random;
mod sessions;
mod tidy;
