//! Windows and mel filters, computed in double precision.
use std::f64::consts::PI;

use rinfer_graph::ops::{CosineWindow, MelWeightMatrix};
use rinfer_graph::{Reason, invalid};

use super::wide::{Wide, scalar, with_wide};
use crate::kernel::Kernel;

pub(super) fn compile(op: &CosineWindow) -> Result<Kernel, Reason> {
    let op = op.clone();
    Ok(Kernel::new(move |args| {
        let y = &mut args.outputs[0];
        with_wide!(y.dtype(), T => {
            let y = y.as_mut_slice::<T>();
            let size = y.len();
            for (n, y) in y.iter_mut().enumerate() {
                *y = T::narrow(weight(&op, n, size));
            }
            Ok(())
        }, else Err(invalid!("a window of type {}", op.dtype)))
    }))
}

fn weight(op: &CosineWindow, n: usize, size: usize) -> f64 {
    let len = if op.periodic { size } else { size - 1 };
    if len == 0 {
        // A window of one element is that element: there is nothing to fade.
        return 1.0;
    }
    let turn = 2.0 * PI * n as f64 / len as f64;
    let [a, b, c] = op.terms;
    a - b * turn.cos() + c * (2.0 * turn).cos()
}

pub(super) fn compile_mel(op: &MelWeightMatrix) -> Result<Kernel, Reason> {
    let dtype = op.dtype;
    Ok(Kernel::new(move |args| {
        let mut given = [0.0; 5];
        for (i, given) in given.iter_mut().enumerate() {
            *given = scalar(args.input(i)?)?;
        }
        let [bins, length, rate, low, high] = given;
        let edges = edges(bins as usize, length, rate, low, high)?;
        let y = &mut args.outputs[0];
        let shape = [y.shape().first().copied().unwrap_or(0), bins as usize];
        if y.shape() != shape {
            return Err(invalid!("{bins} mel bins for an output of shape {:?}", y.shape()));
        }
        if let Some(&edge) = edges.iter().find(|&&edge| edge > shape[0]) {
            return Err(invalid!("a filter reaches bin {edge} of {}", shape[0]));
        }
        let mut made = vec![0.0; y.len()];
        fill(&edges, shape, &mut made)?;
        with_wide!(dtype, T => {
            let y = y.as_mut_slice::<T>();
            y.iter_mut().zip(&made).for_each(|(y, &made)| *y = T::narrow(made));
            Ok(())
        }, else Err(invalid!("weights of type {dtype}")))
    }))
}

/// The bins of the spectrum at which filters begin, peak and end: filter i at i, i + 1, i + 2.
fn edges(bins: usize, length: f64, rate: f64, low: f64, high: f64) -> Result<Vec<usize>, Reason> {
    let ordered = rate > 0.0 && (0.0..=high).contains(&low) && high.is_finite();
    if !ordered {
        return Err(invalid!("filters from {low} to {high} Hz at {rate} samples a second"));
    }
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
    let points = bins.saturating_add(2);
    let step = (mel(high) - mel(low)) / points as f64;
    let edge = |i: usize| {
        let hertz = 700.0 * ((i as f64 * step + mel(low)) / 2595.0 * 10f64.ln()).exp_m1();
        ((length + 1.0) * hertz / rate).floor() as usize
    };
    Ok((0..points).map(edge).collect())
}

/// A triangle in each column, 1 at its peak.
fn fill(edges: &[usize], [rows, bins]: [usize; 2], y: &mut [f64]) -> Result<(), Reason> {
    for (i, edge) in edges.windows(3).enumerate() {
        let [start, peak, end] = [edge[0], edge[1], edge[2]];
        if peak >= rows {
            return Err(invalid!("a filter has its peak at bin {peak} of {rows}"));
        }
        for row in start..peak {
            y[row * bins + i] = (row - start) as f64 / (peak - start) as f64;
        }
        y[peak * bins + i] = 1.0;
        for row in peak..end {
            y[row * bins + i] = (end - row) as f64 / (end - peak) as f64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::{DType, Tensor};

    fn window(periodic: bool, dtype: DType, size: i64) -> Tensor {
        let op = CosineWindow { terms: [0.5, 0.5, 0.0], periodic, dtype };
        run1(Isa::available()[0], op, &[Tensor::scalar(size)]).unwrap()
    }

    #[test]
    fn a_periodic_window_would_begin_again_after_its_end() {
        let y = window(true, DType::F64, 4);
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
        assert!(y.as_slice::<f64>().iter().zip(&[0.0, 0.5, 1.0, 0.5]).all(close));
        let y = window(false, DType::F64, 3);
        assert!(y.as_slice::<f64>().iter().zip(&[0.0, 1.0, 0.0]).all(close));
        assert_eq!(window(false, DType::F32, 1).as_slice::<f32>(), [1.0]);
        assert!(window(true, DType::I32, 0).is_empty());
    }

    #[test]
    fn each_filter_peaks_at_one() {
        let inputs = [
            Tensor::scalar(8i32),
            Tensor::scalar(16i32),
            Tensor::scalar(8192i32),
            Tensor::scalar(0f32),
            Tensor::scalar(4096f32),
        ];
        let op = MelWeightMatrix { dtype: DType::F32 };
        let y = run1(Isa::available()[0], op, &inputs).unwrap();
        assert_eq!(y.shape(), [9, 8]);
        for i in 0..8 {
            let column = (0..9).map(|row| y.as_slice::<f32>()[row * 8 + i]);
            assert_eq!(column.fold(0.0, f32::max), 1.0);
        }
    }

    #[test]
    fn filters_beyond_the_spectrum_are_refused() {
        let inputs = [
            Tensor::scalar(8i32),
            Tensor::scalar(16i32),
            Tensor::scalar(100i32),
            Tensor::scalar(0f32),
            Tensor::scalar(4096f32),
        ];
        let op = MelWeightMatrix { dtype: DType::F32 };
        assert!(run1(Isa::available()[0], op, &inputs).is_err());
    }
}
