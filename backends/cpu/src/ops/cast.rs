//! Cast: each element converted to another dtype; BitCast: the same bytes.
//!
//! Common pairs have a loop of their own. All others go in blocks through i64 (integers, bool) or
//! f64 (floats), which hold every value of every narrower type exactly.
use half::{bf16, f16};
use rinfer_graph::float8::{
    F4E2M1, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, f4e2m1_from_f32,
};
use rinfer_graph::ops::Cast;
use rinfer_graph::{DType, Element, Reason, Strings, Tensor, Value, invalid, scarce, unsupported};

use crate::convert::Float;
use crate::elementwise::{for_chunks, ints, map};
use crate::kernel::{Cx, Kernel};
use crate::par;
use crate::simd::Isa;

/// Elements that are converted at a time; a whole number of bytes in every dtype.
const BLOCK: usize = 256;
/// Elements that a thread takes at a time.
const CHUNK: usize = 16 * BLOCK;

pub(super) fn compile(op: &Cast, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (from, op) = (cx.dtype(0)?, *op);
    if [from, op.to].iter().any(|t| matches!(t, DType::C64 | DType::C128)) {
        return Err(unsupported!("Cast from {from} to {} is not supported", op.to));
    }
    match (from, op.to) {
        (from, to) if from == to && to != DType::String => Ok(same_bytes()),
        (DType::String, DType::String) => Ok(Kernel::view()),
        (DType::String, _) => {
            Ok(Kernel::values(move |inputs, _| Ok(vec![parse(text(inputs)?, op)?])))
        }
        (_, DType::String) => Ok(Kernel::values(|inputs, _| {
            let x = inputs.first().and_then(Option::as_ref);
            let x = x.ok_or_else(|| invalid!("input 0 is missing"))?.as_tensor()?;
            Ok(vec![Value::Text(Strings::new(x.shape(), print(x)?)?)])
        })),
        _ => Ok(direct(cx.isa, from, op.to).unwrap_or_else(|| through_blocks(from, op))),
    }
}

/// BitCast, and Cast to the same dtype: the bytes as they are.
pub(super) fn same_bytes() -> Kernel {
    let copy = Kernel::new(|args| {
        if let Some(x) = args.opt(0) {
            let y = args.outputs[0].as_mut_bytes();
            for_chunks(y, 100, args.cx, |start, y| {
                y.copy_from_slice(&x.as_bytes()[start..][..y.len()]);
            })?;
        }
        Ok(())
    });
    copy.in_place(&[0])
}

/// The pairs that models use most.
fn direct(isa: Isa, from: DType, to: DType) -> Option<Kernel> {
    use DType::*;
    Some(match (from, to) {
        (F16, F32) => over::<f16, f32>(move |x, y| f16::widen(isa, x, y)),
        (BF16, F32) => over::<bf16, f32>(move |x, y| bf16::widen(isa, x, y)),
        (F32, F16) => over::<f32, f16>(move |x, y| f16::narrow(isa, x, y)),
        (F32, BF16) => over::<f32, bf16>(move |x, y| bf16::narrow(isa, x, y)),
        (F64, F32) => each(|x: f64| x as f32),
        (F32, F64) => each(|x: f32| f64::from(x)),
        (I64, F32) => each(|x: i64| x as f32),
        (I32, F32) => each(|x: i32| x as f32),
        (U8, F32) => each(|x: u8| f32::from(x)),
        (I8, F32) => each(|x: i8| f32::from(x)),
        (Bool, F32) => each(|x: rinfer_graph::Bool| x.get() as u8 as f32),
        (Bool, I64) => each(|x: rinfer_graph::Bool| x.get() as i64),
        (Bool, I32) => each(|x: rinfer_graph::Bool| x.get() as i32),
        (I64, Bool) => each(|x: i64| rinfer_graph::Bool::from(x != 0)),
        (I32, Bool) => each(|x: i32| rinfer_graph::Bool::from(x != 0)),
        (F32, Bool) => each(|x: f32| rinfer_graph::Bool::from(x != 0.0)),
        (I32, I64) => each(|x: i32| i64::from(x)),
        (I64, I32) => each(|x: i64| x as i32),
        _ => return None,
    })
}

fn over<A: Element, B: Element>(f: impl Fn(&[A], &mut [B]) + Send + Sync + 'static) -> Kernel {
    Kernel::new(move |args| map::<A, B>(args, 400, |x, y| f(x.unwrap_or(&[]), y)))
}

