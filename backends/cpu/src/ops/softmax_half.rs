//! Softmax of float16 and bfloat16: every step rounded as ONNX's function rounds it.
//!
//! e = round(exp(round(x - max))), y = round(e / round(Σ e))
//!
//! ONNX defines Softmax by ReduceMax, Sub, Exp, ReduceSum and Div, each of which gives float16;
//! ONNX Runtime and the reference evaluator round so, too.
use rinfer_graph::Reason;

use super::softmax::{Axes, source};
use super::wide::Wide;
use crate::kernel::Args;
use crate::par;

pub(super) fn run<T: Wide>(axes: Axes, args: &mut Args<'_>) -> Result<(), Reason> {
    let Axes { n, inner, .. } = axes;
    let x = source::<T>(args);
    let (cx, y) = (args.cx, args.outputs[0].as_mut_slice::<T>());
    if !x.is_empty() {
        y.copy_from_slice(x);
    }
    let block = n * inner;
    par::chunks_mut(y, block.max(1), par::grain(block.saturating_mul(10)), |_, y| {
        if cx.check().is_err() {
            return;
        }
        for i in 0..inner {
            column(y, i, inner);
        }
    });
    cx.check()
}

/// The elements from `first` on, `stride` apart.
fn column<T: Wide>(y: &mut [T], first: usize, stride: usize) {
    let round = |x: f32| single(T::narrow(x.into()));
    let larger = |a: f32, b: f32| if a.is_nan() || a > b { a } else { b };
    let all = y.iter().skip(first).step_by(stride);
    let max = all.fold(f32::NEG_INFINITY, |max, x| larger(max, single(*x)));
    let mut sum = 0.0;
    for y in y.iter_mut().skip(first).step_by(stride) {
        let e = round(round(single(*y) - max).exp());
        sum += e;
        *y = T::narrow(e.into());
    }
    let sum = round(sum);
    for y in y.iter_mut().skip(first).step_by(stride) {
        *y = T::narrow((single(*y) / sum).into());
    }
}

fn single<T: Wide>(x: T) -> f32 {
    x.wide() as f32
}

#[cfg(test)]
mod tests {
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use half::f16;
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::{Axis, Softmax, SoftmaxKind};

    #[test]
    fn every_step_is_rounded_to_float16() {
        let x = [0.3f32, 1.7, -0.9, 0.45].map(f16::from_f32);
        let e = x.map(|v| f16::from_f32((v - x[1]).to_f32().exp()));
        let sum = f16::from_f32(e.iter().map(|e| e.to_f32()).sum());
        let want = e.map(|e| f16::from_f32(e.to_f32() / sum.to_f32()));
        let op = Softmax { kind: SoftmaxKind::Softmax, axis: Axis(0) };
        for shape in [&[4usize][..], &[4, 1]] {
            let y = run1(Isa::best(), op.clone(), &[Tensor::from_slice(shape, &x)]).unwrap();
            assert_eq!(y.as_slice::<f16>(), want);
        }
    }
}
