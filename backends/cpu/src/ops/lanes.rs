//! Loops over slices by whole vectors, and half-precision tensors as slices of f32.

use half::{bf16, f16};
use rinfer_graph::{DType, Kind, Reason, Tensor, unsupported};

use crate::convert::Float;
use crate::kernel::{Args, Cx};
use crate::scratch::Scratch;
use crate::simd::{F32s, Isa, Simd};
use crate::{par, pool};

/// Applies `f` to each vector of `y`: of `x` where there is one, of `y` itself where `x` is empty.
/// The lanes beyond the last element are 0.
#[inline(always)]
pub(super) fn map<S: Simd>(
    s: S,
    x: &[f32],
    y: &mut [f32],
    mut f: impl FnMut(usize, S::F32) -> S::F32,
) {
    let n = y.len();
    let mut i = 0;
    if x.is_empty() {
        while i + S::LANES <= n {
            f(i, s.load(&y[i..])).store(&mut y[i..]);
            i += S::LANES;
        }
    } else {
        let x = &x[..n];
        while i + S::LANES <= n {
            f(i, s.load(&x[i..])).store(&mut y[i..]);
            i += S::LANES;
        }
    }
    if i < n {
        let v = s.load_partial(if x.is_empty() { &y[i..] } else { &x[i..n] }, 0.0);
        f(i, v).store_partial(&mut y[i..]);
    }
}

/// The elements of `p` from `i` on, as many as there are.
#[inline(always)]
pub(super) fn load_at<S: Simd>(s: S, p: &[f32], i: usize) -> S::F32 {
    if i + S::LANES <= p.len() { s.load(&p[i..]) } else { s.load_partial(&p[i..], 0.0) }
}

/// Elements that one thread converts at least.
const GRAIN: usize = 1 << 14;

/// `f(x, y)` with input 0 and output 0 as f32: `x` is empty where `y` holds it already. Half
/// precision is computed in scratch memory and rounded once, at the end.
pub(super) fn in_f32(
    isa: Isa,
    args: &mut Args<'_>,
    f: impl FnOnce(&[f32], &mut [f32], &mut [Tensor]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let x = args.opt(0);
    let Some((y, rest)) = args.outputs.split_first_mut() else { return Ok(()) };
    match y.dtype() {
        DType::F32 => f(x.map_or(&[], |x| x.as_slice()), y.as_mut_slice(), rest),
        DType::F16 => staged::<f16>(isa, x, y, |wide| f(&[], wide, rest)),
        DType::BF16 => staged::<bf16>(isa, x, y, |wide| f(&[], wide, rest)),
        dtype => Err(unsupported!("{dtype} is not computed in f32")),
    }
}

/// What [`in_f32`] takes.
pub(super) fn scratch(cx: &Cx<'_>) -> Scratch {
    match cx.outputs.first().map(|fact| (fact.dtype(), fact.len())) {
        Some((Ok(DType::F16 | DType::BF16), Some(len))) => Scratch::floats(len),
        _ => Scratch::none(),
    }
}

fn staged<T: Float>(
    isa: Isa,
    x: Option<&Tensor>,
    y: &mut Tensor,
    f: impl FnOnce(&mut [f32]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let y = y.as_mut_slice::<T>();
    let len = y.len();
    let run = |wide: &mut [f32]| {
        widen(isa, x.map_or(&*y, |x| x.as_slice::<T>()), wide);
        f(wide)?;
        par::zip_chunks((&*wide, GRAIN), (y, GRAIN), 1, |_, wide, y| T::narrow(isa, wide, y));
        Ok(())
    };
    pool::with_scratch(len, run).map_err(|text| Reason::new(Kind::Limit, text))?
}

/// `wide` = `x`
pub(super) fn widen<T: Float>(isa: Isa, x: &[T], wide: &mut [f32]) {
    par::zip_chunks((x, GRAIN), (wide, GRAIN), 1, |_, x, wide| T::widen(isa, x, wide));
}
