//! NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: how improbable the right classes are.
//!
//! lossᵢ = -weight[tᵢ] · x[i, tᵢ], x [n, c, …] log-probabilities, t [n, …] classes; 0 where t is
//! `ignore_index`. SoftmaxCrossEntropyLoss is the same of LogSoftmax(x).
use super::{Axis, Inputs, Softmax, SoftmaxKind, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Fact, Facts, Reason, invalid, unsupported};

/// What becomes of the losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReduction {
    /// Each is returned.
    None,
    /// Their sum, divided by the sum of the weights of those that count.
    Mean,
    /// Their sum.
    Sum,
}

/// x [n, c, …], target [n, …], weight [c] (optional) → losses [n, …] or one number
#[derive(Clone, Debug, PartialEq)]
pub struct NegativeLogLikelihoodLoss {
    /// What becomes of the losses.
    pub reduction: LossReduction,
    /// The class whose elements count nothing.
    pub ignore_index: Option<i64>,
}

impl NegativeLogLikelihoodLoss {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, target) = (inputs.get(0)?, inputs.get(1)?);
        let dtype = x.dtype()?;
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Err(unsupported!("a loss of {dtype} is not supported"));
        }
        if !matches!(target.dtype()?, DType::I32 | DType::I64) {
            return Err(invalid!("the classes are {}", target.ty));
        }
        inputs.same_dtype(0, 2)?;
        inputs.check_rank(2, 1)?;
        let expected: Option<Shape> = match x.shape() {
            Some([n, _, rest @ ..]) => Some(std::iter::once(n).chain(rest).cloned().collect()),
            Some(shape) => return Err(invalid!("log-probabilities of rank {}", shape.len())),
            None => None,
        };
        if let (Some(a), Some(b)) = (&expected, target.shape()) {
            let differs = |(a, b): (&crate::Dim, &crate::Dim)| matches!((a.value(), b.value()), (Some(a), Some(b)) if a != b);
            if a.len() != b.len() || a.iter().zip(b).any(differs) {
                return Err(invalid!("classes {target} for log-probabilities {x}"));
            }
        }
        if let (Some([_, c, ..]), Some([w])) = (x.shape(), inputs.opt(2).and_then(Fact::shape))
            && let (Some(c), Some(w)) = (c.value(), w.value())
            && c != w
        {
            return Err(invalid!("{w} weights for {c} classes"));
        }
        one(match (self.reduction, expected.or_else(|| target.shape.clone())) {
            (LossReduction::Mean | LossReduction::Sum, _) => Fact::new(dtype, Shape::new()),
            (LossReduction::None, Some(shape)) => Fact::new(dtype, shape),
            (LossReduction::None, None) => Fact::unranked(dtype),
        })
    }

    fn read(cx: &NodeCx<'_>) -> Result<NegativeLogLikelihoodLoss, Reason> {
        cx.check_inputs(2, 3)?;
        let reduction = match cx.string("reduction")?.unwrap_or("mean") {
            "none" => LossReduction::None,
            "mean" => LossReduction::Mean,
            "sum" => LossReduction::Sum,
            other => return Err(invalid!("reduction is {other:?}")),
        };
        Ok(NegativeLogLikelihoodLoss { reduction, ignore_index: cx.int("ignore_index")? })
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let loss = NegativeLogLikelihoodLoss::read(cx)?;
    cx.emit(loss)
}

pub(super) fn import_softmax(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let loss = NegativeLogLikelihoodLoss::read(cx)?;
    let scores = cx.input(0)?;
    let softmax = Softmax { kind: SoftmaxKind::LogSoftmax, axis: Axis(1) };
    let log_prob = cx.push1(softmax, &[scores])?;
    let mut inputs = cx.inputs().to_vec();
    inputs[0] = Some(log_prob);
    let mut made = cx.push_n(loss, &inputs, 1)?;
    if cx.outputs() > 1 {
        made.push(log_prob);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &[usize], reduction: LossReduction, expected: &str) {
        let (x, t) = (Fact::sized(DType::F32, &[2, 5, 7]), Fact::sized(DType::I64, target));
        let op = NegativeLogLikelihoodLoss { reduction, ignore_index: None };
        let facts = op.infer(&Inputs::new(&[Some(&x), Some(&t)], 1));
        assert_eq!(facts.map_or_else(|e| e.to_string(), |f| f[0].to_string()), expected);
    }

    #[test]
    fn every_sample_has_a_class() {
        check(&[2, 7], LossReduction::None, "float[2, 7]");
        check(&[2, 7], LossReduction::Mean, "float[]");
        let wrong = "classes int64[2, 5] for log-probabilities float[2, 5, 7]";
        check(&[2, 5], LossReduction::Sum, wrong);
    }
}
