//! Einsum: operands are multiplied two by two, each time as a batch of matrix products of their
//! rearranged elements.

use std::borrow::Cow;

use rinfer_graph::ops::{Einsum, EinsumLabels};
use rinfer_graph::{DType, Element, Reason, Tensor, scarce, unsupported};

use crate::convert;
use crate::elementwise::ints;
use crate::gemm::room::{self, Lies};
use crate::gemm::{Gemm, Lhs, Number, Rhs, Strided, Write, gemm_generic};
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::scratch::Scratch;
use crate::simd::Isa;

pub(super) fn compile(op: &Einsum, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let shapes: Vec<_> =
        (0..cx.inputs.len()).map(|i| cx.sizes(i)).collect::<Result<_, Reason>>()?;
    let ranks: Vec<usize> = shapes.iter().map(|s| s.len()).collect();
    let labels = op.labels(&ranks)?;
    let mut sizes = vec![1; labels.count];
    for (shape, axes) in shapes.iter().zip(&labels.inputs) {
        for (&size, &label) in shape.iter().zip(axes) {
            if size != 1 {
                sizes[label] = size;
            }
        }
    }
    let shapes = shapes.iter().map(|s| s.to_vec()).collect();
    let sum = Sum { isa: cx.isa, labels, sizes, shapes };
    let dtype = cx.dtype(0)?;
    if matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        let wide = if dtype == DType::F32 { 0 } else { sum.largest() };
        let scratch = sum.scratch::<f32>().and(Scratch::floats(2 * wide));
        return Ok(Kernel::new(move |args| sum.run_f32(args)).takes(scratch));
    }
    if dtype == DType::F64 {
        let scratch = sum.scratch::<f64>();
        return Ok(Kernel::new(move |args| {
            let made = sum.run(args, &|x| Ok(Cow::Borrowed(x.as_slice())), generic::<f64>)?;
            args.outputs[0].as_mut_slice::<f64>().copy_from_slice(&made);
            Ok(())
        })
        .takes(scratch));
    }
    if !dtype.is_int() || dtype.is_packed() {
        return Err(unsupported!("Einsum of {dtype} is not supported"));
    }
    let scratch = sum.scratch::<i64>().and(Scratch::of::<i64>(2 * sum.largest()));
    // The low bits of sums of products are those of the operands' low bits: i64 serves all.
    Ok(Kernel::new(move |args| {
        let read = |x: &'_ Tensor| {
            let mut wide = scarce::zeros(x.len());
            ints::widen(x, 0, &mut wide);
            Ok(Cow::Owned(wide))
        };
        let made = sum.run(args, &read, generic::<i64>)?;
        ints::narrow(&made, dtype, args.outputs[0].as_mut_bytes());
        Ok(())
    })
    .takes(scratch))
}

struct Sum {
    isa: Isa,
    labels: EinsumLabels,
    /// Size of each index.
    sizes: Vec<usize>,
    shapes: Vec<Vec<usize>>,
}

/// An operand, its axes named by their indices, no index twice.
struct Operand<'a, T: Clone> {
    axes: Vec<usize>,
    data: Cow<'a, [T]>,
}

/// A batch of matrix products: batch, m, n, k.
type Products<T> = fn(Isa, [usize; 4], &[T], &[T], &mut [T]) -> Result<(), Reason>;

impl Sum {
    /// Elements of the largest operand.
    fn largest(&self) -> usize {
        let len = |shape: &Vec<usize>| shape.iter().product();
        self.shapes.iter().map(len).max().unwrap_or(0)
    }

    /// Elements of an operand with these axes.
    fn len(&self, axes: &[usize]) -> usize {
        axes.iter().fold(1, |n, &a| n.saturating_mul(self.sizes[a]))
    }

