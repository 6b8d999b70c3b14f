//! GroupQueryAttention: attention over a cache that each batch has filled to another length.
//!
//! present = past with the new keys and values written where each batch's end; a query sees its own
//! position and those before, at most local_window_size of them.
//!
//! query [b, s, h·d] (or with keys and values behind it), past and present [b, h′, p, d], seqlens_k
//! [b] (keys in all, less one), total_sequence_length (the largest of them, not less one).

use smallvec::smallvec;

use super::super::{Attention, BinaryFn, Expand, RotaryEmbedding, Scores, TensorScatter};
use super::super::{Axis, Concat};
use super::heads;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, Tensor, ValueId, invalid, unsupported};

/// Inputs by their places in ONNX Runtime's definition.
const NAMES: [&str; 16] = [
    "query",
    "key",
    "value",
    "past_key",
    "past_value",
    "seqlens_k",
    "total_sequence_length",
    "cos_cache",
    "sin_cache",
    "position_ids",
    "attention_bias",
    "head_sink",
    "k_scale",
    "v_scale",
    "q_norm_weight",
    "k_norm_weight",
];

pub(in super::super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(7, 16)?;
    refuse(cx)?;
    let (heads, kv_heads) =
        (heads::num_heads(cx, "num_heads")?, heads::num_heads(cx, "kv_num_heads")?);
    let [q, k, v] = unpacked(cx, heads as i64, kv_heads as i64)?;
    let lengths = Lengths::new(cx, q)?;
    let [q, k] = match cx.flag("do_rotary", false)? {
        true => {
            let caches = [cx.opt_input(7), cx.opt_input(8)];
            let interleaved = cx.flag("rotary_interleaved", false)?;
            let ids = match cx.opt_input(9) {
                Some(ids) => ids,
                None => lengths.places(cx)?,
            };
            turned(cx, [(q, heads), (k, kv_heads)], caches, ids, interleaved)?
        }
        false => [q, k],
    };
    let mut present = [k, v];
    for (i, new) in [(3, k), (4, v)] {
        let new = heads::heads_apart(cx, new, kv_heads)?;
        present[i - 3] = appended(cx, cx.opt_input(i), new, &lengths)?;
    }
    let causal = cx.flag("causal", true)?;
    let window = cx.int("local_window_size")?.filter(|&n| n > 0);
    let op = Attention {
        q_heads: Some(heads),
        kv_heads: None,
        scale: heads::scale(cx)?,
        causal,
        softcap: cx.float("softcap")?.unwrap_or(0.0),
        left_window: window.map(|n| n as usize - 1),
        scores: match cx.int("qk_output")?.unwrap_or(0) {
            0 | 1 => Scores::Biased,
            2 => Scores::Softmax,
            n => return Err(invalid!("qk_output is {n}")),
        },
        ..Attention::PLAIN
    };
    let sinks = sinks(cx, q, heads)?;
    let inputs = [
        Some(q),
        Some(present[0]),
        Some(present[1]),
        cx.opt_input(10),
        None,
        None,
        Some(lengths.all),
        Some(lengths.past),
        sinks,
    ];
    if cx.outputs() > 3 {
        let made = cx.push_n(op, &inputs, 4)?;
        return Ok(smallvec![made[0], present[0], present[1], made[3]]);
    }
    let y = cx.push_n(op, &inputs, 1)?[0];
    Ok([y, present[0], present[1]].into_iter().take(cx.outputs().max(1)).collect())
}

/// `Err` for what ONNX Runtime's CPU provider does in other ways, or not at all.
fn refuse(cx: &NodeCx<'_>) -> Result<(), Reason> {
    for i in 12..16 {
        if cx.opt_input(i).is_some() {
            return Err(unsupported!("GroupQueryAttention with {}", NAMES[i]));
        }
    }
    for name in ["k_quant_type", "v_quant_type"] {
        if let Some(kind) = cx.string(name)?.filter(|&kind| kind != "NONE") {
            return Err(unsupported!("GroupQueryAttention with {name} {kind}"));
        }
    }
    if cx.flag("sliding_window_cache", false)? {
        return Err(unsupported!("GroupQueryAttention with sliding_window_cache"));
    }
    cx.ignore(&["kv_cache_bit_width", "qk_norm_epsilon", "rotary_interleaved"]);
    if cx.opt_input(3).is_some() != cx.opt_input(4).is_some() {
        return Err(invalid!("past_key and past_value are only given together"));
    }
    Ok(())
}

