//! Operators that read images between pixels: GridSample, AffineGrid, RoiAlign, MaxRoiPool,
//! DeformConv; and Col2Im, which adds blocks up into an image.

use rinfer_graph::ops::{
    AffineGrid, Col2Im, DeformConv, GridMode, GridPadding, GridSample, ImageAxis, MaxRoiPool,
    RoiAlign,
};
use rinfer_graph::{DType, Reason, invalid};

use super::conv::Shape;
use super::functions::binary;
use super::gemm;
use super::rows::Target;
use crate::index::{count, strides};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Launch, Shader};

/// Lines of `at` that the pixels of an axis are found by, as the CPU finds them.
fn grid_functions(op: &GridSample) -> String {
    let (p, low, high) = match op.align_corners {
        true => ("(place + 1.0) / 2.0 * (n - 1.0)", "0.0", "n - 1.0"),
        false => ("((place + 1.0) * n - 1.0) / 2.0", "-0.5", "n - 0.5"),
    };
    let nearest = if op.mode == GridMode::Nearest { "  at = round(at);\n" } else { "" };
    let beyond = match (op.padding, op.mode) {
        (GridPadding::Zeros, _) => "at",
        // Curves that the last pixels bend end three beyond.
        (GridPadding::Border, GridMode::Cubic) => "clamp(at, -3.0, n + 2.0)",
        (GridPadding::Border, _) => "clamp(at, 0.0, max(n - 1.0, 0.0))",
        (GridPadding::Reflection, _) => "reflected(at, low, high)",
    };
    let (first, weight) = match op.mode {
        GridMode::Nearest => ("at", "1.0"),
        GridMode::Linear => ("floor(at)", "select(1.0 - f, f, t == 1u)"),
        GridMode::Cubic => ("floor(at) - 1.0", "cubic(f, t)"),
    };
    let pixel = match op.padding {
        GridPadding::Zeros => "q",
        GridPadding::Border => "clamp(q, 0.0, n - 1.0)",
        GridPadding::Reflection => "clamp(trunc(reflected(q, low, high)), 0.0, n - 1.0)",
    };
    format!(
        "// Mirrors a place at both ends until it lies between them.
fn reflected(at: f32, low: f32, high: f32) -> f32 {{
  let range = high - low;
  if (range <= 0.0 || is_nan(at) || is_inf(at)) {{ return low; }}
  if (at >= low && at <= high) {{ return at; }}
  let below = at < low;
  let beyond = select(at - high, low - at, below);
  let turns = floor(beyond / range);
  let rest = beyond - turns * range;
  let even = turns - 2.0 * floor(turns / 2.0) == 0.0;
  return select(high - rest, low + rest, even == below);
}}
// Keys' cubic convolution with slope -3/4.
fn cubic(f: f32, t: u32) -> f32 {{
  let x = select(select(f + 1.0, f, t == 1u), select(1.0 - f, 2.0 - f, t == 3u), t > 1u);
  if (t == 1u || t == 2u) {{ return (1.25 * x - 2.25) * x * x + 1.0; }}
  return ((-0.75 * x + 3.75) * x - 6.0) * x + 3.0;
}}
fn start(place: f32, n: f32) -> f32 {{
  var at = {p};
{nearest}  let low = {low};
  let high = {high};
  if (at < low || at > high) {{ at = {beyond}; }}
  return at;
}}
// The pixel that tap `t` reads, -1 for none, and its weight.
fn tap(at: f32, n: f32, t: u32) -> vec2<f32> {{
  let f = at - floor(at);
  let low = {low};
  let high = {high};
  let q = {first} + f32(t);
  let pixel = {pixel};
  if (is_nan(q) || n < 1.0 || !(pixel >= 0.0 && pixel <= n - 1.0)) {{
    return vec2<f32>(-1.0, 0.0);
  }}
  return vec2<f32>(pixel, {weight});
}}"
    )
}

