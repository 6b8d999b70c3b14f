//! Inputs that nobody gave: random numbers, zeros, ones.

use rinfer::graph::ops::Op;
use rinfer::graph::{Graph, ValueId};
use rinfer::{Bool, DType, Strings, Tensor, Value};

/// What fills a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Uniform numbers; without bounds those that suit the dtype and the model.
    Random(Option<(f64, f64)>),
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
}

impl Fill {
    /// `rand`, `rand(lo,hi)`, `zeros`, `ones`; `None` if it is none of them.
    pub fn parse(spec: &str) -> Option<Result<Fill, String>> {
        Some(match spec {
            "rand" => Ok(Fill::Random(None)),
            "zeros" => Ok(Fill::Zeros),
            "ones" => Ok(Fill::Ones),
            _ => {
                let bounds = spec.strip_prefix("rand(")?.strip_suffix(')')?;
                let number = |s: &str| s.trim().parse::<f64>().ok().filter(|x| x.is_finite());
                let parsed =
                    bounds.split_once(',').and_then(|(lo, hi)| Some((number(lo)?, number(hi)?)));
                match parsed.filter(|(lo, hi)| lo <= hi) {
                    Some(bounds) => Ok(Fill::Random(Some(bounds))),
                    None => Err(format!("{spec} is not rand(lo,hi)")),
                }
            }
        })
    }

    /// A tensor filled so. Integers are below `bound`, if they index something.
    pub fn make(
        self,
        dtype: DType,
        shape: &[usize],
        rng: &mut Random,
        bound: Option<usize>,
    ) -> Result<Value, String> {
        let n = rinfer::graph::shape::count(shape).ok_or_else(|| format!("shape {shape:?}"))?;
        if dtype == DType::String {
            return Strings::new(shape, vec!["a".into(); n])
                .map(Value::from)
                .map_err(|e| e.to_string());
        }
        let mut t = Tensor::try_zeros(dtype, shape).map_err(|e| e.to_string())?;
        let (lo, hi) = match (self, bound) {
            (Fill::Zeros, _) => return Ok(t.into()),
            (Fill::Ones, _) => (1.0, 1.0),
            (Fill::Random(Some(bounds)), _) => bounds,
            (Fill::Random(None), Some(bound)) => (0.0, bound.saturating_sub(1) as f64),
            (Fill::Random(None), None) => (0.0, 1.0),
        };
        let mut other = Random(rng.bits());
        let mut real = || rng.uniform(lo, hi);
        macro_rules! fill {
            ($T:ty, $f:expr) => {
                t.as_mut_slice::<$T>().iter_mut().for_each(|x| *x = $f(real()))
            };
        }
        // Whole numbers lo…hi, each as likely as the others.
        let mut whole = || (lo + (other.uniform(0.0, 1.0) * (hi - lo + 1.0)).floor()).min(hi);
        macro_rules! whole {
            ($T:ty) => {
                t.as_mut_slice::<$T>().iter_mut().for_each(|x| *x = whole() as $T)
            };
        }
        match dtype {
            DType::F32 => fill!(f32, |x| x as f32),
            DType::F64 => fill!(f64, |x| x),
            DType::F16 => fill!(half::f16, half::f16::from_f64),
            DType::BF16 => fill!(half::bf16, half::bf16::from_f64),
            DType::I8 => whole!(i8),
            DType::I16 => whole!(i16),
            DType::I32 => whole!(i32),
            DType::I64 => whole!(i64),
            DType::U8 => whole!(u8),
            DType::U16 => whole!(u16),
            DType::U32 => whole!(u32),
            DType::U64 => whole!(u64),
            DType::Bool => {
                t.as_mut_slice::<Bool>().iter_mut().for_each(|b| *b = (whole() > 0.5).into())
            }
            other => return Err(format!("{other} inputs must be given")),
        }
        Ok(t.into())
    }
}

/// A small generator of random numbers, the same on every machine (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number between `lo` and `hi`.
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (self.bits() >> 11) as f64 / (1u64 << 53) as f64 * (hi - lo)
    }
}

/// The smallest size of an axis that the integers of `input` index, if they index any.
pub fn index_bound(graph: &Graph, input: ValueId) -> Option<usize> {
    let mut indices = vec![false; graph.value_count()];
    indices[input.index()] = true;
    let mut bound: Option<usize> = None;
    for (_, node) in graph.nodes() {
        let reads = |i: usize| node.inputs.get(i).copied().flatten();
        let is_index = |i: usize| reads(i).is_some_and(|v| indices[v.index()]);
        let (first, second) = (is_index(0), is_index(1));
        let moves = matches!(
            node.op,
            Op::Identity(_)
                | Op::Reshape(_)
                | Op::Squeeze(_)
                | Op::Unsqueeze(_)
                | Op::Flatten(_)
                | Op::Cast(_)
        );
        if moves && first {
            node.outputs.iter().for_each(|v| indices[v.index()] = true);
        }
        if let (Op::Gather(gather), true) = (&node.op, second) {
            let shape = reads(0).and_then(|v| graph.fact(v).shape());
            let size = shape.and_then(|s| s[gather.axis.resolve(s.len()).ok()?].size());
            bound = [bound, size].into_iter().flatten().min();
        }
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_parsed() {
        assert_eq!(Fill::parse("rand(-1, 1)"), Some(Ok(Fill::Random(Some((-1.0, 1.0))))));
        assert!(Fill::parse("rand(1,0)").unwrap().is_err());
        assert!(Fill::parse("x.npy").is_none());
    }

    #[test]
    fn indices_stay_below_their_bound() {
        let made = Fill::Random(None).make(DType::I64, &[1000], &mut Random(0), Some(3)).unwrap();
        let Value::Tensor(t) = made else { panic!("a tensor") };
        assert!(t.as_slice::<i64>().iter().all(|&i| (0..3).contains(&i)));
        assert!(t.as_slice::<i64>().contains(&2));
    }
}
