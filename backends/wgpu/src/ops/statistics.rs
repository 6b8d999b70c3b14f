//! Operators that look at everything before they write: BatchNormalization in training, Hardmax,
//! Det, DynamicQuantizeLinear; and EyeLike and Optimizer, which look at one place.

use rinfer_graph::ops::{EyeLike, Optimizer, OptimizerRule, Softmax};
use rinfer_graph::{DType, Reason, unsupported};

use super::functions::cast;
use super::rows::{FLOATS, Target, lanes, launch};
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader};

/// Hardmax: 1 at the first of the largest elements of a line, 0 elsewhere.
pub(super) fn hardmax(op: &Softmax, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let (n, inner) = (sizes[axis], count(&sizes[axis + 1..]));
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.write("y", target.dtype, target.bind)?;
    shader.u32("n", n)?;
    shader.u32("inner", inner)?;
    shader.code(
        "fn row(r: u32, lane: u32) {
  let base = r / p.inner * p.n * p.inner + r % p.inner;
  var best = 0u;
  for (var k = 1u; k < p.n; k += 1u) {
    if (x_at(base + k * p.inner) > x_at(base + best * p.inner)) { best = k; }
  }
  for (var k = 0u; k < p.n; k += 1u) { y_put(base + k * p.inner, select(0.0, 1.0, k == best)); }
}",
    );
    kernel.push(lanes(cx, shader, count(&sizes[..axis]) * inner)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// BatchNormalization in training: by the statistics of x, which are kept beside the old ones.
pub(super) fn batch_norm(epsilon: f32, momentum: f32, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let channels = sizes.get(1).copied().unwrap_or(1);
    let inner = count(&sizes[2.min(sizes.len())..]);
    let n = sizes[0] * inner;
    let mut kernel = Kernel::default();
    let found = kernel.scratch(DType::F32, 2 * channels)?;
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.write("y", DType::F32, found)?;
    for (name, n) in [("channels", channels), ("inner", inner), ("n", n)] {
        shader.u32(name, n)?;
    }
    shader.code(FLOATS);
    shader.code(
        "fn element(c: u32, k: u32) -> f32 {
  return x_at((k / p.inner * p.channels + c) * p.inner + k % p.inner);
}
fn row(c: u32, lane: u32) {
  var sum = 0.0;
  for (var k = lane; k < p.n; k += LANES) { sum += element(c, k); }
  let mean = fold(sum, lane) / f32(p.n);
  var squares = 0.0;
  for (var k = lane; k < p.n; k += LANES) {
    let d = element(c, k) - mean;
    squares = fma(d, d, squares);
  }
  let variance = fold(squares, lane) / f32(p.n);
  if (lane == 0u) {
    y[c] = mean;
    y[p.channels + c] = variance;
  }
}",
    );
    kernel.push(launch(cx, shader, channels, n)?);
    for o in 0..5 {
        if !cx.wants(o) {
            continue;
        }
        let mut shader = Shader::new("");
        shader.read("found", DType::F32, found)?;
        shader.u32("channels", channels)?;
        shader.u32("inner", inner)?;
        shader.f32("epsilon", epsilon);
        shader.f32("momentum", momentum);
        let of = if o % 2 == 1 { "i" } else { "p.channels + i" };
        let text = match o {
            0 => {
                for (i, name) in [(0, "x"), (1, "scale"), (2, "bias")] {
                    shader.read(name, cx.dtype(i)?, Bind::Input(i))?;
                }
                "let c = i / p.inner % p.channels;
  let v = (x_at(i) - found_at(c)) / sqrt(found_at(p.channels + c) + p.epsilon);
  return v * scale_at(c) + bias_at(c);"
                    .to_string()
            }
            1 | 2 => {
                shader.read("old", cx.dtype(2 + o)?, Bind::Input(2 + o))?;
                format!("return old_at(i) * p.momentum + found_at({of}) * (1.0 - p.momentum);")
            }
            _ => format!("return found_at({of});"),
        };
        shader.write("y", cx.out_dtype(o)?, Bind::Output(o))?;
        shader.code(&format!("fn value(i: u32) -> f32 {{\n  {text}\n}}"));
        kernel.push(shader.elements(count(&cx.out_sizes(o)?), cx.traits.max_groups)?);
    }
    Ok(kernel)
}

