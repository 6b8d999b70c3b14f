//! MatMulNBits and MatMulBnb4: weights of few bits. They stay so where blocks lie as the packed
//! codes want them; g_idx and tables are turned into f32 panels once.
//!
//! y = a · wᵀ + bias, w[n, k] = (code - zero) · scale

use std::ops::Range;
use std::sync::Arc;

use rinfer_graph::ops::{MatMulBnb4, MatMulNBits};
use rinfer_graph::{DType, Reason, Tensor, invalid, scarce};

use crate::convert;
use crate::gemm::codes::{FEW, PackedCodes, Shape, ZeroPoints};
use crate::gemm::room::{self, Lies};
use crate::gemm::{Bias, Epilogue, Gemm, Layout, Lhs, PackedB, Rhs, Strided};
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::pool::with_scratch;
use crate::quant::read_f32;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// What weights consist of, in bytes; those that are not given `None`.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub b: &'a [u8],
    pub scales: (DType, &'a [u8]),
    pub zero: Option<(DType, &'a [u8])>,
    pub g_idx: Option<&'a Tensor>,
}

impl<'a> Parts<'a> {
    fn new(
        [b, scales]: [&'a Tensor; 2],
        zero: Option<&'a Tensor>,
        g_idx: Option<&'a Tensor>,
    ) -> Parts<'a> {
        let typed = |x: &'a Tensor| (x.dtype(), x.as_bytes());
        Parts { b: b.as_bytes(), scales: typed(scales), zero: zero.map(typed), g_idx }
    }
}

/// Reads one piece of a row of the weights.
type Read<'a> = Box<dyn Fn(usize, Range<usize>, &mut [f32]) + Sync + 'a>;

/// How the weights of an operator are read.
#[derive(Clone)]
enum Codes {
    Linear(MatMulNBits),
    Table(MatMulBnb4),
}

fn floats((dtype, bytes): (DType, &[u8])) -> Result<Vec<f32>, Reason> {
    let mut y = scarce::zeros(bytes.len() / dtype.size().max(1));
    read_f32(dtype, bytes, 0, &mut y)?;
    Ok(y)
}

impl Codes {
    /// Rows and columns of the right operand, and how it lies.
    fn matrix(&self) -> ([usize; 2], Layout) {
        match self {
            Codes::Linear(op) => ([op.k, op.n], Layout::Transposed),
            Codes::Table(op) if op.trans_b => ([op.k, op.n], Layout::Transposed),
            Codes::Table(op) => ([op.n, op.k], Layout::RowMajor),
        }
    }

    fn pack(&self, isa: Isa, parts: &Parts<'_>) -> Result<Weights, Reason> {
        let read = match self {
            Codes::Linear(op) if parts.g_idx.is_none() => {
                return few_bits(op, parts).map(Weights::Codes);
            }
            Codes::Linear(op) => linear(op, parts)?,
            Codes::Table(op) => table(op, parts)?,
        };
        let ([rows, cols], layout) = self.matrix();
        let packed = PackedB::from_rows(isa, (rows, cols), layout, read).map_err(limit)?;
        Ok(Weights::Floats(packed))
    }
}

/// The right operand, made ready.
pub(super) enum Weights {
    Codes(PackedCodes),
    Floats(PackedB),
}

impl Weights {
    /// The weights of a MatMulNBits; a block may be a whole column of any length.
    pub fn few_bits(isa: Isa, op: &MatMulNBits, parts: &Parts<'_>) -> Result<Weights, Reason> {
        if op.block_size * op.bits % 32 == 0 {
            return few_bits(op, parts).map(Weights::Codes);
        }
        let read = linear(op, parts)?;
        let packed = PackedB::from_rows(isa, (op.k, op.n), Layout::Transposed, read);
        packed.map(Weights::Floats).map_err(limit)
    }

    /// What [`Weights::multiply`] takes: for few rows of codes, rows padded to whole blocks and the
    /// sum of each, else what products take. Whether `codes` will be floats decides the block size.
    pub fn scratch(isa: Isa, (m, n, k): (usize, usize, usize), codes: bool) -> Scratch {
        let b = if codes { Lies::Made } else { Lies::Packed };
        let few = if codes { Scratch::floats(2 * m.min(FEW) * k) } else { Scratch::none() };
        room::scratch(isa, (m, n, k), Lies::Plain([k, 1]), b).then(&few)
    }

    /// `y = a · weights + bias`
    pub fn multiply(
        &self,
        isa: Isa,
        (m, n, k): (usize, usize, usize),
        a: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let right = match self {
            Weights::Codes(codes) if m <= FEW => {
                return codes.multiply_few(isa, a, m, bias, y).map_err(limit);
            }
            Weights::Codes(codes) => Rhs::Made(codes),
            Weights::Floats(floats) => Rhs::Packed(floats),
        };
        let epilogue = Epilogue { bias: bias.map(Bias::Row), ..Epilogue::default() };
        let a = Lhs::Plain(Strided::rows(a, k));
        let gemm = Gemm { epilogue, ..Gemm::new((m, n, k), a, right) };
        gemm.run(isa, y, n).map_err(limit)
    }
}

fn few_bits(op: &MatMulNBits, parts: &Parts<'_>) -> Result<PackedCodes, Reason> {
    let MatMulNBits { n, k, bits, block_size: block } = *op;
    let scales = floats(parts.scales)?;
    let (bytes, numbers);
    let zeros = match parts.zero {
        None => ZeroPoints::One((1 << (bits - 1)) as f32),
        Some((DType::U8, zero)) => {
            bytes = zero_codes(op, zero);
            ZeroPoints::Bytes(&bytes)
        }
        Some(zero) => {
            numbers = floats(zero)?;
            ZeroPoints::Floats(&numbers)
        }
    };
    let shape = Shape { n, k, bits, block };
    PackedCodes::pack(shape, parts.b, &scales, zeros).map_err(limit)
}

/// Packed zero points, each in a byte: `[n][blocks]`.
fn zero_codes(op: &MatMulNBits, zero: &[u8]) -> Vec<u8> {
    let (blocks, row) = (op.blocks(), op.zero_bytes());
    let at = |i: usize| code(&zero[i / blocks * row..], i % blocks, op.bits);
    (0..op.n * blocks).map(at).collect()
}

/// Codes of `bits` bits, the first in the low bits.
fn code(bytes: &[u8], i: usize, bits: usize) -> u8 {
    let each = 8 / bits;
    let mask = (0xffu16 >> (8 - bits)) as u8;
    bytes[i / each] >> (i % each * bits) & mask
}

fn linear<'a>(op: &MatMulNBits, parts: &Parts<'a>) -> Result<Read<'a>, Reason> {
    let (bits, block, blocks, n) = (op.bits, op.block_size, op.blocks(), op.n);
    let scales = floats(parts.scales)?;
    let zeros = match parts.zero {
        None => vec![(1 << (bits - 1)) as f32; n * blocks],
        Some((DType::U8, zero)) => {
            zero_codes(op, zero).iter().map(|&zero| f32::from(zero)).collect()
        }
        Some(zero) => floats(zero)?,
    };
    let groups = match parts.g_idx {
        None => (0..op.k).map(|k| k / block).collect(),
        Some(g) => groups(g, op.k, blocks)?,
    };
    let (bytes, row) = (parts.b, blocks * block * bits / 8);
    Ok(Box::new(move |n, part, dst| {
        let (bytes, at) = (&bytes[n * row..][..row], n * blocks);
        for (k, dst) in part.zip(dst) {
            let g = at + groups[k];
            *dst = (f32::from(code(bytes, k, bits)) - zeros[g]) * scales[g];
        }
    }))
}

