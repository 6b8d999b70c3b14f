//! Cast: each element converted to another dtype; BitCast: its bits read as another dtype.
//!
//! x [s..]  →  [s..]

use super::{Inputs, one};
use crate::fact::Known;
use crate::float8::Round;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Fact, Facts, Reason, Tensor, Type, invalid, unsupported};

/// Each element converted to `to`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cast {
    /// The dtype of the result.
    pub to: DType,
    /// Whether what is out of a float8's range becomes its largest value (else inf or NaN).
    pub saturate: bool,
    /// How float8e8m0 rounds.
    pub round_mode: Round,
}

impl Cast {
    /// A conversion with ONNX's defaults.
    pub fn to(to: DType) -> Cast {
        Cast { to, saturate: true, round_mode: Round::Up }
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let from = x.dtype()?;
        if [from, self.to].iter().any(|t| matches!(t, DType::C64 | DType::C128)) {
            return Err(invalid!("Cast from {from} to {} is not defined", self.to));
        }
        let known = if from == self.to { x.known.clone() } else { self.known(x) };
        one(Fact { ty: Type::Tensor(self.to), shape: x.shape.clone(), known })
    }

    /// Integers that are known in full stay so among the two types that shapes come in.
    fn known(&self, x: &Fact) -> Option<Known> {
        let tensor = x.tensor().filter(|t| t.len() <= 64)?;
        let ints = tensor.to_ints().filter(|_| tensor.dtype().size() >= 4)?;
        Some(Known::Const(match self.to {
            DType::I64 => Tensor::try_from_slice::<i64>(tensor.shape(), &ints).ok()?,
            DType::I32 => {
                let ints: Vec<i32> = ints.iter().map(|&x| x as i32).collect();
                Tensor::try_from_slice(tensor.shape(), &ints).ok()?
            }
            _ => return None,
        }))
    }
}

/// The same bytes under another dtype of the same width, or of a fraction of it: then the last
/// axis is as many times longer, the first element of each in the low bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BitCast {
    /// The dtype of the result.
    pub to: DType,
}

impl BitCast {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let (from, to) = (x.dtype()?, self.to);
        let times = from.bits().checked_div(to.bits()).unwrap_or(0);
        if times == 0 || times * to.bits() != from.bits() {
            return Err(invalid!("{from} cannot be read as {to}: the widths differ"));
        }
        let mut shape = x.shape.clone();
        if times > 1
            && let Some(shape) = &mut shape
        {
            let last = shape.last_mut().ok_or_else(|| invalid!("a {from} read as {times} {to}"))?;
            *last = last.scale(times as i64);
        }
        one(Fact { ty: Type::Tensor(to), shape, known: None })
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let to = if cx.version < 6 {
        // Version 1 names the type: `FLOAT`, `INT64`.
        let name = cx.string("to")?.ok_or_else(|| invalid!("attribute to is missing"))?;
        let lower = name.to_ascii_lowercase();
        DType::all()
            .find(|dtype| dtype.to_string() == lower)
            .ok_or_else(|| invalid!("{name} is no element type"))?
    } else {
        cx.dtype_attr("to")?.ok_or_else(|| invalid!("attribute to is missing"))?
    };
    let (saturate, round_mode) = rounding(cx)?;
    cx.emit(Cast { to, saturate, round_mode })
}

pub(super) fn import_like(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    let to = cx.dtype(like)?;
    let (saturate, round_mode) = rounding(cx)?;
    cx.push(Cast { to, saturate, round_mode }, &[Some(x)])
}

fn rounding(cx: &NodeCx<'_>) -> Result<(bool, Round), Reason> {
    let saturate = cx.version < 19 || cx.flag("saturate", true)?;
    let mode = if cx.version < 24 { None } else { cx.string("round_mode")? };
    let round = match mode.unwrap_or("up") {
        "up" => Round::Up,
        "down" => Round::Down,
        "nearest" => Round::Nearest,
        other => return Err(invalid!("round_mode is {other:?}, not up, down or nearest")),
    };
    Ok((saturate, round))
}

pub(super) fn import_bit_cast(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let to = cx.dtype_attr("to")?.ok_or_else(|| invalid!("attribute to is missing"))?;
    if to == DType::String {
        return Err(unsupported!("BitCast to {to}"));
    }
    let from = cx.dtype(cx.input(0)?)?;
    if from.bits() != to.bits() {
        return Err(invalid!("{from} cannot be read as {to}: the widths differ"));
    }
    cx.emit(BitCast { to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dim;

    #[test]
    fn sizes_stay_known() {
        let x = Fact::of_dims(vec![Dim::symbol("n")], false);
        let made = Cast::to(DType::I64).infer(&Inputs::new(&[Some(&x)], 1)).unwrap();
        assert_eq!(made[0], x);
        let x = Fact::constant(Tensor::vector(&[2i32, -1]));
        let made = Cast::to(DType::I64).infer(&Inputs::new(&[Some(&x)], 1)).unwrap();
        assert_eq!(made[0].ints().unwrap()[..], [2, -1]);
    }

    #[test]
    fn bits_are_read_only_as_types_that_fill_them() {
        let x = Fact::sized(DType::F32, &[2]);
        let infer = |to| BitCast { to }.infer(&Inputs::new(&[Some(&x)], 1));
        assert_eq!(infer(DType::I32).unwrap()[0].to_string(), "int32[2]");
        assert_eq!(infer(DType::F16).unwrap()[0].to_string(), "float16[4]");
        assert!(infer(DType::F64).is_err());
    }
}
