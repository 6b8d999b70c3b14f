//! Pools: one lane looks at one window.

use rinfer_graph::ops::{Pool, PoolKind, Span};
use rinfer_graph::{DType, Reason, unsupported};

use super::functions::literal;
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Launch, Shader};

pub(super) fn compile(op: &Pool, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let x = cx.sizes(0)?;
    let spans: Vec<Span> = match &op.window {
        Some(window) => window.spans(&window.kernel, &x[2..])?.to_vec(),
        None => {
            let whole = |&n: &usize| Span {
                input: n,
                output: 1,
                kernel: n,
                stride: 1,
                dilation: 1,
                before: 0,
                after: 0,
            };
            x[2..].iter().map(whole).collect()
        }
    };
    let mut kernel = Kernel::one(launch(op, cx, &spans, 0)?);
    if cx.wants(1) {
        kernel.push(launch(op, cx, &spans, 1)?);
    }
    Ok(kernel)
}

/// Output 0: what the window holds; output 1: where the largest stands.
fn launch(op: &Pool, cx: &Cx<'_>, spans: &[Span], o: usize) -> Result<Launch, Reason> {
    let (dtype, to) = (cx.dtype(0)?, cx.out_dtype(o)?);
    let class = Class::of(dtype)?;
    let mut shader = Shader::new("");
    shader.read("x", dtype, Bind::Input(0))?;
    shader.write("y", to, Bind::Output(o))?;
    shader.u32("outputs", spans.iter().map(|s| s.output).product())?;
    shader.u32("inputs", spans.iter().map(|s| s.input).product())?;
    for (i, s) in spans.iter().enumerate() {
        shader.u32(&format!("out{i}"), s.output)?;
        for (name, n) in [
            ("inp", s.input),
            ("ker", s.kernel),
            ("str", s.stride),
            ("dil", s.dilation),
            ("pad", s.before),
            ("end", s.input + s.after),
        ] {
            shader.i32(&format!("{name}{i}"), n as i64)?;
        }
    }
    let (start, each, result) = parts(op, class, o)?;
    let mut text = format!("  let chan = i / p.outputs;\n  var o = i;\n{start}");
    for i in (0..spans.len()).rev() {
        text.push_str(&format!(
            "  let s{i} = i32(o % p.out{i}) * p.str{i} - p.pad{i};\n  o /= p.out{i};\n"
        ));
    }
    // Places in the padding count for the mean that includes it, those beyond it do not.
    let mut place = "0u".to_string();
    for i in 0..spans.len() {
        text.push_str(&format!(
            "  for (var k{i} = 0; k{i} < p.ker{i}; k{i} += 1) {{\n  let at{i} = s{i} + k{i} * \
             p.dil{i};\n  if (at{i} >= p.end{i}) {{ break; }}\n"
        ));
        place = format!("({place}) * u32(p.inp{i}) + u32(at{i})");
    }
    let inside: Vec<String> =
        (0..spans.len()).map(|i| format!("at{i} >= 0 && at{i} < p.inp{i}")).collect();
    let mut column = "0u".to_string();
    for i in (0..spans.len()).rev() {
        column = format!("({column}) * u32(p.inp{i}) + u32(at{i})");
    }
    let by_column = matches!(op.kind, PoolKind::Max { column_major: true });
    text.push_str(&format!(
        "  all += 1.0;\n  if ({}) {{\n  let place = {place};\n  let shown = {};\n  let v = \
         x_at(chan * p.inputs + place);\n{each}  }}\n{}",
        inside.join(" && "),
        if by_column { &column } else { "place" },
        "  }\n".repeat(spans.len())
    ));
    let ty = Class::of(to)?.wgsl();
    shader.code(&format!("fn value(i: u32) -> {ty} {{\n{text}  return {result};\n}}"));
    shader.elements(count(&cx.out_sizes(o)?), cx.traits.max_groups)
}

/// What comes before, in and after the loops.
fn parts(op: &Pool, class: Class, o: usize) -> Result<(String, String, String), Reason> {
    let ty = class.wgsl();
    let least = match class {
        Class::Float => "-infinity()",
        Class::Int => "bitcast<i32>(0x80000000u)",
        Class::Uint => "0u",
        _ => return Err(unsupported!("a pool of {class:?} on the GPU")),
    };
    let head = "  var all = 0.0;\n  var n = 0.0;\n".to_string();
    Ok(match op.kind {
        PoolKind::Max { .. } => (
            format!("{head}  var best: {ty} = {least};\n  var at = 0u;\n"),
            "  if (n == 0.0 || v > best) {\n  best = v;\n  at = shown;\n  }\n  n += 1.0;\n".into(),
            if o == 0 { "best" } else { "vec2<u32>(chan * p.inputs + at, 0u)" }.into(),
        ),
        PoolKind::Average { count_include_pad } => (
            format!("{head}  var sum = 0.0;\n"),
            "  sum += v;\n  n += 1.0;\n".into(),
            if count_include_pad { "sum / all" } else { "sum / n" }.into(),
        ),
        PoolKind::Lp { p } => {
            let p = literal(p);
            (
                format!("{head}  var sum = 0.0;\n"),
                format!("  sum += pow_f(abs(v), {p});\n"),
                format!("pow_f(sum, 1.0 / {p})"),
            )
        }
    })
}

/// Whether pools of this dtype run on the GPU.
pub(super) fn supports(dtype: DType) -> Result<(), Reason> {
    match Class::of(dtype)? {
        Class::Float | Class::Int | Class::Uint => Ok(()),
        _ => Err(unsupported!("a pool of {dtype} on the GPU")),
    }
}
