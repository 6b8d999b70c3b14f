//! Several residual streams side by side, x [.., c, h] or flattened [.., c·h]: BranchwiseRMSNorm,
//! HyperConnectionPreMix, HyperConnectionPostMix, EngramGate.
//!
//! PreMix: y = reduction_scale · Σc x[c]·pre[c]; PostMix: y[k] = Σc mix[c, k]·x[c] + post[k]·block;
//! EngramGate: value · sigmoid(sign(d)·√max(|d|, 1e-6)), d = Σ norm(key)·norm(query) / √h.
//! All are computed in f32.

use smallvec::smallvec;

use super::super::{
    Axis, BinaryFn, MatMul, Reduce, ReduceKind, Reshape, RmsNormalization, UnaryFn,
};
use super::heads;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Reason, Tensor, ValueId, invalid, unsupported};

/// Streams in f32 with an axis of their own, and how many if they came flattened.
struct Streams {
    x: ValueId,
    dtype: DType,
    rank: usize,
    flat: Option<i64>,
}

fn rank_of(cx: &NodeCx<'_>, v: ValueId) -> Result<usize, Reason> {
    cx.fact(v).rank().ok_or_else(|| unsupported!("streams of unknown rank"))
}

impl Streams {
    fn new(cx: &mut NodeCx<'_>) -> Result<Streams, Reason> {
        let x = cx.input(0)?;
        let (dtype, rank) = (cx.dtype(x)?, rank_of(cx, x)?);
        let flat = cx.int("num_branches")?.filter(|&n| n != 0);
        let wide = cx.cast(x, DType::F32)?;
        match flat {
            None if rank >= 2 => Ok(Streams { x: wide, dtype, rank, flat }),
            Some(c) if rank >= 1 && c > 0 => {
                let x = cx.reshape(wide, &[vec![0; rank - 1], vec![c, -1]].concat())?;
                Ok(Streams { x, dtype, rank: rank + 1, flat })
            }
            _ => Err(invalid!("{:?} branches of {}", flat, cx.fact(x))),
        }
    }

    /// Input `i`, factors [.., c], [.., c, 1], [.., c, h] or [.., c·h], so that it fits the streams.
    fn factors(&self, cx: &mut NodeCx<'_>, i: usize) -> Result<ValueId, Reason> {
        let v = cx.input(i)?;
        let rank = rank_of(cx, v)?;
        let v = cx.cast(v, DType::F32)?;
        if rank == self.rank {
            return Ok(v);
        }
        if rank + 1 != self.rank {
            return Err(invalid!("factors {} for streams {}", cx.fact(v), cx.fact(self.x)));
        }
        match self.flat {
            Some(c) if heads::known(cx, v, rank - 1, "the factors")? != c => {
                cx.reshape(v, &[vec![0; rank - 1], vec![c, -1]].concat())
            }
            _ => cx.unsqueeze(v, &[rank as i64]),
        }
    }

    /// y [.., c, h] as the streams came.
    fn done(&self, cx: &mut NodeCx<'_>, y: ValueId) -> Result<Outputs, Reason> {
        let y = cx.cast(y, self.dtype)?;
        if self.flat.is_none() {
            return cx.done(y);
        }
        let shape = cx.push1(super::super::Shape { start: 0, end: None }, &[cx.input(0)?])?;
        let y = cx.push1(Reshape { allowzero: true }, &[y, shape])?;
        cx.done(y)
    }
}

/// Σ over an axis, which goes.
fn sum(cx: &mut NodeCx<'_>, x: ValueId, axis: i64) -> Result<ValueId, Reason> {
    let axes = cx.constant_ints(&[axis]);
    let op = Reduce { kind: ReduceKind::Sum, keepdims: false, noop_with_empty_axes: true };
    cx.push1(op, &[x, axes])
}

/// x / √(mean of squares along the last axis + epsilon), times factors.
fn normalized(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    factors: Option<ValueId>,
    epsilon: f32,
) -> Result<ValueId, Reason> {
    let x = cx.cast(x, DType::F32)?;
    let one = cx.constant(Tensor::vector(&[1f32]));
    let size = cx.size_of(x, rank_of(cx, x)? as i64 - 1)?;
    let ones = cx.expand(one, size)?;
    let y = cx.push1(RmsNormalization { axis: Axis(-1), epsilon }, &[x, ones])?;
    let Some(factors) = factors else { return Ok(y) };
    let factors = cx.cast(factors, DType::F32)?;
    cx.binary(BinaryFn::Mul, y, factors)
}

