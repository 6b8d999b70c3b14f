//! Operators along a sequence: CumSum, CumProd, RotaryEmbedding.

use rinfer_graph::ops::{Accumulate, Axis, Cumulative, RotaryEmbedding};
use rinfer_graph::{DType, Reason, invalid, unsupported};

use super::functions::binary;
use super::rows::Target;
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader};

/// yᵢ = x₀ ⊕ … ⊕ xᵢ: one lane walks along one line.
pub(super) fn cumulative(op: &Cumulative, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = match cx.ints(1)?.as_deref() {
        Some([axis]) => Axis(*axis).resolve(sizes.len())?,
        _ => return Err(invalid!("the axis is missing")),
    };
    let dtype = cx.dtype(0)?;
    let class = Class::of(dtype)?;
    let f = match op.kind {
        Accumulate::Sum => rinfer_graph::ops::BinaryFn::Add,
        Accumulate::Prod => rinfer_graph::ops::BinaryFn::Mul,
    };
    let step = binary(f, class, dtype, "all", "x_at(at)");
    let step = step.ok_or_else(|| unsupported!("{:?} of {dtype} on the GPU", op.kind))?;
    let none = match (op.kind, class) {
        (Accumulate::Prod, Class::Wide) => "vec2<u32>(1u, 0u)".to_string(),
        (Accumulate::Prod, _) => format!("{}(1)", class.wgsl()),
        (Accumulate::Sum, _) => format!("{}()", class.wgsl()),
    };
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let mut shader = Shader::new("");
    shader.read("x", dtype, Bind::Input(0))?;
    shader.write("y", target.dtype, target.bind)?;
    let inner = count(&sizes[axis + 1..]);
    let rows = count(&sizes[..axis]) * inner;
    shader.u32("n", sizes[axis])?;
    shader.u32("inner", inner)?;
    let k = if op.reverse { "p.n - 1u - k" } else { "k" };
    let put = match class {
        Class::Wide => "y_put(2u * at, all.x);\n    y_put(2u * at + 1u, all.y);",
        _ => "y_put(at, all);",
    };
    let (before, after) = if op.exclusive { (put, "") } else { ("", put) };
    shader.code(&format!(
        "fn row(r: u32, lane: u32) {{
  var all = {none};
  for (var k = 0u; k < p.n; k += 1u) {{
    let at = (r / p.inner * p.n + {k}) * p.inner + r % p.inner;
    {before}
    all = {step};
    {after}
  }}
}}"
    ));
    kernel.push(super::rows::lanes(cx, shader, rows)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// (x₁, x₂) → (cos·x₁ - sin·x₂, sin·x₁ + cos·x₂): one lane makes one element.
pub(super) fn rotary(op: &RotaryEmbedding, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let ([_, heads, len, size], dim) = op.sizes(&sizes)?;
    let mut shader = Shader::new("");
    if cx.opt(3).is_some() {
        shader.faults();
    }
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("cosines", cx.dtype(1)?, Bind::Input(1))?;
    shader.read("sines", cx.dtype(2)?, Bind::Input(2))?;
    for (name, n) in [("heads", heads), ("len", len), ("size", size), ("dim", dim)] {
        shader.u32(name, n)?;
    }
    let row = match cx.opt(3) {
        None => "b * p.len + s",
        Some(_) => {
            shader.read("ids", DType::I64, Bind::Input(3))?;
            shader.u32("positions", cx.sizes(1)?[0])?;
            shader.code(
                "fn position(i: u32, after: u32) -> u32 {
  let at = ids_at(i);
  if (at.y != 0u || at.x >= p.positions || at.x + after >= p.positions) { fault(); }
  return min(at.x + after, p.positions - 1u);
}",
            );
            // One number is the position of the first.
            match cx.sizes(3)?.len() {
                2 => "position(b * p.len + s, 0u)",
                _ => "position(0u, s)",
            }
        }
    };
    // Where sequence and head of row r are.
    let order = match sizes.len() {
        4 => "let s = r % p.len;\n  let b = r / p.len / p.heads;",
        _ => "let s = r / p.heads % p.len;\n  let b = r / p.heads / p.len;",
    };
    let pair = match op.interleaved {
        true => {
            "let second = d % 2u == 1u;\n  let k = d / 2u;\n  let other = select(i + 1u, i - 1u, second);"
        }
        false => {
            "let second = d >= p.dim / 2u;\n  let k = d % (p.dim / 2u);\n  let other = select(i + \
             p.dim / 2u, i - p.dim / 2u, second);"
        }
    };
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    shader.code(&format!(
        "fn value(i: u32) -> f32 {{
  let d = i % p.size;
  let r = i / p.size;
  if (d >= p.dim) {{ return x_at(i); }}
  {order}
  {pair}
  let at = ({row}) * (p.dim / 2u) + k;
  let turned = x_at(other) * sines_at(at);
  return x_at(i) * cosines_at(at) + select(-turned, turned, second);
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&sizes), cx.traits.max_groups)?))
}
