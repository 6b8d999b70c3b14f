//! Reductions, softmax, normalizations, Fourier transforms.

use super::node::{NodeOut, flag, float, int};
use crate::ops::{
    Accumulate, Arg, BatchNormalization, CosineWindow, Cumulative, DFT, Extreme,
    GroupNormalization, LayerNormalization, Lrn, MelWeightMatrix, Per, Reduce, ReduceKind,
    RmsNormalization, STFT, Softmax, SoftmaxKind, TopK,
};
use crate::{Reason, unsupported};

pub(super) fn reduce(op: &Reduce, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let name = match op.kind {
        ReduceKind::L1 => "ReduceL1",
        ReduceKind::L2 => "ReduceL2",
        ReduceKind::LogSum => "ReduceLogSum",
        ReduceKind::LogSumExp => "ReduceLogSumExp",
        ReduceKind::Max => "ReduceMax",
        ReduceKind::Mean => "ReduceMean",
        ReduceKind::Min => "ReduceMin",
        ReduceKind::Prod => "ReduceProd",
        ReduceKind::Sum => "ReduceSum",
        ReduceKind::SumSquare => "ReduceSumSquare",
    };
    let noop = flag("noop_with_empty_axes", op.noop_with_empty_axes);
    out.plain(name, vec![flag("keepdims", op.keepdims), noop])
}

pub(super) fn arg(op: &Arg, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let name = match op.extreme {
        Extreme::Max => "ArgMax",
        Extreme::Min => "ArgMin",
    };
    let last = flag("select_last_index", op.select_last_index);
    out.plain(name, vec![int("axis", op.axis.0), flag("keepdims", op.keepdims), last])
}

pub(super) fn topk(op: &TopK, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("TopK", vec![int("axis", op.axis.0), flag("largest", op.largest)])
}

pub(super) fn cumulative(op: &Cumulative, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let name = match op.kind {
        Accumulate::Sum => "CumSum",
        Accumulate::Prod => {
            out.need(26);
            "CumProd"
        }
    };
    out.plain(name, vec![flag("exclusive", op.exclusive), flag("reverse", op.reverse)])
}

pub(super) fn lrn(op: &Lrn, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let size = int("size", op.size as i64);
    let attrs = [("alpha", op.alpha), ("beta", op.beta), ("bias", op.bias)];
    out.plain("LRN", attrs.iter().map(|(name, x)| float(name, *x)).chain([size]).collect())
}

pub(super) fn group_norm(op: &GroupNormalization, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let epsilon = float("epsilon", op.epsilon);
    match (op.groups, op.params) {
        (None, Per::Channel) => out.plain("InstanceNormalization", vec![epsilon]),
        (Some(groups), Per::Channel) => {
            out.plain("GroupNormalization", vec![int("num_groups", groups as i64), epsilon])
        }
        (_, Per::Group) => Err(unsupported!("a scale per group, as GroupNormalization-18 had it")),
    }
}

pub(super) fn softmax(op: &Softmax, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let name = match op.kind {
        SoftmaxKind::Softmax => "Softmax",
        SoftmaxKind::LogSoftmax => "LogSoftmax",
        SoftmaxKind::Hardmax => "Hardmax",
    };
    out.plain(name, vec![int("axis", op.axis.0)])
}

pub(super) fn batch_norm(op: &BatchNormalization, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![float("epsilon", op.epsilon)];
    if let Some(momentum) = op.training {
        attrs.extend([flag("training_mode", true), float("momentum", momentum)]);
        // Since opset 14 there are the running mean and variance, and nothing else.
        if out.node.outputs.len() > 3 {
            return Err(unsupported!("the saved mean and variance of BatchNormalization-7"));
        }
    }
    out.plain("BatchNormalization", attrs)
}

pub(super) fn layer_norm(op: &LayerNormalization, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let stash = int("stash_type", op.stash.to_onnx() as i64);
    let attrs = vec![int("axis", op.axis.0), float("epsilon", op.epsilon), stash];
    out.plain("LayerNormalization", attrs)
}

pub(super) fn rms_norm(op: &RmsNormalization, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.need(23);
    out.plain("RMSNormalization", vec![int("axis", op.axis.0), float("epsilon", op.epsilon)])
}

pub(super) fn dft(op: &DFT, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("DFT", vec![flag("inverse", op.inverse), flag("onesided", op.onesided)])
}

pub(super) fn stft(op: &STFT, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("STFT", vec![flag("onesided", op.onesided)])
}

pub(super) fn window(op: &CosineWindow, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let name = match op.terms {
        [_, _, c] if c != 0.0 => "BlackmanWindow",
        [0.5, ..] => "HannWindow",
        _ => "HammingWindow",
    };
    let dtype = int("output_datatype", op.dtype.to_onnx() as i64);
    out.plain(name, vec![dtype, flag("periodic", op.periodic)])
}

pub(super) fn mel(op: &MelWeightMatrix, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("MelWeightMatrix", vec![int("output_datatype", op.dtype.to_onnx() as i64)])
}
