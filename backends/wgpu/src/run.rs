//! Runs a plan: records its launches, submits them, and brings back what leaves it.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use rinfer_graph::backend::{NodeError, NodeEvent, OnDevice, Profile, RunCx};
use rinfer_graph::{Fact, Kind, Reason, Value, cost, invalid};
use wgpu::BufferUsages;

use crate::clock::{Clock, PASSES, Span, place};
use crate::device::{Gpu, Layout, padded};
use crate::half::{kept, tensor};
use crate::nodes::{Local, Nodes};
use crate::plan::{Download, Plan, Source, Step, Work, bytes_of};
use crate::program::{Env, Here, Host};
use crate::resident::Resident;

/// Launches that are submitted together at most: the GPU begins while the rest is recorded.
const BATCH: usize = 256;
/// Where the numbers of a launch begin: a multiple of what any GPU asks for.
const ALIGN: usize = 256;

/// A plan with its kernels, constants and memory on the GPU.
pub(crate) struct Ready {
    pub plan: Plan,
    pipelines: Vec<(Arc<wgpu::ComputePipeline>, Arc<Layout>)>,
    fixed: Vec<wgpu::Buffer>,
    weights: Vec<Vec<Option<Arc<wgpu::Buffer>>>>,
    numbers: wgpu::Buffer,
    arenas: Mutex<Vec<Arena>>,
}

/// What one run writes into.
struct Arena {
    slots: Vec<wgpu::Buffer>,
    faults: wgpu::Buffer,
    staging: wgpu::Buffer,
    groups: Vec<wgpu::BindGroup>,
}

impl Ready {
    pub fn new(gpu: &Gpu, nodes: &Nodes, plan: Plan) -> Result<Ready, Reason> {
        let fixed = plan
            .fixed
            .iter()
            .map(|bytes| gpu.upload(bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC));
        let fixed = fixed.collect::<Result<Vec<_>, _>>()?;
        let mut pipelines = Vec::with_capacity(plan.launches.len());
        let mut weights = Vec::with_capacity(plan.launches.len());
        let mut numbers = Vec::new();
        for bound in &plan.launches {
            let layout = gpu.layout(bound.launch.binds.iter().map(|(_, w)| *w).collect())?;
            pipelines.push((gpu.pipeline(&bound.launch.source, &layout)?, layout));
            let of = |(source, ..): &(Source, usize, usize)| match source {
                Source::Weight(l) => nodes.weight(gpu, *l).map(Some),
                _ => Ok(None),
            };
            weights.push(bound.sources.iter().map(of).collect::<Result<Vec<_>, Reason>>()?);
            numbers.resize(numbers.len().next_multiple_of(ALIGN), 0);
            numbers.extend_from_slice(bytemuck::cast_slice(&bound.launch.params));
        }
        numbers.resize(numbers.len().next_multiple_of(ALIGN), 0);
        let numbers = gpu.upload(&numbers, BufferUsages::UNIFORM)?;
        Ok(Ready { plan, pipelines, fixed, weights, numbers, arenas: Mutex::default() })
    }

    /// Memory for one run: that of an earlier one, or new.
    fn take(&self, gpu: &Gpu) -> Result<Arena, Reason> {
        let kept = self.arenas.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(arena) => Ok(arena),
            None => self.arena(gpu),
        }
    }

    fn arena(&self, gpu: &Gpu) -> Result<Arena, Reason> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let slots = self.plan.slots.iter().map(|&bytes| gpu.buffer(bytes, usage));
        let slots = slots.collect::<Result<Vec<_>, _>>()?;
        let steps = self.plan.steps.iter().filter_map(|step| match &step.work {
            Work::Host(downloads) => Some(staged(downloads)),
            _ => None,
        });
        let most = steps.chain([staged(&self.plan.downloads)]).max().unwrap_or(0);
        let mut arena = Arena {
            slots,
            faults: gpu.buffer(4, usage)?,
            staging: gpu.buffer(most, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?,
            groups: Vec::new(),
        };
        arena.groups = self.groups(gpu, &arena)?;
        Ok(arena)
    }

    fn groups(&self, gpu: &Gpu, arena: &Arena) -> Result<Vec<wgpu::BindGroup>, Reason> {
        let mut at = 0usize;
        let mut groups = Vec::with_capacity(self.plan.launches.len());
        for (i, bound) in self.plan.launches.iter().enumerate() {
            let buffer = |k: usize| match bound.sources[k].0 {
                Source::Slot(slot) => Ok(&arena.slots[slot]),
                Source::Fixed(i) => Ok(&self.fixed[i]),
                Source::Faults => Ok(&arena.faults),
                Source::Weight(_) => {
                    self.weights[i][k].as_deref().ok_or_else(|| invalid!("a weight is missing"))
                }
            };
            let mut entries = Vec::with_capacity(bound.sources.len() + 1);
            for (k, &(_, offset, size)) in bound.sources.iter().enumerate() {
                entries.push(entry(k, buffer(k)?, offset, size));
            }
            let bytes = bound.launch.params.len() * 4;
            entries.push(entry(entries.len(), &self.numbers, at, bytes.next_multiple_of(16)));
            at += bytes.next_multiple_of(ALIGN);
            groups.push(gpu.scoped("a kernel's buffers", || {
                gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &self.pipelines[i].1.group,
                    entries: &entries,
                })
            })?);
        }
        Ok(groups)
    }
}

