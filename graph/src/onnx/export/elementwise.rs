//! Unary, Binary, Cast, BitCast, Pointwise, and the activations that MatMul and Conv carry.

use super::node::{Attrs, NodeOut, flag, float, int, string};
use crate::float8::Round;
use crate::ops::{
    Activation, Binary, BinaryFn, BitCast, Cast, Operand, Pointwise, Step, Unary, UnaryFn,
};
use crate::{DType, Reason, unsupported};

/// The operator's name, its attributes, and the opset from which it exists.
fn function(f: UnaryFn) -> (String, Attrs, i64) {
    use UnaryFn::*;
    let debug = format!("{f:?}");
    let name = debug.split([' ', '{']).next().unwrap_or("").to_string();
    let attrs = match f {
        Celu { alpha }
        | Elu { alpha }
        | LeakyRelu { alpha }
        | Swish { alpha }
        | ThresholdedRelu { alpha } => vec![float("alpha", alpha)],
        HardSigmoid { alpha, beta } => vec![float("alpha", alpha), float("beta", beta)],
        Selu { alpha, gamma } => vec![float("alpha", alpha), float("gamma", gamma)],
        Shrink { bias, lambd } => vec![float("bias", bias), float("lambd", lambd)],
        IsInf { negative, positive } => {
            vec![flag("detect_negative", negative), flag("detect_positive", positive)]
        }
        GeluTanh => return ("Gelu".into(), vec![string("approximate", "tanh")], 21),
        _ => vec![],
    };
    let since = if matches!(f, Swish { .. }) { 24 } else { 21 };
    (name, attrs, since)
}

pub(super) fn unary(op: &Unary, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    // What everybody knows is better than an operator that few know yet.
    if let UnaryFn::Swish { alpha } = op.0 {
        let (x, y) = (out.input(0)?, out.output(0)?);
        return swish(out, alpha, &x, y);
    }
    let (name, attrs, since) = function(op.0);
    out.need(since);
    out.plain(&name, attrs)
}

/// y = x · sigmoid(alpha · x), written as the last step of the node
fn swish(out: &mut NodeOut<'_, '_>, alpha: f32, x: &str, y: String) -> Result<(), Reason> {
    let mut scaled = x.to_string();
    if alpha != 1.0 {
        let alpha = out.scalar(out.made(0).dtype()?, alpha)?;
        scaled = out.step("Mul", &[x, &alpha], vec![])?;
    }
    let gate = out.step("Sigmoid", &[&scaled], vec![])?;
    out.write("Mul", vec![x.to_string(), gate], vec![y], vec![])
}

/// The operator's name and its attributes.
fn function2(f: BinaryFn) -> (String, Attrs) {
    let debug = format!("{f:?}");
    let name = debug.split([' ', '{']).next().unwrap_or("").to_string();
    let attrs = match f {
        BinaryFn::BitShift { left } => {
            vec![string("direction", if left { "LEFT" } else { "RIGHT" })]
        }
        BinaryFn::Mod { fmod } => vec![flag("fmod", fmod)],
        _ => vec![],
    };
    (name, attrs)
}

pub(super) fn binary(op: &Binary, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let (name, attrs) = function2(op.0);
    out.plain(&name, attrs)
}

/// A program, one node a step, in f32.
pub(super) fn pointwise(op: &Pointwise, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let float = || vec![int("to", DType::F32.to_onnx() as i64)];
    let mut inputs = Vec::new();
    for i in 0..op.inputs() {
        let x = out.input(i)?;
        inputs.push(match out.fact(i)?.dtype()? {
            DType::F32 | DType::Bool => x,
            _ => out.step("Cast", &[&x], float())?,
        });
    }
    let mut made: Vec<String> = Vec::new();
    // Which inputs each step depends on: an output has the shape of all of them together.
    let mut reach: Vec<u64> = Vec::new();
    for step in op.steps() {
        let mut names = Vec::new();
        for &arg in &step.args() {
            names.push(name(arg, &inputs, &made, out)?);
        }
        let args: Vec<&str> = names.iter().map(String::as_str).collect();
        reach.push(step.args().iter().fold(0, |all, &arg| all | reaches(arg, &reach)));
        made.push(match *step {
            Step::Unary(UnaryFn::Swish { alpha }, _) => {
                let alpha = out.scalar(DType::F32, alpha)?;
                let scaled = out.step("Mul", &[args[0], &alpha], vec![])?;
                let gate = out.step("Sigmoid", &[&scaled], vec![])?;
                out.step("Mul", &[args[0], &gate], vec![])?
            }
            Step::Unary(f, _) => {
                let (name, attrs, since) = function(f);
                out.need(since);
                out.step(&name, &args, attrs)?
            }
            Step::Binary(f, ..) => {
                let (name, attrs) = function2(f);
                out.step(&name, &args, attrs)?
            }
            Step::Where(..) => out.step("Where", &args, vec![])?,
            Step::Clip(_, lo, hi) => {
                let (lo, hi) = (out.scalar(DType::F32, lo)?, out.scalar(DType::F32, hi)?);
                out.step("Clip", &[args[0], &lo, &hi], vec![])?
            }
        });
    }
    for (i, &(arg, dtype)) in op.outputs().iter().enumerate() {
        if reaches(arg, &reach).count_ones() as usize != op.inputs() {
            return Err(unsupported!("output {i} of a program that does not read every input"));
        }
        let (x, y) = (name(arg, &inputs, &made, out)?, out.output(i)?);
        match dtype {
            DType::F32 | DType::Bool => out.write("Identity", vec![x], vec![y], vec![])?,
            _ => out.write("Cast", vec![x], vec![y], vec![int("to", dtype.to_onnx() as i64)])?,
        }
    }
    Ok(())
}

