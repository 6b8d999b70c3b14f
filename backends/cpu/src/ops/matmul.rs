//! MatMul: one product for each matrix of the batch, or one for all where b is the same for all.
//!
//! a [.., m, k] · b [.., k, n] + bias [n] + residual [.., m, n]  →  y [.., m, n]

use std::borrow::Cow;
use std::sync::Arc;

use rinfer_graph::ops::MatMul;
use rinfer_graph::shape::Sizes;
use rinfer_graph::{DType, Element, Fact, Reason, Tensor, invalid, unsupported};
use smallvec::SmallVec;

use crate::gemm::room::{self, Lies};
use crate::gemm::{
    Bias, Epilogue, Gemm, Layout, Left, Lhs, Number, Packed, PackedA, PackedB, Rhs, Right, Side,
    Strided, Write, gemm_generic,
};
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::math::Activation;
use crate::pool::with_scratch;
use crate::quant::read_f32;
use crate::scratch::Scratch;
use crate::simd::Isa;
use crate::{convert, par};

/// Sizes and places of every matrix of a batched product.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Elements from one row of op(a) to the next, and from one column to the next.
    pub a: [usize; 2],
    /// The same of op(b).
    pub b: [usize; 2],
    /// Axes of the batch: size, step in a, step in b (0 where broadcast).
    batch: SmallVec<[[usize; 3]; 4]>,
    /// Products in the batch.
    pub count: usize,
}

impl Plan {
    /// One product for each matrix of the batch.
    pub fn unfolded(op: &MatMul, a: &[usize], b: &[usize]) -> Result<Plan, Reason> {
        let (mut a, mut b): (Sizes, Sizes) = (a.into(), b.into());
        if a.is_empty() || b.is_empty() {
            return Err(invalid!("a product of shapes {a:?} and {b:?}"));
        }
        if a.len() == 1 {
            a.insert(0, 1);
        }
        if b.len() == 1 {
            b.push(1);
        }
        let tail = |s: &[usize]| [s[s.len() - 2], s[s.len() - 1]];
        let ([a0, a1], [b0, b1]) = (tail(&a), tail(&b));
        let (m, k, a_step) = if op.trans_a { (a1, a0, [1, a1]) } else { (a0, a1, [a1, 1]) };
        let (k2, n, b_step) = if op.trans_b { (b1, b0, [1, b1]) } else { (b0, b1, [b1, 1]) };
        if k != k2 {
            return Err(invalid!("{k} columns meet {k2} rows"));
        }
        let (a_batch, b_batch) = (&a[..a.len() - 2], &b[..b.len() - 2]);
        let rank = a_batch.len().max(b_batch.len());
        let mut batch: SmallVec<[[usize; 3]; 4]> = SmallVec::new();
        let (mut a_next, mut b_next) = (a0 * a1, b0 * b1);
        for i in 0..rank {
            let size = |s: &[usize]| s.len().checked_sub(i + 1).map_or(1, |at| s[at]);
            let (sa, sb) = (size(a_batch), size(b_batch));
            let out = if sa == 1 { sb } else { sa };
            batch.insert(
                0,
                [out, if sa == 1 { 0 } else { a_next }, if sb == 1 { 0 } else { b_next }],
            );
            (a_next, b_next) = (a_next * sa, b_next * sb);
        }
        let count = batch.iter().map(|d| d[0]).product();
        Ok(Plan { m, n, k, a: a_step, b: b_step, batch, count })
    }

    /// One product of all rows where every matrix of the batch meets the same b.
    pub fn folded(mut self, trans_a: bool) -> Plan {
        // Steps in an empty b are 0, too.
        let same_b = self.k * self.n > 0 && self.batch.iter().all(|d| d[2] == 0);
        if !trans_a && same_b {
            self.m *= self.count;
            self.count = 1;
            self.batch.clear();
        }
        self
    }

    /// Where the matrices of product `i` begin in a and in b.
    pub fn at(&self, mut i: usize) -> (usize, usize) {
        let (mut a, mut b) = (0, 0);
        for &[size, step_a, step_b] in self.batch.iter().rev() {
            a += i % size * step_a;
            b += i % size * step_b;
            i /= size;
        }
        (a, b)
    }
}

