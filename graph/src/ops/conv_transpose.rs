//! ConvTranspose: every input is spread over the outputs under a window.
//!
//! x [n, c, s..], w [c, m/group, k..], bias [m]  →  [n, m, o..]
//!
//! o = stride · (s - 1) + output_padding + (k - 1) · dilation + 1 - pads

use smallvec::SmallVec;

use super::conv::{check_bias, import_group};
use super::window::{Span, check_float, extent, per_axis};
use super::{Activation, Inputs, Padding, PerAxis, Window, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{Dim, Fact, Facts, Reason, ValueId, invalid};

/// The transpose of a convolution, with what follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    /// The window; an empty kernel means the weight's sizes.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub group: usize,
    /// Elements added at the end of each axis; empty means none.
    pub output_padding: PerAxis,
    /// The output's spatial sizes, from which the padding follows; empty means the formula's.
    pub output_shape: PerAxis,
    /// Applied to each result last.
    pub activation: Option<Activation>,
}

impl ConvTranspose {
    /// The window along axis `i` of `axes`: `input` and `output` are those of this operator.
    pub fn span(&self, i: usize, axes: usize, kernel: usize, input: usize) -> Result<Span, Reason> {
        let at = |list: &PerAxis, default| list.get(i).copied().unwrap_or(default);
        let (stride, dilation) = (at(&self.window.strides, 1), at(&self.window.dilations, 1));
        let extent = extent(kernel, dilation)?;
        let extra = at(&self.output_padding, 0);
        if extra >= stride.max(dilation) {
            return Err(invalid!(
                "output_padding {extra} is not below stride {stride} or dilation {dilation}"
            ));
        }
        let full = input
            .saturating_sub(1)
            .checked_mul(stride)
            .and_then(|n| n.checked_add(extra)?.checked_add(extent))
            .filter(|&n| isize::try_from(n).is_ok())
            .ok_or_else(|| invalid!("a transposed window over {input} is too large"))?;
        let span = |before, after, output| {
            Ok(Span { input, output, kernel, stride, dilation, before, after })
        };
        let same = matches!(self.window.padding, Padding::SameUpper | Padding::SameLower);
        if !self.output_shape.is_empty() || same {
            let scaled = input
                .checked_mul(stride)
                .ok_or_else(|| invalid!("{input} times the stride {stride} is too large"))?;
            let output = at(&self.output_shape, scaled);
            // An output larger than the formula's ends in elements that no input reaches.
            let pad = full.saturating_sub(output);
            let upper = self.window.padding == Padding::SameUpper;
            let before = if upper { pad / 2 } else { pad.div_ceil(2) };
            return span(before, pad - before, output);
        }
        let (before, after) = match &self.window.padding {
            Padding::Explicit(pads) if !pads.is_empty() => (pads[i], pads[i + axes]),
            _ => (0, 0),
        };
        let output = before.checked_add(after).and_then(|pads| full.checked_sub(pads));
        let output = output.ok_or_else(|| {
            invalid!("padding of {before} and {after} leaves nothing of {full} outputs")
        })?;
        span(before, after, output)
    }

    /// All axes for these sizes.
    pub fn spans(&self, kernel: &[usize], input: &[usize]) -> Result<SmallVec<[Span; 3]>, Reason> {
        let axes = input.len();
        self.check(axes)?;
        if kernel.len() != axes {
            return Err(invalid!("kernel {kernel:?} for {axes} spatial axes"));
        }
        (0..axes).map(|i| self.span(i, axes, kernel[i], input[i])).collect()
    }

    fn check(&self, axes: usize) -> Result<(), Reason> {
        self.window.check(axes)?;
        for (name, list) in
            [("output_padding", &self.output_padding), ("output_shape", &self.output_shape)]
        {
            if !list.is_empty() && list.len() != axes {
                return Err(invalid!("{name} {list:?} for {axes} spatial axes"));
            }
        }
        Ok(())
    }

