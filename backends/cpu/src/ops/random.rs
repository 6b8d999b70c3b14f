//! Random numbers: the Mersenne Twister as NumPy's `RandomState` uses it, so that a seed gives the
//! numbers of ONNX's reference implementation.
//!
//! M. Matsumoto and T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998).

use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{Bernoulli, Distribution, Multinomial, Random};
use rinfer_graph::{DType, Reason, invalid, unsupported, with_width};

use super::layer_norm::{doubles, element, put_with};
use crate::kernel::{Args, Cx, Kernel};

const N: usize = 624;
const M: usize = 397;

/// MT19937.
pub(super) struct Twister {
    state: Box<[u32; N]>,
    next: usize,
    /// The second of the two normal numbers that are made at once.
    spare: Option<f64>,
}

impl Twister {
    /// The generator that `numpy.random.RandomState(seed)` is.
    pub fn new(seed: u32) -> Twister {
        let mut state = Box::new([seed; N]);
        for i in 1..N {
            let last = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = last.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Twister { state, next: N, spare: None }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 1 << 31) | (self.state[(i + 1) % N] & !(1 << 31));
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    fn bits(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (self.bits() >> 5, self.bits() >> 6);
        (high as f64 * 67_108_864.0 + low as f64) / 9_007_199_254_740_992.0
    }

    /// Of mean 0 and variance 1, by Marsaglia's polar method.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let r = x * x + y * y;
            if r < 1.0 && r != 0.0 {
                let scale = (-2.0 * r.ln() / r).sqrt();
                self.spare = Some(scale * x);
                return scale * y;
            }
        }
    }
}

/// Where a node's random numbers come from.
#[derive(Clone, Copy)]
pub(super) struct Source {
    seed: Option<u32>,
    /// Tells apart the nodes that have no seed of their own.
    node: u64,
}

impl Source {
    pub fn new(seed: Option<u32>, cx: &Cx<'_>) -> Source {
        let index = cx.node.outputs.first().map_or(0, |v| v.index() as u64);
        let name = cx.node.name.bytes().fold(index, |hash, byte| mix(hash ^ byte as u64));
        Source { seed, node: name }
    }

    /// The generator for one run.
    pub fn generator(&self, cx: &RunCx<'_>) -> Twister {
        Twister::new(self.seed.unwrap_or_else(|| mix(mix(cx.seed) ^ self.node) as u32))
    }
}

/// Steele and Vigna's SplitMix64: close numbers become far ones.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A seed attribute: NumPy's seed where it is a whole number, its bits elsewhere.
fn seed_of(seed: Option<f32>) -> Option<u32> {
    seed.map(|seed| match seed as u32 {
        whole if whole as f32 == seed => whole,
        _ => seed.to_bits(),
    })
}

pub(super) fn compile(op: &Random, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (distribution, source) = (op.distribution, Source::new(seed_of(op.seed), cx));
    Ok(Kernel::new(move |args: &mut Args<'_>| {
        let mut random = source.generator(args.cx);
        let draw = || match distribution {
            Distribution::Normal { mean, scale } => mean as f64 + scale as f64 * random.normal(),
            Distribution::Uniform { low, high } => {
                low as f64 + (high as f64 - low as f64) * random.uniform()
            }
        };
        args.cx.check()?;
        put_with(draw, &mut args.outputs[0])
    }))
}

/// The bits of 1.
pub(super) fn one_bits(dtype: DType) -> Result<u64, Reason> {
    Ok(match dtype {
        DType::F16 => 0x3c00,
        DType::BF16 => 0x3f80,
        DType::F32 => 1f32.to_bits() as u64,
        DType::F64 => 1f64.to_bits(),
        dtype if dtype == DType::Bool || dtype.is_int() => 1,
        dtype => return Err(unsupported!("a mask of {dtype}")),
    })
}

pub(super) fn compile_bernoulli(op: &Bernoulli, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (dtype, source) = (op.dtype, Source::new(seed_of(op.seed), cx));
    let one = one_bits(dtype)?;
    Ok(Kernel::new(move |args: &mut Args<'_>| {
        let mut random = source.generator(args.cx);
        let p = args.input(0)?;
        args.cx.check()?;
        // One draw of NumPy's binomial distribution, which turns probable ones around.
        let mut hit = |p: f64| match random.uniform() {
            u if p <= 0.5 => u > 1.0 - p,
            u => u <= p,
        };
        with_width!(dtype, W => {
            for (i, y) in args.outputs[0].as_mut_bits::<W>().iter_mut().enumerate() {
                *y = if hit(element(p, i)) { one as W } else { 0 };
            }
            Ok(())
        }, else Err(unsupported!("Bernoulli to {dtype}")))
    }))
}

