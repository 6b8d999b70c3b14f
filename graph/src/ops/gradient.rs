//! Gradient: the derivatives of one value by others, as nodes of the same graph.
//!
//! dxᵢ = ∂(Σ y) / ∂xᵢ  for each xᵢ of `xs`, by reverse accumulation over the nodes between
//!
//! Differentiable are Identity, Cast between floats, Transpose, Reshape, Flatten, Squeeze,
//! Unsqueeze, Expand, Where, ReduceSum, ReduceMean, MatMul, Gemm, Softmax, Add, Sub, Mul, Div, Pow,
//! and the functions of [`unary`]; any other operator on the way is refused by name.
use std::collections::HashMap;

use super::{
    Binary, BinaryFn, Cast, Expand, MatMul, Op, Reduce, ReduceKind, Reshape, Shape, Size, Softmax,
    SoftmaxKind, Transpose, Unary, UnaryFn, Unsqueeze, Where,
};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Node, NodeId, Reason, ValueId, invalid, unsupported};

/// What a node's inputs get of its output's gradient, by their number.
type Parts = Vec<(usize, ValueId)>;

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let mut names = cx.strings("xs")?.ok_or_else(|| invalid!("attribute xs is missing"))?;
    let wanted = names.len();
    names.extend(cx.strings("zs")?.unwrap_or_default());
    let y = cx.string("y")?.ok_or_else(|| invalid!("attribute y is missing"))?.to_string();
    let given = cx.all_inputs()?;
    if given.len() != names.len() || cx.outputs() > wanted {
        return Err(invalid!(
            "{} inputs and {} outputs for {wanted} of {} variables",
            given.len(),
            cx.outputs(),
            names.len()
        ));
    }
    let variables = names.iter().map(|name| named(cx, name)).collect::<Result<Vec<_>, _>>()?;
    let y = named(cx, &y)?;
    let y = replay(cx, &variables, &given, y)?;
    let grads = backwards(cx, &given[..wanted], y)?;
    let mut outputs = Outputs::new();
    for x in &given[..cx.outputs()] {
        outputs.push(match grads.get(x) {
            Some(&grad) => grad,
            None => filled_like(cx, *x, 0.0)?,
        });
    }
    Ok(outputs)
}

fn named(cx: &mut NodeCx<'_>, name: &str) -> Result<ValueId, Reason> {
    cx.named(name).ok_or_else(|| invalid!("nothing before this node makes {name:?}"))
}

/// y with the variables replaced by what is given for them: the nodes between, once more.
fn replay(
    cx: &mut NodeCx<'_>,
    variables: &[ValueId],
    given: &[ValueId],
    y: ValueId,
) -> Result<ValueId, Reason> {
    let pairs = variables.iter().copied().zip(given.iter().copied());
    let mut now: HashMap<ValueId, ValueId> = pairs.filter(|(a, b)| a != b).collect();
    if now.is_empty() {
        return Ok(y);
    }
    for id in cx.graph().order().to_vec() {
        let Node { op, inputs, outputs, .. } = cx.graph().node(id).clone();
        let changed = inputs.iter().flatten().any(|v| now.contains_key(v));
        if !changed || outputs.iter().any(|v| variables.contains(v)) {
            continue;
        }
        let inputs: Vec<_> = inputs.iter().map(|v| v.map(|v| *now.get(&v).unwrap_or(&v))).collect();
        let made = cx.push_n(op, &inputs, outputs.len())?;
        now.extend(outputs.into_iter().zip(made));
    }
    Ok(*now.get(&y).unwrap_or(&y))
}

/// The derivatives of y by the values between it and `xs`.
fn backwards(
    cx: &mut NodeCx<'_>,
    xs: &[ValueId],
    y: ValueId,
) -> Result<HashMap<ValueId, ValueId>, Reason> {
    let order: Vec<NodeId> = cx.graph().order().to_vec();
    let mut depends = vec![false; cx.graph().value_count()];
    xs.iter().for_each(|x| depends[x.index()] = true);
    for &id in &order {
        let node = cx.graph().node(id);
        if node.inputs.iter().flatten().any(|v| depends[v.index()]) {
            node.outputs.iter().for_each(|v| depends[v.index()] = true);
        }
    }
    if !depends[y.index()] {
        return Err(invalid!("y depends on none of xs in this graph"));
    }
    let mut grads = HashMap::from([(y, filled_like(cx, y, 1.0)?)]);
    for id in order.into_iter().rev() {
        let node = cx.graph().node(id).clone();
        let reached = |v: &&ValueId| grads.contains_key(v) && !xs.contains(v);
        let Some(made) = node.outputs.iter().find(reached) else { continue };
        if !node.inputs.iter().flatten().any(|v| depends[v.index()]) {
            continue;
        }
        if node.outputs.len() > 1 {
            return Err(not_differentiable(&node));
        }
        let into: Vec<bool> =
            node.inputs.iter().map(|v| v.is_some_and(|v| depends[v.index()])).collect();
        for (i, part) in parts(cx, &node, grads[made], &into)? {
            let Some(x) = node.inputs[i].filter(|_| into[i]) else { continue };
            let sum = match grads.get(&x) {
                Some(&before) => cx.push1(Binary(BinaryFn::Add), &[before, part])?,
                None => part,
            };
            grads.insert(x, sum);
        }
    }
    Ok(grads)
}