/// GridSample: one lane makes one element, from the pixels around its place.
pub(super) fn grid_sample(op: &GridSample, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, grid) = (cx.sizes(0)?, cx.sizes(1)?);
    let axes = x.len() - 2;
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("grid", cx.dtype(1)?, Bind::Input(1))?;
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    shader.u32("outputs", count(&grid[1..=axes]))?;
    shader.u32("channels", x[1])?;
    shader.u32("pixels", count(&x[2..]))?;
    shader.code(&grid_functions(op));
    let taps = match op.mode {
        GridMode::Nearest => 1,
        GridMode::Linear => 2,
        GridMode::Cubic => 4,
    };
    let (mut places, mut text) = (String::new(), String::new());
    let (mut weight, mut at) = (String::from("1.0"), String::from("plane * p.pixels"));
    for (k, step) in strides(&x[2..]).into_iter().enumerate() {
        shader.f32(&format!("n{k}"), x[k + 2] as f32);
        shader.stride(&format!("step{k}"), step)?;
        places.push_str(&format!(
            "  let g{k} = start(grid_at(place + {}u), p.n{k});\n",
            axes - 1 - k
        ));
        text.push_str(&format!(
            "  for (var t{k} = 0u; t{k} < {taps}u; t{k} += 1u) {{
  let s{k} = tap(g{k}, p.n{k}, t{k});
  if (s{k}.x < 0.0) {{ continue; }}\n"
        ));
        weight = format!("{weight} * s{k}.y");
        at = format!("{at} + u32(s{k}.x) * p.step{k}");
    }
    shader.code(&format!(
        "fn value(i: u32) -> f32 {{
  let plane = i / p.outputs;
  let place = (plane / p.channels * p.outputs + i % p.outputs) * {axes}u;
{places}  var sum = 0.0;
{text}  sum += {weight} * x_at({at});
{}  return sum;
}}",
        "  }\n".repeat(axes)
    ));
    Ok(Kernel::one(shader.elements(count(&cx.out_sizes(0)?), cx.traits.max_groups)?))
}

/// AffineGrid: a place is a row of theta times the place that it has without.
pub(super) fn affine_grid(op: &AffineGrid, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let out = cx.out_sizes(0)?;
    let spatial = &out[1..out.len() - 1];
    let axes = spatial.len();
    let mut shader = Shader::new("");
    shader.read("theta", cx.dtype(0)?, Bind::Input(0))?;
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    shader.u32("pixels", count(spatial))?;
    let mut text = String::new();
    for (k, step) in strides(spatial).into_iter().enumerate() {
        shader.u32(&format!("n{k}"), spatial[k])?;
        shader.stride(&format!("step{k}"), step)?;
        let at = format!("f32(at / p.step{k} % p.n{k})");
        let place = match op.align_corners {
            true if spatial[k] == 1 => "-1.0".into(),
            true => format!("(-1.0 + 2.0 * {at} / f32(p.n{k} - 1u))"),
            false => format!("((2.0 * {at} + 1.0) / f32(p.n{k}) - 1.0)"),
        };
        // The map's columns begin with the last axis.
        text.push_str(&format!("  sum += theta_at(base + {}u) * {place};\n", axes - 1 - k));
    }
    shader.code(&format!(
        "fn value(i: u32) -> f32 {{
  let at = i / {axes}u % p.pixels;
  let base = (i / {axes}u / p.pixels * {axes}u + i % {axes}u) * {}u;
  var sum = theta_at(base + {axes}u);
{text}  return sum;
}}",
        axes + 1
    ));
    Ok(Kernel::one(shader.elements(count(&out), cx.traits.max_groups)?))
}

/// RoiAlign: one lane samples one bin of one channel.
pub(super) fn roi_align(op: &RoiAlign, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let x = cx.sizes(0)?;
    let mut shader = Shader::new(include_str!("roi_align.wgsl"));
    shader.faults();
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("rois", cx.dtype(1)?, Bind::Input(1))?;
    shader.read("images", DType::I64, Bind::Input(2))?;
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    for (name, n) in [
        ("batch", x[0]),
        ("channels", x[1]),
        ("height", x[2]),
        ("width", x[3]),
        ("out_height", op.height),
        ("out_width", op.width),
        ("ratio", op.sampling_ratio),
        ("half_pixel", usize::from(op.half_pixel)),
        ("largest", usize::from(op.max)),
    ] {
        shader.u32(name, n)?;
    }
    shader.f32("scale", op.spatial_scale);
    Ok(Kernel::one(shader.elements(count(&cx.out_sizes(0)?), cx.traits.max_groups)?))
}

