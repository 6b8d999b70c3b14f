//! Quantized graphs run in integers: what is dequantized, computed and quantized again becomes one
//! operator on codes. D and Q stand for DequantizeLinear and QuantizeLinear of 8 bits, the scale
//! one for all (of weights: or one for each column).
//!
//! MatMul(D(a), D(b)) → QuantizedMatMul; so does float(MatMulInteger(a, b)) · scale.
//! Q(x / s) with s = max(max|x|, least) / levels along the last axis → QuantizeRows(x).
//! QuantizedMatMul(…) · column moves into it too, a factor for each row.
//! QuantizedMatMul(…) + row, f(QuantizedMatMul(…)) and Q(QuantizedMatMul(…)) move into it.
//! Conv(D(x), D(w), bias) → QLinearConv, which Q moves into. Q(Relu(x)) → Q(x) where 0 is the
//! least code.
//! Q(D(a) + D(b)) of one shape, with or without a Relu → QuantizedAdd.
//! Q(move(D(x))) with one scale and zero point → move(x); Q(D(x)) likewise → x.
//!
//! Gather(D(x)) → D(Gather(x)).
//!
//! Sums become exact. A result differs from the float graph's by its rounding: codes by one step
//! at most, where the float was within rounding of the middle between two.

mod convolutions;
mod rows;

use super::fuse_epilogue::activation_of;
use super::pattern::{binary, is_row, same_shape};
use super::{GraphView, Rewrite};
use crate::ops::{
    Activation, Axis, Binary, BinaryFn, Cast, Clip, DequantizeLinear, Gather, MatMul,
    MatMulInteger, Pool, PoolKind, QuantizeLinear, QuantizedAdd, QuantizedMatMul, Unary, UnaryFn,
};
use crate::{DType, Node, NodeId, Op, Tensor, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    match g.op(id) {
        Op::MatMul(op) => product(g, id, op),
        Op::Conv(op) => convolutions::floats(g, id, op),
        Op::Gather(op) => gathered(g, id, op),
        Op::Binary(Binary(BinaryFn::Mul)) => {
            let (a, b) = (g.input(id, 0)?, g.input(id, 1)?);
            scaled_sums(g, id, a, b)
                .or_else(|| scaled_sums(g, id, b, a))
                .or_else(|| rows::scaled(g, a, b))
                .or_else(|| rows::scaled(g, b, a))
        }
        Op::Binary(Binary(BinaryFn::Add)) => {
            let (a, b) = (g.input(id, 0)?, g.input(id, 1)?);
            biased(g, a, b).or_else(|| biased(g, b, a))
        }
        Op::QuantizeLinear(op) => {
            let q = Codes::made(g, id, op)?;
            rows::codes(g, &q)
                .or_else(|| same_codes(g, &q))
                .or_else(|| moved(g, id, &q))
                .or_else(|| convolutions::codes(g, &q))
                .or_else(|| sum(g, &q))
                .or_else(|| without_relu(g, id, &q))
                .or_else(|| quantized_product(g, &q))
        }
        _ => activated(g, id),
    }
}

/// Codes of 8 bits: what they stand for, their scale and zero point.
#[derive(Clone, Copy)]
struct Codes {
    /// The codes where they are read, the float where they are made.
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    dtype: DType,
    /// The axis along which scales differ, if there is more than one.
    axis: Option<Axis>,
}

impl Codes {
    /// What `v` is dequantized from.
    fn read(g: &GraphView<'_>, v: ValueId) -> Option<Codes> {
        let Node { op: Op::DequantizeLinear(op), inputs, .. } = g.made_by(v)? else { return None };
        let DequantizeLinear { axis, block_size: 0, .. } = op else { return None };
        let (x, scale) = (inputs[0]?, inputs[1]?);
        let (dtype, zero) = (g.fact(x).dtype().ok()?, inputs.get(2).copied().flatten());
        let float = g.fact(v).dtype() == Ok(DType::F32) && g.fact(scale).dtype() == Ok(DType::F32);
        let one = g.fact(scale).len()? == 1;
        let bytes = matches!(dtype, DType::U8 | DType::I8 | DType::I32);
        let axis = (!one).then_some(*axis);
        (float && bytes).then_some(Codes { x, scale, zero, dtype, axis })
    }