fn each<A: Element, B: Element>(f: fn(A) -> B) -> Kernel {
    over::<A, B>(move |x, y| x.iter().zip(y).for_each(|(&x, y)| *y = f(x)))
}

/// Any pair of numeric dtypes.
fn through_blocks(from: DType, op: Cast) -> Kernel {
    Kernel::new(move |args| {
        let x = args.input(0)?;
        let (cx, len) = (args.cx, x.len());
        let y = &mut args.outputs[0];
        if y.len() != len {
            return Err(invalid!("the input has not the {} elements of the output", y.len()));
        }
        // Whole bytes: a chunk has a multiple of 8 elements.
        let chunk = CHUNK * op.to.bits() / 8;
        let block = BLOCK * op.to.bits() / 8;
        par::chunks_mut(y.as_mut_bytes(), chunk, par::grain(CHUNK * 4), |i, y| {
            for (j, y) in y.chunks_mut(block).enumerate() {
                let start = i * CHUNK + j * BLOCK;
                if cx.check().is_ok() {
                    convert(x, start..len.min(start + BLOCK), from, op, y);
                }
            }
        });
        cx.check()
    })
}

/// Converts up to a block of elements.
fn convert(x: &Tensor, range: std::ops::Range<usize>, from: DType, op: Cast, y: &mut [u8]) {
    let (mut ints, mut floats) = ([0i64; BLOCK], [0f64; BLOCK]);
    let (ints, floats) = (&mut ints[..range.len()], &mut floats[..range.len()]);
    if from.is_float() {
        read_floats(x, range.start, floats);
        if op.to.is_float() {
            write_floats(floats, op, y);
        } else {
            let to_int = if op.to == DType::Bool { |_, x| (x != 0.0) as i64 } else { float_to_int };
            floats.iter().zip(&mut *ints).for_each(|(&x, y)| *y = to_int(op.to, x));
            write_ints(ints, op.to, y);
        }
        return;
    }
    read_ints(x, range.start, ints);
    let unsigned = from == DType::U64;
    match op.to {
        // Directly, for a step at f64 would round large integers twice.
        DType::F32 => {
            let y = bytemuck::cast_slice_mut::<u8, f32>(y);
            let wide = |x: i64| if unsigned { x as u64 as f32 } else { x as f32 };
            ints.iter().zip(y).for_each(|(&x, y)| *y = wide(x));
        }
        to if to.is_float() => {
            let wide = |x: i64| if unsigned { x as u64 as f64 } else { x as f64 };
            ints.iter().zip(&mut *floats).for_each(|(&x, y)| *y = wide(x));
            write_floats(floats, op, y);
        }
        DType::Bool => {
            ints.iter_mut().for_each(|x| *x = (*x != 0) as i64);
            write_ints(ints, DType::Bool, y);
        }
        to => write_ints(ints, to, y),
    }
}

/// A float towards zero. What does not fit is undefined in ONNX; this is what x86 gives: the
/// least i64 (i32 for narrower types), whose low bits are then taken.
fn float_to_int(to: DType, x: f64) -> i64 {
    const TOP: f64 = 9_223_372_036_854_775_808.0;
    let to_i64 = |x: f64| if (-TOP..TOP).contains(&x) { x as i64 } else { i64::MIN };
    match to {
        DType::U64 if x >= TOP => to_i64(x - TOP) ^ i64::MIN,
        DType::I64 | DType::U64 | DType::U32 => to_i64(x),
        _ if x > -2_147_483_649.0 && x < 2_147_483_648.0 => x as i64,
        _ => i32::MIN.into(),
    }
}

/// Integers and bools from element `start` on; u64 is reinterpreted.
fn read_ints(x: &Tensor, start: usize, y: &mut [i64]) {
    let dtype = x.dtype();
    if dtype.is_packed() {
        let bits = dtype.bits();
        let (per, mask) = (8 / bits, (1i64 << bits) - 1);
        for (i, y) in y.iter_mut().enumerate() {
            let at = start + i;
            let code = i64::from(x.as_bytes()[at / per]) >> (at % per * bits) & mask;
            let negative = !dtype.is_unsigned() && code >> (bits - 1) != 0;
            *y = if negative { code - (1 << bits) } else { code };
        }
    } else {
        ints::widen(x, start, y);
    }
}

