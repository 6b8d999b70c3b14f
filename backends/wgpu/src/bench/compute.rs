//! How fast lanes and matrix units compute, from registers alone.

use half::f16;
use rinfer_graph::{Reason, unsupported};

use super::{Bench, Meter, Sample, wrong};
use crate::device::Buffer;

const FLOAT: &str = include_str!("float.wgsl");
const INT8: &str = include_str!("int8.wgsl");
const MATRIX: &str = include_str!("matrix.wgsl");
/// Lanes of a workgroup.
const LANES: u32 = 256;
/// A dispatch is made as long as this, in seconds.
const LONG: f64 = 10e-3;
/// How far the number of rounds is raised: sums of matrices stay exact.
const ROUNDS: u32 = 1024;

/// Raises the number of rounds until a dispatch takes long enough: that number.
fn calibrate(
    meter: &Meter<'_>,
    bench: &Bench,
    numbers: &dyn Fn(u32) -> Vec<u32>,
) -> Result<u32, Reason> {
    let mut rounds = 1;
    loop {
        meter.gpu.write(&bench.numbers, bytemuck::cast_slice(&numbers(rounds)))?;
        // The first run of a kernel may compile it.
        let seconds = meter.time(bench, 1)?.min(meter.time(bench, 1)?);
        if seconds >= LONG || rounds >= ROUNDS {
            return Ok(rounds);
        }
        let more = (LONG / seconds.max(1e-9)).clamp(2.0, 8.0) as u32;
        rounds = (rounds * more).min(ROUNDS);
    }
}

fn groups(meter: &Meter<'_>) -> u32 {
    if meter.is_cpu() { 32 } else { 4096 }
}

/// Times `bench` with as many rounds as it takes; `work` is that of one round of all lanes.
fn sample(
    meter: &Meter<'_>,
    bench: &Bench,
    work: f64,
    numbers: &dyn Fn(u32) -> Vec<u32>,
) -> Result<(Sample, u32), Reason> {
    let rounds = calibrate(meter, bench, numbers)?;
    let seconds = meter.repeat(|| meter.time(bench, 1))?;
    let work = work * f64::from(rounds);
    Ok((Sample { work, seconds, timer: meter.timer(), checked: String::new() }, rounds))
}

/// Compares a word of every lane.
fn check(
    meter: &Meter<'_>,
    y: &Buffer,
    lanes: usize,
    expected: impl Fn(u32) -> u32,
) -> Result<String, Reason> {
    let by_start: Vec<u32> = (0..4).map(&expected).collect();
    let found = meter.words(y, lanes)?;
    match found.iter().enumerate().find(|&(i, &x)| x != by_start[i & 3]) {
        None => Ok(format!("every result of {lanes} lanes")),
        Some((i, x)) => Err(wrong(format!("lane {i} made {x}, not {}", by_start[i & 3]))),
    }
}

pub(super) fn float(meter: &Meter<'_>, ty: &str) -> Result<Sample, Reason> {
    if ty == "f16" && !meter.gpu.info().f16 {
        return Err(unsupported!("the adapter has no 16-bit floats (SHADER_F16)"));
    }
    let enable = if ty == "f16" { "enable f16;\n" } else { "" };
    let source = format!("{enable}{}", FLOAT.replace("FLOAT", ty));
    let groups = groups(meter);
    let lanes = (LANES * groups) as usize;
    let y = meter.buffer(4 * lanes)?;
    let numbers = |rounds| vec![1f32.to_bits(), 0, rounds, 0];
    let bench = meter.bench(&source, &[(&y, true)], &numbers(1), groups)?;
    // Eight vectors of four, 64 times a multiplication and an addition.
    let work = (lanes * 8 * 4 * 64 * 2) as f64;
    let (sample, rounds) = sample(meter, &bench, work, &numbers)?;
    // All vectors begin at `start`, in later rounds every other one above.
    let expected = |start: u32| (rounds * 32 * (start + 64)).wrapping_add((rounds - 1) * 16);
    Ok(Sample { checked: check(meter, &y, lanes, expected)?, ..sample })
}

/// A product of four signed bytes with four signed bytes.
fn dot(a: i32, b: u32) -> i32 {
    let bytes = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    bytes.map(|(a, b)| i32::from(a as i8) * i32::from(b as i8)).sum()
}

