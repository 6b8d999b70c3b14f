//! Every fuzz target for a while, without libFuzzer: RINFER_FUZZ_SECONDS each, with mutations that
//! RINFER_FUZZ_SEED decides.
//!
//! RINFER_FUZZ_INPUT=FILE RINFER_FUZZ_TARGET=NAME cargo test -p rinfer-tests --test it replay
//! does again what an input did.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rinfer_tests::fuzz::{self, Found, TARGETS, Target, seeds};

/// A number of the environment.
fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// Writes an input down; what was found, and how to see it again.
fn report(target: &Target, found: &Found) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let hash = found.input.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let path = folder.join(format!("{}-{hash:016x}", target.name));
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &found.input));
    let place =
        written.map_or_else(|e| format!("(not written: {e})"), |()| path.display().to_string());
    format!(
        "{name}: {what}\n  again: RINFER_FUZZ_TARGET={name} RINFER_FUZZ_INPUT={place} \
         cargo test -p rinfer-tests --test it replay",
        name = target.name,
        what = found.what,
    )
}

#[test]
fn no_target_finds_a_defect() {
    let time = Duration::from_secs(number("RINFER_FUZZ_SECONDS", 5));
    let seed = number("RINFER_FUZZ_SEED", 1);
    let tests = std::env::var_os("RINFER_CONFORMANCE").map(PathBuf::from);
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-seeds");
    let seeds = seeds::make(tests.as_deref(), &scratch).unwrap();
    let (left, bad) = (Mutex::new(TARGETS.to_vec()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(target) = left.lock().unwrap().pop() else { return };
                    match fuzz::run(&target, &seeds[target.name], seed, time) {
                        Ok(inputs) => println!("{}: {inputs} inputs", target.name),
                        Err(found) => bad.lock().unwrap().push(report(&target, &found)),
                    }
                }
            });
        }
    });
    let bad = bad.into_inner().unwrap();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn replay() {
    let Some(input) = std::env::var_os("RINFER_FUZZ_INPUT") else { return };
    let name = std::env::var("RINFER_FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|t| t.name == name);
    let target = target.unwrap_or_else(|| panic!("RINFER_FUZZ_TARGET names no target: {name:?}"));
    (target.run)(&std::fs::read(input).unwrap());
}
