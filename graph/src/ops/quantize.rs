//! QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: between numbers and scaled integers.
//!
//! y = saturate(round(x / scale) + zero_point); x = (y - zero_point) · scale
//!
//! scale and zero_point: one for all, one for each index of `axis`, or (`block_size` > 0) one for
//! each block along `axis` — then they have x's shape but for ⌈size / block_size⌉ along it.

use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::show;
use crate::{DType, Dim, Fact, Facts, Reason, ValueId, invalid, unsupported};

/// Inputs x, scale, zero_point (optional).
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeLinear {
    /// The axis along which scales differ, if they do.
    pub axis: Axis,
    /// Elements that share a scale along the axis; 0 where scales are not blocked.
    pub block_size: usize,
    /// The result's type where no zero point says it; uint8 if neither does.
    pub output: Option<DType>,
    /// What float8 does out of range: the largest finite value, or infinity or NaN.
    pub saturate: bool,
    /// The type in which x / scale is rounded; the scale's if it is none.
    pub precision: Option<DType>,
}

/// Inputs x, scale, zero_point (optional).
#[derive(Clone, Debug, PartialEq)]
pub struct DequantizeLinear {
    /// The axis along which scales differ, if they do.
    pub axis: Axis,
    /// Elements that share a scale along the axis; 0 where scales are not blocked.
    pub block_size: usize,
    /// The result's type; the scale's if it is none.
    pub output: Option<DType>,
}

/// x: float → y: uint8, scale: float, zero_point: uint8, from the range of x with 0 in it.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicQuantizeLinear;

/// How scales lie along a tensor: which one belongs to which element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Elements after the axis; 1 if there is one scale for all.
    pub inner: usize,
    /// Size of the axis.
    pub size: usize,
    /// Scales along the axis.
    pub scales: usize,
    /// Elements along the axis that share a scale.
    pub block: usize,
    /// Whether positions off the axis have scales of their own.
    pub own: bool,
}

impl Blocks {
    /// The arrangement of scales of shape `scale` over a tensor of shape `x`.
    pub fn new(
        x: &[usize],
        scale: &[usize],
        axis: Axis,
        block_size: usize,
    ) -> Result<Blocks, Reason> {
        let one_for_all = Blocks { inner: 1, size: 1, scales: 1, block: 1, own: false };
        if block_size == 0 && scale.iter().all(|&n| n == 1) {
            return Ok(one_for_all);
        }
        let axis = axis.resolve(x.len())?;
        let (size, inner) = (x[axis], x[axis + 1..].iter().product());
        if block_size == 0 {
            return match scale {
                [n] if *n == size => Ok(Blocks { inner, size, scales: size, block: 1, own: false }),
                _ => Err(invalid!("scales of shape {scale:?} for axis {axis} of {x:?}")),
            };
        }
        let scales = size.div_ceil(block_size);
        let fits = |(i, (&s, &n)): (usize, (&usize, &usize))| {
            if i == axis { s == scales } else { s == n }
        };
        if scale.len() != x.len() || !scale.iter().zip(x).enumerate().all(fits) {
            return Err(invalid!(
                "scales of shape {scale:?} for blocks of {block_size} along axis {axis} of {x:?}"
            ));
        }
        Ok(Blocks { inner, size, scales, block: block_size, own: true })
    }

    /// Which scale belongs to element `i`.
    pub fn at(&self, i: usize) -> usize {
        let (off, along) = (i / self.inner, i / self.inner % self.size);
        match self.own {
            false => along,
            true => {
                (off / self.size * self.scales + along / self.block) * self.inner + i % self.inner
            }
        }
    }
}

/// Checks scale and zero point against x, as far as their shapes are known.
fn check(inputs: &Inputs<'_>, axis: Axis, block_size: usize) -> Result<(), Reason> {
    let (x, scale) = (inputs.get(0)?, inputs.get(1)?);
    if let (Some(x), Some(scale)) = (x.sizes(), scale.sizes()) {
        Blocks::new(&x, &scale, axis, block_size)?;
    }
    let zero_point = inputs.opt(2).and_then(Fact::shape);
    if let (Some(scale), Some(zero_point)) = (scale.shape(), zero_point) {
        let ones = |s: &[Dim]| s.iter().all(|d| d.is(1));
        let same = |(a, b): (&Dim, &Dim)| a.value().is_none() || b.value().is_none() || a == b;
        let equal = scale.len() == zero_point.len() && scale.iter().zip(zero_point).all(same);
        if !(equal || ones(scale) && ones(zero_point)) {
            return Err(invalid!(
                "scales of shape {} with zero points of shape {}",
                show(scale),
                show(zero_point)
            ));
        }
    }
    Ok(())
}

/// Whether numbers are quantized to this type.
fn is_quantized(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, U2 | I2 | U4 | I4 | U8 | I8 | U16 | I16 | F4E2M1)
        || (dtype.is_float8() && dtype != F8E8M0)
}

impl QuantizeLinear {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        use DType::*;
        let (x, scale) = (inputs.dtype(0)?, inputs.dtype(1)?);
        if !matches!(x, F32 | F16 | BF16 | I32) || !matches!(scale, F32 | F16 | BF16 | I32 | F8E8M0)
        {
            return Err(unsupported!("quantizing {x} with scales of {scale} is not supported"));
        }
        if let Some(precision) = self.precision
            && !matches!(precision, F32 | F16 | BF16)
        {
            return Err(unsupported!("quantizing in the precision of {precision}"));
        }
        check(inputs, self.axis, self.block_size)?;
        let zero_point = inputs.opt(2).map(Fact::dtype).transpose()?;
        if let (Some(zero_point), Some(output)) = (zero_point, self.output)
            && zero_point != output
        {
            return Err(invalid!("output_dtype {output} with zero points of {zero_point}"));
        }
        let output = zero_point.or(self.output).unwrap_or(U8);
        if !is_quantized(output) {
            return Err(unsupported!("quantizing to {output} is not supported"));
        }
        one(Fact { shape: inputs.get(0)?.shape.clone(), ..Fact::unranked(output) })
    }
}

