//! Weights in blocks: so many rows of a column share a scale, and a zero point if codes have one.
//!
//! w[k, n] ≈ (code[n, k] - zero[n, b]) · scale[n, b], b = k / size; codes are 0 … 2^bits - 1.

use half::f16;
use rinfer::graph::ops::MatMulNBits;
use rinfer::{DType, Reason, Tensor};

use crate::share::share;
use crate::weights::{chunks, round};

/// How a matrix becomes blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockScheme {
    /// Bits of a code: 4 or 8.
    pub bits: u32,
    /// Rows that share a scale: a power of two, at least 16.
    pub size: usize,
    /// Whether the middle code is zero, so that no zero points are stored.
    pub symmetric: bool,
    /// Whether they are written as MatMulNBits, not as DequantizeLinear.
    pub packed: bool,
    /// Whether scales are numbers of float16.
    pub half: bool,
}

impl BlockScheme {
    /// The greatest code.
    pub fn most(self) -> i32 {
        (1 << self.bits) - 1
    }

    /// The code in the middle: zero, where codes are symmetric.
    pub fn middle(self) -> i32 {
        1 << (self.bits - 1)
    }

    /// The scale as it is stored: of float16, where that has it to three digits.
    pub fn stored(self, scale: f32) -> f32 {
        let near = f16::from_f32(scale);
        if self.half && near.is_normal() { near.to_f32() } else { scale }
    }

    /// Scale and zero point of numbers from `lo` to `hi`.
    pub fn fit(self, lo: f32, hi: f32) -> (f32, i32) {
        let (lo, hi) = (lo.min(0.0), hi.max(0.0));
        if self.symmetric {
            // The end that is farther from zero gets the code that has no opposite.
            let most = self.middle() as f32;
            let scale = match -lo > hi {
                true => -lo / most,
                false => -hi / most,
            };
            let scale = if scale == 0.0 || !scale.is_finite() { 1.0 } else { scale };
            return (scale, self.middle());
        }
        let scale = crate::scheme::usable((hi - lo) / self.most() as f32);
        (scale, ((-lo / scale).round_ties_even() as i32).clamp(0, self.most()))
    }

    /// The code of `x`.
    pub fn code(self, x: f32, scale: f32, zero: i32) -> u8 {
        // Beyond a thousand steps every code saturates, and sums with MAGIC stay exact.
        let steps = round((x / scale).clamp(-1024.0, 1024.0));
        (steps as i32 + zero).clamp(0, self.most()) as u8
    }
}

/// A matrix in blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    /// How.
    pub how: BlockScheme,
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// A code for each number, [n, k].
    pub codes: Vec<u8>,
    /// [n, blocks]
    pub scales: Vec<f32>,
    /// [n, blocks]; the middle code throughout if codes are symmetric.
    pub zeros: Vec<u8>,
}

/// A matrix's columns one after the other, whichever way it lies.
pub fn columns(t: &Tensor, columns_first: bool) -> (usize, usize, Vec<f32>) {
    let (a, b) = (t.shape()[0], t.shape()[1]);
    let mut all = Vec::with_capacity(a * b);
    if columns_first {
        chunks(t, b, &mut |_, x| all.extend_from_slice(x));
        return (b, a, all);
    }
    all.resize(a * b, 0.0);
    chunks(t, b, &mut |k, x| {
        for (n, &x) in x.iter().enumerate() {
            all[n * a + k] = x;
        }
    });
    (a, b, all)
}

impl Blocks {
    /// Every number goes to the nearest code of a scale that leaves nothing out.
    ///
    /// # Errors
    /// The weight holds NaN or infinities.
    pub fn nearest(t: &Tensor, columns_first: bool, how: BlockScheme) -> Result<Blocks, Reason> {
        let (k, n, w) = columns(t, columns_first);
        Blocks::chosen(&w, k, n, how, &|block, _| {
            let lo = block.iter().copied().fold(0f32, f32::min);
            let hi = block.iter().copied().fold(0f32, f32::max);
            how.fit(lo, hi)
        })
    }

    /// Nearest codes, with the scale and zero point that `fit` chooses for a block, of which it also
    /// gets the first row.
    ///
    /// # Errors
    /// The weight holds NaN or infinities.
    pub fn chosen(
        w: &[f32],
        k: usize,
        n: usize,
        how: BlockScheme,
        fit: &(dyn Fn(&[f32], usize) -> (f32, i32) + Sync),
    ) -> Result<Blocks, Reason> {
        if w.iter().any(|x| !x.is_finite()) {
            return Err(Reason::new(rinfer::Kind::Invalid, "the weight holds NaN or infinities"));
        }
        let blocks = k.div_ceil(how.size);
        let mut made = Blocks {
            how,
            k,
            n,
            codes: vec![0; n * k],
            scales: vec![0.0; n * blocks],
            zeros: vec![0; n * blocks],
        };
        const TOGETHER: usize = 32;
        let pieces = w
            .chunks((TOGETHER * k).max(1))
            .zip(made.codes.chunks_mut((TOGETHER * k).max(1)))
            .zip(made.scales.chunks_mut((TOGETHER * blocks).max(1)))
            .zip(made.zeros.chunks_mut((TOGETHER * blocks).max(1)));
        share(0, pieces.collect(), &|(((w, codes), scales), zeros)| {
            let columns = w.chunks(k.max(1)).zip(codes.chunks_mut(k.max(1)));
            let each =
                columns.flat_map(|(w, codes)| w.chunks(how.size).zip(codes.chunks_mut(how.size)));
            for (b, (block, codes)) in each.enumerate() {
                let (scale, zero) = fit(block, b % blocks * how.size);
                let scale = how.stored(scale);
                (scales[b], zeros[b]) = (scale, zero as u8);
                codes.iter_mut().zip(block).for_each(|(c, &x)| *c = how.code(x, scale, zero));
            }
        });
        Ok(made)
    }

