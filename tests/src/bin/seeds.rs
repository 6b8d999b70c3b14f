//! Writes what fuzzing starts from: small files of every kind that the targets in `fuzz/` read.
//!
//! seeds FOLDER [TESTS]: FOLDER/TARGET/… for every target; TESTS is a folder of official ONNX tests,
//! whose models and tensors are seeds too.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rinfer_tests::fuzz::seeds;

fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (root, tests) = match args.as_slice() {
        [root] => (root, None),
        [root, tests] => (root, Some(tests.as_path())),
        _ => {
            eprintln!("seeds FOLDER [TESTS]");
            return ExitCode::from(2);
        }
    };
    match write(root, tests) {
        Ok(n) => {
            println!("{n} seeds");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{}: {e}", root.display());
            ExitCode::FAILURE
        }
    }
}

fn write(root: &Path, tests: Option<&Path>) -> std::io::Result<usize> {
    seeds::write(&seeds::make(tests, &root.join("cases"))?, root)
}
