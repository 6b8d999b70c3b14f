//! Unary: y = f(x), element by element.
use half::{bf16, f16};
use rinfer_graph::float8::{F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ};
use rinfer_graph::ops::{Unary, UnaryFn};
use rinfer_graph::{Bool, DType, Element, Reason, unsupported, with_dtype};

use crate::elementwise::number::{Int, Number};
use crate::elementwise::{Side, float, half as halves, ints, map, real};
use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &Unary, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (f, dtype, isa) = (op.0, cx.dtype(0)?, cx.isa);
    let ps = cost(f, dtype);
    if matches!(f, UnaryFn::IsInf { .. } | UnaryFn::IsNaN) {
        return test(f, dtype);
    }
    let kernel = match dtype {
        DType::F32 => {
            Kernel::new(move |args| map::<f32, f32>(args, ps, |x, y| float::unary(isa, f, x, y)))
        }
        DType::F16 | DType::BF16 => with_dtype!(dtype, [f16, bf16], T => {
            Kernel::new(move |args| {
                map::<T, T>(args, ps, |x, y| {
                    halves::map(isa, x, y, |wide| float::unary(isa, f, None, wide))
                })
            })
        }, else return Err(unsupported!("{f} of {dtype} is not supported"))),
        DType::F64 => Kernel::new(move |args| {
            map::<f64, f64>(args, ps, |x, y| over(x, y, |x| real::unary(f, x)))
        }),
        DType::Bool => Kernel::new(move |args| {
            map::<Bool, Bool>(args, ps, |x, y| over(x, y, |x| Bool::from(!x.get())))
        }),
        _ if ints::is_narrow(dtype) => {
            let run = integers::<i64>(f, dtype)?;
            Kernel::new(move |args| ints::map(args, 1_000, &|y| run(f, None, y)))
        }
        _ => with_dtype!(dtype, [i32, i64, u64], T => {
            let run = integers::<T>(f, dtype)?;
            Kernel::new(move |args| map::<T, T>(args, 300, |x, y| run(f, x, y)))
        }, else return Err(unsupported!("{f} of {dtype} is not supported"))),
    };
    Ok(kernel.in_place(&[0]))
}

/// What one element costs, in picoseconds.
fn cost(f: UnaryFn, dtype: DType) -> usize {
    use UnaryFn::*;
    match f {
        Abs | Neg | Relu | Ceil | Floor | Round | LeakyRelu { .. } | HardSwish | Not => 300,
        _ if dtype == DType::F64 => 20_000,
        Acos | Acosh | Asin | Asinh | Atan | Atanh | Cos | Cosh | Sin | Sinh | Tan => 20_000,
        _ => 2_000,
    }
}

fn over<T: Element>(x: Side<'_, T>, y: &mut [T], f: impl Fn(T) -> T) {
    match x {
        None => y.iter_mut().for_each(|y| *y = f(*y)),
        Some(x) => x.iter().zip(y).for_each(|(&x, y)| *y = f(x)),
    }
}

