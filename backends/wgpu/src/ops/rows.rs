//! Operators that look at whole rows: Softmax, the norms, reductions, ArgMax and ArgMin.
//!
//! A kernel's file defines `row(r, lane)`; `rows_group.wgsl` gives each row a workgroup, whose lanes
//! meet in shared memory, `rows_subgroup.wgsl` lets those of a subgroup meet first, and
//! `rows_lane.wgsl` gives each row a lane.

use rinfer_graph::ops::{
    Arg, Axis, BinaryFn, Extreme, GroupNormalization, LayerNormalization, Per, Reduce, ReduceKind,
    RmsNormalization, Softmax, SoftmaxKind,
};
use rinfer_graph::{DType, Reason, invalid, unsupported};

use super::functions::cast;
use crate::index::{Axes, broadcast, count, strides};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, LANES, Launch, Shader, grid};

/// Where a kernel that writes whole words puts its results: output `o` itself, or memory of whole
/// words that is narrowed afterwards.
pub(super) struct Target {
    pub bind: Bind,
    pub dtype: DType,
    o: usize,
}

impl Target {
    pub fn new(kernel: &mut Kernel, cx: &Cx<'_>, o: usize) -> Result<Target, Reason> {
        let dtype = cx.out_dtype(o)?;
        let wide = match Class::of(dtype)? {
            Class::Float => DType::F32,
            Class::Int => DType::I32,
            Class::Uint | Class::Truth => DType::U32,
            Class::Wide => DType::U64,
        };
        if dtype.size() == wide.size() {
            return Ok(Target { bind: Bind::Output(o), dtype, o });
        }
        let bind = kernel.scratch(wide, count(&cx.out_sizes(o)?))?;
        Ok(Target { bind, dtype: wide, o })
    }

    /// Memory between kernels.
    pub fn scratch(kernel: &mut Kernel, dtype: DType, n: usize) -> Result<Target, Reason> {
        Ok(Target { bind: kernel.scratch(dtype, n)?, dtype, o: 0 })
    }

    /// Memory of this dtype that is narrowed to output `o`, or the output if it has that dtype.
    pub fn via(kernel: &mut Kernel, cx: &Cx<'_>, o: usize, dtype: DType) -> Result<Target, Reason> {
        let bind = match cx.out_dtype(o)? == dtype {
            true => Bind::Output(o),
            false => kernel.scratch(dtype, count(&cx.out_sizes(o)?))?,
        };
        Ok(Target { bind, dtype, o })
    }

    /// Narrows, where it must.
    pub fn finish(&self, kernel: &mut Kernel, cx: &Cx<'_>) -> Result<(), Reason> {
        if matches!(self.bind, Bind::Output(_)) {
            return Ok(());
        }
        let to = cx.out_dtype(self.o)?;
        let mut shader = Shader::new("");
        shader.read("x", self.dtype, self.bind)?;
        shader.write("y", to, Bind::Output(self.o))?;
        let expr =
            cast(self.dtype, to, "x_at(i)").ok_or_else(|| unsupported!("rounding to {to}"))?;
        let ty = Class::of(to)?.wgsl();
        shader.code(&format!("fn value(i: u32) -> {ty} {{ return {expr}; }}"));
        let n = count(&cx.out_sizes(self.o)?);
        kernel.push(shader.elements(n, cx.traits.max_groups)?);
        Ok(())
    }
}

/// Ends a row kernel: `rows` rows of `n` elements.
pub(super) fn launch(
    cx: &Cx<'_>,
    mut shader: Shader,
    rows: usize,
    n: usize,
) -> Result<Launch, Reason> {
    shader.u32("rows", rows)?;
    let group = cx.traits.barriers && n >= LANES && rows < (1 << 20);
    let groups = if group {
        shader.code(match cx.traits.subgroups {
            true => include_str!("rows_subgroup.wgsl"),
            false => include_str!("rows_group.wgsl"),
        });
        rows
    } else {
        shader.code(include_str!("rows_lane.wgsl"));
        rows.div_ceil(LANES)
    };
    Ok(shader.launch(grid(groups, cx.traits.max_groups)?))
}

/// Ends a row kernel in which each lane makes a row.
pub(super) fn lanes(cx: &Cx<'_>, mut shader: Shader, rows: usize) -> Result<Launch, Reason> {
    shader.u32("rows", rows)?;
    shader.code("alias T = f32;");
    shader.code(include_str!("rows_lane.wgsl"));
    Ok(shader.launch(grid(rows.div_ceil(LANES), cx.traits.max_groups)?))
}

