//! MatMulInteger and QLinearMatMul: products of bytes, summed exactly in 32 bits.

use std::sync::Arc;

use half::{bf16, f16};
use rinfer_graph::ops::MatMul;
use rinfer_graph::{DType, Fact, Reason, Tensor, invalid, scarce, unsupported};

use super::matmul::Plan;
use crate::gemm::bytes::{
    Bias, ByteGemm, Codes, Finish, Left, Matrix, PackedBytes, Per, Rows, Side, Sums, Zero,
};
use crate::gemm::{Write, gemm_generic};
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::pool::with_scratch_of;
use crate::quant::{read_f32, write_codes};
use crate::scratch::Scratch;
use crate::simd::{Bytes, Isa};

/// One number for all, for each line of a matrix, or for each line of every matrix.
struct PerLine {
    values: Vec<f32>,
    lines: usize,
}

impl PerLine {
    fn read(x: Option<&Tensor>, matrices: usize, lines: usize, or: f32) -> Result<PerLine, Reason> {
        let Some(x) = x else { return Ok(PerLine { values: vec![or], lines: 1 }) };
        let mut values = scarce::zeros(x.len());
        read_f32(x.dtype(), x.as_bytes(), 0, &mut values)?;
        match values.len() {
            n if n == 1 || n == lines || n == matrices * lines => Ok(PerLine { values, lines }),
            n => {
                Err(invalid!("{n} scales or zero points for {matrices} matrices of {lines} lines"))
            }
        }
    }

    /// The numbers of one matrix: one for all, or one for each line.
    fn of(&self, matrix: usize) -> &[f32] {
        match self.values.len() {
            n if n == 1 || n == self.lines => &self.values,
            _ => &self.values[matrix * self.lines..][..self.lines],
        }
    }

    fn at(&self, matrix: usize, line: usize) -> f32 {
        let of = self.of(matrix);
        of[if of.len() == 1 { 0 } else { line }]
    }

    fn one(&self) -> Option<f32> {
        if let [x] = self.values[..] { Some(x) } else { None }
    }
}

/// A batch of products of bytes, made ready. Inputs are a, b and their zero points.
pub(super) struct Product {
    pub plan: Plan,
    bytes: Bytes,
    inputs: [usize; 4],
    /// The right operand, if it is a weight and the same for all.
    b: Option<Arc<PackedBytes>>,
}

impl Product {
    pub fn new(op: &MatMul, cx: &Cx<'_>, inputs: [usize; 4]) -> Result<Product, Reason> {
        let [a, b, a_zero, _] = inputs;
        let plan = Plan::unfolded(op, &cx.sizes(a)?, &cx.sizes(b)?)?;
        // Zero points for the rows of one matrix stand for those of each.
        let one = cx.opt(a_zero).is_none_or(|zero| zero.len() == Some(1));
        let plan = if one { plan.folded(op.trans_a) } else { plan };
        let bytes = Bytes::of(cx.isa);
        let packed = match plan.count {
            1 => cx.packed(b, 8 | op.trans_b as u64, |b| right(bytes, &plan, b, 0))?,
            _ => None,
        };
        Ok(Product { plan, bytes, inputs, b: packed })
    }

    /// What a run takes: operands packed on the way, one matrix of each.
    pub fn scratch(&self, cx: &Cx<'_>) -> Scratch {
        let (plan, [a, ..]) = (&self.plan, self.inputs);
        let unsigned = cx.dtype(a) == Ok(DType::U8);
        let as_they_lie =
            unsigned && plan.a[1] == 1 && self.bytes.step() == 4 && plan.a[0].is_multiple_of(4);
        let room = |side, lanes| PackedBytes::room(self.bytes, side, (lanes, plan.k));
        let left = if as_they_lie { 0 } else { room(Side::Left, plan.m) };
        let right = if self.b.is_some() { 0 } else { room(Side::Right, plan.n) };
        Scratch::of::<u8>(left).and(Scratch::of::<u8>(right))
    }

