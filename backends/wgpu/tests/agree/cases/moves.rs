//! Moves, picks, and operators that look at rows.

use rinfer_graph::ops::*;
use rinfer_graph::{DType, Tensor};

use super::*;

pub fn moves(cases: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16, DType::I64, DType::U8] {
        let x = random(dtype, &[2, 3, 5]);
        cases.push(case(Transpose::new(&[2, 0, 1]), &[x.clone()]));
        cases.push(case(Expand, &[random(dtype, &[3, 1]), ints(&[2, 3, 5])]).fixed(&[1]));
        cases.push(case(Tile, &[x.clone(), ints(&[2, 1, 3])]).fixed(&[1]));
        let cut = [x.clone(), ints(&[4, 0]), ints(&[-100, 2]), ints(&[2, 0]), ints(&[-2, 1])];
        cases.push(case(Slice, &cut).fixed(&[1, 2, 3, 4]));
        let pieces = [x.clone(), random(dtype, &[2, 1, 5]), random(dtype, &[2, 4, 5])];
        cases.push(case(Concat { axis: Axis(1) }, &pieces));
        let split = Split { axis: Axis(2), num_outputs: None };
        cases.push(case(split, &[x.clone(), ints(&[1, 4])]).fixed(&[1]).outputs(2));
        for upper in [true, false] {
            cases.push(case(Trilu { upper }, &[x.clone(), Tensor::scalar(1i64)]).fixed(&[1]));
        }
        let pads = ints(&[0, 1, 2, 0, 1, 1]);
        for mode in [PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap] {
            cases.push(case(Pad { mode }, &[x.clone(), pads.clone()]).fixed(&[1]));
        }
        let filled = [x, pads, random(dtype, &[])];
        cases.push(case(Pad { mode: PadMode::Constant }, &filled).fixed(&[1]));
    }
    let many: Vec<Tensor> = (1..20).map(|i| f32s(&[2, i, 2])).collect();
    cases.push(case(Concat { axis: Axis(-2) }, &many));
    for order in [DepthOrder::BlockFirst, DepthOrder::ChannelFirst] {
        for (to, shape) in [(BlocksTo::Space, [1, 8, 2, 3]), (BlocksTo::Depth, [1, 2, 4, 6])] {
            cases.push(case(SpaceDepth { to, order, blocksize: 2 }, &[f32s(&shape)]));
        }
    }
}

pub fn picks(cases: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16, DType::I64, DType::U8] {
        let x = random(dtype, &[4, 3, 5]);
        let at = Tensor::from_slice(&[2, 2], &[0i64, -1, 2, 1]);
        cases.push(case(Gather { axis: Axis(1) }, &[x.clone(), at]));
        let at = Tensor::from_slice(&[2, 3, 2], &[0i32, 4, -5, 1, 2, 3, 0, 0, 1, 1, -1, 2]);
        cases.push(case(GatherElements { axis: Axis(2) }, &[x.clone(), at]));
        let at = Tensor::from_slice(&[4, 2, 1], &[0i64, 1, 2, -1, 0, 0, 1, 2]);
        cases.push(case(GatherND { batch_dims: 1 }, &[x.clone(), at]));
        let at = Tensor::from_slice(&[3, 3], &[0i64, 1, 2, 3, -1, 0, 1, 2, 4]);
        cases.push(case(GatherND { batch_dims: 0 }, &[x, at]));
        let inputs = [ints(&[1, -1, 9, 0]), Tensor::scalar(3i64), random(dtype, &[2])];
        cases.push(case(OneHot { axis: Axis(-1) }, &inputs).fixed(&[1]));
    }
}

pub fn rows(cases: &mut Vec<Case>) {
    for shape in [&[3, 7][..], &[2, 130], &[2, 3, 5]] {
        for axis in [-1, 0] {
            for kind in [SoftmaxKind::Softmax, SoftmaxKind::LogSoftmax] {
                cases.push(case(Softmax { kind, axis: Axis(axis) }, &[f32s(shape)]));
            }
        }
        for (keepdims, axes) in [(true, &[-1][..]), (false, &[0]), (true, &[0, 1])] {
            use ReduceKind::*;
            for kind in [L1, L2, LogSum, LogSumExp, Max, Mean, Min, Prod, Sum, SumSquare] {
                let positive = match kind {
                    LogSum => Tensor::from_slice(
                        shape,
                        &f32s(shape)
                            .as_slice::<f32>()
                            .iter()
                            .map(|x| x.abs() + 0.1)
                            .collect::<Vec<_>>(),
                    ),
                    _ => f32s(shape),
                };
                let op = Reduce { kind, keepdims, noop_with_empty_axes: false };
                cases.push(case(op, &[positive, ints(axes)]).fixed(&[1]).within(1e-5));
            }
        }
    }
    for dtype in [DType::I32, DType::I64, DType::U8, DType::I8, DType::F16] {
        for kind in [ReduceKind::Max, ReduceKind::Min, ReduceKind::Sum] {
            let op = Reduce { kind, keepdims: true, noop_with_empty_axes: false };
            cases.push(case(op, &[random(dtype, &[3, 70]), ints(&[1])]).fixed(&[1]));
        }
    }
    for extreme in [Extreme::Max, Extreme::Min] {
        for select_last_index in [false, true] {
            let op = Arg { extreme, axis: Axis(1), keepdims: false, select_last_index };
            cases.push(case(op, &[random(DType::I32, &[3, 40, 2])]));
        }
    }
    for dtype in [DType::F32, DType::F16] {
        let params = [random(dtype, &[3, 5, 70]), random(dtype, &[70]), random(dtype, &[5, 70])];
        let op = LayerNormalization { axis: Axis(-1), epsilon: 1e-5, stash: DType::F32 };
        cases.push(case(op.clone(), &params).within(3e-3));
        if dtype == DType::F32 {
            cases.push(case(op, &params).outputs(3).within(1e-5));
        }
        let op = RmsNormalization { axis: Axis(1), epsilon: 1e-5 };
        cases.push(case(op, &params[..2]).within(3e-3));
        let x = random(dtype, &[2, 6, 3, 4]);
        for (params, n) in [(Per::Channel, 6), (Per::Group, 2)] {
            let op = GroupNormalization { groups: Some(2), epsilon: 1e-5, params };
            let inputs = [x.clone(), random(dtype, &[n]), random(dtype, &[n])];
            cases.push(case(op, &inputs).within(3e-3));
        }
    }
    let positive = Tensor::vector(&[0.5f32, 1.0, 2.0]);
    let stats = [f32s(&[2, 3, 4]), f32s(&[3]), f32s(&[3]), f32s(&[3]), positive];
    let op = BatchNormalization { epsilon: 1e-5, training: None };
    cases.push(case(op, &stats).within(1e-5));
    let op = Lrn { alpha: 0.1, beta: 0.75, bias: 1.0, size: 3 };
    cases.push(case(op, &[f32s(&[2, 7, 3])]).within(1e-5));
}
