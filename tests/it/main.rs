//! The integration tests: one binary.

mod agree;
mod models;
mod onnx_node;
mod sessions;
mod tidy;
