//! Operators that carry state along a sequence: LinearAttention, CausalConv, ReverseSequence.

use rinfer_graph::ops::{CausalConv, LinearAttention, ReverseSequence};
use rinfer_graph::{DType, Reason, invalid};

use super::functions::activation;
use super::rows::{Target, lanes};
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader, raw};

/// The state of a head is a matrix [d, e]; its columns do not meet, so one lane makes one of them,
/// token after token.
pub(super) fn linear_attention(op: &LinearAttention, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let s = op.sizes([&cx.sizes(0)?, &cx.sizes(1)?, &cx.sizes(2)?])?;
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let states = match cx.wants(1) {
        true => Target::new(&mut kernel, cx, 1)?,
        false => {
            let n = s.batch * op.kv_heads * s.head * s.v_head;
            Target::scratch(&mut kernel, DType::F32, n)?
        }
    };
    let mut shader = Shader::new(include_str!("linear_attention.wgsl"));
    for (i, name) in [(0, "q"), (1, "k"), (2, "v")] {
        shader.read(name, cx.dtype(i)?, Bind::Input(i))?;
    }
    let wide = op.kv_heads * s.head;
    let past = optional(&mut shader, cx, 3, "past", "past_at(i)", "0.0")?;
    let per_head = cx.opt(4).and_then(|f| f.sizes()).is_some_and(|s| s[2] != wide);
    let at = if per_head { "decays_at(line)" } else { "decays_at(line * p.head + d)" };
    let decay = optional(&mut shader, cx, 4, "decays", &format!("exp({at})"), "1.0")?;
    let one = cx.opt(5).and_then(|f| f.sizes()).is_some_and(|s| s[2] == 1);
    let at = if one { "betas_at(token)" } else { "betas_at(line)" };
    let beta = optional(&mut shader, cx, 5, "betas", at, "1.0")?;
    shader.write("y", target.dtype, target.bind)?;
    shader.write("state", states.dtype, states.bind)?;
    for (name, n) in [
        ("kv_heads", op.kv_heads),
        ("group", op.q_heads / op.kv_heads),
        ("tokens", s.tokens),
        ("head", s.head),
        ("v_head", s.v_head),
        ("delta", usize::from(op.delta)),
    ] {
        shader.u32(name, n)?;
    }
    shader.f32("scale", op.scale.unwrap_or(1.0 / (s.head as f32).sqrt()));
    shader.code(&format!(
        "fn past_of(i: u32) -> f32 {{ return {past}; }}
fn decay(line: u32, d: u32) -> f32 {{ return {decay}; }}
fn beta(token: u32, line: u32) -> f32 {{ return {beta}; }}"
    ));
    kernel.push(lanes(cx, shader, s.batch * op.kv_heads * s.v_head)?);
    target.finish(&mut kernel, cx)?;
    if cx.wants(1) {
        states.finish(&mut kernel, cx)?;
    }
    Ok(kernel)
}

/// Reads input `i` if it is given; the expression that stands for an element of it.
fn optional(
    shader: &mut Shader,
    cx: &Cx<'_>,
    i: usize,
    name: &str,
    given: &str,
    missing: &str,
) -> Result<String, Reason> {
    let Some(fact) = cx.opt(i) else { return Ok(missing.into()) };
    shader.read(name, fact.dtype()?, Bind::Input(i))?;
    Ok(given.into())
}

/// A depthwise convolution along time over what came before and x: y, and the new past.
pub(super) fn causal_conv(op: &CausalConv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, w) = (cx.sizes(0)?, cx.sizes(1)?);
    let mut kernel = Kernel::default();
    for o in 0..2 {
        if !cx.wants(o) {
            continue;
        }
        let mut shader = Shader::new("");
        shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
        let past = optional(&mut shader, cx, 3, "past", "past_at(r * p.before + t)", "0.0")?;
        shader.u32("time", x[2])?;
        shader.u32("before", w[2] - 1)?;
        shader.code(&format!(
            "fn element(r: u32, t: u32) -> f32 {{
  if (t < p.before) {{ return {past}; }}
  return x_at(r * p.time + t - p.before);
}}"
        ));
        if o == 0 {
            shader.read("w", cx.dtype(1)?, Bind::Input(1))?;
            let bias = optional(&mut shader, cx, 2, "bias", "bias_at(c)", "0.0")?;
            shader.u32("channels", x[1])?;
            shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
            shader.code(&format!(
                "fn value(i: u32) -> f32 {{
  let r = i / p.time;
  let c = r % p.channels;
  var s = {bias};
  for (var j = 0u; j <= p.before; j += 1u) {{
    s += w_at(c * (p.before + 1u) + j) * element(r, i % p.time + j);
  }}
  return {};
}}",
                activation(op.activation, "s")
            ));
        } else {
            shader.write("y", cx.out_dtype(1)?, Bind::Output(1))?;
            shader.code(
                "fn value(i: u32) -> f32 { return element(i / p.before, p.time + i % p.before); }",
            );
        }
        let n = count(&cx.out_sizes(o)?);
        if n > 0 {
            kernel.push(shader.elements(n, cx.traits.max_groups)?);
        }
    }
    Ok(kernel)
}

/// Each sequence backwards, as far as its length.
pub(super) fn reverse(op: &ReverseSequence, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let (batch, time) = (op.batch_axis.resolve(sizes.len())?, op.time_axis.resolve(sizes.len())?);
    if cx.sizes(1)?[..] != sizes[batch..=batch] {
        return Err(invalid!("lengths {:?} for a batch of {}", cx.sizes(1)?, sizes[batch]));
    }
    let dtype = raw(cx.dtype(0)?)?;
    let mut shader = Shader::new("");
    shader.faults();
    shader.read("x", dtype, Bind::Input(0))?;
    shader.read("lens", DType::I64, Bind::Input(1))?;
    shader.write("y", dtype, Bind::Output(0))?;
    shader.u32("batches", sizes[batch])?;
    shader.u32("batch_step", count(&sizes[batch + 1..]))?;
    shader.u32("times", sizes[time])?;
    shader.u32("time_step", count(&sizes[time + 1..]))?;
    shader.code(&format!(
        "fn value(i: u32) -> {} {{
  let len = lens_at(i / p.batch_step % p.batches);
  if (len.y != 0u || len.x > p.times) {{ fault(); }}
  let t = i / p.time_step % p.times;
  if (t >= min(len.x, p.times)) {{ return x_at(i); }}
  return x_at(i - t * p.time_step + (min(len.x, p.times) - 1u - t) * p.time_step);
}}",
        Class::of(dtype)?.wgsl()
    ));
    Ok(Kernel::one(shader.elements(count(&sizes), cx.traits.max_groups)?))
}
