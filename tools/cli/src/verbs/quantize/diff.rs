//! `rinfer quantize diff`: where a quantized model's values part from the original's.

use std::collections::BTreeSet;
use std::path::Path;

use rinfer::{Model, Session, Tensor, Type, Value};
use rinfer_quant::Samples;
use rinfer_quant::metric::cosine;
use rinfer_quant::weights::sqnr;
use serde_json::json;

use crate::args::PrintArgs;
use crate::context;
use crate::failure::{Failure, Result};
use crate::quantize_args::DiffArgs;
use crate::samples::Data;
use crate::table::Table;

/// What was found of one value, over all samples.
struct Row {
    name: String,
    sqnr: f64,
    cosine: f64,
}

/// Below this a value has parted.
const PARTED: f64 = 20.0;

/// Compares every value that both models have by name.
pub fn diff(args: &DiffArgs, print: &PrintArgs) -> Result<()> {
    let a = context::open(&args.model, &args.limits, &[])?;
    let b = context::open(&args.quantized, &args.limits, &[])?;
    let Some(data) = Data::open(&a, &args.data, print)? else {
        return Err(Failure::usage("which samples? --calib"));
    };
    let names = common(&a, &b);
    if names.is_empty() {
        return Err(Failure::usage("the models have no value in common by name"));
    }
    let a = session(&args.model, a, &names, args.threads)?;
    let b = session(&args.quantized, b, &names, args.threads)?;
    let options = context::run_options(None)?;
    let mut sums: Vec<(f64, f64, usize)> = vec![(0.0, 0.0, 0); names.len()];
    for i in 0..data.len() {
        let sample = data.get(i).map_err(|e| Failure::usage(e.to_string()))?;
        let run = |s: &Session, path: &Path| {
            s.run_with(sample.clone(), &options).map_err(|e| Failure::run(path, e))
        };
        let (want, got) = (run(&a, &args.model)?, run(&b, &args.quantized)?);
        for ((want, got), sum) in want.iter().zip(&got).zip(&mut sums) {
            if let (Some(want), Some(got)) = (floats(want), floats(got))
                && want.shape() == got.shape()
            {
                let (x, y) = (want.as_slice::<f32>(), got.as_slice::<f32>());
                *sum = (sum.0 + sqnr(x, y).clamp(-200.0, 200.0), sum.1 + cosine(x, y), sum.2 + 1);
            }
        }
    }
    let compared = names.into_iter().zip(sums).filter(|(_, s)| s.2 > 0);
    let rows: Vec<Row> = compared
        .map(|(name, (sqnr, cosine, n))| Row {
            name,
            sqnr: sqnr / n as f64,
            cosine: cosine / n as f64,
        })
        .collect();
    report(rows, args, print);
    Ok(())
}

fn report(rows: Vec<Row>, args: &DiffArgs, print: &PrintArgs) {
    let first = rows.iter().find(|r| r.sqnr < PARTED).map(|r| r.name.clone());
    let mut worst: Vec<&Row> = rows.iter().collect();
    worst.sort_by(|a, b| a.sqnr.total_cmp(&b.sqnr));
    worst.truncate(args.worst);
    if print.json {
        let row = |r: &&Row| json!({"value": r.name, "sqnr": r.sqnr, "cosine": r.cosine});
        let all: Vec<_> = rows.iter().collect();
        println!(
            "{}",
            json!({"first_below_20_db": first, "worst": worst.iter().map(row).collect::<Vec<_>>(),
                   "values": all.iter().map(row).collect::<Vec<_>>()})
        );
        return;
    }
    let mut table = Table::new(&["value, worst first", "SQNR", "cosine"]);
    for r in worst {
        table.row([r.name.clone(), format!("{:.1} dB", r.sqnr), format!("{:.6}", r.cosine)]);
    }
    print!("{table}");
    match first {
        Some(name) => println!("first below {PARTED} dB: {name}"),
        None => println!("no value is below {PARTED} dB"),
    }
}

fn session(path: &Path, model: Model, names: &[String], threads: usize) -> Result<Session> {
    let builder = Session::builder().threads(threads).outputs(names.to_vec());
    builder.build(model).map_err(|e| Failure::load(path, e))
}

fn floats(v: &Value) -> Option<&Tensor> {
    match v {
        Value::Tensor(t) if v.ty() == Type::Tensor(rinfer::DType::F32) => Some(t),
        _ => None,
    }
}

/// The names of float values that nodes of both models make, in the order of the first.
fn common(a: &Model, b: &Model) -> Vec<String> {
    let made = |m: &Model| -> Vec<String> {
        let g = m.graph();
        let outputs = g.nodes().flat_map(|(_, n)| n.outputs.iter());
        let float = outputs.filter(|&&v| g.fact(v).dtype() == Ok(rinfer::DType::F32));
        float.filter_map(|&v| g.name(v).map(|n| n.to_string())).collect()
    };
    let theirs: BTreeSet<String> = made(b).into_iter().collect();
    let mut seen = BTreeSet::new();
    let ours = made(a).into_iter();
    ours.filter(|name| theirs.contains(name) && seen.insert(name.clone())).collect()
}
