//! CumSum and CumProd: sums and products of all elements up to each one along an axis.
//!
//! Half precision is accumulated in f32 and rounded for each result; integers wrap.

use half::{bf16, f16};
use rinfer_graph::ops::{Accumulate, Axis, Cumulative};
use rinfer_graph::{Element, Reason, invalid, unsupported, with_dtype};

use crate::kernel::{Args, Cx, Kernel};
use crate::par;

/// An element, and what it is accumulated in.
trait Term: Element {
    type Sum: Copy + Send + Sync;
    const ZERO: Self::Sum;
    const ONE: Self::Sum;
    fn add(a: Self::Sum, x: Self) -> Self::Sum;
    fn mul(a: Self::Sum, x: Self) -> Self::Sum;
    fn result(a: Self::Sum) -> Self;
}

macro_rules! terms {
    ($($T:ty, $Sum:ty: $zero:expr, $one:expr, $a:ident $x:ident,
        $add:expr, $mul:expr, $result:expr;)*) => { $(
        impl Term for $T {
            type Sum = $Sum;
            const ZERO: $Sum = $zero;
            const ONE: $Sum = $one;
            fn add($a: $Sum, $x: $T) -> $Sum {
                $add
            }
            fn mul($a: $Sum, $x: $T) -> $Sum {
                $mul
            }
            fn result($a: $Sum) -> $T {
                $result
            }
        }
    )* };
}
terms! {
    i32, i32: 0, 1, a x, a.wrapping_add(x), a.wrapping_mul(x), a;
    i64, i64: 0, 1, a x, a.wrapping_add(x), a.wrapping_mul(x), a;
    u32, u32: 0, 1, a x, a.wrapping_add(x), a.wrapping_mul(x), a;
    u64, u64: 0, 1, a x, a.wrapping_add(x), a.wrapping_mul(x), a;
    f32, f32: 0.0, 1.0, a x, a + x, a * x, a;
    f64, f64: 0.0, 1.0, a x, a + x, a * x, a;
    f16, f32: 0.0, 1.0, a x, a + x.to_f32(), a * x.to_f32(), f16::from_f32(a);
    bf16, f32: 0.0, 1.0, a x, a + x.to_f32(), a * x.to_f32(), bf16::from_f32(a);
}

pub(super) fn compile(op: &Cumulative, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (op, dtype) = (op.clone(), cx.dtype(0)?);
    with_dtype!(dtype, [f32, f64, i32, i64, u32, u64, f16, bf16], T => {
        Ok(Kernel::new(move |args| run::<T>(&op, args)))
    }, else Err(unsupported!("Cum{:?} of {dtype} is not supported", op.kind)))
}

fn run<T: Term>(op: &Cumulative, args: &mut Args<'_>) -> Result<(), Reason> {
    let (x, axis) = (args.input(0)?, args.input(1)?.to_ints());
    let axis = match axis.as_deref() {
        Some([axis]) => Axis(*axis).resolve(x.rank())?,
        _ => return Err(invalid!("the axis is not one integer")),
    };
    let n = x.shape()[axis];
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let (cx, x) = (args.cx, x.as_slice::<T>());
    let y = args.outputs[0].as_mut_slice::<T>();
    if y.is_empty() {
        return Ok(());
    }
    let (start, step): (T::Sum, fn(T::Sum, T) -> T::Sum) = match op.kind {
        Accumulate::Sum => (T::ZERO, T::add),
        Accumulate::Prod => (T::ONE, T::mul),
    };
    let block = n * inner;
    par::zip_chunks((x, block), (y, block), par::grain(block), |_, x, y| {
        if cx.check().is_err() {
            return;
        }
        let mut sums = vec![start; inner];
        for r in 0..n {
            let r = if op.reverse { n - 1 - r } else { r };
            let rows = x[r * inner..][..inner].iter().zip(&mut y[r * inner..][..inner]);
            for ((x, y), sum) in rows.zip(&mut sums) {
                let with = step(*sum, *x);
                *y = T::result(if op.exclusive { *sum } else { with });
                *sum = with;
            }
        }
    });
    cx.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    fn check(kind: Accumulate, exclusive: bool, reverse: bool, axis: i64, expected: &[f32]) {
        let x = Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let op = Cumulative { kind, exclusive, reverse };
        let y = run1(Isa::best(), op, &[x, Tensor::scalar(axis)]).unwrap();
        assert_eq!(y.as_slice::<f32>(), expected);
    }

    #[test]
    fn sums_run_along_the_axis_in_either_direction() {
        use Accumulate::{Prod, Sum};
        check(Sum, false, false, 1, &[1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
        check(Sum, true, false, -1, &[0.0, 1.0, 3.0, 0.0, 4.0, 9.0]);
        check(Sum, false, true, 1, &[6.0, 5.0, 3.0, 15.0, 11.0, 6.0]);
        check(Sum, false, false, 0, &[1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
        check(Prod, false, false, 1, &[1.0, 2.0, 6.0, 4.0, 20.0, 120.0]);
        check(Prod, true, true, 1, &[6.0, 3.0, 1.0, 30.0, 6.0, 1.0]);
    }

    #[test]
    fn halves_do_not_stall_at_their_precision() {
        let x = Tensor::vector(&[f16::ONE; 3000]);
        let op = Cumulative { kind: Accumulate::Sum, exclusive: false, reverse: false };
        let y = run1(Isa::best(), op, &[x, Tensor::scalar(0i64)]).unwrap();
        assert_eq!(y.as_slice::<f16>()[2999], f16::from_f32(3000.0));
    }
}