    fn out_dim(
        &self,
        i: usize,
        axes: usize,
        kernel: Option<usize>,
        input: &Dim,
    ) -> Result<Dim, Reason> {
        if let (Some(kernel), Some(input)) = (kernel, input.size()) {
            return Ok(Dim::from(self.span(i, axes, kernel, input)?.output));
        }
        if let Some(&n) = self.output_shape.get(i) {
            return Ok(Dim::from(n));
        }
        let stride = Dim::from(self.window.strides.get(i).copied().unwrap_or(1));
        let pads = match &self.window.padding {
            Padding::SameUpper | Padding::SameLower => return Ok(input.mul(&stride)),
            Padding::Explicit(pads) if !pads.is_empty() => {
                Dim::from(pads[i]).add(&Dim::from(pads[i + axes]))
            }
            _ => Dim::N(0),
        };
        let Some(kernel) = kernel else { return Ok(Dim::Unknown) };
        let dilation = self.window.dilations.get(i).copied().unwrap_or(1);
        let extra = self.output_padding.get(i).copied().unwrap_or(0);
        let full = input.sub(&Dim::N(1)).mul(&stride).add(&Dim::from(extra));
        Ok(full.add(&Dim::from(extent(kernel, dilation)?)).sub(&pads))
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        check_float("ConvTranspose", dtype)?;
        inputs.same_dtype(0, 1)?;
        inputs.same_dtype(0, 2)?;
        let (x, w) = (inputs.get(0)?, inputs.get(1)?);
        let rank = match (x.rank(), w.rank()) {
            (Some(a), Some(b)) if a != b => {
                return Err(invalid!("an input of rank {a} and a weight of rank {b}"));
            }
            (a, b) => match a.or(b) {
                Some(rank) => rank,
                None => return one(Fact::unranked(dtype)),
            },
        };
        let Some(axes) = rank.checked_sub(2).filter(|&axes| axes > 0) else {
            return Err(invalid!("a convolution of rank {rank} has no spatial axis"));
        };
        self.check(axes)?;
        let unknown: Shape = SmallVec::from_elem(Dim::Unknown, rank);
        let (xs, ws) = (x.shape().unwrap_or(&unknown), w.shape().unwrap_or(&unknown));
        self.check_channels(&xs[1], &ws[0])?;
        let mut shape: Shape =
            [xs[0].clone(), ws[1].mul(&Dim::from(self.group))].into_iter().collect();
        for i in 0..axes {
            let (given, held) = (self.window.kernel.get(i).copied(), ws[i + 2].size());
            if let (Some(given), Some(held)) = (given, held)
                && given != held
            {
                return Err(invalid!("kernel_shape {given} and a weight of {held} along axis {i}"));
            }
            shape.push(self.out_dim(i, axes, given.or(held), &xs[i + 2])?);
        }
        check_bias(inputs.opt(2), &shape[1])?;
        one(Fact::new(dtype, shape))
    }

    fn check_channels(&self, c: &Dim, held: &Dim) -> Result<(), Reason> {
        if self.group == 0 {
            return Err(invalid!("0 groups"));
        }
        match (c.size(), held.size()) {
            (Some(c), Some(held)) if c != held => {
                Err(invalid!("an input of {c} channels and a weight of {held}"))
            }
            (Some(c), _) | (_, Some(c)) if c % self.group != 0 => {
                Err(invalid!("{c} input channels in {} groups", self.group))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let op = ConvTranspose {
        window: Window::import(cx)?,
        group: import_group(cx)?,
        output_padding: per_axis(cx, "output_padding")?,
        output_shape: output_shape(cx)?,
        activation: None,
    };
    cx.emit(op)
}

/// x, w and a bias, padded by `pads` where the attribute auto_pad does not say how.
pub(super) fn with_pads(
    cx: &mut NodeCx<'_>,
    pads: Option<Vec<i64>>,
    bias: Option<ValueId>,
) -> Result<Outputs, Reason> {
    let mut window = Window::import(cx)?;
    if let (Padding::Explicit(padding), Some(pads)) = (&mut window.padding, pads) {
        let size = |n: i64| usize::try_from(n).map_err(|_| invalid!("a padding of {n}"));
        *padding = pads.into_iter().map(size).collect::<Result<_, _>>()?;
    }
    let (group, output_padding) = (import_group(cx)?, per_axis(cx, "output_padding")?);
    let output_shape = PerAxis::new();
    let op = ConvTranspose { window, group, output_padding, output_shape, activation: None };
    let inputs = [cx.opt_input(0), cx.opt_input(1), bias];
    cx.push_n(op, &inputs, 1)
}

/// The spatial part of `output_shape`: some files name all axes in it.
fn output_shape(cx: &NodeCx<'_>) -> Result<PerAxis, Reason> {
    let mut list = per_axis(cx, "output_shape")?;
    let rank = cx.opt_input(0).and_then(|x| cx.fact(x).rank());
    if rank == Some(list.len()) {
        list.drain(..2.min(list.len()));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(output_shape: &[usize], output_padding: &[usize], padding: Padding) -> ConvTranspose {
        ConvTranspose {
            window: Window {
                kernel: PerAxis::new(),
                strides: [3].into_iter().collect(),
                dilations: PerAxis::new(),
                padding,
                ceil_mode: false,
            },
            group: 1,
            output_padding: output_padding.into(),
            output_shape: output_shape.into(),
            activation: None,
        }
    }

    #[test]
    fn the_formula_gives_the_output_or_the_padding() {
        let none = || Padding::Explicit(SmallVec::new());
        assert_eq!(op(&[], &[], none()).span(0, 1, 3, 4).unwrap().output, 12);
        assert_eq!(op(&[], &[2], none()).span(0, 1, 3, 4).unwrap().output, 14);
        let given = op(&[9], &[], none()).span(0, 1, 3, 4).unwrap();
        assert_eq!((given.output, given.before, given.after), (9, 2, 1));
        let same = op(&[], &[], Padding::SameUpper).span(0, 1, 4, 4).unwrap();
        assert_eq!((same.output, same.before, same.after), (12, 0, 1));
    }

    #[test]
    fn padding_that_eats_the_output_is_refused() {
        let all = Padding::Explicit([7, 7].into_iter().collect());
        assert!(op(&[], &[], all).span(0, 1, 3, 4).is_err());
    }
}
