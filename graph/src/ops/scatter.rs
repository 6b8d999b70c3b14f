//! ScatterElements, ScatterND, TensorScatter: `data` with elements or slices replaced by index.
//!
//! y = data; then y[indices[…]] = f(y[indices[…]], updates[…])
use super::gather::{check_element_indices, check_indices};
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::show;
use crate::{DType, Dim, Facts, Reason, invalid};

/// How an update meets the element that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduction {
    /// It replaces it.
    None,
    Add,
    Mul,
    Max,
    Min,
}

impl Reduction {
    fn import(cx: &NodeCx<'_>) -> Result<Reduction, Reason> {
        let name = if cx.version >= 16 { cx.string("reduction")? } else { None };
        Ok(match name.unwrap_or("none") {
            "none" => Reduction::None,
            "add" => Reduction::Add,
            "mul" => Reduction::Mul,
            "max" if cx.version >= 18 => Reduction::Max,
            "min" if cx.version >= 18 => Reduction::Min,
            other => return Err(invalid!("reduction {other:?} of version {}", cx.version)),
        })
    }
}

/// `Err` if two sizes that must be the same certainly are not.
fn check_same(a: &[Dim], b: &[Dim]) -> Result<(), Reason> {
    let differ = |(a, b): (&Dim, &Dim)| a.value().zip(b.value()).is_some_and(|(a, b)| a != b);
    match a.len() != b.len() || a.iter().zip(b).any(differ) {
        true => Err(invalid!("updates of shape {} where {} is needed", show(b), show(a))),
        false => Ok(()),
    }
}

/// y[index[i, j, …], j, …] = f(y[…], updates[i, j, …]) for axis 0, and likewise for the others.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterElements {
    /// The axis that indices are about.
    pub axis: Axis,
    /// How an update meets the element that is there.
    pub reduction: Reduction,
}

impl ScatterElements {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (data, indices, updates) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        inputs.same_dtype(0, 2)?;
        check_indices(indices)?;
        check_element_indices(self.axis, data, indices)?;
        if let (Some(a), Some(b)) = (indices.shape(), updates.shape()) {
            check_same(a, b)?;
        }
        one(data.clone().forget())
    }
}

/// data [d.., e..], indices [i.., |d|], updates [i.., e..] → data with those slices replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterND {
    /// How an update meets the elements that are there.
    pub reduction: Reduction,
}

impl ScatterND {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (data, indices, updates) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        inputs.same_dtype(0, 2)?;
        if indices.dtype()? != DType::I64 {
            return Err(invalid!("indices of type {} where int64 is needed", indices.dtype()?));
        }
        if let (Some(shape), Some(index_shape)) = (data.shape(), indices.shape()) {
            let (last, outer) =
                index_shape.split_last().ok_or_else(|| invalid!("indices of rank 0"))?;
            if let Some(tuple) = last.value() {
                let rest = usize::try_from(tuple).ok().and_then(|n| shape.get(n..));
                let rest = rest.ok_or_else(|| invalid!("{tuple} indices into {}", show(shape)))?;
                let expected: Vec<Dim> = outer.iter().chain(rest).cloned().collect();
                if let Some(updates) = updates.shape() {
                    check_same(&expected, updates)?;
                }
            }
        }
        one(data.clone().forget())
    }
}

/// cache [b, d.., n, e..], update [b, d.., m, e..], first: int64 [b] → the cache with `m` elements
/// of `axis` replaced, from `first[b]` on.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorScatter {
    /// The axis along which the update is written.
    pub axis: Axis,
    /// Whether positions beyond the end begin again at the front.
    pub circular: bool,
}

impl TensorScatter {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (cache, update) = (inputs.get(0)?, inputs.get(1)?);
        inputs.same_dtype(0, 1)?;
        inputs.check_rank(2, 1)?;
        if let Some(first) = inputs.opt(2)
            && first.dtype()? != DType::I64
        {
            return Err(invalid!("write_indices of type {}", first.dtype()?));
        }
        if let (Some(a), Some(b)) = (cache.shape(), update.shape()) {
            let axis = self.axis.resolve(a.len())?;
            if axis == 0 {
                return Err(invalid!("axis 0 is the batch, it cannot be written along"));
            }
            let longer = |(m, n)| m > n;
            let mut expected = a.to_vec();
            if let Some(m) = b.get(axis) {
                expected[axis] = m.clone();
                if m.value().zip(a[axis].value()).is_some_and(longer) {
                    return Err(invalid!("{m} elements do not fit an axis of size {}", a[axis]));
                }
            }
            check_same(&expected, b)?;
        }
        one(cache.clone().forget())
    }
}

/// Scatter is the old name.
pub(super) fn import_elements(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(0));
    let reduction = Reduction::import(cx)?;
    cx.emit(ScatterElements { axis, reduction })
}

pub(super) fn import_nd(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let reduction = Reduction::import(cx)?;
    cx.emit(ScatterND { reduction })
}

pub(super) fn import_tensor(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(-2));
    let circular = match cx.string("mode")?.unwrap_or("linear") {
        "linear" => false,
        "circular" => true,
        other => return Err(invalid!("mode {other:?}")),
    };
    cx.emit(TensorScatter { axis, circular })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fact;

    #[test]
    fn updates_of_another_shape_are_refused() {
        let data = Fact::sized(DType::F32, &[4, 5]);
        let indices = Fact::sized(DType::I64, &[3, 1]);
        let infer = |updates: &[usize]| {
            let updates = Fact::sized(DType::F32, updates);
            let inputs = [Some(&data), Some(&indices), Some(&updates)];
            ScatterND { reduction: Reduction::None }.infer(&Inputs::new(&inputs, 1))
        };
        assert_eq!(infer(&[3, 5]).unwrap()[0].to_string(), "float[4, 5]");
        assert!(infer(&[3, 4]).is_err());
    }
}
