//! Functions of elements: unary, binary, casts, programs.

use rinfer_graph::ops::*;
use rinfer_graph::{DType, Tensor};

use super::*;

pub fn unary(cases: &mut Vec<Case>) {
    use UnaryFn::*;
    let any = [
        Abs,
        Atan,
        Asinh,
        Ceil,
        Cos,
        Cosh,
        Erf,
        Exp,
        Floor,
        Gelu,
        GeluTanh,
        HardSwish,
        IsNaN,
        Mish,
        Neg,
        Reciprocal,
        Relu,
        Round,
        Sigmoid,
        Sign,
        Sin,
        Sinh,
        Softplus,
        Softsign,
        Tan,
        Tanh,
        Celu { alpha: 2.0 },
        Elu { alpha: 0.5 },
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        IsInf { negative: true, positive: false },
        LeakyRelu { alpha: 0.1 },
        Selu { alpha: 1.67, gamma: 1.05 },
        Shrink { bias: 0.5, lambd: 0.7 },
        Swish { alpha: 1.5 },
        ThresholdedRelu { alpha: 0.3 },
    ];
    for f in any {
        cases.push(case(Unary(f), &[f32s(&[3, 43])]).within(2e-5));
    }
    let unit: Vec<f32> = (-20..=20).map(|i| i as f32 / 20.0).collect();
    for f in [Acos, Asin, Atanh] {
        cases.push(case(Unary(f), &[Tensor::vector(&unit)]).within(1e-5));
    }
    let above: Vec<f32> = (0..40).map(|i| 1.0 + i as f32 * 0.3).collect();
    for f in [Acosh, Log, Sqrt] {
        cases.push(case(Unary(f), &[Tensor::vector(&above)]).within(1e-5));
    }
    for dtype in [DType::F16, DType::BF16] {
        cases.push(case(Unary(Tanh), &[random(dtype, &[7])]));
    }
    for dtype in [DType::I8, DType::I16, DType::I32, DType::I64, DType::U8] {
        cases.push(case(Unary(Abs), &[random(dtype, &[13])]));
        cases.push(case(Unary(Sign), &[random(dtype, &[13])]));
        cases.push(case(Unary(BitwiseNot), &[random(dtype, &[13])]));
    }
    cases.push(case(Unary(Not), &[random(DType::Bool, &[9])]));
}

pub fn casts(cases: &mut Vec<Case>) {
    let all = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::I64,
        DType::I32,
        DType::U32,
        DType::I16,
        DType::I8,
        DType::U8,
        DType::Bool,
    ];
    for from in all {
        for to in all.into_iter().filter(|&to| to != from) {
            let x = random(from, &[11]);
            // What does not fit is left open by ONNX.
            let open = from.is_float() && (to.is_unsigned() || to == DType::U8);
            if !open {
                cases.push(case(Cast::to(to), &[x]).within(1e-6));
            }
        }
    }
}

pub fn binary(cases: &mut Vec<Case>) {
    use BinaryFn::*;
    let numbers = [Add, Sub, Mul, Max, Min, Equal, Less, LessOrEqual, Greater, GreaterOrEqual];
    for f in numbers {
        for dtype in [DType::F32, DType::F16, DType::I32, DType::I64, DType::U8, DType::I8] {
            cases.push(case(Binary(f), &[random(dtype, &[2, 3, 5]), random(dtype, &[3, 1])]));
        }
    }
    for f in [Div, Mod { fmod: false }, Mod { fmod: true }] {
        let (a, b) = (random(DType::I32, &[2, 7]), random(DType::I32, &[7]));
        cases.push(case(Binary(f), &[a, b]));
    }
    cases.push(case(Binary(Div), &[f32s(&[4, 1, 3]), f32s(&[5, 1])]));
    whole_numbers(cases);
    cases.push(case(Binary(PRelu), &[f32s(&[2, 3, 4]), f32s(&[3, 1])]));
    let base: Vec<f32> = (0..12).map(|i| i as f32 * 0.5 - 2.0).collect();
    for e in [2.0, 3.0, 0.0, -1.0] {
        let inputs = [Tensor::vector(&base), Tensor::scalar::<f32>(e)];
        cases.push(case(Binary(Pow), &inputs).within(1e-5));
    }
    for f in [And, Or, Xor, Equal] {
        let inputs = [random(DType::Bool, &[3, 5]), random(DType::Bool, &[5])];
        cases.push(case(Binary(f), &inputs));
    }
    for f in [BitwiseAnd, BitwiseOr, BitwiseXor] {
        for dtype in [DType::I64, DType::U8, DType::I32] {
            cases.push(case(Binary(f), &[random(dtype, &[9]), random(dtype, &[1])]));
        }
    }
    for dtype in [DType::F32, DType::I64, DType::U8] {
        let c = random(DType::Bool, &[2, 1, 3]);
        cases.push(case(Where, &[c, random(dtype, &[4, 3]), random(dtype, &[1])]));
    }
    let bounds = [f32s(&[3, 5]), Tensor::scalar(-0.5f32), Tensor::scalar(0.7f32)];
    cases.push(case(Clip, &bounds));
}

