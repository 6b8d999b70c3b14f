//! The official ONNX tests on a GPU, all in this process: kernels are compiled once.
//!
//! `tests/conformance/gpu_expected.txt` says how many do not pass, and why. Without an adapter the
//! test is skipped, and says so.

use std::collections::BTreeMap;

use rinfer_cli::tested;
use rinfer_tests::folder::find;
use rinfer_tests::matrix;
use rinfer_tests::runner::{self, TestResult, Way};

use crate::onnx_node::official;

/// Tests that end in this way for this reason.
struct Group {
    count: usize,
    class: &'static str,
    text: &'static str,
}

impl Group {
    fn fits(&self, name: &str, result: &TestResult) -> bool {
        let named = name.contains(self.text) || result.why.contains(self.text);
        result.class == self.class && named
    }
}

fn groups() -> Vec<Group> {
    include_str!("../conformance/gpu_expected.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let parts: Vec<&str> = line.split('|').map(str::trim).collect();
            let [count, class, text, reason] = parts[..] else { panic!("{line:?}") };
            assert!(!reason.is_empty(), "{line:?} has no reason");
            Group { count: count.parse().expect("a number"), class, text }
        })
        .collect()
}

#[test]
fn official_tests_pass_on_a_gpu_but_for_the_expected_ones() {
    if rinfer::adapters().is_empty() {
        println!("skipped: no GPU adapter was found");
        return;
    }
    let tests = find(&official());
    let results = runner::run_here(&tests, Way::Gpu, |_, _| {});
    let groups = groups();
    let mut counts = vec![0; groups.len()];
    let mut problems = Vec::new();
    for (name, result) in results.iter().filter(|(_, result)| result.class != "pass") {
        match groups.iter().position(|group| group.fits(name, result)) {
            Some(i) => counts[i] += 1,
            None => problems.push(format!("{name}: {} {}", result.class, result.why)),
        }
    }
    for (group, count) in groups.iter().zip(counts) {
        if group.count != count {
            let (n, text) = (group.count, group.text);
            problems.push(format!("{count} tests are {} by {text:?}, not {n}", group.class));
        }
    }
    let tested = tested::tested();
    let passed = |dir: &&std::path::PathBuf| results[&runner::name(dir)].class == "pass";
    for (domain, name, version, dtype) in
        tests.iter().filter(passed).filter_map(|dir| matrix::row(dir))
    {
        let rows = tested.get(&(domain, name.clone()));
        let types = rows.and_then(|rows| rows.get(&("gpu".to_string(), version)));
        if !types.is_some_and(|types| types.contains(&dtype)) {
            problems.push(format!(
                "{name}-{version} of {dtype} passes on the GPU and is not in tested.json"
            ));
        }
    }
    let classes: BTreeMap<String, usize> = runner::counts(&results);
    println!("{classes:?}");
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
