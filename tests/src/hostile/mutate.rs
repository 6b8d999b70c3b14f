//! Right models made wrong: cut short anywhere, bits flipped anywhere.
//!
//! Whatever comes out is loaded and run under strict limits. It may be refused or answered; a
//! panic that was caught is a defect, one that was not ends the process.

use std::time::Duration;

use rinfer::{DType, Dim, Kind, Limits, Port, RunOptions, Session, Strings, Tensor, Type, Value};
use rinfer_cli::fill::Random;

/// Limits that make thousands of models a second possible.
pub fn limits() -> Limits {
    Limits {
        nodes: 10_000,
        memory: 64 << 20,
        tensor_bytes: 16 << 20,
        loop_iterations: 1000,
        run_time: Some(Duration::from_millis(200)),
        ..Limits::untrusted()
    }
}

/// Loads a file and runs it; how far it came, or the defect.
///
/// # Errors
/// The engine broke a promise of its own.
pub fn survive(file: &[u8]) -> Result<Outcome, String> {
    let defect = |e: rinfer::Error| match e.kind() {
        Kind::Internal => Err(e.to_string()),
        _ => Ok(()),
    };
    let builder = Session::builder().threads(1).limits(limits());
    let session = match builder.load_bytes(file.to_vec()) {
        Ok(session) => session,
        Err(e) => return defect(e).map(|()| Outcome::Refused),
    };
    let inputs: Option<Vec<(String, Value)>> =
        session.inputs().iter().map(|p| Some((p.name.clone(), filled(p)?))).collect();
    let Some(inputs) = inputs else { return Ok(Outcome::Loaded) };
    match session.run_with(inputs, &RunOptions::new()) {
        Ok(_) => Ok(Outcome::Ran),
        Err(e) => defect(e).map(|()| Outcome::Loaded),
    }
}

/// How far a file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not loaded.
    Refused,
    /// It was loaded, but not run to the end.
    Loaded,
    /// It gave outputs.
    Ran,
}

/// Something that fits an input; `None` if that takes more than a mutation is worth.
fn filled(port: &Port) -> Option<Value> {
    let Type::Tensor(dtype) = port.ty else { return None };
    let shape: Vec<usize> =
        port.shape.iter().flatten().map(|d| Dim::size(d).unwrap_or(2)).collect();
    let n = rinfer::graph::shape::count(&shape).filter(|&n| n <= 1 << 16)?;
    if dtype == DType::String {
        return Strings::new(&shape, vec!["a".into(); n]).ok().map(Value::from);
    }
    let mut t = Tensor::try_zeros(dtype, &shape).ok()?;
    if dtype == DType::F32 {
        t.as_mut_slice::<f32>().iter_mut().enumerate().for_each(|(i, x)| *x = i as f32 * 0.1);
    }
    Some(t.into())
}

/// Counts of outcomes: refused, loaded, ran.
pub type Counts = [usize; 3];

/// Every prefix of a file whose length is a multiple of `step`.
///
/// # Errors
/// The first defect, and the prefix.
pub fn prefixes(file: &[u8], step: usize) -> Result<Counts, String> {
    let mut counts = [0; 3];
    for len in (0..file.len()).step_by(step.max(1)) {
        let outcome = survive(&file[..len]).map_err(|e| format!("the first {len} bytes: {e}"))?;
        counts[outcome as usize] += 1;
    }
    Ok(counts)
}

/// `file` with one to eight bits flipped, as the seed says.
pub fn flipped(file: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = Random(seed);
    let mut bad = file.to_vec();
    for _ in 0..1 + rng.bits() % 8 {
        let at = rng.bits() as usize % (8 * bad.len().max(1));
        if let Some(byte) = bad.get_mut(at / 8) {
            *byte ^= 1 << (at % 8);
        }
    }
    bad
}

/// Flips bits of a file `times` times, each time anew; the seeds count up from `seed`.
///
/// # Errors
/// The first defect, and its seed.
pub fn flips(file: &[u8], times: usize, seed: u64) -> Result<Counts, String> {
    let mut counts = [0; 3];
    for i in 0..times as u64 {
        let outcome =
            survive(&flipped(file, seed + i)).map_err(|e| format!("seed {}: {e}", seed + i))?;
        counts[outcome as usize] += 1;
    }
    Ok(counts)
}
