//! MatMulInteger, QLinearMatMul, QuantizedMatMul, ConvInteger, QLinearConv: products of bytes, summed
//! in i32.
//!
//! Sums are exact, and are requantized in f32 in the order in which the CPU does it.

use rinfer_graph::ops::{ConvInteger, QLinearConv, QuantizedMatMul, Window};
use rinfer_graph::{DType, Reason, unsupported};

use super::conv::{Shape, gathered, numbers};
use super::functions::activation;
use super::gemm::{self, Sizes};
use super::quantize::{ends, keep};
use super::rows::Target;
use crate::index::{Axes, broadcast, count};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader};

/// Reads codes and their zero points: `NAME_value(i, line)` is a code less its zero point, of which
/// there is one for all or one for each line.
fn codes(
    shader: &mut Shader,
    cx: &Cx<'_>,
    name: &str,
    [codes, zero]: [usize; 2],
) -> Result<(), Reason> {
    shader.read(name, cx.dtype(codes)?, Bind::Input(codes))?;
    let mut less = String::new();
    if let Some(fact) = cx.opt(zero) {
        let field = format!("{name}_zero");
        shader.read(&field, fact.dtype()?, Bind::Input(zero))?;
        let line = if fact.len() == Some(1) { "0u" } else { "line" };
        less = format!(" - i32({field}_at({line}))");
    }
    shader.code(&format!(
        "fn {name}_value(i: u32, line: u32) -> i32 {{ return i32({name}_at(i)){less}; }}"
    ));
    Ok(())
}

/// `Err` unless input `i` is omitted, one number, or one for each of `lines`.
fn per_line(cx: &Cx<'_>, i: usize, lines: usize) -> Result<(), Reason> {
    match cx.opt(i).and_then(|f| f.len()) {
        None | Some(1) => Ok(()),
        Some(n) if n == lines => Ok(()),
        Some(n) => Err(unsupported!("{n} scales or zero points for {lines} lines on the GPU")),
    }
}

/// MatMulInteger; with `quantized` QLinearMatMul.
pub(super) fn matmul(cx: &Cx<'_>, quantized: bool) -> Result<Kernel, Reason> {
    let [a, a_zero, b, b_zero] = if quantized { [0, 2, 3, 5] } else { [0, 2, 1, 3] };
    let (sa, sb) = (cx.sizes(a)?, cx.sizes(b)?);
    if sa.len() < 2 || sb.len() < 2 {
        return Err(unsupported!("a product of bytes of rank {} and {}", sa.len(), sb.len()));
    }
    let (m, k, n) = (sa[sa.len() - 2], sa[sa.len() - 1], sb[sb.len() - 1]);
    per_line(cx, a_zero, m)?;
    per_line(cx, b_zero, n)?;
    let out = cx.out_sizes(0)?;
    let batch = &out[..out.len() - 2];
    let mut kernel = Kernel::default();
    let target = Target::via(&mut kernel, cx, 0, DType::I32)?;
    let mut shader = Shader::new("");
    codes(&mut shader, cx, "a", [a, a_zero])?;
    codes(&mut shader, cx, "b", [b, b_zero])?;
    for (name, sizes) in [("batch_a", &sa), ("batch_b", &sb)] {
        let steps = broadcast(&sizes[..sizes.len() - 2], batch);
        Axes::merged(batch, &[steps]).function(&mut shader, name, 0)?;
    }
    shader.code(
        "fn a_load(i: u32, m: u32, k: u32) -> i32 {
  return a_value((batch_a(i) * p.m + m) * p.k + k, m);
}
fn b_load(i: u32, k: u32, n: u32) -> i32 {
  return b_value((batch_b(i) * p.k + k) * p.n + n, n);
}",
    );
    if quantized {
        for (i, lines) in [(1, m), (4, n), (6, m), (7, m)] {
            per_line(cx, i, lines)?;
        }
        requantize(&mut shader, cx, [1, 4, 6, 7], ["m", "n", "m"], "v")?;
    } else {
        shader.code("fn finish(v: i32, b: u32, m: u32, n: u32) -> i32 { return v; }");
    }
    shader.write("y", DType::I32, target.bind)?;
    let sizes = Sizes { batch: count(batch), m, n, k };
    kernel.push(gemm::launch(cx, shader, sizes, Class::Int)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Ends a sum: round(sum · scale) + zero, within the codes. `inputs` are the two scales, that of
/// the result, and its zero point; `lines` say which of each belongs to an element.
fn requantize(
    shader: &mut Shader,
    cx: &Cx<'_>,
    inputs: [usize; 4],
    lines: [&str; 3],
    sum: &str,
) -> Result<(), Reason> {
    let [lo, hi] = ends(cx.out_dtype(0)?)?;
    keep(shader)?;
    let names = ["a_scale", "b_scale", "y_scale", "y_zero"];
    let mut text = String::new();
    for (k, (&i, name)) in inputs.iter().zip(names).enumerate() {
        shader.read(name, cx.dtype(i)?, Bind::Input(i))?;
        let one = cx.input(i)?.len() == Some(1);
        let line = if one { "0u" } else { lines[k.min(2)] };
        text.push_str(&format!("  let {name}_here = f32({name}_at({line}));\n"));
    }
    // Scales are multiplied in their own dtype.
    let rounded = match cx.dtype(inputs[0])? {
        DType::F16 => "rounded_half",
        DType::BF16 => "rounded_bfloat",
        _ => "",
    };
    shader.code(&format!(
        "fn finish(v: i32, b: u32, m: u32, n: u32) -> i32 {{
{text}  let product = kept({rounded}(a_scale_here * b_scale_here));
  let scale = {rounded}(quotient(product, y_scale_here));
  let q = round(f32({sum}) * scale) + y_zero_here;
  return i32(clamp(q, {lo}, {hi}));
}}"
    ));
    Ok(())
}

