//! Error function: `x + x·P(x²)` for `|x| < 1`, `1 - exp(-(t + t·Q(t)))` for `t = |x| ≥ 1`.

use super::{exp, polynomial};
use crate::simd::{F32s, Mask, Simd};

/// `erf(x) / x - 1` in `x²`, for `|x| < 1`: minimax, 2^-29 relative to `erf(x)`.
const P: [f32; 7] = [
    1.283_791_7e-1,
    -3.761_262_6e-1,
    1.128_357_9e-1,
    -2.685_334_7e-2,
    5.187_162e-3,
    -7.997_853e-4,
    7.806_903e-5,
];

/// `-log(erfc(t)) / t - 1` for `1 ≤ t ≤ 4`: minimax, 2^-28.6 as an error of `erf`.
const Q: [f32; 6] = [
    1.284_755_8e-1,
    6.358_464e-1,
    1.050_967_35e-1,
    -2.278_615_3e-2,
    3.183_146_5e-3,
    -2.101_866_4e-4,
];

/// From here on `erf` rounds to one.
const ONE: f32 = 4.0;

/// Error function.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let xx = x * x;
    let near = polynomial(s, xx, P).mul_add(x, x);
    let t = s.splat(ONE).min(x.abs());
    let far = one - exp(s, -polynomial(s, t, Q).mul_add(t, t));
    t.lt(one).select(near, s.copysign(far, x))
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::math::{map, ulp};

    /// `erf` in double precision, to 1e-14: Taylor's series, or Laplace's continued fraction.
    pub fn exact(x: f64) -> f64 {
        let t = x.abs();
        if t < 2.5 {
            let (mut term, mut sum, mut n) = (x, x, 0.0);
            while term.abs() > 1e-18 * sum.abs() {
                n += 1.0;
                term *= -x * x / n;
                sum += term / (2.0 * n + 1.0);
            }
            return sum * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let fraction = (1..120).rev().fold(t, |f, n| t + f64::from(n) * 0.5 / f);
        let erfc = (-t * t).exp() / fraction * 0.5 * std::f64::consts::FRAC_2_SQRT_PI;
        (1.0 - erfc).copysign(x)
    }

    #[test]
    fn erf_is_within_a_unit_and_a_half() {
        ulp::check(map::erf, exact, (-1e10, 1e10), 1.5);
    }

    #[test]
    fn erf_of_the_ends() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        ulp::check_values(map::erf, &[(inf, 1.0), (-inf, -1.0), (nan, nan), (-0.0, -0.0)]);
    }
}
