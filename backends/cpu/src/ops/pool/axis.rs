//! A pool over a window, axis by axis: [outer, input, inner] → [outer, output, inner].
//!
//! The largest of a box is the largest of its rows' largest, and sums are alike; so each axis is
//! reduced by itself, the outermost first, where rows of the inner axes are combined whole.

use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{PoolKind, Span};
use rinfer_graph::{Element, Reason};

use crate::conv::Geometry;
use crate::conv::geometry::{inside, taps_inside};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch_of;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// An element that can be pooled. Bytes have no mean and no norm: those are refused before.
pub(super) trait Item: Element + PartialOrd {
    /// Not larger than any element.
    const LEAST: Self;
    const ZERO: Self;
    fn add(self, b: Self) -> Self;
    fn divide(self, n: usize) -> Self;
    /// |x|ᵖ
    fn power(self, p: f32) -> Self;
    /// x^(1/p)
    fn root(self, p: f32) -> Self;
}

macro_rules! floats {
    ($($T:ident),*) => { $(
        impl Item for $T {
            const LEAST: $T = $T::NEG_INFINITY;
            const ZERO: $T = 0.0;
            #[inline(always)]
            fn add(self, b: $T) -> $T {
                self + b
            }
            #[inline(always)]
            fn divide(self, n: usize) -> $T {
                self / n as $T
            }
            #[inline(always)]
            fn power(self, p: f32) -> $T {
                match p {
                    1.0 => self.abs(),
                    2.0 => self * self,
                    p => self.abs().powf(p as $T),
                }
            }
            #[inline(always)]
            fn root(self, p: f32) -> $T {
                match p {
                    1.0 => self,
                    2.0 => self.sqrt(),
                    p => self.powf(1.0 / p as $T),
                }
            }
        }
    )* };
}
floats!(f32, f64);

macro_rules! bytes {
    ($($T:ident),*) => { $(
        impl Item for $T {
            const LEAST: $T = $T::MIN;
            const ZERO: $T = 0;
            #[inline(always)]
            fn add(self, b: $T) -> $T {
                self.wrapping_add(b)
            }
            #[inline(always)]
            fn divide(self, n: usize) -> $T {
                (self as usize).checked_div(n).unwrap_or(0) as $T
            }
            #[inline(always)]
            fn power(self, _: f32) -> $T {
                self
            }
            #[inline(always)]
            fn root(self, _: f32) -> $T {
                self
            }
        }
    )* };
}
bytes!(i8, u8);

/// A pool made ready: the axes that have anything to do, outermost first.
pub(super) struct Steps {
    kind: PoolKind,
    axes: Vec<Step>,
    /// Elements of a channel: before, and after.
    lens: (usize, usize),
    /// Elements of scratch memory a channel needs between the axes.
    scratch: usize,
    /// Elements under the window for each output of each axis: what a mean is divided by.
    counts: [Vec<usize>; 3],
}

struct Step {
    span: Span,
    outer: usize,
    inner: usize,
}

impl Steps {
    pub fn new(g: Geometry, kind: PoolKind) -> Steps {
        let sizes = |from: usize, to: usize, f: fn(&Span) -> usize| -> usize {
            g.axes[from..to].iter().map(f).product()
        };
        let mut axes = Vec::new();
        let mut scratch = 0;
        for (i, &span) in g.axes.iter().enumerate() {
            let trivial = span.kernel == 1 && span.stride == 1 && span.before + span.after == 0;
            if !trivial {
                let outer = sizes(0, i, |a| a.output);
                axes.push(Step { span, outer, inner: sizes(i + 1, 3, |a| a.input) });
                scratch = scratch.max(outer * span.output * sizes(i + 1, 3, |a| a.input));
            }
        }
        let include = matches!(kind, PoolKind::Average { count_include_pad: true });
        let counts = g.axes.each_ref().map(|a| {
            // Padding counts only as far as it goes: a last window may end beyond it.
            let padded = Span { input: a.input + a.before + a.after, before: 0, ..*a };
            (0..a.output).map(|o| taps_inside(if include { &padded } else { a }, o).len()).collect()
        });
        Steps { kind, axes, lens: (g.in_len(), g.out_len()), scratch, counts }
    }

    /// What [`Steps::run`] takes for so many channels of elements of `size` bytes.
    pub fn scratch(&self, channels: usize, size: usize) -> Scratch {
        let (from, to) = self.lens;
        let channel = (2 * self.scratch + from).saturating_mul(size);
        Scratch::of::<u8>(channel).in_loop(channels, par::grain(from + to))
    }

