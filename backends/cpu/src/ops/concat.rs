//! Concat: each row of the output is a run of each input.
use rinfer_graph::ops::Concat;
use rinfer_graph::{Reason, Tensor, invalid, with_width};
use smallvec::SmallVec;

use super::copy::{Word, by_rows, copy_flat};
use crate::kernel::{Args, Cx, Kernel};

/// From this many rows on, rows are what threads share; below, each run is cut up.
const ROWS: usize = 8;

pub(super) fn compile(op: &Concat, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    if cx.inputs.len() == 1 {
        return Ok(Kernel::view());
    }
    let sizes = cx.out_sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let outer: usize = sizes[..axis].iter().product();
    let run = |i: usize| Ok(cx.sizes(i)?[axis..].iter().product());
    let runs = (0..cx.inputs.len()).map(run).collect::<Result<SmallVec<[usize; 8]>, Reason>>()?;
    let dtype = cx.dtype(0)?;
    with_width!(dtype, W => Ok(Kernel::new(move |args| concat::<W>(outer, &runs, args))),
        else Err(invalid!("{dtype} does not move by itself")))
}

/// The kernel of a concatenation of images with channels side by side, some of whose inputs are in
/// the output already: the last input, which is overwritten where that can be. The others have
/// these runs and begin at these places of each row.
pub(crate) fn compile_rest(row: usize, rest: SmallVec<[(usize, usize); 4]>) -> Kernel {
    let last = rest.len();
    let kernel = Kernel::new(move |args| {
        let mut parts = SmallVec::<[(&[f32], usize, usize); 4]>::new();
        for (i, &(at, run)) in rest.iter().enumerate() {
            parts.push((args.input(i)?.as_slice(), at, run));
        }
        let made = args.opt(last).map(Tensor::as_slice);
        let y = args.outputs[0].as_mut_slice::<f32>();
        if let Some(made) = made {
            y.copy_from_slice(made);
        }
        by_rows(args.cx, y, row, |rows, y| {
            for &(x, at, run) in &parts {
                let x = x[rows.start * run..].chunks_exact(run);
                y.chunks_mut(row).zip(x).for_each(|(y, x)| y[at..at + run].copy_from_slice(x));
            }
        })
    });
    kernel.in_place(&[last])
}

/// Fills the output, `outer` rows of one run of each input.
fn concat<W: Word>(outer: usize, runs: &[usize], args: &mut Args<'_>) -> Result<(), Reason> {
    let mut parts = SmallVec::<[(&[W], usize); 8]>::new();
    for (i, &run) in runs.iter().enumerate().filter(|(_, run)| **run > 0) {
        parts.push((args.input(i)?.as_bits(), run));
    }
    let row: usize = runs.iter().sum();
    let y = args.outputs[0].as_mut_bits::<W>();
    if row == 0 || outer == 0 {
        return Ok(());
    }
    if outer < ROWS {
        for (r, mut y) in y.chunks_exact_mut(row).enumerate() {
            for &(x, run) in &parts {
                let (now, later) = y.split_at_mut(run);
                copy_flat(args.cx, &x[r * run..][..run], now)?;
                y = later;
            }
        }
        return Ok(());
    }
    by_rows(args.cx, y, row, |rows, y| {
        // Input by input, so that each is read from front to back.
        let mut at = 0;
        for &(x, run) in &parts {
            let y = y[at..].chunks_mut(row);
            let x = x[rows.start * run..].chunks_exact(run);
            if run == 1 {
                y.zip(x).for_each(|(y, x)| y[0] = x[0]);
            } else {
                y.zip(x).for_each(|(y, x)| y[..run].copy_from_slice(x));
            }
            at += run;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::Axis;

    #[test]
    fn runs_stand_side_by_side() {
        for rows in [1, 2, 20] {
            let a = Tensor::from_slice(&[rows, 2], &vec![1u16; rows * 2]);
            let b = Tensor::from_slice(&[rows, 0], &[0u16; 0]);
            let c = Tensor::from_slice(&[rows, 1], &(0..rows as u16).collect::<Vec<_>>());
            let y = run1(Isa::best(), Concat { axis: Axis(1) }, &[a, b, c]).unwrap();
            assert_eq!(y.shape(), [rows, 3]);
            let expected: Vec<u16> = (0..rows as u16).flat_map(|i| [1, 1, i]).collect();
            assert_eq!(y.as_slice::<u16>(), expected);
        }
    }
}
