//! Whole models that people trained, with the outputs that ONNX Runtime gave for them.

use std::path::Path;

use rinfer_tests::folder::{Outcome, run};

fn check(name: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    assert_eq!(run(&dir), Outcome::Pass, "{name}");
}

#[test]
fn digits_classifier() {
    check("digits");
}

#[test]
fn mnist_of_opset_8() {
    check("mnist");
}

#[test]
fn ultraface_detector() {
    check("ultraface-rfb-320");
}

#[test]
fn silero_voice_activity() {
    check("silero-vad");
}

#[test]
fn dtln_noise_suppressor() {
    check("dtln-1");
}

#[test]
fn xgboost_classifier() {
    check("xgboost-classifier");
}