/// Queries, keys and values; alone in query they stand one after the other.
pub(super) fn unpacked(
    cx: &mut NodeCx<'_>,
    heads: i64,
    kv_heads: i64,
) -> Result<[ValueId; 3], Reason> {
    let q = cx.input(0)?;
    if let (Some(k), Some(v)) = (cx.opt_input(1), cx.opt_input(2)) {
        return Ok([q, k, v]);
    }
    let all = heads::known(cx, q, 2, "a packed query")?;
    let count = kv_heads.checked_mul(2).and_then(|n| n.checked_add(heads));
    let Some(size) = count.filter(|count| all % count == 0).map(|count| all / count) else {
        return Err(invalid!("{all} elements for {heads} heads of queries and {kv_heads} of keys"));
    };
    let made = cx.split(q, 2, &[heads * size, kv_heads * size, kv_heads * size])?;
    Ok([made[0], made[1], made[2]])
}

/// How long everything is.
struct Lengths {
    /// [b]: keys of each batch before the new ones.
    past: ValueId,
    /// [b]: keys of each batch, the new ones among them.
    all: ValueId,
    /// [1]: the largest of these.
    total: ValueId,
    /// [1]: new ones.
    new: ValueId,
}

impl Lengths {
    fn new(cx: &mut NodeCx<'_>, q: ValueId) -> Result<Lengths, Reason> {
        let (seqlens, total) = (cx.input(5)?, cx.input(6)?);
        let (seqlens, total) = (cx.cast(seqlens, DType::I64)?, cx.cast(total, DType::I64)?);
        let (seqlens, total) = (cx.reshape(seqlens, &[-1])?, cx.reshape(total, &[1])?);
        let one = cx.constant_ints(&[1]);
        let all = cx.binary(BinaryFn::Add, seqlens, one)?;
        let new = cx.size_of(q, 1)?;
        // The first prompt may be padded on the right: it starts at 0 whatever the lengths.
        let first = cx.binary(BinaryFn::Equal, total, new)?;
        let before = cx.binary(BinaryFn::Sub, all, new)?;
        let zero = cx.constant_ints(&[0]);
        let past = cx.select(first, [zero, before])?;
        Ok(Lengths { past, all, total, new })
    }

    /// [b, s]: where the new ones stand.
    fn places(&self, cx: &mut NodeCx<'_>) -> Result<ValueId, Reason> {
        let past = cx.unsqueeze(self.past, &[1])?;
        let steps = cx.count_to(self.new)?;
        cx.binary(BinaryFn::Add, past, steps)
    }
}

/// Queries and keys, of so many heads each, turned by their positions `ids`.
pub(super) fn turned(
    cx: &mut NodeCx<'_>,
    parts: [(ValueId, usize); 2],
    caches: [Option<ValueId>; 2],
    ids: ValueId,
    interleaved: bool,
) -> Result<[ValueId; 2], Reason> {
    let [Some(cos), Some(sin)] = caches else {
        return Err(invalid!("rotary positions without cos_cache and sin_cache"));
    };
    let dim = heads::known(cx, cos, 1, "cos_cache")?;
    let dim = usize::try_from(dim).ok().and_then(|n| n.checked_mul(2));
    let dim = dim.ok_or_else(|| invalid!("cos_cache is too large"))?;
    let mut turned = [cos; 2];
    for ((x, heads), y) in parts.into_iter().zip(&mut turned) {
        let op = RotaryEmbedding { interleaved, heads, dim };
        *y = cx.push1(op, &[x, cos, sin, ids])?;
    }
    Ok(turned)
}

/// The cache with new vectors written where each batch ends; as long as before, or as all keys.
fn appended(
    cx: &mut NodeCx<'_>,
    past: Option<ValueId>,
    new: ValueId,
    lengths: &Lengths,
) -> Result<ValueId, Reason> {
    let Some(past) = past else { return Ok(new) };
    let have = cx.size_of(past, 2)?;
    let lacking = cx.binary(BinaryFn::Sub, lengths.total, have)?;
    let none = cx.constant_ints(&[0]);
    let lacking = cx.binary(BinaryFn::Max, lacking, none)?;
    let mut cache = past;
    let lacks = cx.fact(lacking).ints();
    if lacks.is_none_or(|n| n[0] != 0) {
        let [batch, heads, size] = [cx.size_of(new, 0)?, cx.size_of(new, 1)?, cx.size_of(new, 3)?];
        let shape = heads::joined(cx, &[batch, heads, lacking, size])?;
        let zero = cx.scalar_like(new, 0.0)?;
        let room = cx.push1(Expand, &[zero, shape])?;
        cache = cx.push1(Concat { axis: Axis(2) }, &[past, room])?;
    }
    cx.push1(TensorScatter { axis: Axis(2), circular: false }, &[cache, new, lengths.past])
}

/// The scores of each head that no value belongs to: given, or zeros for a smooth softmax.
fn sinks(cx: &mut NodeCx<'_>, q: ValueId, heads: usize) -> Result<Option<ValueId>, Reason> {
    if let Some(sinks) = cx.opt_input(11) {
        return Ok(Some(sinks));
    }
    if cx.int("smooth_softmax")? != Some(1) {
        return Ok(None);
    }
    let zeros = Tensor::try_zeros(cx.dtype(q)?, &[heads])?;
    Ok(Some(cx.constant(zeros)))
}
