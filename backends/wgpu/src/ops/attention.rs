//! Attention: where waiting for other lanes is cheap, one kernel that never holds the scores; else
//! the scores as one batch of products, their softmax, and the means as another.
//!
//! Few queries, as in decoding, and scores that are asked for are made the second way. Keys and
//! values of the past are read where they lie.

use rinfer_graph::ops::{Attention, AttentionSizes, Scores, mask_strides};
use rinfer_graph::{DType, Fact, Reason, unsupported};

use super::functions::{cast, literal};
use super::gemm::{self, Sizes};
use super::rows::{NO_START, Target, softmax_rows};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Launch, Shader};

pub(super) fn compile(op: &Attention, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let past = cx.opt(4).map(|_| cx.sizes(4)).transpose()?;
    let (q, k, v) = (cx.sizes(0)?, cx.sizes(1)?, cx.sizes(2)?);
    let s = op.sizes([&q, &k, &v], past.as_deref())?;
    let mut kernel = Kernel::default();
    let (rows, keys) = (s.batch * s.q_heads * s.queries, s.keys());
    if flash(cx, &s) {
        for o in [1, 2] {
            if cx.wants(o) {
                kernel.push(joined(cx, &s, o)?);
            }
        }
        let target = Target::new(&mut kernel, cx, 0)?;
        kernel.push(whole(op, cx, &s, &target)?);
        target.finish(&mut kernel, cx)?;
        return Ok(kernel);
    }
    let raw = kernel.scratch(DType::F32, rows * keys)?;
    let weights = Target::scratch(&mut kernel, DType::F32, rows * keys)?;
    if cx.wants(1) {
        kernel.push(joined(cx, &s, 1)?);
    }
    if cx.wants(2) {
        kernel.push(joined(cx, &s, 2)?);
    }
    kernel.push(scores(op, cx, &s, (raw, DType::F32), Scores::Biased)?);
    let mut softmax = Shader::new(include_str!("softmax.wgsl"));
    let mut start = NO_START;
    if cx.opt(8).is_some() {
        softmax.read("sinks", cx.dtype(8)?, Bind::Input(8))?;
        softmax.u32("queries", s.queries)?;
        softmax.u32("q_heads", s.q_heads)?;
        start = "sinks_at(r / p.queries % p.q_heads)";
    }
    let result = "select(exp(x) / sum, 0.0, masked)";
    let softmax = (softmax, (DType::F32, raw));
    kernel.push(softmax_rows(cx, softmax, &weights, [result, start], [rows, keys, 1])?);
    if cx.wants(3) {
        shown(op, cx, &s, weights.bind, &mut kernel)?;
    }
    let target = Target::new(&mut kernel, cx, 0)?;
    kernel.push(means(cx, &s, weights.bind, &target)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Queries for which the scores are small beside keys and values.
const FEW: usize = 4;
/// Bytes of scores that are kept where lanes wait for one another at a price.
const SCORES: usize = 64 << 20;
/// Elements of a head of which eight fit into what a workgroup shares.
const HEAD: usize = 512;

/// Whether the scores are never held.
fn flash(cx: &Cx<'_>, s: &AttentionSizes) -> bool {
    let scores = (s.batch * s.q_heads).saturating_mul(s.queries).saturating_mul(s.keys());
    let most = cx.traits.max_groups as usize;
    let fits = s.head <= HEAD && s.batch * s.q_heads <= most && s.queries.div_ceil(8) <= most;
    let worth = if cx.traits.barriers { s.queries > FEW } else { scores > SCORES / 4 };
    fits && worth && !cx.wants(3)
}

/// One kernel for scores, softmax and means.
fn whole(
    op: &Attention,
    cx: &Cx<'_>,
    s: &AttentionSizes,
    target: &Target,
) -> Result<Launch, Reason> {
    let file = include_str!("flash_attention.wgsl");
    let mut shader = Shader::new(&file.replace("Q_TILE", &format!("{}u", 8 * s.head.max(1))));
    if cx.opt(6).is_some() || cx.opt(7).is_some() {
        shader.faults();
    }
    let mut sink = NO_START;
    if cx.opt(8).is_some() {
        shader.read("sinks", cx.dtype(8)?, Bind::Input(8))?;
        sink = "sinks_at(b % p.q_heads)";
    }
    shader.read("q", cx.dtype(0)?, Bind::Input(0))?;
    place(&mut shader, "q_place", s.side_by_side, [s.q_heads, s.queries, s.head])?;
    shader.u32("past", s.past_keys)?;
    vectors(&mut shader, cx, s, 1, "key_vector")?;
    vectors(&mut shader, cx, s, 2, "value_vector")?;
    shader.u32("group", s.q_heads / s.kv_heads.max(1))?;
    for (name, n) in [
        ("q_heads", s.q_heads),
        ("head", s.head),
        ("columns", s.v_head),
        ("keys", s.keys()),
        ("query_count", s.queries),
    ] {
        shader.u32(name, n)?;
    }
    shader.f32("scale", op.scale.unwrap_or(1.0 / (s.head as f32).sqrt()));
    let text = biased(op, cx, s, &mut shader, Scores::Biased)?;
    let place = match s.side_by_side {
        true => "((b / p.q_heads * p.query_count + m) * p.q_heads + b % p.q_heads) * p.columns + n",
        false => "(b * p.query_count + m) * p.columns + n",
    };
    shader.code(&format!(
        "fn query(b: u32, m: u32, d: u32) -> f32 {{
  return q_at(q_place(b / p.q_heads, b % p.q_heads, m, d));
}}
fn key(b: u32, n: u32, d: u32) -> f32 {{
  return key_vector(b / p.q_heads, b % p.q_heads / p.group, n, d);
}}
fn value_of(b: u32, n: u32, d: u32) -> f32 {{
  return value_vector(b / p.q_heads, b % p.q_heads / p.group, n, d);
}}
fn masked(v: f32, b: u32, m: u32, n: u32) -> f32 {{\n{text}  return s;\n}}
fn sink_of(b: u32) -> f32 {{ return {sink}; }}
fn place_of(b: u32, m: u32, n: u32) -> u32 {{ return {place}; }}"
    ));
    shader.write("y", target.dtype, target.bind)?;
    let grid = [s.queries.div_ceil(8), s.v_head.div_ceil(64), s.batch * s.q_heads];
    Ok(shader.launch(grid.map(|g| g.max(1) as u32)))
}

