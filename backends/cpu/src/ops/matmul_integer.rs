//! MatMulInteger and QLinearMatMul: 8-bit operands less their zero points as 16-bit numbers, rows
//! times columns side by side, summed exactly in 32 bits.

use half::{bf16, f16};
use rinfer_graph::ops::MatMul;
use rinfer_graph::{DType, Reason, Tensor, invalid, unsupported};

use super::matmul::Plan;
use crate::gemm::{Write, gemm_generic};
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::par;
use crate::pool::with_scratch_of;
use crate::quant::{read_f32, write_codes};
use crate::simd::Isa;

/// One number for all, for each line of a matrix, or for each line of every matrix.
struct PerLine {
    values: Vec<f32>,
    lines: usize,
}

impl PerLine {
    fn read(x: Option<&Tensor>, matrices: usize, lines: usize, or: f32) -> Result<PerLine, Reason> {
        let Some(x) = x else { return Ok(PerLine { values: vec![or], lines: 1 }) };
        let mut values = vec![0.0; x.len()];
        read_f32(x.dtype(), x.as_bytes(), 0, &mut values)?;
        match values.len() {
            n if n == 1 || n == lines || n == matrices * lines => Ok(PerLine { values, lines }),
            n => {
                Err(invalid!("{n} scales or zero points for {matrices} matrices of {lines} lines"))
            }
        }
    }

    fn at(&self, matrix: usize, line: usize) -> f32 {
        match self.values.len() {
            1 => self.values[0],
            n if n == self.lines => self.values[line],
            _ => self.values[matrix * self.lines + line],
        }
    }
}

/// An operand: matrices of lines that are multiplied with lines of the other.
struct Side<'a> {
    x: &'a Tensor,
    zero: PerLine,
    matrices: usize,
    lines: usize,
    /// Elements from one line to the next, and from one element of a line to the next.
    steps: [usize; 2],
}

impl<'a> Side<'a> {
    fn new(
        x: &'a Tensor,
        zero: Option<&Tensor>,
        lines: usize,
        k: usize,
        steps: [usize; 2],
    ) -> Result<Side<'a>, Reason> {
        let matrices = x.len().checked_div(lines * k).unwrap_or(1);
        Ok(Side { x, zero: PerLine::read(zero, matrices, lines, 0.0)?, matrices, lines, steps })
    }

    /// Lines of `k` elements less their zero points; `wide` a line.
    fn widen(&self, k: usize, wide: usize, to: &mut [i16]) {
        let (bytes, signed) = (self.x.as_bytes(), self.x.dtype() == DType::I8);
        let value = |byte: u8| if signed { i16::from(byte as i8) } else { i16::from(byte) };
        par::chunks_mut(to, wide.max(1), par::grain(k), |line, to| {
            let (matrix, line) = (line / self.lines, line % self.lines);
            let zero = self.zero.at(matrix, line) as i16;
            let from = &bytes[matrix * self.lines * k + line * self.steps[0]..];
            let from = from.iter().step_by(self.steps[1]);
            to[..k].iter_mut().zip(from).for_each(|(y, &x)| *y = value(x) - zero);
            to[k..].fill(0);
        });
    }
}

/// Lines are padded to whole vectors of 16-bit numbers.
const PAD: usize = 32;

