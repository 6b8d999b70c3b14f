//! Layer normalization as ONNX Runtime fuses it: without a mean, after a sum, after embeddings.
//!
//! SimplifiedLayerNormalization = x / √(mean(x²) + epsilon) · scale; Skip…: of x + skip + bias,
//! which is output 3; EmbedLayerNormalization: of word + position + segment embeddings, and
//! QEmbedLayerNormalization of such in codes.

use super::super::{
    Axis, BinaryFn, DequantizeLinear, Gather, LayerNormalization, Reduce, ReduceKind,
    RmsNormalization, UnaryFn,
};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, ValueId, invalid, unsupported};

/// x, scale → y, 1/√(mean(x²) + epsilon)
pub(in super::super) fn import_simplified(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let axis = cx.int("axis")?.unwrap_or(-1);
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    cx.ignore(&["stash_type"]);
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let y = cx.push1(RmsNormalization { axis: Axis(axis), epsilon }, &[x, scale])?;
    let mut made: Outputs = smallvec::smallvec![y];
    if cx.outputs() > 1 {
        made.push(inverse_root(cx, x, axis, epsilon)?);
    }
    Ok(made)
}

/// 1/√(mean(x²) + epsilon) over the axes from `axis` on, in f32.
fn inverse_root(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    axis: i64,
    epsilon: f32,
) -> Result<ValueId, Reason> {
    let axes: Vec<i64> = match (axis, cx.fact(x).rank()) {
        (..0, _) => (axis..0).collect(),
        (_, Some(rank)) => (axis..rank as i64).collect(),
        (_, None) => return Err(unsupported!("axis {axis} of an input of unknown rank")),
    };
    let x = cx.cast(x, DType::F32)?;
    let squares = cx.binary(BinaryFn::Mul, x, x)?;
    let mean = cx.fold(ReduceKind::Mean, squares, &axes)?;
    let epsilon = cx.scalar_like(mean, epsilon)?;
    let sum = cx.binary(BinaryFn::Add, mean, epsilon)?;
    let root = cx.unary(UnaryFn::Sqrt, sum)?;
    cx.unary(UnaryFn::Reciprocal, root)
}

/// input, skip, gamma, beta, bias → y, mean, 1/deviation, input + skip + bias
pub(in super::super) fn import_skip(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 5)?;
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-12);
    let (gamma, beta) = (cx.input(2)?, cx.opt_input(3));
    let sum = skip_sum(cx, 4)?;
    let op = LayerNormalization { axis: Axis(-1), epsilon, stash: DType::F32 };
    let wanted = cx.outputs().min(3);
    let mut made = cx.push_n(op, &[Some(sum), Some(gamma), beta], wanted)?;
    if cx.outputs() > 3 {
        made.push(sum);
    }
    Ok(made)
}

/// input, skip, gamma, bias → y, mean (not made), 1/root, input + skip + bias
pub(in super::super) fn import_skip_simplified(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 4)?;
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-12);
    let gamma = cx.input(2)?;
    let sum = skip_sum(cx, 3)?;
    let y = cx.push1(RmsNormalization { axis: Axis(-1), epsilon }, &[sum, gamma])?;
    let mut made: Outputs = smallvec::smallvec![y];
    if cx.outputs() > 1 {
        let wide = cx.cast(sum, DType::F32)?;
        made.push(cx.fold(ReduceKind::Mean, wide, &[-1])?);
        made.push(inverse_root(cx, sum, -1, epsilon)?);
        made.push(sum);
    }
    made.truncate(cx.outputs().max(1));
    Ok(made)
}

/// input + skip + bias, where the bias is input `at`.
fn skip_sum(cx: &mut NodeCx<'_>, at: usize) -> Result<ValueId, Reason> {
    let (x, skip, bias) = (cx.input(0)?, cx.input(1)?, cx.opt_input(at));
    if let (Some(x), Some(skip)) = (cx.fact(x).rank(), cx.fact(skip).rank())
        && skip > x
    {
        return Err(invalid!("a skip of rank {skip} for an input of rank {x}"));
    }
    let sum = cx.binary(BinaryFn::Add, x, skip)?;
    cx.add_opt(sum, bias)
}

