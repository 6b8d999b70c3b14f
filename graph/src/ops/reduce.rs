//! The Reduce family: folds axes into one number each.
//!
//! data [d0, …], axes int64 [k] → the axes have size 1, or are gone without `keepdims`
use smallvec::SmallVec;

use super::{Inputs, one, resolve_axes};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// How the elements become one. Of no elements the result is that of an empty set in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Σ |x|
    L1,
    /// √(Σ x²)
    L2,
    /// log Σ x
    LogSum,
    /// log Σ eˣ
    LogSumExp,
    /// The largest; NaN if any is NaN.
    Max,
    /// Σ x / n
    Mean,
    /// The smallest; NaN if any is NaN.
    Min,
    /// Π x
    Prod,
    /// Σ x
    Sum,
    /// Σ x²
    SumSquare,
}

/// data, axes (optional) → data with the axes folded.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// What it computes.
    pub kind: ReduceKind,
    /// Whether folded axes stay, with size 1.
    pub keepdims: bool,
    /// Whether no axes mean none instead of all.
    pub noop_with_empty_axes: bool,
}

impl Reduce {
    /// Which axes of a tensor of this rank are folded; `axes` is the content of input 1.
    pub fn folded(&self, axes: &[i64], rank: usize) -> Result<SmallVec<[bool; 8]>, Reason> {
        let all = axes.is_empty() && !self.noop_with_empty_axes;
        let mut folded = SmallVec::from_elem(all, rank);
        for axis in resolve_axes(axes, rank)? {
            folded[axis] = true;
        }
        Ok(folded)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        self.check_dtype(dtype)?;
        let axes = match inputs.opt(1) {
            Some(axes) => axes.ints(),
            None => Some(SmallVec::new()),
        };
        one(match (x.shape(), axes) {
            (Some(shape), Some(axes)) => {
                let folded = self.folded(&axes, shape.len())?;
                if let Some(product) = self.product_of_dims(x, &folded) {
                    return one(product);
                }
                let sizes = shape.iter().zip(&folded).filter_map(|(size, &folded)| match folded {
                    true => self.keepdims.then_some(Dim::N(1)),
                    false => Some(size.clone()),
                });
                Fact::new(dtype, sizes.collect())
            }
            (Some(shape), None) if self.keepdims => Fact::ranked(dtype, shape.len()),
            (Some(shape), None) => match inputs.opt(1).and_then(Fact::len) {
                Some(0) if self.noop_with_empty_axes => Fact::new(dtype, shape.into()),
                Some(0) => Fact::ranked(dtype, 0),
                Some(k) if k < shape.len() => Fact::ranked(dtype, shape.len() - k),
                // A scalar would be a known shape, and which axes they are must be checked first.
                _ => Fact::unranked(dtype),
            },
            (None, Some(axes)) if axes.is_empty() && !self.keepdims => {
                match self.noop_with_empty_axes {
                    true => Fact::unranked(dtype),
                    false => Fact::ranked(dtype, 0),
                }
            }
            (None, _) => Fact::unranked(dtype),
        })
    }

    fn check_dtype(&self, dtype: DType) -> Result<(), Reason> {
        let number = dtype.is_int() && !dtype.is_packed()
            || matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        let bool_too = matches!(self.kind, ReduceKind::Max | ReduceKind::Min);
        match number || (bool_too && dtype == DType::Bool) {
            true => Ok(()),
            false => Err(unsupported!("Reduce{:?} of {dtype} is not supported", self.kind)),
        }
    }

    /// The product of a shape's sizes, some of which may be symbols.
    fn product_of_dims(&self, x: &Fact, folded: &[bool]) -> Option<Fact> {
        if self.kind != ReduceKind::Prod || x.dtype().ok()? != DType::I64 || folded != [true] {
            return None;
        }
        let product = x.dims()?.iter().fold(Dim::N(1), |product, dim| product.mul(dim));
        (product != Dim::Unknown).then(|| Fact::of_dims(vec![product], !self.keepdims))
    }
}

