//! TopK: the k largest or smallest elements along an axis, and where they stood.
//!
//! x [a.., n, b..], k int64 [1] → values [a.., k, b..], indices int64 of the same shape
use super::{Axis, Inputs};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason, Tensor, invalid, unsupported};

/// x, k → values and indices, best first; of equal elements the one with the lower index first.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    /// Along which axis.
    pub axis: Axis,
    /// Whether the largest elements are wanted, not the smallest. NaN is larger than any number.
    pub largest: bool,
}

impl TopK {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, k) = (inputs.get(0)?, inputs.get(1)?);
        let dtype = x.dtype()?;
        let float = matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        if !float && (!dtype.is_int() || dtype.is_packed()) {
            return Err(unsupported!("TopK of {dtype} is not supported"));
        }
        if k.dtype()? != DType::I64 {
            return Err(invalid!("k is {}", k.ty));
        }
        let Some(shape) = x.shape() else {
            return Ok([Fact::unranked(dtype), Fact::unranked(DType::I64)].into_iter().collect());
        };
        let axis = self.axis.resolve(shape.len())?;
        let mut out: Shape = shape.into();
        out[axis] = match k.dims().as_deref() {
            Some([k]) => k.clone(),
            Some(k) => return Err(invalid!("{} values for k", k.len())),
            None => Dim::Unknown,
        };
        if let (Some(k), Some(n)) = (out[axis].value(), shape[axis].value())
            && (k < 0 || k > n)
        {
            return Err(invalid!("the {k} first of {n} elements"));
        }
        Ok([Fact::new(dtype, out.clone()), Fact::new(DType::I64, out)].into_iter().collect())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let axis = Axis(cx.int("axis")?.unwrap_or(-1));
    if cx.version < 10 {
        cx.check_inputs(1, 1)?;
        let k = cx.int("k")?.ok_or_else(|| invalid!("attribute k is missing"))?;
        let k = cx.constant(Tensor::vector(&[k]));
        cx.set_input(1, k);
    }
    cx.check_inputs(2, 2)?;
    let largest = cx.version < 11 || cx.flag("largest", true)?;
    if cx.version >= 11 {
        // Any order is right where none is asked for, the sorted one too.
        cx.ignore(&["sorted"]);
    }
    cx.emit(TopK { axis, largest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(k: i64, expected: &str) {
        let x = Fact::sized(DType::F32, &[2, 3]);
        let k = Fact::constant(Tensor::vector(&[k]));
        let facts = TopK { axis: Axis(-1), largest: true };
        let facts = facts.infer(&Inputs::new(&[Some(&x), Some(&k)], 2));
        let show = |facts: Facts| facts.iter().map(Fact::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(facts.map_or_else(|e| e.to_string(), show), expected);
    }

    #[test]
    fn k_elements_are_left_of_the_axis() {
        check(2, "float[2, 2] int64[2, 2]");
        check(0, "float[2, 0] int64[2, 0]");
        check(4, "the 4 first of 3 elements");
        check(-1, "the -1 first of 3 elements");
    }
}
