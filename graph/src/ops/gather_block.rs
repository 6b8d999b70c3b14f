//! GatherBlockQuantized: slices of a quantized tensor, picked by index, then scaled.
//!
//! y = (gather(data) - gather(zero_points)) · gather(scales); a scale serves `block_size` elements
//! along `quantize_axis`. uint8 data may hold codes of 2 or 4 bits, the first in the low bits, side
//! by side along the last axis. An index out of range makes zeros.

use super::{
    Axis, Binary, BinaryFn, BitCast, DequantizeLinear, Expand, Gather, Slice, Unsqueeze, Where,
};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, Tensor, ValueId, invalid, unsupported};

/// A tensor's sizes, known when the model is read.
fn sizes(cx: &NodeCx<'_>, v: ValueId, what: &str) -> Result<Vec<usize>, Reason> {
    let sizes = cx.fact(v).sizes().map(|s| s.to_vec());
    sizes.ok_or_else(|| unsupported!("{what} of a shape that is not known, {}", cx.fact(v)))
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 4)?;
    let (mut data, indices, scales) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let bits = cx.size("bits")?.unwrap_or(4);
    let packed = cx.dtype(data)? == DType::U8;
    if packed {
        data = unpacked(cx, data, bits)?;
    }
    let shape = sizes(cx, data, "data")?;
    let gather = Axis(cx.int("gather_axis")?.unwrap_or(0)).resolve(shape.len())?;
    let along = Axis(cx.int("quantize_axis")?.unwrap_or(1)).resolve(shape.len())?;
    let block = match cx.size("block_size")?.unwrap_or(128) {
        0 => shape[along].max(1),
        block => block,
    };
    let mut blocks = shape.clone();
    blocks[along] = shape[along].div_ceil(block);
    let scales = fitted(cx, scales, &blocks)?;
    let zero = match cx.opt_input(3) {
        Some(zero) => Some(zero_points(cx, zero, bits, &blocks)?),
        None if packed => {
            let half = byte_code(cx, cx.dtype(data)?, 1 << (bits - 1))?;
            Some(expanded(cx, half, &blocks)?)
        }
        None => None,
    };
    // A block's scale must not be gathered along the axis that blocks lie along.
    let dequantize =
        |axis: usize| DequantizeLinear { axis: Axis(axis as i64), block_size: block, output: None };
    let (inside, safe) = checked(cx, indices, shape[gather])?;
    let picked = Gather { axis: Axis(gather as i64) };
    let y = if gather == along {
        let y = cx.push_n(dequantize(along), &[Some(data), Some(scales), zero], 1)?[0];
        cx.push1(picked, &[y, safe])?
    } else {
        let rank = cx.fact(indices).rank();
        let rank = rank.ok_or_else(|| unsupported!("indices of unknown rank"))?;
        let at = if along > gather { along + rank - 1 } else { along };
        let data = cx.push1(picked.clone(), &[data, safe])?;
        let scales = cx.push1(picked.clone(), &[scales, safe])?;
        let zero = zero.map(|zero| cx.push1(picked.clone(), &[zero, safe])).transpose()?;
        cx.push_n(dequantize(at), &[Some(data), Some(scales), zero], 1)?[0]
    };
    let y = zeros_outside(cx, y, inside, shape.len() - gather - 1)?;
    cx.done(y)
}

/// Bytes as the codes of `bits` bits that they hold.
fn unpacked(cx: &mut NodeCx<'_>, x: ValueId, bits: usize) -> Result<ValueId, Reason> {
    match bits {
        8 => Ok(x),
        4 => cx.push1(BitCast { to: DType::U4 }, &[x]),
        2 => cx.push1(BitCast { to: DType::U2 }, &[x]),
        _ => Err(unsupported!("codes of {bits} bits are not supported")),
    }
}

