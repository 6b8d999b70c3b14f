//! MatMul with what is fused into it, and the operators between numbers and scaled integers.

use super::elementwise::epilogue;
use super::node::{NodeOut, float, int};
use crate::ops::{DequantizeLinear, MatMul, QuantizeLinear};
use crate::{DType, Reason, invalid};

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
