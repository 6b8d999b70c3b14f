//! MoE and QMoE: each token goes through the feed-forward networks of its k likeliest experts.
//!
//! p = softmax(router), the k largest of them (divided by their sum, if so asked);
//! y = Σ p[e] · (fc2[e] · f(fc1[e] · x + b1[e]) + b2[e])
//!
//! x [t, h] or [b, s, h], router [t, e], fc1 [e, i, h] (twice i where f is a fused SwiGLU),
//! fc2 [e, h, i]. Weights of QMoE are codes of 2, 4 or 8 bits, scaled row by row or block by block.

use super::super::{
    Axis, BinaryFn, Clip, ExpertMatMul, Gather, GatherElements, MatMulNBits, Reduce, ReduceKind,
    Reshape, Shape, Softmax, SoftmaxKind, Split, TopK, UnaryFn,
};
use super::heads;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, Tensor, ValueId, invalid, unsupported};

/// input, router_probs, fc1 weights and bias, fc2 weights and bias, fc3 weights and bias
pub(in super::super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(5, 8)?;
    let layer = |at: usize| Layer { weights: at, bias: at + 1, codes: None };
    mixture(cx, [layer(2), layer(4), layer(6)], Weights::Likelihood)
}

/// The same with scales between weights and bias, then the zero points, then router_weights
pub(in super::super) fn import_quantized(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(7, 15)?;
    match cx.string("quant_type")?.unwrap_or("int") {
        "int" => {}
        other => return Err(unsupported!("QMoE of quant_type {other}")),
    }
    match cx.int("weights_prepacked")?.unwrap_or(-1) {
        // On CPUs nothing is packed for the default.
        -1 | 0 => {}
        other => return Err(unsupported!("experts packed for another processor (layout {other})")),
    }
    // A least accuracy; sums are in float, the most accurate there is.
    cx.ignore(&["accuracy_level"]);
    let block = cx.size("block_size")?.filter(|&n| n > 0);
    let all = cx.size("expert_weight_bits")?.unwrap_or(4);
    let mut layers = Vec::new();
    for i in 0..3 {
        let bits = cx.size(&format!("fc{}_expert_weight_bits", i + 1))?.unwrap_or(all);
        let at = 2 + 3 * i;
        let codes = Some(Codes { scales: at + 1, zero: 11 + i, bits, block });
        layers.push(Layer { weights: at, bias: at + 2, codes });
    }
    let weights = cx.opt_input(14).map_or(Weights::Normal, Weights::Given);
    let [fc1, fc2, fc3] = [layers[0], layers[1], layers[2]];
    mixture(cx, [fc1, fc2, fc3], weights)
}

/// How much each chosen expert counts.
#[derive(Clone, Copy)]
enum Weights {
    /// As likely as it is, if the attributes do not say otherwise.
    Likelihood,
    /// As likely as it is among those that are chosen.
    Normal,
    /// What this says [t, e].
    Given(ValueId),
}

/// One of the products: which inputs it takes.
#[derive(Clone, Copy)]
struct Layer {
    weights: usize,
    bias: usize,
    codes: Option<Codes>,
}

/// How weights are quantized: by whole rows if there is no block.
#[derive(Clone, Copy)]
struct Codes {
    scales: usize,
    zero: usize,
    bits: usize,
    block: Option<usize>,
}

fn mixture(
    cx: &mut NodeCx<'_>,
    [fc1, fc2, fc3]: [Layer; 3],
    weights: Weights,
) -> Result<Outputs, Reason> {
    if cx.flag("use_sparse_mixer", false)? {
        return Err(unsupported!("experts chosen by a sparse mixer"));
    }
    let x = cx.input(0)?;
    let dtype = cx.dtype(x)?;
    let hidden = heads::known(cx, x, cx.fact(x).rank().unwrap_or(1).max(1) - 1, "a token")?;
    let k = cx.size("k")?.unwrap_or(1);
    let wide = cx.cast(x, DType::F32)?;
    let tokens = cx.reshape(wide, &[-1, hidden])?;
    let (p, expert) = chosen(cx, k, weights)?;
    // Each token as often as it has experts, and the expert of each of these rows.
    let count = cx.size_of(tokens, 0)?;
    let tokens = cx.unsqueeze(tokens, &[1])?;
    let ks = cx.constant_ints(&[k as i64]);
    let size = cx.constant_ints(&[hidden]);
    let shape = heads::joined(cx, &[count, ks, size])?;
    let rows = cx.expand(tokens, shape)?;
    let rows = cx.reshape(rows, &[-1, hidden])?;
    let expert = cx.reshape(expert, &[-1])?;
    let inner = activated(cx, [fc1, fc3], rows, expert)?;
    let y = fc2.apply(cx, inner, expert)?;
    let y = cx.reshape(y, &[-1, k as i64, hidden])?;
    let p = cx.unsqueeze(p, &[2])?;
    let y = cx.binary(BinaryFn::Mul, y, p)?;
    let axis = cx.constant_ints(&[1]);
    let sum = Reduce { kind: ReduceKind::Sum, keepdims: false, noop_with_empty_axes: true };
    let y = cx.push1(sum, &[y, axis])?;
    let shape = cx.push1(Shape { start: 0, end: None }, &[x])?;
    let y = cx.push1(Reshape { allowzero: true }, &[y, shape])?;
    let y = cx.cast(y, dtype)?;
    cx.done(y)
}

