//! Products, windows and attention.

use rinfer_graph::DType;
use rinfer_graph::ops::*;

use super::*;

pub fn products(cases: &mut Vec<Case>) {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[5, 7], &[7, 3]),
        (&[65, 33], &[33, 70]),
        (&[1, 40], &[40, 130]),
        (&[2, 3, 4, 5], &[3, 5, 6]),
        (&[2, 1, 4, 5], &[3, 5, 6]),
        (&[3, 4, 5], &[5, 2]),
        (&[5], &[5, 4]),
        (&[2, 4, 5], &[5]),
    ];
    for (a, b) in shapes {
        cases.push(case(MatMul::PLAIN, &[f32s(a), f32s(b)]));
    }
    for dtype in [DType::F16, DType::BF16, DType::I32, DType::U32] {
        cases.push(case(MatMul::PLAIN, &[random(dtype, &[9, 17]), random(dtype, &[17, 6])]));
    }
    let activations = [
        Activation::Relu,
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::Clip { lo: -0.5, hi: 0.5 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::HardSwish,
    ];
    for activation in activations {
        let op = MatMul { trans_b: true, alpha: 0.5, activation: Some(activation), trans_a: false };
        let inputs = [f32s(&[9, 8]), f32s(&[7, 8]), f32s(&[7]), f32s(&[9, 7])];
        cases.push(case(op, &inputs).within(1e-5));
    }
    let op = MatMul { trans_a: true, ..MatMul::PLAIN };
    cases.push(case(op, &[f32s(&[8, 9]), f32s(&[8, 7])]));
}

pub fn windows(cases: &mut Vec<Case>) {
    let window = |kernel: &[usize], stride: usize, dilation: usize, pad: usize| Window {
        kernel: kernel.into(),
        strides: kernel.iter().map(|_| stride).collect(),
        dilations: kernel.iter().map(|_| dilation).collect(),
        padding: Padding::Explicit(kernel.iter().chain(kernel).map(|_| pad).collect()),
        ceil_mode: false,
    };
    let shapes: [(&[usize], &[usize], usize, Window); 7] = [
        (&[2, 3, 8, 9], &[4, 3, 3, 3], 1, window(&[3, 3], 1, 1, 1)),
        (&[1, 4, 9, 7], &[6, 2, 3, 2], 2, window(&[3, 2], 2, 1, 1)),
        (&[1, 5, 6, 6], &[5, 1, 3, 3], 5, window(&[3, 3], 1, 2, 2)),
        (&[2, 6, 5, 5], &[7, 6, 1, 1], 1, window(&[1, 1], 1, 1, 0)),
        (&[1, 6, 5, 5], &[7, 6, 1, 1], 1, window(&[1, 1], 2, 1, 0)),
        (&[2, 3, 11], &[4, 3, 4], 1, window(&[4], 3, 1, 2)),
        (&[1, 2, 4, 5, 6], &[3, 2, 2, 3, 2], 1, window(&[2, 3, 2], 1, 1, 1)),
    ];
    for (x, w, group, window) in shapes {
        for dtype in [DType::F32, DType::F16] {
            let op = Conv { window: window.clone(), group, activation: Some(Activation::Relu) };
            let inputs = [random(dtype, x), random(dtype, w), random(dtype, &w[..1])];
            cases.push(case(op, &inputs).within(tolerance(dtype).max(1e-5)));
        }
    }
    let shapes: [(&[usize], &[usize], usize, Window); 3] = [
        (&[1, 4, 5, 6], &[4, 3, 3, 3], 1, window(&[3, 3], 2, 1, 1)),
        (&[2, 4, 5], &[4, 2, 4], 2, window(&[4], 3, 1, 0)),
        (&[1, 3, 4, 4], &[3, 1, 2, 2], 3, window(&[2, 2], 1, 2, 1)),
    ];
    for (x, w, group, window) in shapes {
        let none = PerAxis::new();
        let op = ConvTranspose {
            window,
            group,
            output_padding: none.clone(),
            output_shape: none,
            activation: None,
        };
        cases.push(case(op, &[f32s(x), f32s(w), f32s(&[w[1] * group])]).within(1e-5));
    }
    pools(cases, window);
}

