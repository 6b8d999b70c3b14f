//! LRN: y = x / (bias + alpha / size · Σ x²)^beta, the sum over `size` channels around x's.
//!
//! The power is e^(-beta · log(·)).

use rinfer_graph::ops::Lrn;
use rinfer_graph::{DType, Reason, unsupported};

use super::softmax::source;
use crate::kernel::{Args, Cx, Kernel};
use crate::scratch::Scratch;
use crate::simd::{F32s, Isa};
use crate::{convert, math, par, pool};

/// x as samples of `channels` planes of `inner` elements.
#[derive(Clone, Copy)]
struct Planes {
    channels: usize,
    inner: usize,
}

pub(super) fn compile(op: &Lrn, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let planes = Planes { channels: sizes[1], inner: sizes[2..].iter().product() };
    let (op, isa) = (op.clone(), cx.isa);
    match cx.dtype(0)? {
        DType::F32 => Ok(Kernel::new(move |args| {
            let (x, y) = (source::<f32>(args), args.outputs[0].as_mut_slice::<f32>());
            run(isa, &op, planes, x, y);
            args.cx.check()
        })),
        DType::F16 | DType::BF16 => {
            let wide = Scratch::floats(sizes.iter().product());
            Ok(Kernel::new(move |args| run_half(isa, &op, planes, args))
                .takes(wide.clone().and(wide)))
        }
        DType::F64 => Ok(Kernel::new(move |args| run_f64(&op, planes, args))),
        dtype => Err(unsupported!("LRN of {dtype} is not supported")),
    }
}

/// The channels that count for channel `c`.
fn window(op: &Lrn, c: usize, channels: usize) -> std::ops::Range<usize> {
    let before = (op.size - 1) / 2;
    c.saturating_sub(before)..c.saturating_add(op.size - before).min(channels)
}

fn run(isa: Isa, op: &Lrn, planes: Planes, x: &[f32], y: &mut [f32]) {
    let Planes { channels, inner } = planes;
    let cost = inner * (op.size.min(channels) + 20) / 4;
    par::chunks_mut(y, inner, par::grain(cost), |i, y| {
        let sample = &x[i / channels * channels * inner..][..channels * inner];
        let c = i % channels;
        lrn_plane(isa, op, (sample, inner), (c, window(op, c, channels)), y);
    });
}

crate::simd_fn! {
    /// Channel `at.0` of a sample, of planes of `sample.1` elements; `at.1` are its neighbours.
    fn lrn_plane(
        s: S, op: &Lrn, sample: (&[f32], usize), at: (usize, std::ops::Range<usize>), y: &mut [f32],
    ) {
        let (x, inner) = sample;
        let (alpha, bias) = (s.splat(op.alpha / op.size as f32), s.splat(op.bias));
        let exponent = s.splat(-op.beta);
        let load = |c: usize, j: usize, n: usize| {
            let x = &x[c * inner + j..][..n];
            if n == S::LANES { s.load(x) } else { s.load_partial(x, 0.0) }
        };
        let mut j = 0;
        for y in y.chunks_mut(S::LANES) {
            let mut sum = s.zero();
            for c in at.1.clone() {
                let v = load(c, j, y.len());
                sum = v.mul_add(v, sum);
            }
            let power = math::exp(s, math::log(s, sum.mul_add(alpha, bias)) * exponent);
            (load(at.0, j, y.len()) * power).store_partial(y);
            j += S::LANES;
        }
    }
}

fn run_half(isa: Isa, op: &Lrn, planes: Planes, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?;
    let memory = |text: String| Reason::new(rinfer_graph::Kind::Limit, text);
    let y = &mut args.outputs[0];
    let result = pool::with_scratch(x.len(), |wide| {
        convert::read(isa, x, 0, wide)?;
        pool::with_scratch(y.len(), |z| {
            run(isa, op, planes, wide, z);
            convert::write(isa, z, y, 0)
        })
        .map_err(memory)?
    });
    result.map_err(memory)?
}

fn run_f64(op: &Lrn, planes: Planes, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?.as_slice::<f64>();
    let y = args.outputs[0].as_mut_slice::<f64>();
    let Planes { channels, inner } = planes;
    let (alpha, beta) = (op.alpha as f64 / op.size as f64, op.beta as f64);
    for (i, y) in y.chunks_exact_mut(inner.max(1)).enumerate() {
        args.cx.check()?;
        let sample = &x[i / channels * channels * inner..];
        for (j, y) in y.iter_mut().enumerate() {
            let squares = window(op, i % channels, channels).map(|c| sample[c * inner + j].powi(2));
            let base = op.bias as f64 + alpha * squares.sum::<f64>();
            *y = sample[i % channels * inner + j] * base.powf(-beta);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use rinfer_graph::Tensor;

    #[test]
    fn neighbours_before_and_after_count() {
        let op = Lrn { alpha: 2.0, beta: 0.5, bias: 1.0, size: 2 };
        let x = [1.0f32, 2.0, 3.0];
        // A window of two is a channel and the one after it.
        let expected = [1.0 / 6.0f32.sqrt(), 2.0 / 14.0f32.sqrt(), 3.0 / 10.0f32.sqrt()];
        for isa in Isa::available() {
            let y = run1(isa, op.clone(), &[Tensor::from_slice(&[1, 3, 1], &x)]).unwrap();
            for (y, e) in y.as_slice::<f32>().iter().zip(expected) {
                assert!((y - e).abs() < 1e-6, "{y} and {e}");
            }
        }
    }

    #[test]
    fn every_isa_agrees_with_double_precision() {
        let op = Lrn { alpha: 1e-1, beta: 0.75, bias: 2.0, size: 5 };
        let x: Vec<f32> = (0..2 * 7 * 19).map(|i| (i * 37 % 101) as f32 / 10.0 - 5.0).collect();
        let wide: Vec<f64> = x.iter().map(|&x| x as f64).collect();
        let shape = [2, 7, 19];
        let exact = run1(Isa::best(), op.clone(), &[Tensor::from_slice(&shape, &wide)]).unwrap();
        for isa in Isa::available() {
            let y = run1(isa, op.clone(), &[Tensor::from_slice(&shape, &x)]).unwrap();
            for (y, e) in y.as_slice::<f32>().iter().zip(exact.as_slice::<f64>()) {
                assert!((*y as f64 - e).abs() < 1e-5, "{y} and {e}");
            }
        }
    }
}
