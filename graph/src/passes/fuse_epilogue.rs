//! What a kernel may apply to its results in registers.

use super::GraphView;
use crate::ops::{Activation, Unary, UnaryFn};
use crate::{NodeId, Op};

/// The activation that a node is, if its kernel's producer could apply it.
pub(super) fn activation_of(g: &GraphView<'_>, id: NodeId) -> Option<Activation> {
    match g.op(id) {
        Op::Unary(Unary(f)) => of_unary(*f),
        Op::Clip(_) => {
            let bound = |i: usize, open: f32| match g.input(id, i) {
                Some(v) => g.scalar(v),
                None => Some(open),
            };
            let (lo, hi) = (bound(1, f32::MIN)?, bound(2, f32::MAX)?);
            (lo <= hi).then_some(Activation::Clip { lo, hi })
        }
        _ => None,
    }
}

fn of_unary(f: UnaryFn) -> Option<Activation> {
    Some(match f {
        UnaryFn::Relu => Activation::Relu,
        UnaryFn::LeakyRelu { alpha } => Activation::LeakyRelu { alpha },
        UnaryFn::Sigmoid => Activation::Sigmoid,
        UnaryFn::Tanh => Activation::Tanh,
        UnaryFn::Gelu => Activation::Gelu,
        UnaryFn::GeluTanh => Activation::GeluTanh,
        UnaryFn::Swish { alpha: 1.0 } => Activation::Silu,
        UnaryFn::HardSigmoid { alpha, beta } => Activation::HardSigmoid { alpha, beta },
        UnaryFn::HardSwish => Activation::HardSwish,
        _ => return None,
    })
}
