//! ArgMax and ArgMin: where the largest or smallest element along an axis stands.
//!
//! data [a.., n, b..] → int64 [a.., 1, b..], or [a.., b..] without `keepdims`
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Which element is looked for. NaN is further out than any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// data → the index of the extreme element along the axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    /// Which element is looked for.
    pub extreme: Extreme,
    /// Along which axis.
    pub axis: Axis,
    /// Whether the axis stays, with size 1.
    pub keepdims: bool,
    /// Whether the last of several equal ones is meant, not the first.
    pub select_last_index: bool,
}

impl Arg {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        let float = matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        if !float && (!dtype.is_int() || dtype.is_packed()) {
            return Err(unsupported!("Arg{:?} of {dtype} is not supported", self.extreme));
        }
        let Some(shape) = inputs.shape(0)? else { return one(Fact::unranked(DType::I64)) };
        let axis = self.axis.resolve(shape.len())?;
        let mut out: crate::shape::Shape = shape.into();
        if out[axis].is(0) && !out.iter().enumerate().any(|(i, d)| i != axis && d.is(0)) {
            return Err(invalid!("Arg{:?} along an axis of size 0", self.extreme));
        }
        if self.keepdims {
            out[axis] = Dim::N(1);
        } else {
            out.remove(axis);
        }
        one(Fact::new(DType::I64, out))
    }
}

fn import(cx: &mut NodeCx<'_>, extreme: Extreme) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(0));
    let keepdims = cx.flag("keepdims", true)?;
    let select_last_index = cx.version >= 12 && cx.flag("select_last_index", false)?;
    cx.emit(Arg { extreme, axis, keepdims, select_last_index })
}

pub(super) fn import_max(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import(cx, Extreme::Max)
}

pub(super) fn import_min(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import(cx, Extreme::Min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: &[usize], axis: i64, keepdims: bool, expected: &str) {
        let x = Fact::sized(DType::F32, shape);
        let extreme = Extreme::Max;
        let op = Arg { extreme, axis: Axis(axis), keepdims, select_last_index: false };
        let facts = op.infer(&Inputs::new(&[Some(&x)], 1));
        assert_eq!(facts.map_or_else(|e| e.to_string(), |f| f[0].to_string()), expected);
    }

    #[test]
    fn the_axis_has_size_one_or_is_gone() {
        check(&[2, 3], -1, true, "int64[2, 1]");
        check(&[2, 3], 0, false, "int64[3]");
    }

    #[test]
    fn nothing_has_no_largest_element() {
        check(&[2, 0], 1, true, "ArgMax along an axis of size 0");
        check(&[0, 0], 1, true, "int64[0, 1]");
    }
}