/// X, scale [c·h], [c, h] or [h] (optional)
pub(in super::super) fn import_norm(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 2)?;
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    let streams = Streams::new(cx)?;
    let mut scale = cx.opt_input(1);
    if let Some(v) = scale
        && rank_of(cx, v)? == 1
    {
        let h = heads::known(cx, streams.x, streams.rank - 1, "a stream")?;
        if heads::known(cx, v, 0, "the scale")? != h {
            scale = Some(cx.reshape(v, &[-1, h])?);
        }
    }
    let y = normalized(cx, streams.x, scale, epsilon)?;
    streams.done(cx, y)
}

/// streams, pre_mix
pub(in super::super) fn import_pre_mix(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let scale = cx.float("reduction_scale")?.unwrap_or(1.0);
    let streams = Streams::new(cx)?;
    let factors = streams.factors(cx, 1)?;
    let y = cx.binary(BinaryFn::Mul, streams.x, factors)?;
    let y = sum(cx, y, -2)?;
    let scale = cx.constant(Tensor::scalar(scale));
    let y = cx.binary(BinaryFn::Mul, y, scale)?;
    let y = cx.cast(y, streams.dtype)?;
    cx.done(y)
}

/// streams, block_output [.., h], post_mix, stream_mix [.., c, c] (optional)
pub(in super::super) fn import_post_mix(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 4)?;
    let streams = Streams::new(cx)?;
    let block = cx.input(1)?;
    let block = cx.cast(block, DType::F32)?;
    let block = cx.unsqueeze(block, &[-2])?;
    let factors = streams.factors(cx, 2)?;
    let added = cx.binary(BinaryFn::Mul, factors, block)?;
    let mixed = match cx.opt_input(3) {
        None => streams.x,
        Some(mix) => {
            let mix = cx.cast(mix, DType::F32)?;
            cx.push1(MatMul { trans_a: true, ..MatMul::PLAIN }, &[mix, streams.x])?
        }
    };
    let y = cx.binary(BinaryFn::Add, mixed, added)?;
    streams.done(cx, y)
}

/// key, query [b, s, c, h], value [b, s, h], their factors [c, h], those of the second output
pub(in super::super) fn import_engram(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(5, 6)?;
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    let (key, query, value) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let dtype = cx.dtype(key)?;
    let (of_key, of_query) = (cx.input(3)?, cx.input(4)?);
    let size = cx.fact(key).shape().and_then(|s| s.last()).and_then(Dim::value);
    let size = size.filter(|&n| n > 0).ok_or_else(|| unsupported!("streams of unknown size"))?;
    let key = normalized(cx, key, Some(of_key), epsilon)?;
    let query = normalized(cx, query, Some(of_query), epsilon)?;
    let both = cx.binary(BinaryFn::Mul, key, query)?;
    let dot = cx.fold(ReduceKind::Sum, both, &[-1])?;
    let root = cx.constant(Tensor::scalar((size as f32).sqrt()));
    let dot = cx.binary(BinaryFn::Div, dot, root)?;
    let (sign, far) = (cx.unary(UnaryFn::Sign, dot)?, cx.unary(UnaryFn::Abs, dot)?);
    let least = cx.constant(Tensor::scalar(1e-6f32));
    let far = cx.binary(BinaryFn::Max, far, least)?;
    let far = cx.unary(UnaryFn::Sqrt, far)?;
    let gate = cx.binary(BinaryFn::Mul, sign, far)?;
    let gate = cx.unary(UnaryFn::Sigmoid, gate)?;
    let value = cx.cast(value, DType::F32)?;
    let value = cx.unsqueeze(value, &[2])?;
    let gated = cx.binary(BinaryFn::Mul, gate, value)?;
    let mut made: Outputs = smallvec![cx.cast(gated, dtype)?];
    if cx.outputs() > 1 {
        let factors = cx.input(5)?;
        let normed = normalized(cx, gated, Some(factors), epsilon)?;
        made.push(cx.cast(normed, dtype)?);
    }
    Ok(made)
}