    /// What the node quantizes, with one scale.
    fn made(g: &GraphView<'_>, id: NodeId, op: &QuantizeLinear) -> Option<Codes> {
        let (x, scale) = (g.input(id, 0)?, g.input(id, 1)?);
        let dtype = g.fact(g.output(id, 0)?).dtype().ok()?;
        let float = g.fact(x).dtype() == Ok(DType::F32) && g.fact(scale).dtype() == Ok(DType::F32);
        let one = g.fact(scale).len()? == 1 && op.block_size == 0;
        let plain = matches!(op.precision, None | Some(DType::F32));
        let fits = float && one && plain && matches!(dtype, DType::U8 | DType::I8);
        fits.then_some(Codes { x, scale, zero: g.input(id, 2), dtype, axis: None })
    }

    fn byte(&self) -> bool {
        matches!(self.dtype, DType::U8 | DType::I8)
    }

    /// Whether both have one scale and zero point, known and the same.
    fn same(&self, g: &GraphView<'_>, other: &Codes) -> bool {
        let scales = [self, other].map(|c| (c.axis.is_none(), g.scalar(c.scale)));
        let zeros = [self, other].map(|c| c.zero_number(g));
        let known = scales[0].1.is_some() && zeros[0].is_some();
        self.dtype == other.dtype
            && scales[0].0
            && known
            && scales[0] == scales[1]
            && zeros[0] == zeros[1]
    }

    fn zero_number(&self, g: &GraphView<'_>) -> Option<i64> {
        let Some(zero) = self.zero else { return Some(0) };
        match g.constant(zero)?.to_ints()?[..] {
            [zero] => Some(zero),
            _ => None,
        }
    }
}

/// A zero of an 8-bit type.
fn zero(dtype: DType) -> Tensor {
    if dtype == DType::I8 { Tensor::scalar(0i8) } else { Tensor::scalar(0u8) }
}

/// MatMul(D(a), D(b), row)
fn product(g: &GraphView<'_>, id: NodeId, op: &MatMul) -> Option<Rewrite> {
    let (a, b) = (Codes::read(g, g.input(id, 0)?)?, Codes::read(g, g.input(id, 1)?)?);
    let shape = g.fact(b.x).shape()?;
    let rank = shape.len();
    let last = rank.checked_sub(2)?;
    // Scales may differ by the columns of the product, nothing else.
    let (terms, column) = if op.trans_b { (last + 1, last) } else { (last, last + 1) };
    let columns = b.axis.is_none_or(|axis| axis.resolve(rank) == Ok(column));
    let fits = a.byte() && b.byte() && a.axis.is_none() && columns && few(shape[terms].value());
    if !fits || op.trans_a || g.input(id, 3).is_some() || g.fact(a.x).rank()? < 2 {
        return None;
    }
    let mut p = g.patch();
    let mut scale = p.push1(Binary(BinaryFn::Mul), &[a.scale, b.scale])?;
    if op.alpha != 1.0 {
        let alpha = p.constant(Tensor::scalar(op.alpha));
        scale = p.push1(Binary(BinaryFn::Mul), &[scale, alpha])?;
    }
    let fused = QuantizedMatMul { trans_b: op.trans_b, activation: op.activation };
    let inputs = [Some(a.x), Some(b.x), a.zero, b.zero, Some(scale), g.input(id, 2)];
    let y = p.push(fused, given(&inputs), 1)?[0];
    p.finish(&[y])
}

/// Whether so many products of codes stay within 32 bits, whatever the codes.
fn few(terms: Option<i64>) -> bool {
    terms.is_some_and(|n| n <= i64::from(i32::MAX) / (255 * 255))
}

/// The inputs without those at the end that are omitted.
fn given(inputs: &[Option<ValueId>]) -> &[Option<ValueId>] {
    &inputs[..inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1)]
}

