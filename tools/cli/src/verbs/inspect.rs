//! `rinfer inspect`: what a model is, before anybody runs it.

use std::collections::BTreeMap;

use rinfer::graph::cost::macs;
use rinfer::{Graph, Model, Port, Session, Tensor};
use serde_json::json;

use crate::args::{GraphChoice, InspectArgs, PrintArgs};
use crate::context;
use crate::failure::{Failure, Result};
use crate::table::Table;

/// What there is to say about a graph's constants.
struct Constants {
    elements: usize,
    bytes: usize,
    dead: usize,
    dead_bytes: usize,
}

/// Shows a model's inputs, outputs, operators, size and memory plan.
pub fn inspect(args: &InspectArgs, print: &PrintArgs) -> Result<()> {
    let dims = context::parse_dims(&args.dims)?;
    context::check_dims(&args.model, &args.limits, &dims)?;
    let model = context::open(&args.model, &args.limits, &dims)?;
    if args.graph == Some(GraphChoice::File) {
        print!("{:#}", model.graph());
        return Ok(());
    }
    let constants = constants(model.graph());
    let ops = count_ops(model.graph());
    let macs = macs(model.graph());
    let (inputs, outputs) = (model.inputs().to_vec(), model.outputs().to_vec());
    let head = head(&model);
    let session = Session::builder().build(model).map_err(|e| Failure::load(&args.model, e))?;
    if args.graph == Some(GraphChoice::Optimized) {
        print!("{:#}", session.graph());
        return Ok(());
    }
    let optimized = count_ops(session.graph());
    let memory = memory(&session, &inputs);
    let ports = |ports: &[Port]| -> Vec<_> {
        let one = |p: &Port| json!({"name": p.name, "type": p.ty.to_string(), "shape": shape(p)});
        ports.iter().map(one).collect()
    };
    if print.json {
        let memory = memory.map(|m| {
            json!({"weights": m.weights, "arena": m.arena, "unshared": m.unshared,
                   "outputs": m.outputs, "scratch": m.scratch, "partial": m.partial})
        });
        println!(
            "{}",
            json!({
                "model": args.model.display().to_string(), "file": head.iter().cloned().collect::<BTreeMap<_, _>>(),
                "inputs": ports(&inputs), "outputs": ports(&outputs), "ops": ops,
                "optimized_ops": optimized, "parameters": constants.elements,
                "parameter_bytes": constants.bytes, "dead_initializers": constants.dead,
                "dead_bytes": constants.dead_bytes, "macs": macs, "memory": memory,
            })
        );
        return Ok(());
    }
    for (key, value) in &head {
        println!("{key:<16} {value}");
    }
    for (what, list) in [("input", &inputs), ("output", &outputs)] {
        for p in list {
            println!("{what:<16} {}: {} {}", p.name, p.ty, shape(p));
        }
    }
    println!("{:<16} {} ({} bytes)", "parameters", constants.elements, constants.bytes);
    println!("{:<16} {} ({} bytes)", "dead", constants.dead, constants.dead_bytes);
    println!("{:<16} {macs}", "MACs");
    if let Some(m) = memory {
        let partial = if m.partial { ", more where shapes depend on content" } else { "" };
        println!(
            "{:<16} {} bytes of intermediate values ({} without reuse), {} of outputs, {} beside \
             them{partial}",
            "memory plan", m.arena, m.unshared, m.outputs, m.scratch
        );
    }
    print!("\n{}", ops_table(&ops, &optimized));
    Ok(())
}

/// How often each operator occurs in the file and in the optimized graph.
fn ops_table(file: &BTreeMap<String, usize>, optimized: &BTreeMap<String, usize>) -> Table {
    let mut table = Table::new(&["op", "in the file", "optimized"]);
    let names: std::collections::BTreeSet<&String> = file.keys().chain(optimized.keys()).collect();
    for name in names {
        let count =
            |map: &BTreeMap<String, usize>| map.get(name).map_or("-".into(), |n| n.to_string());
        table.row([name.clone(), count(file), count(optimized)]);
    }
    table
}

/// The sizes of the inputs; a plan needs every one, and symbolic ones are taken as 1.
fn memory(session: &Session, inputs: &[Port]) -> Option<rinfer::Memory> {
    let sizes = |p: &Port| p.shape.iter().flatten().map(|d| d.size().unwrap_or(1)).collect();
    let shapes: Vec<(&str, Vec<usize>)> =
        inputs.iter().map(|p| (p.name.as_str(), sizes(p))).collect();
    let shapes: Vec<(&str, &[usize])> = shapes.iter().map(|(n, s)| (*n, s.as_slice())).collect();
    session.memory(&shapes).ok()
}

fn shape(p: &Port) -> String {
    p.shape.as_ref().map_or_else(|| "[..]".into(), |s| rinfer::graph::shape::show(s))
}

fn head(model: &Model) -> Vec<(String, String)> {
    let info = model.info();
    let opsets: Vec<String> = info
        .opsets
        .iter()
        .map(|(d, v)| format!("{} {v}", if d.is_empty() { "ai.onnx" } else { d }))
        .collect();
    let mut head = vec![
        ("IR version".to_string(), info.ir_version.to_string()),
        ("opsets".into(), opsets.join(", ")),
        ("producer".into(), info.producer.clone()),
        ("nodes".into(), info.file_nodes.to_string()),
    ];
    head.extend(info.metadata.iter().map(|(k, v)| (format!("metadata {k}"), v.clone())));
    head
}

/// Nodes by operator, those of bodies included.
fn count_ops(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut todo = vec![graph];
    while let Some(graph) = todo.pop() {
        for (_, node) in graph.nodes() {
            *counts.entry(node.op.name().to_string()).or_default() += 1;
            todo.extend(node.op.bodies().into_iter().map(|body| &**body));
        }
    }
    counts
}

fn constants(graph: &Graph) -> Constants {
    let uses = graph.use_counts();
    let mut c = Constants { elements: 0, bytes: 0, dead: 0, dead_bytes: 0 };
    for v in graph.values() {
        let Some(t) = graph.tensor(v).filter(|_| graph.producer(v).is_none()) else { continue };
        (c.elements, c.bytes) = (c.elements + t.len(), c.bytes + Tensor::byte_len(t));
        if uses[v.index()] == 0 {
            (c.dead, c.dead_bytes) = (c.dead + 1, c.dead_bytes + t.byte_len());
        }
    }
    c
}
