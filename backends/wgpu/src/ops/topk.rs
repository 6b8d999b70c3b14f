//! TopK: pieces of a line are ranked, and what is best in each is ranked again.
//!
//! One lane counts what comes before its candidate within the piece; that is the candidate's place.

use rinfer_graph::ops::TopK;
use rinfer_graph::{DType, Reason, invalid};

use super::rows::lanes;
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader, raw};

/// Candidates of a piece, at least.
const PIECE: usize = 256;

/// Elements by their order: of equal ones the one with the lower index is first.
struct Lines {
    dtype: DType,
    n: usize,
    inner: usize,
    rows: usize,
    k: usize,
    largest: bool,
}

pub(super) fn compile(op: &TopK, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let k = match cx.ints(1)?.as_deref() {
        Some([k]) => usize::try_from(*k).map_err(|_| invalid!("the {k} first elements"))?,
        _ => return Err(invalid!("k is missing")),
    };
    let inner = count(&sizes[axis + 1..]);
    let rows = count(&sizes[..axis]) * inner;
    let (dtype, largest) = (cx.dtype(0)?, op.largest);
    let lines = Lines { dtype, n: sizes[axis], inner, rows, k, largest };
    let mut kernel = Kernel::default();
    let piece = PIECE.max(2 * k);
    let (mut found, mut m): (Option<Bind>, usize) = (None, lines.n);
    loop {
        let pieces = m.div_ceil(piece).max(1);
        let left = (pieces - 1) * k + k.min(m - (pieces - 1) * piece);
        let to = kernel.scratch(DType::U32, rows * left)?;
        kernel.push(rank(cx, &lines, found, to, [m, piece.min(m.max(1)), left])?);
        (found, m) = (Some(to), left);
        if pieces == 1 {
            break;
        }
    }
    let best = found.ok_or_else(|| invalid!("no elements were ranked"))?;
    picked(cx, &lines, best, &mut kernel)?;
    Ok(kernel)
}

/// A function `order(x)`, whose result is larger for what comes first.
fn order(lines: &Lines) -> Result<String, Reason> {
    let (ty, body) = match Class::of(lines.dtype)? {
        Class::Float => (
            "u32",
            "  let b = bitcast<u32>(x);
  var o = select(b | 0x80000000u, ~b, (b >> 31u) == 1u);
  o = select(o, 0x80000000u, x == 0.0);
  o = select(o, 0xffffffffu, is_nan(x));",
        ),
        Class::Int => ("u32", "  let o = bitcast<u32>(x) ^ 0x80000000u;"),
        Class::Wide if lines.dtype == DType::I64 => {
            ("vec2<u32>", "  let o = vec2<u32>(x.x, x.y ^ 0x80000000u);")
        }
        Class::Wide => ("vec2<u32>", "  let o = x;"),
        _ => ("u32", "  let o = u32(x);"),
    };
    let class = Class::of(lines.dtype)?.wgsl();
    let made = if lines.largest { "o" } else { "~o" };
    let more = match ty {
        "u32" => "a > b",
        _ => "wide_less_u(b, a)",
    };
    let same = if ty == "u32" { "a == b" } else { "all(a == b)" };
    Ok(format!(
        "fn order(x: {class}) -> {ty} {{\n{body}\n  return {made};\n}}
fn before(a: {ty}, i: u32, b: {ty}, j: u32) -> bool {{
  return {more} || ({same} && i < j);
}}
fn element(r: u32, i: u32) -> u32 {{
  return (r / p.inner * p.n + i) * p.inner + r % p.inner;
}}"
    ))
}

/// Ranks `m` candidates of each line, in pieces; `left` of them stay.
fn rank(
    cx: &Cx<'_>,
    lines: &Lines,
    from: Option<Bind>,
    to: Bind,
    [m, piece, left]: [usize; 3],
) -> Result<crate::shader::Launch, Reason> {
    let mut shader = Shader::new("");
    shader.read("x", lines.dtype, Bind::Input(0))?;
    let candidate = match from {
        Some(from) => {
            shader.read("found", DType::U32, from)?;
            "found_at(r * p.m + j)"
        }
        None => "j",
    };
    shader.write("y", DType::U32, to)?;
    let sizes = [lines.n, lines.inner, m, piece, left, lines.k];
    for (name, n) in ["n", "inner", "m", "piece", "left", "k"].iter().zip(sizes) {
        shader.u32(name, n)?;
    }
    shader.code(&order(lines)?);
    shader.code(&format!(
        "fn candidate(r: u32, j: u32) -> u32 {{ return {candidate}; }}
fn row(lane_row: u32, lane: u32) {{
  let r = lane_row / p.m;
  let j = lane_row % p.m;
  let mine = candidate(r, j);
  let key = order(x_at(element(r, mine)));
  let first = j / p.piece * p.piece;
  let end = min(first + p.piece, p.m);
  var place = 0u;
  for (var l = first; l < end && place < p.k; l += 1u) {{
    let other = candidate(r, l);
    if (before(order(x_at(element(r, other))), other, key, mine)) {{ place += 1u; }}
  }}
  if (place < p.k) {{ y_put(r * p.left + j / p.piece * p.k + place, mine); }}
}}"
    ));
    lanes(cx, shader, lines.rows * m)
}

/// Values and indices of what was found, [rows, k] in the shape of the outputs.
fn picked(cx: &Cx<'_>, lines: &Lines, best: Bind, kernel: &mut Kernel) -> Result<(), Reason> {
    let dtype = raw(lines.dtype)?;
    let ty = Class::of(dtype)?.wgsl();
    for o in 0..2 {
        if !cx.wants(o) {
            continue;
        }
        let mut shader = Shader::new("");
        shader.read("best", DType::U32, best)?;
        shader.u32("n", lines.n)?;
        shader.u32("inner", lines.inner)?;
        shader.u32("k", lines.k)?;
        shader.code(
            "fn found(i: u32) -> u32 {
  let r = i / p.inner / p.k * p.inner + i % p.inner;
  return best_at(r * p.k + i / p.inner % p.k);
}",
        );
        if o == 0 {
            shader.read("x", dtype, Bind::Input(0))?;
            shader.write("y", dtype, Bind::Output(0))?;
            shader.code(&format!(
                "fn value(i: u32) -> {ty} {{
  return x_at((i / p.inner / p.k * p.n + found(i)) * p.inner + i % p.inner);
}}"
            ));
        } else {
            shader.write("y", DType::I64, Bind::Output(1))?;
            shader.code("fn value(i: u32) -> vec2<u32> { return vec2<u32>(found(i), 0u); }");
        }
        kernel.push(shader.elements(lines.rows * lines.k, cx.traits.max_groups)?);
    }
    Ok(())
}
