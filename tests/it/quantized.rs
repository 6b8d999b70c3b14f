//! Quantized operators of com.microsoft: random models of one node, with the outputs that ONNX
//! Runtime gave. `python3 tests/contrib/quantized.py --keep tests/contrib/cases` wrote them.

use std::path::Path;

use rinfer_tests::folder::{Outcome, find, run};

#[test]
fn quantized_operators_agree_with_onnx_runtime() {
    let tests = find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/cases"));
    assert!(tests.len() > 20, "{} tests", tests.len());
    for dir in tests {
        assert_eq!(run(&dir), Outcome::Pass, "{}", dir.display());
    }
}