fn entry(k: usize, buffer: &wgpu::Buffer, offset: usize, size: usize) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry {
        binding: k as u32,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer,
            offset: offset as u64,
            size: std::num::NonZeroU64::new(size as u64),
        }),
    }
}

/// Bytes of the values between GPU and host, the faults before them.
fn staged(downloads: &[Download]) -> usize {
    16 + downloads.iter().map(|d| padded(d.bytes())).sum::<usize>()
}

/// One run of a plan.
pub(crate) struct Run<'a> {
    gpu: &'a Arc<Gpu>,
    nodes: &'a Nodes,
    host: &'a Host,
    ready: &'a Ready,
    /// Steps whose launches are not submitted yet, and how many those are.
    pending: Vec<usize>,
    launches: usize,
    /// Launches since the host last waited.
    ran: usize,
    /// Whether anything was submitted.
    begun: bool,
    /// Whether nodes are timed.
    timed: bool,
    /// What was submitted since the host last waited: clocks and their steps.
    clocks: Vec<(Clock, Vec<usize>)>,
    /// When the first of it was handed over.
    since: Option<Instant>,
    /// Tensors of earlier runs that go into slots before whatever is submitted next.
    moves: Vec<(Arc<Resident>, usize)>,
    /// What those are, for a profile.
    moved: Vec<(Local, Fact)>,
}

