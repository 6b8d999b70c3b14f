//! Binary: y = f(a, b), element by element, shapes broadcast.
use half::{bf16, f16};
use rinfer_graph::ops::{Binary, BinaryFn, Operand, Pointwise, Step};
use rinfer_graph::{
    Bool, DType, Element, Reason, Strings, Value, invalid, unsupported, with_dtype,
};

use super::{cast, pointwise};
use crate::convert::Float;
use crate::elementwise::number::{Int, Number, compare};
use crate::elementwise::{Broadcast, each, float, half as halves, ints, staged, zip};
use crate::kernel::{Cx, Kernel, limit};
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// Runs with fewer elements are short.
const SHORT: usize = 48;
/// Elements worth a call of their own.
const TILE: usize = 1024;

pub(super) fn compile(op: &Binary, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (f, dtype) = (op.0, cx.dtype(0)?);
    if dtype == DType::String {
        return Ok(equal_strings());
    }
    let (a, b, out) = (cx.sizes(0)?, cx.sizes(1)?, cx.out_sizes(0)?);
    let plan = Broadcast::new(&[&a, &b], &out)?;
    if f == BinaryFn::Pow && cx.dtype(1)? != dtype {
        return mixed_power(dtype, plan);
    }
    if f.compares() {
        return comparison(cx.isa, f, dtype, plan);
    }
    let short = dtype == DType::F32 && plan.run_len() < TILE / 2 && !plan.is_empty();
    let repeated = plan.repeated().filter(|_| short);
    if dtype == DType::F32
        && repeated.is_none()
        && plan.run_len() < SHORT
        && plan.len() > SHORT * SHORT
    {
        // Runs of a few elements cost more to begin than to compute: a program gathers them first.
        let step = Step::Binary(f, Operand::Input(0), Operand::Input(1));
        let program = Pointwise::new(2, vec![step], &[(Operand::Step(0), dtype)])?;
        return pointwise::compile(&program, cx);
    }
    let kernel = match repeated {
        Some(row) => repeating(cx.isa, f, plan.run_len(), row),
        None => arithmetic(cx.isa, f, dtype, plan)?,
    };
    let whole: Vec<usize> =
        [&a, &b].iter().enumerate().filter(|(_, s)| ***s == out).map(|(i, _)| i).collect();
    Ok(kernel.in_place(&whole))
}

/// A function of which operand `row` is the same for every `len` elements: several copies of it
/// side by side meet as many rows of the other operand in one call.
fn repeating(isa: Isa, f: BinaryFn, len: usize, row: usize) -> Kernel {
    let (ps, tile) = (cost(f), TILE / len * len);
    Kernel::new(move |args| {
        let cx = args.cx;
        let whole = args.opt(1 - row).map(|x| x.as_slice::<f32>());
        let one = args.input(row)?.as_slice::<f32>();
        let y = args.outputs[0].as_mut_slice::<f32>();
        with_scratch(tile, |rows| {
            rows.chunks_exact_mut(len).for_each(|to| to.copy_from_slice(one));
            let rows = &*rows;
            par::chunks_mut(y, tile, par::grain(tile * ps / 1000), |i, y| {
                let whole = whole.map(|x| &x[i * tile..][..y.len()]);
                let rows = Some(&rows[..y.len()]);
                match row {
                    0 => float::binary(isa, f, rows, whole, y),
                    _ => float::binary(isa, f, whole, rows, y),
                }
            });
        })
        .map_err(limit)?;
        cx.check()
    })
    .takes(Scratch::floats(tile))
}

/// What one element of f32 costs, in picoseconds.
fn cost(f: BinaryFn) -> usize {
    if matches!(f, BinaryFn::Pow | BinaryFn::Mod { .. }) { 20_000 } else { 400 }
}

