//! Folds of slices to one number, and of rows to one row: sums, products, extremes.
//!
//! The order of the additions depends on the length only. Lanes are summed
//! in short blocks, and the blocks' sums in double precision or with their rounding errors.

use crate::math;
use crate::simd::{F32s, MAX_LANES, Mask, Simd, Wide, halve, sum_lanes, vectors};

/// Vectors that are folded side by side.
const WIDE: usize = 4;
/// Vectors that one accumulator takes before its block ends.
const BLOCK: usize = 32;
/// Elements that [`run`] is meant to be given at once; longer runs are cut and joined.
pub(super) const CHUNK: usize = 1 << 15;

/// The folds there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Which {
    Sum,
    Abs,
    Square,
    Deviation,
    Exp,
    Max,
    Min,
    Product,
}

/// `$body` with `$F` naming the fold.
macro_rules! with_fold {
    ($which:expr, $F:ident => $body:expr) => {
        with_fold!(@ $which, $F => $body, Sum Abs Square Deviation Exp Max Min Product)
    };
    (@ $which:expr, $F:ident => $body:expr, $($Name:ident)*) => {
        match $which { $(Which::$Name => { type $F = $Name; $body })* }
    };
}

impl Which {
    /// The result of no elements.
    pub fn start(self) -> f64 {
        with_fold!(self, F => F::START as f64)
    }

    /// Two blocks' results as one.
    pub fn total(self, a: f64, b: f64) -> f64 {
        with_fold!(self, F => F::total(a, b))
    }
}

crate::simd_fn! {
    /// All of `x` as one number.
    pub(super) fn fold(s: S, which: Which, x: &[f32], shift: f32) -> f64 {
        with_fold!(which, F => run::<S, F>(s, x, shift))
    }
}

crate::simd_fn! {
    /// `y[j]` = all rows' elements `x[start + r·stride + base + j]` as one. `shift` has an element
    /// for each `j`, or none at all.
    pub(super) fn columns(
        s: S, which: Which, x: (&[f32], usize), rows: Rows<'_>, shift: &[f32], y: &mut [f32],
    ) {
        with_fold!(which, F => columns_of::<S, F>(s, x, rows, shift, y))
    }
}

/// How elements become one.
pub(super) trait Fold: Copy + Send + Sync + 'static {
    /// The result of no elements.
    const START: f32;
    /// Whether [`Fold::join`] adds.
    const ADDS: bool;
    /// What stands in lanes without an element.
    fn fill(_shift: f32) -> f32 {
        Self::START
    }
    /// What an element contributes.
    fn term<S: Simd>(s: S, x: S::F32, shift: S::F32) -> S::F32;
    /// Two contributions as one.
    fn join<S: Simd>(s: S, a: S::F32, b: S::F32) -> S::F32;
    /// All lanes as one.
    fn lanes<S: Simd>(s: S, x: Wide<S>) -> f32;
    /// Two blocks' results as one.
    fn total(a: f64, b: f64) -> f64;
}

