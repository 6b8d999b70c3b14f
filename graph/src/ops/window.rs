//! The window that a convolution or a pool slides over the spatial axes: where it stands, and how
//! many places there are for it.
//!
//! extent = (kernel - 1) · dilation + 1,  output = ⌊(input + pads - extent) / stride⌋ + 1

use smallvec::SmallVec;

use crate::onnx::NodeCx;
use crate::{DType, Dim, Reason, invalid, unsupported};

/// One number per spatial axis.
pub type PerAxis = SmallVec<[usize; 3]>;

/// How the input is padded.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Padding {
    /// Elements before each axis, then after each axis; empty means none.
    Explicit(SmallVec<[usize; 6]>),
    /// As much as makes ⌈input / stride⌉ outputs, the odd one after.
    SameUpper,
    /// As much as makes ⌈input / stride⌉ outputs, the odd one before.
    SameLower,
    /// None.
    #[default]
    Valid,
}

/// A window as the model describes it; lists may be empty, which means 1 (or, for a
/// convolution's kernel, the weight's sizes).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Elements along each axis.
    pub kernel: PerAxis,
    /// Steps between two places.
    pub strides: PerAxis,
    /// Steps between two elements of the window.
    pub dilations: PerAxis,
    /// What stands around the input.
    pub padding: Padding,
    /// Whether a last window that is only partly inside counts.
    pub ceil_mode: bool,
}

/// A window along one axis of known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Size of the input.
    pub input: usize,
    /// Size of the output.
    pub output: usize,
    /// Elements of the window.
    pub kernel: usize,
    /// Steps between two places.
    pub stride: usize,
    /// Steps between two elements of the window.
    pub dilation: usize,
    /// Padding before the first element.
    pub before: usize,
    /// Padding after the last element.
    pub after: usize,
}

impl Span {
    /// From the first to the last element of the window.
    pub fn extent(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }
}

impl Window {
    /// Reads kernel_shape, strides, dilations, pads and auto_pad.
    pub(super) fn import(cx: &NodeCx<'_>) -> Result<Window, Reason> {
        let pads = per_axis(cx, "pads")?;
        let padding = match cx.string("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" | "" => Padding::Explicit(pads.into_iter().collect()),
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            "VALID" => Padding::Valid,
            other => return Err(invalid!("auto_pad {other:?} is none that ONNX has")),
        };
        Ok(Window {
            kernel: per_axis(cx, "kernel_shape")?,
            strides: per_axis(cx, "strides")?,
            dilations: per_axis(cx, "dilations")?,
            padding,
            ceil_mode: false,
        })
    }

    /// `Err` if a list is not as long as there are axes, or a number in it cannot be.
    pub fn check(&self, axes: usize) -> Result<(), Reason> {
        let lists =
            [("kernel", &self.kernel), ("strides", &self.strides), ("dilations", &self.dilations)];
        for (name, list) in lists {
            if !list.is_empty() && list.len() != axes {
                return Err(invalid!("{name} {list:?} for {axes} spatial axes"));
            }
            if list.contains(&0) {
                return Err(invalid!("0 in {name} {list:?}"));
            }
        }
        match &self.padding {
            Padding::Explicit(pads) if !pads.is_empty() && pads.len() != 2 * axes => {
                Err(invalid!("pads {pads:?} for {axes} spatial axes"))
            }
            _ => Ok(()),
        }
    }

    fn stride(&self, i: usize) -> usize {
        self.strides.get(i).copied().unwrap_or(1)
    }

    fn dilation(&self, i: usize) -> usize {
        self.dilations.get(i).copied().unwrap_or(1)
    }

    /// Explicit padding before and after axis `i` of `axes`; `None` if it follows from the sizes.
    fn pads(&self, i: usize, axes: usize) -> Option<(usize, usize)> {
        match &self.padding {
            Padding::Explicit(pads) if pads.is_empty() => Some((0, 0)),
            Padding::Explicit(pads) => Some((*pads.get(i)?, *pads.get(i + axes)?)),
            Padding::Valid => Some((0, 0)),
            _ => None,
        }
    }

    /// Axis `i` of `axes` for a kernel and an input of these sizes.
    pub fn span(&self, i: usize, axes: usize, kernel: usize, input: usize) -> Result<Span, Reason> {
        let (stride, dilation) = (self.stride(i), self.dilation(i));
        let extent = extent(kernel, dilation)?;
        let too_large = || invalid!("a window of {extent} over {input} is larger than any memory");
        if let Some((before, after)) = self.pads(i, axes) {
            let padded = input
                .checked_add(before)
                .and_then(|n| n.checked_add(after))
                .ok_or_else(too_large)?;
            let Some(room) = padded.checked_sub(extent) else {
                return Err(invalid!("a window of {extent} does not fit into {padded}"));
            };
            let mut output = if self.ceil_mode { room.div_ceil(stride) } else { room / stride } + 1;
            // A window that would start in the padding after the input does not count.
            if self.ceil_mode && (output - 1).saturating_mul(stride) >= input + before {
                output -= 1;
            }
            return Ok(Span { input, output, kernel, stride, dilation, before, after });
        }
        let output = input.div_ceil(stride);
        let needed = output.saturating_sub(1).checked_mul(stride);
        let needed = needed.and_then(|n| n.checked_add(extent)).ok_or_else(too_large)?;
        let pad = if output == 0 { 0 } else { needed.saturating_sub(input) };
        let before = if self.padding == Padding::SameUpper { pad / 2 } else { pad.div_ceil(2) };
        Ok(Span { input, output, kernel, stride, dilation, before, after: pad - before })
    }

