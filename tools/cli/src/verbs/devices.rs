//! `rinfer devices`: what this machine has to run models on.

use serde_json::json;

use crate::args::PrintArgs;
use crate::failure::Result;

/// Shows the processor: its name, cores and instruction sets.
pub fn devices(print: &PrintArgs) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sets = rinfer::instruction_sets();
    let name = processor().unwrap_or_else(|| std::env::consts::ARCH.to_string());
    if print.json {
        let cpu = json!({"name": name, "cores": cores, "isa": sets.last(), "available": sets});
        println!("{}", json!({"cpu": cpu, "gpus": []}));
        return Ok(());
    }
    println!(
        "cpu   {name}, {cores} cores, {} (available: {})",
        sets.last().unwrap_or(&""),
        sets.join(", ")
    );
    println!("gpu   this version has no GPU backend yet");
    Ok(())
}

/// The processor's name, where the system tells.
fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}
