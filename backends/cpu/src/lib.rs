//! The CPU backend: kernels over slices, written once and compiled for each instruction set.
#![deny(unsafe_code)]

pub mod eval;
pub mod kernel;
pub mod math;
pub mod ops;
pub mod par;
pub mod pool;
pub mod simd;
