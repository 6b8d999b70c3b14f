//! The integration tests: one binary.

mod agree;
mod contrib;
mod determinism;
mod fuzz;
#[cfg(feature = "wgpu")]
mod gpu_models;
mod hostile;
mod limits;
mod matrix;
mod models;
mod onnx_node;
#[cfg(feature = "wgpu")]
mod onnx_node_gpu;
mod quantize;
mod random;
mod sessions;
mod tidy;
mod trained;