/// QuantizedMatMul: activation(sum · scale · rows + bias), or codes of that.
pub(super) fn quantized_matmul(op: &QuantizedMatMul, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sa, sb, out) = (cx.sizes(0)?, cx.sizes(1)?, cx.out_sizes(0)?);
    let ([outer_a @ .., m, k], [outer_b @ .., _, _], [batch @ .., _, n]) =
        (&sa[..], &sb[..], &out[..])
    else {
        return Err(unsupported!("a product of bytes of rank {} and {}", sa.len(), sb.len()));
    };
    per_line(cx, 2, 1)?;
    [3, 4, 5].into_iter().try_for_each(|i| per_line(cx, i, *n))?;
    // One b for all: the rows of every a are those of one matrix.
    let flat = count(outer_b) == 1 && count(outer_a) == count(batch);
    let mut shader = Shader::new("");
    codes(&mut shader, cx, "a", [0, 2])?;
    codes(&mut shader, cx, "b", [1, 3])?;
    for (name, sizes) in [("batch_a", outer_a), ("batch_b", outer_b)] {
        let axes = match flat {
            true => Axes::merged(&[1], &[vec![0]]),
            false => Axes::merged(batch, &[broadcast(sizes, batch)]),
        };
        axes.function(&mut shader, name, 0)?;
    }
    shader.u32("rows", *m)?;
    let at_b = if op.trans_b { "n * p.k + k" } else { "k * p.n + n" };
    shader.code(&format!(
        "fn a_load(i: u32, m: u32, k: u32) -> i32 {{
  return a_value((batch_a(i) * p.rows + m) * p.k + k, 0u);
}}
fn b_load(i: u32, k: u32, n: u32) -> i32 {{
  return b_value(batch_b(i) * p.k * p.n + {at_b}, n);
}}"
    ));
    finish_floats(&mut shader, op, cx)?;
    let mut kernel = Kernel::default();
    let to = if cx.out_dtype(0)? == DType::F32 { DType::F32 } else { DType::I32 };
    let target = Target::via(&mut kernel, cx, 0, to)?;
    shader.write("y", to, target.bind)?;
    let (batch, m) = if flat { (1, count(batch) * m) } else { (count(batch), *m) };
    kernel.push(gemm::launch(cx, shader, Sizes { batch, m, n: *n, k: *k }, Class::Int)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Ends a sum of a [`QuantizedMatMul`].
fn finish_floats(shader: &mut Shader, op: &QuantizedMatMul, cx: &Cx<'_>) -> Result<(), Reason> {
    keep(shader)?;
    for (i, name) in [(4, "scale"), (5, "bias"), (6, "y_scale"), (7, "y_zero"), (8, "factors")] {
        if let Some(fact) = cx.opt(i) {
            shader.read(name, fact.dtype()?, Bind::Input(i))?;
        }
    }
    let column = |i: usize| match cx.opt(i).and_then(|fact| fact.len()) {
        Some(1) => "0u",
        _ => "n",
    };
    let mut sum = format!("kept(f32(v) * scale_at({}))", column(4));
    if cx.opt(8).is_some() {
        sum = format!("kept({sum} * factors_at(b * p.m + m))");
    }
    if cx.opt(5).is_some() {
        sum = format!("{sum} + bias_at({})", column(5));
    }
    let (mut ty, mut result) = ("f32", "y".to_string());
    if cx.opt(6).is_some() {
        let [lo, hi] = ends(cx.out_dtype(0)?)?;
        let q = "round(quotient(kept(y), y_scale_at(0u))) + f32(y_zero_at(0u))";
        shader.code(&format!(
            "fn code(q: f32) -> i32 {{ return i32(min(select({lo}, q, q > {lo}), {hi})); }}"
        ));
        (ty, result) = ("i32", format!("code({q})"));
    }
    let y = activation(op.activation, "s");
    shader.code(&format!(
        "fn finish(v: i32, b: u32, m: u32, n: u32) -> {ty} {{
  let s = {sum};
  let y = {y};
  return {result};
}}"
    ));
    Ok(())
}

