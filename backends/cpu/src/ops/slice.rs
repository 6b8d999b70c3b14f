//! Slice: a strided copy from the first element that is taken.
use rinfer_graph::ops::Slice;
use rinfer_graph::{Reason, invalid};

use super::copy::{Copy, dense};
use crate::kernel::{Cx, Kernel};

pub(super) fn compile(_: &Slice, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let cuts = Slice::cuts(&sizes, &|i| cx.opt(i))?;
    let mut axes = dense(&sizes);
    let mut offset = 0;
    for cut in cuts {
        let axis = &mut axes[cut.axis];
        offset += cut.start * axis.step.unsigned_abs();
        axis.size = cut.len;
        // A step beyond the axis is never taken.
        let step = if cut.len < 2 { 1 } else { cut.step as isize };
        let too_far = || invalid!("step {step} along axis {} is too large", cut.axis);
        axis.step = axis.step.checked_mul(step).ok_or_else(too_far)?;
    }
    let source = sizes.iter().product();
    Copy::new(source, offset, &axes)?.kernel(cx.isa, cx.dtype(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    fn check(starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64], expected: &[i32]) {
        let x = Tensor::from_slice(&[3, 4], &(0..12).collect::<Vec<i32>>());
        let [starts, ends, axes, steps] = [starts, ends, axes, steps].map(Tensor::vector);
        let y = run1(Isa::best(), Slice, &[x, starts, ends, axes, steps]).unwrap();
        assert_eq!(y.as_slice::<i32>(), expected);
    }

    #[test]
    fn parts_are_taken_forwards_and_backwards() {
        check(&[1], &[i64::MAX], &[0], &[1], &[4, 5, 6, 7, 8, 9, 10, 11]);
        check(&[1, 0], &[3, 4], &[0, 1], &[1, 3], &[4, 7, 8, 11]);
        check(&[-1], &[i64::MIN], &[1], &[-2], &[3, 1, 7, 5, 11, 9]);
        check(&[-1, -1], &[0, i64::MIN], &[0, 1], &[-1, -1], &[11, 10, 9, 8, 7, 6, 5, 4]);
        check(&[2], &[1], &[0], &[1], &[]);
        check(&[1], &[2], &[1], &[i64::MAX], &[1, 5, 9]);
    }
}
