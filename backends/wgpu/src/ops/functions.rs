//! Functions of one element as WGSL expressions, by the type they compute in.
//!
//! `None` where the function has no exact form in that type: the operator is then refused.

use rinfer_graph::DType;
use rinfer_graph::ops::{Activation, BinaryFn, UnaryFn};

use crate::shader::Class;

/// A number as WGSL writes it: all its digits, for some browsers refuse one that is rounded up
/// beyond the largest.
pub(super) fn literal(x: f32) -> String {
    let x = f64::from(x);
    if x.is_nan() {
        return "(infinity() - infinity())".to_string();
    }
    if x.is_infinite() {
        return if x > 0.0 { "infinity()" } else { "(-infinity())" }.to_string();
    }
    if x < 0.0 || (x == 0.0 && x.is_sign_negative()) {
        return format!("(-{:e}f)", -x);
    }
    format!("{x:e}f")
}

/// f(x), of a dtype of this class.
pub(super) fn unary(f: UnaryFn, class: Class, dtype: DType, x: &str) -> Option<String> {
    match class {
        Class::Float => Some(float(f, x)),
        Class::Truth => (f == UnaryFn::Not).then(|| format!("!{x}")),
        Class::Int => Some(match f {
            UnaryFn::Abs => format!("abs({x})"),
            UnaryFn::Neg => format!("-({x})"),
            UnaryFn::Relu => format!("max({x}, 0)"),
            UnaryFn::Sign => format!("sign({x})"),
            UnaryFn::BitwiseNot => format!("~({x})"),
            _ => return None,
        }),
        Class::Uint => Some(match f {
            UnaryFn::Abs => x.to_string(),
            UnaryFn::Sign => format!("min({x}, 1u)"),
            UnaryFn::BitwiseNot => format!("~({x})"),
            _ => return None,
        }),
        Class::Wide => Some(match f {
            UnaryFn::Abs if dtype == DType::I64 => format!("wide_abs({x})"),
            UnaryFn::Neg => format!("wide_neg({x})"),
            UnaryFn::BitwiseNot => format!("~({x})"),
            UnaryFn::Relu => format!("select({x}, vec2<u32>(), wide_negative({x}))"),
            UnaryFn::Sign if dtype == DType::I64 => format!(
                "select(vec2<u32>(select(0u, 1u, any({x} != vec2<u32>())), 0u), \
                 vec2<u32>(0xffffffffu, 0xffffffffu), wide_negative({x}))"
            ),
            _ => return None,
        }),
    }
}

fn float(f: UnaryFn, x: &str) -> String {
    use UnaryFn::*;
    let call = |name: &str| format!("{name}({x})");
    match f {
        Abs => call("abs"),
        Acos => call("acos_f"),
        Acosh => call("acosh_f"),
        Asin => call("asin_f"),
        Asinh => call("asinh_f"),
        Atan => call("atan_f"),
        Atanh => call("atanh_f"),
        BitwiseNot | Not => x.to_string(),
        Ceil => call("ceil"),
        Celu { alpha } => {
            let a = literal(alpha);
            format!("select({x}, {a} * expm1({x} / {a}), {x} < 0.0)")
        }
        Cos => call("cos"),
        Cosh => call("cosh_f"),
        Elu { alpha } => elu(x, alpha),
        Erf => call("erf"),
        Exp => call("exp"),
        Floor => call("floor"),
        Gelu => call("gelu"),
        GeluTanh => call("gelu_tanh"),
        HardSigmoid { alpha, beta } => hard_sigmoid(x, alpha, beta),
        HardSwish => format!("{x} * clamp({x} / 6.0 + 0.5, 0.0, 1.0)"),
        IsInf { negative, positive } => {
            format!("(is_inf({x}) && select({positive}, {negative}, {x} < 0.0))")
        }
        IsNaN => call("is_nan"),
        LeakyRelu { alpha } => format!("select({x}, {} * {x}, {x} < 0.0)", literal(alpha)),
        Log => call("log"),
        Mish => format!("{x} * tanh_f(softplus({x}))"),
        Neg => format!("-({x})"),
        Reciprocal => format!("1.0 / {x}"),
        Relu => format!("select({x}, 0.0, {x} < 0.0)"),
        Round => call("round"),
        Selu { alpha, gamma } => format!("{} * {}", literal(gamma), elu(x, alpha)),
        Shrink { bias, lambd } => format!("shrink({x}, {}, {})", literal(bias), literal(lambd)),
        Sigmoid => call("sigmoid"),
        Sign => call("sign_f"),
        Sin => call("sin"),
        Sinh => call("sinh_f"),
        Softplus => call("softplus"),
        Softsign => format!("{x} / (1.0 + abs({x}))"),
        Sqrt => call("sqrt"),
        Swish { alpha } => format!("{x} * sigmoid({} * {x})", literal(alpha)),
        Tan => format!("sin({x}) / cos({x})"),
        Tanh => call("tanh_f"),
        ThresholdedRelu { alpha } => format!("select(0.0, {x}, {x} > {})", literal(alpha)),
    }
}

