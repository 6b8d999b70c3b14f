//! Gather, GatherElements and GatherND: one lane makes one word of the output.
//!
//! An index that is out of range stops the run with an error.

use rinfer_graph::ops::{Gather, GatherElements, GatherND};
use rinfer_graph::{DType, Reason, invalid};

use crate::index::{Axes, count, strides};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader, raw};

/// Reads `indices` from `input` and adds `index(i, n)`: index `i` along an axis of size n; out of
/// range it is a fault.
pub(super) fn indices(shader: &mut Shader, cx: &Cx<'_>, input: usize) -> Result<(), Reason> {
    let dtype = cx.dtype(input)?;
    shader.read("indices", dtype, Bind::Input(input))?;
    let place = if dtype == DType::I64 { "place_wide" } else { "place_int" };
    shader.code(&format!(
        "fn index(i: u32, n: u32) -> u32 {{
  let at = {place}(indices_at(i), n);
  if (at >= n) {{ fault(); }}
  return min(at, n - 1u);
}}"
    ));
    Ok(())
}

/// A kernel that reads `x` (input 0) and indices (input 1), and gives faults.
fn shader(cx: &Cx<'_>) -> Result<(Shader, &'static str), Reason> {
    let dtype = raw(cx.dtype(0)?)?;
    let mut shader = Shader::new("");
    shader.faults();
    shader.read("x", dtype, Bind::Input(0))?;
    indices(&mut shader, cx, 1)?;
    shader.write("y", dtype, Bind::Output(0))?;
    Ok((shader, Class::of(dtype)?.wgsl()))
}

/// Gather: data [a.., n, b..], indices [i..] → [a.., i.., b..]
pub(super) fn gather(op: &Gather, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, indices) = (cx.sizes(0)?, cx.sizes(1)?);
    let axis = op.axis.resolve(sizes.len())?;
    let (mut shader, ty) = shader(cx)?;
    shader.u32("n", sizes[axis])?;
    shader.u32("inner", count(&sizes[axis + 1..]))?;
    shader.u32("picks", count(&indices))?;
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{
  let b = i % p.inner;
  let k = i / p.inner % p.picks;
  let a = i / p.inner / p.picks;
  return x_at((a * p.n + index(k, p.n)) * p.inner + b);
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&cx.out_sizes(0)?), cx.traits.max_groups)?))
}

/// GatherElements: y[.., i, ..] = data[.., indices[.., i, ..], ..]
pub(super) fn gather_elements(op: &GatherElements, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, out) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let axis = op.axis.resolve(sizes.len())?;
    let mut steps = strides(&sizes);
    let (mut shader, ty) = shader(cx)?;
    shader.u32("n", sizes[axis])?;
    shader.stride("step", steps[axis])?;
    steps[axis] = 0;
    let axes = Axes::merged(&out, &[steps]);
    axes.function(&mut shader, "place", 0)?;
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{ return x_at(place(i) + index(i, p.n) * p.step); }}"
    ));
    Ok(Kernel::one(shader.elements(count(&out), cx.traits.max_groups)?))
}

/// GatherND: indices [batch.., i.., k] pick data[batch.., k indices, rest..]
pub(super) fn gather_nd(op: &GatherND, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, indices, out) = (cx.sizes(0)?, cx.sizes(1)?, cx.out_sizes(0)?);
    let (&tuple, outer) = indices.split_last().ok_or_else(|| invalid!("indices of rank 0"))?;
    let batch = count(&outer[..op.batch_dims]);
    let (mut shader, ty) = shader(cx)?;
    let inner = count(&sizes[op.batch_dims + tuple..]);
    shader.u32("inner", inner)?;
    shader.u32("per_batch", (count(outer) / batch.max(1)).max(1))?;
    shader.u32("data_batch", count(&sizes[op.batch_dims..]))?;
    let own = strides(&sizes);
    let mut text = String::new();
    for k in 0..tuple {
        let axis = op.batch_dims + k;
        shader.u32(&format!("n{k}"), sizes[axis])?;
        shader.stride(&format!("step{k}"), own[axis])?;
        text.push_str(&format!("  at += index(t * {tuple}u + {k}u, p.n{k}) * p.step{k};\n"));
    }
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{
  let t = i / p.inner;
  var at = t / p.per_batch * p.data_batch + i % p.inner;
{text}  return x_at(at);
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&out), cx.traits.max_groups)?))
}

/// OneHot: values[1] where the index is that of the place along the axis, else values[0].
pub(super) fn one_hot(axis: rinfer_graph::ops::Axis, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let out = cx.out_sizes(0)?;
    let axis = axis.resolve(out.len())?;
    let (index, dtype) = (cx.dtype(0)?, raw(cx.dtype(2)?)?);
    let ty = Class::of(dtype)?.wgsl();
    let mut shader = Shader::new("");
    shader.read("indices", index, Bind::Input(0))?;
    shader.read("values", dtype, Bind::Input(2))?;
    shader.write("y", dtype, Bind::Output(0))?;
    shader.u32("depth", out[axis])?;
    shader.u32("inner", count(&out[axis + 1..]))?;
    let place = match Class::of(index)? {
        Class::Wide => "indices_at(at)",
        Class::Float => "wide_from_float(indices_at(at))",
        Class::Int => "wide_from_i(indices_at(at))",
        _ => "vec2<u32>(indices_at(at), 0u)",
    };
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{
  let k = i / p.inner % p.depth;
  let at = i / p.inner / p.depth * p.inner + i % p.inner;
  if (place_wide({place}, p.depth) == k) {{ return values_at(1u); }}
  return values_at(0u);
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&out), cx.traits.max_groups)?))
}
