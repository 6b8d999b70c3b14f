//! Exponential: `exp(x) = 2^n · exp(r)`, `n = round(x / ln 2)`, `|r| ≤ ln 2 / 2`.

use super::polynomial;
use crate::simd::{F32s, Simd};

/// `ln 2` in two parts; the first has 9 bits, so that `n` times it is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `(exp(r) - 1 - r) / r²` for `|r| ≤ ln 2 / 2`: minimax, 2^-28 relative to `exp(r)`.
const P: [f32; 5] = [4.999_999_4e-1, 1.666_652_1e-1, 4.166_826e-2, 8.368_666e-3, 1.382_117_4e-3];

/// Exponential. Overflows to infinity, underflows through subnormals to zero.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Beyond these ends the result is infinity or zero whatever `x`; NaN passes both.
    let x = s.splat(-104.0).max(s.splat(89.0).min(x));
    let n = (x * s.splat(std::f32::consts::LOG2_E)).round_even();
    let r = n.mul_add(s.splat(-LN2[0]), x);
    let r = n.mul_add(s.splat(-LN2[1]), r);
    let one = s.splat(1.0);
    let y = polynomial(s, r, P).mul_add(r, one).mul_add(r, one);
    s.scale(y, n)
}

#[cfg(test)]
mod tests {
    use crate::math::{map, ulp};

    #[test]
    fn exp_is_within_a_unit_and_a_half() {
        ulp::check(map::exp, f64::exp, (-103.9, 88.72), 1.5);
    }

    #[test]
    fn exp_of_the_ends() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let ends = [(inf, inf), (-inf, 0.0), (nan, nan), (89.0, inf), (1e30, inf), (-104.1, 0.0)];
        ulp::check_values(map::exp, &ends);
        ulp::check_values(map::exp, &[(-1e30, 0.0), (0.0, 1.0), (-0.0, 1.0), (1e-40, 1.0)]);
    }
}
