//! The official ONNX tests. `tests/conformance/generate.py` writes them; `expected_failures.txt`
//! lists those that are known not to pass, each with its reason, and a listed test that passes
//! fails here too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rinfer_tests::folder::find;
use rinfer_tests::runner;

/// How many there are in the pinned version of the `onnx` package.
const TESTS: usize = 2036;

/// Where the official tests lie.
pub fn official() -> PathBuf {
    let root = std::env::var_os("RINFER_CONFORMANCE").map(PathBuf::from);
    root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/conformance"))
}

#[test]
fn official_tests_pass_but_for_the_expected_failures() {
    let root = official();
    let tests = find(&root);
    assert_eq!(
        tests.len(),
        TESTS,
        "tests below {}; `python3 tests/conformance/generate.py` writes them",
        root.display()
    );
    let results =
        runner::run_all(Path::new(env!("CARGO_BIN_EXE_conformance")), &tests, "optimized");
    let expected = expected_failures();
    let mut problems = Vec::new();
    for (name, result) in &results {
        match (result.class.as_str(), expected.get(name.as_str())) {
            ("pass", None) => {}
            ("pass", Some(_)) => {
                problems.push(format!("{name} passes, and is listed as a failure"))
            }
            ("crash" | "timeout", _) => {
                problems.push(format!("{name}: {} {}", result.class, result.why))
            }
            (_, Some(_)) => {}
            (class, None) => problems.push(format!("{name}: {class} {}", result.why)),
        }
    }
    let unknown = expected.keys().filter(|name| !results.contains_key(**name));
    problems
        .extend(unknown.map(|name| format!("{name} is listed as a failure and does not exist")));
    println!("{:?}", runner::counts(&results));
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// `name: reason`, one a line; `#` begins a comment.
pub fn expected_failures() -> BTreeMap<&'static str, &'static str> {
    include_str!("../conformance/expected_failures.txt")
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, reason) = line.split_once(": ").expect("`name: reason`");
            assert!(!reason.trim().is_empty(), "{name} has no reason");
            (name, reason)
        })
        .collect()
}