/// A function that gives element `d` of key or value `j` of head `h` in sample `n`.
fn vectors(
    shader: &mut Shader,
    cx: &Cx<'_>,
    s: &AttentionSizes,
    i: usize,
    name: &str,
) -> Result<(), Reason> {
    let size = if i == 1 { s.head } else { s.v_head };
    let (new, past) = (format!("new_{name}"), format!("past_{name}"));
    shader.read(&new, cx.dtype(i)?, Bind::Input(i))?;
    place(shader, &format!("{new}_place"), s.kv_side_by_side, [s.kv_heads, s.new_keys, size])?;
    let mut text = format!("  return {new}_at({new}_place(n, h, j - p.past, d));\n");
    if s.past_keys > 0 {
        shader.read(&past, cx.dtype(i + 3)?, Bind::Input(i + 3))?;
        place(shader, &format!("{past}_place"), false, [s.kv_heads, s.past_keys, size])?;
        let before =
            format!("  if (j < p.past) {{ return {past}_at({past}_place(n, h, j, d)); }}\n");
        text.insert_str(0, &before);
    }
    shader.code(&format!("fn {name}(n: u32, h: u32, j: u32, d: u32) -> f32 {{\n{text}}}"));
    Ok(())
}

/// A function that gives the place of element `d` at position `j` of head `h` in sample `n`.
fn place(
    shader: &mut Shader,
    name: &str,
    side_by_side: bool,
    [heads, len, size]: [usize; 3],
) -> Result<(), Reason> {
    for (field, value) in [("heads", heads), ("len", len), ("size", size)] {
        shader.u32(&format!("{name}_{field}"), value)?;
    }
    let rows = match side_by_side {
        true => format!("(n * p.{name}_len + j) * p.{name}_heads + h"),
        false => format!("(n * p.{name}_heads + h) * p.{name}_len + j"),
    };
    shader.code(&format!(
        "fn {name}(n: u32, h: u32, j: u32, d: u32) -> u32 {{ return ({rows}) * p.{name}_size + d; }}"
    ));
    Ok(())
}

