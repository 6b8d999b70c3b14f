//! Functions of f32 on vectors; those without a vector form run through [`real`], one by one.

use rinfer_graph::ops::{BinaryFn, UnaryFn};

use super::{Side, each, real, staged};
use crate::math;
use crate::simd::{F32s, I32s, Isa, Mask, Simd};

/// `y = f(x)` for every function of floats, and of truth values written as 0 and 1.
pub fn unary(isa: Isa, f: UnaryFn, x: Side<'_, f32>, y: &mut [f32]) {
    if vector_unary(isa, f, x, y) {
        return;
    }
    let slow = |x: f32| real::unary(f, x.into()) as f32;
    match x {
        None => y.iter_mut().for_each(|y| *y = slow(*y)),
        Some(&[x]) => y.fill(slow(x)),
        Some(x) => x.iter().zip(y).for_each(|(&x, y)| *y = slow(x)),
    }
}

/// `y = f(a, b)` for every function of floats, and of truth values written as 0 and 1.
pub fn binary(isa: Isa, f: BinaryFn, a: Side<'_, f32>, b: Side<'_, f32>, y: &mut [f32]) {
    if f == BinaryFn::Pow
        && let Some(&[exponent]) = b
        && y.len() > 1
    {
        return power(isa, a, exponent, y);
    }
    // What is another function, or that of the operands the other way round, has no loops.
    let (f, a, b) = match f {
        BinaryFn::And => (BinaryFn::Mul, a, b),
        BinaryFn::Greater => (BinaryFn::Less, b, a),
        BinaryFn::GreaterOrEqual => (BinaryFn::LessOrEqual, b, a),
        BinaryFn::Or => (BinaryFn::Max, a, b),
        f => (f, a, b),
    };
    if vector_binary(isa, f, a, b, y) {
        return;
    }
    staged(a, b, y, |a, b, y| each(a, b, y, |a, b| real::binary(f, a.into(), b.into()) as f32));
}

/// `y = a^exponent`
fn power(isa: Isa, a: Side<'_, f32>, exponent: f32, y: &mut [f32]) {
    if !vector_power(isa, a, exponent, y) {
        let slow = |a: f32| f64::from(a).powf(exponent.into()) as f32;
        match a {
            None => y.iter_mut().for_each(|y| *y = slow(*y)),
            Some(a) if a.len() == 1 => y.fill(slow(a[0])),
            Some(a) => a.iter().zip(y).for_each(|(&a, y)| *y = slow(a)),
        }
    }
}

