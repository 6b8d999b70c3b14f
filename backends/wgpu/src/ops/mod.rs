//! One file per family of operators, named as in `rinfer_graph::ops` where it holds one: how it
//! runs on a GPU.

mod attention;
mod batch_norm;
mod conv;
mod copy;
mod functions;
mod gather;
mod gemm;
mod integer;
mod matmul;
mod pointwise;
mod pool;
mod quantize;
mod recurrent;
mod resize;
mod rows;
mod sequence;

use rinfer_graph::ops::SoftmaxKind;
use rinfer_graph::{DType, Fact, Op, Reason, unsupported};

use crate::kernel::{Cx, Kernel};
use crate::shader::Class;

/// Makes a node ready for inputs of known sizes.
pub(crate) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    match &cx.node.op {
        Op::Arg(op) => rows::arg(op, cx),
        Op::Attention(op) => attention::compile(op, cx),
        Op::BatchNormalization(op) => batch_norm::batch_norm(op, cx),
        Op::Binary(_) | Op::Clip(_) | Op::Unary(_) | Op::Where(_) => pointwise::compile(cx),
        Op::BitCast(_) => copy::same(cx),
        Op::Cast(op) if op.to == cx.dtype(0)? => Ok(Kernel::view()),
        Op::Cast(_) => pointwise::compile(cx),
        Op::CenterCropPad(op) => copy::center_crop_pad(op, cx),
        Op::Concat(op) => copy::concat(op, cx),
        Op::Conv(op) => conv::conv(op, cx),
        Op::ConvInteger(op) => integer::conv(op, cx),
        Op::ConvTranspose(op) => conv::conv_transpose(op, cx),
        Op::Cumulative(op) => sequence::cumulative(op, cx),
        Op::DequantizeLinear(op) => quantize::dequantize(op, cx),
        Op::Expand(_) => copy::expand(cx),
        Op::Flatten(_) | Op::Identity(_) | Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => {
            Ok(Kernel::view())
        }
        Op::Gather(op) => gather::gather(op, cx),
        Op::GatherElements(op) => gather::gather_elements(op, cx),
        Op::GatherND(op) => gather::gather_nd(op, cx),
        Op::GroupNormalization(op) => rows::group_norm(op, cx),
        Op::LayerNormalization(op) => rows::layer_norm(op, cx),
        Op::Lrn(op) => batch_norm::lrn(op, cx),
        Op::MatMul(op) => matmul::compile(op, cx),
        Op::MatMulInteger(_) => integer::matmul(cx, false),
        Op::OneHot(op) => gather::one_hot(op.axis, cx),
        Op::Pad(op) => copy::pad(op, cx),
        Op::Pointwise(op) => pointwise::program(op, cx),
        Op::Pool(op) => pool::compile(op, cx),
        Op::QLinearConv(op) => integer::qlinear_conv(op, cx),
        Op::QLinearMatMul(_) => integer::matmul(cx, true),
        Op::QuantizeLinear(op) => quantize::quantize(op, cx),
        Op::Recurrent(op) => recurrent::compile(op, cx),
        Op::Reduce(op) => rows::reduce(op, cx),
        Op::Resize(op) => resize::compile(op, cx),
        Op::RmsNormalization(op) => rows::rms_norm(op, cx),
        Op::RotaryEmbedding(op) => sequence::rotary(op, cx),
        Op::Slice(_) => copy::slice(cx),
        Op::Softmax(op) => rows::softmax(op, cx),
        Op::SpaceDepth(op) => copy::space_depth(op, cx),
        Op::Split(op) => copy::split(op, cx),
        Op::Tile(_) => copy::tile(cx),
        Op::Transpose(op) => copy::transpose(op, cx),
        Op::Trilu(op) => copy::trilu(op.upper, cx),
        op => Err(unsupported!("{} on the GPU is not supported", op.name())),
    }
}

