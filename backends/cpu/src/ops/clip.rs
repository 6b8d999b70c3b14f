//! Clip: y = min(max(x, lo), hi), bounds read when it runs.
use half::{bf16, f16};
use rinfer_graph::{DType, Element, Reason, Tensor, invalid, unsupported, with_dtype};

use crate::elementwise::number::Number;
use crate::elementwise::{Side, float, half as halves, ints, map};
use crate::kernel::{Args, Cx, Kernel};

pub(super) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (dtype, isa) = (cx.dtype(0)?, cx.isa);
    let kernel = match dtype {
        DType::F32 => Kernel::new(move |args| {
            let (lo, hi) = float_bounds(args)?;
            map::<f32, f32>(args, 300, |x, y| float::clip(isa, x, lo, hi, y))
        }),
        DType::F16 | DType::BF16 => with_dtype!(dtype, [f16, bf16], T => {
            Kernel::new(move |args| {
                let (lo, hi) = float_bounds(args)?;
                map::<T, T>(args, 600, |x, y| {
                    halves::map(isa, x, y, |wide| float::clip(isa, None, lo, hi, wide))
                })
            })
        }, else return Err(unsupported!("Clip of {dtype} is not supported"))),
        _ if dtype != DType::Bool && ints::is_narrow(dtype) => Kernel::new(move |args| {
            let bound = |i| Ok::<_, Reason>(scalar(args, i)?.and_then(Tensor::to_ints));
            let [lo, hi] = [bound(1)?, bound(2)?].map(|bound| bound.map(|bound| bound[0]));
            ints::map(args, 1_000, &|y| clip(None, lo, hi, y))
        }),
        _ => with_dtype!(dtype, [f64, i32, i64, u64], T => {
            Kernel::new(move |args| {
                let (lo, hi) = (bound::<T>(args, 1)?, bound::<T>(args, 2)?);
                map::<T, T>(args, 600, |x, y| clip(x, lo, hi, y))
            })
        }, else return Err(unsupported!("Clip of {dtype} is not supported"))),
    };
    Ok(kernel.in_place(&[0]))
}

/// The bound's only element, if it is given.
fn scalar<'a>(args: &Args<'a>, i: usize) -> Result<Option<&'a Tensor>, Reason> {
    match args.opt(i) {
        Some(t) if t.len() != 1 => Err(invalid!("bound {i} has {} elements, not 1", t.len())),
        bound => Ok(bound),
    }
}

fn bound<T: Element>(args: &Args<'_>, i: usize) -> Result<Option<T>, Reason> {
    Ok(scalar(args, i)?.map(|t| t.as_slice::<T>()[0]))
}

fn float_bounds(args: &Args<'_>) -> Result<(f32, f32), Reason> {
    let get = |i, default: f32| Ok(scalar(args, i)?.and_then(Tensor::to_f32).unwrap_or(default));
    Ok((get(1, f32::NEG_INFINITY)?, get(2, f32::INFINITY)?))
}

/// NaN stays NaN: it is neither below nor above a bound.
fn clip<T: Number>(x: Side<'_, T>, lo: Option<T>, hi: Option<T>, y: &mut [T]) {
    if let Some(x) = x {
        y.copy_from_slice(x);
    }
    if let Some(lo) = lo {
        y.iter_mut().for_each(|y| *y = if *y < lo { lo } else { *y });
    }
    if let Some(hi) = hi {
        y.iter_mut().for_each(|y| *y = if *y > hi { hi } else { *y });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run_opt;
    use crate::simd::Isa;
    use rinfer_graph::ops::Clip;

    fn check<T: Element>(x: &[T], lo: Option<T>, hi: Option<T>, y: &[T]) {
        let bound = |b: Option<T>| b.map(|b| Tensor::scalar(b).into());
        for isa in Isa::available() {
            let inputs = [Some(Tensor::vector(x).into()), bound(lo), bound(hi)];
            let made = run_opt(isa, Clip, &inputs, 1).unwrap().remove(0).into_tensor().unwrap();
            assert_eq!(made.as_slice::<T>(), y, "on {}", isa.name());
        }
    }

    #[test]
    fn bounds_may_be_omitted() {
        check(&[-2.0f32, 0.5, 2.0], Some(-1.0), Some(1.0), &[-1.0, 0.5, 1.0]);
        check(&[-2i8, 0, 2], None, Some(1), &[-2, 0, 1]);
        check(&[-2i64, 0, 2], Some(-1), None, &[-1, 0, 2]);
        let h = f16::from_f32;
        check(&[h(-2.0), h(2.0)], Some(h(-1.0)), None, &[h(-1.0), h(2.0)]);
    }

    #[test]
    fn the_upper_bound_wins_where_they_cross() {
        check(&[-2.0f32, 0.0, 2.0], Some(1.0), Some(-1.0), &[-1.0, -1.0, -1.0]);
        check(&[-2.0f64, 0.0, 2.0], Some(1.0), Some(-1.0), &[-1.0, -1.0, -1.0]);
    }
}
