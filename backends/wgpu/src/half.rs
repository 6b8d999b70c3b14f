//! Which values may be kept in 16-bit floats: those that provably stay far from the largest.
//!
//! A bound is carried along the nodes: what a Softmax or a norm makes is bounded whatever it reads,
//! a product with a constant is bounded by that constant's rows. What has no bound (a model's input,
//! a long sum of such, squares) stays in 32 bits, and so do sums while they are made.

use std::borrow::Cow;

use half::f16;
use rinfer_graph::ops::{
    Activation, BinaryFn, LayerNormalization, Operand, PoolKind, ReduceKind, RmsNormalization,
    SoftmaxKind, Step, UnaryFn,
};
use rinfer_graph::{DType, Op, Reason, Tensor};

use crate::nodes::{Entry, Local};
use crate::plan::Download;
use crate::site::Site;

/// The largest bound that is kept in 16 bits; twice this is the largest of these floats.
const MOST: f32 = 32768.0;

/// What the analysis must know of a program's values.
pub(crate) struct Values<'a> {
    pub count: usize,
    pub entries: &'a [Entry],
    /// Inputs and outputs of the program.
    pub ends: Vec<Local>,
    pub constant: &'a dyn Fn(Local) -> Option<Tensor>,
    /// The dtype of a tensor.
    pub dtype: &'a dyn Fn(Local) -> Option<DType>,
    /// The sizes of a tensor of known rank, those that are known.
    pub sizes: &'a dyn Fn(Local) -> Option<Vec<Option<usize>>>,
}

/// Whether each value is kept in 16 bits.
pub(crate) fn halves(values: &Values<'_>) -> Vec<bool> {
    let floats = |l: Local| (values.dtype)(l) == Some(DType::F32);
    let mut bounds: Vec<Option<f32>> = vec![None; values.count];
    let mut half = vec![false; values.count];
    for (l, bound) in bounds.iter_mut().enumerate() {
        if let Some(t) = (values.constant)(l).filter(|t| t.dtype() == DType::F32) {
            *bound = Some(largest(t.as_slice()));
        }
    }
    for entry in values.entries {
        let made = bound(entry, &bounds, values);
        if let (Some(&y), Some(made)) = (entry.outputs.first(), made) {
            bounds[y] = Some(made).filter(|b| b.is_finite());
        }
    }
    let mut used = vec![false; values.count];
    for l in values.entries.iter().flat_map(|e| e.inputs.iter().flatten().chain(&e.outputs)) {
        used[*l] = true;
    }
    for l in 0..values.count {
        half[l] = used[l] && floats(l) && bounds[l].is_some_and(|b| b <= MOST);
    }
    values.ends.iter().for_each(|&l| half[l] = false);
    for entry in values.entries {
        refuse(entry, &mut half);
    }
    // What only moves has one form before and after.
    loop {
        let before = half.clone();
        for entry in values.entries.iter().filter(|e| moves(&e.node.op)) {
            let mut all: Vec<Local> = entry.outputs.to_vec();
            let data = if matches!(entry.node.op, Op::Concat(_)) { entry.inputs.len() } else { 1 };
            all.extend(entry.inputs.iter().take(data).flatten());
            if all.iter().any(|&l| !half[l]) {
                all.iter().for_each(|&l| half[l] = false);
            }
        }
        if half == before {
            return half;
        }
    }
}

/// Values whose node does not read or write 16 bits stay as they are.
fn refuse(entry: &Entry, half: &mut [bool]) {
    let reads: &[usize] = match &entry.node.op {
        _ if entry.site != Site::Gpu => &[],
        Op::MatMul(_) | Op::Conv(_) | Op::ConvTranspose(_) | Op::Attention(_) => &[0, 1, 2],
        Op::LayerNormalization(_) | Op::RmsNormalization(_) | Op::Softmax(_) => &[0],
        Op::Unary(_) => &[0],
        Op::Binary(f) if f.0 != BinaryFn::Pow => &[0, 1],
        Op::Pointwise(_) => &[0, 1, 2, 3, 4, 5, 6, 7],
        Op::Concat(_) => return,
        op if moves(op) => &[0],
        _ => &[],
    };
    for (i, l) in entry.inputs.iter().enumerate() {
        if let Some(l) = l.filter(|_| !reads.contains(&i)) {
            half[l] = false;
        }
    }
    if reads.is_empty() {
        entry.outputs.iter().for_each(|&l| half[l] = false);
    }
    entry.outputs.iter().skip(1).filter(|_| !moves(&entry.node.op)).for_each(|&l| half[l] = false);
}

