//! The calls into wgpu that the compiler cannot vouch for, each with its reason. Nothing else of
//! this crate is `unsafe`.
#![allow(unsafe_code)]

/// Lets a device have features that wgpu calls experimental: here, matrix units alone.
pub(crate) fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: the call acknowledges that wgpu's code for these features may have defects of its
    // own. Only `EXPERIMENTAL_COOPERATIVE_MATRIX` is ever requested beside it (`device.rs`), and
    // what its kernels compute is checked before it is used.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
