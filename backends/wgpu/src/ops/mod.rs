//! One file per family of operators, named as in `rinfer_graph::ops` where it holds one: how it
//! runs on a GPU.

mod attention;
mod batch_norm;
mod conv;
mod copy;
mod einsum;
mod few_bits;
mod functions;
mod gather;
mod gemm;
mod integer;
mod loss;
mod matmul;
mod pictures;
mod pointwise;
mod pool;
mod quantize;
mod recurrent;
mod resize;
mod rows;
mod scatter;
mod sequence;
mod spectrum;
mod statistics;
mod streams;
mod topk;

use rinfer_graph::{DType, Fact, Op, Reason, unsupported};

use crate::kernel::{Cx, Kernel};
use crate::shader::Class;

/// Makes a node ready for inputs of known sizes.
pub(crate) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    match &cx.node.op {
        Op::AffineGrid(op) => pictures::affine_grid(op, cx),
        Op::Arg(op) => rows::arg(op, cx),
        Op::Attention(op) => attention::compile(op, cx),
        Op::BatchNormalization(op) => batch_norm::batch_norm(op, cx),
        Op::Binary(_) | Op::Clip(_) | Op::Unary(_) | Op::Where(_) => pointwise::compile(cx),
        Op::BitCast(_) => copy::same(cx),
        Op::Cast(op) if op.to == cx.dtype(0)? => Ok(Kernel::view()),
        Op::Cast(_) => pointwise::compile(cx),
        Op::CausalConv(op) => streams::causal_conv(op, cx),
        Op::CenterCropPad(op) => copy::center_crop_pad(op, cx),
        Op::Col2Im(op) => pictures::col2im(op, cx),
        Op::Concat(op) => copy::concat(op, cx),
        Op::Conv(op) => conv::conv(op, cx),
        Op::ConvInteger(op) => integer::conv(op, cx),
        Op::ConvTranspose(op) => conv::conv_transpose(op, cx),
        Op::Cumulative(op) => sequence::cumulative(op, cx),
        Op::DFT(op) => spectrum::dft(op, cx),
        Op::DeformConv(op) => pictures::deform_conv(op, cx),
        Op::DequantizeLinear(op) => quantize::dequantize(op, cx),
        Op::QuantizedAdd(op) => quantize::add(op, cx),
        Op::Det(_) => statistics::det(cx),
        Op::DynamicQuantizeLinear(_) => statistics::dynamic_quantize(cx),
        Op::Einsum(op) => einsum::compile(op, cx),
        Op::Expand(_) => copy::expand(cx),
        Op::EyeLike(op) => statistics::eye_like(op, cx),
        Op::Flatten(_) | Op::Identity(_) | Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => {
            Ok(Kernel::view())
        }
        Op::Gather(op) => gather::gather(op, cx),
        Op::GatherElements(op) => gather::gather_elements(op, cx),
        Op::GatherND(op) => gather::gather_nd(op, cx),
        Op::GridSample(op) => pictures::grid_sample(op, cx),
        Op::GroupNormalization(op) => rows::group_norm(op, cx),
        _ => compile_rest(cx),
    }
}

