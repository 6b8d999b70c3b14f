//! What a GPU reaches at most: its memory, its arithmetic, and the way to it and back.
//!
//! Each microbenchmark checks what it computed: a kernel that is wrong has no speed. Work is made
//! larger step by step until it takes long enough to be measured, so that no dispatch takes long on
//! a slow adapter, and all of it is bounded in time.

mod compute;
mod latency;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use rinfer_graph::backend::RunCx;
use rinfer_graph::{Kind, Reason};
use web_time::Instant;
use wgpu::BufferUsages;

use crate::clock::{Clock, spans};
use crate::device::{Buffer, Gpu, padded};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Micro {
    /// Bytes read from memory.
    Read,
    /// Bytes read and written, each counted.
    Copy,
    /// Multiply–adds of f32, two operations each.
    F32,
    /// Multiply–adds of f16.
    F16,
    /// Products of four bytes with four bytes, added to a sum: eight operations.
    Int8,
    /// Products of f16 matrices by matrix units, added to f32.
    Matrix,
    /// A dispatch of one lane, many in one pass.
    Chained,
    /// A dispatch of one lane, each submitted by itself.
    Submits,
    /// A dispatch of one lane, and the host has read what it wrote.
    RoundTrip,
    /// Bytes from the host to the GPU.
    Upload,
    /// Bytes from the GPU to the host.
    Readback,
}

impl Micro {
    /// All of them, in the order of reports.
    pub const ALL: [Micro; 11] = [
        Micro::Read,
        Micro::Copy,
        Micro::F32,
        Micro::F16,
        Micro::Int8,
        Micro::Matrix,
        Micro::Chained,
        Micro::Submits,
        Micro::RoundTrip,
        Micro::Upload,
        Micro::Readback,
    ];
}

/// Times of one microbenchmark, its result checked.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Bytes, operations, or dispatches of one repetition.
    pub work: f64,
    /// Seconds of each repetition.
    pub seconds: Vec<f64>,
    /// Whose clock: `gpu` or `host`.
    pub timer: &'static str,
    /// What was compared with what.
    pub checked: String,
}

/// Measures for about as long as `budget`, after making the work large enough.
///
/// # Errors
/// `Unsupported`: the adapter lacks what it takes. `Internal`: the result is wrong. Otherwise the
/// device failed, or nothing came back in twenty times the budget and ten seconds.
pub fn measure(gpu: &Gpu, what: Micro, budget: Duration) -> Result<Sample, Reason> {
    let meter = Meter { gpu, budget, end: Instant::now() + 20 * budget + Duration::from_secs(10) };
    match what {
        Micro::Read => memory::read(&meter),
        Micro::Copy => memory::copy(&meter),
        Micro::F32 => compute::float(&meter, "f32"),
        Micro::F16 => compute::float(&meter, "f16"),
        Micro::Int8 => compute::int8(&meter),
        Micro::Matrix => compute::matrix(&meter),
        Micro::Chained => latency::chained(&meter),
        Micro::Submits => latency::submits(&meter),
        Micro::RoundTrip => latency::round_trip(&meter),
        Micro::Upload => latency::upload(&meter),
        Micro::Readback => latency::readback(&meter),
    }
}

/// Measures on one GPU within a time.
struct Meter<'a> {
    gpu: &'a Gpu,
    budget: Duration,
    /// When whatever runs is given up.
    end: Instant,
}

/// A kernel with its buffers and numbers.
struct Bench {
    pipeline: Arc<wgpu::ComputePipeline>,
    group: wgpu::BindGroup,
    numbers: Buffer,
    groups: u32,
}

impl Bench {
    /// Records `n` dispatches.
    fn record(&self, pass: &mut wgpu::ComputePass<'_>, n: usize) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        for _ in 0..n {
            pass.dispatch_workgroups(self.groups, 1, 1);
        }
    }
}

/// The result is not what it must be.
fn wrong(text: String) -> Reason {
    Reason::new(Kind::Internal, format!("the result is wrong: {text}"))
}

