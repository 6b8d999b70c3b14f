//! Pointwise programs, and the operators that are programs of one step, as one generated function.
//!
//! One lane makes one word of the output; inputs are broadcast by their strides.

use rinfer_graph::ops::{Operand, Pointwise, Step};
use rinfer_graph::{DType, Op, Reason, unsupported};

use super::functions::{binary, cast, clip, literal, mixed_power, unary};
use crate::index::{Axes, broadcast, count};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Launch, Shader};

/// One line of `value`.
type Expr = Option<String>;

/// Whether these dtypes are computed by an operator of one step.
pub(crate) fn supports(op: &Op, inputs: &[DType]) -> Result<(), Reason> {
    let names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
    let classes = inputs.iter().map(|&d| Class::of(d)).collect::<Result<Vec<_>, _>>()?;
    match step(op, inputs, &classes, &names) {
        Some(_) => Ok(()),
        None => {
            let from: Vec<String> = inputs.iter().map(DType::to_string).collect();
            let to = if let Op::Cast(op) = op { format!(" to {}", op.to) } else { String::new() };
            let (name, from) = (op.name(), from.join(", "));
            Err(unsupported!("{name} of {from}{to} on the GPU is not supported"))
        }
    }
}

/// The expression of an operator of one step.
fn step(op: &Op, dtypes: &[DType], classes: &[Class], x: &[String]) -> Expr {
    match op {
        Op::Unary(f) => unary(f.0, *classes.first()?, dtypes[0], &x[0]),
        Op::Binary(f) if classes == [Class::Float; 2] => {
            binary(f.0, Class::Float, dtypes[0], &x[0], &x[1])
        }
        Op::Binary(_) if dtypes.get(1)? != &dtypes[0] => {
            // Only Pow mixes dtypes.
            mixed_power(dtypes[0], dtypes[1], &x[0], &x[1])
        }
        Op::Binary(f) => binary(f.0, classes[0], dtypes[0], &x[0], &x[1]),
        Op::Where(_) => Some(format!("select({}, {}, {})", x.get(2)?, x[1], x[0])),
        Op::Cast(op) => cast(*dtypes.first()?, op.to, &x[0]),
        Op::Clip(_) => {
            let dtype = *dtypes.first()?;
            let max = rinfer_graph::ops::BinaryFn::Max;
            let min = rinfer_graph::ops::BinaryFn::Min;
            let mut text = x[0].clone();
            if let Some(lo) = x.get(1).filter(|lo| !lo.is_empty()) {
                text = binary(max, classes[0], dtype, &text, lo)?;
            }
            if let Some(hi) = x.get(2).filter(|hi| !hi.is_empty()) {
                text = binary(min, classes[0], dtype, &text, hi)?;
            }
            Some(text)
        }
        _ => None,
    }
}

/// Unary, Binary, Where, Cast, Clip.
pub(super) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let given: Vec<usize> = (0..cx.inputs.len()).filter(|&i| cx.opt(i).is_some()).collect();
    let mut dtypes = Vec::new();
    for &i in &given {
        dtypes.push(cx.dtype(i)?);
    }
    let classes = dtypes.iter().map(|&d| Class::of(d)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = (0..cx.inputs.len())
        .map(|i| if cx.opt(i).is_some() { format!("x{i}") } else { String::new() })
        .collect();
    let expr = step(&cx.node.op, &dtypes, &classes, &names);
    let expr = expr.ok_or_else(|| unsupported!("{} of {dtypes:?}", cx.node.op.name()))?;
    let inputs: Vec<(usize, DType)> = given.into_iter().zip(dtypes).collect();
    let body = format!("  return {expr};\n");
    Ok(Kernel::one(launch(cx, &inputs, 0, &body)?))
}

