//! If, Loop, Scan: bodies read what is around them by name again.

use rinfer_onnx_proto as pb;

use super::node::{NodeOut, graph, int, ints};
use super::{ExportError, GraphOut, value_info};
use crate::ops::{If, Loop, Scan, ScanAxis};
use crate::verify::{body_inputs, captures_start};
use crate::{Fact, Graph, Reason, ValueId, invalid};

/// A body as ONNX has it: its inputs up to `start` are inputs, the others are `captures`, the
/// names of values around it.
fn body(
    out: &mut NodeOut<'_, '_>,
    body: &Graph,
    start: usize,
    given: &[Option<ValueId>],
) -> Result<pb::GraphProto, Reason> {
    let captures: Vec<String> = given
        .iter()
        .skip(start)
        .map(|v| out.graph.name(v.ok_or_else(|| invalid!("a capture is missing"))?))
        .collect::<Result<_, _>>()?;
    let shared = &mut *out.graph.shared;
    let hint = |v: ValueId| body.name(v).map_or("", |n| &**n).to_string();
    let formal: Vec<String> =
        body.inputs().iter().take(start).map(|&v| shared.name(&hint(v))).collect();
    let wanted: Vec<String> = body.outputs().iter().map(|&v| shared.name(&hint(v))).collect();
    let mut inner = GraphOut::new(body, shared);
    for (&v, name) in body.inputs().iter().zip(formal.iter().chain(&captures)) {
        inner.names[v.index()] = Some(name.clone());
    }
    let (nodes, initializers) = inner.run(&wanted).map_err(|e| match &e {
        ExportError::Model(reason) => reason.clone(),
        ExportError::Node { reason, .. } => Reason::new(reason.kind, e.to_string()),
    })?;
    let info = |(&v, name): (&ValueId, &String)| value_info(name, &loose(body.fact(v)));
    Ok(pb::GraphProto {
        name: Some(if body.name.is_empty() { "body".into() } else { body.name.clone() }),
        node: nodes,
        initializer: initializers,
        input: body.inputs().iter().zip(&formal).map(info).collect(),
        output: body.outputs().iter().zip(&wanted).map(info).collect(),
        ..Default::default()
    })
}

/// A body's values may change shape from one run of it to the next: rank and type are enough.
fn loose(fact: &Fact) -> Fact {
    let mut fact = fact.clone().forget();
    for dim in fact.shape.iter_mut().flatten() {
        *dim = dim.value().map_or(crate::Dim::Unknown, crate::Dim::N);
    }
    fact
}

fn given<'a>(out: &NodeOut<'_, 'a>) -> Result<Vec<&'a [Option<ValueId>]>, Reason> {
    body_inputs(out.node).map_err(|text| invalid!("{text}"))
}

pub(super) fn export_if(op: &If, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let given = given(out)?;
    let then_branch = body(out, &op.then_branch, 0, given[0])?;
    let else_branch = body(out, &op.else_branch, 0, given[1])?;
    let cond = out.input(0)?;
    let attrs = vec![graph("then_branch", then_branch), graph("else_branch", else_branch)];
    out.last("If", vec![cond], attrs)
}

/// The names of the node's inputs that are no captures.
fn formal(out: &mut NodeOut<'_, '_>) -> Result<Vec<String>, Reason> {
    let start = captures_start(&out.node.op);
    (0..start).map(|i| out.input(i)).collect()
}

pub(super) fn export_loop(op: &Loop, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let given = given(out)?;
    let body = body(out, &op.body, 2 + op.state, given[0])?;
    let inputs = formal(out)?;
    out.last("Loop", inputs, vec![graph("body", body)])
}

pub(super) fn export_scan(op: &Scan, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let given = given(out)?;
    let body = body(out, &op.body, op.state + op.inputs.len(), given[0])?;
    let inputs = formal(out)?;
    let axes = |scans: &[ScanAxis]| scans.iter().map(|s| s.axis.0).collect::<Vec<i64>>();
    let reverse = |scans: &[ScanAxis]| scans.iter().map(|s| s.reverse.into()).collect::<Vec<i64>>();
    let mut attrs = vec![graph("body", body), int("num_scan_inputs", op.inputs.len() as i64)];
    attrs.push(ints("scan_input_axes", &axes(&op.inputs)));
    attrs.push(ints("scan_input_directions", &reverse(&op.inputs)));
    if !op.outputs.is_empty() {
        attrs.push(ints("scan_output_axes", &axes(&op.outputs)));
        attrs.push(ints("scan_output_directions", &reverse(&op.outputs)));
    }
    out.last("Scan", inputs, attrs)
}
