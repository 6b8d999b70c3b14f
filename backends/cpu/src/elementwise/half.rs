//! f16 and bf16 computed in f32: blocks are widened, computed, and rounded once.

use super::{BLOCK, Side};
use crate::convert::Float;
use crate::simd::Isa;

/// `y = f(x)` with f over f32.
pub fn map<T: Float>(isa: Isa, x: Side<'_, T>, y: &mut [T], f: impl Fn(&mut [f32])) {
    let mut wide = [0.0; BLOCK];
    for start in (0..y.len()).step_by(BLOCK) {
        let end = y.len().min(start + BLOCK);
        let wide = &mut wide[..end - start];
        T::widen(isa, x.map_or(&y[start..end], |x| &x[start..end]), wide);
        f(wide);
        T::narrow(isa, wide, &mut y[start..end]);
    }
}

/// `f(a, b, range)` with blocks of both operands in f32, for the ranges that make up `0..len`.
pub fn for_blocks<T: Float>(
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

fn wide_part<'a, T: Float>(
    isa: Isa,
    x: &[T],
    range: std::ops::Range<usize>,
    len: usize,
    wide: &'a mut [f32; BLOCK],
) -> &'a [f32] {
    let x = if x.len() == len { &x[range] } else { &x[..1] };
    T::widen(isa, x, wide);
    &wide[..x.len()]
}