/// Output 3: the scores at the stage that is asked for.
fn shown(
    op: &Attention,
    cx: &Cx<'_>,
    s: &AttentionSizes,
    weights: Bind,
    kernel: &mut Kernel,
) -> Result<(), Reason> {
    if op.scores == Scores::Softmax {
        let mut shader = Shader::new("");
        shader.read("x", DType::F32, weights)?;
        shader.write("y", cx.out_dtype(3)?, Bind::Output(3))?;
        shader.code("fn value(i: u32) -> f32 { return x_at(i); }");
        let n = s.batch * s.q_heads * s.queries * s.keys();
        kernel.push(shader.elements(n, cx.traits.max_groups)?);
        return Ok(());
    }
    let target = Target::new(kernel, cx, 3)?;
    kernel.push(scores(op, cx, s, (target.bind, target.dtype), op.scores)?);
    target.finish(kernel, cx)
}

/// scale · Q·Kᵀ, up to this stage: capped, masked.
fn scores(
    op: &Attention,
    cx: &Cx<'_>,
    s: &AttentionSizes,
    (to, dtype): (Bind, DType),
    stage: Scores,
) -> Result<Launch, Reason> {
    let mut shader = Shader::new("");
    if stage == Scores::Biased && (cx.opt(6).is_some() || cx.opt(7).is_some()) {
        shader.faults();
    }
    shader.read("q", cx.dtype(0)?, Bind::Input(0))?;
    place(&mut shader, "q_place", s.side_by_side, [s.q_heads, s.queries, s.head])?;
    shader.u32("past", s.past_keys)?;
    vectors(&mut shader, cx, s, 1, "vector")?;
    shader.u32("group", s.q_heads / s.kv_heads.max(1))?;
    shader.u32("q_heads", s.q_heads)?;
    shader.f32("scale", op.scale.unwrap_or(1.0 / (s.head as f32).sqrt()));
    shader.code(
        "fn a_load(b: u32, m: u32, k: u32) -> f32 {
  return q_at(q_place(b / p.q_heads, b % p.q_heads, m, k));
}
fn b_load(b: u32, k: u32, n: u32) -> f32 {
  return vector(b / p.q_heads, b % p.q_heads / p.group, n, k);
}",
    );
    let text = biased(op, cx, s, &mut shader, stage)?;
    shader.code(&format!(
        "fn finish(v: f32, b: u32, m: u32, n: u32) -> f32 {{\n{text}  return s;\n}}"
    ));
    shader.write("y", dtype, to)?;
    let sizes = Sizes { batch: s.batch * s.q_heads, m: s.queries, n: s.keys(), k: s.head };
    gemm::launch(cx, shader, sizes, Class::Float)
}

/// Lines that make a score `s` of a product `v`, up to this stage.
fn biased(
    op: &Attention,
    cx: &Cx<'_>,
    s: &AttentionSizes,
    shader: &mut Shader,
    stage: Scores,
) -> Result<String, Reason> {
    let mut text = "  var s = v * p.scale;\n".to_string();
    if op.softcap > 0.0 && stage != Scores::Raw {
        let cap = literal(op.softcap);
        text.push_str(&format!("  s = {cap} * tanh_f(s / {cap});\n"));
    }
    if stage == Scores::Biased {
        mask(op, cx, s, shader, &mut text)?;
    }
    Ok(text)
}

/// Lines that exclude keys, and add the mask to `s`.
fn mask(
    op: &Attention,
    cx: &Cx<'_>,
    s: &AttentionSizes,
    shader: &mut Shader,
    text: &mut String,
) -> Result<(), Reason> {
    text.push_str("  var before = i32(p.past);\n");
    if cx.opt(6).is_some() || cx.opt(7).is_some() {
        shader.u32("all_keys", s.keys())?;
        // A number of keys, or a position among them.
        shader.code(
            "fn within(v: vec2<u32>) -> u32 {
  if (v.y != 0u || v.x > p.all_keys) { fault(); }
  return min(v.x, p.all_keys);
}",
        );
    }
    if let Some(lens) = cx.opt(6) {
        let dtype = lens.dtype()?;
        shader.read("lens", dtype, Bind::Input(6))?;
        shader.i32("queries", s.queries as i64)?;
        let len = cast(dtype, DType::I64, "lens_at(b / p.q_heads)");
        let len = len.ok_or_else(|| unsupported!("lengths of {dtype} on the GPU"))?;
        text.push_str(&format!(
            "  let len = within({len});
  if (n >= len) {{ return -infinity(); }}
  before = i32(len) - p.queries;\n"
        ));
    }
    if cx.opt(7).is_some() {
        shader.read("firsts", DType::I64, Bind::Input(7))?;
        text.push_str("  before = i32(within(firsts_at(b / p.q_heads)));\n");
    }
    text.push_str("  let distance = i32(n) - before - i32(m);\n");
    let right = if op.causal { Some(0) } else { op.right_window };
    if let Some(right) = right {
        shader.i32("right", right as i64)?;
        text.push_str("  if (distance > p.right) { return -infinity(); }\n");
    }
    if let Some(left) = op.left_window {
        shader.i32("left", left as i64)?;
        text.push_str("  if (-distance > p.left) { return -infinity(); }\n");
    }
    if cx.opt(3).is_some() {
        let (steps, keys) = mask_strides(&cx.sizes(3)?, s)?;
        let dtype = cx.dtype(3)?;
        shader.read("mask", dtype, Bind::Input(3))?;
        for (name, step) in ["mask_b", "mask_h", "mask_q"].iter().zip(steps) {
            shader.u32(name, step)?;
        }
        shader.u32("mask_keys", keys)?;
        text.push_str(
            "  if (n >= p.mask_keys) { return -infinity(); }
  let at = b / p.q_heads * p.mask_b + b % p.q_heads * p.mask_h + m * p.mask_q + n;\n",
        );
        text.push_str(match dtype {
            DType::Bool => "  if (!mask_at(at)) { return -infinity(); }\n",
            _ => {
                "  let bias = mask_at(at);
  if (bias == -infinity()) { return bias; }
  s += bias;\n"
            }
        });
    }
    Ok(())
}