    /// Calls `f(product, matrix of a, matrix of b, operands)` for each product.
    pub fn each(
        &self,
        args: &Args<'_>,
        mut f: impl FnMut(usize, [usize; 2], &ByteGemm<'_>) -> Result<(), String>,
    ) -> Result<(), Reason> {
        let plan = &self.plan;
        let [a, b, a_zero, b_zero] = self.inputs;
        let a = args.input(a)?;
        let (a_len, b_len) = ((plan.m * plan.k).max(1), (plan.k * plan.n).max(1));
        let mut last: Option<(usize, Arc<PackedBytes>)> = None;
        let (b_tensor, mut held) = (args.input(b)?, [Vec::new(), Vec::new()]);
        let a_zeros = PerLine::read(args.opt(a_zero), a.len() / a_len, plan.m, 0.0)?;
        let b_zeros = PerLine::read(args.opt(b_zero), b_tensor.len() / b_len, plan.n, 0.0)?;
        for i in 0..plan.count {
            args.cx.check()?;
            let (a_at, b_at) = plan.at(i);
            let matrices = [a_at / a_len, b_at / b_len];
            let left = Matrix {
                data: &a.as_bytes()[a_at..],
                signed: a.dtype() == DType::I8,
                lanes: plan.m,
                k: plan.k,
                lane: plan.a[0],
                step: plan.a[1],
            };
            // Rows of whole words are read where they lie.
            let rows = (!left.signed && left.step == 1)
                .then(|| Rows::new(self.bytes, left.data, (left.lanes, left.k), left.lane));
            let packed;
            let left = match rows.flatten() {
                Some(rows) => Left::Rows(rows),
                None => {
                    packed = PackedBytes::pack(self.bytes, Side::Left, &left).map_err(limit)?;
                    Left::Packed(&packed)
                }
            };
            let right = match (&self.b, &last) {
                (Some(b), _) => b.clone(),
                (None, Some((at, b))) if *at == b_at => b.clone(),
                _ => Arc::new(right(self.bytes, plan, b_tensor, b_at)?),
            };
            last = Some((b_at, right.clone()));
            let [a_held, b_held] = &mut held;
            let gemm = ByteGemm {
                a: left,
                b: &right,
                a_zero: zero(a_zeros.of(matrices[0]), a_held),
                b_zero: zero(b_zeros.of(matrices[1]), b_held),
                bias: Bias::None,
            };
            f(i, matrices, &gemm).map_err(limit)?;
        }
        Ok(())
    }

    /// All products with the same finish, one after the other in `y`.
    pub fn run<F: Finish>(
        &self,
        args: &Args<'_>,
        finish: &F,
        y: &mut [F::Out],
    ) -> Result<(), Reason> {
        let (n, len) = (self.plan.n, self.plan.m * self.plan.n);
        self.each(args, |i, _, gemm| gemm.run(finish, &mut y[i * len..][..len], n))
    }
}

fn right(bytes: Bytes, plan: &Plan, b: &Tensor, at: usize) -> Result<PackedBytes, Reason> {
    let matrix = Matrix {
        data: &b.as_bytes()[at..],
        signed: b.dtype() == DType::I8,
        lanes: plan.n,
        k: plan.k,
        lane: plan.b[1],
        step: plan.b[0],
    };
    PackedBytes::pack(bytes, Side::Right, &matrix).map_err(limit)
}

fn zero<'a>(zeros: &[f32], held: &'a mut Vec<i32>) -> Zero<'a> {
    if let [zero] = zeros {
        return Zero::One(*zero as i32);
    }
    held.clear();
    held.extend(zeros.iter().map(|&zero| zero as i32));
    Zero::Each(held)
}

/// Takes an output out of the arguments, which stay usable, for as long as `f` runs.
pub(super) fn with_output<R>(
    args: &mut Args<'_>,
    f: impl FnOnce(&Args<'_>, &mut Tensor) -> R,
) -> R {
    let mut y = std::mem::replace(&mut args.outputs[0], Tensor::scalar(0u8));
    let done = f(args, &mut y);
    args.outputs[0] = y;
    done
}

pub(super) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let product = Product::new(&MatMul::PLAIN, cx, [0, 1, 2, 3])?;
    let scratch = product.scratch(cx);
    Ok(Kernel::new(move |args| {
        with_output(args, |args, y| product.run(args, &Sums, y.as_mut_slice()))
    })
    .takes(scratch))
}

