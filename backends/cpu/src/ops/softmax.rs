//! Softmax, LogSoftmax, Hardmax: softmax(x)ᵢ = e^(xᵢ - max) / Σⱼ e^(xⱼ - max) along one axis.
//!
//! Along the last axis a row is one task; along another, a few columns are. A row that is -∞
//! throughout gives NaN.

use half::{bf16, f16};
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{Softmax, SoftmaxKind};
use rinfer_graph::{DType, Element, Reason, unsupported};

use super::{fold, lanes, softmax_half};
use crate::kernel::{Args, Cx, Kernel};
use crate::math;
use crate::par;
use crate::simd::{F32s, Isa, MAX_LANES, Mask, MatMut, Simd, sum_lanes, vectors};

/// x as `outer` blocks of `n` rows of `inner` elements; a softmax runs down the rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axes {
    outer: usize,
    pub n: usize,
    pub inner: usize,
}

pub(super) fn compile(op: &Softmax, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let axes = Axes {
        outer: sizes[..axis].iter().product(),
        n: sizes[axis],
        inner: sizes[axis + 1..].iter().product(),
    };
    let (kind, isa) = (op.kind, cx.isa);
    let kernel = match cx.dtype(0)? {
        DType::F16 if kind == SoftmaxKind::Softmax => {
            Kernel::new(move |args| softmax_half::run::<f16>(axes, args))
        }
        DType::BF16 if kind == SoftmaxKind::Softmax => {
            Kernel::new(move |args| softmax_half::run::<bf16>(axes, args))
        }
        DType::F32 | DType::F16 | DType::BF16 => Kernel::new(move |args| {
            let cx = args.cx;
            lanes::in_f32(isa, args, |x, y, _| run(isa, kind, axes, (x, y), cx))
        }),
        DType::F64 => Kernel::new(move |args| run_f64(kind, axes, args)),
        dtype => return Err(unsupported!("{kind:?} of {dtype} is not supported")),
    };
    Ok(kernel.in_place(&[0]).takes(lanes::scratch(cx)))
}

/// Input 0, or nothing if output 0 holds it already.
pub(super) fn source<'a, T: Element>(args: &Args<'a>) -> &'a [T] {
    args.opt(0).map_or(&[], |x| x.as_slice())
}

fn run(
    isa: Isa,
    kind: SoftmaxKind,
    axes: Axes,
    (x, y): (&[f32], &mut [f32]),
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    let Axes { outer, n, inner } = axes;
    if y.is_empty() {
        return Ok(());
    }
    if inner == 1 {
        let work = ((x, n), (y, n));
        par::split(work, outer, par::grain(20 + n), |_, (x, y)| {
            // Some 100 µs of work between two looks at the clock.
            let rows = n * (100_000 / n).max(1);
            let mut xs = x.0.chunks(rows);
            for y in y.0.chunks_mut(rows) {
                if cx.check().is_ok() {
                    softmax_rows(isa, kind, xs.next().unwrap_or(&[]), y, n);
                }
            }
        });
    } else if outer >= par::threads() {
        let block = n * inner;
        par::split(((x, block), (y, block)), outer, par::grain(2 * block), |_, (x, y)| {
            let mut xs = x.0.chunks(block);
            for y in y.0.chunks_mut(block) {
                if cx.check().is_ok() {
                    let y = MatMut::new(y, n, inner, inner);
                    softmax_columns(isa, kind, (xs.next().unwrap_or(&[]), inner), y);
                }
            }
        });
    } else {
        for (o, y) in y.chunks_mut(n * inner).enumerate() {
            let x = if x.is_empty() { x } else { &x[o * n * inner..][..n * inner] };
            let tile = COLUMNS * isa.lanes();
            let y = Tiles { y: MatMut::new(y, n, inner, inner), tile };
            par::split(y, inner.div_ceil(tile), par::grain(n * tile * 2), |first, y| {
                let x = if x.is_empty() { x } else { &x[first * tile..] };
                if cx.check().is_ok() {
                    softmax_columns(isa, kind, (x, inner), y.y);
                }
            });
        }
    }
    cx.check()
}