pub(super) fn compile(op: &MatMul, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (a_sizes, b_sizes) = (cx.sizes(0)?, cx.sizes(1)?);
    let plan = Plan::unfolded(op, &a_sizes, &b_sizes)?;
    let (dtype, isa) = (cx.dtype(0)?, cx.isa);
    if matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        let (a, b) = pack(op, cx)?;
        let activation = op.activation.map(Activation::from).unwrap_or_default();
        // Where b is computed, whether its batch is one or missing must not decide how many rows
        // are multiplied together: a row may be a sample, and has the same bits in any batch.
        let matrix = b_sizes.len() <= 2;
        let plan = if b.is_some() || matrix { plan.folded(op.trans_a) } else { plan };
        let by_sample = matrix && a_sizes.len() > 1;
        let product = Product { isa, plan, alpha: op.alpha, activation, a, b, by_sample };
        let residual = cx.opt(3).is_some();
        let scratch = product.scratch(cx);
        return Ok(match dtype {
            DType::F32 => Kernel::new(move |args| product.run(args, residual)).in_place(&[3]),
            _ => Kernel::new(move |args| product.run_half(args)),
        }
        .takes(scratch));
    }
    if op.activation.is_some() || (op.alpha != 1.0 && dtype != DType::F64) {
        return Err(unsupported!("a product of {dtype} matrices with {op:?}"));
    }
    let (alpha, plan) = (f64::from(op.alpha), plan.folded(op.trans_a));
    Ok(match dtype {
        DType::F64 => Kernel::new(move |args| generic(isa, &plan, alpha, args)),
        DType::I32 => Kernel::new(move |args| generic(isa, &plan, 1i32, args)),
        DType::I64 => Kernel::new(move |args| generic(isa, &plan, 1i64, args)),
        DType::U32 => Kernel::new(move |args| generic(isa, &plan, 1u32, args)),
        DType::U64 => Kernel::new(move |args| generic(isa, &plan, 1u64, args)),
        dtype => return Err(unsupported!("a product of {dtype} matrices is not supported")),
    })
}

/// Packs weights ahead of the first run.
pub(super) fn prepack(op: &MatMul, cx: &Cx<'_>) -> Result<(), Reason> {
    match cx.dtype(0)? {
        DType::F32 | DType::F16 | DType::BF16 => pack(op, cx).map(|_| ()),
        _ => Ok(()),
    }
}

type Packs = (Option<Arc<PackedA>>, Option<Arc<PackedB>>);

/// The operand that is a weight and the same for every product, packed; b if both are.
fn pack(op: &MatMul, cx: &Cx<'_>) -> Result<Packs, Reason> {
    let shared = |i: usize| {
        let shape = cx.opt(i).and_then(|fact| fact.sizes());
        cx.is_weight(i)
            && shape.is_some_and(|s| !s.is_empty() && s.iter().rev().skip(2).all(|&n| n == 1))
    };
    if shared(1) {
        let b = cx.packed(1, op.trans_b as u64, |b| {
            // A vector is a column: the same elements as rows of one.
            let [rows, cols] = matrix(b.shape(), [b.len(), 1]);
            let (k, n) = if op.trans_b { (cols, rows) } else { (rows, cols) };
            pack_as::<Right>(cx.isa, (k, n), op.trans_b, b)
        })?;
        return Ok((None, b));
    }
    if shared(0) {
        let a = cx.packed(0, op.trans_a as u64, |a| {
            let [rows, cols] = matrix(a.shape(), [1, a.len()]);
            let (m, k) = if op.trans_a { (cols, rows) } else { (rows, cols) };
            pack_as::<Left>(cx.isa, (m, k), op.trans_a, a)
        })?;
        return Ok((a, None));
    }
    Ok((None, None))
}

/// The last two sizes of a shape, or those of a vector.
fn matrix(shape: &[usize], vector: [usize; 2]) -> [usize; 2] {
    match shape {
        [.., rows, cols] => [*rows, *cols],
        _ => vector,
    }
}

