//! MatMulNBits and MatMulBnb4: products with weights of 2, 4 or 8 bits, scaled block by block.
//!
//! y = a · wᵀ + bias, w[n, k] = (code[n, k] - zero[n, b]) · scale[n, b], b = k / block_size
//!
//! MatMulNBits: a [.., k], b uint8 [n, blocks, block_size·bits/8], scales [n, blocks], zero points
//! uint8 [n, ⌈blocks·bits/8⌉] (packed) or as a's type [n, blocks]; the first code in the low bits;
//! without zero points they are 2^(bits-1). g_idx int32 [k] names the block of each k instead.
//!
//! MatMulBnb4: w [n, k] flattened and cut in blocks, code's value from a table, absmax for each
//! block; the first code in the high bits.

use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Inputs a, b, scales, zero_points, g_idx, bias; the last three optional.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMulNBits {
    /// Columns of the product.
    pub n: usize,
    /// Columns of a.
    pub k: usize,
    /// Bits of a code: 2, 4 or 8.
    pub bits: usize,
    /// Codes that share a scale: a power of two, at least 16.
    pub block_size: usize,
}

/// What the 16 codes of MatMulBnb4 stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FourBits {
    /// Four-bit floats.
    Fp4,
    /// Quantiles of the normal distribution.
    Nf4,
}

impl FourBits {
    /// The value of each code: those of the bitsandbytes library.
    pub fn values(self) -> [f32; 16] {
        match self {
            FourBits::Fp4 => {
                let [a, b] = [5.208_333_5e-3, 0.166_666_67];
                let [c, d] = [0.333_333_34, 0.666_666_7];
                [0.0, a, d, 1.0, c, 0.5, b, 0.25, -0.0, -a, -d, -1.0, -c, -0.5, -b, -0.25]
            }
            FourBits::Nf4 => [
                -1.0,
                -0.696_192_8,
                -0.525_073_05,
                -0.394_917_5,
                -0.284_441_38,
                -0.184_773_43,
                -0.091_050_036,
                0.0,
                0.079_580_3,
                0.160_930_2,
                0.246_112_3,
                0.337_915_24,
                0.440_709_83,
                0.562_617,
                0.722_956_84,
                1.0,
            ],
        }
    }
}

/// Inputs a, b (uint8 [⌈n·k/2⌉]), absmax [⌈n·k/block_size⌉].
#[derive(Clone, Debug, PartialEq)]
pub struct MatMulBnb4 {
    /// Rows of w.
    pub n: usize,
    /// Columns of w.
    pub k: usize,
    /// Codes that share a scale: a power of two, at least 16.
    pub block_size: usize,
    /// What a code stands for.
    pub codes: FourBits,
    /// Whether a meets w's rows (y = a·wᵀ) or its columns (y = a·w).
    pub trans_b: bool,
}

fn check_block(block_size: usize) -> Result<(), Reason> {
    match block_size.is_power_of_two() && block_size >= 16 {
        true => Ok(()),
        false => Err(invalid!("blocks of {block_size}, no power of two from 16 on")),
    }
}

fn too_large(n: usize, k: usize) -> Reason {
    invalid!("a weight of {n} x {k} is larger than any memory")
}

/// `Err` if the number of elements of input `i` is known and is another.
fn check_len(inputs: &Inputs<'_>, i: usize, what: &str, want: usize) -> Result<(), Reason> {
    match inputs.opt(i).and_then(Fact::len) {
        Some(len) if len != want => Err(invalid!("{what} has {len} elements, not {want}")),
        _ => Ok(()),
    }
}

/// `a [.., k]` becomes `[.., n]`.
fn product(inputs: &Inputs<'_>, k: usize, n: usize) -> Result<Facts, Reason> {
    let a = inputs.get(0)?;
    let dtype = a.dtype()?;
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(unsupported!("a product of {dtype} with weights of few bits"));
    }
    if inputs.dtype(1)? != DType::U8 {
        return Err(invalid!("codes of type {}, not uint8", inputs.dtype(1)?));
    }
    inputs.same_dtype(0, 2)?;
    let Some(shape) = a.shape() else { return one(Fact::unranked(dtype)) };
    let Some((last, rows)) = shape.split_last() else {
        return Err(invalid!("a scalar times a weight of {n} x {k}"));
    };
    if last.value().is_some_and(|last| last != k as i64) {
        return Err(invalid!("{last} columns meet {k} rows"));
    }
    one(Fact::new(dtype, rows.iter().cloned().chain([Dim::from(n)]).collect()))
}

