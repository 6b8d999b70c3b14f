//! Products with more in them: FusedMatMul, FusedGemm, FusedConv, GemmFastGelu.
//!
//! y = activation(alpha · op(a)·op(b) + …); they become the plain operators, which the passes fuse
//! again as the kernels want it.

use super::super::conv::{Conv, import_group};
use super::super::{BinaryFn, Clip, MatMul, UnaryFn, Window, matmul};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, Tensor, ValueId, invalid, unsupported};

pub(in super::super) fn import_matmul(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let y = fused_matmul(cx)?;
    cx.done(y)
}

fn fused_matmul(cx: &mut NodeCx<'_>) -> Result<ValueId, Reason> {
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    let (a, trans_a) = operand(cx, 0, ["transA", "transBatchA"])?;
    let (b, trans_b) = operand(cx, 1, ["transB", "transBatchB"])?;
    cx.push1(MatMul { trans_a, trans_b, alpha, activation: None }, &[a, b])
}

/// Input `i`, its first axis moved before the last if the second attribute says so, and whether
/// the first says that its last two are swapped.
fn operand(cx: &mut NodeCx<'_>, i: usize, names: [&str; 2]) -> Result<(ValueId, bool), Reason> {
    let x = cx.input(i)?;
    let (trans, batch) = (cx.flag(names[0], false)?, cx.flag(names[1], false)?);
    let rank = cx.fact(x).rank();
    // A vector is neither.
    if rank == Some(1) {
        return Ok((x, false));
    }
    if !batch {
        return Ok((x, trans));
    }
    match rank {
        None => Err(unsupported!("{} of an input of unknown rank", names[1])),
        Some(rank @ 3..) => {
            let perm: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
            Ok((cx.transpose(x, &perm)?, trans))
        }
        Some(_) => Ok((x, trans)),
    }
}

pub(in super::super) fn import_matmul_activation(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let y = fused_matmul(cx)?;
    cx.ignore(&["activation_axis"]);
    let y = activated(cx, y)?;
    cx.done(y)
}

pub(in super::super) fn import_gemm(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let y = matmul::gemm(cx)?;
    let y = activated(cx, y)?;
    cx.done(y)
}

pub(in super::super) fn import_gemm_fast_gelu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.opt_input(2));
    let y = cx.push1(MatMul::PLAIN, &[x, w])?;
    let y = cx.add_opt(y, bias)?;
    let y = cx.unary(UnaryFn::GeluTanh, y)?;
    cx.done(y)
}

/// The function of the attributes activation, activation_alpha, activation_beta, activation_gamma.
fn activated(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId, Reason> {
    let number = |name: &str, default: f32| Ok(cx.float(name)?.unwrap_or(default));
    let alpha = |default| number("activation_alpha", default);
    let f = match cx.string("activation")?.unwrap_or("") {
        "" => None,
        "Relu" => Some(UnaryFn::Relu),
        "Sigmoid" => Some(UnaryFn::Sigmoid),
        "Tanh" => Some(UnaryFn::Tanh),
        "Softplus" => Some(UnaryFn::Softplus),
        "Softsign" => Some(UnaryFn::Softsign),
        "Elu" => Some(UnaryFn::Elu { alpha: alpha(1.0)? }),
        "Celu" => Some(UnaryFn::Celu { alpha: alpha(1.0)? }),
        "LeakyRelu" => Some(UnaryFn::LeakyRelu { alpha: alpha(0.01)? }),
        "ThresholdedRelu" => Some(UnaryFn::ThresholdedRelu { alpha: alpha(1.0)? }),
        "HardSigmoid" => {
            let beta = number("activation_beta", 0.5)?;
            Some(UnaryFn::HardSigmoid { alpha: alpha(0.2)?, beta })
        }
        "Selu" => {
            let gamma = number("activation_gamma", 1.050_701)?;
            Some(UnaryFn::Selu { alpha: alpha(1.673_263_2)?, gamma })
        }
        other => return Err(unsupported!("the activation {other:?} is not supported")),
    };
    // Exporters write the parameters that an activation has not.
    cx.ignore(&["activation_alpha", "activation_beta", "activation_gamma"]);
    f.map_or(Ok(x), |f| cx.unary(f, x))
}

/// x, w, bias, z → activation(conv(x, w) + bias + z)
pub(in super::super) fn import_conv(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 4)?;
    let (window, group) = (Window::import(cx)?, import_group(cx)?);
    let inputs = cx.inputs().to_vec();
    let y = cx.push_n(Conv { window, group, activation: None }, &inputs, 1)?[0];
    let params = cx.floats("activation_params")?.unwrap_or_default();
    let f = match (cx.string("activation")?.unwrap_or(""), &params[..]) {
        ("", _) => return cx.done(y),
        ("Relu", _) => UnaryFn::Relu,
        ("Silu", _) => UnaryFn::Swish { alpha: 1.0 },
        ("Tanh", _) => UnaryFn::Tanh,
        ("Sigmoid", _) => UnaryFn::Sigmoid,
        ("LeakyRelu", &[alpha]) => UnaryFn::LeakyRelu { alpha },
        ("HardSigmoid", &[alpha, beta]) => UnaryFn::HardSigmoid { alpha, beta },
        ("Clip", &[lo, hi]) => {
            let (lo, hi) = (cx.scalar_like(y, lo)?, cx.scalar_like(y, hi)?);
            let y = cx.push1(Clip, &[y, lo, hi])?;
            return cx.done(y);
        }
        (name, params) => {
            return Err(unsupported!("the activation {name:?} with parameters {params:?}"));
        }
    };
    let y = cx.unary(f, y)?;
    cx.done(y)
}

