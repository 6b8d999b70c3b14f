//! Where: y = x where the condition holds, else z.
//!
//! condition: bool [c..], x [s..], z [t..]  →  [broadcast(c, s, t)..]

use super::binary::{at, short_dims};
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::broadcast;
use crate::{Bool, DType, Dim, Fact, Facts, Reason, invalid};

/// Input 1 where input 0 holds, else input 2; shapes broadcast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Where;

impl Where {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (c, x, z) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        if c.dtype()? != DType::Bool {
            return Err(invalid!("the condition is {}, not bool", c.ty));
        }
        inputs.same_dtype(1, 2)?;
        if x.dtype()?.is_packed() {
            return Err(invalid!("Where of {} is not defined", x.ty));
        }
        if let Some(fact) = known(c, x, z) {
            return one(fact);
        }
        let shape = match (c.shape(), x.shape(), z.shape()) {
            (Some(c), Some(x), Some(z)) => Some(broadcast(&broadcast(c, x)?, z)?),
            _ => None,
        };
        one(Fact { ty: x.ty.clone(), shape, known: None })
    }
}

/// A choice between shapes: the result's fact with content.
fn known(c: &Fact, x: &Fact, z: &Fact) -> Option<Fact> {
    let (x_dims, z_dims) = (short_dims(x)?, short_dims(z)?);
    let condition = c.tensor().filter(|c| c.rank() <= 1)?.as_slice::<Bool>();
    let lens = [condition.len(), x_dims.len(), z_dims.len()];
    let n = lens.into_iter().find(|&n| n != 1).unwrap_or(1);
    if lens.iter().any(|&len| len != 1 && len != n) {
        return None;
    }
    let pick = |i| match at(condition, i).get() {
        true => at(&x_dims, i).clone(),
        false => at(&z_dims, i).clone(),
    };
    let scalar = c.rank() == Some(0) && x.rank() == Some(0) && z.rank() == Some(0);
    let y: Vec<Dim> = (0..n).map(pick).collect();
    Some(Fact::of_dims(y, scalar))
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    cx.emit(Where)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn three_shapes_broadcast() {
        let c = Fact::sized(DType::Bool, &[2, 1, 1]);
        let (x, z) = (Fact::sized(DType::F32, &[3, 1]), Fact::sized(DType::F32, &[4]));
        let made = Where.infer(&Inputs::new(&[Some(&c), Some(&x), Some(&z)], 1)).unwrap();
        assert_eq!(made[0].to_string(), "float[2, 3, 4]");
        assert!(Where.infer(&Inputs::new(&[Some(&x), Some(&x), Some(&z)], 1)).is_err());
    }

    #[test]
    fn a_choice_between_sizes_is_known() {
        let c = Fact::constant(Tensor::vector(&[Bool(0), Bool(1)]));
        let x = Fact::of_dims(vec![Dim::N(1)], false);
        let z = Fact::of_dims(vec![Dim::symbol("n"), Dim::N(-1)], false);
        let made = Where.infer(&Inputs::new(&[Some(&c), Some(&x), Some(&z)], 1)).unwrap();
        assert_eq!(made[0].to_string(), "int64[2] = [n, 1]");
    }
}