fn not_differentiable(node: &Node) -> Reason {
    unsupported!("the gradient of {} (node {:?}) is not supported", node.op.name(), node.name)
}

/// What each input gets of the gradient `g` of the node's output; `into` says which are asked for.
fn parts(cx: &mut NodeCx<'_>, node: &Node, g: ValueId, into: &[bool]) -> Result<Parts, Reason> {
    let input = |i: usize| {
        node.inputs.get(i).copied().flatten().ok_or_else(|| invalid!("input {i} is missing"))
    };
    let (x, y) = (input(0)?, node.outputs[0]);
    let part = match &node.op {
        Op::Identity(_) => g,
        Op::Cast(_) => {
            let dtype = cx.dtype(x)?;
            if !dtype.is_float() {
                return Ok(Parts::new());
            }
            cx.push1(Cast::to(dtype), &[g])?
        }
        Op::Unary(Unary(f)) => unary(cx, *f, [x, y, g])?.ok_or_else(|| not_differentiable(node))?,
        Op::Binary(Binary(f)) => {
            let (a, b) = (x, input(1)?);
            return binary(cx, *f, [a, b, y, g], into)?.ok_or_else(|| not_differentiable(node));
        }
        Op::MatMul(op) => {
            return mat_mul(cx, node, op, g, into)?.ok_or_else(|| not_differentiable(node));
        }
        Op::Reduce(op) if matches!(op.kind, ReduceKind::Sum | ReduceKind::Mean) => {
            let axes = node.inputs.get(1).copied().flatten();
            reduce(cx, op, [x, y, g], axes)?
        }
        Op::Transpose(op) => {
            let rank = cx.fact(y).rank().ok_or_else(|| unknown("the rank"))?;
            let perm = op.resolve(rank)?;
            let mut back = vec![0; rank];
            perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
            cx.push1(Transpose::new(&back), &[g])?
        }
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => {
            reshaped_like(cx, g, x)?
        }
        Op::Expand(_) => folded_like(cx, g, x)?,
        Op::Softmax(Softmax { kind: SoftmaxKind::Softmax, axis }) => {
            let product = cx.push1(Binary(BinaryFn::Mul), &[g, y])?;
            let axes = cx.constant_ints(&[axis.0]);
            let sum = cx.push1(sum(), &[product, axes])?;
            let rest = cx.push1(Binary(BinaryFn::Sub), &[g, sum])?;
            cx.push1(Binary(BinaryFn::Mul), &[rest, y])?
        }
        Op::Where(_) => {
            let zero = cx.scalar_like(g, 0.0)?;
            let a = cx.push1(Where, &[x, g, zero])?;
            let b = cx.push1(Where, &[x, zero, g])?;
            return folded(cx, [input(1)?, input(2)?], [a, b], [into[1], into[2]])
                .map(|parts| parts.into_iter().map(|(i, v)| (i + 1, v)).collect());
        }
        _ => return Err(not_differentiable(node)),
    };
    Ok(vec![(0, part)])
}

