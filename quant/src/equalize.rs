//! Cross-layer equalization: channels between two layers get equal ranges, without data.
//!
//! B(relu(A(x))): channel c of A's weight and bias is divided by s, what B reads of it multiplied;
//! s = √(max|A's channel| / max|B's channel|) makes both ranges equal (Nagel et al. 2019).

use std::collections::HashMap;

use rinfer::graph::ops::{Flatten, Pool, PoolKind, Unary, UnaryFn};
use rinfer::graph::{Graph, Op, ValueId};
use rinfer::{Fact, Model, Tensor};

use crate::error::Result;
use crate::layers::{Layer, Role, layers};

/// Balances what can be balanced in the main graph; how many pairs of layers that were.
///
/// # Errors
/// The machine has no memory for the new weights.
pub fn equalize(model: &mut Model) -> Result<usize> {
    let mut graph = model.graph().clone();
    let (all, _) = layers(&graph);
    let pairs: Vec<(usize, usize)> = pairs(&graph, &all);
    if pairs.is_empty() {
        return Ok(0);
    }
    let mut held = HashMap::<ValueId, Vec<f32>>::new();
    // What is balanced with one neighbour is out of balance with the other: a few rounds settle it.
    for _ in 0..4 {
        for &(a, b) in &pairs {
            balance(&graph, &mut held, &all[a], &all[b]);
        }
    }
    for (v, numbers) in held {
        let shape = graph.tensor(v).map(|t| t.shape().to_vec()).unwrap_or_default();
        let tensor = Tensor::try_from_slice(&shape, &numbers)?;
        graph.set_fact(v, Fact::constant(tensor));
    }
    *model = model.with_graph(graph);
    Ok(pairs.len())
}

/// Layers that alone read, through a Relu or nothing, what another makes.
fn pairs(g: &Graph, all: &[Layer]) -> Vec<(usize, usize)> {
    let uses = g.use_counts();
    let alone = |v: ValueId| uses[v.index()] == 1 && !g.outputs().contains(&v);
    let free = |l: &Layer| {
        l.site.graph == 0
            && matches!(l.role, Role::Product | Role::Conv)
            && l.channels.is_some()
            && alone(l.weight)
            && l.bias.is_none_or(|v| alone(v) && g.fact(v).len() == Some(outputs(l)))
            && !l.swapped
    };
    let mut found = Vec::new();
    for (j, b) in all.iter().enumerate().filter(|(_, l)| free(l)) {
        let mut v = b.data;
        while let Some(node) = g.made_by(v).filter(|n| alone(v) && scales_along(&n.op)) {
            v = node.inputs[0].unwrap_or(v);
        }
        let maker = g.producer(v);
        let is = |a: &&(usize, &Layer)| a.1.site.graph == 0 && Some(a.1.site.node) == maker;
        let Some((i, a)) = all.iter().enumerate().filter(|(_, l)| free(l)).find(|a| is(&a)) else {
            continue;
        };
        let channels = outputs(a);
        let read = match b.role {
            Role::Product => b.k_n().0,
            _ => b.shape[1] * group(g, b),
        };
        // Of a picture that was flattened a product reads so many places of each channel.
        let flat = (a.role, b.role) == (Role::Conv, Role::Product);
        let fits = match flat {
            true => channels > 0 && read % channels == 0 && g.fact(b.data).rank() == Some(2),
            false => a.role == b.role && channels == read,
        };
        if alone(v) && fits {
            found.push((i, j));
        }
    }
    found
}

/// Channels that a layer makes.
fn outputs(l: &Layer) -> usize {
    match l.role {
        Role::Product => l.k_n().1,
        _ => l.shape[0],
    }
}

/// Whether a channel that is so many times as large comes out so many times as large, and channels
/// keep their order.
fn scales_along(op: &Op) -> bool {
    match op {
        Op::Unary(Unary(UnaryFn::Relu)) => true,
        Op::Pool(Pool { kind, .. }) => {
            matches!(kind, PoolKind::Max { .. } | PoolKind::Average { .. })
        }
        Op::Flatten(Flatten { axis }) => axis.0 == 1,
        _ => false,
    }
}

fn group(g: &Graph, l: &Layer) -> usize {
    match &g.node(l.site.node).op {
        Op::Conv(op) => op.group.max(1),
        _ => 1,
    }
}

