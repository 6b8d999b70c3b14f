//! DFT along an axis, and STFT: lines are gathered, transformed, scattered.
//!
//! All is double precision but the DFT of complex float32, which is single as in NumPy.
use rinfer_graph::ops::DFT;
use rinfer_graph::{C64, C128, DType, Dim, Reason, Tensor, invalid, with_dtype};

use super::fft::Fft;
use super::fft_single::{SingleFft, Way};
use super::wide::{Wide, scalar};
use crate::kernel::{Cx, Kernel};
use crate::par;

/// How DFT's lines lie in input and output: \[outer, n, inner, parts\].
#[derive(Clone, Copy)]
struct Lines {
    inner: usize,
    /// Elements along the axis, of input and output.
    n: [usize; 2],
    /// Numbers an element has, of input and output.
    parts: [usize; 2],
}

pub(super) fn compile(op: &DFT, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, y) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let int = |i: usize| -> Result<Option<i64>, Reason> {
        let Some(fact) = cx.opt(i) else { return Ok(None) };
        let ints = fact.ints().ok_or_else(|| invalid!("input {i} is not known beforehand"))?;
        ints.first().copied().map(Some).ok_or_else(|| invalid!("input {i} is empty"))
    };
    let (length, axis) = (int(1)?.map(Some), int(2)?.unwrap_or(-2));
    let dims: Vec<Dim> = x.iter().map(|&n| Dim::from(n)).collect();
    let resolved = op.resolve(&dims, length, Some(axis))?;
    let (axis, n) = resolved.ok_or_else(|| invalid!("the axis is not known"))?;
    let n = n.size().filter(|&n| n > 0).ok_or_else(|| invalid!("a transform of length {n}"))?;
    let last = x.len() - 1;
    let lines = Lines {
        inner: x[axis + 1..last].iter().product(),
        n: [x[axis], y[axis]],
        parts: [x[last], y[last]],
    };
    let op = op.clone();
    let single = cx.dtype(0)? == DType::F32 && lines.parts[0] == 2 && !op.onesided;
    let single = if single { SingleFft::new(n) } else { None };
    let fft = single.map_or_else(|| Plan::Double(Fft::new(n)), Plan::Single);
    Ok(Kernel::new(move |args| {
        let x = args.input(0)?;
        let y = &mut args.outputs[0];
        args.cx.check()?;
        with_dtype!(x.dtype(), [f32, f64, half::f16, half::bf16], T => {
            transform(&op, &fft, n, lines, x.as_slice::<T>(), y.as_mut_slice::<T>());
            Ok(())
        }, else Err(invalid!("a signal of type {}", x.dtype())))
    }))
}

/// How lines of one length are transformed.
enum Plan {
    Single(SingleFft),
    Double(Fft),
}

impl Plan {
    /// Transforms `line` into `made`; may destroy `line`.
    fn run(&self, inverse: bool, line: &mut [C128], made: &mut [C128]) {
        match self {
            Plan::Double(fft) if inverse => fft.inverse(line, made),
            Plan::Double(fft) => fft.forward(line, made),
            Plan::Single(fft) => {
                let narrow = |z: &C128| C64 { re: z.re as f32, im: z.im as f32 };
                let mut x: Vec<C64> = line.iter().map(narrow).collect();
                let way = if inverse { Way::Inverse } else { Way::Forward };
                fft.run(way, &mut x, &mut vec![C64::default(); line.len()]);
                for (y, x) in made.iter_mut().zip(&x) {
                    *y = C128 { re: x.re.into(), im: x.im.into() };
                }
            }
        }
    }
}

fn transform<T: Wide>(op: &DFT, fft: &Plan, n: usize, lines: Lines, x: &[T], y: &mut [T]) {
    let Lines { inner, n: [from, to], parts: [px, py] } = lines;
    let (x_len, y_len) = (from * inner * px, to * inner * py);
    let cost = inner.saturating_mul(n).saturating_mul(20);
    par::chunks_mut(y, y_len, par::grain(cost), |outer, y| {
        let x = &x[outer * x_len..][..x_len];
        let mut line = vec![C128::default(); n];
        let mut made = line.clone();
        for i in 0..inner {
            line.fill(C128::default());
            let half = op.inverse && op.onesided;
            let given = if half { from.min(n / 2 + 1) } else { from.min(n) };
            for (k, z) in line[..given].iter_mut().enumerate() {
                *z = complex(&x[(k * inner + i) * px..][..px]);
            }
            if half {
                mirror(&mut line);
            }
            fft.run(op.inverse, &mut line, &mut made);
            for (k, z) in made[..to].iter().enumerate() {
                write(*z, &mut y[(k * inner + i) * py..][..py]);
            }
        }
    });
}

/// The upper half of the spectrum of a real signal, from the lower.
fn mirror(spectrum: &mut [C128]) {
    let n = spectrum.len();
    spectrum[0].im = 0.0;
    for k in 1..n.div_ceil(2) {
        spectrum[n - k] = C128 { re: spectrum[k].re, im: -spectrum[k].im };
    }
    if n % 2 == 0 {
        spectrum[n / 2].im = 0.0;
    }
}

fn complex<T: Wide>(parts: &[T]) -> C128 {
    match *parts {
        [re] => C128 { re: re.wide(), im: 0.0 },
        [re, im, ..] => C128 { re: re.wide(), im: im.wide() },
        [] => C128::default(),
    }
}

