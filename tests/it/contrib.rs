//! Operators of com.microsoft against what ONNX Runtime computes: a few models that
//! `tests/contrib/run.py` drew; it draws any number of others.

use std::path::Path;

use rinfer_tests::folder::{Outcome, find, run};

#[test]
fn operators_of_com_microsoft_agree_with_onnx_runtime() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/contrib");
    let folders = find(&root);
    assert!(folders.len() > 90, "{} folders", folders.len());
    let mut bad = Vec::new();
    for dir in folders {
        match run(&dir) {
            Outcome::Pass => {}
            other => bad.push(format!("{}: {other:?}", dir.display())),
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
