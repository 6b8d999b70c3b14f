//! BatchNormalization: y = (x - mean) / √(var + epsilon) · scale + b by channel.
//!
//! x [n, c, …] is n·c planes; in training mean and var are those of x itself.

use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::BatchNormalization;
use rinfer_graph::{DType, Reason, Tensor, unsupported};

use super::fold::{self, Which};
use super::lanes::{self, load_at};
use super::layer_norm::{doubles, put};
use super::softmax::source;
use crate::kernel::{Args, Cx, Kernel};
use crate::par;
use crate::simd::{F32s, Isa, Simd};

/// x as `outer` blocks of `channels` planes of `inner` elements.
#[derive(Clone, Copy)]
struct Planes {
    outer: usize,
    channels: usize,
    inner: usize,
}

pub(super) fn compile(op: &BatchNormalization, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let planes = Planes {
        outer: sizes[0],
        channels: sizes.get(1).copied().unwrap_or(1),
        inner: sizes.iter().skip(2).product(),
    };
    let (op, isa) = (op.clone(), cx.isa);
    let kernel = match cx.dtype(0)? {
        DType::F32 | DType::F16 | DType::BF16 => {
            Kernel::new(move |args| run(isa, &op, planes, args))
        }
        DType::F64 => Kernel::new(move |args| run_f64(&op, planes, args)),
        dtype => return Err(unsupported!("BatchNormalization of {dtype} is not supported")),
    };
    Ok(kernel.in_place(&[0]).takes(lanes::scratch(cx)))
}

/// A channel's map: y = (x - mean) · factor + bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    pub mean: f32,
    pub factor: f32,
    pub bias: f32,
}

fn run(
    isa: Isa,
    op: &BatchNormalization,
    planes: Planes,
    args: &mut Args<'_>,
) -> Result<(), Reason> {
    let (cx, mut params) = (args.cx, Params::new(args)?);
    lanes::in_f32(isa, args, |x, y, statistics| {
        if let Some(momentum) = op.training {
            let from = if x.is_empty() { &*y } else { x };
            let sums = |mean: Option<&[f64]>| sums(isa, from, planes, mean);
            params.train(momentum as f64, planes, &sums, statistics)?;
        }
        normalize(isa, &params, op.epsilon, planes, (x, y), cx)
    })
}

fn normalize(
    isa: Isa,
    params: &Params,
    epsilon: f32,
    planes: Planes,
    (x, y): (&[f32], &mut [f32]),
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    let (Params { mean, bias, .. }, factor) = (params, params.factor(epsilon));
    let Planes { channels, inner, .. } = planes;
    if inner == 1 {
        let maps = [mean, &factor, bias].map(|p| p.iter().map(|&p| p as f32).collect::<Vec<_>>());
        let rows = ((x, channels), (y, channels));
        par::split(rows, planes.outer, par::grain(channels / 4), |_, (x, y)| {
            affine_rows(isa, x.0, y.0, &maps);
        });
        return cx.check();
    }
    let rows = ((x, inner), (y, inner));
    par::split(rows, planes.outer * channels, par::grain(inner / 4), |first, (x, y)| {
        for (i, y) in y.0.chunks_exact_mut(inner.max(1)).enumerate() {
            let c = (first + i) % channels;
            let map =
                Affine { mean: mean[c] as f32, factor: factor[c] as f32, bias: bias[c] as f32 };
            if cx.check().is_ok() {
                affine(isa, x.0.get(i * inner..).unwrap_or(&[]), y, map);
            }
        }
    });
    cx.check()
}

crate::simd_fn! {
    /// y = map(x); where `x` is empty `y` holds it.
    pub(super) fn affine(s: S, x: &[f32], y: &mut [f32], map: Affine) {
        affine_in(s, x, y, map);
    }
}

#[inline(always)]
pub(super) fn affine_in<S: Simd>(s: S, x: &[f32], y: &mut [f32], map: Affine) {
    let (mean, factor, bias) = (s.splat(map.mean), s.splat(map.factor), s.splat(map.bias));
    lanes::map(
        s,
        x,
        y,
        #[inline(always)]
        |_, v| (v - mean).mul_add(factor, bias),
    );
}

crate::simd_fn! {
    /// Rows with a map for each element: mean, factor, bias.
    fn affine_rows(s: S, x: &[f32], y: &mut [f32], maps: &[Vec<f32>; 3]) {
        let n = maps[0].len().max(1);
        for (r, y) in y.chunks_exact_mut(n).enumerate() {
            let x = if x.is_empty() { x } else { &x[r * n..][..n] };
            lanes::map(s, x, y, #[inline(always)] |i, v| {
                (v - load_at(s, &maps[0], i)).mul_add(load_at(s, &maps[1], i), load_at(s, &maps[2], i))
            });
        }
    }
}

/// Σ x by channel, or Σ (x - mean)².
fn sums(isa: Isa, x: &[f32], planes: Planes, mean: Option<&[f64]>) -> Vec<f64> {
    let mut sums = vec![0.0; planes.channels];
    for (i, x) in x.chunks_exact(planes.inner.max(1)).enumerate() {
        let c = i % planes.channels;
        sums[c] += match mean {
            None => fold::fold(isa, Which::Sum, x, 0.0),
            Some(mean) => fold::fold(isa, Which::Deviation, x, mean[c] as f32),
        };
    }
    sums
}

/// The parameters by channel.
struct Params {
    scale: Vec<f64>,
    bias: Vec<f64>,
    mean: Vec<f64>,
    var: Vec<f64>,
}

