//! DeformConv: patches are sampled where the offsets put their taps, then multiplied by the weights.

use rinfer_graph::ops::{DeformConv, Span};
use rinfer_graph::{DType, Reason, unsupported};

use super::conv::geometry;
use super::staged::{self, Inputs, Outputs, Real, needed, single, typed};
use crate::conv::Geometry;
use crate::gemm::{Number, Write, gemm_generic};
use crate::kernel::{Cx, Kernel, limit};
use crate::par;
use crate::pool::with_scratch_of;
use crate::scratch::Scratch;
use crate::simd::Isa;

pub(super) fn compile(op: &DeformConv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let job =
        Job { isa: cx.isa, g: geometry(&op.window, op.group, cx, 1)?, groups: op.offset_group };
    let g = &job.g;
    let patches = g.group * g.c * g.taps() * g.out_len();
    match cx.dtype(0)? {
        DType::F64 => Ok(Kernel::new(move |args| {
            typed::<f64>(args, |inputs, outputs| job.run(inputs, outputs))
        })
        .takes(Scratch::of::<f64>(patches))),
        DType::F32 | DType::F16 | DType::BF16 => Ok(Kernel::new(move |args| {
            let isa = job.isa;
            single(isa, args, |inputs, outputs| job.run(inputs, outputs))
        })
        .takes(staged::scratch(cx).and(Scratch::floats(patches)))),
        other => Err(unsupported!("DeformConv of {other} is not supported")),
    }
}

struct Job {
    isa: Isa,
    g: Geometry,
    /// Groups of input channels that share offsets.
    groups: usize,
}

impl Job {
    fn run<R: Real + Number>(
        &self,
        inputs: &Inputs<'_, R>,
        outputs: &mut Outputs<'_, R>,
    ) -> Result<(), Reason> {
        let g = &self.g;
        let (x, w, offset) = (needed(inputs, 0)?, needed(inputs, 1)?, needed(inputs, 2)?);
        let get = |i: usize| inputs.get(i).copied().flatten();
        let (bias, mask) = (get(3), get(4));
        let (len, out, taps) = (g.in_len(), g.out_len(), g.taps());
        let (c, m, k) = (g.group * g.c, g.group * g.m, g.c * g.taps());
        if outputs[0].is_empty() {
            return Ok(());
        }
        let per_image = self.groups * taps * out;
        with_scratch_of(c * taps * out, |patches: &mut [R]| {
            for (n, y) in outputs[0].chunks_exact_mut(m * out).enumerate() {
                let offset = &offset[n * 2 * per_image..][..2 * per_image];
                let mask = mask.map(|mask| &mask[n * per_image..][..per_image]);
                let grain = par::grain(taps * out * 8);
                par::chunks_mut(patches, taps * out, grain, |ch, patches| {
                    let x = &x[(n * c + ch) * len..][..len];
                    let first = ch / (c / self.groups).max(1) * taps;
                    let offset = &offset[2 * first * out..][..2 * taps * out];
                    let mask = mask.map(|mask| &mask[first * out..][..taps * out]);
                    self.patch(x, offset, mask, patches);
                });
                for (i, y) in y.chunks_exact_mut(g.m * out).enumerate() {
                    let a = (&w[i * g.m * k..][..g.m * k], (k, 1));
                    let b = (&patches[i * k * out..][..k * out], (out, 1));
                    gemm_generic(self.isa, (g.m, out, k), a, b, Write::Set, y).map_err(limit)?;
                }
                if let Some(bias) = bias {
                    for (y, &b) in y.chunks_exact_mut(out).zip(bias) {
                        y.iter_mut().for_each(|y| *y = *y + b);
                    }
                }
            }
            Ok(())
        })
        .map_err(limit)?
    }

    /// The patches of one channel: [taps, outputs].
    fn patch<R: Real>(&self, x: &[R], offset: &[R], mask: Option<&[R]>, patches: &mut [R]) {
        let [_, h, w] = &self.g.axes;
        let out = h.output * w.output;
        let start =
            |a: &Span, o: usize, k: usize| (o * a.stride + k * a.dilation) as f64 - a.before as f64;
        for (tap, patches) in patches.chunks_exact_mut(out).enumerate() {
            let (down, right) = (&offset[2 * tap * out..], &offset[(2 * tap + 1) * out..]);
            let mask = mask.map(|mask| &mask[tap * out..]);
            for (o, y) in patches.iter_mut().enumerate() {
                let r = R::of(start(h, o / w.output, tap / w.kernel)) + down[o];
                let c = R::of(start(w, o % w.output, tap % w.kernel)) + right[o];
                let v = bilinear(x, (h.input, w.input), r, c);
                *y = mask.map_or(v, |mask| v * mask[o]);
            }
        }
    }
}

/// The value at a place between pixels; pixels outside are zero.
fn bilinear<R: Real>(x: &[R], (height, width): (usize, usize), r: R, c: R) -> R {
    let (top, left) = (r.floor(), c.floor());
    let (fr, fc) = (r - top, c - left);
    let pixel = |r: f64, c: f64| {
        let inside = r >= 0.0 && c >= 0.0 && r < height as f64 && c < width as f64;
        if inside { x[r as usize * width + c as usize] } else { R::ZERO }
    };
    let (top, left) = (top.to_f64(), left.to_f64());
    let row = |r: f64| pixel(r, left) * (R::ONE - fc) + pixel(r, left + 1.0) * fc;
    if top.is_nan() || left.is_nan() {
        return R::ZERO;
    }
    row(top) * (R::ONE - fr) + row(top + 1.0) * fr
}

#[cfg(test)]
mod tests {
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::{Padding, PerAxis, Window};

    use super::*;
    use crate::eval::testing::run1;

    #[test]
    fn an_offset_moves_a_tap() {
        let window = Window {
            kernel: PerAxis::new(),
            strides: PerAxis::new(),
            dilations: PerAxis::new(),
            padding: Padding::Valid,
            ceil_mode: false,
        };
        let op = DeformConv { window, group: 1, offset_group: 1 };
        let x = Tensor::from_slice(&[1, 1, 2, 2], &[1f32, 2.0, 3.0, 4.0]);
        let w = Tensor::from_slice(&[1, 1, 1, 1], &[2f32]);
        let mut offset = [0f32; 8];
        (offset[0], offset[4 + 3]) = (0.5, 3.0);
        let offset = Tensor::from_slice(&[1, 2, 2, 2], &offset);
        let y = run1(Isa::best(), op, &[x, w, offset]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [4.0, 4.0, 6.0, 0.0]);
    }
}
