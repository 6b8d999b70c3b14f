//! Tests in ONNX's folder layout: `model.onnx`, `test_data_set_*/{input,output}_*.pb`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rinfer::graph::onnx::values;
use rinfer::{Error, Kind, Model, Session, Value};

use crate::compare::{Tolerance, compare};

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every output is right.
    Pass,
    /// It ran, and an output is wrong.
    Wrong(String),
    /// The engine said that it cannot do this.
    Unsupported(String),
    /// The engine found the model or its inputs to be at fault.
    Failed(String),
}

/// Folders below `root` that hold a `model.onnx`, sorted.
pub fn find(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        if dir.join("model.onnx").is_file() {
            found.push(dir);
            continue;
        }
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        todo.extend(entries.map(|e| e.path()).filter(|p| p.is_dir()));
    }
    found.sort();
    found
}

/// Runs one test folder.
pub fn run(dir: &Path) -> Outcome {
    match try_run(dir) {
        Ok(()) => Outcome::Pass,
        Err(outcome) => outcome,
    }
}

fn engine(e: Error) -> Outcome {
    match e.kind() {
        Kind::Unsupported => Outcome::Unsupported(e.to_string()),
        _ => Outcome::Failed(e.to_string()),
    }
}

fn try_run(dir: &Path) -> Result<(), Outcome> {
    let path = dir.join("model.onnx");
    let model = Model::open(&path).map_err(engine)?;
    let declared = model.info().declared_inputs.clone();
    let session = Session::builder().build(model).map_err(engine)?;
    let tol = tolerance(dir);
    let mut sets: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            p.is_dir()
                && p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("test_data_set_"))
        })
        .collect();
    sets.sort();
    if sets.is_empty() {
        return Err(Outcome::Failed("there is no test data".into()));
    }
    for set in sets {
        let inputs = read_inputs(&session, &declared, &set)?;
        let found = session.run(inputs).map_err(engine)?;
        for (i, (port, found)) in session.outputs().iter().zip(&found).enumerate() {
            let file = set.join(format!("output_{i}.pb"));
            let bytes = std::fs::read(&file)
                .map_err(|e| Outcome::Failed(format!("{}: {e}", file.display())))?;
            let expected = values::decode(Bytes::from(bytes), &port.ty)
                .map_err(|e| Outcome::Failed(format!("{}: {e}", file.display())))?;
            compare(found, &expected, tol)
                .map_err(|e| Outcome::Wrong(format!("{}: {e}", port.name)))?;
        }
    }
    Ok(())
}

/// `input_<i>.pb` indexes all declared inputs if there are as many files, else those that are no
/// initializers.
fn read_inputs(
    session: &Session,
    declared: &[String],
    set: &Path,
) -> Result<Vec<(String, Value)>, Outcome> {
    let files = (0..).take_while(|i| set.join(format!("input_{i}.pb")).is_file()).count();
    let required: Vec<String> = session.inputs().iter().map(|p| p.name.clone()).collect();
    let names = if files == declared.len() { declared } else { &required };
    let mut inputs = Vec::new();
    for (i, name) in names.iter().enumerate().take(files) {
        let Some(port) = session.inputs().iter().find(|p| p.name == *name) else { continue };
        let file = set.join(format!("input_{i}.pb"));
        let bytes = std::fs::read(&file).map_err(|e| Outcome::Failed(e.to_string()))?;
        let value = values::decode(Bytes::from(bytes), &port.ty)
            .map_err(|e| Outcome::Unsupported(format!("{}: {e}", file.display())))?;
        inputs.push((name.clone(), value));
    }
    Ok(inputs)
}

/// The folder's own tolerance, in `data.json` as `{"rtol": 0.002, "atol": 1e-07}`.
fn tolerance(dir: &Path) -> Tolerance {
    let mut tol = Tolerance::default();
    let text = std::fs::read_to_string(dir.join("data.json")).unwrap_or_default();
    let number = |key: &str| {
        let rest = &text[text.find(&format!("\"{key}\""))? + key.len() + 2..];
        let rest = rest.trim_start().strip_prefix(':')?.trim_start();
        let end = rest.find([',', '}', '\n']).unwrap_or(rest.len());
        rest[..end].trim().parse::<f64>().ok()
    };
    tol.rtol = number("rtol").unwrap_or(tol.rtol);
    tol.atol = number("atol").unwrap_or(tol.atol);
    tol
}