    /// What a run takes: a copy of each operand, its axes in order; each product; and what products
    /// take. It goes as [`Sum::run`] does, over axes instead of elements.
    fn scratch<T>(&self) -> Scratch {
        let (mut all, mut left) = (Scratch::none(), None::<Vec<usize>>);
        for (i, (labels, shape)) in self.labels.inputs.iter().zip(&self.shapes).enumerate() {
            let later =
                |label: &usize| self.labels.inputs[i + 1..].iter().flatten().any(|l| l == label);
            let needed = |label: &usize| self.labels.output.contains(label) || later(label);
            let mut axes: Vec<usize> = Vec::new();
            for (&label, _) in labels.iter().zip(shape).filter(|&(_, &size)| size != 1) {
                let kept = needed(&label) || left.as_ref().is_some_and(|l| l.contains(&label));
                if kept && !axes.contains(&label) {
                    axes.push(label);
                }
            }
            let Some(x) = left.replace(Vec::new()) else {
                all = all.then(&Scratch::of::<T>(self.len(&axes)));
                left = Some(axes);
                continue;
            };
            let both = |a: &usize| x.contains(a) && axes.contains(a);
            let size = |of: &[usize], keep: &dyn Fn(&usize) -> bool| {
                self.len(&of.iter().copied().filter(|a| keep(a)).collect::<Vec<_>>())
            };
            let (batch, k) =
                (size(&x, &|a| both(a) && needed(a)), size(&x, &|a| both(a) && !needed(a)));
            let (m, n) = (size(&x, &|a| !both(a)), size(&axes, &|a| !both(a)));
            // The right operand is never read as it lies.
            let (a, b) = (Lies::Plain([k, 1]), Lies::Made);
            let product = room::scratch_of_batch(self.isa, batch, (m, n, k), a, b);
            let operands = Scratch::of::<T>(self.len(&x)).and(Scratch::of::<T>(self.len(&axes)));
            let made = Scratch::of::<T>(batch.saturating_mul(m).saturating_mul(n));
            all = all.then(&operands.and(made).and(product));
            let mut axes: Vec<usize> = x.iter().chain(&axes).copied().filter(needed).collect();
            axes.sort_unstable();
            axes.dedup();
            left = Some(axes);
        }
        all
    }