/// input_ids [b, s], segment_ids, word, position and segment embeddings, gamma, beta, mask,
/// position_ids → y [b, s, h], the numbers of words [b], the sum of the embeddings
pub(in super::super) fn import_embed(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(7, 9)?;
    let counts = cx.int("mask_index_type")?.unwrap_or(1) != 0;
    let mask = cx.opt_input(7).filter(|_| counts);
    let position_ids = cx.opt_input(8);
    embed(cx, Tables::Floats, position_ids, mask)
}

/// input_ids [b, s], segment_ids, word, position and segment embeddings, gamma, beta (all in 8-bit
/// codes), mask, the five scales, the five zero points → y [b, s, h], the numbers of words [b]
pub(in super::super) fn import_quantized_embed(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(18, 18)?;
    let mask = cx.opt_input(7);
    embed(cx, Tables::Codes, None, mask)
}

/// What the tables of embeddings, gamma and beta hold.
#[derive(Clone, Copy)]
enum Tables {
    Floats,
    /// Codes; scales stand six inputs further, zero points eleven.
    Codes,
}

impl Tables {
    /// Input `i` in float, or the rows of it that `ids` name.
    fn read(self, cx: &mut NodeCx<'_>, i: usize, ids: Option<ValueId>) -> Result<ValueId, Reason> {
        let mut x = cx.input(i)?;
        if let Some(ids) = ids {
            x = cx.push1(Gather { axis: Axis(0) }, &[x, ids])?;
        }
        let Tables::Codes = self else { return Ok(x) };
        let (scale, zero) = (cx.input(i + 6)?, cx.input(i + 11)?);
        let op = DequantizeLinear { axis: Axis(0), block_size: 0, output: None };
        cx.push1(op, &[x, scale, zero])
    }
}

/// The normalized sum of what `tables` say of words, positions and segments.
fn embed(
    cx: &mut NodeCx<'_>,
    tables: Tables,
    position_ids: Option<ValueId>,
    mask: Option<ValueId>,
) -> Result<Outputs, Reason> {
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-12);
    let ids = cx.input(0)?;
    let position_ids = match position_ids {
        Some(ids) => ids,
        None => {
            let n = cx.size_of(ids, 1)?;
            let positions = cx.count_to(n)?;
            cx.unsqueeze(positions, &[0])?
        }
    };
    let word = tables.read(cx, 2, Some(ids))?;
    let position = tables.read(cx, 3, Some(position_ids))?;
    let mut sum = cx.binary(BinaryFn::Add, word, position)?;
    match (cx.opt_input(1), cx.opt_input(4)) {
        (Some(ids), Some(_)) => {
            let segment = tables.read(cx, 4, Some(ids))?;
            sum = cx.binary(BinaryFn::Add, sum, segment)?;
        }
        (None, None) => {}
        _ => return Err(invalid!("segment ids and embeddings are only given together")),
    }
    let (gamma, beta) = (tables.read(cx, 5, None)?, tables.read(cx, 6, None)?);
    let op = LayerNormalization { axis: Axis(-1), epsilon, stash: DType::F32 };
    let mut made: Outputs = smallvec::smallvec![cx.push1(op, &[sum, gamma, beta])?];
    if cx.outputs() > 1 {
        made.push(match mask {
            Some(mask) => count_words(cx, mask)?,
            None => no_words(cx, ids)?,
        });
        made.push(sum);
    }
    made.truncate(cx.outputs().max(1));
    Ok(made)
}

/// How many elements of each row of a mask are 1.
fn count_words(cx: &mut NodeCx<'_>, mask: ValueId) -> Result<ValueId, Reason> {
    let axes = cx.constant_ints(&[-1]);
    let one = cx.constant(crate::Tensor::scalar(1i32));
    let is_word = cx.binary(BinaryFn::Equal, mask, one)?;
    let words = cx.cast(is_word, DType::I32)?;
    let sum = Reduce { kind: ReduceKind::Sum, keepdims: false, noop_with_empty_axes: true };
    cx.push1(sum, &[words, axes])
}

/// A zero for each row.
fn no_words(cx: &mut NodeCx<'_>, ids: ValueId) -> Result<ValueId, Reason> {
    let batch = cx.size_of(ids, 0)?;
    let zero = cx.constant(crate::Tensor::scalar(0i32));
    cx.expand(zero, batch)
}
