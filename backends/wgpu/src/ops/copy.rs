//! Every move of elements: transposes, slices, repeats, pads, pieces and joins are strided copies.
//!
//! One lane makes one word of the output, and never looks at what it moves: only widths matter.

use rinfer_graph::ops::{
    BlocksTo, CenterCropPad, Concat, DepthOrder, Pad, PadMode, Pads, Slice, SpaceDepth, Split,
    Transpose,
};
use rinfer_graph::{DType, Reason, invalid, unsupported};

use crate::index::{Axes, broadcast, count, permuted, strides};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader, raw};

/// A copy: element `i` of the output is that of the input at `base` + Σ coordinate · stride.
fn strided(
    cx: &Cx<'_>,
    o: usize,
    sizes: &[usize],
    steps: Vec<i64>,
    base: usize,
) -> Result<Kernel, Reason> {
    let dtype = raw(cx.dtype(0)?)?;
    let mut shader = Shader::new("");
    shader.read("x", dtype, Bind::Input(0))?;
    shader.write("y", dtype, Bind::Output(o))?;
    shader.u32("base", base)?;
    let axes = Axes::merged(sizes, &[steps]);
    axes.function(&mut shader, "place", 0)?;
    shader.code(&format!(
        "fn value(i: u32) -> {} {{ return x_at(p.base + place(i)); }}",
        Class::of(dtype)?.wgsl()
    ));
    Ok(Kernel::one(shader.elements(count(sizes), cx.traits.max_groups)?))
}

/// The same bytes: for a dtype that changes its name only.
pub(super) fn same(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let n = count(&cx.sizes(0)?);
    strided(cx, 0, &[n], vec![1], 0)
}

/// Transpose.
pub(super) fn transpose(op: &Transpose, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let perm = op.resolve(sizes.len())?;
    let own = strides(&sizes);
    let steps = perm.iter().map(|&k| own[k]).collect();
    strided(cx, 0, &permuted(&sizes, &perm), steps, 0)
}

/// Expand.
pub(super) fn expand(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let out = cx.out_sizes(0)?;
    strided(cx, 0, &out, broadcast(&cx.sizes(0)?, &out), 0)
}

/// Tile: along each axis the input again and again.
pub(super) fn tile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, out) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let own = strides(&sizes);
    let (mut grown, mut steps) = (Vec::new(), Vec::new());
    for k in 0..sizes.len() {
        grown.extend([out[k].checked_div(sizes[k]).unwrap_or(0), sizes[k]]);
        steps.extend([0, own[k]]);
    }
    strided(cx, 0, &grown, steps, 0)
}

/// Slice.
pub(super) fn slice(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, out) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let mut steps = strides(&sizes);
    let mut base = 0;
    for cut in Slice::cuts(&sizes, &|i| cx.opt(i))? {
        base += cut.start * steps[cut.axis] as usize;
        steps[cut.axis] *= cut.step;
    }
    strided(cx, 0, &out, steps, base)
}

/// Split: a slice for each output.
pub(super) fn split(op: &Split, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let axis = op.axis.resolve(sizes.len())?;
    let steps = strides(&sizes);
    let mut kernel = Kernel::default();
    let mut base = 0;
    for o in 0..cx.node.outputs.len() {
        let out = cx.out_sizes(o)?;
        kernel.launches.extend(strided(cx, o, &out, steps.clone(), base)?.launches);
        base += out[axis] * steps[axis] as usize;
    }
    Ok(kernel)
}

