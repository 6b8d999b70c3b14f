//! Conv and ConvTranspose: products of the weights with windows that are gathered as they are read.
//!
//! Weights are [m, c/group · kernel], windows [c/group · kernel, outputs]; a batch is one group of
//! one sample. A convolution of single channels is a sum that each lane makes by itself.

use rinfer_graph::ops::{Activation, Conv, ConvTranspose, Span, Window};
use rinfer_graph::{DType, Reason, unsupported};

use super::functions::activation;
use super::gemm::{self, Sizes};
use super::matmul::finish;
use super::rows::Target;
use crate::index::count;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Launch, Shader};

/// The sizes that both directions have.
pub(super) struct Shape {
    batch: usize,
    group: usize,
    /// Channels of the input and of the output in one group.
    c: usize,
    m: usize,
    spans: Vec<Span>,
}

impl Shape {
    pub fn of_conv(
        x: &[usize],
        w: &[usize],
        window: &Window,
        group: usize,
    ) -> Result<Shape, Reason> {
        Ok(Shape {
            batch: x[0],
            group,
            c: w[1],
            m: w[0].checked_div(group).unwrap_or(0),
            spans: window.spans(&w[2..], &x[2..])?.to_vec(),
        })
    }

    /// The product that it is.
    pub fn product(&self) -> Sizes {
        Sizes {
            batch: self.batch * self.group,
            m: self.m,
            n: self.outputs(),
            k: self.c * self.kernel(),
        }
    }

    fn inputs(&self) -> usize {
        self.spans.iter().map(|s| s.input).product()
    }
    fn outputs(&self) -> usize {
        self.spans.iter().map(|s| s.output).product()
    }
    fn kernel(&self) -> usize {
        self.spans.iter().map(|s| s.kernel).product()
    }
}

/// Conv.
pub(super) fn conv(op: &Conv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, w) = (cx.sizes(0)?, cx.sizes(1)?);
    let shape = Shape::of_conv(&x, &w, &op.window, op.group)?;
    let pointwise = shape.spans.iter().all(|s| s.kernel == 1 && s.stride == 1 && s.before == 0)
        && shape.inputs() == shape.outputs();
    let load = match pointwise {
        true => "return x_at((b * p.c + k) * p.n + n);\n".to_string(),
        false => gathered(&shape, false),
    };
    build(cx, &shape, "return w_at((b % p.group * p.m + m) * p.k + k);", &load, op.activation)
}

/// ConvTranspose.
pub(super) fn conv_transpose(op: &ConvTranspose, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, w) = (cx.sizes(0)?, cx.sizes(1)?);
    let shape = Shape {
        batch: x[0],
        group: op.group,
        c: w[0].checked_div(op.group).unwrap_or(0),
        m: w[1],
        spans: op.spans(&w[2..], &x[2..])?.to_vec(),
    };
    let weight = "return w_at(((b % p.group * p.c + k / p.area) * p.m + m) * p.area + k % p.area);";
    build(cx, &shape, weight, &gathered(&shape, true), op.activation)
}

/// The element of the input, by the caller's `x_here`, that weight `k` of a channel meets at output `n`.
pub(super) fn gathered(shape: &Shape, transposed: bool) -> String {
    let axes = shape.spans.len();
    let mut text = "  var o = n;\n  var t = k % p.area;\n  var at = 0u;\n".to_string();
    let mut step = "1u".to_string();
    for i in (0..axes).rev() {
        text.push_str(&format!(
            "  let o{i} = i32(o % p.out{i}) * {};\n  o /= p.out{i};\n  let t{i} = i32(t % p.ker{i}) \
             * p.dil{i};\n  t /= p.ker{i};\n",
            if transposed { "1".to_string() } else { format!("p.str{i}") }
        ));
        if transposed {
            text.push_str(&format!(
                "  let u{i} = o{i} + p.pad{i} - t{i};\n  let s{i} = u{i} / p.str{i};\n  if (u{i} < \
                 0 || s{i} * p.str{i} != u{i} || s{i} >= p.inp{i}) {{ return T(); }}\n"
            ));
        } else {
            text.push_str(&format!(
                "  let s{i} = o{i} + t{i} - p.pad{i};\n  if (s{i} < 0 || s{i} >= p.inp{i}) {{ \
                 return T(); }}\n"
            ));
        }
        text.push_str(&format!("  at += u32(s{i}) * {step};\n"));
        step = format!("{step} * u32(p.inp{i})");
    }
    text.push_str("  return x_here((b * p.c + k / p.area) * p.inputs + at);\n");
    text
}

