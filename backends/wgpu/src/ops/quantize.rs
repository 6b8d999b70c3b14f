//! QuantizeLinear and DequantizeLinear, one lane makes one word; QuantizedAdd and QuantizeRows.
//!
//! y = saturate(round(x / scale) + zero_point); x = (y - zero_point) · scale

use rinfer_graph::ops::{
    Activation, Axis, Blocks, DequantizeLinear, QuantizeLinear, QuantizeRows, QuantizedAdd,
};
use rinfer_graph::{DType, Fact, Reason, unsupported};

use super::rows::{FLOATS, launch};
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader};

/// The codes of an integer type.
pub(super) fn ends(dtype: DType) -> Result<[&'static str; 2], Reason> {
    Ok(match dtype {
        DType::U8 => ["0.0", "255.0"],
        DType::I8 => ["-128.0", "127.0"],
        DType::U16 => ["0.0", "65535.0"],
        DType::I16 => ["-32768.0", "32767.0"],
        other => return Err(unsupported!("quantizing to {other} on the GPU")),
    })
}

/// Lets the shader say `kept(x)`: x, rounded. Drivers may fuse a product with the sum that it goes
/// into, which rounds once less than the CPU does; they cannot see through this.
pub(super) fn keep(shader: &mut Shader) -> Result<(), Reason> {
    shader.u32("nothing", 0)?;
    let body = "bitcast<f32>(bitcast<u32>(x) ^ p.nothing)";
    shader.code(&format!("fn kept(x: f32) -> f32 {{ return {body}; }}"));
    Ok(())
}

/// A shader that reads x, and `scale_of(i)` and `zero_of(i)` of element `i`.
fn shader(cx: &Cx<'_>, axis: Axis, block_size: usize) -> Result<Shader, Reason> {
    let blocks = Blocks::new(&cx.sizes(0)?, &cx.sizes(1)?, axis, block_size)?;
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("scales", cx.dtype(1)?, Bind::Input(1))?;
    for (name, n) in [
        ("inner", blocks.inner),
        ("size", blocks.size),
        ("count", blocks.scales),
        ("block", blocks.block),
    ] {
        shader.u32(name, n)?;
    }
    let place = match blocks.own {
        false => "i / p.inner % p.size",
        true => {
            "(i / p.inner / p.size * p.count + i / p.inner % p.size / p.block) * p.inner + i % \
             p.inner"
        }
    };
    let zero = match cx.opt(2) {
        Some(_) => {
            shader.read("zeros", cx.dtype(2)?, Bind::Input(2))?;
            "f32(zeros_at(scale_place(i)))"
        }
        None => "0.0",
    };
    shader.code(&format!(
        "fn scale_place(i: u32) -> u32 {{ return {place}; }}
fn scale_of(i: u32) -> f32 {{ return scales_at(scale_place(i)); }}
fn zero_of(i: u32) -> f32 {{ return {zero}; }}"
    ));
    Ok(shader)
}

pub(super) fn quantize(op: &QuantizeLinear, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let mut shader = shader(cx, op.axis, op.block_size)?;
    let to = cx.out_dtype(0)?;
    let [lo, hi] = ends(to)?;
    shader.write("y", to, Bind::Output(0))?;
    let class = Class::of(to)?.wgsl();
    shader.code(&format!(
        "fn value(i: u32) -> {class} {{
  let q = round(quotient(f32(x_at(i)), scale_of(i))) + zero_of(i);
  return {class}(min(select({lo}, q, q > {lo}), {hi}));
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&cx.sizes(0)?), cx.traits.max_groups)?))
}

pub(super) fn dequantize(op: &DequantizeLinear, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let mut shader = shader(cx, op.axis, op.block_size)?;
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    shader.code("fn value(i: u32) -> f32 { return (f32(x_at(i)) - zero_of(i)) * scale_of(i); }");
    Ok(Kernel::one(shader.elements(count(&cx.sizes(0)?), cx.traits.max_groups)?))
}

/// Input `i`, if it is one number that is known; an omitted one is 0.
fn known(fact: Option<&Fact>) -> Option<f32> {
    let Some(fact) = fact else { return Some(0.0) };
    let t = fact.tensor()?;
    let int = || t.to_ints().filter(|x| x.len() == 1).map(|x| x[0] as f32);
    t.to_f32().or_else(int)
}

