//! Drawn models against what an oracle computes: a few of those that `tests/contrib/run.py`,
//! `tests/contrib/quantized.py` and `tests/differential/run.py` drew; they draw any number of others.

use std::path::Path;

use rinfer_tests::folder::{Outcome, find, run};

/// Runs all tests of a folder, which must be more than `least`.
fn check(folder: &str, least: usize) {
    let tests = find(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    assert!(tests.len() > least, "{} tests in {folder}", tests.len());
    let failed = |dir: &std::path::PathBuf| match run(dir) {
        Outcome::Pass => None,
        other => Some(format!("{}: {other:?}", dir.display())),
    };
    let bad: Vec<String> = tests.iter().filter_map(failed).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn operators_of_com_microsoft_agree_with_onnx_runtime() {
    check("models/contrib", 90);
}

#[test]
fn quantized_operators_agree_with_onnx_runtime() {
    check("contrib/cases", 20);
}

#[test]
fn what_random_nodes_found_stays_found() {
    check("models/drawn", 3);
}
