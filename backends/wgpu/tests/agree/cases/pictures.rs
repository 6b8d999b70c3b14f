//! Images between pixels, spectra, streams, statistics.

use rinfer_graph::DType;
use rinfer_graph::ops::*;

use super::*;

pub fn pictures(cases: &mut Vec<Case>) {
    let grid = f32s(&[2, 3, 4, 2]);
    for mode in [GridMode::Nearest, GridMode::Linear, GridMode::Cubic] {
        for padding in [GridPadding::Zeros, GridPadding::Border, GridPadding::Reflection] {
            for align_corners in [false, true] {
                let op = GridSample { mode, padding, align_corners };
                cases.push(case(op, &[f32s(&[2, 3, 4, 5]), grid.clone()]).within(2e-5));
            }
        }
    }
    let op =
        GridSample { mode: GridMode::Linear, padding: GridPadding::Zeros, align_corners: false };
    cases.push(case(op, &[f32s(&[1, 2, 3, 4, 3]), f32s(&[1, 2, 2, 3, 3])]).within(2e-5));
    for align_corners in [false, true] {
        let inputs = [f32s(&[2, 2, 3]), ints(&[2, 3, 4, 5])];
        cases.push(case(AffineGrid { align_corners }, &inputs).fixed(&[1]));
        let inputs = [f32s(&[1, 3, 4]), ints(&[1, 1, 2, 1, 3])];
        cases.push(case(AffineGrid { align_corners }, &inputs).fixed(&[1]));
    }
    let rois = Tensor::from_slice(&[2, 4], &[0.5f32, 1.0, 6.5, 7.0, -1.0, 2.0, 5.0, 9.0]);
    for (max, half_pixel, sampling_ratio) in [(false, true, 2), (true, false, 0)] {
        let (height, width, spatial_scale) = (3, 2, 0.7);
        let op = RoiAlign { max, half_pixel, height, width, sampling_ratio, spatial_scale };
        let inputs = [f32s(&[2, 3, 8, 7]), rois.clone(), ints(&[1, 0])];
        cases.push(case(op, &inputs).within(1e-5));
    }
    let rois = Tensor::from_slice(&[2, 5], &[1f32, 0.5, 1., 6.5, 7., 0., 3., 2., 4., 9.]);
    let op = MaxRoiPool { height: 3, width: 2, spatial_scale: 0.8 };
    cases.push(case(op, &[f32s(&[2, 3, 8, 7]), rois]));
    let window = Window { kernel: [2, 3].into_iter().collect(), ..Window::default() };
    let op = DeformConv { window, group: 2, offset_group: 2 };
    let inputs = [
        f32s(&[2, 4, 5, 6]),
        f32s(&[6, 2, 2, 3]),
        f32s(&[2, 24, 4, 4]),
        f32s(&[6]),
        f32s(&[2, 12, 4, 4]),
    ];
    cases.push(case(op, &inputs).within(1e-5));
    for dtype in [DType::F32, DType::I64] {
        let op = Col2Im { dilations: vec![1, 2], pads: vec![1, 0, 0, 1], strides: vec![2, 1] };
        let inputs = [random(dtype, &[2, 12, 9]), ints(&[5, 4]), ints(&[2, 2])];
        cases.push(case(op, &inputs).fixed(&[1, 2]).within(1e-5));
    }
}

pub fn spectra(cases: &mut Vec<Case>) {
    for (inverse, onesided, parts, n) in [
        (false, false, 1, 7),
        (false, false, 2, 7),
        (false, true, 1, 8),
        (true, false, 2, 9),
        (true, true, 2, 5),
    ] {
        let inputs = [f32s(&[2, n, 3, parts]), Tensor::scalar(8i64), Tensor::scalar(1i64)];
        cases.push(case(DFT { inverse, onesided }, &inputs).fixed(&[1, 2]).within(1e-5));
    }
    let inputs = [f32s(&[2, 30, 1]), Tensor::scalar(4i64), f32s(&[8])];
    cases.push(case(STFT { onesided: true }, &inputs).fixed(&[1]).within(1e-5));
    let inputs = [f32s(&[2, 30, 2]), Tensor::scalar(5i64)];
    let length = Tensor::scalar(7i64);
    let mut whole = case(STFT { onesided: false }, &inputs).fixed(&[1, 3]).within(1e-5);
    whole.inputs.extend([None, Some(length)]);
    cases.push(whole);
}

