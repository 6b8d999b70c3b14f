//! Conv: every output is a weighted sum of the inputs under a window.
//!
//! x [n, c, s..], w [m, c/group, k..], bias [m], residual [n, m, o..]  →  [n, m, o..]
//!
//! y = activation(conv(x, w) + bias + residual); bias and residual may be omitted.

use smallvec::SmallVec;

use super::window::check_float;
use super::{Activation, Inputs, Window, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, show};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Convolution, with what follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// The window; an empty kernel means the weight's sizes.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub group: usize,
    /// Applied to each result last.
    pub activation: Option<Activation>,
}

impl Conv {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        check_float("Conv", dtype)?;
        (1..4).try_for_each(|i| inputs.same_dtype(0, i))?;
        let shape = conv_shape(&self.window, self.group, inputs.get(0)?, inputs.get(1)?)?;
        if let Some(shape) = &shape {
            check_bias(inputs.opt(2), &shape[1])?;
            let residual = inputs.opt(3).and_then(Fact::shape);
            let agree = |a: &Dim, b: &Dim| a.value().is_none() || b.value().is_none() || a == b;
            if let Some(residual) = residual
                && (residual.len() != shape.len()
                    || !residual.iter().zip(shape).all(|(a, b)| agree(a, b)))
            {
                let (residual, shape) = (show(residual), show(shape));
                return Err(invalid!("a residual {residual} for an output {shape}"));
            }
        }
        one(Fact { shape, ..Fact::unranked(dtype) })
    }
}

/// The products of a quantized convolution, summed as int32.
///
/// x [n, c, s..], w [m, c/group, k..], x_zero_point [], w_zero_point [] or [m]  →  int32
#[derive(Clone, Debug, PartialEq)]
pub struct ConvInteger {
    /// The window; an empty kernel means the weight's sizes.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub group: usize,
}

impl ConvInteger {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        check_bytes("ConvInteger", inputs, &[0, 1])?;
        inputs.same_dtype(0, 2)?;
        inputs.same_dtype(1, 3)?;
        let shape = conv_shape(&self.window, self.group, inputs.get(0)?, inputs.get(1)?)?;
        one(Fact { shape, ..Fact::unranked(DType::I32) })
    }
}

/// A convolution of quantized values, quantized again.
///
/// inputs: x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias (int32,
/// in units of x_scale · w_scale); w's scale and zero point are scalars or one per output channel.
/// Without y_scale and y_zero_point the result is floats: passes make that, ONNX has no such form.
#[derive(Clone, Debug, PartialEq)]
pub struct QLinearConv {
    /// The window; an empty kernel means the weight's sizes.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub group: usize,
}

impl QLinearConv {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let codes = inputs.opt(6).is_some() || inputs.opt(7).is_some();
        let (bytes, scales): (&[usize], &[usize]) =
            if codes { (&[0, 3, 7], &[1, 4, 6]) } else { (&[0, 3], &[1, 4]) };
        check_bytes("QLinearConv", inputs, bytes)?;
        inputs.same_dtype(0, 2)?;
        inputs.same_dtype(3, 5)?;
        for &i in scales {
            if inputs.dtype(i)? != DType::F32 {
                return Err(unsupported!("QLinearConv with scales of {}", inputs.dtype(i)?));
            }
        }
        if inputs.opt(8).is_some_and(|b| b.dtype() != Ok(DType::I32)) {
            return Err(invalid!("the bias of QLinearConv is {}", inputs.get(8)?.ty));
        }
        let shape = conv_shape(&self.window, self.group, inputs.get(0)?, inputs.get(3)?)?;
        if let Some(shape) = &shape {
            check_bias(inputs.opt(8), &shape[1])?;
        }
        let dtype = if codes { inputs.dtype(7)? } else { DType::F32 };
        one(Fact { shape, ..Fact::unranked(dtype) })
    }
}

fn check_bytes(op: &str, inputs: &Inputs<'_>, which: &[usize]) -> Result<(), Reason> {
    for &i in which {
        if !matches!(inputs.dtype(i)?, DType::I8 | DType::U8) {
            return Err(unsupported!("{op} of {} is not supported", inputs.dtype(i)?));
        }
    }
    Ok(())
}

/// `Err` if a bias certainly has not one element per output channel.
pub(super) fn check_bias(bias: Option<&Fact>, channels: &Dim) -> Result<(), Reason> {
    let Some(shape) = bias.and_then(Fact::shape) else { return Ok(()) };
    let wrong = match shape {
        [n] => n.value().is_some() && channels.value().is_some() && n != channels,
        _ => true,
    };
    if wrong { Err(invalid!("a bias {} for {channels} channels", show(shape))) } else { Ok(()) }
}

