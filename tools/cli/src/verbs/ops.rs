//! `rinfer ops`: which of ONNX's operators are supported, in general or in one model.

use std::collections::BTreeMap;
use std::path::Path;

use rinfer::graph::ops::table::{ONNX, OnnxOp, find};
use serde_json::json;

use crate::args::{OpsArgs, PrintArgs};
use crate::failure::{Code, Failure, OrFail, Result};
use crate::formats;
use crate::table::Table;
use crate::tested;

/// Shows the support table, or what a model needs of it.
pub fn ops(args: &OpsArgs, print: &PrintArgs) -> Result<()> {
    match &args.coverage {
        Some(model) => coverage(model, print),
        None if args.markdown => {
            print!("{}", tested::page());
            Ok(())
        }
        None => support(print),
    }
}

fn domain(name: &str) -> &str {
    if name.is_empty() { "ai.onnx" } else { name }
}

fn support(print: &PrintArgs) -> Result<()> {
    if print.json {
        let tested = tested::tested();
        let types = |op: &OnnxOp| {
            let rows = tested.get(&(op.domain.into(), op.name.into()));
            let row = |((backend, version), types): (&(String, i64), &Vec<String>)| json!({"backend": backend, "version": version, "types": types});
            rows.into_iter().flatten().map(row).collect::<Vec<_>>()
        };
        let row = |op: &OnnxOp| {
            let domain = domain(op.domain);
            json!({"domain": domain, "name": op.name, "versions": op.since, "tested": types(op)})
        };
        let rows: Vec<_> = ONNX.iter().map(row).collect();
        println!("{}", json!({"operators": rows}));
        return Ok(());
    }
    let mut table = Table::new(&["domain", "operator", "versions"]);
    for op in ONNX {
        let versions: Vec<String> = op.since.iter().map(|v| v.to_string()).collect();
        table.row([domain(op.domain).to_string(), op.name.to_string(), versions.join(" ")]);
    }
    print!("{table}");
    Ok(())
}

/// Which operators a model uses, how often, and which are missing; exit code 3 if one is.
fn coverage(path: &Path, print: &PrintArgs) -> Result<()> {
    let bytes = formats::read(path)?;
    let used = rinfer::graph::onnx::operators(bytes.into()).or_fail(Code::Model, path.display())?;
    let mut counts: BTreeMap<(String, String, i64), usize> = BTreeMap::new();
    used.into_iter().for_each(|op| *counts.entry(op).or_default() += 1);
    let supported = |(d, name, opset): &(String, String, i64)| find(d, name, *opset);
    let missing = counts.keys().filter(|op| supported(op).is_err()).count();
    let mut table = Table::new(&["domain", "operator", "nodes", "version", "supported"]);
    let mut rows = Vec::new();
    for (op, nodes) in &counts {
        let found = supported(op);
        let version = found.as_ref().map_or("-".into(), |(_, v)| v.to_string());
        let verdict = if found.is_ok() { "yes" } else { "no" };
        table.row([
            domain(&op.0).into(),
            op.1.clone(),
            nodes.to_string(),
            version,
            verdict.to_string(),
        ]);
        rows.push(json!({"domain": domain(&op.0), "name": op.1, "nodes": nodes, "supported": found.is_ok()}));
    }
    if print.json {
        println!("{}", json!({"operators": rows, "missing": missing}));
    } else {
        print!("{table}");
    }
    match missing {
        0 => Ok(()),
        n => {
            Err(Failure::new(Code::Model, format!("{}: {n} operators are missing", path.display())))
        }
    }
}
