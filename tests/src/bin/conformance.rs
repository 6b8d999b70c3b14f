//! Runs test folders in ONNX's layout, each in a process of its own, and counts how they end.
//!
//! conformance [--filter TEXT] [--verbose] [--way plain|optimized|written|both|gpu] FOLDER…
//!
//! conformance --here …     runs them in this process, one after the other: kernels are shared
//!
//! conformance --rows FOLDER…      prints what the tests that pass show, see the module `matrix`
//!
//! conformance --serve      answers requests, see the module `server`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rinfer_tests::folder::find;
use rinfer_tests::runner::{self, TestResult, Way};
use rinfer_tests::{matrix, server};

fn main() {
    let (mut filter, mut verbose, mut roots) = (String::new(), false, Vec::new());
    let (mut rows, mut here) = (false, false);
    let mut way = String::from("optimized");
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--filter" => filter = args.next().unwrap_or_default(),
            "--verbose" => verbose = true,
            "--rows" => rows = true,
            "--here" => here = true,
            "--way" => way = args.next().unwrap_or_default(),
            "--one" => return one(&args.next().unwrap_or_default(), &way),
            "--serve" => return serve(),
            root => roots.push(PathBuf::from(root)),
        }
    }
    let matches = |p: &PathBuf| p.to_string_lossy().contains(&filter);
    let tests: Vec<PathBuf> = roots.iter().flat_map(|root| find(root)).filter(matches).collect();
    let me = std::env::current_exe().expect("a program knows its own file");
    let results = match Way::NAMES.iter().find(|(name, _)| *name == way) {
        Some((_, way)) if here => runner::run_here(&tests, *way, |name, _| eprintln!("{name}")),
        _ => runner::run_all(&me, &tests, &way),
    };
    if rows {
        return print_rows(&tests, &results, if way == "gpu" { "gpu" } else { "cpu" });
    }
    for (name, result) in &results {
        if verbose || result.class != "pass" {
            println!("{name}: {} {}", result.class, result.why.replace('\n', " "));
        }
    }
    let counts = runner::counts(&results);
    println!("{counts:?}");
    let passed = counts.get("pass").copied().unwrap_or(0);
    println!("{passed} passed, {} failed", results.len() - passed);
}

/// Runs one test here.
fn one(folder: &str, way: &str) {
    match Way::NAMES.iter().find(|(name, _)| *name == way) {
        Some((_, way)) => runner::one(Path::new(folder), *way),
        None => println!("failed there is no way {way:?}"),
    }
}

/// What the tests of one node show that pass, a line of JSON each.
fn print_rows(tests: &[PathBuf], results: &BTreeMap<String, TestResult>, backend: &str) {
    let passes = |dir: &&PathBuf| results[&runner::name(dir)].class == "pass";
    let rows: BTreeSet<_> =
        tests.iter().filter(passes).filter_map(|dir| matrix::row(dir)).collect();
    for (domain, name, version, dtype) in rows {
        println!("[{domain:?}, {name:?}, {version}, {dtype:?}, {backend:?}]");
    }
}

/// Answers requests until the input ends.
fn serve() {
    if let Err(e) = server::serve(std::io::stdin().lock(), std::io::stdout().lock()) {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