/// MaxRoiPool: one lane looks through one bin of one channel.
pub(super) fn max_roi_pool(op: &MaxRoiPool, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let x = cx.sizes(0)?;
    let mut shader = Shader::new("");
    shader.faults();
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("rois", cx.dtype(1)?, Bind::Input(1))?;
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    for (name, n) in [("batch", x[0]), ("channels", x[1]), ("height", x[2]), ("width", x[3])] {
        shader.u32(name, n)?;
    }
    shader.u32("rows", op.height)?;
    shader.u32("cols", op.width)?;
    shader.f32("scale", op.spatial_scale);
    shader.code(
        "// Halves away from zero.
fn edge(at: u32) -> f32 {
  let v = rois_at(at) * p.scale;
  return sign(v) * floor(abs(v) + 0.5);
}
fn clipped(v: f32, from_: f32, size: u32) -> u32 {
  return u32(clamp(v + from_, 0.0, f32(size)));
}
fn value(i: u32) -> f32 {
  let col = i % p.cols;
  let row = i / p.cols % p.rows;
  let c = i / p.cols / p.rows % p.channels;
  let r = i / p.cols / p.rows / p.channels * 5u;
  let image = rois_at(r);
  if (!(image >= 0.0 && image < f32(p.batch))) { fault(); return 0.0; }
  let top = edge(r + 2u);
  let left = edge(r + 1u);
  let down = max(edge(r + 4u) - top + 1.0, 1.0) / f32(p.rows);
  let right = max(edge(r + 3u) - left + 1.0, 1.0) / f32(p.cols);
  let plane = (u32(image) * p.channels + c) * p.height;
  var most = 0.0;
  var any_seen = false;
  let y0 = clipped(floor(f32(row) * down), top, p.height);
  let y1 = clipped(ceil(f32(row + 1u) * down), top, p.height);
  let x0 = clipped(floor(f32(col) * right), left, p.width);
  let x1 = clipped(ceil(f32(col + 1u) * right), left, p.width);
  for (var h = y0; h < y1; h += 1u) {
    for (var w = x0; w < x1; w += 1u) {
      let v = x_at((plane + h) * p.width + w);
      most = select(v, max_f(most, v), any_seen);
      any_seen = true;
    }
  }
  return most;
}",
    );
    Ok(Kernel::one(shader.elements(count(&cx.out_sizes(0)?), cx.traits.max_groups)?))
}