/// Floats from element `start` on.
fn read_floats(x: &Tensor, start: usize, y: &mut [f64]) {
    fn read<T: Element>(x: &Tensor, start: usize, y: &mut [f64], f: fn(T) -> f64) {
        let x = &x.as_slice::<T>()[start..];
        x.iter().zip(y).for_each(|(&x, y)| *y = f(x));
    }
    match x.dtype() {
        DType::F64 => read::<f64>(x, start, y, |x| x),
        DType::F32 => read::<f32>(x, start, y, f64::from),
        DType::F16 => read::<f16>(x, start, y, f16::to_f64),
        DType::BF16 => read::<bf16>(x, start, y, bf16::to_f64),
        DType::F8E4M3FN => read::<F8E4M3FN>(x, start, y, |x| x.to_f32().into()),
        DType::F8E4M3FNUZ => read::<F8E4M3FNUZ>(x, start, y, |x| x.to_f32().into()),
        DType::F8E5M2 => read::<F8E5M2>(x, start, y, |x| x.to_f32().into()),
        DType::F8E5M2FNUZ => read::<F8E5M2FNUZ>(x, start, y, |x| x.to_f32().into()),
        DType::F8E8M0 => read::<F8E8M0>(x, start, y, |x| x.to_f32().into()),
        DType::F4E2M1 => {
            for (i, y) in y.iter_mut().enumerate() {
                let at = start + i;
                *y = F4E2M1[usize::from(x.as_bytes()[at / 2] >> (at % 2 * 4) & 15)].into();
            }
        }
        other => unreachable!("compile admits no {other}"),
    }
}

/// The low bits of integers.
fn write_ints(x: &[i64], to: DType, y: &mut [u8]) {
    if to.is_packed() {
        let mask = (1i64 << to.bits()) - 1;
        pack(x, to.bits(), y, |&x| (x & mask) as u8);
    } else {
        ints::narrow(x, to, y);
    }
}

/// Floats rounded to the nearest, ties to even (float8e8m0: as asked).
fn write_floats(x: &[f64], op: Cast, y: &mut [u8]) {
    fn write<T: Element>(x: &[f64], y: &mut [u8], f: impl Fn(f64) -> T) {
        let y = bytemuck::cast_slice_mut::<u8, T>(y);
        x.iter().zip(y).for_each(|(&x, y)| *y = f(x));
    }
    let sat = op.saturate;
    match op.to {
        DType::F64 => write(x, y, |x| x),
        DType::F32 => write(x, y, |x| x as f32),
        DType::F16 => write(x, y, f16::from_f64),
        DType::BF16 => write(x, y, bf16::from_f64),
        DType::F8E4M3FN => write(x, y, |x| F8E4M3FN::from_f32(x as f32, sat)),
        DType::F8E4M3FNUZ => write(x, y, |x| F8E4M3FNUZ::from_f32(x as f32, sat)),
        DType::F8E5M2 => write(x, y, |x| F8E5M2::from_f32(x as f32, sat)),
        DType::F8E5M2FNUZ => write(x, y, |x| F8E5M2FNUZ::from_f32(x as f32, sat)),
        DType::F8E8M0 => write(x, y, |x| F8E8M0::from_f32(x as f32, sat, op.round_mode)),
        DType::F4E2M1 => pack(x, 4, y, |&x| f4e2m1_from_f32(x as f32)),
        other => unreachable!("compile admits no {other}"),
    }
}

/// Codes of `bits` bits, the first in the low bits of a byte; the last byte is padded with zeros.
fn pack<X>(x: &[X], bits: usize, y: &mut [u8], code: impl Fn(&X) -> u8) {
    for (x, y) in x.chunks(8 / bits).zip(y) {
        *y = x.iter().enumerate().fold(0, |byte, (i, x)| byte | code(x) << (i * bits));
    }
}

/// A tensor's integers; `Err` if it holds none.
pub(super) fn to_ints(x: &Tensor) -> Result<Vec<i64>, Reason> {
    if !x.dtype().is_int() {
        return Err(invalid!("{} where integers are expected", x.dtype()));
    }
    let mut y = scarce::zeros(x.len());
    read_ints(x, 0, &mut y);
    Ok(y)
}

