//! One file per operator, named as in `rinfer_graph::ops`: how it runs on this backend.

mod binary;
mod cast;
mod clip;
mod conv;
mod custom;
mod identity;
mod matmul;
mod ml;
mod ml_forest;
mod ml_tree;
mod optional;
mod pool;
mod quantize;
mod recurrent;
mod recurrent_cell;
mod resize;
mod sequence;
mod unary;
mod where_;

use rinfer_graph::{Op, Reason, unsupported};

use crate::kernel::{Cx, Kernel};

/// Makes a node ready to run; `Err` says why this backend cannot.
#[rustfmt::skip]
pub fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    match &cx.node.op {
        Op::Conv(op) => conv::compile(op, cx),
        Op::Binary(op) => binary::compile(op, cx),
        Op::BitCast(_) => Ok(cast::same_bytes()),
        Op::Cast(op) => cast::compile(op, cx),
        Op::Clip(_) => clip::compile(cx),
        Op::Custom(op) => custom::compile(op),
        Op::DequantizeLinear(op) => quantize::compile_dequantize(op, cx),
        Op::DynamicQuantizeLinear(_) => quantize::compile_dynamic(cx),
        Op::Flatten(_) => Ok(Kernel::view()),
        Op::Identity(_) => Ok(Kernel::view()),
        Op::MatMul(op) => matmul::compile(op, cx),
        Op::Optional(op) => optional::compile(op),
        Op::Pool(op) => pool::compile(op, cx),
        Op::QuantizeLinear(op) => quantize::compile(op, cx),
        Op::Recurrent(op) => recurrent::compile(op, cx),
        Op::Reshape(_) => Ok(Kernel::view()),
        Op::Resize(op) => resize::compile(op, cx),
        Op::Sequence(op) => sequence::compile(op, cx),
        Op::Shape(_) => identity::known_output(cx),
        Op::Size(_) => identity::known_output(cx),
        Op::Squeeze(_) => Ok(Kernel::view()),
        Op::TreeEnsemble(op) => ml_tree::compile(op, cx),
        Op::Unary(op) => unary::compile(op, cx),
        Op::Unsqueeze(_) => Ok(Kernel::view()),
        Op::Where(_) => where_::compile(cx),
        op => Err(unsupported!("{} has no CPU kernel", op.name())),
    }
}

/// Packs a node's weights ahead of its first run. The facts may have unknown sizes; what cannot
/// be settled yet is left to `compile`.
#[rustfmt::skip]
pub fn prepack(cx: &Cx<'_>) -> Result<(), Reason> {
    match &cx.node.op {
        Op::MatMul(op) => matmul::prepack(op, cx),
        Op::Recurrent(op) => recurrent::prepack(op, cx),
        _ => Ok(()),
    }
}
