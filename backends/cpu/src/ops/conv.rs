//! Conv: y = activation(conv(x, w) + bias + residual).

use rinfer_graph::ops::Conv;
use rinfer_graph::{DType, Reason, unsupported};

use crate::conv::{Geometry, reference};
use crate::kernel::{Args, Cx, Kernel};
use crate::math::Activation;

/// The sizes of a convolution with `x` at input 0 and `w` at input `w`.
pub(super) fn geometry(
    window: &rinfer_graph::ops::Window,
    group: usize,
    cx: &Cx<'_>,
    w: usize,
) -> Result<Geometry, Reason> {
    let (x, w) = (cx.sizes(0)?, cx.sizes(w)?);
    let spans = window.spans(&w[2..], &x[2..])?;
    Geometry::new(x[0], group, (x[1], w[0]), &spans)
}

pub(super) fn compile(op: &Conv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = geometry(&op.window, op.group, cx, 1)?;
    let activation = op.activation.map_or(Activation::None, Activation::from);
    match cx.dtype(0)? {
        DType::F32 => Ok(Kernel::new(move |args| {
            let (x, w) = (args.input(0)?.as_slice::<f32>(), args.input(1)?.as_slice::<f32>());
            let bias = args.opt(2).map(|b| b.as_slice::<f32>());
            let residual = args.opt(3).map(|r| r.as_slice::<f32>());
            let cx = args.cx;
            let y = args.outputs[0].as_mut_slice::<f32>();
            reference::convolve(&g, (x, w), y, cx, |m, y| {
                let b = bias.map_or(0.0, |b| b[m]);
                y.iter_mut().for_each(|y| *y += b);
            })?;
            if let Some(r) = residual {
                y.iter_mut().zip(r).for_each(|(y, r)| *y += r);
            }
            y.iter_mut().for_each(|y| *y = activation.scalar(*y));
            Ok(())
        })),
        DType::F64 => Ok(Kernel::new(move |args| double(&g, activation, args))),
        other => Err(unsupported!("Conv of {other} is not supported")),
    }
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