fn elu(x: &str, alpha: f32) -> String {
    format!("select({x}, {} * expm1({x}), {x} < 0.0)", literal(alpha))
}

fn hard_sigmoid(x: &str, alpha: f32, beta: f32) -> String {
    format!("clamp({} * {x} + {}, 0.0, 1.0)", literal(alpha), literal(beta))
}

/// What MatMul and Conv do to an element before they store it.
pub(super) fn activation(f: Option<Activation>, x: &str) -> String {
    let Some(f) = f else { return x.to_string() };
    match f {
        Activation::Relu => float(UnaryFn::Relu, x),
        Activation::LeakyRelu { alpha } => float(UnaryFn::LeakyRelu { alpha }, x),
        Activation::Clip { lo, hi } => clip(x, lo, hi),
        Activation::Sigmoid => float(UnaryFn::Sigmoid, x),
        Activation::Tanh => float(UnaryFn::Tanh, x),
        Activation::Gelu => float(UnaryFn::Gelu, x),
        Activation::GeluTanh => float(UnaryFn::GeluTanh, x),
        Activation::Silu => float(UnaryFn::Swish { alpha: 1.0 }, x),
        Activation::HardSigmoid { alpha, beta } => hard_sigmoid(x, alpha, beta),
        Activation::HardSwish => float(UnaryFn::HardSwish, x),
    }
}

/// min(max(x, lo), hi)
pub(super) fn clip(x: &str, lo: f32, hi: f32) -> String {
    let mut text = x.to_string();
    if lo > f32::NEG_INFINITY {
        text = format!("max_f({text}, {})", literal(lo));
    }
    if hi < f32::INFINITY {
        text = format!("min_f({text}, {})", literal(hi));
    }
    text
}

