//! `rinfer run`: a model once, its outputs shown, written, compared, and its time explained.

use std::collections::BTreeMap;
use std::path::Path;

use rinfer::{Event, Profiler, Value};
use serde_json::json;

use crate::args::{PrintArgs, RunArgs};
use crate::compare::{Tolerance, compare, distance};
use crate::context;
use crate::failure::{Code, Failure, Result};
use crate::formats::{self, ending};
use crate::inputs;
use crate::outputs;
use crate::stats::short;
use crate::table::Table;

/// Runs a model once.
pub fn run(args: &RunArgs, print: &PrintArgs) -> Result<()> {
    let dims = context::parse_dims(&args.input.dims)?;
    context::check_dims(&args.model, &args.engine.limits, &dims)?;
    let model = context::open(&args.model, &args.engine.limits, &dims)?;
    let given = inputs::gather(&args.model, &model, &args.input, print)?;
    let picked = args.outputs.clone();
    let session = context::session(&args.model, model, &args.engine, print, |builder| {
        if picked.is_empty() { builder } else { builder.outputs(picked) }
    })?;
    let profiler = Profiler::new();
    let mut options = context::run_options(args.engine.timeout)?;
    if args.profile.is_some() || args.profile_table {
        options = options.profile(&profiler);
    }
    let made = session.run_with(given, &options).map_err(|e| Failure::run(&args.model, e))?;
    let names = session.outputs().iter().map(|p| p.name.clone());
    let made: Vec<(String, Value)> = names.zip(made).collect();
    if let Some(dir) = &args.output_dir {
        outputs::write(dir, &made, args.output_format, args.overwrite)?;
    }
    if let Some(file) = &args.profile {
        formats::write(file, profiler.chrome_trace().as_bytes(), args.overwrite)?;
    }
    if print.json {
        let model = args.model.display().to_string();
        println!("{}", json!({"model": model, "outputs": outputs::json(&made)}));
    } else {
        print!("{}", outputs::table(&made));
    }
    if profiler.events().iter().any(|e| e.op == "Submission") {
        context::say(print, NO_TIMESTAMPS);
    }
    if args.profile_table {
        eprint!("{}", profile_tables(&profiler.events()));
    }
    match &args.compare {
        Some(path) => check(path, &made, args.tolerance.into(), print),
        None => Ok(()),
    }
}

/// What is said where nodes of a GPU could not be timed.
pub const NO_TIMESTAMPS: &str = "this GPU has no timestamps: the profile shows what is submitted \
    together as one, and not its nodes";

/// Time by operator, and the nodes that took longest.
fn profile_tables(events: &[Event]) -> String {
    let total: f64 = events.iter().map(|e| e.duration.as_secs_f64()).sum();
    let cells = |seconds: f64| [short(seconds * 1e3), format!("{:.1} %", 100.0 * seconds / total)];
    let mut by_op: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for e in events {
        let entry = by_op.entry(&e.op).or_default();
        *entry = (entry.0 + 1, entry.1 + e.duration.as_secs_f64());
    }
    let mut by_op: Vec<_> = by_op.into_iter().collect();
    by_op.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let mut ops = Table::new(&["op", "nodes", "ms", "share"]);
    for (op, (nodes, seconds)) in by_op {
        let [ms, share] = cells(seconds);
        ops.row([op.to_string(), nodes.to_string(), ms, share]);
    }
    let mut slowest: Vec<&Event> = events.iter().collect();
    slowest.sort_by_key(|e| std::cmp::Reverse(e.duration));
    let mut nodes = Table::new(&["node", "op", "ms", "share", "inputs", "outputs"]);
    for e in slowest.into_iter().take(20) {
        let [ms, share] = cells(e.duration.as_secs_f64());
        let (inputs, outputs) = (e.inputs.join(" "), e.outputs.join(" "));
        nodes.row([e.name.clone(), e.op.clone(), ms, share, inputs, outputs]);
    }
    format!("{ops}\n{nodes}")
}

/// Compares outputs with references; exit code 1 if one differs.
fn check(path: &Path, made: &[(String, Value)], tol: Tolerance, print: &PrintArgs) -> Result<()> {
    let mut table = Table::new(&["output", "max abs", "max rel", "cosine", "verdict"]);
    let mut wrong = 0;
    for (i, (name, found)) in made.iter().enumerate() {
        let Some(expected) = reference(path, i, name, found)? else {
            return Err(Failure::usage(format!(
                "{}: nothing to compare {name:?} with",
                path.display()
            )));
        };
        let d = distance(found, &expected);
        let cell = |f: fn(&crate::compare::Distance) -> f64| {
            d.as_ref().map_or("-".into(), |d| short(f(d)))
        };
        let verdict = compare(found, &expected, tol);
        wrong += verdict.is_err() as usize;
        let verdict = verdict.err().unwrap_or_else(|| "equal".into());
        table.row([
            name.clone(),
            cell(|d| d.max_abs),
            cell(|d| d.max_rel),
            cell(|d| d.cosine),
            verdict,
        ]);
    }
    context::say(print, table.to_string().trim_end());
    match wrong {
        0 => Ok(()),
        n => Err(Failure::new(Code::Differs, format!("{n} of {} outputs differ", made.len()))),
    }
}

/// The reference of output `i`: an array of a .npz, or a file of a folder, by name or number.
fn reference(path: &Path, i: usize, name: &str, found: &Value) -> Result<Option<Value>> {
    let bad = |file: &Path, e: String| Failure::usage(format!("{}: {e}", file.display()));
    if path.is_file() && ending(path) == "npz" {
        let arrays = formats::npz::decode(&formats::read(path)?).map_err(|e| bad(path, e))?;
        let safe = outputs::file_name(name);
        return Ok(arrays.into_iter().find(|a| a.0 == name || a.0 == safe).map(|a| a.1.into()));
    }
    let named = |ending: &str| path.join(format!("{}.{ending}", outputs::file_name(name)));
    let files = [named("npy"), named("pb"), named("json"), path.join(format!("output_{i}.pb"))];
    let Some(file) = files.into_iter().find(|file| file.is_file()) else { return Ok(None) };
    let bytes = formats::read(&file)?;
    let value = match ending(&file).as_str() {
        "npy" => formats::npy::decode(&bytes).map(Value::from),
        "json" => formats::json::decode(&bytes, &found.ty()),
        _ => formats::pb::decode(bytes, &found.ty()),
    };
    value.map(Some).map_err(|e| bad(&file, e))
}
