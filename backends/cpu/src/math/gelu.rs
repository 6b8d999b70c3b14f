//! GELU: `x · Φ(x)`, with the normal distribution `Φ(x) = ½ (1 + erf(x / √2))` or its tanh formula
//! `Φ(x) ≈ ½ (1 + tanh(√(2/π) (x + 0.044715 x³))) = sigmoid(2 √(2/π) (x + 0.044715 x³))`.

use super::{erf, sigmoid};
use crate::simd::{F32s, Simd};

/// `½ x (1 + erf(x / √2))`
#[inline(always)]
pub fn gelu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let half = x * s.splat(0.5);
    erf(s, x * s.splat(std::f32::consts::FRAC_1_SQRT_2)).mul_add(half, half)
}

/// `x · sigmoid(√(8/π) (x + 0.044715 x³))`
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const C: f32 = 1.595_769;
    let inner = (x * x).mul_add(s.splat(C * 0.044_715), s.splat(C));
    x * sigmoid(s, x * inner)
}

#[cfg(test)]
mod tests {
    use crate::math::{erf, map, ulp};

    // Far below zero the result is a small difference: the unit is that of `x / 2` there.
    #[test]
    fn gelu_is_within_two_units_of_its_argument() {
        let exact = |x: f64| 0.5 * x * (1.0 + erf::tests::exact(x * 0.5f64.sqrt()));
        ulp::check_scaled(map::gelu, exact, |x| x.abs() * 0.5, (-1e9, 1e9), 2.0);
        ulp::check_values(map::gelu, &[(f32::INFINITY, f32::INFINITY), (f32::NAN, f32::NAN)]);
    }

    #[test]
    fn gelu_tanh_is_within_four_units_of_its_argument() {
        let exact = |x: f64| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        };
        ulp::check_scaled(map::gelu_tanh, exact, |x| x.abs() * 0.5, (-1e9, 1e9), 4.0);
        ulp::check_values(map::gelu_tanh, &[(f32::INFINITY, f32::INFINITY), (f32::NAN, f32::NAN)]);
    }
}
