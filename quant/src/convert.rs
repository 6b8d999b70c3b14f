//! One form of a quantized model into another: floats, operators on integers.

use rinfer::graph::ops::{Blocks as Lie, DequantizeLinear, MatMul, MatMulNBits};
use rinfer::graph::passes::{self, Pass};
use rinfer::graph::{Node, NodeId, Op, ValueId};
use rinfer::{DType, Model, Reason, Tensor};

use crate::config::Format;
use crate::error::{Error, Result};
use crate::rebuild::{Rebuild, Writer, graphs, rebuild};

/// A quantized model as floats: codes of constants become numbers, what quantizes activations and
/// takes that back disappears, blocks become matrices.
///
/// # Errors
/// There are integer operators in it whose floats are not known.
pub fn to_float(model: &Model) -> Result<Model> {
    let graph = rebuild(model.graph(), &mut Floater)?;
    let mut made = model.with_graph(graph);
    made.run_passes(passes::PREPARE, &["fold_conv_constants"])?;
    let left = graphs(made.graph()).into_values().find_map(|g| {
        let integer = |op: &Op| {
            matches!(
                op,
                Op::MatMulInteger(_)
                    | Op::ConvInteger(_)
                    | Op::QLinearConv(_)
                    | Op::QLinearMatMul(_)
                    | Op::QuantizedMatMul(_)
                    | Op::MatMulBnb4(_)
            )
        };
        g.nodes().find(|(_, n)| integer(&n.op)).map(|(id, _)| crate::layers::node_name(g, id))
    });
    match left {
        Some(name) => Err(Error::Config(format!(
            "{name} computes in integers without float operators around it: only QDQ and \
             MatMulNBits become floats"
        ))),
        None => Ok(made),
    }
}

struct Floater;

impl Writer for Floater {
    fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<bool, Reason> {
        let node = r.old.node(id).clone();
        match &node.op {
            Op::DequantizeLinear(op) => dequantized(r, &node, op),
            Op::MatMulNBits(op) => unpacked(r, &node, op),
            _ => Ok(false),
        }
    }
}

/// Input `i` of a node, if it is a constant.
fn constant(r: &Rebuild<'_>, node: &Node, i: usize) -> Option<Tensor> {
    let v: Option<ValueId> = node.inputs.get(i).copied().flatten();
    v.and_then(|v| r.old.tensor(v)).cloned()
}

/// D(Q(x)) → x, D(constant) → its numbers.
fn dequantized(
    r: &mut Rebuild<'_>,
    node: &Node,
    op: &DequantizeLinear,
) -> std::result::Result<bool, Reason> {
    let constant = |i: usize| constant(r, node, i);
    if let (Some(codes), Some(scales)) = (constant(0), constant(1))
        && scales.dtype() == DType::F32
        && (node.inputs.get(2).is_none_or(Option::is_none) || constant(2).is_some())
        && let Some(x) = numbers(op, &codes, &scales, constant(2).as_ref())?
    {
        let from = node.inputs[0].unwrap_or(node.outputs[0]);
        let x = r.constant(x, from, "float");
        r.redirect(node.outputs[0], x);
        return Ok(true);
    }
    let made = node.inputs[0].and_then(|v| r.old.made_by(v));
    let Some(Node { op: Op::QuantizeLinear(_), inputs, .. }) = made else { return Ok(false) };
    let Some(x) = inputs[0] else { return Ok(false) };
    if r.old.fact(x).ty != r.old.fact(node.outputs[0]).ty {
        return Ok(false);
    }
    let new = r.value(x);
    r.redirect(node.outputs[0], new);
    Ok(true)
}

/// What codes stand for; `None` if they are of a type that is not read here.
fn numbers(
    op: &DequantizeLinear,
    codes: &Tensor,
    scales: &Tensor,
    zeros: Option<&Tensor>,
) -> std::result::Result<Option<Tensor>, Reason> {
    let (Some(ints), zeros) = (integers(codes), zeros.map(integers)) else { return Ok(None) };
    let Some(zeros) = zeros.unwrap_or_else(|| Some(vec![0])) else { return Ok(None) };
    let lie = Lie::new(codes.shape(), scales.shape(), op.axis, op.block_size)?;
    let mut made = Tensor::try_zeros(DType::F32, codes.shape())?;
    let scales = scales.as_slice::<f32>();
    for (i, (y, code)) in made.as_mut_slice::<f32>().iter_mut().zip(ints).enumerate() {
        let at = lie.at(i);
        let zero = zeros[if zeros.len() == 1 { 0 } else { at }];
        *y = (code - zero) as f32 * scales[if scales.len() == 1 { 0 } else { at }];
    }
    Ok(Some(made))
}

