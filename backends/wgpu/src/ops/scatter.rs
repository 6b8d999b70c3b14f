//! ScatterElements, ScatterND, TensorScatter, MaxUnpool: updates take the place of elements.
//!
//! Every update notes its number at its place, the last one's stays; then one lane makes one word
//! of the output, from the data or from the update that won. Where updates are combined with what
//! is there, one lane walks along all updates that may meet.

use rinfer_graph::ops::{
    BinaryFn, MaxUnpool, Reduction, ScatterElements, ScatterND, TensorScatter,
};
use rinfer_graph::{DType, Dim, Reason, invalid, unsupported};

use super::functions::{binary, cast};
use super::gather::indices;
use super::rows::{Target, lanes};
use crate::index::{Axes, count, strides};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader, raw};

/// Where updates go: `slot(t)` of `shader` is the slot of update `t` of `updates`; a slot is
/// `inner` elements of the output.
struct Places {
    shader: Shader,
    updates: usize,
    inner: usize,
}

/// Output 0 with updates from input `from`, over the data of input 0, or over zeros.
fn replace(cx: &Cx<'_>, places: Places, from: usize, data: bool) -> Result<Kernel, Reason> {
    let out = cx.out_sizes(0)?;
    let slots = count(&out) / places.inner.max(1);
    let mut kernel = Kernel::default();
    let winners = kernel.scratch(DType::U32, slots)?;
    let mut shader = Shader::new("");
    shader.write("y", DType::U32, winners)?;
    shader.code("fn value(i: u32) -> u32 { return 0u; }");
    kernel.push(shader.elements(slots, cx.traits.max_groups)?);
    if places.updates > 0 {
        let mut shader = places.shader;
        shader.atomics("winners", winners);
        shader.code("fn row(t: u32, lane: u32) { atomicMax(&winners[slot(t)], t + 1u); }");
        kernel.push(lanes(cx, shader, places.updates)?);
    }
    let dtype = raw(cx.dtype(from)?)?;
    let ty = Class::of(dtype)?.wgsl();
    let mut shader = Shader::new("");
    shader.read("winners", DType::U32, winners)?;
    shader.read("updates", dtype, Bind::Input(from))?;
    let mut other = format!("{ty}()");
    if data {
        shader.read("x", dtype, Bind::Input(0))?;
        other = "x_at(i)".into();
    }
    shader.write("y", dtype, Bind::Output(0))?;
    shader.u32("inner", places.inner)?;
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{
  let t = winners_at(i / p.inner);
  if (t == 0u) {{ return {other}; }}
  return updates_at((t - 1u) * p.inner + i % p.inner);
}}"
    ));
    kernel.push(shader.elements(count(&out), cx.traits.max_groups)?);
    Ok(kernel)
}

/// Output 0 with updates combined into the data of input 0: `walk` is the body of `row(r, lane)`,
/// which calls `meet(at, t)` for place `at` and update `t`; there are `rows` of them.
fn combine(
    cx: &Cx<'_>,
    reduction: Reduction,
    mut shader: Shader,
    (walk, rows): (&str, usize),
) -> Result<Kernel, Reason> {
    // Truth values are stored as 0 and 1: sums and maxima are 1 if one of them is.
    let stored = cx.dtype(0)?;
    let dtype = if stored == DType::Bool { DType::U8 } else { stored };
    let class = Class::of(dtype)?;
    let f = match (reduction, stored) {
        (Reduction::Add | Reduction::Max, DType::Bool) | (Reduction::Max, _) => BinaryFn::Max,
        (Reduction::Mul | Reduction::Min, DType::Bool) | (Reduction::Min, _) => BinaryFn::Min,
        (Reduction::Add, _) => BinaryFn::Add,
        (Reduction::Mul, _) => BinaryFn::Mul,
        (Reduction::None, _) => return Err(invalid!("updates that are not combined")),
    };
    let no = || unsupported!("a reducing scatter of {stored} on the GPU");
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let mut seed = Shader::new("");
    seed.read("x", dtype, Bind::Input(0))?;
    seed.write("y", target.dtype, target.bind)?;
    let seeded = cast(dtype, target.dtype, "x_at(i)").ok_or_else(no)?;
    let ty = class.wgsl();
    seed.code(&format!("fn value(i: u32) -> {ty} {{ return {seeded}; }}"));
    kernel.push(seed.elements(count(&cx.out_sizes(0)?), cx.traits.max_groups)?);
    shader.read("updates", dtype, Bind::Input(2))?;
    shader.write("y", target.dtype, target.bind)?;
    let (old, put) = match class {
        Class::Wide => {
            ("vec2<u32>(y[2u * at], y[2u * at + 1u])", "y[2u * at] = v.x; y[2u * at + 1u] = v.y;")
        }
        _ => ("y[at]", "y[at] = v;"),
    };
    let new = binary(f, class, dtype, "old", "update").ok_or_else(no)?;
    shader.code(&format!(
        "fn meet(at: u32, t: u32) {{
  let old = {old};
  let update = updates_at(t);
  let v = {new};
  {put}
}}
fn row(r: u32, lane: u32) {{
{walk}}}"
    ));
    if rows > 0 {
        kernel.push(lanes(cx, shader, rows)?);
    }
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// y[.., indices[.., i, ..], ..] = updates[.., i, ..]
pub(super) fn elements(op: &ScatterElements, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, given) = (cx.sizes(0)?, cx.sizes(1)?);
    let axis = op.axis.resolve(sizes.len())?;
    let mut steps = strides(&sizes);
    let mut shader = Shader::new("");
    shader.faults();
    indices(&mut shader, cx, 1)?;
    shader.u32("size", sizes[axis])?;
    shader.stride("step", steps[axis])?;
    steps[axis] = 0;
    Axes::merged(&given, &[steps]).function(&mut shader, "place", 0)?;
    shader.code("fn slot(t: u32) -> u32 { return place(t) + index(t, p.size) * p.step; }");
    if op.reduction == Reduction::None {
        let places = Places { shader, updates: count(&given), inner: 1 };
        return replace(cx, places, 2, true);
    }
    let inner = count(&given[axis + 1..]);
    shader.u32("n", given[axis])?;
    shader.u32("inner", inner)?;
    let walk = "  for (var k = 0u; k < p.n; k += 1u) {
    let t = (r / p.inner * p.n + k) * p.inner + r % p.inner;
    meet(slot(t), t);
  }
