//! The integration tests: one binary.

mod agree;
mod contrib;
mod models;
mod onnx_node;
mod sessions;
mod tidy;
