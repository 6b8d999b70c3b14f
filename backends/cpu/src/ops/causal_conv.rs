//! CausalConvWithState: each channel convolved along time, with the state carried over.

use rinfer_graph::Reason;
use rinfer_graph::ops::CausalConv;

use super::staged::{self, needed, single};
use crate::kernel::{Cx, Kernel, limit};
use crate::math::Activation;
use crate::math::activation::activate;
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;

pub(super) fn compile(op: &CausalConv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, w) = (cx.sizes(0)?, cx.sizes(1)?);
    let (channels, time, k) = (x[1], x[2], w[2]);
    let activation = op.activation.map_or(Activation::None, Activation::from);
    let isa = cx.isa;
    let grain = par::grain(time * k / 4);
    let row = Scratch::floats(k - 1 + time).in_loop(x[0] * channels, grain);
    let scratch = staged::scratch(cx).and(row);
    Ok(Kernel::new(move |args| {
        single(isa, args, |inputs, outputs| {
            let (x, w) = (needed(inputs, 0)?, needed(inputs, 1)?);
            let get = |i: usize| inputs.get(i).copied().flatten();
            let (bias, past) = (get(2), get(3));
            let state = k - 1;
            let (y, present) = outputs.split_at_mut(1);
            let row = |i: usize, y: &mut [f32], present: Option<&mut [f32]>| {
                with_scratch(state + time, |padded| {
                    let (before, now) = padded.split_at_mut(state);
                    match past {
                        Some(past) => before.copy_from_slice(&past[i * state..][..state]),
                        None => before.fill(0.0),
                    }
                    now.copy_from_slice(&x[i * time..][..time]);
                    let channel = i % channels;
                    y.fill(bias.map_or(0.0, |b| b[channel]));
                    for (j, &w) in w[channel * k..][..k].iter().enumerate() {
                        let x = &padded[j..j + time];
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += w * x);
                    }
                    activate(isa, activation, y);
                    if let Some(present) = present {
                        present.copy_from_slice(&padded[time..]);
                    }
                })
                .map_err(limit)
            };
            let failure = par::Failure::default();
            let rows = x.len().checked_div(time).unwrap_or(0);
            match present.first_mut().filter(|p| !p.is_empty()) {
                Some(present) if time > 0 => {
                    let work = ((&mut *y[0], time), (&mut **present, state));
                    par::split(work, rows, grain, |first, ((y, _), (present, _))| {
                        let rows = y.chunks_mut(time).zip(present.chunks_mut(state));
                        for (i, (y, present)) in rows.enumerate() {
                            failure.attempt(|| row(first + i, y, Some(present)));
                        }
                    });
                }
                Some(present) => match past {
                    Some(past) => present.copy_from_slice(past),
                    None => present.fill(0.0),
                },
                None => par::chunks_mut(y[0], time, grain, |i, y| {
                    failure.attempt(|| row(i, y, None));
                }),
            }
            failure.result()
        })
    })
    .takes(scratch))
}

#[cfg(test)]
mod tests {
    use rinfer_graph::{Tensor, Value};

    use super::*;
    use crate::eval::testing::run_opt;
    use crate::simd::Isa;

    #[test]
    fn two_steps_are_one_long_one() {
        let w = Tensor::from_slice(&[1, 1, 3], &[1f32, 10.0, 100.0]);
        let step = |x: &[f32], past: Option<Value>| {
            let x = Tensor::from_slice(&[1, 1, x.len()], x);
            let inputs = [Some(x.into()), Some(w.clone().into()), None, past];
            run_opt(Isa::best(), CausalConv { activation: None }, &inputs, 2).unwrap()
        };
        let floats = |v: &Value| v.as_tensor().unwrap().as_slice::<f32>().to_vec();
        let whole = step(&[1.0, 2.0, 3.0], None);
        assert_eq!(floats(&whole[0]), [100.0, 210.0, 321.0]);
        let first = step(&[1.0], None);
        let second = step(&[2.0, 3.0], Some(first[1].clone()));
        assert_eq!([floats(&first[0]), floats(&second[0])].concat(), floats(&whole[0]));
        assert_eq!(second[1], whole[1]);
    }
}
