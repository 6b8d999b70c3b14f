//! Features made ready for models, row by row.
use std::collections::HashMap;

use rinfer_graph::ops::{Features, Labels, Norm};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{DType, Reason, Strings, Tensor, Value, invalid, unsupported, with_dtype};

use super::ml;
use super::wide::Wide;
use crate::kernel::Kernel;

pub(super) fn compile(op: &Features) -> Result<Kernel, Reason> {
    let op = op.clone();
    Ok(Kernel::values(move |inputs, cx| {
        cx.check()?;
        let get = |i: usize| {
            let input = inputs.get(i).and_then(Option::as_ref);
            input.ok_or_else(|| invalid!("input {i} is missing"))
        };
        let x = get(0)?;
        let y = match &op {
            Features::Normalize(norm) => normalize(x.as_tensor()?, *norm)?,
            Features::Scale { offset, scale } => {
                each(x.as_tensor()?, |x, i| (x - at(offset, i)) * at(scale, i))?
            }
            Features::ImputeFloats { values, replaced } => {
                impute(x.as_tensor()?, values, |x: f64| match replaced.is_nan() {
                    true => x.is_nan(),
                    false => x == f64::from(*replaced),
                })?
            }
            Features::ImputeInts { values, replaced } => {
                impute_ints(x.as_tensor()?, values, *replaced)?
            }
            Features::Binarize(threshold) => binarize(x.as_tensor()?, *threshold)?,
            Features::OneHot { categories, zeros } => one_hot(x, categories, *zeros)?,
            Features::Concat { sizes } => {
                let xs: Vec<&Tensor> =
                    (0..inputs.len()).map(|i| get(i)?.as_tensor()).collect::<Result<_, _>>()?;
                concat(&xs, sizes)?
            }
            Features::Select => return select(x, get(1)?.as_tensor()?).map(|y| vec![y]),
        };
        Ok(vec![y.into()])
    }))
}

/// The value for feature `i`: its own, or the one for all.
fn at<T: Copy>(values: &[T], i: usize) -> T {
    values[if values.len() == 1 { 0 } else { i % values.len() }]
}

fn features(x: &Tensor) -> usize {
    x.shape().last().copied().unwrap_or(1).max(1)
}

/// `f` of each element and the number of its feature, as floats.
fn each(x: &Tensor, f: impl Fn(f32, usize) -> f32) -> Result<Tensor, Reason> {
    let width = features(x);
    let mut y = Tensor::try_zeros(DType::F32, x.shape())?;
    let x = ml::as_f32(x)?;
    for (x, y) in x.chunks(width).zip(y.as_mut_slice::<f32>().chunks_mut(width)) {
        x.iter().zip(y).enumerate().for_each(|(i, (&x, y))| *y = f(x, i));
    }
    Ok(y)
}

fn normalize(x: &Tensor, norm: Norm) -> Result<Tensor, Reason> {
    let width = features(x);
    let mut y = Tensor::try_zeros(DType::F32, x.shape())?;
    let x = ml::as_f64(x)?;
    for (x, y) in x.chunks(width).zip(y.as_mut_slice::<f32>().chunks_mut(width)) {
        let by = match norm {
            Norm::Max => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Norm::L1 => x.iter().map(|x| x.abs()).sum(),
            Norm::L2 => x.iter().map(|x| x * x).sum::<f64>().sqrt(),
        };
        let by = if by == 0.0 { 1.0 } else { by };
        x.iter().zip(y).for_each(|(x, y)| *y = (x / by) as f32);
    }
    Ok(y)
}

fn impute(x: &Tensor, values: &[f32], missing: impl Fn(f64) -> bool) -> Result<Tensor, Reason> {
    let width = features(x);
    let mut y = x.clone();
    with_dtype!(x.dtype(), [f32, f64], T => {
        for row in y.as_mut_slice::<T>().chunks_mut(width) {
            for (i, x) in row.iter_mut().enumerate().filter(|(_, x)| missing(x.wide())) {
                *x = T::narrow(f64::from(at(values, i)));
            }
        }
    }, else return Err(invalid!("floats in place of values of type {}", x.dtype())));
    Ok(y)
}

