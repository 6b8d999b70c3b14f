//! Quantized products, sequences and recurrent networks.

use rinfer_graph::ops::*;
use rinfer_graph::{DType, Tensor};

use super::*;

pub fn codes(cases: &mut Vec<Case>) {
    let x = f32s(&[3, 4, 5]);
    for dtype in [DType::U8, DType::I8, DType::I16] {
        for (scale, zero) in [(vec![0.1f32], &[][..]), (vec![0.1, 0.02, 0.3, 0.05], &[4][..])] {
            let zero = random(dtype, zero);
            let scale = Tensor::from_slice(zero.shape(), &scale);
            let op = QuantizeLinear {
                axis: Axis(1),
                block_size: 0,
                output: None,
                saturate: true,
                precision: None,
            };
            cases.push(case(op, &[x.clone(), scale.clone(), zero.clone()]));
            let op = DequantizeLinear { axis: Axis(1), block_size: 0, output: None };
            cases.push(case(op, &[random(dtype, &[3, 4, 5]), scale, zero]).within(1e-6));
        }
    }
    for (a, b) in [(DType::U8, DType::I8), (DType::I8, DType::U8)] {
        let (x, y) = (random(a, &[9, 17]), random(b, &[17, 6]));
        cases.push(case(MatMulInteger, &[x.clone(), y.clone()]));
        let zeros = [random(a, &[]), random(b, &[6])];
        cases
            .push(case(MatMulInteger, &[x.clone(), y.clone(), zeros[0].clone(), zeros[1].clone()]));
        let scale = Tensor::scalar(0.02f32);
        let scales = Tensor::vector(&[0.02f32, 0.1, 0.03, 0.04, 0.05, 0.01]);
        let out = Tensor::scalar(1.5f32);
        let inputs = [x, scale, zeros[0].clone(), y, scales, zeros[1].clone(), out, random(a, &[])];
        cases.push(case(QLinearMatMul, &inputs));
    }
    let window = Window {
        kernel: PerAxis::new(),
        strides: PerAxis::new(),
        dilations: PerAxis::new(),
        padding: Padding::Explicit([1, 1, 1, 1].into_iter().collect()),
        ceil_mode: false,
    };
    let (x, w) = (random(DType::U8, &[1, 4, 6, 5]), random(DType::I8, &[6, 2, 3, 3]));
    let op = ConvInteger { window: window.clone(), group: 2 };
    cases.push(case(op, &[x.clone(), w.clone(), Tensor::scalar(3u8)]));
    let scales = Tensor::vector(&[0.02f32, 0.1, 0.03, 0.04, 0.05, 0.01]);
    let inputs = [
        x,
        Tensor::scalar(0.03f32),
        Tensor::scalar(7u8),
        w,
        scales,
        Tensor::vector(&[0i8; 6]),
        Tensor::scalar(0.4f32),
        Tensor::scalar(100u8),
        random(DType::I32, &[6]),
    ];
    cases.push(case(QLinearConv { window: window.clone(), group: 2 }, &inputs));
    let floats = case(QLinearConv { window, group: 2 }, &inputs).without(6).without(7);
    cases.push(floats.within(0.0));
    for activation in [None, Some(Activation::Relu)] {
        let inputs = [
            random(DType::U8, &[3, 7, 5]),
            Tensor::scalar(0.5f32),
            Tensor::scalar(100u8),
            random(DType::I8, &[3, 7, 5]),
            Tensor::scalar(0.25f32),
            Tensor::scalar(-3i8),
            Tensor::scalar(0.75f32),
            Tensor::scalar(9u8),
        ];
        cases.push(case(QuantizedAdd { activation }, &inputs).fixed(&[1, 2, 4, 5, 6, 7]));
    }
    quantized_products(cases);
}

