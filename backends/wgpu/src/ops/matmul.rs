//! MatMul and Gemm: y = activation(alpha · op(a)·op(b) + bias + residual), batches broadcast.

use rinfer_graph::ops::MatMul;
use rinfer_graph::{DType, Reason};

use super::functions::{activation, literal};
use super::gemm::{self, Sizes};
use super::rows::Target;
use crate::index::{Axes, broadcast, count};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader};

pub(super) fn compile(op: &MatMul, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (a, b) = (cx.sizes(0)?, cx.sizes(1)?);
    let last = |s: &[usize], i: usize| s[s.len() - i];
    let (m, k) = match (a.len(), op.trans_a) {
        (1, _) => (1, a[0]),
        (_, false) => (last(&a, 2), last(&a, 1)),
        (_, true) => (last(&a, 1), last(&a, 2)),
    };
    let n = match (b.len(), op.trans_b) {
        (1, _) => 1,
        (_, false) => last(&b, 1),
        (_, true) => last(&b, 2),
    };
    let outer = |s: &[usize]| s[..s.len().saturating_sub(2)].to_vec();
    let (batch_a, batch_b) = (outer(&a), outer(&b));
    let out = broadcast_sizes(&batch_a, &batch_b);
    let mut sizes = Sizes { batch: count(&out), m, n, k };
    // One b for all: the rows of every a are those of one matrix.
    let flat = count(&batch_b) == 1 && count(&batch_a) == sizes.batch && !op.trans_a;
    if flat {
        sizes = Sizes { batch: 1, m: sizes.batch * m, n, k };
    }
    let dtype = cx.dtype(0)?;
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    let mut shader = Shader::new("");
    shader.read("a", dtype, Bind::Input(0))?;
    shader.read("b", cx.dtype(1)?, Bind::Input(1))?;
    let grown = |s: &[usize]| match flat {
        true => Axes::merged(&[1], &[vec![0]]),
        false => Axes::merged(&out, &[broadcast(s, &out)]),
    };
    grown(&batch_a).function(&mut shader, "batch_a", 0)?;
    grown(&batch_b).function(&mut shader, "batch_b", 0)?;
    let ty = Class::of(dtype)?.wgsl();
    let at_a = if op.trans_a { "k * p.rows + m" } else { "m * p.k + k" };
    let at_b = if op.trans_b { "n * p.k + k" } else { "k * p.n + n" };
    shader.u32("rows", m)?;
    shader.code(&format!(
        "fn a_load(i: u32, m: u32, k: u32) -> {ty} {{
  return a_at(batch_a(i) * p.rows * p.k + {at_a});
}}
fn b_load(i: u32, k: u32, n: u32) -> {ty} {{ return b_at(batch_b(i) * p.k * p.n + {at_b}); }}"
    ));
    let mut v = "v".to_string();
    if op.alpha != 1.0 {
        v = format!("{v} * {}", literal(op.alpha));
    }
    if let Some(bias) = cx.opt(2) {
        shader.read("bias", bias.dtype()?, Bind::Input(2))?;
        let column = if bias.len() == Some(1) { "0u" } else { "n" };
        v = format!("{v} + bias_at({column})");
    }
    if cx.opt(3).is_some() {
        shader.read("residual", cx.dtype(3)?, Bind::Input(3))?;
        v = format!("{v} + residual_at((b * p.m + m) * p.n + n)");
    }
    finish(&mut shader, ty, &v, &activation(op.activation, "s"));
    shader.write("y", target.dtype, target.bind)?;
    kernel.push(gemm::launch(cx, shader, sizes, Class::of(dtype)?)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// The function that ends a sum: `sum` in terms of v, then `activation` of s.
pub(super) fn finish(shader: &mut Shader, ty: &str, sum: &str, activation: &str) {
    shader.code(&format!(
        "fn finish(v: {ty}, b: u32, m: u32, n: u32) -> {ty} {{
  let s = {sum};
  return {activation};
}}"
    ));
}

/// The sizes that both broadcast to; they were checked when shapes were inferred.
fn broadcast_sizes(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank).map(|i| if at(a, i) == 1 { at(b, i) } else { at(a, i) }).collect()
}

/// Whether products of this dtype are exact enough on the GPU.
pub(super) fn supports(dtype: DType) -> Result<(), Reason> {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::U32 => Ok(()),
        other => Err(rinfer_graph::unsupported!("products of {other} on the GPU")),
    }
}
