//! How each form of a layer is written in ONNX's operators.
//!
//! Dynamic: in `dynamic.rs`
//! Static:  Q and D around it: D(Q(op(D(Q(x)), D(codes), D(bias))))
//! Stored:  op(x, D(codes))
//! Blocks:  MatMulNBits, or MatMul(x, D(codes)) with a scale for each block
//! Table:   Cast(Gather(codes, i)) · Gather(scales, i)

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rinfer::graph::ops::{
    Axis, Binary, BinaryFn, Cast, DequantizeLinear, Gather, MatMul, MatMulNBits, QuantizeLinear,
    Transpose,
};
use rinfer::graph::{Node, NodeId, Op, ValueId};
use rinfer::{DType, Reason, Tensor};

use crate::blocks::{BlockScheme, Blocks};
use crate::forms::{Choice, Form};
use crate::layers::{Layer, Role};
use crate::rebuild::{Rebuild, Site, Writer};
use crate::scheme::Params;
use crate::weights::{self, Codes, WeightScheme};

/// A scale and a code's type, to know what was written already.
type Key = (u32, i32, DType);

fn key(p: &Params) -> Key {
    (p.scale.to_bits(), p.zero, p.scheme.dtype())
}

/// Codes that were written already: the codes, their scales and zero points.
#[derive(Clone, Copy)]
pub(super) struct Written {
    pub(super) codes: ValueId,
    pub(super) scales: ValueId,
    pub(super) zeros: Option<ValueId>,
    axis: Option<usize>,
}

/// A weight, how it became codes along which axis, and whether its axes were swapped then.
type WeightKey = (usize, ValueId, WeightScheme, Option<usize>, bool);

/// Writes layers as what is chosen for them.
pub struct Quantizer<'a> {
    chosen: HashMap<Site, (&'a Layer, &'a Choice)>,
    /// Activations that belong to a convolution, by their own site.
    activations: HashMap<Site, Site>,
    /// How many layers read a weight.
    readers: HashMap<(usize, ValueId), usize>,
    pairs: HashMap<(usize, ValueId, Key), ValueId>,
    pub(super) dynamic: HashMap<(usize, ValueId, bool), [ValueId; 3]>,
    /// Values that were divided: by what, and what came out.
    divided: HashMap<(usize, ValueId), Vec<(Arc<Vec<f32>>, ValueId)>>,
    weights: HashMap<WeightKey, (Written, Codes)>,
}

impl<'a> Quantizer<'a> {
    /// A writer of these layers.
    pub fn new(chosen: impl IntoIterator<Item = (&'a Layer, &'a Choice)>) -> Quantizer<'a> {
        let chosen: HashMap<Site, _> = chosen.into_iter().map(|c| (c.0.site, c)).collect();
        let mut activations = HashMap::new();
        let mut readers = HashMap::new();
        for (layer, _) in chosen.values() {
            *readers.entry((layer.site.graph, layer.weight)).or_insert(0) += 1;
            if let Some(node) = layer.activation {
                activations.insert(Site { node, ..layer.site }, layer.site);
            }
        }
        Quantizer {
            chosen,
            activations,
            readers,
            pairs: HashMap::new(),
            dynamic: HashMap::new(),
            divided: HashMap::new(),
            weights: HashMap::new(),
        }
    }
}

impl Writer for Quantizer<'_> {
    fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> Result<bool, Reason> {
        let site = r.site(id);
        if let Some(of) = self.activations.get(&site).copied() {
            r.copy(id);
            self.quantize_result(r, of)?;
            return Ok(true);
        }
        let Some(&(layer, choice)) = self.chosen.get(&site) else { return Ok(false) };
        match (&choice.form, layer.role) {
            (Form::Float, _) => return Ok(false),
            (Form::Stored(w), Role::Table) => self.table(r, layer, choice, *w)?,
            (Form::Stored(w), _) => self.stored(r, layer, choice, *w)?,
            (Form::Dynamic { weight, rows }, Role::Product) => {
                self.dynamic(r, (layer, choice), *weight, *rows)?
            }
            (Form::Static { .. }, Role::Product | Role::Conv) => self.fixed(r, layer, choice)?,
            (Form::Blocks(b), Role::Product) => self.blocks(r, layer, choice, *b)?,
            (form, _) => {
                let text = format!("a {} has no form {}", layer.op, form.name());
                return Err(Reason::new(rinfer::Kind::Unsupported, text));
            }
        }
        if layer.activation.is_none() {
            self.quantize_result(r, site)?;
        }
        Ok(true)
    }
}

