//! LayerNormalization and RMSNormalization: each row brought to mean 0 and variance 1, then
//! scaled and shifted.
//!
//! y = (x - mean) / √(var + epsilon) · scale + b; a row is one task.

use std::borrow::Cow;

use half::{bf16, f16};
use rinfer_graph::ops::{LayerNormalization, RmsNormalization};
use rinfer_graph::shape::{Sizes, strides};
use rinfer_graph::{DType, Reason, Tensor, invalid, scarce, unsupported};

use super::fold;
use super::lanes::{self, load_at};
use super::softmax::source;
use crate::kernel::{Args, Cx, Kernel};
use crate::par;
use crate::simd::{F32s, Isa};

/// What both operators compute.
#[derive(Clone)]
struct Norm {
    isa: Isa,
    epsilon: f32,
    /// Whether the mean is taken away.
    centred: bool,
    /// Elements in a row.
    n: usize,
    scale: Param,
    bias: Option<Param>,
}

pub(super) fn compile(op: &LayerNormalization, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let axis = op.axis.resolve(cx.sizes(0)?.len())?;
    let norm = Norm::new(cx, axis, op.epsilon, Centre::Mean)?;
    kernel(cx, norm)
}

pub(super) fn compile_rms(op: &RmsNormalization, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let axis = op.axis.resolve(cx.sizes(0)?.len())?;
    let norm = Norm::new(cx, axis, op.epsilon, Centre::Zero)?;
    kernel(cx, norm)
}

fn kernel(cx: &Cx<'_>, norm: Norm) -> Result<Kernel, Reason> {
    let kernel = match cx.dtype(0)? {
        DType::F32 | DType::F16 | DType::BF16 => Kernel::new(move |args| run(&norm, args)),
        DType::F64 => Kernel::new(move |args| run_f64(&norm, args)),
        dtype => return Err(unsupported!("layer normalization of {dtype} is not supported")),
    };
    Ok(kernel.in_place(&[0]).takes(lanes::scratch(cx)))
}

/// What is taken away from a row.
#[derive(Clone, Copy, PartialEq)]
enum Centre {
    Mean,
    Zero,
}

impl Norm {
    fn new(cx: &Cx<'_>, axis: usize, epsilon: f32, centre: Centre) -> Result<Norm, Reason> {
        let sizes = cx.sizes(0)?;
        let n = sizes[axis..].iter().product();
        let scale = Param::new(&cx.sizes(1)?, &sizes, axis)?;
        let bias = match cx.opt(2) {
            Some(_) => Some(Param::new(&cx.sizes(2)?, &sizes, axis)?),
            None => None,
        };
        let centred = centre == Centre::Mean;
        Ok(Norm { isa: cx.isa, epsilon, centred, n, scale, bias })
    }
}

/// How scale or b broadcasts to the rows of x.
#[derive(Clone, Debug)]
enum Param {
    /// It has an element for each of a row's, and is the same for all rows.
    Row,
    /// Sizes of x, the parameter's strides (0 where it is repeated), and the first axis of a row.
    Strided { sizes: Sizes, strides: Sizes, axis: usize },
}

impl Param {
    fn new(param: &[usize], x: &[usize], axis: usize) -> Result<Param, Reason> {
        let skip = param.iter().take_while(|&&n| n == 1).count();
        let row = x[axis..].iter().skip_while(|&&n| n == 1);
        if param[skip..].iter().eq(row) {
            return Ok(Param::Row);
        }
        let lead = x.len().checked_sub(param.len());
        let lead = lead.ok_or_else(|| invalid!("{param:?} does not broadcast to {x:?}"))?;
        let mut strides: Sizes = std::iter::repeat_n(0, lead).chain(strides(param)).collect();
        for (stride, (&n, &of)) in strides[lead..].iter_mut().zip(param.iter().zip(&x[lead..])) {
            if n == 1 {
                *stride = 0;
            } else if n != of {
                return Err(invalid!("{param:?} does not broadcast to {x:?}"));
            }
        }
        Ok(Param::Strided { sizes: x.into(), strides, axis })
    }

    /// Whether every row has the same.
    fn is_shared(&self) -> bool {
        match self {
            Param::Row => true,
            Param::Strided { strides, axis, .. } => strides[..*axis].iter().all(|&s| s == 0),
        }
    }

