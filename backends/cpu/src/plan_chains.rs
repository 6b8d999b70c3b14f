//! Convolutions that follow one another become one step that runs them strip by strip, where what
//! is between them would not stay in a near cache: see [`crate::conv::chain`].

use smallvec::smallvec;

use crate::conv::chain::Chain;
use crate::ops;
use crate::plan::{Plan, Source, Step, Uses};
use crate::program::{Local, Nodes};

/// Joins what can be joined.
pub(crate) fn join(nodes: &Nodes, values: usize, plan: &mut Plan) {
    if plan.steps.iter().all(|step| step.layer.is_none()) {
        return;
    }
    let uses = plan.uses(values);
    let mut gone = vec![false; plan.steps.len()];
    for i in 0..plan.steps.len() {
        let Some(middle) = next(nodes, plan, &uses, i) else { continue };
        let after = next(nodes, plan, &uses, middle);
        let layer = |i: usize| plan.steps[i].layer.as_ref();
        let (Some(before), Some(depth)) = (layer(i), layer(middle)) else { continue };
        let has_residual = |i: usize| input(&plan.steps[i], 3).is_some();
        if has_residual(i) || has_residual(middle) {
            continue;
        }
        let after = after.filter(|&k| layer(k).is_some_and(|layer| layer.ends()));
        let Some(chain) = Chain::new(before, depth, after.and_then(layer)) else { continue };
        let kernel = ops::conv::compile_chain(nodes.isa, chain);
        let last = after.unwrap_or(middle);
        let mut take = |i: usize, k: usize| plan.steps[i].inputs.get_mut(k).and_then(Option::take);
        let inputs = smallvec![
            take(i, 0),
            take(i, 2),
            take(middle, 2),
            after.and_then(|k| take(k, 2)),
            after.and_then(|k| take(k, 3)),
        ];
        let macs = [Some(i), Some(middle), after].into_iter().flatten();
        let macs = macs.map(|i| plan.steps[i].macs).fold(0, u64::saturating_add);
        for done in [i, middle] {
            gone[done] = done != last;
        }
        let step = &mut plan.steps[last];
        (step.kernel, step.inputs, step.macs, step.layer) = (kernel, inputs, macs, None);
    }
    let mut gone = gone.into_iter();
    plan.steps.retain(|_| gone.next() != Some(true));
}

fn input(step: &Step, k: usize) -> Option<&Source> {
    step.inputs.get(k).and_then(Option::as_ref)
}

/// The step that alone reads what step `i` makes, as its image.
fn next(nodes: &Nodes, plan: &Plan, uses: &[Uses], i: usize) -> Option<usize> {
    let l: Local = plan.steps[i].outputs.first()?.local;
    if plan.steps[i].layer.is_none() || uses[l].reads != 1 || nodes.is_read_from(l, plan.end) {
        return None;
    }
    let reader = uses[l].reader;
    matches!(input(&plan.steps[reader], 0), Some(Source::Local(x)) if *x == l).then_some(reader)
}