fn import(cx: &mut NodeCx<'_>, kind: ReduceKind, axes_are_input: i64) -> Result<Outputs, Reason> {
    let keepdims = cx.flag("keepdims", true)?;
    let mut noop_with_empty_axes = false;
    if cx.version < axes_are_input {
        cx.check_inputs(1, 1)?;
        cx.attr_to_input("axes", 1)?;
    } else {
        cx.check_inputs(1, 2)?;
        noop_with_empty_axes = cx.flag("noop_with_empty_axes", false)?;
    }
    let logarithm = matches!(kind, ReduceKind::LogSum | ReduceKind::LogSumExp);
    if logarithm && cx.version >= 28 && cx.dtype(cx.input(0)?)?.is_int() {
        return Err(invalid!("Reduce{kind:?} of integers is not allowed since opset 28"));
    }
    cx.emit(Reduce { kind, keepdims, noop_with_empty_axes })
}

macro_rules! imports {
    ($($name:ident = $kind:ident, $axes_are_input:literal;)*) => { $(
        pub(super) fn $name(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
            import(cx, ReduceKind::$kind, $axes_are_input)
        }
    )* };
}
imports! {
    import_l1 = L1, 18;
    import_l2 = L2, 18;
    import_log_sum = LogSum, 18;
    import_log_sum_exp = LogSumExp, 18;
    import_max = Max, 18;
    import_mean = Mean, 18;
    import_min = Min, 18;
    import_prod = Prod, 18;
    import_sum = Sum, 13;
    import_sum_square = SumSquare, 18;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Tensor};

    fn check(op: Reduce, axes: &[i64], expected: &str) {
        let shape = [Dim::symbol("n"), Dim::N(3), Dim::N(5)].into_iter().collect();
        let (x, axes) = (Fact::new(DType::F32, shape), Fact::constant(Tensor::vector(axes)));
        let facts = Op::from(op).infer(&Inputs::new(&[Some(&x), Some(&axes)], 1));
        assert_eq!(facts.map_or_else(|e| e.to_string(), |f| f[0].to_string()), expected);
    }

    fn sum(keepdims: bool, noop_with_empty_axes: bool) -> Reduce {
        Reduce { kind: ReduceKind::Sum, keepdims, noop_with_empty_axes }
    }

    #[test]
    fn folded_axes_have_size_one_or_are_gone() {
        check(sum(true, false), &[-1], "float[n, 3, 1]");
        check(sum(false, false), &[0, 2], "float[3]");
        check(sum(true, false), &[3], "axis 3 is out of range for rank 3");
    }

    #[test]
    fn no_axes_are_all_or_none() {
        check(sum(false, false), &[], "float[]");
        check(sum(false, true), &[], "float[n, 3, 5]");
    }

    #[test]
    fn axes_that_are_not_known_yet_leave_a_shape_that_is_not_known_yet() {
        let (x, axes) = (Fact::sized(DType::F32, &[8]), Fact::sized(DType::I64, &[1]));
        let facts = sum(false, false).infer(&Inputs::new(&[Some(&x), Some(&axes)], 1)).unwrap();
        assert_eq!(facts[0].shape, None);
        let none = Fact::sized(DType::I64, &[0]);
        let facts = sum(false, false).infer(&Inputs::new(&[Some(&x), Some(&none)], 1)).unwrap();
        assert_eq!(facts[0].rank(), Some(0));
    }

    #[test]
    fn the_product_of_a_shape_is_known_with_its_symbols() {
        let x = Fact::of_dims(vec![Dim::symbol("n"), Dim::N(4)], false);
        let op = Reduce { kind: ReduceKind::Prod, ..sum(false, false) };
        let facts = op.infer(&Inputs::new(&[Some(&x)], 1)).unwrap();
        assert_eq!(facts[0].to_string(), "int64[] = [4n]");
    }
}