/// Functions whose result has the dtype of the operands.
fn arithmetic(isa: Isa, f: BinaryFn, dtype: DType, plan: Broadcast) -> Result<Kernel, Reason> {
    let ps = cost(f);
    Ok(match dtype {
        DType::F32 => Kernel::new(move |args| {
            zip::<f32, f32, f32>(args, &plan, ps, |a, b, y| float::binary(isa, f, a, b, y))
        }),
        DType::F16 | DType::BF16 => with_dtype!(dtype, [f16, bf16], T => {
            Kernel::new(move |args| {
                zip::<T, T, T>(args, &plan, ps, |a, b, y| {
                    staged(a, b, y, |a, b, y| half_binary(isa, f, a, b, y))
                })
            })
        }, else return Err(unsupported!("{f} of {dtype} is not supported"))),
        DType::F64 => over::<f64>(plan, numbers::<f64>(f).or_else(|| doubles(f)), f)?,
        DType::Bool => over::<Bool>(plan, logic(f), f)?,
        _ if ints::is_narrow(dtype) => narrow(f, dtype, plan)?,
        _ => with_dtype!(dtype, [i32, i64, u64], T => {
            let run = numbers::<T>(f).or_else(|| integers::<T>(f));
            match f {
                BinaryFn::Div | BinaryFn::Mod { .. } => divide::<T>(plan, run, f)?,
                _ => over::<T>(plan, run, f)?,
            }
        }, else return Err(unsupported!("{f} of {dtype} is not supported"))),
    })
}

type Run<T, Y> = fn(&[T], &[T], &mut [Y]);

/// A kernel around the loop of one function, if there is one.
fn over<T: Element>(
    plan: Broadcast,
    run: Option<Run<T, T>>,
    f: BinaryFn,
) -> Result<Kernel, Reason> {
    let run = run.ok_or_else(|| unsupported!("{f} of {} is not supported", T::DTYPE))?;
    Ok(Kernel::new(move |args| zip::<T, T, T>(args, &plan, 1000, |a, b, y| staged(a, b, y, run))))
}

/// Functions of integers that have no loops of their own; what they make wraps as it is written.
fn narrow(f: BinaryFn, dtype: DType, plan: Broadcast) -> Result<Kernel, Reason> {
    let run = numbers::<i64>(f).or_else(|| integers::<i64>(f));
    let run = run.ok_or_else(|| unsupported!("{f} of {dtype} is not supported"))?;
    let divides = matches!(f, BinaryFn::Div | BinaryFn::Mod { .. });
    Ok(Kernel::new(move |args| {
        let b = args.opt(1).unwrap_or(&args.outputs[0]);
        let zero = |b: &[u8]| b.iter().all(|&byte| byte == 0);
        if divides && !plan.is_empty() && b.as_bytes().chunks(dtype.size()).any(zero) {
            return Err(invalid!("division of {dtype} by zero"));
        }
        ints::zip(args, &plan, 3000, run)
    }))
}

/// Like [`over`], for functions that have no result for a divisor of 0.
fn divide<T: Number>(
    plan: Broadcast,
    run: Option<Run<T, T>>,
    f: BinaryFn,
) -> Result<Kernel, Reason> {
    let run = run.ok_or_else(|| unsupported!("{f} of {} is not supported", T::DTYPE))?;
    Ok(Kernel::new(move |args| {
        let b = args.opt(1).map_or_else(|| args.outputs[0].as_slice(), |b| b.as_slice::<T>());
        if !plan.is_empty() && b.contains(&T::ZERO) {
            return Err(invalid!("division of {} by zero", T::DTYPE));
        }
        zip::<T, T, T>(args, &plan, 2000, |a, b, y| staged(a, b, y, run))
    }))
}

fn numbers<T: Number>(f: BinaryFn) -> Option<Run<T, T>> {
    Some(match f {
        BinaryFn::Add => |a, b, y| each(a, b, y, Number::add),
        BinaryFn::Div => |a, b, y| each(a, b, y, Number::div),
        BinaryFn::Max => |a, b, y| each(a, b, y, Number::max),
        BinaryFn::Min => |a, b, y| each(a, b, y, Number::min),
        BinaryFn::Mod { fmod: true } => |a, b, y| each(a, b, y, Number::rem),
        BinaryFn::Mod { fmod: false } => |a, b, y| each(a, b, y, Number::modulo),
        BinaryFn::Mul => |a, b, y| each(a, b, y, Number::mul),
        BinaryFn::PRelu => |a, b, y| each(a, b, y, Number::prelu),
        BinaryFn::Sub => |a, b, y| each(a, b, y, Number::sub),
        _ => return None,
    })
}

