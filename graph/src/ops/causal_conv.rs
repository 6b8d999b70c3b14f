//! CausalConvWithState: each channel convolved along time with what came before, and what the next
//! step needs of it.
//!
//! x [n, c, t], w [c, 1, k], bias [c], past [n, c, k - 1]  →  y [n, c, t], present [n, c, k - 1]
//!
//! y[t] = activation(Σ w[i] · padded[t + i] + bias), padded = past (or zeros) then x

use super::conv::check_bias;
use super::window::check_float;
use super::{Activation, Inputs};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, show};
use crate::{Dim, Fact, Facts, Reason, invalid};

/// A depthwise convolution along time that carries state; bias and past may be omitted.
#[derive(Clone, Debug, PartialEq)]
pub struct CausalConv {
    /// Applied to each result last.
    pub activation: Option<Activation>,
}

impl CausalConv {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        check_float("CausalConvWithState", dtype)?;
        (1..4).try_for_each(|i| inputs.same_dtype(0, i))?;
        [0, 1, 3].into_iter().try_for_each(|i| inputs.check_rank(i, 3))?;
        let (Some(x), Some(w)) = (inputs.shape(0)?, inputs.shape(1)?) else {
            return Ok([Fact::ranked(dtype, 3), Fact::ranked(dtype, 3)].into_iter().collect());
        };
        let differ = |a: &Dim, b: &Dim| a.value().is_some() && b.value().is_some() && a != b;
        if differ(&x[1], &w[0]) || differ(&w[1], &Dim::N(1)) || w[2].is(0) {
            return Err(invalid!("an input {} and a weight {}", show(x), show(w)));
        }
        check_bias(inputs.opt(2), &x[1])?;
        let state: Shape = [x[0].clone(), x[1].clone(), w[2].sub(&Dim::N(1))].into_iter().collect();
        if let Some(past) = inputs.opt(3).and_then(Fact::shape)
            && past.iter().zip(&state).any(|(a, b)| differ(a, b))
        {
            return Err(invalid!("a past state {} where {} is needed", show(past), show(&state)));
        }
        let y = Fact::new(dtype, x.iter().cloned().collect());
        Ok([y, Fact::new(dtype, state)].into_iter().collect())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 4)?;
    let activation = match cx.string("activation")?.unwrap_or("none") {
        "none" => None,
        "silu" | "swish" => Some(Activation::Silu),
        other => return Err(invalid!("activation {other:?} of CausalConvWithState")),
    };
    cx.emit(CausalConv { activation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn the_state_is_one_shorter_than_the_kernel() {
        let x = Fact::new(DType::F32, [2.into(), 3.into(), Dim::symbol("t")].into_iter().collect());
        let w = Fact::sized(DType::F32, &[3, 1, 4]);
        let out =
            CausalConv { activation: None }.infer(&Inputs::new(&[Some(&x), Some(&w)], 2)).unwrap();
        assert_eq!(out[0].to_string(), "float[2, 3, t]");
        assert_eq!(out[1].to_string(), "float[2, 3, 3]");
    }
}