/// The integers of a tensor, those of four bits too.
fn integers(t: &Tensor) -> Option<Vec<i64>> {
    let half = |i: usize| i64::from((t.as_bytes()[i / 2] >> (i % 2 * 4)) & 15);
    match t.dtype() {
        DType::U4 => Some((0..t.len()).map(half).collect()),
        DType::I4 => Some((0..t.len()).map(|i| (half(i) ^ 8) - 8).collect()),
        _ => t.to_ints().map(|ints| ints.to_vec()),
    }
}

/// The float matrix that blocks stand for.
fn unpacked(
    r: &mut Rebuild<'_>,
    node: &Node,
    op: &MatMulNBits,
) -> std::result::Result<bool, Reason> {
    let constant = |i: usize| constant(r, node, i);
    let (Some(codes), Some(scales)) = (constant(1), constant(2)) else { return Ok(false) };
    let other = node.inputs.get(4).copied().flatten().is_some();
    let zeros = constant(3);
    let packed = zeros.as_ref().is_none_or(|z| z.dtype() == DType::U8);
    if other || !packed || scales.dtype() != DType::F32 {
        return Ok(false);
    }
    let blocks = crate::blocks::Blocks::read(op, &codes, &scales, zeros.as_ref())?;
    let numbers = blocks.numbers();
    let mut w = Tensor::try_zeros(DType::F32, &[op.k, op.n])?;
    let out = w.as_mut_slice::<f32>();
    for (i, x) in numbers.into_iter().enumerate() {
        out[i % op.k * op.n + i / op.k] = x;
    }
    let weight = node.inputs[1].unwrap_or(node.outputs[0]);
    let w = r.constant(w, weight, "float");
    let x = node.inputs[0].map(|v| r.value(v)).unwrap_or(w);
    let mut inputs = vec![Some(x), Some(w)];
    inputs.extend(node.inputs.get(5).copied().flatten().map(|v| Some(r.value(v))));
    let y = r.new.push(MatMul::PLAIN, &inputs, 1)?[0];
    r.bind(node.outputs[0], y);
    Ok(true)
}

/// A model of QuantizeLinear and DequantizeLinear as operators on integers: QLinearConv,
/// MatMulInteger. What has no such operator stays as it is.
///
/// # Errors
/// A pass broke the graph: a defect.
pub fn to_operators(model: &Model) -> Result<Model> {
    let rows: Vec<Pass> = passes::PIPELINE
        .iter()
        .filter(|p| matches!(p.name, "fuse_quantized" | "drop_dead"))
        .copied()
        .collect();
    let mut made = model.clone();
    made.run_passes(&rows, &[])?;
    Ok(made)
}

/// Blocks of MatMulNBits as DequantizeLinear with blocks, and MatMul.
///
/// # Errors
/// A matrix is of a form that DequantizeLinear does not have.
pub fn to_qdq(model: &Model) -> Result<Model> {
    Ok(model.with_graph(rebuild(model.graph(), &mut Blocked)?))
}

struct Blocked;

