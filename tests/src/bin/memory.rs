//! Holds the memory that a plan promises against the memory that a run takes.
//!
//! memory MODEL FOLDER [MODEL FOLDER…]: FOLDER has an NPY file for each input, `NAME.npy`. The model
//! runs once, gives back what runs leave for later ones, and runs again: how far the process grows
//! in that run (`/proc/self/status`, Linux only) is shown beside `Session::memory`. RINFER_THREADS
//! says on how many threads.

use std::path::Path;
use std::process::{Command, ExitCode};

use rinfer::{Memory, Session, Tensor};
use rinfer_tests::formats::npy;

/// glibc keeps what is freed for a while, unless its environment says otherwise.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "16384"), ("MALLOC_TRIM_THRESHOLD_", "16384")];

fn main() -> ExitCode {
    if ALLOCATOR.iter().any(|(name, _)| std::env::var_os(name).is_none()) {
        let again = std::env::current_exe().and_then(|exe| {
            Command::new(exe).args(std::env::args_os().skip(1)).envs(ALLOCATOR).status()
        });
        return if again.is_ok_and(|s| s.success()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut failed = args.is_empty() || args.len() % 2 != 0;
    println!(
        "{:<24} {:>12} {:>12} {:>12} {:>7}",
        "model", "planned", "of it scratch", "measured", "ratio"
    );
    for pair in args.chunks_exact(2) {
        let (model, folder) = (Path::new(&pair[0]), Path::new(&pair[1]));
        match measure(model, folder) {
            Ok((memory, measured)) => {
                let name = model.file_stem().unwrap_or_default().to_string_lossy();
                let planned = memory.arena + memory.outputs + memory.scratch;
                let (ratio, scratch) = (measured as f64 / planned as f64, memory.scratch);
                println!("{name:<24} {planned:>12} {scratch:>13} {measured:>12} {ratio:>7.3}");
            }
            Err(e) => {
                eprintln!("{}: {e}", model.display());
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is planned, and bytes that a run added.
fn measure(model: &Path, folder: &Path) -> Result<(Memory, usize), String> {
    let threads = std::env::var("RINFER_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let session = Session::builder().threads(threads).load(model).map_err(|e| e.to_string())?;
    let mut inputs: Vec<(&str, Tensor)> = Vec::new();
    for port in session.inputs() {
        let file = folder.join(format!("{}.npy", port.name));
        let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        inputs.push((&port.name, npy::decode(&bytes)?));
    }
    let run = || session.run(inputs.clone()).map(drop).map_err(|e| e.to_string());
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(n, t)| (*n, t.shape())).collect();
    let memory = session.memory(&shapes).map_err(|e| e.to_string())?;
    run()?;
    session.trim();
    // Each thread gives back what it keeps as soon as it is idle.
    std::thread::sleep(std::time::Duration::from_millis(50));
    std::fs::write("/proc/self/clear_refs", "5").map_err(|e| e.to_string())?;
    let before = status("VmRSS:")?;
    run()?;
    Ok((memory, status("VmHWM:")?.saturating_sub(before)))
}

/// A line of the process's status, in bytes.
fn status(key: &str) -> Result<usize, String> {
    let text = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line")?;
    let kib = line.trim().trim_end_matches(" kB").parse::<usize>().map_err(|e| e.to_string())?;
    Ok(kib * 1024)
}
