//! Tests in ONNX's folder layout: `model.onnx`, `test_data_set_*/{input,output}_*.pb`.

use std::path::{Path, PathBuf};

use rinfer::{Error, Kind, Model, RunOptions, Session, SessionBuilder};

use crate::compare::{Tolerance, compare};
use crate::formats;
use crate::inputs::read_set;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every output is right.
    Pass,
    /// It ran, and an output is wrong.
    Wrong(String),
    /// The engine said that it does not support this.
    Unsupported(String),
    /// The engine found the model or its inputs to be at fault, or could not run it.
    Failed(String),
}

impl Outcome {
    /// `pass`, `wrong`, `unsupported`, `failed`.
    pub fn class(&self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Wrong(_) => "wrong",
            Outcome::Unsupported(_) => "unsupported",
            Outcome::Failed(_) => "failed",
        }
    }

    /// What the engine or the comparison said.
    pub fn why(&self) -> &str {
        match self {
            Outcome::Pass => "",
            Outcome::Wrong(why) | Outcome::Unsupported(why) | Outcome::Failed(why) => why,
        }
    }

    /// What an error of the engine means for the test.
    pub fn engine(e: &Error) -> Outcome {
        match e.kind() {
            Kind::Unsupported => Outcome::Unsupported(e.to_string()),
            _ => Outcome::Failed(e.to_string()),
        }
    }
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
        // Links may lead in a circle.
        todo.extend(entries.map(|e| e.path()).filter(|p| p.is_dir() && !p.is_symlink()));
    }
    found.sort();
    found
}

/// Runs one test folder with the default settings.
pub fn run(dir: &Path) -> Outcome {
    run_with(dir, Tolerance::default(), Session::builder(), &RunOptions::new())
}

/// Runs one test folder.
pub fn run_with(
    dir: &Path,
    tolerance: Tolerance,
    builder: SessionBuilder,
    options: &RunOptions,
) -> Outcome {
    match Model::open(dir.join("model.onnx")) {
        Ok(model) => run_model(dir, model, tolerance, builder, options),
        Err(e) => Outcome::engine(&e),
    }
}

/// Runs one test folder; gives back the session, too, if there is one.
pub fn run_kept(
    dir: &Path,
    tolerance: Tolerance,
    builder: SessionBuilder,
    options: &RunOptions,
) -> (Outcome, Option<Session>) {
    let open = Model::open(dir.join("model.onnx")).and_then(|model| {
        let declared = model.info().declared_inputs.clone();
        Ok((builder.build(model)?, declared))
    });
    match open {
        Ok((session, declared)) => {
            (run_session(dir, &session, &declared, tolerance, options), Some(session))
        }
        Err(e) => (Outcome::engine(&e), None),
    }
}

/// Runs a model, the folder's own or one made from it, on the data of a test folder.
pub fn run_model(
    dir: &Path,
    model: Model,
    tolerance: Tolerance,
    builder: SessionBuilder,
    options: &RunOptions,
) -> Outcome {
    match try_run(dir, model, tolerance, builder, options) {
        Ok(()) => Outcome::Pass,
        Err(outcome) => outcome,
    }
}

fn try_run(
    dir: &Path,
    model: Model,
    tolerance: Tolerance,
    builder: SessionBuilder,
    options: &RunOptions,
) -> Result<(), Outcome> {
    let engine = |e: Error| Outcome::engine(&e);
    let declared = model.info().declared_inputs.clone();
    let session = builder.build(model).map_err(engine)?;
    check_sets(dir, &session, &declared, tolerance, options)
}

/// Runs a session of a folder's model on the folder's data; `declared` are the names of the inputs
/// as the file has them.
pub fn run_session(
    dir: &Path,
    session: &Session,
    declared: &[String],
    tolerance: Tolerance,
    options: &RunOptions,
) -> Outcome {
    match check_sets(dir, session, declared, tolerance, options) {
        Ok(()) => Outcome::Pass,
        Err(outcome) => outcome,
    }
}

fn check_sets(
    dir: &Path,
    session: &Session,
    declared: &[String],
    tolerance: Tolerance,
    options: &RunOptions,
) -> Result<(), Outcome> {
    let engine = |e: Error| Outcome::engine(&e);
    let tolerance = own_tolerance(dir, tolerance);
    let sets = data_sets(dir);
    if sets.is_empty() {
        return Err(Outcome::Failed("there is no test_data_set_*".into()));
    }
    for set in sets {
        let failed = |e: crate::failure::Failure| Outcome::Failed(e.message);
        let inputs = read_set(&set, declared, session.inputs()).map_err(failed)?;
        let found = session.run_with(inputs, options).map_err(engine)?;
        for (i, (port, found)) in session.outputs().iter().zip(&found).enumerate() {
            let file = set.join(format!("output_{i}.pb"));
            let bytes = formats::read(&file).map_err(failed)?;
            let expected = formats::pb::decode(bytes, &port.ty)
                .map_err(|e| Outcome::Failed(format!("{}: {e}", file.display())))?;
            compare(found, &expected, tolerance)
                .map_err(|e| Outcome::Wrong(format!("{}: {e}", port.name)))?;
        }
    }
    Ok(())
}

fn data_sets(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_set = |p: &PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        p.is_dir() && name.starts_with("test_data_set_")
    };
    let mut sets: Vec<PathBuf> = entries.map(|e| e.path()).filter(is_set).collect();
    sets.sort();
    sets
}

/// The folder's own tolerance, in `data.json` as `{"rtol": 0.002, "atol": 1e-07}`.
fn own_tolerance(dir: &Path, default: Tolerance) -> Tolerance {
    let text = std::fs::read(dir.join("data.json")).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    Tolerance {
        rtol: json["rtol"].as_f64().unwrap_or(default.rtol),
        atol: json["atol"].as_f64().unwrap_or(default.atol),
    }
}
