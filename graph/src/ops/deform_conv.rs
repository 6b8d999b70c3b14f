//! DeformConv: a convolution whose taps stand wherever offsets put them, bilinearly sampled.
//!
//! x [n, c, h, w], w [m, c/group, kh, kw], offset [n, offset_group · kh · kw · 2, oh, ow],
//! bias [m], mask [n, offset_group · kh · kw, oh, ow]  →  [n, m, oh, ow]

use super::conv::{check_bias, import_group};
use super::window::check_float;
use super::{Inputs, Window, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, show};
use crate::{Dim, Fact, Facts, Reason, invalid};

/// A deformable convolution of images; bias (input 3) and mask (input 4) may be omitted.
#[derive(Clone, Debug, PartialEq)]
pub struct DeformConv {
    /// The window before it is deformed.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub group: usize,
    /// Groups of input channels that share offsets.
    pub offset_group: usize,
}

impl DeformConv {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        check_float("DeformConv", dtype)?;
        (1..5).try_for_each(|i| inputs.same_dtype(0, i))?;
        [0, 1, 2, 4].into_iter().try_for_each(|i| inputs.check_rank(i, 4))?;
        self.window.check(2)?;
        let (Some(x), Some(w)) = (inputs.shape(0)?, inputs.shape(1)?) else {
            return one(Fact::ranked(dtype, 4));
        };
        check_bias(inputs.opt(3), &w[0])?;
        let groups = (self.group.max(1) as i64, self.offset_group.max(1) as i64);
        if self.group == 0 || self.offset_group == 0 {
            return Err(invalid!("0 groups"));
        }
        if let (Some(c), Some(m)) = (x[1].value(), w[0].value()) {
            let per_group = w[1].value().unwrap_or(c / groups.0);
            if per_group.checked_mul(groups.0) != Some(c) || m % groups.0 != 0 || c % groups.1 != 0
            {
                let (x, w) = (show(x), show(w));
                return Err(invalid!(
                    "{x} and {w} in {} groups, {} of offsets",
                    groups.0,
                    groups.1
                ));
            }
        }
        let mut shape: Shape = [x[0].clone(), w[0].clone()].into_iter().collect();
        let mut taps = Dim::from(self.offset_group);
        for i in 0..2 {
            let kernel = self.window.kernel.get(i).copied().or(w[i + 2].size());
            taps = taps.mul(&kernel.map_or(Dim::Unknown, Dim::from));
            shape.push(self.window.out_dim(i, 2, kernel, &x[i + 2])?);
        }
        check_like(inputs.shape(2)?, "offsets", &taps.scale(2), &shape)?;
        let mask = inputs.opt(4).and_then(Fact::shape);
        check_like(mask, "a mask", &taps, &shape)?;
        one(Fact::new(dtype, shape))
    }
}

/// `Err` unless offsets or mask fit the output.
fn check_like(
    shape: Option<&[Dim]>,
    what: &str,
    channels: &Dim,
    out: &[Dim],
) -> Result<(), Reason> {
    let Some(shape) = shape else { return Ok(()) };
    let wanted = [&out[0], channels, &out[2], &out[3]];
    let differ = |a: &Dim, b: &Dim| a.value().is_some() && b.value().is_some() && a != b;
    if shape.iter().zip(wanted).any(|(a, b)| differ(a, b)) {
        return Err(invalid!(
            "{what} {} for an output {} with {channels} per place",
            show(shape),
            show(out)
        ));
    }
    Ok(())
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 5)?;
    let op = DeformConv {
        window: Window::import(cx)?,
        group: import_group(cx)?,
        offset_group: cx.size("offset_group")?.unwrap_or(1),
    };
    cx.emit(op)
}

#[cfg(test)]
mod tests {
    use super::super::{Padding, PerAxis};
    use super::*;
    use crate::DType;

    #[test]
    fn offsets_must_fit_the_output() {
        let window = Window {
            kernel: PerAxis::new(),
            strides: PerAxis::new(),
            dilations: PerAxis::new(),
            padding: Padding::Valid,
            ceil_mode: false,
        };
        let op = DeformConv { window, group: 1, offset_group: 1 };
        let infer = |channels: usize| {
            let sizes = [[1, 1, 3, 3], [1, 1, 2, 2], [1, channels, 2, 2]];
            let facts = sizes.map(|s| Fact::sized(DType::F32, &s));
            op.infer(&Inputs::new(&facts.each_ref().map(Some), 1))
        };
        assert_eq!(infer(8).unwrap()[0].to_string(), "float[1, 1, 2, 2]");
        assert!(infer(4).is_err());
    }
}
