//! RotaryEmbedding of com.microsoft: position_ids come second, and may be one number.

use super::super::{Axis, Gather, RotaryEmbedding};
use crate::onnx::{NodeCx, Outputs};
use crate::{Bool, Reason, Tensor, ValueId, invalid, unsupported};

/// input, position_ids, cos_cache, sin_cache → output
pub(in super::super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let ([x, ids, cos, sin], op) = read(cx)?;
    let y = cx.push1(op, &[x, cos, sin, ids])?;
    cx.done(y)
}

/// The inputs, and what the attributes say.
fn read(cx: &NodeCx<'_>) -> Result<([ValueId; 4], RotaryEmbedding), Reason> {
    cx.check_inputs(4, 4)?;
    let [x, ids, cos, sin] = [cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?];
    let interleaved = cx.flag("interleaved", false)?;
    let dim = cx.size("rotary_embedding_dim")?.unwrap_or(0);
    let heads = cx.size("num_heads")?.unwrap_or(0);
    // What the scale multiplies is a cache that is grown, which nobody does.
    cx.ignore(&["scale"]);
    if cx.flag("is_packed_batching", false)? {
        return Err(unsupported!("packed batches of RotaryEmbedding"));
    }
    let heads = heads_of(cx, x, cos, [heads, dim])?;
    Ok(([x, ids, cos, sin], RotaryEmbedding { interleaved, heads, dim }))
}

/// How many heads lie side by side; 0 if the input has rank 4.
fn heads_of(
    cx: &NodeCx<'_>,
    x: ValueId,
    cos: ValueId,
    [heads, dim]: [usize; 2],
) -> Result<usize, Reason> {
    if dim > 0 && heads == 0 {
        return Err(invalid!("rotary_embedding_dim {dim} without num_heads"));
    }
    let shape = cx.fact(x).shape();
    match shape {
        Some([_, _, _, _]) => return Ok(0),
        _ if heads > 0 => return Ok(heads),
        _ => {}
    }
    let all = shape.filter(|s| s.len() == 3).and_then(|s| s[2].size());
    let half = cx.fact(cos).shape().filter(|s| s.len() == 2).and_then(|s| s[1].size());
    match (all, half) {
        (Some(all), Some(half)) if half > 0 && all % (2 * half) == 0 => Ok(all / (2 * half)),
        (Some(all), Some(half)) => {
            Err(invalid!("an input of {all} elements and a cache of {half} columns"))
        }
        _ => Err(unsupported!("the number of heads is not known before a run")),
    }
}

/// Positions in time, height and width [3, b, s], each of which turns the columns of the caches
/// that mrope_section gives it.
pub(in super::super) fn import_multimodal(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let ([x, ids, cos, sin], op) = read(cx)?;
    let owners = owners(cx)?;
    let mut caches = [cos, sin];
    for cache in &mut caches {
        let rows = cx.push1(Gather { axis: Axis(0) }, &[*cache, ids])?;
        let streams = cx.split(rows, 0, &[1, 1, 1])?;
        *cache = cx.squeeze(streams[0], &[0])?;
        for (i, &stream) in streams.iter().enumerate().skip(1) {
            let stream = cx.squeeze(stream, &[0])?;
            let owned: Vec<Bool> = owners.iter().map(|&owner| Bool::from(owner == i)).collect();
            let owned = cx.constant(Tensor::vector(&owned));
            *cache = cx.select(owned, [stream, *cache])?;
        }
    }
    let y = cx.push1(op, &[x, caches[0], caches[1]])?;
    cx.done(y)
}

/// Which of the three positions each column of the caches belongs to.
fn owners(cx: &NodeCx<'_>) -> Result<Vec<usize>, Reason> {
    let sections = cx.ints("mrope_section")?.unwrap_or_default();
    let size = |&n: &i64| usize::try_from(n).ok().filter(|&n| n <= 1 << 20);
    let sizes: Option<Vec<usize>> = sections.iter().map(size).collect();
    let [t, h, w] = sizes.unwrap_or_default()[..] else {
        return Err(invalid!("mrope_section is {sections:?}"));
    };
    match cx.int("mrope_layout")?.unwrap_or(0) {
        0 => Ok([vec![0; t], vec![1; h], vec![2; w]].concat()),
        1 => Ok((0..t + h + w)
            .map(|j| match j % 3 {
                1 if j < 3 * h => 1,
                2 if j < 3 * w => 2,
                _ => 0,
            })
            .collect()),
        other => Err(invalid!("mrope_layout is {other}")),
    }
}