impl Params {
    fn new(args: &Args<'_>) -> Result<Params, Reason> {
        let get = |i| Ok::<_, Reason>(doubles(args.input(i)?)?.into_owned());
        Ok(Params { scale: get(1)?, bias: get(2)?, mean: get(3)?, var: get(4)? })
    }

    /// Replaces mean and variance by those of x, and writes what outputs 1 to 4 hold.
    fn train(
        &mut self,
        momentum: f64,
        planes: Planes,
        sums: &dyn Fn(Option<&[f64]>) -> Vec<f64>,
        outputs: &mut [Tensor],
    ) -> Result<(), Reason> {
        let n = planes.outer as f64 * planes.inner as f64;
        let divide = |sums: Vec<f64>| sums.into_iter().map(|sum| sum / n).collect::<Vec<_>>();
        let mean = divide(sums(None));
        let var = divide(sums(Some(&mean)));
        let running = |old: &[f64], new: &[f64]| {
            let pairs = old.iter().zip(new);
            pairs.map(|(old, new)| old * momentum + new * (1.0 - momentum)).collect::<Vec<_>>()
        };
        let (running_mean, running_var) = (running(&self.mean, &mean), running(&self.var, &var));
        (self.mean, self.var) = (mean, var);
        let values = [&running_mean, &running_var, &self.mean, &self.var];
        outputs.iter_mut().zip(values).try_for_each(|(y, values)| put(values, y))
    }

    /// scale / √(var + epsilon)
    fn factor(&self, epsilon: f32) -> Vec<f64> {
        let pairs = self.scale.iter().zip(&self.var);
        pairs.map(|(scale, var)| scale / (var + epsilon as f64).sqrt()).collect()
    }
}

fn run_f64(op: &BatchNormalization, planes: Planes, args: &mut Args<'_>) -> Result<(), Reason> {
    let (x, mut params) = (source::<f64>(args), Params::new(args)?);
    let Some((y, statistics)) = args.outputs.split_first_mut() else { return Ok(()) };
    let y = y.as_mut_slice::<f64>();
    if !x.is_empty() {
        y.copy_from_slice(x);
    }
    let Planes { channels, inner, .. } = planes;
    if let Some(momentum) = op.training {
        let sums = |mean: Option<&[f64]>| {
            let mut sums = vec![0.0; channels];
            for (i, y) in y.chunks_exact(inner.max(1)).enumerate() {
                let c = i % channels;
                sums[c] += match mean {
                    None => y.iter().sum::<f64>(),
                    Some(mean) => y.iter().map(|y| (y - mean[c]) * (y - mean[c])).sum(),
                };
            }
            sums
        };
        params.train(momentum as f64, planes, &sums, statistics)?;
    }
    let factor = params.factor(op.epsilon);
    for (i, y) in y.chunks_exact_mut(inner.max(1)).enumerate() {
        let c = i % channels;
        y.iter_mut().for_each(|y| *y = (*y - params.mean[c]) * factor[c] + params.bias[c]);
    }
    args.cx.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run, run1};
    use rinfer_graph::Value;

    const INFERENCE: BatchNormalization = BatchNormalization { epsilon: 0.0, training: None };

    fn params() -> [Tensor; 4] {
        [[2.0f32, 3.0], [1.0, -1.0], [10.0, 20.0], [4.0, 0.25]].map(|p| Tensor::vector(&p))
    }

    #[test]
    fn each_channel_has_its_own_map() {
        let [scale, b, mean, var] = params();
        for isa in Isa::available() {
            for shape in [vec![1, 2, 3], vec![3, 2]] {
                let x: Vec<f32> = (0..6).map(|i| i as f32).collect();
                let x = Tensor::from_slice(&shape, &x);
                let inner = shape.get(2).copied().unwrap_or(1);
                let inputs = [x, scale.clone(), b.clone(), mean.clone(), var.clone()];
                let y = run1(isa, INFERENCE, &inputs).unwrap();
                for (i, y) in y.as_slice::<f32>().iter().enumerate() {
                    let x = i as f32;
                    let c = i / inner % 2;
                    let expected = if c == 0 { x - 10.0 + 1.0 } else { (x - 20.0) * 6.0 - 1.0 };
                    assert_eq!(*y, expected);
                }
            }
        }
    }

    #[test]
    fn a_single_axis_is_one_channel() {
        let one = |x: f32| Tensor::vector(&[x]);
        let inputs = [Tensor::vector(&[1.0f32, 2.0, 3.0]), one(2.0), one(5.0), one(1.0), one(1.0)];
        let y = run1(Isa::best(), INFERENCE, &inputs).unwrap();
        assert_eq!(y.as_slice::<f32>(), [5.0, 7.0, 9.0]);
    }

    #[test]
    fn training_uses_and_returns_the_batchs_statistics() {
        let [scale, b, mean, var] = params();
        let x = Tensor::from_slice(&[2, 2, 1], &[1.0f32, 2.0, 3.0, 6.0]);
        let op = BatchNormalization { epsilon: 0.0, training: Some(0.5) };
        for isa in Isa::available() {
            let inputs = [&x, &scale, &b, &mean, &var].map(|t| Value::Tensor(t.clone()));
            let y = run(isa, op.clone(), &inputs, 5).unwrap();
            let y: Vec<Vec<f32>> =
                y.iter().map(|y| y.as_tensor().unwrap().as_slice::<f32>().to_vec()).collect();
            assert_eq!(y[0], [-1.0, -4.0, 3.0, 2.0]);
            assert_eq!((&y[1][..], &y[2][..]), (&[6.0, 12.0][..], &[2.5, 2.125][..]));
            assert_eq!((&y[3][..], &y[4][..]), (&[2.0, 4.0][..], &[1.0, 4.0][..]));
        }
    }
}
