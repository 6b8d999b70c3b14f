//! Runs a plan: records its launches, submits them, and brings back what leaves it.
//!
//! A run never waits by itself: what it waits for is in a list, and whoever drives it comes again.

use std::collections::VecDeque;
use std::sync::Arc;

use rinfer_graph::backend::{NodeError, NodeEvent, OnDevice, Reading, RunCx};
use rinfer_graph::{Fact, Reason, Value, invalid};
use web_time::Instant;

use crate::clock::{Clock, PASSES};
use crate::device::padded;
use crate::half::{kept, tensor};
use crate::nodes::{Local, Nodes};
use crate::plan::{Download, Source, Step, Work};
use crate::program::{Env, Here, Host};
use crate::readback::Readback;
use crate::ready::{Arena, Ready, staged};
use crate::resident::Resident;
use crate::seat::OnGpu;

/// Launches that are submitted together at most: the GPU begins while the rest is recorded.
const BATCH: usize = 256;

/// What a run needs of its program.
pub(crate) struct At<'a> {
    pub on: &'a OnGpu,
    pub nodes: &'a Nodes,
    pub host: &'a Host,
}

/// Values on their way to the host.
pub(crate) struct Bring {
    readback: Readback,
    pub downloads: Vec<Download>,
    /// What was submitted since the host last waited: clocks, what they say, and their steps.
    pub clocks: Vec<(Clock, Readback, Vec<usize>)>,
}

/// What a run waits for.
enum Wait {
    /// What this plan made.
    Bring(Bring),
    /// A tensor of an earlier run.
    Fetch(Local, Box<dyn Reading>),
}

/// One run of a plan.
pub(crate) struct Run {
    pub ready: Arc<Ready>,
    /// There until the run is through.
    arena: Option<Arena>,
    /// The step that comes next, and whether what it waits for was asked for.
    next: usize,
    entered: bool,
    /// Whether what leaves the plan was asked for.
    ended: bool,
    waits: VecDeque<Wait>,
    /// Steps whose launches are not submitted yet, and how many those are.
    pending: Vec<usize>,
    launches: usize,
    /// Launches since the host last waited.
    pub ran: usize,
    /// Whether anything was submitted.
    begun: bool,
    /// Whether nodes are timed.
    timed: bool,
    /// Clocks of what was submitted since the host last waited, and their steps.
    clocks: Vec<(Clock, Vec<usize>)>,
    /// When the first of it was handed over.
    pub since: Option<Instant>,
    /// Tensors of earlier runs that go into slots before whatever is submitted next.
    moves: Vec<(Arc<Resident>, usize)>,
    /// What those are, for a profile.
    pub moved: Vec<(Local, Fact)>,
}

impl Run {
    /// A run of this plan that has not begun.
    pub fn new(on: &OnGpu, ready: Arc<Ready>, cx: &RunCx<'_>) -> Result<Run, Reason> {
        let arena = Some(ready.take(&on.gpu)?);
        Ok(Run {
            ready,
            arena,
            next: 0,
            entered: false,
            ended: false,
            waits: VecDeque::new(),
            pending: Vec::new(),
            launches: 0,
            ran: 0,
            begun: false,
            timed: cx.profile.is_some(),
            clocks: Vec::new(),
            since: None,
            moves: Vec::new(),
            moved: Vec::new(),
        })
    }