fn impute_ints(x: &Tensor, values: &[i64], replaced: i64) -> Result<Tensor, Reason> {
    let width = features(x);
    let mut y = x.clone();
    with_dtype!(x.dtype(), [i32, i64], T => {
        for row in y.as_mut_slice::<T>().chunks_mut(width) {
            for (i, x) in row.iter_mut().enumerate().filter(|(_, x)| i64::from(**x) == replaced) {
                let value = at(values, i);
                *x = T::try_from(value).map_err(|_| invalid!("{value} does not fit"))?;
            }
        }
    }, else return Err(invalid!("integers in place of values of type {}", x.dtype())));
    Ok(y)
}

fn binarize(x: &Tensor, threshold: f32) -> Result<Tensor, Reason> {
    let mut y = Tensor::try_zeros(x.dtype(), x.shape())?;
    with_dtype!(x.dtype(), [f32, f64, i32, i64], T => {
        for (x, y) in x.as_slice::<T>().iter().zip(y.as_mut_slice::<T>()) {
            *y = T::narrow(if x.wide() > f64::from(threshold) { 1.0 } else { 0.0 });
        }
    }, else return Err(invalid!("features of type {}", x.dtype())));
    Ok(y)
}

fn one_hot(x: &Value, categories: &Labels, zeros: bool) -> Result<Tensor, Reason> {
    let found: Vec<Option<usize>> = match (x, categories) {
        (Value::Text(s), Labels::Texts(names)) => {
            let index: HashMap<&str, usize> =
                names.iter().enumerate().rev().map(|(i, s)| (s.as_str(), i)).collect();
            s.as_slice().iter().map(|s| index.get(s.as_str()).copied()).collect()
        }
        (Value::Tensor(x), Labels::Ints(names)) => {
            let index: HashMap<i64, usize> =
                names.iter().enumerate().rev().map(|(i, &n)| (n, i)).collect();
            with_dtype!(x.dtype(), [f32, f64, i32, i64], T => {
                x.as_slice::<T>().iter().map(|&x| index.get(&(x as i64)).copied()).collect()
            }, else return Err(invalid!("categories of type {}", x.dtype())))
        }
        _ => return Err(invalid!("categories of another type than {}", x.ty())),
    };
    if let (false, Some(i)) = (zeros, found.iter().position(Option::is_none)) {
        return Err(invalid!("element {i} is none of the {} categories", categories.len()));
    }
    let mut shape = Sizes::from(x.shape().unwrap_or(&[]));
    shape.push(categories.len());
    let mut y = Tensor::try_zeros(DType::F32, &shape)?;
    for (row, found) in y.as_mut_slice::<f32>().chunks_exact_mut(categories.len()).zip(found) {
        if let Some(i) = found {
            row[i] = 1.0;
        }
    }
    Ok(y)
}

fn concat(xs: &[&Tensor], sizes: &[usize]) -> Result<Tensor, Reason> {
    let width = sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    let width = width.ok_or_else(|| invalid!("sizes {sizes:?} are too large"))?;
    let first = xs.first().ok_or_else(|| invalid!("no inputs"))?;
    let (rows, _) = ml::rows_and_features(first)?;
    let mut y = Tensor::try_zeros(DType::F32, &[rows, width])?;
    let mut start = 0;
    for (x, &size) in xs.iter().zip(sizes) {
        let (n, given) = ml::rows_and_features(x)?;
        if n != rows {
            return Err(invalid!("{n} rows beside {rows}"));
        }
        let x = ml::as_f32(x)?;
        let kept = given.min(size);
        let out = y.as_mut_slice::<f32>().chunks_exact_mut(width.max(1));
        for (y, x) in out.zip(x.chunks_exact(given.max(1))) {
            y[start..start + kept].copy_from_slice(&x[..kept]);
        }
        start += size;
    }
    Ok(y)
}