/// Division, rests, powers and shifts of whole numbers.
fn whole_numbers(cases: &mut Vec<Case>) {
    use BinaryFn::*;
    let wide = [9i64, -9, i64::MIN, i64::MAX, 1 << 40, -(1 << 33), 5, 0, 7];
    let by = [4i64, 4, 3, -(1 << 35), 77, 1 << 20, -5, 9, i64::MAX];
    let unsigned = |x: &[i64]| Tensor::vector(&x.iter().map(|&x| x as u64).collect::<Vec<_>>());
    for f in [Div, Mod { fmod: false }, Mod { fmod: true }, Pow] {
        cases.push(case(Binary(f), &[ints(&wide), ints(&by)]));
        if f != (Mod { fmod: true }) {
            cases.push(case(Binary(f), &[unsigned(&wide), unsigned(&by)]));
        }
    }
    let shifts = [0i64, 1, 31, 32, 33, 63, 64, -1, 7];
    for left in [true, false] {
        let f = BitShift { left };
        cases.push(case(Binary(f), &[ints(&wide), ints(&shifts)]));
        cases.push(case(Binary(f), &[unsigned(&wide), unsigned(&shifts)]));
        let narrow = |x: &[i64]| Tensor::vector(&x.iter().map(|&x| x as i32).collect::<Vec<_>>());
        cases.push(case(Binary(f), &[narrow(&wide), narrow(&shifts)]));
        let bytes = |x: &[i64]| Tensor::vector(&x.iter().map(|&x| x as i8).collect::<Vec<_>>());
        cases.push(case(Binary(f), &[bytes(&wide), bytes(&shifts)]));
    }
    let base = Tensor::vector(&[2f32, -3.0, 0.5]);
    cases.push(case(Binary(Pow), &[base.clone(), ints(&[3, 2, -2])]).within(1e-5));
    cases.push(case(Binary(Pow), &[ints(&[3, -2, 7]), base]));
    cases.push(case(Binary(Pow), &[Tensor::vector(&[3i32, -2, 7]), ints(&[2, 5, 3])]));
    let a = [5.5f32, -5.5, 1e30, -0.0, 7.0, f32::INFINITY, 3.0, 1.0];
    let b = [2.0f32, 2.0, 3.0, -2.0, -2.0, 2.0, f32::INFINITY, f32::NEG_INFINITY];
    for fmod in [true, false] {
        cases.push(case(Binary(Mod { fmod }), &[Tensor::vector(&a), Tensor::vector(&b)]));
    }
}

pub fn programs(cases: &mut Vec<Case>) {
    use Operand::{Const, Input, Step as Made};
    let steps = vec![
        Step::Binary(BinaryFn::Mul, Input(0), Const(0.5)),
        Step::Unary(UnaryFn::Erf, Input(1)),
        Step::Binary(BinaryFn::Add, Made(1), Const(1.0)),
        Step::Binary(BinaryFn::Mul, Made(0), Made(2)),
        Step::Binary(BinaryFn::Greater, Made(3), Const(0.0)),
        Step::Where(Made(4), Made(3), Input(0)),
        Step::Clip(Made(5), -1.0, f32::INFINITY),
    ];
    let outputs = [(Made(6), DType::F32), (Made(4), DType::Bool)];
    let op = Pointwise::new(2, steps, &outputs).expect("a program");
    for dtype in [DType::F32, DType::F16] {
        let inputs = [random(dtype, &[3, 1, 5]), random(dtype, &[4, 1])];
        cases.push(case(op.clone(), &inputs).outputs(2).within(1e-5));
    }
}