/// float(MatMulInteger(a, b)) · scale, the scale one or one for each column.
fn scaled_sums(g: &GraphView<'_>, id: NodeId, sums: ValueId, scale: ValueId) -> Option<Rewrite> {
    let Node { op: Op::Cast(Cast { to: DType::F32, .. }), inputs, .. } = g.made_by(sums)? else {
        return None;
    };
    let integers = inputs[0]?;
    let Node { op: Op::MatMulInteger(MatMulInteger), inputs, .. } = g.made_by(integers)? else {
        return None;
    };
    let at = |i: usize| inputs.get(i).copied().flatten();
    let y = g.output(id, 0)?;
    let one = |v: Option<ValueId>| v.is_none_or(|v| g.fact(v).len() == Some(1));
    let n = g.fact(sums).shape()?.last()?.clone();
    let lined = g.fact(scale).len() == Some(1) || is_row(g, scale, &n);
    let zeros = at(3).is_none_or(|v| g.fact(v).rank().is_some_and(|rank| rank <= 1));
    let same = g.fact(y).rank() == g.fact(sums).rank();
    let alone = g.single_use(sums) && g.single_use(integers);
    if !(one(at(2)) && lined && zeros && same && alone) {
        return None;
    }
    let mut p = g.patch();
    let fused = QuantizedMatMul { trans_b: false, activation: None };
    let y = p.push(fused, &[at(0), at(1), at(2), at(3), Some(scale)], 1)?[0];
    p.finish(&[y])
}

/// The quantized product that makes `v`, if nobody else reads it and it makes floats.
fn floats<'a>(g: &GraphView<'a>, v: ValueId) -> Option<(&'a QuantizedMatMul, &'a Node)> {
    let node = g.made_by(v)?;
    let Op::QuantizedMatMul(op) = &node.op else { return None };
    (g.single_use(v) && node.inputs.get(6).copied().flatten().is_none()).then_some((op, node))
}

/// product + row
fn biased(g: &GraphView<'_>, v: ValueId, row: ValueId) -> Option<Rewrite> {
    let (op, node) = floats(g, v)?;
    let n = g.fact(v).shape()?.last()?;
    let fits = is_row(g, row, n)
        && g.fact(row).rank()? <= g.fact(v).rank()?
        && g.fact(row).dtype() == Ok(DType::F32);
    let free = node.inputs.get(5).copied().flatten().is_none() && op.activation.is_none();
    if !fits || !free {
        return None;
    }
    let mut p = g.patch();
    let mut inputs = [None; 9];
    inputs[..node.inputs.len()].copy_from_slice(&node.inputs);
    inputs[5] = Some(row);
    let y = p.push(op.clone(), given(&inputs), 1)?[0];
    p.finish(&[y])
}

/// A function of the product.
fn activated(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let activation = activation_of(g, id)?;
    let (op, node) = floats(g, g.input(id, 0)?)?;
    if op.activation.is_some() {
        return None;
    }
    let mut p = g.patch();
    let fused = QuantizedMatMul { activation: Some(activation), ..op.clone() };
    let y = p.push(fused, &node.inputs, 1)?[0];
    p.finish(&[y])
}

/// Q(product)
fn quantized_product(g: &GraphView<'_>, q: &Codes) -> Option<Rewrite> {
    let (op, node) = floats(g, q.x)?;
    if !matches!(op.activation, None | Some(Activation::Relu)) {
        return None;
    }
    let mut p = g.patch();
    let zero = q.zero.unwrap_or_else(|| p.constant(zero(q.dtype)));
    let mut inputs = [None; 9];
    inputs[..node.inputs.len()].copy_from_slice(&node.inputs);
    (inputs[6], inputs[7]) = (Some(q.scale), Some(zero));
    let y = p.push(op.clone(), given(&inputs), 1)?[0];
    p.finish(&[y])
}

/// Q(D(x)) → x
fn same_codes(g: &GraphView<'_>, q: &Codes) -> Option<Rewrite> {
    let x = Codes::read(g, q.x)?;
    if x.same(g, q) { g.alias(x.x) } else { None }
}

