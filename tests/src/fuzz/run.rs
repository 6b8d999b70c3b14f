//! Fuzzing without libFuzzer: seeds, mutated for a while.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use super::{Mutator, Target};

/// Longer inputs are slow, and find little more.
const LONGEST: usize = 16 << 10;
/// An input that takes longer is a defect too.
const SLOW: Duration = Duration::from_secs(20);

/// An input that found a defect.
#[derive(Debug)]
pub struct Found {
    /// The input.
    pub input: Vec<u8>,
    /// What happened.
    pub what: String,
}

/// Runs a target on all `seeds`, then on what a mutator makes of them until the time is up; how
/// many inputs there were.
///
/// # Errors
/// The first input that found a defect.
pub fn run(target: &Target, seeds: &[Vec<u8>], seed: u64, time: Duration) -> Result<usize, Found> {
    let began = Instant::now();
    let mut mutator = Mutator::new(seed, LONGEST);
    let mut inputs = 0;
    for input in seeds {
        one(target, input)?;
        inputs += 1;
    }
    while began.elapsed() < time {
        one(target, &mutator.next(seeds))?;
        inputs += 1;
    }
    Ok(inputs)
}

fn one(target: &Target, input: &[u8]) -> Result<(), Found> {
    let found = |what: String| Err(Found { input: input.to_vec(), what });
    let began = Instant::now();
    if let Err(payload) = catch_unwind(|| (target.run)(input)) {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        return found(text.unwrap_or("a panic without words").to_string());
    }
    match began.elapsed() {
        took if took > SLOW => found(format!("it took {took:?}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_is_found_with_its_input() {
        let target = Target { name: "x", run: |data| assert!(!data.contains(&b'!'), "seen") };
        let time = Duration::from_secs(60);
        let found = run(&target, &[b"abc".to_vec()], 1, time).unwrap_err();
        assert!(found.input.contains(&b'!') && found.what.contains("seen"), "{found:?}");
        let fine = Target { name: "y", run: |_| () };
        assert!(run(&fine, &[b"abc".to_vec()], 1, Duration::from_millis(20)).unwrap() > 10);
    }
}
