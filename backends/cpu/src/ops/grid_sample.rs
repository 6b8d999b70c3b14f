//! GridSample and AffineGrid.
//!
//! y[n, c, o] = Σ over pixels near grid[n, o]: weight · x[n, c, pixel]

use rinfer_graph::ops::{AffineGrid, GridMode, GridPadding, GridSample};
use rinfer_graph::shape::{Sizes, strides};
use rinfer_graph::{DType, Reason, Tensor, unsupported};
use smallvec::SmallVec;

use super::staged::{self, Inputs, Outputs, Real, needed, single, typed};
use crate::kernel::{Cx, Kernel};
use crate::par;
use crate::scratch::Scratch;

/// Places whose pixels are found before any channel is sampled there.
const BLOCK: usize = 1024;

pub(super) fn compile(op: &GridSample, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (op, sizes, places, isa) = (op.clone(), cx.sizes(0)?, cx.sizes(1)?, cx.isa);
    let dtype = cx.dtype(0)?;
    // The places are copied.
    let bytes = if dtype == DType::F64 { 8 } else { 4 };
    let copy = Scratch::of::<u8>(places.iter().product::<usize>() * bytes);
    let scratch = staged::scratch(cx).and(copy);
    Ok(Kernel::new(move |args| {
        let grid = args.input(1)?;
        if dtype == DType::F64 {
            return typed::<f64>(args, |inputs, outputs| {
                sample(&op, (&sizes, &places), needed(inputs, 0)?, &reals(grid)?, outputs[0]);
                Ok(())
            });
        }
        single(isa, args, |inputs, outputs| {
            sample(&op, (&sizes, &places), needed(inputs, 0)?, &reals(grid)?, outputs[0]);
            Ok(())
        })
    })
    .takes(scratch))
}

fn reals<R: Real>(t: &Tensor) -> Result<Vec<R>, Reason> {
    Ok(match t.dtype() {
        DType::F64 => t.as_slice::<f64>().iter().map(|&x| R::of(x)).collect(),
        DType::F32 => t.as_slice::<f32>().iter().map(|&x| R::of(x.into())).collect(),
        DType::F16 | DType::BF16 => {
            let wide = rinfer_graph::ops::to_floats(t)?;
            wide.into_iter().map(|x| R::of(x.into())).collect()
        }
        other => return Err(unsupported!("places of {other} are not supported")),
    })
}

/// Pixels and weights of one place, each within a channel; pixels that are zero are left out.
type Pixels<R> = SmallVec<[(usize, R); 8]>;

fn sample<R: Real>(
    op: &GridSample,
    (sizes, places): (&[usize], &[usize]),
    x: &[R],
    grid: &[R],
    y: &mut [R],
) {
    let spatial: Sizes = sizes[2..].into();
    let axes = spatial.len();
    let pixels: usize = spatial.iter().product();
    let outputs: usize = places[1..places.len() - 1].iter().product();
    let channels = sizes[1];
    if y.is_empty() || outputs == 0 {
        return;
    }
    for (n, y) in y.chunks_exact_mut(channels * outputs).enumerate() {
        let x = &x[n * channels * pixels..][..channels * pixels];
        let grid = &grid[n * outputs * axes..][..outputs * axes];
        for first in (0..outputs).step_by(BLOCK) {
            let count = BLOCK.min(outputs - first);
            let near: Vec<Pixels<R>> = grid[first * axes..(first + count) * axes]
                .chunks_exact(axes)
                .map(|place| near(op, &spatial, place))
                .collect();
            let work = near.first().map_or(1, |p| p.len()) * count;
            par::chunks_mut(y, outputs, par::grain(work), |c, y| {
                let x = &x[c * pixels..][..pixels];
                for (y, near) in y[first..first + count].iter_mut().zip(&near) {
                    *y = near.iter().fold(R::ZERO, |sum, &(at, w)| sum + w * x[at]);
                }
            });
        }
    }
}

