//! CumSum and CumProd: sums and products of all elements up to each one along an axis.
//!
//! yᵢ = x₀ ⊕ … ⊕ xᵢ, or without xᵢ if `exclusive`; from the end if `reverse`
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, invalid, unsupported};

/// What is accumulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// A sum.
    Sum,
    /// A product.
    Prod,
}

/// x, axis (one integer) → the shape of x.
#[derive(Clone, Debug, PartialEq)]
pub struct Cumulative {
    /// What is accumulated.
    pub kind: Accumulate,
    /// Whether an element's own value is left out of its result.
    pub exclusive: bool,
    /// Whether it goes from the end of the axis to its start.
    pub reverse: bool,
}

impl Cumulative {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, axis) = (inputs.get(0)?, inputs.get(1)?);
        use DType::*;
        let dtype = x.dtype()?;
        if !matches!(dtype, U32 | U64 | I32 | I64 | F16 | BF16 | F32 | F64) {
            return Err(unsupported!("Cum{:?} of {dtype} is not supported", self.kind));
        }
        if !matches!(axis.dtype()?, I32 | I64) {
            return Err(invalid!("the axis is {}", axis.ty));
        }
        if let (Some(shape), Some(axis)) = (x.shape(), axis.ints()) {
            match axis[..] {
                [axis] => Axis(axis).resolve(shape.len())?,
                _ => return Err(invalid!("{} axes where one is needed", axis.len())),
            };
        }
        one(x.clone().forget())
    }
}

fn import(cx: &mut NodeCx<'_>, kind: Accumulate) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (exclusive, reverse) = (cx.flag("exclusive", false)?, cx.flag("reverse", false)?);
    cx.emit(Cumulative { kind, exclusive, reverse })
}

pub(super) fn import_sum(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import(cx, Accumulate::Sum)
}

pub(super) fn import_prod(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import(cx, Accumulate::Prod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fact, Tensor};

    #[test]
    fn the_axis_is_checked_as_soon_as_it_is_known() {
        let op = Cumulative { kind: Accumulate::Sum, exclusive: false, reverse: false };
        let x = Fact::sized(DType::F32, &[2, 3]);
        let infer = |axis: Fact| op.infer(&Inputs::new(&[Some(&x), Some(&axis)], 1));
        assert_eq!(infer(Fact::constant(Tensor::scalar(-1i32))).unwrap()[0], x);
        assert_eq!(infer(Fact::sized(DType::I64, &[])).unwrap()[0], x);
        assert!(infer(Fact::constant(Tensor::scalar(2i64))).is_err());
    }
}
