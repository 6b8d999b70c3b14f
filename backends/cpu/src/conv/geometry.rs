//! The sizes of a convolution, with three spatial axes whatever the model has.

use rinfer_graph::ops::Span;
use rinfer_graph::shape::count;
use rinfer_graph::{Reason, invalid, unsupported};

/// x [batch, group · c, s..], w [group · m, c, k..]  →  y [batch, group · m, o..]
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Groups of channels that do not see each other.
    pub group: usize,
    /// Input channels of a group.
    pub c: usize,
    /// Output channels of a group.
    pub m: usize,
    /// Depth, height, width; missing ones have size 1.
    pub axes: [Span; 3],
}

/// An axis that is not there.
const NONE: Span =
    Span { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };

impl Geometry {
    /// The sizes of a convolution of `batch` images with `c` input channels and `m` output
    /// channels in all; `Err` if there are too many axes or a product of sizes overflows.
    pub fn new(
        batch: usize,
        group: usize,
        (c, m): (usize, usize),
        spans: &[Span],
    ) -> Result<Geometry, Reason> {
        if spans.len() > 3 {
            return Err(unsupported!("{} spatial axes are not supported", spans.len()));
        }
        let mut axes = [NONE; 3];
        axes[3 - spans.len()..].copy_from_slice(spans);
        let divided = |n: usize, what| match n.checked_rem(group) {
            Some(0) => Ok(n / group),
            _ => Err(invalid!("{n} {what} channels in {group} groups")),
        };
        let g = Geometry { batch, group, c: divided(c, "input")?, m: divided(m, "output")?, axes };
        let of = |f: fn(&Span) -> usize| [f(&axes[0]), f(&axes[1]), f(&axes[2])];
        let fits = |sizes: &[usize]| {
            let n = sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s.max(1)));
            n.is_some_and(|n| n < isize::MAX as usize / 16)
        };
        let [i, o, k] = [of(|s| s.input), of(|s| s.output), of(|s| s.kernel)];
        let sizes = [
            [batch, c, i[0], i[1], i[2]],
            [batch, m, o[0], o[1], o[2]],
            [g.c, m, k[0], k[1], k[2]],
        ];
        if !sizes.iter().all(|s| fits(s)) || count(&k).is_none() {
            return Err(invalid!("a convolution of {sizes:?} is larger than any memory"));
        }
        Ok(g)
    }

    /// Whether it is one of images or lines: there is no depth.
    pub fn is_flat(&self) -> bool {
        let d = &self.axes[0];
        (d.input, d.output, d.kernel, d.before + d.after) == (1, 1, 1, 0)
    }

    /// Elements of an input channel.
    pub fn in_len(&self) -> usize {
        self.axes.iter().map(|a| a.input).product()
    }

    /// Elements of an output channel.
    pub fn out_len(&self) -> usize {
        self.axes.iter().map(|a| a.output).product()
    }

    /// Elements of the kernel for one channel.
    pub fn taps(&self) -> usize {
        self.axes.iter().map(|a| a.kernel).product()
    }

    /// Multiplications in all.
    pub fn work(&self) -> usize {
        [self.batch, self.group, self.m, self.out_len(), self.c, self.taps()]
            .iter()
            .fold(1, |n: usize, &s| n.saturating_mul(s))
    }
}

/// The input index under tap `k` of the window at `o`; `None` in the padding.
#[inline(always)]
pub fn tap(a: &Span, o: usize, k: usize) -> Option<usize> {
    (o * a.stride + k * a.dilation).checked_sub(a.before).filter(|&i| i < a.input)
}

/// The taps of the window at `o` that lie inside the input.
#[inline(always)]
pub fn taps_inside(a: &Span, o: usize) -> std::ops::Range<usize> {
    let start = o * a.stride;
    let lo = a.before.saturating_sub(start).div_ceil(a.dilation);
    let hi = (a.input + a.before).saturating_sub(start).div_ceil(a.dilation).min(a.kernel);
    lo.min(hi)..hi
}

/// The outputs whose windows lie inside the input as a whole.
pub fn inside(a: &Span) -> std::ops::Range<usize> {
    let lo = a.before.div_ceil(a.stride);
    let room = (a.input + a.before).checked_sub(a.extent());
    let hi = room.map_or(0, |room| room / a.stride + 1).min(a.output);
    lo.min(hi)..hi
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_and_windows_inside_agree_with_every_tap() {
        for (input, kernel, stride, dilation, before, after) in
            [(7, 3, 2, 1, 1, 1), (5, 4, 1, 2, 3, 4), (4, 3, 3, 3, 6, 6), (1, 5, 2, 1, 2, 2)]
        {
            let extent = (kernel - 1) * dilation + 1;
            let output = (input + before + after - extent) / stride + 1;
            let a = Span { input, output, kernel, stride, dilation, before, after };
            for o in 0..output {
                let taps: Vec<usize> = (0..kernel).filter(|&k| tap(&a, o, k).is_some()).collect();
                assert_eq!(taps_inside(&a, o).collect::<Vec<_>>(), taps, "{a:?} at {o}");
                assert_eq!(inside(&a).contains(&o), taps.len() == kernel, "{a:?} at {o}");
            }
        }
    }

    #[test]
    fn sizes_no_memory_holds_are_refused() {
        let huge = Span { input: 1 << 40, output: 1 << 40, ..NONE };
        assert!(Geometry::new(1, 1, (1, 1), &[huge, huge]).is_err());
        assert!(Geometry::new(1, 1, (1, 1), &[NONE; 4]).is_err());
    }
}