const D: fn(Option<usize>) -> DequantizeLinear =
    |axis| DequantizeLinear { axis: Axis(axis.unwrap_or(0) as i64), block_size: 0, output: None };

pub(super) fn push(
    r: &mut Rebuild<'_>,
    op: impl Into<Op>,
    inputs: &[Option<ValueId>],
) -> Result<ValueId, Reason> {
    let last = inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    Ok(r.new.push(op, &inputs[..last], 1)?[0])
}

fn zero_scalar(p: &Params) -> Tensor {
    match p.scheme.dtype() {
        DType::I8 => Tensor::scalar(p.zero as i8),
        DType::U16 => Tensor::scalar(p.zero as u16),
        DType::I16 => Tensor::scalar(p.zero as i16),
        _ => Tensor::scalar(p.zero as u8),
    }
}

impl Quantizer<'_> {
    /// What a layer reads, in the copy; divided where outliers go into the weight.
    pub(super) fn data(
        &mut self,
        r: &mut Rebuild<'_>,
        layer: &Layer,
        choice: &Choice,
    ) -> Result<ValueId, Reason> {
        let x = r.value(layer.data);
        let Some(by) = &choice.smooth else { return Ok(x) };
        let known = self.divided.entry((r.number, x)).or_default();
        if let Some((_, y)) = known.iter().find(|(old, _)| old == by) {
            return Ok(*y);
        }
        let factors: Vec<f32> = by.iter().map(|s| 1.0 / s).collect();
        let factors = r.constant(Tensor::vector(&factors), layer.data, "smoothing");
        let y = r.step(Binary(BinaryFn::Mul), &[x, factors], layer.data, "smoothed")?;
        known.push((by.clone(), y));
        Ok(y)
    }

    /// D(Q(x)): x with only the numbers that codes stand for. `old` names it.
    fn pair(
        &mut self,
        r: &mut Rebuild<'_>,
        (x, product): (ValueId, bool),
        old: ValueId,
        p: &Params,
    ) -> Result<ValueId, Reason> {
        if let Some(&done) = self.pairs.get(&(r.number, x, key(p))) {
            return Ok(done);
        }
        let done = self.pair_of(r, (x, product), old, p)?;
        self.pairs.insert((r.number, x, key(p)), done);
        Ok(done)
    }

    fn pair_of(
        &mut self,
        r: &mut Rebuild<'_>,
        (x, product): (ValueId, bool),
        old: ValueId,
        p: &Params,
    ) -> Result<ValueId, Reason> {
        let scale = r.constant(Tensor::scalar(p.scale), old, "scale");
        // ONNX Runtime 1.31 makes a Gemm of a product of more than two axes, moves Q and D past the
        // Reshape that this takes, and forgets the type that a zero point gives; a type that is
        // written down it keeps. uint8 is what it takes anyway.
        let reshaped = product && r.old.fact(old).rank() != Some(2);
        let plain = reshaped && p.zero == 0 && p.scheme.dtype() != DType::U8;
        let zero = (!plain).then(|| r.constant(zero_scalar(p), old, "zero_point"));
        let q = QuantizeLinear {
            axis: Axis(1),
            block_size: 0,
            output: plain.then(|| p.scheme.dtype()),
            saturate: true,
            precision: None,
        };
        let codes = push(r, q, &[Some(x), Some(scale), zero])?;
        r.name(codes, old, "quantized");
        let y = push(r, D(Some(1)), &[Some(codes), Some(scale), zero])?;
        r.name(y, old, "dequantized");
        Ok(y)
    }

    /// Puts codes behind what a static layer makes, if it is to have them.
    fn quantize_result(&mut self, r: &mut Rebuild<'_>, site: Site) -> Result<(), Reason> {
        let (layer, choice) = self.chosen[&site];
        let Form::Static { output: Some(p), .. } = &choice.form else { return Ok(()) };
        let x = r.value(layer.result);
        let y = self.pair_of(r, (x, false), layer.result, p)?;
        r.bind(layer.result, y);
        self.pairs.insert((r.number, y, key(p)), y);
        Ok(())
    }

    /// The weight's codes, once for all layers that read them; `swap` asks for [k, n] of [n, k].
    pub(super) fn codes(
        &mut self,
        r: &mut Rebuild<'_>,
        (layer, choice): (&Layer, &Choice),
        how: WeightScheme,
        swap: bool,
        least: Option<&[f32]>,
    ) -> Result<(Written, Codes), Reason> {
        let cached = (r.number, layer.weight, how, layer.channels, swap);
        let alone = least.is_some() || choice.smooth.is_some();
        if !alone && let Some(found) = self.weights.get(&cached) {
            return Ok(found.clone());
        }
        let shared = self.readers.get(&(r.number, layer.weight)).is_some_and(|&n| n > 1);
        let made = if swap && shared && !alone {
            let (w, codes) = self.codes(r, (layer, choice), how, false, None)?;
            let perm = [1, 0].into_iter().collect();
            let swapped =
                r.step(Transpose { perm: Some(perm) }, &[w.codes], layer.weight, "swapped")?;
            (Written { codes: swapped, axis: w.axis.map(|axis| 1 - axis), ..w }, codes)
        } else {
            let t = weight(r, layer, choice)?;
            let mut codes = weights::quantize(&t, layer.channels, how, least)?;
            if swap {
                codes = codes.swapped()?;
            }
            let written = Written {
                codes: r.constant(codes.codes.clone(), layer.weight, "quantized"),
                scales: r.constant(codes.scale_tensor(), layer.weight, "scale"),
                zeros: codes.zero_tensor().map(|t| r.constant(t, layer.weight, "zero_point")),
                axis: codes.axis,
            };
            (written, codes)
        };
        if !alone {
            self.weights.insert(cached, made.clone());
        }
        Ok(made)
    }

    fn dequantized(
        &mut self,
        r: &mut Rebuild<'_>,
        w: Written,
        old: ValueId,
    ) -> Result<ValueId, Reason> {
        let y = push(r, D(w.axis), &[Some(w.codes), Some(w.scales), w.zeros])?;
        r.name(y, old, "dequantized");
        Ok(y)
    }

    /// The float bias with the shift added to it.
    pub(super) fn bias(
        &mut self,
        r: &mut Rebuild<'_>,
        layer: &Layer,
        choice: &Choice,
    ) -> Result<Option<ValueId>, Reason> {
        Ok(match &choice.shift {
            None => layer.bias.map(|v| r.value(v)),
            Some(_) => {
                let bias = whole_bias(r, layer, choice)?;
                Some(r.constant(Tensor::vector(&bias), layer.result, "bias"))
            }
        })
    }

    /// Q and D around a product or a convolution.
    fn fixed(&mut self, r: &mut Rebuild<'_>, layer: &Layer, choice: &Choice) -> Result<(), Reason> {
        let Form::Static { weight, input, .. } = &choice.form else { return Ok(()) };
        let x = self.data(r, layer, choice)?;
        let product = layer.role == Role::Product;
        let x = self.pair(r, (x, product), layer.data, input)?;
        let swap = product && layer.channels == Some(0);
        let has_bias = layer.bias.is_some() || choice.shift.is_some();
        let bias = if has_bias { whole_bias(r, layer, choice)? } else { Vec::new() };
        // A bias must fit into 32 bits in units of both scales, with room for the sums.
        let alpha = alpha(r, layer);
        let unit = input.scale * alpha.abs().max(f32::MIN_POSITIVE);
        let least: Vec<f32> = bias.iter().map(|b| b.abs() / unit / (1 << 29) as f32).collect();
        let large = least.iter().any(|l| *l > 0.0).then_some(least);
        let needed = large.filter(|least| self.too_small(r, (layer, choice), *weight, least));
        let folded = needed.map(|least| match weight.per_channel && layer.channels.is_some() {
            true if least.len() > 1 => least,
            _ => vec![least.iter().copied().fold(0.0, f32::max)],
        });
        let (w, codes) = self.codes(r, (layer, choice), *weight, swap, folded.as_deref())?;
        let wd = self.dequantized(r, w, layer.weight)?;
        let integer_bias = has_bias && input.scheme.bits == 8 && alpha == 1.0;
        let bias = match (has_bias, integer_bias) {
            (false, _) => None,
            (true, false) => Some(r.constant(Tensor::vector(&bias), layer.result, "bias")),
            (true, true) => Some(self.integer_bias(r, layer, &bias, input.scale, &codes)?),
        };
        let mut op = r.old.node(layer.site.node).op.clone();
        if let Op::MatMul(op) = &mut op {
            op.trans_b = false;
        }
        let y = push(r, op, &[Some(x), Some(wd), bias])?;
        self.finish(r, layer, y)
    }

    /// Whether the bias would not fit with the scales that the weight has by itself.
    fn too_small(
        &self,
        r: &Rebuild<'_>,
        (layer, choice): (&Layer, &Choice),
        how: WeightScheme,
        least: &[f32],
    ) -> bool {
        let Ok(t) = weight(r, layer, choice) else { return false };
        let codes = weights::quantize(&t, layer.channels, how, None);
        codes.is_ok_and(|codes| {
            let n = codes.scales.len().max(least.len());
            let at = |x: &[f32], i: usize| x[if x.len() == 1 { 0 } else { i }];
            (0..n).any(|i| at(&codes.scales, i) < at(least, i))
                || codes.codes.as_bytes().is_empty()
                || zero_channels(&codes)
        })
    }

    fn integer_bias(
        &mut self,
        r: &mut Rebuild<'_>,
        layer: &Layer,
        bias: &[f32],
        input: f32,
        codes: &Codes,
    ) -> Result<ValueId, Reason> {
        let at = |i: usize| input * codes.scales[if codes.scales.len() == 1 { 0 } else { i }];
        let one = codes.scales.len() == 1;
        let sums: Vec<i32> =
            bias.iter().enumerate().map(|(i, b)| (b / at(i)).round_ties_even() as i32).collect();
        let scales: Vec<f32> = (0..if one { 1 } else { bias.len() }).map(at).collect();
        let scale = if one { Tensor::scalar(scales[0]) } else { Tensor::vector(&scales) };
        let sums = r.constant(Tensor::vector(&sums), layer.result, "bias_quantized");
        let scale = r.constant(scale, layer.result, "bias_scale");
        r.step(D(Some(0)), &[sums, scale], layer.result, "bias")
    }

    /// The node's name and output go to what was written for it.
    fn finish(&mut self, r: &mut Rebuild<'_>, layer: &Layer, y: ValueId) -> Result<(), Reason> {
        let node = r.old.node(layer.site.node);
        if let Some(id) = r.new.producer(y) {
            r.new.node_mut(id).name = node.name.clone();
        }
        r.bind(node.outputs[0], y);
        Ok(())
    }

    fn stored(
        &mut self,
        r: &mut Rebuild<'_>,
        layer: &Layer,
        choice: &Choice,
        how: WeightScheme,
    ) -> Result<(), Reason> {
        let (w, _) = self.codes(r, (layer, choice), how, false, None)?;
        let mut wd = self.dequantized(r, w, layer.weight)?;
        if layer.swapped {
            let perm = [1, 0].into_iter().collect();
            wd = r.step(Transpose { perm: Some(perm) }, &[wd], layer.weight, "swapped")?;
        }
        let node: &Node = r.old.node(layer.site.node);
        let mut inputs: Vec<Option<ValueId>> =
            node.inputs.iter().map(|v| v.map(|v| r.value(v))).collect();
        inputs[1] = Some(wd);
        let y = push(r, node.op.clone(), &inputs)?;
        self.finish(r, layer, y)
    }

    fn table(
        &mut self,
        r: &mut Rebuild<'_>,
        layer: &Layer,
        choice: &Choice,
        how: WeightScheme,
    ) -> Result<(), Reason> {
        let (w, codes) = self.codes(r, (layer, choice), how, false, None)?;
        let Op::Gather(gather) = r.old.node(layer.site.node).op.clone() else {
            return Err(no("it is no Gather"));
        };
        let indices = r.value(layer.data);
        let picked = r.step(gather, &[w.codes, indices], layer.result, "codes")?;
        let y = match codes.axis {
            Some(_) if w.zeros.is_none() => {
                let rows = Tensor::from_slice(&[codes.scales.len(), 1], &codes.scales);
                let rows = r.constant(rows, layer.weight, "row_scales");
                let scales =
                    r.step(Gather { axis: Axis(0) }, &[rows, indices], layer.result, "scales")?;
                let cast = Cast { to: DType::F32, saturate: true, round_mode: Default::default() };
                let floats = r.step(cast, &[picked], layer.result, "floats")?;
                push(r, Binary(BinaryFn::Mul), &[Some(floats), Some(scales)])?
            }
            Some(_) => return Err(no("its rows have zero points")),
            None => {
                // ONNX Runtime moves this node, and takes a missing zero point for one of uint8.
                let zero = match (w.zeros, codes.codes.dtype()) {
                    (Some(zero), _) => zero,
                    (None, DType::U8) => r.constant(Tensor::scalar(0u8), layer.weight, "zero"),
                    (None, _) => r.constant(Tensor::scalar(0i8), layer.weight, "zero"),
                };
                push(r, D(Some(1)), &[Some(picked), Some(w.scales), Some(zero)])?
            }
        };
        self.finish(r, layer, y)
    }

    fn blocks(
        &mut self,
        r: &mut Rebuild<'_>,
        layer: &Layer,
        choice: &Choice,
        how: BlockScheme,
    ) -> Result<(), Reason> {
        let blocks = match &choice.blocks {
            Some(blocks) => blocks.clone(),
            None => {
                let t =
                    r.old.tensor(layer.weight).ok_or_else(|| no("its weight is no constant"))?;
                Blocks::nearest(t, layer.channels == Some(0), how)?
            }
        };
        let x = self.data(r, layer, choice)?;
        let mut y = match how.packed {
            true => {
                let codes = r.constant(blocks.packed()?, layer.weight, "blocks");
                let scales = scales(r, blocks.scale_rows()?, layer)?;
                let zeros = blocks.packed_zeros()?.map(|t| r.constant(t, layer.weight, "zeros"));
                let op = MatMulNBits {
                    n: blocks.n,
                    k: blocks.k,
                    bits: how.bits as usize,
                    block_size: how.size,
                };
                push(r, op, &[Some(x), Some(codes), Some(scales), zeros])?
            }
            false => {
                let codes = r.constant(blocks.columns()?, layer.weight, "blocks");
                let scales = scales(r, blocks.scale_columns()?, layer)?;
                let zeros = blocks.zero_columns()?.map(|t| r.constant(t, layer.weight, "zeros"));
                let d = DequantizeLinear { axis: Axis(0), block_size: how.size, output: None };
                let w = push(r, d, &[Some(codes), Some(scales), zeros])?;
                r.name(w, layer.weight, "dequantized");
                push(r, MatMul::PLAIN, &[Some(x), Some(w)])?
            }
        };
        r.name(y, layer.result, "product");
        let alpha = alpha(r, layer);
        if alpha != 1.0 {
            let alpha = r.constant(Tensor::scalar(alpha), layer.result, "alpha");
            y = r.step(Binary(BinaryFn::Mul), &[y, alpha], layer.result, "scaled")?;
        }
        if let Some(bias) = self.bias(r, layer, choice)? {
            y = r.step(Binary(BinaryFn::Add), &[y, bias], layer.result, "biased")?;
        }
        self.finish(r, layer, y)
    }
}

