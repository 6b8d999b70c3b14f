//! OneHot: everything off, then one element on for each index.
use half::{bf16, f16};
use rinfer_graph::ops::OneHot;
use rinfer_graph::{Reason, Tensor, invalid, unsupported, with_dtype, with_width};

use super::copy::{Word, by_rows};
use crate::kernel::{Args, Cx, Kernel};

pub(super) fn compile(op: &OneHot, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.out_sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let (depth, inner) = (sizes[axis], sizes[axis + 1..].iter().product());
    let dtype = cx.dtype(2)?;
    with_width!(dtype, W => Ok(Kernel::new(move |args| one_hot::<W>(depth, inner, args))),
        else Err(invalid!("{dtype} does not move by itself")))
}

/// y [outer, depth, inner] from indices [outer, inner].
fn one_hot<W: Word>(depth: usize, inner: usize, args: &mut Args<'_>) -> Result<(), Reason> {
    let at = places(args.input(0)?, depth)?;
    let &[off, on] = args.input(2)?.as_bits::<W>() else {
        return Err(invalid!("{:?} where [off, on] is needed", args.input(2)?));
    };
    by_rows(args.cx, args.outputs[0].as_mut_bits::<W>(), depth * inner, |rows, y| {
        y.fill(off);
        for (outer, y) in rows.zip(y.chunks_exact_mut(depth * inner)) {
            for (i, at) in at[outer * inner..][..inner].iter().enumerate() {
                if let Some(y) = y.get_mut(at.saturating_mul(inner).saturating_add(i)) {
                    *y = on;
                }
            }
        }
    })
}

/// Positions on the new axis; `usize::MAX` for indices outside -depth..depth.
fn places(indices: &Tensor, depth: usize) -> Result<Vec<usize>, Reason> {
    let place = |index: i64| {
        let at = if index < 0 { index.checked_add_unsigned(depth as u64) } else { Some(index) };
        at.and_then(|at| usize::try_from(at).ok()).filter(|&at| at < depth).unwrap_or(usize::MAX)
    };
    with_dtype!(indices.dtype(), [i64, i32, i16, i8, u64, u32, u16, u8], T => {
        // Beyond int64 is beyond every depth.
        let index = |&i: &T| i64::try_from(i).map_or(usize::MAX, place);
        return Ok(indices.as_slice::<T>().iter().map(index).collect());
    }, else {});
    with_dtype!(indices.dtype(), [f32, f64, f16, bf16], T => {
        Ok(indices.as_slice::<T>().iter().map(|&i| place(f64::from(i) as i64)).collect())
    }, else Err(unsupported!("OneHot of {} indices is not supported", indices.dtype())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::ops::Axis;

    #[test]
    fn indices_out_of_range_turn_nothing_on() {
        let one_hot = |axis| {
            let inputs = [
                Tensor::vector(&[1f32, -1.0, 3.0]),
                Tensor::scalar(3i64),
                Tensor::vector(&[2u8, 5]),
            ];
            run1(Isa::best(), OneHot { axis: Axis(axis) }, &inputs).unwrap()
        };
        assert_eq!(one_hot(-1).as_slice::<u8>(), [2, 5, 2, 2, 2, 5, 2, 2, 2]);
        assert_eq!(one_hot(0).as_slice::<u8>(), [2, 2, 2, 5, 2, 2, 2, 5, 2]);
    }
}