/// Packs a weight from its bytes, which may be mapped and misaligned.
fn pack_as<D: Side>(
    isa: Isa,
    (rows, cols): (usize, usize),
    transposed: bool,
    x: &Tensor,
) -> Result<Packed<D>, Reason> {
    let layout = if transposed { Layout::Transposed } else { Layout::RowMajor };
    let (bytes, dtype) = (x.as_bytes(), x.dtype());
    if dtype == DType::F32 {
        return Packed::from_le_bytes(isa, (rows, cols), layout, bytes).map_err(limit);
    }
    let stride = if transposed { rows } else { cols };
    let failure = par::Failure::default();
    let packed = Packed::from_rows(isa, (rows, cols), layout, |row, part, dst| {
        failure.attempt(|| read_f32(dtype, bytes, row * stride + part.start, dst));
    });
    failure.result()?;
    packed.map_err(limit)
}

/// A product in f32.
struct Product {
    isa: Isa,
    plan: Plan,
    alpha: f32,
    activation: Activation,
    a: Option<Arc<PackedA>>,
    b: Option<Arc<PackedB>>,
    /// Whether rows are samples of a batch.
    by_sample: bool,
}

impl Product {
    /// What a run takes: operands that are packed on the way, and in half precision all that is
    /// read and made, widened.
    fn scratch(&self, cx: &Cx<'_>) -> Scratch {
        let plan = &self.plan;
        let lies = |packed, steps| if packed { Lies::Packed } else { Lies::Plain(steps) };
        let (a, mut b) = (lies(self.a.is_some(), plan.a), lies(self.b.is_some(), plan.b));
        if self.by_sample && self.b.is_none() {
            // It is never read as it lies.
            b = Lies::Made;
        }
        let sizes = (plan.m, plan.n, plan.k);
        let product = room::scratch_of_batch(self.isa, plan.count, sizes, a, b);
        if cx.dtype(0) == Ok(DType::F32) {
            return product;
        }
        let packed = [self.a.is_some(), self.b.is_some(), false, false];
        let read = (0..4).filter(|&i| !packed[i]).filter_map(|i| cx.opt(i)?.len());
        let made = cx.outputs.first().and_then(Fact::len);
        let wide = read.chain(made).fold(0, usize::saturating_add);
        Scratch::floats(wide).and(product)
    }

    /// f32, the residual in the output already if it is there but no input.
    fn run(&self, args: &mut Args<'_>, residual: bool) -> Result<(), Reason> {
        args.cx.check()?;
        let slices: [Option<&[f32]>; 4] = std::array::from_fn(|i| {
            // What is packed is not read again: the pages it came from may rest.
            let packed = (i == 0 && self.a.is_some()) || (i == 1 && self.b.is_some());
            args.opt(i).filter(|_| !packed).map(Tensor::as_slice)
        });
        let write = match residual && slices[3].is_none() {
            true => Write::Add,
            false => Write::Set,
        };
        self.compute(slices, write, args.outputs[0].as_mut_slice())
    }

    fn compute(
        &self,
        [a, b, bias, residual]: [Option<&[f32]>; 4],
        write: Write,
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let plan = &self.plan;
        let strided = |data, [row, col]: [usize; 2]| Strided { data, row, col };
        let a = match &self.a {
            Some(a) => Lhs::Packed(a),
            None => Lhs::Plain(strided(a.unwrap_or_default(), plan.a)),
        };
        let b = match &self.b {
            Some(b) => Rhs::Packed(b),
            None => Rhs::Plain(strided(b.unwrap_or_default(), plan.b)),
        };
        let row = match bias {
            Some([x]) => Cow::Owned(vec![*x; plan.n]),
            Some(x) => Cow::Borrowed(x),
            None => Cow::Borrowed(&[][..]),
        };
        let epilogue = Epilogue {
            bias: bias.is_some().then_some(Bias::Row(&row)),
            residual: residual.map(|x| (x, plan.n)),
            activation: self.activation,
        };
        let (m, n, k) = (plan.m, plan.n, plan.k);
        let (alpha, by_sample) = (self.alpha, self.by_sample);
        let gemm = Gemm { alpha, write, epilogue, by_sample, ..Gemm::new((m, n, k), a, b) };
        gemm.run_batch(self.isa, plan.count, |i| plan.at(i), y, (n, m * n)).map_err(limit)
    }