impl Writer for Blocked {
    fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<bool, Reason> {
        let node = r.old.node(id).clone();
        let Op::MatMulNBits(op) = &node.op else { return Ok(false) };
        let constant = |i: usize| {
            let v: Option<ValueId> = node.inputs.get(i).copied().flatten();
            v.and_then(|v| r.old.tensor(v)).cloned()
        };
        let (Some(codes), Some(scales)) = (constant(1), constant(2)) else { return Ok(false) };
        let zeros = constant(3);
        let packed = zeros.as_ref().is_none_or(|z| z.dtype() == DType::U8);
        if node.inputs.get(4).copied().flatten().is_some() || !packed || op.bits == 2 {
            return Ok(false);
        }
        let blocks = crate::blocks::Blocks::read(op, &codes, &scales, zeros.as_ref())?;
        let weight = node.inputs[1].unwrap_or(node.outputs[0]);
        let codes = r.constant(blocks.columns()?, weight, "columns");
        let scales = r.constant(blocks.scale_columns()?, weight, "scales");
        let zeros = blocks.zero_columns()?.map(|t| r.constant(t, weight, "zeros"));
        let axis = rinfer::graph::ops::Axis(0);
        let d = DequantizeLinear { axis, block_size: op.block_size, output: None };
        let inputs = [Some(codes), Some(scales), zeros];
        let w = r.new.push(d, &inputs[..2 + usize::from(zeros.is_some())], 1)?[0];
        let x = node.inputs[0].map(|v| r.value(v)).unwrap_or(w);
        let mut inputs = vec![Some(x), Some(w)];
        inputs.extend(node.inputs.get(5).copied().flatten().map(|v| Some(r.value(v))));
        let y = r.new.push(MatMul::PLAIN, &inputs, 1)?[0];
        r.bind(node.outputs[0], y);
        Ok(true)
    }
}

/// A quantized model in another form; `None` is floats.
///
/// # Errors
/// It has no such form.
pub fn convert(model: &Model, format: Option<Format>) -> Result<Model> {
    match format {
        None => to_float(model),
        Some(Format::QOperator) => to_operators(model),
        Some(Format::Qdq) => to_qdq(model),
        Some(Format::MatMulNBits) => Err(Error::Config(
            "MatMulNBits is made from floats: convert to float, then quantize --mode weight-only"
                .into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{cosine, digits, pictures, run, running};
    use crate::{Config, Job, Mode};

    fn quantized(mode: Mode) -> Model {
        let mut job = Job::new(digits(), Config { mode, ..Config::default() }).unwrap();
        if mode == Mode::Static {
            job.calibrate(&pictures(8), &running()).unwrap();
        }
        let choices: Vec<_> = job.decide().into_iter().map(|d| d.choice).collect();
        let bytes = job.write(&choices).unwrap().to_onnx().unwrap();
        Model::from_bytes(bytes).unwrap()
    }

    fn again(model: Model) -> Model {
        Model::from_bytes(model.to_onnx().unwrap()).unwrap()
    }

    #[test]
    fn floats_come_back() {
        let sample = &pictures(5)[4];
        let blocks = to_qdq(&quantized(Mode::WeightOnly)).unwrap();
        for mode in [Mode::Static, Mode::WeightOnly, Mode::Half] {
            // The third is not half precision but blocks as QDQ.
            let model = if mode == Mode::Half { blocks.clone() } else { quantized(mode) };
            let float = again(to_float(&model).unwrap());
            let ops: Vec<_> = float.graph().nodes().map(|(_, n)| n.op.name()).collect();
            let coded = |op: &&str| op.contains("uant") || op.contains("Bits");
            assert!(!ops.iter().any(coded), "{ops:?}");
            let found = cosine(&run(&digits(), sample), &run(&float, sample));
            assert!(found > 0.99, "{mode:?}: {found}");
        }
        assert!(to_float(&quantized(Mode::Dynamic)).is_err());
    }

    #[test]
    fn operators_on_integers_compute_the_same() {
        let sample = &pictures(5)[4];
        let qdq = quantized(Mode::Static);
        let operators = again(to_operators(&qdq).unwrap());
        let ops: Vec<_> = operators.graph().nodes().map(|(_, n)| n.op.name()).collect();
        assert!(ops.contains(&"QLinearConv") && ops.contains(&"MatMulInteger"), "{ops:?}");
        assert_eq!(run(&qdq, sample), run(&operators, sample));
    }

    #[test]
    fn blocks_become_qdq() {
        let sample = &pictures(5)[4];
        let blocks = quantized(Mode::WeightOnly);
        let qdq = again(to_qdq(&blocks).unwrap());
        let ops: Vec<_> = qdq.graph().nodes().map(|(_, n)| n.op.name()).collect();
        assert!(!ops.contains(&"MatMulNBits"), "{ops:?}");
        assert!(cosine(&run(&blocks, sample), &run(&qdq, sample)) > 0.999999);
    }
}