/// The pixels near a place, whose last axis stands first.
fn near<R: Real>(op: &GridSample, spatial: &[usize], place: &[R]) -> Pixels<R> {
    let steps = strides(spatial);
    let mut made: Pixels<R> = [(0, R::ONE)].into_iter().collect();
    for (axis, &n) in spatial.iter().enumerate() {
        let line = along(op, n, place[spatial.len() - 1 - axis]);
        let mut next = Pixels::new();
        for (at, weight) in &made {
            for &(i, w) in &line {
                next.push((at + i * steps[axis], *weight * w));
            }
        }
        made = next;
    }
    made
}

/// The pixels near a place along one axis.
fn along<R: Real>(op: &GridSample, n: usize, place: R) -> Pixels<R> {
    let (size, two) = (R::of(n as f64), R::of(2.0));
    let mut p = match op.align_corners {
        true => (place + R::ONE) / two * (size - R::ONE),
        false => ((place + R::ONE) * size - R::ONE) / two,
    };
    if op.mode == GridMode::Nearest {
        p = p.nearest();
    }
    let ends = match op.align_corners {
        true => (0.0, n as f64 - 1.0),
        false => (-0.5, n as f64 - 0.5),
    };
    let mut place = p.to_f64();
    if place < ends.0 || place > ends.1 {
        match op.padding {
            GridPadding::Zeros => {}
            // The border goes on for ever; curves that the last pixels bend end three beyond.
            GridPadding::Border if op.mode == GridMode::Cubic => {
                place = place.clamp(-3.0, n as f64 + 2.0);
            }
            GridPadding::Border => place = place.clamp(0.0, (n as f64 - 1.0).max(0.0)),
            GridPadding::Reflection => place = reflect(place, ends),
        }
        p = R::of(place);
    }
    let floor = p.floor();
    let f = p - floor;
    let (first, weights): (f64, SmallVec<[R; 4]>) = match op.mode {
        GridMode::Nearest => (p.to_f64(), [R::ONE].into_iter().collect()),
        GridMode::Linear => (floor.to_f64(), [R::ONE - f, f].into_iter().collect()),
        GridMode::Cubic => (floor.to_f64() - 1.0, cubic(f)),
    };
    let mut made = Pixels::new();
    for (i, w) in weights.into_iter().enumerate() {
        if let Some(at) = pixel(op.padding, first + i as f64, n, ends) {
            made.push((at, w));
        }
    }
    made
}

/// The pixel at a whole place; `None` where there is none, or the place is no number.
fn pixel(padding: GridPadding, at: f64, n: usize, ends: (f64, f64)) -> Option<usize> {
    let last = n.checked_sub(1)? as f64;
    let at = match padding {
        _ if at.is_nan() => return None,
        GridPadding::Zeros => at,
        GridPadding::Border => at.clamp(0.0, last),
        GridPadding::Reflection => reflect(at, ends).trunc().clamp(0.0, last),
    };
    (at >= 0.0 && at <= last).then_some(at as usize)
}

/// Mirrors a place at both ends until it lies between them.
fn reflect(p: f64, (low, high): (f64, f64)) -> f64 {
    let range = high - low;
    if range <= 0.0 || !p.is_finite() {
        return low;
    }
    let (beyond, from_low) = match p {
        p if p < low => (low - p, true),
        p if p > high => (p - high, false),
        p => return p,
    };
    let turns = (beyond / range).floor();
    let rest = beyond - turns * range;
    if (turns % 2.0 == 0.0) == from_low { low + rest } else { high - rest }
}

/// Keys' cubic convolution with slope -3/4, at four places around one that is `f` past the second.
fn cubic<R: Real>(f: R) -> SmallVec<[R; 4]> {
    let a = R::of(-0.75);
    let k = |x: f64| R::of(x);
    let inner = |x: R| ((a + k(2.0)) * x - (a + k(3.0))) * x * x + R::ONE;
    let outer = |x: R| ((a * x - k(5.0) * a) * x + k(8.0) * a) * x - k(4.0) * a;
    [outer(f + R::ONE), inner(f), inner(R::ONE - f), outer(k(2.0) - f)].into_iter().collect()
}