    /// The blocks that a MatMulNBits reads; zero points packed, or none.
    ///
    /// # Errors
    /// Scales are not float32.
    pub fn read(
        op: &MatMulNBits,
        codes: &Tensor,
        scales: &Tensor,
        zeros: Option<&Tensor>,
    ) -> Result<Blocks, Reason> {
        if scales.dtype() != DType::F32 {
            return Err(Reason::new(rinfer::Kind::Unsupported, "scales that are not float32"));
        }
        let (bits, blocks, row) = (op.bits, op.blocks(), op.zero_bytes());
        let mask = ((1u32 << bits) - 1) as u8;
        let code = |bytes: &[u8], i: usize| (bytes[i * bits / 8] >> (i * bits % 8)) & mask;
        let how = BlockScheme {
            bits: bits as u32,
            size: op.block_size,
            symmetric: zeros.is_none(),
            packed: true,
            half: false,
        };
        let at = |n: usize, k: usize| code(codes.as_bytes(), n * blocks * op.block_size + k);
        let zero = |n: usize, b: usize| match zeros {
            Some(z) => code(&z.as_bytes()[n * row..], b),
            None => how.middle() as u8,
        };
        Ok(Blocks {
            how,
            k: op.k,
            n: op.n,
            codes: (0..op.n * op.k).map(|i| at(i / op.k, i % op.k)).collect(),
            scales: scales.as_slice::<f32>().to_vec(),
            zeros: (0..op.n * blocks).map(|i| zero(i / blocks, i % blocks)).collect(),
        })
    }

    /// Blocks of a column.
    pub fn per_column(&self) -> usize {
        self.k.div_ceil(self.how.size)
    }

    /// The numbers that the codes stand for, [n, k].
    pub fn numbers(&self) -> Vec<f32> {
        let blocks = self.per_column();
        let at = |(i, &code): (usize, &u8)| {
            let b = i / self.k * blocks + i % self.k / self.how.size;
            (code as i32 - self.zeros[b] as i32) as f32 * self.scales[b]
        };
        self.codes.iter().enumerate().map(at).collect()
    }

    /// Codes as MatMulNBits reads them: [n, blocks, size · bits / 8], the first in the low bits.
    ///
    /// # Errors
    /// The machine has no memory for them.
    pub fn packed(&self) -> Result<Tensor, Reason> {
        let (blocks, size, bits) = (self.per_column(), self.how.size, self.how.bits as usize);
        let mut t = Tensor::try_zeros(DType::U8, &[self.n, blocks, size * bits / 8])?;
        let out = t.as_mut_bytes();
        let padded = blocks * size;
        for (n, column) in self.codes.chunks(self.k.max(1)).enumerate() {
            for k in 0..padded {
                // What is beyond the last row is zero, whatever it meets.
                let code = column.get(k).copied().unwrap_or(self.zeros[n * blocks + k / size]);
                let at = (n * padded + k) * bits;
                out[at / 8] |= code << (at % 8);
            }
        }
        Ok(t)
    }

    /// Scales as MatMulNBits reads them; of float16 if that is asked for and has all of them.
    ///
    /// # Errors
    /// The machine has no memory for them.
    pub fn scale_rows(&self) -> Result<Tensor, Reason> {
        self.scale_tensor(&[self.n, self.per_column()], &self.scales)
    }

    fn scale_tensor(&self, shape: &[usize], scales: &[f32]) -> Result<Tensor, Reason> {
        let half = |&s: &f32| Some(f16::from_f32(s)).filter(|h| h.to_f32() == s);
        let halves: Option<Vec<f16>> =
            if self.how.half { scales.iter().map(half).collect() } else { None };
        match halves {
            Some(halves) => Tensor::try_from_slice(shape, &halves),
            None => Tensor::try_from_slice(shape, scales),
        }
    }

    /// Zero points as MatMulNBits reads them, if there are any.
    ///
    /// # Errors
    /// The machine has no memory for them.
    pub fn packed_zeros(&self) -> Result<Option<Tensor>, Reason> {
        if self.how.symmetric {
            return Ok(None);
        }
        let (blocks, bits) = (self.per_column(), self.how.bits as usize);
        let row = (blocks * bits).div_ceil(8);
        let mut t = Tensor::try_zeros(DType::U8, &[self.n, row])?;
        let out = t.as_mut_bytes();
        for (i, &zero) in self.zeros.iter().enumerate() {
            let at = i % blocks * bits;
            out[i / blocks * row + at / 8] |= zero << (at % 8);
        }
        Ok(Some(t))
    }