/// The numbers that [`gathered`] reads.
pub(super) fn numbers(shader: &mut Shader, shape: &Shape) -> Result<(), Reason> {
    shader.u32("group", shape.group)?;
    shader.u32("c", shape.c)?;
    shader.u32("area", shape.kernel())?;
    shader.u32("inputs", shape.inputs())?;
    for (i, s) in shape.spans.iter().enumerate() {
        shader.u32(&format!("out{i}"), s.output)?;
        shader.u32(&format!("ker{i}"), s.kernel)?;
        shader.i32(&format!("inp{i}"), s.input as i64)?;
        shader.i32(&format!("str{i}"), s.stride as i64)?;
        shader.i32(&format!("dil{i}"), s.dilation as i64)?;
        shader.i32(&format!("pad{i}"), s.before as i64)?;
    }
    Ok(())
}

fn build(
    cx: &Cx<'_>,
    shape: &Shape,
    weight: &str,
    window: &str,
    then: Option<Activation>,
) -> Result<Kernel, Reason> {
    let mut kernel = Kernel::default();
    let sizes = shape.product();
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("w", cx.dtype(1)?, Bind::Input(1))?;
    numbers(&mut shader, shape)?;
    let mut v = "v".to_string();
    if cx.opt(2).is_some() {
        shader.read("bias", cx.dtype(2)?, Bind::Input(2))?;
        v.push_str(" + bias_at(b % p.group * p.m + m)");
    }
    if cx.opt(3).is_some() {
        shader.read("residual", cx.dtype(3)?, Bind::Input(3))?;
        v.push_str(" + residual_at((b * p.m + m) * p.n + n)");
    }
    shader.code(&format!(
        "fn x_here(i: u32) -> f32 {{ return x_at(i); }}
fn a_load(b: u32, m: u32, k: u32) -> f32 {{ {weight} }}
fn b_load(b: u32, k: u32, n: u32) -> f32 {{\n{window}}}"
    ));
    finish(&mut shader, "f32", &v, &activation(then, "s"));
    if shape.m == 1 {
        shader.write("y", cx.out_dtype(0)?, Bind::Output(0))?;
        kernel.push(single(cx, shader, sizes)?);
        return Ok(kernel);
    }
    let target = Target::new(&mut kernel, cx, 0)?;
    shader.write("y", target.dtype, target.bind)?;
    kernel.push(gemm::launch(cx, shader, sizes, Class::Float)?);
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// One channel to each group: a lane makes an output by itself.
fn single(cx: &Cx<'_>, mut shader: Shader, sizes: Sizes) -> Result<Launch, Reason> {
    shader.u32("m", 1)?;
    shader.u32("n", sizes.n)?;
    shader.u32("k", sizes.k)?;
    shader.code(
        "alias T = f32;
fn value(i: u32) -> f32 {
  let b = i / p.n;
  let n = i % p.n;
  var sum = 0.0;
  for (var k = 0u; k < p.k; k += 1u) { sum = fma(a_load(b, 0u, k), b_load(b, k, n), sum); }
  return finish(sum, b, 0u, n);
}",
    );
    shader.elements(count(&[sizes.batch, sizes.n]), cx.traits.max_groups)
}

/// Whether convolutions of this dtype run on the GPU.
pub(super) fn supports(dtype: DType) -> Result<(), Reason> {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Ok(()),
        other => Err(unsupported!("a convolution of {other} on the GPU")),
    }
}
