//! Attention, QAttention, MultiHeadAttention and DecoderMaskedMultiHeadAttention of com.microsoft.
//!
//! Attention: q, k, v = input · weights + bias, cut along the last axis (QAttention: a product of
//! 8-bit codes); the others begin after the product. They become ONNX's Attention with an additive
//! mask.

use smallvec::smallvec;

use super::super::qgemm::{self, Codes};
use super::super::{Attention, Axis, BinaryFn, Concat, MatMul, Scores, TensorScatter};
use super::heads::{self, Padding};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Reason, ValueId, invalid, unsupported};

/// input [b, s, i], weights [i, q + k + v], bias, mask_index, past [2, b, h, p, d], attention_bias
/// → output [b, s, v], present
pub(in super::super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 7)?;
    let shared = cx.flag("past_present_share_buffer", false)? || cx.opt_input(6).is_some();
    if shared || cx.flag("do_rotary", false)? {
        return Err(unsupported!("Attention with a shared buffer or rotary positions"));
    }
    cx.ignore(&["rotary_embedding_dim"]);
    let (x, weights, bias) = (cx.input(0)?, cx.input(1)?, cx.opt_input(2));
    let sizes = match cx.ints("qkv_hidden_sizes")?.unwrap_or_default()[..] {
        [] => {
            let all = heads::known(cx, weights, 1, "the weights")?;
            [all / 3; 3]
        }
        [q, k, v] => [q, k, v],
        ref other => return Err(invalid!("qkv_hidden_sizes is {other:?}")),
    };
    let made = cx.push_n(MatMul::PLAIN, &[Some(x), Some(weights), bias], 1)?[0];
    whole(
        cx,
        made,
        sizes,
        Around { mask: cx.opt_input(3), past: cx.opt_input(4), bias: cx.opt_input(5) },
    )
}

/// input [b, s, i] and weight [i, 3·h] in codes, bias, input_scale, weight_scale, mask_index,
/// input_zero_point, weight_zero_point, past → output [b, s, h], present
pub(in super::super) fn import_quantized(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(5, 9)?;
    if cx.flag("past_present_share_buffer", false)? || cx.flag("do_rotary", false)? {
        return Err(unsupported!("QAttention with a shared buffer or rotary positions"));
    }
    let all = heads::known(cx, cx.input(1)?, 1, "the weight")?;
    let x = Codes { x: cx.input(0)?, scale: cx.input(3)?, zero: cx.opt_input(6) };
    let weight = Codes { x: cx.input(1)?, scale: cx.input(4)?, zero: cx.opt_input(7) };
    let bias = cx.input(2)?;
    let made = qgemm::product(cx, &x, &weight, Some(bias))?;
    whole(
        cx,
        made,
        [all / 3; 3],
        Around { mask: cx.opt_input(5), past: cx.opt_input(8), bias: None },
    )
}

/// What an attention of one product is given besides it.
struct Around {
    mask: Option<ValueId>,
    /// Keys and values [2, b, h, p, d].
    past: Option<ValueId>,
    bias: Option<ValueId>,
}

/// Attention of queries, keys and values that lie side by side.
fn whole(
    cx: &mut NodeCx<'_>,
    qkv: ValueId,
    sizes: [i64; 3],
    around: Around,
) -> Result<Outputs, Reason> {
    let qkv = cx.split(qkv, -1, &sizes)?;
    let (mut past_k, mut past_v) = (None, None);
    if let Some(past) = around.past {
        let halves = cx.split(past, 0, &[1, 1])?;
        past_k = Some(cx.squeeze(halves[0], &[0])?);
        past_v = Some(cx.squeeze(halves[1], &[0])?);
    }
    let parts = Parts {
        q: qkv[0],
        k: qkv[1],
        v: qkv[2],
        past: past_k.zip(past_v),
        mask: around.mask,
        bias: around.bias,
        causal: cx.flag("unidirectional", false)?,
        scores: None,
    };
    let made = parts.attend(cx, if cx.outputs() > 1 { 3 } else { 1 })?;
    if cx.outputs() < 2 {
        return cx.done(made[0]);
    }
    let (k, v) = (cx.unsqueeze(made[1], &[0])?, cx.unsqueeze(made[2], &[0])?);
    let present = cx.push1(Concat { axis: Axis(0) }, &[k, v])?;
    Ok(smallvec![made[0], present])
}

/// query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value → output,
/// present_key, present_value, scores
pub(in super::super) fn import_multi_head(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 10)?;
    if cx.opt_input(8).is_some() || cx.opt_input(9).is_some() {
        return Err(unsupported!("MultiHeadAttention with a shared buffer or beams"));
    }
    let causal = cx.flag("unidirectional", false)?;
    let at = Places { mask: 4, attention_bias: 5, past: 6, bias: 3 };
    multi_head(cx, at, causal)
}

