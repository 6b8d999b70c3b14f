//! Steps of stochastic optimizers (ai.onnx.preview.training): Adagrad, Adam, Momentum.
//!
//! r, t, x.., g.., then the state of each x → new x.., then the new state; r is the learning rate,
//! t how many steps were made before, g the gradient.
use super::Inputs;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, invalid};

/// How a step is made from the gradient g' = g + norm_coefficient · x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerRule {
    /// h ← h + g'², x ← x - r / (1 + t · decay_factor) · g' / (√h + epsilon); state h.
    #[allow(missing_docs)]
    Adagrad { decay_factor: f32, epsilon: f32 },
    /// v ← αv + (1-α)g', h ← βh + (1-β)g'², x ← (1-norm_coefficient_post)(x - r'v / (√h + ε))
    /// with r' = r √(1-βᵗ) / (1-αᵗ) for t > 0; states v, h.
    #[allow(missing_docs)]
    Adam { alpha: f32, beta: f32, epsilon: f32, norm_coefficient_post: f32 },
    /// v ← αv + β'g' with β' = β for t > 0, else 1; x ← x - r v, or x - r (g' + αv) if `nesterov`;
    /// state v.
    #[allow(missing_docs)]
    Momentum { alpha: f32, beta: f32, nesterov: bool },
}

/// One step of an optimizer for any number of tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// How the step is made.
    pub rule: OptimizerRule,
    /// How much of x itself is added to the gradient.
    pub norm_coefficient: f32,
}

impl Optimizer {
    /// How many tensors of state each x has.
    pub fn states(&self) -> usize {
        match self.rule {
            OptimizerRule::Adagrad { .. } | OptimizerRule::Momentum { .. } => 1,
            OptimizerRule::Adam { .. } => 2,
        }
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let each = 2 + self.states();
        let n = inputs.len().checked_sub(2).filter(|n| *n > 0 && n % each == 0);
        let n = n
            .ok_or_else(|| invalid!("{} inputs where 2 + {each}k are needed", inputs.len()))?
            / each;
        for i in 0..n {
            let x = inputs.get(2 + i)?;
            if !matches!(x.dtype()?, DType::F32 | DType::F64) {
                return Err(invalid!("an optimized tensor of type {}", x.ty));
            }
            for k in 1..each {
                let other = inputs.get(2 + k * n + i)?;
                if !other.compatible(x) {
                    return Err(invalid!("{other} beside {x}"));
                }
            }
        }
        (0..n * (each - 1))
            .map(|i| {
                let of = if i < n { 2 + i } else { 2 + n + i };
                Ok(inputs.get(of)?.clone().forget())
            })
            .collect()
    }
}

fn import(cx: &mut NodeCx<'_>, rule: OptimizerRule) -> Result<Outputs, Reason> {
    let norm_coefficient = cx.float("norm_coefficient")?.unwrap_or(0.0);
    cx.emit(Optimizer { rule, norm_coefficient })
}

pub(super) fn import_adagrad(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let decay_factor = cx.float("decay_factor")?.unwrap_or(0.0);
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-6);
    import(cx, OptimizerRule::Adagrad { decay_factor, epsilon })
}

pub(super) fn import_adam(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let rule = OptimizerRule::Adam {
        alpha: cx.float("alpha")?.unwrap_or(0.9),
        beta: cx.float("beta")?.unwrap_or(0.999),
        epsilon: cx.float("epsilon")?.unwrap_or(1e-6),
        norm_coefficient_post: cx.float("norm_coefficient_post")?.unwrap_or(0.0),
    };
    import(cx, rule)
}

pub(super) fn import_momentum(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let needed = |name: &str| {
        let value = cx.float(name)?;
        value.ok_or_else(|| invalid!("attribute {name} is missing"))
    };
    let (alpha, beta) = (needed("alpha")?, needed("beta")?);
    needed("norm_coefficient")?;
    let nesterov = match cx.string("mode")? {
        Some("standard") => false,
        Some("nesterov") => true,
        other => return Err(invalid!("mode {other:?} is unknown")),
    };
    import(cx, OptimizerRule::Momentum { alpha, beta, nesterov })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fact;

    #[test]
    fn new_values_come_before_new_states() {
        let op = Optimizer {
            rule: OptimizerRule::Momentum { alpha: 0.9, beta: 0.9, nesterov: false },
            norm_coefficient: 0.0,
        };
        let (r, t) = (Fact::sized(DType::F32, &[]), Fact::sized(DType::I64, &[]));
        let (a, b) = (Fact::sized(DType::F32, &[2]), Fact::sized(DType::F64, &[3]));
        let inputs = [&r, &t, &a, &b, &a, &b, &a, &b].map(Some);
        let y = op.infer(&Inputs::new(&inputs, 4)).unwrap();
        assert_eq!(y[..], [a.clone(), b.clone(), a.clone(), b.clone()]);
        assert!(op.infer(&Inputs::new(&inputs[..7], 4)).is_err());
        let wrong = [&r, &t, &a, &b, &a].map(Some);
        assert!(op.infer(&Inputs::new(&wrong, 2)).is_err());
    }
}
