//! rinfer's GPU backend: the same graphs on Vulkan, Metal, DirectX 12 and WebGPU, through wgpu.
//!
//! A node becomes kernels for the sizes at hand: WGSL with what the sizes and dtypes ask for. A
//! plan says which kernels run, in which order and memory; it is recorded and submitted as a whole,
//! and only what leaves it comes back. Nothing runs on the host but the arithmetic of shapes.
#![deny(unsafe_code)]

mod adapter;
pub mod bench;
mod clock;
mod device;
mod fence;
mod half;
mod index;
mod kernel;
mod nodes;
mod ops;
mod plan;
mod program;
mod readback;
mod ready;
mod resident;
mod run;
mod scope;
mod seat;
mod shader;
mod site;
mod slots;
mod tell;
mod tune;
mod wait;

pub use adapter::{AdapterInfo, adapters};
pub use device::Gpu;
pub use program::{GpuBackend, Host};
pub use seat::Seat;
pub use tune::{Product, Trial, Tuning, tune};

use rinfer_graph::{Fact, Facts, Node, Reason};

/// The kernels of a node for inputs of these facts, as WGSL: to look at, and to validate without a
/// GPU. `barriers` says whether lanes may wait for one another, `subgroups` whether those of a
/// subgroup may exchange values.
///
/// # Errors
/// The operator has no kernel for these facts.
pub fn kernels(
    node: &Node,
    inputs: &[Option<&Fact>],
    outputs: &Facts,
    barriers: bool,
    subgroups: bool,
) -> Result<Vec<String>, Reason> {
    let tuning = Tuning::usual(barriers);
    let traits = device::Traits { barriers, subgroups, tuning, ..device::Traits::least() };
    let cx = kernel::Cx { node, inputs, outputs, traits: &traits };
    Ok(ops::compile(&cx)?.launches.into_iter().map(|launch| launch.source).collect())
}

/// Whether a kernel is WGSL that every adapter of its kind takes, found out without one.
///
/// # Errors
/// What is wrong with it, and the kernel.
#[cfg(not(target_arch = "wasm32"))]
pub fn validate(source: &str) -> Result<(), String> {
    use naga::valid::{
        Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator,
    };
    let wrong = |text: String| format!("{text}\n{source}");
    let module = naga::front::wgsl::parse_str(source);
    let module = module.map_err(|e| wrong(e.emit_to_string(source)))?;
    // Halves are read through unpack2x16float, which every adapter has.
    let able = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SUBGROUP;
    Validator::new(ValidationFlags::all(), able)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .map(drop)
        .map_err(|e| wrong(e.emit_to_string(source)))
}