pub(super) fn compile_affine(op: &AffineGrid, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (op, sizes, isa) = (op.clone(), cx.out_sizes(0)?, cx.isa);
    let (dtype, scratch) = (cx.dtype(0)?, staged::scratch(cx));
    Ok(Kernel::new(move |args| {
        if dtype == DType::F64 {
            return typed::<f64>(args, |inputs, outputs| affine(&op, &sizes, inputs, outputs));
        }
        single(isa, args, |inputs, outputs| affine(&op, &sizes, inputs, outputs))
    })
    .takes(scratch))
}

fn affine<R: Real>(
    op: &AffineGrid,
    sizes: &[usize],
    inputs: &Inputs<'_, R>,
    outputs: &mut Outputs<'_, R>,
) -> Result<(), Reason> {
    let theta = needed(inputs, 0)?;
    let spatial = &sizes[1..sizes.len() - 1];
    let axes = spatial.len();
    let steps = strides(spatial);
    let coordinate = |axis: usize, i: usize| {
        let n = spatial[axis] as f64;
        R::of(match op.align_corners {
            true if spatial[axis] == 1 => -1.0,
            true => -1.0 + 2.0 * i as f64 / (n - 1.0),
            false => (2.0 * i as f64 + 1.0) / n - 1.0,
        })
    };
    let pixels: usize = spatial.iter().product();
    for (at, y) in outputs[0].chunks_exact_mut(axes).enumerate() {
        let (n, p) = (at / pixels, at % pixels);
        let theta = &theta[n * axes * (axes + 1)..][..axes * (axes + 1)];
        for (y, row) in y.iter_mut().zip(theta.chunks_exact(axes + 1)) {
            let mut sum = row[axes];
            for axis in 0..axes {
                // The map's columns begin with the last axis.
                let i = p / steps[axis] % spatial[axis];
                sum = sum + row[axes - 1 - axis] * coordinate(axis, i);
            }
            *y = sum;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    fn sampled(mode: GridMode, padding: GridPadding, places: &[f32]) -> Vec<f32> {
        let x = Tensor::from_slice(&[1, 1, 4], &[1f32, 2.0, 3.0, 4.0]);
        let grid = Tensor::from_slice(&[1, places.len(), 1], places);
        let op = GridSample { mode, padding, align_corners: true };
        run1(Isa::best(), op, &[x, grid]).unwrap().as_slice().to_vec()
    }

    #[test]
    fn places_outside_are_zero_the_border_or_mirrored() {
        use GridMode::*;
        use GridPadding::*;
        let step = 2.0 / 3.0;
        let places = [-1.0, -1.0 + step / 2.0, 1.0 + step, f32::NAN];
        let near = [-1.0, -1.0 + step * 0.4, 1.0 + step, f32::NAN];
        assert_eq!(sampled(Nearest, Zeros, &near), [1.0, 1.0, 0.0, 0.0]);
        let close = |a: Vec<f32>, b: [f32; 3]| {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} is not {b:?}");
        };
        close(sampled(Linear, Zeros, &places), [1.0, 1.5, 0.0]);
        close(sampled(Linear, Border, &places), [1.0, 1.5, 4.0]);
        close(sampled(Linear, Reflection, &places), [1.0, 1.5, 3.0]);
        close(sampled(Cubic, Border, &[-1.0 + 1.5 * step]), [2.5, 0.0, 0.0]);
        // Pixels 3, 4, 4, 4 times -3/32, 19/32, 19/32, -3/32.
        close(sampled(Cubic, Border, &[1.0 + step / 2.0]), [4.0 + 0.09375, 0.0, 0.0]);
    }

    #[test]
    fn the_identity_map_gives_the_centres_of_the_pixels() {
        let theta = Tensor::from_slice(&[1, 2, 3], &[1f32, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let size = Tensor::vector(&[1i64, 1, 1, 2]);
        let y = run1(Isa::best(), AffineGrid { align_corners: false }, &[theta, size]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [-0.5, 0.0, 0.5, 0.0]);
    }
}
