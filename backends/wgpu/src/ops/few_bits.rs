//! MatMulNBits and MatMulBnb4: products with weights of 2, 4 or 8 bits, which become numbers as they
//! are read.
//!
//! w[n, k] = (code - zero) · scale, the very float that the CPU has; sums are made as in MatMul.

use rinfer_graph::ops::{MatMulBnb4, MatMulNBits};
use rinfer_graph::{DType, Reason, unsupported};

use super::gemm::{self, Sizes};
use super::rows::Target;
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader};

/// MatMulNBits.
pub(super) fn compile(op: &MatMulNBits, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let mut shader = Shader::new("");
    if cx.opt(4).is_some() {
        shader.faults();
    }
    shader.read("codes", DType::U8, Bind::Input(1))?;
    shader.read("scales", cx.dtype(2)?, Bind::Input(2))?;
    shader.u32("blocks", op.blocks())?;
    shader.u32("block", op.block_size)?;
    shader.u32("row", op.blocks() * op.block_size * op.bits / 8)?;
    let (bits, each, mask) = (op.bits, 8 / op.bits, (1usize << op.bits) - 1);
    shader.code(&format!(
        "fn bits_at(byte: u32, i: u32) -> f32 {{
  return f32((byte >> (i % {each}u * {bits}u)) & {mask}u);
}}"
    ));
    let zero = match cx.opt(3).map(|f| f.dtype()).transpose()? {
        None => format!("{}.0", 1 << (op.bits - 1)),
        Some(DType::U8) => {
            shader.read("zeros", DType::U8, Bind::Input(3))?;
            shader.u32("zero_row", op.zero_bytes())?;
            format!("bits_at(zeros_at(n * p.zero_row + g / {each}u), g)")
        }
        Some(dtype) => {
            shader.read("zeros", dtype, Bind::Input(3))?;
            "zeros_at(n * p.blocks + g)".into()
        }
    };
    let group = match cx.opt(4) {
        None => "k / p.block",
        Some(_) => {
            shader.read("groups", DType::I32, Bind::Input(4))?;
            shader.code(
                "fn group(k: u32) -> u32 {
  let g = groups_at(k);
  if (g < 0 || g >= i32(p.blocks)) { fault(); }
  return u32(clamp(g, 0, i32(p.blocks) - 1));
}",
            );
            "group(k)"
        }
    };
    shader.code(&format!(
        "fn b_load(b: u32, k: u32, n: u32) -> f32 {{
  let g = {group};
  let code = bits_at(codes_at(n * p.row + k / {each}u), k);
  return (code - {zero}) * scales_at(n * p.blocks + g);
}}"
    ));
    product(cx, Kernel::default(), shader, [op.k, op.n], cx.opt(5).map(|_| 5))
}

/// MatMulBnb4: a code's value comes from a table.
pub(super) fn bnb4(op: &MatMulBnb4, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let mut shader = Shader::new("");
    shader.read("codes", DType::U8, Bind::Input(1))?;
    shader.read("scales", cx.dtype(2)?, Bind::Input(2))?;
    shader.u32("columns", op.k)?;
    shader.u32("block", op.block_size)?;
    // A table, for a choice among sixteen in each of eight loads takes some drivers minutes.
    let mut kernel = Kernel::default();
    shader.read("values", DType::F32, kernel.table(&op.codes.values()[..]))?;
    let at = if op.trans_b { "n * p.columns + k" } else { "k * p.columns + n" };
    shader.code(&format!(
        "fn b_load(b: u32, k: u32, n: u32) -> f32 {{
  let at = {at};
  // The first of two codes is in the high bits.
  let code = (codes_at(at / 2u) >> (4u * (1u - at % 2u))) & 15u;
  return values_at(code) * scales_at(at / p.block);
}}"
    ));
    let sizes = if op.trans_b { [op.k, op.n] } else { [op.n, op.k] };
    product(cx, kernel, shader, sizes, None)
}

/// a [.., k] times what `b_load` of `shader` reads, plus the bias that is this input.
fn product(
    cx: &Cx<'_>,
    mut kernel: Kernel,
    mut shader: Shader,
    [k, n]: [usize; 2],
    bias: Option<usize>,
) -> Result<Kernel, Reason> {
    let out = cx.out_sizes(0)?;
    let m = count(&out[..out.len() - 1]);
    let target = Target::new(&mut kernel, cx, 0)?;
    shader.read("a", cx.dtype(0)?, Bind::Input(0))?;
    let mut sum = "v";
    if let Some(bias) = bias {
        shader.read("bias", cx.dtype(bias)?, Bind::Input(bias))?;
        sum = "v + bias_at(n)";
    }
    shader.code(&format!(
        "fn a_load(b: u32, m: u32, k: u32) -> f32 {{ return a_at(m * p.k + k); }}
fn finish(v: f32, b: u32, m: u32, n: u32) -> f32 {{ return {sum}; }}"
    ));
    shader.write("y", target.dtype, target.bind)?;
    kernel.push(gemm::launch(cx, shader, Sizes { batch: 1, m, n, k }, Class::Float)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Whether a product of this dtype runs on the GPU.
pub(super) fn supports(dtype: DType) -> Result<(), Reason> {
    match Class::of(dtype)? {
        Class::Float => Ok(()),
        _ => Err(unsupported!("a product of {dtype} with weights of few bits on the GPU")),
    }
}
