//! NonMaxSuppression: boxes by score, each kept unless it overlaps one kept before.
//!
//! iou(a, b) = area(a ∩ b) / (area(a) + area(b) - area(a ∩ b))
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::NonMaxSuppression;
use rinfer_graph::{DType, Reason, Tensor, Value, invalid};

use super::compress::{check_memory, input};
use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &NonMaxSuppression, _: &Cx<'_>) -> Result<Kernel, Reason> {
    let center = op.center_point_box;
    Ok(Kernel::values(move |inputs, cx| {
        let kept = select(center, inputs, cx)?;
        let mut y = Tensor::try_zeros(DType::I64, &[kept.len(), 3])?;
        for (y, kept) in y.as_mut_slice::<i64>().chunks_exact_mut(3).zip(&kept) {
            y.copy_from_slice(kept);
        }
        Ok(vec![y.into()])
    }))
}

/// A box by its corners.
#[derive(Clone, Copy, Debug)]
struct Area {
    y: (f32, f32),
    x: (f32, f32),
}

impl Area {
    fn new(b: &[f32], center: bool) -> Area {
        let ordered = |a: f32, b: f32| if a > b { (b, a) } else { (a, b) };
        match center {
            true => Area {
                x: (b[0] - b[2] / 2.0, b[0] + b[2] / 2.0),
                y: (b[1] - b[3] / 2.0, b[1] + b[3] / 2.0),
            },
            false => Area { y: ordered(b[0], b[2]), x: ordered(b[1], b[3]) },
        }
    }

    fn size(&self) -> f32 {
        (self.x.1 - self.x.0) * (self.y.1 - self.y.0)
    }

    /// Whether both overlap by more than `threshold`.
    fn overlaps(&self, other: &Area, threshold: f32) -> bool {
        let x = (self.x.0.max(other.x.0), self.x.1.min(other.x.1));
        let y = (self.y.0.max(other.y.0), self.y.1.min(other.y.1));
        if x.1 <= x.0 || y.1 <= y.0 {
            return false;
        }
        let common = Area { x, y }.size();
        let (a, b) = (self.size(), other.size());
        let all = a + b - common;
        common > 0.0 && a > 0.0 && b > 0.0 && all > 0.0 && common / all > threshold
    }
}

/// The first element of an optional input.
fn number<T: rinfer_graph::Element>(
    inputs: &[Option<Value>],
    i: usize,
) -> Result<Option<T>, Reason> {
    let Some(value) = inputs.get(i).and_then(Option::as_ref) else { return Ok(None) };
    Ok(value.as_tensor()?.as_slice::<T>().first().copied())
}

/// Batch, class and box of what is kept, batch by batch, class by class, best first.
fn select(center: bool, inputs: &[Option<Value>], cx: &RunCx<'_>) -> Result<Vec<[i64; 3]>, Reason> {
    let (boxes, scores) = (input(inputs, 0)?.as_tensor()?, input(inputs, 1)?.as_tensor()?);
    let most = usize::try_from(number::<i64>(inputs, 2)?.unwrap_or(0).max(0)).unwrap_or(usize::MAX);
    let iou = number::<f32>(inputs, 3)?.unwrap_or(0.0);
    let least = number::<f32>(inputs, 4)?;
    let (&[batches, n, 4], &[score_batches, classes, score_n]) = (boxes.shape(), scores.shape())
    else {
        return Err(invalid!("boxes {:?} and scores {:?}", boxes.shape(), scores.shape()));
    };
    if (batches, n) != (score_batches, score_n) {
        return Err(invalid!("boxes {:?} and scores {:?}", boxes.shape(), scores.shape()));
    }
    let mut kept = Vec::new();
    for batch in 0..batches {
        let boxes = &boxes.as_slice::<f32>()[batch * n * 4..][..n * 4];
        let areas: Vec<Area> = boxes.chunks_exact(4).map(|b| Area::new(b, center)).collect();
        for class in 0..classes {
            let scores = &scores.as_slice::<f32>()[(batch * classes + class) * n..][..n];
            let best = best_boxes(&areas, scores, (most, iou, least), cx)?;
            check_memory(Some((kept.len() + best.len()).saturating_mul(24)), cx)?;
            kept.extend(best.iter().map(|&i| [batch as i64, class as i64, i as i64]));
        }
    }
    Ok(kept)
}

/// The boxes of one class that are kept, best first.
fn best_boxes(
    areas: &[Area],
    scores: &[f32],
    (most, iou, least): (usize, f32, Option<f32>),
    cx: &RunCx<'_>,
) -> Result<Vec<usize>, Reason> {
    if most == 0 {
        return Ok(Vec::new());
    }
    let enough = |&i: &usize| least.is_none_or(|least| scores[i] > least);
    let mut order: Vec<usize> = (0..areas.len()).filter(enough).collect();
    // Stable, so that of equal scores the first box goes first; adding 0 makes -0 equal to 0.
    order.sort_by(|&a, &b| (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)));
    let mut best: Vec<usize> = Vec::new();
    for (k, i) in order.into_iter().enumerate() {
        if k % 256 == 0 {
            cx.check()?;
        }
        if best.len() == most {
            break;
        }
        if !best.iter().any(|&kept| areas[i].overlaps(&areas[kept], iou)) {
            best.push(i);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    #[test]
    fn boxes_that_overlap_a_better_one_are_dropped() {
        let boxes = [0f32, 0., 1., 1., 0., 0.1, 1., 1.1, 0., 10., 1., 11., 1., 11., 0., 10.];
        let inputs = [
            Tensor::from_slice(&[1, 4, 4], &boxes),
            Tensor::from_slice(&[1, 1, 4], &[0.7f32, 0.9, 0.5, 0.5]),
            Tensor::scalar(3i64),
            Tensor::scalar(0.5f32),
            Tensor::scalar(0.1f32),
        ];
        let op = NonMaxSuppression { center_point_box: false };
        let y = run1(Isa::best(), op.clone(), &inputs).unwrap();
        assert_eq!(y.as_slice::<i64>(), [0, 0, 1, 0, 0, 2]);
        assert_eq!(run1(Isa::best(), op, &inputs[..2]).unwrap().shape(), [0, 3]);
    }
}