type Run<T> = fn(UnaryFn, Side<'_, T>, &mut [T]);

fn integers<T: Int>(f: UnaryFn, dtype: DType) -> Result<Run<T>, Reason> {
    Ok(match f {
        UnaryFn::Abs => |_, x, y| over(x, y, Number::abs),
        UnaryFn::BitwiseNot => |_, x, y| over(x, y, Int::not),
        UnaryFn::Neg => |_, x, y| over(x, y, |x| T::ZERO.sub(x)),
        UnaryFn::Relu => |_, x, y| over(x, y, |x| Number::max(x, T::ZERO)),
        UnaryFn::Sign => |_, x, y| over(x, y, Number::sign),
        UnaryFn::Shrink { .. } => {
            |f, x, y| over(x, y, |x: T| T::wrap(real::unary(f, x.to_f64()) as i64))
        }
        _ => return Err(unsupported!("{f} of {dtype} is not supported")),
    })
}

/// IsInf and IsNaN.
fn test(f: UnaryFn, dtype: DType) -> Result<Kernel, Reason> {
    fn kernel<T: Element>(f: UnaryFn, wide: fn(T) -> f64) -> Kernel {
        Kernel::new(move |args| {
            map::<T, Bool>(args, 2_000, |x, y| {
                let x = x.unwrap_or(&[]);
                x.iter().zip(y).for_each(|(&x, y)| *y = Bool::from(real::is(f, wide(x))));
            })
        })
    }
    Ok(match dtype {
        DType::F64 => kernel::<f64>(f, |x| x),
        DType::F32 => kernel::<f32>(f, f64::from),
        DType::F16 => kernel::<f16>(f, |x| x.to_f32().into()),
        DType::BF16 => kernel::<bf16>(f, |x| x.to_f32().into()),
        DType::F8E4M3FN => kernel::<F8E4M3FN>(f, |x| x.to_f32().into()),
        DType::F8E4M3FNUZ => kernel::<F8E4M3FNUZ>(f, |x| x.to_f32().into()),
        DType::F8E5M2 => kernel::<F8E5M2>(f, |x| x.to_f32().into()),
        DType::F8E5M2FNUZ => kernel::<F8E5M2FNUZ>(f, |x| x.to_f32().into()),
        _ => return Err(unsupported!("{f} of {dtype} is not supported")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    fn check<T: Element, Y: Element>(f: UnaryFn, x: &[T], y: &[Y]) {
        for isa in Isa::available() {
            let made = run1(isa, Unary(f), &[Tensor::vector(x)]).unwrap();
            assert_eq!(made.as_slice::<Y>(), y, "{f} on {}", isa.name());
        }
    }

    #[test]
    fn functions_take_every_dtype_they_are_defined_on() {
        check(UnaryFn::Relu, &[-1.0f32, 2.0], &[0.0f32, 2.0]);
        check(UnaryFn::Relu, &[-1i8, 2], &[0i8, 2]);
        check(UnaryFn::Abs, &[i32::MIN, -2], &[i32::MIN, 2]);
        check(UnaryFn::Abs, &[3u8], &[3u8]);
        check(UnaryFn::Sqrt, &[f16::from_f32(9.0)], &[f16::from_f32(3.0)]);
        check(UnaryFn::Neg, &[bf16::from_f32(9.0)], &[bf16::from_f32(-9.0)]);
        check(UnaryFn::Round, &[0.5f64, 1.5, -2.5], &[0.0f64, 2.0, -2.0]);
        check(UnaryFn::Not, &[Bool(0), Bool(1)], &[Bool(1), Bool(0)]);
        check(UnaryFn::BitwiseNot, &[0u16, 1], &[65535u16, 65534]);
        check(UnaryFn::Sign, &[-3i64, 0, 7], &[-1i64, 0, 1]);
    }

    #[test]
    fn shrink_of_integers_goes_through_floats() {
        let f = UnaryFn::Shrink { bias: 1.0, lambd: 1.5 };
        check(f, &[-3i32, -1, 0, 1, 2], &[-2i32, 0, 0, 0, 1]);
    }

    #[test]
    fn infinities_are_found_by_sign() {
        let f = UnaryFn::IsInf { negative: false, positive: true };
        let x = [f32::INFINITY, f32::NEG_INFINITY, 1.0, f32::NAN];
        check(f, &x, &[Bool(1), Bool(0), Bool(0), Bool(0)]);
        check(UnaryFn::IsNaN, &[F8E4M3FNUZ(0x80), F8E4M3FNUZ(1)], &[Bool(1), Bool(0)]);
    }

    #[test]
    fn large_and_empty_tensors_are_filled() {
        let x: Vec<f32> = (0..20_011).map(|i| i as f32 - 9000.0).collect();
        let y: Vec<f32> = x.iter().map(|x| x.max(0.0)).collect();
        check(UnaryFn::Relu, &x, &y);
        check::<f32, f32>(UnaryFn::Exp, &[], &[]);
    }
}
