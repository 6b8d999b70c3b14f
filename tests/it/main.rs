//! The integration tests: one binary.

mod models;
mod onnx_node;
mod sessions;
mod tidy;
