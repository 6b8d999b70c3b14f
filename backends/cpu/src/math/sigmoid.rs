//! The logistic function and what is made of it.
//!
//! All start from `e = exp(-|x|)`, which cannot overflow.

use super::{exp, log1p};
use crate::simd::{F32s, Mask, Simd};

/// `1 / (1 + exp(-x))`, accurate in both tails.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let e = exp(s, -x.abs());
    x.lt(s.zero()).select(e, one) / (one + e)
}

/// `x · sigmoid(x)`
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    x * sigmoid(s, x)
}

/// `log(1 + exp(x))`
#[inline(always)]
pub fn softplus<S: Simd>(s: S, x: S::F32) -> S::F32 {
    s.zero().max(x) + log1p(s, exp(s, -x.abs()))
}

/// `x · tanh(softplus(x)) = x · n / (n + 2)` with `n = exp(x) · (exp(x) + 2)`
#[inline(always)]
pub fn mish<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let two = s.splat(2.0);
    // From 20 on the quotient is 1; exp(20)² is far from overflow.
    let e = exp(s, s.splat(20.0).min(x));
    let n = e * (e + two);
    x * (n / (n + two))
}

#[cfg(test)]
mod tests {
    use crate::math::{map, ulp};

    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;

    #[test]
    fn sigmoid_is_within_three_units() {
        ulp::check(map::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), (-103.0, f32::MAX), 3.0);
        ulp::check_values(map::sigmoid, &[(INF, 1.0), (-INF, 0.0), (NAN, NAN), (0.0, 0.5)]);
    }

    #[test]
    fn silu_is_within_three_units() {
        ulp::check(map::silu, |x| x / (1.0 + (-x).exp()), (-86.0, f32::MAX), 3.0);
    }

    #[test]
    fn softplus_is_within_three_units() {
        let exact = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        ulp::check(map::softplus, exact, (-103.0, f32::MAX), 3.0);
        ulp::check_values(map::softplus, &[(INF, INF), (-INF, 0.0), (NAN, NAN)]);
    }

    #[test]
    fn mish_is_within_four_units() {
        let exact = |x: f64| x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh();
        ulp::check(map::mish, exact, (-80.0, f32::MAX), 4.0);
        ulp::check_values(map::mish, &[(INF, INF), (NAN, NAN)]);
    }
}
