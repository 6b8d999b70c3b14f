//! NegativeLogLikelihoodLoss: lossᵢ = -weight[tᵢ] · x[i, tᵢ], each, their sum or weighted mean.
//!
//! Sums are made in f64.

use rinfer_graph::ops::{LossReduction, NegativeLogLikelihoodLoss};
use rinfer_graph::{DType, Reason, invalid};

use super::layer_norm::{doubles, element, put};
use crate::kernel::{Args, Cx, Kernel};

/// x as samples of `classes` planes of `inner` elements.
#[derive(Clone, Copy)]
struct Planes {
    classes: usize,
    inner: usize,
}

pub(super) fn compile(op: &NegativeLogLikelihoodLoss, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, target) = (cx.sizes(0)?, cx.sizes(1)?);
    let planes = Planes { classes: x[1], inner: x[2..].iter().product() };
    if target[..1] != x[..1] || target[1..] != x[2..] {
        return Err(invalid!("classes of shape {target:?} for log-probabilities of shape {x:?}"));
    }
    if cx.opt(2).is_some() && cx.sizes(2)?[..] != x[1..2] {
        return Err(invalid!("weights of shape {:?} for {} classes", cx.sizes(2)?, x[1]));
    }
    let op = op.clone();
    Ok(Kernel::new(move |args| run(&op, planes, args)))
}

fn run(op: &NegativeLogLikelihoodLoss, planes: Planes, args: &mut Args<'_>) -> Result<(), Reason> {
    let (x, target) = (args.input(0)?, args.input(1)?);
    let weights = args.opt(2).map(doubles).transpose()?;
    let Planes { classes, inner } = planes;
    let (mut total, mut weight_of_all) = (0.0, 0.0);
    let mut losses = Vec::with_capacity(args.outputs[0].len());
    for i in 0..target.len() {
        if i % 4096 == 0 {
            args.cx.check()?;
        }
        let class = match target.dtype() {
            DType::I32 => target.as_slice::<i32>()[i] as i64,
            _ => target.as_slice::<i64>()[i],
        };
        let (loss, weight) = if op.ignore_index == Some(class) {
            (0.0, 0.0)
        } else {
            let c = usize::try_from(class).ok().filter(|&c| c < classes);
            let c = c.ok_or_else(|| invalid!("class {class} of {classes}"))?;
            let weight = weights.as_ref().map_or(1.0, |w| w[c]);
            let x = element(x, (i / inner * classes + c) * inner + i % inner);
            (-weight * x, weight)
        };
        total += loss;
        weight_of_all += weight;
        if op.reduction == LossReduction::None {
            losses.push(loss);
        }
    }
    match op.reduction {
        LossReduction::None => {}
        LossReduction::Mean => losses.push(total / weight_of_all),
        LossReduction::Sum => losses.push(total),
    }
    put(&losses, &mut args.outputs[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    fn loss(reduction: LossReduction, ignore_index: Option<i64>, target: [i64; 4]) -> Vec<f32> {
        let x = [1.0f32, 2.0, 2.0, 2.0, 3.0, 2.0, 0.0, 1.0, 2.0, 2.0, 1.0, 2.0];
        let inputs = [
            Tensor::from_slice(&[2, 3, 2], &x),
            Tensor::from_slice(&[2, 2], &target),
            Tensor::vector(&[0.5f32, 1.0, 2.0]),
        ];
        let op = NegativeLogLikelihoodLoss { reduction, ignore_index };
        run1(Isa::best(), op, &inputs).map_or(vec![], |y| y.as_slice::<f32>().to_vec())
    }

    #[test]
    fn the_right_class_of_each_sample_counts() {
        let target = [2, 1, 0, 2];
        assert_eq!(loss(LossReduction::None, None, target), [-6.0, -2.0, 0.0, -4.0]);
        assert_eq!(loss(LossReduction::Sum, None, target), [-12.0]);
        assert_eq!(loss(LossReduction::Mean, None, target), [-12.0 / 5.5]);
        assert_eq!(loss(LossReduction::Mean, Some(2), target), [-2.0 / 1.5]);
    }

    #[test]
    fn an_ignored_class_need_not_exist_but_others_must() {
        assert_eq!(loss(LossReduction::Sum, Some(-5), [2, -5, 0, 2]), [-10.0]);
        assert!(loss(LossReduction::Sum, None, [2, 3, 0, 2]).is_empty());
    }
}
