//! ConvInteger and QLinearConv: convolutions of bytes, summed in i32.
//!
//! y = Σ (x - x_zero) · (w - w_zero), and for QLinearConv
//! y = clip(round((Σ + bias) · x_scale · w_scale / y_scale) + y_zero), ties to even; without a
//! y_scale floats: y = (Σ + bias) · x_scale · w_scale

use std::sync::Arc;

use rinfer_graph::ops::{ConvInteger, QLinearConv};
use rinfer_graph::{DType, Reason, Tensor, invalid, unsupported};

use super::conv::{geometry, image};
use super::matmul_integer::{ends, with_output};
use crate::conv::Geometry;
use crate::conv::integer::{Image, Plan, Weights};
use crate::conv::integer_last as last;
use crate::gemm::bytes::{Codes, Floats, Per, Sums};
use crate::kernel::{Args, Cx, Kernel};
use crate::math::Activation;

/// A convolution of bytes; where its inputs stand.
struct Product {
    plan: Plan,
    channels: usize,
    /// x, its zero point, w, its zero point.
    inputs: [usize; 4],
    /// The weights, if they and their zero points are known beforehand.
    ready: Option<Arc<Weights>>,
}

impl Product {
    fn new(g: &Geometry, cx: &Cx<'_>, inputs: [usize; 4]) -> Result<Product, Reason> {
        let plan = Plan::new(cx.isa, g)?;
        let channels = g.group * g.m;
        let [_, _, w, zero] = inputs;
        let ready = match cx.opt(zero).map(|fact| fact.tensor()) {
            Some(None) => None,
            zero => {
                let zero = zero.flatten();
                // What is packed depends on the groups too.
                let kind = 16 + g.group as u64;
                cx.packed(w, kind, |w| weights(&plan, w, zero, channels))?
            }
        };
        Ok(Product { plan, channels, inputs, ready })
    }

    fn image<'a>(&self, args: &Args<'a>) -> Result<Image<'a>, Reason> {
        let [x, zero, ..] = self.inputs;
        let x = args.input(x)?;
        let zeros = zeros(args.opt(zero), 1, "x_zero_point")?;
        Ok(Image { data: x.as_bytes(), signed: x.dtype() == DType::I8, zero: zeros[0] })
    }

    fn weights(&self, args: &Args<'_>) -> Result<Arc<Weights>, Reason> {
        let [.., w, zero] = self.inputs;
        match &self.ready {
            Some(ready) => Ok(ready.clone()),
            None => {
                let made = weights(&self.plan, args.input(w)?, args.opt(zero), self.channels);
                made.map(Arc::new)
            }
        }
    }
}

fn weights(
    plan: &Plan,
    w: &Tensor,
    zero: Option<&Tensor>,
    channels: usize,
) -> Result<Weights, Reason> {
    plan.weights(w.as_bytes(), w.dtype() == DType::I8, zeros(zero, channels, "w_zero_point")?)
}

/// As many zero points as are needed, from one for all or from as many.
fn zeros(zero: Option<&Tensor>, need: usize, what: &str) -> Result<Vec<i32>, Reason> {
    let Some(zero) = zero else { return Ok(vec![0; need]) };
    let ints = zero.to_ints().unwrap_or_default();
    match ints[..] {
        [one] => Ok(vec![one as i32; need]),
        ref each if each.len() == need => Ok(each.iter().map(|&z| z as i32).collect()),
        ref each => Err(invalid!("{} numbers in {what} where 1 or {need} are needed", each.len())),
    }
}

/// x_scale · w_scale / y_scale (1 if there is none): one for all, or one for each channel.
fn scales(args: &Args<'_>, channels: usize) -> Result<Vec<f32>, Reason> {
    let one = |i: usize| {
        let t = args.input(i)?;
        t.to_f32().ok_or_else(|| invalid!("input {i} holds {} scales, not one", t.len()))
    };
    let (x_scale, y_scale) = (one(1)?, if args.opt(6).is_some() { one(6)? } else { 1.0 });
    let w_scale = args.input(4)?.as_slice::<f32>();
    if w_scale.len() != 1 && w_scale.len() != channels {
        return Err(invalid!("{} scales for {channels} channels", w_scale.len()));
    }
    Ok(w_scale.iter().map(|w| x_scale * w / y_scale).collect())
}