    fn run_f32(&self, args: &mut Args<'_>) -> Result<(), Reason> {
        let read = |x: &'_ Tensor| {
            let mut wide = scarce::zeros(x.len());
            convert::read(self.isa, x, 0, &mut wide)?;
            Ok(Cow::Owned(wide))
        };
        let made = match args.outputs[0].dtype() {
            DType::F32 => self.run(args, &|x| Ok(Cow::Borrowed(x.as_slice())), products_f32)?,
            _ => self.run(args, &read, products_f32)?,
        };
        convert::write(self.isa, &made, &mut args.outputs[0], 0)
    }

    fn run<'a, T: Number + Element>(
        &self,
        args: &Args<'a>,
        read: &dyn Fn(&'a Tensor) -> Result<Cow<'a, [T]>, Reason>,
        products: Products<T>,
    ) -> Result<Cow<'a, [T]>, Reason> {
        let mut left: Option<Operand<'a, T>> = None;
        for i in 0..self.shapes.len() {
            args.cx.check()?;
            let needed = |label: usize| {
                self.labels.output.contains(&label)
                    || self.labels.inputs[i + 1..].iter().flatten().any(|&l| l == label)
            };
            let data = read(args.input(i)?)?;
            let (axes, shape) = (&self.labels.inputs[i], &self.shapes[i]);
            left = Some(match left {
                None => self.gathered(axes, shape, data, &needed)?,
                Some(left) => {
                    let keep = |label: usize| needed(label) || left.axes.contains(&label);
                    let right = self.gathered(axes, shape, data, &keep)?;
                    self.product(left, right, &needed, products)?
                }
            });
        }
        let Some(whole) = left else { return Ok(Cow::Borrowed(&[])) };
        let output: Vec<usize> = self.present(&self.labels.output, &whole.axes);
        self.ordered(whole, &output).map(|whole| whole.data)
    }

    /// Those of `wanted` that an operand has. What it lacks has size 1 everywhere.
    fn present(&self, wanted: &[usize], axes: &[usize]) -> Vec<usize> {
        wanted.iter().copied().filter(|label| axes.contains(label)).collect()
    }

    /// An operand summed over the indices that nothing needs any more; axes of size 1 that
    /// broadcast are dropped, the diagonal is taken of an index that stands twice.
    fn gathered<'a, T: Number + Element>(
        &self,
        labels: &[usize],
        shape: &[usize],
        data: Cow<'a, [T]>,
        keep: &dyn Fn(usize) -> bool,
    ) -> Result<Operand<'a, T>, Reason> {
        let strides = rinfer_graph::shape::strides(shape);
        let (mut axes, mut steps): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for ((&label, &size), &stride) in labels.iter().zip(shape).zip(&strides) {
            if size == 1 {
                continue;
            }
            match axes.iter().position(|&a| a == label) {
                Some(i) => steps[i] += stride,
                None => {
                    axes.push(label);
                    steps.push(stride);
                }
            }
        }
        let dims = |kept: bool| -> Vec<[usize; 2]> {
            let all = axes.iter().zip(&steps).filter(|(a, _)| keep(**a) == kept);
            all.map(|(&a, &step)| [self.sizes[a], step]).collect()
        };
        let (kept, dropped) = (dims(true), dims(false));
        let data = gather(data, &kept, &dropped)?;
        axes.retain(|&a| keep(a));
        Ok(Operand { axes, data })
    }

    /// The operand with its axes in this order; every axis is in it.
    fn ordered<'a, T: Number + Element>(
        &self,
        x: Operand<'a, T>,
        order: &[usize],
    ) -> Result<Operand<'a, T>, Reason> {
        let shape: Vec<usize> = x.axes.iter().map(|&a| self.sizes[a]).collect();
        let strides = rinfer_graph::shape::strides(&shape);
        let step = |a: &usize| x.axes.iter().position(|b| b == a).map_or(0, |i| strides[i]);
        let dims: Vec<[usize; 2]> = order.iter().map(|a| [self.sizes[*a], step(a)]).collect();
        Ok(Operand { axes: order.to_vec(), data: gather(x.data, &dims, &[])? })
    }

    fn product<'a, T: Number + Element>(
        &self,
        x: Operand<'a, T>,
        y: Operand<'a, T>,
        needed: &dyn Fn(usize) -> bool,
        products: Products<T>,
    ) -> Result<Operand<'a, T>, Reason> {
        let both = |a: &usize| x.axes.contains(a) && y.axes.contains(a);
        let pick = |axes: &[usize], of: &dyn Fn(&usize) -> bool| -> Vec<usize> {
            axes.iter().copied().filter(|a| of(a)).collect()
        };
        let batch = pick(&x.axes, &|a| both(a) && needed(*a));
        let k = pick(&x.axes, &|a| both(a) && !needed(*a));
        let (m, n) = (pick(&x.axes, &|a| !both(a)), pick(&y.axes, &|a| !both(a)));
        let count = |axes: &[usize]| {
            let sizes: Vec<usize> = axes.iter().map(|&a| self.sizes[a]).collect();
            let too_much = || rinfer_graph::invalid!("a product of sizes {sizes:?} is too large");
            rinfer_graph::shape::count(&sizes).ok_or_else(too_much)
        };
        let axes = [&batch[..], &m, &n].concat();
        let len = count(&axes)?;
        let bytes = len.saturating_mul(size_of::<T>());
        let mut made: Vec<T> = Vec::new();
        made.try_reserve_exact(len).map_err(|_| Reason::no_memory(bytes))?;
        made.resize(len, T::default());
        let sizes = [count(&batch)?, count(&m)?, count(&n)?, count(&k)?];
        let x = self.ordered(x, &[&batch[..], &m, &k].concat())?;
        let y = self.ordered(y, &[&batch[..], &k, &n].concat())?;
        products(self.isa, sizes, &x.data, &y.data, &mut made)?;
        // What only the left operand had and nothing needs is summed now.
        let made = Operand { axes, data: Cow::Owned(made) };
        if made.axes.iter().all(|&a| needed(a)) {
            return Ok(made);
        }
        let shape: Vec<usize> = made.axes.iter().map(|&a| self.sizes[a]).collect();
        self.gathered(&made.axes, &shape, made.data, needed)
    }
}

/// Elements at the places that `kept` runs through, row-major, each summed over `dropped`; a place
/// is [size, step].
fn gather<'a, T: Number + Element>(
    data: Cow<'a, [T]>,
    kept: &[[usize; 2]],
    dropped: &[[usize; 2]],
) -> Result<Cow<'a, [T]>, Reason> {
    let sizes: Vec<usize> = kept.iter().map(|d| d[0]).collect();
    let strides = rinfer_graph::shape::strides(&sizes);
    let len: usize = sizes.iter().product();
    let in_order = kept.iter().zip(&strides).all(|(d, &stride)| d[1] == stride);
    if in_order && dropped.is_empty() && len == data.len() {
        return Ok(data);
    }
    let mut made: Vec<T> = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    made.try_reserve_exact(len).map_err(|_| Reason::no_memory(bytes))?;
    each_place(kept, 0, &mut |at| {
        let mut sum = T::ZERO;
        each_place(dropped, at, &mut |at| sum = data[at].mul_add(T::ONE, sum));
        made.push(sum);
    });
    Ok(Cow::Owned(made))
}