/// DeformConv: the patches that its offsets cut out, then their product with the weights.
pub(super) fn deform_conv(op: &DeformConv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, w, out) = (cx.sizes(0)?, cx.sizes(1)?, cx.out_sizes(0)?);
    let shape = Shape::of_conv(&x, &w, &op.window, op.group)?;
    let product = shape.product();
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let n = product.batch * product.k * product.n;
    let patches = kernel.scratch(DType::F32, n)?;
    kernel.push(patch(op, cx, &shape, patches, n)?);
    let mut shader = Shader::new("");
    shader.read("w", cx.dtype(1)?, Bind::Input(1))?;
    shader.read("patches", DType::F32, patches)?;
    let mut sum = "v".to_string();
    if let Some(bias) = cx.opt(3) {
        shader.read("bias", bias.dtype()?, Bind::Input(3))?;
        sum = "v + bias_at(b % p.group * p.m + m)".into();
    }
    shader.u32("group", op.group)?;
    shader.code(&format!(
        "fn a_load(b: u32, m: u32, k: u32) -> f32 {{
  return w_at((b % p.group * p.m + m) * p.k + k);
}}
fn b_load(b: u32, k: u32, n: u32) -> f32 {{ return patches_at((b * p.k + k) * p.n + n); }}
fn finish(v: f32, b: u32, m: u32, n: u32) -> f32 {{ return {sum}; }}"
    ));
    shader.write("y", target.dtype, target.bind)?;
    debug_assert_eq!(count(&out), product.batch * product.m * product.n);
    kernel.push(gemm::launch(cx, shader, product, Class::Float)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Patches [batch, channel, tap, output].
fn patch(
    op: &DeformConv,
    cx: &Cx<'_>,
    shape: &Shape,
    to: Bind,
    n: usize,
) -> Result<Launch, Reason> {
    let x = cx.sizes(0)?;
    let mut shader = Shader::new(include_str!("deform_conv.wgsl"));
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("offsets", cx.dtype(2)?, Bind::Input(2))?;
    let mask = match cx.opt(4) {
        Some(mask) => {
            shader.read("mask", mask.dtype()?, Bind::Input(4))?;
            "mask_at(i)"
        }
        None => "1.0",
    };
    shader.code(&format!("fn mask_of(i: u32) -> f32 {{ return {mask}; }}"));
    shader.write("y", DType::F32, to)?;
    shader.u32("channels", x[1])?;
    shader.u32("offset_groups", op.offset_group)?;
    super::conv::numbers(&mut shader, shape)?;
    shader.elements(n, cx.traits.max_groups)
}

/// Col2Im: one lane adds up what blocks have for one pixel.
pub(super) fn col2im(op: &Col2Im, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let ints = |i| cx.ints(i)?.ok_or_else(|| invalid!("input {i} is missing"));
    let axes = op.axes(&ints(1)?, &ints(2)?)?;
    let product = |f: fn(&ImageAxis) -> usize| axes.iter().map(f).product::<usize>();
    let dtype = cx.dtype(0)?;
    let class = Class::of(dtype)?;
    let mut shader = Shader::new("");
    shader.read("x", dtype, Bind::Input(0))?;
    shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
    shader.u32("image", product(|a| a.size))?;
    shader.u32("block", product(|a| a.block))?;
    shader.u32("blocks", product(|a| a.blocks))?;
    let (mut outer, mut inner) = (String::new(), String::new());
    let mut step = "1u".to_string();
    for (k, a) in axes.iter().enumerate().rev() {
        for (name, n) in [("size", a.size), ("blk", a.block), ("blks", a.blocks)] {
            shader.u32(&format!("{name}{k}"), n)?;
        }
        for (name, n) in [("dil", a.dilation), ("pad", a.pad), ("str", a.stride)] {
            shader.i32(&format!("{name}{k}"), n as i64)?;
        }
        outer.push_str(&format!(
            "  let c{k} = i32(pixel % p.size{k}) + p.pad{k};\n  pixel /= p.size{k};\n"
        ));
        inner.push_str(&format!(
            "    let d{k} = c{k} - i32(rest % p.blk{k}) * p.dil{k};
    rest /= p.blk{k};
    let q{k} = d{k} / p.str{k};
    if (d{k} < 0 || q{k} * p.str{k} != d{k} || q{k} >= i32(p.blks{k})) {{ continue; }}
    at += u32(q{k}) * {step};\n"
        ));
        step = format!("{step} * p.blks{k}");
    }
    let add = binary(rinfer_graph::ops::BinaryFn::Add, class, dtype, "sum", "x_at(base + at)");
    let add = add.ok_or_else(|| rinfer_graph::unsupported!("Col2Im of {dtype} on the GPU"))?;
    let ty = class.wgsl();
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{
  var pixel = i % p.image;
{outer}  var sum = {ty}();
  for (var e = 0u; e < p.block; e += 1u) {{
    let base = (i / p.image * p.block + e) * p.blocks;
    var rest = e;
    var at = 0u;
{inner}    sum = {add};
  }}
  return sum;
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&cx.out_sizes(0)?), cx.traits.max_groups)?))
}
