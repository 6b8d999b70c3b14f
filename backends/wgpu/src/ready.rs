//! A plan made ready to run: its kernels compiled, its constants uploaded, memory for its runs.

use std::sync::{Arc, Mutex, PoisonError};

use rinfer_graph::{Reason, invalid};
use web_time::Instant;
use wgpu::BufferUsages;

use crate::device::{Buffer, Gpu, Layout, padded};
use crate::nodes::Nodes;
use crate::plan::{Download, Plan, Source, Work};
use crate::seat::OnGpu;

/// Where the numbers of a launch begin: a multiple of what any GPU asks for.
const ALIGN: usize = 256;

/// A plan with its kernels, constants and memory on the GPU.
pub(crate) struct Ready {
    pub plan: Plan,
    pub pipelines: Vec<Pipeline>,
    pub fixed: Vec<Buffer>,
    weights: Vec<Vec<Option<Arc<Buffer>>>>,
    numbers: Buffer,
    arenas: Mutex<Vec<Arena>>,
}

type Pipeline = (Arc<wgpu::ComputePipeline>, Arc<Layout>);

/// What one run writes into.
pub(crate) struct Arena {
    pub slots: Vec<Buffer>,
    pub faults: Buffer,
    pub staging: Buffer,
    pub groups: Vec<wgpu::BindGroup>,
}

/// A plan whose kernels are being compiled.
#[derive(Default)]
pub(crate) struct Making {
    plan: Plan,
    pipelines: Vec<Pipeline>,
    weights: Vec<Vec<Option<Arc<Buffer>>>>,
    numbers: Vec<u8>,
}

impl Making {
    pub fn new(plan: Plan) -> Making {
        Making { plan, ..Making::default() }
    }

    /// Goes on until `until` has passed, one kernel at least.
    pub fn advance(
        &mut self,
        on: &OnGpu,
        nodes: &Nodes,
        until: Option<Instant>,
    ) -> Result<Option<Ready>, Reason> {
        let gpu = &on.gpu;
        for bound in &self.plan.launches[self.pipelines.len()..] {
            let layout = gpu.layout(bound.launch.binds.iter().map(|(_, w)| *w).collect())?;
            let of = |(source, ..): &(Source, usize, usize)| match source {
                Source::Weight(l) => on.weight(nodes, *l).map(Some),
                _ => Ok(None),
            };
            self.weights.push(bound.sources.iter().map(of).collect::<Result<Vec<_>, Reason>>()?);
            self.numbers.resize(self.numbers.len().next_multiple_of(ALIGN), 0);
            self.numbers.extend_from_slice(bytemuck::cast_slice(&bound.launch.params));
            self.pipelines.push((gpu.pipeline(&bound.launch.source, &layout)?, layout));
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
        }
        let Making { plan, pipelines, weights, mut numbers } = std::mem::take(self);
        numbers.resize(numbers.len().next_multiple_of(ALIGN), 0);
        let numbers = gpu.upload(&numbers, BufferUsages::UNIFORM)?;
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let fixed = plan.fixed.iter().map(|bytes| gpu.upload(bytes, usage));
        let fixed = fixed.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Ready { plan, pipelines, fixed, weights, numbers, arenas: Mutex::default() }))
    }
}

impl Ready {
    /// Memory for one run: that of an earlier one, or new.
    pub fn take(&self, gpu: &Gpu) -> Result<Arena, Reason> {
        let kept = self.arenas.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(arena) => Ok(arena),
            None => self.arena(gpu),
        }
    }

    /// Memory that nothing submitted uses any more, for later runs.
    pub fn give_back(&self, arena: Arena) {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
    }

    /// Lets go of the memory that is kept for later runs.
    pub fn trim(&self) {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
        gpu.scoped("the buffers of kernels", || {
            let mut at = 0usize;
            let mut groups = Vec::with_capacity(self.plan.launches.len());
            for (i, bound) in self.plan.launches.iter().enumerate() {
                let bytes = bound.launch.params.len() * 4;
                let numbers = (at, bytes.next_multiple_of(16));
                groups.push(self.group(gpu, arena, i, numbers)?);
                at += bytes.next_multiple_of(ALIGN);
            }
            Ok(groups)
        })?
    }

    fn group(
        &self,
        gpu: &Gpu,
        arena: &Arena,
        i: usize,
        (at, bytes): (usize, usize),
    ) -> Result<wgpu::BindGroup, Reason> {
        let sources = &self.plan.launches[i].sources;
        let buffer = |k: usize| match sources[k].0 {
            Source::Slot(slot) => Ok(&arena.slots[slot]),
            Source::Fixed(i) => Ok(&self.fixed[i]),
            Source::Faults => Ok(&arena.faults),
            Source::Weight(_) => {
                self.weights[i][k].as_deref().ok_or_else(|| invalid!("a weight is missing"))
            }
        };
        let mut entries = Vec::with_capacity(sources.len() + 1);
        for (k, &(_, offset, size)) in sources.iter().enumerate() {
            entries.push(entry(k, buffer(k)?, offset, size));
        }
        entries.push(entry(entries.len(), &self.numbers, at, bytes));
        Ok(gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipelines[i].1.group,
            entries: &entries,
        }))
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
pub(crate) fn staged(downloads: &[Download]) -> usize {
    downloads.iter().fold(16, |sum: usize, d| sum.saturating_add(padded(d.bytes())))
}
