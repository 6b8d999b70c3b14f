//! N-grams that repeat, predictions that are accepted, paths through costs, hashes.

use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::Decoding;
use rinfer_graph::{DType, Reason, Tensor, Value, invalid, unsupported};

use super::compress::{check_memory, input};
use crate::kernel::Kernel;

pub(super) fn compile(op: &Decoding) -> Result<Kernel, Reason> {
    let op = op.clone();
    Ok(Kernel::values(move |inputs, cx| {
        let tensor = |i: usize| input(inputs, i)?.as_tensor();
        match op {
            Decoding::NgramRepeatBlock { size } => {
                Ok(vec![repeat_block(tensor(0)?, tensor(1)?, size, cx)?.into()])
            }
            Decoding::BifurcationDetector { min, max } => {
                let predicted = inputs.get(3).and_then(Option::as_ref);
                let predicted = predicted.map(Value::as_tensor).transpose()?;
                bifurcation([tensor(0)?, tensor(1)?, tensor(2)?], predicted, [min, max])
            }
            Decoding::TimeWarping => Ok(vec![warp(tensor(0)?, cx)?.into()]),
            Decoding::MurmurHash3 { seed, unsigned } => {
                Ok(vec![hashes(input(inputs, 0)?, seed, unsigned, cx)?.into()])
            }
        }
    }))
}

/// Scores where the last `size` - 1 tokens stood before get -∞ for the token that followed.
fn repeat_block(
    ids: &Tensor,
    scores: &Tensor,
    size: usize,
    cx: &RunCx<'_>,
) -> Result<Tensor, Reason> {
    let (&[batch, len], &[rows, vocabulary]) = (ids.shape(), scores.shape()) else {
        return Err(invalid!("ids {:?} and scores {:?}", ids.shape(), scores.shape()));
    };
    if batch != rows {
        return Err(invalid!("{batch} rows of ids for {rows} of scores"));
    }
    let mut y = Tensor::try_from_slice(scores.shape(), scores.as_slice::<f32>())?;
    if len + 1 < size || len == 0 || vocabulary == 0 {
        return Ok(y);
    }
    let rows = ids.as_slice::<i64>().chunks_exact(len);
    for (ids, scores) in rows.zip(y.as_mut_slice::<f32>().chunks_exact_mut(vocabulary)) {
        cx.check()?;
        let tail = &ids[len + 1 - size..];
        for gram in ids.windows(size).filter(|gram| gram.starts_with(tail)) {
            let token = gram[size - 1];
            let at = usize::try_from(token).ok().filter(|&at| at < vocabulary);
            let at = at.ok_or_else(|| invalid!("token {token} of {vocabulary}"))?;
            scores[at] = f32::NEG_INFINITY;
        }
    }
    Ok(y)
}

/// The current tokens with those predicted as far as the source agrees and one more, and where in
/// the source the last n-gram of these ends if it stands there once, else -1.
fn bifurcation(
    [source, current, found]: [&Tensor; 3],
    predicted: Option<&Tensor>,
    [min, max]: [usize; 2],
) -> Result<Vec<Value>, Reason> {
    let [source, current] = [source.as_slice::<i64>(), current.as_slice::<i64>()];
    let mut tokens = current.to_vec();
    if let Some(predicted) = predicted {
        let start = found.as_slice::<i64>().first().copied().unwrap_or(-1);
        let rest = usize::try_from(start).ok().and_then(|start| source.get(start..));
        let rest = rest.ok_or_else(|| invalid!("match {start} in {} tokens", source.len()))?;
        let predicted = predicted.as_slice::<i64>();
        if predicted.len() != rest.len() + 1 {
            return Err(invalid!("{} predictions for {} tokens", predicted.len(), rest.len()));
        }
        let agree = predicted.iter().zip(rest).take_while(|(a, b)| a == b).count();
        tokens.extend(&predicted[..=agree]);
    }
    let mut end = -1;
    for n in min..=max.min(tokens.len()) {
        let gram = &tokens[tokens.len() - n..];
        let mut places = source.windows(n).enumerate().filter(|(_, w)| *w == gram);
        let Some((first, _)) = places.next() else { break };
        end = (first + n) as i64;
        if first + n >= source.len() {
            break;
        }
        if places.next().is_some() {
            end = -1;
        } else {
            continue;
        }
    }
    let mut y = Tensor::try_zeros(DType::I64, found.shape())?;
    y.as_mut_slice::<i64>().iter_mut().take(1).for_each(|y| *y = end);
    Ok(vec![Tensor::try_from_slice(&[tokens.len()], &tokens)?.into(), y.into()])
}

