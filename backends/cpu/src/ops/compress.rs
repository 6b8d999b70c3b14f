//! Compress and NonZero: how much they make depends on what they read.
use half::{bf16, f16};
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{Compress, NonZero};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{
    Bool, C64, C128, Kind, Reason, Tensor, Value, invalid, unsupported, with_dtype, with_width,
};

use super::gather::gather_rows;
use crate::kernel::{Cx, Kernel};

/// Input `i` of a kernel that makes its outputs itself.
pub(super) fn input(inputs: &[Option<Value>], i: usize) -> Result<&Value, Reason> {
    inputs.get(i).and_then(Option::as_ref).ok_or_else(|| invalid!("input {i} is missing"))
}

/// `Err` if this many bytes are more than a run may hold.
pub(super) fn check_memory(bytes: Option<usize>, cx: &RunCx<'_>) -> Result<(), Reason> {
    match bytes.is_some_and(|bytes| bytes <= cx.memory) {
        true => Ok(()),
        false => Err(Reason::new(Kind::Limit, format!("more than {} bytes", cx.memory))),
    }
}

/// The slices of `x` at these positions of `axis`.
pub(super) fn take(
    x: &Tensor,
    axis: usize,
    at: &[usize],
    cx: &RunCx<'_>,
) -> Result<Tensor, Reason> {
    let mut sizes: Sizes = x.shape().into();
    let n = std::mem::replace(&mut sizes[axis], at.len());
    let inner: usize = sizes[axis + 1..].iter().product();
    let bytes = rinfer_graph::tensor::size_in_bytes(x.dtype(), &sizes)?;
    check_memory(Some(bytes), cx)?;
    let mut y = Tensor::try_zeros(x.dtype(), &sizes)?;
    with_width!(x.dtype(), W => {
        gather_rows::<W>(cx, x.as_bits(), (n, inner), at, y.as_mut_bits())?;
    }, else return Err(invalid!("{} does not move by itself", x.dtype())));
    Ok(y)
}

pub(super) fn compile(op: &Compress, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let _ = cx.input(1)?;
    let axis = op.axis;
    Ok(Kernel::values(move |inputs, cx| {
        let x = input(inputs, 0)?.as_tensor()?;
        let (x, axis) = match axis {
            Some(axis) => (x.clone(), axis.resolve(x.rank())?),
            None => (x.clone().reshaped(&[x.len()])?, 0),
        };
        let condition = input(inputs, 1)?.as_tensor()?.as_slice::<Bool>();
        let held = condition.iter().enumerate().filter(|(_, c)| c.get());
        let at: Vec<usize> = held.map(|(i, _)| i).collect();
        if let Some(i) = at.last().filter(|&&i| i >= x.shape()[axis]) {
            return Err(invalid!("condition {i} is true for an axis of size {}", x.shape()[axis]));
        }
        Ok(vec![take(&x, axis, &at, cx)?.into()])
    }))
}

pub(super) fn compile_non_zero(_: &NonZero, _: &Cx<'_>) -> Result<Kernel, Reason> {
    Ok(Kernel::values(|inputs, cx| {
        let x = input(inputs, 0)?;
        let shape = x.shape().ok_or_else(|| invalid!("NonZero of a {}", x.ty()))?;
        let at = match x {
            Value::Text(strings) => held(strings.as_slice(), |s| !s.is_empty()),
            Value::Tensor(x) => with_dtype!(
                x.dtype(),
                [f32, Bool, i64, i32, i16, i8, u64, u32, u16, u8, f64, f16, bf16, C64, C128],
                T => held(x.as_slice::<T>(), |e| *e != T::default()),
                else return Err(unsupported!("NonZero of {} is not supported", x.dtype()))
            ),
            other => return Err(invalid!("NonZero of a {}", other.ty())),
        };
        check_memory(at.len().checked_mul(shape.len()).and_then(|n| n.checked_mul(8)), cx)?;
        let mut y = Tensor::try_zeros(rinfer_graph::DType::I64, &[shape.len(), at.len()])?;
        if !at.is_empty() {
            let steps = rinfer_graph::shape::strides(shape);
            let rows = y.as_mut_slice::<i64>().chunks_exact_mut(at.len());
            for (row, (&step, &size)) in rows.zip(steps.iter().zip(shape)) {
                for (y, at) in row.iter_mut().zip(&at) {
                    *y = (at / step % size) as i64;
                }
            }
        }
        Ok(vec![y.into()])
    }))
}

/// Where `f` holds.
fn held<T>(x: &[T], f: impl Fn(&T) -> bool) -> Vec<usize> {
    x.iter().enumerate().filter(|(_, e)| f(e)).map(|(i, _)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::ops::Axis;

    #[test]
    fn what_the_condition_holds_for_is_kept() {
        let x = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let compress = |axis: Option<i64>, condition: &[u8]| {
            let condition: Vec<Bool> = condition.iter().map(|&c| Bool(c)).collect();
            let op = Compress { axis: axis.map(Axis) };
            run1(Isa::best(), op, &[x.clone(), Tensor::vector(&condition)])
        };
        assert_eq!(compress(Some(1), &[0, 1]).unwrap().as_slice::<f32>(), [2.0, 5.0]);
        assert_eq!(compress(None, &[1, 0, 0, 0, 1]).unwrap().as_slice::<f32>(), [1.0, 5.0]);
        assert_eq!(compress(Some(-2), &[0]).unwrap().shape(), [0, 3]);
        assert!(compress(Some(0), &[0, 0, 1]).is_err());
    }

    #[test]
    fn indices_come_axis_by_axis() {
        let x = Tensor::from_slice(&[2, 2], &[-0f32, 1.0, f32::NAN, 0.0]);
        let y = run1(Isa::best(), NonZero, &[x]).unwrap();
        assert_eq!(y.as_slice::<i64>(), [0, 1, 1, 0]);
        assert_eq!(run1(Isa::best(), NonZero, &[Tensor::scalar(3i32)]).unwrap().shape(), [0, 1]);
    }
}