/// Q(move(D(x))) → move(x)
fn moved(g: &GraphView<'_>, id: NodeId, q: &Codes) -> Option<Rewrite> {
    let node = g.made_by(q.x)?;
    let moves = match &node.op {
        Op::Pool(Pool { kind: PoolKind::Max { .. }, .. }) => node.outputs.len() == 1,
        Op::Reshape(_) | Op::Transpose(_) | Op::Flatten(_) | Op::Squeeze(_) => true,
        Op::Unsqueeze(_) | Op::Slice(_) | Op::Expand(_) | Op::Gather(_) => true,
        _ => false,
    };
    let x = Codes::read(g, node.inputs[0]?)?;
    if !moves || !g.single_use(q.x) || !x.same(g, q) {
        return None;
    }
    let mut p = g.patch();
    let mut inputs = node.inputs.clone();
    inputs[0] = Some(x.x);
    let y = p.push(node.op.clone(), &inputs, 1)?[0];
    let same = p.fact(y).shape() == g.fact(g.output(id, 0)?).shape();
    if same { p.finish(&[y]) } else { None }
}

/// Gather(D(x)) → D(Gather(x)): fewer elements are dequantized.
fn gathered(g: &GraphView<'_>, id: NodeId, op: &Gather) -> Option<Rewrite> {
    let (v, indices) = (g.input(id, 0)?, g.input(id, 1)?);
    let x = Codes::read(g, v)?;
    let table = g.constant(x.x).is_some() || g.single_use(v);
    if !x.byte() || x.axis.is_some() || !table {
        return None;
    }
    let mut p = g.patch();
    let picked = p.push1(op.clone(), &[x.x, indices])?;
    let dequantize = DequantizeLinear { axis: Axis(1), block_size: 0, output: None };
    let inputs = [Some(picked), Some(x.scale), x.zero];
    let y = p.push(dequantize, given(&inputs), 1)?[0];
    p.finish(&[y])
}

/// Whether the activation changes no code: what it cuts off, saturation does.
fn idle(g: &GraphView<'_>, q: &Codes, activation: Activation) -> bool {
    let Some(zero) = q.zero_number(g) else { return false };
    let [least, most] = if q.dtype == DType::I8 { [-128, 127] } else { [0, 255] };
    let low = match activation {
        Activation::Relu => return zero == least,
        Activation::Clip { lo, hi } => {
            let Some(scale) = g.scalar(q.scale) else { return false };
            // The greatest code stands for less than the bound.
            let inside = (most - zero) as f32 * scale <= hi && scale > 0.0;
            if inside { lo } else { return false }
        }
        _ => return false,
    };
    low == 0.0 && zero == least
}

/// Q(Relu(x)) → Q(x)
fn without_relu(g: &GraphView<'_>, id: NodeId, q: &Codes) -> Option<Rewrite> {
    let made = g.producer(q.x)?;
    let relu = matches!(g.op(made), Op::Unary(Unary(UnaryFn::Relu)) | Op::Clip(Clip { .. }));
    if !relu || !g.single_use(q.x) || !idle(g, q, activation_of(g, made)?) {
        return None;
    }
    let mut p = g.patch();
    let mut inputs = g.node(id).inputs.clone();
    inputs[0] = g.input(made, 0);
    let y = p.push(g.op(id).clone(), &inputs, 1)?[0];
    p.finish(&[y])
}

