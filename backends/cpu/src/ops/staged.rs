//! Kernels written for f32 run on half precision too: their tensors are widened and narrowed.

use half::{bf16, f16};
use rinfer_graph::{DType, Element, Fact, Reason, Tensor, unsupported};
use smallvec::SmallVec;

use crate::convert::Float;
use crate::kernel::{Args, Cx, limit};
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// The inputs of a kernel that have the dtype of input 0, by their positions.
pub(super) type Inputs<'a, T> = SmallVec<[Option<&'a [T]>; 8]>;
/// The outputs of a kernel that have the dtype of input 0.
pub(super) type Outputs<'a, T> = SmallVec<[&'a mut [T]; 2]>;

/// Calls `f` with the inputs and outputs that have the dtype of input 0, which is `T`.
pub(super) fn typed<T: Element>(
    args: &mut Args<'_>,
    f: impl FnOnce(&Inputs<'_, T>, &mut Outputs<'_, T>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let own = |t: &&Tensor| t.dtype() == T::DTYPE;
    let inputs = args.inputs.iter().map(|t| t.filter(own).map(|t| t.as_slice())).collect();
    let outputs = args.outputs.iter_mut().filter(|t| t.dtype() == T::DTYPE);
    f(&inputs, &mut outputs.map(|t| t.as_mut_slice()).collect())
}

/// As [`typed`] in f32, for tensors of f32, f16 or bf16.
pub(super) fn single(
    isa: Isa,
    args: &mut Args<'_>,
    f: impl FnOnce(&Inputs<'_, f32>, &mut Outputs<'_, f32>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    match args.input(0)?.dtype() {
        DType::F32 => typed(args, f),
        DType::F16 => widened::<f16>(isa, args, f),
        DType::BF16 => widened::<bf16>(isa, args, f),
        other => Err(unsupported!("{other} is not computed in f32")),
    }
}

fn widened<T: Float>(
    isa: Isa,
    args: &mut Args<'_>,
    f: impl FnOnce(&Inputs<'_, f32>, &mut Outputs<'_, f32>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    typed::<T>(args, |inputs, outputs| {
        let lens = inputs.iter().flatten().map(|x| x.len());
        let len = lens.chain(outputs.iter().map(|y| y.len())).sum();
        with_scratch(len, |mut rest| {
            let mut wide: Inputs<'_, f32> = SmallVec::new();
            for x in inputs {
                wide.push(x.map(|x| {
                    let (part, others) = std::mem::take(&mut rest).split_at_mut(x.len());
                    rest = others;
                    T::widen(isa, x, part);
                    &*part
                }));
            }
            let mut made: Outputs<'_, f32> = SmallVec::new();
            for y in outputs.iter() {
                let (part, others) = std::mem::take(&mut rest).split_at_mut(y.len());
                rest = others;
                made.push(part);
            }
            f(&wide, &mut made)?;
            for (made, y) in made.iter().zip(outputs) {
                T::narrow(isa, made, y);
            }
            Ok(())
        })
        .map_err(limit)?
    })
}

/// What [`single`] takes: in half precision everything that has the dtype of input 0, widened.
pub(super) fn scratch(cx: &Cx<'_>) -> Scratch {
    let Ok(dtype @ (DType::F16 | DType::BF16)) = cx.dtype(0) else { return Scratch::none() };
    let own = |fact: &&Fact| fact.dtype() == Ok(dtype);
    let all = cx.inputs.iter().flatten().copied().filter(own).chain(cx.outputs.iter().filter(own));
    Scratch::floats(all.filter_map(Fact::len).fold(0, usize::saturating_add))
}

/// A number that kernels compute in: f32 or f64.
pub(super) trait Real:
    Element
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
    const ZERO: Self;
    const ONE: Self;
    fn of(x: f64) -> Self;
    fn to_f64(self) -> f64;
    fn floor(self) -> Self;
    /// The nearest whole number, ties to even.
    fn nearest(self) -> Self;
    /// The nearest whole number, ties away from zero.
    fn round(self) -> Self;
    fn ceil(self) -> Self;
}

macro_rules! reals {
    ($($T:ident),*) => { $(
        impl Real for $T {
            const ZERO: $T = 0.0;
            const ONE: $T = 1.0;
            fn of(x: f64) -> $T {
                x as $T
            }
            fn to_f64(self) -> f64 {
                self.into()
            }
            fn floor(self) -> $T {
                self.floor()
            }
            fn nearest(self) -> $T {
                self.round_ties_even()
            }
            fn round(self) -> $T {
                self.round()
            }
            fn ceil(self) -> $T {
                self.ceil()
            }
        }
    )* };
}
reals!(f32, f64);

/// The larger; NaN if either is.
pub(super) fn larger<R: Real>(a: R, b: R) -> R {
    if a > b || a.partial_cmp(&a).is_none() { a } else { b }
}

/// Input `i`, which the operator cannot do without.
pub(super) fn needed<'a, T>(inputs: &Inputs<'a, T>, i: usize) -> Result<&'a [T], Reason> {
    let found = inputs.get(i).copied().flatten();
    found.ok_or_else(|| rinfer_graph::invalid!("input {i} is missing"))
}