/// Rows and columns of the cheapest path from the first corner to the last.
fn warp(costs: &Tensor, cx: &RunCx<'_>) -> Result<Tensor, Reason> {
    let (&[rows, cols] | &[1, rows, cols]) = costs.shape() else {
        return Err(invalid!("costs of shape {:?}", costs.shape()));
    };
    let cells = rows.checked_add(1).and_then(|r| r.checked_mul(cols.checked_add(1)?));
    check_memory(cells.and_then(|n| n.checked_mul(5)), cx)?;
    let (costs, width) = (costs.as_slice::<f32>(), cols + 1);
    let mut sums = vec![f32::INFINITY; cells.unwrap_or(0)];
    let mut steps = vec![2u8; sums.len()];
    (1..=rows).for_each(|i| steps[i * width] = 1);
    sums[0] = 0.0;
    for i in 1..=rows {
        cx.check()?;
        for j in 1..=cols {
            let at = i * width + j;
            let [both, down, right] = [sums[at - width - 1], sums[at - width], sums[at - 1]];
            let (sum, step) = if both < down && both < right {
                (both, 0)
            } else if down < both && down < right {
                (down, 1)
            } else {
                (right, 2)
            };
            sums[at] = costs[(i - 1) * cols + j - 1] + sum;
            steps[at] = step;
        }
    }
    let (mut i, mut j) = (rows, cols);
    let mut path = Vec::new();
    while i > 0 || j > 0 {
        path.push((i as i32 - 1, j as i32 - 1));
        match steps[i * width + j] {
            0 => (i, j) = (i - 1, j - 1),
            1 => i -= 1,
            _ => j -= 1,
        }
    }
    let turned = path.iter().rev();
    let flat: Vec<i32> = turned.clone().map(|p| p.0).chain(turned.map(|p| p.1)).collect();
    Tensor::try_from_slice(&[2, path.len()], &flat)
}

fn hashes(x: &Value, seed: u32, unsigned: bool, cx: &RunCx<'_>) -> Result<Tensor, Reason> {
    let mut made = Vec::new();
    let shape: Vec<usize> = match x {
        Value::Text(text) => {
            for s in text.as_slice() {
                cx.check()?;
                made.push(murmur(s.as_bytes(), seed));
            }
            text.shape().to_vec()
        }
        Value::Tensor(x) => {
            let size = x.dtype().size();
            if size == 0 {
                return Err(unsupported!("hashes of {}", x.dtype()));
            }
            made.extend(x.as_bytes().chunks_exact(size).map(|bytes| murmur(bytes, seed)));
            x.shape().to_vec()
        }
        _ => return Err(invalid!("hashes of what is no tensor")),
    };
    match unsigned {
        true => Tensor::try_from_slice(&shape, &made),
        false => {
            let signed: Vec<i32> = made.iter().map(|&h| h as i32).collect();
            Tensor::try_from_slice(&shape, &signed)
        }
    }
}

/// MurmurHash3_x86_32, by Austin Appleby, who gave it to the public domain.
fn murmur(bytes: &[u8], seed: u32) -> u32 {
    let scramble = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut h = seed;
    for &block in blocks {
        h = (h ^ scramble(u32::from_le_bytes(block))).rotate_left(13);
        h = h.wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        h ^= scramble(u32::from_le_bytes(last));
    }
    h ^= bytes.len() as u32;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run, run1};
    use crate::simd::Isa;

    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!(murmur(b"", 0), 0);
        assert_eq!(murmur(b"", 1), 0x514e_28b7);
        assert_eq!(murmur(b"test", 0), 0xba6b_d213);
        assert_eq!(murmur(b"Hello, world!", 0), 0xc036_3e43);
    }

    #[test]
    fn what_would_repeat_is_blocked() {
        let ids = Tensor::from_slice(&[1, 5], &[1i64, 2, 3, 1, 2]);
        let scores = Tensor::from_slice(&[1, 4], &[0.5f32; 4]);
        let op = Decoding::NgramRepeatBlock { size: 3 };
        let y = run1(Isa::best(), op, &[ids, scores]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [0.5, 0.5, 0.5, f32::NEG_INFINITY]);
    }

    #[test]
    fn predictions_are_taken_until_they_differ() {
        let tokens = |x: &[i64]| Value::Tensor(Tensor::vector(x));
        let inputs = [tokens(&[7, 8, 9, 5]), tokens(&[1]), tokens(&[0]), tokens(&[7, 8, 3, 3, 3])];
        let op = Decoding::BifurcationDetector { min: 1, max: 3 };
        let y = run(Isa::best(), op, &inputs, 2).unwrap();
        let ints = |v: &Value| v.as_tensor().unwrap().as_slice::<i64>().to_vec();
        assert_eq!((ints(&y[0]), ints(&y[1])), (vec![1, 7, 8, 3], vec![-1]));
    }

    #[test]
    fn the_path_goes_where_it_is_cheap() {
        let costs = Tensor::from_slice(&[2, 3], &[1.0f32, 1.0, 9.0, 9.0, 9.0, 1.0]);
        let y = run1(Isa::best(), Decoding::TimeWarping, &[costs]).unwrap();
        assert_eq!((y.shape(), y.as_slice::<i32>()), (&[2, 3][..], &[0, 0, 1, 0, 1, 2][..]));
    }
}