fn select(x: &Value, indices: &Tensor) -> Result<Value, Reason> {
    let shape = x.shape().ok_or_else(|| invalid!("a {} where a tensor is needed", x.ty()))?;
    let (&width, outer) = shape.split_last().ok_or_else(|| invalid!("features of rank 0"))?;
    let ints = indices.to_ints().ok_or_else(|| invalid!("indices of {}", indices.dtype()))?;
    let columns: Vec<usize> = ints
        .iter()
        .map(|&i| {
            let at = usize::try_from(i).ok().filter(|&at| at < width);
            at.ok_or_else(|| invalid!("index {i} is out of range for {width} features"))
        })
        .collect::<Result<_, _>>()?;
    let mut out = Sizes::from(if outer.is_empty() { &[1][..] } else { outer });
    out.push(columns.len());
    if let Value::Text(s) = x {
        let rows = s.as_slice().chunks_exact(width.max(1));
        let data = rows.flat_map(|row| columns.iter().map(|&i| row[i].clone())).collect();
        return Ok(Value::Text(Strings::new(&out, data)?));
    }
    let x = x.as_tensor()?;
    let bytes = x.dtype().size();
    if bytes == 0 {
        return Err(unsupported!("features of type {}", x.dtype()));
    }
    let mut y = Tensor::try_zeros(x.dtype(), &out)?;
    let rows = y.as_mut_bytes().chunks_exact_mut((columns.len() * bytes).max(1));
    for (y, x) in rows.zip(x.as_bytes().chunks_exact((width * bytes).max(1))) {
        for (y, &i) in y.chunks_exact_mut(bytes).zip(&columns) {
            y.copy_from_slice(&x[i * bytes..][..bytes]);
        }
    }
    Ok(y.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    fn eval(op: Features, inputs: &[Tensor]) -> Tensor {
        run1(Isa::available()[0], op, inputs).unwrap()
    }

    #[test]
    fn a_row_without_length_stays() {
        let x = Tensor::from_slice(&[3, 2], &[3f32, -4.0, 0.0, 0.0, -2.0, -1.0]);
        let y = eval(Features::Normalize(Norm::L2), &[x.clone()]);
        assert_eq!(y.as_slice::<f32>()[..4], [0.6, -0.8, 0.0, 0.0]);
        let y = eval(Features::Normalize(Norm::Max), &[x]);
        assert_eq!(y.as_slice::<f32>()[4..], [2.0, 1.0]);
    }

    #[test]
    fn nan_is_replaced_where_it_stands() {
        let op = Features::ImputeFloats { values: vec![7.0, 8.0], replaced: f32::NAN };
        let y = eval(op, &[Tensor::from_slice(&[2, 2], &[f64::NAN, 1.0, 2.0, f64::NAN])]);
        assert_eq!(y.as_slice::<f64>(), [7.0, 1.0, 2.0, 8.0]);
    }

    #[test]
    fn an_unknown_category_is_zeros_or_an_error() {
        let op = |zeros| Features::OneHot { categories: Labels::Ints(vec![1, 3]), zeros };
        let x = Tensor::vector(&[3.5f32, 2.0]);
        assert_eq!(eval(op(true), &[x.clone()]).as_slice::<f32>(), [0.0, 1.0, 0.0, 0.0]);
        assert!(run1(Isa::available()[0], op(false), &[x]).is_err());
    }

    #[test]
    fn inputs_are_cut_or_filled_to_their_sizes() {
        let x = Tensor::from_slice(&[2, 2], &[1i64, 2, 3, 4]);
        let z = Tensor::from_slice(&[2, 1], &[5f32, 6.0]);
        let y = eval(Features::Concat { sizes: vec![1, 2] }, &[x, z]);
        assert_eq!(y, Tensor::from_slice(&[2, 3], &[1f32, 5.0, 0.0, 3.0, 6.0, 0.0]));
    }

    #[test]
    fn selected_features_must_exist() {
        let x = Tensor::vector(&[1f32, 2.0, 3.0]);
        let y = eval(Features::Select, &[x.clone(), Tensor::vector(&[2i64, 0])]);
        assert_eq!(y, Tensor::from_slice(&[1, 2], &[3f32, 1.0]));
        let wrong = run1(Isa::available()[0], Features::Select, &[x, Tensor::vector(&[3i64])]);
        assert!(wrong.is_err());
    }
}
