//! The Reduce family for integers, truth values and double precision.
//!
//! Elements are read as i64, i128 or f64, whichever the result needs, so that there is one loop for
//! each of those and not one for each dtype.

use rinfer_graph::ops::ReduceKind;
use rinfer_graph::{DType, Element, Reason, Tensor, invalid};

use super::reduce::{Inner, Layout};
use crate::elementwise::ints;
use crate::kernel::{Args, Kernel};
use crate::par;

/// What a type of integers holds; truth values are 0 and 1.
fn range(dtype: DType) -> (i128, i128) {
    match (dtype, dtype.bits()) {
        (DType::Bool, _) => (0, 1),
        (_, bits) if dtype.is_unsigned() => (0, (1 << bits) - 1),
        (_, bits) => (-1 << (bits - 1), (1 << (bits - 1)) - 1),
    }
}

pub(super) fn ints(kind: ReduceKind, dtype: DType, layout: Layout) -> Result<Kernel, Reason> {
    use ReduceKind::*;
    let (least, most) = range(dtype);
    let n = layout.count as i128;
    if kind == Mean && n == 0 {
        return Err(invalid!("the mean of no integers"));
    }
    // u64 is turned where order matters, so that it is that of i64.
    let turn = if dtype == DType::U64 { i64::MIN } else { 0 };
    let turned: Read<i64> = if turn == 0 { ints::widen } else { read_turned };
    let job = |start: i64, read: Read<i64>, block: Block<i64, i64>| Job {
        layout: layout.clone(),
        start,
        read,
        block,
    };
    let exact = |block: Block<i128, i128>| Job {
        layout: layout.clone(),
        start: 0,
        read: read_exact,
        block,
    };
    // Whole numbers are cut off towards zero; what no integer holds becomes the nearest that does.
    let clip = move |x: f64| (x as i128).clamp(least, most) as i64;
    let bool = dtype == DType::Bool;
    let whole = move |a: i64| if bool { (a != 0).into() } else { a };
    Ok(match kind {
        // The low bits of these are those of the exact result.
        Sum => job(0, ints::widen, add).kernel(dtype, whole),
        L1 if least == 0 => job(0, ints::widen, add).kernel(dtype, whole),
        L1 => job(0, ints::widen, |a, x| each(a, x, |a, x: i64| a.wrapping_add(x.wrapping_abs())))
            .kernel(dtype, whole),
        Prod => job(1, ints::widen, |a, x| each(a, x, i64::wrapping_mul)).kernel(dtype, whole),
        SumSquare => {
            let square = |a: &mut [i64], x: &[i64]| {
                each(a, x, |a: i64, x: i64| a.wrapping_add(x.wrapping_mul(x)))
            };
            job(0, ints::widen, square).kernel(dtype, whole)
        }
        Max => job(least as i64 ^ turn, turned, |a, x| each(a, x, i64::max))
            .kernel(dtype, move |a| a ^ turn),
        Min => job(most as i64 ^ turn, turned, |a, x| each(a, x, i64::min))
            .kernel(dtype, move |a| a ^ turn),
        Mean => exact(|a, x| each(a, x, i128::wrapping_add))
            .kernel(dtype, move |a| whole((a / n) as i64)),
        LogSum => exact(|a, x| each(a, x, i128::wrapping_add))
            .kernel(dtype, move |a| clip((a as f64).ln())),
        L2 => exact(|a, x| each(a, x, |a: i128, x: i128| a.wrapping_add(x.wrapping_mul(x))))
            .kernel(dtype, move |a| clip((a as f64).sqrt())),
        LogSumExp => Job { layout, start: Exps::NONE, read: read_floats, block: Exps::add }
            .kernel(dtype, move |a| clip(a.log())),
    })
}

pub(super) fn floats(kind: ReduceKind, layout: Layout) -> Kernel {
    use ReduceKind::*;
    let n = layout.count as f64;
    let job = |start: f64, block: Block<f64, f64>| Job {
        layout: layout.clone(),
        start,
        read: read_floats,
        block,
    };
    let made = |finish: fn(f64) -> f64| move |a| finish(a).to_bits() as i64;
    let same = made(|a| a);
    let sums: Block<f64, f64> = |a, x| each(a, x, |a, x| a + x);
    let squares: Block<f64, f64> = |a, x| each(a, x, |a, x| a + x * x);
    let to = DType::F64;
    match kind {
        L1 => job(0.0, |a, x| each(a, x, |a, x: f64| a + x.abs())).kernel(to, same),
        L2 => job(0.0, squares).kernel(to, made(f64::sqrt)),
        LogSum => job(0.0, sums).kernel(to, made(f64::ln)),
        LogSumExp => {
            let job = Job { layout, start: Exps::NONE, read: read_floats, block: Exps::add };
            job.kernel(to, |a| a.log().to_bits() as i64)
        }
        Max => job(f64::NEG_INFINITY, |a, x| each(a, x, larger)).kernel(to, same),
        Mean => job(0.0, sums).kernel(to, move |a| (a / n).to_bits() as i64),
        Min => job(f64::INFINITY, |a, x| each(a, x, smaller)).kernel(to, same),
        Prod => job(1.0, |a, x| each(a, x, |a, x| a * x)).kernel(to, same),
        Sum => job(0.0, sums).kernel(to, same),
        SumSquare => job(0.0, squares).kernel(to, same),
    }
}

/// The larger; NaN if either is.
fn larger(a: f64, x: f64) -> f64 {
    if a.is_nan() || a > x { a } else { x }
}

