//! ConvInteger and QLinearConv: convolutions of bytes, summed in i32.
//!
//! y = Σ (x - x_zero) · (w - w_zero), and for QLinearConv
//! y = clip(round((Σ + bias) · x_scale · w_scale / y_scale) + y_zero), ties to even

use std::sync::Arc;

use rinfer_graph::ops::{ConvInteger, QLinearConv};
use rinfer_graph::{DType, Element, Reason, Tensor, invalid, unsupported};

use super::conv::geometry;
use crate::conv::{Geometry, integer};
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::pool::with_scratch_of;

pub(super) fn compile(op: &ConvInteger, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = geometry(&op.window, op.group, cx, 1)?;
    let plan = integer::Plan::new(&g)?;
    let (isa, ready) = (cx.isa, ready(cx, 1, 3, &g)?);
    Ok(Kernel::new(move |args| {
        let x = wide(args.input(0)?, args.opt(2), 1, "x_zero_point")?;
        let w = weights(args, &ready, 1, 3, &g)?;
        let cx = args.cx;
        plan.run(isa, (&x, &w), args.outputs[0].as_mut_slice::<i32>(), cx)
    }))
}

pub(super) fn compile_qlinear(op: &QLinearConv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = geometry(&op.window, op.group, cx, 3)?;
    let plan = integer::Plan::new(&g)?;
    let (isa, ready) = (cx.isa, ready(cx, 3, 5, &g)?);
    Ok(Kernel::new(move |args| {
        let x = wide(args.input(0)?, args.opt(2), 1, "x_zero_point")?;
        let w = weights(args, &ready, 3, 5, &g)?;
        let len = args.outputs[0].len();
        let cx = args.cx;
        with_scratch_of(len, |sums: &mut [i32]| {
            plan.run(isa, (&x, &w), sums, cx)?;
            match args.outputs[0].dtype() {
                DType::I8 => requantize::<i8>(&g, args, sums, |y| y as i8),
                DType::U8 => requantize::<u8>(&g, args, sums, |y| y as u8),
                other => Err(unsupported!("QLinearConv to {other} is not supported")),
            }
        })
        .map_err(limit)?
    }))
}

/// The weights less their zero points, if both are known beforehand.
fn ready(
    cx: &Cx<'_>,
    w: usize,
    zero: usize,
    g: &Geometry,
) -> Result<Option<Arc<Vec<i32>>>, Reason> {
    let zero = match cx.opt(zero) {
        None => None,
        Some(fact) => match fact.tensor() {
            Some(t) => Some(t.clone()),
            None => return Ok(None),
        },
    };
    cx.packed(w, 3, |w| wide(w, zero.as_ref(), g.group * g.m, "w_zero_point"))
}

fn weights(
    args: &Args<'_>,
    ready: &Option<Arc<Vec<i32>>>,
    w: usize,
    zero: usize,
    g: &Geometry,
) -> Result<Arc<Vec<i32>>, Reason> {
    match ready {
        Some(ready) => Ok(ready.clone()),
        None => wide(args.input(w)?, args.opt(zero), g.group * g.m, "w_zero_point").map(Arc::new),
    }
}

/// `x - zero` in i32; `zero` holds one number, or one for each of the `blocks` that x consists of.
fn wide(x: &Tensor, zero: Option<&Tensor>, blocks: usize, what: &str) -> Result<Vec<i32>, Reason> {
    let ints = |t: &Tensor| match t.dtype() {
        DType::I8 => Ok(t.as_slice::<i8>().iter().map(|&x| x.into()).collect()),
        DType::U8 => Ok(t.as_slice::<u8>().iter().map(|&x| x.into()).collect()),
        other => Err(unsupported!("a convolution of {other} in integers is not supported")),
    };
    let mut x: Vec<i32> = ints(x)?;
    let zero: Vec<i32> = zero.map(ints).transpose()?.unwrap_or_else(|| vec![0]);
    match zero.len() {
        1 => x.iter_mut().for_each(|x| *x -= zero[0]),
        n if n == blocks => {
            let len = (x.len() / blocks.max(1)).max(1);
            let parts = x.chunks_exact_mut(len).zip(&zero);
            parts.for_each(|(x, zero)| x.iter_mut().for_each(|x| *x -= zero));
        }
        n => return Err(invalid!("{n} numbers in {what} where 1 or {blocks} are needed")),
    }
    Ok(x)
}

