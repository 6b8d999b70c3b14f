//! MatMul with what is fused into it, and the operators between numbers and scaled integers.

use super::elementwise::epilogue;
use super::node::{NodeOut, float, int};
use crate::ops::{
    Activation, DequantizeLinear, ExpertMatMul, FourBits, MatMul, MatMulBnb4, MatMulNBits,
    QuantizeLinear, QuantizeRows, QuantizedAdd, QuantizedMatMul,
};
use crate::{DType, Reason, Tensor, invalid, unsupported};

/// Swaps the last two axes of an operand.
fn swapped(out: &mut NodeOut<'_, '_>, i: usize, name: String) -> Result<String, Reason> {
    let rank = out.fact(i)?.rank().ok_or_else(|| invalid!("the rank of input {i} is not known"))?;
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 2, rank - 1);
    out.step("Transpose", &[&name], vec![super::node::ints("perm", &perm)])
}

/// y = activation(alpha · op(a)·op(b) + bias + residual)
pub(super) fn matmul(op: &MatMul, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let matrices = (0..2).all(|i| out.fact(i).is_ok_and(|f| f.rank() == Some(2)));
    let plain = !op.trans_a && !op.trans_b && op.alpha == 1.0;
    // Gemm is the shortest where it exists; its bias is its third input.
    if matrices && (!plain || out.has(2)) {
        return epilogue(op.activation, out, &[3], |out, y| {
            let inputs = vec![out.input(0)?, out.input(1)?, out.input(2)?];
            let y = y.unwrap_or_else(|| out.graph.shared.name("product"));
            let attrs = vec![
                float("alpha", op.alpha),
                int("transA", op.trans_a.into()),
                int("transB", op.trans_b.into()),
            ];
            out.write("Gemm", inputs, vec![y.clone()], attrs)?;
            Ok(y)
        });
    }
    let alpha = op.alpha;
    epilogue(op.activation, out, &[2, 3], |out, y| {
        let (mut a, mut b) = (out.input(0)?, out.input(1)?);
        if op.trans_a {
            a = swapped(out, 0, a)?;
        }
        if op.trans_b {
            b = swapped(out, 1, b)?;
        }
        if alpha == 1.0 {
            let y = y.unwrap_or_else(|| out.graph.shared.name("product"));
            out.write("MatMul", vec![a, b], vec![y.clone()], vec![])?;
            return Ok(y);
        }
        let product = out.step("MatMul", &[&a, &b], vec![])?;
        let factor = out.scalar(out.made(0).dtype()?, alpha)?;
        let y = y.unwrap_or_else(|| out.graph.shared.name("product"));
        out.write("Mul", vec![product, factor], vec![y.clone()], vec![])?;
        Ok(y)
    })
}

fn dtype(name: &str, dtype: DType) -> rinfer_onnx_proto::AttributeProto {
    int(name, dtype.to_onnx() as i64)
}

pub(super) fn quantize(op: &QuantizeLinear, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![int("axis", op.axis.0)];
    if op.block_size > 0 {
        attrs.push(int("block_size", op.block_size as i64));
    }
    attrs.extend(op.output.map(|d| dtype("output_dtype", d)));
    if !op.saturate {
        attrs.push(int("saturate", 0));
    }
    if let Some(precision) = op.precision {
        out.need(23);
        attrs.push(dtype("precision", precision));
    }
    out.plain("QuantizeLinear", attrs)
}

pub(super) fn dequantize(op: &DequantizeLinear, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![int("axis", op.axis.0)];
    if op.block_size > 0 {
        attrs.push(int("block_size", op.block_size as i64));
    }
    if let Some(output) = op.output {
        out.need(23);
        attrs.push(dtype("output_dtype", output));
    }
    out.plain("DequantizeLinear", attrs)
}

/// Each row's matrix, gathered, times the row.
pub(super) fn experts(op: &ExpertMatMul, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    if let Some(codes) = &op.codes {
        return Err(unsupported!("a product of experts in codes of {} bits", codes.bits));
    }
    let (x, w, expert) = (out.input(0)?, out.input(1)?, out.input(2)?);
    let to = dtype("to", DType::F32);
    let w = out.step("Cast", &[&w], vec![to])?;
    let w = out.step("Gather", &[&w, &expert], vec![])?;
    let last = out.constant(Tensor::vector(&[2i64]))?;
    let x = out.step("Unsqueeze", &[&x, &last], vec![])?;
    let y = out.step("MatMul", &[&w, &x], vec![])?;
    out.last("Squeeze", vec![y, last], vec![])
}

