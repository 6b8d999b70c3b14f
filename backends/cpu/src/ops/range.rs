//! Range: start + i · delta, each element by itself.
use half::{bf16, f16};
use rinfer_graph::ops::{Range, number};
use rinfer_graph::{Reason, Tensor, invalid, unsupported, with_dtype};

use super::copy::by_rows;
use crate::kernel::{Cx, Kernel};

/// A number that ranges are made of.
trait Step: rinfer_graph::Element {
    /// A start or a delta.
    type Exact: Copy + Send + Sync;
    fn read(x: &Tensor) -> Result<Self::Exact, Reason>;
    fn at(start: Self::Exact, delta: Self::Exact, i: usize) -> Self;
}

macro_rules! steps {
    ($($t:ty)*) => {$(
        impl Step for $t {
            type Exact = $t;
            fn read(x: &Tensor) -> Result<$t, Reason> {
                x.as_slice::<$t>().first().copied().ok_or_else(|| invalid!("{x:?} is empty"))
            }
            fn at(start: $t, delta: $t, i: usize) -> $t {
                start.wrapping_add(delta.wrapping_mul(i as $t))
            }
        }
    )*};
}
macro_rules! float_steps {
    ($($t:ty, $x:ident => $from:expr;)*) => {$(
        impl Step for $t {
            type Exact = f64;
            fn read(x: &Tensor) -> Result<f64, Reason> {
                number(x)
            }
            fn at(start: f64, delta: f64, i: usize) -> $t {
                let $x = start + i as f64 * delta;
                $from
            }
        }
    )*};
}
steps!(i16 i32 i64);
float_steps! {
    f16, x => f16::from_f64(x);
    bf16, x => bf16::from_f64(x);
    f32, x => x as f32;
    f64, x => x;
}

pub(super) fn compile(_: &Range, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let dtype = cx.dtype(0)?;
    with_dtype!(dtype, [f32, f64, f16, bf16, i16, i32, i64], T => Ok(Kernel::new(|args| {
        let (start, delta) = (T::read(args.input(0)?)?, T::read(args.input(2)?)?);
        by_rows(args.cx, args.outputs[0].as_mut_slice::<T>(), 1, |at, y| {
            for (y, i) in y.iter_mut().zip(at) {
                *y = T::at(start, delta, i);
            }
        })
    })), else Err(unsupported!("Range of {dtype} is not supported")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    #[test]
    fn steps_lead_from_start_to_limit() {
        let range = |v: [Tensor; 3]| run1(Isa::best(), Range, &v).unwrap();
        let y = range([10i32, 4, -2].map(Tensor::scalar));
        assert_eq!(y.as_slice::<i32>(), [10, 8, 6]);
        let y = range([0f32, 1.0, 0.25].map(Tensor::scalar));
        assert_eq!(y.as_slice::<f32>(), [0.0, 0.25, 0.5, 0.75]);
        assert!(range([5i64, 5, 1].map(Tensor::scalar)).is_empty());
    }
}