/// query [b, 1, h·d], key, value, mask_index, attention_bias, past_key, past_value,
/// past_sequence_length, beam_width, cache_indirection, bias → output, present_key, present_value,
/// scores
pub(in super::super) fn import_decoder(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 11)?;
    if cx.opt_input(8).is_some() || cx.opt_input(9).is_some() {
        return Err(unsupported!("DecoderMaskedMultiHeadAttention with beams"));
    }
    cx.ignore(&["output_qk"]);
    let at = Places { mask: 3, attention_bias: 4, past: 5, bias: 10 };
    if cx.opt_input(at.past).is_none() {
        // Keys of a cross attention, which nothing is added to.
        let rank = cx.opt_input(1).and_then(|k| cx.fact(k).rank());
        if rank != Some(4) || cx.opt_input(at.bias).is_some() || cx.outputs() > 1 {
            return Err(unsupported!("DecoderMaskedMultiHeadAttention without past or cache"));
        }
    }
    match (cx.flag("past_present_share_buffer", false)?, cx.opt_input(7)) {
        (true, Some(length)) => shared_buffer(cx, at, length),
        (false, None) => multi_head(cx, at, false),
        _ => Err(invalid!("past_sequence_length is what a shared buffer needs, and only that")),
    }
}

/// Attention over a cache of which `length` positions are filled; the new ones are written behind.
fn shared_buffer(cx: &mut NodeCx<'_>, at: Places, length: ValueId) -> Result<Outputs, Reason> {
    let [q, k, v] = biased(cx, at.bias)?;
    let heads = heads::num_heads(cx, "num_heads")?;
    let (past_k, past_v) = (cx.input(at.past)?, cx.input(at.past + 1)?);
    let length = cx.cast(length, DType::I64)?;
    let length = cx.reshape(length, &[1])?;
    let one = cx.constant_ints(&[1]);
    let total = cx.binary(BinaryFn::Add, length, one)?;
    let batch = cx.size_of(q, 0)?;
    let (starts, lens) = (cx.expand(length, batch)?, cx.expand(total, batch)?);
    let mut present = [past_k, past_v];
    for (cache, new) in present.iter_mut().zip([k, v]) {
        let new = heads::heads_apart(cx, new, heads)?;
        let write = TensorScatter { axis: Axis(2), circular: false };
        *cache = cx.push1(write, &[*cache, new, starts])?;
    }
    let parts = Parts {
        q,
        k: present[0],
        v: present[1],
        past: None,
        mask: cx.opt_input(at.mask),
        bias: cx.opt_input(at.attention_bias),
        causal: false,
        scores: None,
    };
    if cx.outputs() > 3 {
        return Err(unsupported!("scores of attention over a shared buffer"));
    }
    let padding = parts.padding(cx, total)?;
    let mask = padding.added(cx)?;
    let op = parts.operator(cx)?;
    let inputs =
        [Some(q), Some(present[0]), Some(present[1]), mask, None, None, Some(lens), Some(starts)];
    let y = cx.push_n(op, &inputs, 1)?[0];
    Ok([y, present[0], present[1]].into_iter().take(cx.outputs().max(1)).collect())
}

/// Which inputs of an operator are what.
struct Places {
    mask: usize,
    attention_bias: usize,
    past: usize,
    bias: usize,
}

fn multi_head(cx: &mut NodeCx<'_>, at: Places, causal: bool) -> Result<Outputs, Reason> {
    let [q, k, v] = biased(cx, at.bias)?;
    let past = cx.opt_input(at.past).zip(cx.opt_input(at.past + 1));
    if past.is_none() && cx.opt_input(at.past).or(cx.opt_input(at.past + 1)).is_some() {
        return Err(invalid!("past_key and past_value are only given together"));
    }
    let (mask, bias) = (cx.opt_input(at.mask), cx.opt_input(at.attention_bias));
    let scores = (cx.outputs() > 3).then_some(Scores::Biased);
    let parts = Parts { q, k, v, past, mask, bias, causal, scores };
    parts.attend(cx, cx.outputs())
}

/// query, key and value with their parts of a bias, input `at`.
fn biased(cx: &mut NodeCx<'_>, at: usize) -> Result<[ValueId; 3], Reason> {
    let mut qkv = unpacked(cx)?;
    let Some(bias) = cx.opt_input(at) else { return Ok(qkv) };
    if cx.fact(qkv[1]).rank() != Some(3) {
        return Err(unsupported!("a bias for keys that are a cache"));
    }
    let hidden = heads::known(cx, qkv[0], 2, "a query")?;
    let v_hidden = heads::known(cx, qkv[2], 2, "a value")?;
    let parts = cx.split(bias, 0, &[hidden, hidden, v_hidden])?;
    for (x, bias) in qkv.iter_mut().zip(parts) {
        *x = cx.binary(BinaryFn::Add, *x, bias)?;
    }
    Ok(qkv)
}