fn pools(cases: &mut Vec<Case>, window: impl Fn(&[usize], usize, usize, usize) -> Window) {
    let kinds = [
        PoolKind::Max { column_major: false },
        PoolKind::Max { column_major: true },
        PoolKind::Average { count_include_pad: false },
        PoolKind::Average { count_include_pad: true },
        PoolKind::Lp { p: 2.0 },
    ];
    for kind in kinds {
        for ceil_mode in [false, true] {
            let window = Window { ceil_mode, ..window(&[3, 2], 2, 1, 1) };
            let max = matches!(kind, PoolKind::Max { .. });
            let op = Pool { kind, window: Some(window) };
            let outputs = if max { 2 } else { 1 };
            cases.push(case(op, &[f32s(&[2, 3, 6, 7])]).outputs(outputs).within(1e-5));
        }
        cases.push(case(Pool { kind, window: None }, &[f32s(&[2, 3, 6, 7])]).within(1e-5));
    }
    let sizes = ints(&[1, 2, 7, 9]);
    let modes = [
        Interpolation::Nearest(Rounding::Floor),
        Interpolation::Nearest(Rounding::PreferFloor),
        Interpolation::Linear,
        Interpolation::Cubic(-0.75),
    ];
    for interpolation in modes {
        for coordinates in
            [Coordinates::HalfPixel, Coordinates::AlignCorners, Coordinates::Asymmetric]
        {
            let op = Resize {
                interpolation,
                coordinates,
                antialias: false,
                exclude_outside: false,
                extrapolation_value: 0.0,
                aspect_ratio: AspectRatio::Stretch,
                axes: None,
            };
            let x = f32s(&[1, 2, 4, 5]);
            let inputs = [x.clone(), x.clone(), x, sizes.clone()];
            cases.push(case(op, &inputs).without(1).without(2).fixed(&[3]).within(1e-5));
        }
    }
}

pub fn attention(cases: &mut Vec<Case>) {
    let q = f32s(&[2, 4, 3, 8]);
    let kv = [f32s(&[2, 2, 5, 8]), f32s(&[2, 2, 5, 6])];
    let plain = [q.clone(), kv[0].clone(), kv[1].clone()];
    cases.push(case(Attention::PLAIN, &plain).within(1e-5));
    let causal = Attention { causal: true, softcap: 1.5, scale: Some(0.3), ..Attention::PLAIN };
    cases.push(case(causal.clone(), &plain).within(1e-5));
    let mut masked = plain.to_vec();
    masked.push(random(DType::Bool, &[3, 5]));
    cases.push(case(Attention::PLAIN, &masked).within(1e-5));
    masked[3] = f32s(&[2, 1, 3, 5]);
    cases.push(case(Attention { left_window: Some(1), ..causal.clone() }, &masked).within(1e-5));
    let mut past = plain.to_vec();
    past.extend([f32s(&[3, 7]), f32s(&[2, 2, 2, 8]), f32s(&[2, 2, 2, 6])]);
    cases.push(case(causal, &past).outputs(3).within(1e-5));
    let side = Attention { q_heads: Some(2), kv_heads: Some(2), ..Attention::PLAIN };
    let inputs = [f32s(&[2, 3, 8]), f32s(&[2, 5, 8]), f32s(&[2, 5, 6])];
    cases.push(case(side, &inputs).within(1e-5));
    longer_attention(cases);
}

