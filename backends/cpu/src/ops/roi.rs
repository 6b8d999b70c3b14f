//! RoiAlign and MaxRoiPool: regions of images pooled to one size.

use rinfer_graph::ops::{MaxRoiPool, RoiAlign};
use rinfer_graph::{DType, Reason, invalid};

use super::staged::{self, Real, larger, needed, single, typed};
use crate::kernel::{Cx, Kernel};
use crate::par;

/// Samples that one output may take: more are a mistake in the regions.
const MOST_SAMPLES: f64 = 1e6;

/// The images that regions are cut from.
#[derive(Clone, Copy)]
struct Images<'a, R> {
    x: &'a [R],
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl<'a, R> Images<'a, R> {
    fn new(x: &'a [R], sizes: &[usize]) -> Images<'a, R> {
        let [batch, channels, height, width] = [sizes[0], sizes[1], sizes[2], sizes[3]];
        Images { x, batch, channels, height, width }
    }

    fn plane(&self, image: usize, channel: usize) -> &'a [R] {
        let len = self.height * self.width;
        &self.x[(image * self.channels + channel) * len..][..len]
    }
}

pub(super) fn compile(op: &RoiAlign, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (op, sizes, isa, dtype) = (op.clone(), cx.sizes(0)?, cx.isa, cx.dtype(0)?);
    let scratch = staged::scratch(cx);
    Ok(Kernel::new(move |args| {
        let indices = args.input(2)?.as_slice::<i64>();
        let cx = args.cx;
        if dtype == DType::F64 {
            return typed::<f64>(args, |inputs, outputs| {
                let images = Images::new(needed(inputs, 0)?, &sizes);
                align(&op, images, needed(inputs, 1)?, indices, outputs[0])?;
                cx.check()
            });
        }
        single(isa, args, |inputs, outputs| {
            let images = Images::new(needed(inputs, 0)?, &sizes);
            align(&op, images, needed(inputs, 1)?, indices, outputs[0])?;
            cx.check()
        })
    })
    .takes(scratch))
}

/// Four pixels and their weights: a bilinear sample.
struct Sample<R> {
    at: [usize; 4],
    weight: [R; 4],
}

fn align<R: Real>(
    op: &RoiAlign,
    images: Images<'_, R>,
    rois: &[R],
    indices: &[i64],
    y: &mut [R],
) -> Result<(), Reason> {
    let bins = op.height * op.width;
    let len = images.channels * bins;
    if y.is_empty() {
        return Ok(());
    }
    let failure = par::Failure::default();
    par::chunks_mut(y, len, par::grain(len * 16), |r, y| {
        failure.attempt(|| {
            let image = usize::try_from(indices[r]).ok().filter(|&i| i < images.batch);
            let image = image.ok_or_else(|| {
                invalid!("batch index {} is out of range for {}", indices[r], images.batch)
            })?;
            let (samples, each) = samples(op, &images, &rois[4 * r..4 * r + 4])?;
            for (c, y) in y.chunks_exact_mut(bins).enumerate() {
                let x = images.plane(image, c);
                for (i, y) in y.iter_mut().enumerate() {
                    *y = pool(op.max, x, &samples[i * each..(i + 1) * each]);
                }
            }
            Ok(())
        });
    });
    failure.result()
}

/// The samples of a region, bin after bin, and their number in each.
fn samples<R: Real>(
    op: &RoiAlign,
    images: &Images<'_, R>,
    roi: &[R],
) -> Result<(Vec<Sample<R>>, usize), Reason> {
    let (scale, offset) =
        (R::of(op.spatial_scale.into()), R::of(if op.half_pixel { 0.5 } else { 0.0 }));
    let at = |i: usize| roi[i] * scale - offset;
    let (left, top) = (at(0), at(1));
    let side = |a: R, b: R| if op.half_pixel { b - a } else { larger(b - a, R::ONE) };
    let (width, height) = (side(left, at(2)), side(top, at(3)));
    let (bin_w, bin_h) = (width / R::of(op.width as f64), height / R::of(op.height as f64));
    let count = |bin: R| match op.sampling_ratio {
        0 => bin.ceil().to_f64().max(0.0),
        n => n as f64,
    };
    let (rows, cols) = (count(bin_h), count(bin_w));
    let samples = rows * cols * (op.height * op.width) as f64;
    if samples.is_nan() || samples > MOST_SAMPLES * 64.0 || rows.max(cols) > MOST_SAMPLES {
        return Err(invalid!("a region of {height:?} x {width:?} takes {rows} x {cols} samples"));
    }
    let (rows, cols) = (rows as usize, cols as usize);
    let mut made = Vec::with_capacity(op.height * op.width * rows * cols);
    let place = |start: R, bin: R, p: usize, i: usize, n: usize| {
        let inside = (R::of(i as f64) + R::of(0.5)) * bin / R::of(n as f64);
        start + R::of(p as f64) * bin + inside
    };
    for p in 0..op.height * op.width {
        for i in 0..rows * cols {
            let y = place(top, bin_h, p / op.width, i / cols, rows);
            let x = place(left, bin_w, p % op.width, i % cols, cols);
            made.push(sample(images.height, images.width, y, x));
        }
    }
    Ok((made, rows * cols))
}

