//! Pools over images whose channels stand side by side: x [n, h, w, c] → y [n, h', w', c].

use rinfer_graph::ops::{Pool, PoolKind, Span};
use rinfer_graph::{DType, Reason, unsupported};

use crate::conv::geometry::taps_inside;
use crate::kernel::{Cx, Kernel};
use crate::par;
use crate::simd::{F32s, Isa};

/// As the pool's own kernel, for operands laid out so.
pub(crate) fn compile(op: &Pool, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (dtype, x, isa) = (cx.dtype(0)?, cx.sizes(0)?, cx.isa);
    let codes = matches!(dtype, DType::U8 | DType::I8) && matches!(op.kind, PoolKind::Max { .. });
    let images = (dtype == DType::F32 || codes) && x.len() == 4;
    if !images || cx.wants(1) || matches!(op.kind, PoolKind::Lp { .. }) || x.contains(&0) {
        return Err(unsupported!("this pool of {dtype} over channels side by side"));
    }
    let axes = match &op.window {
        Some(window) => window.spans(&window.kernel, &x[1..3])?,
        None => [x[1], x[2]].into_iter().map(whole).collect(),
    };
    let include = matches!(op.kind, PoolKind::Average { count_include_pad: true });
    let counts = [0, 1].map(|i| {
        let a: Span = axes[i];
        // Padding counts only as far as it goes: a last window may end beyond it.
        let padded = Span { input: a.input + a.before + a.after, before: 0, ..a };
        let counted = if include { padded } else { a };
        (0..a.output).map(|o| taps_inside(&counted, o).len()).collect()
    });
    let mean = matches!(op.kind, PoolKind::Average { .. });
    let job = Job { h: axes[0], w: axes[1], c: x[3], counts, mean };
    let row = job.w.output * job.c;
    if codes {
        return Ok(Kernel::new(move |args| {
            let x = args.input(0)?;
            let y = args.outputs[0].as_mut_bytes();
            match dtype {
                DType::U8 => code_rows::<u8>(isa, &job, x.as_bytes(), y),
                _ => {
                    let (x, y) = (bytemuck::cast_slice(x.as_bytes()), bytemuck::cast_slice_mut(y));
                    code_rows::<i8>(isa, &job, x, y);
                }
            }
            Ok(())
        }));
    }
    Ok(Kernel::new(move |args| {
        let x = args.input(0)?.as_slice::<f32>();
        let image = job.h.input * job.w.input * job.c;
        let ns = row * job.h.kernel * job.w.kernel / 16;
        par::rows(args.outputs[0].as_mut_slice::<f32>(), row, ns, |rows, y| {
            for (r, y) in rows.zip(y.chunks_exact_mut(row)) {
                let x = &x[r / job.h.output * image..][..image];
                output_row(isa, &job, x, r % job.h.output, y);
            }
        });
        Ok(())
    }))
}

/// A window as large as the axis.
fn whole(n: usize) -> Span {
    Span { input: n, output: 1, kernel: n, stride: 1, dilation: 1, before: 0, after: 0 }
}

struct Job {
    h: Span,
    w: Span,
    c: usize,
    /// Elements under the window along each axis: what a mean is divided by.
    counts: [Vec<usize>; 2],
    mean: bool,
}

/// Whole numbers whose largest is looked for.
trait Code: Copy + Ord + Send + Sync {
    /// The least there is.
    const LEAST: Self;
}

impl Code for u8 {
    const LEAST: u8 = u8::MIN;
}

impl Code for i8 {
    const LEAST: i8 = i8::MIN;
}

/// The largest codes under each window.
fn code_rows<T: Code>(isa: Isa, job: &Job, x: &[T], y: &mut [T]) {
    let row = job.w.output * job.c;
    let image = job.h.input * job.w.input * job.c;
    par::rows(y, row, row * job.h.kernel * job.w.kernel / 32, |rows, y| {
        for (r, y) in rows.zip(y.chunks_exact_mut(row)) {
            let x = &x[r / job.h.output * image..][..image];
            code_row(isa, job, x, r % job.h.output, y);
        }
    });
}

crate::simd_fn! {
    /// One row of one image's outputs, of codes.
    fn code_row<T: Code>(_s: S, job: &Job, x: &[T], oy: usize, y: &mut [T]) {
        let (h, w, c) = (&job.h, &job.w, job.c);
        for (ox, y) in y.chunks_exact_mut(c).enumerate() {
            y.fill(T::LEAST);
            for ky in taps_inside(h, oy) {
                let iy = oy * h.stride + ky * h.dilation - h.before;
                for kx in taps_inside(w, ox) {
                    let ix = ox * w.stride + kx * w.dilation - w.before;
                    let x = &x[(iy * w.input + ix) * c..][..c];
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (*y).max(x));
                }
            }
        }
    }
}

crate::simd_fn! {
    /// One row of one image's outputs.
    fn output_row(s: S, job: &Job, x: &[f32], oy: usize, y: &mut [f32]) {
        let (h, w, c) = (&job.h, &job.w, job.c);
        let rows = taps_inside(h, oy);
        let start = if job.mean { s.zero() } else { s.splat(f32::NEG_INFINITY) };
        for (ox, y) in y.chunks_exact_mut(c).enumerate() {
            let columns = taps_inside(w, ox);
            let count = s.splat((job.counts[0][oy] * job.counts[1][ox]) as f32);
            for c0 in (0..c).step_by(S::LANES) {
                let mut acc = start;
                for ky in rows.clone() {
                    let iy = oy * h.stride + ky * h.dilation - h.before;
                    for kx in columns.clone() {
                        let ix = ox * w.stride + kx * w.dilation - w.before;
                        let at = (iy * w.input + ix) * c;
                        let v = s.load_partial(&x[at + c0..at + c], 0.0);
                        acc = if job.mean { acc + v } else { s.max_nan(acc, v) };
                    }
                }
                let v = if job.mean { acc / count } else { acc };
                v.store_partial(&mut y[c0..]);
            }
        }
    }
}
