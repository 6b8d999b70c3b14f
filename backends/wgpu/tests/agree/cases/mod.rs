//! The cases: small, odd sizes, every dtype that a kernel takes.

mod elements;
mod moves;
mod networks;
mod pictures;
mod products;

use half::{bf16, f16};
use rinfer_graph::ops::*;
use rinfer_graph::{Bool, DType, Op, Tensor};

use crate::Case;

/// Numbers between -2 and 2, the same in every run.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 22) as f32 - 2.0
    }
}

/// Random elements of a dtype; integers are small, and negative where they may be.
fn random(dtype: DType, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let mut numbers = Numbers(n as u32 * 31 + shape.len() as u32);
    let x: Vec<f32> = (0..n).map(|_| numbers.next()).collect();
    let ints = |most: f32| x.iter().map(move |x| (x * most) as i64);
    match dtype {
        DType::F32 => Tensor::from_slice(shape, &x),
        DType::F16 => {
            Tensor::from_slice(shape, &x.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>())
        }
        DType::BF16 => {
            Tensor::from_slice(shape, &x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>())
        }
        DType::I64 => Tensor::from_slice(shape, &ints(3e9).collect::<Vec<i64>>()),
        DType::U64 => Tensor::from_slice(shape, &ints(3e9).map(|x| x as u64).collect::<Vec<u64>>()),
        DType::I32 => Tensor::from_slice(shape, &ints(9.0).map(|x| x as i32).collect::<Vec<_>>()),
        DType::U32 => Tensor::from_slice(
            shape,
            &ints(9.0).map(|x| x.unsigned_abs() as u32).collect::<Vec<_>>(),
        ),
        DType::I16 => Tensor::from_slice(shape, &ints(9.0).map(|x| x as i16).collect::<Vec<_>>()),
        DType::I8 => Tensor::from_slice(shape, &ints(60.0).map(|x| x as i8).collect::<Vec<_>>()),
        DType::U8 => Tensor::from_slice(
            shape,
            &ints(60.0).map(|x| x.unsigned_abs() as u8).collect::<Vec<_>>(),
        ),
        DType::Bool => {
            Tensor::from_slice(shape, &x.iter().map(|&x| Bool::from(x > 0.0)).collect::<Vec<_>>())
        }
        other => panic!("no random {other}"),
    }
}

fn f32s(shape: &[usize]) -> Tensor {
    random(DType::F32, shape)
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::vector(values)
}

/// How far results in this dtype may be off.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::F16 => 2e-3,
        DType::BF16 => 1.6e-2,
        _ => 3e-6,
    }
}

fn case(op: impl Into<Op>, inputs: &[Tensor]) -> Case {
    let op = op.into();
    let shapes: Vec<String> =
        inputs.iter().map(|t| format!("{}{:?}", t.dtype(), t.shape())).collect();
    let inputs: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
    let tolerance = tolerance(inputs[0].as_ref().map_or(DType::F32, Tensor::dtype));
    let what = match &op {
        Op::Unary(f) => f.0.to_string(),
        Op::Binary(f) => f.0.to_string(),
        Op::Cast(c) => format!("Cast to {}", c.to),
        Op::Reduce(r) => format!("Reduce{:?}", r.kind),
        other => other.name().to_string(),
    };
    Case {
        name: format!("{what} {}", shapes.join(" ")),
        op,
        inputs,
        outputs: 1,
        fixed: &[],
        tolerance,
    }
}

impl Case {
    fn fixed(self, fixed: &'static [usize]) -> Case {
        Case { fixed, ..self }
    }

    fn outputs(self, outputs: usize) -> Case {
        Case { outputs, ..self }
    }

    fn within(self, tolerance: f32) -> Case {
        Case { tolerance, ..self }
    }

    fn without(mut self, input: usize) -> Case {
        self.inputs[input] = None;
        self
    }
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    elements::unary(&mut cases);
    elements::casts(&mut cases);
    elements::binary(&mut cases);
    moves::moves(&mut cases);
    moves::picks(&mut cases);
    moves::rows(&mut cases);
    products::products(&mut cases);
    products::windows(&mut cases);
    products::few_bits(&mut cases);
    elements::programs(&mut cases);
    products::attention(&mut cases);
    networks::codes(&mut cases);
    networks::sequences(&mut cases);
    networks::networks(&mut cases);
    pictures::pictures(&mut cases);
    pictures::spectra(&mut cases);
    pictures::streams(&mut cases);
    pictures::statistics(&mut cases);
    pictures::picks(&mut cases);
    pictures::scatters(&mut cases);
    cases
}

/// Gather of these rows of five.
pub fn gather(at: &[i64]) -> Case {
    case(Gather { axis: Axis(0) }, &[f32s(&[5, 3]), ints(at)])
}