/// Scales of blocks, cast where they are stored in half.
fn scales(r: &mut Rebuild<'_>, t: Tensor, layer: &Layer) -> Result<ValueId, Reason> {
    let half = t.dtype() == DType::F16;
    let scales = r.constant(t, layer.weight, if half { "half_scales" } else { "scales" });
    let cast = Cast { to: DType::F32, saturate: true, round_mode: Default::default() };
    if half { r.step(cast, &[scales], layer.weight, "scales") } else { Ok(scales) }
}

fn no(text: &'static str) -> Reason {
    Reason::new(rinfer::Kind::Unsupported, text)
}

/// A layer's weight; its rows multiplied where outliers of activations go into it.
fn weight<'a>(r: &Rebuild<'a>, layer: &Layer, choice: &Choice) -> Result<Cow<'a, Tensor>, Reason> {
    let t = r.old.tensor(layer.weight).ok_or_else(|| no("its weight is no constant"))?;
    match &choice.smooth {
        None => Ok(Cow::Borrowed(t)),
        Some(by) => crate::smooth::scaled(t, layer.channels == Some(0), by).map(Cow::Owned),
    }
}

/// Whether a channel holds nothing but zeros: its scale is of no use to a bias.
fn zero_channels(codes: &Codes) -> bool {
    codes.scales.contains(&1.0)
}

/// The factor of a product.
pub(super) fn alpha(r: &Rebuild<'_>, layer: &Layer) -> f32 {
    match &r.old.node(layer.site.node).op {
        Op::MatMul(op) => op.alpha,
        _ => 1.0,
    }
}

/// A number for each channel: the bias, where there is one, and the shift.
fn whole_bias(r: &Rebuild<'_>, layer: &Layer, choice: &Choice) -> Result<Vec<f32>, Reason> {
    let n = match layer.role {
        Role::Product => layer.k_n().1,
        _ => layer.shape[0],
    };
    let mut bias = vec![0f32; n];
    if let Some(t) = layer.bias.and_then(|v| r.old.tensor(v)) {
        let x = t.as_slice::<f32>();
        if x.len() != 1 && x.len() != n {
            return Err(no("its bias is no row"));
        }
        bias.iter_mut().enumerate().for_each(|(i, b)| *b = x[if x.len() == 1 { 0 } else { i }]);
    }
    if let Some(shift) = &choice.shift {
        bias.iter_mut().zip(shift).for_each(|(b, s)| *b += s);
    }
    Ok(bias)
}
