//! One file per operator, named as in `rinfer_graph::ops`: how it runs on this backend.

mod custom;
mod identity;
mod matmul;
mod ml;
mod ml_forest;
mod ml_tree;
mod optional;
mod quantize;
mod sequence;

use rinfer_graph::{Op, Reason, unsupported};

use crate::kernel::{Cx, Kernel};

/// Makes a node ready to run; `Err` says why this backend cannot.
#[rustfmt::skip]
pub fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    match &cx.node.op {
        Op::Custom(op) => custom::compile(op),
        Op::DequantizeLinear(op) => quantize::compile_dequantize(op, cx),
        Op::DynamicQuantizeLinear(_) => quantize::compile_dynamic(cx),
        Op::Flatten(_) => Ok(Kernel::view()),
        Op::Identity(_) => Ok(Kernel::view()),
        Op::MatMul(op) => matmul::compile(op, cx),
        Op::Optional(op) => optional::compile(op),
        Op::QuantizeLinear(op) => quantize::compile(op, cx),
        Op::Reshape(_) => Ok(Kernel::view()),
        Op::Sequence(op) => sequence::compile(op, cx),
        Op::Shape(_) => identity::known_output(cx),
        Op::Size(_) => identity::known_output(cx),
        Op::Squeeze(_) => Ok(Kernel::view()),
        Op::TreeEnsemble(op) => ml_tree::compile(op, cx),
        Op::Unsqueeze(_) => Ok(Kernel::view()),
        op => Err(unsupported!("{} has no CPU kernel", op.name())),
    }
}

/// Packs a node's weights ahead of its first run. The facts may have unknown sizes; what cannot
/// be settled yet is left to `compile`.
#[rustfmt::skip]
pub fn prepack(cx: &Cx<'_>) -> Result<(), Reason> {
    let _ = cx;
    Ok(())
}
