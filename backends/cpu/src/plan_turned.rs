//! Attention reads what a Transpose would have turned, and writes what one would turn back:
//! Transpose(q), … → Attention → Transpose becomes one step over the operands as they lie.
//!
//! Exporters split heads by Reshape [b, s, h·d] → [b, s, h, d] and Transpose → [b, h, s, d]. The
//! kernel takes any distances between heads and positions, so the copies say nothing. This is done
//! when a plan is made, for there all sizes are known.

use rinfer_graph::{Fact, Limits, Op};
use smallvec::SmallVec;

use crate::kernel::Cx;
use crate::ops::attention::{Turned, compile_turned};
use crate::plan::{Plan, Source, Uses};
use crate::program::{Local, Nodes};

/// [batch, position, head, element] ↔ [batch, head, position, element]
const SWAP: [usize; 4] = [0, 2, 1, 3];

/// Takes Transposes around attention out of the plan.
pub(crate) fn fold(nodes: &Nodes, facts: &[Option<Fact>], limits: &Limits, plan: &mut Plan) {
    let uses = plan.uses(facts.len());
    let mut gone = vec![false; plan.steps.len()];
    for i in 0..plan.steps.len() {
        if let Op::Attention(_) = nodes.node(plan.steps[i].node).op {
            turn((nodes, facts, limits), plan, (&uses, i), &mut gone);
        }
    }
    let mut gone = gone.into_iter();
    plan.steps.retain(|_| gone.next() != Some(true));
}

/// One attention, step `i`.
fn turn(
    (nodes, facts, limits): (&Nodes, &[Option<Fact>], &Limits),
    plan: &mut Plan,
    (uses, i): (&[Uses], usize),
    gone: &mut [bool],
) {
    let step = &plan.steps[i];
    let (node, id) = (nodes.node(step.node), step.node);
    let Op::Attention(op) = &node.op else { return };
    // A past is laid out as its outputs are; plain loops read what the shapes say.
    if step.inputs.len() > 4 || step.outputs.len() != 1 {
        return;
    }
    let private = |l: Local| uses[l].reads == 1 && !nodes.is_read_from(l, plan.end);
    let before = |k: usize| match step.inputs.get(k)? {
        Some(Source::Local(l)) if private(*l) => {
            uses[*l].made_by.filter(|&j| swaps(nodes, plan, j))
        }
        _ => None,
    };
    let y = step.outputs[0].local;
    let after = Some(uses[y].reader).filter(|&j| private(y) && swaps(nodes, plan, j));
    let found = [before(0), before(1), before(2), after];
    let turned: Turned = found.map(|j| j.is_some());
    let inputs: SmallVec<[Option<&Fact>; 4]> =
        nodes.inputs(id).iter().map(|l| l.and_then(|l| facts[l].as_ref())).collect();
    let float = |f: &Option<&Fact>| f.is_some_and(|f| f.dtype() == Ok(rinfer_graph::DType::F32));
    if !turned.contains(&true) || !inputs.iter().take(3).all(float) {
        return;
    }
    let cx = Cx {
        isa: nodes.isa,
        node,
        inputs: &inputs,
        outputs: &step.facts,
        packs: &nodes.packs,
        limits,
    };
    let Ok(kernel) = compile_turned(op, &cx, turned) else { return };
    for (k, j) in found.iter().enumerate().take(3) {
        if let Some(j) = *j {
            plan.steps[i].inputs[k] = plan.steps[j].inputs[0].take();
            gone[j] = true;
        }
    }
    if let Some(j) = after {
        let (outputs, facts) = (std::mem::take(&mut plan.steps[j].outputs), &plan.steps[j].facts);
        let facts = facts.clone();
        (plan.steps[i].outputs, plan.steps[i].facts) = (outputs, facts);
        gone[j] = true;
    }
    plan.steps[i].kernel = kernel;
}

/// Whether step `j` is a Transpose that swaps heads and positions.
fn swaps(nodes: &Nodes, plan: &Plan, j: usize) -> bool {
    match &nodes.node(plan.steps[j].node).op {
        Op::Transpose(op) => op.perm.as_deref() == Some(&SWAP[..]),
        _ => false,
    }
}