/// A kernel that computes output `o` by `body`, in which input `i` is called `xi`.
pub(super) fn launch(
    cx: &Cx<'_>,
    inputs: &[(usize, DType)],
    o: usize,
    body: &str,
) -> Result<Launch, Reason> {
    let out = cx.out_sizes(o)?;
    let dtype = cx.out_dtype(o)?;
    let mut shader = Shader::new("");
    let mut strides = Vec::new();
    for &(i, dtype) in inputs {
        shader.read(&format!("in{i}"), dtype, Bind::Input(i))?;
        strides.push(broadcast(&cx.sizes(i)?, &out));
    }
    shader.write("y", dtype, Bind::Output(o))?;
    let axes = Axes::merged(&out, &strides);
    let mut text = format!("fn value(i: u32) -> {} {{\n", Class::of(dtype)?.wgsl());
    if !(0..inputs.len()).all(|k| axes.is_flat(k)) {
        text.push_str(&axes.split(&mut shader, "a")?);
    }
    for (k, &(i, _)) in inputs.iter().enumerate() {
        let place = match axes.is_flat(k) {
            true => "i".to_string(),
            false => axes.place(&mut shader, "a", k)?,
        };
        text.push_str(&format!("  let x{i} = in{i}_at({place});\n"));
    }
    shader.code(&format!("{text}{body}}}"));
    shader.elements(count(&out), cx.traits.max_groups)
}

/// Pointwise: one kernel for each output.
pub(super) fn program(op: &Pointwise, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let mut kernel = Kernel::default();
    let dtypes = (0..op.inputs()).map(|i| cx.dtype(i)).collect::<Result<Vec<_>, _>>()?;
    for (o, &(result, _)) in op.outputs().iter().enumerate() {
        if !cx.wants(o) {
            break;
        }
        let (mut body, read) = lines(op, &dtypes, result)?;
        body.push_str(&format!("  return {};\n", name(result)));
        let inputs: Vec<(usize, DType)> = read.iter().map(|&i| (i, dtypes[i])).collect();
        let needed = inputs.len() + 1;
        if needed > cx.traits.max_buffers {
            return Err(unsupported!("a program of {needed} buffers on this GPU"));
        }
        kernel.push(launch(cx, &inputs, o, &body)?);
    }
    Ok(kernel)
}

fn name(x: Operand) -> String {
    match x {
        Operand::Input(i) => format!("x{i}"),
        Operand::Step(i) => format!("t{i}"),
        Operand::Const(c) => literal(c),
    }
}

/// The steps that `result` needs, and the inputs that they read. The shape is that of all inputs,
/// so every input must be bound even where a step does not need it; that costs nothing.
fn lines(
    op: &Pointwise,
    dtypes: &[DType],
    result: Operand,
) -> Result<(String, Vec<usize>), Reason> {
    let steps = op.steps();
    let mut needed = vec![false; steps.len()];
    let mut read = vec![false; op.inputs()];
    let mut need = |x: Operand, needed: &mut Vec<bool>| match x {
        Operand::Input(i) => read[i] = true,
        Operand::Step(i) => needed[i] = true,
        Operand::Const(_) => {}
    };
    need(result, &mut needed);
    for i in (0..steps.len()).rev() {
        if needed[i] {
            steps[i].args().iter().for_each(|&x| need(x, &mut needed));
        }
    }
    let mut classes: Vec<Class> = Vec::new();
    let mut text = String::new();
    for (i, step) in steps.iter().enumerate() {
        let class = |x: Operand| match x {
            Operand::Input(i) if dtypes[i] == DType::Bool => Class::Truth,
            Operand::Step(i) => classes[i],
            _ => Class::Float,
        };
        let (expr, made) = match *step {
            Step::Unary(f, x) => {
                let truth = f.result(DType::F32) == DType::Bool || class(x) == Class::Truth;
                let made = if truth { Class::Truth } else { Class::Float };
                (unary(f, class(x), DType::F32, &name(x)), made)
            }
            Step::Binary(f, a, b) => {
                let made = if f.compares() { Class::Truth } else { class(a) };
                (binary(f, class(a), DType::F32, &name(a), &name(b)), made)
            }
            Step::Where(c, a, b) => {
                (Some(format!("select({}, {}, {})", name(b), name(a), name(c))), class(a))
            }
            Step::Clip(x, lo, hi) => (Some(clip(&name(x), lo, hi)), Class::Float),
        };
        classes.push(made);
        let expr = expr.ok_or_else(|| unsupported!("step {i}, {step}, on the GPU"))?;
        if needed[i] {
            text.push_str(&format!("  let t{i} = {expr};\n"));
        }
    }
    let read = (0..op.inputs()).filter(|&i| read[i]).collect();
    Ok((text, read))
}
