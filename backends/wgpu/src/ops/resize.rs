//! Resize: one axis after the other, each output a weighted sum of a few inputs.
//!
//! y[.., o, ..] = Σ weight[o][t] · x[.., index[o][t], ..]; the tables are made when the node is
//! compiled, and one lane makes one element.

use rinfer_graph::ops::{Interpolation, Resize, Samples, to_floats};
use rinfer_graph::{DType, Reason, invalid, unsupported};

use super::functions::literal;
use super::rows::Target;
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Launch, Shader, raw};

pub(super) fn compile(op: &Resize, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (input, output) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let floats = |i: usize| {
        let tensor = cx.opt(i).filter(|f| !f.is_empty()).and_then(|f| f.tensor());
        tensor.map(to_floats).transpose()
    };
    let sizes = cx.opt(3).filter(|f| !f.is_empty()).and_then(|f| f.ints());
    let roi = floats(1)?;
    let axes = op.resolve(&input, floats(2)?.as_deref(), sizes.as_deref())?;
    if roi.as_ref().is_some_and(|roi| roi.len() != 2 * axes.len()) {
        return Err(invalid!("a region of interest for other than {} axes", axes.len()));
    }
    let mut passes = Vec::new();
    for (i, a) in axes.iter().enumerate() {
        let ends = roi.as_ref().map(|roi| (roi[i], roi[axes.len() + i]));
        let samples = Samples::new(op, input[a.axis], a, ends)?;
        if !samples.is_identity(input[a.axis]) {
            passes.push((a.axis, samples));
        }
    }
    if passes.is_empty() {
        return Ok(Kernel::view());
    }
    // An axis that shrinks goes first, one that grows last: less is left to do in between.
    let ratio = |axis: usize| output[axis] as f64 / input[axis].max(1) as f64;
    passes.sort_by(|a, b| ratio(a.0).total_cmp(&ratio(b.0)).then(b.0.cmp(&a.0)));
    let nearest = matches!(op.interpolation, Interpolation::Nearest(_));
    let outside = passes.iter().any(|(_, s)| s.outside.is_some());
    let (mut dtype, mut kernel) = (cx.dtype(0)?, Kernel::default());
    let moved = nearest && !outside;
    let target = match moved {
        true => None,
        false => Some(Target::new(&mut kernel, cx, 0)?),
    };
    if moved {
        dtype = raw(dtype)?;
    }
    let (mut from, mut sizes) = (Bind::Input(0), input.to_vec());
    let last = passes.len() - 1;
    for (i, (axis, samples)) in passes.iter().enumerate() {
        let outer = count(&sizes[..*axis]);
        let inner = count(&sizes[axis + 1..]);
        let was = std::mem::replace(&mut sizes[*axis], output[*axis]);
        let (to, stored) = match (i == last, &target) {
            (true, Some(target)) => (target.bind, target.dtype),
            (true, None) => (Bind::Output(0), dtype),
            (false, Some(_)) => (kernel.scratch(DType::F32, count(&sizes))?, DType::F32),
            (false, None) => (kernel.scratch(dtype, count(&sizes))?, dtype),
        };
        let line = [outer, was, output[*axis], inner];
        let launch = pass(cx, &mut kernel, samples, line, (dtype, from), (stored, to))?;
        kernel.push(launch);
        (from, dtype) = (to, stored);
    }
    if let Some(target) = target {
        target.finish(&mut kernel, cx)?;
    }
    Ok(kernel)
}

/// One axis: `[outer, from, inner]` to `[outer, to, inner]`.
fn pass(
    cx: &Cx<'_>,
    kernel: &mut Kernel,
    samples: &Samples,
    [outer, was, is, inner]: [usize; 4],
    (dtype, from): (DType, Bind),
    (stored, to): (DType, Bind),
) -> Result<Launch, Reason> {
    let index: Vec<u32> = samples.index.iter().map(|&i| i as u32).collect();
    let mut shader = Shader::new("");
    shader.read("x", dtype, from)?;
    shader.read("places", DType::U32, kernel.table(&index))?;
    shader.u32("taps", samples.taps)?;
    shader.u32("was", was)?;
    shader.u32("size", is)?;
    shader.u32("inner", inner)?;
    let class = Class::of(stored)?;
    let ty = class.wgsl();
    let body = if class == Class::Float {
        shader.read("weights", DType::F32, kernel.table(&samples.weight))?;
        let mut guard = String::new();
        if let Some((value, outside)) = &samples.outside {
            let outside: Vec<u32> = outside.iter().map(|&o| u32::from(o)).collect();
            shader.read("outside", DType::U32, kernel.table(&outside))?;
            guard = format!("  if (outside_at(o) == 1u) {{ return {}; }}\n", literal(*value));
        }
        format!(
            "{guard}  var sum = 0.0;
  for (var t = o * p.taps; t < (o + 1u) * p.taps; t += 1u) {{
    let w = weights_at(t);
    if (w != 0.0) {{ sum = fma(x_at(base + places_at(t) * p.inner), w, sum); }}
  }}
  return sum;"
        )
    } else {
        "  return x_at(base + places_at(o) * p.inner);".to_string()
    };
    shader.write("y", stored, to)?;
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{
  let o = i / p.inner % p.size;
  let base = i / p.inner / p.size * p.was * p.inner + i % p.inner;
{body}
}}"
    ));
    shader.elements(count(&[outer, is, inner]), cx.traits.max_groups)
}

/// Whether a resize of this dtype runs on the GPU.
pub(super) fn supports(op: &Resize, dtype: DType) -> Result<(), Reason> {
    match op.interpolation {
        Interpolation::Nearest(_) => raw(dtype).map(drop),
        _ if Class::of(dtype) == Ok(Class::Float) => Ok(()),
        _ => Err(unsupported!("Resize of {dtype} by interpolation on the GPU")),
    }
}
