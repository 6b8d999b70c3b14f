//! Runs many test folders, each in a process of its own, where a crash is a result like any other,
//! or all in this one.

use std::collections::BTreeMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rinfer::{Device, Error, Model, RunOptions, Session};

use crate::compare::Tolerance;
use crate::folder::{self, Outcome};

/// How long one test may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How one test ended: `pass`, `wrong`, `unsupported`, `failed`, `crash` or `timeout`.
#[derive(Clone, Debug)]
pub struct TestResult {
    /// The class.
    pub class: String,
    /// What the engine or the comparison said.
    pub why: String,
}

/// What becomes of a model before it runs, and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It runs as it is in the file.
    Plain,
    /// The session optimizes it, as users have it.
    Optimized,
    /// It is written as ONNX and read again.
    Written,
    /// It is optimized, written as ONNX and read again.
    Both,
    /// Optimized, on a GPU: what does not run there at all does not pass.
    Gpu,
}

impl Way {
    /// All of them, by name.
    pub const NAMES: &[(&str, Way)] = &[
        ("plain", Way::Plain),
        ("optimized", Way::Optimized),
        ("written", Way::Written),
        ("both", Way::Both),
        ("gpu", Way::Gpu),
    ];

    /// Runs the model of a test folder this way.
    fn run(self, dir: &Path) -> Result<Outcome, Error> {
        let mut model = Model::open(dir.join("model.onnx"))?;
        if self == Way::Both {
            model.optimize()?;
        }
        if matches!(self, Way::Written | Way::Both) {
            model = Model::from_bytes(model.to_onnx()?)?;
        }
        let tolerance = Tolerance::default();
        if self == Way::Gpu {
            return on_gpu(dir, model);
        }
        let builder = Session::builder().optimize(self == Way::Optimized);
        Ok(folder::run_model(dir, model, tolerance, builder, &RunOptions::new()))
    }
}

/// Runs the model of a test folder on a GPU.
fn on_gpu(dir: &Path, model: Model) -> Result<Outcome, Error> {
    let declared = model.info().declared_inputs.clone();
    let session = Session::builder().device(Device::Gpu(None)).build(model)?;
    let options = RunOptions::new();
    let outcome = folder::run_session(dir, &session, &declared, Tolerance::default(), &options);
    let on_gpu = session.placements().iter().any(|p| p.backend == "gpu");
    // The first session stays, and with it the device and the kernels that were compiled.
    static FIRST: OnceLock<Session> = OnceLock::new();
    FIRST.get_or_init(|| session);
    Ok(match outcome {
        Outcome::Pass if !on_gpu => Outcome::Unsupported("nothing of it runs on the GPU".into()),
        outcome => outcome,
    })
}

/// Runs every test in processes of `exe` (which must hand `--way NAME --one FOLDER` to [`one`]), as
/// many at a time as there are cores. Names are `suite/test`.
pub fn run_all(exe: &Path, tests: &[PathBuf], way: &str) -> BTreeMap<String, TestResult> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let line = spawn(exe, test, way);
                    let (class, why) = line.split_once(' ').unwrap_or((&line, ""));
                    let result = TestResult { class: class.into(), why: why.trim().into() };
                    let mut results = results.lock().unwrap_or_else(|e| e.into_inner());
                    results.insert(name(test), result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(|e| e.into_inner())
}

/// Runs every test in this process, one after the other, so that they share what is made once;
/// `each` is told how each one ended.
pub fn run_here(
    tests: &[PathBuf],
    way: Way,
    mut each: impl FnMut(&str, &TestResult),
) -> BTreeMap<String, TestResult> {
    let mut results = BTreeMap::new();
    for test in tests {
        let run = AssertUnwindSafe(|| way.run(test).unwrap_or_else(|e| Outcome::engine(&e)));
        let result = match catch_unwind(run) {
            Ok(outcome) => {
                TestResult { class: outcome.class().into(), why: outcome.why().trim().into() }
            }
            Err(_) => TestResult { class: "crash".into(), why: "it panicked".into() },
        };
        let name = name(test);
        each(&name, &result);
        results.insert(name, result);
    }
    results
}

/// `node/test_relu`.
pub fn name(test: &Path) -> String {
    let part = |p: Option<&Path>| {
        p.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
    };
    format!("{}/{}", part(test.parent()), part(Some(test)))
}

/// How many tests ended in each way.
pub fn counts(results: &BTreeMap<String, TestResult>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    results.values().for_each(|r| *counts.entry(r.class.clone()).or_default() += 1);
    counts
}

/// Runs one test in this process and prints how it ended.
pub fn one(dir: &Path, way: Way) {
    let outcome = way.run(dir).unwrap_or_else(|e| Outcome::engine(&e));
    println!("{} {}", outcome.class(), outcome.why());
}

/// Runs one test in a process of its own; its line, or how the process died.
fn spawn(exe: &Path, test: &Path, way: &str) -> String {
    let child = Command::new(exe)
        .args(["--way".as_ref(), way.as_ref(), "--one".as_ref(), test.as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => return format!("crash {e}"),
    };
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() > TIMEOUT => {
                let _ = child.kill();
                let _ = child.wait();
                return format!("timeout after {} s", TIMEOUT.as_secs());
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(e) => return format!("crash {e}"),
        }
    };
    let mut out = String::new();
    let _ = child.stdout.take().map(|mut p| p.read_to_string(&mut out));
    if status.success() && !out.trim().is_empty() {
        return out.trim().to_string();
    }
    let mut err = String::new();
    let _ = child.stderr.take().map(|mut p| p.read_to_string(&mut err));
    let head: Vec<&str> = err.trim().lines().take(3).collect();
    format!("crash {status} {}", head.join(" | "))
}
