//! What follows a convolution moves into it:
//! BatchNormalization(Conv(x, w, b)) → Conv(x, w′, b′); Conv + channel constants → bias;
//! Conv + residual; f(Conv).

use super::fuse_epilogue::activation_of;
use super::pattern::{is_f32, same_shape};
use super::{GraphView, Rewrite};
use crate::ops::{BatchNormalization, Binary, BinaryFn, Conv};
use crate::{DType, Node, NodeId, Op, Tensor, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    match g.op(id) {
        Op::BatchNormalization(op) => batch_norm(g, id, op),
        Op::Binary(Binary(BinaryFn::Add)) => {
            let (a, b) = (g.input(id, 0)?, g.input(id, 1)?);
            let channels = channel_bias(g, a, b).or_else(|| channel_bias(g, b, a));
            channels.or_else(|| residual(g, id, a, b)).or_else(|| residual(g, id, b, a))
        }
        _ => activated(g, id),
    }
}

/// What moves into the weight and the bias alone: the convolution stays one as ONNX has it.
pub(super) fn constants(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    match g.op(id) {
        Op::BatchNormalization(op) => batch_norm(g, id, op),
        Op::Binary(Binary(BinaryFn::Add)) => {
            let (a, b) = (g.input(id, 0)?, g.input(id, 1)?);
            channel_bias(g, a, b).or_else(|| channel_bias(g, b, a))
        }
        _ => None,
    }
}

/// The convolution that makes `v`, if nobody else reads it and nothing is applied to it yet.
fn plain<'a>(g: &GraphView<'a>, v: ValueId) -> Option<(&'a Conv, &'a Node)> {
    let node = g.made_by(v)?;
    let Op::Conv(op) = &node.op else { return None };
    (g.single_use(v) && op.activation.is_none() && is_f32(g, v)).then_some((op, node))
}

fn slice<'a>(g: &GraphView<'a>, v: ValueId) -> Option<&'a [f32]> {
    g.constant(v).filter(|t| t.dtype() == DType::F32).map(Tensor::as_slice::<f32>)
}

/// The weight and the bias scaled by the normalization, channel by channel.
fn batch_norm(g: &GraphView<'_>, id: NodeId, norm: &BatchNormalization) -> Option<Rewrite> {
    if norm.training.is_some() || g.node(id).outputs.len() != 1 {
        return None;
    }
    let (op, node) = plain(g, g.input(id, 0)?)?;
    if node.inputs.get(3).copied().flatten().is_some() {
        return None;
    }
    let weight = g.constant(node.inputs[1]?)?;
    let w = slice(g, node.inputs[1]?)?;
    let channels = *weight.shape().first()?;
    let old_bias = match node.inputs.get(2).copied().flatten() {
        Some(v) => slice(g, v)?.to_vec(),
        None => vec![0.0; channels],
    };
    let of = |i: usize| slice(g, g.input(id, i)?).filter(|x| x.len() == channels);
    let (scale, shift, mean, var) = (of(1)?, of(2)?, of(3)?, of(4)?);
    if channels == 0 || old_bias.len() != channels {
        return None;
    }
    // In double: the product of weight and factor is then rounded once.
    let factor = |c: usize| scale[c] as f64 / (var[c] as f64 + norm.epsilon as f64).sqrt();
    let per_channel = w.len() / channels;
    let new: Vec<f32> = w
        .chunks(per_channel.max(1))
        .enumerate()
        .flat_map(|(c, w)| w.iter().map(move |&x| (x as f64 * factor(c)) as f32))
        .collect();
    let bias: Vec<f32> = (0..channels)
        .map(|c| ((old_bias[c] as f64 - mean[c] as f64) * factor(c) + shift[c] as f64) as f32)
        .collect();
    let mut p = g.patch();
    let new = p.constant(Tensor::try_from_slice(weight.shape(), &new).ok()?);
    let bias = p.constant(Tensor::try_from_slice(&[channels], &bias).ok()?);
    let y = p.push1(op.clone(), &[node.inputs[0]?, new, bias])?;
    p.finish(&[y])
}

