//! Transpose: the same elements, the axes in another order.
//!
//! y[i_perm(0), i_perm(1), …] = x[i_0, i_1, …]; axis k of y is axis perm(k) of x
use smallvec::SmallVec;

use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{Fact, Facts, Reason, invalid};

/// Axes in another order.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// The input's axes in the order of the output; `None` reverses them.
    pub perm: Option<SmallVec<[usize; 6]>>,
}

impl Transpose {
    /// A transposition whose output axis `k` is input axis `perm[k]`.
    pub fn new(perm: &[usize]) -> Transpose {
        Transpose { perm: Some(perm.into()) }
    }

    /// The permutation for a tensor of this rank; `Err` if it is none.
    pub fn resolve(&self, rank: usize) -> Result<SmallVec<[usize; 6]>, Reason> {
        let Some(perm) = &self.perm else { return Ok((0..rank).rev().collect()) };
        let mut seen = SmallVec::<[bool; 8]>::from_elem(false, rank);
        let valid = perm.len() == rank
            && perm.iter().all(|&axis| axis < rank && !std::mem::replace(&mut seen[axis], true));
        match valid {
            true => Ok(perm.clone()),
            false => Err(invalid!("{perm:?} is no permutation of the axes of rank {rank}")),
        }
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let Some(shape) = x.shape() else {
            return one(match &self.perm {
                Some(perm) => Fact::ranked(x.dtype()?, perm.len()),
                None => Fact::unranked(x.dtype()?),
            });
        };
        let perm = self.resolve(shape.len())?;
        if shape.len() < 2 {
            return one(x.clone());
        }
        one(Fact::new(x.dtype()?, perm.iter().map(|&axis| shape[axis].clone()).collect()))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let perm = match cx.ints("perm")? {
        None => None,
        Some(perm) => {
            let axis = |&a: &i64| usize::try_from(a).map_err(|_| invalid!("axis {a} in {perm:?}"));
            Some(perm.iter().map(axis).collect::<Result<_, _>>()?)
        }
    };
    cx.emit(Transpose { perm })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Dim};

    #[test]
    fn symbols_move_with_their_axes() {
        let x = Fact::new(DType::F32, [Dim::symbol("n"), Dim::N(3)].into_iter().collect());
        let out = Transpose { perm: None }.infer(&Inputs::new(&[Some(&x)], 1)).unwrap();
        assert_eq!(out[0].to_string(), "float[3, n]");
    }

    #[test]
    fn an_axis_that_stands_twice_is_refused() {
        assert!(Transpose::new(&[0, 0]).resolve(2).is_err());
        assert!(Transpose::new(&[0, 1, 2]).resolve(2).is_err());
        assert!(Transpose::new(&[0, 2]).resolve(2).is_err());
    }
}
