//! Hyperbolic tangent: `x + x³·P(x²)` near zero, `1 - 2 / (exp(2|x|) + 1)` beyond.

use super::{exp, polynomial};
use crate::simd::{F32s, Mask, Simd};

/// Where the two formulas meet.
const NEAR: f32 = 0.625;

/// `(tanh(x) - x) / x³` in `x²`, for `|x| ≤ 0.625`: minimax, 2^-27.7 relative to `tanh(x)`.
const P: [f32; 5] = [-3.333_328e-1, 1.333_140_6e-1, -5.373_651_5e-2, 2.062_816_7e-2, -5.692_296e-3];

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let t = x.abs();
    let one = s.splat(1.0);
    let tt = t * t;
    let near = (polynomial(s, tt, P) * tt).mul_add(t, t);
    let far = one - s.splat(2.0) / (exp(s, t + t) + one);
    s.copysign(t.lt(s.splat(NEAR)).select(near, far), x)
}

#[cfg(test)]
mod tests {
    use crate::math::{map, ulp};

    #[test]
    fn tanh_is_within_two_units() {
        ulp::check(map::tanh, f64::tanh, (f32::MIN, f32::MAX), 2.0);
    }

    #[test]
    fn tanh_of_the_ends() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        ulp::check_values(map::tanh, &[(inf, 1.0), (-inf, -1.0), (nan, nan), (-0.0, -0.0)]);
    }
}
