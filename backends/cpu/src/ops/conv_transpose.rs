//! ConvTranspose: y = activation(transposed(x, w) + bias).
//!
//! Each input pixel times the weights of all its taps is a matrix product; what it gives is then
//! added to the outputs under the taps, channel by channel.

use std::sync::Arc;

use rinfer_graph::ops::{ConvTranspose, Span};
use rinfer_graph::{DType, Reason};

use super::staged::{self, needed, single, typed};
use crate::conv::geometry::{Geometry, tap};
use crate::conv::reference;
use crate::gemm::room::{self, Lies};
use crate::gemm::{Gemm, Lhs, PackedA, Rhs, Strided};
use crate::kernel::{Cx, Kernel, limit};
use crate::math::Activation;
use crate::math::activation::activate;
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// The convolution whose transpose this is: it takes y, its input, to x, its output.
fn geometry(op: &ConvTranspose, cx: &Cx<'_>) -> Result<Geometry, Reason> {
    let (x, y, w) = (cx.sizes(0)?, cx.out_sizes(0)?, cx.sizes(1)?);
    let turn = |s: Span| Span { input: s.output, output: s.input, ..s };
    let spans: Vec<Span> = op.spans(&w[2..], &x[2..])?.into_iter().map(turn).collect();
    Geometry::new(x[0], op.group, (y[1], x[1]), &spans)
}

pub(super) fn compile(op: &ConvTranspose, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = geometry(op, cx)?;
    let activation = op.activation.map_or(Activation::None, Activation::from);
    let isa = cx.isa;
    if cx.dtype(0)? == DType::F64 {
        return Ok(Kernel::new(move |args| {
            let run = args.cx;
            typed::<f64>(args, |inputs, outputs| {
                let (x, w) = (needed(inputs, 0)?, needed(inputs, 1)?);
                let bias = inputs.get(2).copied().flatten();
                reference::transposed(&g, (x, w), outputs[0], run, |c, y| {
                    let b = bias.map_or(0.0, |b| b[c]);
                    for y in y {
                        *y += b;
                        if activation != Activation::None {
                            *y = activation.scalar(*y as f32).into();
                        }
                    }
                })
            })
        }));
    }
    let packed = match cx.dtype(0)? {
        DType::F32 => cx.packed(1, 2, |w| pack(isa, &g, w.as_slice()))?,
        _ => None,
    };
    let scratch = staged::scratch(cx).and(scratch(isa, &g, packed.is_some()));
    Ok(Kernel::new(move |args| {
        let run = args.cx;
        single(isa, args, |inputs, outputs| {
            let (x, w) = (needed(inputs, 0)?, needed(inputs, 1)?);
            let bias = inputs.get(2).copied().flatten();
            let weights = match &packed {
                Some(packed) => packed.clone(),
                None => Arc::new(pack(isa, &g, w)?),
            };
            run.check()?;
            let job = Job { isa, g: &g, bias, activation };
            job.run(x, &weights, outputs[0])
        })
    })
    .takes(scratch))
}

/// What a run takes: what each tap gives to the outputs under it, and the weights if they are not
/// packed.
fn scratch(isa: Isa, g: &Geometry, packed: bool) -> Scratch {
    let (rows, pixels) = (g.c * g.taps(), g.out_len());
    let sizes = (rows, pixels, g.m);
    let product = room::scratch(isa, sizes, Lies::Packed, Lies::Plain([pixels, 1]));
    let weights = if packed { 0 } else { g.group * rows * g.m };
    Scratch::floats(rows * pixels)
        .and(product)
        .in_loop(g.batch * g.group, grain(g))
        .and(Scratch::floats(weights))
}

/// Images, each by group, worth handing to another thread.
fn grain(g: &Geometry) -> usize {
    par::grain((g.c * g.taps() * g.out_len()).saturating_mul(g.m) / 32)
}

/// For each group the weights as [c · taps, m]: rows are what one input channel adds to.
fn pack(isa: Isa, g: &Geometry, w: &[f32]) -> Result<Vec<PackedA>, Reason> {
    let rows = g.c * g.taps();
    (0..g.group)
        .map(|i| {
            let w = w.get(i * g.m * rows..).unwrap_or_default();
            PackedA::pack(isa, rows, g.m, Strided { data: w, row: 1, col: rows }).map_err(limit)
        })
        .collect()
}

struct Job<'a> {
    isa: Isa,
    g: &'a Geometry,
    bias: Option<&'a [f32]>,
    activation: Activation,
}