fn write<T: Wide>(z: C128, parts: &mut [T]) {
    match parts {
        [re] => *re = T::narrow(z.re),
        [re, im, ..] => (*re, *im) = (T::narrow(z.re), T::narrow(z.im)),
        [] => {}
    }
}

pub(super) fn compile_stft(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, y) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let int = |i: usize| cx.opt(i).and_then(|fact| fact.ints()?.first().copied());
    let (length, parts) = (x[1], x[2]);
    if parts != 1 && parts != 2 {
        return Err(invalid!("complex numbers of {parts} parts"));
    }
    // Without window and length a frame is the whole signal.
    let n = match (int(3), cx.opt(2)) {
        (Some(n), _) => usize::try_from(n).map_err(|_| invalid!("frames of length {n}"))?,
        (None, Some(_)) => cx.sizes(2)?[0],
        (None, None) => length,
    };
    let (frames, bins) = (y[1], y[2]);
    let bad = n == 0 || bins > n;
    if bad {
        return Err(invalid!("{bins} bins of frames of length {n}"));
    }
    let fft = Fft::new(n);
    Ok(Kernel::new(move |args| {
        let step = scalar(args.input(1)?)? as usize;
        let end = frames.saturating_sub(1).saturating_mul(step).saturating_add(n);
        if frames > 0 && end > length {
            return Err(invalid!("{frames} frames of length {n}, {step} apart, of {length}"));
        }
        let window = args.opt(2).map(weights).transpose()?.unwrap_or_else(|| vec![1.0; n]);
        if window.len() != n {
            return Err(invalid!("a window of length {} for frames of {n}", window.len()));
        }
        let x = args.input(0)?;
        let y = &mut args.outputs[0];
        args.cx.check()?;
        with_dtype!(x.dtype(), [f32, f64, half::f16, half::bf16], T => {
            let (x, y) = (x.as_slice::<T>(), y.as_mut_slice::<T>());
            par::chunks_mut(y, bins * 2, par::grain(20 * n), |i, y| {
                let start = (i / frames * length + i % frames * step) * parts;
                let weighted = |(x, &w): (&[T], &f64)| {
                    let z = complex(x);
                    C128 { re: z.re * w, im: z.im * w }
                };
                let frame = x[start..][..n * parts].chunks_exact(parts);
                let line: Vec<C128> = frame.zip(&window).map(weighted).collect();
                let mut made = vec![C128::default(); n];
                fft.forward(&line, &mut made);
                made.iter().zip(y.chunks_exact_mut(2)).for_each(|(&z, y)| write(z, y));
            });
            Ok(())
        }, else Err(invalid!("a signal of type {}", x.dtype())))
    }))
}

fn weights(window: &Tensor) -> Result<Vec<f64>, Reason> {
    with_dtype!(window.dtype(), [f32, f64, half::f16, half::bf16], T => {
        Ok(window.as_slice::<T>().iter().map(|w| w.wide()).collect())
    }, else Err(invalid!("a window of type {}", window.dtype())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run_opt, run1};
    use crate::simd::Isa;
    use rinfer_graph::ops::STFT;

    fn dft(op: DFT, x: Tensor, length: Option<i64>, axis: i64) -> Tensor {
        let length = length.map(|n| Tensor::scalar(n).into());
        let inputs = [Some(x.into()), length, Some(Tensor::scalar(axis).into())];
        run_opt(Isa::available()[0], op, &inputs, 1).unwrap().remove(0).into_tensor().unwrap()
    }

    #[test]
    fn half_a_spectrum_comes_back_as_the_signal() {
        for n in [7usize, 8] {
            let x: Vec<f64> = (0..2 * n * 3).map(|i| ((i * i) % 11) as f64).collect();
            let x = Tensor::from_slice(&[2, n, 3, 1], &x);
            let there = dft(DFT { inverse: false, onesided: true }, x.clone(), None, 1);
            assert_eq!(there.shape(), [2, n / 2 + 1, 3, 2]);
            let back = DFT { inverse: true, onesided: true };
            let back = dft(back, there, Some(n as i64), 1);
            let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
            assert!(back.as_slice::<f64>().iter().zip(x.as_slice()).all(close));
        }
    }

    #[test]
    fn signals_are_cut_or_padded_to_the_length() {
        let x = Tensor::from_slice(&[3, 1], &[1f32, 2.0, 4.0]);
        let op = DFT { inverse: false, onesided: false };
        let y = dft(op.clone(), x.clone(), Some(2), 0);
        assert_eq!(y.as_slice::<f32>(), [3.0, 0.0, -1.0, 0.0]);
        let y = dft(op, x, Some(4), 0);
        assert_eq!(y.as_slice::<f32>(), [7.0, 0.0, -3.0, -2.0, 3.0, 0.0, -3.0, 2.0]);
    }

    #[test]
    fn frames_of_a_complex_signal_are_weighted() {
        let x = Tensor::from_slice(&[1, 3, 2], &[1f32, 1.0, 2.0, 0.0, 0.0, 3.0]);
        let window = Tensor::vector(&[1f32, 0.5]);
        let y =
            run1(Isa::available()[0], STFT { onesided: false }, &[x, Tensor::scalar(1i64), window]);
        let want = [2f32, 1.0, 0.0, 1.0, 2.0, 1.5, 2.0, -1.5];
        assert_eq!(y.unwrap(), Tensor::from_slice(&[1, 2, 2, 2], &want));
    }
}