fn groups(g: &Tensor, k: usize, blocks: usize) -> Result<Vec<usize>, Reason> {
    let group = |&g: &i32| {
        let at = usize::try_from(g).ok().filter(|&at| at < blocks);
        at.ok_or_else(|| invalid!("g_idx {g} is out of range for {blocks} blocks"))
    };
    g.as_slice::<i32>().iter().take(k).map(group).collect()
}

fn table<'a>(op: &MatMulBnb4, parts: &Parts<'a>) -> Result<Read<'a>, Reason> {
    let (values, block, cols) = (op.codes.values(), op.block_size, op.k);
    let (scales, bytes) = (floats(parts.scales)?, parts.b);
    Ok(Box::new(move |row, part, dst| {
        let at = row * cols;
        for (i, dst) in (at + part.start..at + part.end).zip(dst) {
            // The first of two codes is in the high bits.
            let code = bytes[i / 2] >> (4 * (1 - i % 2)) & 15;
            *dst = values[usize::from(code)] * scales[i / block];
        }
    }))
}

pub(super) fn compile(op: &MatMulNBits, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    product(Codes::Linear(op.clone()), cx, [3, 4, 5])
}

pub(super) fn compile_bnb4(op: &MatMulBnb4, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    product(Codes::Table(op.clone()), cx, [usize::MAX; 3])
}

/// Packs weights ahead of the first run.
pub(super) fn prepack(op: &MatMulNBits, cx: &Cx<'_>) -> Result<(), Reason> {
    packed(&Codes::Linear(op.clone()), cx, [3, 4]).map(|_| ())
}