fn integers<T: Int>(f: BinaryFn) -> Option<Run<T, T>> {
    Some(match f {
        BinaryFn::BitShift { left: true } => |a, b, y| each(a, b, y, Int::shl),
        BinaryFn::BitShift { left: false } => |a, b, y| each(a, b, y, Int::shr),
        BinaryFn::BitwiseAnd => |a, b, y| each(a, b, y, Int::and),
        BinaryFn::BitwiseOr => |a, b, y| each(a, b, y, Int::or),
        BinaryFn::BitwiseXor => |a, b, y| each(a, b, y, Int::xor),
        BinaryFn::Pow => |a, b, y| each(a, b, y, power::<T>),
        _ => return None,
    })
}

/// aᵇ for b of a's type.
fn power<T: Int>(a: T, b: T) -> T {
    let n = b.to_i64();
    a.pow(if b >= T::ZERO && n < 0 { huge(n) } else { n })
}

/// An exponent that stands for this u64 of 2⁶³ or more: powers of odd numbers repeat every 2⁶²,
/// those of even ones are 0 from the 64th on.
fn huge(n: i64) -> i64 {
    (n & i64::MAX) | 1 << 62
}

fn doubles(f: BinaryFn) -> Option<Run<f64, f64>> {
    Some(match f {
        BinaryFn::Pow => |a, b, y| each(a, b, y, f64::powf),
        _ => return None,
    })
}

fn logic(f: BinaryFn) -> Option<Run<Bool, Bool>> {
    Some(match f {
        BinaryFn::And => |a, b, y| each(a, b, y, |a: Bool, b: Bool| Bool::from(a.get() & b.get())),
        BinaryFn::Or => |a, b, y| each(a, b, y, |a: Bool, b: Bool| Bool::from(a.get() | b.get())),
        BinaryFn::Xor => |a, b, y| each(a, b, y, |a: Bool, b: Bool| Bool::from(a.get() ^ b.get())),
        _ => return None,
    })
}

fn half_binary<T: Float>(isa: Isa, f: BinaryFn, a: &[T], b: &[T], y: &mut [T]) {
    halves::for_blocks(isa, (a, b), y.len(), |a, b, range| {
        let mut wide = [0.0; crate::elementwise::BLOCK];
        let wide = &mut wide[..range.len()];
        float::binary(isa, f, Some(a), Some(b), wide);
        T::narrow(isa, wide, &mut y[range]);
    });
}

/// Equal, Less and their kin: bool.
fn comparison(isa: Isa, f: BinaryFn, dtype: DType, plan: Broadcast) -> Result<Kernel, Reason> {
    fn direct<T: Element + PartialOrd>(f: BinaryFn, plan: Broadcast) -> Kernel {
        Kernel::new(move |args| {
            zip::<T, T, Bool>(args, &plan, 400, |a, b, y| {
                compare(f, a.unwrap_or(&[]), b.unwrap_or(&[]), y)
            })
        })
    }
    Ok(match dtype {
        DType::F16 | DType::BF16 => with_dtype!(dtype, [f16, bf16], T => {
            Kernel::new(move |args| {
                zip::<T, T, Bool>(args, &plan, 800, |a, b, y| {
                    let sides = (a.unwrap_or(&[]), b.unwrap_or(&[]));
                    halves::for_blocks(isa, sides, y.len(), |a, b, range| {
                        compare(f, a, b, &mut y[range]);
                    });
                })
            })
        }, else return Err(unsupported!("{f} of {dtype} is not supported"))),
        _ if ints::is_narrow(dtype) => {
            Kernel::new(move |args| ints::compare(args, &plan, 1500, |a, b, y| compare(f, a, b, y)))
        }
        _ => with_dtype!(dtype, [f32, f64, i32, i64, u64], T => {
            direct::<T>(f, plan)
        }, else return Err(unsupported!("{f} of {dtype} is not supported"))),
    })
}

