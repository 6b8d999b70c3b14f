//! An ONNX inference engine in pure Rust.
//!
//! ```no_run
//! use rinfer::{Session, Tensor};
//!
//! let session = Session::builder().threads(2).load("model.onnx")?;
//! let x = Tensor::from_slice(&[1, 3], &[1.0f32, 2.0, 3.0]);
//! for (port, value) in session.outputs().iter().zip(session.run([("x", x)])?) {
//!     println!("{}: {:?}", port.name, value.as_tensor()?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Session`] is made once and run from any number of threads at once. [`Model`] reads a file
//! without making it ready; [`RunOptions`] bound a run in time and record it.
#![deny(unsafe_code)]

mod control;
mod error;
mod executable;
mod mmap;
mod model;
mod options;
mod profile;
mod session;

pub use error::Error;
pub use executable::Placement;
pub use model::{LoadOptions, Model};
pub use options::{CancelToken, RunOptions};
pub use profile::{Event, Profiler};
pub use rinfer_graph::backend::Memory;
pub use rinfer_graph::onnx::Port;
pub use rinfer_graph::ops::{CustomOp, Inputs};
pub use rinfer_graph::{
    Bool, DType, Dim, Fact, Facts, Graph, Key, Kind, Limits, Reason, Strings, Tensor, Type, Value,
};
pub use session::{Session, SessionBuilder, did_you_mean};

/// The instruction sets that this machine has, the widest last.
pub fn instruction_sets() -> Vec<&'static str> {
    rinfer_cpu::simd::Isa::available().into_iter().map(|isa| isa.name()).collect()
}

/// The graph, its passes, and ONNX's border: for tools that look inside.
pub use rinfer_graph as graph;