pub(super) fn compile_qlinear(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    if cx.dtype(0)?.is_float() || cx.dtype(3)?.is_float() {
        return compile_float8(cx);
    }
    let product = Product::new(&MatMul::PLAIN, cx, [0, 3, 2, 5])?;
    let y_dtype = cx.outputs[0].dtype()?;
    let Some(ends) = ends(y_dtype) else { return compile_float8(cx) };
    let (isa, dtype) = (cx.isa, cx.dtype(1)?);
    // Scales that differ by rows are applied to sums that are written first.
    let lines = |i: usize| cx.opt(i).and_then(Fact::len) != Some(1);
    let sums = if lines(1) || lines(6) { 2 * cx.outputs[0].len().unwrap_or(0) } else { 0 };
    let scratch = Scratch::floats(sums).and(product.scratch(cx));
    Ok(Kernel::new(move |args| {
        with_output(args, |args, y| {
            let scales = Scales::read(args, &product.plan, dtype)?;
            let (Some(y_zero), None) = (scales.y_zero.one(), scales.by_rows()) else {
                return by_rows(isa, &product, &scales, args, y);
            };
            let (n, len) = (product.plan.n, product.plan.m * product.plan.n);
            let codes = y.as_mut_bytes();
            product.each(args, |i, [_, b], gemm| {
                let by_col: Vec<f32> = match scales.b.of(b) {
                    [_] => vec![scales.at([0, b, 0], 0, 0)],
                    each => (0..each.len()).map(|j| scales.at([0, b, 0], 0, j)).collect(),
                };
                let scale =
                    if by_col.len() == 1 { Per::One(by_col[0]) } else { Per::Cols(&by_col) };
                let finish = Codes { scale, zero: y_zero as i32, ends };
                gemm.run(&finish, &mut codes[i * len..][..len], n)
            })
        })
    })
    .takes(scratch))
}

/// Packs the right operand, input `b`, ahead of the first run, if it is one matrix and a weight.
pub(super) fn prepack(trans_b: bool, b: usize, cx: &Cx<'_>) -> Result<(), Reason> {
    let Some(sizes) = cx.opt(b).and_then(|fact| fact.sizes()) else { return Ok(()) };
    let [.., rows, cols] = sizes[..] else { return Ok(()) };
    if sizes.iter().rev().skip(2).any(|&n| n != 1) || !cx.is_weight(b) || cx.dtype(b)?.is_float() {
        return Ok(());
    }
    let op = MatMul { trans_b, ..MatMul::PLAIN };
    let a = [1, if trans_b { cols } else { rows }];
    let plan = Plan::unfolded(&op, &a, &sizes)?;
    let bytes = Bytes::of(cx.isa);
    cx.packed(b, 8 | trans_b as u64, |b| right(bytes, &plan, b, 0)).map(|_| ())
}

/// The codes of an 8-bit integer type.
pub(super) fn ends(dtype: DType) -> Option<[i32; 2]> {
    match dtype {
        DType::U8 => Some([0, 255]),
        DType::I8 => Some([-128, 127]),
        _ => None,
    }
}

/// Scales that differ by rows: sums first, then the rest row by row.
fn by_rows(
    isa: Isa,
    product: &Product,
    scales: &Scales,
    args: &Args<'_>,
    y: &mut Tensor,
) -> Result<(), Reason> {
    let len = y.len();
    with_scratch_of(2 * len, |scratch: &mut [f32]| {
        let (sums, floats) = scratch.split_at_mut(len);
        let sums: &mut [i32] = bytemuck::cast_slice_mut(sums);
        product.run(args, &Sums, sums)?;
        floats.iter_mut().zip(&*sums).for_each(|(y, &x)| *y = x as f32);
        scales.requantize(&product.plan, y.dtype(), floats);
        write_codes(isa, y.dtype(), floats, true, y.as_mut_bytes())
    })
    .map_err(limit)?
}

/// Products of float8 codes, or into them.
fn compile_float8(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let plan = Plan::unfolded(&MatMul::PLAIN, &cx.sizes(0)?, &cx.sizes(3)?)?;
    let [a, b, y] = [cx.opt(0), cx.opt(3), cx.outputs.first()]
        .map(|fact| Scratch::floats(fact.and_then(Fact::len).unwrap_or(0)));
    let scratch = a.and(b).and(y);
    let (isa, dtype) = (cx.isa, cx.dtype(1)?);
    Ok(Kernel::new(move |args| {
        with_output(args, |args, y| {
            with_scratch_of(y.len(), |floats: &mut [f32]| {
                float_products(isa, &plan, args, floats)?;
                Scales::read(args, &plan, dtype)?.requantize(&plan, y.dtype(), floats);
                write_codes(isa, y.dtype(), floats, true, y.as_mut_bytes())
            })
            .map_err(limit)?
        })
    })
    .takes(scratch))
}

