//! RotaryEmbedding: pairs of numbers turned by an angle that depends on the position.
//!
//! (x₁, x₂) → (cos·x₁ - sin·x₂, sin·x₁ + cos·x₂) for the first `dim` elements of each head; pairs are
//! the halves of these, or neighbours (`interleaved`).
//!
//! X [b, h, s, d] or [b, s, h·d]; cos and sin [positions, dim/2], chosen by position_ids [b, s] (or
//! one number: the position of the first of s), or without them [b, s, dim/2].

use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Facts, Reason, invalid, unsupported};

/// Inputs X, cos_cache, sin_cache, position_ids (optional).
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryEmbedding {
    /// Whether neighbours are turned together, not halves.
    pub interleaved: bool,
    /// Heads, where they lie side by side; 0 if X has rank 4.
    pub heads: usize,
    /// Elements of a head that are turned; 0 is all.
    pub dim: usize,
}

impl RotaryEmbedding {
    /// [batch, heads, positions, size of a head] of an X of this shape, and how many are turned.
    pub fn sizes(&self, x: &[usize]) -> Result<([usize; 4], usize), Reason> {
        let sizes = match *x {
            [b, h, s, d] => [b, h, s, d],
            [b, s, all] if self.heads > 0 && all % self.heads == 0 => {
                [b, self.heads, s, all / self.heads]
            }
            _ => return Err(invalid!("X of shape {x:?} with {} heads", self.heads)),
        };
        let dim = if self.dim == 0 { sizes[3] } else { self.dim };
        if dim > sizes[3] || dim % 2 != 0 {
            return Err(invalid!("{dim} of {} elements cannot be turned in pairs", sizes[3]));
        }
        Ok((sizes, dim))
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        if !matches!(x.dtype()?, DType::F32 | DType::F16 | DType::BF16) {
            return Err(unsupported!("RotaryEmbedding of {} is not supported", x.ty));
        }
        inputs.same_dtype(0, 1)?;
        inputs.same_dtype(0, 2)?;
        let ids = inputs.opt(3);
        if let Some(ids) = ids
            && ids.dtype()? != DType::I64
        {
            return Err(invalid!("position_ids of type {}", ids.ty));
        }
        if let (Some(sizes), Some(cos), Some(sin)) =
            (x.sizes(), inputs.get(1)?.sizes(), inputs.get(2)?.sizes())
        {
            let ([b, _, s, _], dim) = self.sizes(&sizes)?;
            let fits = match ids {
                Some(_) => cos.len() == 2 && cos[1] == dim / 2,
                None => cos[..] == [b, s, dim / 2],
            };
            if !fits || cos != sin {
                return Err(invalid!("caches of shapes {cos:?} and {sin:?} for X {sizes:?}"));
            }
            if let Some(ids) = ids.and_then(|ids| ids.sizes())
                && ids[..] != [b, s]
                && !matches!(ids[..], [] | [1])
            {
                return Err(invalid!("position_ids of shape {ids:?} for X {sizes:?}"));
            }
        }
        one(x.clone().forget())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 4)?;
    if let Some(rank) = cx.opt_input(3).and_then(|ids| cx.fact(ids).rank()).filter(|&r| r != 2) {
        return Err(invalid!("position_ids of rank {rank} where 2 is needed"));
    }
    let op = RotaryEmbedding {
        interleaved: cx.flag("interleaved", false)?,
        heads: cx.size("num_heads")?.unwrap_or(0),
        dim: cx.size("rotary_embedding_dim")?.unwrap_or(0),
    };
    cx.emit(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_lie_side_by_side_in_rank_3() {
        let op = RotaryEmbedding { interleaved: false, heads: 3, dim: 4 };
        assert_eq!(op.sizes(&[2, 5, 18]), Ok(([2, 3, 5, 6], 4)));
        assert!(op.sizes(&[2, 5, 17]).is_err());
        assert!(RotaryEmbedding { dim: 8, ..op }.sizes(&[2, 5, 18]).is_err());
    }
}