/// For each number of a weight, which of the `n` channels that are summed over it belongs to.
fn input_channel(g: &Graph, l: &Layer, n: usize, i: usize) -> usize {
    match l.role {
        Role::Product if l.channels == Some(0) => i % l.shape[1] * n / l.shape[1],
        Role::Product => i / l.shape[1] * n / l.shape[0],
        _ => {
            let inner: usize = l.shape[2..].iter().product();
            let (out, at) = (i / inner / l.shape[1], i / inner % l.shape[1]);
            let per_group = (l.shape[0] / group(g, l)).max(1);
            out / per_group * l.shape[1] + at
        }
    }
}

fn output_channel(l: &Layer, i: usize) -> usize {
    match l.channels {
        Some(0) => i / l.shape[1..].iter().product::<usize>().max(1),
        _ => i % l.shape[l.shape.len() - 1],
    }
}

fn balance(g: &Graph, held: &mut HashMap<ValueId, Vec<f32>>, a: &Layer, b: &Layer) {
    for v in [Some(a.weight), a.bias, Some(b.weight)].into_iter().flatten() {
        let numbers = || g.tensor(v).map(|t| t.as_slice::<f32>().to_vec()).unwrap_or_default();
        held.entry(v).or_insert_with(numbers);
    }
    let n = outputs(a);
    let (mut out, mut into) = (vec![0f32; n], vec![0f32; n]);
    for (i, w) in held[&a.weight].iter().enumerate() {
        let c = output_channel(a, i);
        out[c] = out[c].max(w.abs());
    }
    for (i, w) in held[&b.weight].iter().enumerate() {
        let c = input_channel(g, b, n, i);
        into[c] = into[c].max(w.abs());
    }
    let factor = |c: usize| {
        let s = (out[c] / into[c]).sqrt();
        if s.is_finite() && s > 0.0 { s.clamp(1e-3, 1e3) } else { 1.0 }
    };
    let s: Vec<f32> = (0..n).map(factor).collect();
    if let Some(w) = held.get_mut(&a.weight) {
        w.iter_mut().enumerate().for_each(|(i, w)| *w /= s[output_channel(a, i)]);
    }
    if let Some(w) = a.bias.and_then(|v| held.get_mut(&v)) {
        w.iter_mut().zip(&s).for_each(|(w, s)| *w /= s);
    }
    if let Some(w) = held.get_mut(&b.weight) {
        w.iter_mut().enumerate().for_each(|(i, w)| *w *= s[input_channel(g, b, n, i)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{cosine, digits, pictures, run};

    #[test]
    fn the_function_stays_and_ranges_become_equal() {
        let mut model = digits();
        assert_eq!(equalize(&mut model).unwrap(), 2);
        let sample = &pictures(2)[1];
        assert!(cosine(&run(&digits(), sample), &run(&model, sample)) > 0.999999);
        let text = "x: float[n, 3]; a: float[3, 2] = [1, 100, -2, 50, 1, 10]; c: float[2] = 0.5\n\
            b: float[2, 2] = [4, 1, 0.01, 0.02]; p = MatMul(x, a); r = Relu(p); y = MatMul(r, b); → y";
        let before = Model::from_text(text).unwrap();
        let mut after = before.clone();
        assert_eq!(equalize(&mut after).unwrap(), 1);
        let x = Tensor::from_slice(&[2, 3], &[1.0f32, -0.5, 0.25, 0.1, 2.0, -1.0]);
        let sample = vec![("x".to_string(), x.into())];
        let (a, b) = (run(&before, &sample), run(&after, &sample));
        assert!(
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4 * a.abs().max(1.0)),
            "{a:?} {b:?}"
        );
        let (found, _) = layers(after.graph());
        let w = after.graph().tensor(found[0].weight).unwrap().as_slice::<f32>().to_vec();
        let peak = |c: usize| (0..3).map(|k| w[k * 2 + c].abs()).fold(0f32, f32::max);
        let v = after.graph().tensor(found[1].weight).unwrap().as_slice::<f32>().to_vec();
        let row = |c: usize| v[c * 2].abs().max(v[c * 2 + 1].abs());
        assert!((0..2).all(|c| (peak(c) / row(c) - 1.0).abs() < 1e-3));
    }
}
