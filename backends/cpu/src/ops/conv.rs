//! Conv: y = activation(conv(x, w) + bias + residual).

use rinfer_graph::ops::{Conv, Window};
use rinfer_graph::{DType, Reason, Tensor, unsupported};

use super::staged::{needed, single};
use crate::conv::{Follow, Geometry, Operands, Plan, patches, reference};
use crate::gemm::PackedA;
use crate::kernel::{Args, Cx, Kernel};
use crate::math::Activation;
use crate::simd::Isa;

/// The sizes of a convolution with `x` at input 0 and `w` at input `w`.
pub(super) fn geometry(
    window: &Window,
    group: usize,
    cx: &Cx<'_>,
    w: usize,
) -> Result<Geometry, Reason> {
    let (x, w) = (cx.sizes(0)?, cx.sizes(w)?);
    let spans = window.spans(&w[2..], &x[2..])?;
    Geometry::new(x[0], group, (x[1], w[0]), &spans)
}

/// Packs the weights of a convolution ahead of its first run, if it will use them packed.
pub(super) fn prepack(op: &Conv, cx: &Cx<'_>) -> Result<(), Reason> {
    if cx.dtype(0)? == DType::F32 {
        packed(op.group, cx)?;
    }
    Ok(())
}

/// The weights packed for matrix products, if they are weights and not depthwise.
fn packed(group: usize, cx: &Cx<'_>) -> Result<Option<std::sync::Arc<Vec<PackedA>>>, Reason> {
    let Some(w) = cx.input(1)?.sizes().filter(|w| w.len() > 2 && w[1] > 1) else {
        return Ok(None);
    };
    let isa = cx.isa;
    let (m, k) = (w[0] / group.max(1), w[1..].iter().product());
    cx.packed(1, 1, |w| patches::pack(isa, group, m, k, w.as_slice::<f32>()))
}

pub(super) fn compile(op: &Conv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = geometry(&op.window, op.group, cx, 1)?;
    let activation = op.activation.map_or(Activation::None, Activation::from);
    let isa = cx.isa;
    match cx.dtype(0)? {
        DType::F32 => {
            let plan = Plan::new(&g)?;
            let packed = match plan {
                Plan::Patches(_) => packed(op.group, cx)?,
                Plan::Depthwise(_) => None,
            };
            Ok(Kernel::new(move |args| {
                let operands = Operands {
                    x: args.input(0)?.as_slice(),
                    w: args.input(1)?.as_slice(),
                    packed: packed.as_ref().map(|p| p.as_slice()),
                };
                let follow = Follow {
                    bias: args.opt(2).map(Tensor::as_slice),
                    residual: args.opt(3).map(Tensor::as_slice),
                    activation,
                };
                let cx = args.cx;
                plan.run(isa, &g, &operands, &follow, args.outputs[0].as_mut_slice(), cx)
            }))
        }
        DType::F64 => Ok(Kernel::new(move |args| double(&g, activation, args))),
        DType::F16 | DType::BF16 => half(isa, g, activation),
        other => Err(unsupported!("Conv of {other} is not supported")),
    }
}

/// Half precision: everything widened, and the result rounded once.
fn half(isa: Isa, g: Geometry, activation: Activation) -> Result<Kernel, Reason> {
    let plan = Plan::new(&g)?;
    Ok(Kernel::new(move |args| {
        let cx = args.cx;
        single(isa, args, |inputs, outputs| {
            let (x, w) = (needed(inputs, 0)?, needed(inputs, 1)?);
            let get = |i: usize| inputs.get(i).copied().flatten();
            let follow = Follow { bias: get(2), residual: get(3), activation };
            let operands = Operands { x, w, packed: None };
            plan.run(isa, &g, &operands, &follow, outputs[0], cx)
        })
    }))
}

fn double(g: &Geometry, activation: Activation, args: &mut Args<'_>) -> Result<(), Reason> {
    let (x, w) = (args.input(0)?.as_slice::<f64>(), args.input(1)?.as_slice::<f64>());
    let bias = args.opt(2).map(|b| b.as_slice::<f64>());
    let residual = args.opt(3).map(|r| r.as_slice::<f64>());
    let cx = args.cx;
    let y = args.outputs[0].as_mut_slice::<f64>();
    reference::convolve(g, (x, w), y, cx, |m, y| {
        let b = bias.map_or(0.0, |b| b[m]);
        y.iter_mut().for_each(|y| *y += b);
    })?;
    if let Some(r) = residual {
        y.iter_mut().zip(r).for_each(|(y, r)| *y += r);
    }
    if activation != Activation::None {
        y.iter_mut().for_each(|y| *y = f64::from(activation.scalar(*y as f32)));
    }
    Ok(())
}