/// weights · V
fn means(
    cx: &Cx<'_>,
    s: &AttentionSizes,
    weights: Bind,
    target: &Target,
) -> Result<Launch, Reason> {
    let mut shader = Shader::new("");
    shader.read("weights", DType::F32, weights)?;
    shader.u32("past", s.past_keys)?;
    vectors(&mut shader, cx, s, 2, "vector")?;
    shader.u32("group", s.q_heads / s.kv_heads.max(1))?;
    shader.u32("q_heads", s.q_heads)?;
    shader.code(
        "fn a_load(b: u32, m: u32, k: u32) -> f32 {
  return weights_at((b * p.m + m) * p.k + k);
}
fn b_load(b: u32, k: u32, n: u32) -> f32 {
  return vector(b / p.q_heads, b % p.q_heads / p.group, k, n);
}
fn finish(v: f32, b: u32, m: u32, n: u32) -> f32 { return v; }",
    );
    shader.write("y", target.dtype, target.bind)?;
    let place = match s.side_by_side {
        true => "((b / p.q_heads * p.m + m) * p.q_heads + b % p.q_heads) * p.n + n",
        false => "(b * p.m + m) * p.n + n",
    };
    let sizes = Sizes { batch: s.batch * s.q_heads, m: s.queries, n: s.v_head, k: s.keys() };
    gemm::launch_at(cx, shader, sizes, Class::Float, place)
}

/// The past and the new keys (1) or values (2), one after the other.
fn joined(cx: &Cx<'_>, s: &AttentionSizes, i: usize) -> Result<Launch, Reason> {
    let size = if i == 1 { s.head } else { s.v_head };
    let mut shader = Shader::new("");
    shader.u32("past", s.past_keys)?;
    vectors(&mut shader, cx, s, i, "vector")?;
    shader.write("y", cx.out_dtype(i)?, Bind::Output(i))?;
    shader.u32("size", size)?;
    shader.u32("keys", s.keys())?;
    shader.u32("kv_heads", s.kv_heads)?;
    shader.code(
        "fn value(i: u32) -> f32 {
  let r = i / p.size / p.keys;
  return vector(r / p.kv_heads, r % p.kv_heads, i / p.size % p.keys, i % p.size);
}",
    );
    shader.elements(s.batch * s.kv_heads * s.keys() * size, cx.traits.max_groups)
}

/// Whether this attention runs on the GPU.
pub(super) fn supports(op: &Attention, inputs: &[Option<&Fact>]) -> Result<(), Reason> {
    let dtypes = inputs.iter().flatten().map(|f| f.dtype()).collect::<Result<Vec<_>, _>>()?;
    let float = |d: &DType| Class::of(*d) == Ok(Class::Float);
    if !dtypes[..3].iter().all(float) {
        return Err(unsupported!("attention over {} on the GPU", dtypes[0]));
    }
    match op.softmax_precision {
        None | Some(DType::F32 | DType::F16 | DType::BF16) => Ok(()),
        Some(other) => Err(unsupported!("a softmax in {other} on the GPU")),
    }
}
