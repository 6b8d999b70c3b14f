//! The CPU backend: kernels over slices, written once and compiled for each instruction set.
#![deny(unsafe_code)]

mod arena;
mod attention;
pub mod conv;
pub mod convert;
mod elementwise;
pub mod eval;
pub mod gemm;
pub mod kernel;
pub mod math;
pub mod meter;
pub mod ops;
pub mod par;
pub mod peak;
mod plan;
mod plan_among;
mod plan_chains;
mod plan_last;
mod plan_turned;
pub mod pool;
mod program;
pub mod quant;
mod running;
pub mod scratch;
pub mod simd;
mod stop;

pub use program::CpuBackend;
