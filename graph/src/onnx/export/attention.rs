//! Attention in its kinds, and the sequence layers that stand beside it.

use super::contrib;
use super::node::{NodeOut, flag, float, int, string};
use crate::ops::{Activation, Attention, CausalConv, LinearAttention, RotaryEmbedding, Scores};
use crate::{Reason, unsupported};

pub(super) fn attention(op: &Attention, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    if out.has(7) || out.has(8) || out.fact(0)?.rank() != out.fact(1)?.rank() {
        return Err(unsupported!("attention with positions, sinks or heads side by side in part"));
    }
    out.need(23);
    let mut attrs = vec![flag("is_causal", op.causal), float("softcap", op.softcap)];
    attrs.extend(op.scale.map(|scale| float("scale", scale)));
    let heads = [("q_num_heads", op.q_heads), ("kv_num_heads", op.kv_heads)];
    attrs.extend(heads.iter().filter_map(|(name, n)| Some(int(name, (*n)? as i64))));
    let windows = [("left_window_size", op.left_window), ("right_window_size", op.right_window)];
    for (name, size) in windows {
        if let Some(size) = size {
            out.need(25);
            attrs.push(int(name, size as i64));
        }
    }
    if out.has(6) {
        out.need(24);
    }
    if out.node.outputs.len() > 3 {
        let mode = match op.scores {
            Scores::Raw => 0,
            Scores::Capped => 1,
            Scores::Biased => 2,
            Scores::Softmax => 3,
        };
        attrs.push(int("qk_matmul_output_mode", mode));
    }
    attrs.extend(op.softmax_precision.map(|d| int("softmax_precision", d.to_onnx() as i64)));
    out.plain("Attention", attrs)
}

pub(super) fn linear(op: &LinearAttention, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.need(27);
    let rule = match (op.gated, op.delta) {
        (false, false) => "linear",
        (true, false) => "gated",
        (false, true) => "delta",
        (true, true) => "gated_delta",
    };
    let mut attrs = vec![
        int("q_num_heads", op.q_heads as i64),
        int("kv_num_heads", op.kv_heads as i64),
        string("update_rule", rule),
    ];
    attrs.extend(op.scale.map(|scale| float("scale", scale)));
    out.plain("LinearAttention", attrs)
}

pub(super) fn causal_conv(op: &CausalConv, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.need(27);
    let activation = match op.activation {
        None => "none",
        Some(Activation::Silu) => "silu",
        Some(other) => return Err(unsupported!("CausalConvWithState followed by {other:?}")),
    };
    out.plain("CausalConvWithState", vec![string("activation", activation)])
}

pub(super) fn rotary(op: &RotaryEmbedding, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    if out.has(3) && out.fact(3)?.rank().is_some_and(|rank| rank < 2) {
        return contrib::rotary(op, out);
    }
    out.need(23);
    let mut attrs = vec![flag("interleaved", op.interleaved)];
    if op.heads > 0 {
        attrs.push(int("num_heads", op.heads as i64));
    }
    attrs.push(int("rotary_embedding_dim", op.dim as i64));
    out.plain("RotaryEmbedding", attrs)
}
