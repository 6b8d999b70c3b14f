//! MatMul: one product for each matrix of the batch, or one for all where b is the same for all.
//!
//! a [.., m, k] · b [.., k, n] + bias [n] + residual [.., m, n]  →  y [.., m, n]

use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::MatMul;
use rinfer_graph::shape::Sizes;
use rinfer_graph::{DType, Element, Reason, Tensor, invalid, unsupported};
use smallvec::SmallVec;

use crate::kernel::{Args, Cx, Kernel, limit};
use crate::math::Activation;
use crate::math::activation::activate;
use crate::pool::with_scratch;
use crate::simd::Isa;
use crate::{convert, par};

/// Sizes and places of every matrix of a batched product.
#[derive(Clone, Debug)]
struct Plan {
    m: usize,
    n: usize,
    k: usize,
    /// Elements from one row of op(a) to the next, and from one column to the next.
    a: [usize; 2],
    /// The same of op(b).
    b: [usize; 2],
    /// Axes of the batch: size, step in a, step in b (0 where broadcast).
    batch: SmallVec<[[usize; 3]; 4]>,
    /// Products in the batch.
    count: usize,
}

impl Plan {
    fn new(op: &MatMul, a: &[usize], b: &[usize]) -> Result<Plan, Reason> {
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
        Ok(Plan { m, n, k, a: a_step, b: b_step, batch, count }.folded(op.trans_a))
    }

    /// One product of all rows where every matrix of the batch meets the same b.
    fn folded(mut self, trans_a: bool) -> Plan {
        if !trans_a && self.batch.iter().all(|d| d[2] == 0) {
            self.m *= self.count;
            self.count = 1;
            self.batch.clear();
        }
        self
    }

    /// Where the matrices of product `i` begin in a and in b.
    fn at(&self, mut i: usize) -> (usize, usize) {
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
    let plan = Plan::new(op, &cx.sizes(0)?, &cx.sizes(1)?)?;
    let (dtype, isa) = (cx.dtype(0)?, cx.isa);
    let after = After {
        alpha: op.alpha,
        activation: op.activation.map(Activation::from).unwrap_or_default(),
    };
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) && !after.is_plain() {
        let plain_f64 = dtype == DType::F64 && after.activation == Activation::None;
        if !plain_f64 {
            return Err(unsupported!("a product of {dtype} matrices with {after:?}"));
        }
    }
    Ok(match dtype {
        DType::F32 => Kernel::new(move |args| {
            let (a, b) = (args.input(0)?.as_slice(), args.input(1)?.as_slice());
            let add = added(args, |t| t.as_slice::<f32>());
            let y = args.outputs[0].as_mut_slice();
            products(&plan, a, b, y, args.cx)?;
            after.apply(isa, &plan, add, y);
            Ok(())
        }),
        DType::F16 | DType::BF16 => Kernel::new(move |args| half(isa, &plan, after, args)),
        DType::F64 => Kernel::new(move |args| generic(&plan, f64::from(after.alpha), args)),
        DType::I32 => Kernel::new(move |args| generic(&plan, 1i32, args)),
        DType::I64 => Kernel::new(move |args| generic(&plan, 1i64, args)),
        DType::U32 => Kernel::new(move |args| generic(&plan, 1u32, args)),
        DType::U64 => Kernel::new(move |args| generic(&plan, 1u64, args)),
        dtype => return Err(unsupported!("a product of {dtype} matrices is not supported")),
    })
}

/// What is done to the sums.
#[derive(Clone, Copy, Debug)]
struct After {
    alpha: f32,
    activation: Activation,
}

impl After {
    fn is_plain(&self) -> bool {
        self.alpha == 1.0 && self.activation == Activation::None
    }

    /// `y = activation(alpha · y + bias + residual)`
    fn apply(&self, isa: Isa, plan: &Plan, add: Added<'_, f32>, y: &mut [f32]) {
        if self.is_plain() && add.bias.is_none() && add.residual.is_none() {
            return;
        }
        par::rows(y, plan.n, plan.n, |rows, y| {
            for (r, y) in rows.zip(y.chunks_mut(plan.n.max(1))) {
                add.row(self.alpha, r, y);
            }
            activate(isa, self.activation, y);
        });
    }
}

/// What is added to the sums.
#[derive(Clone, Copy)]
struct Added<'a, T> {
    /// A row, or one number for all.
    bias: Option<&'a [T]>,
    /// As many as there are sums.
    residual: Option<&'a [T]>,
}

fn added<'a, T>(args: &Args<'a>, read: impl Fn(&'a Tensor) -> &'a [T]) -> Added<'a, T> {
    Added { bias: args.opt(2).map(&read), residual: args.opt(3).map(&read) }
}

