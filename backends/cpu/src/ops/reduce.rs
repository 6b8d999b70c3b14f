//! The Reduce family: folds axes into one number each.
//!
//! Neighbouring axes of one fate are one axis, so x is rows of runs: either the last axis is
//! folded, run by run, or it is kept, and rows are folded into one another.

use half::{bf16, f16};
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{Reduce, ReduceKind};
use rinfer_graph::{DType, Fact, Reason, invalid, unsupported};

use super::fold::{self, CHUNK, Rows, Which};
use super::{lanes, reduce_exact as exact};
use crate::convert::Float;
use crate::kernel::{Args, Cx, Kernel};
use crate::scratch::Scratch;
use crate::simd::Isa;
use crate::{math, par, pool};

pub(super) fn compile(op: &Reduce, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axes = match cx.opt(1) {
        None => Default::default(),
        Some(axes) => axes.ints().ok_or_else(|| invalid!("the axes, {axes}, are not known"))?,
    };
    let layout = Layout::new(&sizes, &op.folded(&axes, sizes.len())?);
    let (kind, isa) = (op.kind, cx.isa);
    let (sums, made) = (layout.scratch(cx), cx.outputs.first().and_then(Fact::len).unwrap_or(0));
    let wide = Scratch::floats(sizes.iter().product()).and(Scratch::floats(made));
    let wide = wide.and(sums.clone());
    Ok(match cx.dtype(0)? {
        DType::F32 => Kernel::new(move |args| run(isa, kind, &layout, args)).takes(sums),
        DType::F16 => {
            Kernel::new(move |args| run_half::<f16>(isa, kind, &layout, args)).takes(wide)
        }
        DType::BF16 => {
            Kernel::new(move |args| run_half::<bf16>(isa, kind, &layout, args)).takes(wide)
        }
        DType::F64 => exact::floats(kind, layout),
        dtype if dtype == DType::Bool || (dtype.is_int() && dtype.size() > 0) => {
            exact::ints(kind, dtype, layout)?
        }
        dtype => return Err(unsupported!("Reduce{kind:?} of {dtype} is not supported")),
    })
}

/// What the innermost axis is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Inner {
    /// Folded: each run of this length is one contribution.
    Fold(usize),
    /// Kept: each row of this length is folded into the others.
    Keep(usize),
}

/// Where the elements of one output, or of one row of outputs, are found.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Size and stride of the kept axes before the innermost.
    kept: Vec<(usize, usize)>,
    /// Offsets of what is folded, relative to an output's first element.
    starts: Vec<usize>,
    /// At each start, so many rows ...
    n: usize,
    /// ... this far apart.
    stride: usize,
    pub inner: Inner,
    /// Elements that make one output.
    pub count: usize,
}

impl Layout {
    /// `folded` has an entry for each size.
    pub fn new(sizes: &[usize], folded: &[bool]) -> Layout {
        let count = sizes.iter().zip(folded).filter(|s| *s.1).map(|s| *s.0);
        let count = count.fold(1usize, usize::saturating_mul);
        let mut layout = Layout {
            kept: Vec::new(),
            starts: vec![0],
            n: 1,
            stride: 0,
            inner: Inner::Keep(1),
            count,
        };
        if sizes.contains(&0) {
            // There is nothing to read; what is kept still has a size.
            let kept = sizes.iter().zip(folded).filter(|s| !s.1).map(|s| *s.0);
            layout.inner = Inner::Keep(kept.fold(1usize, usize::saturating_mul));
            layout.starts.clear();
            return layout;
        }
        let mut groups: Vec<(usize, usize, bool)> = Vec::new();
        let strides = rinfer_graph::shape::strides(sizes);
        for ((&size, &folded), &stride) in sizes.iter().zip(folded).zip(&strides) {
            match groups.last_mut() {
                _ if size == 1 => {}
                Some(last) if last.2 == folded => *last = (last.0 * size, stride, folded),
                _ => groups.push((size, stride, folded)),
            }
        }
        if let Some((size, _, folded)) = groups.pop() {
            layout.inner = if folded { Inner::Fold(size) } else { Inner::Keep(size) };
        }
        let outer_fold = groups.iter().rposition(|g| g.2);
        if let (Inner::Keep(_), Some(i)) = (layout.inner, outer_fold) {
            let (n, stride, _) = groups.remove(i);
            (layout.n, layout.stride) = (n, stride);
        }
        layout.kept = groups.iter().filter(|g| !g.2).map(|g| (g.0, g.1)).collect();
        for (size, stride, _) in groups.iter().filter(|g| g.2) {
            let starts = layout.starts.iter();
            layout.starts = starts.flat_map(|s| (0..*size).map(move |i| s + i * stride)).collect();
        }
        layout
    }