macro_rules! sums {
    ($($(#[$m:meta])* $Name:ident, $fill:expr, |$s:ident, $x:ident, $shift:ident| $term:expr;)*) => { $(
        $(#[$m])*
        #[derive(Clone, Copy)]
        pub(super) struct $Name;
        impl Fold for $Name {
            const START: f32 = 0.0;
            const ADDS: bool = true;
            #[inline(always)]
            fn fill(shift: f32) -> f32 {
                let fill: fn(f32) -> f32 = $fill;
                fill(shift)
            }
            #[inline(always)]
            fn term<S: Simd>($s: S, $x: S::F32, $shift: S::F32) -> S::F32 {
                $term
            }
            #[inline(always)]
            fn join<S: Simd>(_: S, a: S::F32, b: S::F32) -> S::F32 {
                a + b
            }
            #[inline(always)]
            fn lanes<S: Simd>(_: S, x: Wide<S>) -> f32 {
                sum_lanes::<S>(x)
            }
            #[inline(always)]
            fn total(a: f64, b: f64) -> f64 {
                a + b
            }
        }
    )* };
}
sums! {
    /// Σ x
    Sum, |_| 0.0, |_s, x, _shift| x;
    /// Σ |x|
    Abs, |_| 0.0, |_s, x, _shift| x.abs();
    /// Σ x²
    Square, |_| 0.0, |_s, x, _shift| x * x;
    /// Σ (x - shift)²
    Deviation, |shift| shift, |_s, x, shift| (x - shift) * (x - shift);
    /// Σ e^(x - shift)
    Exp, |_| f32::NEG_INFINITY, |s, x, shift| math::exp(s, x - shift);
}

/// The largest; NaN if any is NaN.
#[derive(Clone, Copy)]
pub(super) struct Max;

impl Fold for Max {
    const START: f32 = f32::NEG_INFINITY;
    const ADDS: bool = false;
    #[inline(always)]
    fn term<S: Simd>(_: S, x: S::F32, _: S::F32) -> S::F32 {
        x
    }
    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::F32, b: S::F32) -> S::F32 {
        s.max_nan(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(s: S, x: Wide<S>) -> f32 {
        let all = halve::<S>(
            x,
            #[inline(always)]
            |a, b| s.max_nan(a, b),
        );
        all.reduce_max()
    }
    #[inline(always)]
    fn total(a: f64, b: f64) -> f64 {
        if a.is_nan() || a > b { a } else { b }
    }
}

/// The smallest; NaN if any is NaN.
#[derive(Clone, Copy)]
pub(super) struct Min;

impl Fold for Min {
    const START: f32 = f32::INFINITY;
    const ADDS: bool = false;
    #[inline(always)]
    fn term<S: Simd>(_: S, x: S::F32, _: S::F32) -> S::F32 {
        x
    }
    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::F32, b: S::F32) -> S::F32 {
        s.min_nan(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(s: S, x: Wide<S>) -> f32 {
        let all = halve::<S>(
            x,
            #[inline(always)]
            |a, b| s.min_nan(a, b),
        );
        all.reduce_min()
    }
    #[inline(always)]
    fn total(a: f64, b: f64) -> f64 {
        if a.is_nan() || a < b { a } else { b }
    }
}

/// Π x
#[derive(Clone, Copy)]
pub(super) struct Product;

impl Fold for Product {
    const START: f32 = 1.0;
    const ADDS: bool = false;
    #[inline(always)]
    fn term<S: Simd>(_: S, x: S::F32, _: S::F32) -> S::F32 {
        x
    }
    #[inline(always)]
    fn join<S: Simd>(_: S, a: S::F32, b: S::F32) -> S::F32 {
        a * b
    }
    #[inline(always)]
    fn lanes<S: Simd>(_: S, x: Wide<S>) -> f32 {
        let mut lanes = [1.0; MAX_LANES];
        for (x, lanes) in x.into_iter().zip(lanes.chunks_exact_mut(S::LANES)) {
            x.store(lanes);
        }
        lanes.iter().product()
    }
    #[inline(always)]
    fn total(a: f64, b: f64) -> f64 {
        a * b
    }
}

/// All of `x` as one number.
#[inline(always)]
pub(super) fn run<S: Simd, F: Fold>(s: S, x: &[f32], shift: f32) -> f64 {
    let mut total = F::START as f64;
    for block in x.chunks(WIDE * BLOCK * MAX_LANES) {
        total = F::total(total, block_of::<S, F>(s, block, shift) as f64);
    }
    total
}

#[inline(always)]
fn block_of<S: Simd, F: Fold>(s: S, x: &[f32], shift: f32) -> f32 {
    let shifts = s.splat(shift);
    let mut acc = [[s.splat(F::START); MAX_LANES]; WIDE];
    let mut wide = x.chunks_exact(WIDE * MAX_LANES);
    for x in &mut wide {
        for (i, acc) in acc.iter_mut().enumerate() {
            for v in 0..const { vectors::<S>() } {
                let x = s.load(&x[i * MAX_LANES + v * S::LANES..]);
                acc[v] = F::join(s, acc[v], F::term(s, x, shifts));
            }
        }
    }
    let mut rest = wide.remainder().chunks_exact(MAX_LANES);
    for x in &mut rest {
        for v in 0..const { vectors::<S>() } {
            let x = s.load(&x[v * S::LANES..]);
            acc[0][v] = F::join(s, acc[0][v], F::term(s, x, shifts));
        }
    }
    for (v, x) in rest.remainder().chunks(S::LANES).enumerate() {
        let x = s.load_partial(x, F::fill(shift));
        acc[1][v] = F::join(s, acc[1][v], F::term(s, x, shifts));
    }
    let mut all = acc[0];
    for v in 0..const { vectors::<S>() } {
        let [a, b, c, d] = [acc[0][v], acc[1][v], acc[2][v], acc[3][v]];
        all[v] = F::join(s, F::join(s, a, b), F::join(s, c, d));
    }
    F::lanes(s, all)
}

/// Rows of a tensor: at each start, `n` of them, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub starts: &'a [usize],
    pub n: usize,
    pub stride: usize,
}

#[inline(always)]
fn columns_of<S: Simd, F: Fold>(
    s: S,
    (x, base): (&[f32], usize),
    rows: Rows<'_>,
    shift: &[f32],
    y: &mut [f32],
) {
    let mut j = 0;
    while j + WIDE * S::LANES <= y.len() {
        wide_tile::<S, F>(s, (x, base + j), rows, shift.get(j..).unwrap_or(&[]), &mut y[j..]);
        j += WIDE * S::LANES;
    }
    for (i, y) in y[j..].chunks_mut(S::LANES).enumerate() {
        let at = j + i * S::LANES;
        narrow_tile::<S, F>(s, (x, base + at), rows, shift.get(at..).unwrap_or(&[]), y);
    }
}

/// [`WIDE`] vectors of columns.
#[inline(always)]
fn wide_tile<S: Simd, F: Fold>(
    s: S,
    (x, base): (&[f32], usize),
    rows: Rows<'_>,
    shift: &[f32],
    y: &mut [f32],
) {
    let mut shifts = [s.zero(); WIDE];
    if !shift.is_empty() {
        for (v, shifts) in shifts.iter_mut().enumerate() {
            *shifts = s.load(&shift[v * S::LANES..]);
        }
    }
    let mut total = [Total::new::<F>(s); WIDE];
    let mut acc = [s.splat(F::START); WIDE];
    let mut left = BLOCK;
    for &start in rows.starts {
        for r in 0..rows.n {
            let row = &x[start + r * rows.stride + base..][..WIDE * S::LANES];
            for v in 0..WIDE {
                let term = F::term(s, s.load(&row[v * S::LANES..]), shifts[v]);
                acc[v] = F::join(s, acc[v], term);
            }
            left -= 1;
            if left == 0 {
                for v in 0..WIDE {
                    total[v] = total[v].with::<F>(s, acc[v]);
                    acc[v] = s.splat(F::START);
                }
                left = BLOCK;
            }
        }
    }
    for v in 0..WIDE {
        total[v].with::<F>(s, acc[v]).result().store(&mut y[v * S::LANES..]);
    }
}

/// The columns of one vector, or less.
#[inline(always)]
fn narrow_tile<S: Simd, F: Fold>(
    s: S,
    (x, base): (&[f32], usize),
    rows: Rows<'_>,
    shift: &[f32],
    y: &mut [f32],
) {
    let shifts = s.load_partial(shift, 0.0);
    let mut total = Total::new::<F>(s);
    let mut acc = s.splat(F::START);
    let mut left = BLOCK;
    for &start in rows.starts {
        for r in 0..rows.n {
            let row = &x[start + r * rows.stride + base..][..y.len()];
            acc = F::join(s, acc, F::term(s, s.load_partial(row, 0.0), shifts));
            left -= 1;
            if left == 0 {
                total = total.with::<F>(s, acc);
                acc = s.splat(F::START);
                left = BLOCK;
            }
        }
    }
    total.with::<F>(s, acc).result().store_partial(y);
}

/// A result of blocks, by lane, and what rounding took from it.
#[derive(Clone, Copy)]
struct Total<S: Simd> {
    value: S::F32,
    lost: S::F32,
}

impl<S: Simd> Total<S> {
    #[inline(always)]
    fn new<F: Fold>(s: S) -> Total<S> {
        Total { value: s.splat(F::START), lost: s.zero() }
    }

    #[inline(always)]
    fn with<F: Fold>(self, s: S, b: S::F32) -> Total<S> {
        let a = self.value;
        let value = F::join(s, a, b);
        if !F::ADDS {
            return Total { value, lost: self.lost };
        }
        // Knuth's TwoSum: the exact error of a + b.
        let bb = value - a;
        Total { value, lost: self.lost + ((a - (value - bb)) + (b - bb)) }
    }

    #[inline(always)]
    fn result(self) -> S::F32 {
        let sum = self.value + self.lost;
        // The error of an infinite sum is NaN.
        sum.is_nan().select(self.value, sum)
    }
}
