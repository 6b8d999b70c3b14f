//! Logarithm: `log(x) = e·ln 2 + log(1 + f)`, `x = 2^e · (1 + f)`, `√½ ≤ 1 + f < √2`.

use super::polynomial;
use crate::simd::{F32s, I32s, Mask, Simd};

/// `ln 2` in two parts; the first has 9 bits, so that `e` times it is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `(log(1 + f) - f + f²/2) / f³`: minimax, 2^-27 relative to `log(1 + f)`.
const P: [f32; 8] = [
    3.333_333e-1,
    -2.500_082e-1,
    2.000_124_2e-1,
    -1.662_340_9e-1,
    1.420_158_1e-1,
    -1.315_961_3e-1,
    1.276_22e-1,
    -7.636_399_6e-2,
];

/// Natural logarithm: `-∞` at zero, NaN below.
#[inline(always)]
pub fn log<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let zero = s.zero();
    let subnormal = x.lt(s.splat(f32::MIN_POSITIVE));
    let scaled = subnormal.select(x * s.splat(8_388_608.0), x);
    let shift = subnormal.select(s.splat(-23.0), zero);
    // Taking √½ away from the bits makes the exponent that of the nearest power of two.
    let root = s.splat_i32(0x3f35_04f3);
    let bits = scaled.bits() - root;
    let e = bits.sar::<23>().to_f32() + shift;
    let m = ((bits & s.splat_i32(0x7f_ffff)) + root).as_f32();
    let f = m - s.splat(1.0);
    let ff = f * f;
    let tail = e.mul_add(s.splat(LN2[1]), polynomial(s, f, P) * f * ff);
    let y = e.mul_add(s.splat(LN2[0]), f + ff.mul_add(s.splat(-0.5), tail));
    // Infinity and NaN stay what they are; what is left is zero or below.
    let y = x.lt(s.splat(f32::INFINITY)).select(y, x);
    let low = x.eq(zero).select(s.splat(f32::NEG_INFINITY), s.splat(f32::NAN));
    x.le(zero).select(low, y)
}

/// `log(1 + x)`, accurate for small `x`.
#[inline(always)]
pub fn log1p<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let w = x + one;
    // What rounding took from `w` comes back as the ratio of `x` to `w - 1`.
    let y = log(s, w) * (x / (w - one));
    let y = w.lt(s.splat(f32::INFINITY)).select(y, w);
    let y = w.le(s.zero()).select(log(s, w), y);
    w.eq(one).select(x, y)
}

#[cfg(test)]
mod tests {
    use crate::math::{map, ulp};

    #[test]
    fn log_is_within_a_unit_and_a_half() {
        ulp::check(map::log, f64::ln, (1e-45, f32::MAX), 1.5);
    }

    #[test]
    fn log1p_is_within_three_units() {
        ulp::check(map::log1p, f64::ln_1p, (-0.999, f32::MAX), 3.0);
    }

    #[test]
    fn logarithms_of_the_ends() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let ends = [(inf, inf), (-inf, nan), (nan, nan), (0.0, -inf), (-0.0, -inf), (-1.0, nan)];
        ulp::check_values(map::log, &ends);
        ulp::check_values(map::log, &[(1.0, 0.0), (-1e-40, nan)]);
        ulp::check_values(map::log1p, &[(inf, inf), (-inf, nan), (nan, nan), (-1.0, -inf)]);
        ulp::check_values(map::log1p, &[(-2.0, nan), (0.0, 0.0), (-0.0, -0.0), (1e-40, 1e-40)]);
    }
}