fn requantize<T: Element>(
    g: &Geometry,
    args: &mut Args<'_>,
    sums: &[i32],
    clip: impl Fn(f32) -> T,
) -> Result<(), Reason> {
    let channels = g.group * g.m;
    let scalar = |i: usize| {
        let t = args.input(i)?;
        let one = || invalid!("input {i} holds {} scales, not one", t.len());
        t.to_f32().ok_or_else(one)
    };
    let (x_scale, y_scale) = (scalar(1)?, scalar(6)?);
    let w_scale = args.input(4)?.as_slice::<f32>();
    if w_scale.len() != 1 && w_scale.len() != channels {
        return Err(invalid!("{} scales for {channels} channels", w_scale.len()));
    }
    let zero = args.input(7)?.to_ints().unwrap_or_default();
    let [zero] = zero[..] else {
        return Err(invalid!("y_zero_point holds {} numbers, not one", zero.len()));
    };
    let bias = args.opt(8).map(|b| b.as_slice::<i32>());
    let y = args.outputs[0].as_mut_slice::<T>();
    let len = g.out_len().max(1);
    let channel = |i: usize, list: &[f32]| list[if list.len() == 1 { 0 } else { i }];
    for (i, (sums, y)) in sums.chunks_exact(len).zip(y.chunks_exact_mut(len)).enumerate() {
        let m = i % channels;
        let scale = x_scale * channel(m, w_scale) / y_scale;
        let bias = bias.map_or(0, |b| b[m]);
        for (y, &sum) in y.iter_mut().zip(sums) {
            // A float cast to an integer is clipped to its range.
            *y = clip((sum.wrapping_add(bias) as f32 * scale).round_ties_even() + zero as f32);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rinfer_graph::Value;
    use rinfer_graph::ops::{Padding, PerAxis, Window};

    use super::*;
    use crate::eval::testing::{run, run1};
    use crate::simd::Isa;

    fn window(pad: usize) -> Window {
        Window {
            kernel: PerAxis::new(),
            strides: PerAxis::new(),
            dilations: PerAxis::new(),
            padding: Padding::Explicit([pad, pad].into_iter().collect()),
            ceil_mode: false,
        }
    }

    #[test]
    fn padding_stands_for_the_zero_point() {
        let x = Tensor::from_slice(&[1, 1, 3], &[2u8, 3, 4]);
        let w = Tensor::from_slice(&[1, 1, 2], &[1u8, 1]);
        for isa in Isa::available() {
            let op = ConvInteger { window: window(1), group: 1 };
            let inputs = [x.clone(), w.clone(), Tensor::scalar(1u8)];
            let y = run1(isa, op, &inputs).unwrap();
            assert_eq!(y.as_slice::<i32>(), [1, 3, 5, 3]);
        }
    }

    #[test]
    fn scales_and_zero_points_may_differ_by_channel() {
        let op = QLinearConv { window: window(0), group: 1 };
        let inputs = [
            Value::Tensor(Tensor::from_slice(&[1, 1, 2], &[10u8, 200])),
            Tensor::scalar(0.5f32).into(),
            Tensor::scalar(0u8).into(),
            Tensor::from_slice(&[2, 1, 1], &[3i8, -4]).into(),
            Tensor::vector(&[1f32, 0.5]).into(),
            Tensor::vector(&[1i8, 0]).into(),
            Tensor::scalar(1f32).into(),
            Tensor::scalar(100u8).into(),
            Tensor::vector(&[1i32, 0]).into(),
        ];
        let y = run(Isa::best(), op, &inputs, 1).unwrap().remove(0).into_tensor().unwrap();
        // (20 + 1) / 2 = 10.5 → 10; 401 / 2 → 200 clipped; -40 / 4; -800 / 4.
        assert_eq!(y.as_slice::<u8>(), [110, 255, 90, 0]);
    }
}