    /// The parameter of row `row`, an element for each of the row's.
    fn row<'a, T: Copy>(&self, all: &'a [T], mut row: usize, n: usize) -> Cow<'a, [T]> {
        let Param::Strided { sizes, strides, axis } = self else { return Cow::Borrowed(all) };
        let mut base = 0;
        for i in (0..*axis).rev() {
            base += row % sizes[i] * strides[i];
            row /= sizes[i];
        }
        let element = |mut i: usize| {
            let mut at = base;
            for axis in (*axis..sizes.len()).rev() {
                at += i % sizes[axis] * strides[axis];
                i /= sizes[axis];
            }
            all[at]
        };
        Cow::Owned((0..n).map(element).collect())
    }
}

/// The elements as f32.
pub(super) fn floats(x: &Tensor) -> Result<Cow<'_, [f32]>, Reason> {
    Ok(match x.dtype() {
        DType::F32 => Cow::Borrowed(x.as_slice()),
        DType::F16 => x.as_slice::<f16>().iter().map(|x| x.to_f32()).collect(),
        DType::BF16 => x.as_slice::<bf16>().iter().map(|x| x.to_f32()).collect(),
        DType::F64 => x.as_slice::<f64>().iter().map(|&x| x as f32).collect(),
        dtype => return Err(unsupported!("{dtype} is not computed in f32")),
    })
}

/// The elements as f64.
pub(super) fn doubles(x: &Tensor) -> Result<Cow<'_, [f64]>, Reason> {
    Ok(match x.dtype() {
        DType::F64 => Cow::Borrowed(x.as_slice()),
        _ => floats(x)?.iter().map(|&x| x as f64).collect(),
    })
}

/// Element `i` of a tensor of floats; 0 of any other dtype.
pub(super) fn element(x: &Tensor, i: usize) -> f64 {
    match x.dtype() {
        DType::F32 => x.as_slice::<f32>()[i] as f64,
        DType::F64 => x.as_slice::<f64>()[i],
        DType::F16 => x.as_slice::<f16>()[i].to_f64(),
        DType::BF16 => x.as_slice::<bf16>()[i].to_f64(),
        _ => 0.0,
    }
}

/// Writes numbers to a tensor of floats.
pub(super) fn put(values: &[f64], y: &mut Tensor) -> Result<(), Reason> {
    let mut values = values.iter();
    put_with(|| values.next().copied().unwrap_or(0.0), y)
}

/// Writes one number after another to a tensor of floats.
pub(super) fn put_with(mut next: impl FnMut() -> f64, y: &mut Tensor) -> Result<(), Reason> {
    match y.dtype() {
        DType::F32 => y.as_mut_slice().fill_with(|| next() as f32),
        DType::F64 => y.as_mut_slice().fill_with(next),
        DType::F16 => y.as_mut_slice().fill_with(|| f16::from_f64(next())),
        DType::BF16 => y.as_mut_slice().fill_with(|| bf16::from_f64(next())),
        dtype => return Err(unsupported!("statistics in {dtype}")),
    }
    Ok(())
}

/// Mean and 1/√(var + epsilon) of each row.
struct Stats {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Stats {
    /// Room for as many rows as there are, if they are wanted at all.
    fn new(outputs: &[Tensor], rows: usize) -> Stats {
        let n = if outputs.is_empty() { 0 } else { rows };
        Stats { mean: scarce::zeros(n), scale: scarce::zeros(n) }
    }

