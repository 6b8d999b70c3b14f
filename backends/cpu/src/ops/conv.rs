//! Conv: y = activation(conv(x, w) + bias + residual).

use std::sync::Arc;

use rinfer_graph::ops::{Conv, Window};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{DType, Dim, Fact, Reason, Tensor, unsupported};

use super::staged::{self, needed, single};
use crate::conv::chain::{self, Chain, ChainAdded, Layer};
use crate::conv::{
    Among, Follow, Geometry, Operands, Plan, Weights, first, last, reference, winograd,
};
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
/// how depends on it. How many images there are does not matter.
pub(super) fn prepack(op: &Conv, cx: &Cx<'_>) -> Result<(), Reason> {
    let size = |(i, dim): (usize, &Dim)| match (i, dim) {
        (_, Dim::N(n)) => usize::try_from(*n).ok(),
        (0, _) => Some(1),
        _ => None,
    };
    let x = cx.input(0)?.shape().and_then(|x| x.iter().enumerate().map(size).collect());
    let w = cx.opt(1).and_then(Fact::sizes);
    let (Some(x), Some(w), DType::F32) = (x, w, cx.dtype(0)?) else { return Ok(()) };
    let x: Sizes = x;
    let spans = op.window.spans(&w[2..], &x[2..])?;
    let g = Geometry::new(x[0], op.group, (x[1], w[0]), &spans)?;
    match cx.packs.channels_last() {
        true if first::suits(&g) => drop(ready_first(&g, cx)?),
        true if last::suits(&g) => drop(ready_last(&g, cx)?),
        _ => drop(ready(&g, cx)?),
    }
    Ok(())
}

/// The convolution for a result whose channels stand side by side, [n, h, w, c], and an image that
/// is laid out so too.
///
/// # Errors
/// The weights are not known, or the convolution is none that gains by this.
pub(crate) fn layer_last(op: &Conv, cx: &Cx<'_>) -> Result<Layer, Reason> {
    let g = image_of(op, cx, 3)?;
    let ready = if last::suits(&g) { ready_last(&g, cx)? } else { None };
    let weights = ready.ok_or_else(|| unsupported!("channels side by side for {g:?}"))?;
    Ok(layer(op, g, chain::Weights::Last(weights)))
}

/// As [`layer_last`], for an image as the model has it, [n, c, h, w].
///
/// # Errors
/// The weights are not known, or the image has many channels.
pub(crate) fn layer_first(op: &Conv, cx: &Cx<'_>) -> Result<Layer, Reason> {
    let g = image_of(op, cx, 1)?;
    let ready = if first::suits(&g) { ready_first(&g, cx)? } else { None };
    let weights = ready.ok_or_else(|| unsupported!("a first convolution for {g:?}"))?;
    Ok(layer(op, g, chain::Weights::First(weights)))
}

fn layer(op: &Conv, g: Geometry, weights: chain::Weights) -> Layer {
    Layer { g, weights, activation: op.activation.map_or(Activation::None, Activation::from) }
}

/// The kernel of a layer: image, weights, bias, residual.
pub(crate) fn compile_layer(isa: Isa, layer: Layer) -> Kernel {
    let scratch = layer.scratch(isa);
    Kernel::new(move |args| {
        let added = (args.opt(2).map(Tensor::as_slice), args.opt(3).map(Tensor::as_slice));
        let (x, cx) = (args.input(0)?.as_slice(), args.cx);
        layer.run(isa, x, added, args.outputs[0].as_mut_slice(), cx)
    })
    .takes(scratch)
}

/// As [`compile_layer`], into some channels of an output whose others input 4 holds, if it is there:
/// it is overwritten where that can be.
pub(crate) fn compile_layer_among(isa: Isa, layer: Layer, among: Among) -> Kernel {
    let scratch = layer.scratch(isa);
    let kernel = Kernel::new(move |args| {
        let added = (args.opt(2).map(Tensor::as_slice), args.opt(3).map(Tensor::as_slice));
        let (x, others) = (args.input(0)?.as_slice(), args.opt(4).map(Tensor::as_slice));
        let y = args.outputs[0].as_mut_slice::<f32>();
        if let Some(others) = others {
            y.copy_from_slice(others);
        }
        layer.run_among(isa, x, added, (y, among), args.cx)
    });
    kernel.in_place(&[4]).takes(scratch)
}

/// The kernel of layers that follow one another: image, the bias of each, residual.
pub(crate) fn compile_chain(isa: Isa, chain: Chain) -> Kernel {
    let scratch = chain.scratch(isa);
    Kernel::new(move |args| {
        let slice = |i: usize| args.opt(i).map(Tensor::as_slice);
        let added = ChainAdded { biases: [slice(1), slice(2), slice(3)], residual: slice(4) };
        chain.run(isa, args.input(0)?.as_slice(), &added, args.outputs[0].as_mut_slice())
    })
    .takes(scratch)
}

fn image_of(op: &Conv, cx: &Cx<'_>, channels: usize) -> Result<Geometry, Reason> {
    if cx.dtype(0)? != DType::F32 {
        return Err(unsupported!("channels side by side of {}", cx.dtype(0)?));
    }
    image(&op.window, op.group, cx, (1, channels))
}

/// The sizes of a convolution of images whose channels are axis `channels`, weights at input `w`.
pub(super) fn image(
    window: &Window,
    group: usize,
    cx: &Cx<'_>,
    (w, channels): (usize, usize),
) -> Result<Geometry, Reason> {
    let (x, w) = (cx.sizes(0)?, cx.sizes(w)?);
    if x.len() != 4 || w.len() != 4 {
        return Err(unsupported!("channels side by side in {} axes", x.len()));
    }
    let pixels = if channels == 1 { &x[2..] } else { &x[1..3] };
    let spans = window.spans(&w[2..], pixels)?;
    Geometry::new(x[0], group, (x[channels], w[0]), &spans)
}

fn ready_first(g: &Geometry, cx: &Cx<'_>) -> Result<Option<Arc<first::Weights>>, Reason> {
    cx.packed(1, 0, |w| Ok(first::Weights::pack(cx.isa, g, w.as_slice::<f32>())))
}

fn ready_last(g: &Geometry, cx: &Cx<'_>) -> Result<Option<Arc<last::Weights>>, Reason> {
    let kind = u64::from(winograd::suits(g));
    cx.packed(1, kind, |w| last::Weights::pack(cx.isa, g, w.as_slice::<f32>()))
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
            let scratch = plan.scratch(isa, &g, ready.is_some());
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
            })
            .takes(scratch))
        }
        DType::F64 => Ok(Kernel::new(move |args| double(&g, activation, args))),
        DType::F16 | DType::BF16 => half(cx, g, activation),
        other => Err(unsupported!("Conv of {other} is not supported")),
    }
}

/// Half precision: everything widened, and the result rounded once.
fn half(cx: &Cx<'_>, g: Geometry, activation: Activation) -> Result<Kernel, Reason> {
    let (isa, plan) = (cx.isa, Plan::new(&g)?);
    let scratch = staged::scratch(cx).and(plan.scratch(isa, &g, false));
    Ok(Kernel::new(move |args| {
        let cx = args.cx;
        single(isa, args, |inputs, outputs| {
            let (x, w) = (needed(inputs, 0)?, needed(inputs, 1)?);
            let get = |i: usize| inputs.get(i).copied().flatten();
            let follow = Follow { bias: get(2), residual: get(3), activation };
            let operands = Operands { x, w, ready: None };
            plan.run(isa, &g, &operands, &follow, outputs[0], cx)
        })
    })
    .takes(scratch))
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
