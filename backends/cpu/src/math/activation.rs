//! The functions that may follow a matrix product or a convolution.

use super::{gelu, gelu_tanh, sigmoid, silu, tanh};
use crate::simd::{F32s, Mask, Simd};

/// What is applied to each element of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(0, x)`
    Relu,
    /// `x < 0 ? alpha · x : x`
    LeakyRelu(f32),
    /// `min(max(x, lo), hi)`
    Clip(f32, f32),
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `½ x (1 + erf(x / √2))`
    Gelu,
    /// Gelu with the tanh formula.
    GeluTanh,
    /// `x · sigmoid(x)`
    Silu,
    /// `x · clip(alpha · x + beta, 0, 1)`
    HardSwish {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `clip(alpha · x + beta, 0, 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
}

impl From<rinfer_graph::ops::Activation> for Activation {
    fn from(f: rinfer_graph::ops::Activation) -> Activation {
        use rinfer_graph::ops::Activation as A;
        match f {
            A::Relu => Activation::Relu,
            A::LeakyRelu { alpha } => Activation::LeakyRelu(alpha),
            A::Clip { lo, hi } => Activation::Clip(lo, hi),
            A::Sigmoid => Activation::Sigmoid,
            A::Tanh => Activation::Tanh,
            A::Gelu => Activation::Gelu,
            A::GeluTanh => Activation::GeluTanh,
            A::Silu => Activation::Silu,
            A::HardSigmoid { alpha, beta } => Activation::HardSigmoid { alpha, beta },
            A::HardSwish => Activation::HardSwish { alpha: 1.0 / 6.0, beta: 0.5 },
        }
    }
}

impl Activation {
    /// The function on a vector. NaN stays NaN.
    #[inline(always)]
    pub fn apply<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        match self {
            Activation::None => x,
            Activation::Relu => s.zero().max(x),
            Activation::LeakyRelu(alpha) => x.lt(s.zero()).select(x * s.splat(alpha), x),
            Activation::Clip(lo, hi) => s.splat(hi).min(s.splat(lo).max(x)),
            Activation::Sigmoid => sigmoid(s, x),
            Activation::Tanh => tanh(s, x),
            Activation::Gelu => gelu(s, x),
            Activation::GeluTanh => gelu_tanh(s, x),
            Activation::Silu => silu(s, x),
            Activation::HardSwish { alpha, beta } => x * hard_sigmoid(s, x, alpha, beta),
            Activation::HardSigmoid { alpha, beta } => hard_sigmoid(s, x, alpha, beta),
        }
    }

    /// The function on every element of `y`, inside a kernel; one loop for each function, so that
    /// none asks again which it is.
    #[inline(always)]
    pub fn apply_slice<S: Simd>(self, s: S, y: &mut [f32]) {
        macro_rules! each {
            ($($case:pat => $made:expr;)*) => {
                match self {
                    Activation::None => {}
                    $($case => over(s, y, $made),)*
                }
            };
        }
        each! {
            Activation::Relu => Activation::Relu;
            Activation::LeakyRelu(alpha) => Activation::LeakyRelu(alpha);
            Activation::Clip(lo, hi) => Activation::Clip(lo, hi);
            Activation::Sigmoid => Activation::Sigmoid;
            Activation::Tanh => Activation::Tanh;
            Activation::Gelu => Activation::Gelu;
            Activation::GeluTanh => Activation::GeluTanh;
            Activation::Silu => Activation::Silu;
            Activation::HardSwish { alpha, beta } => Activation::HardSwish { alpha, beta };
            Activation::HardSigmoid { alpha, beta } => Activation::HardSigmoid { alpha, beta };
        }
    }

    /// The function on one number, as the instruction sets compute it.
    pub fn scalar(self, x: f32) -> f32 {
        let mut y = [x];
        self.apply_slice(crate::simd::Scalar, &mut y);
        y[0]
    }
}

#[inline(always)]
fn over<S: Simd>(s: S, y: &mut [f32], f: Activation) {
    let mut ys = y.chunks_exact_mut(S::LANES);
    for y in &mut ys {
        f.apply(s, s.load(y)).store(y);
    }
    let y = ys.into_remainder();
    if !y.is_empty() {
        f.apply(s, s.load_partial(y, 0.0)).store_partial(y);
    }
}

#[inline(always)]
fn hard_sigmoid<S: Simd>(s: S, x: S::F32, alpha: f32, beta: f32) -> S::F32 {
    let y = x.mul_add(s.splat(alpha), s.splat(beta));
    s.splat(1.0).min(s.zero().max(y))
}

crate::simd_fn! {
    /// Replaces every element of `y` by the activation of it.
    pub fn activate(s: S, f: Activation, y: &mut [f32]) {
        f.apply_slice(s, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    const ALL: [Activation; 11] = [
        Activation::None,
        Activation::Relu,
        Activation::LeakyRelu(0.1),
        Activation::Clip(-1.0, 2.0),
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::HardSwish { alpha: 1.0 / 6.0, beta: 0.5 },
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
    ];

    fn plain(f: Activation, x: f32) -> f32 {
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        match f {
            Activation::None => x,
            Activation::Relu => x.max(0.0),
            Activation::LeakyRelu(a) => {
                if x < 0.0 {
                    a * x
                } else {
                    x
                }
            }
            Activation::Clip(lo, hi) => x.clamp(lo, hi),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::Gelu => {
                let x = f64::from(x);
                (0.5 * x * (1.0 + crate::math::erf::tests::exact(x * 0.5f64.sqrt()))) as f32
            }
            Activation::GeluTanh => {
                0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh())
            }
            Activation::Silu => x * sigmoid(x),
            Activation::HardSwish { alpha, beta } => x * (alpha * x + beta).clamp(0.0, 1.0),
            Activation::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        }
    }

    #[test]
    fn every_activation_is_its_formula_on_every_isa() {
        let x: Vec<f32> = (-77..80).map(|i| i as f32 * 0.1).collect();
        for isa in Isa::available() {
            for f in ALL {
                let mut y = x.clone();
                activate(isa, f, &mut y);
                for (&x, &y) in x.iter().zip(&y) {
                    let want = plain(f, x);
                    assert!((y - want).abs() <= 1e-6 * (1.0 + x.abs()), "{f:?}({x}) = {y}, {want}");
                    assert!((f.scalar(x) - y).abs() <= 1e-6 * (1.0 + x.abs()));
                }
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        for isa in Isa::available() {
            for f in ALL {
                let mut y = [f32::NAN; 17];
                activate(isa, f, &mut y);
                assert!(y.iter().all(|y| y.is_nan()), "{f:?} on {}", isa.name());
            }
        }
    }
}