/// DepthToSpace and SpaceToDepth: blocks of pixels against channels.
pub(super) fn space_depth(op: &SpaceDepth, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, b) = (cx.sizes(0)?, op.blocksize);
    let [n, c, h, w] = sizes[..] else { return Err(invalid!("rank {} is not 4", sizes.len())) };
    let (grown, perm): ([usize; 6], [usize; 6]) = match (op.to, op.order) {
        (BlocksTo::Space, DepthOrder::BlockFirst) => {
            ([n, b, b, c / (b * b), h, w], [0, 3, 4, 1, 5, 2])
        }
        (BlocksTo::Space, DepthOrder::ChannelFirst) => {
            ([n, c / (b * b), b, b, h, w], [0, 1, 4, 2, 5, 3])
        }
        (BlocksTo::Depth, DepthOrder::BlockFirst) => {
            ([n, c, h / b, b, w / b, b], [0, 3, 5, 1, 2, 4])
        }
        (BlocksTo::Depth, DepthOrder::ChannelFirst) => {
            ([n, c, h / b, b, w / b, b], [0, 1, 3, 5, 2, 4])
        }
    };
    let own = strides(&grown);
    strided(cx, 0, &permuted(&grown, &perm), perm.iter().map(|&k| own[k]).collect(), 0)
}

/// Pad.
pub(super) fn pad(op: &Pad, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let pads = cx.ints(1)?.ok_or_else(|| invalid!("the pads are missing"))?;
    let pads = Pad::pads(sizes.len(), &pads, cx.ints(3)?.as_deref())?;
    padded(cx, &pads, op.mode, cx.opt(2).is_some())
}

/// CenterCropPad: zeros around, or less of the input.
pub(super) fn center_crop_pad(op: &CenterCropPad, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let wanted = cx.ints(1)?.ok_or_else(|| invalid!("the shape is missing"))?;
    padded(cx, &op.pads(&cx.sizes(0)?, &wanted)?, PadMode::Constant, false)
}

fn padded(cx: &Cx<'_>, pads: &Pads, mode: PadMode, filled: bool) -> Result<Kernel, Reason> {
    let (sizes, out) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let dtype = raw(cx.dtype(0)?)?;
    let ty = Class::of(dtype)?.wgsl();
    let mut shader = Shader::new("");
    shader.read("x", dtype, Bind::Input(0))?;
    if filled {
        shader.read("fill", dtype, Bind::Input(2))?;
    }
    shader.write("y", dtype, Bind::Output(0))?;
    let own = strides(&sizes);
    let axes = Axes { sizes: out.to_vec(), strides: vec![own.clone()] };
    let mut text = axes.split(&mut shader, "a")?;
    text.push_str("  var at = 0u;\n  var inside = true;\n");
    for k in 0..out.len() {
        shader.i32(&format!("lo{k}"), pads[k].0)?;
        shader.i32(&format!("len{k}"), sizes[k] as i64)?;
        shader.stride(&format!("step{k}"), own[k])?;
        let mapped = match mode {
            PadMode::Constant => {
                format!("  inside = inside && c{k} >= 0 && c{k} < p.len{k};\n  let m{k} = c{k};\n")
            }
            PadMode::Edge => format!("  let m{k} = clamp(c{k}, 0, p.len{k} - 1);\n"),
            PadMode::Reflect => format!("  let m{k} = reflected(c{k}, p.len{k});\n"),
            PadMode::Wrap => format!("  let m{k} = mod_i(c{k}, p.len{k});\n"),
        };
        text.push_str(&format!("  let c{k} = i32(a_c{k}) - p.lo{k};\n{mapped}"));
        text.push_str(&format!("  at += u32(m{k}) * p.step{k};\n"));
    }
    if mode == PadMode::Reflect {
        shader.code(
            "fn reflected(c: i32, n: i32) -> i32 {
  if (n < 2) { return 0; }
  let m = mod_i(c, 2 * n - 2);
  return min(m, 2 * n - 2 - m);
}",
        );
    }
    let fill = if filled { "fill_at(0u)".to_string() } else { format!("{ty}()") };
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{\n{text}  if (!inside) {{ return {fill}; }}\n  \
         return x_at(at);\n}}"
    ));
    Ok(Kernel::one(shader.elements(count(&out), cx.traits.max_groups)?))
}

