//! InstanceNormalization and GroupNormalization: y = (x - mean) / √(var + epsilon) · scale + b,
//! mean and var over a group of channels of one sample; a group is one task.

use rinfer_graph::ops::{GroupNormalization, Per};
use rinfer_graph::{DType, Reason, invalid, unsupported};

use super::batch_norm::{Affine, affine};
use super::fold::{self, Which};
use super::lanes;
use super::layer_norm::{doubles, floats};
use super::softmax::source;
use crate::kernel::{Args, Cx, Kernel};
use crate::par;
use crate::simd::Isa;

/// x as groups of `channels` planes of `inner` elements, `groups` of them in a sample.
#[derive(Clone, Copy)]
struct Groups {
    groups: usize,
    channels: usize,
    inner: usize,
    epsilon: f32,
    params: Per,
}

impl Groups {
    /// Where channel `c` of group `g` (of all samples) finds its parameters.
    fn param(&self, g: usize, c: usize) -> usize {
        match self.params {
            Per::Group => g % self.groups,
            Per::Channel => g % self.groups * self.channels + c,
        }
    }

    /// Elements in a group.
    fn len(&self) -> usize {
        self.channels * self.inner
    }
}

pub(super) fn compile(op: &GroupNormalization, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let groups = op.groups.unwrap_or(sizes[1]);
    let channels = sizes[1].checked_div(groups).unwrap_or(0);
    let inner = sizes[2..].iter().product();
    let groups = Groups { groups, channels, inner, epsilon: op.epsilon, params: op.params };
    let wanted = if op.params == Per::Group { groups.groups } else { sizes[1] };
    for i in 1..3 {
        let n = cx.sizes(i)?.iter().product::<usize>();
        if n != wanted {
            return Err(invalid!("input {i} has {n} elements where {wanted} are needed"));
        }
    }
    let isa = cx.isa;
    let kernel = match cx.dtype(0)? {
        DType::F32 | DType::F16 | DType::BF16 => Kernel::new(move |args| run(isa, groups, args)),
        DType::F64 => Kernel::new(move |args| run_f64(groups, args)),
        dtype => return Err(unsupported!("group normalization of {dtype} is not supported")),
    };
    Ok(kernel.in_place(&[0]).takes(lanes::scratch(cx)))
}

fn run(isa: Isa, groups: Groups, args: &mut Args<'_>) -> Result<(), Reason> {
    let (scale, bias) = (floats(args.input(1)?)?, floats(args.input(2)?)?);
    let (cx, n, inner) = (args.cx, groups.len(), groups.inner);
    lanes::in_f32(isa, args, |x, y, _| {
        let outer = y.len().checked_div(n).unwrap_or(0);
        par::split(((x, n), (y, n)), outer, par::grain(n / 2), |first, ((x, _), (y, _))| {
            for (i, y) in y.chunks_exact_mut(n).enumerate() {
                if cx.check().is_err() {
                    return;
                }
                let x = if x.is_empty() { x } else { &x[i * n..][..n] };
                let from = if x.is_empty() { &*y } else { x };
                let mean = (long(isa, Which::Sum, from, 0.0) / n as f64) as f32;
                let var = long(isa, Which::Deviation, from, mean) / n as f64;
                let inverse = 1.0 / (var + groups.epsilon as f64).sqrt();
                for (c, y) in y.chunks_exact_mut(inner).enumerate() {
                    let at = groups.param(first + i, c);
                    let factor = (inverse * scale[at] as f64) as f32;
                    let map = Affine { mean, factor, bias: bias[at] };
                    affine(isa, x.get(c * inner..).unwrap_or(&[]), y, map);
                }
            }
        });
        cx.check()
    })
}

/// A fold of any length.
fn long(isa: Isa, which: Which, x: &[f32], shift: f32) -> f64 {
    let chunks = x.chunks(fold::CHUNK).map(|x| fold::fold(isa, which, x, shift));
    chunks.fold(which.start(), |a, b| which.total(a, b))
}

fn run_f64(groups: Groups, args: &mut Args<'_>) -> Result<(), Reason> {
    let (scale, bias) = (doubles(args.input(1)?)?, doubles(args.input(2)?)?);
    let x = source::<f64>(args);
    let y = args.outputs[0].as_mut_slice::<f64>();
    if !x.is_empty() {
        y.copy_from_slice(x);
    }
    let n = groups.len();
    for (g, y) in y.chunks_exact_mut(n.max(1)).enumerate() {
        args.cx.check()?;
        let mean = y.iter().sum::<f64>() / n as f64;
        let var = y.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / n as f64;
        let inverse = 1.0 / (var + groups.epsilon as f64).sqrt();
        for (c, y) in y.chunks_exact_mut(groups.inner).enumerate() {
            let at = groups.param(g, c);
            y.iter_mut().for_each(|y| *y = (*y - mean) * inverse * scale[at] + bias[at]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use rinfer_graph::Tensor;

    fn check(groups: Option<usize>, params: Per, scale: &[f32], expected: &[f32]) {
        let x = [1.0f32, 3.0, 2.0, 6.0, 0.0, 0.0, 5.0, 9.0];
        let op = GroupNormalization { groups, epsilon: 0.0, params };
        let bias = Tensor::vector(&vec![1.0f32; scale.len()]);
        for isa in Isa::available() {
            let x = Tensor::from_slice(&[1, 4, 2], &x);
            let y = run1(isa, op.clone(), &[x, Tensor::vector(scale), bias.clone()]).unwrap();
            for (y, e) in y.as_slice::<f32>().iter().zip(expected) {
                assert!((y - e).abs() < 1e-5 || (y.is_nan() && e.is_nan()), "{y} and {e}");
            }
        }
        let wide = |x: &[f32]| x.iter().map(|&x| x as f64).collect::<Vec<_>>();
        let inputs = [
            Tensor::from_slice(&[1, 4, 2], &wide(&x)),
            Tensor::vector(&wide(scale)),
            Tensor::vector(&wide(bias.as_slice())),
        ];
        let y = run1(Isa::best(), op, &inputs).unwrap();
        for (y, e) in y.as_slice::<f64>().iter().zip(expected) {
            assert!((y - *e as f64).abs() < 1e-5 || (y.is_nan() && e.is_nan()), "{y} and {e}");
        }
    }

    #[test]
    fn each_channel_is_a_group_of_its_own() {
        let nan = f32::NAN;
        let expected = [0.0, 2.0, -1.0, 3.0, nan, nan, -3.0, 5.0];
        check(None, Per::Channel, &[1.0, 2.0, 3.0, 4.0], &expected);
    }

    #[test]
    fn groups_scale_by_channel_or_by_group() {
        // Group 0 has mean 3 and variance 3.5, group 1 mean 3.5 and variance 14.25.
        let (a, b) = (1.0 / 3.5f32.sqrt(), 1.0 / 14.25f32.sqrt());
        let x = [-2.0 * a, 0.0, -a, 3.0 * a, -3.5 * b, -3.5 * b, 1.5 * b, 5.5 * b];
        let scaled = |s: [f32; 4]| (0..8).map(|i| x[i] * s[i / 2] + 1.0).collect::<Vec<_>>();
        check(Some(2), Per::Channel, &[1.0, 2.0, 3.0, 4.0], &scaled([1.0, 2.0, 3.0, 4.0]));
        check(Some(2), Per::Group, &[1.0, 2.0], &scaled([1.0, 1.0, 2.0, 2.0]));
    }
}