/// The ONNX name of what a step reads.
fn name(
    arg: Operand,
    inputs: &[String],
    made: &[String],
    out: &mut NodeOut<'_, '_>,
) -> Result<String, Reason> {
    match arg {
        Operand::Input(i) => Ok(inputs[i].clone()),
        Operand::Step(i) => Ok(made[i].clone()),
        Operand::Const(x) => out.scalar(DType::F32, x),
    }
}

/// The inputs that a value depends on, one bit each.
fn reaches(arg: Operand, steps: &[u64]) -> u64 {
    match arg {
        Operand::Input(i) => 1 << i,
        Operand::Step(i) => steps[i],
        Operand::Const(_) => 0,
    }
}

pub(super) fn cast(op: &Cast, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![int("to", op.to.to_onnx() as i64)];
    if op.to.is_float8() {
        attrs.push(flag("saturate", op.saturate));
    }
    if op.to == DType::F8E8M0 {
        let mode = match op.round_mode {
            Round::Up => "up",
            Round::Down => "down",
            Round::Nearest => "nearest",
        };
        attrs.push(string("round_mode", mode));
    }
    out.plain("Cast", attrs)
}

pub(super) fn bit_cast(op: &BitCast, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.need(26);
    out.plain("BitCast", vec![int("to", op.to.to_onnx() as i64)])
}

/// Writes what follows a sum: `x` is its name, the node's output is what is made.
pub(super) fn activation(
    f: Option<Activation>,
    out: &mut NodeOut<'_, '_>,
    x: &str,
) -> Result<(), Reason> {
    let dtype = out.made(0).dtype()?;
    let f = match f {
        None => return out.last("Identity", vec![x.into()], vec![]),
        Some(f) => f,
    };
    let function_of = match f {
        Activation::Clip { lo, hi } => {
            let (lo, hi) = (out.scalar(dtype, lo)?, out.scalar(dtype, hi)?);
            return out.last("Clip", vec![x.into(), lo, hi], vec![]);
        }
        Activation::Silu => {
            let y = out.output(0)?;
            return swish(out, 1.0, x, y);
        }
        Activation::Relu => UnaryFn::Relu,
        Activation::LeakyRelu { alpha } => UnaryFn::LeakyRelu { alpha },
        Activation::Sigmoid => UnaryFn::Sigmoid,
        Activation::Tanh => UnaryFn::Tanh,
        Activation::Gelu => UnaryFn::Gelu,
        Activation::GeluTanh => UnaryFn::GeluTanh,
        Activation::HardSigmoid { alpha, beta } => UnaryFn::HardSigmoid { alpha, beta },
        Activation::HardSwish => UnaryFn::HardSwish,
    };
    let (name, attrs, since) = function(function_of);
    out.need(since);
    out.last(&name, vec![x.into()], attrs)
}

/// Writes `y = activation(x + residual)` where `product` makes x: the node's inputs 2 (a bias that
/// `product` has not added yet) and 3 (a residual), if given, are added on the way.
pub(super) fn epilogue(
    f: Option<Activation>,
    out: &mut NodeOut<'_, '_>,
    addends: &[usize],
    product: impl FnOnce(&mut NodeOut<'_, '_>, Option<String>) -> Result<String, Reason>,
) -> Result<(), Reason> {
    let addends: Vec<usize> = addends.iter().copied().filter(|&i| out.has(i)).collect();
    if addends.is_empty() && f.is_none() {
        let y = out.output(0)?;
        return product(out, Some(y)).map(drop);
    }
    let mut x = product(out, None)?;
    for (i, &input) in addends.iter().enumerate() {
        let addend = out.input(input)?;
        if f.is_none() && i + 1 == addends.len() {
            return out.last("Add", vec![x, addend], vec![]);
        }
        x = out.step("Add", &[&x, &addend], vec![])?;
    }
    activation(f, out, &x)
}
