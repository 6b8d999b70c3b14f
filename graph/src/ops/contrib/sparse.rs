//! SparseAttention: causal attention over a cache in which each block of queries sees some blocks
//! of keys.
//!
//! query [b, s, h·d] (or with keys and values behind it), past and present [b, h′, p, d], row
//! indices [l, r + 1] and column indices [l, n] of the blocks that are seen, l layouts that take
//! turns among the heads, total_sequence_length (the largest), key_total_sequence_lengths [b].

use super::super::{Attention, Axis, BinaryFn, Clip, Gather, MatMul, TensorScatter, Tile};
use super::group_query::{turned, unpacked};
use super::heads;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, ValueId, invalid};

pub(in super::super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(9, 11)?;
    let (heads, kv_heads) =
        (heads::num_heads(cx, "num_heads")?, heads::num_heads(cx, "kv_num_heads")?);
    let block = match cx.int("sparse_block_size")? {
        Some(n) if n > 0 => n,
        other => return Err(invalid!("sparse_block_size is {other:?}")),
    };
    let interleaved = cx.flag("rotary_interleaved", false)?;
    let [q, k, v] = unpacked(cx, heads as i64, kv_heads as i64)?;
    // Keys in all and before the new ones, for each of the batch.
    let lengths = cx.input(8)?;
    let lengths = cx.cast(lengths, DType::I64)?;
    let new = cx.size_of(q, 1)?;
    let total = cx.input(7)?;
    let total = cx.cast(total, DType::I64)?;
    let total = cx.reshape(total, &[1])?;
    let first = cx.binary(BinaryFn::Equal, total, new)?;
    let before = cx.binary(BinaryFn::Sub, lengths, new)?;
    let zero = cx.constant_ints(&[0]);
    let past = cx.select(first, [zero, before])?;
    let column = cx.unsqueeze(past, &[1])?;
    let steps = cx.count_to(new)?;
    let places = cx.binary(BinaryFn::Add, column, steps)?;
    let [q, k] = match cx.flag("do_rotary", false)? {
        true => {
            let caches = [cx.opt_input(9), cx.opt_input(10)];
            turned(cx, [(q, heads), (k, kv_heads)], caches, places, interleaved)?
        }
        false => [q, k],
    };
    let mut present = [k, v];
    for (i, new) in [(3, k), (4, v)] {
        let new = heads::heads_apart(cx, new, kv_heads)?;
        let write = TensorScatter { axis: Axis(2), circular: false };
        let cache = cx.input(i)?;
        present[i - 3] = cx.push1(write, &[cache, new, past])?;
    }
    let seen = seen(cx, places, present[0], (block, heads as i64))?;
    let op = Attention {
        q_heads: Some(heads),
        kv_heads: None,
        scale: heads::scale(cx)?,
        causal: true,
        ..Attention::PLAIN
    };
    let [k, v] = present;
    let inputs = [Some(q), Some(k), Some(v), Some(seen), None, None, Some(lengths), Some(past)];
    let y = cx.push_n(op, &inputs, 1)?[0];
    Ok([y, k, v].into_iter().take(cx.outputs().max(1)).collect())
}

/// Whether the queries at these places [b, s] see each place of a cache: bool [b, h, s, p].
fn seen(
    cx: &mut NodeCx<'_>,
    places: ValueId,
    cache: ValueId,
    (block, heads): (i64, i64),
) -> Result<ValueId, Reason> {
    let layouts = heads::known(cx, cx.input(5)?, 0, "the layouts")?;
    if layouts < 1 || heads % layouts != 0 {
        return Err(invalid!("{layouts} layouts for {heads} heads"));
    }
    let blocks = blocks(cx)?;
    let size = cx.constant_int(block);
    let rows = cx.binary(BinaryFn::Div, places, size)?;
    let room = cx.size_of(cache, 2)?;
    let columns = cx.count_to(room)?;
    let columns = cx.binary(BinaryFn::Div, columns, size)?;
    // What lies behind the last block is behind every query, too.
    let count = cx.size_of(blocks, 2)?;
    let one = cx.constant_ints(&[1]);
    let last = cx.binary(BinaryFn::Sub, count, one)?;
    let last = cx.squeeze(last, &[0])?;
    let mut at = [rows, columns];
    for at in &mut at {
        *at = cx.push_n(Clip, &[Some(*at), None, Some(last)], 1)?[0];
    }
    let seen = cx.push1(Gather { axis: Axis(1) }, &[blocks, at[0]])?;
    let seen = cx.push1(Gather { axis: Axis(3) }, &[seen, at[1]])?;
    // [l, b, s, p]
    let seen = cx.transpose(seen, &[1, 0, 2, 3])?;
    let turns = cx.constant_ints(&[1, heads / layouts, 1, 1]);
    cx.push1(Tile, &[seen, turns])
}

/// Which blocks of keys each block of queries sees: bool [l, r, r]. Row r's columns are those from
/// its row index on, up to the next row's.
fn blocks(cx: &mut NodeCx<'_>) -> Result<ValueId, Reason> {
    let (rows, columns) = (cx.input(5)?, cx.input(6)?);
    let n = cx.size_of(columns, 1)?;
    let all = cx.size_of(rows, 1)?;
    let one = cx.constant_ints(&[1]);
    let count = cx.binary(BinaryFn::Sub, all, one)?;
    let entries = cx.count_to(n)?;
    let rows = cx.cast(rows, DType::I64)?;
    let rows = cx.unsqueeze(rows, &[2])?;
    let (first, second) = (cx.count_to(count)?, cx.constant_int(1));
    let next = cx.binary(BinaryFn::Add, first, second)?;
    let begins = cx.push1(Gather { axis: Axis(1) }, &[rows, first])?;
    let ends = cx.push1(Gather { axis: Axis(1) }, &[rows, next])?;
    let after = cx.binary(BinaryFn::GreaterOrEqual, entries, begins)?;
    let until = cx.binary(BinaryFn::Less, entries, ends)?;
    let of_row = cx.binary(BinaryFn::And, after, until)?;
    let columns = cx.cast(columns, DType::I64)?;
    let columns = cx.unsqueeze(columns, &[2])?;
    let numbers = cx.count_to(count)?;
    let of_column = cx.binary(BinaryFn::Equal, columns, numbers)?;
    // [l, r, n] · [l, n, r]
    let (a, b) = (cx.cast(of_row, DType::F32)?, cx.cast(of_column, DType::F32)?);
    let both = cx.push1(MatMul::PLAIN, &[a, b])?;
    let zero = cx.scalar_like(both, 0.0)?;
    cx.binary(BinaryFn::Greater, both, zero)
}