/// Elements of a row that are summed in single precision.
const BLOCK: usize = 1 << 10;
/// Vectors of columns in a tile.
const COLUMNS: usize = 4;

/// A matrix cut by tiles of columns.
struct Tiles<'a> {
    y: MatMut<'a, f32>,
    tile: usize,
}

impl par::Split for Tiles<'_> {
    fn split(self, at: usize) -> (Self, Self) {
        let (tile, cols) = (self.tile, self.y.cols());
        let (a, b) = self.y.split_cols((at * tile).min(cols));
        (Tiles { y: a, tile }, Tiles { y: b, tile })
    }
}

crate::simd_fn! {
    /// Rows of `n` elements; where `x` is empty `y` holds them.
    fn softmax_rows(s: S, kind: SoftmaxKind, x: &[f32], y: &mut [f32], n: usize) {
        let mut xs = x.chunks_exact(n);
        for y in y.chunks_exact_mut(n) {
            let x = xs.next().unwrap_or(&[]);
            match kind {
                SoftmaxKind::Softmax => softmax_row(s, x, y),
                SoftmaxKind::LogSoftmax => log_softmax_row(s, x, y),
                SoftmaxKind::Hardmax => hardmax_row(s, x, y),
            }
        }
    }
}

#[inline(always)]
fn max_of<S: Simd>(s: S, x: &[f32], y: &[f32]) -> f32 {
    fold::run::<S, fold::Max>(s, if x.is_empty() { y } else { x }, 0.0) as f32
}

#[inline(always)]
fn softmax_row<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    let max = max_of(s, x, y);
    let shift = s.splat(max);
    let mut total = 0.0;
    for (i, y) in y.chunks_mut(BLOCK).enumerate() {
        let x = if x.is_empty() { x } else { &x[i * BLOCK..][..y.len()] };
        total += exp_block(s, shift, x, y) as f64;
    }
    let scale = s.splat((1.0 / total) as f32);
    lanes::map(
        s,
        &[],
        y,
        #[inline(always)]
        |_, v| v * scale,
    );
}

/// y = e^(x - shift), and its sum.
#[inline(always)]
fn exp_block<S: Simd>(s: S, shift: S::F32, x: &[f32], y: &mut [f32]) -> f32 {
    let whole = y.len() - y.len() % S::LANES;
    let last = s.first(y.len() - whole);
    let mut sums = [[s.zero(); MAX_LANES]; 2];
    lanes::map(
        s,
        x,
        y,
        #[inline(always)]
        |i, v| {
            let e = math::exp(s, v - shift);
            let sum = &mut sums[i / MAX_LANES % 2][i % MAX_LANES / S::LANES];
            *sum = *sum + if i < whole { e } else { last.select(e, s.zero()) };
            e
        },
    );
    let [mut all, odd] = sums;
    for v in 0..const { vectors::<S>() } {
        all[v] = all[v] + odd[v];
    }
    sum_lanes::<S>(all)
}

#[inline(always)]
fn log_softmax_row<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    let max = max_of(s, x, y);
    let from = if x.is_empty() { &*y } else { x };
    let log = s.splat(fold::run::<S, fold::Exp>(s, from, max).ln() as f32);
    let shift = s.splat(max);
    lanes::map(
        s,
        x,
        y,
        #[inline(always)]
        |_, v| v - shift - log,
    );
}

#[inline(always)]
fn hardmax_row<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    let max = max_of(s, x, y);
    let from = if x.is_empty() { &*y } else { x };
    let first = from.iter().position(|x| *x == max || x.is_nan()).unwrap_or(0);
    y.fill(0.0);
    y[first] = 1.0;
}

