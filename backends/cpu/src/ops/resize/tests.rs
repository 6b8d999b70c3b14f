//! Resizes small enough to check by hand.

use rinfer_graph::ops::{AspectRatio, Coordinates, Rounding};
use rinfer_graph::{Tensor, Value};

use super::*;
use crate::eval::testing::run_opt;

const FLOOR: Interpolation = Interpolation::Nearest(Rounding::Floor);

fn op(interpolation: Interpolation, coordinates: Coordinates) -> Resize {
    Resize {
        interpolation,
        coordinates,
        antialias: false,
        exclude_outside: false,
        extrapolation_value: 9.0,
        aspect_ratio: AspectRatio::Stretch,
        axes: None,
    }
}

fn resize(op: Resize, x: Tensor, scales: &[f32], roi: Option<&[f32]>) -> Tensor {
    let mut made: Vec<Tensor> = Isa::available()
        .into_iter()
        .map(|isa| {
            let roi = roi.map(|r| Value::Tensor(Tensor::vector(r)));
            let scales = Some(Value::Tensor(Tensor::vector(scales)));
            let out = run_opt(isa, op.clone(), &[Some(x.clone().into()), roi, scales], 1);
            out.unwrap().remove(0).into_tensor().unwrap()
        })
        .collect();
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
    made.remove(0)
}

#[test]
fn nearest_repeats_elements() {
    let x = Tensor::from_slice(&[1, 2, 2], &[1u8, 2, 3, 4]);
    let y = resize(op(FLOOR, Coordinates::Asymmetric), x, &[1.0, 2.0, 3.0], None);
    let row = [1, 1, 1, 2, 2, 2];
    assert_eq!(y.as_slice::<u8>()[..12], [row, row].concat());
    assert_eq!(y.as_slice::<u8>()[12..15], [3, 3, 3]);
}

#[test]
fn linear_goes_straight_between_samples() {
    let x = Tensor::from_slice(&[2, 2], &[0f32, 4.0, 8.0, 12.0]);
    let y = resize(op(Interpolation::Linear, Coordinates::AlignCorners), x, &[1.5, 2.5], None);
    let expected = [0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 7.0, 8.0, 8.0, 9.0, 10.0, 11.0, 12.0];
    assert_eq!(y.as_slice::<f32>(), expected);
}

#[test]
fn a_single_pixel_is_the_first_in_pytorchs_coordinates() {
    let x = Tensor::from_slice(&[3], &[9f32, -4.0, 0.0]);
    let cubic = Interpolation::Cubic(-0.75);
    let y = resize(op(cubic, Coordinates::PytorchHalfPixel), x, &[0.5], None);
    assert!((y.as_slice::<f32>()[0] - 9.0).abs() < 1e-5, "{y:?}");
}

#[test]
fn bytes_round_to_nearest() {
    let x = Tensor::from_slice(&[2], &[0u8, 255]);
    let y = resize(op(Interpolation::Linear, Coordinates::HalfPixel), x, &[2.0], None);
    assert_eq!(y.as_slice::<u8>(), [0, 64, 191, 255]);
}

#[test]
fn what_lies_outside_the_region_is_extrapolated() {
    let x = Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]);
    let crop = op(Interpolation::Linear, Coordinates::TfCropAndResize);
    let y = resize(crop, x, &[1.0], Some(&[0.5, 1.5]));
    assert_eq!(y.as_slice::<f32>(), [2.0, 3.0, 9.0]);
}

#[test]
fn an_antialiased_half_is_a_mean_of_neighbours() {
    let x = Tensor::from_slice(&[4], &[1f32, 3.0, 5.0, 7.0]);
    let mut half = op(Interpolation::Linear, Coordinates::HalfPixel);
    half.antialias = true;
    half.exclude_outside = true;
    let y = resize(half, x, &[0.5], None);
    // Weights 1/8 3/8 3/8 1/8 where all four lie inside.
    let expected = [(3.0 * 1.0 + 3.0 * 3.0 + 5.0) / 7.0, (3.0 + 3.0 * 5.0 + 3.0 * 7.0) / 7.0];
    assert!(y.as_slice::<f32>().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
}