/// The operators from L on.
fn compile_rest(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    match &cx.node.op {
        Op::LayerNormalization(op) => rows::layer_norm(op, cx),
        Op::LinearAttention(op) => streams::linear_attention(op, cx),
        Op::Lrn(op) => batch_norm::lrn(op, cx),
        Op::MatMul(op) => matmul::compile(op, cx),
        Op::MatMulBnb4(op) => few_bits::bnb4(op, cx),
        Op::MatMulInteger(_) => integer::matmul(cx, false),
        Op::MatMulNBits(op) => few_bits::compile(op, cx),
        Op::MaxRoiPool(op) => pictures::max_roi_pool(op, cx),
        Op::MaxUnpool(op) => scatter::max_unpool(op, cx),
        Op::NegativeLogLikelihoodLoss(op) => loss::compile(op, cx),
        Op::OneHot(op) => gather::one_hot(op.axis, cx),
        Op::Optimizer(op) => statistics::optimizer(op, cx),
        Op::Pad(op) => copy::pad(op, cx),
        Op::Pointwise(op) => pointwise::program(op, cx),
        Op::Pool(op) => pool::compile(op, cx),
        Op::QLinearConv(op) => integer::qlinear_conv(op, cx),
        Op::QLinearMatMul(_) => integer::matmul(cx, true),
        Op::QuantizeLinear(op) => quantize::quantize(op, cx),
        Op::QuantizeRows(op) => quantize::rows(op, cx),
        Op::QuantizedMatMul(op) => integer::quantized_matmul(op, cx),
        Op::Recurrent(op) => recurrent::compile(op, cx),
        Op::Reduce(op) => rows::reduce(op, cx),
        Op::Resize(op) => resize::compile(op, cx),
        Op::ReverseSequence(op) => streams::reverse(op, cx),
        Op::RmsNormalization(op) => rows::rms_norm(op, cx),
        Op::RoiAlign(op) => pictures::roi_align(op, cx),
        Op::RotaryEmbedding(op) => sequence::rotary(op, cx),
        Op::STFT(op) => spectrum::stft(op, cx),
        Op::ScatterElements(op) => scatter::elements(op, cx),
        Op::ScatterND(op) => scatter::nd(op, cx),
        Op::Slice(_) => copy::slice(cx),
        Op::Softmax(op) => rows::softmax(op, cx),
        Op::SpaceDepth(op) => copy::space_depth(op, cx),
        Op::Split(op) => copy::split(op, cx),
        Op::TensorScatter(op) => scatter::tensor(op, cx),
        Op::Tile(_) => copy::tile(cx),
        Op::TopK(op) => topk::compile(op, cx),
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
        Op::Attention(op) => attention::supports(op, inputs),
        Op::BatchNormalization(_)
        | Op::CausalConv(_)
        | Op::DeformConv(_)
        | Op::Det(_)
        | Op::GridSample(_)
        | Op::GroupNormalization(_)
        | Op::LinearAttention(_)
        | Op::Lrn(_)
        | Op::RmsNormalization(_)
        | Op::Softmax(_) => floats(),
        Op::LayerNormalization(op) => match op.stash {
            DType::F32 => floats(),
            other => Err(unsupported!("LayerNormalization in {other} on the GPU")),
        },
        Op::Conv(_) | Op::ConvTranspose(_) => conv::supports(first()?),
        Op::MatMul(_) => matmul::supports(first()?),
        Op::MatMulBnb4(_) | Op::MatMulNBits(_) => few_bits::supports(first()?),
        Op::ConvInteger(_) | Op::MatMulInteger(_) | Op::QLinearMatMul(_) => {
            integer::supports(&dtypes, outputs[0].dtype()?)
        }
        Op::QuantizedAdd(op) => quantize::supports_add(op, inputs),
        Op::QLinearConv(_) | Op::QuantizedMatMul(_) => {
            integer::supports_quantized(&dtypes, outputs[0].dtype()?)
        }
        Op::QuantizeRows(_) if first()? == DType::F32 => Ok(()),
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
        Op::OneHot(_) => match (Class::of(first()?)?, first()?) {
            // A u64 beyond i64 would be taken for a negative index.
            (Class::Truth, _) | (_, DType::U64) => no(),
            _ => copy::supports(dtypes[2]),
        },
        op if is_move(op) => copy::supports(first()?),
        op => supports_mixed(op, &dtypes, outputs),
    }
}

/// The same for operators whose inputs are of several dtypes.
fn supports_mixed(op: &Op, dtypes: &[DType], outputs: &[&Fact]) -> Result<(), Reason> {
    let first = || dtypes.first().copied().ok_or_else(|| unsupported!("{} of nothing", op.name()));
    let no = || Err(unsupported!("{} on the GPU is not supported", op.name()));
    match op {
        // Beside floats these read integers.
        Op::AffineGrid(_)
        | Op::DFT(_)
        | Op::MaxRoiPool(_)
        | Op::NegativeLogLikelihoodLoss(_)
        | Op::RoiAlign(_)
        | Op::STFT(_)
        | Op::DynamicQuantizeLinear(_) => match Class::of(first()?)? {
            Class::Float => Ok(()),
            _ => no(),
        },
        Op::Optimizer(_) if dtypes.iter().skip(2).any(|&d| Class::of(d) != Ok(Class::Float)) => {
            no()
        }
        Op::Optimizer(_) => dtypes.iter().try_for_each(|&d| Class::of(d).map(drop)),
        Op::EyeLike(_) => Class::of(outputs[0].dtype()?).map(drop),
        Op::Col2Im(_) | Op::Einsum(_) | Op::TopK(_) => match Class::of(first()?)? {
            Class::Truth => no(),
            _ => Ok(()),
        },
        Op::ScatterElements(op) => scatter::supports(op.reduction, first()?),
        Op::ScatterND(op) => scatter::supports(op.reduction, first()?),
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
            | Op::MaxUnpool(_)
            | Op::Pad(_)
            | Op::Reshape(_)
            | Op::ReverseSequence(_)
            | Op::Slice(_)
            | Op::SpaceDepth(_)
            | Op::Split(_)
            | Op::Squeeze(_)
            | Op::TensorScatter(_)
            | Op::Tile(_)
            | Op::Transpose(_)
            | Op::Trilu(_)
            | Op::Unsqueeze(_)
    )
}
