//! QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: in blocks, staged through f32.
//!
//! y = saturate(round(x / scale) + zero_point); x = (y - zero_point) · scale

use half::{bf16, f16};
use rinfer_graph::ops::{Blocks, DequantizeLinear, QuantizeLinear};
use rinfer_graph::{DType, Reason, Tensor, invalid, scarce, unsupported};

use crate::convert;
use crate::kernel::{Args, Cx, Kernel};
use crate::par;
use crate::quant::{read_f32, write_codes};
use crate::simd::{F32s, I32s, Isa, Simd};

/// Elements that become bytes, or were, by one call.
const PIECE: usize = 16 * 1024;
/// Elements staged at a time.
const BLOCK: usize = 512;

/// Scales and zero points, as f32, and which of them belongs to which element.
struct Scales {
    blocks: Blocks,
    scale: Vec<f32>,
    zero_point: Vec<f32>,
}

impl Scales {
    fn read(args: &Args<'_>, blocks: Blocks) -> Result<Scales, Reason> {
        let scale = to_f32(args.input(1)?)?;
        let zero_point = args.opt(2).map(to_f32).transpose()?.unwrap_or_default();
        if !zero_point.is_empty() && zero_point.len() != scale.len() {
            return Err(invalid!("{} scales, {} zero points", scale.len(), zero_point.len()));
        }
        Ok(Scales { blocks, scale, zero_point })
    }

    /// The scale and the zero point, if there is one for all.
    fn one(&self) -> Option<[f32; 2]> {
        match self.scale[..] {
            [scale] => Some([scale, self.zero_point.first().copied().unwrap_or(0.0)]),
            _ => None,
        }
    }

    /// Calls `f(elements, scales, zero points)` for runs of elements from `start` on: one scale
    /// for a whole run, or one for each element.
    fn runs(
        &self,
        start: usize,
        len: usize,
        mut f: impl FnMut(std::ops::Range<usize>, &[f32], &[f32]),
    ) {
        let zero = |i: usize| self.zero_point.get(i).copied().unwrap_or(0.0);
        if self.scale.len() == 1 {
            return f(0..len, &self.scale, &[zero(0)]);
        }
        if !self.blocks.own && self.blocks.inner >= 16 {
            let mut i = 0;
            while i < len {
                let left = self.blocks.inner - (start + i) % self.blocks.inner;
                let (at, end) = (self.blocks.at(start + i), (i + left).min(len));
                f(i..end, &self.scale[at..=at], &[zero(at)]);
                i = end;
            }
            return;
        }
        let (mut scales, mut zeros) = ([0.0; BLOCK], [0.0; BLOCK]);
        for i in 0..len {
            let at = self.blocks.at(start + i);
            (scales[i], zeros[i]) = (self.scale[at], zero(at));
        }
        f(0..len, &scales[..len], &zeros[..len]);
    }
}

fn to_f32(x: &Tensor) -> Result<Vec<f32>, Reason> {
    let mut y = scarce::zeros(x.len());
    read_f32(x.dtype(), x.as_bytes(), 0, &mut y)?;
    Ok(y)
}

pub(super) fn compile(op: &QuantizeLinear, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let blocks = Blocks::new(&cx.sizes(0)?, &cx.sizes(1)?, op.axis, op.block_size)?;
    let (isa, saturate) = (cx.isa, op.saturate);
    let precision = op.precision.unwrap_or(cx.dtype(1)?);
    let output = cx.outputs[0].dtype()?;
    let [lo, hi] = range(output)?;
    let bytes = matches!(output, DType::U8 | DType::I8) && precision == DType::F32;
    Ok(Kernel::new(move |args| {
        let scales = Scales::read(args, blocks)?;
        let x = args.input(0)?;
        if let (true, DType::F32, Some([scale, zero])) = (bytes, x.dtype(), scales.one()) {
            let (x, y) = (x.as_slice::<f32>(), args.outputs[0].as_mut_bytes());
            par::chunks_mut(y, PIECE, par::grain(PIECE / 8), |i, y| {
                encode(isa, [scale, zero, lo, hi], &x[i * PIECE..][..y.len()], y);
            });
            return Ok(());
        }
        let (x_dtype, x, len) = (x.dtype(), x.as_bytes(), x.len());
        let failure = par::Failure::default();
        par_codes(&mut args.outputs[0], len, |start, count, codes| {
            let mut staged = [0.0; BLOCK];
            let staged = &mut staged[..count];
            failure.attempt(|| {
                args.cx.check()?;
                read_f32(x_dtype, x, start, staged)?;
                round_all(isa, precision, staged);
                scales.runs(start, count, |part, scale, zero| match scale.len() {
                    1 => {
                        quantize_one(isa, [scale[0], zero[0], lo, hi], precision, &mut staged[part])
                    }
                    _ => quantize_each(isa, scale, zero, [lo, hi], precision, staged),
                });
                write_codes(isa, output, staged, saturate, codes)
            });
        });
        failure.result()
    }))
}

