//! How fast kernels read and copy memory.

use rinfer_graph::{Kind, Reason};

use super::{Bench, Meter, Sample, wrong};
use crate::device::Buffer;

const FILL: &str = include_str!("fill.wgsl");
const READ: &str = include_str!("read.wgsl");
const COPY: &str = include_str!("copy.wgsl");
/// Lanes of a workgroup.
const LANES: u32 = 256;

/// Words that a lane moves at a time.
const WIDTHS: [usize; 2] = [4, 1];

/// The kernel that moves so many words at a time.
fn source(file: &str, width: usize) -> String {
    let (element, place, total) = match width {
        4 => ("vec4<u32>", "i", "sum.x + sum.y + sum.z + sum.w"),
        _ => ("u32", "(i >> 2u)", "sum"),
    };
    file.replace("ELEMENT", element).replace("PLACE", place).replace("TOTAL", total)
}

/// Memory with known content, and what reads it.
struct Field {
    data: Buffer,
    /// What each lane summed.
    sums: Buffer,
    bytes: usize,
    lanes: u32,
    expected: u32,
}

/// As much memory as kernels see at once, half a gigabyte at most, less where there is less;
/// `parts` of it.
fn field(meter: &Meter<'_>, parts: usize) -> Result<Field, Reason> {
    let traits = &meter.gpu.traits;
    let most = if meter.is_cpu() { 32 << 20 } else { 512 << 20 };
    let mut bytes = (traits.max_binding as usize).min(most) / parts / 4096 * 4096;
    let data = loop {
        match meter.buffer(bytes) {
            Err(e) if e.kind == Kind::Limit && bytes > 16 << 20 => bytes /= 2,
            other => break other?,
        }
    };
    let groups = if meter.is_cpu() { 64 } else { 4096 };
    let lanes = LANES * groups;
    let sums = meter.buffer(4 * lanes as usize)?;
    let numbers = [(bytes / 16) as u32, lanes];
    let fill = meter.bench(FILL, &[(&data, true)], &numbers, groups)?;
    meter.time(&fill, 1)?;
    let expected = (0..bytes as u32 / 4).fold(0u32, |sum, i| {
        let w = i.wrapping_mul(2_654_435_761);
        sum.wrapping_add((w ^ (w >> 15)).wrapping_mul((i / 4) | 1))
    });
    Ok(Field { data, sums, bytes, lanes, expected })
}

impl Field {
    fn numbers(&self, width: usize) -> [u32; 2] {
        [(self.bytes / 4 / width) as u32, self.lanes]
    }

    fn reader(&self, meter: &Meter<'_>, data: &Buffer, width: usize) -> Result<Bench, Reason> {
        let buffers = [(data, false), (&self.sums, true)];
        let groups = self.lanes / LANES;
        meter.bench(&source(READ, width), &buffers, &self.numbers(width), groups)
    }

    /// Compares the sum of what was read with that of what was written.
    fn check(&self, meter: &Meter<'_>) -> Result<String, Reason> {
        let sums = meter.words(&self.sums, self.lanes as usize)?;
        let found = sums.iter().fold(0u32, |sum, s| sum.wrapping_add(*s));
        match found == self.expected {
            true => Ok(format!("the sum of {} bytes by place", self.bytes)),
            false => Err(wrong(format!("a sum is {found:#x}, not {:#x}", self.expected))),
        }
    }
}

/// Times the faster of the kernels, as often in a pass as five milliseconds take; the width of what
/// it moves.
fn sample(
    meter: &Meter<'_>,
    bytes: usize,
    make: impl Fn(usize) -> Result<Bench, Reason>,
) -> Result<(Sample, usize), Reason> {
    let mut best: Option<(f64, usize, Bench)> = None;
    for width in WIDTHS {
        let bench = make(width)?;
        // The first run may compile.
        meter.time(&bench, 1)?;
        let seconds = meter.time(&bench, 1)?.min(meter.time(&bench, 1)?);
        if best.as_ref().is_none_or(|b| seconds < b.0) {
            best = Some((seconds, width, bench));
        }
    }
    let Some((seconds, width, bench)) = best else { return Err(wrong("nothing ran".into())) };
    let n = ((5e-3 / seconds).ceil() as usize).clamp(1, 64);
    let seconds = meter.repeat(|| Ok(meter.time(&bench, n)? / n as f64))?;
    let (timer, checked) = (meter.timer(), String::new());
    Ok((Sample { work: bytes as f64, seconds, timer, checked }, width))
}

pub(super) fn read(meter: &Meter<'_>) -> Result<Sample, Reason> {
    let field = field(meter, 1)?;
    let make = |width| field.reader(meter, &field.data, width);
    let (sample, width) = sample(meter, field.bytes, make)?;
    // The sums may be those of the other kernel.
    meter.gpu.write(&field.sums, &vec![0; 4 * field.lanes as usize])?;
    meter.time(&make(width)?, 1)?;
    Ok(Sample { checked: field.check(meter)?, ..sample })
}

pub(super) fn copy(meter: &Meter<'_>) -> Result<Sample, Reason> {
    let field = field(meter, 2)?;
    let other = meter.buffer(field.bytes)?;
    let make = |width| {
        let buffers = [(&field.data, false), (&other, true)];
        let groups = field.lanes / LANES;
        meter.bench(&source(COPY, width), &buffers, &field.numbers(width), groups)
    };
    let (sample, width) = sample(meter, 2 * field.bytes, make)?;
    // What is there may be the copy of the other kernel.
    meter.gpu.write(&other, &vec![0; field.bytes])?;
    meter.time(&make(width)?, 1)?;
    meter.time(&field.reader(meter, &other, 1)?, 1)?;
    Ok(Sample { checked: field.check(meter)?, ..sample })
}
