//! LSTM, GRU, RNN.

use super::node::{NodeOut, flag, float, floats, int, string, strings};
use crate::ops::{Cell, Direction, GateFn, Recurrent};
use crate::{Reason, unsupported};

/// A gate's function: its name in ONNX, alpha and beta where it has them.
fn gate(f: GateFn) -> (&'static str, Option<f32>, Option<f32>) {
    match f {
        GateFn::Relu => ("Relu", None, None),
        GateFn::Tanh => ("Tanh", None, None),
        GateFn::Sigmoid => ("Sigmoid", None, None),
        GateFn::Affine(a, b) => ("Affine", Some(a), Some(b)),
        GateFn::LeakyRelu(a) => ("LeakyRelu", Some(a), None),
        GateFn::ThresholdedRelu(a) => ("ThresholdedRelu", Some(a), None),
        GateFn::ScaledTanh(a, b) => ("ScaledTanh", Some(a), Some(b)),
        GateFn::HardSigmoid(a, b) => ("HardSigmoid", Some(a), Some(b)),
        GateFn::Elu(a) => ("Elu", Some(a), None),
        GateFn::Softsign => ("Softsign", None, None),
        GateFn::Softplus => ("Softplus", None, None),
    }
}

pub(super) fn recurrent(op: &Recurrent, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    if op.rounded_state {
        return Err(unsupported!("ONNX has no LSTM that rounds its state"));
    }
    let direction = match op.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Both => "bidirectional",
    };
    let mut attrs = vec![string("direction", direction), flag("layout", op.batch_first)];
    let gates: Vec<_> = op.activations.iter().map(|&f| gate(f)).collect();
    attrs.push(strings("activations", &gates.iter().map(|g| g.0).collect::<Vec<_>>()));
    // Only the functions that have an alpha or beta take one from the lists, in order.
    let alphas: Vec<f32> = gates.iter().filter_map(|g| g.1).collect();
    let betas: Vec<f32> = gates.iter().filter_map(|g| g.2).collect();
    if !alphas.is_empty() {
        attrs.push(floats("activation_alpha", &alphas));
    }
    if !betas.is_empty() {
        attrs.push(floats("activation_beta", &betas));
    }
    attrs.extend(op.clip.map(|clip| float("clip", clip)));
    // R is [directions, gates · hidden, hidden].
    let hidden = out.fact(2)?.shape().and_then(|s| s.last()?.size());
    if let Some(hidden) = op.hidden_size.or(hidden) {
        attrs.push(int("hidden_size", hidden as i64));
    }
    match op.cell {
        Cell::Lstm { input_forget } => {
            attrs.push(flag("input_forget", input_forget));
            out.plain("LSTM", attrs)
        }
        Cell::Gru { linear_before_reset } => {
            attrs.push(flag("linear_before_reset", linear_before_reset));
            out.plain("GRU", attrs)
        }
        Cell::Rnn => out.plain("RNN", attrs),
    }
}