/// Whether an operator only moves elements of input 0, or of all.
fn moves(op: &Op) -> bool {
    use Op::*;
    matches!(
        op,
        Concat(_)
            | Expand(_)
            | Flatten(_)
            | Gather(_)
            | Identity(_)
            | Reshape(_)
            | Slice(_)
            | Split(_)
            | Squeeze(_)
            | Transpose(_)
            | Unsqueeze(_)
    )
}

/// The largest magnitude; infinite if one is no number.
fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, x| if x.is_nan() { f32::INFINITY } else { m.max(x.abs()) })
}

/// The largest magnitude that output 0 can have.
fn bound(entry: &Entry, bounds: &[Option<f32>], values: &Values<'_>) -> Option<f32> {
    let given = |i: usize| entry.inputs.get(i).copied().flatten();
    let of = |i: usize| bounds[given(i)?];
    // Bounds of inputs that may be omitted.
    let also = |i: usize| given(i).map_or(Some(0.0), |l| bounds[l]);
    let known = |i: usize| (values.constant)(given(i)?).filter(|t| t.dtype() == DType::F32);
    Some(match &entry.node.op {
        Op::Softmax(op) if op.kind == SoftmaxKind::Softmax => 1.0,
        Op::LayerNormalization(LayerNormalization { axis, .. })
        | Op::RmsNormalization(RmsNormalization { axis, .. }) => {
            // No element of n that are normalized is beyond √n.
            let sizes = (values.sizes)(given(0)?)?;
            let axis = axis.resolve(sizes.len()).ok()?;
            let n: usize = sizes[axis..].iter().copied().product::<Option<usize>>()?;
            (n as f32).sqrt() * of(1)? + also(2)?
        }
        Op::MatMul(op) => {
            let b = known(1)?;
            let column = columns(&b, op.trans_b)?;
            let sum = of(0)? * column * op.alpha.abs() + also(2)? + also(3)?;
            activated(op.activation, sum)
        }
        Op::Conv(op) => {
            let w = known(1)?;
            let row = w.len().checked_div(*w.shape().first()?)?.max(1);
            let sums = w.as_slice::<f32>().chunks(row).map(|w| w.iter().map(|w| w.abs()).sum());
            let sum = of(0)? * sums.fold(0.0, f32::max) + also(2)? + also(3)?;
            activated(op.activation, sum)
        }
        // A mean of values.
        Op::Attention(_) => of(2)?.max(also(5)?),
        Op::Unary(f) => unary(f.0, of(0)?)?,
        Op::Binary(f) => binary(f.0, of(0)?, of(1)?)?,
        Op::Pointwise(op) => {
            let (result, _) = *op.outputs().first()?;
            program(op.steps(), result, &of)?
        }
        Op::Clip(_) => of(0)?.max(also(1)?).max(also(2)?),
        Op::Pool(op) if matches!(op.kind, PoolKind::Max { .. }) => of(0)?,
        Op::Reduce(op) if matches!(op.kind, ReduceKind::Max | ReduceKind::Min) => of(0)?,
        Op::Reduce(op) if op.kind == ReduceKind::Mean => of(0)?,
        Op::Concat(_) => {
            let all = (0..entry.inputs.len()).map(of).collect::<Option<Vec<f32>>>()?;
            all.into_iter().fold(0.0, f32::max)
        }
        op if moves(op) => of(0)?,
        _ => return None,
    })
}

/// The largest sum of magnitudes along a column of b.
fn columns(b: &Tensor, trans_b: bool) -> Option<f32> {
    let &[.., k, n] = b.shape() else { return None };
    let x = b.as_slice::<f32>();
    if trans_b {
        let sums = x.chunks(n.max(1)).map(|row| row.iter().map(|x| x.abs()).sum());
        return Some(sums.fold(0.0, f32::max));
    }
    let mut most = 0f32;
    for matrix in x.chunks((k * n).max(1)) {
        let mut sums = vec![0f32; n];
        for row in matrix.chunks(n.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.abs());
        }
        most = sums.into_iter().fold(most, f32::max);
    }
    Some(most)
}