";
    combine(cx, op.reduction, shader, (walk, count(&given[..axis]) * inner))
}

/// y[indices[i..]] = updates[i..]
pub(super) fn nd(op: &ScatterND, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, given) = (cx.sizes(0)?, cx.sizes(1)?);
    let (&tuple, outer) = given.split_last().ok_or_else(|| invalid!("indices of rank 0"))?;
    let (updates, inner) = (count(outer), count(&sizes[tuple..]));
    let mut shader = Shader::new("");
    shader.faults();
    indices(&mut shader, cx, 1)?;
    let mut text = String::new();
    for (k, step) in strides(&sizes[..tuple]).into_iter().enumerate() {
        shader.u32(&format!("n{k}"), sizes[k])?;
        shader.stride(&format!("step{k}"), step)?;
        text.push_str(&format!("  at += index(t * {tuple}u + {k}u, p.n{k}) * p.step{k};\n"));
    }
    shader.code(&format!("fn slot(t: u32) -> u32 {{\n  var at = 0u;\n{text}  return at;\n}}"));
    if op.reduction == Reduction::None {
        return replace(cx, Places { shader, updates, inner }, 2, true);
    }
    shader.u32("updates_n", updates)?;
    shader.u32("inner", inner)?;
    let walk = "  for (var t = 0u; t < p.updates_n; t += 1u) {
    meet(slot(t) * p.inner + r, t * p.inner + r);
  }
";
    combine(cx, op.reduction, shader, (walk, inner))
}

/// MaxUnpool: each element goes to where the pool found it; zeros elsewhere.
pub(super) fn max_unpool(op: &MaxUnpool, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let dims: Vec<Dim> = cx.sizes(0)?.iter().map(|&n| Dim::from(n)).collect();
    let inner: Option<Vec<usize>> = op.shape(&dims)?.iter().map(Dim::size).collect();
    let inner = inner.ok_or_else(|| invalid!("an unpooled size is negative"))?;
    let out = cx.out_sizes(0)?;
    if inner.len() != out.len() || inner.iter().zip(&out).any(|(a, b)| a > b) {
        return Err(invalid!("an output {out:?} does not hold the pool's input {inner:?}"));
    }
    let mut shader = Shader::new("");
    shader.faults();
    shader.read("places", DType::I64, Bind::Input(1))?;
    shader.u32("total", count(&inner))?;
    Axes::merged(&inner, &[strides(&out)]).function(&mut shader, "place", 0)?;
    shader.code(
        "fn slot(t: u32) -> u32 {
  let at = places_at(t);
  if (at.y != 0u || at.x >= p.total) { fault(); }
  return place(min(at.x, p.total - 1u));
}",
    );
    let places = Places { shader, updates: count(&cx.sizes(0)?), inner: 1 };
    replace(cx, places, 0, false)
}

/// TensorScatter: `m` elements of an axis of the cache are those of the update, from `first` on.
pub(super) fn tensor(op: &TensorScatter, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, update) = (cx.sizes(0)?, cx.sizes(1)?);
    let axis = op.axis.resolve(sizes.len())?;
    let dtype = raw(cx.dtype(0)?)?;
    let ty = Class::of(dtype)?.wgsl();
    let mut shader = Shader::new("");
    shader.faults();
    shader.read("x", dtype, Bind::Input(0))?;
    shader.read("update", dtype, Bind::Input(1))?;
    shader.write("y", dtype, Bind::Output(0))?;
    let first = match cx.opt(2) {
        Some(_) => {
            shader.read("firsts", DType::I64, Bind::Input(2))?;
            "first(firsts_at(r / p.rows))"
        }
        None => "0u",
    };
    shader.u32("rows", count(&sizes[1..axis]))?;
    shader.u32("n", sizes[axis])?;
    shader.u32("m", update[axis])?;
    shader.u32("inner", count(&sizes[axis + 1..]))?;
    let (inside, offset) = match op.circular {
        true => ("wide_mod(v, vec2<u32>(p.n, 0u)).x", "(j + p.n - first) % p.n"),
        false => {
            shader.code(
                "fn straight(v: vec2<u32>) -> u32 {
  if (v.y != 0u || v.x > p.n - p.m) { fault(); }
  return min(v.x, p.n - p.m);
}",
            );
            ("straight(v)", "select(p.m, j - first, j >= first)")
        }
    };
    shader.code(&format!(
        "fn first(v: vec2<u32>) -> u32 {{ return {inside}; }}
fn value(i: u32) -> {ty} {{
  let j = i / p.inner % p.n;
  let r = i / p.inner / p.n;
  let first = {first};
  let at = {offset};
  if (at < p.m) {{ return update_at((r * p.m + at) * p.inner + i % p.inner); }}
  return x_at(i);
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&sizes), cx.traits.max_groups)?))
}

/// Whether updates of this dtype are combined in this way.
pub(super) fn supports(reduction: Reduction, dtype: DType) -> Result<(), Reason> {
    match reduction {
        Reduction::None => super::copy::supports(dtype),
        _ => Class::of(dtype).map(drop),
    }
}