/// Det: one lane eliminates in a copy of its matrix.
pub(super) fn det(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let n = sizes[sizes.len() - 1];
    let matrices = count(&cx.out_sizes(0)?);
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let work = kernel.scratch(DType::F32, matrices * n * n)?;
    let mut shader = Shader::new(include_str!("det.wgsl"));
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.write("y", target.dtype, target.bind)?;
    shader.write("a", DType::F32, work)?;
    shader.u32("n", n)?;
    kernel.push(lanes(cx, shader, matrices)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// DynamicQuantizeLinear: codes, their scale and zero point.
pub(super) fn dynamic_quantize(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let n = count(&cx.sizes(0)?);
    let mut kernel = Kernel::default();
    let found = kernel.scratch(DType::F32, 2)?;
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.write("y", DType::F32, found)?;
    shader.u32("n", n)?;
    shader.code(FLOATS);
    shader.code(
        "fn row(r: u32, lane: u32) {
  var high = 0.0;
  var low = 0.0;
  for (var k = lane; k < p.n; k += LANES) {
    high = max(high, x_at(k));
    low = max(low, -x_at(k));
  }
  high = fold_max(high, lane);
  low = fold_max(low, lane);
  let scale = select(quotient(high + low, 255.0), 1.0, high + low == 0.0);
  if (lane == 0u) {
    y[0] = scale;
    y[1] = clamp(round(quotient(low, scale)), 0.0, 255.0);
  }
}",
    );
    kernel.push(launch(cx, shader, 1, n)?);
    let texts = [
        "return u32(clamp(round(quotient(x_at(i), found_at(0u))) + found_at(1u), 0.0, 255.0));",
        "return found_at(0u);",
        "return u32(found_at(1u));",
    ];
    for (o, text) in texts.iter().enumerate() {
        if !cx.wants(o) {
            continue;
        }
        let to = cx.out_dtype(o)?;
        let mut shader = Shader::new("");
        shader.read("found", DType::F32, found)?;
        if o == 0 {
            shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
        }
        shader.write("y", to, Bind::Output(o))?;
        shader.code(&format!("fn value(i: u32) -> {} {{ {text} }}", Class::of(to)?.wgsl()));
        kernel.push(shader.elements(count(&cx.out_sizes(o)?), cx.traits.max_groups)?);
    }
    Ok(kernel)
}

/// EyeLike: ones on a diagonal.
pub(super) fn eye_like(op: &EyeLike, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (out, to) = (cx.out_sizes(0)?, cx.out_dtype(0)?);
    let one = cast(DType::Bool, to, "(d == p.diagonal)");
    let one = one.ok_or_else(|| unsupported!("EyeLike of {to} on the GPU"))?;
    let mut shader = Shader::new("");
    shader.write("y", to, Bind::Output(0))?;
    shader.u32("columns", out[1])?;
    let most = out[0].max(out[1]) as i64;
    shader.i32("diagonal", op.k.clamp(-most, most))?;
    shader.code(&format!(
        "fn value(i: u32) -> {} {{
  let d = i32(i % p.columns) - i32(i / p.columns);
  return {one};
}}",
        Class::of(to)?.wgsl()
    ));
    Ok(Kernel::one(shader.elements(count(&out), cx.traits.max_groups)?))
}

/// One step of an optimizer: a kernel for each tensor and each of its states.
pub(super) fn optimizer(op: &Optimizer, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let states = op.states();
    let n = (cx.inputs.len() - 2) / (2 + states);
    let (lines, first, second) = formula(&op.rule);
    let mut kernel = Kernel::default();
    for i in 0..n {
        for o in 0..=states {
            let mut shader = Shader::new("");
            let dtype = cx.dtype(2 + i)?;
            for (name, input) in [("rates", 0), ("steps", 1)] {
                shader.read(name, cx.dtype(input)?, Bind::Input(input))?;
            }
            for (k, name) in ["x", "g", "s0", "s1"].iter().enumerate().take(2 + states) {
                shader.read(name, dtype, Bind::Input(2 + k * n + i))?;
            }
            let output = o * n + i;
            shader.write("y", cx.out_dtype(output)?, Bind::Output(output))?;
            shader.f32("weight", op.norm_coefficient);
            numbers(&op.rule, &mut shader);
            let steps = cast(cx.dtype(1)?, DType::F32, "steps_at(0u)");
            let steps = steps.ok_or_else(|| unsupported!("steps that are no numbers"))?;
            let other = if states == 2 { "\n  let s1 = s1_at(i);" } else { "" };
            let made = ["made", first, second][o];
            shader.code(&format!(
                "fn value(i: u32) -> f32 {{
  let rate = rates_at(0u);
  let steps = {steps};
  let x = x_at(i);
  let g = p.weight * x + g_at(i);
  let s0 = s0_at(i);{other}
{lines}  return {made};
}}"
            ));
            let size = count(&cx.out_sizes(output)?);
            kernel.push(shader.elements(size, cx.traits.max_groups)?);
        }
    }
    Ok(kernel)
}

/// Lines that make `made` of x, g and the states, and what the new states are called.
fn formula(rule: &OptimizerRule) -> (&'static str, &'static str, &'static str) {
    match rule {
        OptimizerRule::Adagrad { .. } => (
            "  let h = s0 + g * g;
  let made = x - rate / (1.0 + steps * p.decay) * g / (sqrt(h) + p.epsilon);\n",
            "h",
            "h",
        ),
        OptimizerRule::Adam { .. } => (
            "  let v = p.alpha * s0 + (1.0 - p.alpha) * g;
  let h = p.beta * s1 + (1.0 - p.beta) * g * g;
  var r = rate;
  if (steps > 0.0) {
    r = rate * sqrt(1.0 - pow_f(p.beta, steps)) / (1.0 - pow_f(p.alpha, steps));
  }
  let made = (1.0 - p.after) * (x - r * v / (sqrt(h) + p.epsilon));\n",
            "v",
            "h",
        ),
        OptimizerRule::Momentum { .. } => (
            "  let v = p.alpha * s0 + select(1.0, p.beta, steps > 0.0) * g;
  let made = x - rate * select(v, g + p.alpha * v, p.nesterov > 0.0);\n",
            "v",
            "v",
        ),
    }
}

fn numbers(rule: &OptimizerRule, shader: &mut Shader) {
    let all: Vec<(&str, f32)> = match *rule {
        OptimizerRule::Adagrad { decay_factor, epsilon } => {
            vec![("decay", decay_factor), ("epsilon", epsilon)]
        }
        OptimizerRule::Adam { alpha, beta, epsilon, norm_coefficient_post } => vec![
            ("alpha", alpha),
            ("beta", beta),
            ("epsilon", epsilon),
            ("after", norm_coefficient_post),
        ],
        OptimizerRule::Momentum { alpha, beta, nesterov } => {
            vec![("alpha", alpha), ("beta", beta), ("nesterov", f32::from(u8::from(nesterov)))]
        }
    };
    all.into_iter().for_each(|(name, x)| shader.f32(name, x));
}