/// The output's shape; `None` if not even the rank is known.
fn conv_shape(window: &Window, group: usize, x: &Fact, w: &Fact) -> Result<Option<Shape>, Reason> {
    let rank = match (x.rank(), w.rank()) {
        (Some(a), Some(b)) if a != b => {
            return Err(invalid!("an input of rank {a} and a weight of rank {b}"));
        }
        (a, b) => match a.or(b) {
            Some(rank) => rank,
            None => return Ok(None),
        },
    };
    let Some(axes) = rank.checked_sub(2).filter(|&axes| axes > 0) else {
        return Err(invalid!("a convolution of rank {rank} has no spatial axis"));
    };
    window.check(axes)?;
    let unknown: Shape = SmallVec::from_elem(Dim::Unknown, rank);
    let xs = x.shape().unwrap_or(&unknown);
    let ws = w.shape().unwrap_or(&unknown);
    check_channels(group, &xs[1], &ws[0], &ws[1])?;
    let mut shape: Shape = [xs[0].clone(), ws[0].clone()].into_iter().collect();
    for i in 0..axes {
        let (given, held) = (window.kernel.get(i).copied(), ws[i + 2].size());
        if let (Some(given), Some(held)) = (given, held)
            && given != held
        {
            return Err(invalid!("kernel_shape {given} and a weight of {held} along axis {i}"));
        }
        shape.push(window.out_dim(i, axes, given.or(held), &xs[i + 2])?);
    }
    Ok(Some(shape))
}

fn check_channels(group: usize, c: &Dim, m: &Dim, per_group: &Dim) -> Result<(), Reason> {
    if group == 0 {
        return Err(invalid!("0 groups"));
    }
    if let (Some(c), Some(per_group)) = (c.size(), per_group.size())
        && per_group.checked_mul(group) != Some(c)
    {
        return Err(invalid!(
            "an input of {c} channels and a weight of {per_group} in {group} groups"
        ));
    }
    match m.size() {
        Some(m) if m % group != 0 => Err(invalid!("{m} output channels in {group} groups")),
        _ => Ok(()),
    }
}

/// The attribute `group`.
pub(super) fn import_group(cx: &NodeCx<'_>) -> Result<usize, Reason> {
    Ok(cx.size("group")?.unwrap_or(1))
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let (window, group) = (Window::import(cx)?, import_group(cx)?);
    cx.emit(Conv { window, group, activation: None })
}

pub(super) fn import_integer(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 4)?;
    let (window, group) = (Window::import(cx)?, import_group(cx)?);
    cx.emit(ConvInteger { window, group })
}

/// ONNX's QLinearConv makes codes.
pub(super) fn check_qlinear(cx: &NodeCx<'_>) -> Result<(), Reason> {
    cx.check_inputs(8, 9)?;
    cx.input(6)?;
    cx.input(7).map(drop)
}

pub(super) fn import_qlinear(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    check_qlinear(cx)?;
    let (window, group) = (Window::import(cx)?, import_group(cx)?);
    cx.emit(QLinearConv { window, group })
}

#[cfg(test)]
mod tests {
    use super::super::{Padding, PerAxis};
    use super::*;

    fn infer(x: &[usize], w: &[usize], bias: &[usize], group: usize) -> Result<Facts, Reason> {
        let window = Window {
            kernel: PerAxis::new(),
            strides: [2, 2].into_iter().collect(),
            dilations: PerAxis::new(),
            padding: Padding::Explicit([3, 3, 3, 3].into_iter().collect()),
            ceil_mode: false,
        };
        let facts = [x, w, bias].map(|s| Fact::sized(DType::F32, s));
        Conv { window, group, activation: None }.infer(&Inputs::new(&facts.each_ref().map(Some), 1))
    }

    #[test]
    fn the_first_layer_of_a_resnet_halves_the_image() {
        let out = infer(&[1, 3, 224, 224], &[64, 3, 7, 7], &[64], 1).unwrap();
        assert_eq!(out[0], Fact::sized(DType::F32, &[1, 64, 112, 112]));
    }

    #[test]
    fn channels_must_fit_the_groups() {
        let message = |r: Result<Facts, Reason>| r.unwrap_err().to_string();
        assert_eq!(
            message(infer(&[1, 4, 9, 9], &[6, 3, 3, 3], &[6], 2)),
            "an input of 4 channels and a weight of 3 in 2 groups"
        );
        assert_eq!(
            message(infer(&[1, 6, 9, 9], &[5, 3, 3, 3], &[5], 2)),
            "5 output channels in 2 groups"
        );
        assert_eq!(
            message(infer(&[1, 3, 9, 9], &[6, 3, 3, 3], &[5], 1)),
            "a bias [5] for 6 channels"
        );
    }
}
