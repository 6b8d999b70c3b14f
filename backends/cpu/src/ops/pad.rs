//! Pad and CenterCropPad: row by row, a row being the last padded axis and what follows it.
//!
//! Each row of the output is filled (constant mode, outside another axis) or made of three parts:
//! before, the row of the input itself, after.
use bytemuck::Zeroable;
use rinfer_graph::ops::{CenterCropPad, Pad, PadMode};
use rinfer_graph::{Fact, Reason, Tensor, invalid, with_width};
use smallvec::SmallVec;

use super::copy::{Word, by_rows};
use crate::kernel::{Cx, Kernel};

/// One axis, cut and padded.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Elements of the input from one index to the next.
    step: usize,
    /// First index of the input that is kept.
    first: usize,
    /// How many are kept.
    kept: usize,
    /// Elements before those.
    before: usize,
    /// Elements in all.
    out: usize,
}

impl Span {
    fn new(
        size: usize,
        step: usize,
        (before, after): (i64, i64),
        mode: PadMode,
    ) -> Result<Span, Reason> {
        let cut = |pad: i64| usize::try_from(pad.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let add = |pad: i64| usize::try_from(pad.max(0)).unwrap_or(usize::MAX);
        let first = cut(before).min(size);
        let kept = size.saturating_sub(cut(before)).saturating_sub(cut(after));
        let wrong = || invalid!("pads {before} and {after} of an axis of size {size}");
        let out = i64::try_from(size).ok().and_then(|n| n.checked_add(before)?.checked_add(after));
        let out = out.and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?;
        if mode != PadMode::Constant && kept == 0 && out > 0 {
            return Err(invalid!("nothing is left of an axis of size {size} to pad with"));
        }
        // More may be cut away than there is; what is left is all padding then.
        Ok(Span { step, first, kept: kept.min(out), before: add(before).min(out), out })
    }

    /// Where output index `i` is read in the input, in elements; `None` is the constant.
    fn source(&self, i: usize, mode: PadMode) -> Option<usize> {
        let at = i as i128 - self.before as i128;
        let n = self.kept as i128;
        let at = match mode {
            PadMode::Constant => Some(at).filter(|at| (0..n).contains(at))?,
            PadMode::Edge => at.clamp(0, n - 1),
            PadMode::Wrap => at.rem_euclid(n),
            PadMode::Reflect if n == 1 => 0,
            PadMode::Reflect => {
                let at = at.rem_euclid(2 * (n - 1));
                if at < n { at } else { 2 * (n - 1) - at }
            }
        };
        Some((self.first + at as usize) * self.step)
    }
}

/// A padding, settled for given sizes.
struct Plan {
    mode: PadMode,
    /// The axes outside a row.
    outer: SmallVec<[Span; 6]>,
    /// The axis inside a row; its step is the size of what follows it.
    row: Span,
}

pub(super) fn compile(op: &Pad, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let unknown = |i: usize| invalid!("the content of input {i} is not known");
    let pads = cx.input(1)?.ints().ok_or_else(|| unknown(1))?;
    let axes = match cx.opt(3) {
        Some(axes) => Some(axes.ints().ok_or_else(|| unknown(3))?),
        None => None,
    };
    let pads = Pad::pads(sizes.len(), &pads, axes.as_deref())?;
    padded(cx, &sizes, &pads, op.mode)
}

pub(super) fn compile_center(op: &CenterCropPad, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let wanted = cx.input(1).map(Fact::ints)?;
    let wanted = wanted.ok_or_else(|| invalid!("the shape is not known"))?;
    let pads = op.pads(&sizes, &wanted)?;
    padded(cx, &sizes, &pads, PadMode::Constant)
}

fn padded(
    cx: &Cx<'_>,
    sizes: &[usize],
    pads: &[(i64, i64)],
    mode: PadMode,
) -> Result<Kernel, Reason> {
    let Some(last) = pads.iter().rposition(|&pad| pad != (0, 0)) else { return Ok(Kernel::view()) };
    let steps = rinfer_graph::shape::strides(sizes);
    let span = |i: usize| Span::new(sizes[i], steps[i], pads[i], mode);
    let outer = (0..last).map(span).collect::<Result<SmallVec<_>, Reason>>()?;
    let plan = Plan { mode, outer, row: span(last)? };
    let dtype = cx.dtype(0)?;
    // Of CenterCropPad input 2 does not exist, of Pad it may be omitted.
    with_width!(dtype, W => Ok(Kernel::new(move |args| {
        let value = args.opt(2).map_or(Ok(W::zeroed()), one::<W>)?;
        let x = args.input(0)?.as_bits::<W>();
        let y = args.outputs[0].as_mut_bits::<W>();
        by_rows(args.cx, y, plan.row.out * plan.row.step, |rows, y| {
            plan.fill(x, value, rows.start, y);
        })
    })), else Err(invalid!("{dtype} does not move by itself")))
}

/// The only element.
fn one<W: Word>(value: &Tensor) -> Result<W, Reason> {
    match value.as_bits::<W>() {
        [value] => Ok(*value),
        _ => Err(invalid!("{value:?} where one element is needed")),
    }
}

impl Plan {
    /// Fills rows of the output, the first of which is number `first`.
    fn fill<W: Word>(&self, x: &[W], value: W, first: usize, y: &mut [W]) {
        let mut index = SmallVec::<[usize; 8]>::from_elem(0, self.outer.len());
        let mut rest = first;
        for (i, axis) in self.outer.iter().enumerate().rev() {
            index[i] = rest % axis.out;
            rest /= axis.out;
        }
        let at = |i: usize, index: usize| self.outer[i].source(index, self.mode);
        let mut places: SmallVec<[Option<usize>; 8]> =
            index.iter().enumerate().map(|(i, &index)| at(i, index)).collect();
        for y in y.chunks_exact_mut(self.row.out * self.row.step) {
            match places.iter().try_fold(0, |sum, place| place.map(|p| sum + p)) {
                Some(from) => self.fill_row(x, value, from, y),
                None => y.fill(value),
            }
            for (i, axis) in self.outer.iter().enumerate().rev() {
                index[i] = if index[i] + 1 < axis.out { index[i] + 1 } else { 0 };
                places[i] = at(i, index[i]);
                if index[i] > 0 {
                    break;
                }
            }
        }
    }

