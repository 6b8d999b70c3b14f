//! NegativeLogLikelihoodLoss: one lane makes one loss; a mean is that of their sums.

use rinfer_graph::ops::{LossReduction, NegativeLogLikelihoodLoss};
use rinfer_graph::{DType, Reason, invalid};

use super::rows::{FLOATS, Target, launch};
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Shader};

pub(super) fn compile(op: &NegativeLogLikelihoodLoss, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, target) = (cx.sizes(0)?, cx.sizes(1)?);
    if target[..1] != x[..1] || target[1..] != x[2..] {
        return Err(invalid!("classes of shape {target:?} for log-probabilities of shape {x:?}"));
    }
    let n = count(&target);
    let mut kernel = Kernel::default();
    if op.reduction == LossReduction::None {
        let mut shader = pieces(op, cx, [x[1], count(&x[2..])])?;
        let to = cx.out_dtype(0)?;
        shader.write("y", to, Bind::Output(0))?;
        shader.code("fn value(i: u32) -> f32 { return loss(i, weight(i)); }");
        kernel.push(shader.elements(n, cx.traits.max_groups)?);
        return Ok(kernel);
    }
    let y = Target::new(&mut kernel, cx, 0)?;
    let mut shader = pieces(op, cx, [x[1], count(&x[2..])])?;
    shader.write("y", y.dtype, y.bind)?;
    shader.u32("n", n)?;
    shader.code(FLOATS);
    let result = match op.reduction {
        LossReduction::Mean => "all / fold(weights, lane)",
        _ => "all",
    };
    shader.code(&format!(
        "fn row(r: u32, lane: u32) {{
  var losses = 0.0;
  var weights = 0.0;
  for (var i = lane; i < p.n; i += LANES) {{
    let w = weight(i);
    losses += loss(i, w);
    weights += w;
  }}
  let all = fold(losses, lane);
  let made = {result};
  if (lane == 0u) {{ y[0] = made; }}
}}"
    ));
    kernel.push(launch(cx, shader, 1, n)?);
    y.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Functions `weight(i)` and `loss(i, weight)` of element `i`; a class that does not exist is a
/// fault.
fn pieces(
    op: &NegativeLogLikelihoodLoss,
    cx: &Cx<'_>,
    [classes, inner]: [usize; 2],
) -> Result<Shader, Reason> {
    let mut shader = Shader::new("");
    shader.faults();
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    let dtype = cx.dtype(1)?;
    shader.read("classes", dtype, Bind::Input(1))?;
    shader.u32("count", classes)?;
    shader.u32("inner", inner)?;
    let class = match dtype {
        DType::I64 => "classes_at(i)",
        DType::I32 => "wide_from_i(classes_at(i))",
        other => return Err(invalid!("classes of {other}")),
    };
    let mut ignore = String::new();
    if let Some(ignored) = op.ignore_index {
        shader.u32("ignored", (ignored as u64 & 0xffff_ffff) as usize)?;
        shader.u32("ignored_top", (ignored as u64 >> 32) as usize)?;
        ignore = "  if (v.x == p.ignored && v.y == p.ignored_top) { return p.count; }\n".into();
    }
    let mut weight = "1.0";
    if let Some(fact) = cx.opt(2) {
        if fact.len() != Some(classes) {
            return Err(invalid!("weights {fact} for {classes} classes"));
        }
        shader.read("weights", fact.dtype()?, Bind::Input(2))?;
        weight = "weights_at(c)";
    }
    shader.code(&format!(
        "// The class of element i, or how many there are if it does not count.
fn class_of(i: u32) -> u32 {{
  let v = {class};
{ignore}  if (v.y != 0u || v.x >= p.count) {{
    fault();
    return p.count;
  }}
  return v.x;
}}
fn weight(i: u32) -> f32 {{
  let c = class_of(i);
  if (c == p.count) {{ return 0.0; }}
  return {weight};
}}
fn loss(i: u32, weight: f32) -> f32 {{
  let c = class_of(i);
  if (c == p.count) {{ return 0.0; }}
  return -weight * x_at((i / p.inner * p.count + c) * p.inner + i % p.inner);
}}"
    ));
    Ok(shader)
}
