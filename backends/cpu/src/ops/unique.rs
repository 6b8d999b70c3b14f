//! Unique: slices sorted by content, equal ones counted.
//!
//! NaN is larger than every number and equal to NaN, as in NumPy.
use half::{bf16, f16};
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{Axis, Unique};
use rinfer_graph::{
    Bool, Reason, Strings, Tensor, Value, invalid, scarce, unsupported, with_dtype,
};
use std::cmp::Ordering;

use super::compress::{input, take};
use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &Unique, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (op, outputs) = (op.clone(), cx.outputs.len());
    Ok(Kernel::values(move |inputs, cx| {
        let mut made = match input(inputs, 0)? {
            Value::Tensor(x) => unique_numbers(&op, x, cx)?,
            Value::Text(x) => unique_strings(&op, x)?,
            other => return Err(invalid!("Unique of a {}", other.ty())),
        };
        made.truncate(outputs);
        Ok(made)
    }))
}

/// Slices along an axis of a tensor [outer, n, inner].
struct Slices<'a, T> {
    data: &'a [T],
    outer: usize,
    n: usize,
    inner: usize,
}

impl<'a, T> Slices<'a, T> {
    fn new(data: &'a [T], shape: &[usize], axis: usize) -> Slices<'a, T> {
        let outer = shape[..axis].iter().product();
        Slices { data, outer, n: shape[axis], inner: shape[axis + 1..].iter().product() }
    }

    /// The elements of slice `i`, in the order in which they are compared.
    fn slice(&self, i: usize) -> impl Iterator<Item = &'a T> {
        let (n, inner, data) = (self.n, self.inner, self.data);
        (0..self.outer).flat_map(move |o| &data[(o * n + i) * inner..][..inner])
    }

    fn groups(&self, sorted: bool, compare: impl Fn(&T, &T) -> Ordering) -> Groups {
        Groups::new(self.n, sorted, &|&a, &b| {
            let mut pairs = self.slice(a).zip(self.slice(b)).map(|(a, b)| compare(a, b));
            pairs.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        })
    }
}

/// Equal slices, group by group.
struct Groups {
    first: Vec<usize>,
    inverse: Vec<i64>,
    counts: Vec<i64>,
}

impl Groups {
    /// The groups of slices `0..n`, which `by` compares.
    fn new(n: usize, sorted: bool, by: &dyn Fn(&usize, &usize) -> Ordering) -> Groups {
        // The sort is stable: of equal slices the first stands first.
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(by);
        let mut groups: Vec<&[usize]> = order.chunk_by(|a, b| by(a, b).is_eq()).collect();
        if !sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let mut inverse = scarce::zeros::<i64>(n);
        for (k, group) in groups.iter().enumerate() {
            group.iter().for_each(|&i| inverse[i] = k as i64);
        }
        Groups {
            first: groups.iter().map(|group| group[0]).collect(),
            inverse,
            counts: groups.iter().map(|group| group.len() as i64).collect(),
        }
    }

    fn outputs(self, y: Value) -> Vec<Value> {
        let first: Vec<i64> = self.first.iter().map(|&i| i as i64).collect();
        let vectors = [first, self.inverse, self.counts];
        std::iter::once(y).chain(vectors.iter().map(|v| Tensor::vector(v).into())).collect()
    }
}

/// Numbers in order, NaN last.
fn compare<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    #[allow(clippy::eq_op)]
    let nan = |x: &T| x != x;
    a.partial_cmp(b).unwrap_or_else(|| nan(a).cmp(&nan(b)))
}

/// The axis that is meant, for a flattened shape if none is.
fn resolve(axis: Option<Axis>, shape: &[usize]) -> Result<(Vec<usize>, usize), Reason> {
    match axis {
        Some(axis) => Ok((shape.to_vec(), axis.resolve(shape.len())?)),
        None => Ok((vec![shape.iter().product()], 0)),
    }
}

fn unique_numbers(op: &Unique, x: &Tensor, cx: &RunCx<'_>) -> Result<Vec<Value>, Reason> {
    let (shape, axis) = resolve(op.axis, x.shape())?;
    let groups = with_dtype!(
        x.dtype(),
        [f32, f64, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, Bool],
        T => Slices::new(x.as_slice::<T>(), &shape, axis).groups(op.sorted, compare),
        else return Err(unsupported!("Unique of {} is not supported", x.dtype()))
    );
    let y = take(&x.clone().reshaped(&shape)?, axis, &groups.first, cx)?;
    Ok(groups.outputs(y.into()))
}

fn unique_strings(op: &Unique, x: &Strings) -> Result<Vec<Value>, Reason> {
    let (mut shape, axis) = resolve(op.axis, x.shape())?;
    let slices = Slices::new(x.as_slice(), &shape, axis);
    let groups = slices.groups(op.sorted, String::cmp);
    let (n, inner) = (slices.n, slices.inner);
    let mut y = Vec::new();
    for outer in 0..slices.outer {
        for &i in &groups.first {
            y.extend_from_slice(&x.as_slice()[(outer * n + i) * inner..][..inner]);
        }
    }
    shape[axis] = groups.first.len();
    Ok(groups.outputs(Strings::new(&shape, y)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;

    fn unique(axis: Option<i64>, sorted: bool, x: Tensor) -> Vec<Tensor> {
        let op = Unique { axis: axis.map(Axis), sorted };
        let y = run(Isa::best(), op, &[Value::Tensor(x)], 4).unwrap();
        y.into_iter().map(|v| v.into_tensor().unwrap()).collect()
    }

    #[test]
    fn elements_are_counted() {
        let x = Tensor::vector(&[2f32, 1.0, 1.0, f32::NAN, 3.0, f32::NAN]);
        let y = unique(None, true, x.clone());
        assert_eq!(y[0].as_slice::<f32>()[..3], [1.0, 2.0, 3.0]);
        assert_eq!(y[1].as_slice::<i64>(), [1, 0, 4, 3]);
        assert_eq!(y[2].as_slice::<i64>(), [1, 0, 0, 3, 2, 3]);
        assert_eq!(y[3].as_slice::<i64>(), [2, 1, 1, 2]);
        let y = unique(None, false, x);
        assert_eq!(y[1].as_slice::<i64>(), [0, 1, 3, 4]);
        assert_eq!(y[2].as_slice::<i64>(), [0, 1, 1, 2, 3, 2]);
    }

    #[test]
    fn slices_are_compared_as_a_whole() {
        let x = Tensor::from_slice(&[2, 4, 2], &[1, 1, 0, 1, 2, 1, 0, 1].repeat(2)[..]);
        let y = unique(Some(1), true, x);
        assert_eq!(y[0].as_slice::<i32>(), [0, 1, 1, 1, 2, 1].repeat(2));
        assert_eq!(y[1].as_slice::<i64>(), [1, 0, 2]);
        assert_eq!(y[2].as_slice::<i64>(), [1, 0, 2, 0]);
        assert_eq!(y[3].as_slice::<i64>(), [2, 1, 1]);
    }
}
