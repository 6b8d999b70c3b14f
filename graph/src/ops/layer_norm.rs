//! LayerNormalization and RMSNormalization: the last axes brought to mean 0 and variance 1.
//!
//! y = (x - mean) / √(var + epsilon) · scale + b, or y = x / √(mean(x²) + epsilon) · scale, with
//! mean and var over the axes from `axis` on
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{broadcast, show};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// x, scale, b (optional) → y; mean and 1/√(var + epsilon) of each row, in the stash type.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormalization {
    /// The first axis that is normalized.
    pub axis: Axis,
    /// Keeps the root from zero.
    pub epsilon: f32,
    /// The dtype of outputs 1 and 2.
    pub stash: DType,
}

/// x, scale → y
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNormalization {
    /// The first axis that is normalized.
    pub axis: Axis,
    /// Keeps the root from zero.
    pub epsilon: f32,
}

impl LayerNormalization {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let y = check(inputs, self.axis, "LayerNormalization")?;
        let stash = match y.shape() {
            Some(shape) => {
                let axis = self.axis.resolve(shape.len())?;
                let size = |(i, d): (usize, &Dim)| if i < axis { d.clone() } else { Dim::N(1) };
                Fact::new(self.stash, shape.iter().enumerate().map(size).collect())
            }
            None => Fact::unranked(self.stash),
        };
        Ok([y, stash.clone(), stash].into_iter().collect())
    }
}

impl RmsNormalization {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        one(check(inputs, self.axis, "RMSNormalization")?)
    }
}

/// The fact of y; `Err` unless scale and b broadcast to x.
fn check(inputs: &Inputs<'_>, axis: Axis, name: &str) -> Result<Fact, Reason> {
    let x = inputs.get(0)?;
    let float = |dtype| matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    for fact in inputs.given() {
        if !float(fact.dtype()?) {
            return Err(unsupported!("{name} of {} is not supported", fact.ty));
        }
    }
    inputs.get(1)?;
    let Some(shape) = x.shape() else { return Ok(x.clone().forget()) };
    axis.resolve(shape.len())?;
    for fact in inputs.given().skip(1) {
        let Some(param) = fact.shape() else { continue };
        let grown = broadcast(param, shape)?;
        let grows = |(a, b): (&Dim, &Dim)| a.value().is_some() && b.value().is_some() && a != b;
        if grown.len() != shape.len() || grown.iter().zip(shape).any(grows) {
            return Err(invalid!("{} does not broadcast to {}", show(param), show(shape)));
        }
    }
    Ok(x.clone().forget())
}

fn stash(cx: &NodeCx<'_>) -> Result<DType, Reason> {
    match cx.dtype_attr("stash_type")?.unwrap_or(DType::F32) {
        dtype @ (DType::F32 | DType::BF16 | DType::F16 | DType::F64) => Ok(dtype),
        other => Err(invalid!("stash_type is {other}")),
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(-1));
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    let stash = stash(cx)?;
    cx.emit(LayerNormalization { axis, epsilon, stash })
}

pub(super) fn import_rms(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(-1));
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    stash(cx)?;
    cx.emit(RmsNormalization { axis, epsilon })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scale: &[usize], expected: &str) {
        let (x, scale) = (Fact::sized(DType::F16, &[2, 3, 4]), Fact::sized(DType::F16, scale));
        let op = LayerNormalization { axis: Axis(1), epsilon: 0.0, stash: DType::F32 };
        let facts = op.infer(&Inputs::new(&[Some(&x), Some(&scale)], 3));
        let show = |facts: Facts| facts.iter().map(Fact::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(facts.map_or_else(|e| e.to_string(), show), expected);
    }

    #[test]
    fn mean_and_deviation_have_one_element_a_row() {
        check(&[3, 4], "float16[2, 3, 4] float[2, 1, 1] float[2, 1, 1]");
    }

    #[test]
    fn scale_must_broadcast_to_x() {
        check(&[4], "float16[2, 3, 4] float[2, 1, 1] float[2, 1, 1]");
        check(&[5, 2, 3, 4], "[5, 2, 3, 4] does not broadcast to [2, 3, 4]");
        check(&[2], "shapes [2] and [2, 3, 4] do not broadcast");
    }
}