/// Calls `f` with every place, the last dimension fastest.
fn each_place(dims: &[[usize; 2]], at: usize, f: &mut dyn FnMut(usize)) {
    match dims {
        [] => f(at),
        [[size, step]] => (0..*size).for_each(|i| f(at + i * step)),
        [[size, step], rest @ ..] => (0..*size).for_each(|i| each_place(rest, at + i * step, f)),
    }
}

fn products_f32(
    isa: Isa,
    [batch, m, n, k]: [usize; 4],
    x: &[f32],
    y: &[f32],
    z: &mut [f32],
) -> Result<(), Reason> {
    let (x, y) = (Lhs::Plain(Strided::rows(x, k)), Rhs::Plain(Strided::rows(y, n)));
    let at = |i: usize| (i * m * k, i * k * n);
    let gemm = Gemm { by_sample: true, ..Gemm::new((m, n, k), x, y) };
    gemm.run_batch(isa, batch, at, z, (n, m * n)).map_err(limit)
}

fn generic<T: Number>(
    isa: Isa,
    [_, m, n, k]: [usize; 4],
    x: &[T],
    y: &[T],
    z: &mut [T],
) -> Result<(), Reason> {
    for (i, z) in z.chunks_mut((m * n).max(1)).enumerate() {
        let (x, y) = ((&x[i * m * k..], (k, 1)), (&y[i * k * n..], (n, 1)));
        gemm_generic(isa, (m, n, k), x, y, Write::Set, z).map_err(limit)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;

    fn check(equation: &str, inputs: &[(&[usize], &[f32])], want: (&[usize], &[f32])) {
        let op = Einsum { equation: equation.into() };
        let tensors: Vec<Tensor> = inputs.iter().map(|(s, x)| Tensor::from_slice(s, x)).collect();
        let y = run1(Isa::best(), op.clone(), &tensors).unwrap();
        assert_eq!(y, Tensor::from_slice(want.0, want.1), "{equation}");
        let ints = |x: &[f32]| x.iter().map(|&x| x as i32).collect::<Vec<_>>();
        let tensors: Vec<Tensor> =
            inputs.iter().map(|(s, x)| Tensor::from_slice(s, &ints(x))).collect();
        let y = run1(Isa::best(), op, &tensors).unwrap();
        assert_eq!(y, Tensor::from_slice(want.0, &ints(want.1)), "{equation} of integers");
    }

    const SIX: &[f32] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

    #[test]
    fn one_operand_is_rearranged_or_summed() {
        check("ij->ji", &[(&[2, 3], SIX)], (&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        check("ij->i", &[(&[2, 3], SIX)], (&[2], &[6.0, 15.0]));
        check("...ii->...i", &[(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0])], (&[1, 2], &[1.0, 4.0]));
        check("ii", &[(&[2, 2], &[1.0, 2.0, 3.0, 4.0])], (&[], &[5.0]));
    }

    #[test]
    fn two_operands_are_a_matrix_product() {
        let y = (&[3usize, 1][..], &[1.0f32, 10.0, 100.0][..]);
        check("ij,jk", &[(&[2, 3], SIX), y], (&[2, 1], &[321.0, 654.0]));
        check("ij,jk->ki", &[(&[2, 3], SIX), y], (&[1, 2], &[321.0, 654.0]));
        check(
            "i,j->ij",
            &[(&[2], &[1.0, 2.0]), (&[2], &[3.0, 4.0])],
            (&[2, 2], &[3.0, 4.0, 6.0, 8.0]),
        );
    }

    #[test]
    fn three_operands_go_two_by_two() {
        let (a, b) = ((&[2usize][..], &[1.0f32, 2.0][..]), (&[2usize][..], &[3.0f32, 4.0][..]));
        check("i,ij,j", &[a, (&[2, 2], &[1.0, 2.0, 3.0, 4.0]), b], (&[], &[61.0]));
        check("a,b,c->", &[a, b, a], (&[], &[63.0]));
    }

    #[test]
    fn sizes_of_one_broadcast() {
        let (x, y) = ((&[1usize, 2][..], &[1.0f32, 2.0][..]), (&[3usize, 2][..], SIX));
        check("...i,...i->...i", &[x, y], (&[3, 2], &[1.0, 4.0, 3.0, 8.0, 5.0, 12.0]));
    }

    #[test]
    fn an_empty_sum_is_zero() {
        check("ij,jk->ik", &[(&[2, 0], &[]), (&[0, 1], &[])], (&[2, 1], &[0.0, 0.0]));
        check("ij->i", &[(&[2, 0], &[])], (&[2], &[0.0, 0.0]));
    }
}
