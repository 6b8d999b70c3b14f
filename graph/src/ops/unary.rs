//! Unary: y = f(x), element by element, for every function of one argument in ONNX.
//!
//! x [s..]  →  y [s..] of the same dtype (bool for IsInf and IsNaN)

use super::{Inputs, one};
use crate::fact::Known;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// y = f(x) for each element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unary(pub UnaryFn);

/// A function of one number, named and with the attributes as in ONNX.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum UnaryFn {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    /// Every bit flipped.
    BitwiseNot,
    Ceil,
    /// max(0, x) + min(0, alpha (e^(x / alpha) - 1))
    Celu {
        alpha: f32,
    },
    Cos,
    Cosh,
    /// x where x ≥ 0, else alpha (eˣ - 1)
    Elu {
        alpha: f32,
    },
    Erf,
    Exp,
    Floor,
    /// x/2 · (1 + erf(x/√2))
    Gelu,
    /// x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))
    GeluTanh,
    /// max(0, min(1, alpha x + beta))
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// x · max(0, min(1, x/6 + 1/2))
    HardSwish,
    IsInf {
        negative: bool,
        positive: bool,
    },
    IsNaN,
    /// x where x ≥ 0, else alpha x
    LeakyRelu {
        alpha: f32,
    },
    Log,
    /// x · tanh(softplus(x))
    Mish,
    Neg,
    Not,
    Reciprocal,
    Relu,
    /// To the nearest integer, halves to even.
    Round,
    /// gamma x where x > 0, else gamma alpha (eˣ - 1)
    Selu {
        alpha: f32,
        gamma: f32,
    },
    /// x + bias below -lambd, x - bias above lambd, 0 between.
    Shrink {
        bias: f32,
        lambd: f32,
    },
    Sigmoid,
    Sign,
    Sin,
    Sinh,
    /// log(1 + eˣ)
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    Sqrt,
    /// x · sigmoid(alpha x)
    Swish {
        alpha: f32,
    },
    Tan,
    Tanh,
    /// x where x > alpha, else 0
    ThresholdedRelu {
        alpha: f32,
    },
}

impl UnaryFn {
    /// Whether it takes elements of this dtype.
    pub fn takes(self, dtype: DType) -> bool {
        use UnaryFn::*;
        let float = matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        match self {
            Abs | Sign | Shrink { .. } => float || is_number(dtype),
            Neg | Relu => float || (is_number(dtype) && !dtype.is_unsigned()),
            BitwiseNot => is_number(dtype) && dtype.is_int(),
            Not => dtype == DType::Bool,
            IsInf { .. } | IsNaN => float || dtype.is_float8(),
            _ => float,
        }
    }

    /// The dtype of f(x).
    pub fn result(self, dtype: DType) -> DType {
        match self {
            UnaryFn::IsInf { .. } | UnaryFn::IsNaN => DType::Bool,
            _ => dtype,
        }
    }
}

/// Whether it is a number of whole bytes that arithmetic is defined on: 8 to 64 bits, integer or
/// IEEE-like float.
pub(super) fn is_number(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
        || (dtype.is_int() && !dtype.is_packed())
}

impl std::fmt::Display for UnaryFn {
    /// `Relu`, `Elu { alpha: 1.0 }`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Unary {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        if !self.0.takes(dtype) {
            return Err(invalid!("{} of {dtype} is not defined", self.0));
        }
        let known = match (&x.known, self.0) {
            (Some(Known::Dims(dims)), UnaryFn::Neg) => {
                Some(Known::Dims(dims.iter().map(|d| d.mul(&Dim::N(-1))).collect()))
            }
            _ => None,
        };
        let ty = crate::Type::Tensor(self.0.result(dtype));
        one(Fact { ty, shape: x.shape.clone(), known })
    }
}

/// Imports a function without attributes.
pub(super) fn import(cx: &mut NodeCx<'_>, f: UnaryFn) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    if cx.version < 6 {
        cx.ignore(&["consumed_inputs"]);
    }
    cx.emit(Unary(f))
}