    /// Where the first element of output (or row of outputs) `o` stands.
    pub fn base(&self, mut o: usize) -> usize {
        let mut base = 0;
        for &(size, stride) in self.kept.iter().rev() {
            base += o % size * stride;
            o /= size;
        }
        base
    }

    /// What the sums of pieces of an output take, if there are few outputs.
    fn scratch(&self, cx: &Cx<'_>) -> Scratch {
        let outputs = cx.outputs.first().and_then(Fact::len).unwrap_or(0);
        match self.inner {
            Inner::Fold(n) if self.has_few(outputs) => {
                Scratch::of::<f64>(self.starts.len() * n.div_ceil(CHUNK))
            }
            _ => Scratch::none(),
        }
    }

    /// Whether there are fewer outputs than threads could share.
    fn has_few(&self, outputs: usize) -> bool {
        outputs < 4 * par::threads() && self.count > CHUNK
    }

    /// The folded rows of a row of outputs.
    pub fn rows(&self) -> Rows<'_> {
        Rows { starts: &self.starts, n: self.n, stride: self.stride }
    }
}

/// What is computed, and with what.
struct Job<'a> {
    isa: Isa,
    kind: ReduceKind,
    which: Which,
    layout: &'a Layout,
    x: &'a [f32],
    cx: &'a RunCx<'a>,
}

fn run(isa: Isa, kind: ReduceKind, layout: &Layout, args: &mut Args<'_>) -> Result<(), Reason> {
    let (x, cx) = (args.input(0)?, args.cx);
    let y = args.outputs[0].as_mut_slice::<f32>();
    reduce(isa, kind, layout, x.as_slice(), y, cx)
}

/// Half precision, folded in f32 and rounded once.
fn run_half<T: Float>(
    isa: Isa,
    kind: ReduceKind,
    layout: &Layout,
    args: &mut Args<'_>,
) -> Result<(), Reason> {
    let (x, cx) = (args.input(0)?.as_slice::<T>(), args.cx);
    let y = args.outputs[0].as_mut_slice::<T>();
    let memory = |text: String| Reason::new(rinfer_graph::Kind::Limit, text);
    let result = pool::with_scratch(x.len(), |wide| {
        lanes::widen(isa, x, wide);
        pool::with_scratch(y.len(), |sums| {
            reduce(isa, kind, layout, wide, sums, cx)?;
            T::narrow(isa, sums, y);
            Ok(())
        })
    });
    result.map_err(memory)?.map_err(memory)?
}