    /// f16 and bf16: widened, multiplied in f32, rounded once.
    fn run_half(&self, args: &mut Args<'_>) -> Result<(), Reason> {
        let packed = [self.a.is_some(), self.b.is_some(), false, false];
        let inputs: [Option<&Tensor>; 4] =
            std::array::from_fn(|i| args.opt(i).filter(|_| !packed[i]));
        let lens = inputs.map(|t| t.map_or(0, Tensor::len));
        let total = lens.iter().sum::<usize>() + args.outputs[0].len();
        with_scratch(total, |scratch| {
            let (mut slices, mut rest) = ([None; 4], scratch);
            for (i, (tensor, len)) in inputs.iter().zip(lens).enumerate() {
                let (part, left) = rest.split_at_mut(len);
                rest = left;
                if let Some(tensor) = tensor {
                    convert::read(self.isa, tensor, 0, part)?;
                    slices[i] = Some(&*part);
                }
            }
            args.cx.check()?;
            self.compute(slices, Write::Set, rest)?;
            convert::write(self.isa, rest, &mut args.outputs[0], 0)
        })
        .map_err(limit)?
    }
}

/// Types that have no tiles.
fn generic<T: Number + Element>(
    isa: Isa,
    plan: &Plan,
    alpha: T,
    args: &mut Args<'_>,
) -> Result<(), Reason> {
    let (a, b) = (args.input(0)?.as_slice::<T>(), args.input(1)?.as_slice::<T>());
    let (bias, residual) = (args.opt(2), args.opt(3));
    let y = args.outputs[0].as_mut_slice::<T>();
    let (sizes, n) = ((plan.m, plan.n, plan.k), plan.n.max(1));
    let ([a_row, a_col], [b_row, b_col]) = (plan.a, plan.b);
    for (i, y) in y.chunks_mut((plan.m * plan.n).max(1)).enumerate() {
        args.cx.check()?;
        let (a0, b0) = plan.at(i);
        let (a, b) = ((&a[a0..], (a_row, a_col)), (&b[b0..], (b_row, b_col)));
        gemm_generic(isa, sizes, a, b, Write::Set, y).map_err(limit)?;
    }
    if alpha != T::ONE || bias.is_some() {
        let bias = bias.map_or(&[][..], Tensor::as_slice::<T>);
        for y in y.chunks_mut(n) {
            for (j, y) in y.iter_mut().enumerate() {
                let j = if bias.len() == 1 { 0 } else { j };
                *y = y.mul_add(alpha, bias.get(j).copied().unwrap_or(T::ZERO));
            }
        }
    }
    if let Some(residual) = residual {
        y.iter_mut().zip(residual.as_slice::<T>()).for_each(|(y, &x)| *y = y.mul_add(T::ONE, x));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run_opt, run1};
    use half::f16;
    use rinfer_graph::Value;

    fn t(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor::from_slice(shape, data)
    }

    fn numbers(shape: &[usize], seed: u32) -> Tensor {
        let n: usize = shape.iter().product();
        let mut x = seed;
        let next = |_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as f32 / 16.0 - 8.0
        };
        Tensor::from_slice(shape, &(0..n).map(next).collect::<Vec<f32>>())
    }

    #[test]
    fn empty_matrices_of_a_batch_are_not_one_for_all() {
        let op = MatMul::PLAIN;
        let y = run1(Isa::best(), op.clone(), &[t(&[0], &[]), t(&[2, 0, 1], &[])]).unwrap();
        assert_eq!((y.shape(), y.as_slice::<f32>()), (&[2, 1][..], &[0.0, 0.0][..]));
        let y = run1(Isa::best(), op, &[t(&[1], &[1.0]), t(&[2, 1, 0], &[])]).unwrap();
        assert_eq!(y.shape(), [2, 0]);
    }

    /// The definition in f64, for operands of rank 2.
    fn plain(op: &MatMul, a: &Tensor, b: &Tensor) -> Vec<f64> {
        let at = |t: &Tensor, swap: bool, i: usize, j: usize| {
            let (i, j) = if swap { (j, i) } else { (i, j) };
            f64::from(t.as_slice::<f32>()[i * t.shape()[1] + j])
        };
        let size = |t: &Tensor, swap: bool| match swap {
            true => (t.shape()[1], t.shape()[0]),
            false => (t.shape()[0], t.shape()[1]),
        };
        let ((m, k), (_, n)) = (size(a, op.trans_a), size(b, op.trans_b));
        let sum = |i, j| -> f64 {
            (0..k).map(|p| at(a, op.trans_a, i, p) * at(b, op.trans_b, p, j)).sum()
        };
        (0..m * n).map(|ij| f64::from(op.alpha) * sum(ij / n, ij % n)).collect()
    }

    #[test]
    fn every_isa_multiplies_as_the_definition_says() {
        for isa in Isa::available() {
            for (m, n, k) in [(1, 1, 1), (1, 37, 65), (3, 1, 9), (17, 33, 40), (30, 40, 130)] {
                for trans in 0..4 {
                    let op = MatMul {
                        trans_a: trans & 1 > 0,
                        trans_b: trans & 2 > 0,
                        alpha: 0.5,
                        activation: None,
                    };
                    let a = numbers(&if op.trans_a { [k, m] } else { [m, k] }, 1);
                    let b = numbers(&if op.trans_b { [n, k] } else { [k, n] }, 2);
                    let want = plain(&op, &a, &b);
                    let y = run1(isa, op, &[a, b]).unwrap();
                    for (&y, want) in y.as_slice::<f32>().iter().zip(want) {
                        assert!((f64::from(y) - want).abs() < 1e-3 * (1.0 + want.abs()));
                    }
                }
            }
        }
    }

    #[test]
    fn batches_broadcast() {
        let a = t(&[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let b = t(&[2, 2, 1], &[1.0, 1.0, 10.0, 100.0]);
        let y = run1(Isa::best(), MatMul::PLAIN, &[a, b]).unwrap();
        assert_eq!(y, t(&[2, 2, 1, 1], &[3.0, 210.0, 7.0, 430.0]));
    }

    #[test]
    fn vectors_are_rows_and_columns() {
        let (a, b) = (t(&[2], &[1.0, 2.0]), t(&[2], &[3.0, 4.0]));
        let y = run1(Isa::best(), MatMul::PLAIN, &[a.clone(), b]).unwrap();
        assert_eq!(y, Tensor::scalar(11.0f32));
        let b = t(&[2, 2, 1], &[1.0, 1.0, 10.0, 100.0]);
        let y = run1(Isa::best(), MatMul::PLAIN, &[a, b]).unwrap();
        assert_eq!(y, t(&[2, 1], &[3.0, 210.0]));
    }

    #[test]
    fn bias_residual_and_activation_follow_the_sum() {
        let op = MatMul { activation: Some(rinfer_graph::ops::Activation::Relu), ..MatMul::PLAIN };
        let inputs = [
            t(&[2, 1], &[1.0, -1.0]),
            t(&[1, 2], &[1.0, 2.0]),
            t(&[2], &[0.5, 0.0]),
            t(&[2, 2], &[0.0, 1.0, 2.0, 0.0]),
        ];
        let y = run1(Isa::best(), op, &inputs).unwrap();
        assert_eq!(y, t(&[2, 2], &[1.5, 3.0, 1.5, 0.0]));
    }

    #[test]
    fn an_empty_sum_is_the_bias() {
        let inputs = [t(&[2, 0], &[]), t(&[0, 2], &[]), t(&[1], &[7.0])];
        let y = run1(Isa::best(), MatMul::PLAIN, &inputs).unwrap();
        assert_eq!(y, t(&[2, 2], &[7.0; 4]));
        let y = run1(Isa::best(), MatMul::PLAIN, &[t(&[0, 3], &[]), t(&[3, 2], &[1.0; 6])]);
        assert_eq!(y.unwrap().shape(), [0, 2]);
    }

    #[test]
    fn integers_wrap_and_halves_round_once() {
        let y = run1(
            Isa::best(),
            MatMul::PLAIN,
            &[Tensor::vector(&[i32::MAX, 1]), Tensor::vector(&[1, 1])],
        );
        assert_eq!(y.unwrap(), Tensor::scalar(i32::MIN));
        let half = |x: f32| f16::from_f32(x);
        let a = Tensor::vector(&[half(2048.0), half(1.0), half(1.0)]);
        let b = Tensor::vector(&[half(1.0); 3]);
        let y = run_opt(Isa::best(), MatMul::PLAIN, &[Some(a.into()), Some(b.into())], 1).unwrap();
        assert_eq!(y[0], Value::Tensor(Tensor::scalar(half(2050.0))));
    }
}
