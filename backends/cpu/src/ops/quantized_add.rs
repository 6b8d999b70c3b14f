//! QuantizedAdd: both sides to floats, their sum, and codes again, in registers.

use rinfer_graph::ops::QuantizedAdd;
use rinfer_graph::{DType, Reason, invalid, unsupported};

use super::matmul_integer::ends;
use super::quantize::{code_of, load_codes, shifted};
use crate::kernel::{Args, Cx, Kernel};
use crate::math::Activation;
use crate::par;
use crate::simd::{F32s, I32s, Simd};

/// Codes that one call adds.
const BLOCK: usize = 16 * 1024;

/// A side: its codes, their scale and zero point.
#[derive(Clone, Copy)]
struct Side<'a> {
    codes: &'a [u8],
    signed: bool,
    scale: f32,
    zero: f32,
}

impl<'a> Side<'a> {
    fn read(args: &Args<'a>, at: usize) -> Result<Side<'a>, Reason> {
        let codes = args.input(at)?;
        Ok(Side {
            codes: codes.as_bytes(),
            signed: codes.dtype() == DType::I8,
            scale: scale(args, at + 1)?,
            zero: zero(args, at + 2)?,
        })
    }
}

fn scale(args: &Args<'_>, at: usize) -> Result<f32, Reason> {
    args.input(at)?.to_f32().ok_or_else(|| invalid!("input {at} is not one number"))
}

fn zero(args: &Args<'_>, at: usize) -> Result<f32, Reason> {
    let Some(zero) = args.opt(at) else { return Ok(0.0) };
    match zero.to_ints().unwrap_or_default()[..] {
        [zero] => Ok(zero as f32),
        ref other => Err(invalid!("input {at} holds {} numbers, not one", other.len())),
    }
}

/// What becomes of a sum.
#[derive(Clone, Copy)]
struct Codes {
    relu: bool,
    scale: f32,
    zero: f32,
    ends: [f32; 2],
}

pub(super) fn compile(op: &QuantizedAdd, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let relu = match op.activation.map(Activation::from) {
        None | Some(Activation::None) => false,
        Some(Activation::Relu) => true,
        Some(other) => return Err(unsupported!("{other:?} of a sum of codes")),
    };
    if cx.sizes(0)? != cx.sizes(3)? {
        return Err(unsupported!("a sum of codes of two shapes"));
    }
    let (isa, dtype) = (cx.isa, cx.outputs[0].dtype()?);
    let ends = ends(dtype).ok_or_else(|| unsupported!("a sum of codes as {dtype}"))?;
    Ok(Kernel::new(move |args| {
        let (a, b) = (Side::read(args, 0)?, Side::read(args, 3)?);
        let ends = ends.map(|end| end as f32);
        let codes = Codes { relu, scale: scale(args, 6)?, zero: zero(args, 7)?, ends };
        let y = args.outputs[0].as_mut_bytes();
        par::chunks_mut(y, BLOCK, par::grain(BLOCK / 8), |i, y| {
            let part = i * BLOCK..i * BLOCK + y.len();
            let sides = [a, b].map(|side| Side { codes: &side.codes[part.clone()], ..side });
            add(isa, sides, codes, y);
        });
        Ok(())
    }))
}

/// What the codes from `at` on stand for.
#[inline(always)]
fn numbers<S: Simd>(s: S, side: &Side<'_>, at: usize) -> S::F32 {
    let x = load_codes(s, side.signed, &side.codes[at..]).to_f32();
    (x - s.splat(side.zero)) * s.splat(side.scale)
}

crate::simd_fn! {
    fn add(s: S, sides: [Side<'_>; 2], to: Codes, y: &mut [u8]) {
        let least = if to.relu { 0.0 } else { f32::NEG_INFINITY };
        let of = [to.scale, to.zero, to.ends[0], to.ends[1]].map(|x| s.splat(x));
        let whole = y.len() - y.len() % S::LANES;
        for j in (0..whole).step_by(S::LANES) {
            let sum = numbers(s, &sides[0], j) + numbers(s, &sides[1], j);
            code_of::<S>(sum.max(s.splat(least)), of).store_u8(&mut y[j..]);
        }
        for (j, y) in y.iter_mut().enumerate().skip(whole) {
            let [a, b] = sides.map(|side| {
                let x = side.codes[j];
                let x = if side.signed { f32::from(x as i8) } else { f32::from(x) };
                (x - side.zero) * side.scale
            });
            let sum = if a + b > least { a + b } else { least };
            *y = shifted(sum / to.scale, to.zero, to.ends[0], to.ends[1]) as i32 as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run_opt, run1};
    use crate::simd::Isa;
    use rinfer_graph::ops::{
        Activation as Follows, Axis, Binary, BinaryFn, DequantizeLinear, QuantizeLinear, Unary,
        UnaryFn,
    };
    use rinfer_graph::{Tensor, Value};

    #[test]
    fn codes_are_those_of_the_operators_one_by_one() {
        let n = 1031;
        let bytes = |by: usize| -> Vec<u8> { (0..n).map(|i| (i * by % 256) as u8).collect() };
        let signed: Vec<i8> = bytes(91).iter().map(|&b| b as i8).collect();
        let (a, b) = (Tensor::from_slice(&[n], &bytes(37)), Tensor::from_slice(&[n], &signed));
        let one = |x: f32| Tensor::scalar(x);
        let (az, bz, yz) = (Tensor::scalar(113u8), Tensor::scalar(-5i8), Tensor::scalar(9u8));
        let scales = [0.037f32, 0.011, 0.021];
        for isa in Isa::available() {
            let d = DequantizeLinear { axis: Axis(0), block_size: 0, output: None };
            let fa = run1(isa, d.clone(), &[a.clone(), one(scales[0]), az.clone()]).unwrap();
            let fb = run1(isa, d, &[b.clone(), one(scales[1]), bz.clone()]).unwrap();
            let sum = run1(isa, Binary(BinaryFn::Add), &[fa, fb]).unwrap();
            let relu = run1(isa, Unary(UnaryFn::Relu), &[sum]).unwrap();
            let q = QuantizeLinear {
                axis: Axis(0),
                block_size: 0,
                output: None,
                saturate: true,
                precision: None,
            };
            let want = run1(isa, q, &[relu, one(scales[2]), yz.clone()]).unwrap();
            let inputs = [&a, &one(scales[0]), &az, &b, &one(scales[1]), &bz, &one(scales[2]), &yz];
            let inputs: Vec<Option<Value>> = inputs.map(|t| Some(t.clone().into())).to_vec();
            let op = QuantizedAdd { activation: Some(Follows::Relu) };
            let found = run_opt(isa, op, &inputs, 1).unwrap();
            assert_eq!(found, [Value::Tensor(want)], "{}", isa.name());
        }
    }
}
