//! The Reduce family for integers, truth values and double precision.

use rinfer_graph::ops::ReduceKind;
use rinfer_graph::{Bool, Element, Reason, invalid};

use super::reduce::{Inner, Layout};
use crate::kernel::{Args, Kernel};
use crate::par;

/// An integer, or a truth value as 0 and 1.
pub(super) trait Int: Element + Ord {
    const MIN: Self;
    const MAX: Self;
    fn wide(self) -> i128;
    /// The low bits.
    fn wrap(x: i128) -> Self;
}

macro_rules! ints {
    ($($t:ty)*) => { $(
        impl Int for $t {
            const MIN: $t = <$t>::MIN;
            const MAX: $t = <$t>::MAX;
            fn wide(self) -> i128 {
                self as i128
            }
            fn wrap(x: i128) -> $t {
                x as $t
            }
        }
    )* };
}
ints!(i8 i16 i32 i64 u8 u16 u32 u64);

impl Int for Bool {
    const MIN: Bool = Bool(0);
    const MAX: Bool = Bool(1);
    fn wide(self) -> i128 {
        self.get() as i128
    }
    fn wrap(x: i128) -> Bool {
        Bool::from(x != 0)
    }
}

pub(super) fn ints<T: Int>(kind: ReduceKind, layout: Layout) -> Result<Kernel, Reason> {
    use ReduceKind::*;
    let n = layout.count;
    if kind == Mean && n == 0 {
        return Err(invalid!("the mean of no integers"));
    }
    let add = |a: i128, x: T| a.wrapping_add(x.wide());
    let square = |a: i128, x: T| a.wrapping_add(x.wide().wrapping_mul(x.wide()));
    // Whole numbers are cut off towards zero; what no integer holds becomes the nearest that does.
    let clip = |x: f64| T::wrap((x as i128).clamp(T::MIN.wide(), T::MAX.wide()));
    Ok(match kind {
        L1 => kernel(layout, 0, |a: i128, x: T| a.wrapping_add(x.wide().abs()), T::wrap),
        L2 => kernel(layout, 0, square, move |a| clip((a as f64).sqrt())),
        LogSum => kernel(layout, 0, add, move |a| clip((a as f64).ln())),
        LogSumExp => {
            let step = |a: Exps, x: T| a.with(x.wide() as f64);
            kernel(layout, Exps::NONE, step, move |a| clip(a.log()))
        }
        Max => kernel(layout, T::MIN, |a: T, x: T| a.max(x), |a| a),
        Mean => kernel(layout, 0, add, move |a| T::wrap(a / n as i128)),
        Min => kernel(layout, T::MAX, |a: T, x: T| a.min(x), |a| a),
        Prod => kernel(layout, 1, |a: i128, x: T| a.wrapping_mul(x.wide()), T::wrap),
        Sum => kernel(layout, 0, add, T::wrap),
        SumSquare => kernel(layout, 0, square, T::wrap),
    })
}

pub(super) fn floats(kind: ReduceKind, layout: Layout) -> Kernel {
    use ReduceKind::*;
    let n = layout.count as f64;
    let add = |a: f64, x: f64| a + x;
    let square = |a: f64, x: f64| a + x * x;
    let max = |a: f64, x: f64| if a.is_nan() || a > x { a } else { x };
    let min = |a: f64, x: f64| if a.is_nan() || a < x { a } else { x };
    match kind {
        L1 => kernel(layout, 0.0, |a: f64, x: f64| a + x.abs(), |a| a),
        L2 => kernel(layout, 0.0, square, f64::sqrt),
        LogSum => kernel(layout, 0.0, add, f64::ln),
        LogSumExp => kernel(layout, Exps::NONE, Exps::with, Exps::log),
        Max => kernel(layout, f64::NEG_INFINITY, max, |a| a),
        Mean => kernel(layout, 0.0, add, move |a| a / n),
        Min => kernel(layout, f64::INFINITY, min, |a| a),
        Prod => kernel(layout, 1.0, |a: f64, x: f64| a * x, |a| a),
        Sum => kernel(layout, 0.0, add, |a| a),
        SumSquare => kernel(layout, 0.0, square, |a| a),
    }
}

/// Σ e^x as e^max · sum, so that it does not overflow.
#[derive(Clone, Copy)]
struct Exps {
    max: f64,
    sum: f64,
}

impl Exps {
    const NONE: Exps = Exps { max: f64::NEG_INFINITY, sum: 0.0 };

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

/// Columns whose accumulators are kept together.
const TILE: usize = 64;

fn kernel<T: Element, A: Copy + Send + Sync + 'static>(
    layout: Layout,
    start: A,
    step: impl Fn(A, T) -> A + Send + Sync + 'static,
    finish: impl Fn(A) -> T + Send + Sync + 'static,
) -> Kernel {
    Kernel::new(move |args: &mut Args<'_>| {
        let x = args.input(0)?.as_slice::<T>();
        let (cx, y) = (args.cx, args.outputs[0].as_mut_slice::<T>());
        let m = match layout.inner {
            Inner::Fold(_) => 1,
            Inner::Keep(m) => m,
        };
        let tiles = m.div_ceil(TILE);
        let grain = par::grain(layout.count);
        par::chunks_mut(y, m, grain.div_ceil(m.max(1)), |row, y| {
            let base = layout.base(row);
            for (tile, y) in (0..tiles).zip(y.chunks_mut(TILE)) {
                if cx.check().is_err() {
                    return;
                }
                let mut acc = [start; TILE];
                fold(&layout, x, base + tile * TILE, &step, &mut acc[..y.len()]);
                for (y, acc) in y.iter_mut().zip(acc) {
                    *y = finish(acc);
                }
            }
        });
        cx.check()
    })
}

fn fold<T: Copy, A: Copy>(
    layout: &Layout,
    x: &[T],
    base: usize,
    step: &impl Fn(A, T) -> A,
    acc: &mut [A],
) {
    let rows = layout.rows();
    for &start in rows.starts {
        match layout.inner {
            Inner::Fold(n) => {
                let x = &x[base + start..][..n];
                acc[0] = x.iter().fold(acc[0], |a, &x| step(a, x));
            }
            Inner::Keep(_) => {
                for r in 0..rows.n {
                    let row = &x[base + start + r * rows.stride..][..acc.len()];
                    for (a, &x) in acc.iter_mut().zip(row) {
                        *a = step(*a, x);
                    }
                }
            }
        }
    }
}
