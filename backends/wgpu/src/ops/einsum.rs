//! Einsum: two operands are a batch of products, whatever their axes are called; one operand, or
//! more than two, are a sum that each lane makes by itself.

use rinfer_graph::ops::{BinaryFn, Einsum};
use rinfer_graph::{Reason, unsupported};

use super::functions::binary;
use super::gemm::{self, Sizes};
use super::rows::{Target, lanes};
use crate::index::{Axes, count, strides};
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, Shader};

/// The operands by their indices.
struct Sum {
    /// Size of each index.
    sizes: Vec<usize>,
    /// For each operand, then for the result: how far apart elements along each index are.
    steps: Vec<Vec<i64>>,
    /// Indices of the result.
    output: Vec<usize>,
}

impl Sum {
    fn new(op: &Einsum, cx: &Cx<'_>) -> Result<Sum, Reason> {
        let shapes: Vec<_> =
            (0..cx.inputs.len()).map(|i| cx.sizes(i)).collect::<Result<_, Reason>>()?;
        let labels = op.labels(&shapes.iter().map(|s| s.len()).collect::<Vec<_>>())?;
        let mut sizes = vec![1; labels.count];
        let mut steps = Vec::new();
        for (shape, axes) in shapes.iter().zip(&labels.inputs) {
            let mut along = vec![0; labels.count];
            for ((&n, &label), step) in shape.iter().zip(axes).zip(strides(shape)) {
                if n != 1 {
                    sizes[label] = n;
                    // An index that stands twice walks along the diagonal.
                    along[label] += step;
                }
            }
            steps.push(along);
        }
        let out: Vec<usize> = labels.output.iter().map(|&l| sizes[l]).collect();
        let mut along = vec![0; labels.count];
        labels.output.iter().zip(strides(&out)).for_each(|(&l, step)| along[l] = step);
        steps.push(along);
        Ok(Sum { sizes, steps, output: labels.output })
    }

    /// The axes of these indices, of the given operands.
    fn axes(&self, labels: &[usize], operands: &[usize]) -> (usize, Axes) {
        let sizes: Vec<usize> = labels.iter().map(|&l| self.sizes[l]).collect();
        let of = |&o: &usize| labels.iter().map(|&l| self.steps[o][l]).collect();
        (count(&sizes), Axes::merged(&sizes, &operands.iter().map(of).collect::<Vec<_>>()))
    }

    /// Indices that the result has not.
    fn summed(&self) -> Vec<usize> {
        (0..self.sizes.len()).filter(|l| !self.output.contains(l)).collect()
    }
}

pub(super) fn compile(op: &Einsum, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sum = Sum::new(op, cx)?;
    let mut kernel = Kernel::default();
    let target = Target::new(&mut kernel, cx, 0)?;
    if cx.inputs.len() == 2 && Class::of(cx.dtype(0)?)? != Class::Wide {
        products(&sum, cx, &target, &mut kernel)?;
    } else {
        sums(&sum, cx, &target, &mut kernel)?;
    }
    target.finish(&mut kernel, cx)?;
    Ok(kernel)
}

/// Two operands: indices of the result that both have are the batch, those that one has are rows
/// or columns.
fn products(sum: &Sum, cx: &Cx<'_>, to: &Target, kernel: &mut Kernel) -> Result<(), Reason> {
    let has = |o: usize, l: usize| sum.steps[o][l] != 0;
    let pick = |f: &dyn Fn(usize) -> bool| -> Vec<usize> {
        sum.output.iter().copied().filter(|&l| f(l)).collect()
    };
    let rows = pick(&|l| has(0, l) && !has(1, l));
    let columns = pick(&|l| has(1, l) && !has(0, l));
    let both = pick(&|l| has(0, l) == has(1, l));
    let dtype = cx.dtype(0)?;
    let class = Class::of(dtype)?;
    let ty = class.wgsl();
    let mut shader = Shader::new("");
    shader.read("a", dtype, Bind::Input(0))?;
    shader.read("b", dtype, Bind::Input(1))?;
    let (k, summed) = sum.axes(&sum.summed(), &[0, 1]);
    summed.function(&mut shader, "a_k", 0)?;
    summed.function(&mut shader, "b_k", 1)?;
    let (batch, both) = sum.axes(&both, &[0, 1, 2]);
    for (i, name) in ["a_batch", "b_batch", "y_batch"].iter().enumerate() {
        both.function(&mut shader, name, i)?;
    }
    let (m, rows) = sum.axes(&rows, &[0, 2]);
    rows.function(&mut shader, "a_m", 0)?;
    rows.function(&mut shader, "y_m", 1)?;
    let (n, columns) = sum.axes(&columns, &[1, 2]);
    columns.function(&mut shader, "b_n", 0)?;
    columns.function(&mut shader, "y_n", 1)?;
    shader.code(&format!(
        "fn a_load(i: u32, m: u32, k: u32) -> {ty} {{ return a_at(a_batch(i) + a_m(m) + a_k(k)); }}
fn b_load(i: u32, k: u32, n: u32) -> {ty} {{ return b_at(b_batch(i) + b_k(k) + b_n(n)); }}
fn finish(v: {ty}, b: u32, m: u32, n: u32) -> {ty} {{ return v; }}"
    ));
    shader.write("y", to.dtype, to.bind)?;
    let place = "y_batch(b) + y_m(m) + y_n(n)";
    kernel.push(gemm::launch_at(cx, shader, Sizes { batch, m, n, k }, class, place)?);
    Ok(())
}

fn sums(sum: &Sum, cx: &Cx<'_>, to: &Target, kernel: &mut Kernel) -> Result<(), Reason> {
    let dtype = cx.dtype(0)?;
    let class = Class::of(dtype)?;
    let no = || unsupported!("Einsum of {dtype} on the GPU is not supported");
    let n = cx.inputs.len();
    let mut shader = Shader::new("");
    let operands: Vec<usize> = (0..n).collect();
    let (count_summed, summed) = sum.axes(&sum.summed(), &operands);
    let (rows, kept) = sum.axes(&sum.output, &operands);
    let mut term = String::new();
    for i in 0..n {
        shader.read(&format!("x{i}"), dtype, Bind::Input(i))?;
        summed.function(&mut shader, &format!("summed{i}"), i)?;
        kept.function(&mut shader, &format!("kept{i}"), i)?;
        let factor = format!("x{i}_at(kept{i}(r) + summed{i}(k))");
        term = match i {
            0 => factor,
            _ => binary(BinaryFn::Mul, class, dtype, &term, &factor).ok_or_else(no)?,
        };
    }
    shader.write("y", to.dtype, to.bind)?;
    shader.u32("summed", count_summed)?;
    let add = binary(BinaryFn::Add, class, dtype, "all", &term).ok_or_else(no)?;
    let put = match class {
        Class::Wide => "y_put(2u * r, all.x);\n  y_put(2u * r + 1u, all.y);",
        _ => "y_put(r, all);",
    };
    shader.code(&format!(
        "fn row(r: u32, lane: u32) {{
  var all = {}();
  for (var k = 0u; k < p.summed; k += 1u) {{ all = {add}; }}
  {put}
}}",
        class.wgsl()
    ));
    kernel.push(lanes(cx, shader, rows)?);
    Ok(())
}
