//! BatchNormalization, and LRN: one lane makes one element.

use rinfer_graph::Reason;
use rinfer_graph::ops::{BatchNormalization, Lrn};

use crate::index::{Axes, count};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader};

/// y = (x - mean) / √(var + epsilon) · scale + b
pub(super) fn batch_norm(op: &BatchNormalization, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    if let Some(momentum) = op.training {
        return super::statistics::batch_norm(op.epsilon, momentum, cx);
    }
    let sizes = cx.sizes(0)?;
    let (dtype, to) = (cx.dtype(0)?, cx.out_dtype(0)?);
    let mut shader = Shader::new("");
    shader.read("x", dtype, Bind::Input(0))?;
    for (i, name) in [(1, "scale"), (2, "bias"), (3, "mean"), (4, "variance")] {
        shader.read(name, cx.dtype(i)?, Bind::Input(i))?;
    }
    shader.write("y", to, Bind::Output(0))?;
    // A single axis is the batch, of one channel.
    let mut steps = vec![0; sizes.len()];
    if let Some(step) = steps.get_mut(1) {
        *step = 1;
    }
    Axes::merged(&sizes, &[steps]).function(&mut shader, "channel", 0)?;
    shader.f32("epsilon", op.epsilon);
    shader.code(&format!(
        "fn value(i: u32) -> {} {{
  let c = channel(i);
  let v = (x_at(i) - mean_at(c)) / sqrt(variance_at(c) + p.epsilon);
  return v * scale_at(c) + bias_at(c);
}}",
        Class::of(to)?.wgsl()
    ));
    Ok(Kernel::one(shader.elements(count(&sizes), cx.traits.max_groups)?))
}

/// y = x / (bias + alpha/size · Σ x²)^beta, over `size` channels around
pub(super) fn lrn(op: &Lrn, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    shader.u32("channels", sizes[1])?;
    shader.u32("area", count(&sizes[2..]))?;
    shader.u32("before", (op.size.max(1) - 1) / 2)?;
    shader.u32("after", op.size / 2)?;
    shader.f32("alpha", op.alpha / op.size as f32);
    shader.f32("beta", op.beta);
    shader.f32("bias", op.bias);
    shader.code(
        "fn value(i: u32) -> f32 {
  let c = i / p.area % p.channels;
  let low = c - min(c, p.before);
  let high = min(c + p.after, p.channels - 1u);
  var sum = 0.0;
  for (var k = low; k <= high; k += 1u) {
    let v = x_at(i + k * p.area - c * p.area);
    sum = fma(v, v, sum);
  }
  return x_at(i) / pow_f(p.bias + p.alpha * sum, p.beta);
}",
    );
    Ok(Kernel::one(shader.elements(count(&sizes), cx.traits.max_groups)?))
}
