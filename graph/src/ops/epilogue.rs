//! What MatMul and Conv do to each result before they store it.
//!
//! y = activation(result + bias + residual): bias is input 2, residual input 3 of such a node,
//! either may be omitted. The passes move Add and activations in here.

/// A function of one element that a kernel applies in registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// x where x ≥ 0, else alpha·x
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// min(max(x, lo), hi)
    Clip {
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// tanh(x)
    Tanh,
    /// x/2 · (1 + erf(x/√2))
    Gelu,
    /// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
    GeluTanh,
    /// x · sigmoid(x)
    Silu,
    /// max(0, min(1, alpha·x + beta))
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x · max(0, min(1, x/6 + 1/2))
    HardSwish,
}
