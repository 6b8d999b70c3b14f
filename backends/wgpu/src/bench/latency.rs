//! What it takes to start a kernel, to learn of its end, and to move bytes to the GPU and back.

use rinfer_graph::Reason;
use web_time::Instant;
use wgpu::BufferUsages;

use super::{Bench, Meter, Sample, wrong};
use crate::device::Buffer;

const COUNT: &str = include_str!("count.wgsl");
/// Dispatches of one repetition.
const CHAIN: usize = 256;
const SUBMITS: usize = 32;

/// A kernel that counts, and where it does.
fn counter(meter: &Meter<'_>) -> Result<(Bench, Buffer), Reason> {
    let y = meter.buffer(4)?;
    meter.gpu.write(&y, &[0; 4])?;
    let bench = meter.bench(COUNT, &[(&y, true)], &[1, 0], 1)?;
    Ok((bench, y))
}

fn check(meter: &Meter<'_>, y: &Buffer, expected: usize) -> Result<String, Reason> {
    let found = meter.words(y, 1)?[0] as usize;
    match found == expected {
        true => Ok(format!("a count of {expected} dispatches")),
        false => Err(wrong(format!("{found} dispatches were counted, not {expected}"))),
    }
}

pub(super) fn chained(meter: &Meter<'_>) -> Result<Sample, Reason> {
    let (bench, y) = counter(meter)?;
    meter.time(&bench, 1)?;
    let seconds = meter.repeat(|| Ok(meter.time(&bench, CHAIN)? / CHAIN as f64))?;
    let checked = check(meter, &y, 1 + CHAIN * seconds.len())?;
    Ok(Sample { work: 1.0, seconds, timer: meter.timer(), checked })
}

/// Submits one dispatch.
fn submit(meter: &Meter<'_>, bench: &Bench) -> Result<wgpu::SubmissionIndex, Reason> {
    meter.gpu.scoped("a benchmark", || {
        let mut encoder = meter.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        bench.record(&mut pass, 1);
        drop(pass);
        meter.gpu.queue.submit([encoder.finish()])
    })
}

pub(super) fn submits(meter: &Meter<'_>) -> Result<Sample, Reason> {
    let (bench, y) = counter(meter)?;
    meter.time(&bench, 1)?;
    let seconds = meter.repeat(|| {
        let began = Instant::now();
        let mut last = None;
        for _ in 0..SUBMITS {
            last = Some(submit(meter, &bench)?);
        }
        last.map_or(Ok(()), |index| meter.wait(index))?;
        Ok(began.elapsed().as_secs_f64() / SUBMITS as f64)
    })?;
    let checked = check(meter, &y, 1 + SUBMITS * seconds.len())?;
    Ok(Sample { work: 1.0, seconds, timer: "host", checked })
}

pub(super) fn round_trip(meter: &Meter<'_>) -> Result<Sample, Reason> {
    let (bench, y) = counter(meter)?;
    meter.time(&bench, 1)?;
    let staging = meter.gpu.buffer(4, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
    let mut count = 1u32;
    let seconds = meter.repeat(|| {
        let began = Instant::now();
        submit(meter, &bench)?;
        let bytes = meter.fetch_into(&y, &staging, 4)?;
        let seconds = began.elapsed().as_secs_f64();
        count += 1;
        match bytes[..] == count.to_le_bytes() {
            true => Ok(seconds),
            false => Err(wrong(format!("the count is {bytes:?}, not {count}"))),
        }
    })?;
    Ok(Sample { work: 1.0, seconds, timer: "host", checked: "the count after each".into() })
}

/// Bytes that are moved, and their content.
fn cargo(meter: &Meter<'_>) -> Vec<u8> {
    let most = if meter.is_cpu() { 16 << 20 } else { 64 << 20 };
    let n = (meter.gpu.info().max_buffer as usize).min(most) / 4096 * 4096;
    (0..n as u32 / 4).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

pub(super) fn upload(meter: &Meter<'_>) -> Result<Sample, Reason> {
    let cargo = cargo(meter);
    let y = meter.buffer(cargo.len())?;
    let seconds = meter.repeat(|| {
        let began = Instant::now();
        meter.gpu.write(&y, &cargo)?;
        meter.wait(meter.gpu.scoped("an upload", || meter.gpu.queue.submit([]))?)?;
        Ok(began.elapsed().as_secs_f64())
    })?;
    match meter.fetch(&y, cargo.len())? == cargo {
        true => {}
        false => return Err(wrong("other bytes came back than were sent".into())),
    }
    let checked = format!("all {} bytes", cargo.len());
    Ok(Sample { work: cargo.len() as f64, seconds, timer: "host", checked })
}

pub(super) fn readback(meter: &Meter<'_>) -> Result<Sample, Reason> {
    let cargo = cargo(meter);
    let y = meter.buffer(cargo.len())?;
    meter.gpu.write(&y, &cargo)?;
    let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
    let staging = meter.gpu.buffer(cargo.len(), usage)?;
    meter.fetch_into(&y, &staging, cargo.len())?;
    let seconds = meter.repeat(|| {
        let began = Instant::now();
        let bytes = meter.fetch_into(&y, &staging, cargo.len())?;
        let seconds = began.elapsed().as_secs_f64();
        match bytes == cargo {
            true => Ok(seconds),
            false => Err(wrong("other bytes came back than were sent".into())),
        }
    })?;
    let checked = format!("all {} bytes", cargo.len());
    Ok(Sample { work: cargo.len() as f64, seconds, timer: "host", checked })
}