/// The weights and the numbers of each token's k experts: float [t, k], int64 [t, k].
fn chosen(cx: &mut NodeCx<'_>, k: usize, weights: Weights) -> Result<(ValueId, ValueId), Reason> {
    let router = cx.input(1)?;
    let router = cx.cast(router, DType::F32)?;
    let softmax = Softmax { kind: SoftmaxKind::Softmax, axis: Axis(-1) };
    let p = cx.push1(softmax, &[router])?;
    let k = cx.constant_ints(&[k as i64]);
    let top = TopK { axis: Axis(-1), largest: true };
    let made = cx.push_n(top, &[Some(p), Some(k)], 2)?;
    let (mut p, expert) = (made[0], made[1]);
    let mut normal = cx.flag("normalize_routing_weights", false)?;
    match weights {
        Weights::Likelihood => {}
        // ONNX Runtime's CPU provider lets these sum to 1 whatever the attribute says.
        Weights::Normal => normal = true,
        Weights::Given(weights) => {
            let weights = cx.cast(weights, DType::F32)?;
            p = cx.push1(GatherElements { axis: Axis(-1) }, &[weights, expert])?;
        }
    }
    if normal {
        let sum = cx.fold(ReduceKind::Sum, p, &[-1])?;
        p = cx.binary(BinaryFn::Div, p, sum)?;
    }
    Ok((p, expert))
}

/// f(fc1 · x), or with a gate.
fn activated(
    cx: &mut NodeCx<'_>,
    [fc1, fc3]: [Layer; 2],
    rows: ValueId,
    expert: ValueId,
) -> Result<ValueId, Reason> {
    let gated = cx.opt_input(fc3.weights).is_some();
    let kind = cx.string("activation_type")?.unwrap_or("relu").to_string();
    let fusion = cx.int("swiglu_fusion")?.unwrap_or(0);
    let alpha = cx.float("activation_alpha")?.unwrap_or(1.0);
    let beta = cx.float("activation_beta")?.unwrap_or(0.0);
    let limit = cx.float("swiglu_limit")?;
    let f = match kind.as_str() {
        "relu" => Some(UnaryFn::Relu),
        "gelu" => Some(UnaryFn::GeluTanh),
        "silu" => Some(UnaryFn::Swish { alpha: 1.0 }),
        "identity" => None,
        "swiglu" => {
            let gate = fc1.apply(cx, rows, expert)?;
            let (gate, linear) = match (fusion, gated) {
                (0, true) => (gate, fc3.apply(cx, rows, expert)?),
                (1 | 2, false) => halves(cx, gate, fusion == 1)?,
                _ => return Err(invalid!("swiglu_fusion {fusion}, fc3 given: {gated}")),
            };
            return swiglu(cx, gate, linear, [alpha, beta], limit);
        }
        other => return Err(invalid!("activation_type {other:?}")),
    };
    let y = fc1.apply(cx, rows, expert)?;
    let y = f.map_or(Ok(y), |f| cx.unary(f, y))?;
    match (gated, kind.as_str()) {
        (false, _) => Ok(y),
        (true, "silu") => {
            let linear = fc3.apply(cx, rows, expert)?;
            cx.binary(BinaryFn::Mul, y, linear)
        }
        (true, _) => Err(unsupported!("experts of activation {kind} with a third product")),
    }
}

/// The gates and the linear parts of a fused product: every other number, or one after the other.
fn halves(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    interleaved: bool,
) -> Result<(ValueId, ValueId), Reason> {
    let in_two = |axis| Split { axis: Axis(axis), num_outputs: Some(2) };
    if !interleaved {
        let made = cx.push_n(in_two(1), &[Some(x)], 2)?;
        return Ok((made[0], made[1]));
    }
    let pairs = cx.reshape(x, &[0, -1, 2])?;
    let made = cx.push_n(in_two(2), &[Some(pairs)], 2)?;
    Ok((cx.squeeze(made[0], &[2])?, cx.squeeze(made[1], &[2])?))
}