    /// `Err` where SAME_* would take elements off both ends of axis `i`: with a window that is
    /// shorter than a stride no engine agrees with another on which.
    pub(super) fn check_same(&self, i: usize, kernel: usize, input: usize) -> Result<(), Reason> {
        if matches!(self.padding, Padding::Explicit(_) | Padding::Valid) || input == 0 {
            return Ok(());
        }
        let (stride, extent) = (self.stride(i), extent(kernel, self.dilation(i))?);
        let reach = ((input - 1) / stride * stride).saturating_add(extent);
        match input.saturating_sub(reach) {
            0 | 1 => Ok(()),
            off => Err(unsupported!(
                "SAME padding of -{off} elements: a window of {extent} every {stride} of {input}"
            )),
        }
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

    /// The output's size along axis `i` of `axes`, as far as it is known.
    pub(super) fn out_dim(
        &self,
        i: usize,
        axes: usize,
        kernel: Option<usize>,
        input: &Dim,
    ) -> Result<Dim, Reason> {
        if let (Some(kernel), Some(input)) = (kernel, input.size()) {
            return Ok(Dim::from(self.span(i, axes, kernel, input)?.output));
        }
        let stride = Dim::from(self.stride(i));
        let Some((before, after)) = self.pads(i, axes) else {
            return Ok(if stride.is(1) { input.clone() } else { Dim::Unknown });
        };
        let Some(kernel) = kernel else { return Ok(Dim::Unknown) };
        if self.ceil_mode {
            return Ok(Dim::Unknown);
        }
        let extent = Dim::from(extent(kernel, self.dilation(i))?);
        let room = input.add(&Dim::from(before)).add(&Dim::from(after)).sub(&extent);
        Ok(room.div(&stride).add(&Dim::N(1)))
    }
}

/// From the first to the last element of a window.
pub(super) fn extent(kernel: usize, dilation: usize) -> Result<usize, Reason> {
    kernel
        .checked_sub(1)
        .ok_or_else(|| invalid!("a kernel of size 0"))?
        .checked_mul(dilation)
        .and_then(|n| n.checked_add(1))
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or_else(|| invalid!("a kernel of {kernel} with dilation {dilation} is too large"))
}

/// An INTS attribute of sizes; empty if it is not given.
pub(super) fn per_axis(cx: &NodeCx<'_>, name: &str) -> Result<PerAxis, Reason> {
    let list = cx.ints(name)?.unwrap_or_default();
    let size =
        |&n: &i64| usize::try_from(n).map_err(|_| invalid!("negative number in {name} {list:?}"));
    list.iter().map(size).collect()
}

/// `Err` unless `dtype` is a floating-point type with arithmetic.
pub(super) fn check_float(op: &str, dtype: DType) -> Result<(), Reason> {
    match dtype {
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Ok(()),
        _ => Err(unsupported!("{op} of {dtype} is not supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(stride: usize, padding: Padding, ceil_mode: bool) -> Window {
        Window {
            kernel: PerAxis::new(),
            strides: [stride].into_iter().collect(),
            dilations: PerAxis::new(),
            padding,
            ceil_mode,
        }
    }

    fn pads(before: usize, after: usize) -> Padding {
        Padding::Explicit([before, after].into_iter().collect())
    }

    #[test]
    fn the_output_rounds_down_unless_ceil_mode() {
        assert_eq!(window(2, pads(0, 0), false).span(0, 1, 3, 6).unwrap().output, 2);
        assert_eq!(window(2, pads(0, 0), true).span(0, 1, 3, 6).unwrap().output, 3);
    }

    #[test]
    fn a_window_that_starts_in_the_padding_does_not_count() {
        assert_eq!(window(2, pads(0, 0), true).span(0, 1, 1, 2).unwrap().output, 1);
        assert_eq!(window(3, pads(1, 1), true).span(0, 1, 2, 2).unwrap().output, 1);
    }

    #[test]
    fn same_padding_splits_with_the_odd_one_after_or_before() {
        let upper = window(1, Padding::SameUpper, false).span(0, 1, 4, 5).unwrap();
        assert_eq!((upper.before, upper.after, upper.output), (1, 2, 5));
        let lower = window(1, Padding::SameLower, false).span(0, 1, 4, 5).unwrap();
        assert_eq!((lower.before, lower.after, lower.output), (2, 1, 5));
    }

    #[test]
    fn same_padding_takes_no_more_than_one_element_off() {
        let check =
            |kernel, input| window(3, Padding::SameUpper, false).check_same(0, kernel, input);
        assert_eq!((check(1, 4), check(1, 5)), (Ok(()), Ok(())));
        let why = check(1, 6).unwrap_err().to_string();
        assert!(why.contains("SAME padding of -2 elements"), "{why}");
        assert_eq!((check(2, 6), check(1, 0)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_symbolic_size_stays_exact_with_stride_one() {
        let n = Dim::symbol("n");
        let out = window(1, pads(1, 1), false).out_dim(0, 1, Some(3), &n).unwrap();
        assert_eq!(out, n);
        assert_eq!(window(2, pads(0, 0), false).out_dim(0, 1, Some(2), &n), Ok(Dim::Unknown));
    }

    #[test]
    fn a_window_larger_than_the_input_is_refused() {
        let err = window(1, pads(0, 1), false).span(0, 1, 5, 3).unwrap_err();
        assert_eq!(err.to_string(), "a window of 5 does not fit into 4");
        assert!(window(1, pads(0, 0), false).span(0, 1, usize::MAX, 3).is_err());
    }
}
