//! What draws random numbers, and what is only of use in training.

use super::node::{Attrs, NodeOut, float, int, ints, string};
use crate::ops::{
    Bernoulli, Distribution, Dropout, LossReduction, Multinomial, NegativeLogLikelihoodLoss,
    Optimizer, OptimizerRule, Random,
};
use crate::{DType, Reason};

fn drawn(dtype: DType, seed: Option<f32>) -> Attrs {
    let mut attrs = vec![int("dtype", dtype.to_onnx() as i64)];
    attrs.extend(seed.map(|seed| float("seed", seed)));
    attrs
}

pub(super) fn random(op: &Random, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = drawn(op.dtype, op.seed);
    let name = match op.distribution {
        Distribution::Normal { mean, scale } => {
            attrs.extend([float("mean", mean), float("scale", scale)]);
            "RandomNormal"
        }
        Distribution::Uniform { low, high } => {
            attrs.extend([float("low", low), float("high", high)]);
            "RandomUniform"
        }
    };
    if let Some(shape) = out.fact(0)?.ints() {
        attrs.push(ints("shape", &shape));
        return out.last(name, vec![], attrs);
    }
    let shape = out.input(0)?;
    let like = out.step("ConstantOfShape", &[&shape], vec![])?;
    out.last(&format!("{name}Like"), vec![like], attrs)
}

pub(super) fn bernoulli(op: &Bernoulli, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("Bernoulli", drawn(op.dtype, op.seed))
}

pub(super) fn multinomial(op: &Multinomial, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = drawn(op.dtype, op.seed);
    attrs.push(int("sample_size", op.samples as i64));
    out.plain("Multinomial", attrs)
}

pub(super) fn dropout(op: &Dropout, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let attrs: Attrs = op.seed.map(|seed| int("seed", seed)).into_iter().collect();
    if op.mask == DType::Bool || out.node.outputs.len() < 2 {
        return out.plain("Dropout", attrs);
    }
    // Up to opset 9 the mask had the type of x.
    let (inputs, mut outputs) = (out.inputs()?, out.outputs()?);
    let mask = std::mem::replace(&mut outputs[1], out.graph.shared.name("mask"));
    let made = outputs[1].clone();
    out.write("Dropout", inputs, outputs, attrs)?;
    out.write("Cast", vec![made], vec![mask], vec![int("to", op.mask.to_onnx() as i64)])
}

pub(super) fn loss(
    op: &NegativeLogLikelihoodLoss,
    out: &mut NodeOut<'_, '_>,
) -> Result<(), Reason> {
    let reduction = match op.reduction {
        LossReduction::None => "none",
        LossReduction::Mean => "mean",
        LossReduction::Sum => "sum",
    };
    let mut attrs = vec![string("reduction", reduction)];
    attrs.extend(op.ignore_index.map(|class| int("ignore_index", class)));
    out.plain("NegativeLogLikelihoodLoss", attrs)
}

pub(super) fn optimizer(op: &Optimizer, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.need_domain("ai.onnx.preview.training", 1);
    let mut attrs = vec![float("norm_coefficient", op.norm_coefficient)];
    let name = match op.rule {
        OptimizerRule::Adagrad { decay_factor, epsilon } => {
            attrs.extend([float("decay_factor", decay_factor), float("epsilon", epsilon)]);
            "ai.onnx.preview.training.Adagrad"
        }
        OptimizerRule::Adam { alpha, beta, epsilon, norm_coefficient_post } => {
            attrs.extend([float("alpha", alpha), float("beta", beta), float("epsilon", epsilon)]);
            attrs.push(float("norm_coefficient_post", norm_coefficient_post));
            "ai.onnx.preview.training.Adam"
        }
        OptimizerRule::Momentum { alpha, beta, nesterov } => {
            let mode = if nesterov { "nesterov" } else { "standard" };
            attrs.extend([float("alpha", alpha), float("beta", beta), string("mode", mode)]);
            "ai.onnx.preview.training.Momentum"
        }
    };
    out.plain(name, attrs)
}
