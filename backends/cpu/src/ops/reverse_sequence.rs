//! ReverseSequence: slices copied one by one, from the other end of their sequence.
use rinfer_graph::ops::ReverseSequence;
use rinfer_graph::{Reason, Tensor, invalid, with_width};

use super::copy::by_rows;
use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &ReverseSequence, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let (batch, time) = (op.batch_axis.resolve(sizes.len())?, op.time_axis.resolve(sizes.len())?);
    // Slices behind both axes go along as they are.
    let inner: usize = sizes[batch.max(time) + 1..].iter().product();
    let steps = |axis: usize| sizes[axis + 1..=batch.max(time)].iter().product::<usize>();
    let (batch_step, time_step) = (steps(batch), steps(time));
    let (batches, times, dtype) = (sizes[batch], sizes[time], cx.dtype(0)?);
    with_width!(dtype, W => Ok(Kernel::new(move |args| {
        let lens = lengths(args.input(1)?, batches, times)?;
        let x = args.input(0)?.as_bits::<W>();
        by_rows(args.cx, args.outputs[0].as_mut_bits::<W>(), inner, |rows, y| {
            for (row, y) in rows.zip(y.chunks_exact_mut(inner)) {
                let (t, len) = (row / time_step % times, lens[row / batch_step % batches]);
                let from = if t < len { row - t * time_step + (len - 1 - t) * time_step } else { row };
                y.copy_from_slice(&x[from * inner..][..inner]);
            }
        })
    })), else Err(invalid!("{dtype} does not move by itself")))
}

/// The lengths of `batches` sequences of at most `times` elements.
fn lengths(lens: &Tensor, batches: usize, times: usize) -> Result<Vec<usize>, Reason> {
    if lens.len() != batches {
        return Err(invalid!("{} lengths for a batch of {batches}", lens.len()));
    }
    let length = |&len: &i64| {
        let fits = usize::try_from(len).ok().filter(|&len| len <= times);
        fits.ok_or_else(|| invalid!("a sequence of length {len} on an axis of size {times}"))
    };
    lens.as_slice::<i64>().iter().map(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::ops::Axis;

    #[test]
    fn only_the_first_elements_turn_round() {
        let x = Tensor::from_slice(&[3, 2, 1], &[0u16, 1, 2, 3, 4, 5]);
        let reverse = |batch_axis, time_axis, lens: &[i64]| {
            let op = ReverseSequence { batch_axis: Axis(batch_axis), time_axis: Axis(time_axis) };
            run1(Isa::best(), op, &[x.clone(), Tensor::vector(lens)])
        };
        assert_eq!(reverse(1, 0, &[3, 2]).unwrap().as_slice::<u16>(), [4, 3, 2, 1, 0, 5]);
        assert_eq!(reverse(0, 1, &[2, 1, 0]).unwrap().as_slice::<u16>(), [1, 0, 2, 3, 4, 5]);
        assert!(reverse(1, 0, &[4, 2]).is_err());
        assert!(reverse(1, 0, &[-1, 2]).is_err());
    }
}