impl<'a> Run<'a> {
    pub fn new(gpu: &'a Arc<Gpu>, nodes: &'a Nodes, host: &'a Host, ready: &'a Ready) -> Run<'a> {
        Run {
            gpu,
            nodes,
            host,
            ready,
            pending: Vec::new(),
            launches: 0,
            ran: 0,
            begun: false,
            timed: false,
            clocks: Vec::new(),
            since: None,
            moves: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// Runs the plan; what it makes is in `env` afterwards, as far as somebody reads it, or `here`
    /// if it is to stay on the GPU.
    pub fn run(mut self, env: &mut Env, here: &mut Here, cx: &RunCx<'_>) -> Result<(), NodeError> {
        let arena = self.ready.take(self.gpu)?;
        self.timed = cx.profile.is_some();
        for (l, value) in &self.ready.plan.constants {
            env[*l] = Some(value.clone());
        }
        for (i, step) in self.ready.plan.steps.iter().enumerate() {
            self.step(i, step, &arena, (&mut *env, &mut *here), cx)
                .map_err(|reason| reason.at(self.nodes.entries[step.node].id))?;
        }
        let plan = &self.ready.plan;
        if self.begun || !self.pending.is_empty() || !plan.downloads.is_empty() {
            let kept = self.keep(&plan.downloads, here)?;
            let rest = plan.downloads.iter().filter(|d| !here.keep[d.local]);
            let rest: Vec<Download> = rest.cloned().collect();
            self.bring(&arena, &rest, &kept, env, cx)?;
        }
        // After an error the memory may still be in use, and is not kept.
        self.ready.arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
        Ok(())
    }

    fn step(
        &mut self,
        i: usize,
        step: &Step,
        arena: &Arena,
        (env, here): (&mut Env, &mut Here),
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        cx.check()?;
        for &(l, slot) in &step.uploads {
            if let Some(tensor) = &here.tensors[l] {
                self.moves.push((tensor.clone(), slot));
                self.moved.push((l, Fact::sized(tensor.dtype(), tensor.shape())));
                continue;
            }
            let value = env[l].as_ref().ok_or_else(|| invalid!("a value is not on the host"))?;
            let bytes = kept(value.as_tensor()?, self.nodes.is_half(l));
            self.gpu.write(&arena.slots[slot], &bytes)?;
        }
        match &step.work {
            Work::View => Ok(()),
            Work::Gpu(range) => {
                if !range.is_empty() {
                    self.pending.push(i);
                    self.launches += range.len();
                    self.ran += range.len();
                }
                if self.launches >= BATCH {
                    self.submit(arena, &[], &[])?;
                }
                Ok(())
            }
            Work::HostView => {
                let entry = &self.nodes.entries[step.node];
                let sizes = step.facts[0].sizes().ok_or_else(|| invalid!("no sizes"))?;
                if let Some(tensor) = entry.inputs[0].and_then(|l| here.tensors[l].as_ref()) {
                    here.tensors[entry.outputs[0]] = Some(Arc::new(tensor.viewed(&sizes)));
                    return Ok(());
                }
                let x = self.value(entry.inputs[0], env);
                let x = x.ok_or_else(|| invalid!("a value is not on the host"))?.into_tensor()?;
                env[entry.outputs[0]] = Some(x.reshaped(&sizes)?.into());
                Ok(())
            }
            Work::Host(downloads) => {
                if !downloads.is_empty() {
                    self.bring(arena, downloads, &[], env, cx).map_err(|e| e.reason)?;
                }
                for &l in self.nodes.entries[step.node].inputs.iter().flatten() {
                    here.fetch(l, env, cx)?;
                }
                self.on_host(step, env, cx)
            }
        }
    }

    /// A value on the host: a constant, or in the environment.
    fn value(&self, l: Option<usize>, env: &Env) -> Option<Value> {
        let l = l?;
        env[l].clone().or_else(|| self.nodes.constant(l).cloned())
    }

    fn on_host(&self, step: &Step, env: &mut Env, cx: &RunCx<'_>) -> Result<(), Reason> {
        let entry = &self.nodes.entries[step.node];
        let inputs: Vec<Option<Value>> = entry.inputs.iter().map(|&l| self.value(l, env)).collect();
        let start = Instant::now();
        let made = (self.host)(&entry.node, &inputs, cx)?;
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

    /// Memory for the outputs that stay on the GPU, and where they are now.
    fn keep(
        &self,
        downloads: &[Download],
        here: &mut Here,
    ) -> Result<Vec<(Source, Arc<Resident>)>, Reason> {
        let mut kept = Vec::new();
        for d in downloads.iter().filter(|d| here.keep[d.local]) {
            let tensor = Arc::new(Resident::new(self.gpu, d.dtype, &d.sizes)?);
            here.tensors[d.local] = Some(tensor.clone());
            kept.push((d.source, tensor));
        }
        Ok(kept)
    }

    fn buffer(&self, source: Source, arena: &Arena) -> Result<wgpu::Buffer, Reason> {
        Ok(match source {
            Source::Slot(slot) => arena.slots[slot].clone(),
            Source::Fixed(i) => self.ready.fixed[i].clone(),
            Source::Weight(l) => wgpu::Buffer::clone(&*self.nodes.weight(self.gpu, l)?),
            Source::Faults => arena.faults.clone(),
        })
    }

    /// Submits what is pending, and copies out of these values after it.
    fn submit(
        &mut self,
        arena: &Arena,
        downloads: &[Download],
        kept: &[(Source, Arc<Resident>)],
    ) -> Result<wgpu::SubmissionIndex, Reason> {
        let gpu = self.gpu;
        let pending = std::mem::take(&mut self.pending);
        let moves = std::mem::take(&mut self.moves);
        self.launches = 0;
        let first = !std::mem::replace(&mut self.begun, true);
        let sources = downloads.iter().map(|d| self.buffer(d.source, arena));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let stay = kept.iter().map(|(source, _)| self.buffer(*source, arena));
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
            let mut at = 16;
            for (d, source) in downloads.iter().zip(&sources) {
                let bytes = padded(d.bytes()) as u64;
                encoder.copy_buffer_to_buffer(source, 0, &arena.staging, at, bytes);
                at += bytes;
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

    /// Brings values to the host.
    fn bring(
        &mut self,
        arena: &Arena,
        downloads: &[Download],
        kept: &[(Source, Arc<Resident>)],
        env: &mut Env,
        cx: &RunCx<'_>,
    ) -> Result<(), NodeError> {
        let index = self.submit(arena, downloads, kept)?;
        let (sender, receiver) = mpsc::channel();
        let all = 0..staged(downloads) as u64;
        self.gpu.scoped("a readback", || {
            arena.staging.map_async(wgpu::MapMode::Read, all.clone(), move |result| {
                // The receiver waits, unless the run was given up.
                let _ = sender.send(result);
            });
        })?;
        self.gpu.wait(index, &|| cx.check())?;
        let lost = || Reason::new(Kind::Device, "the GPU gives nothing back");
        receiver.try_recv().map_err(|_| lost())?.map_err(|_| lost())?;
        {
            let view = arena.staging.get_mapped_range(all).map_err(|_| lost())?;
            self.check_faults(&view[..4])?;
            let mut at = 16;
            for d in downloads {
                env[d.local] = Some(tensor(d, &view[at..])?.into());
                at += padded(d.bytes());
            }
        }
        arena.staging.unmap();
        if let Some(profile) = cx.profile {
            self.tell(profile, downloads, env)?;
        }
        (self.since, self.ran) = (None, 0);
        Ok(())
    }

    /// Tells what ran since the host last waited: each node by the GPU's clock and then what the
    /// host waited beyond that, or, without timestamps, all as one.
    fn tell(
        &mut self,
        profile: &dyn Profile,
        downloads: &[Download],
        env: &Env,
    ) -> Result<(), Reason> {
        let end = Instant::now();
        let mut start = self.since.unwrap_or(end);
        let mut spans: Vec<Span> = Vec::new();
        let mut steps = Vec::new();
        for (clock, of) in std::mem::take(&mut self.clocks) {
            spans.extend(clock.read(self.gpu)?);
            steps.extend(of);
        }
        let period = f64::from(self.gpu.queue.get_timestamp_period());
        let placed = place(&spans, period, start, end);
        for (&step, &span) in steps.iter().zip(&placed) {
            self.tell_node(profile, &self.ready.plan.steps[step], span, env);
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
            outputs: downloads.iter().map(|d| format!("{}{:?}", d.dtype, d.sizes)).collect(),
            bytes: downloads.iter().map(Download::bytes).sum(),
            macs: 0,
        });
        Ok(())
    }

    fn tell_node(
        &self,
        profile: &dyn Profile,
        step: &Step,
        (start, end): (Instant, Instant),
        env: &Env,
    ) {
        let entry = &self.nodes.entries[step.node];
        let inputs: Vec<Option<Fact>> =
            entry.inputs.iter().map(|l| l.and_then(|l| self.fact(l, env))).collect();
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
    fn fact(&self, l: Local, env: &Env) -> Option<Fact> {
        if let Some(value) = env[l].as_ref().or_else(|| self.nodes.constant(l)) {
            return Some(Fact::of_value(value).forget());
        }
        if let Some((_, fact)) = self.moved.iter().find(|(moved, _)| *moved == l) {
            return Some(fact.clone());
        }
        self.ready.plan.steps.iter().find_map(|step| {
            let k = self.nodes.entries[step.node].outputs.iter().position(|&o| o == l)?;
            Some(step.facts.get(k)?.clone().forget())
        })
    }

    /// `Err` if a kernel found an index out of range.
    fn check_faults(&self, bytes: &[u8]) -> Result<(), NodeError> {
        let mut word = [0; 4];
        word.copy_from_slice(bytes);
        let Some(step) = (u32::from_le_bytes(word) as usize).checked_sub(1) else { return Ok(()) };
        let reason = invalid!("an index is out of range");
        Err(match self.ready.plan.steps.get(step) {
            Some(step) => reason.at(self.nodes.entries[step.node].id),
            None => reason.into(),
        })
    }
}
