//! Interpolation, one axis after the other, through f32 or f64.

use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::Samples;
use rinfer_graph::{DType, Element, Reason};

use super::Job;
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch_of;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// A number that is interpolated as `Acc`: f32 or f64.
pub(super) trait Number<Acc>: Element {
    fn widen(self) -> Acc;
    /// Rounded to nearest even and clipped to what the type holds.
    fn narrow(x: Acc) -> Self;
}

macro_rules! numbers {
    ($Acc:ty: $($T:ty = |$t:ident| $widen:expr, |$x:ident| $narrow:expr;)*) => { $(
        impl Number<$Acc> for $T {
            #[inline(always)]
            fn widen(self) -> $Acc {
                let $t = self;
                $widen
            }
            #[inline(always)]
            fn narrow($x: $Acc) -> $T {
                $narrow
            }
        }
    )* };
}
numbers! { f32:
    f32 = |t| t, |x| x;
    half::f16 = |t| t.to_f32(), |x| half::f16::from_f32(x);
    half::bf16 = |t| t.to_f32(), |x| half::bf16::from_f32(x);
    i8 = |t| t.into(), |x| x.round_ties_even() as i8;
    u8 = |t| t.into(), |x| x.round_ties_even() as u8;
    i16 = |t| t.into(), |x| x.round_ties_even() as i16;
    u16 = |t| t.into(), |x| x.round_ties_even() as u16;
}
numbers! { f64:
    f64 = |t| t, |x| x;
    i32 = |t| t.into(), |x| x.round_ties_even() as i32;
    u32 = |t| t.into(), |x| x.round_ties_even() as u32;
    i64 = |t| t as f64, |x| x.round_ties_even() as i64;
    u64 = |t| t as f64, |x| x.round_ties_even() as u64;
}

/// What sums are made in.
pub(super) trait Accumulate: Element {
    fn from_f32(x: f32) -> Self;
    fn mul_add(self, w: f32, sum: Self) -> Self;
}

impl Accumulate for f32 {
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn mul_add(self, w: f32, sum: f32) -> f32 {
        self * w + sum
    }
}

impl Accumulate for f64 {
    #[inline(always)]
    fn from_f32(x: f32) -> f64 {
        x.into()
    }
    #[inline(always)]
    fn mul_add(self, w: f32, sum: f64) -> f64 {
        self * f64::from(w) + sum
    }
}

/// What [`run`] takes for so many numbers of this type.
pub(super) fn scratch(dtype: DType, len: usize) -> Scratch {
    match dtype {
        DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => Scratch::of::<f64>(len),
        _ => Scratch::floats(len),
    }
}

/// The most numbers that there are before the first axis, after the second, and so on; and the
/// most after the first, the third, and so on.
pub(super) fn rooms(job: &Job) -> (usize, usize) {
    let mut sizes = job.input.clone();
    let count = |sizes: &[usize]| rinfer_graph::shape::count(sizes).unwrap_or(usize::MAX / 2);
    let mut rooms = (count(&sizes), 0);
    for (axis, _) in &job.axes {
        sizes[*axis] = job.output[*axis];
        rooms = (rooms.1.max(count(&sizes)), rooms.0);
    }
    if job.axes.len() % 2 == 0 { rooms } else { (rooms.1, rooms.0) }
}

pub(super) fn run<T: Number<Acc>, Acc: Accumulate>(
    isa: Isa,
    job: &Job,
    x: &[T],
    y: &mut [T],
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    let rooms = rooms(job);
    let read = |a: &mut [Acc]| a.iter_mut().zip(x).for_each(|(a, &x)| *a = x.widen());
    let mut write = |a: &[Acc]| y.iter_mut().zip(a).for_each(|(y, &a)| *y = T::narrow(a));
    each_axis(isa, job, (rooms, cx), &read, &mut write)
}

/// Reads the input, goes from axis to axis, writes the output: once for all types.
fn each_axis<Acc: Accumulate>(
    isa: Isa,
    job: &Job,
    ((one, other), cx): ((usize, usize), &RunCx<'_>),
    read: &dyn Fn(&mut [Acc]),
    write: &mut dyn FnMut(&[Acc]),
) -> Result<(), Reason> {
    with_scratch_of(one.saturating_add(other), |scratch: &mut [Acc]| {
        let (mut a, mut b) = scratch.split_at_mut(one);
        read(a);
        let mut sizes = job.input.clone();
        for (axis, samples) in &job.axes {
            cx.check()?;
            let outer: usize = sizes[..*axis].iter().product();
            let inner: usize = sizes[axis + 1..].iter().product();
            let (from, to) = (sizes[*axis], job.output[*axis]);
            let (x, y) = (&a[..outer * from * inner], &mut b[..outer * to * inner]);
            step(isa, samples, (from, to, inner), x, y);
            sizes[*axis] = to;
            std::mem::swap(&mut a, &mut b);
        }
        write(a);
        Ok(())
    })
    .map_err(limit)?
}

/// `[outer, from, inner]` to `[outer, to, inner]`.
fn step<Acc: Accumulate>(
    isa: Isa,
    s: &Samples,
    (from, to, inner): (usize, usize, usize),
    x: &[Acc],
    y: &mut [Acc],
) {
    let ns = inner * s.taps;
    par::rows(y, inner, ns, |rows, y| {
        crate::simd_dispatch!(isa, _s => {
            for (r, y) in rows.zip(y.chunks_exact_mut(inner)) {
                one(s, &x[r / to * from * inner..][..from * inner], r % to, y);
            }
        });
    });
}

/// The elements at place `o`.
#[inline(always)]
fn one<Acc: Accumulate>(s: &Samples, x: &[Acc], o: usize, y: &mut [Acc]) {
    if let Some((value, outside)) = &s.outside
        && outside[o]
    {
        y.fill(Acc::from_f32(*value));
        return;
    }
    let inner = y.len();
    let at = o * s.taps..(o + 1) * s.taps;
    y.fill(Acc::default());
    for (&i, &w) in s.index[at.clone()].iter().zip(&s.weight[at]) {
        if w != 0.0 {
            let x = &x[i * inner..][..inner];
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = x.mul_add(w, *y));
        }
    }
}