pub(super) fn int8(meter: &Meter<'_>) -> Result<Sample, Reason> {
    const B: u32 = 0x7f81_05fb;
    let groups = groups(meter);
    let lanes = (LANES * groups) as usize;
    let y = meter.buffer(4 * lanes)?;
    let numbers = |rounds| vec![B, rounds, 0, 0];
    let bench = meter.bench(INT8, &[(&y, true)], &numbers(1), groups)?;
    let (sample, rounds) = sample(meter, &bench, (lanes * 8 * 64 * 8) as f64, &numbers)?;
    let expected = |start: u32| {
        let mut s: [i32; 8] = std::array::from_fn(|k| (start as i32 + 1) * (2 * k as i32 + 1));
        for _ in 0..rounds * 64 {
            for k in 0..8 {
                s[k] = s[k].wrapping_add(dot(s[(k + 1) % 8], B));
            }
        }
        s.iter().fold(0, |x, s| x ^ s) as u32
    };
    Ok(Sample { checked: check(meter, &y, lanes, expected)?, ..sample })
}

/// Numbers on the left and on the right, small enough that sums are exact; their products tell rows
/// from columns.
fn left(row: usize) -> f32 {
    (row % 3) as f32
}

fn right(column: usize) -> f32 {
    (column % 2 + 1) as f32
}

pub(super) fn matrix(meter: &Meter<'_>) -> Result<Sample, Reason> {
    let info = meter.gpu.info();
    if info.cooperative_matrix.is_empty() {
        return Err(unsupported!("the adapter lists no matrix units (cooperative matrices)"));
    }
    if !meter.gpu.has_matrix() || !info.f16 || !info.subgroups {
        return Err(unsupported!("the device was opened without cooperative matrices and f16"));
    }
    let has = |side: &&usize| {
        let tile = format!("{side}x{side}x{side} f16→f32");
        info.cooperative_matrix.contains(&tile)
    };
    let Some(&side) = [16, 8].iter().find(has) else {
        let listed = info.cooperative_matrix.join(", ");
        return Err(unsupported!("no square tile of f16 with sums in f32, only {listed}"));
    };
    let groups: u32 = if meter.is_cpu() { 16 } else { 512 };
    let tile = side * side;
    let halves = |f: &dyn Fn(usize) -> f32| -> Vec<u8> {
        (0..tile).flat_map(|i| f16::from_f32(f(i)).to_le_bytes()).collect()
    };
    let read = |bytes: &[u8]| meter.gpu.upload(bytes, wgpu::BufferUsages::STORAGE);
    let l = read(&halves(&|i| left(i / side)))?;
    let r = read(&halves(&|i| right(i % side)))?;
    let zero = read(&vec![0; 4 * tile])?;
    let y = meter.buffer(4 * 4 * tile * groups as usize)?;
    let counts = meter.buffer(4 * groups as usize)?;
    let source = MATRIX.replace("SIDE", &side.to_string());
    let buffers = [(&l, false), (&r, false), (&zero, false), (&y, true), (&counts, true)];
    let numbers = |rounds| vec![rounds, 0, 0, 0];
    let bench = meter.bench(&source, &buffers, &numbers(1), groups)?;
    meter.time(&bench, 1)?;
    let subgroups: u32 = meter.words(&counts, groups as usize)?.iter().sum();
    let work = f64::from(subgroups) * (4 * 16 * 2 * tile * side) as f64;
    let (sample, rounds) = sample(meter, &bench, work, &numbers)?;
    let found = meter.words(&y, 4 * tile * groups as usize)?;
    let expected = |i: usize| {
        let product = side as f32 * left(i % tile / side) * right(i % side);
        (rounds * 16) as f32 * product
    };
    match found.iter().enumerate().find(|&(i, &x)| f32::from_bits(x) != expected(i)) {
        None => {
            let checked = format!("every element of {} sums, {side}x{side}", 4 * groups);
            Ok(Sample { checked, ..sample })
        }
        Some((i, &x)) => {
            let (x, y) = (f32::from_bits(x), expected(i));
            Err(wrong(format!("element {i} is {x}, not {y}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_matrix_units_is_valid() {
        use naga::valid::{Capabilities, ValidationFlags, Validator};
        for side in ["8", "16"] {
            let source = MATRIX.replace("SIDE", side);
            let module = naga::front::wgsl::parse_str(&source);
            let module = module.unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
            Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).unwrap();
        }
    }

    #[test]
    fn bytes_are_signed() {
        assert_eq!(dot(0x0000_00ff, 0x0000_0002), -2);
        assert_eq!(dot(0x7f7f_7f7f, 0x7f7f_7f7f), 4 * 127 * 127);
    }
}
