//! What loops that write text token by token do between two steps, and how sound is aligned to it.
//!
//! NGramRepeatBlock: ids [b, s], scores [b, v] → scores, -∞ for what would repeat an n-gram;
//! BifurcationDetector: source, current, match, predicted tokens → tokens, the next match;
//! DynamicTimeWarping: costs [m, n] or [1, m, n] → the cheapest path [2, p] from corner to corner;
//! MurmurHash3: x [..] → a 32-bit hash of each element.

use smallvec::smallvec;

use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason, Type, invalid, unsupported};

/// Which of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoding {
    /// Scores of tokens that would make a repeated n-gram of this size become -∞.
    NgramRepeatBlock {
        /// Tokens in an n-gram.
        size: usize,
    },
    /// Accepts predicted tokens as far as they agree with the source, and finds the last n-gram of
    /// the result there.
    BifurcationDetector {
        /// The shortest n-gram that is looked for.
        min: usize,
        /// The longest.
        max: usize,
    },
    /// The path whose costs add up to the least.
    TimeWarping,
    /// MurmurHash3_x86_32 of the bytes of each element.
    MurmurHash3 {
        /// Where hashes start from.
        seed: u32,
        /// Whether results are uint32, not int32.
        unsigned: bool,
    },
}

impl Decoding {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let vector = |dtype| Fact::ranked(dtype, 1);
        match self {
            Decoding::NgramRepeatBlock { .. } => {
                let scores = inputs.get(1)?;
                expect(inputs, 0, DType::I64)?;
                expect(inputs, 1, DType::F32)?;
                inputs.check_rank(0, 2)?;
                inputs.check_rank(1, 2)?;
                one(scores.clone().forget())
            }
            Decoding::BifurcationDetector { .. } => {
                for i in 0..inputs.len() {
                    if inputs.opt(i).is_some() {
                        expect(inputs, i, DType::I64)?;
                    }
                }
                inputs.check_rank(0, 1)?;
                inputs.check_rank(1, 1)?;
                let found = inputs.get(2)?;
                Ok(smallvec![vector(DType::I64), found.clone().forget()])
            }
            Decoding::TimeWarping => {
                expect(inputs, 0, DType::F32)?;
                if let Some(shape) = x.shape()
                    && !matches!(shape, [_, _])
                    && !matches!(shape, [one, _, _] if one.value().is_none_or(|n| n == 1))
                {
                    return Err(invalid!("costs of shape {}", crate::shape::show(shape)));
                }
                let path: Shape = smallvec![Dim::N(2), Dim::Unknown];
                one(Fact::new(DType::I32, path))
            }
            Decoding::MurmurHash3 { unsigned, .. } => {
                use DType::*;
                if !matches!(x.dtype()?, I32 | U32 | I64 | U64 | F32 | F64 | String) {
                    return Err(unsupported!("MurmurHash3 of {} is not supported", x.ty));
                }
                let ty = Type::Tensor(if *unsigned { U32 } else { I32 });
                one(Fact { ty, shape: x.shape.clone(), known: None })
            }
        }
    }
}

fn expect(inputs: &Inputs<'_>, i: usize, dtype: DType) -> Result<(), Reason> {
    match inputs.dtype(i)? {
        found if found == dtype => Ok(()),
        found => Err(invalid!("input {i} is {found}, not {dtype}")),
    }
}

fn positive(cx: &NodeCx<'_>, name: &str, default: Option<usize>) -> Result<usize, Reason> {
    match cx.size(name)?.or(default) {
        Some(n) if n > 0 => Ok(n),
        n => Err(invalid!("attribute {name} is {n:?}")),
    }
}

pub(super) fn import_repeat_block(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let size = positive(cx, "ngram_size", None)?;
    cx.emit(Decoding::NgramRepeatBlock { size })
}

pub(super) fn import_bifurcation(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 4)?;
    let min = positive(cx, "min_ngram_size", Some(1))?;
    let max = positive(cx, "max_ngram_size", Some(3))?;
    if min > max {
        return Err(invalid!("n-grams of {min} to {max} tokens"));
    }
    cx.emit(Decoding::BifurcationDetector { min, max })
}

pub(super) fn import_time_warping(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.emit(Decoding::TimeWarping)
}

pub(super) fn import_murmur_hash(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let unsigned = cx.flag("positive", true)?;
    let seed = cx.int("seed")?.unwrap_or(0);
    let seed = u32::try_from(seed).map_err(|_| invalid!("attribute seed is {seed}"))?;
    cx.emit(Decoding::MurmurHash3 { seed, unsigned })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_the_shape_of_its_input() {
        let x = Fact::new(DType::String, smallvec![Dim::symbol("n")]);
        let op = Decoding::MurmurHash3 { seed: 0, unsigned: true };
        assert_eq!(op.infer(&Inputs::new(&[Some(&x)], 1)).unwrap()[0].to_string(), "uint32[n]");
        let bytes = Fact::sized(DType::U8, &[2]);
        assert!(op.infer(&Inputs::new(&[Some(&bytes)], 1)).is_err());
    }

    #[test]
    fn costs_have_two_axes() {
        let infer = |shape: &[usize]| {
            let costs = Fact::sized(DType::F32, shape);
            Decoding::TimeWarping.infer(&Inputs::new(&[Some(&costs)], 1)).is_ok()
        };
        assert!(infer(&[3, 4]) && infer(&[1, 3, 4]) && !infer(&[2, 3, 4]) && !infer(&[3]));
    }
}