/// The least and the greatest code of the result; `None` if it is floats.
fn codes(cx: &Cx<'_>) -> Result<Option<[i32; 2]>, Reason> {
    match cx.outputs[0].dtype()? {
        DType::F32 => Ok(None),
        dtype => ends(dtype).map(Some).ok_or_else(|| unsupported!("QLinearConv to {dtype}")),
    }
}

fn floats(scale: Per<'_>) -> Floats<'_> {
    Floats { scale, rows: None, bias: None, activation: Activation::default() }
}

/// QLinearConv over an image whose channels stand side by side, [n, h, w, c], into one like it.
///
/// # Errors
/// The weights are not known, or the convolution is none that gains by this.
pub(crate) fn compile_last(op: &QLinearConv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = image(&op.window, op.group, cx, (3, 3))?;
    let ends = codes(cx)?;
    let channels = g.group * g.m;
    let zero = cx.opt(5).map(|fact| fact.tensor());
    let ready = match zero {
        Some(None) => None,
        _ if !last::suits(&g) => None,
        zero => {
            let zero = zero.flatten();
            cx.packed(3, 15, |w| {
                let codes = (w.as_bytes(), w.dtype() == DType::I8);
                last::Weights::pack(cx.isa, &g, codes, zeros(zero, channels, "w_zero_point")?)
            })?
        }
    };
    let weights = ready.ok_or_else(|| unsupported!("channels side by side for {g:?}"))?;
    let isa = cx.isa;
    let scratch = last::scratch(isa, &g, &weights);
    Ok(Kernel::new(move |args| {
        let x = args.input(0)?;
        let x_zero = zeros(args.opt(2), 1, "x_zero_point")?[0];
        let x = Image { data: x.as_bytes(), signed: x.dtype() == DType::I8, zero: x_zero };
        let scales = scales(args, channels)?;
        let scale = if let [one] = scales[..] { Per::One(one) } else { Per::Cols(&scales) };
        let bias = args.opt(8).map(|bias| bias.as_slice::<i32>());
        let Some(ends) = ends else {
            let (cx, y) = (args.cx, args.outputs[0].as_mut_slice());
            return last::run(isa, &g, (x, &*weights), bias, &floats(scale), y, cx);
        };
        let zero = zeros(args.opt(7), 1, "y_zero_point")?[0];
        let finish = Codes { scale, zero, ends };
        let (cx, y) = (args.cx, args.outputs[0].as_mut_bytes());
        last::run(isa, &g, (x, &*weights), bias, &finish, y, cx)
    })
    .takes(scratch))
}

pub(super) fn compile(op: &ConvInteger, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = geometry(&op.window, op.group, cx, 1)?;
    let product = Product::new(&g, cx, [0, 2, 1, 3])?;
    let scratch = product.plan.scratch();
    Ok(Kernel::new(move |args| {
        let (x, w) = (product.image(args)?, product.weights(args)?);
        let cx = args.cx;
        product.plan.run((x, &*w), None, |_| Sums, args.outputs[0].as_mut_slice(), cx)
    })
    .takes(scratch))
}

pub(super) fn compile_qlinear(op: &QLinearConv, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let g = geometry(&op.window, op.group, cx, 3)?;
    let product = Product::new(&g, cx, [0, 2, 3, 5])?;
    let ends = codes(cx)?;
    let scratch = product.plan.scratch();
    Ok(Kernel::new(move |args| {
        let (x, w) = (product.image(args)?, product.weights(args)?);
        let scales = scales(args, product.channels)?;
        let zero = zeros(args.opt(7), 1, "y_zero_point")?[0];
        let bias = args.opt(8).map(|bias| bias.as_slice::<i32>());
        let scale = |group: usize| match scales[..] {
            [one] => Per::One(one),
            _ => Per::Rows(&scales[group * g.m..][..g.m]),
        };
        with_output(args, |args, y| {
            let Some(ends) = ends else {
                let finish = |group: usize| floats(scale(group));
                return product.plan.run((x, &*w), bias, finish, y.as_mut_slice(), args.cx);
            };
            let finish = |group: usize| Codes { scale: scale(group), zero, ends };
            product.plan.run((x, &*w), bias, finish, y.as_mut_bytes(), args.cx)
        })
    })
    .takes(scratch))
}

#[cfg(test)]
mod tests {
    use rinfer_graph::Value;
    use rinfer_graph::ops::{Padding, PerAxis, Window};

    use super::*;
    use crate::eval::testing::{run, run1};
    use crate::simd::Isa;

    fn window(pad: usize) -> Window {
        Window {
            kernel: PerAxis::new(),
            strides: PerAxis::new(),
            dilations: PerAxis::new(),
            padding: Padding::Explicit([pad, pad].into_iter().collect()),
            ceil_mode: false,
        }
    }

    #[test]
    fn padding_stands_for_the_zero_point() {
        let x = Tensor::from_slice(&[1, 1, 3], &[2u8, 3, 4]);
        let w = Tensor::from_slice(&[1, 1, 2], &[1u8, 1]);
        for isa in Isa::available() {
            let op = ConvInteger { window: window(1), group: 1 };
            let inputs = [x.clone(), w.clone(), Tensor::scalar(1u8)];
            let y = run1(isa, op, &inputs).unwrap();
            assert_eq!(y.as_slice::<i32>(), [1, 3, 5, 3]);
        }
    }

    #[test]
    fn without_a_scale_of_its_own_the_result_is_floats() {
        let op = QLinearConv { window: window(0), group: 1 };
        let inputs = [
            Some(Tensor::from_slice(&[1, 1, 2], &[10u8, 200])),
            Some(Tensor::scalar(0.5f32)),
            Some(Tensor::scalar(8u8)),
            Some(Tensor::from_slice(&[2, 1, 1], &[1i8, -2])),
            Some(Tensor::vector(&[1f32, 0.25])),
            None,
            None,
            None,
            Some(Tensor::vector(&[0i32, 3])),
        ];
        let inputs = inputs.map(|t| t.map(Value::from));
        for isa in Isa::available() {
            let y = crate::eval::testing::run_opt(isa, op.clone(), &inputs, 1).unwrap();
            // sums: [2, 192], [-1, -381]
            let want = Tensor::from_slice(&[1, 2, 2], &[1f32, 96.0, -0.125, -47.625]);
            assert_eq!(y, [Value::Tensor(want)]);
        }
    }

    #[test]
    fn scales_and_zero_points_may_differ_by_channel() {
        let op = QLinearConv { window: window(0), group: 1 };
        let inputs = [
            Value::Tensor(Tensor::from_slice(&[1, 1, 2], &[10u8, 200])),
            Tensor::scalar(0.5f32).into(),
            Tensor::scalar(0u8).into(),
            Tensor::from_slice(&[2, 1, 1], &[3i8, -4]).into(),
            Tensor::vector(&[1f32, 0.5]).into(),
            Tensor::vector(&[1i8, 0]).into(),
            Tensor::scalar(1f32).into(),
            Tensor::scalar(100u8).into(),
            Tensor::vector(&[1i32, 0]).into(),
        ];
        let y = run(Isa::best(), op, &inputs, 1).unwrap().remove(0).into_tensor().unwrap();
        // (20 + 1) / 2 = 10.5 → 10; 401 / 2 → 200 clipped; -40 / 4; -800 / 4.
        assert_eq!(y.as_slice::<u8>(), [110, 255, 90, 0]);
    }
}
