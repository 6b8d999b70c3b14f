//! Dropout: in training each element is dropped with probability `ratio`, else the input.
//!
//! y = x · mask / (1 - ratio)
use super::{Identity, Inputs};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Fact, Facts, Reason, Tensor, invalid, unsupported};

/// x, ratio (optional, ½), training_mode (optional, false) → y, mask
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// Of the random numbers; without it the run decides.
    pub seed: Option<i64>,
    /// The dtype of the mask: bool, or that of x up to opset 9.
    pub mask: DType,
}

impl Dropout {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Err(unsupported!("Dropout of {dtype} is not supported"));
        }
        if let Some(ratio) = inputs.opt(1).map(Fact::dtype).transpose()?
            && !matches!(ratio, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
        {
            return Err(invalid!("the ratio is {ratio}"));
        }
        if let Some(mode) = inputs.opt(2).map(Fact::dtype).transpose()?
            && mode != DType::Bool
        {
            return Err(invalid!("the training mode is {mode}"));
        }
        let y = x.clone().forget();
        let mask = Fact { ty: crate::Type::Tensor(self.mask), ..y.clone() };
        Ok([y, mask].into_iter().collect())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let mut seed = None;
    if cx.version < 12 {
        cx.check_inputs(1, 1)?;
        cx.ignore(&["consumed_inputs"]);
        let ratio = cx.float("ratio")?.unwrap_or(0.5);
        let trains = cx.version < 7 && !cx.flag("is_test", false)?;
        let ratio = cx.constant(Tensor::scalar(ratio));
        cx.set_input(1, ratio);
        if trains {
            let mode = cx.constant(Tensor::scalar(crate::Bool(1)));
            cx.set_input(2, mode);
        }
    } else {
        cx.check_inputs(1, 3)?;
        seed = cx.int("seed")?;
    }
    let x = cx.input(0)?;
    let mode = cx.opt_input(2);
    let never = mode.is_none_or(|mode| {
        cx.fact(mode).tensor().is_some_and(|t| t.as_bytes().iter().all(|&b| b == 0))
    });
    if never && cx.outputs() == 1 {
        return cx.push(Identity, &[Some(x)]);
    }
    let mask = if cx.version < 10 { cx.dtype(x)? } else { DType::Bool };
    cx.emit(Dropout { seed, mask })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_has_the_shape_of_x() {
        let x = Fact::sized(DType::F16, &[2, 3]);
        let op = Dropout { seed: None, mask: DType::Bool };
        let facts = op.infer(&Inputs::new(&[Some(&x)], 2)).unwrap();
        assert_eq!(
            (facts[0].to_string(), facts[1].to_string()),
            ("float16[2, 3]".into(), "bool[2, 3]".into())
        );
    }
}
