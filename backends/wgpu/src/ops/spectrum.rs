//! DFT and STFT: one lane makes one number of the spectrum from a table of unit roots.

use rinfer_graph::ops::{DFT, STFT};
use rinfer_graph::{Dim, Reason, invalid};

use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Shader};

/// cos and sin of 2πj/n for each j.
fn roots(n: usize) -> Vec<f32> {
    let angle = |j: usize| std::f64::consts::TAU * j as f64 / n as f64;
    (0..n).flat_map(|j| [angle(j).cos() as f32, angle(j).sin() as f32]).collect()
}

/// The integer that input `i` holds.
fn int(cx: &Cx<'_>, i: usize) -> Result<Option<i64>, Reason> {
    match cx.ints(i)? {
        None => Ok(None),
        Some(ints) if ints.len() == 1 => Ok(Some(ints[0])),
        Some(ints) => Err(invalid!("{} integers where one is needed", ints.len())),
    }
}

/// A kernel that reads `x`, roots of order `n`, and calls `term(j)` for a complex number of a line.
fn shader(cx: &Cx<'_>, kernel: &mut Kernel, n: usize, parts: usize) -> Result<Shader, Reason> {
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    let table = kernel.table(&roots(n));
    shader.read("roots", rinfer_graph::DType::F32, table)?;
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    shader.u32("n", n)?;
    let read = match parts {
        1 => "vec2<f32>(x_at(at), 0.0)",
        _ => "vec2<f32>(x_at(2u * at), x_at(2u * at + 1u))",
    };
    shader.code(&format!(
        "fn complex(at: u32) -> vec2<f32> {{ return {read}; }}
fn root(j: u32) -> vec2<f32> {{ return vec2<f32>(roots_at(2u * j), roots_at(2u * j + 1u)); }}"
    ));
    Ok(shader)
}

pub(super) fn dft(op: &DFT, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, y) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let (length, axis) = (int(cx, 1)?.map(Some), int(cx, 2)?.unwrap_or(-2));
    let dims: Vec<Dim> = x.iter().map(|&n| Dim::from(n)).collect();
    let resolved = op.resolve(&dims, length, Some(axis))?;
    let (axis, n) = resolved.ok_or_else(|| invalid!("the axis is not known"))?;
    let n = n.size().filter(|&n| n > 0).ok_or_else(|| invalid!("a transform of length {n}"))?;
    let last = x.len() - 1;
    let half = op.inverse && op.onesided;
    let mut kernel = Kernel::default();
    let mut shader = shader(cx, &mut kernel, n, x[last])?;
    shader.u32("inner", count(&x[axis + 1..last]))?;
    shader.u32("length", x[axis])?;
    shader.u32("given", x[axis].min(if half { n / 2 + 1 } else { n }))?;
    shader.u32("to", y[axis])?;
    shader.u32("parts", y[last])?;
    // Half a spectrum of real numbers stands for all of it: the other half is its mirror image.
    let term = match half {
        true => {
            "select(2.0, 1.0, j == 0u || 2u * j == p.n) * vec2<f32>(z.x * w.x - select(z.y * \
                 w.y, 0.0, j == 0u || 2u * j == p.n), 0.0)"
        }
        false => "vec2<f32>(z.x * w.x - z.y * w.y, z.x * w.y + z.y * w.x)",
    };
    let (sign, scale) = if op.inverse { ("", " / f32(p.n)") } else { ("-", "") };
    shader.code(&format!(
        "fn value(i: u32) -> f32 {{
  let b = i / p.parts % p.inner;
  let k = i / p.parts / p.inner % p.to;
  let o = i / p.parts / p.inner / p.to;
  var sum = vec2<f32>();
  var at = 0u;
  for (var j = 0u; j < p.given; j += 1u) {{
    let z = complex((o * p.length + j) * p.inner + b);
    let w = root(at) * vec2<f32>(1.0, {sign}1.0);
    sum += {term};
    at = (at + k) % p.n;
  }}
  return select(sum.x, sum.y, i % p.parts == 1u){scale};
}}"
    ));
    kernel.push(shader.elements(count(&y), cx.traits.max_groups)?);
    Ok(kernel)
}

pub(super) fn stft(_: &STFT, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, y) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let step = int(cx, 1)?.ok_or_else(|| invalid!("the step between frames is missing"))?;
    let step = usize::try_from(step).map_err(|_| invalid!("frames {step} apart"))?;
    let n = match (int(cx, 3)?, cx.opt(2)) {
        (Some(n), _) => usize::try_from(n).map_err(|_| invalid!("frames of length {n}"))?,
        (None, Some(_)) => cx.sizes(2)?[0],
        (None, None) => x[1],
    };
    let mut kernel = Kernel::default();
    let mut shader = shader(cx, &mut kernel, n.max(1), x[2])?;
    let weight = match cx.opt(2) {
        Some(window) => {
            shader.read("window", window.dtype()?, Bind::Input(2))?;
            "window_at(j)"
        }
        None => "1.0",
    };
    shader.u32("length", x[1])?;
    shader.u32("step", step)?;
    shader.u32("frames", y[1])?;
    shader.u32("bins", y[2])?;
    shader.code(&format!(
        "fn value(i: u32) -> f32 {{
  let k = i / 2u % p.bins;
  let frame = i / 2u / p.bins % p.frames;
  let start = i / 2u / p.bins / p.frames * p.length + frame * p.step;
  var sum = vec2<f32>();
  var at = 0u;
  for (var j = 0u; j < p.n; j += 1u) {{
    let z = complex(start + j) * {weight};
    let w = root(at);
    sum += vec2<f32>(z.x * w.x + z.y * w.y, z.y * w.x - z.x * w.y);
    at = (at + k) % p.n;
  }}
  return select(sum.x, sum.y, i % 2u == 1u);
}}"
    ));
    kernel.push(shader.elements(count(&y), cx.traits.max_groups)?);
    Ok(kernel)
}
