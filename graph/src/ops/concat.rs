//! Concat: tensors one after the other along an axis.
//!
//! x₁ [a.., n₁, b..], x₂ [a.., n₂, b..], …  →  [a.., n₁ + n₂ + …, b..]
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, show};
use crate::{Dim, Fact, Facts, Reason, invalid};

/// Tensors one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// The axis along which they stand.
    pub axis: Axis,
}

impl Concat {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        let mut out: Option<Shape> = None;
        let mut ranked = true;
        for i in 0..inputs.len() {
            inputs.same_dtype(0, i)?;
            match (inputs.shape(i)?, &mut out) {
                (None, _) => ranked = false,
                (Some(shape), None) => out = Some(shape.into()),
                (Some(shape), Some(out)) => self.append(out, shape)?,
            }
        }
        let Some(mut shape) = out else { return one(Fact::unranked(dtype)) };
        let axis = self.axis.resolve(shape.len())?;
        if !ranked {
            shape[axis] = Dim::Unknown;
        }
        if shape.len() == 1
            && let Some(dims) = Concat::elements(inputs)
        {
            return one(Fact::of_dims(dims, false));
        }
        one(Fact::new(dtype, shape))
    }

    /// Adds one more input's shape to the shape so far.
    fn append(&self, out: &mut Shape, shape: &[Dim]) -> Result<(), Reason> {
        let axis = self.axis.resolve(out.len())?;
        let mismatch = |out: &Shape| {
            invalid!("{} and {} do not concatenate along axis {axis}", show(out), show(shape))
        };
        if shape.len() != out.len() {
            return Err(mismatch(out));
        }
        for k in (0..shape.len()).filter(|&k| k != axis) {
            if out[k].value().is_none() {
                if shape[k].value().is_some() || out[k] == Dim::Unknown {
                    out[k] = shape[k].clone();
                }
            } else if shape[k].value().is_some() && shape[k] != out[k] {
                return Err(mismatch(out));
            }
        }
        out[axis] = out[axis].add(&shape[axis]);
        Ok(())
    }

    /// The elements, if all inputs are short vectors of int64 and something is known of them.
    fn elements(inputs: &Inputs<'_>) -> Option<Vec<Dim>> {
        let mut all = Vec::new();
        for i in 0..inputs.len() {
            all.extend(inputs.opt(i)?.elements()?);
        }
        all.iter().any(|d| *d != Dim::Unknown).then_some(all)
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, usize::MAX)?;
    let axis = match cx.int("axis")? {
        Some(axis) => Axis(axis),
        // Version 1 has a default.
        None if cx.version < 4 => Axis(1),
        None => return Err(invalid!("attribute axis is missing")),
    };
    cx.emit(Concat { axis })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tensor};

    fn check(facts: &[Fact], axis: i64, expected: &str) {
        let refs: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        let out = Concat { axis: Axis(axis) }.infer(&Inputs::new(&refs, 1));
        assert_eq!(out.map_or_else(|e| e.to_string(), |f| f[0].to_string()), expected);
    }

    #[test]
    fn sizes_add_up_along_the_axis() {
        let n = || Dim::symbol("n");
        let x = |a: Dim, b: i64| Fact::new(DType::F32, [a, Dim::N(b)].into_iter().collect());
        check(&[x(n(), 2), x(n(), 3)], -1, "float[n, 5]");
        check(&[x(n(), 2), x(Dim::N(4), 2)], 0, "float[n+4, 2]");
        check(&[x(n(), 2), x(n(), 3)], 0, "[n, 2] and [n, 3] do not concatenate along axis 0");
    }

    #[test]
    fn what_is_known_of_a_shape_survives() {
        let n = Fact::of_dims(vec![Dim::symbol("n")], false);
        let k = Fact::constant(Tensor::vector(&[768i64]));
        let unknown = Fact::sized(DType::I64, &[1]);
        check(&[n, k, unknown], 0, "int64[3] = [n, 768, ?]");
    }
}