/// f(a, b), both of this class and dtype.
pub(super) fn binary(f: BinaryFn, class: Class, dtype: DType, a: &str, b: &str) -> Option<String> {
    use BinaryFn::*;
    let infix = |op: &str| Some(format!("({a} {op} {b})"));
    let call = |name: &str| Some(format!("{name}({a}, {b})"));
    match (class, f) {
        (Class::Wide, _) => wide(f, dtype == DType::U64, a, b),
        (Class::Truth, And) => infix("&&"),
        (Class::Truth, Or) => infix("||"),
        (Class::Truth, Xor) => infix("!="),
        (_, Equal) => infix("=="),
        (Class::Truth, _) => None,
        (_, Greater) => infix(">"),
        (_, GreaterOrEqual) => infix(">="),
        (_, Less) => infix("<"),
        (_, LessOrEqual) => infix("<="),
        (_, Add) => infix("+"),
        (_, Sub) => infix("-"),
        (_, Mul) => infix("*"),
        (Class::Float, Div) => infix("/"),
        (Class::Int, Div) => call("div_i"),
        (Class::Uint, Div) => call("div_u"),
        (Class::Float, Max) => call("max_f"),
        (Class::Float, Min) => call("min_f"),
        (_, Max) => call("max"),
        (_, Min) => call("min"),
        (Class::Float, Mod { fmod: true }) => call("rem_f"),
        (Class::Float, Mod { fmod: false }) => call("mod_f"),
        (Class::Int, Mod { fmod: true }) => call("rem_i"),
        (Class::Int, Mod { fmod: false }) => call("mod_i"),
        (Class::Uint, Mod { .. }) => call("rem_u"),
        (Class::Float, Pow) => call("pow_f"),
        (Class::Int, Pow) => call("pow_i"),
        (Class::Uint, Pow) => call("pow_u"),
        (Class::Float, PRelu) => Some(format!("select({a}, {a} * {b}, {a} < 0.0)")),
        (Class::Int, PRelu) => Some(format!("select({a}, {a} * {b}, {a} < 0)")),
        (Class::Uint, PRelu) => Some(a.to_string()),
        (Class::Int | Class::Uint, BitwiseAnd) => infix("&"),
        (Class::Int | Class::Uint, BitwiseOr) => infix("|"),
        (Class::Int | Class::Uint, BitwiseXor) => infix("^"),
        (Class::Uint, BitShift { left: true }) => call("shift_left"),
        (Class::Uint, BitShift { left: false }) => call("shift_right"),
        (Class::Int, BitShift { left }) => {
            let name = if left { "int_left" } else { "int_right" };
            Some(format!("{name}({a}, {b}, {})", dtype.bits()))
        }
        _ => None,
    }
}

fn wide(f: BinaryFn, unsigned: bool, a: &str, b: &str) -> Option<String> {
    use BinaryFn::*;
    let less = if unsigned { "wide_less_u" } else { "wide_less" };
    let sign = if unsigned { "_u" } else { "" };
    Some(match f {
        Add => format!("wide_add({a}, {b})"),
        Sub => format!("wide_sub({a}, {b})"),
        Mul => format!("wide_mul({a}, {b})"),
        Max => format!("select({a}, {b}, {less}({a}, {b}))"),
        Min => format!("select({a}, {b}, {less}({b}, {a}))"),
        Equal => format!("all({a} == {b})"),
        Less => format!("{less}({a}, {b})"),
        Greater => format!("{less}({b}, {a})"),
        LessOrEqual => format!("!{less}({b}, {a})"),
        GreaterOrEqual => format!("!{less}({a}, {b})"),
        BitwiseAnd => format!("({a} & {b})"),
        BitwiseOr => format!("({a} | {b})"),
        BitwiseXor => format!("({a} ^ {b})"),
        BitShift { left: true } => format!("wide_left({a}, {b})"),
        BitShift { left: false } => format!("wide_right{sign}({a}, {b})"),
        Div => format!("wide_div{sign}({a}, {b})"),
        Mod { fmod: false } if !unsigned => format!("wide_mod({a}, {b})"),
        Mod { .. } => format!("wide_rem{sign}({a}, {b})"),
        Pow => format!("wide_pow{sign}({a}, {b})"),
        PRelu if unsigned => a.to_string(),
        PRelu => format!("select({a}, wide_mul({a}, {b}), wide_negative({a}))"),
        _ => return None,
    })
}