crate::simd_fn! {
    /// `y = min(max(x, lo), hi)`; NaN stays NaN.
    pub fn clip(s: S, x: Side<'_, f32>, lo: f32, hi: f32, y: &mut [f32]) {
        let (lo, hi) = (s.splat(lo), s.splat(hi));
        map(s, x, y, #[inline(always)] |x: S::F32| hi.min(lo.max(x)));
    }
}

crate::simd_fn! {
    /// `y = c ≠ 0 ? a : b`; an operand of one element stands for all.
    pub fn choose(s: S, c: &[f32], a: &[f32], b: &[f32], y: &mut [f32]) {
        let zero = s.zero();
        let mut i = 0;
        for y in y.chunks_mut(S::LANES) {
            let holds = !part(s, c, i).eq(zero);
            holds.select(part(s, a, i), part(s, b, i)).store_partial(y);
            i += S::LANES;
        }
    }
}

/// The lanes of an operand from `i` on.
#[inline(always)]
fn part<S: Simd>(s: S, x: &[f32], i: usize) -> S::F32 {
    if x.len() == 1 { s.splat(x[0]) } else { s.load_partial(&x[i..], 0.0) }
}

crate::simd_fn! {
    fn vector_unary(s: S, f: UnaryFn, x: Side<'_, f32>, y: &mut [f32]) -> bool {
        unary_on(s, f, x, y)
    }
}

crate::simd_fn! {
    fn vector_binary(s: S, f: BinaryFn, a: Side<'_, f32>, b: Side<'_, f32>, y: &mut [f32]) -> bool {
        binary_on(s, f, a, b, y)
    }
}

crate::simd_fn! {
    fn vector_power(s: S, a: Side<'_, f32>, exponent: f32, y: &mut [f32]) -> bool {
        power_on(s, a, exponent, y)
    }
}

/// `false` if there is no vector form.
#[inline(always)]
fn unary_on<S: Simd>(s: S, f: UnaryFn, x: Side<'_, f32>, y: &mut [f32]) -> bool {
    // One loop a function, so that none asks again which it is.
    macro_rules! rows {
        ($($case:pat => $x:ident $e:expr;)*) => {
            match f {
                $($case => map(s, x, y, #[inline(always)] |$x: S::F32| $e),)*
                _ => return false,
            }
        };
    }
    let (zero, one) = (s.zero(), s.splat(1.0));
    rows! {
        UnaryFn::Abs => x x.abs();
        UnaryFn::Ceil => x x.ceil();
        UnaryFn::Elu { alpha } => x x.lt(zero).select(expm1(s, x) * s.splat(alpha), x);
        UnaryFn::Erf => x math::erf(s, x);
        UnaryFn::Exp => x math::exp(s, x);
        UnaryFn::Floor => x x.floor();
        UnaryFn::Gelu => x math::gelu(s, x);
        UnaryFn::GeluTanh => x math::gelu_tanh(s, x);
        UnaryFn::HardSigmoid { alpha, beta } => x hard_sigmoid(s, x, alpha, beta);
        UnaryFn::HardSwish => x x * hard_sigmoid(s, x, 1.0 / 6.0, 0.5);
        UnaryFn::IsInf { negative, positive } => x {
            let infinity = s.splat(f32::INFINITY);
            let high = if positive { infinity } else { zero };
            let low = if negative { -infinity } else { zero };
            x.abs().eq(infinity).select((x.eq(high) | x.eq(low)).select(one, zero), zero)
        };
        UnaryFn::IsNaN => x x.is_nan().select(one, zero);
        UnaryFn::LeakyRelu { alpha } => x x.lt(zero).select(x * s.splat(alpha), x);
        UnaryFn::Log => x math::log(s, x);
        UnaryFn::Mish => x math::mish(s, x);
        UnaryFn::Neg => x (x.bits() ^ s.splat_i32(i32::MIN)).as_f32();
        UnaryFn::Not => x one - x;
        UnaryFn::Reciprocal => x one / x;
        UnaryFn::Relu => x zero.max(x);
        UnaryFn::Round => x x.round_even();
        UnaryFn::Sigmoid => x math::sigmoid(s, x);
        UnaryFn::Softplus => x math::softplus(s, x);
        UnaryFn::Softsign => x x / (one + x.abs());
        UnaryFn::Sqrt => x x.sqrt();
        UnaryFn::Swish { alpha } => x x * math::sigmoid(s, x * s.splat(alpha));
        UnaryFn::Tanh => x math::tanh(s, x);
        UnaryFn::ThresholdedRelu { alpha } => x x.gt(s.splat(alpha)).select(x, zero);
    }
    true
}

/// `false` if there is no vector form.
#[inline(always)]
fn binary_on<S: Simd>(
    s: S,
    f: BinaryFn,
    a: Side<'_, f32>,
    b: Side<'_, f32>,
    y: &mut [f32],
) -> bool {
    macro_rules! rows {
        ($($case:pat => $a:ident, $b:ident $e:expr;)*) => {
            match f {
                $($case => zip(s, a, b, y, #[inline(always)] |$a: S::F32, $b: S::F32| $e),)*
                _ => return false,
            }
        };
    }
    let (zero, one) = (s.zero(), s.splat(1.0));
    rows! {
        BinaryFn::Add => a, b a + b;
        BinaryFn::Div => a, b a / b;
        BinaryFn::Equal => a, b a.eq(b).select(one, zero);
        BinaryFn::Less => a, b a.lt(b).select(one, zero);
        BinaryFn::LessOrEqual => a, b a.le(b).select(one, zero);
        BinaryFn::Max => a, b s.max_nan(a, b);
        BinaryFn::Min => a, b s.min_nan(a, b);
        BinaryFn::Mul => a, b a * b;
        BinaryFn::PRelu => a, b a.lt(zero).select(a * b, a);
        BinaryFn::Sub => a, b a - b;
        BinaryFn::Xor => a, b (a - b).abs();
    }
    true
}

/// `false` if there is no vector form.
#[inline(always)]
fn power_on<S: Simd>(s: S, a: Side<'_, f32>, exponent: f32, y: &mut [f32]) -> bool {
    macro_rules! rows {
        ($($n:literal => $x:ident $e:expr;)*) => {
            $(if exponent == $n {
                map(s, a, y, #[inline(always)] |$x: S::F32| $e);
            } else)* {
                return false;
            }
        };
    }
    let (zero, one) = (s.zero(), s.splat(1.0));
    let infinity = s.splat(f32::INFINITY);
    rows! {
        -2.0 => x one / (x * x);
        -1.0 => x one / x;
        // Unlike a square root, the power of -∞ is +∞, and that of -0 is +0.
        -0.5 => x one / x.eq(-infinity).select(infinity, (x + zero).sqrt());
        0.5 => x x.eq(-infinity).select(infinity, (x + zero).sqrt());
        1.0 => x x;
        2.0 => x x * x;
        3.0 => x x * x * x;
        4.0 => x (x * x) * (x * x);
    }
    true
}

#[inline(always)]
fn hard_sigmoid<S: Simd>(s: S, x: S::F32, alpha: f32, beta: f32) -> S::F32 {
    let y = x.mul_add(s.splat(alpha), s.splat(beta));
    s.splat(1.0).min(s.zero().max(y))
}

/// `exp(x) - 1` for x ≤ 0, without losing the digits of a small x: what rounding took from
/// `u = exp(x)` comes back as the ratio of x to log(u).
#[inline(always)]
fn expm1<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let u = math::exp(s, x);
    let w = u - one;
    let y = w * (x / math::log(s, u));
    let y = x.lt(s.splat(-17.0)).select(w, y);
    u.eq(one).select(x, y)
}

/// `y[i] = f(x[i])`
#[inline(always)]
fn map<S: Simd>(s: S, x: Side<'_, f32>, y: &mut [f32], f: impl Fn(S::F32) -> S::F32) {
    let n = y.len();
    let one_for_all = x.is_some_and(|x| x.len() != n);
    let mut ys = y.chunks_exact_mut(S::LANES);
    let last = match x {
        None => {
            for y in &mut ys {
                f(s.load(y)).store(y);
            }
            s.load_partial(ys.into_remainder(), 0.0)
        }
        Some(x) if one_for_all => s.splat(x[0]),
        Some(x) => {
            let mut xs = x.chunks_exact(S::LANES);
            for (x, y) in (&mut xs).zip(&mut ys) {
                f(s.load(x)).store(y);
            }
            s.load_partial(xs.remainder(), 0.0)
        }
    };
    // Once for all cases: some functions are long.
    let last = f(last);
    if one_for_all {
        let mut one = [0.0; crate::simd::MAX_LANES];
        last.store(&mut one);
        return y.fill(one[0]);
    }
    last.store_partial(&mut y[n - n % S::LANES..]);
}

/// `y[i] = f(a[i], b[i])`
#[inline(always)]
fn zip<S: Simd>(
    s: S,
    a: Side<'_, f32>,
    b: Side<'_, f32>,
    y: &mut [f32],
    f: impl Fn(S::F32, S::F32) -> S::F32,
) {
    let n = y.len();
    match (a, b) {
        (Some(a), Some(b)) if a.len() == n && b.len() == n => {
            let (mut a, mut b) = (a.chunks_exact(S::LANES), b.chunks_exact(S::LANES));
            let mut ys = y.chunks_exact_mut(S::LANES);
            for ((a, b), y) in (&mut a).zip(&mut b).zip(&mut ys) {
                f(s.load(a), s.load(b)).store(y);
            }
            let (a, b) = (s.load_partial(a.remainder(), 0.0), s.load_partial(b.remainder(), 0.0));
            f(a, b).store_partial(ys.into_remainder());
        }
        (a, Some(b)) if b.len() == 1 => {
            let b = s.splat(b[0]);
            map(
                s,
                a,
                y,
                #[inline(always)]
                |a| f(a, b),
            );
        }
        (Some(a), b) if a.len() == 1 => {
            let a = s.splat(a[0]);
            map(
                s,
                b,
                y,
                #[inline(always)]
                |b| f(a, b),
            );
        }
        (None, Some(b)) => with_held(s, b, y, &f),
        (Some(a), None) => with_held(
            s,
            a,
            y,
            #[inline(always)]
            |y, a| f(a, y),
        ),
        _ => map(
            s,
            None,
            y,
            #[inline(always)]
            |y| f(y, y),
        ),
    }
}

/// `y[i] = f(y[i], x[i])`
#[inline(always)]
fn with_held<S: Simd>(s: S, x: &[f32], y: &mut [f32], f: impl Fn(S::F32, S::F32) -> S::F32) {
    let mut xs = x.chunks_exact(S::LANES);
    let mut ys = y.chunks_exact_mut(S::LANES);
    for (x, y) in (&mut xs).zip(&mut ys) {
        f(s.load(y), s.load(x)).store(y);
    }
    let y = ys.into_remainder();
    f(s.load_partial(y, 0.0), s.load_partial(xs.remainder(), 0.0)).store_partial(y);
}

#[cfg(test)]
mod tests {
    use super::*;
    use UnaryFn::*;

    const UNARY: &[UnaryFn] = &[
        Abs,
        Acos,
        Asinh,
        Atan,
        Ceil,
        Celu { alpha: 0.7 },
        Cos,
        Elu { alpha: 1.3 },
        Erf,
        Exp,
        Floor,
        Gelu,
        GeluTanh,
        HardSigmoid { alpha: 0.3, beta: 0.4 },
        HardSwish,
        LeakyRelu { alpha: 0.1 },
        Log,
        Mish,
        Neg,
        Reciprocal,
        Relu,
        Round,
        Selu { alpha: 1.6, gamma: 1.1 },
        Shrink { bias: 0.3, lambd: 0.5 },
        Sigmoid,
        Sign,
        Softplus,
        Softsign,
        Sqrt,
        Swish { alpha: 1.5 },
        Tanh,
        ThresholdedRelu { alpha: 0.5 },
    ];

    fn near(got: f32, want: f64, what: &str) {
        let want = want as f32;
        let close = (got - want).abs() <= 1e-6 * want.abs().max(0.3);
        assert!(close || got == want || (got.is_nan() && want.is_nan()), "{what}: {got}, {want}");
    }

    #[test]
    fn every_isa_agrees_with_double_precision() {
        let x: Vec<f32> = (-53..54).map(|i| i as f32 * 0.173).collect();
        for isa in Isa::available() {
            for &f in UNARY {
                let (mut y, mut held) = (vec![0.0; x.len()], x.clone());
                unary(isa, f, Some(&x), &mut y);
                unary(isa, f, None, &mut held);
                for (i, &x) in x.iter().enumerate() {
                    near(y[i], real::unary(f, x.into()), &format!("{f}({x}) on {}", isa.name()));
                    assert!(held[i].to_bits() == y[i].to_bits() || y[i].is_nan());
                }
            }
        }
    }

    #[test]
    fn elu_keeps_the_digits_of_small_numbers() {
        for isa in Isa::available() {
            for x in [-1e-6f32, -3e-8, -0.0, -40.0, f32::NEG_INFINITY] {
                let mut y = [0.0];
                unary(isa, Elu { alpha: 1.0 }, Some(&[x]), &mut y);
                let want = f64::from(x).exp_m1();
                assert!((f64::from(y[0]) - want).abs() <= 1e-6 * want.abs(), "elu({x}) = {}", y[0]);
            }
        }
    }

    #[test]
    fn an_operand_may_be_one_element_or_the_output() {
        use BinaryFn::*;
        let a: Vec<f32> = (0..37).map(|i| i as f32 * 0.5 - 7.0).collect();
        let b: Vec<f32> = (0..37).map(|i| 3.0 - i as f32 * 0.3).collect();
        for isa in Isa::available() {
            for f in [Add, Sub, Mul, Div, Max, Min, PRelu, Mod { fmod: true }, Pow] {
                let sides: [(Side<'_, f32>, Side<'_, f32>); 3] =
                    [(Some(&a), Some(&b)), (Some(&a), Some(&b[5..6])), (Some(&a[3..4]), Some(&b))];
                for (sa, sb) in sides {
                    let at =
                        |s: Side<'_, f32>, i: usize| s.map(|s| s[if s.len() == 1 { 0 } else { i }]);
                    let want: Vec<f32> = (0..37)
                        .map(|i| (at(sa, i).unwrap().into(), at(sb, i).unwrap().into()))
                        .map(|(a, b)| real::binary(f, a, b) as f32)
                        .collect();
                    let mut y = vec![0.0; 37];
                    binary(isa, f, sa, sb, &mut y);
                    y.iter().zip(&want).for_each(|(&y, &w)| near(y, w.into(), &format!("{f}")));
                    if sa.is_some_and(|a| a.len() == 37) {
                        let mut y = a.clone();
                        binary(isa, f, None, sb, &mut y);
                        y.iter().zip(&want).for_each(|(&y, &w)| near(y, w.into(), &format!("{f}")));
                    }
                    if sb.is_some_and(|b| b.len() == 37) {
                        let mut y = b.clone();
                        binary(isa, f, sa, None, &mut y);
                        y.iter().zip(&want).for_each(|(&y, &w)| near(y, w.into(), &format!("{f}")));
                    }
                }
            }
        }
    }

    #[test]
    fn constant_powers_match_pow() {
        let x = [0.0f32, -0.0, 2.5, -1.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        for isa in Isa::available() {
            for n in [-2.0f32, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 1.7] {
                let mut y = [0.0; 7];
                binary(isa, BinaryFn::Pow, Some(&x), Some(&[n]), &mut y);
                for (&x, &y) in x.iter().zip(&y) {
                    near(y, f64::from(x).powf(n.into()), &format!("{x}^{n}"));
                }
            }
        }
    }
}
