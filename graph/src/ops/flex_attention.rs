//! FlexAttention: attention whose scores and weights pass through graphs of the model.
//!
//! y = prob_mod(softmax(score_mod(scale · Q·Kᵀ))) · V, imported as just these operators
//!
//! Q [b, h, q, d], K [b, h′, k, d], V [b, h′, k, e]  →  Y [b, h, q, e]. Where h′ < h, the queries of
//! the h/h′ heads that share keys become one longer list of queries: [b, h′, h/h′·q, d].

use super::{Axis, MatMul, Softmax, SoftmaxKind};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, ValueId, invalid, unsupported};

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let size = |v: ValueId, axis: usize, what: &str| {
        let dim = cx.fact(v).shape().filter(|s| s.len() == 4).map(|s| s[axis].clone());
        dim.and_then(|d| d.value()).ok_or_else(|| unsupported!("{what} are not known"))
    };
    let heads = [size(q, 1, "the heads of Q")?, size(k, 1, "the heads of K")?];
    if heads[1] <= 0 || heads[0] % heads[1] != 0 {
        return Err(invalid!("{} heads of queries for {} of keys", heads[0], heads[1]));
    }
    let scale = match cx.float("scale")? {
        Some(scale) => scale,
        None => 1.0 / (size(q, 3, "the elements of a head")? as f32).sqrt(),
    };
    let precision = match (cx.dtype_attr("softmax_precision")?, cx.dtype(q)?) {
        (Some(precision), _) => precision,
        (None, DType::F64) => DType::F64,
        (None, _) => DType::F32,
    };
    let q = regroup(cx, q, heads, heads[1])?;
    let scores = cx.push1(MatMul { trans_b: true, alpha: scale, ..MatMul::PLAIN }, &[q, k])?;
    let scores = cx.cast(scores, precision)?;
    let scores = regroup(cx, scores, heads, heads[0])?;
    let scores = inlined(cx, "score_mod", scores)?;
    let softmax = Softmax { kind: SoftmaxKind::Softmax, axis: Axis(-1) };
    let weights = cx.push1(softmax, &[scores])?;
    let weights = inlined(cx, "prob_mod", weights)?;
    let weights = regroup(cx, weights, heads, heads[1])?;
    let values = cx.cast(v, precision)?;
    let y = cx.push1(MatMul::PLAIN, &[weights, values])?;
    let y = regroup(cx, y, heads, heads[0])?;
    let dtype = cx.dtype(v)?;
    let y = cx.cast(y, dtype)?;
    cx.done(y)
}

/// [b, h, n, d] as [b, `to`, n·h/`to`, d], where there are two numbers of heads.
fn regroup(cx: &mut NodeCx<'_>, x: ValueId, heads: [i64; 2], to: i64) -> Result<ValueId, Reason> {
    if heads[0] == heads[1] {
        return Ok(x);
    }
    cx.reshape(x, &[0, to, -1, 0])
}

/// What the graph in an attribute makes of `x`; `x` itself if there is none.
fn inlined(cx: &mut NodeCx<'_>, name: &str, x: ValueId) -> Result<ValueId, Reason> {
    if !cx.has(name) {
        return Ok(x);
    }
    let (body, captured) = cx.body(name, &[cx.fact(x).clone()])?;
    let mut outer: Vec<Option<ValueId>> = vec![None; body.value_count()];
    for (&inner, v) in body.inputs().iter().zip(std::iter::once(x).chain(captured)) {
        outer[inner.index()] = Some(v);
    }
    let find = |cx: &mut NodeCx<'_>, outer: &[Option<ValueId>], v: ValueId| match (
        outer[v.index()],
        body.fact(v).value(),
    ) {
        (Some(v), _) => Ok(v),
        (None, Some(value)) => Ok(cx.constant_value(&value)),
        (None, None) => Err(invalid!("a value of {name} comes from nowhere")),
    };
    for (_, node) in body.nodes() {
        let mut inputs = Vec::new();
        for &v in &node.inputs {
            inputs.push(v.map(|v| find(cx, &outer, v)).transpose()?);
        }
        let made = cx.push_n(node.op.clone(), &inputs, node.outputs.len())?;
        for (inner, v) in node.outputs.iter().zip(made) {
            outer[inner.index()] = Some(v);
        }
    }
    match body.outputs() {
        &[y] => find(cx, &outer, y),
        outputs => Err(invalid!("{name} has {} outputs instead of 1", outputs.len())),
    }
}
