//! Elementary functions on vectors, each within a few units in the last place (ULP).
//!
//! A function is generic over the instruction set, for use inside kernels; [`map`] runs one over
//! a slice.

pub mod activation;
pub mod erf;
pub mod exp;
pub mod gelu;
pub mod log;
pub mod sigmoid;
pub mod tanh;
#[cfg(test)]
pub(crate) mod ulp;

pub use activation::Activation;
pub use erf::erf;
pub use exp::exp;
pub use gelu::{gelu, gelu_tanh};
pub use log::{log, log1p};
pub use sigmoid::{mish, sigmoid, silu, softplus};
pub use tanh::tanh;

use crate::simd::{F32s, Simd};

/// `c[0] + c[1]·x + c[2]·x² + …`, by Horner's rule.
#[inline(always)]
pub(crate) fn polynomial<S: Simd, const N: usize>(s: S, x: S::F32, c: [f32; N]) -> S::F32 {
    let mut y = s.splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        y = y.mul_add(x, s.splat(c[i]));
    }
    y
}

/// Defines a function over slices: `y = f(x)`, and in place where there is no `x`.
macro_rules! maps {
    ($($(#[$m:meta])* $name:ident, $in_place:ident = $f:path;)*) => {
        /// Functions over slices: `exp(isa, x, y)` writes `exp(x)` to `y`, as far as both go;
        /// `exp_in_place(isa, y)` replaces `y`.
        pub mod map {
            use super::*;
            $(
                $crate::simd_fn! {
                    $(#[$m])*
                    pub fn $name(s: S, x: &[f32], y: &mut [f32]) {
                        let n = x.len().min(y.len());
                        let mut xs = x[..n].chunks_exact(S::LANES);
                        let mut ys = y[..n].chunks_exact_mut(S::LANES);
                        for (x, y) in (&mut xs).zip(&mut ys) {
                            $f(s, s.load(x)).store(y);
                        }
                        $f(s, s.load_partial(xs.remainder(), 0.0)).store_partial(ys.into_remainder());
                    }
                }
                $crate::simd_fn! {
                    $(#[$m])*
                    pub fn $in_place(s: S, y: &mut [f32]) {
                        let mut ys = y.chunks_exact_mut(S::LANES);
                        for y in &mut ys {
                            $f(s, s.load(y)).store(y);
                        }
                        let y = ys.into_remainder();
                        $f(s, s.load_partial(y, 0.0)).store_partial(y);
                    }
                }
            )*
        }
    };
}

maps! {
    /// Exponential.
    exp, exp_in_place = super::exp;
    /// Natural logarithm.
    log, log_in_place = super::log;
    /// `log(1 + x)`
    log1p, log1p_in_place = super::log1p;
    /// Hyperbolic tangent.
    tanh, tanh_in_place = super::tanh;
    /// Error function.
    erf, erf_in_place = super::erf;
    /// Logistic function.
    sigmoid, sigmoid_in_place = super::sigmoid;
    /// `x · sigmoid(x)`
    silu, silu_in_place = super::silu;
    /// `log(1 + exp(x))`
    softplus, softplus_in_place = super::softplus;
    /// `x · tanh(softplus(x))`
    mish, mish_in_place = super::mish;
    /// `x · Φ(x)`
    gelu, gelu_in_place = super::gelu;
    /// `x · Φ(x)` with Φ by the tanh formula.
    gelu_tanh, gelu_tanh_in_place = super::gelu_tanh;
}