/// Computes `finish(product, first row, sums)` for blocks of rows of every product.
fn products(
    isa: Isa,
    plan: &Plan,
    [a, b]: [&Side<'_>; 2],
    args: &Args<'_>,
    sums: &mut [i32],
) -> Result<(), Reason> {
    let wide = plan.k.next_multiple_of(PAD);
    let (a_len, b_len) = (a.matrices * plan.m * wide, b.matrices * plan.n * wide);
    with_scratch_of(a_len + b_len, |scratch: &mut [i16]| {
        let (a16, b16) = scratch.split_at_mut(a_len);
        a.widen(plan.k, wide, a16);
        b.widen(plan.k, wide, b16);
        let failure = par::Failure::default();
        par::rows(sums, plan.n, plan.n * wide / 8, |rows, y| {
            for (r, y) in rows.zip(y.chunks_mut(plan.n.max(1))) {
                failure.attempt(|| {
                    let (a_at, b_at) = plan.at(r / plan.m);
                    let (am, bm) =
                        (a_at / (plan.m * plan.k).max(1), b_at / (plan.n * plan.k).max(1));
                    let a = &a16[(am * plan.m + r % plan.m) * wide..][..wide];
                    dots(isa, a, &b16[bm * plan.n * wide..], y);
                    args.cx.check()
                });
            }
        });
        failure.result()
    })
    .map_err(limit)?
}

crate::simd_fn! {
    /// `y[j] = Σ a · b[j]`, lines as long as `a`.
    fn dots(_s: S, a: &[i16], b: &[i16], y: &mut [i32]) {
        if a.is_empty() {
            return y.fill(0);
        }
        for (y, b) in y.iter_mut().zip(b.chunks_exact(a.len())) {
            let mut sum = 0i32;
            for (a, b) in a.as_chunks::<PAD>().0.iter().zip(b.as_chunks::<PAD>().0) {
                for i in 0..PAD {
                    sum = sum.wrapping_add(i32::from(a[i]) * i32::from(b[i]));
                }
            }
            *y = sum;
        }
    }
}

pub(super) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let plan = Plan::unfolded(&MatMul::PLAIN, &cx.sizes(0)?, &cx.sizes(1)?)?;
    let isa = cx.isa;
    Ok(Kernel::new(move |args| {
        let a = Side::new(args.input(0)?, args.opt(2), plan.m, plan.k, plan.a)?;
        let [row, col] = plan.b;
        let b = Side::new(args.input(1)?, args.opt(3), plan.n, plan.k, [col, row])?;
        let mut y = std::mem::replace(&mut args.outputs[0], Tensor::scalar(0i32));
        let done = products(isa, &plan, [&a, &b], args, y.as_mut_slice());
        args.outputs[0] = y;
        done
    }))
}

pub(super) fn compile_qlinear(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let plan = Plan::unfolded(&MatMul::PLAIN, &cx.sizes(0)?, &cx.sizes(3)?)?;
    let (isa, integers) = (cx.isa, !cx.dtype(0)?.is_float() && !cx.dtype(3)?.is_float());
    let scales = cx.dtype(1)?;
    Ok(Kernel::new(move |args| {
        let a = Side::new(args.input(0)?, args.opt(2), plan.m, plan.k, plan.a)?;
        let [row, col] = plan.b;
        let b = Side::new(args.input(3)?, args.opt(5), plan.n, plan.k, [col, row])?;
        let len = args.outputs[0].len();
        with_scratch_of(len, |y: &mut [f32]| {
            if integers {
                with_scratch_of(len, |sums: &mut [i32]| {
                    products(isa, &plan, [&a, &b], args, sums)?;
                    y.iter_mut().zip(&*sums).for_each(|(y, &x)| *y = x as f32);
                    Ok(())
                })
                .map_err(limit)??;
            } else {
                float_products(isa, &plan, [&a, &b], y)?;
            }
            requantize(&plan, scales, [&a, &b], args, y)?;
            let y_dtype = args.outputs[0].dtype();
            write_codes(isa, y_dtype, y, true, args.outputs[0].as_mut_bytes())
        })
        .map_err(limit)?
    }))
}

/// Products of float8 codes, in f32.
fn float_products(
    isa: Isa,
    plan: &Plan,
    [a, b]: [&Side<'_>; 2],
    y: &mut [f32],
) -> Result<(), Reason> {
    let numbers = |side: &Side<'_>| {
        let mut x = vec![0.0; side.x.len()];
        read_f32(side.x.dtype(), side.x.as_bytes(), 0, &mut x)?;
        match side.zero.values.iter().all(|&zero| zero == 0.0) {
            true => Ok(x),
            false => Err(unsupported!("zero points of {} other than 0", side.x.dtype())),
        }
    };
    let (a, b) = (numbers(a)?, numbers(b)?);
    for (i, y) in y.chunks_mut((plan.m * plan.n).max(1)).enumerate() {
        let (a_at, b_at) = plan.at(i);
        let (a, b) = ((&a[a_at..], (plan.a[0], plan.a[1])), (&b[b_at..], (plan.b[0], plan.b[1])));
        gemm_generic(isa, (plan.m, plan.n, plan.k), a, b, Write::Set, y).map_err(limit)?;
    }
    Ok(())
}