pub(super) fn n_bits(op: &MatMulNBits, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let attrs = vec![
        int("N", op.n as i64),
        int("K", op.k as i64),
        int("bits", op.bits as i64),
        int("block_size", op.block_size as i64),
    ];
    out.contrib("MatMulNBits", attrs)
}

pub(super) fn bnb4(op: &MatMulBnb4, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let attrs = vec![
        int("N", op.n as i64),
        int("K", op.k as i64),
        int("block_size", op.block_size as i64),
        int("quant_type", (op.codes == FourBits::Nf4).into()),
        int("transB", op.trans_b.into()),
    ];
    out.contrib("MatMulBnb4", attrs)
}

/// Floats of both, their sum, and codes of it.
pub(super) fn added(op: &QuantizedAdd, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut sides = Vec::with_capacity(2);
    for at in [0, 3] {
        let (codes, scale, zero) = (out.input(at)?, out.input(at + 1)?, out.input(at + 2)?);
        sides.push(out.step("DequantizeLinear", &[&codes, &scale, &zero], vec![])?);
    }
    let mut y = out.step("Add", &[&sides[0], &sides[1]], vec![])?;
    match op.activation {
        None => {}
        Some(Activation::Relu) => y = out.step("Relu", &[&y], vec![])?,
        Some(f) => return Err(unsupported!("{f:?} between a sum and its codes")),
    }
    let inputs = vec![y, out.input(6)?, out.input(7)?];
    out.last("QuantizeLinear", inputs, vec![])
}

/// The largest of each row, divided; the row by that, rounded.
pub(super) fn rows(op: &QuantizeRows, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let x = out.input(0)?;
    let size = out.step("Abs", &[&x], vec![])?;
    out.need(18);
    let axes = out.constant(Tensor::vector(&[-1i64]))?;
    let most = out.step("ReduceMax", &[&size, &axes], vec![int("keepdims", 1)])?;
    let least = out.scalar(DType::F32, op.least)?;
    let most = out.step("Max", &[&most, &least], vec![])?;
    let levels = out.scalar(DType::F32, op.levels)?;
    let scale = match out.node.outputs.len() {
        1 => out.step("Div", &[&most, &levels], vec![])?,
        _ => {
            let scale = out.output(1)?;
            out.write("Div", vec![most, levels], vec![scale.clone()], vec![])?;
            scale
        }
    };
    let units = out.step("Div", &[&x, &scale], vec![])?;
    let one = out.scalar(DType::F32, 1.0)?;
    let zero = out.constant(Tensor::scalar(op.zero))?;
    let codes = out.output(0)?;
    out.write("QuantizeLinear", vec![units, one, zero], vec![codes], vec![])
}

/// Sums of MatMulInteger, cast, scaled, and so on.
pub(super) fn quantized(op: &QuantizedMatMul, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let (a, mut b) = (out.input(0)?, out.input(1)?);
    if op.trans_b {
        b = swapped(out, 1, b)?;
    }
    let zeros = [out.input(2)?, out.input(3)?];
    let sums = out.step("MatMulInteger", &[&a, &b, &zeros[0], &zeros[1]], vec![])?;
    let sums = out.step("Cast", &[&sums], vec![dtype("to", DType::F32)])?;
    let scale = out.input(4)?;
    let rest = [out.has(5), op.activation.is_some(), out.has(6)];
    let mut scaled = vec![sums, scale];
    if out.has(8) {
        let by_column = out.step("Mul", &[&scaled[0], &scaled[1]], vec![])?;
        scaled = vec![by_column, out.input(8)?];
    }
    if rest == [false; 3] {
        return out.last("Mul", scaled, vec![]);
    }
    let mut y = out.step("Mul", &[&scaled[0], &scaled[1]], vec![])?;
    if out.has(5) {
        let bias = out.input(5)?;
        if rest[1..] == [false; 2] {
            return out.last("Add", vec![y, bias], vec![]);
        }
        y = out.step("Add", &[&y, &bias], vec![])?;
    }
    if !out.has(6) {
        return super::elementwise::activation(op.activation, out, &y);
    }
    match op.activation {
        None => {}
        Some(Activation::Relu) => y = out.step("Relu", &[&y], vec![])?,
        Some(f) => return Err(unsupported!("{f:?} between a product and its codes")),
    }
    let inputs = vec![y, out.input(6)?, out.input(7)?];
    out.last("QuantizeLinear", inputs, vec![])
}