    fn put(&self, outputs: &mut [Tensor]) -> Result<(), Reason> {
        let values = [&self.mean, &self.scale];
        outputs.iter_mut().zip(values).try_for_each(|(y, values)| put(values, y))
    }
}

fn run(norm: &Norm, args: &mut Args<'_>) -> Result<(), Reason> {
    let (cx, n, isa) = (args.cx, norm.n, norm.isa);
    let (scale, bias) = (floats(args.input(1)?)?, args.opt(2).map(floats).transpose()?);
    let bias = bias.as_deref().unwrap_or(&[]);
    lanes::in_f32(isa, args, |x, y, statistics| {
        let outer = y.len().checked_div(n).unwrap_or(0);
        let mut stats = Stats::new(statistics, outer);
        let work = (((x, n), (y, n)), ((&mut stats.mean[..], 1), (&mut stats.scale[..], 1)));
        par::split(work, outer, par::grain(20 + n / 4), |first, work| {
            let (((x, _), (y, _)), ((mean, _), (inverse, _))) = work;
            let mut params = Params::new(norm, &scale, bias, first);
            for (i, y) in y.chunks_exact_mut(n).enumerate() {
                if i % 16 == 0 && cx.check().is_err() {
                    return;
                }
                let x = if x.is_empty() { x } else { &x[i * n..][..n] };
                params.at(first + i);
                let row = norm_row(isa, norm.centred, norm.epsilon, x, y, params.pair());
                if let (Some(mean), Some(inverse)) = (mean.get_mut(i), inverse.get_mut(i)) {
                    (*mean, *inverse) = (row.0 as f64, row.1 as f64);
                }
            }
        });
        stats.put(statistics)
    })?;
    cx.check()
}

/// scale and b of one row after another; an absent b is empty.
struct Params<'a, T: Copy> {
    norm: &'a Norm,
    all: [&'a [T]; 2],
    row: [Cow<'a, [T]>; 2],
    shared: bool,
}

impl<'a, T: Copy> Params<'a, T> {
    fn new(norm: &'a Norm, scale: &'a [T], bias: &'a [T], first: usize) -> Params<'a, T> {
        let shared = norm.scale.is_shared() && norm.bias.as_ref().is_none_or(Param::is_shared);
        let row = [Cow::Borrowed(&[][..]), Cow::Borrowed(&[][..])];
        let mut params = Params { norm, all: [scale, bias], row, shared: false };
        params.at(first);
        params.shared = shared;
        params
    }

    fn at(&mut self, row: usize) {
        if self.shared {
            return;
        }
        let n = self.norm.n;
        self.row[0] = self.norm.scale.row(self.all[0], row, n);
        if let Some(bias) = &self.norm.bias {
            self.row[1] = bias.row(self.all[1], row, n);
        }
    }

    fn pair(&self) -> (&[T], &[T]) {
        (&self.row[0], &self.row[1])
    }
}

crate::simd_fn! {
    /// Returns the row's mean (0 if it is not taken away) and 1/√(var + epsilon).
    fn norm_row(
        s: S, centred: bool, epsilon: f32, x: &[f32], y: &mut [f32], params: (&[f32], &[f32]),
    ) -> (f32, f32) {
        let n = y.len() as f64;
        let from = if x.is_empty() { &*y } else { x };
        let mean = match centred {
            true => (fold::run::<S, fold::Sum>(s, from, 0.0) / n) as f32,
            false => 0.0,
        };
        let var = (fold::run::<S, fold::Deviation>(s, from, mean) / n) as f32;
        let inverse = 1.0 / (var + epsilon).sqrt();
        let (shift, factor) = (s.splat(mean), s.splat(inverse));
        let (scale, bias) = params;
        if bias.is_empty() {
            lanes::map(s, x, y, #[inline(always)] |i, v| (v - shift) * factor * load_at(s, scale, i));
        } else {
            lanes::map(s, x, y, #[inline(always)] |i, v| {
                ((v - shift) * factor).mul_add(load_at(s, scale, i), load_at(s, bias, i))
            });
        }
        (mean, inverse)
    }
}

fn run_f64(norm: &Norm, args: &mut Args<'_>) -> Result<(), Reason> {
    let (x, cx, n) = (source::<f64>(args), args.cx, norm.n);
    let (scale, bias) = (doubles(args.input(1)?)?, args.opt(2).map(doubles).transpose()?);
    let bias = bias.as_deref().unwrap_or(&[]);
    let Some((y, statistics)) = args.outputs.split_first_mut() else { return Ok(()) };
    let mut stats = Stats::new(statistics, y.len().checked_div(n).unwrap_or(0));
    let y = y.as_mut_slice::<f64>();
    if !x.is_empty() {
        y.copy_from_slice(x);
    }
    let mut params = Params::new(norm, &scale, bias, 0);
    for (row, y) in y.chunks_exact_mut(n.max(1)).enumerate() {
        cx.check()?;
        params.at(row);
        let mean = if norm.centred { y.iter().sum::<f64>() / n as f64 } else { 0.0 };
        let var = y.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / n as f64;
        let inverse = 1.0 / (var + norm.epsilon as f64).sqrt();
        let (scale, bias) = params.pair();
        for (i, (y, scale)) in y.iter_mut().zip(scale).enumerate() {
            *y = (*y - mean) * inverse * scale + bias.get(i).copied().unwrap_or(0.0);
        }
        if let (Some(m), Some(i)) = (stats.mean.get_mut(row), stats.scale.get_mut(row)) {
            (*m, *i) = (mean, inverse);
        }
    }
    stats.put(statistics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run, run1};
    use rinfer_graph::Value;
    use rinfer_graph::ops::Axis;

    fn layer_norm(axis: i64) -> LayerNormalization {
        LayerNormalization { axis: Axis(axis), epsilon: 1e-5, stash: DType::F32 }
    }

    fn numbers(shape: &[usize], seed: usize) -> Tensor {
        let n: usize = shape.iter().product();
        let x = (0..n).map(|i| ((i * 7919 + seed * 31) % 1009) as f32 / 100.0 - 4.0);
        Tensor::from_slice(shape, &x.collect::<Vec<_>>())
    }

    fn as_f64(x: &Tensor) -> Tensor {
        let values: Vec<f64> = x.as_slice::<f32>().iter().map(|&x| x as f64).collect();
        Tensor::from_slice(x.shape(), &values)
    }

    /// Every instruction set against double precision.
    fn check(op: impl Into<rinfer_graph::Op> + Clone, inputs: &[Tensor]) {
        let wide: Vec<Tensor> = inputs.iter().map(as_f64).collect();
        let exact = run1(Isa::best(), op.clone(), &wide).unwrap();
        for isa in Isa::available() {
            let y = run1(isa, op.clone(), inputs).unwrap();
            for (y, e) in y.as_slice::<f32>().iter().zip(exact.as_slice::<f64>()) {
                assert!((*y as f64 - e).abs() <= 1e-5 * (e.abs() + 1.0), "{y} and {e}");
            }
        }
    }

    #[test]
    fn rows_of_any_length_agree_with_double_precision() {
        for n in [1, 7, 64, 770] {
            let inputs = [numbers(&[5, n], 1), numbers(&[n], 2), numbers(&[n], 3)];
            check(layer_norm(-1), &inputs);
            check(RmsNormalization { axis: Axis(1), epsilon: 1e-5 }, &inputs[..2]);
        }
    }

    #[test]
    fn scale_and_bias_broadcast() {
        let x = numbers(&[2, 3, 4], 1);
        for (scale, bias) in [(vec![3, 4], vec![4]), (vec![1], vec![3, 1]), (vec![2, 1, 1], vec![])]
        {
            check(layer_norm(1), &[x.clone(), numbers(&scale, 2), numbers(&bias, 3)]);
        }
    }

    #[test]
    fn a_row_has_mean_zero_and_variance_one() {
        let x = Tensor::from_slice(&[1, 4], &[1.0f32, 3.0, 5.0, 7.0]);
        let one = Tensor::vector(&[1.0f32; 4]);
        let op = LayerNormalization { epsilon: 0.0, ..layer_norm(-1) };
        let inputs: Vec<Value> = [x, one].map(Value::Tensor).to_vec();
        let y = run(Isa::best(), op, &inputs, 3).unwrap();
        let y: Vec<Vec<f32>> =
            y.iter().map(|y| y.as_tensor().unwrap().as_slice::<f32>().to_vec()).collect();
        assert_eq!((y[1][0], y[2][0]), (4.0, 1.0 / 5.0f32.sqrt()));
        assert!((y[0][3] - 3.0 / 5.0f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_normalized_to_nothing() {
        let empty = |shape: &[usize]| Tensor::try_zeros(DType::F32, shape).unwrap();
        let y = run1(Isa::best(), layer_norm(-1), &[empty(&[2, 0]), empty(&[0])]).unwrap();
        assert_eq!(y.shape(), [2, 0]);
    }
}
