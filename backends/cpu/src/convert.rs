//! f16 and bf16 to f32 and back, slice by slice: kernels compute these types through f32.

use half::{bf16, f16};
use rinfer_graph::{DType, Element, Reason, Tensor, unsupported};

use crate::simd::{F32s, Isa};

/// A type that kernels compute in f32.
pub trait Float: Element {
    /// `y = x`, as far as both go; exact.
    fn widen(isa: Isa, x: &[Self], y: &mut [f32]);
    /// `y = x` rounded to nearest even, as far as both go.
    fn narrow(isa: Isa, x: &[f32], y: &mut [Self]);
}

impl Float for f32 {
    fn widen(_: Isa, x: &[f32], y: &mut [f32]) {
        let n = x.len().min(y.len());
        y[..n].copy_from_slice(&x[..n]);
    }
    fn narrow(_: Isa, x: &[f32], y: &mut [f32]) {
        let n = x.len().min(y.len());
        y[..n].copy_from_slice(&x[..n]);
    }
}

macro_rules! halves {
    ($($H:ident: $load:ident, $store:ident, $widen:ident, $narrow:ident;)*) => { $(
        crate::simd_fn! {
            fn $widen(s: S, x: &[$H], y: &mut [f32]) {
                let n = x.len().min(y.len());
                let mut xs = x[..n].chunks_exact(S::LANES);
                let mut ys = y[..n].chunks_exact_mut(S::LANES);
                for (x, y) in (&mut xs).zip(&mut ys) {
                    s.$load(x).store(y);
                }
                for (x, y) in xs.remainder().iter().zip(ys.into_remainder()) {
                    *y = x.to_f32();
                }
            }
        }
        crate::simd_fn! {
            fn $narrow(s: S, x: &[f32], y: &mut [$H]) {
                let n = x.len().min(y.len());
                let mut xs = x[..n].chunks_exact(S::LANES);
                let mut ys = y[..n].chunks_exact_mut(S::LANES);
                for (x, y) in (&mut xs).zip(&mut ys) {
                    s.$store(s.load(x), y);
                }
                for (x, y) in xs.remainder().iter().zip(ys.into_remainder()) {
                    *y = $H::from_f32(*x);
                }
            }
        }
        impl Float for $H {
            fn widen(isa: Isa, x: &[$H], y: &mut [f32]) {
                $widen(isa, x, y)
            }
            fn narrow(isa: Isa, x: &[f32], y: &mut [$H]) {
                $narrow(isa, x, y)
            }
        }
    )* };
}
halves! {
    f16: load_f16, store_f16, widen_f16, narrow_f16;
    bf16: load_bf16, store_bf16, widen_bf16, narrow_bf16;
}

/// The elements of an f16, bf16 or f32 tensor from `start` on, as many as `y` has.
///
/// # Panics
/// The tensor has fewer elements.
pub fn read(isa: Isa, x: &Tensor, start: usize, y: &mut [f32]) -> Result<(), Reason> {
    let end = start + y.len();
    match x.dtype() {
        DType::F32 => f32::widen(isa, &x.as_slice()[start..end], y),
        DType::F16 => f16::widen(isa, &x.as_slice()[start..end], y),
        DType::BF16 => bf16::widen(isa, &x.as_slice()[start..end], y),
        dtype => return Err(unsupported!("{dtype} is not computed in f32")),
    }
    Ok(())
}

/// Replaces the elements of an f16, bf16 or f32 tensor from `start` on, as many as `x` has.
///
/// # Panics
/// The tensor has fewer elements.
pub fn write(isa: Isa, x: &[f32], y: &mut Tensor, start: usize) -> Result<(), Reason> {
    let end = start + x.len();
    match y.dtype() {
        DType::F32 => f32::narrow(isa, x, &mut y.as_mut_slice()[start..end]),
        DType::F16 => f16::narrow(isa, x, &mut y.as_mut_slice()[start..end]),
        DType::BF16 => bf16::narrow(isa, x, &mut y.as_mut_slice()[start..end]),
        dtype => return Err(unsupported!("{dtype} is not computed in f32")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_isa_rounds_as_the_half_crate_does() {
        let x: Vec<f32> = (0..301).map(|i| (i as f32 - 150.0).powi(3) * 0.37).collect();
        for isa in Isa::available() {
            let (mut h, mut b) = (vec![f16::ZERO; 301], vec![bf16::ZERO; 301]);
            f16::narrow(isa, &x, &mut h);
            bf16::narrow(isa, &x, &mut b);
            let mut y = vec![0.0; 301];
            f16::widen(isa, &h, &mut y);
            assert!(x.iter().zip(&y).all(|(&x, &y)| f16::from_f32(x).to_f32() == y));
            bf16::widen(isa, &b, &mut y);
            assert!(x.iter().zip(&y).all(|(&x, &y)| bf16::from_f32(x).to_f32() == y));
        }
    }

    #[test]
    fn tensors_are_read_and_written_in_parts() {
        let x = Tensor::vector(&[1.0, 2.0, 3.0].map(f16::from_f32));
        let mut part = [0.0; 2];
        read(Isa::best(), &x, 1, &mut part).unwrap();
        assert_eq!(part, [2.0, 3.0]);
        let mut y = x.clone();
        write(Isa::best(), &part, &mut y, 0).unwrap();
        assert_eq!(y.as_slice::<f16>(), [2.0, 3.0, 3.0].map(f16::from_f32));
        assert!(read(Isa::best(), &Tensor::scalar(1i32), 0, &mut part[..1]).is_err());
    }
}