pub fn streams(cases: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16] {
        for (gated, delta) in [(false, false), (true, false), (false, true), (true, true)] {
            let op = LinearAttention { q_heads: 4, kv_heads: 2, scale: None, gated, delta };
            let x = |n: usize| Some(random(dtype, &[2, 3, n]));
            let mut made = case(op, &[x(12).unwrap()]).outputs(2).within(5e-3);
            let past = random(DType::F32, &[2, 2, 3, 5]);
            let decay = if gated { x(2) } else { None };
            let beta = if delta { x(1) } else { None };
            made.inputs.extend([x(6), x(10), Some(past), decay, beta]);
            made.name = format!("{} gated {gated} delta {delta}", made.name);
            cases.push(made);
        }
        let op = CausalConv { activation: Some(Activation::Silu) };
        let inputs = [[2, 3, 6], [3, 1, 4], [2, 3, 3]].map(|shape| random(dtype, &shape));
        let with_bias =
            [inputs[0].clone(), inputs[1].clone(), random(dtype, &[3]), inputs[2].clone()];
        cases.push(case(op.clone(), &with_bias).outputs(2).within(3e-3));
        cases.push(case(op, &inputs[..2]).outputs(2).within(3e-3));
        let op = ReverseSequence { batch_axis: Axis(1), time_axis: Axis(0) };
        cases.push(case(op, &[random(dtype, &[5, 3, 2]), ints(&[5, 1, 3])]));
    }
}

pub fn statistics(cases: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16] {
        let hard = Softmax { kind: SoftmaxKind::Hardmax, axis: Axis(1) };
        cases.push(case(hard, &[random(dtype, &[2, 70, 3])]));
    }
    let params = [[3usize].as_slice(); 4].map(f32s);
    let mut inputs = vec![f32s(&[4, 3, 5])];
    inputs.extend(params);
    inputs[4] = Tensor::vector(&[0.5f32, 1.0, 2.0]);
    let op = BatchNormalization { epsilon: 1e-5, training: Some(0.8) };
    cases.push(case(op, &inputs).outputs(5).within(1e-5));
    cases.push(case(Det, &[f32s(&[3, 4, 4])]).within(1e-5));
    cases.push(case(DynamicQuantizeLinear, &[f32s(&[7, 31])]).outputs(3));
    cases.push(case(DynamicQuantizeLinear, &[Tensor::vector(&[0f32; 5])]).outputs(3));
    for (dtype, k) in [(None, 1), (Some(DType::U8), -2), (Some(DType::I64), 0)] {
        cases.push(case(EyeLike { dtype, k }, &[f32s(&[4, 6])]));
    }
    let rate = || Tensor::scalar(0.1f32);
    let adam =
        OptimizerRule::Adam { alpha: 0.9, beta: 0.8, epsilon: 1e-3, norm_coefficient_post: 0.1 };
    let adagrad = OptimizerRule::Adagrad { decay_factor: 0.1, epsilon: 1e-3 };
    let momentum = OptimizerRule::Momentum { alpha: 0.9, beta: 0.5, nesterov: true };
    for (rule, states) in [(adam, 2), (adagrad, 1), (momentum, 1)] {
        let op = Optimizer { rule, norm_coefficient: 0.01 };
        let mut inputs = vec![rate(), Tensor::scalar(3i64)];
        for k in 0..2 * (2 + states) {
            let x: Vec<f32> = (0..4 + k % 2).map(|i| (i + k + 1) as f32 * 0.3).collect();
            inputs.push(Tensor::vector(&x));
        }
        cases.push(case(op, &inputs).outputs(2 * (1 + states)).within(1e-5));
    }
    for reduction in [LossReduction::None, LossReduction::Mean, LossReduction::Sum] {
        for ignore_index in [None, Some(-3)] {
            let classes = [0i64, 4, if ignore_index.is_some() { -3 } else { 2 }, 1, 3, 3];
            let classes = Tensor::from_slice(&[2, 3], &classes);
            let op = NegativeLogLikelihoodLoss { reduction, ignore_index };
            let inputs = [f32s(&[2, 5, 3]), classes, f32s(&[5])];
            cases.push(case(op.clone(), &inputs).within(1e-5));
            cases.push(case(op, &inputs[..2]).within(1e-5));
        }
    }
}

