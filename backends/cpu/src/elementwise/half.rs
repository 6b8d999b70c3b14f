//! f16 and bf16 computed in f32: blocks are widened, computed, and rounded once.

use half::{bf16, f16};
use rinfer_graph::Element;

use super::{BLOCK, Side};
use crate::simd::{Isa, Simd};

/// A 16-bit float.
pub trait Half: Element {
    /// The value; exact.
    fn to_f32(self) -> f32;
    /// The first lanes of `src`, widened.
    fn load<S: Simd>(s: S, src: &[Self]) -> S::F32;
    /// Every lane, rounded, to the front of `dst`.
    fn store<S: Simd>(s: S, x: S::F32, dst: &mut [Self]);
}

impl Half for f16 {
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, src: &[f16]) -> S::F32 {
        s.load_f16(src)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, x: S::F32, dst: &mut [f16]) {
        s.store_f16(x, dst);
    }
}

impl Half for bf16 {
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, src: &[bf16]) -> S::F32 {
        s.load_bf16(src)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, x: S::F32, dst: &mut [bf16]) {
        s.store_bf16(x, dst);
    }
}

crate::simd_fn! {
    /// `y = x`, exact; as far as both go.
    pub fn widen<T: Half>(s: S, x: &[T], y: &mut [f32]) {
        use crate::simd::F32s;
        let n = x.len().min(y.len());
        let mut xs = x[..n].chunks_exact(S::LANES);
        let mut ys = y[..n].chunks_exact_mut(S::LANES);
        for (x, y) in (&mut xs).zip(&mut ys) {
            T::load(s, x).store(y);
        }
        let mut rest = [T::default(); crate::simd::MAX_LANES];
        let x = xs.remainder();
        rest[..x.len()].copy_from_slice(x);
        T::load(s, &rest).store_partial(ys.into_remainder());
    }
}

crate::simd_fn! {
    /// `y = x`, to the nearest, ties to even; as far as both go.
    pub fn narrow<T: Half>(s: S, x: &[f32], y: &mut [T]) {
        let n = x.len().min(y.len());
        let mut xs = x[..n].chunks_exact(S::LANES);
        let mut ys = y[..n].chunks_exact_mut(S::LANES);
        for (x, y) in (&mut xs).zip(&mut ys) {
            T::store(s, s.load(x), y);
        }
        let mut rest = [T::default(); crate::simd::MAX_LANES];
        T::store(s, s.load_partial(xs.remainder(), 0.0), &mut rest);
        let y = ys.into_remainder();
        y.copy_from_slice(&rest[..y.len()]);
    }
}

/// `y = f(x)` with f over f32.
pub fn map<T: Half>(isa: Isa, x: Side<'_, T>, y: &mut [T], f: impl Fn(&mut [f32])) {
    let mut wide = [0.0; BLOCK];
    for start in (0..y.len()).step_by(BLOCK) {
        let end = y.len().min(start + BLOCK);
        let wide = &mut wide[..end - start];
        widen(isa, x.map_or(&y[start..end], |x| &x[start..end]), wide);
        f(wide);
        narrow(isa, wide, &mut y[start..end]);
    }
}

/// `f(a, b, range)` with blocks of both operands in f32, for the ranges that make up `0..len`.
///
/// An operand that is the output itself must be given as the slice of it.
pub fn for_blocks<T: Half>(
    isa: Isa,
    (a, b): (&[T], &[T]),
    len: usize,
    mut f: impl FnMut(&[f32], &[f32], std::ops::Range<usize>),
) {
    let (mut wide_a, mut wide_b) = ([0.0; BLOCK], [0.0; BLOCK]);
    for start in (0..len).step_by(BLOCK) {
        let range = start..len.min(start + BLOCK);
        let a = wide_part(isa, a, range.clone(), len, &mut wide_a);
        let b = wide_part(isa, b, range.clone(), len, &mut wide_b);
        f(a, b, range);
    }
}

fn wide_part<'a, T: Half>(
    isa: Isa,
    x: &[T],
    range: std::ops::Range<usize>,
    len: usize,
    wide: &'a mut [f32; BLOCK],
) -> &'a [f32] {
    let x = if x.len() == len { &x[range] } else { &x[..1] };
    widen(isa, x, wide);
    &wide[..x.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_survives_the_round_trip() {
        let x: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|x| !x.is_nan()).collect();
        for isa in Isa::available() {
            let (mut wide, mut y) = (vec![0.0; x.len()], vec![f16::ZERO; x.len()]);
            widen(isa, &x, &mut wide);
            narrow(isa, &wide, &mut y);
            assert!(x.iter().zip(&wide).all(|(x, &w)| x.to_f32() == w));
            assert_eq!(x, y);
        }
    }

    #[test]
    fn halves_round_to_even() {
        for isa in Isa::available() {
            let mut y = [bf16::ZERO; 3];
            narrow(isa, &[1.003_906_2, 1.011_718_8, f32::NAN], &mut y);
            assert_eq!(y[..2], [bf16::from_f32(1.0), bf16::from_f32(1.015_625)]);
            assert!(y[2].is_nan());
        }
    }
}