/// `y = saturate(round(y · a_scale · b_scale / y_scale) + y_zero)`
fn requantize(
    plan: &Plan,
    scales: DType,
    [a, b]: [&Side<'_>; 2],
    args: &Args<'_>,
    y: &mut [f32],
) -> Result<(), Reason> {
    let a_scale = PerLine::read(args.opt(1), a.matrices, plan.m, 1.0)?;
    let b_scale = PerLine::read(args.opt(4), b.matrices, plan.n, 1.0)?;
    let y_scale = PerLine::read(args.opt(6), plan.count, plan.m, 1.0)?;
    let y_zero = PerLine::read(args.opt(7), plan.count, plan.m, 0.0)?;
    let round = |x: f32| match scales {
        DType::F16 => f16::from_f32(x).to_f32(),
        DType::BF16 => bf16::from_f32(x).to_f32(),
        _ => x,
    };
    let ends = match args.input(7)?.dtype() {
        DType::U8 => Some([0.0, 255.0]),
        DType::I8 => Some([-128.0, 127.0]),
        _ => None,
    };
    for (r, y) in y.chunks_mut(plan.n.max(1)).enumerate() {
        let (i, row) = (r / plan.m, r % plan.m);
        let (a_at, b_at) = plan.at(i);
        let (am, bm) = (a_at / (plan.m * plan.k).max(1), b_at / (plan.n * plan.k).max(1));
        let (y_scale, zero) = (y_scale.at(i, row), y_zero.at(i, row));
        let a_scale = a_scale.at(am, row);
        for (j, y) in y.iter_mut().enumerate() {
            let scale = round(round(a_scale * b_scale.at(bm, j)) / y_scale);
            *y = match ends {
                Some([lo, hi]) => ((*y * scale).round_ties_even() + zero).clamp(lo, hi),
                None => *y * scale + zero,
            };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use rinfer_graph::ops::{MatMulInteger, QLinearMatMul};

    #[test]
    fn zero_points_come_off_first() {
        let a = Tensor::from_slice(&[4, 3], &[11u8, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0]);
        let b = Tensor::from_slice(&[3, 2], &[1u8, 4, 2, 5, 3, 6]);
        let inputs = [a, b, Tensor::vector(&[12u8]), Tensor::vector(&[0u8])];
        for isa in Isa::available() {
            let y = run1(isa, MatMulInteger, &inputs).unwrap();
            assert_eq!(y.as_slice::<i32>(), [-38, -83, -44, -98, -50, -113, -56, -128]);
        }
    }

    #[test]
    fn rows_and_columns_have_zero_points_of_their_own() {
        let k = 70;
        let a: Vec<u8> = (0..2 * k).map(|i| (i * 37 % 256) as u8).collect();
        let b: Vec<i8> = (0..k * 3).map(|i| (i * 91 % 256) as u8 as i8).collect();
        let (az, bz) = ([3u8, 250], [-100i8, 0, 100]);
        let want = |i: usize, j: usize| -> i32 {
            let a = |p: usize| i32::from(a[i * k + p]) - i32::from(az[i]);
            let b = |p: usize| i32::from(b[p * 3 + j]) - i32::from(bz[j]);
            (0..k).map(|p| a(p) * b(p)).sum()
        };
        let want: Vec<i32> = (0..6).map(|ij| want(ij / 3, ij % 3)).collect();
        let inputs = [
            Tensor::from_slice(&[1, 2, k], &a),
            Tensor::from_slice(&[k, 3], &b),
            Tensor::vector(&az),
            Tensor::vector(&bz),
        ];
        for isa in Isa::available() {
            assert_eq!(run1(isa, MatMulInteger, &inputs).unwrap().as_slice::<i32>(), want);
        }
    }

    #[test]
    fn the_result_is_rounded_before_the_zero_point_is_added() {
        let one = |x: f32| Tensor::scalar(x);
        let inputs = [
            Tensor::from_slice(&[2, 1], &[1i8, -100]),
            one(0.5),
            Tensor::scalar(0i8),
            Tensor::from_slice(&[1, 2], &[1u8, 3]),
            one(1.0),
            Tensor::scalar(0u8),
            one(1.0),
            Tensor::scalar(1i8),
        ];
        let y = run1(Isa::best(), QLinearMatMul, &inputs).unwrap();
        assert_eq!(y.as_slice::<i8>(), [1, 3, -49, -128]);
    }
}