/// aᵇ where b is of another dtype: integers to integers wrap, everything else through f64.
fn mixed_power(dtype: DType, plan: Broadcast) -> Result<Kernel, Reason> {
    let run = move |args: &mut crate::kernel::Args<'_>| {
        let exponents = args.input(1)?;
        if dtype.is_int() && exponents.dtype().is_int() {
            return whole_power(args, &plan);
        }
        let b = cast::to_doubles(exponents)?;
        match dtype {
            DType::F32 => raise::<f32, f64>(args, &plan, &b, |a, b| f64::from(a).powf(b) as f32),
            DType::F64 => raise::<f64, f64>(args, &plan, &b, f64::powf),
            _ => {
                let a = cast::to_doubles(args.input(0)?)?;
                let made = raised(args, &plan, (&a, &b), f64::powf)?;
                cast::from_doubles(&made, &mut args.outputs[0])
            }
        }
    };
    Ok(Kernel::new(run))
}

/// Integers to the power of integers, both of any type, as u64 or i64.
fn whole_power(args: &mut crate::kernel::Args<'_>, plan: &Broadcast) -> Result<(), Reason> {
    let (bases, exponents) = (args.input(0)?, args.input(1)?);
    let (a, mut b) = (cast::to_ints(bases)?, cast::to_ints(exponents)?);
    if exponents.dtype() == DType::U64 {
        b.iter_mut().filter(|n| **n < 0).for_each(|n| *n = huge(*n));
    }
    let f = match bases.dtype() {
        DType::U64 => |a: i64, b: i64| Int::pow(a as u64, b) as i64,
        _ => Int::pow,
    };
    let made = raised(args, plan, (&a, &b), f)?;
    let y = &mut args.outputs[0];
    ints::narrow(&made, y.dtype(), y.as_mut_bytes());
    Ok(())
}

/// `f` of all pairs.
fn raised<A: Copy + Default, E: Copy>(
    args: &crate::kernel::Args<'_>,
    plan: &Broadcast,
    (a, b): (&[A], &[E]),
    f: fn(A, E) -> A,
) -> Result<Vec<A>, Reason> {
    let mut made = vec![A::default(); plan.len()];
    plan.runs(0..plan.len(), |range, at| {
        if args.cx.check().is_ok() {
            let n = range.len();
            each(plan.part(0, a, at[0], n), plan.part(1, b, at[1], n), &mut made[range], f);
        }
    });
    args.cx.check()?;
    Ok(made)
}

fn raise<T: Element, E: Copy + Sync>(
    args: &mut crate::kernel::Args<'_>,
    plan: &Broadcast,
    exponents: &[E],
    f: fn(T, E) -> T,
) -> Result<(), Reason> {
    let a = args.input(0)?.as_slice::<T>();
    let y = args.outputs[0].as_mut_slice::<T>();
    crate::elementwise::for_runs(plan, y, 20_000, args.cx, |at, y| {
        let n = y.len();
        each(plan.part(0, a, at[0], n), plan.part(1, exponents, at[1], n), y, f);
    })
}