/// Whether [`quantized_matmul`] and [`qlinear_conv`] run on the GPU with these inputs.
pub(super) fn supports_quantized(dtypes: &[DType], to: DType) -> Result<(), Reason> {
    match to {
        DType::F32 => supports(dtypes, DType::I32),
        codes => supports(dtypes, codes),
    }
}

/// ConvInteger.
pub(super) fn conv(op: &ConvInteger, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    convolve(cx, &op.window, op.group, false)
}

/// QLinearConv.
pub(super) fn qlinear_conv(op: &QLinearConv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    convolve(cx, &op.window, op.group, true)
}

fn convolve(cx: &Cx<'_>, window: &Window, group: usize, quantized: bool) -> Result<Kernel, Reason> {
    let [x, x_zero, w, w_zero] = if quantized { [0, 2, 3, 5] } else { [0, 2, 1, 3] };
    let (sx, sw) = (cx.sizes(x)?, cx.sizes(w)?);
    let shape = Shape::of_conv(&sx, &sw, window, group)?;
    per_line(cx, x_zero, 1)?;
    per_line(cx, w_zero, sw[0])?;
    let floats = quantized && cx.opt(6).is_none();
    let to = if floats { DType::F32 } else { DType::I32 };
    let mut kernel = Kernel::default();
    let target = Target::via(&mut kernel, cx, 0, to)?;
    let mut shader = Shader::new("");
    codes(&mut shader, cx, "x", [x, x_zero])?;
    codes(&mut shader, cx, "w", [w, w_zero])?;
    numbers(&mut shader, &shape)?;
    shader.code(&format!(
        "fn x_here(i: u32) -> i32 {{ return x_value(i, 0u); }}
fn a_load(b: u32, m: u32, k: u32) -> i32 {{
  let line = b % p.group * p.m + m;
  return w_value(line * p.k + k, line);
}}
fn b_load(b: u32, k: u32, n: u32) -> i32 {{\n{}}}",
        gathered(&shape, false)
    ));
    if quantized {
        let mut sum = "v";
        if cx.opt(8).is_some() {
            shader.read("bias", DType::I32, Bind::Input(8))?;
            sum = "(v + bias_at(b % p.group * p.m + m))";
        }
        let line = "(b % p.group * p.m + m)";
        match floats {
            true => scaled(&mut shader, cx, line, sum)?,
            false => requantize(&mut shader, cx, [1, 4, 6, 7], ["0u", line, "0u"], sum)?,
        }
    } else {
        shader.code("fn finish(v: i32, b: u32, m: u32, n: u32) -> i32 { return v; }");
    }
    shader.write("y", to, target.bind)?;
    kernel.push(gemm::launch(cx, shader, shape.product(), Class::Int)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Ends a sum of a QLinearConv that makes floats.
fn scaled(shader: &mut Shader, cx: &Cx<'_>, line: &str, sum: &str) -> Result<(), Reason> {
    keep(shader)?;
    shader.read("x_scale", DType::F32, Bind::Input(1))?;
    shader.read("w_scale", DType::F32, Bind::Input(4))?;
    let line = if cx.input(4)?.len() == Some(1) { "0u" } else { line };
    shader.code(&format!(
        "fn finish(v: i32, b: u32, m: u32, n: u32) -> f32 {{
  return f32({sum}) * kept(x_scale_at(0u) * w_scale_at({line}));
}}"
    ));
    Ok(())
}

/// Whether products of these codes run on the GPU.
pub(super) fn supports(dtypes: &[DType], to: DType) -> Result<(), Reason> {
    let codes = |d: DType| matches!(d, DType::U8 | DType::I8);
    let scales = |d: DType| matches!(d, DType::F32 | DType::F16 | DType::BF16 | DType::I32);
    match dtypes.iter().all(|&d| codes(d) || scales(d)) && (codes(to) || to == DType::I32) {
        true => Ok(()),
        false => Err(unsupported!("products of {dtypes:?} on the GPU")),
    }
}