fn reduce(
    isa: Isa,
    kind: ReduceKind,
    layout: &Layout,
    x: &[f32],
    y: &mut [f32],
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    let which = match kind {
        ReduceKind::Sum | ReduceKind::Mean | ReduceKind::LogSum => Which::Sum,
        ReduceKind::L1 => Which::Abs,
        ReduceKind::L2 | ReduceKind::SumSquare => Which::Square,
        ReduceKind::LogSumExp => Which::Exp,
        ReduceKind::Max => Which::Max,
        ReduceKind::Min => Which::Min,
        ReduceKind::Prod => Which::Product,
    };
    let job = Job { isa, kind, which, layout, x, cx };
    match layout.inner {
        _ if y.is_empty() => {}
        Inner::Fold(n) if layout.has_few(y.len()) => job.few(n, y)?,
        Inner::Fold(n) => {
            // A run is read at some 10 GB/s, and takes some time to begin with.
            let grain = par::grain(layout.count / 4 + 10 * layout.starts.len());
            par::chunks_mut(y, 1, grain, |o, y| y[0] = job.output(n, o));
        }
        Inner::Keep(m) => {
            // Tiles of columns, so that the accumulators stay in L1 and threads have work.
            let grain = par::grain(layout.count * TILE / 4);
            let rows = y.len() / m;
            if rows > 1 && rows >= par::threads() {
                par::chunks_mut(y, m, grain / m.div_ceil(TILE), |row, y| {
                    for (tile, y) in y.chunks_mut(TILE).enumerate() {
                        job.columns(row, tile, y);
                    }
                });
            } else {
                for (row, y) in y.chunks_mut(m).enumerate() {
                    par::chunks_mut(y, TILE, grain, |tile, y| job.columns(row, tile, y));
                }
            }
        }
    }
    cx.check()
}

/// Columns that are folded at once.
const TILE: usize = 256;

impl Job<'_> {
    /// Output `o`, folded from runs of `n` elements.
    fn output(&self, n: usize, o: usize) -> f32 {
        if o % 64 == 0 && self.cx.check().is_err() {
            return 0.0;
        }
        let base = self.layout.base(o);
        let fold = |which: Which, shift: f32| {
            let mut total = which.start();
            for start in &self.layout.starts {
                for x in self.x[base + start..][..n].chunks(CHUNK) {
                    total = which.total(total, fold::fold(self.isa, which, x, shift));
                }
            }
            total
        };
        let shift = match self.kind {
            ReduceKind::LogSumExp => finite(fold(Which::Max, 0.0) as f32),
            _ => 0.0,
        };
        self.finish(fold(self.which, shift), shift)
    }

    /// Fewer outputs than threads could share: the runs themselves are shared out.
    fn few(&self, n: usize, y: &mut [f32]) -> Result<(), Reason> {
        for (o, y) in y.iter_mut().enumerate() {
            let shift = match self.kind {
                ReduceKind::LogSumExp => finite(self.pieces(Which::Max, n, o, 0.0)? as f32),
                _ => 0.0,
            };
            *y = self.finish(self.pieces(self.which, n, o, shift)?, shift);
        }
        Ok(())
    }

    /// Output `o`, its pieces folded by several threads and joined in order.
    fn pieces(&self, which: Which, n: usize, o: usize, shift: f32) -> Result<f64, Reason> {
        let (base, starts) = (self.layout.base(o), &self.layout.starts);
        let per_start = n.div_ceil(CHUNK);
        let memory = |text: String| Reason::new(rinfer_graph::Kind::Limit, text);
        pool::with_scratch_of(starts.len() * per_start, |totals: &mut [f64]| {
            par::chunks_mut(totals, 1, par::grain(n.min(CHUNK) / 4), |i, total| {
                let (start, chunk) = (starts[i / per_start], i % per_start * CHUNK);
                let x = &self.x[base + start + chunk..][..CHUNK.min(n - chunk)];
                if self.cx.check().is_ok() {
                    total[0] = fold::fold(self.isa, which, x, shift);
                }
            });
            totals.iter().fold(which.start(), |a, &b| which.total(a, b))
        })
        .map_err(memory)
    }

    /// The result, once all elements are one.
    fn finish(&self, total: f64, shift: f32) -> f32 {
        match self.kind {
            ReduceKind::Mean => (total / self.layout.count as f64) as f32,
            ReduceKind::L2 => total.sqrt() as f32,
            ReduceKind::LogSum => total.ln() as f32,
            ReduceKind::LogSumExp => (total.ln() + shift as f64) as f32,
            _ => total as f32,
        }
    }

    /// Tile `tile` of the outputs in row `row`.
    fn columns(&self, row: usize, tile: usize, y: &mut [f32]) {
        if self.cx.check().is_err() {
            return;
        }
        let at = (self.x, self.layout.base(row) + tile * TILE);
        let rows = self.layout.rows();
        if self.kind == ReduceKind::LogSumExp {
            let mut shift = [0.0; TILE];
            let shift = &mut shift[..y.len()];
            fold::columns(self.isa, Which::Max, at, rows, &[], shift);
            shift.iter_mut().for_each(|s| *s = finite(*s));
            fold::columns(self.isa, self.which, at, rows, shift, y);
            math::map::log_in_place(self.isa, y);
            return y.iter_mut().zip(shift).for_each(|(y, shift)| *y += *shift);
        }
        fold::columns(self.isa, self.which, at, rows, &[], y);
        let n = self.layout.count as f32;
        match self.kind {
            ReduceKind::Mean => y.iter_mut().for_each(|y| *y /= n),
            ReduceKind::L2 => y.iter_mut().for_each(|y| *y = y.sqrt()),
            ReduceKind::LogSum => math::map::log_in_place(self.isa, y),
            _ => {}
        }
    }
}