/// Products of numbers without zero points, in f32.
fn float_products(isa: Isa, plan: &Plan, args: &Args<'_>, y: &mut [f32]) -> Result<(), Reason> {
    let numbers = |i: usize, zero: usize| {
        let (x, zero) = (args.input(i)?, args.input(zero)?);
        let mut values = scarce::zeros(x.len());
        read_f32(x.dtype(), x.as_bytes(), 0, &mut values)?;
        let mut zeros = scarce::zeros(zero.len());
        read_f32(zero.dtype(), zero.as_bytes(), 0, &mut zeros)?;
        match zeros.iter().all(|&zero| zero == 0.0) {
            true => Ok(values),
            false => Err(unsupported!("zero points of {} other than 0", x.dtype())),
        }
    };
    let (a, b) = (numbers(0, 2)?, numbers(3, 5)?);
    for (i, y) in y.chunks_mut((plan.m * plan.n).max(1)).enumerate() {
        let (a_at, b_at) = plan.at(i);
        let (a, b) = ((&a[a_at..], (plan.a[0], plan.a[1])), (&b[b_at..], (plan.b[0], plan.b[1])));
        gemm_generic(isa, (plan.m, plan.n, plan.k), a, b, Write::Set, y).map_err(limit)?;
    }
    Ok(())
}

/// The scales of a QLinearMatMul, and y's zero points.
struct Scales {
    a: PerLine,
    b: PerLine,
    y: PerLine,
    y_zero: PerLine,
    /// The type in which they are multiplied.
    dtype: DType,
}

impl Scales {
    fn read(args: &Args<'_>, plan: &Plan, dtype: DType) -> Result<Scales, Reason> {
        let matrices = |i: usize, len: usize| Ok::<_, Reason>(args.input(i)?.len() / len.max(1));
        let (a, b) = (matrices(0, plan.m * plan.k)?, matrices(3, plan.k * plan.n)?);
        Ok(Scales {
            a: PerLine::read(args.opt(1), a, plan.m, 1.0)?,
            b: PerLine::read(args.opt(4), b, plan.n, 1.0)?,
            y: PerLine::read(args.opt(6), plan.count, plan.m, 1.0)?,
            y_zero: PerLine::read(args.opt(7), plan.count, plan.m, 0.0)?,
            dtype,
        })
    }

    /// Whether they differ by rows.
    fn by_rows(&self) -> Option<()> {
        (self.a.one().is_none() || self.y.one().is_none()).then_some(())
    }

    /// a_scale · b_scale / y_scale for these matrices of a, b and y.
    fn at(&self, [a, b, y]: [usize; 3], row: usize, col: usize) -> f32 {
        let round = |x: f32| match self.dtype {
            DType::F16 => f16::from_f32(x).to_f32(),
            DType::BF16 => bf16::from_f32(x).to_f32(),
            _ => x,
        };
        round(round(self.a.at(a, row) * self.b.at(b, col)) / self.y.at(y, row))
    }

    /// `y = saturate(round(y · a_scale · b_scale / y_scale) + y_zero)`
    fn requantize(&self, plan: &Plan, to: DType, y: &mut [f32]) {
        let ends = ends(to).map(|ends| ends.map(|end| end as f32));
        for (r, y) in y.chunks_mut(plan.n.max(1)).enumerate() {
            let (i, row) = (r / plan.m, r % plan.m);
            let (a_at, b_at) = plan.at(i);
            let (a, b) = (a_at / (plan.m * plan.k).max(1), b_at / (plan.n * plan.k).max(1));
            let zero = self.y_zero.at(i, row);
            for (j, y) in y.iter_mut().enumerate() {
                let scaled = *y * self.at([a, b, i], row, j);
                *y = match ends {
                    Some([lo, hi]) => (scaled.round_ties_even() + zero).clamp(lo, hi),
                    None => scaled + zero,
                };
            }
        }
    }
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