/// f'(x) · g for y = f(x); `None` if the derivative is not known here.
fn unary(
    cx: &mut NodeCx<'_>,
    f: UnaryFn,
    [x, y, g]: [ValueId; 3],
) -> Result<Option<ValueId>, Reason> {
    use BinaryFn::{Add, Div, Greater, GreaterOrEqual, Mul, Sub};
    let mut two = |f: BinaryFn, a: ValueId, b: ValueId| cx.push1(Binary(f), &[a, b]);
    Ok(Some(match f {
        UnaryFn::Exp => two(Mul, g, y)?,
        UnaryFn::Log => two(Div, g, x)?,
        UnaryFn::Sqrt => {
            let twice = two(Add, y, y)?;
            two(Div, g, twice)?
        }
        // 1 - y²
        UnaryFn::Tanh => {
            let part = two(Mul, g, y)?;
            let part = two(Mul, part, y)?;
            two(Sub, g, part)?
        }
        // y - y²
        UnaryFn::Sigmoid => {
            let part = two(Mul, g, y)?;
            let square = two(Mul, part, y)?;
            two(Sub, part, square)?
        }
        // -y²
        UnaryFn::Reciprocal => {
            let part = two(Mul, g, y)?;
            let part = two(Mul, part, y)?;
            cx.push1(Unary(UnaryFn::Neg), &[part])?
        }
        UnaryFn::Neg => cx.push1(Unary(UnaryFn::Neg), &[g])?,
        UnaryFn::Abs | UnaryFn::Sin | UnaryFn::Softplus => {
            let slope = match f {
                UnaryFn::Abs => UnaryFn::Sign,
                UnaryFn::Sin => UnaryFn::Cos,
                _ => UnaryFn::Sigmoid,
            };
            let slope = cx.push1(Unary(slope), &[x])?;
            cx.push1(Binary(Mul), &[g, slope])?
        }
        UnaryFn::Cos => {
            let sine = cx.push1(Unary(UnaryFn::Sin), &[x])?;
            let part = cx.push1(Binary(Mul), &[g, sine])?;
            cx.push1(Unary(UnaryFn::Neg), &[part])?
        }
        // 2/√π · e^(-x²)
        UnaryFn::Erf => {
            let square = two(Mul, x, x)?;
            let power = cx.push1(Unary(UnaryFn::Neg), &[square])?;
            let bell = cx.push1(Unary(UnaryFn::Exp), &[power])?;
            let factor = cx.scalar_like(x, std::f32::consts::FRAC_2_SQRT_PI)?;
            let slope = cx.push1(Binary(Mul), &[bell, factor])?;
            cx.push1(Binary(Mul), &[g, slope])?
        }
        UnaryFn::Relu | UnaryFn::LeakyRelu { .. } => {
            let (alpha, above) = match f {
                UnaryFn::LeakyRelu { alpha } => (alpha, GreaterOrEqual),
                _ => (0.0, Greater),
            };
            let (zero, alpha) = (cx.scalar_like(x, 0.0)?, cx.scalar_like(x, alpha)?);
            let above = cx.push1(Binary(above), &[x, zero])?;
            let below = cx.push1(Binary(Mul), &[g, alpha])?;
            cx.push1(Where, &[above, g, below])?
        }
        _ => return Ok(None),
    }))
}

/// The parts of both operands of y = f(a, b); `None` if the derivative is not known here.
fn binary(
    cx: &mut NodeCx<'_>,
    f: BinaryFn,
    [a, b, y, g]: [ValueId; 4],
    into: &[bool],
) -> Result<Option<Parts>, Reason> {
    use BinaryFn::{Add, Div, Mul, Pow, Sub};
    let mut two = |f: BinaryFn, a: ValueId, b: ValueId| cx.push1(Binary(f), &[a, b]);
    let parts = match f {
        Add => [g, g],
        Sub => [g, cx.push1(Unary(UnaryFn::Neg), &[g])?],
        Mul => [two(Mul, g, b)?, two(Mul, g, a)?],
        Div => {
            let da = two(Div, g, b)?;
            let part = two(Mul, da, y)?;
            [da, cx.push1(Unary(UnaryFn::Neg), &[part])?]
        }
        // b · a^(b-1), and y · log a if it is asked for (a may be negative if not).
        Pow => {
            if cx.dtype(a)? != cx.dtype(b)? {
                return Ok(None);
            }
            let one = cx.scalar_like(b, 1.0)?;
            let less = cx.push1(Binary(Sub), &[b, one])?;
            let power = cx.push1(Binary(Pow), &[a, less])?;
            let slope = cx.push1(Binary(Mul), &[power, b])?;
            let da = cx.push1(Binary(Mul), &[g, slope])?;
            let db = if into[1] {
                let log = cx.push1(Unary(UnaryFn::Log), &[a])?;
                let slope = cx.push1(Binary(Mul), &[y, log])?;
                cx.push1(Binary(Mul), &[g, slope])?
            } else {
                g
            };
            [da, db]
        }
        _ => return Ok(None),
    };
    folded(cx, [a, b], parts, [into[0], into[1]]).map(Some)
}