/// The codes of an integer type; without bounds for floats, which saturate when they are encoded.
fn range(output: DType) -> Result<[f32; 2], Reason> {
    Ok(match output {
        DType::U8 => [0.0, 255.0],
        DType::I8 => [-128.0, 127.0],
        DType::U16 => [0.0, 65535.0],
        DType::I16 => [-32768.0, 32767.0],
        DType::U4 => [0.0, 15.0],
        DType::I4 => [-8.0, 7.0],
        DType::U2 => [0.0, 3.0],
        DType::I2 => [-2.0, 1.0],
        dtype if dtype.is_float() => [f32::NEG_INFINITY, f32::INFINITY],
        dtype => return Err(unsupported!("quantizing to {dtype} is not supported")),
    })
}

/// Calls `f(start, count, bytes)` for blocks of elements of a tensor.
fn par_codes(y: &mut Tensor, len: usize, f: impl Fn(usize, usize, &mut [u8]) + Sync) {
    let bytes = y.dtype().bytes_for(BLOCK).unwrap_or(BLOCK);
    par::chunks_mut(y.as_mut_bytes(), bytes, par::grain(BLOCK / 4), |i, bytes| {
        f(i * BLOCK, BLOCK.min(len - i * BLOCK), bytes);
    });
}

/// Rounds to what the precision of a division holds.
fn round_all(isa: Isa, precision: DType, x: &mut [f32]) {
    let mut half = [0u16; BLOCK];
    let half = &mut half[..x.len()];
    use convert::Float;
    match precision {
        DType::F16 => {
            f16::narrow(isa, x, bytemuck::cast_slice_mut(half));
            f16::widen(isa, bytemuck::cast_slice(half), x);
        }
        DType::BF16 => {
            bf16::narrow(isa, x, bytemuck::cast_slice_mut(half));
            bf16::widen(isa, bytemuck::cast_slice(half), x);
        }
        _ => {}
    }
}

/// `x = round(x / scale) + zero`, clamped if there are ends; [scale, zero, lo, hi].
fn quantize_one(isa: Isa, [scale, zero, lo, hi]: [f32; 4], precision: DType, x: &mut [f32]) {
    divide_one(isa, scale, x);
    round_all(isa, precision, x);
    if lo.is_finite() {
        shift_one(isa, zero, lo, hi, x);
    } else if zero != 0.0 {
        x.iter_mut().for_each(|x| *x += zero);
    }
}

fn quantize_each(
    isa: Isa,
    scale: &[f32],
    zero: &[f32],
    [lo, hi]: [f32; 2],
    precision: DType,
    x: &mut [f32],
) {
    divide_each(isa, scale, x);
    round_all(isa, precision, x);
    if lo.is_finite() {
        shift_each(isa, zero, lo, hi, x);
    } else {
        x.iter_mut().zip(zero).for_each(|(x, zero)| *x += zero);
    }
}

crate::simd_fn! {
    fn divide_one(_s: S, scale: f32, x: &mut [f32]) {
        for x in x {
            *x /= scale;
        }
    }
}

crate::simd_fn! {
    fn divide_each(_s: S, scale: &[f32], x: &mut [f32]) {
        for (x, scale) in x.iter_mut().zip(scale) {
            *x /= scale;
        }
    }
}

crate::simd_fn! {
    fn shift_one(_s: S, zero: f32, lo: f32, hi: f32, x: &mut [f32]) {
        for x in x {
            *x = shifted(*x, zero, lo, hi);
        }
    }
}

crate::simd_fn! {
    fn shift_each(_s: S, zero: &[f32], lo: f32, hi: f32, x: &mut [f32]) {
        for (x, &zero) in x.iter_mut().zip(zero) {
            *x = shifted(*x, zero, lo, hi);
        }
    }
}

/// The code of a quotient; NaN becomes the lowest.
#[inline(always)]
pub(super) fn shifted(x: f32, zero: f32, lo: f32, hi: f32) -> f32 {
    let x = x.round_ties_even() + zero;
    let x = if x > lo { x } else { lo };
    if x < hi { x } else { hi }
}

