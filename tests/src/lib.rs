//! The harness that every integration test and the conformance runner share.

pub mod fuzz;
pub mod hostile;
pub mod matrix;
pub mod runner;
pub mod server;
#[cfg(feature = "wgpu")]
pub mod wgsl;

pub use rinfer_cli::{compare, folder, formats, stats};