    /// Pools every channel of `x` into `y`.
    pub fn run<T: Item>(
        &self,
        isa: Isa,
        x: &[T],
        y: &mut [T],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let (from, to) = self.lens;
        if y.is_empty() {
            return Ok(());
        }
        let failure = par::Failure::default();
        par::zip_chunks((x, from), (y, to), par::grain(from + to), |_, x, y| {
            failure.attempt(|| {
                cx.check()?;
                let scratch = 2 * self.scratch + from;
                with_scratch_of(scratch, |s: &mut [T]| self.channel(isa, x, y, s)).map_err(limit)
            });
        });
        failure.result()
    }

    fn channel<T: Item>(&self, isa: Isa, x: &[T], y: &mut [T], scratch: &mut [T]) {
        let (mapped, scratch) = scratch.split_at_mut(self.lens.0);
        let x = match self.kind {
            PoolKind::Lp { p } => {
                x.iter().zip(&mut *mapped).for_each(|(x, m)| *m = x.power(p));
                &*mapped
            }
            _ => x,
        };
        let (mut a, mut b) = scratch.split_at_mut(self.scratch);
        match self.axes.as_slice() {
            [] => y.copy_from_slice(x),
            [only] => self.step(isa, only, x, y),
            [first, rest @ .., last] => {
                let len = first.len();
                self.step(isa, first, x, &mut a[..len]);
                let mut len = len;
                for step in rest {
                    self.step(isa, step, &a[..len], &mut b[..step.len()]);
                    len = step.len();
                    std::mem::swap(&mut a, &mut b);
                }
                self.step(isa, last, &a[..len], y);
            }
        }
        match self.kind {
            PoolKind::Max { .. } => {}
            PoolKind::Average { .. } => self.divide(y),
            PoolKind::Lp { p } => y.iter_mut().for_each(|y| *y = y.root(p)),
        }
    }

    fn step<T: Item>(&self, isa: Isa, step: &Step, x: &[T], y: &mut [T]) {
        match self.kind {
            PoolKind::Max { .. } => {
                crate::simd_dispatch!(isa, _s => reduce(step, x, y, T::LEAST, larger::<T>))
            }
            _ => crate::simd_dispatch!(isa, _s => reduce(step, x, y, T::ZERO, T::add)),
        }
    }

    fn divide<T: Item>(&self, y: &mut [T]) {
        let [d, h, w] = &self.counts;
        let planes = d.iter().flat_map(|a| h.iter().map(move |b| a * b));
        for (rows, y) in planes.zip(y.chunks_exact_mut(w.len().max(1))) {
            y.iter_mut().zip(w).for_each(|(y, n)| *y = y.divide(rows * n));
        }
    }
}

impl Step {
    /// Elements it makes.
    fn len(&self) -> usize {
        self.outer * self.span.output * self.inner
    }
}

#[inline(always)]
fn larger<T: Item>(a: T, b: T) -> T {
    // NaN in either stays: a is replaced unless it is larger, and then b was a number.
    #[allow(clippy::eq_op)]
    let is_nan = a != a;
    if a > b || is_nan { a } else { b }
}

#[inline(always)]
fn reduce<T: Item>(step: &Step, x: &[T], y: &mut [T], init: T, f: impl Fn(T, T) -> T + Copy) {
    let (a, inner) = (&step.span, step.inner);
    if a.output == 0 || inner == 0 {
        return;
    }
    let xs = x.chunks_exact(a.input * inner);
    for (x, y) in xs.zip(y.chunks_exact_mut(a.output * inner)) {
        if inner == 1 {
            along(a, x, y, init, f);
            continue;
        }
        for (o, y) in y.chunks_exact_mut(inner).enumerate() {
            y.fill(init);
            for k in taps_inside(a, o) {
                let at = (o * a.stride + k * a.dilation - a.before) * inner;
                y.iter_mut().zip(&x[at..at + inner]).for_each(|(y, &x)| *y = f(*y, x));
            }
        }
    }
}

/// Along the innermost axis: whole vectors of outputs where every tap lies inside.
#[inline(always)]
fn along<T: Item>(a: &Span, x: &[T], y: &mut [T], init: T, f: impl Fn(T, T) -> T + Copy) {
    y.fill(init);
    let inside = inside(a);
    for o in (0..inside.start).chain(inside.end..a.output) {
        for k in taps_inside(a, o) {
            y[o] = f(y[o], x[o * a.stride + k * a.dilation - a.before]);
        }
    }
    if inside.is_empty() {
        return;
    }
    let x = &x[inside.start * a.stride - a.before..];
    let y = &mut y[inside];
    for k in 0..a.kernel {
        let x = &x[k * a.dilation..];
        match a.stride {
            1 => y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(*y, x)),
            2 => {
                let last = y.len() - 1;
                let pairs = x.chunks_exact(2);
                y[..last].iter_mut().zip(pairs).for_each(|(y, x)| *y = f(*y, x[0]));
                y[last] = f(y[last], x[2 * last]);
            }
            s => y.iter_mut().zip(x.iter().step_by(s)).for_each(|(y, &x)| *y = f(*y, x)),
        }
    }
}
