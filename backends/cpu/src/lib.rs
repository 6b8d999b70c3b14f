//! The CPU backend: kernels over slices, written once and compiled for each instruction set.
#![deny(unsafe_code)]

pub mod par;
pub mod pool;
pub mod simd;