/// What dynamic and static layers become: rows of codes, and products that end in floats or codes.
fn quantized_products(cases: &mut Vec<Case>) {
    let op = QuantizeRows { levels: 127.0, least: 1e-30, zero: 128 };
    let special = [0.0, -0.0, 0.0, 1.0, f32::NAN, 2.0, 254.0, 3.0, -5.0];
    for x in [f32s(&[2, 3, 70]), f32s(&[5, 3]), Tensor::from_slice(&[3, 3], &special)] {
        cases.push(case(op.clone(), &[x]).outputs(2).within(0.0));
    }
    let (zeros, scale) = ([Tensor::scalar(131u8), random(DType::I8, &[6])], f32s(&[6]));
    let y = [Tensor::scalar(0.037f32), Tensor::scalar(-7i8)];
    for (a, b, trans_b) in [
        (&[9, 17][..], &[17, 6][..], false),
        (&[2, 9, 17], &[6, 17], true),
        (&[2, 1, 4, 17], &[3, 17, 6], false),
    ] {
        let rows = f32s(&[a[..a.len() - 1].iter().product(), 1]);
        let codes = [random(DType::U8, a), random(DType::I8, b)];
        let all = [&codes[..], &zeros, &[scale.clone(), f32s(&[6])], &y, &[rows]].concat();
        let mut push = |activation, without: &[usize], upto: usize| {
            let made = case(QuantizedMatMul { trans_b, activation }, &all[..upto]).within(0.0);
            cases.push(without.iter().fold(made, |case, &i| case.without(i)));
        };
        push(None, &[2, 3], 5);
        push(Some(Activation::Relu), &[], 6);
        push(Some(Activation::Relu), &[3], 8);
        if b.len() == 2 {
            push(None, &[2, 6, 7], 9);
        }
    }
}

pub fn sequences(cases: &mut Vec<Case>) {
    for kind in [Accumulate::Sum, Accumulate::Prod] {
        for (exclusive, reverse) in [(false, false), (true, true)] {
            for dtype in [DType::F32, DType::I32, DType::I64] {
                let op = Cumulative { kind, exclusive, reverse };
                let inputs = [random(dtype, &[2, 5, 3]), Tensor::scalar(1i64)];
                cases.push(case(op, &inputs).fixed(&[1]).within(1e-5));
            }
        }
    }
    for interleaved in [false, true] {
        let op = RotaryEmbedding { interleaved, heads: 0, dim: 0 };
        let x = f32s(&[2, 3, 4, 6]);
        cases.push(case(op, &[x.clone(), f32s(&[2, 4, 3]), f32s(&[2, 4, 3])]));
        let op = RotaryEmbedding { interleaved, heads: 3, dim: 4 };
        let ids = Tensor::from_slice(&[2, 4], &[0i64, 1, 2, 3, 6, 5, 4, 3]);
        let inputs = [f32s(&[2, 4, 18]), f32s(&[7, 2]), f32s(&[7, 2]), ids];
        cases.push(case(op, &inputs));
    }
}

pub fn networks(cases: &mut Vec<Case>) {
    let cells = [
        (Cell::Lstm { input_forget: false }, 4, 3),
        (Cell::Gru { linear_before_reset: false }, 3, 2),
        (Cell::Gru { linear_before_reset: true }, 3, 2),
        (Cell::Rnn, 1, 1),
    ];
    for (cell, gates, functions) in cells {
        for batch_first in [false, true] {
            let all = [GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh];
            let each = if functions == 1 { &all[1..2] } else { &all[..functions] };
            let op = Recurrent {
                cell,
                direction: Direction::Both,
                activations: each.repeat(2),
                clip: None,
                batch_first,
                hidden_size: None,
                rounded_state: false,
            };
            let state = if batch_first { [3, 2, 5] } else { [2, 3, 5] };
            let mut inputs = vec![
                f32s(if batch_first { &[3, 4, 7] } else { &[4, 3, 7] }),
                f32s(&[2, gates * 5, 7]),
                f32s(&[2, gates * 5, 5]),
                f32s(&[2, gates * 10]),
                Tensor::vector(&[4i32, 2, 0]),
                f32s(&state),
            ];
            let lstm = gates == 4;
            if lstm {
                inputs.extend([f32s(&state), f32s(&[2, 15])]);
            }
            let outputs = if lstm { 3 } else { 2 };
            cases.push(case(op, &inputs).outputs(outputs).within(1e-5));
        }
    }
}