/// Zero points, packed as the data is: a row of them may end within a byte.
fn zero_points(
    cx: &mut NodeCx<'_>,
    zero: ValueId,
    bits: usize,
    blocks: &[usize],
) -> Result<ValueId, Reason> {
    if cx.dtype(zero)? != DType::U8 {
        return fitted(cx, zero, blocks);
    }
    let zero = unpacked(cx, zero, bits)?;
    let (have, want) = (sizes(cx, zero, "zero_points")?, blocks.last().copied().unwrap_or(1));
    let mut fit = blocks.to_vec();
    match (have.last(), fit.last_mut()) {
        (Some(&have), Some(last)) if have > want && have - want < 8 / bits => *last = have,
        _ => return fitted(cx, zero, blocks),
    }
    let zero = fitted(cx, zero, &fit)?;
    let ends = [cx.constant_ints(&[0]), cx.constant_ints(&[want as i64]), cx.constant_ints(&[-1])];
    cx.push1(Slice, &[zero, ends[0], ends[1], ends[2]])
}

/// `x` spread over axes where it has one element for all.
fn fitted(cx: &mut NodeCx<'_>, x: ValueId, shape: &[usize]) -> Result<ValueId, Reason> {
    let have = sizes(cx, x, "scales")?;
    if have == shape {
        return Ok(x);
    }
    let fits = have.iter().zip(shape).all(|(&a, &b)| a == b || a == 1);
    if have.len() != shape.len() || !fits {
        return Err(invalid!("scales or zero points of shape {have:?} where {shape:?} is needed"));
    }
    expanded(cx, x, shape)
}

fn expanded(cx: &mut NodeCx<'_>, x: ValueId, shape: &[usize]) -> Result<ValueId, Reason> {
    let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    let shape = cx.constant_ints(&shape);
    cx.push1(Expand, &[x, shape])
}

/// A scalar of an unsigned type of up to 8 bits.
fn byte_code(cx: &mut NodeCx<'_>, dtype: DType, code: u8) -> Result<ValueId, Reason> {
    let tensor = Tensor::from_bytes(dtype, &[], vec![code].into())?;
    Ok(cx.constant(tensor))
}

/// Which indices are in range, and indices that all are; nothing to check if they are known to be.
fn checked(
    cx: &mut NodeCx<'_>,
    indices: ValueId,
    size: usize,
) -> Result<(Option<ValueId>, ValueId), Reason> {
    let n = size as i64;
    if let Some(known) = cx.fact(indices).ints()
        && known.iter().all(|i| (-n..n).contains(i))
    {
        return Ok((None, indices));
    }
    let scalar = |cx: &mut NodeCx<'_>, x: i64| {
        let dtype = cx.dtype(indices)?;
        let tensor = match dtype {
            DType::I32 => Tensor::scalar(i32::try_from(x).unwrap_or(i32::MAX)),
            _ => Tensor::scalar(x),
        };
        Ok::<_, Reason>(cx.constant(tensor))
    };
    let (low, high, zero) = (scalar(cx, -n)?, scalar(cx, n)?, scalar(cx, 0)?);
    let above = cx.push1(Binary(BinaryFn::GreaterOrEqual), &[indices, low])?;
    let below = cx.push1(Binary(BinaryFn::Less), &[indices, high])?;
    let inside = cx.push1(Binary(BinaryFn::And), &[above, below])?;
    Ok((Some(inside), cx.push1(Where, &[inside, indices, zero])?))
}

/// `y` where its index was inside, else 0; `after` axes follow those of the indices.
fn zeros_outside(
    cx: &mut NodeCx<'_>,
    y: ValueId,
    inside: Option<ValueId>,
    after: usize,
) -> Result<ValueId, Reason> {
    let Some(mut inside) = inside else { return Ok(y) };
    if after > 0 {
        let axes: Vec<i64> = (1..=after as i64).map(|i| -i).collect();
        let axes = cx.constant_ints(&axes);
        inside = cx.push1(Unsqueeze, &[inside, axes])?;
    }
    let zero = cx.scalar_like(y, 0.0)?;
    cx.push1(Where, &[inside, y, zero])
}
