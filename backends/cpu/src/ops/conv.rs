//! Conv: y = activation(conv(x, w) + bias + residual).

use std::sync::Arc;

use rinfer_graph::ops::{Conv, Window};
use rinfer_graph::{DType, Reason, Tensor, unsupported};

use super::staged::{needed, single};
use crate::conv::{Follow, Geometry, Operands, Plan, Weights, reference, winograd};
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

/// Makes the weights of a convolution ready ahead of its first run, if the image's size is known:
/// how depends on it.
pub(super) fn prepack(op: &Conv, cx: &Cx<'_>) -> Result<(), Reason> {
    let known = |i: usize| cx.opt(i).is_some_and(|f| f.sizes().is_some());
    if cx.dtype(0)? == DType::F32 && known(0) && known(1) {
        ready(&geometry(&op.window, op.group, cx, 1)?, cx)?;
    }
    Ok(())
}

/// The weights made ready, if they are known and not used as they are.
fn ready(g: &Geometry, cx: &Cx<'_>) -> Result<Option<Arc<Weights>>, Reason> {
    if g.c == 1 {
        return Ok(None);
    }
    // Convolutions that share weights may use them in both ways, or in other groups.
    let kind = 2 * g.group as u64 + u64::from(winograd::suits(g));
    cx.packed(1, kind, |w| Weights::pack(cx.isa, g, w.as_slice::<f32>()))
}

pub(super) fn compile(op: &Conv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = geometry(&op.window, op.group, cx, 1)?;
    let activation = op.activation.map_or(Activation::None, Activation::from);
    let isa = cx.isa;
    match cx.dtype(0)? {
        DType::F32 => {
            let (plan, ready) = (Plan::new(&g)?, ready(&g, cx)?);
            Ok(Kernel::new(move |args| {
                let operands = Operands {
                    x: args.input(0)?.as_slice(),
                    w: args.input(1)?.as_slice(),
                    ready: ready.as_deref(),
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
            let operands = Operands { x, w, ready: None };
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
