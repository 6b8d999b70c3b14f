//! What the attention operators of com.microsoft have in common: how heads lie, and their masks.
//!
//! Keys that a mask excludes get a number added to their scores, -10000 unless the model says
//! otherwise; the future gets -∞.

use super::super::{Axis, BinaryFn, Concat};
use crate::onnx::NodeCx;
use crate::{DType, Dim, Reason, Tensor, ValueId, invalid, unsupported};

/// The attribute num_heads.
pub(super) fn num_heads(cx: &NodeCx<'_>, name: &str) -> Result<usize, Reason> {
    match cx.size(name)? {
        Some(n) if n > 0 => Ok(n),
        n => Err(invalid!("attribute {name} is {n:?}")),
    }
}

/// The attribute scale, where 0 means that there is none.
pub(super) fn scale(cx: &NodeCx<'_>) -> Result<Option<f32>, Reason> {
    Ok(cx.float("scale")?.filter(|&scale| scale != 0.0))
}

/// The size of an axis, which must be known.
pub(super) fn known(cx: &NodeCx<'_>, v: ValueId, axis: usize, what: &str) -> Result<i64, Reason> {
    let dim = cx.fact(v).shape().and_then(|s| s.get(axis)).and_then(Dim::value);
    dim.ok_or_else(|| unsupported!("the size of {what} is not known before a run"))
}

/// [b, s, heads·size] as [b, heads, s, size]
pub(super) fn heads_apart(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    heads: usize,
) -> Result<ValueId, Reason> {
    let x = cx.reshape(x, &[0, 0, heads as i64, -1])?;
    cx.transpose(x, &[0, 2, 1, 3])
}

/// Several vectors, one after the other.
pub(super) fn joined(cx: &mut NodeCx<'_>, parts: &[ValueId]) -> Result<ValueId, Reason> {
    cx.push1(Concat { axis: Axis(0) }, parts)
}

/// What a padding mask and a bias amount to: numbers to add that broadcast to [b, h, s, t].
pub(super) struct Padding {
    /// The mask: [b, t] or [b, s, t] (not 0: seen), [b] (how many are seen), [2b] (ends, starts).
    pub mask: Option<ValueId>,
    /// Added to the scores.
    pub bias: Option<ValueId>,
    /// What is added for those that are not seen.
    pub filter: f32,
    /// The batch.
    pub batch: Dim,
    /// t, as a vector of one int64.
    pub keys: ValueId,
    /// The dtype of the scores.
    pub dtype: DType,
}

impl Padding {
    /// The mask to give to an attention, if there is one.
    pub fn added(&self, cx: &mut NodeCx<'_>) -> Result<Option<ValueId>, Reason> {
        let Some(mask) = self.mask else { return Ok(self.bias) };
        let Some(shape) = cx.fact(mask).shape().map(<[Dim]>::to_vec) else {
            return Err(unsupported!("a mask of unknown rank"));
        };
        let seen = match &shape[..] {
            [n] => self.ranges(cx, mask, n)?,
            [_, _] | [_, _, _] => {
                let zero = cx.constant(Tensor::scalar(0i32));
                let seen = cx.binary(BinaryFn::Greater, mask, zero)?;
                let axes: &[i64] = if shape.len() == 2 { &[1, 2] } else { &[1] };
                cx.unsqueeze(seen, axes)?
            }
            _ => return Err(unsupported!("a mask of rank {}", shape.len())),
        };
        self.check_keys(cx, shape.last().filter(|_| shape.len() > 1))?;
        let zero = cx.constant(crate::onnx::tensors::float_scalar(self.dtype, 0.0)?);
        let filter = cx.constant(crate::onnx::tensors::float_scalar(self.dtype, self.filter)?);
        let added = cx.select(seen, [zero, filter])?;
        Ok(Some(cx.add_opt(added, self.bias)?))
    }

    /// `Err` if a mask certainly speaks of another number of keys than there are.
    fn check_keys(&self, cx: &NodeCx<'_>, masked: Option<&Dim>) -> Result<(), Reason> {
        let keys = cx.fact(self.keys).dims().and_then(|d| d.first()?.value());
        match (masked.and_then(Dim::value), keys) {
            (Some(masked), Some(keys)) if masked != keys => {
                Err(unsupported!("a mask of {masked} keys where there are {keys}"))
            }
            _ => Ok(()),
        }
    }

    /// Positions below the end, and from the start on: [b, 1, 1, t].
    fn ranges(&self, cx: &mut NodeCx<'_>, mask: ValueId, n: &Dim) -> Result<ValueId, Reason> {
        let positions = cx.count_to(self.keys)?;
        let column = |cx: &mut NodeCx<'_>, v| {
            let v = cx.cast(v, DType::I64)?;
            cx.reshape(v, &[-1, 1, 1, 1])
        };
        if n.same(&self.batch) {
            let end = column(cx, mask)?;
            return cx.binary(BinaryFn::Less, positions, end);
        }
        if !n.same(&self.batch.scale(2)) {
            return Err(unsupported!("a mask of {n} numbers for a batch of {}", self.batch));
        }
        let halves = cx.reshape(mask, &[2, -1])?;
        let halves = cx.split(halves, 0, &[1, 1])?;
        let (end, start) = (column(cx, halves[0])?, column(cx, halves[1])?);
        let before = cx.binary(BinaryFn::Less, positions, end)?;
        let after = cx.binary(BinaryFn::GreaterOrEqual, positions, start)?;
        cx.binary(BinaryFn::And, before, after)
    }
}