fn sample<R: Real>(height: usize, width: usize, y: R, x: R) -> Sample<R> {
    let axis = |p: R, n: usize| {
        let size = R::of(n as f64);
        if n == 0 || !(p >= R::ZERO - R::ONE && p <= size) {
            return None;
        }
        let p = larger(p, R::ZERO);
        let low = p.floor().to_f64() as usize;
        if low + 1 >= n {
            return Some((n - 1, n - 1, R::ZERO));
        }
        Some((low, low + 1, p - R::of(low as f64)))
    };
    match (axis(y, height), axis(x, width)) {
        (Some((y0, y1, fy)), Some((x0, x1, fx))) => {
            let (gy, gx) = (R::ONE - fy, R::ONE - fx);
            Sample {
                at: [y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1],
                weight: [gy * gx, gy * fx, fy * gx, fy * fx],
            }
        }
        _ => Sample { at: [0; 4], weight: [R::ZERO; 4] },
    }
}

fn pool<R: Real>(max: bool, x: &[R], samples: &[Sample<R>]) -> R {
    if x.is_empty() || samples.is_empty() {
        return R::ZERO;
    }
    let terms = |s: &Sample<R>| [0, 1, 2, 3].map(|i| s.weight[i] * x[s.at[i]]);
    if max {
        let terms = samples.iter().flat_map(terms);
        return terms.reduce(larger).unwrap_or(R::ZERO);
    }
    let sum = samples.iter().flat_map(terms).fold(R::ZERO, |sum, t| sum + t);
    sum / R::of(samples.len() as f64)
}

pub(super) fn compile_max(op: &MaxRoiPool, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (op, sizes, isa, dtype) = (op.clone(), cx.sizes(0)?, cx.isa, cx.dtype(0)?);
    let scratch = staged::scratch(cx);
    Ok(Kernel::new(move |args| {
        if dtype == DType::F64 {
            return typed::<f64>(args, |inputs, outputs| {
                let images = Images::new(needed(inputs, 0)?, &sizes);
                largest(&op, images, needed(inputs, 1)?, outputs[0])
            });
        }
        single(isa, args, |inputs, outputs| {
            let images = Images::new(needed(inputs, 0)?, &sizes);
            largest(&op, images, needed(inputs, 1)?, outputs[0])
        })
    })
    .takes(scratch))
}

fn largest<R: Real>(
    op: &MaxRoiPool,
    images: Images<'_, R>,
    rois: &[R],
    y: &mut [R],
) -> Result<(), Reason> {
    let bins = op.height * op.width;
    if y.is_empty() {
        return Ok(());
    }
    for (roi, y) in rois.chunks_exact(5).zip(y.chunks_exact_mut(images.channels * bins)) {
        let image = roi[0].to_f64();
        if !(image >= 0.0 && image < images.batch as f64) {
            return Err(invalid!("image {image} is out of range for {}", images.batch));
        }
        let edge = |i: usize| (roi[i] * R::of(op.spatial_scale.into())).round().to_f64();
        let bin = |p: usize, from: f64, to: f64, n: usize, size: usize| {
            let step = (to - from + 1.0).max(1.0) / n as f64;
            let clip = |v: f64| (v + from).clamp(0.0, size as f64) as usize;
            clip((p as f64 * step).floor())..clip(((p + 1) as f64 * step).ceil())
        };
        for (c, y) in y.chunks_exact_mut(bins).enumerate() {
            let x = images.plane(image as usize, c);
            for (p, y) in y.iter_mut().enumerate() {
                let rows = bin(p / op.width, edge(2), edge(4), op.height, images.height);
                let cols = bin(p % op.width, edge(1), edge(3), op.width, images.width);
                let all = rows.flat_map(|r| cols.clone().map(move |c| r * images.width + c));
                *y = all.map(|at| x[at]).reduce(larger).unwrap_or(R::ZERO);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rinfer_graph::Tensor;

    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    #[test]
    fn a_region_of_a_ramp_averages_to_its_middle() {
        let ramp: Vec<f32> = (0..16).map(|i| (i % 4) as f32).collect();
        let x = Tensor::from_slice(&[1, 1, 4, 4], &ramp);
        let rois = Tensor::from_slice(&[1, 4], &[0f32, 0.0, 4.0, 4.0]);
        let op = RoiAlign {
            max: false,
            half_pixel: true,
            height: 1,
            width: 2,
            sampling_ratio: 2,
            spatial_scale: 1.0,
        };
        let y = run1(Isa::best(), op.clone(), &[x.clone(), rois.clone(), Tensor::vector(&[0i64])]);
        assert_eq!(y.unwrap().as_slice::<f32>(), [0.5, 2.5]);
        let outside = run1(Isa::best(), op, &[x, rois, Tensor::vector(&[1i64])]).unwrap_err();
        assert_eq!(outside.to_string(), "batch index 1 is out of range for 1");
    }

    #[test]
    fn bins_share_the_pixels_between_them() {
        let x = Tensor::from_slice(&[1, 1, 3, 3], &[1f64, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let rois = Tensor::from_slice(&[1, 5], &[0f64, 0.0, 0.0, 2.0, 2.0]);
        let op = MaxRoiPool { height: 2, width: 2, spatial_scale: 1.0 };
        let y = run1(Isa::best(), op, &[x, rois]).unwrap();
        assert_eq!(y.as_slice::<f64>(), [5.0, 6.0, 8.0, 9.0]);
    }
}