crate::simd_fn! {
    /// Columns of `y`; those of `x` begin at its first element, rows `x.1` apart.
    fn softmax_columns(s: S, kind: SoftmaxKind, x: (&[f32], usize), y: MatMut<'_, f32>) {
        let (n, cols) = (y.rows(), y.cols());
        let mut at = Columns { x: x.0, stride: x.1, y };
        let mut j = 0;
        while j < cols {
            let lanes = S::LANES.min(cols - j);
            match kind {
                SoftmaxKind::Softmax => softmax_column(s, &mut at, n, j..j + lanes),
                SoftmaxKind::LogSoftmax => log_softmax_column(s, &mut at, n, j..j + lanes),
                SoftmaxKind::Hardmax => hardmax_column(&mut at, n, j..j + lanes),
            }
            j += lanes;
        }
    }
}

/// A few columns: read from `x`, or from `y` where `x` is empty, and written to `y`.
struct Columns<'a> {
    x: &'a [f32],
    stride: usize,
    y: MatMut<'a, f32>,
}

type Cols = std::ops::Range<usize>;

impl Columns<'_> {
    #[inline(always)]
    fn row(&mut self, r: usize, cols: Cols) -> &[f32] {
        match self.x.is_empty() {
            true => &self.y.row(r)[cols],
            false => &self.x[r * self.stride..][cols],
        }
    }

    #[inline(always)]
    fn load<S: Simd>(&mut self, s: S, r: usize, cols: Cols) -> S::F32 {
        load(s, self.row(r, cols))
    }

    #[inline(always)]
    fn max<S: Simd>(&mut self, s: S, n: usize, cols: Cols) -> S::F32 {
        let mut max = s.splat(f32::NEG_INFINITY);
        for r in 0..n {
            max = s.max_nan(max, self.load(s, r, cols.clone()));
        }
        max
    }
}

#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32]) -> S::F32 {
    if x.len() == S::LANES { s.load(x) } else { s.load_partial(x, 0.0) }
}

#[inline(always)]
fn store<S: Simd>(v: S::F32, y: &mut [f32]) {
    if y.len() == S::LANES { v.store(y) } else { v.store_partial(y) }
}

#[inline(always)]
fn softmax_column<S: Simd>(s: S, at: &mut Columns<'_>, n: usize, cols: Cols) {
    let max = at.max(s, n, cols.clone());
    let mut sum = s.zero();
    for r in 0..n {
        let e = math::exp(s, at.load(s, r, cols.clone()) - max);
        sum = sum + e;
        store::<S>(e, &mut at.y.row(r)[cols.clone()]);
    }
    let scale = s.splat(1.0) / sum;
    for r in 0..n {
        let e = load(s, &at.y.row(r)[cols.clone()]);
        store::<S>(e * scale, &mut at.y.row(r)[cols.clone()]);
    }
}

#[inline(always)]
fn log_softmax_column<S: Simd>(s: S, at: &mut Columns<'_>, n: usize, cols: Cols) {
    let max = at.max(s, n, cols.clone());
    let mut sum = s.zero();
    for r in 0..n {
        sum = sum + math::exp(s, at.load(s, r, cols.clone()) - max);
    }
    let log = math::log(s, sum);
    for r in 0..n {
        let x = at.load(s, r, cols.clone());
        store::<S>(x - max - log, &mut at.y.row(r)[cols.clone()]);
    }
}

fn hardmax_column(at: &mut Columns<'_>, n: usize, cols: Cols) {
    for col in cols {
        let mut best = (0, f32::NEG_INFINITY);
        for r in 0..n {
            let x = at.row(r, col..col + 1)[0];
            if x > best.1 || (x.is_nan() && !best.1.is_nan()) {
                best = (r, x);
            }
        }
        for r in 0..n {
            at.y.row(r)[col] = if r == best.0 { 1.0 } else { 0.0 };
        }
    }
}