/// The parts of a product's operands and bias; `None` if something follows the product.
fn mat_mul(
    cx: &mut NodeCx<'_>,
    node: &Node,
    op: &MatMul,
    g: ValueId,
    into: &[bool],
) -> Result<Option<Parts>, Reason> {
    let (Some(a), Some(b)) = (node.inputs[0], node.inputs[1]) else { return Ok(None) };
    let ranked = |v| cx.fact(v).rank().is_some_and(|rank| rank >= 2);
    if op.activation.is_some() || node.inputs.len() > 3 || !ranked(a) || !ranked(b) {
        return Ok(None);
    }
    let product = |trans_a, trans_b| MatMul { trans_a, trans_b, alpha: op.alpha, activation: None };
    let da = match op.trans_a {
        false => cx.push1(product(false, !op.trans_b), &[g, b])?,
        true => cx.push1(product(op.trans_b, true), &[b, g])?,
    };
    let db = match op.trans_b {
        false => cx.push1(product(!op.trans_a, false), &[a, g])?,
        true => cx.push1(product(true, op.trans_a), &[g, a])?,
    };
    let mut parts = folded(cx, [a, b], [da, db], [into[0], into[1]])?;
    if let Some(bias) = node.inputs.get(2).copied().flatten().filter(|_| into[2]) {
        parts.push((2, folded_like(cx, g, bias)?));
    }
    Ok(Some(parts))
}

/// The part of what was summed up, or averaged, over axes.
fn reduce(
    cx: &mut NodeCx<'_>,
    op: &Reduce,
    [x, y, mut g]: [ValueId; 3],
    axes: Option<ValueId>,
) -> Result<ValueId, Reason> {
    if op.kind == ReduceKind::Mean {
        let dtype = cx.dtype(x)?;
        let sizes = [x, y].map(|v| cx.push1(Size, &[v]));
        let [from, to] = sizes.map(|n| cx.push1(Cast::to(dtype), &[n?]));
        let n = cx.push1(Binary(BinaryFn::Div), &[from?, to?])?;
        g = cx.push1(Binary(BinaryFn::Div), &[g, n])?;
    }
    if !op.keepdims {
        let rank = cx.fact(x).rank().ok_or_else(|| unknown("the rank"))?;
        let axes = match axes {
            None => Some(Default::default()),
            Some(axes) => cx.fact(axes).ints(),
        };
        let axes = axes.ok_or_else(|| unknown("which axes are folded"))?;
        let folded = op.folded(&axes, rank)?;
        let folded: Vec<i64> = (0..rank).filter(|&i| folded[i]).map(|i| i as i64).collect();
        let axes = cx.constant_ints(&folded);
        g = cx.push1(Unsqueeze, &[g, axes])?;
    }
    let shape = cx.push1(Shape { start: 0, end: None }, &[x])?;
    cx.push1(Expand, &[g, shape])
}

fn sum() -> Reduce {
    Reduce { kind: ReduceKind::Sum, keepdims: true, noop_with_empty_axes: true }
}

fn unknown(what: &str) -> Reason {
    unsupported!("a gradient where {what} is not known")
}

/// The parts of two operands that broadcast, each in the shape of its operand.
fn folded(
    cx: &mut NodeCx<'_>,
    operands: [ValueId; 2],
    parts: [ValueId; 2],
    into: [bool; 2],
) -> Result<Parts, Reason> {
    let mut found = Parts::new();
    for i in (0..2).filter(|&i| into[i]) {
        found.push((i, folded_like(cx, parts[i], operands[i])?));
    }
    Ok(found)
}

/// `g` summed up over the axes along which `x` was broadcast.
fn folded_like(cx: &mut NodeCx<'_>, g: ValueId, x: ValueId) -> Result<ValueId, Reason> {
    let shapes = (cx.fact(g).shape(), cx.fact(x).shape());
    let (Some(from), Some(to)) = shapes else { return Err(unknown("a shape")) };
    let lead = from.len().checked_sub(to.len()).ok_or_else(|| unknown("a shape"))?;
    let mut axes: Vec<i64> = (0..lead as i64).collect();
    for (i, (from, to)) in from[lead..].iter().zip(to).enumerate() {
        if to.is(1) && !from.is(1) {
            axes.push((lead + i) as i64);
        } else if !from.same(to) {
            return Err(unknown("along which axes a value was broadcast"));
        }
    }
    if axes.is_empty() {
        return Ok(g);
    }
    let axes = cx.constant_ints(&axes);
    let g = cx.push1(sum(), &[g, axes])?;
    if lead > 0 { reshaped_like(cx, g, x) } else { Ok(g) }
}

fn reshaped_like(cx: &mut NodeCx<'_>, g: ValueId, x: ValueId) -> Result<ValueId, Reason> {
    let shape = cx.push1(Shape { start: 0, end: None }, &[x])?;
    cx.push1(Reshape { allowzero: true }, &[g, shape])
}

/// A tensor of one number, in the shape of `v`.
fn filled_like(cx: &mut NodeCx<'_>, v: ValueId, x: f32) -> Result<ValueId, Reason> {
    let dtype = cx.dtype(v)?;
    if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        return Err(invalid!("a gradient of {dtype}"));
    }
    let number = cx.scalar_like(v, x)?;
    let shape = cx.push1(Shape { start: 0, end: None }, &[v])?;
    cx.push1(Expand, &[number, shape])
}
