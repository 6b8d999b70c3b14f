//! Convolutions write into the concatenations that read them: nothing is copied.
//!
//! c = Concat(conv₁, x, conv₂)  →  c₁ = conv₁ in its channels of c; c₂ = conv₂ in c₁; c = x in c₂
//!
//! Each takes over the memory of the one before it, so that all of them are one buffer.

use rinfer_graph::{Fact, Op};
use smallvec::{SmallVec, smallvec};

use crate::conv::Among;
use crate::ops;
use crate::plan::{Plan, Source, Step, Uses};
use crate::program::{Local, Nodes};

/// Does so with all that can be.
pub(crate) fn place(nodes: &Nodes, facts: &mut Vec<Option<Fact>>, plan: &mut Plan) {
    if plan.steps.iter().all(|step| step.layer.is_none()) {
        return;
    }
    let mut gone = vec![false; plan.steps.len()];
    let uses = plan.uses(facts.len());
    for i in 0..plan.steps.len() {
        let Some(parts) = parts(nodes, facts, plan, i) else { continue };
        let writers = writers(nodes, plan, &uses, &parts);
        if let Some(&(last, _)) = writers.last() {
            gone[i] = writers.len() == parts.len();
            write(nodes, facts, plan, (i, parts), &writers);
            if gone[i] {
                let local = plan.steps[i].outputs[0].local;
                plan.steps[last].outputs[0].local = local;
            }
        }
    }
    let mut gone = gone.into_iter();
    plan.steps.retain(|_| gone.next() != Some(true));
}

/// An input of a concatenation, and where its channels stand.
#[derive(Clone, Copy)]
struct Part {
    local: Local,
    first: usize,
    channels: usize,
}

/// The inputs of step `i`, if it is a concatenation of images with channels side by side.
fn parts(
    nodes: &Nodes,
    facts: &[Option<Fact>],
    plan: &Plan,
    i: usize,
) -> Option<SmallVec<[Part; 4]>> {
    let step = &plan.steps[i];
    let turned =
        matches!(nodes.node(step.node).op, Op::Concat(_)) && !step.turns && step.inputs.len() > 1;
    // What was turned has no name in the program.
    if !turned || step.outputs[0].local < nodes.values() || step.outputs[0].sizes.len() != 4 {
        return None;
    }
    let mut parts: SmallVec<[Part; 4]> = SmallVec::new();
    let mut first = 0;
    for source in &step.inputs {
        let Some(Source::Local(local)) = *source else { return None };
        let channels = *facts[local].as_ref()?.sizes()?.get(3)?;
        parts.push(Part { local, first, channels });
        first += channels;
    }
    (first == step.outputs[0].sizes[3] && parts.iter().all(|p| p.channels > 0)).then_some(parts)
}

/// The steps that can write into the concatenation, in their order, and which part they make.
fn writers(
    nodes: &Nodes,
    plan: &Plan,
    uses: &[Uses],
    parts: &[Part],
) -> SmallVec<[(usize, Part); 4]> {
    let writer = |part: &Part| {
        let Uses { made_by, reads, .. } = uses[part.local];
        let layer = plan.steps[made_by?].layer.as_ref()?;
        let alone = reads == 1 && !nodes.is_read_from(part.local, plan.end);
        (alone && layer.stands_among()).then_some((made_by?, *part))
    };
    let mut writers: SmallVec<[(usize, Part); 4]> = parts.iter().filter_map(writer).collect();
    writers.sort_unstable_by_key(|(step, _)| *step);
    writers
}

/// Makes the writers write into concatenation `i`, which adds what they do not.
fn write(
    nodes: &Nodes,
    facts: &mut Vec<Option<Fact>>,
    plan: &mut Plan,
    (i, parts): (usize, SmallVec<[Part; 4]>),
    writers: &[(usize, Part)],
) {
    let (fact, sizes) = (plan.steps[i].facts[0].clone(), plan.steps[i].outputs[0].sizes.clone());
    let all = sizes[3];
    let mut before = None;
    for &(w, part) in writers {
        let step = &mut plan.steps[w];
        let Some(layer) = step.layer.take() else { continue };
        let among = Among { all, first: part.first };
        step.kernel = ops::conv::compile_layer_among(nodes.isa, layer, among);
        step.inputs.resize_with(4, || None);
        step.inputs.push(before.map(Source::Local));
        facts.push(Some(fact.clone()));
        step.outputs[0].local = facts.len() - 1;
        step.outputs[0].sizes = sizes.clone();
        step.facts[0] = fact.clone();
        before = Some(facts.len() - 1);
    }
    let rest = parts.iter().filter(|part| writers.iter().all(|(_, w)| w.first != part.first));
    let rest: SmallVec<[Part; 4]> = rest.copied().collect();
    let step: &mut Step = &mut plan.steps[i];
    let mut inputs = smallvec![];
    inputs.extend(rest.iter().map(|part| Some(Source::Local(part.local))));
    inputs.push(before.map(Source::Local));
    step.inputs = inputs;
    step.kernel =
        ops::concat::compile_rest(all, rest.iter().map(|p| (p.first, p.channels)).collect());
}