impl<T: Number> Added<'_, T> {
    /// `y = alpha · y + bias + residual`, for row `r`.
    fn row(&self, alpha: T, r: usize, y: &mut [T]) {
        if alpha != T::ONE {
            y.iter_mut().for_each(|y| *y = y.times(alpha));
        }
        match self.bias {
            Some([x]) => y.iter_mut().for_each(|y| *y = y.plus(*x)),
            Some(x) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = y.plus(x)),
            None => {}
        }
        if let Some(x) = self.residual {
            let x = &x[r * y.len()..];
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = y.plus(x));
        }
    }
}

/// A number that sums and multiplies as its type does; integers wrap.
trait Number: Element {
    const ONE: Self;
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}

macro_rules! numbers {
    ($($T:ty = $one:literal, $plus:path, $times:path;)*) => { $(impl Number for $T {
        const ONE: $T = $one;
        #[inline(always)]
        fn plus(self, other: $T) -> $T {
            $plus(self, other)
        }
        #[inline(always)]
        fn times(self, other: $T) -> $T {
            $times(self, other)
        }
    })* };
}
numbers! {
    f32 = 1.0, std::ops::Add::add, std::ops::Mul::mul;
    f64 = 1.0, std::ops::Add::add, std::ops::Mul::mul;
    i32 = 1, i32::wrapping_add, i32::wrapping_mul;
    i64 = 1, i64::wrapping_add, i64::wrapping_mul;
    u32 = 1, u32::wrapping_add, u32::wrapping_mul;
    u64 = 1, u64::wrapping_add, u64::wrapping_mul;
}

/// Types that have no kernel of their own: plain loops.
fn generic<T: Number>(plan: &Plan, alpha: T, args: &mut Args<'_>) -> Result<(), Reason> {
    let (a, b) = (args.input(0)?.as_slice(), args.input(1)?.as_slice());
    let add = added(args, |t| t.as_slice::<T>());
    let y = args.outputs[0].as_mut_slice();
    products(plan, a, b, y, args.cx)?;
    for (r, y) in y.chunks_mut(plan.n.max(1)).enumerate() {
        add.row(alpha, r, y);
    }
    Ok(())
}

/// Every product of the batch, row by row.
fn products<T: Number>(
    plan: &Plan,
    a: &[T],
    b: &[T],
    y: &mut [T],
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    let failure = par::Failure::default();
    let row_ns = plan.n.saturating_mul(plan.k) / 2;
    par::rows(y, plan.n, row_ns, |rows, y| {
        for (r, y) in rows.zip(y.chunks_mut(plan.n.max(1))) {
            failure.attempt(|| {
                let (a0, b0) = plan.at(r / plan.m);
                row(plan, &a[a0 + r % plan.m * plan.a[0]..], &b[b0..], y);
                cx.check()
            });
        }
    });
    failure.result()
}

/// One row of a product: `y[j] = Σ a[p] · b[p, j]`.
fn row<T: Number>(plan: &Plan, a: &[T], b: &[T], y: &mut [T]) {
    y.fill(T::default());
    for p in 0..plan.k {
        let (x, b) = (a[p * plan.a[1]], &b[p * plan.b[0]..]);
        match plan.b[1] {
            1 => y.iter_mut().zip(b).for_each(|(y, &b)| *y = y.plus(x.times(b))),
            step => {
                for (y, &b) in y.iter_mut().zip(b.iter().step_by(step)) {
                    *y = y.plus(x.times(b));
                }
            }
        }
    }
}

/// f16 and bf16: widened, multiplied in f32, rounded once.
fn half(isa: Isa, plan: &Plan, after: After, args: &mut Args<'_>) -> Result<(), Reason> {
    let inputs: [Option<&Tensor>; 4] = std::array::from_fn(|i| args.opt(i));
    let lens = inputs.map(|t| t.map_or(0, Tensor::len));
    let total = lens.iter().sum::<usize>() + args.outputs[0].len();
    with_scratch(total, |scratch| {
        let (mut parts, mut rest): ([&[f32]; 4], _) = ([&[]; 4], scratch);
        for (i, (tensor, len)) in inputs.iter().zip(lens).enumerate() {
            let (part, left) = rest.split_at_mut(len);
            if let Some(tensor) = tensor {
                convert::read(isa, tensor, 0, part)?;
            }
            (parts[i], rest) = (part, left);
        }
        products(plan, parts[0], parts[1], rest, args.cx)?;
        let [bias, residual] = [2, 3].map(|i| inputs[i].map(|_| parts[i]));
        after.apply(isa, plan, Added { bias, residual }, rest);
        convert::write(isa, rest, &mut args.outputs[0], 0)
    })
    .map_err(limit)?
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
            for (m, n, k) in [(1, 1, 1), (1, 37, 65), (3, 1, 9), (17, 33, 40), (70, 100, 300)] {
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