fn activated(f: Option<Activation>, x: f32) -> f32 {
    match f {
        Some(Activation::Clip { lo, hi }) => {
            let end = |x: f32| if x.is_finite() { x.abs() } else { 0.0 };
            x.max(end(lo)).max(end(hi))
        }
        Some(Activation::LeakyRelu { alpha }) => x * alpha.abs().max(1.0),
        Some(_) => x.max(1.0),
        None => x,
    }
}

fn unary(f: UnaryFn, x: f32) -> Option<f32> {
    use UnaryFn::*;
    Some(match f {
        Sigmoid | Tanh | Erf | Softsign | Sin | Cos | HardSigmoid { .. } | Sign => 1.0,
        Abs | Neg | Relu | Gelu | GeluTanh | HardSwish | Mish | ThresholdedRelu { .. } => x,
        Swish { alpha } if alpha > 0.0 => x.max(1.0 / alpha),
        Ceil | Floor | Round | Softplus => x + 1.0,
        Sqrt => x.max(1.0),
        LeakyRelu { alpha } => x * alpha.abs().max(1.0),
        Elu { alpha } | Celu { alpha } => x.max(alpha.abs()),
        _ => return None,
    })
}

fn binary(f: BinaryFn, a: f32, b: f32) -> Option<f32> {
    use BinaryFn::*;
    Some(match f {
        Add | Sub => a + b,
        Mul => a * b,
        Max | Min => a.max(b),
        _ => return None,
    })
}

fn program(steps: &[Step], x: Operand, of: &dyn Fn(usize) -> Option<f32>) -> Option<f32> {
    let mut made: Vec<Option<f32>> = Vec::with_capacity(steps.len());
    for step in steps {
        let at = |x: Operand| match x {
            Operand::Input(i) => of(i),
            Operand::Step(i) => made[i],
            Operand::Const(c) => Some(c.abs()),
        };
        let next = match *step {
            Step::Unary(f, x) => at(x).and_then(|x| unary(f, x)),
            Step::Binary(f, a, b) => at(a).zip(at(b)).and_then(|(a, b)| binary(f, a, b)),
            Step::Where(_, a, b) => at(a).zip(at(b)).map(|(a, b)| a.max(b)),
            Step::Clip(x, lo, hi) => at(x).map(|x| activated(Some(Activation::Clip { lo, hi }), x)),
        };
        made.push(next);
    }
    match x {
        Operand::Input(i) => of(i),
        Operand::Step(i) => made[i],
        Operand::Const(c) => Some(c.abs()),
    }
}

/// A tensor's bytes as they are kept on the GPU.
pub(crate) fn kept(t: &Tensor, half: bool) -> Cow<'_, [u8]> {
    match half && t.dtype() == DType::F32 {
        true => {
            let x: Vec<f16> = t.as_slice::<f32>().iter().map(|&x| f16::from_f32(x)).collect();
            Cow::Owned(bytemuck::cast_slice(&x).to_vec())
        }
        false => Cow::Borrowed(t.as_bytes()),
    }
}

/// A tensor from the bytes that a GPU wrote.
pub(crate) fn tensor(download: &Download, bytes: &[u8]) -> Result<Tensor, Reason> {
    let mut t = Tensor::try_zeros(download.dtype, &download.sizes)?;
    if download.half {
        let pairs = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]));
        t.as_mut_slice::<f32>().iter_mut().zip(pairs).for_each(|(y, x)| *y = x.to_f32());
        return Ok(t);
    }
    let n = t.byte_len();
    t.as_mut_bytes().copy_from_slice(&bytes[..n]);
    Ok(t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_bounded_by_the_largest_column() {
        let b = Tensor::from_slice(&[2, 3], &[1f32, -2.0, 3.0, 4.0, 5.0, -6.0]);
        assert_eq!(columns(&b, false), Some(9.0));
        assert_eq!(columns(&b, true), Some(15.0));
    }

    #[test]
    fn what_grows_without_end_has_no_bound() {
        assert_eq!(unary(UnaryFn::Exp, 1.0), None);
        assert_eq!(binary(BinaryFn::Div, 1.0, 1.0), None);
        assert_eq!(unary(UnaryFn::Tanh, 1e30), Some(1.0));
    }
}
