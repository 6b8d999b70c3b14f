//! What fuzzing does, whoever mutates: libFuzzer in `fuzz/`, or a small mutator in a test.
//!
//! A target takes any bytes; a defect is a panic.

mod mutator;
mod run;
pub mod seeds;
mod targets;

pub use mutator::Mutator;
pub use run::{Found, run};
pub use targets::*;

/// Something to fuzz.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its libFuzzer target, and of the folder of its seeds.
    pub name: &'static str,
    /// What it does with bytes.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "f01_reader", run: reader },
    Target { name: "f02_load", run: load },
    Target { name: "f03_run", run: answers },
    Target { name: "f04_optimizer", run: optimizer },
    Target { name: "f05_shapes", run: shapes },
    #[cfg(unix)]
    Target { name: "f06_external", run: external },
    Target { name: "f07_files", run: files },
    Target { name: "f10_quantize", run: quantize },
    #[cfg(feature = "wgpu")]
    Target { name: "f11_kernels", run: kernels },
    Target { name: "f12_inputs", run: inputs },
];