pub(super) fn import_celu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    import(cx, UnaryFn::Celu { alpha })
}

pub(super) fn import_elu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    import(cx, UnaryFn::Elu { alpha })
}

/// Of integers, too: what is left of erf(x) rounded to f32.
pub(super) fn import_erf(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let x = cx.input(0)?;
    let dtype = cx.dtype(x)?;
    if !is_number(dtype) || !dtype.is_int() {
        return import(cx, UnaryFn::Erf);
    }
    let wide = cx.cast(x, DType::F64)?;
    let y = cx.unary(UnaryFn::Erf, wide)?;
    let y = cx.cast(y, DType::F32)?;
    let y = cx.cast(y, dtype)?;
    cx.done(y)
}

pub(super) fn import_gelu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let f = match cx.string("approximate")? {
        None | Some("none") => UnaryFn::Gelu,
        Some("tanh") => UnaryFn::GeluTanh,
        Some(other) => return Err(invalid!("approximate is {other:?}, not none or tanh")),
    };
    import(cx, f)
}

pub(super) fn import_hard_sigmoid(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let alpha = cx.float("alpha")?.unwrap_or(0.2);
    let beta = cx.float("beta")?.unwrap_or(0.5);
    import(cx, UnaryFn::HardSigmoid { alpha, beta })
}

pub(super) fn import_is_inf(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let negative = cx.flag("detect_negative", true)?;
    let positive = cx.flag("detect_positive", true)?;
    import(cx, UnaryFn::IsInf { negative, positive })
}

pub(super) fn import_leaky_relu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let alpha = cx.float("alpha")?.unwrap_or(0.01);
    import(cx, UnaryFn::LeakyRelu { alpha })
}

pub(super) fn import_selu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    // Version 1 gave the constants to four digits only.
    let (alpha, gamma) = if cx.version < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let alpha = cx.float("alpha")?.unwrap_or(alpha);
    let gamma = cx.float("gamma")?.unwrap_or(gamma);
    import(cx, UnaryFn::Selu { alpha, gamma })
}

pub(super) fn import_shrink(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let bias = cx.float("bias")?.unwrap_or(0.0);
    let lambd = cx.float("lambd")?.unwrap_or(0.5);
    import(cx, UnaryFn::Shrink { bias, lambd })
}

pub(super) fn import_swish(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    import(cx, UnaryFn::Swish { alpha })
}

pub(super) fn import_thresholded_relu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    import(cx, UnaryFn::ThresholdedRelu { alpha })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(f: UnaryFn, dtype: DType, expected: &str) {
        let fact = Fact::sized(dtype, &[2, 3]);
        let made = Unary(f).infer(&Inputs::new(&[Some(&fact)], 1));
        assert_eq!(made.map_or_else(|e| e.to_string(), |f| f[0].to_string()), expected);
    }

    #[test]
    fn shape_and_dtype_stay() {
        check(UnaryFn::Relu, DType::I8, "int8[2, 3]");
        check(UnaryFn::Exp, DType::BF16, "bfloat16[2, 3]");
        check(UnaryFn::IsNaN, DType::F8E5M2, "bool[2, 3]");
    }

    #[test]
    fn undefined_dtypes_are_refused() {
        check(UnaryFn::Neg, DType::U8, "Neg of uint8 is not defined");
        check(UnaryFn::Sin, DType::I32, "Sin of int32 is not defined");
        check(UnaryFn::Abs, DType::I4, "Abs of int4 is not defined");
        check(UnaryFn::Not, DType::U8, "Not of uint8 is not defined");
    }

    #[test]
    fn a_negated_size_is_known() {
        let fact = Fact::of_dims(vec![Dim::symbol("n"), Dim::N(2)], false);
        let made = Unary(UnaryFn::Neg).infer(&Inputs::new(&[Some(&fact)], 1)).unwrap();
        assert_eq!(made[0].to_string(), "int64[2] = [-1n, -2]");
    }
}