pub(super) fn compile_dequantize(op: &DequantizeLinear, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let blocks = Blocks::new(&cx.sizes(0)?, &cx.sizes(1)?, op.axis, op.block_size)?;
    let (isa, dtype) = (cx.isa, cx.outputs[0].dtype()?);
    Ok(Kernel::new(move |args| {
        let scales = Scales::read(args, blocks)?;
        let x = args.input(0)?;
        let (x_dtype, x, len) = (x.dtype(), x.as_bytes(), x.len());
        let bytes = matches!(x_dtype, DType::U8 | DType::I8) && dtype == DType::F32;
        if let (true, Some([scale, zero])) = (bytes, scales.one()) {
            let (signed, y) = (x_dtype == DType::I8, args.outputs[0].as_mut_slice::<f32>());
            par::chunks_mut(y, PIECE, par::grain(PIECE / 8), |i, y| {
                decode(isa, (signed, scale, zero), &x[i * PIECE..][..y.len()], y);
            });
            return Ok(());
        }
        let failure = par::Failure::default();
        par_codes(&mut args.outputs[0], len, |start, count, y| {
            let mut staged = [0.0; BLOCK];
            let staged = &mut staged[..count];
            failure.attempt(|| {
                args.cx.check()?;
                read_f32(x_dtype, x, start, staged)?;
                scales.runs(start, count, |part, scale, zero| match scale.len() {
                    1 => dequantize_one(isa, scale[0], zero[0], &mut staged[part]),
                    _ => dequantize_each(isa, scale, zero, staged),
                });
                write_codes(isa, dtype, staged, true, y)
            });
        });
        failure.result()
    }))
}

crate::simd_fn! {
    fn dequantize_one(_s: S, scale: f32, zero: f32, x: &mut [f32]) {
        for x in x {
            *x = (*x - zero) * scale;
        }
    }
}

crate::simd_fn! {
    fn dequantize_each(_s: S, scale: &[f32], zero: &[f32], x: &mut [f32]) {
        for ((x, scale), zero) in x.iter_mut().zip(scale).zip(zero) {
            *x = (*x - zero) * scale;
        }
    }
}

/// x → y: uint8, scale, zero point.
pub(super) fn compile_dynamic(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let isa = cx.isa;
    Ok(Kernel::new(move |args| {
        let x: &[f32] = args.input(0)?.as_slice();
        let [lo, hi] = ends(isa, x);
        // A constant zero has no range; ONNX Runtime takes 1 as well.
        let scale = if lo == hi { 1.0 } else { (hi - lo) / 255.0 };
        let zero = shifted(-lo / scale, 0.0, 0.0, 255.0);
        let [y, y_scale, y_zero] = args.outputs else {
            return Err(invalid!("{} outputs instead of 3", args.outputs.len()));
        };
        y_scale.as_mut_slice()[0] = scale;
        y_zero.as_mut_slice()[0] = zero as u8;
        par_codes(y, x.len(), |start, count, codes| {
            encode(isa, [scale, zero, 0.0, 255.0], &x[start..start + count], codes);
        });
        Ok(())
    }))
}

crate::simd_fn! {
    /// The smallest and the largest of the elements and 0.
    fn ends(s: S, x: &[f32]) -> [f32; 2] {
        let (mut lo, mut hi) = (s.zero(), s.zero());
        let mut xs = x.chunks_exact(S::LANES);
        for x in &mut xs {
            let x = s.load(x);
            (lo, hi) = (x.min(lo), x.max(hi));
        }
        let x = s.load_partial(xs.remainder(), 0.0);
        [x.min(lo).reduce_min(), x.max(hi).reduce_max()]
    }
}

crate::simd_fn! {
    /// Codes of one scale, zero point and range; int8 in two's complement.
    pub(super) fn encode(s: S, params: [f32; 4], x: &[f32], y: &mut [u8]) {
        let [scale, zero, lo, hi] = params;
        let of = [scale, zero, lo, hi].map(|x| s.splat(x));
        let whole = x.len() - x.len() % S::LANES;
        for j in (0..whole).step_by(S::LANES) {
            code_of::<S>(s.load(&x[j..]), of).store_u8(&mut y[j..]);
        }
        for (x, y) in x[whole..].iter().zip(&mut y[whole..]) {
            *y = shifted(x / scale, zero, lo, hi) as i32 as u8;
        }
    }
}

/// The codes of x, as [`shifted`] has them; [scale, zero, lo, hi].
#[inline(always)]
pub(super) fn code_of<S: Simd>(x: S::F32, [scale, zero, lo, hi]: [S::F32; 4]) -> S::I32 {
    // NaN becomes the lowest.
    ((x / scale).round_even() + zero).max(lo).min(hi).trunc_i32()
}

