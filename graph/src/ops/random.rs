//! Random numbers: RandomNormal, RandomUniform, their Like forms, Bernoulli, Multinomial.
//!
//! A seed makes every run draw the same numbers; without one they follow from the run's seed.
use super::{Inputs, Shape, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape as Sizes;
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// How numbers are distributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Gauss's.
    Normal {
        /// Mean.
        mean: f32,
        /// Standard deviation.
        scale: f32,
    },
    /// Every number between two is as probable as any other.
    Uniform {
        /// The least.
        low: f32,
        /// What none reaches.
        high: f32,
    },
}

/// shape int64 [r] → random numbers in that shape
#[derive(Clone, Debug, PartialEq)]
pub struct Random {
    /// How they are distributed.
    pub distribution: Distribution,
    /// Their dtype.
    pub dtype: DType,
    /// Of the random numbers; without it the run decides.
    pub seed: Option<f32>,
}

/// p → 1 with probability p, else 0
#[derive(Clone, Debug, PartialEq)]
pub struct Bernoulli {
    /// The dtype of the result.
    pub dtype: DType,
    /// Of the random numbers; without it the run decides.
    pub seed: Option<f32>,
}

/// Unnormalized log-probabilities [batch, classes] → classes [batch, samples]
#[derive(Clone, Debug, PartialEq)]
pub struct Multinomial {
    /// How many are drawn of each batch.
    pub samples: usize,
    /// The dtype of the result: int32 or int64.
    pub dtype: DType,
    /// Of the random numbers; without it the run decides.
    pub seed: Option<f32>,
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

impl Random {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        if !is_float(self.dtype) {
            return Err(unsupported!("random numbers of type {} are not supported", self.dtype));
        }
        let shape = inputs.get(0)?;
        one(match (shape.dims(), shape.len()) {
            (Some(dims), _) => Fact::new(self.dtype, dims.iter().cloned().collect()),
            (None, Some(rank)) if rank <= 64 => Fact::ranked(self.dtype, rank),
            _ => Fact::unranked(self.dtype),
        })
    }
}

impl Bernoulli {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let p = inputs.get(0)?;
        let number = self.dtype.is_int() && !self.dtype.is_packed();
        if !is_float(p.dtype()?) || !(number || is_float(self.dtype) || self.dtype == DType::Bool) {
            return Err(unsupported!("Bernoulli from {} to {}", p.ty, self.dtype));
        }
        one(Fact { ty: crate::Type::Tensor(self.dtype), ..p.clone().forget() })
    }
}

impl Multinomial {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        if !is_float(x.dtype()?) || !matches!(self.dtype, DType::I32 | DType::I64) {
            return Err(unsupported!("Multinomial from {} to {}", x.ty, self.dtype));
        }
        let batch = match x.shape() {
            Some([batch, classes]) if !classes.is(0) => batch.clone(),
            Some(shape) => {
                return Err(invalid!(
                    "log-probabilities of shape {}, not [batch, classes]",
                    crate::shape::show(shape)
                ));
            }
            None => Dim::Unknown,
        };
        let shape: Sizes = [batch, Dim::from(self.samples)].into_iter().collect();
        one(Fact::new(self.dtype, shape))
    }
}

fn normal(cx: &NodeCx<'_>) -> Result<Distribution, Reason> {
    let (mean, scale) = (cx.float("mean")?.unwrap_or(0.0), cx.float("scale")?.unwrap_or(1.0));
    Ok(Distribution::Normal { mean, scale })
}

fn uniform(cx: &NodeCx<'_>) -> Result<Distribution, Reason> {
    let (low, high) = (cx.float("low")?.unwrap_or(0.0), cx.float("high")?.unwrap_or(1.0));
    Ok(Distribution::Uniform { low, high })
}

fn import(cx: &mut NodeCx<'_>, distribution: Distribution) -> Result<Outputs, Reason> {
    cx.check_inputs(0, 0)?;
    let shape = cx.ints("shape")?.ok_or_else(|| invalid!("attribute shape is missing"))?;
    let shape = cx.constant_ints(&shape);
    let dtype = cx.dtype_attr("dtype")?.unwrap_or(DType::F32);
    let seed = cx.float("seed")?;
    cx.push(Random { distribution, dtype, seed }, &[Some(shape)])
}

fn import_like(cx: &mut NodeCx<'_>, distribution: Distribution) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let x = cx.input(0)?;
    let dtype = match cx.dtype_attr("dtype")? {
        Some(dtype) => dtype,
        None => cx.dtype(x)?,
    };
    let seed = cx.float("seed")?;
    let shape = cx.push1(Shape { start: 0, end: None }, &[x])?;
    cx.push(Random { distribution, dtype, seed }, &[Some(shape)])
}

pub(super) fn import_normal(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let distribution = normal(cx)?;
    import(cx, distribution)
}

pub(super) fn import_normal_like(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let distribution = normal(cx)?;
    import_like(cx, distribution)
}

pub(super) fn import_uniform(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let distribution = uniform(cx)?;
    import(cx, distribution)
}

pub(super) fn import_uniform_like(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let distribution = uniform(cx)?;
    import_like(cx, distribution)
}

pub(super) fn import_bernoulli(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let dtype = match cx.dtype_attr("dtype")? {
        Some(dtype) => dtype,
        None => cx.dtype(cx.input(0)?)?,
    };
    let seed = cx.float("seed")?;
    cx.emit(Bernoulli { dtype, seed })
}

pub(super) fn import_multinomial(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let dtype = cx.dtype_attr("dtype")?.unwrap_or(DType::I32);
    let samples = cx.size("sample_size")?.unwrap_or(1);
    let seed = cx.float("seed")?;
    cx.emit(Multinomial { samples, dtype, seed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;

    fn check(op: impl Into<Op>, x: Fact, expected: &str) {
        let facts = op.into().infer(&Inputs::new(&[Some(&x)], 1));
        assert_eq!(facts.map_or_else(|e| e.to_string(), |f| f[0].to_string()), expected);
    }

    #[test]
    fn the_shape_is_an_input() {
        let distribution = Distribution::Uniform { low: 0.0, high: 1.0 };
        let op = Random { distribution, dtype: DType::F16, seed: None };
        check(op, Fact::of_dims(vec![Dim::N(2), Dim::symbol("n")], false), "float16[2, n]");
    }

    #[test]
    fn samples_are_drawn_of_each_batch() {
        let op = Multinomial { samples: 4, dtype: DType::I32, seed: None };
        check(op.clone(), Fact::sized(DType::F32, &[2, 3]), "int32[2, 4]");
        let wrong = "log-probabilities of shape [2, 0], not [batch, classes]";
        check(op, Fact::sized(DType::F32, &[2, 0]), wrong);
    }

    #[test]
    fn random_operators_are_known_as_such() {
        let random = |op: Op| assert!(op.is_random(), "{}", op.name());
        random(Bernoulli { dtype: DType::F32, seed: None }.into());
        random(Multinomial { samples: 1, dtype: DType::I32, seed: None }.into());
        random(super::super::Dropout { seed: None, mask: DType::Bool }.into());
        let distribution = Distribution::Normal { mean: 0.0, scale: 1.0 };
        random(Random { distribution, dtype: DType::F32, seed: None }.into());
    }
}