/// The sum of two tensors in codes, as codes; scales and zero points are known.
pub(super) fn add(op: &QuantizedAdd, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let mut shader = Shader::new("");
    keep(&mut shader)?;
    shader.read("a", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("b", cx.dtype(3)?, Bind::Input(3))?;
    for (name, at) in [
        ("a_scale", 1),
        ("a_zero", 2),
        ("b_scale", 4),
        ("b_zero", 5),
        ("y_scale", 6),
        ("y_zero", 7),
    ] {
        let number = known(cx.opt(at)).ok_or_else(|| unsupported!("scales that vary"))?;
        shader.f32(name, number);
    }
    let to = cx.out_dtype(0)?;
    let [lo, hi] = ends(to)?;
    shader.write("y", to, Bind::Output(0))?;
    let class = Class::of(to)?.wgsl();
    let least = if op.activation.is_some() { "max(sum, 0.0)" } else { "sum" };
    shader.code(&format!(
        "fn value(i: u32) -> {class} {{
  let a = kept((f32(a_at(i)) - p.a_zero) * p.a_scale);
  let b = kept((f32(b_at(i)) - p.b_zero) * p.b_scale);
  let sum = a + b;
  let q = round(quotient({least}, p.y_scale)) + p.y_zero;
  return {class}(min(select({lo}, q, q > {lo}), {hi}));
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&cx.sizes(0)?), cx.traits.max_groups)?))
}

/// QuantizeRows: the scale of each row, and codes by it.
pub(super) fn rows(op: &QuantizeRows, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let [outer @ .., n] = &sizes[..] else { return Err(unsupported!("rows of a scalar")) };
    let mut kernel = Kernel::default();
    let found = kernel.scratch(DType::F32, count(outer))?;
    let mut shader = Shader::new(FLOATS);
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.write("y", DType::F32, found)?;
    shader.u32("n", *n)?;
    shader.f32("least", op.least);
    shader.f32("levels", op.levels);
    shader.code(
        "fn row(r: u32, lane: u32) {
  var most = 0.0;
  for (var k = lane; k < p.n; k += LANES) { most = max_f(most, abs(x_at(r * p.n + k))); }
  most = fold_max(most, lane);
  if (lane == 0u) { y_put(r, quotient(select(most, p.least, most < p.least), p.levels)); }
}",
    );
    kernel.push(launch(cx, shader, count(outer), *n)?);
    for o in (0..2).filter(|&o| cx.wants(o)) {
        let mut shader = Shader::new("");
        shader.read("found", DType::F32, found)?;
        shader.write("y", cx.out_dtype(o)?, Bind::Output(o))?;
        if o == 1 {
            shader.code("fn value(i: u32) -> f32 { return found_at(i); }");
        } else {
            shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
            shader.u32("n", *n)?;
            shader.f32("zero", f32::from(op.zero));
            shader.code(
                "fn value(i: u32) -> u32 {
  let q = round(quotient(x_at(i), found_at(i / p.n))) + p.zero;
  return u32(min(select(0.0, q, q > 0.0), 255.0));
}",
            );
        }
        kernel.push(shader.elements(count(&cx.out_sizes(o)?), cx.traits.max_groups)?);
    }
    Ok(kernel)
}

/// Whether [`add`] runs on the GPU.
pub(super) fn supports_add(op: &QuantizedAdd, inputs: &[Option<&Fact>]) -> Result<(), Reason> {
    let numbers = [1, 2, 4, 5, 6, 7].map(|i| known(inputs.get(i).copied().flatten()));
    let relu = matches!(op.activation, None | Some(Activation::Relu));
    match relu && numbers.iter().all(Option::is_some) {
        true => Ok(()),
        false => Err(unsupported!("a sum of codes whose scales vary on the GPU")),
    }
}

/// Whether codes of this dtype are written on the GPU, in divisions of this precision.
pub(super) fn supports(
    from: DType,
    scale: DType,
    to: DType,
    precision: Option<DType>,
) -> Result<(), Reason> {
    let no = || Err(unsupported!("quantizing {from} to {to} with scales of {scale} on the GPU"));
    if scale != DType::F32 || precision.is_some_and(|p| p != DType::F32) || from == DType::I32 {
        return no();
    }
    ends(to).map(drop)
}

/// Whether codes of this dtype are read on the GPU.
pub(super) fn supports_dequantize(from: DType, scale: DType, to: DType) -> Result<(), Reason> {
    let codes = matches!(from, DType::U8 | DType::I8 | DType::U16 | DType::I16 | DType::I32);
    let float = |d: DType| Class::of(d) == Ok(Class::Float);
    match codes && float(scale) && float(to) {
        true => Ok(()),
        false => Err(unsupported!("dequantizing {from} to {to} on the GPU")),
    }
}