/// The shift of a LogSumExp whose largest element is `max`.
fn finite(max: f32) -> f32 {
    if max.is_infinite() { 0.0 } else { max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use rinfer_graph::{Bool, Element, Tensor};

    fn reduce<T: Element>(isa: Isa, kind: ReduceKind, x: &Tensor, axes: &[i64]) -> Vec<T> {
        let op = Reduce { kind, keepdims: false, noop_with_empty_axes: false };
        let y = run1(isa, op, &[x.clone(), Tensor::vector(axes)]).unwrap();
        y.as_slice::<T>().to_vec()
    }

    fn numbers(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let x = (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 100.0 - 4.0);
        Tensor::from_slice(shape, &x.collect::<Vec<_>>())
    }

    #[test]
    fn every_layout_folds_what_the_definition_says() {
        let shape = [3, 4, 5, 37];
        let x = numbers(&shape);
        let strides = rinfer_graph::shape::strides(&shape);
        for mask in 0..16usize {
            let axes: Vec<i64> = (0..4).filter(|a| mask >> a & 1 == 1).collect();
            if axes.is_empty() {
                continue;
            }
            let kept: Vec<usize> = (0..4).filter(|a| mask >> a & 1 == 0).collect();
            let mut expected = vec![0.0f64; kept.iter().map(|&a| shape[a]).product()];
            for (i, &x) in x.as_slice::<f32>().iter().enumerate() {
                let at = kept.iter().fold(0, |at, &a| at * shape[a] + i / strides[a] % shape[a]);
                expected[at] += x as f64;
            }
            for isa in Isa::available() {
                let y = reduce::<f32>(isa, ReduceKind::Sum, &x, &axes);
                for (y, e) in y.iter().zip(&expected) {
                    assert!((*y as f64 - e).abs() < 1e-3, "{axes:?}: {y} and {e}");
                }
            }
        }
    }

    #[test]
    fn a_long_sum_is_precise_and_the_same_on_any_number_of_threads() {
        let x = Tensor::from_slice(&[300_001], &vec![0.1f32; 300_001]);
        for isa in Isa::available() {
            let sum = |threads| {
                let pool = crate::par::Pool::new(threads).unwrap();
                pool.install(|| reduce::<f32>(isa, ReduceKind::Sum, &x, &[0])[0])
            };
            assert!((sum(1) - 30000.1).abs() < 0.03, "{}", sum(1));
            assert_eq!(sum(1).to_bits(), sum(3).to_bits());
        }
    }

    #[test]
    fn many_rows_lose_no_precision() {
        let x = Tensor::from_slice(&[100_000, 5], &vec![0.1f32; 500_000]);
        for isa in Isa::available() {
            let y = reduce::<f32>(isa, ReduceKind::Sum, &x, &[0]);
            assert!(y.iter().all(|y| (y - 10000.0).abs() < 0.01), "{y:?}");
        }
    }

    #[test]
    fn each_kind_is_its_formula() {
        let x = Tensor::vector(&[3.0f32, -4.0]);
        for isa in Isa::available() {
            let y = |kind| reduce::<f32>(isa, kind, &x, &[0])[0];
            assert_eq!(y(ReduceKind::L1), 7.0);
            assert_eq!(y(ReduceKind::L2), 5.0);
            assert_eq!(y(ReduceKind::SumSquare), 25.0);
            assert_eq!(y(ReduceKind::Mean), -0.5);
            assert_eq!(y(ReduceKind::Prod), -12.0);
            assert_eq!((y(ReduceKind::Min), y(ReduceKind::Max)), (-4.0, 3.0));
            assert!(y(ReduceKind::LogSum).is_nan());
            assert!((y(ReduceKind::LogSumExp) - 3.000_911_5).abs() < 1e-6);
        }
    }

    #[test]
    fn nothing_folds_to_the_empty_sets_value() {
        let x = Tensor::try_zeros(DType::F32, &[2, 0]).unwrap();
        let y = |kind| reduce::<f32>(Isa::best(), kind, &x, &[1]);
        assert_eq!(y(ReduceKind::Sum), [0.0; 2]);
        assert_eq!(y(ReduceKind::Prod), [1.0; 2]);
        assert_eq!(y(ReduceKind::LogSumExp), [f32::NEG_INFINITY; 2]);
        assert_eq!(y(ReduceKind::Max), [f32::NEG_INFINITY; 2]);
        assert!(reduce::<f32>(Isa::best(), ReduceKind::Sum, &x, &[0]).is_empty());
    }

    #[test]
    fn infinities_and_nans_come_through() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for isa in Isa::available() {
            for axis in [0, 1] {
                let y = |kind, a, b| {
                    let shape = if axis == 0 { [2, 1] } else { [1, 2] };
                    let x = Tensor::from_slice(&shape, &[a, b]);
                    reduce::<f32>(isa, kind, &x, &[axis])[0]
                };
                assert!(
                    y(ReduceKind::Max, nan, 1.0).is_nan() && y(ReduceKind::Max, 1.0, nan).is_nan()
                );
                assert!(
                    y(ReduceKind::Min, nan, 1.0).is_nan() && y(ReduceKind::Min, 1.0, nan).is_nan()
                );
                assert_eq!(y(ReduceKind::Sum, inf, 1.0), inf);
                assert_eq!(y(ReduceKind::LogSumExp, -inf, -inf), -inf);
                assert_eq!(y(ReduceKind::LogSumExp, inf, 1.0), inf);
                assert_eq!(y(ReduceKind::LogSumExp, 1000.0, -inf), 1000.0);
            }
        }
    }

    #[test]
    fn integers_halves_and_truth_values_fold_too() {
        let isa = Isa::best();
        let x = Tensor::vector(&[i64::MAX, 2, -7]);
        assert_eq!(reduce::<i64>(isa, ReduceKind::Sum, &x, &[0]), [i64::MAX - 5]);
        assert_eq!(reduce::<i64>(isa, ReduceKind::Min, &x, &[0]), [-7]);
        let x = Tensor::vector(&[-7i32, 2]);
        assert_eq!(reduce::<i32>(isa, ReduceKind::Mean, &x, &[0]), [-2]);
        let x = Tensor::vector(&[Bool(1), Bool(0)]);
        assert_eq!(reduce::<Bool>(isa, ReduceKind::Max, &x, &[0]), [Bool(1)]);
        let x = Tensor::vector(&[1.5, 2.5].map(f16::from_f32));
        assert_eq!(reduce::<f16>(isa, ReduceKind::Sum, &x, &[0]), [f16::from_f32(4.0)]);
        let x = Tensor::vector(&[1.0f64, f64::INFINITY]);
        assert_eq!(reduce::<f64>(isa, ReduceKind::LogSumExp, &x, &[0]), [f64::INFINITY]);
    }
}