/// A tensor's numbers; `Err` if it holds complex ones.
pub(super) fn to_doubles(x: &Tensor) -> Result<Vec<f64>, Reason> {
    let mut y = scarce::zeros(x.len());
    if x.dtype().is_float() {
        read_floats(x, 0, &mut y);
    } else if x.dtype() == DType::U64 {
        x.as_slice::<u64>().iter().zip(&mut y).for_each(|(&x, y)| *y = x as f64);
    } else {
        to_ints(x)?.iter().zip(&mut y).for_each(|(&x, y)| *y = x as f64);
    }
    Ok(y)
}

/// Numbers as the elements of a tensor: floats rounded, integers towards zero and wrapping.
pub(super) fn from_doubles(x: &[f64], y: &mut Tensor) -> Result<(), Reason> {
    let to = y.dtype();
    if to.is_float() {
        write_floats(x, Cast::to(to), y.as_mut_bytes());
        return Ok(());
    }
    let ints: Vec<i64> = x.iter().map(|&x| x as i64).collect();
    write_ints(&ints, to, y.as_mut_bytes());
    Ok(())
}

fn text(inputs: &[Option<Value>]) -> Result<&Strings, Reason> {
    let x = inputs.first().and_then(Option::as_ref);
    x.ok_or_else(|| invalid!("input 0 is missing"))?.as_text()
}

/// Numbers in plain notation, as many digits as tell them from their neighbours.
fn print(x: &Tensor) -> Result<Vec<String>, Reason> {
    fn show<T: Copy + std::fmt::Display>(x: &[T], wide: fn(T) -> f64) -> Vec<String> {
        let show = |&x: &T| match wide(x) {
            x if x.is_nan() => "NaN".to_string(),
            f64::INFINITY => "INF".to_string(),
            f64::NEG_INFINITY => "-INF".to_string(),
            _ => x.to_string(),
        };
        x.iter().map(show).collect()
    }
    Ok(match x.dtype() {
        DType::F32 => show(x.as_slice::<f32>(), f64::from),
        DType::F64 => show(x.as_slice::<f64>(), |x| x),
        DType::F16 => show(x.as_slice::<f16>(), f16::to_f64),
        DType::BF16 => show(x.as_slice::<bf16>(), bf16::to_f64),
        DType::U64 => x.as_slice::<u64>().iter().map(u64::to_string).collect(),
        dtype if dtype.is_float() => show(&to_doubles(x)?, |x| x),
        _ => {
            let mut ints = scarce::zeros(x.len());
            read_ints(x, 0, &mut ints);
            ints.iter().map(i64::to_string).collect()
        }
    })
}