/// Equal over strings.
fn equal_strings() -> Kernel {
    fn text(values: &[Option<Value>], i: usize) -> Result<&Strings, Reason> {
        let value = values.get(i).and_then(Option::as_ref);
        value.ok_or_else(|| invalid!("input {i} is missing"))?.as_text()
    }
    Kernel::values(|inputs, _| {
        let (a, b) = (text(inputs, 0)?, text(inputs, 1)?);
        let dims = |s: &[usize]| s.iter().map(|&n| n.into()).collect::<Vec<rinfer_graph::Dim>>();
        let shape = rinfer_graph::shape::broadcast(&dims(a.shape()), &dims(b.shape()))?;
        let sizes: Vec<usize> = shape.iter().filter_map(|d| d.size()).collect();
        let plan = Broadcast::new(&[a.shape(), b.shape()], &sizes)?;
        let mut y = rinfer_graph::Tensor::try_zeros(DType::Bool, &sizes)?;
        let out = y.as_mut_slice::<Bool>();
        plan.runs(0..plan.len(), |range, at| {
            let n = range.len();
            let a = plan.part(0, a.as_slice(), at[0], n);
            let b = plan.part(1, b.as_slice(), at[1], n);
            for (i, y) in out[range].iter_mut().enumerate() {
                let (a, b) = (&a[i.min(a.len() - 1)], &b[i.min(b.len() - 1)]);
                *y = Bool::from(a == b);
            }
        });
        Ok(vec![Value::Tensor(y)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run, run1};
    use rinfer_graph::Tensor;

    fn check<T: Element, U: Element, Y: Element>(f: BinaryFn, a: &[T], b: &[U], y: &[Y]) {
        for isa in Isa::available() {
            let made = run1(isa, Binary(f), &[Tensor::vector(a), Tensor::vector(b)]).unwrap();
            assert_eq!(made.as_slice::<Y>(), y, "{f} on {}", isa.name());
        }
    }

    #[test]
    fn every_dtype_adds() {
        check(BinaryFn::Add, &[1.5f32, 2.0], &[0.5f32], &[2.0f32, 2.5]);
        check(BinaryFn::Add, &[1.5f64, 2.0], &[0.5f64], &[2.0f64, 2.5]);
        check(BinaryFn::Add, &[250u8], &[10u8], &[4u8]);
        check(BinaryFn::Add, &[1i64], &[2i64, 3], &[3i64, 4]);
        let h = f16::from_f32;
        check(BinaryFn::Add, &[h(1.0), h(2.0)], &[h(0.5)], &[h(1.5), h(2.5)]);
    }

    #[test]
    fn integers_divide_towards_zero_and_never_by_zero() {
        check(BinaryFn::Div, &[-7i32, 7, i32::MIN], &[2i32, -2, -1], &[-3i32, -3, i32::MIN]);
        let zero = [Tensor::vector(&[1i32]), Tensor::vector(&[0i32])];
        let error = run1(Isa::best(), Binary(BinaryFn::Div), &zero).unwrap_err();
        assert_eq!(error.to_string(), "division of int32 by zero");
    }

    #[test]
    fn comparisons_are_false_for_nan() {
        let (a, b) = ([1.0f32, f32::NAN, 3.0], [2.0f32, 2.0, f32::NAN]);
        check(BinaryFn::Less, &a, &b, &[Bool(1), Bool(0), Bool(0)]);
        check(BinaryFn::GreaterOrEqual, &a, &b, &[Bool(0), Bool(0), Bool(0)]);
        check(BinaryFn::Equal, &[Bool(1), Bool(0)], &[Bool(1)], &[Bool(1), Bool(0)]);
        check(BinaryFn::Greater, &[5i64, 1], &[2i64], &[Bool(1), Bool(0)]);
    }

    #[test]
    fn powers_mix_dtypes() {
        check(BinaryFn::Pow, &[2.0f32, 3.0], &[2i64, -1], &[4.0f32, 1.0 / 3.0]);
        check(BinaryFn::Pow, &[2i32, 3], &[0.5f32, 2.0], &[1i32, 9]);
        check(BinaryFn::Pow, &[2i64, -1], &[62i64, 3], &[1i64 << 62, -1]);
        check(BinaryFn::Pow, &[3u64, 2], &[1u64 << 63, 1 << 63], &[1u64, 0]);
        check(BinaryFn::Pow, &[-1i32, 2], &[u64::MAX, 1 << 63], &[-1i32, 0]);
    }

    #[test]
    fn rows_and_columns_broadcast_over_chunks() {
        let a: Vec<f32> = (0..300 * 41).map(|i| i as f32).collect();
        let (row, column): (Vec<f32>, Vec<f32>) =
            ((0..41).map(|i| i as f32).collect(), (0..300).map(|i| i as f32).collect());
        let a = Tensor::from_slice(&[300, 41], &a);
        for (b, at) in [
            (Tensor::from_slice(&[41], &row), (|i| i % 41) as fn(usize) -> usize),
            (Tensor::from_slice(&[300, 1], &column), |i| i / 41),
        ] {
            for isa in Isa::available() {
                let y = run1(isa, Binary(BinaryFn::Sub), &[a.clone(), b.clone()]).unwrap();
                let y = y.as_slice::<f32>();
                assert!((0..y.len()).all(|i| y[i] == i as f32 - at(i) as f32));
            }
        }
    }

    #[test]
    fn strings_are_compared() {
        let text = |s: &[&str]| {
            Value::Text(
                Strings::new(&[s.len()], s.iter().map(|s| s.to_string()).collect()).unwrap(),
            )
        };
        let inputs = [text(&["a", "b"]), text(&["b"])];
        let y = run(Isa::best(), Binary(BinaryFn::Equal), &inputs, 1).unwrap();
        assert_eq!(y[0].as_tensor().unwrap().as_bytes(), [0, 1]);
    }
}
