//! `rinfer test`: folders in ONNX's test layout.

use std::collections::BTreeMap;

use rinfer::Session;
use serde_json::json;

use crate::args::{PrintArgs, TestArgs};
use crate::context;
use crate::failure::{Code, Failure, Result};
use crate::folder::{self, Outcome};
use crate::formats;

/// Runs every test folder below the paths; exit code 1 if one does not pass.
pub fn test(args: &TestArgs, print: &PrintArgs) -> Result<()> {
    let device = context::device(&args.engine, print)?;
    let tuning = context::tuning(&args.engine)?;
    let options = context::run_options(args.engine.timeout)?;
    let to_stdout = args.json.as_ref().is_some_and(|file| file.as_os_str() == "-");
    let mut results = Vec::new();
    // The last session stays until the next one is there: they share a GPU and its kernels.
    let mut last = None;
    for root in &args.paths {
        let folders = folder::find(root);
        if folders.is_empty() {
            return Err(Failure::usage(format!("{}: no folder with a model.onnx", root.display())));
        }
        for dir in folders {
            let builder = Session::builder()
                .device(device.clone())
                .threads(args.engine.threads)
                .optimize(!args.engine.no_optimize)
                .limits(context::limits(&args.engine.limits));
            let builder = match &tuning {
                Some(tuning) => builder.tuning(tuning),
                None => builder,
            };
            let (outcome, session) =
                folder::run_kept(&dir, args.tolerance.into(), builder, &options);
            last = session.or(last);
            if !to_stdout && (!print.quiet || outcome != Outcome::Pass) {
                println!("{}: {} {}", dir.display(), outcome.class(), outcome.why());
            }
            results.push((dir, outcome));
        }
    }
    let passed = results.iter().filter(|(_, o)| *o == Outcome::Pass).count();
    let failed = results.len() - passed;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    results.iter().for_each(|(_, o)| *counts.entry(o.class()).or_default() += 1);
    let list: Vec<_> = results
        .iter()
        .map(|(dir, o)| json!({"test": dir.display().to_string(), "result": o.class(), "why": o.why()}))
        .collect();
    let report = json!({"passed": passed, "failed": failed, "counts": counts, "tests": list});
    match &args.json {
        Some(_) if to_stdout => println!("{report}"),
        Some(file) => formats::write(file, format!("{report:#}\n").as_bytes(), true)?,
        None => {}
    }
    if !to_stdout {
        println!("{passed} passed, {failed} failed");
    }
    if failed == 0 { Ok(()) } else { Err(Failure::new(Code::Differs, "")) }
}