impl Job<'_> {
    fn run(&self, x: &[f32], weights: &[PackedA], y: &mut [f32]) -> Result<(), Reason> {
        let g = self.g;
        let (pixels, len, taps) = (g.out_len(), g.in_len(), g.taps());
        let (from, to) = (g.m * pixels, g.c * len);
        if y.is_empty() {
            return Ok(());
        }
        let failure = par::Failure::default();
        par::chunks_mut(y, to, grain(g), |i, y| {
            failure.attempt(|| {
                let x = &x[i * from..][..from];
                with_scratch(g.c * taps * pixels, |sums| {
                    let a = Lhs::Packed(&weights[i % g.group]);
                    let b = Rhs::Plain(Strided::rows(x, pixels));
                    Gemm::new((g.c * taps, pixels, g.m), a, b).run(self.isa, sums, pixels)?;
                    let grain = par::grain(taps * pixels + len);
                    par::chunks_mut(y, len, grain, |c, y| {
                        let channel = i % g.group * g.c + c;
                        y.fill(self.bias.map_or(0.0, |b| b[channel]));
                        add(g, &sums[c * taps * pixels..][..taps * pixels], y);
                        activate(self.isa, self.activation, y);
                    });
                    Ok(())
                })
                .and_then(|done| done)
                .map_err(limit)
            });
        });
        failure.result()
    }
}

/// Adds what each tap gives to the outputs under it: `sums` is [taps, x's pixels].
fn add(g: &Geometry, sums: &[f32], y: &mut [f32]) {
    let [d, h, w] = &g.axes;
    let mut rows = sums.chunks_exact(w.output.max(1));
    for kd in 0..d.kernel {
        for kh in 0..h.kernel {
            for kw in 0..w.kernel {
                for z in 0..d.output {
                    for r in 0..h.output {
                        let Some(row) = rows.next() else { return };
                        if let (Some(z), Some(r)) = (tap(d, z, kd), tap(h, r, kh)) {
                            let y = &mut y[(z * h.input + r) * w.input..][..w.input];
                            add_row(w, kw, row, y);
                        }
                    }
                }
            }
        }
    }
}

/// `y[o · stride + k · dilation - before] += x[o]` where that is inside.
fn add_row(a: &Span, k: usize, x: &[f32], y: &mut [f32]) {
    let first = a.before.saturating_sub(k * a.dilation).div_ceil(a.stride);
    let Some(x) = x.get(first..) else { return };
    let Some(y) = y.get_mut(first * a.stride + k * a.dilation - a.before..) else { return };
    match a.stride {
        1 => y.iter_mut().zip(x).for_each(|(y, x)| *y += x),
        2 => {
            let whole = y.len() / 2;
            if let (Some(y), Some(x)) = (y.get_mut(2 * whole), x.get(whole)) {
                *y += x;
            }
            y.chunks_exact_mut(2).zip(x).for_each(|(y, x)| y[0] += x);
        }
        s => y.iter_mut().step_by(s).zip(x).for_each(|(y, x)| *y += x),
    }
}

#[cfg(test)]
mod tests {
    use rinfer_graph::backend::RunCx;
    use rinfer_graph::ops::{Padding, PerAxis, Window};
    use rinfer_graph::{Tensor, Value};

    use super::*;
    use crate::conv::testing::Random;
    use crate::eval::testing::run1;

    #[test]
    fn products_and_sums_agree_with_the_plain_loops() {
        let mut r = Random::new(5);
        for _ in 0..60 {
            let group = 1 + r.below(3);
            let mut g = Geometry::random(&mut r, group);
            g.batch = 2;
            let x = r.floats(g.batch * g.group * g.m * g.out_len());
            let w = r.floats(g.group * g.m * g.c * g.taps());
            let bias = r.floats(g.group * g.c);
            let mut wanted = vec![0f32; g.batch * g.group * g.c * g.in_len()];
            let cx = RunCx::unbounded();
            reference::transposed(&g, (&x, &w), &mut wanted, &cx, |c, y| {
                y.iter_mut().for_each(|y| *y = (*y + bias[c]).max(0.0));
            })
            .unwrap();
            for isa in Isa::available() {
                let mut y = vec![f32::NAN; wanted.len()];
                let weights = pack(isa, &g, &w).unwrap();
                let activation = Activation::Relu;
                let job = Job { isa, g: &g, bias: Some(&bias), activation };
                job.run(&x, &weights, &mut y).unwrap();
                for (y, wanted) in y.iter().zip(&wanted) {
                    assert!((y - wanted).abs() < 1e-4, "{y} is not {wanted} in {g:?}");
                }
            }
        }
    }

    #[test]
    fn stride_two_doubles_the_row() {
        let window = Window {
            kernel: PerAxis::new(),
            strides: [2].into_iter().collect(),
            dilations: PerAxis::new(),
            padding: Padding::Valid,
            ceil_mode: false,
        };
        let op = ConvTranspose {
            window,
            group: 1,
            output_padding: PerAxis::new(),
            output_shape: PerAxis::new(),
            activation: None,
        };
        let x = Tensor::from_slice(&[1, 1, 3], &[1f32, 2.0, 3.0]);
        let w = Tensor::from_slice(&[1, 1, 2], &[1f32, 10.0]);
        let y = run1(Isa::best(), op.clone(), &[x, w]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let x = Tensor::from_slice(&[1, 1, 1], &[3f64]);
        let w = Tensor::from_slice(&[1, 1, 2], &[1f64, 10.0]);
        let y = run1(Isa::best(), op, &[x, w]).unwrap();
        assert_eq!(Value::Tensor(y), Value::Tensor(Tensor::from_slice(&[1, 1, 2], &[3f64, 30.0])));
    }
}
