//! Split: a tensor cut into pieces along an axis.
//!
//! x [a.., n, b..] → [a.., n₁, b..], [a.., n₂, b..], …  where n₁ + n₂ + … = n
use smallvec::SmallVec;

use super::{Axis, Inputs};
use crate::onnx::{NodeCx, Outputs};
use crate::{Dim, Fact, Facts, Reason, invalid};

/// x, split: int64 [outputs] (optional) → the pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The axis that is cut.
    pub axis: Axis,
    /// Without input 1: cut into this many pieces of equal size, the last ones smaller if they
    /// must be. `None` cuts into as many equal pieces as there are outputs.
    pub num_outputs: Option<usize>,
}

impl Split {
    /// The sizes of the pieces; `split` is what is known of input 1, `None` if it is omitted.
    fn pieces(
        &self,
        size: &Dim,
        split: Option<&Fact>,
        outputs: usize,
    ) -> Result<SmallVec<[Dim; 4]>, Reason> {
        if let Some(split) = split {
            let Some(sizes) = split.dims() else {
                return Ok(SmallVec::from_elem(Dim::Unknown, outputs));
            };
            let sum = sizes.iter().fold(Dim::N(0), |sum, d| sum.add(d));
            let differ = |(a, b): (i64, i64)| a != b;
            if sum.value().zip(size.value()).is_some_and(differ) || sizes.len() != outputs {
                let sizes = crate::shape::show(&sizes);
                return Err(invalid!("{sizes} does not cut {size} into {outputs} pieces"));
            }
            return Ok(sizes);
        }
        let n = i64::try_from(self.num_outputs.unwrap_or(outputs)).ok().filter(|&n| n > 0);
        let n = n.ok_or_else(|| invalid!("a tensor cannot be cut into {outputs} pieces"))?;
        if self.num_outputs.is_some_and(|n| n != outputs) {
            return Err(invalid!("num_outputs is {n}, there are {outputs} outputs"));
        }
        let Some(total) = size.value() else {
            return Ok(SmallVec::from_elem(size.div(&Dim::N(n)), outputs));
        };
        if self.num_outputs.is_none() && total % n != 0 {
            return Err(invalid!("size {total} cannot be cut into {n} equal pieces"));
        }
        let piece = total / n + i64::from(total % n != 0);
        // As NumPy's slices do: pieces beyond the end are empty.
        let left = |i: i64| (total - piece.saturating_mul(i)).clamp(0, piece);
        Ok((0..n).map(|i| Dim::N(left(i))).collect())
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        let Some(shape) = x.shape() else {
            return Ok((0..inputs.outputs()).map(|_| Fact::unranked(dtype)).collect());
        };
        let axis = self.axis.resolve(shape.len())?;
        let pieces = self.pieces(&shape[axis], inputs.opt(1), inputs.outputs())?;
        let elements = if shape.len() == 1 { x.elements() } else { None };
        let mut at = 0;
        let facts = pieces.iter().map(|piece| {
            if let (Some(elements), Some(n)) = (&elements, piece.size()) {
                let end = at + n;
                let known = elements.get(at..end);
                at = end;
                if let Some(known) = known {
                    return Fact::of_dims(known.to_vec(), false);
                }
            }
            let mut shape: crate::shape::Shape = shape.into();
            shape[axis] = piece.clone();
            Fact::new(dtype, shape)
        });
        Ok(facts.collect())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let axis = Axis(cx.int("axis")?.unwrap_or(0));
    let num_outputs = if cx.version >= 18 { cx.size("num_outputs")? } else { None };
    if cx.version < 13 {
        cx.attr_to_input("split", 1)?;
    }
    match (cx.opt_input(1), num_outputs) {
        (Some(_), Some(n)) => Err(invalid!("both the input split and num_outputs, {n}")),
        _ => cx.emit(Split { axis, num_outputs }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(num_outputs: Option<usize>, size: i64, outputs: usize, expected: &str) {
        let split = Split { axis: Axis(0), num_outputs };
        let out = split.pieces(&Dim::N(size), None, outputs);
        assert_eq!(out.map_or_else(|e| e.to_string(), |s| crate::shape::show(&s)), expected);
    }

    #[test]
    fn the_last_of_num_outputs_may_be_smaller() {
        check(Some(3), 7, 3, "[3, 3, 1]");
        check(Some(4), 5, 4, "[2, 2, 1, 0]");
        check(None, 7, 3, "size 7 cannot be cut into 3 equal pieces");
        check(None, 6, 3, "[2, 2, 2]");
    }

    #[test]
    fn pieces_of_a_shape_are_known() {
        let x = Fact::of_dims(vec![Dim::symbol("n"), Dim::N(3)], false);
        let split = Split { axis: Axis(0), num_outputs: None };
        let out = split.infer(&Inputs::new(&[Some(&x)], 2)).unwrap();
        assert_eq!(out[0].to_string(), "int64[1] = [n]");
        assert_eq!(out[1].ints().unwrap()[..], [3]);
    }
}
