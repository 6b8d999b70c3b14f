//! Pools against sums and comparisons written out, on every instruction set.

use half::f16;
use rinfer_graph::ops::{Padding, PoolKind, Window};
use rinfer_graph::{Tensor, Value};

use super::*;
use crate::conv::testing::Random;
use crate::eval::testing::{run, run1};

const MAX: PoolKind = PoolKind::Max { column_major: false };
const MEAN: PoolKind = PoolKind::Average { count_include_pad: false };

fn pool(kind: PoolKind, kernel: &[usize], strides: &[usize], pads: &[usize]) -> Pool {
    let window = Window {
        kernel: kernel.into(),
        strides: strides.into(),
        dilations: Default::default(),
        padding: Padding::Explicit(pads.into()),
        ceil_mode: false,
    };
    Pool { kind, window: Some(window) }
}

#[test]
fn padding_is_never_the_largest_nor_counted() {
    let x = Tensor::from_slice(&[1, 1, 4], &[-1f32, -2.0, -3.0, -4.0]);
    for isa in Isa::available() {
        let y = run1(isa, pool(MAX, &[2], &[2], &[1, 1]), std::slice::from_ref(&x)).unwrap();
        assert_eq!(y.as_slice::<f32>(), [-1.0, -2.0, -4.0]);
        let y = run1(isa, pool(MEAN, &[2], &[2], &[1, 1]), std::slice::from_ref(&x)).unwrap();
        assert_eq!(y.as_slice::<f32>(), [-1.0, -2.5, -4.0]);
        let include = PoolKind::Average { count_include_pad: true };
        let y = run1(isa, pool(include, &[2], &[2], &[1, 1]), std::slice::from_ref(&x)).unwrap();
        assert_eq!(y.as_slice::<f32>(), [-0.5, -2.5, -2.0]);
    }
}

#[test]
fn places_count_rows_or_columns_first() {
    let x = Tensor::from_slice(&[1, 2, 2, 2], &[1f32, 5.0, 2.0, 3.0, 0.0, 0.0, 7.0, 0.0]);
    let places = |column_major| {
        let op = pool(PoolKind::Max { column_major }, &[2, 2], &[1, 1], &[]);
        let out = run(Isa::best(), op, &[Value::Tensor(x.clone())], 2).unwrap();
        out[1].as_tensor().unwrap().as_slice::<i64>().to_vec()
    };
    assert_eq!(places(false), [1, 6]);
    assert_eq!(places(true), [2, 5]);
}

/// Values without places must be those with them, whatever the window.
#[test]
fn axis_by_axis_finds_what_whole_windows_find() {
    let mut random = Random::new(3);
    for _ in 0..60 {
        let axes = 1 + random.below(3);
        let kernel: Vec<usize> = (0..axes).map(|_| 1 + random.below(4)).collect();
        let strides: Vec<usize> = (0..axes).map(|_| 1 + random.below(3)).collect();
        let mut pads: Vec<usize> = kernel.iter().map(|&k| random.below(k)).collect();
        pads.extend(kernel.iter().map(|&k| random.below(k)));
        let mut sizes = vec![1 + random.below(2), 1 + random.below(3)];
        sizes.extend((0..axes).map(|_| 5 + random.below(40 / axes)));
        let x = Tensor::from_slice(&sizes, &random.floats(sizes.iter().product()));
        let mut op = pool(MAX, &kernel, &strides, &pads);
        op.window.as_mut().unwrap().ceil_mode = random.below(2) == 1;
        for isa in Isa::available() {
            let with = run(isa, op.clone(), &[Value::Tensor(x.clone())], 2).unwrap();
            let without = run1(isa, op.clone(), std::slice::from_ref(&x)).unwrap();
            assert_eq!(with[0].as_tensor().unwrap(), &without, "{op:?} on {sizes:?}");
        }
    }
}

#[test]
fn global_pools_see_every_element_once() {
    let values: Vec<f32> = (0..2 * 77).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
    let x = Tensor::from_slice(&[1, 2, 7, 11], &values);
    let global = |kind| Pool { kind, window: None };
    for isa in Isa::available() {
        let y = |kind| run1(isa, global(kind), std::slice::from_ref(&x)).unwrap();
        let max = values[..77].iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(y(MAX).as_slice::<f32>()[0], max);
        let mean = values[77..].iter().sum::<f32>() / 77.0;
        assert!((y(MEAN).as_slice::<f32>()[1] - mean).abs() < 1e-4);
        let norm = values[..77].iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((y(PoolKind::Lp { p: 2.0 }).as_slice::<f32>()[0] - norm).abs() < 1e-3);
    }
}

#[test]
fn half_precision_and_bytes_are_pooled() {
    let h = Tensor::from_slice(&[1, 1, 3], &[1.0, 2.0, 4.0].map(f16::from_f32));
    let y = run1(Isa::best(), pool(MEAN, &[2], &[1], &[]), &[h]).unwrap();
    assert_eq!(y.as_slice::<f16>(), [1.5, 3.0].map(f16::from_f32));
    let b = Tensor::from_slice(&[1, 1, 3], &[-5i8, -7, 3]);
    let y = run1(Isa::best(), pool(MAX, &[2], &[1], &[]), &[b]).unwrap();
    assert_eq!(y.as_slice::<i8>(), [-5, 3]);
}