/// Sums and maxima of floats.
pub(super) const FLOATS: &str = "alias T = f32;
fn combine(a: T, b: T) -> T { return a + b; }
fn larger(a: T, b: T) -> T { return max_f(a, b); }";

/// Softmax, LogSoftmax, Hardmax.
pub(super) fn softmax(op: &Softmax, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let result = match op.kind {
        SoftmaxKind::Softmax => "exp(x) / sum",
        SoftmaxKind::LogSoftmax => "x - log(sum)",
        SoftmaxKind::Hardmax => return super::statistics::hardmax(op, cx),
    };
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let (n, inner) = (sizes[axis], count(&sizes[axis + 1..]));
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let rows = count(&sizes[..axis]) * inner;
    let from = (cx.dtype(0)?, Bind::Input(0));
    let shader = Shader::new(include_str!("softmax.wgsl"));
    let launch = softmax_rows(cx, (shader, from), &target, [result, NO_START], [rows, n, inner])?;
    kernel.push(launch);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Lines of Softmax have no element of their own.
pub(super) const NO_START: &str = "-infinity()";

/// The kernel of Softmax on any memory, `[rows, n, inner]`, begun by the caller; `result` says what
/// becomes of x less the largest, of their `sum`, and of a line of -∞, which is `masked`; `start`
/// is one more element of line `r`.
pub(super) fn softmax_rows(
    cx: &Cx<'_>,
    (mut shader, (dtype, from)): (Shader, (DType, Bind)),
    target: &Target,
    [result, start]: [&str; 2],
    [rows, n, inner]: [usize; 3],
) -> Result<Launch, Reason> {
    shader.read("x", dtype, from)?;
    shader.write("y", target.dtype, target.bind)?;
    shader.u32("n", n)?;
    shader.u32("inner", inner)?;
    shader.code(FLOATS);
    shader.code(&format!("fn start_of(r: u32) -> f32 {{ return {start}; }}"));
    shader
        .code(&format!("fn result(x: f32, sum: f32, masked: bool) -> f32 {{ return {result}; }}"));
    launch(cx, shader, rows, n)
}

/// LayerNormalization: y, and the means and 1/deviations where they are asked for.
pub(super) fn layer_norm(op: &LayerNormalization, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    norm(cx, op.axis, op.epsilon, true)
}

/// RMSNormalization.
pub(super) fn rms_norm(op: &RmsNormalization, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    norm(cx, op.axis, op.epsilon, false)
}

fn norm(cx: &Cx<'_>, axis: Axis, epsilon: f32, centred: bool) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = axis.resolve(sizes.len())?;
    let (rows, n) = (count(&sizes[..axis]), count(&sizes[axis..]));
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let mut shader = norm_shader(cx, &target, n, epsilon, centred)?;
    let mut result = "v".to_string();
    for (i, name, symbol) in [(1, "scale", "*"), (2, "bias", "+")] {
        let Some(fact) = cx.opt(i) else { continue };
        shader.read(name, fact.dtype()?, Bind::Input(i))?;
        let axes = Axes::merged(&sizes, &[broadcast(&cx.sizes(i)?, &sizes)]);
        axes.function(&mut shader, &format!("{name}_place"), 0)?;
        result = format!("{result} {symbol} {name}_at({name}_place(i))");
    }
    shader.code(&format!("fn result(i: u32, v: f32) -> f32 {{ return {result}; }}"));
    let mut note = String::new();
    for (o, name) in [(1, "mean"), (2, "scale")] {
        if cx.wants(o) && centred {
            if cx.out_dtype(o)? != DType::F32 {
                return Err(unsupported!("means of {} on the GPU", cx.out_dtype(o)?));
            }
            shader.write(&format!("noted{o}"), DType::F32, Bind::Output(o))?;
            note.push_str(&format!(" noted{o}[r] = {name};"));
        }
    }
    shader.code(&format!("fn note(r: u32, mean: f32, scale: f32) {{{note} }}"));
    kernel.push(launch(cx, shader, rows, n)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

fn norm_shader(
    cx: &Cx<'_>,
    target: &Target,
    n: usize,
    epsilon: f32,
    centred: bool,
) -> Result<Shader, Reason> {
    let mut shader = Shader::new(include_str!("norm.wgsl"));
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.write("y", target.dtype, target.bind)?;
    shader.u32("n", n)?;
    shader.u32("centred", usize::from(centred))?;
    shader.f32("epsilon", epsilon);
    shader.code(FLOATS);
    Ok(shader)
}

/// InstanceNormalization and GroupNormalization.
pub(super) fn group_norm(op: &GroupNormalization, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let [batch, channels, ..] = sizes[..] else { return Err(invalid!("rank {}", sizes.len())) };
    let groups = op.groups.unwrap_or(channels);
    let area = count(&sizes[2..]);
    let n = channels.checked_div(groups).unwrap_or(0) * area;
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let mut shader = norm_shader(cx, &target, n, op.epsilon, true)?;
    shader.read("scale", cx.dtype(1)?, Bind::Input(1))?;
    shader.read("bias", cx.dtype(2)?, Bind::Input(2))?;
    let (block, blocks) = match op.params {
        Per::Channel => (area, channels),
        Per::Group => (n, groups),
    };
    shader.u32("block", block)?;
    shader.u32("blocks", blocks)?;
    shader.code(
        "fn result(i: u32, v: f32) -> f32 {
  let c = i / p.block % p.blocks;
  return v * scale_at(c) + bias_at(c);
}
fn note(r: u32, mean: f32, scale: f32) { }",
    );
    kernel.push(launch(cx, shader, batch * groups, n)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// The Reduce family.
pub(super) fn reduce(op: &Reduce, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let folded = op.folded(&cx.ints(1)?.unwrap_or_default(), sizes.len())?;
    let dtype = match cx.dtype(0)? {
        // Stored as 0 and 1, so the numbers' order is theirs.
        DType::Bool => DType::U8,
        dtype => dtype,
    };
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let own = strides(&sizes);
    let pick = |which: bool| {
        let of = |k: &usize| folded[*k] == which;
        let axes: Vec<usize> = (0..sizes.len()).filter(of).collect();
        let picked: Vec<usize> = axes.iter().map(|&k| sizes[k]).collect();
        (count(&picked), Axes::merged(&picked, &[axes.iter().map(|&k| own[k]).collect()]))
    };
    let ((n, inner), (rows, kept)) = (pick(true), pick(false));
    let mut shader = Shader::new(include_str!("reduce.wgsl"));
    shader.read("x", dtype, Bind::Input(0))?;
    shader.write("y", target.dtype, target.bind)?;
    shader.u32("n", n)?;
    inner.function(&mut shader, "inner", 0)?;
    kept.function(&mut shader, "kept", 0)?;
    shader.code(&rule(op.kind, dtype)?);
    kernel.push(launch(cx, shader, rows, n)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// LogSumExp takes the largest out first, where it is finite.
const LARGEST: &str = "fn peak(base: u32, lane: u32) -> T {
  var m = -infinity();
  for (var k = lane; k < p.n; k += LANES) { m = larger(m, x_at(base + inner(k))); }
  m = fold_max(m, lane);
  return select(m, 0.0, is_inf(m));
}";

/// The least and the largest number of a dtype.
fn bounds(dtype: DType, class: Class) -> (&'static str, &'static str) {
    match (dtype, class) {
        (DType::I64, _) => ("vec2<u32>(0u, 0x80000000u)", "vec2<u32>(0xffffffffu, 0x7fffffffu)"),
        (_, Class::Wide) => ("vec2<u32>()", "vec2<u32>(0xffffffffu, 0xffffffffu)"),
        (_, Class::Float) => ("-infinity()", "infinity()"),
        (_, Class::Int) => ("bitcast<i32>(0x80000000u)", "2147483647"),
        _ => ("0u", "0xffffffffu"),
    }
}

/// What a reduction does to elements, between them, and to what comes out.
fn rule(kind: ReduceKind, dtype: DType) -> Result<String, Reason> {
    use ReduceKind::*;
    let class = Class::of(dtype)?;
    let float = class == Class::Float;
    let no = || unsupported!("Reduce{kind:?} of {dtype} on the GPU is not supported");
    let ty = class.wgsl();
    let (zero, one) = match class {
        Class::Wide => ("vec2<u32>()", "vec2<u32>(1u, 0u)"),
        _ => ("T(0)", "T(1)"),
    };
    let wide = class == Class::Wide;
    let times = |a: &str, b: &str| match wide {
        true => format!("wide_mul({a}, {b})"),
        false => format!("{a} * {b}"),
    };
    let sum = if wide { "wide_add(a, b)" } else { "a + b" }.to_string();
    let extreme = |f| super::functions::binary(f, class, dtype, "a", "b").ok_or_else(no);
    let (least, most) = bounds(dtype, class);
    let (first, combine, none, last) = match kind {
        L1 if class == Class::Uint => ("x".into(), sum, zero, "v".into()),
        L1 if wide => ("wide_abs(x)".into(), sum, zero, "v".into()),
        L1 => ("abs(x)".to_string(), sum, zero, "v".to_string()),
        L2 if float => (times("x", "x"), sum, zero, "sqrt(v)".into()),
        SumSquare => (times("x", "x"), sum, zero, "v".into()),
        Sum => ("x".into(), sum, zero, "v".into()),
        Prod => ("x".into(), times("a", "b"), one, "v".into()),
        Max => ("x".into(), extreme(BinaryFn::Max)?, least, "v".into()),
        Min => ("x".into(), extreme(BinaryFn::Min)?, most, "v".into()),
        Mean if float => ("x".into(), sum, zero, "v / f32(p.n)".into()),
        Mean if class == Class::Int => ("x".into(), sum, zero, "div_i(v, i32(p.n))".into()),
        Mean if class == Class::Uint => ("x".into(), sum, zero, "div_u(v, p.n)".into()),
        LogSum if float => ("x".into(), sum, zero, "log(v)".into()),
        LogSumExp if float => ("exp(x - m)".into(), sum, zero, "log(v) + m".into()),
        _ => return Err(no()),
    };
    let peak = match kind {
        LogSumExp => LARGEST,
        _ => "fn peak(base: u32, lane: u32) -> T { return T(); }",
    };
    let larger = if float { "return max_f(a, b);" } else { "return a;" };
    let put = if wide { "y_put(2u * r, v.x); y_put(2u * r + 1u, v.y);" } else { "y_put(r, v);" };
    Ok(format!(
        "alias T = {ty};
fn first(x: T, m: T) -> T {{ return {first}; }}
fn combine(a: T, b: T) -> T {{ return {combine}; }}
fn larger(a: T, b: T) -> T {{ {larger} }}
fn first_of_none() -> T {{ return {none}; }}
fn last(v: T, m: T) -> T {{ return {last}; }}
fn put(r: u32, v: T) {{ {put} }}
{peak}"
    ))
}

/// ArgMax and ArgMin: one lane looks along one line.
pub(super) fn arg(op: &Arg, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let dtype = cx.dtype(0)?;
    let more = match op.extreme {
        Extreme::Max => BinaryFn::Greater,
        Extreme::Min => BinaryFn::Less,
    };
    let better = super::functions::binary(more, Class::of(dtype)?, dtype, "v", "best");
    let better = better.ok_or_else(|| unsupported!("{} of {dtype}", cx.node.op.name()))?;
    let tie = if op.select_last_index { "|| all(v == best)" } else { "" };
    let mut shader = Shader::new("");
    shader.read("x", dtype, Bind::Input(0))?;
    shader.write("y", DType::I64, Bind::Output(0))?;
    shader.u32("n", sizes[axis])?;
    shader.u32("inner", count(&sizes[axis + 1..]))?;
    shader.code(&format!(
        "fn value(i: u32) -> vec2<u32> {{
  let base = i / p.inner * p.n * p.inner + i % p.inner;
  var best = x_at(base);
  var at = 0u;
  for (var k = 1u; k < p.n; k += 1u) {{
    let v = x_at(base + k * p.inner);
    if ({better} {tie}) {{
      best = v;
      at = k;
    }}
  }}
  return vec2<u32>(at, 0u);
}}"
    ));
    let rows = count(&sizes) / sizes[axis].max(1);
    Ok(Kernel::one(shader.elements(rows, cx.traits.max_groups)?))
}

/// Whether this reduction of this dtype runs on the GPU.
pub(super) fn supports(kind: ReduceKind, dtype: DType) -> Result<(), Reason> {
    rule(kind, if dtype == DType::Bool { DType::U8 } else { dtype }).map(drop)
}