impl Meter<'_> {
    /// Whether the adapter is a processor: it is slow, and has few lanes.
    fn is_cpu(&self) -> bool {
        self.gpu.info().kind == "cpu"
    }

    fn buffer(&self, bytes: usize) -> Result<Buffer, Reason> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        self.gpu.buffer(bytes, usage)
    }

    /// A kernel that sees these buffers, those that it writes marked so, and these numbers.
    fn bench(
        &self,
        source: &str,
        buffers: &[(&Buffer, bool)],
        numbers: &[u32],
        groups: u32,
    ) -> Result<Bench, Reason> {
        let layout = self.gpu.layout(buffers.iter().map(|(_, written)| *written).collect())?;
        let pipeline = self.gpu.pipeline(source, &layout)?;
        let mut padded_numbers = numbers.to_vec();
        padded_numbers.resize(numbers.len().next_multiple_of(4), 0);
        let bytes = bytemuck::cast_slice(&padded_numbers);
        let numbers = self.gpu.upload(bytes, BufferUsages::UNIFORM)?;
        let all = buffers.iter().map(|(b, _)| *b).chain([&numbers]).enumerate();
        let entries: Vec<_> = all
            .map(|(k, buffer)| wgpu::BindGroupEntry {
                binding: k as u32,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let group = self.gpu.scoped("a benchmark's buffers", || {
            self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &layout.group,
                entries: &entries,
            })
        })?;
        Ok(Bench { pipeline, group, numbers, groups })
    }

    /// Runs `n` dispatches and waits: seconds, by the GPU's clock if it has one.
    fn time(&self, bench: &Bench, n: usize) -> Result<f64, Reason> {
        let clock = Clock::new(self.gpu, 1)?;
        let began = Instant::now();
        let index = self.gpu.scoped("a benchmark", || {
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: clock.as_ref().map(|clock| clock.pass(0)),
            });
            bench.record(&mut pass, n);
            drop(pass);
            if let Some(clock) = &clock {
                clock.finish(&mut encoder);
            }
            self.gpu.queue.submit([encoder.finish()])
        })?;
        self.wait(index.clone())?;
        let wall = began.elapsed().as_secs_f64();
        let Some(clock) = clock else { return Ok(wall) };
        let (_clock, readback) = clock.reading(self.gpu, index)?;
        readback.wait(self.gpu, &RunCx::unbounded())?;
        let spans = spans(&readback)?;
        let ticks = spans.first().map_or(0, |s| s.1.wrapping_sub(s.0));
        let seconds = ticks as f64 * f64::from(self.gpu.queue.get_timestamp_period()) * 1e-9;
        // A clock that stands still, or went astray, tells nothing.
        Ok(if seconds > 0.0 && seconds <= 1.5 * wall + 1e-3 { seconds } else { wall })
    }

    fn wait(&self, index: wgpu::SubmissionIndex) -> Result<(), Reason> {
        self.gpu.wait(index, &|| match Instant::now() < self.end {
            true => Ok(()),
            false => Err(Reason::new(Kind::Deadline, "the benchmark took too long")),
        })
    }

    fn timer(&self) -> &'static str {
        if self.gpu.info().timestamps { "gpu" } else { "host" }
    }

    /// Repeats until the budget is used up: five times at least, a hundred at most, but never
    /// beyond twenty times the budget.
    fn repeat(&self, mut f: impl FnMut() -> Result<f64, Reason>) -> Result<Vec<f64>, Reason> {
        let began = Instant::now();
        let mut times = Vec::new();
        while times.len() < 100 && (times.len() < 5 || began.elapsed() < self.budget) {
            if times.len() > 1 && began.elapsed() > 20 * self.budget {
                break;
            }
            times.push(f()?);
        }
        Ok(times)
    }

    /// The bytes of a buffer.
    fn fetch(&self, buffer: &Buffer, bytes: usize) -> Result<Vec<u8>, Reason> {
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = self.gpu.buffer(bytes, usage)?;
        self.fetch_into(buffer, &staging, bytes)
    }

    /// The bytes of a buffer, by way of memory that the host can read.
    fn fetch_into(
        &self,
        buffer: &Buffer,
        staging: &Buffer,
        bytes: usize,
    ) -> Result<Vec<u8>, Reason> {
        let lost = || Reason::new(Kind::Device, "the GPU gives nothing back");
        let size = padded(bytes) as u64;
        let (sender, receiver) = std::sync::mpsc::channel();
        let index = self.gpu.scoped("a readback", || {
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, staging, 0, size);
            let index = self.gpu.queue.submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, 0..size, move |result| {
                // The receiver waits, unless the wait was given up.
                let _ = sender.send(result);
            });
            index
        })?;
        self.wait(index)?;
        receiver.try_recv().map_err(|_| lost())?.map_err(|_| lost())?;
        let view = staging.get_mapped_range(0..size).map_err(|_| lost())?;
        let content = view[..bytes].to_vec();
        drop(view);
        staging.unmap();
        Ok(content)
    }

    /// The words of a buffer.
    fn words(&self, buffer: &Buffer, n: usize) -> Result<Vec<u32>, Reason> {
        Ok(bytemuck::pod_collect_to_vec(&self.fetch(buffer, 4 * n)?))
    }
}