/// Codes as they are read, in 32 bits.
#[inline(always)]
pub(super) fn load_codes<S: Simd>(s: S, signed: bool, x: &[u8]) -> S::I32 {
    let x = s.load_u8(x);
    if signed { x.shl::<24>().sar::<24>() } else { x }
}

crate::simd_fn! {
    /// Numbers of codes of one scale and zero point.
    fn decode(s: S, params: (bool, f32, f32), x: &[u8], y: &mut [f32]) {
        let (signed, scale, zero) = params;
        let whole = x.len() - x.len() % S::LANES;
        for j in (0..whole).step_by(S::LANES) {
            let x = load_codes(s, signed, &x[j..]).to_f32();
            ((x - s.splat(zero)) * s.splat(scale)).store(&mut y[j..]);
        }
        for (y, &x) in y[whole..].iter_mut().zip(&x[whole..]) {
            let x = if signed { f32::from(x as i8) } else { f32::from(x) };
            *y = (x - zero) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run, run1};
    use rinfer_graph::ops::{Axis, DynamicQuantizeLinear};
    use rinfer_graph::{Element, Value};

    const OP: QuantizeLinear = QuantizeLinear {
        axis: Axis(1),
        block_size: 0,
        output: None,
        saturate: true,
        precision: None,
    };

    fn f(shape: &[usize], x: &[f32]) -> Tensor {
        Tensor::from_slice(shape, x)
    }

    fn check<T: Element>(op: QuantizeLinear, inputs: &[Tensor], want: &[T]) {
        for isa in Isa::available() {
            let y = run1(isa, op.clone(), inputs).unwrap();
            assert_eq!(y.as_slice::<T>(), want, "{}", isa.name());
        }
    }

    #[test]
    fn ties_go_to_even_and_the_ends_saturate() {
        let x = f(&[6], &[0.0, 2.0, 3.0, 1000.0, -254.0, -1000.0]);
        let inputs = [x, Tensor::scalar(2.0f32), Tensor::scalar(128u8)];
        check(OP, &inputs, &[128u8, 129, 130, 255, 1, 0]);
    }

    #[test]
    fn each_channel_has_its_scale() {
        let x = f(&[1, 2, 2], &[4.0, 8.0, -4.0, 80.0]);
        let inputs = [x, Tensor::vector(&[2.0f32, 4.0]), Tensor::vector(&[0i8, 1])];
        check(OP, &inputs, &[2i8, 4, 0, 21]);
    }

    #[test]
    fn blocks_share_a_scale() {
        let op = QuantizeLinear { block_size: 2, ..OP };
        let x = f(&[1, 3], &[6.0, 12.0, 24.0]);
        check(op, &[x, f(&[1, 2], &[1.0, 3.0])], &[6u8, 12, 8]);
    }

    #[test]
    fn long_rows_agree_with_short_ones() {
        let x: Vec<f32> = (0..3000).map(|i| i as f32 * 0.37 - 500.0).collect();
        let scales = [1.5f32, 2.5, 0.7];
        let zeros = [3i8, -4, 0];
        let want: Vec<i8> = (0..3000)
            .map(|i| {
                let c = i / 1000;
                let code = (x[i] / scales[c]).round_ties_even() + f32::from(zeros[c]);
                code.clamp(-128.0, 127.0) as i8
            })
            .collect();
        let inputs = [f(&[3, 1000], &x), Tensor::vector(&scales), Tensor::vector(&zeros)];
        check(QuantizeLinear { axis: Axis(0), ..OP }, &inputs, &want);
    }

    #[test]
    fn dequantizing_takes_the_zero_point_off() {
        let op = DequantizeLinear { axis: Axis(0), block_size: 0, output: None };
        for isa in Isa::available() {
            let inputs = [
                Tensor::from_slice(&[2, 2], &[0u8, 3, 128, 255]),
                Tensor::vector(&[2.0f32, 0.5]),
                Tensor::vector(&[128u8, 0]),
            ];
            let y = run1(isa, op.clone(), &inputs).unwrap();
            assert_eq!(y.as_slice::<f32>(), [-256.0, -250.0, 64.0, 127.5]);
        }
    }

    #[test]
    fn a_dynamic_range_holds_zero() {
        let x = Tensor::vector(&[0.0f32, 2.0, -3.0, -2.5, 1.34, 0.5]);
        let y = run(Isa::best(), DynamicQuantizeLinear, &[x.into()], 3).unwrap();
        assert_eq!(y[0], Value::Tensor(Tensor::vector(&[153u8, 255, 0, 26, 221, 179])));
        assert_eq!(y[1], Value::Tensor(Tensor::scalar(5.0f32 / 255.0)));
        assert_eq!(y[2], Value::Tensor(Tensor::scalar(153u8)));
    }
}