/// conv + a constant with one number a channel, [c, 1, 1] or [1, c, 1, 1].
fn channel_bias(g: &GraphView<'_>, conv: ValueId, other: ValueId) -> Option<Rewrite> {
    let (op, node) = plain(g, conv)?;
    let t = g.constant(other).filter(|t| t.dtype() == DType::F32)?;
    let shape = g.fact(conv).shape()?;
    let (spatial, channels) = (shape.len().checked_sub(2)?, shape[1].size()?);
    if node.inputs.get(3).copied().flatten().is_some()
        || t.rank() < spatial + 1
        || t.rank() > shape.len()
    {
        return None;
    }
    let at = t.rank() - spatial - 1;
    let fits = t.shape().iter().enumerate().all(|(i, &n)| n == if i == at { channels } else { 1 });
    if !fits {
        return None;
    }
    let old = match node.inputs.get(2).copied().flatten() {
        Some(v) => slice(g, v)?.to_vec(),
        None => vec![0.0; channels],
    };
    let sum: Vec<f32> = old.iter().zip(t.as_slice::<f32>()).map(|(a, b)| a + b).collect();
    let mut p = g.patch();
    let bias = p.constant(Tensor::try_from_slice(&[channels], &sum).ok()?);
    let y = p.push1(op.clone(), &[node.inputs[0]?, node.inputs[1]?, bias])?;
    p.finish(&[y])
}

/// conv + a value of the same shape.
fn residual(g: &GraphView<'_>, id: NodeId, conv: ValueId, other: ValueId) -> Option<Rewrite> {
    let (op, node) = plain(g, conv)?;
    let free = node.inputs.get(3).copied().flatten().is_none();
    let fits = same_shape(g, conv, other) && same_shape(g, conv, g.output(id, 0)?);
    if !free || !fits || !is_f32(g, other) || conv == other {
        return None;
    }
    let mut p = g.patch();
    let bias = node.inputs.get(2).copied().flatten();
    let y = p.push(op.clone(), &[node.inputs[0], node.inputs[1], bias, Some(other)], 1)?[0];
    p.finish(&[y])
}

/// A function of the convolution.
fn activated(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let activation = activation_of(g, id)?;
    let (op, node) = plain(g, g.input(id, 0)?)?;
    let mut p = g.patch();
    let op = Conv { activation: Some(activation), ..op.clone() };
    let y = p.push(op, &node.inputs, 1)?[0];
    p.finish(&[y])
}

#[cfg(test)]
mod tests {
    use crate::Op;
    use crate::passes::testing::rewritten;

    const PASSES: &[&str] = &["fuse_conv", "drop_dead"];

    #[test]
    fn batch_normalization_scales_weight_and_bias() {
        let g = rewritten(
            PASSES,
            "x: float[n, 1, 4, 4]\nw: float[1, 1, 1, 1] = 2.0\nc = Conv(x, w)\n\
             y = BatchNormalization<epsilon = 0.0>(c, [3.0], [1.0], [0.5], [4.0])\n→ y",
        );
        let (_, node) = g.nodes().next().unwrap();
        assert_eq!(g.nodes().len(), 1);
        let weight = |i: usize| g.tensor(node.inputs[i].unwrap()).unwrap().as_slice::<f32>()[0];
        // (2x − 0.5) · 3/2 + 1 = 3x + 0.25
        assert_eq!((weight(1), weight(2)), (3.0, 0.25));
    }

    #[test]
    fn residual_and_activation_move_in() {
        let g = rewritten(
            PASSES,
            "x: float[n, 2, 4, 4]\nr: float[n, 2, 4, 4]\nw: float[2, 2, 1, 1] = 1.0\n\
             c = Conv(x, w)\ns = Add(c, r)\ny = Relu(s)\n→ y",
        );
        let (_, node) = g.nodes().next().unwrap();
        let Op::Conv(op) = &node.op else { panic!("{g}") };
        assert!(op.activation.is_some() && node.inputs.len() == 4 && g.nodes().len() == 1);
    }
}