    /// Goes on until `until` has passed; whether the plan is through. What it makes is in `env`
    /// then, as far as somebody reads it, or `here` if it is to stay on the GPU.
    pub fn advance(
        &mut self,
        at: &At<'_>,
        (env, here): (&mut Env, &mut Here),
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, NodeError> {
        let ready = self.ready.clone();
        let Some(arena) = self.arena.take() else { return Ok(true) };
        if self.next == 0 && !self.entered {
            for (l, value) in &ready.plan.constants {
                env[*l] = Some(value.clone());
            }
        }
        // After an error the memory may still be in use, and is not kept.
        let through = self.go(at, &arena, (env, here), cx, until)?;
        match through {
            true => ready.give_back(arena),
            false => self.arena = Some(arena),
        }
        Ok(through)
    }

    fn go(
        &mut self,
        at: &At<'_>,
        arena: &Arena,
        (env, here): (&mut Env, &mut Here),
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, NodeError> {
        let ready = self.ready.clone();
        loop {
            if !self.arrive(at, env, cx, until)? {
                return Ok(false);
            }
            let Some(step) = ready.plan.steps.get(self.next) else {
                if std::mem::replace(&mut self.ended, true) {
                    return Ok(true);
                }
                if self.begun || !self.pending.is_empty() || !ready.plan.downloads.is_empty() {
                    let kept = self.keep(at, here)?;
                    let rest = ready.plan.downloads.iter().filter(|d| !here.keep[d.local]);
                    self.bring(at, arena, rest.cloned().collect(), &kept)?;
                }
                continue;
            };
            let id = at.nodes.entries[step.node].id;
            let through = self.step(at, step, arena, (&mut *env, &mut *here), cx);
            if through.map_err(|reason| reason.at(id))? {
                self.next += 1;
                self.entered = false;
                if until.is_some_and(|until| Instant::now() >= until) {
                    return Ok(false);
                }
            }
        }
    }

    /// Takes what has arrived of what the run waits for; whether that is all.
    fn arrive(
        &mut self,
        at: &At<'_>,
        env: &mut Env,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, NodeError> {
        while let Some(wait) = self.waits.front_mut() {
            match wait {
                Wait::Fetch(l, reading) => match reading.advance(cx, until)? {
                    Some(tensor) => env[*l] = Some(tensor.into()),
                    None => return Ok(false),
                },
                Wait::Bring(bring) => {
                    let gpu = &at.on.gpu;
                    let clocks = bring.clocks.iter().map(|(_, readback, _)| readback);
                    for readback in clocks.chain([&bring.readback]) {
                        if !readback.ready(gpu, cx, until)? {
                            return Ok(false);
                        }
                    }
                }
            }
            if let Some(Wait::Bring(bring)) = self.waits.pop_front() {
                self.take(at, &bring, env, cx)?;
            }
        }
        Ok(true)
    }

    /// Takes what a plan made.
    fn take(
        &mut self,
        at: &At<'_>,
        bring: &Bring,
        env: &mut Env,
        cx: &RunCx<'_>,
    ) -> Result<(), NodeError> {
        bring.readback.read(|bytes| {
            self.check_faults(at, &bytes[..4])?;
            let mut from = 16;
            for d in &bring.downloads {
                env[d.local] = Some(tensor(d, &bytes[from..])?.into());
                from += padded(d.bytes());
            }
            Ok::<(), NodeError>(())
        })??;
        if let Some(profile) = cx.profile {
            self.tell(at, profile, bring, env)?;
        }
        (self.since, self.ran) = (None, 0);
        Ok(())
    }

    /// Does a step; false if it has to be come back to, when what it waits for is there.
    fn step(
        &mut self,
        at: &At<'_>,
        step: &Step,
        arena: &Arena,
        (env, here): (&mut Env, &mut Here),
        cx: &RunCx<'_>,
    ) -> Result<bool, Reason> {
        cx.check()?;
        let again = std::mem::replace(&mut self.entered, true);
        if !again {
            self.upload(at, step, arena, env, here)?;
        }
        match &step.work {
            Work::View => {}
            Work::Gpu(range) => {
                if !range.is_empty() {
                    self.pending.push(self.next);
                    self.launches += range.len();
                    self.ran += range.len();
                }
                if self.launches >= BATCH {
                    self.submit(at, arena, &[], &[])?;
                }
            }
            Work::HostView => {
                let entry = &at.nodes.entries[step.node];
                let sizes = step.facts[0].sizes().ok_or_else(|| invalid!("no sizes"))?;
                if let Some(tensor) = entry.inputs[0].and_then(|l| here.tensors[l].as_ref()) {
                    here.tensors[entry.outputs[0]] = Some(Arc::new(tensor.viewed(&sizes)));
                    return Ok(true);
                }
                let x = value(at, entry.inputs[0], env);
                let x = x.ok_or_else(|| invalid!("a value is not on the host"))?.into_tensor()?;
                env[entry.outputs[0]] = Some(x.reshaped(&sizes)?.into());
            }
            Work::Host(_) if again => on_host(at, step, env, cx)?,
            Work::Host(downloads) => {
                if !downloads.is_empty() {
                    self.bring(at, arena, downloads.clone(), &[])?;
                }
                let brought = |l: Local| downloads.iter().any(|d| d.local == l);
                for &l in at.nodes.entries[step.node].inputs.iter().flatten() {
                    if let Some(reading) = here.fetch(l, env)?.filter(|_| !brought(l)) {
                        self.waits.push_back(Wait::Fetch(l, reading));
                    }
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings what a step reads to the GPU.
    fn upload(
        &mut self,
        at: &At<'_>,
        step: &Step,
        arena: &Arena,
        env: &Env,
        here: &Here,
    ) -> Result<(), Reason> {
        for &(l, slot) in &step.uploads {
            if let Some(tensor) = &here.tensors[l] {
                self.moves.push((tensor.clone(), slot));
                self.moved.push((l, Fact::sized(tensor.dtype(), tensor.shape())));
                continue;
            }
            let value = env[l].as_ref().ok_or_else(|| invalid!("a value is not on the host"))?;
            let bytes = kept(value.as_tensor()?, at.nodes.is_half(l));
            at.on.gpu.write(&arena.slots[slot], &bytes)?;
        }
        Ok(())
    }

    /// Memory for the outputs that stay on the GPU, and where they are now.
    fn keep(&self, at: &At<'_>, here: &mut Here) -> Result<Vec<(Source, Arc<Resident>)>, Reason> {
        let mut kept = Vec::new();
        for d in self.ready.plan.downloads.iter().filter(|d| here.keep[d.local]) {
            let tensor = Arc::new(Resident::new(&at.on.gpu, d.dtype, &d.sizes)?);
            here.tensors[d.local] = Some(tensor.clone());
            kept.push((d.source, tensor));
        }
        Ok(kept)
    }

    fn buffer(&self, at: &At<'_>, source: Source, arena: &Arena) -> Result<wgpu::Buffer, Reason> {
        Ok(match source {
            Source::Slot(slot) => wgpu::Buffer::clone(&arena.slots[slot]),
            Source::Fixed(i) => wgpu::Buffer::clone(&self.ready.fixed[i]),
            Source::Weight(l) => wgpu::Buffer::clone(&**at.on.weight(at.nodes, l)?),
            Source::Faults => wgpu::Buffer::clone(&arena.faults),
        })
    }

    /// Submits what is pending, and copies out of these values after it.
    fn submit(
        &mut self,
        at: &At<'_>,
        arena: &Arena,
        downloads: &[Download],
        kept: &[(Source, Arc<Resident>)],
    ) -> Result<wgpu::SubmissionIndex, Reason> {
        let gpu = &at.on.gpu;
        let pending = std::mem::take(&mut self.pending);
        let moves = std::mem::take(&mut self.moves);
        self.launches = 0;
        let first = !std::mem::replace(&mut self.begun, true);
        let sources = downloads.iter().map(|d| self.buffer(at, d.source, arena));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let stay = kept.iter().map(|(source, _)| self.buffer(at, *source, arena));
        let stay = stay.collect::<Result<Vec<_>, _>>()?;
        let timed = self.timed && pending.len() <= PASSES;
        let clock = if timed { Clock::new(gpu, pending.len())? } else { None };
        self.since.get_or_insert_with(Instant::now);
        let index = gpu.scoped("a submission", || {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            if first {
                encoder.clear_buffer(&arena.faults, 0, None);
            }
            for (tensor, slot) in &moves {
                let bytes = padded(tensor.bytes()) as u64;
                encoder.copy_buffer_to_buffer(tensor.buffer(), 0, &arena.slots[*slot], 0, bytes);
            }
            self.record(&mut encoder, arena, &pending, clock.as_ref());
            for ((_, tensor), source) in kept.iter().zip(&stay) {
                let bytes = padded(tensor.bytes()) as u64;
                encoder.copy_buffer_to_buffer(source, 0, tensor.buffer(), 0, bytes);
            }
            encoder.copy_buffer_to_buffer(&arena.faults, 0, &arena.staging, 0, 16u64);
            let mut to = 16;
            for (d, source) in downloads.iter().zip(&sources) {
                let bytes = padded(d.bytes()) as u64;
                encoder.copy_buffer_to_buffer(source, 0, &arena.staging, to, bytes);
                to += bytes;
            }
            gpu.queue.submit([encoder.finish()])
        })?;
        self.clocks.extend(clock.map(|clock| (clock, pending)));
        Ok(index)
    }

    /// Records the launches of these steps: in one pass, or, if they are timed, each in its own.
    fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        arena: &Arena,
        steps: &[usize],
        clock: Option<&Clock>,
    ) {
        let together = if clock.is_some() { 1 } else { steps.len().max(1) };
        for (k, steps) in steps.chunks(together).enumerate() {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: clock.map(|clock| clock.pass(k)),
            });
            for i in steps.iter().flat_map(|&step| self.launches_of(step)) {
                let [x, y, z] = self.ready.plan.launches[i].launch.grid;
                pass.set_pipeline(&self.ready.pipelines[i].0);
                pass.set_bind_group(0, &arena.groups[i], &[]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
        if let Some(clock) = clock {
            clock.finish(encoder);
        }
    }

    fn launches_of(&self, step: usize) -> std::ops::Range<usize> {
        match &self.ready.plan.steps[step].work {
            Work::Gpu(range) => range.clone(),
            _ => 0..0,
        }
    }

    /// Submits what is pending, and asks for these values.
    fn bring(
        &mut self,
        at: &At<'_>,
        arena: &Arena,
        downloads: Vec<Download>,
        kept: &[(Source, Arc<Resident>)],
    ) -> Result<(), Reason> {
        let index = self.submit(at, arena, &downloads, kept)?;
        let gpu = &at.on.gpu;
        let bytes = staged(&downloads) as u64;
        let mut clocks = Vec::new();
        for (clock, steps) in std::mem::take(&mut self.clocks) {
            let (clock, readback) = clock.reading(gpu, index.clone())?;
            clocks.push((clock, readback, steps));
        }
        let readback = Readback::new(gpu, &arena.staging, bytes, index)?;
        self.waits.push_back(Wait::Bring(Bring { readback, downloads, clocks }));
        Ok(())
    }

    /// `Err` if a kernel found an index out of range.
    fn check_faults(&self, at: &At<'_>, bytes: &[u8]) -> Result<(), NodeError> {
        let mut word = [0; 4];
        word.copy_from_slice(bytes);
        let Some(step) = (u32::from_le_bytes(word) as usize).checked_sub(1) else { return Ok(()) };
        let reason = invalid!("an index is out of range");
        Err(match self.ready.plan.steps.get(step) {
            Some(step) => reason.at(at.nodes.entries[step.node].id),
            None => reason.into(),
        })
    }
}

/// A value on the host: a constant, or in the environment.
fn value(at: &At<'_>, l: Option<usize>, env: &Env) -> Option<Value> {
    let l = l?;
    env[l].clone().or_else(|| at.nodes.constant(l).cloned())
}

/// Runs a step by the host.
fn on_host(at: &At<'_>, step: &Step, env: &mut Env, cx: &RunCx<'_>) -> Result<(), Reason> {
    let entry = &at.nodes.entries[step.node];
    let inputs: Vec<Option<Value>> = entry.inputs.iter().map(|&l| value(at, l, env)).collect();
    let start = Instant::now();
    let made = (at.host)(&entry.node, &inputs, cx)?;
    if made.len() < entry.outputs.len() {
        return Err(invalid!("{} outputs, {} are needed", made.len(), entry.outputs.len()));
    }
    if let Some(profile) = cx.profile {
        let show = |v: &Value| Fact::of_value(v).forget().to_string();
        profile.node(&NodeEvent {
            name: &entry.node.name,
            op: entry.node.op.name(),
            backend: "host",
            start,
            end: Instant::now(),
            inputs: inputs.iter().flatten().map(show).collect(),
            outputs: made.iter().map(show).collect(),
            bytes: inputs.iter().flatten().chain(&made).map(Value::byte_len).sum(),
            macs: 0,
        });
    }
    for (&l, value) in entry.outputs.iter().zip(made) {
        env[l] = Some(value);
    }
    Ok(())
}
