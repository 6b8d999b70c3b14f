//! Every function on floats in double precision: what the others are measured against, and what
//! runs where no faster form exists.

use rinfer_graph::ops::{BinaryFn, UnaryFn};

use super::number::Number;

/// f(x); for IsInf and IsNaN see [`is`].
pub fn unary(f: UnaryFn, x: f64) -> f64 {
    use UnaryFn::*;
    match f {
        Abs => x.abs(),
        Acos => x.acos(),
        Acosh => x.acosh(),
        Asin => x.asin(),
        Asinh => x.asinh(),
        Atan => x.atan(),
        Atanh => x.atanh(),
        Ceil => x.ceil(),
        Celu { alpha } => {
            let alpha = f64::from(alpha);
            if x < 0.0 { alpha * (x / alpha).exp_m1() } else { x }
        }
        Cos => x.cos(),
        Cosh => x.cosh(),
        Elu { alpha } => elu(x, alpha),
        Erf => erf(x),
        Exp => x.exp(),
        Floor => x.floor(),
        Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        HardSigmoid { alpha, beta } => hard(x, alpha.into(), beta.into()),
        HardSwish => x * hard(x, 1.0 / 6.0, 0.5),
        LeakyRelu { alpha } => x.prelu(alpha.into()),
        Log => x.ln(),
        Mish => x * softplus(x).tanh(),
        Neg => -x,
        Reciprocal => 1.0 / x,
        Relu => relu(x),
        Round => x.round_ties_even(),
        Selu { alpha, gamma } => f64::from(gamma) * elu(x, alpha),
        Shrink { bias, lambd } => shrink(x, bias.into(), lambd.into()),
        Sigmoid => sigmoid(x),
        Sign => sign(x),
        Sin => x.sin(),
        Sinh => x.sinh(),
        Softplus => softplus(x),
        Softsign => x / (1.0 + x.abs()),
        Sqrt => x.sqrt(),
        Swish { alpha } => x * sigmoid(f64::from(alpha) * x),
        Tan => x.tan(),
        Tanh => x.tanh(),
        ThresholdedRelu { alpha } => above(x, alpha.into()),
        BitwiseNot | IsInf { .. } | IsNaN | Not => x,
    }
}

/// IsInf and IsNaN; false for every other function.
pub fn is(f: UnaryFn, x: f64) -> bool {
    match f {
        UnaryFn::IsInf { negative, positive } => {
            x.is_infinite() && if x < 0.0 { negative } else { positive }
        }
        UnaryFn::IsNaN => x.is_nan(),
        _ => false,
    }
}

/// f(a, b) for the functions that are not comparisons.
pub fn binary(f: BinaryFn, a: f64, b: f64) -> f64 {
    use BinaryFn::*;
    match f {
        Add => a + b,
        Div => a / b,
        Max => Number::max(a, b),
        Min => Number::min(a, b),
        Mod { fmod: true } => a % b,
        Mod { fmod: false } => a.modulo(b),
        Mul => a * b,
        PRelu => a.prelu(b),
        Pow => a.powf(b),
        Sub => a - b,
        _ => f64::NAN,
    }
}

/// Error function, to the last few bits.
pub fn erf(x: f64) -> f64 {
    let t = x.abs();
    if t.is_nan() || t > 6.0 {
        return if t.is_nan() { x } else { 1f64.copysign(x) };
    }
    let bell = (-t * t).exp();
    if t < 3.0 {
        // erf(x) = 2/√π e^(-x²) Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)): no term cancels another.
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term.abs() > 1e-17 * sum.abs() {
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        return std::f64::consts::FRAC_2_SQRT_PI * bell * sum;
    }
    // Laplace's continued fraction of erfc.
    let fraction = (1..60).rev().fold(t, |f, n| t + f64::from(n) * 0.5 / f);
    let erfc = 0.5 * std::f64::consts::FRAC_2_SQRT_PI * bell / fraction;
    (1.0 - erfc).copysign(x)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    relu(x) + (-x.abs()).exp().ln_1p()
}

fn elu(x: f64, alpha: f32) -> f64 {
    if x < 0.0 { f64::from(alpha) * x.exp_m1() } else { x }
}

/// Like `max(x, 0)`, but NaN stays NaN.
fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

fn hard(x: f64, alpha: f64, beta: f64) -> f64 {
    (alpha * x + beta).clamp(0.0, 1.0)
}

fn sign(x: f64) -> f64 {
    if x.is_nan() { x } else { Number::sign(x) }
}

fn above(x: f64, alpha: f64) -> f64 {
    if x > alpha { x } else { 0.0 }
}

fn shrink(x: f64, bias: f64, lambd: f64) -> f64 {
    if x < -lambd {
        x + bias
    } else if x > lambd {
        x - bias
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_that_of_the_tables() {
        let known = [
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (2.9, 0.999_958_902_121_900_5),
            (3.1, 0.999_988_351_342_633_6),
            (-4.0, -0.999_999_984_582_742_1),
        ];
        for (x, y) in known {
            assert!((erf(x) - y).abs() < 1e-15, "erf({x}) = {}, not {y}", erf(x));
        }
        assert_eq!((erf(f64::INFINITY), erf(0.0)), (1.0, 0.0));
        assert!(erf(f64::NAN).is_nan());
    }

    #[test]
    fn nan_stays_nan() {
        use UnaryFn::*;
        let all = [Relu, Sign, Elu { alpha: 1.0 }, HardSwish, Softplus, Gelu, Mish];
        assert!(all.iter().all(|&f| unary(f, f64::NAN).is_nan()));
    }
}