/// Concat: as many inputs at a time as a kernel may see.
pub(super) fn concat(op: &Concat, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let out = cx.out_sizes(0)?;
    let axis = op.axis.resolve(out.len())?;
    let dtype = raw(cx.dtype(0)?)?;
    let (outer, inner) = (count(&out[..axis]), count(&out[axis + 1..]));
    let mut kernel = Kernel::default();
    let mut pieces: Vec<(Bind, usize)> = (0..cx.inputs.len())
        .map(|i| Ok((Bind::Input(i), cx.sizes(i)?[axis])))
        .collect::<Result<_, Reason>>()?;
    let most = cx.traits.max_buffers - 1;
    while pieces.len() > most {
        let mut joined = Vec::new();
        for group in pieces.chunks(most) {
            let n: usize = group.iter().map(|(_, n)| n).sum();
            let to = kernel.scratch(dtype, outer * n * inner)?;
            kernel.push(join(cx, dtype, [outer, inner], group, to)?);
            joined.push((to, n));
        }
        pieces = joined;
    }
    kernel.push(join(cx, dtype, [outer, inner], &pieces, Bind::Output(0))?);
    Ok(kernel)
}

fn join(
    cx: &Cx<'_>,
    dtype: DType,
    [outer, inner]: [usize; 2],
    pieces: &[(Bind, usize)],
    to: Bind,
) -> Result<crate::shader::Launch, Reason> {
    let mut shader = Shader::new("");
    for (k, (bind, _)) in pieces.iter().enumerate() {
        shader.read(&format!("x{k}"), dtype, *bind)?;
    }
    shader.write("y", dtype, to)?;
    let total: usize = pieces.iter().map(|(_, n)| n).sum();
    shader.u32("row", total * inner)?;
    let mut text = "  let at = i % p.row;\n  let o = i / p.row;\n".to_string();
    let mut before = 0;
    for (k, (_, n)) in pieces.iter().enumerate() {
        shader.u32(&format!("from{k}"), before)?;
        before += n * inner;
        shader.u32(&format!("to{k}"), before)?;
        text.push_str(&format!(
            "  if (at < p.to{k}) {{ return x{k}_at(o * (p.to{k} - p.from{k}) + at - p.from{k}); \
             }}\n"
        ));
    }
    let ty = Class::of(dtype)?.wgsl();
    shader.code(&format!("fn value(i: u32) -> {ty} {{\n{text}  return {ty}();\n}}"));
    shader.elements(outer * total * inner, cx.traits.max_groups)
}

/// Trilu: what is above or below a diagonal, zeros elsewhere.
pub(super) fn trilu(upper: bool, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let out = cx.out_sizes(0)?;
    let [.., h, w] = out[..] else { return Err(invalid!("rank {} is below 2", out.len())) };
    let k = cx.ints(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    let dtype = raw(cx.dtype(0)?)?;
    let ty = Class::of(dtype)?.wgsl();
    let mut shader = Shader::new("");
    shader.read("x", dtype, Bind::Input(0))?;
    shader.write("y", dtype, Bind::Output(0))?;
    shader.u32("h", h)?;
    shader.u32("w", w)?;
    let most = h.max(w) as i64;
    shader.i32("k", k.clamp(-most, most))?;
    let keeps = if upper { "d >= p.k" } else { "d <= p.k" };
    shader.code(&format!(
        "fn value(i: u32) -> {ty} {{
  let d = i32(i % p.w) - i32(i / p.w % p.h);
  if ({keeps}) {{ return x_at(i); }}
  return {ty}();
}}"
    ));
    Ok(Kernel::one(shader.elements(count(&out), cx.traits.max_groups)?))
}

/// `Err` if elements of this dtype cannot be moved.
pub(super) fn supports(dtype: DType) -> Result<(), Reason> {
    match dtype {
        DType::String => Err(unsupported!("strings on the GPU are not supported")),
        _ => raw(dtype).map(drop),
    }
}