/// Whether an operator runs on a GPU with inputs and outputs of these facts, whatever their sizes.
pub(crate) fn supports(op: &Op, inputs: &[Option<&Fact>], outputs: &[&Fact]) -> Result<(), Reason> {
    let dtypes = inputs.iter().flatten().map(|f| f.dtype()).collect::<Result<Vec<_>, _>>()?;
    outputs.iter().try_for_each(|f| f.dtype().map(drop))?;
    let first = || dtypes.first().copied().ok_or_else(|| unsupported!("{} of nothing", op.name()));
    let floats = || match dtypes.iter().find(|&&d| Class::of(d) != Ok(Class::Float)) {
        None => Ok(()),
        Some(d) => Err(unsupported!("{} of {d} on the GPU is not supported", op.name())),
    };
    let no = || Err(unsupported!("{} on the GPU is not supported", op.name()));
    match op {
        Op::Binary(_) | Op::Cast(_) | Op::Clip(_) | Op::Unary(_) | Op::Where(_) => {
            pointwise::supports(op, &dtypes)
        }
        Op::Arg(_) => match Class::of(first()?)? {
            Class::Wide | Class::Truth => no(),
            _ => Ok(()),
        },
        Op::Attention(op) => attention::supports(op, inputs, outputs.len()),
        Op::BatchNormalization(op) if op.training.is_some() => no(),
        Op::Softmax(op) if op.kind == SoftmaxKind::Hardmax => no(),
        Op::BatchNormalization(_)
        | Op::GroupNormalization(_)
        | Op::Lrn(_)
        | Op::RmsNormalization(_)
        | Op::Softmax(_) => floats(),
        Op::LayerNormalization(op) => match op.stash {
            DType::F32 => floats(),
            other => Err(unsupported!("LayerNormalization in {other} on the GPU")),
        },
        Op::Conv(_) | Op::ConvTranspose(_) => conv::supports(first()?),
        Op::MatMul(_) => matmul::supports(first()?),
        Op::ConvInteger(_) | Op::MatMulInteger(_) | Op::QLinearConv(_) | Op::QLinearMatMul(_) => {
            integer::supports(&dtypes, outputs[0].dtype()?)
        }
        Op::QuantizeLinear(op) => {
            quantize::supports(dtypes[0], dtypes[1], outputs[0].dtype()?, op.precision)
        }
        Op::DequantizeLinear(_) => {
            quantize::supports_dequantize(dtypes[0], dtypes[1], outputs[0].dtype()?)
        }
        Op::Pool(_) => pool::supports(first()?),
        Op::Cumulative(_) => Class::of(first()?).map(drop),
        Op::RotaryEmbedding(_) => dtypes[..3].iter().try_for_each(|&d| Class::of(d).map(drop)),
        Op::Pointwise(_) => dtypes.iter().try_for_each(|&d| Class::of(d).map(drop)),
        Op::Resize(op) => resize::supports(op, first()?),
        Op::Recurrent(op) => recurrent::supports(op, first()?),
        Op::Reduce(op) => rows::supports(op.kind, first()?),
        Op::OneHot(_) => match first()? {
            DType::I32 | DType::I64 => copy::supports(dtypes[2]),
            other => Err(unsupported!("OneHot of {other} on the GPU is not supported")),
        },
        op if is_move(op) => copy::supports(first()?),
        _ => no(),
    }
}

/// Whether an operator only moves elements, whatever they are.
fn is_move(op: &Op) -> bool {
    matches!(
        op,
        Op::BitCast(_)
            | Op::CenterCropPad(_)
            | Op::Concat(_)
            | Op::Expand(_)
            | Op::Flatten(_)
            | Op::Gather(_)
            | Op::GatherElements(_)
            | Op::GatherND(_)
            | Op::Identity(_)
            | Op::Pad(_)
            | Op::Reshape(_)
            | Op::Slice(_)
            | Op::SpaceDepth(_)
            | Op::Split(_)
            | Op::Squeeze(_)
            | Op::Tile(_)
            | Op::Transpose(_)
            | Op::Trilu(_)
            | Op::Unsqueeze(_)
    )
}