/// The smaller; NaN if either is.
fn smaller(a: f64, x: f64) -> f64 {
    if a.is_nan() || a < x { a } else { x }
}

fn add(a: &mut [i64], x: &[i64]) {
    each(a, x, i64::wrapping_add);
}

/// Σ e^x as e^max · sum, so that it does not overflow.
#[derive(Clone, Copy)]
struct Exps {
    max: f64,
    sum: f64,
}

impl Exps {
    const NONE: Exps = Exps { max: f64::NEG_INFINITY, sum: 0.0 };

    fn add(sums: &mut [Exps], x: &[f64]) {
        each(sums, x, Exps::with);
    }

    fn with(self, x: f64) -> Exps {
        let Exps { max, sum } = self;
        if x == f64::NEG_INFINITY {
            self
        } else if x == max {
            Exps { max, sum: sum + 1.0 }
        } else if x < max {
            Exps { max, sum: sum + (x - max).exp() }
        } else {
            Exps { max: x, sum: sum * (max - x).exp() + 1.0 }
        }
    }

    fn log(self) -> f64 {
        self.max + self.sum.ln()
    }
}

/// Columns whose accumulators are kept together, and elements that are read at a time.
const TILE: usize = 64;

/// Elements of a tensor from this one on.
type Read<E> = fn(&Tensor, usize, &mut [E]);
/// A row of elements, each into its accumulator; or all into one.
type Block<A, E> = fn(&mut [A], &[E]);

/// `a[i] = f(a[i], x[i])`, or all of `x` into `a[0]`, if it is alone.
#[inline(always)]
fn each<A: Copy, E: Copy>(a: &mut [A], x: &[E], f: impl Fn(A, E) -> A) {
    if let [a] = a {
        *a = x.iter().fold(*a, |a, &x| f(a, x));
        return;
    }
    a.iter_mut().zip(x).for_each(|(a, &x)| *a = f(*a, x));
}

fn read_turned(x: &Tensor, start: usize, to: &mut [i64]) {
    ints::widen(x, start, to);
    to.iter_mut().for_each(|x| *x ^= i64::MIN);
}

fn read_exact(x: &Tensor, start: usize, to: &mut [i128]) {
    let mut held = [0; TILE];
    let held = &mut held[..to.len()];
    ints::widen(x, start, held);
    let unsigned = x.dtype() == DType::U64;
    let wide = |x: i64| if unsigned { (x as u64).into() } else { x.into() };
    held.iter().zip(to).for_each(|(&x, to)| *to = wide(x));
}

fn read_floats(x: &Tensor, start: usize, to: &mut [f64]) {
    if x.dtype() == f64::DTYPE {
        return to.copy_from_slice(&x.as_slice()[start..][..to.len()]);
    }
    let mut held = [0; TILE];
    let held = &mut held[..to.len()];
    read_exact(x, start, held);
    held.iter().zip(to).for_each(|(&x, to)| *to = x as f64);
}

/// A reduction whose accumulators are of type `A`.
struct Job<A, E> {
    layout: Layout,
    start: A,
    read: Read<E>,
    block: Block<A, E>,
}

impl<A, E> Job<A, E>
where
    A: Copy + Send + Sync + 'static,
    E: Copy + Default + 'static,
{
    /// The kernel whose outputs are what `finish` makes of accumulators: the bits of a `to`.
    fn kernel(self, to: DType, finish: impl Fn(A) -> i64 + Send + Sync + 'static) -> Kernel {
        Kernel::new(move |args| self.run(to, &finish, args))
    }

    fn run(
        &self,
        to: DType,
        finish: &(dyn Fn(A) -> i64 + Sync),
        args: &mut Args<'_>,
    ) -> Result<(), Reason> {
        let x = args.input(0)?;
        let (cx, size) = (args.cx, to.size());
        let m = match self.layout.inner {
            Inner::Fold(_) => 1,
            Inner::Keep(m) => m,
        };
        let grain = par::grain(self.layout.count).div_ceil(m.max(1));
        par::chunks_mut(args.outputs[0].as_mut_bytes(), m * size, grain, |row, y| {
            let base = self.layout.base(row);
            let (mut acc, mut made) = ([self.start; TILE], [0; TILE]);
            for (tile, y) in y.chunks_mut(TILE * size).enumerate() {
                if cx.check().is_err() {
                    return;
                }
                let n = y.len() / size;
                acc.fill(self.start);
                self.fold(x, base + tile * TILE, &mut acc[..n]);
                made.iter_mut().zip(&acc[..n]).for_each(|(made, acc)| *made = finish(*acc));
                let word = if to == DType::F64 { DType::I64 } else { to };
                ints::narrow(&made[..n], word, y);
            }
        });
        cx.check()
    }

    fn fold(&self, x: &Tensor, base: usize, acc: &mut [A]) {
        let rows = self.layout.rows();
        let mut held = [E::default(); TILE];
        for &start in rows.starts {
            match self.layout.inner {
                Inner::Fold(n) => {
                    for i in (0..n).step_by(TILE) {
                        let held = &mut held[..TILE.min(n - i)];
                        (self.read)(x, base + start + i, held);
                        (self.block)(acc, held);
                    }
                }
                Inner::Keep(_) => {
                    for r in 0..rows.n {
                        let held = &mut held[..acc.len()];
                        (self.read)(x, base + start + r * rows.stride, held);
                        (self.block)(acc, held);
                    }
                }
            }
        }
    }
}