/// a to the power of b, which is of another dtype: integers to integers wrap, all else is computed
/// in floats.
pub(super) fn mixed_power(from: DType, by: DType, a: &str, b: &str) -> Option<String> {
    let (class, exponent) = (Class::of(from).ok()?, Class::of(by).ok()?);
    match (class, exponent) {
        (_, Class::Truth) | (Class::Truth, _) => None,
        (Class::Float, _) => Some(format!("pow_f({a}, {})", cast(by, DType::F32, b)?)),
        (_, Class::Float) => {
            let power = format!("pow_f({}, {b})", cast(from, DType::F32, a)?);
            // Through i64, whose low bits are kept.
            let wide = format!("wide_from_float({power})");
            if class == Class::Wide { Some(wide) } else { cast(DType::I64, from, &wide) }
        }
        _ => {
            let (a, b) = (cast(from, DType::I64, a)?, cast(by, DType::I64, b)?);
            let unsigned = if by == DType::U64 { "_u" } else { "" };
            let power = format!("wide_pow{unsigned}({a}, {b})");
            if class == Class::Wide { Some(power) } else { cast(DType::I64, from, &power) }
        }
    }
}

/// A value of one class in another, as Cast does it; `to` may be narrower than its class.
pub(super) fn cast(from: DType, to: DType, x: &str) -> Option<String> {
    let (a, b) = (Class::of(from).ok()?, Class::of(to).ok()?);
    let unsigned = from == DType::U64;
    let wide_float = if unsigned { "float_from_wide_u" } else { "float_from_wide" };
    Some(match (a, b) {
        (Class::Wide, Class::Wide) => x.to_string(),
        (a, b) if a == b => x.to_string(),
        (Class::Truth, Class::Float) => format!("select(0.0, 1.0, {x})"),
        (Class::Truth, Class::Int) => format!("select(0, 1, {x})"),
        (Class::Truth, Class::Uint) => format!("select(0u, 1u, {x})"),
        (Class::Truth, Class::Wide) => format!("vec2<u32>(select(0u, 1u, {x}), 0u)"),
        (Class::Float, Class::Truth) => format!("({x} != 0.0)"),
        (Class::Int, Class::Truth) => format!("({x} != 0)"),
        (Class::Uint, Class::Truth) => format!("({x} != 0u)"),
        (Class::Wide, Class::Truth) => format!("any({x} != vec2<u32>())"),
        (Class::Int | Class::Uint, Class::Float) => format!("f32({x})"),
        (Class::Int, Class::Uint) => format!("bitcast<u32>({x})"),
        (Class::Uint, Class::Int) => format!("bitcast<i32>({x})"),
        (Class::Int, Class::Wide) => format!("wide_from_i({x})"),
        (Class::Uint, Class::Wide) => format!("vec2<u32>({x}, 0u)"),
        (Class::Wide, Class::Float) => format!("{wide_float}({x})"),
        (Class::Wide, Class::Int) => format!("bitcast<i32>({x}.x)"),
        (Class::Wide, Class::Uint) => format!("{x}.x"),
        (Class::Float, Class::Int) if to == DType::I32 => format!("int_from_float({x})"),
        (Class::Float, Class::Uint) if to == DType::U32 => format!("uint_from_float({x})"),
        // Narrow integers: what is out of range is left open by ONNX, and wraps here as on the CPU.
        (Class::Float, Class::Int) => format!("bitcast<i32>(wide_from_float({x}).x)"),
        (Class::Float, Class::Uint) => format!("wide_from_float({x}).x"),
        (Class::Float, Class::Wide) if to == DType::U64 => format!("wide_u_from_float({x})"),
        (Class::Float, Class::Wide) => format!("wide_from_float({x})"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_bits() {
        for x in [0.1, 2.0, 1e-38, f32::MAX, f32::MIN_POSITIVE, 16_777_217.0] {
            let text = literal(x);
            // Exactly the number, not just what rounds to it: some compilers want no rounding.
            assert_eq!(text.trim_end_matches('f').parse(), Ok(f64::from(x)), "{text}");
        }
        assert!(literal(-2.0).starts_with("(-2"));
        assert_eq!(literal(f32::NEG_INFINITY), "(-infinity())");
    }

    #[test]
    fn what_is_no_number_is_not_divided() {
        assert_eq!(binary(BinaryFn::Div, Class::Truth, DType::Bool, "a", "b"), None);
    }
}
