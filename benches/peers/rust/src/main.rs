//! One engine with one model, for `compare.py`: `peers ENGINE MODEL CASE THREADS OUT`.
//!
//! Loads the model, runs it once on the arrays in CASE, writes what it made into OUT, and says how
//! long that took. Then each line of stdin asks for something: a number for that many runs, each
//! with its time, `memory` for the most memory there was, less what there was before loading.

mod engines;
mod npy;

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use npy::Array;

/// What engines and files fail with.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;
/// A model that is loaded, and its inputs: runs, and keeps what it made if it is given a place.
pub type Run = Box<dyn FnMut(Option<&mut Vec<(String, Array)>>) -> Result<()>>;

/// The most memory this process has had, in bytes.
fn high_water() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?;
    Ok(kib.parse::<u64>()? << 10)
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [engine, model, case, threads, out] = args.as_slice() else {
        return Err("peers ENGINE MODEL CASE THREADS OUT".into());
    };
    let inputs = npy::read_folder(Path::new(case))?;
    let (before, start) = (high_water()?, Instant::now());
    let mut run = engines::load(engine, model, threads.parse()?, &inputs)?;
    let load = ms(start);
    let mut made = Vec::new();
    run(Some(&mut made))?;
    let first = ms(start);
    for (name, array) in &made {
        let keep = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let safe: String = name.chars().map(|c| if keep(c) { c } else { '_' }).collect();
        npy::write(&Path::new(out).join(format!("{safe}.npy")), array)?;
    }
    drop(made);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{{\"load_ms\": {load}, \"first_ms\": {first}}}")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.trim() == "memory" {
            writeln!(stdout, "{}", high_water()?.saturating_sub(before))?;
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..line.trim().parse::<usize>()? {
            let start = Instant::now();
            run(None)?;
            times.push(ms(start).to_string());
        }
        writeln!(stdout, "[{}]", times.join(", "))?;
    }
    Ok(())
}
