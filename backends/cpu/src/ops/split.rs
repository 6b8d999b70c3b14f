//! Split: each output is a strided copy of its columns.
use rinfer_graph::ops::Split;
use rinfer_graph::{Reason, invalid, with_width};

use super::copy::{Copy, Stride};
use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &Split, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    if cx.outputs.len() == 1 {
        return Ok(Kernel::view());
    }
    let outer: usize = sizes[..axis].iter().product();
    let inner: usize = sizes[axis + 1..].iter().product();
    let row = sizes[axis] * inner;
    let step = |n: usize| isize::try_from(n).map_err(|_| invalid!("a row of {n} elements"));
    let mut at = 0;
    let mut parts = Vec::with_capacity(cx.outputs.len());
    for i in 0..cx.outputs.len() {
        let run = cx.out_sizes(i)?[axis] * inner;
        let axes = [Stride { size: outer, step: step(row)? }, Stride { size: run, step: 1 }];
        parts.push(Copy::new(outer * row, at, &axes)?);
        at += run;
    }
    let (isa, dtype) = (cx.isa, cx.dtype(0)?);
    with_width!(dtype, W => Ok(Kernel::new(move |args| {
        let x = args.input(0)?;
        for (part, y) in parts.iter().zip(args.outputs.iter_mut()) {
            part.run::<W>(isa, args.cx, x.as_bits(), y.as_mut_bits())?;
        }
        Ok(())
    })), else Err(invalid!("{dtype} does not move by itself")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;
    use rinfer_graph::ops::Axis;
    use rinfer_graph::{Tensor, Value};

    #[test]
    fn pieces_may_be_empty() {
        let x = Tensor::from_slice(&[2, 3], &[1i64, 2, 3, 4, 5, 6]);
        let split = Tensor::vector(&[1i64, 0, 2]);
        let op = Split { axis: Axis(-1), num_outputs: None };
        let y = run(Isa::best(), op, &[Value::Tensor(x), Value::Tensor(split)], 3).unwrap();
        let y: Vec<Tensor> = y.into_iter().map(|v| v.into_tensor().unwrap()).collect();
        assert_eq!(y[0].as_slice::<i64>(), [1, 4]);
        assert_eq!(y[1].shape(), [2, 0]);
        assert_eq!(y[2].as_slice::<i64>(), [2, 3, 5, 6]);
    }
}