/// Pads are an input that must be known; the rest is ONNX's ConvTranspose.
pub(in super::super) fn import_conv_transpose(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 4)?;
    let pads = match cx.opt_input(2) {
        None => None,
        Some(v) => match cx.fact(v).ints() {
            Some(pads) => Some(pads.to_vec()),
            None => return Err(unsupported!("pads that are not known before a run")),
        },
    };
    let bias = cx.opt_input(3);
    super::super::conv_transpose::with_pads(cx, pads, bias)
}

/// a sparse, b dense: the sparse operand is read as a dense one.
pub(in super::super) fn import_sparse(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    let (trans_a, trans_b) = (cx.flag("transA", false)?, cx.flag("transB", false)?);
    let dtype = cx.dtype(a)?;
    if alpha != 1.0 && !dtype.is_float() {
        return Err(unsupported!("alpha {alpha} for a product of {dtype}"));
    }
    let y = cx.push1(MatMul { trans_a, trans_b, alpha, activation: None }, &[a, b])?;
    cx.done(y)
}

/// The squares of the distances between rows, or their roots: |a|² + |b|² - 2 a·b
pub(in super::super) fn import_cdist(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    let root = match cx.string("metric")?.unwrap_or("sqeuclidean") {
        "sqeuclidean" => false,
        "euclidean" => true,
        other => return Err(unsupported!("the metric {other:?} of CDist is not supported")),
    };
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    for v in [a, b] {
        if let Some(rank) = cx.fact(v).rank().filter(|&rank| rank != 2) {
            return Err(invalid!("CDist of an input of rank {rank}, where 2 is needed"));
        }
    }
    let product = MatMul { trans_b: true, alpha: -2.0, ..MatMul::PLAIN };
    let product = cx.push1(product, &[a, b])?;
    let squares = |cx: &mut NodeCx<'_>, x| cx.fold(super::super::ReduceKind::SumSquare, x, &[1]);
    let (rows, cols) = (squares(cx, a)?, squares(cx, b)?);
    let cols = cx.transpose(cols, &[1, 0])?;
    let sums = cx.binary(BinaryFn::Add, rows, cols)?;
    let mut y = cx.binary(BinaryFn::Add, sums, product)?;
    // What cancels may come out below zero.
    let zero = match cx.dtype(y)? {
        DType::F64 => cx.constant(Tensor::scalar(0f64)),
        _ => cx.scalar_like(y, 0.0)?,
    };
    y = cx.binary(BinaryFn::Max, y, zero)?;
    if root {
        y = cx.unary(UnaryFn::Sqrt, y)?;
    }
    cx.done(y)
}
