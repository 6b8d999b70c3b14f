//! `rinfer compare`: two models, or one under two settings, on the same inputs.

use std::collections::BTreeSet;
use std::path::Path;

use rinfer::{Model, Value};
use serde_json::json;

use crate::args::{BackendChoice, CompareArgs, EngineArgs, PrecisionChoice, PrintArgs};
use crate::compare::{Distance, compare as equal, distance};
use crate::context;
use crate::failure::{Code, Failure, Result};
use crate::inputs::{self, Inputs};
use crate::stats::short;
use crate::table::Table;
use crate::verbs::layers;

/// Compares the outputs, or every value that both have by name; exit code 1 if one differs.
pub fn compare(args: &CompareArgs, print: &PrintArgs) -> Result<()> {
    let (engine_a, mut engine_b) = engines(args)?;
    let dims = context::parse_dims(&args.input.dims)?;
    context::check_dims(&args.a, &args.limits, &dims)?;
    let open = |path: &Path| context::open(path, &args.limits, &dims);
    let path_b = args.b.as_ref().unwrap_or(&args.a);
    let model_a = open(&args.a)?;
    let given = inputs::gather(&args.a, &model_a, &args.input, print)?;
    let one = args.b.is_none();
    if args.per_layer && one && engine_a.backend != engine_b.backend {
        return layers::compare(model_a, given, (&engine_a, &engine_b), args, print);
    }
    let model_b = open(path_b)?;
    let names = if args.per_layer { common_values(&model_a, &model_b) } else { Vec::new() };
    // One model against itself: as it runs against as it is in the file.
    engine_b.no_optimize |= one && args.backends.len() == 1 && args.backend_b.is_none();
    let a = run(&args.a, model_a, &engine_a, given.clone(), &names, print)?;
    let b = run(path_b, model_b, &engine_b, given, &names, print)?;
    report(&a, &b, args, print)
}

/// Where both run.
fn engines(args: &CompareArgs) -> Result<(EngineArgs, EngineArgs)> {
    let (a, b) = match (&args.backends[..], args.backend_b) {
        (&[a], b) => (a, b.unwrap_or(a)),
        (&[a, b], None) => (a, b),
        _ => return Err(Failure::usage("two backends at most: that of A and that of B")),
    };
    let gpus = [a, b].iter().any(|&b| b != BackendChoice::Cpu);
    if args.device.is_some() && !gpus {
        return Err(Failure::usage("--device names a GPU, --backend is cpu"));
    }
    // Beside a GPU's 16 bits the processor computes in 32.
    let precision = |backend| match gpus && backend == BackendChoice::Cpu {
        true => PrecisionChoice::F32,
        false => args.precision,
    };
    let engine = |backend| EngineArgs {
        backend,
        precision: precision(backend),
        device: args.device.clone().filter(|_| backend != BackendChoice::Cpu),
        tuned: args.tuned,
        threads: args.threads,
        limits: args.limits.clone(),
        timeout: args.timeout,
        no_optimize: args.no_optimize,
    };
    Ok((engine(a), engine(b)))
}

/// The names that both graphs give to values made by nodes, in the order of the first.
fn common_values(a: &Model, b: &Model) -> Vec<String> {
    let made = |m: &Model| -> Vec<String> {
        let g = m.graph();
        let outputs = g.nodes().flat_map(|(_, n)| n.outputs.iter());
        outputs.filter_map(|&v| g.name(v).map(|n| n.to_string())).collect()
    };
    let theirs: BTreeSet<String> = made(b).into_iter().collect();
    made(a).into_iter().filter(|name| theirs.contains(name)).collect()
}

fn run(
    path: &Path,
    model: Model,
    engine: &EngineArgs,
    given: Inputs,
    names: &[String],
    print: &PrintArgs,
) -> Result<Vec<(String, Value)>> {
    let session = context::session(path, model, engine, print, |builder| match names {
        [] => builder,
        names => builder.outputs(names.to_vec()),
    })?;
    let options = context::run_options(engine.timeout)?;
    let made = session.run_with(given, &options).map_err(|e| Failure::run(path, e))?;
    Ok(session.outputs().iter().map(|p| p.name.clone()).zip(made).collect())
}

fn report(
    a: &[(String, Value)],
    b: &[(String, Value)],
    args: &CompareArgs,
    print: &PrintArgs,
) -> Result<()> {
    if a.len() != b.len() {
        let text = format!("{} outputs against {}", a.len(), b.len());
        return Err(Failure::new(Code::Differs, text));
    }
    let mut table = Table::new(&["value", "max abs", "max rel", "cosine", "verdict"]);
    let (mut rows, mut wrong) = (Vec::new(), 0);
    for ((name, found), (_, expected)) in a.iter().zip(b) {
        let d = distance(found, expected);
        let verdict = equal(found, expected, args.tolerance.into());
        wrong += verdict.is_err() as usize;
        let cell = |f: fn(&Distance) -> f64| d.as_ref().map_or("-".into(), |d| short(f(d)));
        let text = verdict.clone().err().unwrap_or_else(|| "equal".into());
        table.row([
            name.clone(),
            cell(|d| d.max_abs),
            cell(|d| d.max_rel),
            cell(|d| d.cosine),
            text,
        ]);
        rows.push(json!({
            "name": name, "equal": verdict.is_ok(), "why": verdict.err(),
            "max_abs": d.map(|d| d.max_abs), "max_rel": d.map(|d| d.max_rel), "cosine": d.map(|d| d.cosine),
        }));
    }
    if print.json {
        println!("{}", json!({"values": rows, "differ": wrong}));
    } else {
        print!("{table}");
    }
    match wrong {
        0 => Ok(()),
        n => Err(Failure::new(Code::Differs, format!("{n} of {} values differ", a.len()))),
    }
}
