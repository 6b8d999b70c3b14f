//! Gather, GatherElements, GatherND: elements or slices of `data`, picked by index.
//!
//! Gather: data [a.., n, b..], indices [i..] → [a.., i.., b..]
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, show};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// Slices of `data` along an axis; negative indices count from the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    /// The axis that indices are about.
    pub axis: Axis,
}

impl Gather {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
        check_indices(indices)?;
        let dtype = data.dtype()?;
        let Some(shape) = data.shape() else { return one(Fact::unranked(dtype)) };
        let axis = self.axis.resolve(shape.len())?;
        let Some(index_shape) = indices.shape() else { return one(Fact::unranked(dtype)) };
        if shape.len() == 1
            && index_shape.len() <= 1
            && let (Some(elements), Some(picked)) = (data.elements(), short_ints(indices))
        {
            let n = elements.len();
            let pick = |&i: &i64| Ok(elements[position(i, n)?].clone());
            let dims = picked.iter().map(pick).collect::<Result<Vec<Dim>, Reason>>()?;
            return one(Fact::of_dims(dims, index_shape.is_empty()));
        }
        let mut out: Shape = shape[..axis].into();
        out.extend(index_shape.iter().cloned());
        out.extend(shape[axis + 1..].iter().cloned());
        one(Fact::new(dtype, out))
    }
}

/// The indices, if they are known and few.
fn short_ints(indices: &Fact) -> Option<smallvec::SmallVec<[i64; 4]>> {
    indices.len().filter(|&n| n <= crate::fact::SHORT)?;
    indices.ints()
}

/// The position that an index means on an axis of `n` elements.
pub fn position(index: i64, n: usize) -> Result<usize, Reason> {
    let at = if index < 0 { index.checked_add_unsigned(n as u64) } else { Some(index) };
    at.and_then(|at| usize::try_from(at).ok())
        .filter(|&at| at < n)
        .ok_or_else(|| invalid!("index {index} is out of range for an axis of size {n}"))
}

/// `Err` unless they are int32 or int64.
pub(super) fn check_indices(indices: &Fact) -> Result<(), Reason> {
    match indices.dtype()? {
        DType::I32 | DType::I64 => Ok(()),
        other => Err(invalid!("indices of type {other} where int32 or int64 is needed")),
    }
}

/// y[i, j, …] = data[index[i, j, …], j, …] for axis 0, and likewise for the others.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherElements {
    /// The axis that indices are about.
    pub axis: Axis,
}

impl GatherElements {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
        check_indices(indices)?;
        check_element_indices(self.axis, data, indices)?;
        one(match indices.shape() {
            Some(shape) => Fact::new(data.dtype()?, shape.into()),
            None => Fact::unranked(data.dtype()?),
        })
    }
}

/// `Err` if indices of GatherElements or ScatterElements certainly do not fit the data.
pub(super) fn check_element_indices(axis: Axis, data: &Fact, indices: &Fact) -> Result<(), Reason> {
    let (Some(data), Some(indices)) = (data.shape(), indices.shape()) else { return Ok(()) };
    let axis = axis.resolve(data.len())?;
    let larger = |k: usize| indices[k].value().zip(data[k].value()).is_some_and(|(i, n)| i > n);
    if data.len() != indices.len() || (0..data.len()).any(|k| k != axis && larger(k)) {
        return Err(invalid!(
            "indices of shape {} do not fit data of shape {} along axis {axis}",
            show(indices),
            show(data)
        ));
    }
    Ok(())
}

/// Slices of `data`, each picked by the last axis of `indices`.
///
/// data [b.., d.., e..], indices [b.., i.., |d|] → [b.., i.., e..]
#[derive(Clone, Debug, PartialEq)]
pub struct GatherND {
    /// Leading axes that data and indices have in common.
    pub batch_dims: usize,
}

impl GatherND {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
        if indices.dtype()? != DType::I64 {
            return Err(invalid!("indices of type {} where int64 is needed", indices.dtype()?));
        }
        let dtype = data.dtype()?;
        let (Some(shape), Some(index_shape)) = (data.shape(), indices.shape()) else {
            return one(Fact::unranked(dtype));
        };
        let (last, outer) =
            index_shape.split_last().ok_or_else(|| invalid!("indices of rank 0"))?;
        if self.batch_dims >= index_shape.len() || self.batch_dims >= shape.len() {
            return Err(invalid!(
                "{} batch axes for data of shape {} and indices of shape {}",
                self.batch_dims,
                show(shape),
                show(index_shape)
            ));
        }
        let Some(tuple) = last.value() else { return one(Fact::unranked(dtype)) };
        let used = usize::try_from(tuple).ok().and_then(|n| n.checked_add(self.batch_dims));
        let Some(rest) = used.and_then(|used| shape.get(used..)) else {
            return Err(invalid!("{tuple} indices into data of shape {}", show(shape)));
        };
        let differ = |k: usize| shape[k].value().zip(outer[k].value()).is_some_and(|(a, b)| a != b);
        if let Some(k) = (0..self.batch_dims).find(|&k| differ(k)) {
            return Err(invalid!("batch axis {k} has sizes {} and {}", shape[k], outer[k]));
        }
        one(Fact::new(dtype, outer.iter().chain(rest).cloned().collect()))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(0));
    cx.emit(Gather { axis })
}

pub(super) fn import_elements(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(0));
    cx.emit(GatherElements { axis })
}

pub(super) fn import_nd(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let batch_dims = if cx.version >= 12 { cx.size("batch_dims")?.unwrap_or(0) } else { 0 };
    cx.emit(GatherND { batch_dims })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn an_index_into_a_shape_is_a_known_size() {
        let shape = Fact::of_dims(vec![Dim::symbol("n"), Dim::N(3)], false);
        let pick = |i: i64| {
            let index = Fact::constant(Tensor::scalar(i));
            let gather = Gather { axis: Axis(0) };
            gather.infer(&Inputs::new(&[Some(&shape), Some(&index)], 1)).map(|f| f[0].to_string())
        };
        assert_eq!(pick(-2).unwrap(), "int64[] = [n]");
        assert!(pick(2).is_err());
    }

    #[test]
    fn negative_index_counts_from_the_end() {
        assert_eq!(position(-1, 3).unwrap(), 2);
        assert!(position(-4, 3).is_err());
        assert!(position(i64::MIN, 3).is_err());
        assert!(position(0, 0).is_err());
    }

    #[test]
    fn batches_stay_and_slices_follow() {
        let data = Fact::sized(DType::F32, &[2, 3, 4, 5]);
        let indices = Fact::sized(DType::I64, &[2, 7, 1]);
        let infer = |batch_dims| {
            GatherND { batch_dims }.infer(&Inputs::new(&[Some(&data), Some(&indices)], 1))
        };
        assert_eq!(infer(1).unwrap()[0].to_string(), "float[2, 7, 4, 5]");
        assert_eq!(infer(0).unwrap()[0].to_string(), "float[2, 7, 3, 4, 5]");
        assert!(infer(3).is_err());
    }
}