/// min(g, limit) · sigmoid(alpha · …) · (clip(l, ±limit) + beta)
fn swiglu(
    cx: &mut NodeCx<'_>,
    mut gate: ValueId,
    mut linear: ValueId,
    [alpha, beta]: [f32; 2],
    limit: Option<f32>,
) -> Result<ValueId, Reason> {
    if let Some(limit) = limit.filter(|limit| limit.is_finite()) {
        let (low, high) = (cx.constant(Tensor::scalar(-limit)), cx.constant(Tensor::scalar(limit)));
        gate = cx.push_n(Clip, &[Some(gate), None, Some(high)], 1)?[0];
        linear = cx.push1(Clip, &[linear, low, high])?;
    }
    let gate = cx.unary(UnaryFn::Swish { alpha }, gate)?;
    let beta = cx.constant(Tensor::scalar(beta));
    let linear = cx.binary(BinaryFn::Add, linear, beta)?;
    cx.binary(BinaryFn::Mul, gate, linear)
}

impl Layer {
    /// Each row times the matrix of its expert, plus its bias.
    fn apply(self, cx: &mut NodeCx<'_>, rows: ValueId, expert: ValueId) -> Result<ValueId, Reason> {
        let w = cx.input(self.weights)?;
        let y = match self.codes {
            None => cx.push1(ExpertMatMul { codes: None }, &[rows, w, expert])?,
            Some(codes) => {
                let op = codes.matrix(cx, w)?;
                let zeros = codes.zero_points(cx, op.n)?;
                let scales = cx.input(codes.scales)?;
                let inputs = [Some(rows), Some(w), Some(expert), Some(scales), zeros];
                cx.push_n(ExpertMatMul { codes: Some(op) }, &inputs, 1)?[0]
            }
        };
        let Some(bias) = cx.opt_input(self.bias) else { return Ok(y) };
        let bias = cx.cast(bias, DType::F32)?;
        let bias = cx.push1(Gather { axis: Axis(0) }, &[bias, expert])?;
        cx.binary(BinaryFn::Add, y, bias)
    }
}

impl Codes {
    /// The matrix of one expert.
    fn matrix(self, cx: &NodeCx<'_>, w: ValueId) -> Result<MatMulNBits, Reason> {
        if !matches!(self.bits, 2 | 4 | 8) {
            return Err(unsupported!("experts of {} bits", self.bits));
        }
        let n = heads::known(cx, w, 1, "an expert")?;
        let bytes = heads::known(cx, w, 2, "a row of an expert")?;
        let size = |n: i64| usize::try_from(n).ok();
        let k = size(bytes).and_then(|n| n.checked_mul(8 / self.bits));
        let (Some(n), Some(k)) = (size(n), k) else {
            return Err(invalid!("experts of {n} rows of {bytes} bytes"));
        };
        Ok(MatMulNBits { n, k, bits: self.bits, block_size: self.block.unwrap_or(k) })
    }

    /// The zero points: of blocks as they are; of whole rows several share a byte, and are taken
    /// apart into floats [e, n].
    fn zero_points(self, cx: &mut NodeCx<'_>, n: usize) -> Result<Option<ValueId>, Reason> {
        let Some(zero) = cx.opt_input(self.zero) else { return Ok(None) };
        if self.block.is_some() || self.bits == 8 {
            return Ok(Some(zero));
        }
        let bytes = heads::known(cx, zero, 1, "the zero points")?;
        let each = (8 / self.bits) as i64;
        let steps: Vec<i32> = (0..each as u32).map(|i| 1 << (i * self.bits as u32)).collect();
        let wide = cx.cast(zero, DType::I32)?;
        let wide = cx.unsqueeze(wide, &[2])?;
        let steps = cx.constant(Tensor::vector(&steps));
        let codes = cx.constant(Tensor::scalar(1i32 << self.bits));
        let parts = cx.binary(BinaryFn::Div, wide, steps)?;
        let parts = cx.binary(BinaryFn::Mod { fmod: false }, parts, codes)?;
        let parts = cx.reshape(parts, &[0, -1])?;
        let have = bytes.saturating_mul(each);
        let rest = have - n as i64;
        if rest < 0 {
            return Err(invalid!("zero points {} for {n} rows", cx.fact(zero)));
        }
        let kept = cx.split(parts, 1, &[n as i64, rest])?;
        Ok(Some(cx.cast(kept[0], DType::F32)?))
    }
}
