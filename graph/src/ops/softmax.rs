//! Softmax, LogSoftmax, Hardmax: one axis becomes probabilities.
//!
//! softmax(x)ᵢ = e^xᵢ / Σⱼ e^xⱼ along the axis; x [..] → [..]
use super::{Axis, Flatten, Inputs, Reshape, Shape, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, ValueId, unsupported};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftmaxKind {
    /// e^xᵢ / Σⱼ e^xⱼ
    Softmax,
    /// The logarithm of that.
    LogSoftmax,
    /// 1 for the first of the largest, 0 for the others.
    Hardmax,
}

/// x → the same shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// What it computes.
    pub kind: SoftmaxKind,
    /// Along which axis.
    pub axis: Axis,
}

impl Softmax {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Err(unsupported!("{:?} of {dtype} is not supported", self.kind));
        }
        if let Some(shape) = x.shape() {
            self.axis.resolve(shape.len())?;
        }
        one(x.clone().forget())
    }
}

fn import(cx: &mut NodeCx<'_>, kind: SoftmaxKind) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let axis = cx.int("axis")?;
    if cx.version >= 13 {
        return cx.emit(Softmax { kind, axis: Axis(axis.unwrap_or(-1)) });
    }
    let x = cx.input(0)?;
    let y = of_rows(cx, kind, x, Axis(axis.unwrap_or(1)))?;
    cx.done(y)
}

/// Every axis from `axis` on normalized together, as up to opset 12.
pub(super) fn of_rows(
    cx: &mut NodeCx<'_>,
    kind: SoftmaxKind,
    x: ValueId,
    axis: Axis,
) -> Result<ValueId, Reason> {
    if let Some(rank) = cx.fact(x).rank()
        && axis.resolve(rank).is_ok_and(|axis| axis + 1 == rank)
    {
        return cx.push1(Softmax { kind, axis }, &[x]);
    }
    let shape = cx.push1(Shape { start: 0, end: None }, &[x])?;
    let rows = cx.push1(Flatten { axis }, &[x])?;
    let y = cx.push1(Softmax { kind, axis: Axis(1) }, &[rows])?;
    cx.push1(Reshape { allowzero: true }, &[y, shape])
}

pub(super) fn import_softmax(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import(cx, SoftmaxKind::Softmax)
}

pub(super) fn import_log_softmax(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import(cx, SoftmaxKind::LogSoftmax)
}

pub(super) fn import_hardmax(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import(cx, SoftmaxKind::Hardmax)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fact;

    #[test]
    fn the_axis_must_exist() {
        let x = Fact::sized(DType::F32, &[2, 3]);
        let op = |axis| Softmax { kind: SoftmaxKind::Softmax, axis: Axis(axis) };
        let infer = |axis| op(axis).infer(&Inputs::new(&[Some(&x)], 1));
        assert_eq!(infer(-2).unwrap()[0], x);
        assert_eq!(infer(2).unwrap_err().to_string(), "axis 2 is out of range for rank 2");
    }
}