/// query, key and value, also where query is all three [b, s, h, 3, d], or key is two of them
/// [b, s, h, 2, d].
fn unpacked(cx: &mut NodeCx<'_>) -> Result<[ValueId; 3], Reason> {
    let q = cx.input(0)?;
    let pieces = |cx: &mut NodeCx<'_>, x, n: usize| {
        let pieces = cx.split(x, 3, &vec![1; n])?;
        pieces.into_iter().map(|x| cx.reshape(x, &[0, 0, -1])).collect::<Result<Vec<_>, _>>()
    };
    match (cx.opt_input(1), cx.opt_input(2)) {
        (Some(k), Some(v)) => Ok([q, k, v]),
        (None, None) if cx.fact(q).rank() == Some(5) => {
            let made = pieces(cx, q, 3)?;
            Ok([made[0], made[1], made[2]])
        }
        (None, None) if cx.fact(q).rank() == Some(3) => {
            let third = heads::known(cx, q, 2, "a packed query")? / 3;
            let made = cx.split(q, 2, &[third; 3])?;
            Ok([made[0], made[1], made[2]])
        }
        (Some(k), None) if cx.fact(k).rank() == Some(5) => {
            let made = pieces(cx, k, 2)?;
            Ok([q, made[0], made[1]])
        }
        _ => Err(unsupported!("queries, keys and values packed in a way that is not known")),
    }
}

/// An attention to be built.
struct Parts {
    /// [b, s, h·d]
    q: ValueId,
    /// [b, l, h·d] or [b, h, l, d]
    k: ValueId,
    /// [b, l, h·e] or [b, h, l, e]
    v: ValueId,
    past: Option<(ValueId, ValueId)>,
    mask: Option<ValueId>,
    bias: Option<ValueId>,
    causal: bool,
    scores: Option<Scores>,
}

impl Parts {
    fn attend(&self, cx: &mut NodeCx<'_>, outputs: usize) -> Result<Outputs, Reason> {
        let new = cx.size_of(self.k, self.kv_axis(cx)? as i64)?;
        let before = self.past.map(|(k, _)| cx.size_of(k, 2)).transpose()?;
        let keys = cx.add_opt(new, before)?;
        let mask = self.padding(cx, keys)?.added(cx)?;
        let op = self.operator(cx)?;
        let (past_k, past_v) = self.past.unzip();
        cx.push_n(op, &[Some(self.q), Some(self.k), Some(self.v), mask, past_k, past_v], outputs)
    }

    fn operator(&self, cx: &NodeCx<'_>) -> Result<Attention, Reason> {
        let heads = heads::num_heads(cx, "num_heads")?;
        Ok(Attention {
            q_heads: Some(heads),
            kv_heads: Some(heads),
            scale: heads::scale(cx)?,
            causal: self.causal && self.is_causal(cx, self.kv_axis(cx)?)?,
            scores: self.scores.unwrap_or_default(),
            ..Attention::PLAIN
        })
    }

    /// What is added to the scores of this many keys.
    fn padding(&self, cx: &NodeCx<'_>, keys: ValueId) -> Result<Padding, Reason> {
        Ok(Padding {
            mask: self.mask,
            bias: self.bias,
            filter: cx.float("mask_filter_value")?.unwrap_or(-10000.0),
            batch: cx.fact(self.q).shape().map_or(Dim::Unknown, |s| s[0].clone()),
            keys,
            dtype: cx.dtype(self.q)?,
        })
    }

    /// The axis of keys along which they are counted.
    fn kv_axis(&self, cx: &NodeCx<'_>) -> Result<usize, Reason> {
        match cx.fact(self.k).rank() {
            Some(3) => Ok(1),
            Some(4) => Ok(2),
            _ => Err(unsupported!("keys of unknown rank")),
        }
    }

    /// Whether the future is hidden: one query sees everything.
    fn is_causal(&self, cx: &NodeCx<'_>, kv_axis: usize) -> Result<bool, Reason> {
        let size = |v: ValueId, axis: usize| cx.fact(v).shape().and_then(|s| s.get(axis));
        match (size(self.q, 1), size(self.k, kv_axis)) {
            (Some(queries), _) if queries.is(1) => Ok(false),
            (Some(queries), _) if queries.value().is_some() => Ok(true),
            (Some(queries), Some(keys)) if queries.same(keys) => Ok(true),
            _ => Err(unsupported!("unidirectional attention of other numbers of queries and keys")),
        }
    }
}