impl MatMulNBits {
    /// Blocks of a column.
    pub fn blocks(&self) -> usize {
        self.k.div_ceil(self.block_size)
    }

    /// Bytes of a column's zero points, packed.
    pub fn zero_bytes(&self) -> usize {
        (self.blocks() * self.bits).div_ceil(8)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        check_block(self.block_size)?;
        if !matches!(self.bits, 2 | 4 | 8) {
            return Err(unsupported!("weights of {} bits are not supported", self.bits));
        }
        let (n, blocks) = (self.n, self.blocks());
        let codes = blocks.checked_mul(self.block_size).and_then(|k| k.checked_mul(n));
        let codes = codes.and_then(|codes| codes.checked_mul(self.bits));
        let codes = codes.ok_or_else(|| too_large(n, self.k))?;
        check_len(inputs, 1, "b", codes / 8)?;
        check_len(inputs, 2, "scales", n * blocks)?;
        match inputs.opt(3).map(Fact::dtype).transpose()? {
            None => {}
            Some(DType::U8) => check_len(inputs, 3, "zero_points", n * self.zero_bytes())?,
            Some(_) => {
                inputs.same_dtype(0, 3)?;
                check_len(inputs, 3, "zero_points", n * blocks)?;
            }
        }
        if let Some(g_idx) = inputs.opt(4) {
            if g_idx.dtype()? != DType::I32 {
                return Err(invalid!("g_idx of type {}, not int32", g_idx.ty));
            }
            let len = g_idx.len();
            if len.is_some_and(|len| len != self.k && len != blocks * self.block_size) {
                return Err(invalid!("g_idx is {g_idx} where {} are needed", self.k));
            }
        }
        inputs.same_dtype(0, 5)?;
        check_len(inputs, 5, "bias", n)?;
        product(inputs, self.k, n)
    }
}

impl MatMulBnb4 {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        check_block(self.block_size)?;
        let codes = self.n.checked_mul(self.k).ok_or_else(|| too_large(self.n, self.k))?;
        check_len(inputs, 1, "b", codes.div_ceil(2))?;
        check_len(inputs, 2, "absmax", codes.div_ceil(self.block_size))?;
        match self.trans_b {
            true => product(inputs, self.k, self.n),
            false => product(inputs, self.n, self.k),
        }
    }
}

fn size(cx: &NodeCx<'_>, name: &str) -> Result<usize, Reason> {
    cx.size(name)?.ok_or_else(|| invalid!("attribute {name} is missing"))
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 6)?;
    // A least accuracy; sums are in float, the most accurate there is.
    cx.ignore(&["accuracy_level"]);
    let prepacked = cx.int("weight_prepacked")?.unwrap_or(0);
    if prepacked != 0 {
        return Err(unsupported!("weights packed for another processor (layout {prepacked})"));
    }
    let op = MatMulNBits {
        n: size(cx, "N")?,
        k: size(cx, "K")?,
        bits: cx.size("bits")?.unwrap_or(4),
        block_size: size(cx, "block_size")?,
    };
    cx.emit(op)
}

pub(super) fn import_bnb4(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    cx.ignore(&["training_mode"]);
    let codes = match cx.int("quant_type")? {
        Some(0) => FourBits::Fp4,
        Some(1) => FourBits::Nf4,
        other => return Err(invalid!("quant_type is {other:?}, not 0 or 1")),
    };
    let op = MatMulBnb4 {
        n: size(cx, "N")?,
        k: size(cx, "K")?,
        block_size: size(cx, "block_size")?,
        codes,
        trans_b: cx.flag("transB", true)?,
    };
    cx.emit(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(zero: Fact) -> Result<Facts, Reason> {
        let op = MatMulNBits { n: 3, k: 40, bits: 4, block_size: 32 };
        let a = Fact::new(DType::F32, [Dim::symbol("t"), Dim::N(40)].into_iter().collect());
        let (b, scales) = (Fact::sized(DType::U8, &[3, 2, 16]), Fact::sized(DType::F32, &[6]));
        op.infer(&Inputs::new(&[Some(&a), Some(&b), Some(&scales), Some(&zero)], 1))
    }

    #[test]
    fn the_last_block_may_be_cut_short() {
        assert_eq!(infer(Fact::sized(DType::U8, &[3])).unwrap()[0].to_string(), "float[t, 3]");
        assert!(infer(Fact::sized(DType::F32, &[3, 2])).is_ok());
        assert!(infer(Fact::sized(DType::U8, &[6])).is_err());
    }
}