    /// Fills one row from the row of `x` that begins at `from`.
    fn fill_row<W: Word>(&self, x: &[W], value: W, from: usize, y: &mut [W]) {
        let Span { step, first, kept, before, .. } = self.row;
        let (front, rest) = y.split_at_mut(before * step);
        let kept_len = (kept * step).min(rest.len());
        let (middle, back) = rest.split_at_mut(kept_len);
        middle.copy_from_slice(&x[from + first * step..][..middle.len()]);
        if self.mode == PadMode::Constant {
            front.fill(value);
            back.fill(value);
            return;
        }
        for (part, start) in [(front, 0), (back, before + kept)] {
            for (i, y) in part.chunks_exact_mut(step).enumerate() {
                if let Some(place) = self.row.source(start + i, self.mode) {
                    y.copy_from_slice(&x[from + place..][..step]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run_opt, run1};
    use crate::simd::Isa;
    use rinfer_graph::Value;

    fn check(mode: PadMode, x: &[i32], pads: [i64; 2], expected: &[i32]) {
        let y = run1(Isa::best(), Pad { mode }, &[Tensor::vector(x), Tensor::vector(&pads)]);
        assert_eq!(y.unwrap().as_slice::<i32>(), expected);
    }

    #[test]
    fn each_mode_pads_its_own_way() {
        use PadMode::*;
        check(Constant, &[1, 2, 3], [2, 1], &[0, 0, 1, 2, 3, 0]);
        check(Reflect, &[1, 2, 3], [3, 5], &[2, 3, 2, 1, 2, 3, 2, 1, 2, 3, 2]);
        check(Edge, &[1, 2, 3], [2, 1], &[1, 1, 1, 2, 3, 3]);
        check(Wrap, &[1, 2, 3], [2, 4], &[2, 3, 1, 2, 3, 1, 2, 3, 1]);
        check(Reflect, &[7], [1, 1], &[7, 7, 7]);
    }

    #[test]
    fn negative_pads_cut_first() {
        use PadMode::*;
        check(Constant, &[1, 2, 3], [-1, 2], &[2, 3, 0, 0]);
        check(Edge, &[1, 2, 3], [-1, 2], &[2, 3, 3, 3]);
        check(Reflect, &[1, 2, 3, 4], [1, -2], &[2, 1, 2]);
        check(Constant, &[1, 2, 3], [-5, 4], &[0, 0]);
        check(Constant, &[1, 2, 3], [-1, -1], &[2]);
    }

    #[test]
    fn inner_axes_that_are_not_padded_go_along() {
        let x = Tensor::from_slice(&[2, 2, 2], &[1f32, 2., 3., 4., 5., 6., 7., 8.]);
        let inputs = [
            Some(Value::Tensor(x)),
            Some(Value::Tensor(Tensor::vector(&[1i64, 0, 0, 1]))),
            Some(Value::Tensor(Tensor::scalar(9f32))),
            Some(Value::Tensor(Tensor::vector(&[1i32, 0]))),
        ];
        let y = run_opt(Isa::best(), Pad { mode: PadMode::Constant }, &inputs, 1).unwrap();
        let y = y[0].as_tensor().unwrap();
        assert_eq!(y.shape(), [3, 3, 2]);
        let expected = [9., 9., 1., 2., 3., 4., 9., 9., 5., 6., 7., 8., 9., 9., 9., 9., 9., 9f32];
        assert_eq!(y.as_slice::<f32>(), expected);
    }

    #[test]
    fn center_crop_pad_cuts_and_fills() {
        let x = Tensor::from_slice(&[4, 2], &[1u8, 2, 3, 4, 5, 6, 7, 8]);
        let op = CenterCropPad { axes: None };
        let y = run1(Isa::best(), op, &[x, Tensor::vector(&[1i64, 3])]).unwrap();
        assert_eq!(y.as_slice::<u8>(), [3, 4, 0]);
    }
}