fn run_f64(kind: SoftmaxKind, axes: Axes, args: &mut Args<'_>) -> Result<(), Reason> {
    let (x, cx) = (source::<f64>(args), args.cx);
    let y = args.outputs[0].as_mut_slice::<f64>();
    if !x.is_empty() {
        y.copy_from_slice(x);
    }
    let Axes { n, inner, .. } = axes;
    par::chunks_mut(y, n * inner, par::grain(n * inner * 10), |_, y| {
        for col in 0..inner {
            if cx.check().is_ok() {
                column_f64(kind, &mut y[col..], inner);
            }
        }
    });
    cx.check()
}

/// Every `stride`-th element of `y`.
fn column_f64(kind: SoftmaxKind, y: &mut [f64], stride: usize) {
    let max = |a: f64, &x: &f64| if a.is_nan() || a > x { a } else { x };
    let max = y.iter().step_by(stride).fold(f64::NEG_INFINITY, max);
    let sum: f64 = y.iter().step_by(stride).map(|x| (x - max).exp()).sum();
    match kind {
        SoftmaxKind::Softmax => {
            y.iter_mut().step_by(stride).for_each(|y| *y = (*y - max).exp() / sum);
        }
        SoftmaxKind::LogSoftmax => {
            let log = sum.ln();
            y.iter_mut().step_by(stride).for_each(|y| *y = *y - max - log);
        }
        SoftmaxKind::Hardmax => {
            let is_max = |y: &f64| *y == max || y.is_nan();
            let first = y.iter().step_by(stride).position(is_max).unwrap_or(0);
            let rows = y.iter_mut().step_by(stride).enumerate();
            rows.for_each(|(r, y)| *y = if r == first { 1.0 } else { 0.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::Axis;

    fn softmax(isa: Isa, kind: SoftmaxKind, axis: i64, x: &Tensor) -> Vec<f32> {
        let y = run1(isa, Softmax { kind, axis: Axis(axis) }, std::slice::from_ref(x)).unwrap();
        y.as_slice::<f32>().to_vec()
    }

    #[test]
    fn every_axis_agrees_with_double_precision() {
        let shape = [3, 70, 37];
        let x: Vec<f32> = (0..3 * 70 * 37).map(|i| (i * 7919 % 1009) as f32 / 50.0 - 7.0).collect();
        let wide: Vec<f64> = x.iter().map(|&x| x as f64).collect();
        let (x, wide) = (Tensor::from_slice(&shape, &x), Tensor::from_slice(&shape, &wide));
        for isa in Isa::available() {
            for kind in [SoftmaxKind::Softmax, SoftmaxKind::LogSoftmax, SoftmaxKind::Hardmax] {
                for axis in 0..3 {
                    let exact = run1(isa, Softmax { kind, axis: Axis(axis) }, &[wide.clone()]);
                    let y = softmax(isa, kind, axis, &x);
                    for (y, e) in y.iter().zip(exact.unwrap().as_slice::<f64>()) {
                        assert!((*y as f64 - e).abs() <= 2e-6 * (e.abs() + 0.1), "{y} and {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn large_numbers_do_not_overflow_and_masked_rows_are_nan() {
        let inf = f32::INFINITY;
        let x = Tensor::from_slice(&[2, 3], &[1e5, 1e5, -inf, -inf, -inf, -inf]);
        for isa in Isa::available() {
            let y = softmax(isa, SoftmaxKind::Softmax, 1, &x);
            assert_eq!(y[..3], [0.5, 0.5, 0.0]);
            assert!(y[3..].iter().all(|y| y.is_nan()));
        }
    }

    #[test]
    fn the_first_of_the_largest_is_hard() {
        let x = Tensor::vector(&[1.0f32, 3.0, 3.0]);
        assert_eq!(softmax(Isa::best(), SoftmaxKind::Hardmax, 0, &x), [0.0, 1.0, 0.0]);
    }
}