impl DequantizeLinear {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        use DType::*;
        let (x, scale) = (inputs.dtype(0)?, inputs.dtype(1)?);
        if !is_quantized(x) && x != I32 {
            return Err(unsupported!("dequantizing {x} is not supported"));
        }
        inputs.same_dtype(0, 2)?;
        check(inputs, self.axis, self.block_size)?;
        let output = match (self.output, scale) {
            (Some(output), _) => output,
            (None, F8E8M0) => F32,
            (None, scale) => scale,
        };
        if !matches!(scale, F32 | F16 | BF16 | F8E8M0) || !matches!(output, F32 | F16 | BF16) {
            return Err(unsupported!("dequantizing to {output} with scales of {scale}"));
        }
        one(Fact { shape: inputs.get(0)?.shape.clone(), ..Fact::unranked(output) })
    }
}

impl DynamicQuantizeLinear {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        if x.dtype()? != DType::F32 {
            return Err(unsupported!("dynamic quantization of {}", x.ty));
        }
        let y = Fact { shape: x.shape.clone(), ..Fact::unranked(DType::U8) };
        Ok([y, Fact::sized(DType::F32, &[]), Fact::sized(DType::U8, &[])].into_iter().collect())
    }
}

/// `(x - zero) · scale` with one scale, as a step of a composition.
pub(super) fn dequantized(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
) -> Result<ValueId, Reason> {
    let op = DequantizeLinear { axis: Axis(1), block_size: 0, output: None };
    Ok(cx.push_n(op, &[Some(x), Some(scale), zero], 1)?[0])
}

/// Codes of `x` in this type, with one scale, as a step of a composition.
pub(super) fn quantized(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    dtype: DType,
) -> Result<ValueId, Reason> {
    let op = QuantizeLinear {
        axis: Axis(1),
        block_size: 0,
        output: Some(dtype),
        saturate: true,
        precision: None,
    };
    Ok(cx.push_n(op, &[Some(x), Some(scale), zero], 1)?[0])
}

/// The attribute `name`, where 0 means that there is no type.
fn dtype_or_none(cx: &NodeCx<'_>, name: &str) -> Result<Option<DType>, Reason> {
    match cx.int(name)? {
        None | Some(0) => Ok(None),
        Some(_) => cx.dtype_attr(name),
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let op = QuantizeLinear {
        axis: Axis(cx.int("axis")?.unwrap_or(1)),
        block_size: cx.size("block_size")?.unwrap_or(0),
        output: dtype_or_none(cx, "output_dtype")?,
        saturate: cx.flag("saturate", true)?,
        precision: dtype_or_none(cx, "precision")?,
    };
    cx.emit(op)
}

pub(super) fn import_dequantize(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let op = DequantizeLinear {
        axis: Axis(cx.int("axis")?.unwrap_or(1)),
        block_size: cx.size("block_size")?.unwrap_or(0),
        output: dtype_or_none(cx, "output_dtype")?,
    };
    cx.emit(op)
}

pub(super) fn import_dynamic(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.emit(DynamicQuantizeLinear)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales(x: &[usize], scale: &[usize], axis: i64, block: usize) -> Option<Vec<usize>> {
        let blocks = Blocks::new(x, scale, Axis(axis), block).ok()?;
        Some((0..x.iter().product()).map(|i| blocks.at(i)).collect())
    }

    #[test]
    fn one_scale_serves_all() {
        assert_eq!(scales(&[2, 2], &[], 5, 0), Some(vec![0; 4]));
        assert_eq!(scales(&[2, 2], &[1], 1, 0), Some(vec![0; 4]));
        assert_eq!(scales(&[], &[], 1, 0), Some(vec![0]));
    }

    #[test]
    fn scales_follow_the_axis() {
        assert_eq!(scales(&[2, 2], &[2], 0, 0), Some(vec![0, 0, 1, 1]));
        assert_eq!(scales(&[2, 2], &[2], -1, 0), Some(vec![0, 1, 0, 1]));
        assert_eq!(scales(&[2, 2], &[3], 1, 0), None);
    }

    #[test]
    fn a_block_shares_a_scale() {
        assert_eq!(scales(&[1, 3], &[1, 2], 1, 2), Some(vec![0, 0, 1]));
        assert_eq!(scales(&[3, 2], &[2, 2], 0, 2), Some(vec![0, 1, 0, 1, 2, 3]));
        assert_eq!(scales(&[3, 2], &[3, 2], 0, 2), None);
    }

    #[test]
    fn the_result_is_what_the_zero_point_is() {
        let op = QuantizeLinear {
            axis: Axis(1),
            block_size: 0,
            output: None,
            saturate: true,
            precision: None,
        };
        let x = Fact::sized(DType::F32, &[3]);
        let (scale, zero) = (Fact::sized(DType::F32, &[]), Fact::sized(DType::I4, &[]));
        let made = |inputs: &[Option<&Fact>]| {
            op.infer(&Inputs::new(inputs, 1)).map(|facts| facts[0].dtype().unwrap())
        };
        assert_eq!(made(&[Some(&x), Some(&scale)]), Ok(DType::U8));
        assert_eq!(made(&[Some(&x), Some(&scale), Some(&zero)]), Ok(DType::I4));
        assert!(made(&[Some(&x), Some(&scale), Some(&x)]).is_err());
    }
}
