//! `rinfer devices`: what this machine has to run models on.

use serde_json::{Value, json};

use crate::args::PrintArgs;
use crate::failure::Result;

/// Shows the processor and every GPU: their names, what they can do, and their limits.
pub fn devices(print: &PrintArgs) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sets = rinfer::instruction_sets();
    let name = processor().unwrap_or_else(|| std::env::consts::ARCH.to_string());
    if print.json {
        let cpu = json!({"name": name, "cores": cores, "isa": sets.last(), "available": sets});
        println!("{}", json!({"cpu": cpu, "gpus": gpus_json()}));
        return Ok(());
    }
    println!(
        "cpu   {name}, {cores} cores, {} (available: {})",
        sets.last().unwrap_or(&""),
        sets.join(", ")
    );
    show_gpus();
    Ok(())
}

/// The processor's name, where the system tells.
pub(super) fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(feature = "wgpu")]
fn gpus_json() -> Vec<Value> {
    let object = |gpu: rinfer::AdapterInfo| {
        json!({
            "name": gpu.name,
            "driver": gpu.driver,
            "backend": gpu.backend,
            "type": gpu.kind,
            "limits": {
                "buffer_bytes": gpu.max_buffer,
                "binding_bytes": gpu.max_binding,
                "buffers": gpu.max_buffers,
                "workgroup_bytes": gpu.workgroup_memory,
                "workgroup_invocations": gpu.workgroup_size,
                "workgroups": gpu.max_workgroups,
                "subgroup_lanes": [gpu.subgroup_size.0, gpu.subgroup_size.1],
            },
            "features": {
                "f16": gpu.f16,
                "subgroups": gpu.subgroups,
                "timestamps": gpu.timestamps,
                "int8_dot": gpu.int8_dot,
                "cooperative_matrix": gpu.cooperative_matrix,
            },
        })
    };
    rinfer::adapters().into_iter().map(object).collect()
}

#[cfg(feature = "wgpu")]
fn show_gpus() {
    let gpus = rinfer::adapters();
    for (i, gpu) in gpus.iter().enumerate() {
        println!("gpu {i} {}: {}, {}, {}", gpu.name, gpu.backend, gpu.kind, gpu.driver);
        let (least, most) = gpu.subgroup_size;
        let mut can: Vec<String> = [("f16", gpu.f16), ("timestamps", gpu.timestamps)]
            .into_iter()
            .chain([("int8 dot", gpu.int8_dot)])
            .filter(|(_, has)| *has)
            .map(|(name, _)| name.to_string())
            .collect();
        if gpu.subgroups {
            can.push(format!("subgroups of {least} to {most}"));
        }
        can.extend(gpu.cooperative_matrix.iter().map(|tile| format!("matrix {tile}")));
        println!("      has {}", can.join(", "));
        println!(
            "      buffers up to {} MiB, {} MiB of them seen at once, {} per kernel; workgroups of \
             {} with {} KiB",
            gpu.max_buffer >> 20,
            gpu.max_binding >> 20,
            gpu.max_buffers,
            gpu.workgroup_size,
            gpu.workgroup_memory >> 10
        );
    }
    if gpus.is_empty() {
        println!("gpu   no adapter was found: no Vulkan, Metal or DirectX 12 driver is installed");
    }
}

#[cfg(not(feature = "wgpu"))]
fn gpus_json() -> Vec<Value> {
    Vec::new()
}

#[cfg(not(feature = "wgpu"))]
fn show_gpus() {
    println!("gpu   this command was built without its GPU backend");
}
