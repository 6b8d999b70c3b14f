//! Chains of pointwise operators become one program: Relu(Add(Mul(x, a), b)) → Pointwise(x, a, b).
//!
//! A value that only one node reads is computed inside of that node's program, if it has the shape
//! of what the program makes: then nothing is computed more often than before. Values of f16 and
//! bf16 stay values: a program computes in f32, and ONNX rounds every one of them.

use super::pattern::{is_half, same_shape};
use super::{GraphView, Rewrite};
use crate::ops::Pointwise;
use crate::{Fact, NodeId, Op, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let (next, ids) = program(g, id)?;
    let y = g.output(id, 0)?;
    for (at, &v) in ids.iter().enumerate() {
        if !g.single_use(v) || !same_shape(g, v, y) || is_half(g, v) {
            continue;
        }
        let Some((previous, previous_ids)) = g.producer(v).and_then(|p| program(g, p)) else {
            continue;
        };
        if let Some((joined, reads)) = previous.then(&next, at, (&previous_ids, &ids)) {
            return g.replace(joined, &reads);
        }
    }
    None
}

/// The node as a program, and what it reads.
fn program(g: &GraphView<'_>, id: NodeId) -> Option<(Pointwise, Vec<ValueId>)> {
    let node = g.node(id);
    if node.outputs.len() != 1 {
        return None;
    }
    if let Op::Pointwise(program) = &node.op {
        return Some((program.clone(), node.inputs.iter().copied().collect::<Option<_>>()?));
    }
    let facts: Vec<Option<&Fact>> = node.inputs.iter().map(|v| v.map(|v| g.fact(v))).collect();
    let (program, read) = Pointwise::of(&node.op, &facts)?;
    let ids = read.iter().map(|&i| node.inputs[i]).collect::<Option<_>>()?;
    Some((program, ids))
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::{rewritten, unchanged};

    const PASSES: &[&str] = &["fuse_pointwise", "drop_dead"];

    #[test]
    fn a_chain_becomes_one_node() {
        let g = rewritten(
            PASSES,
            "x: float[n, 4]\na: float[4]\nb = Mul(x, a)\nc = Add(b, 1.0)\nd = Relu(c)\ny = Sub(d, x)\n→ y",
        );
        assert_eq!(g.nodes().len(), 1, "{g}");
    }

    #[test]
    fn what_others_read_or_what_is_smaller_stays() {
        unchanged(PASSES, "x: float[4]\na = Exp(x)\ny = Relu(a)\n→ y, a");
        unchanged(PASSES, "x: float[4]\nz: float[3, 4]\na = Exp(x)\ny = Add(a, z)\n→ y");
    }

    #[test]
    fn what_onnx_rounds_to_float16_stays_a_value() {
        unchanged(PASSES, "x: float16[4]\na = Exp(x)\ny = Mul(a, x)\n→ y");
        let g = rewritten(PASSES, "x: float16[4]\na = Cast<to = 1>(x)\ny = Exp(a)\n→ y");
        assert_eq!(g.nodes().len(), 1, "{g}");
    }

    #[test]
    fn integers_are_left_alone() {
        unchanged(PASSES, "x: int64[4]\na = Neg(x)\ny = Add(a, x)\n→ y");
    }
}