/// Numbers from text: plain or scientific notation, `inf`, `+INF`, `NaN` in any case.
fn parse(x: &Strings, op: Cast) -> Result<Value, Reason> {
    let float = |s: &String| s.trim().parse::<f64>().map_err(|_| invalid!("{s:?} is no number"));
    let mut y = Tensor::try_zeros(op.to, x.shape())?;
    if op.to == DType::F32 {
        // Straight from text: through f64 some would be rounded twice.
        let bits = x.as_slice().iter().map(|s| s.trim().parse::<f32>());
        for ((s, x), y) in x.as_slice().iter().zip(bits).zip(y.as_mut_slice::<f32>()) {
            *y = x.map_err(|_| invalid!("{s:?} is no number"))?;
        }
    } else if op.to.is_float() {
        let floats = x.as_slice().iter().map(float).collect::<Result<Vec<f64>, Reason>>()?;
        write_floats(&floats, op, y.as_mut_bytes());
    } else {
        let int = |s: &String| match s.trim().parse::<i128>() {
            Ok(x) if op.to == DType::Bool => Ok((x != 0) as i64),
            Ok(x) => Ok(x as i64),
            Err(_) => float(s).map(|x| match op.to {
                DType::Bool => (x != 0.0) as i64,
                to => float_to_int(to, x),
            }),
        };
        let ints = x.as_slice().iter().map(int).collect::<Result<Vec<i64>, Reason>>()?;
        write_ints(&ints, op.to, y.as_mut_bytes());
    }
    Ok(Value::Tensor(y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run, run1};
    use rinfer_graph::Bool;

    fn cast(x: &Tensor, to: DType) -> Tensor {
        let made: Vec<Tensor> = Isa::available()
            .iter()
            .map(|&isa| run1(isa, Cast::to(to), std::slice::from_ref(x)).unwrap())
            .collect();
        assert!(made.windows(2).all(|w| w[0] == w[1]), "instruction sets disagree");
        made[0].clone()
    }

    fn check<A: Element, B: Element>(x: &[A], y: &[B]) {
        assert_eq!(cast(&Tensor::vector(x), B::DTYPE).as_slice::<B>(), y);
    }

    #[test]
    fn floats_go_to_integers_towards_zero() {
        check(&[1.9f32, -1.9, 0.0], &[1i32, -1, 0]);
        check(&[1.9f32, -1.9, 1e30], &[1i64, -1, i64::MIN]);
        check(&[-1.0f32, 300.0], &[255u8, 44]);
        check(&[f16::from_f32(2.5)], &[2i8]);
        check(&[18446744073709549568f64], &[18446744073709549568u64]);
    }

    #[test]
    fn integers_keep_their_low_bits() {
        check(&[200i16, -1], &[-56i8, -1]);
        check(&[-1i32], &[u64::MAX]);
        check(&[u64::MAX], &[-1i32]);
        check(&[u64::MAX], &[18446744073709551615f32]);
        check(&[16_777_217i64], &[16_777_216f32]);
    }

    #[test]
    fn truth_is_not_zero() {
        check(&[0.0f32, -0.0, 0.5, f32::NAN], &[Bool(0), Bool(0), Bool(1), Bool(1)]);
        check(&[0i64, 256], &[Bool(0), Bool(1)]);
        check(&[0u16, 256], &[Bool(0), Bool(1)]);
        check(&[Bool(1), Bool(0)], &[1.0f32, 0.0]);
        check(&[Bool(1), Bool(0)], &[f16::ONE, f16::ZERO]);
    }

    #[test]
    fn packed_types_go_there_and_back() {
        let x: Vec<f32> = (-9..16).map(|i| i as f32).collect();
        for (dtype, bits) in [(DType::I4, 4), (DType::U4, 4), (DType::I2, 2), (DType::U2, 2)] {
            let y = cast(&cast(&Tensor::vector(&x), dtype), DType::I32);
            for (&x, &y) in x.iter().zip(y.as_slice::<i32>()) {
                let low = x as i32 & ((1 << bits) - 1);
                let sign = !dtype.is_unsigned() && low >> (bits - 1) != 0;
                assert_eq!(y, if sign { low - (1 << bits) } else { low }, "{x} as {dtype}");
            }
        }
        let y = cast(&cast(&Tensor::vector(&[1.2f32, -7.0, 0.3]), DType::F4E2M1), DType::F32);
        assert_eq!(y.as_slice::<f32>(), [1.0, -6.0, 0.5]);
    }

    #[test]
    fn every_pair_of_numeric_dtypes_converts_small_numbers() {
        let small = Tensor::vector(&[0.0f32, 1.0, 1.0, 0.0, 1.0]);
        let numeric =
            |t: &DType| !matches!(t, DType::C64 | DType::C128 | DType::String | DType::F8E8M0);
        for from in DType::all().filter(numeric) {
            let x = cast(&small, from);
            for to in DType::all().filter(numeric).filter(|t| *t != DType::I2) {
                if from == DType::I2 {
                    continue; // one is minus one there
                }
                assert_eq!(cast(&cast(&x, to), DType::F32), small, "{from} to {to}");
            }
        }
    }

    #[test]
    fn text_is_read_and_written() {
        let text = |s: &[&str]| {
            Value::Text(
                Strings::new(&[s.len()], s.iter().map(|s| s.to_string()).collect()).unwrap(),
            )
        };
        let read =
            |s: &[&str], to| run(Isa::best(), Cast::to(to), &[text(s)], 1).map(|mut y| y.remove(0));
        let y = read(&["3.5", "1e-5", " -INF", "NaN"], DType::F32).unwrap().into_tensor().unwrap();
        assert_eq!(y.as_slice::<f32>()[..3], [3.5, 1e-5, f32::NEG_INFINITY]);
        let y = read(&["100.5", "-7"], DType::I32).unwrap().into_tensor().unwrap();
        assert_eq!(y.as_slice::<i32>(), [100, -7]);
        assert_eq!(read(&["hello"], DType::I32).unwrap_err().to_string(), "\"hello\" is no number");
        let x = Value::Tensor(Tensor::vector(&[314.125f32, 1.0, f32::INFINITY]));
        let y = run(Isa::best(), Cast::to(DType::String), &[x], 1).unwrap();
        assert_eq!(y[0], text(&["314.125", "1", "INF"]));
    }
}
