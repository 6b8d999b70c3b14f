//! What a profile sees of a run on the GPU.

use rinfer_graph::backend::{NodeEvent, Profile};
use rinfer_graph::{Fact, Reason, cost};
use web_time::Instant;

use crate::clock::{Span, place, spans};
use crate::nodes::Local;
use crate::plan::{Download, Step, bytes_of};
use crate::program::Env;
use crate::run::{At, Bring, Run};

impl Run {
    /// Tells what ran since the host last waited: each node by the GPU's clock and then what the
    /// host waited beyond that, or, without timestamps, all as one.
    pub fn tell(
        &mut self,
        at: &At<'_>,
        profile: &dyn Profile,
        bring: &Bring,
        env: &Env,
    ) -> Result<(), Reason> {
        let end = Instant::now();
        let mut start = self.since.unwrap_or(end);
        let mut found: Vec<Span> = Vec::new();
        let mut steps = Vec::new();
        for (_, readback, of) in &bring.clocks {
            found.extend(spans(readback)?);
            steps.extend(of.iter().copied());
        }
        let period = f64::from(at.on.gpu.queue.get_timestamp_period());
        let placed = place(&found, period, start, end);
        for (&step, &span) in steps.iter().zip(&placed) {
            self.tell_node(at, profile, &self.ready.plan.steps[step], span, env);
        }
        start = placed.iter().map(|span| span.1).max().unwrap_or(start);
        let (name, op) = match placed.is_empty() && self.ran > 0 {
            true => ("submission", "Submission"),
            false => ("readback", "Readback"),
        };
        profile.node(&NodeEvent {
            name,
            op,
            backend: "gpu",
            start,
            end: end.max(start),
            inputs: vec![format!("{} kernels", self.ran)],
            outputs: bring.downloads.iter().map(|d| format!("{}{:?}", d.dtype, d.sizes)).collect(),
            bytes: bring.downloads.iter().map(Download::bytes).sum(),
            macs: 0,
        });
        Ok(())
    }

    fn tell_node(
        &self,
        at: &At<'_>,
        profile: &dyn Profile,
        step: &Step,
        (start, end): (Instant, Instant),
        env: &Env,
    ) {
        let entry = &at.nodes.entries[step.node];
        let inputs: Vec<Option<Fact>> =
            entry.inputs.iter().map(|l| l.and_then(|l| self.fact(at, l, env))).collect();
        let given: Vec<Option<&Fact>> = inputs.iter().map(Option::as_ref).collect();
        let all = given.iter().copied().flatten().chain(&step.facts);
        profile.node(&NodeEvent {
            name: &entry.node.name,
            op: entry.node.op.name(),
            backend: "gpu",
            start,
            end,
            inputs: inputs.iter().flatten().map(Fact::to_string).collect(),
            outputs: step.facts.iter().map(|f| f.clone().forget().to_string()).collect(),
            bytes: all.filter_map(bytes_of).sum(),
            macs: cost::op_macs(&entry.node.op, &given, step.facts.first()),
        });
    }

    /// What is known of a value, content apart.
    fn fact(&self, at: &At<'_>, l: Local, env: &Env) -> Option<Fact> {
        if let Some(value) = env[l].as_ref().or_else(|| at.nodes.constant(l)) {
            return Some(Fact::of_value(value).forget());
        }
        if let Some((_, fact)) = self.moved.iter().find(|(moved, _)| *moved == l) {
            return Some(fact.clone());
        }
        self.ready.plan.steps.iter().find_map(|step| {
            let k = at.nodes.entries[step.node].outputs.iter().position(|&o| o == l)?;
            Some(step.facts.get(k)?.clone().forget())
        })
    }
}
