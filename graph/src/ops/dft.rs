//! Fourier transforms: DFT, y(k) = Σ x(n) e^(-2πi·kn/N), and STFT, of windows sliding over x.
use super::{Axis, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason, Tensor, invalid};

/// x \[.., n, .., 1 or 2\], dft_length, axis → \[.., dft_length, .., 2\].
///
/// The last axis holds real and imaginary part. Without input 1 the length is the axis's; without
/// input 2 the axis is the last but one.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::upper_case_acronyms)]
pub struct DFT {
    /// Whether the sign of the exponent is positive, and the sum divided by its length.
    pub inverse: bool,
    /// Whether the spectrum of a real signal is given (inverse) or made (forward) only up to half
    /// its length; the inverse's result is real then.
    pub onesided: bool,
}

impl DFT {
    /// The axis and the length of the transform; `None` if they depend on unknown content.
    pub fn resolve(
        &self,
        shape: &[Dim],
        length: Option<Option<i64>>,
        axis: Option<i64>,
    ) -> Result<Option<(usize, Dim)>, Reason> {
        let rank = shape.len();
        let Some(axis) = axis else { return Ok(None) };
        let axis = Axis(axis).resolve(rank)?;
        if axis + 1 == rank {
            return Err(invalid!("axis {axis} holds the parts of complex numbers"));
        }
        Ok(match length {
            None if self.inverse && self.onesided => {
                let n = shape[axis].sub(&Dim::N(1)).scale(2);
                Some((axis, if n.value().is_some_and(|n| n < 1) { Dim::N(0) } else { n }))
            }
            None => Some((axis, shape[axis].clone())),
            Some(Some(n)) if n >= 1 => Some((axis, Dim::N(n))),
            Some(Some(n)) => return Err(invalid!("a transform of length {n}")),
            Some(None) => Some((axis, Dim::Unknown)),
        })
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = float(x)?;
        let Some(shape) = x.shape() else { return one(Fact::unranked(dtype)) };
        let parts = match shape {
            [_, .., parts] => parts,
            _ => return Err(invalid!("rank {} where at least 2 is needed", shape.len())),
        };
        match parts.value() {
            None | Some(1) => {}
            Some(2) if self.onesided && !self.inverse => {
                return Err(invalid!("half a spectrum of a complex signal"));
            }
            Some(2) => {}
            Some(n) => return Err(invalid!("complex numbers of {n} parts")),
        }
        let length = inputs.opt(1).map(scalar).transpose()?;
        let axis = inputs.opt(2).map_or(Ok(Some(-2)), scalar)?;
        let mut out: Shape = shape.into();
        *out.last_mut().expect("of rank 2 at least") =
            Dim::N(if self.inverse && self.onesided { 1 } else { 2 });
        match self.resolve(shape, length, axis)? {
            None => {
                let last = out.len() - 1;
                out[..last].fill(Dim::Unknown);
            }
            Some((axis, n)) if self.onesided && !self.inverse => out[axis] = half_spectrum(&n),
            Some((axis, n)) => out[axis] = n,
        }
        one(Fact::new(dtype, out))
    }
}

/// ⌊n / 2⌋ + 1
fn half_spectrum(n: &Dim) -> Dim {
    n.value().map_or(Dim::Unknown, |n| Dim::N(n / 2 + 1))
}

fn float(x: &Fact) -> Result<DType, Reason> {
    match x.dtype()? {
        dtype @ (DType::F32 | DType::F64 | DType::F16 | DType::BF16) => Ok(dtype),
        other => Err(invalid!("a signal of type {other}")),
    }
}

/// The integer that a scalar holds, if it is known.
fn scalar(x: &Fact) -> Result<Option<i64>, Reason> {
    match x.ints().as_deref() {
        None => Ok(None),
        Some(&[n]) => Ok(Some(n)),
        Some(ints) => Err(invalid!("{} integers where one is needed", ints.len())),
    }
}

/// x \[batch, n, 1 or 2\], frame_step, window \[w\], frame_length → \[batch, frames, bins, 2\].
///
/// Without input 3 a frame is as long as the window, without input 2 the window is all ones.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::upper_case_acronyms)]
pub struct STFT {
    /// Whether only the first ⌊frame_length / 2⌋ + 1 bins are made; the signal must be real.
    pub onesided: bool,
}

