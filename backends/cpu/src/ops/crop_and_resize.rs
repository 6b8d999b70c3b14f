//! CropAndResize in f32: each place of a box is a bilinear sample or the nearest pixel.

use rinfer_graph::ops::CropAndResize;
use rinfer_graph::{Reason, invalid};

use super::layer_norm::{element, put};
use crate::kernel::{Args, Cx, Kernel};

pub(super) fn compile(op: &CropAndResize, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let op = op.clone();
    let _ = cx.out_sizes(0)?;
    Ok(Kernel::new(move |args| run(&op, args)))
}

/// Where places of an output fall on an axis of `n` pixels; `None` outside.
fn places(from: f32, to: f32, n: usize, count: usize) -> Vec<Option<f32>> {
    let last = n as f32 - 1.0;
    let step = if count > 1 { (to - from) * last / (count as f32 - 1.0) } else { 0.0 };
    let place = |i: usize| {
        let at = match i {
            _ if count == 1 => 0.5 * (from + to) * last,
            0 => from * last,
            i if i + 1 == count => to * last,
            i => from * last + i as f32 * step,
        };
        (at >= 0.0 && at <= last).then_some(at)
    };
    (0..count).map(place).collect()
}

fn run(op: &CropAndResize, args: &mut Args<'_>) -> Result<(), Reason> {
    let (x, boxes) = (args.input(0)?, args.input(1)?);
    let indices = args.input(2)?.as_slice::<i32>();
    let (&[images, channels, h, w], &[_, _, rows, cols]) = (x.shape(), args.outputs[0].shape())
    else {
        return Err(invalid!("images of shape {:?}", x.shape()));
    };
    let mut y = Vec::with_capacity(args.outputs[0].len());
    for (r, &index) in indices.iter().enumerate() {
        let image = usize::try_from(index).ok().filter(|&i| i < images);
        let image = image.ok_or_else(|| invalid!("batch index {index} of {images}"))?;
        let corner = |i: usize| element(boxes, 4 * r + i) as f32;
        let tops = places(corner(0), corner(2), h, rows);
        let lefts = places(corner(1), corner(3), w, cols);
        for channel in 0..channels {
            args.cx.check()?;
            let plane = (image * channels + channel) * h * w;
            let pixel = |i: usize, j: usize| element(x, plane + i * w + j) as f32;
            for top in &tops {
                y.extend(lefts.iter().map(|left| match (top, left) {
                    (Some(top), Some(left)) => f64::from(sample(op.nearest, *top, *left, pixel)),
                    _ => f64::from(op.outside),
                }));
            }
        }
    }
    put(&y, &mut args.outputs[0])
}

/// The value at a place between pixels.
fn sample(nearest: bool, top: f32, left: f32, pixel: impl Fn(usize, usize) -> f32) -> f32 {
    if nearest {
        return pixel(top.round() as usize, left.round() as usize);
    }
    let (i, j) = ([top.floor(), top.ceil()], [left.floor(), left.ceil()]);
    let row = |i: f32| {
        let [a, b] = j.map(|j| pixel(i as usize, j as usize));
        a + (b - a) * (left - j[0])
    };
    let (a, b) = (row(i[0]), row(i[1]));
    a + (b - a) * (top - i[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    #[test]
    fn a_box_is_stretched_and_what_is_outside_is_given() {
        let x = Tensor::from_slice(&[1, 1, 2, 2], &[0.0f32, 1.0, 2.0, 3.0]);
        let boxes = Tensor::from_slice(&[1, 4], &[0.0f32, 0.0, 1.0, 2.0]);
        let index = Tensor::vector(&[0i32]);
        let size = Tensor::vector(&[3i32, 3]);
        let op = CropAndResize { nearest: false, outside: 9.0 };
        let y = run1(Isa::best(), op.clone(), &[x.clone(), boxes.clone(), index, size.clone()]);
        assert_eq!(y.unwrap().as_slice::<f32>(), [0.0, 1.0, 9.0, 1.0, 2.0, 9.0, 2.0, 3.0, 9.0]);
        assert!(run1(Isa::best(), op, &[x, boxes, Tensor::vector(&[1i32]), size]).is_err());
    }
}