/// The packed weights, if all their parts are known beforehand.
fn packed(
    codes: &Codes,
    cx: &Cx<'_>,
    [zero, g_idx]: [usize; 2],
) -> Result<Option<Arc<Weights>>, Reason> {
    let known = |i: usize| match cx.opt(i) {
        None => Some(None),
        Some(fact) => fact.tensor().cloned().map(Some),
    };
    let (Some(Some(scales)), Some(zero), Some(g_idx)) = (known(2), known(zero), known(g_idx))
    else {
        return Ok(None);
    };
    cx.packed(1, 4, |b| {
        let parts = Parts::new([b, &scales], zero.as_ref(), g_idx.as_ref());
        codes.pack(cx.isa, &parts)
    })
}

fn product(codes: Codes, cx: &Cx<'_>, [zero, g_idx, bias]: [usize; 3]) -> Result<Kernel, Reason> {
    let (isa, weights) = (cx.isa, packed(&codes, cx, [zero, g_idx])?);
    let ([k, n], _) = codes.matrix();
    let m = cx.out_sizes(0)?.iter().rev().skip(1).product::<usize>();
    let wide = if cx.dtype(0)? == DType::F32 { 0 } else { m * (n + k) };
    let packing = weights.as_ref().map_or_else(|| room::packing(isa, k, n), |_| Scratch::none());
    let scratch = Scratch::floats(wide).and(Weights::scratch(isa, (m, n, k), true)).and(packing);
    Ok(Kernel::new(move |args| {
        args.cx.check()?;
        let weights = match &weights {
            Some(weights) => weights.clone(),
            None => {
                let (zero, g_idx) = (args.opt(zero), args.opt(g_idx));
                let parts = Parts::new([args.input(1)?, args.input(2)?], zero, g_idx);
                Arc::new(codes.pack(isa, &parts)?)
            }
        };
        multiply(isa, (m, n, k), &weights, args, args.opt(bias))
    })
    .takes(scratch))
}

/// `y = a · weights + bias`, in f32 whatever a's type.
fn multiply(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    weights: &Weights,
    args: &mut Args<'_>,
    bias: Option<&Tensor>,
) -> Result<(), Reason> {
    let a = args.input(0)?;
    let bias = bias.map(|bias| floats((bias.dtype(), bias.as_bytes()))).transpose()?;
    let run = |a: &[f32], y: &mut [f32]| weights.multiply(isa, (m, n, k), a, bias.as_deref(), y);
    if a.dtype() == DType::F32 {
        return run(a.as_slice(), args.outputs[0].as_mut_slice());
    }
    with_scratch(a.len() + m * n, |scratch| {
        let (wide, y) = scratch.split_at_mut(a.len());
        convert::read(isa, a, 0, wide)?;
        run(wide, y)?;
        convert::write(isa, y, &mut args.outputs[0], 0)
    })
    .map_err(limit)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use rinfer_graph::ops::FourBits;

    #[test]
    fn codes_lie_low_bits_first_and_stand_around_the_middle() {
        let op = MatMulNBits { n: 2, k: 3, bits: 4, block_size: 16 };
        let mut b = [0u8; 16];
        (b[0], b[1], b[8]) = (0x9a, 0x08, 0x07);
        let a = Tensor::from_slice(&[1, 3], &[1.0f32, 10.0, 100.0]);
        let b = Tensor::from_slice(&[2, 1, 8], &b);
        let scales = Tensor::from_slice(&[2, 1], &[0.5f32, 2.0]);
        for isa in Isa::available() {
            let y = run1(isa, op.clone(), &[a.clone(), b.clone(), scales.clone()]).unwrap();
            // (2 + 10) / 2; (-1 - 80 - 800) · 2
            assert_eq!(y.as_slice::<f32>(), [6.0, -1762.0]);
        }
    }

    #[test]
    fn blocks_of_a_table_run_across_rows() {
        let (n, k) = (3, 6);
        let op = |trans_b| MatMulBnb4 { n, k, block_size: 16, codes: FourBits::Nf4, trans_b };
        let b = Tensor::from_slice(&[9], &[0x0f, 0xf0, 0x7f, 0, 0, 0, 0, 0, 0xf7u8]);
        let absmax = Tensor::vector(&[1.0f32, 10.0]);
        let one = |n: usize| Tensor::from_slice(&[1, n], &vec![1.0f32; n]);
        let y = run1(Isa::best(), op(true), &[one(k), b.clone(), absmax.clone()]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [1.0, -6.0, -4.0 + 10.0]);
        let y = run1(Isa::best(), op(false), &[one(n), b, absmax]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [-3.0, -1.0, -1.0, -3.0, 10.0 - 1.0, 0.0]);
    }
}