impl STFT {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = float(x)?;
        inputs.check_rank(0, 3)?;
        inputs.same_dtype(0, 2)?;
        inputs.check_rank(2, 1)?;
        let step = scalar(inputs.get(1)?)?;
        if step.is_some_and(|n| n < 1) {
            return Err(invalid!("frames {} apart", step.unwrap_or(0)));
        }
        let shape: Shape = match x.shape() {
            Some(shape) => shape.into(),
            None => smallvec::smallvec![Dim::Unknown, Dim::Unknown, Dim::Unknown],
        };
        if self.onesided && shape[2].is(2) {
            return Err(invalid!("half a spectrum of a complex signal"));
        }
        let window = inputs.shape(2).ok().flatten().map(|s| s[0].clone());
        let length = match inputs.opt(3).map(scalar).transpose()? {
            Some(n) => n.map_or(Dim::Unknown, Dim::N),
            None if inputs.opt(2).is_some() => window.clone().unwrap_or(Dim::Unknown),
            None => shape[1].clone(),
        };
        if let (Some(n), Some(w)) = (length.value(), window.and_then(|w| w.value()))
            && n != w
        {
            return Err(invalid!("a window of length {w} for frames of length {n}"));
        }
        let frames = match (shape[1].value(), length.value(), step) {
            (_, Some(n), _) if n < 1 => return Err(invalid!("frames of length {n}")),
            (Some(all), Some(n), _) if n > all => {
                return Err(invalid!("frames of length {n} of a signal of length {all}"));
            }
            (Some(all), Some(n), Some(step)) => Dim::N((all - n) / step + 1),
            _ => Dim::Unknown,
        };
        let bins = if self.onesided { half_spectrum(&length) } else { length };
        one(Fact::new(dtype, [shape[0].clone(), frames, bins, Dim::N(2)].into_iter().collect()))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 3)?;
    if cx.version < 20 {
        let axis = cx.int("axis")?.unwrap_or(1);
        let axis = cx.constant(Tensor::scalar(axis));
        cx.set_input(2, axis);
    }
    let (inverse, onesided) = (cx.flag("inverse", false)?, cx.flag("onesided", false)?);
    cx.emit(DFT { inverse, onesided })
}

pub(super) fn import_stft(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 4)?;
    let onesided = cx.flag("onesided", true)?;
    cx.emit(STFT { onesided })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(op: DFT, x: &[usize], length: Option<i64>, axis: i64) -> Result<Vec<usize>, Reason> {
        let x = Fact::sized(DType::F32, x);
        let length = length.map(|n| Fact::constant(Tensor::scalar(n)));
        let axis = Fact::constant(Tensor::scalar(axis));
        let y = op.infer(&Inputs::new(&[Some(&x), length.as_ref(), Some(&axis)], 1))?;
        Ok(y[0].sizes().unwrap().to_vec())
    }

    #[test]
    fn half_a_spectrum_and_back() {
        let op = |inverse, onesided| DFT { inverse, onesided };
        assert_eq!(shape(op(false, true), &[1, 10, 4, 1], None, 1).unwrap(), [1, 6, 4, 2]);
        assert_eq!(shape(op(true, true), &[1, 6, 4, 2], None, 1).unwrap(), [1, 10, 4, 1]);
        assert_eq!(shape(op(false, false), &[1, 10, 4, 1], Some(7), -2).unwrap(), [1, 10, 7, 2]);
        assert!(shape(op(false, true), &[1, 10, 2], None, 1).is_err());
        assert!(shape(op(false, false), &[1, 10, 2], None, 2).is_err());
        assert!(shape(op(false, false), &[1, 10, 2], Some(0), 1).is_err());
    }

    #[test]
    fn only_whole_frames_count() {
        let x = Fact::sized(DType::F32, &[2, 128, 1]);
        let step = Fact::constant(Tensor::scalar(8i64));
        let length = Fact::constant(Tensor::scalar(16i64));
        let op = STFT { onesided: true };
        let y = op.infer(&Inputs::new(&[Some(&x), Some(&step), None, Some(&length)], 1)).unwrap();
        assert_eq!(y[0].sizes().unwrap()[..], [2, 15, 9, 2]);
    }
}