pub(super) fn compile_multinomial(op: &Multinomial, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let classes = cx.sizes(0)?[1];
    if classes == 0 {
        return Err(invalid!("samples of 0 classes"));
    }
    let (samples, source) = (op.samples, Source::new(seed_of(op.seed), cx));
    Ok(Kernel::new(move |args: &mut Args<'_>| {
        let mut random = source.generator(args.cx);
        let x = doubles(args.input(0)?)?;
        let mut drawn = Vec::with_capacity(args.outputs[0].len());
        for x in x.chunks_exact(classes) {
            args.cx.check()?;
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            let upto: Vec<f64> = x
                .iter()
                .map(|x| {
                    sum += (x - max).exp();
                    sum
                })
                .collect();
            for _ in 0..samples {
                let at = random.uniform() * sum;
                drawn.push(upto.partition_point(|&u| u <= at).min(classes - 1) as i64);
            }
        }
        let y = &mut args.outputs[0];
        match y.dtype() {
            DType::I32 => {
                let rows = y.as_mut_slice::<i32>().iter_mut().zip(&drawn);
                rows.for_each(|(y, &class)| *y = class as i32);
            }
            _ => y.as_mut_slice::<i64>().copy_from_slice(&drawn),
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    #[test]
    fn a_seed_gives_numpys_numbers() {
        // numpy.random.RandomState(0).uniform(size=3), and .normal(size=3)
        let mut random = Twister::new(0);
        let uniform = [0.5488135039273248, 0.7151893663724195, 0.6027633760716439];
        uniform.iter().for_each(|&u| assert_eq!(random.uniform(), u));
        let mut random = Twister::new(0);
        let normal = [1.764_052_345_967_664, 0.400_157_208_367_223_3, 0.978_737_984_105_739_2];
        normal.iter().for_each(|&n| assert!((random.normal() - n).abs() < 1e-14));
    }

    fn random(distribution: Distribution, seed: Option<f32>) -> Vec<f32> {
        let op = Random { distribution, dtype: DType::F32, seed };
        let y = run1(Isa::best(), op, &[Tensor::vector(&[100i64, 200])]).unwrap();
        y.as_slice::<f32>().to_vec()
    }

    #[test]
    fn numbers_are_distributed_as_asked() {
        let moments = |x: Vec<f32>| {
            let n = x.len() as f64;
            let mean = x.iter().map(|&x| x as f64).sum::<f64>() / n;
            (mean, x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n)
        };
        for seed in [None, Some(7.0), Some(0.5)] {
            let (mean, var) = moments(random(Distribution::Normal { mean: 3.0, scale: 2.0 }, seed));
            assert!((mean - 3.0).abs() < 0.05 && (var - 4.0).abs() < 0.15, "{mean} {var}");
            let x = random(Distribution::Uniform { low: -1.0, high: 2.0 }, seed);
            assert!(x.iter().all(|&x| (-1.0..2.0).contains(&x)));
            let (mean, var) = moments(x);
            assert!((mean - 0.5).abs() < 0.03 && (var - 0.75).abs() < 0.03, "{mean} {var}");
        }
    }

    #[test]
    fn bernoulli_hits_as_often_as_it_should() {
        let p: Vec<f32> = (0..20_000).map(|i| [0.0, 0.2, 0.7, 1.0][i % 4]).collect();
        let op = Bernoulli { dtype: DType::I32, seed: Some(1.0) };
        let y = run1(Isa::best(), op, &[Tensor::vector(&p)]).unwrap();
        let hits = |r: usize| y.as_slice::<i32>().iter().skip(r).step_by(4).sum::<i32>();
        assert_eq!((hits(0), hits(3)), (0, 5000));
        assert!((hits(1) - 1000).abs() < 120 && (hits(2) - 3500).abs() < 130);
    }

    #[test]
    fn classes_are_drawn_by_their_probability() {
        let op = Multinomial { samples: 10_000, dtype: DType::I64, seed: Some(2.0) };
        let x = [0.5f32.ln(), 0.2f32.ln(), 0.3f32.ln()].map(|x| x + 4.0);
        let y = run1(Isa::best(), op, &[Tensor::from_slice(&[1, 3], &x)]).unwrap();
        let count = |c: i64| y.as_slice::<i64>().iter().filter(|&&y| y == c).count() as i64;
        assert!((count(0) - 5000).abs() < 200 && (count(1) - 2000).abs() < 200);
        assert_eq!(count(0) + count(1) + count(2), 10_000);
    }
}