    fn code_type(&self) -> DType {
        match (self.how.bits, self.how.symmetric) {
            (4, true) => DType::I4,
            (4, false) => DType::U4,
            (_, true) => DType::I8,
            (_, false) => DType::U8,
        }
    }

    /// A tensor [rows, n] of codes; symmetric ones become signed.
    fn coded(&self, rows: usize, at: impl Fn(usize, usize) -> u8) -> Result<Tensor, Reason> {
        let less = if self.how.symmetric { self.how.middle() as u8 } else { 0 };
        let mut t = Tensor::try_zeros(self.code_type(), &[rows, self.n])?;
        let out = t.as_mut_bytes();
        for row in 0..rows {
            for n in 0..self.n {
                let code = at(row, n).wrapping_sub(less);
                let i = row * self.n + n;
                match self.how.bits {
                    4 => out[i / 2] |= (code & 15) << (i % 2 * 4),
                    _ => out[i] = code,
                }
            }
        }
        Ok(t)
    }

    /// Codes as DequantizeLinear reads them: [k, n].
    ///
    /// # Errors
    /// The machine has no memory for them.
    pub fn columns(&self) -> Result<Tensor, Reason> {
        self.coded(self.k, |k, n| self.codes[n * self.k + k])
    }

    /// Scales as DequantizeLinear reads them: [blocks, n].
    ///
    /// # Errors
    /// The machine has no memory for them.
    pub fn scale_columns(&self) -> Result<Tensor, Reason> {
        let blocks = self.per_column();
        let at = |i: usize| self.scales[i % self.n * blocks + i / self.n];
        let scales: Vec<f32> = (0..blocks * self.n).map(at).collect();
        self.scale_tensor(&[blocks, self.n], &scales)
    }

    /// Zero points as DequantizeLinear reads them, if there are any.
    ///
    /// # Errors
    /// The machine has no memory for them.
    pub fn zero_columns(&self) -> Result<Option<Tensor>, Reason> {
        let blocks = self.per_column();
        match self.how.symmetric {
            true => Ok(None),
            false => self.coded(blocks, |b, n| self.zeros[n * blocks + b]).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::sqnr;

    fn weight(k: usize, n: usize) -> Vec<f32> {
        (0..k * n).map(|i| ((i * 7919 % 1000) as f32 - 480.0) / 300.0).collect()
    }

    #[test]
    fn both_ways_to_lie_give_the_same_blocks() {
        let (k, n) = (40, 6);
        let w = weight(k, n);
        let swapped: Vec<f32> = (0..n * k).map(|i| w[i % k * n + i / k]).collect();
        for symmetric in [true, false] {
            let how = BlockScheme { bits: 4, size: 16, symmetric, packed: true, half: false };
            let a = Blocks::nearest(&Tensor::from_slice(&[k, n], &w), false, how).unwrap();
            let b = Blocks::nearest(&Tensor::from_slice(&[n, k], &swapped), true, how).unwrap();
            assert_eq!(a, b);
            assert!(sqnr(&swapped, &a.numbers()) > 18.0);
            assert_eq!(a.packed().unwrap().shape(), [n, 3, 8]);
            assert_eq!(
                a.packed_zeros().unwrap().map(|t| t.shape().to_vec()),
                (!symmetric).then(|| vec![n, 2])
            );
            assert_eq!(a.columns().unwrap().shape(), [k, n]);
        }
    }

    #[test]
    fn eight_bits_are_nearly_exact() {
        let w = weight(64, 3);
        let how = BlockScheme { bits: 8, size: 32, symmetric: false, packed: true, half: false };
        let blocks = Blocks::nearest(&Tensor::from_slice(&[3, 64], &w), true, how).unwrap();
        assert!(sqnr(&w, &blocks.numbers()) > 45.0);
    }

    #[test]
    fn scales_of_float16_are_those_that_codes_were_chosen_for() {
        let w = weight(64, 3);
        let how = BlockScheme { bits: 4, size: 32, symmetric: false, packed: true, half: true };
        let t = Tensor::from_slice(&[3, 64], &w);
        let blocks = Blocks::nearest(&t, true, how).unwrap();
        assert_eq!(blocks.scale_rows().unwrap().dtype(), DType::F16);
        let whole = Blocks::nearest(&t, true, BlockScheme { half: false, ..how }).unwrap();
        assert_eq!(whole.scale_rows().unwrap().dtype(), DType::F32);
        let [a, b] = [&blocks, &whole].map(|blocks| sqnr(&w, &blocks.numbers()));
        assert!(a > b - 0.1, "{a} {b}");
        // What float16 has not to three digits stays float32.
        let tiny: Vec<f32> = w.iter().map(|w| w * 1e-6).collect();
        let tiny = Tensor::from_slice(&[3, 64], &tiny);
        let blocks = Blocks::nearest(&tiny, true, how).unwrap();
        assert_eq!(blocks.scale_rows().unwrap().dtype(), DType::F32);
    }
}