/// Q(D(a) + D(b)), with or without a Relu
fn sum(g: &GraphView<'_>, q: &Codes) -> Option<Rewrite> {
    let made = g.producer(q.x)?;
    let relu = matches!(g.op(made), Op::Unary(Unary(UnaryFn::Relu))) && g.single_use(q.x);
    let y = if relu { g.input(made, 0)? } else { q.x };
    let [a, b] = binary(g, y, BinaryFn::Add)?;
    let shapes = same_shape(g, a, b) && same_shape(g, a, y);
    let (a, b) = (Codes::read(g, a)?, Codes::read(g, b)?);
    let fits = [&a, &b].into_iter().all(|c| c.byte() && c.axis.is_none());
    if !fits || !shapes || !g.single_use(y) {
        return None;
    }
    let activation = (relu && !idle(g, q, Activation::Relu)).then_some(Activation::Relu);
    let mut p = g.patch();
    let zero = q.zero.unwrap_or_else(|| p.constant(zero(q.dtype)));
    let sides = [Some(a.x), Some(a.scale), a.zero, Some(b.x), Some(b.scale), b.zero];
    let inputs = [&sides[..], &[Some(q.scale), Some(zero)]].concat();
    let y = p.push(QuantizedAdd { activation }, &inputs, 1)?[0];
    p.finish(&[y])
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::rewritten;

    fn ops(text: &str) -> Vec<&'static str> {
        let g = rewritten(&["fuse_quantized", "drop_dead"], text);
        let names = g.nodes().map(|(_, node)| node.op.name());
        names.filter(|name| *name != "Binary").collect()
    }

    #[test]
    fn a_product_of_codes_takes_what_follows() {
        let text = "a: uint8[n, 4]\nb: int8[4, 3]\ns: float[1]\nz: uint8[1]\nr: float[3]\n\
            fa = DequantizeLinear(a, s, z)\nfb = DequantizeLinear(b, s)\nc = MatMul(fa, fb)\n\
            d = Add(r, c)\ne = Relu(d)\ny = QuantizeLinear(e, s, z)\n→ y";
        assert_eq!(ops(text), ["QuantizedMatMul"]);
    }

    #[test]
    fn a_dynamic_product_is_scaled_inside() {
        let text = "x: float[n, 4]\nb: int8[4, 3]\nbs: float[3]\n\
            a, s, z = DynamicQuantizeLinear(x)\nc = MatMulInteger(a, b, z)\nf = Cast<to = 1>(c)\n\
            m = Mul(s, bs)\ny = Mul(f, m)\n→ y";
        assert_eq!(ops(text), ["DynamicQuantizeLinear", "QuantizedMatMul"]);
    }

    #[test]
    fn a_convolution_takes_a_relu_that_saturation_does() {
        let text = "x: uint8[n, 2, 4, 4]\nw: int8[3, 2, 1, 1]\nb: int32[3]\ns: float = 0.5\n\
            t: float[3] = 0.25\nz: uint8 = 0\nu: float[3] = 0.125\nfx = DequantizeLinear(x, s, z)\n\
            fw = DequantizeLinear<axis = 0>(w, t)\nfb = DequantizeLinear<axis = 0>(b, u)\n\
            c = Conv(fx, fw, fb)\nr = Relu(c)\ny = QuantizeLinear(r, s, z)\n→ y";
        assert_eq!(ops(text), ["QLinearConv"]);
    }

    #[test]
    fn a_convolution_of_codes_may_make_floats_and_have_a_float_bias() {
        let text = |tail: &str| {
            format!(
                "x: uint8[n, 2, 4, 4]\nw: int8[3, 2, 1, 1]\nb: float[3] = 0.5\ns: float = 0.5\n\
                 t: float[3] = 0.25\nz: uint8 = 3\nfx = DequantizeLinear(x, s, z)\n\
                 fw = DequantizeLinear<axis = 0>(w, t)\nc = Conv(fx, fw, b)\n{tail}"
            )
        };
        assert_eq!(ops(&text("r = Relu(c)\n→ r")), ["QLinearConv", "Unary"]);
        let both = text("y = QuantizeLinear(c, s, z)\n→ c, y");
        assert_eq!(ops(&both), ["QLinearConv", "QuantizeLinear"]);
        // What does not fit into 32 bits beside the sums stays float.
        let tiny = text("→ c").replace("= 0.25", "= 0.0000000001");
        assert!(ops(&tiny).contains(&"Conv"));
    }

    #[test]
    fn a_sum_of_codes_takes_its_relu() {
        let text = |add: &str| {
            format!(
                "a: uint8[n, 4]\nb: int8[n, 4]\no: int8[4]\ns: float = 0.5\nz: uint8 = 3\n\
                 fa = DequantizeLinear(a, s, z)\nfb = DequantizeLinear({add}, s)\n\
                 c = Add(fa, fb)\nr = Relu(c)\ny = QuantizeLinear(r, s, z)\n→ y"
            )
        };
        assert_eq!(ops(&text("b")), ["QuantizedAdd"]);
        // Of two shapes they stay floats.
        assert!(ops(&text("o")).contains(&"QuantizeLinear"));
    }

    #[test]
    fn scales_that_differ_by_rows_stay() {
        let text = "a: uint8[4, 4]\nb: int8[4, 3]\ns: float[4]\n\
            fa = DequantizeLinear<axis = 0>(a, s)\nfb = DequantizeLinear<axis = 0>(b, s)\n\
            y = MatMul(fa, fb)\n→ y";
        assert_eq!(ops(text), ["DequantizeLinear", "DequantizeLinear", "MatMul"]);
    }
}
