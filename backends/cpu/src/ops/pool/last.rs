//! Pools over images whose channels stand side by side: x [n, h, w, c] → y [n, h', w', c].

use std::sync::Arc;

use rinfer_graph::ops::{Pool, PoolKind, Span};
use rinfer_graph::{DType, Reason, unsupported};

use crate::conv::Geometry;
use crate::conv::chain::{Layer, Weights};
use crate::conv::geometry::taps_inside;
use crate::conv::pool_last::{self, Take};
use crate::kernel::{Cx, Kernel};
use crate::math::Activation;
use crate::ops::conv::compile_layer;
use crate::par;
use crate::simd::Isa;

/// As the pool's own kernel, for operands laid out so; the layer that it is, for numbers in f32.
pub(crate) fn compile(op: &Pool, cx: &Cx<'_>) -> Result<(Kernel, Option<Layer>), Reason> {
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
    let g = Geometry::new(x[0], x[3], (x[3], x[3]), &axes)?;
    if codes {
        let kernel = Kernel::new(move |args| {
            let x = args.input(0)?;
            let y = args.outputs[0].as_mut_bytes();
            match dtype {
                DType::U8 => code_rows::<u8>(isa, &g, x.as_bytes(), y),
                _ => {
                    let (x, y) = (bytemuck::cast_slice(x.as_bytes()), bytemuck::cast_slice_mut(y));
                    code_rows::<i8>(isa, &g, x, y);
                }
            }
            Ok(())
        });
        return Ok((kernel, None));
    }
    let take = match op.kind {
        PoolKind::Average { count_include_pad: true } => Take::PaddedMean,
        PoolKind::Average { .. } => Take::Mean,
        _ => Take::Max,
    };
    let weights = Weights::Pool(Arc::new(pool_last::Pool::new(g.clone(), take)));
    let layer = Layer { g, weights, activation: Activation::None };
    Ok((compile_layer(isa, layer.clone()), Some(layer)))
}

/// A window as large as the axis.
fn whole(n: usize) -> Span {
    Span { input: n, output: 1, kernel: n, stride: 1, dilation: 1, before: 0, after: 0 }
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
fn code_rows<T: Code>(isa: Isa, g: &Geometry, x: &[T], y: &mut [T]) {
    let (row, height) = (g.axes[2].output * g.group, g.axes[1].output);
    let image = g.group * g.in_len();
    par::rows(y, row, row * g.taps() / 32, |rows, y| {
        for (r, y) in rows.zip(y.chunks_exact_mut(row)) {
            let x = &x[r / height * image..][..image];
            code_row(isa, g, x, r % height, y);
        }
    });
}

crate::simd_fn! {
    /// One row of one image's outputs, of codes.
    fn code_row<T: Code>(_s: S, g: &Geometry, x: &[T], oy: usize, y: &mut [T]) {
        let ([_, h, w], c) = (&g.axes, g.group);
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
