//! Steps of stochastic optimizers, element by element, computed in double precision.
use rinfer_graph::ops::{Optimizer, OptimizerRule};
use rinfer_graph::{Reason, Tensor, invalid, with_dtype};

use super::wide::{Wide, scalar};
use crate::kernel::Kernel;

pub(super) fn compile(op: &Optimizer) -> Result<Kernel, Reason> {
    let op = op.clone();
    Ok(Kernel::new(move |args| {
        let (rate, steps) = (scalar(args.input(0)?)?, scalar(args.input(1)?)?);
        let states = op.states();
        let n = args.inputs.len().saturating_sub(2) / (2 + states);
        for i in 0..n {
            args.cx.check()?;
            let x = args.input(2 + i)?;
            let g = args.input(2 + n + i)?;
            let old: Vec<&Tensor> =
                (0..states).map(|k| args.input(2 + (2 + k) * n + i)).collect::<Result<_, _>>()?;
            if old.iter().chain([&g]).any(|t| t.shape() != x.shape() || t.dtype() != x.dtype()) {
                return Err(invalid!("tensors of other shapes beside {x:?}"));
            }
            with_dtype!(x.dtype(), [f32, f64], T => {
                for e in 0..x.len() {
                    let get = |t: &Tensor| t.as_slice::<T>()[e].wide();
                    let mut state = [0.0; 2];
                    old.iter().zip(&mut state).for_each(|(t, s)| *s = get(t));
                    let made = step(&op, rate, steps, (get(x), get(g)), &mut state);
                    args.outputs[i].as_mut_slice::<T>()[e] = T::narrow(made);
                    for (k, s) in state[..states].iter().enumerate() {
                        args.outputs[(1 + k) * n + i].as_mut_slice::<T>()[e] = T::narrow(*s);
                    }
                }
            }, else return Err(invalid!("an optimized tensor of type {}", x.dtype())));
        }
        Ok(())
    }))
}

/// The new x; `state` becomes the new state.
fn step(op: &Optimizer, rate: f64, steps: f64, (x, g): (f64, f64), state: &mut [f64; 2]) -> f64 {
    let g = f64::from(op.norm_coefficient) * x + g;
    match op.rule {
        OptimizerRule::Adagrad { decay_factor, epsilon } => {
            let h = state[0] + g * g;
            state[0] = h;
            let rate = rate / (1.0 + steps * f64::from(decay_factor));
            x - rate * g / (h.sqrt() + f64::from(epsilon))
        }
        OptimizerRule::Adam { alpha, beta, epsilon, norm_coefficient_post } => {
            let (alpha, beta) = (f64::from(alpha), f64::from(beta));
            let v = alpha * state[0] + (1.0 - alpha) * g;
            let h = beta * state[1] + (1.0 - beta) * g * g;
            *state = [v, h];
            let rate = match steps > 0.0 {
                true => rate * (1.0 - beta.powf(steps)).sqrt() / (1.0 - alpha.powf(steps)),
                false => rate,
            };
            let made = x - rate * v / (h.sqrt() + f64::from(epsilon));
            (1.0 - f64::from(norm_coefficient_post)) * made
        }
        OptimizerRule::Momentum { alpha, beta, nesterov } => {
            let (alpha, beta) = (f64::from(alpha), f64::from(beta));
            let beta = if steps > 0.0 { beta } else { 1.0 };
            let v = alpha * state[0] + beta * g;
            state[0] = v;
            x - rate * if nesterov { g + alpha * v } else { v }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;
    use rinfer_graph::Value;

    #[test]
    fn momentum_keeps_going() {
        let op = Optimizer {
            rule: OptimizerRule::Momentum { alpha: 0.5, beta: 1.0, nesterov: false },
            norm_coefficient: 0.0,
        };
        let inputs: Vec<Value> = vec![
            Tensor::scalar(0.1f32).into(),
            Tensor::scalar(3i64).into(),
            Tensor::vector(&[1f32, 2.0]).into(),
            Tensor::vector(&[0f32, 0.0]).into(),
            Tensor::vector(&[2f32, 4.0]).into(),
        ];
        let y = run(Isa::available()[0], op, &inputs, 2).unwrap();
        assert_eq!(y[0], Tensor::vector(&[0.9f32, 1.8]).into());
        assert_eq!(y[1], Tensor::vector(&[1f32, 2.0]).into());
    }

    #[test]
    fn tensors_are_stepped_each_by_its_own_gradient() {
        let op = Optimizer {
            rule: OptimizerRule::Adagrad { decay_factor: 0.0, epsilon: 0.0 },
            norm_coefficient: 0.0,
        };
        let one = |x: f64| Value::from(Tensor::vector(&[x]));
        let scalars = [Tensor::scalar(1f64).into(), Tensor::scalar(0i64).into()];
        let inputs: Vec<Value> = scalars
            .into_iter()
            .chain([one(5.0), one(7.0), one(3.0), one(-2.0), one(0.0), one(0.0)])
            .collect();
        let y = run(Isa::available()[0], op, &inputs, 4).unwrap();
        assert_eq!(y, [one(4.0), one(8.0), one(9.0), one(4.0)]);
    }
}