/// More queries, keys and columns than one workgroup goes through at a time.
fn longer_attention(cases: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16] {
        let tolerance = if dtype == DType::F32 { 1e-5 } else { 3e-3 };
        let q = random(dtype, &[1, 4, 11, 8]);
        let kv = [random(dtype, &[1, 2, 70, 8]), random(dtype, &[1, 2, 70, 67])];
        let plain = [q, kv[0].clone(), kv[1].clone()];
        cases.push(case(Attention::PLAIN, &plain).within(tolerance));
        let causal = Attention { causal: true, softcap: 1.5, ..Attention::PLAIN };
        cases.push(case(causal.clone(), &plain).within(tolerance));
        let mut past = plain.to_vec();
        let more = [[1, 2, 13, 8], [1, 2, 13, 67]].map(|shape| random(dtype, &shape));
        // No key of the first queries is allowed.
        let seen: Vec<Bool> = (0..11 * 83).map(|i| Bool::from(i > 200 && i % 3 > 0)).collect();
        past.push(Tensor::from_slice(&[11, 83], &seen));
        past.extend(more);
        cases.push(case(causal.clone(), &past).outputs(3).within(tolerance));
        past[3] = random(dtype, &[1, 4, 11, 83]);
        let window = Attention { left_window: Some(9), right_window: Some(2), ..Attention::PLAIN };
        cases.push(case(window, &past).within(tolerance));
        let mut first = case(causal.clone(), &plain).within(tolerance);
        let lens = if dtype == DType::F32 { Some(ints(&[60])) } else { Option::None };
        let sinks = Some(random(dtype, &[4]));
        first.inputs.extend([Option::None, Option::None, Option::None, lens, Some(ints(&[40]))]);
        first.inputs.push(sinks);
        let mut few = case(causal.clone(), &[random(dtype, &[1, 4, 2, 8])]).within(tolerance);
        few.inputs.extend(first.inputs[1..].to_vec());
        cases.extend([first, few]);
        let side = Attention { q_heads: Some(2), kv_heads: Some(1), ..causal };
        let inputs = [[2, 9, 16], [2, 33, 8], [2, 33, 6]].map(|shape| random(dtype, &shape));
        cases.push(case(side, &inputs).within(tolerance));
    }
}

/// Weights of 2, 4 and 8 bits; whole numbers in a and scales of powers of two make sums exact.
pub fn few_bits(cases: &mut Vec<Case>) {
    let bytes = |n: usize| -> Vec<u8> { (0..n).map(|i| (i * 37 % 256) as u8).collect() };
    let scales: Vec<f32> = (0..9).map(|i| 0.25 * (1 << (i % 3)) as f32).collect();
    let scales = Tensor::from_slice(&[3, 3], &scales);
    for m in [1usize, 5] {
        let a: Vec<f32> = (0..m * 40).map(|i| (i % 7) as f32 - 3.0).collect();
        let a = Tensor::from_slice(&[m, 40], &a);
        for bits in [2, 4, 8] {
            let op = MatMulNBits { n: 3, k: 40, bits, block_size: 16 };
            let codes = Tensor::from_slice(&[3, 3, 2 * bits], &bytes(18 * bits));
            let zeros = Tensor::vector(&bytes(3 * op.zero_bytes()));
            let all = [a.clone(), codes, scales.clone(), zeros];
            cases.push(case(op.clone(), &all[..3]).within(0.0));
            let mut with_zeros = case(op.clone(), &all).within(0.0);
            let groups: Vec<i32> = (0..40).map(|k| (k * 5 % 3) as i32).collect();
            let mut grouped = case(op, &all).within(1e-6);
            let bias = Tensor::vector(&[1f32, -2.0, 3.0]);
            with_zeros.inputs.extend([None, Some(bias)]);
            grouped.inputs.push(Some(Tensor::vector(&groups)));
            cases.extend([with_zeros, grouped]);
        }
        for (codes, trans_b) in [(FourBits::Fp4, true), (FourBits::Nf4, false)] {
            let op = MatMulBnb4 { n: 40, k: 40, block_size: 16, codes, trans_b };
            let absmax: Vec<f32> = (0..100).map(|i| 0.1 + i as f32 * 0.01).collect();
            let inputs = [a.clone(), Tensor::vector(&bytes(800)), Tensor::vector(&absmax)];
            cases.push(case(op, &inputs).within(1e-5));
        }
    }
}
