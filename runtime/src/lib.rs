//! An ONNX inference engine in pure Rust.
//!
//! ```
//! use rinfer::{Session, Tensor};
//!
//! # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/models/digits/model.onnx");
//! // A classifier of digits, 8×8 pixels of 0…16 each.
//! let session = Session::builder().threads(2).load(file)?;
//! let image = Tensor::from_slice(&[1, 1, 8, 8], &[0.5f32; 64]);
//! let outputs = session.run([("image", image)])?;
//! let scores = outputs[0].as_tensor()?;
//! assert_eq!(scores.shape(), [1, 10]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Session`] is made once and run from any number of threads at once. [`Model`] reads a file
//! without making it ready; [`RunOptions`] bound a run in time and record it.
#![deny(unsafe_code)]

mod control;
mod error;
mod executable;
mod held;
mod machine;
mod mmap;
mod model;
mod options;
mod places;
mod profile;
mod run;
mod session;

pub use error::Error;
pub use executable::Placement;
pub use held::{DeviceRead, DeviceTensor, RunValue};
pub use model::{LoadOptions, Model};
pub use options::{CancelToken, Device, Precision, RunOptions};
pub use profile::{Event, Profiler};
pub use rinfer_cpu::peak::Peak;
pub use rinfer_graph::backend::Memory;
pub use rinfer_graph::onnx::{NodeCx, Port};
pub use rinfer_graph::ops::{CustomOp, Inputs};
pub use rinfer_graph::{
    Bool, DType, Dim, Fact, Facts, Graph, Key, Kind, Limits, Reason, Strings, Tensor, Type, Value,
};
pub use run::Run;
pub use session::{Session, SessionBuilder, did_you_mean};

/// The instruction sets that this machine has, the widest last.
pub fn instruction_sets() -> Vec<&'static str> {
    rinfer_cpu::simd::Isa::available().into_iter().map(|isa| isa.name()).collect()
}

/// What this machine can do at most with an instruction set on so many threads (0: one per core).
///
/// # Errors
/// The instruction set is unknown, or there are no threads or no memory to be had.
pub fn peak(isa: &str, threads: usize) -> Result<Peak, Error> {
    let text = |text: String| Error::Option(Reason::new(Kind::Limit, text));
    let isa = rinfer_cpu::simd::Isa::named(isa).map_err(text)?;
    let pool = rinfer_cpu::par::Pool::new(threads).map_err(text)?;
    pool.install(|| rinfer_cpu::peak::measure(isa)).map_err(text)
}

/// Threads that whoever runs the program lends it, where it cannot start any: in browsers.
#[cfg(all(feature = "cpu", feature = "threads"))]
pub mod lent {
    pub use rinfer_cpu::par::{host, work};
}

/// The machine's GPUs and what each can do; empty if no driver is installed.
#[cfg(feature = "wgpu")]
pub use rinfer_wgpu::{AdapterInfo, adapters};

/// GPUs themselves: what they reach at most ([`gpu::measure`]), whatever runs on them.
#[cfg(feature = "wgpu")]
pub mod gpu {
    pub use rinfer_wgpu::bench::{Micro, Sample, measure};
    pub use rinfer_wgpu::{Gpu, Product, Trial, Tuning, tune};
}

/// The graph, its passes, and ONNX's border: for tools that look inside.
pub use rinfer_graph as graph;