pub fn picks(cases: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16, DType::I64, DType::U8, DType::I32] {
        for (largest, k) in [(true, 3), (false, 5)] {
            let inputs = [random(dtype, &[2, 9, 3]), ints(&[k])];
            let op = TopK { axis: Axis(1), largest };
            cases.push(case(op, &inputs).fixed(&[1]).outputs(2));
        }
    }
    // Several rounds.
    for (n, k) in [(3000, 5), (3000, 700), (600, 600), (513, 1)] {
        let op = TopK { axis: Axis(-1), largest: true };
        cases.push(case(op, &[f32s(&[2, n]), ints(&[k])]).fixed(&[1]).outputs(2));
    }
    for equation in
        ["bij,bjk->bik", "ij->ji", "ii->i", "ij,kj->ik", "bhqd,bhkd->bhqk", "i,j,k->ijk", "ij,i->"]
    {
        let shape = |term: &str| -> Vec<usize> {
            let size = |c: char| 2 + (c as usize - 'b' as usize) % 4;
            term.chars().map(|c| if c == 'i' { 4 } else { size(c) }).collect()
        };
        let terms = equation.split("->").next().unwrap().split(',');
        let op = Einsum { equation: equation.into() };
        for dtype in [DType::F32, DType::I64, DType::I8] {
            let inputs: Vec<Tensor> = terms.clone().map(|t| random(dtype, &shape(t))).collect();
            let mut made = case(op.clone(), &inputs).within(1e-5);
            made.name = format!("{} {equation}", made.name);
            cases.push(made);
        }
    }
}

pub fn scatters(cases: &mut Vec<Case>) {
    use Reduction::*;
    for dtype in [DType::F32, DType::F16, DType::I64, DType::U8, DType::Bool] {
        for reduction in [None, Add, Mul, Max, Min] {
            let at = Tensor::from_slice(&[2, 3, 2], &[0i64, 4, -5, 1, 2, 3, 0, 0, 1, 1, -1, 0]);
            let inputs = [random(dtype, &[3, 3, 5]), at, random(dtype, &[2, 3, 2])];
            let op = ScatterElements { axis: Axis(2), reduction };
            cases.push(case(op, &inputs).within(3e-3));
            let at = Tensor::from_slice(&[3, 2], &[0i64, 1, 2, -1, 0, 1]);
            let inputs = [random(dtype, &[3, 3, 5]), at, random(dtype, &[3, 5])];
            cases.push(case(ScatterND { reduction }, &inputs).within(3e-3));
        }
        for circular in [false, true] {
            let first = if circular { [3, 0] } else { [1, 2] };
            let inputs = [random(dtype, &[2, 3, 4, 2]), random(dtype, &[2, 3, 2, 2]), ints(&first)];
            cases.push(case(TensorScatter { axis: Axis(-2), circular }, &inputs));
        }
    }
    let op = MaxUnpool {
        kernel: [2, 2].into_iter().collect(),
        strides: [2, 2].into_iter().collect(),
        pads: Default::default(),
    };
    let places = Tensor::from_slice(&[1, 1, 2, 2], &[1i64, 2, 9, 15]);
    cases.push(case(op, &[f32s(&[1, 1, 2, 2]), places]));
}
