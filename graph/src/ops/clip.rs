//! Clip: y = min(max(x, lo), hi).
//!
//! x [s..], lo [] or none, hi [] or none  →  [s..]

use super::unary::is_number;
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, Tensor, ValueId, invalid};

/// Input 0 bounded below by input 1 and above by input 2, each a scalar that may be omitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip;

impl Clip {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        if !is_number(x.dtype()?) {
            return Err(invalid!("Clip of {} is not defined", x.ty));
        }
        for i in 1..=2 {
            inputs.same_dtype(0, i)?;
            // The spec says scalar; exporters write vectors of one element too.
            if let Some(n) = inputs.opt(i).and_then(|f| f.len())
                && n != 1
            {
                return Err(invalid!("bound {i} has {n} elements, not 1"));
            }
        }
        one(x.clone().forget())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    if cx.version >= 11 {
        cx.check_inputs(1, 3)?;
        return cx.emit(Clip);
    }
    cx.check_inputs(1, 1)?;
    cx.ignore(&["consumed_inputs"]);
    let (mut lo, mut hi) = (cx.float("min")?, cx.float("max")?);
    if cx.version >= 6 {
        // The attributes have defaults there, which bound infinities.
        lo = lo.or(Some(f32::MIN));
        hi = hi.or(Some(f32::MAX));
    }
    let dtype = cx.dtype(cx.input(0)?)?;
    for (i, x) in [(1, lo), (2, hi)] {
        if let Some(x) = x {
            let v = bound(cx, dtype, x)?;
            cx.set_input(i, v);
        }
    }
    cx.emit(Clip)
}

/// A bound given as f32: half precision takes the nearest finite value.
fn bound(cx: &mut NodeCx<'_>, dtype: DType, x: f32) -> Result<ValueId, Reason> {
    let max = half::f16::MAX.to_f32();
    let tensor = match dtype {
        DType::F16 => Tensor::scalar(half::f16::from_f32(x.clamp(-max, max))),
        DType::F64 => Tensor::scalar(f64::from(x)),
        DType::F32 => Tensor::scalar(x),
        other => return Err(invalid!("Clip of {other} begins with opset 12")),
    };
    Ok(cx.constant(tensor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fact;

    #[test]
    fn bounds_are_scalars_of_the_same_dtype() {
        let x = Fact::sized(DType::F32, &[2, 3]);
        let (one, two) = (Fact::sized(DType::F32, &[1]), Fact::sized(DType::F32, &[2]));
        let int = Fact::sized(DType::I32, &[]);
        let infer = |lo| Clip.infer(&Inputs::new(&[Some(&x), Some(lo), None], 1));
        assert_eq!(infer(&one).unwrap()[0], x);
        assert_eq!(infer(&two).unwrap_err().to_string(), "bound 1 has 2 elements, not 1");
        assert!(infer(&int).is_err());
    }
}
