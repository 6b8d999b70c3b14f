//! One file per operator, named as in `rinfer_graph::ops`: how it runs on this backend.

mod arg;
pub(crate) mod attention;
mod attention_plain;
mod batch_norm;
mod binary;
mod cast;
mod causal_conv;
mod clip;
mod col2im;
mod compress;
pub(crate) mod concat;
pub(crate) mod conv;
pub(crate) mod conv_integer;
mod conv_transpose;
mod copy;
mod cosine_window;
mod crop_and_resize;
mod cumulative;
mod custom;
mod decoding;
mod deform_conv;
mod det;
mod dft;
mod dropout;
mod einsum;
mod expand;
mod expert_matmul;
mod fft;
mod fft_single;
mod fold;
mod gather;
mod grid_sample;
mod identity;
mod image;
mod instance_norm;
mod inverse;
mod jpeg;
mod jpeg_pixels;
mod lanes;
mod layer_norm;
mod linear_attention;
mod loss;
mod lrn;
mod matmul;
mod matmul_integer;
mod matmul_n_bits;
mod ml;
mod ml_features;
mod ml_forest;
mod ml_linear;
mod ml_maps;
mod ml_tree;
mod non_max_suppression;
mod one_hot;
mod optional;
mod pad;
mod pointwise;
pub(crate) mod pool;
mod quantize;
mod quantize_rows;
mod quantized_add;
mod quantized_matmul;
mod random;
mod range;
mod recurrent;
mod recurrent_cell;
mod reduce;
mod reduce_exact;
mod resize;
mod reverse_sequence;
mod roi;
mod rotary_embedding;
mod scatter;
mod sequence;
mod slice;
mod softmax;
mod softmax_half;
mod space_depth;
mod split;
mod staged;
mod strings;
mod text;
mod tf_idf;
mod topk;
mod training;
mod transpose;
mod trilu;
mod unary;
mod unique;
mod unpool;
mod where_;
mod wide;

use rinfer_graph::{Op, Reason, unsupported};

use crate::kernel::{Cx, Kernel};

/// Makes a node ready to run; `Err` says why this backend cannot.
#[rustfmt::skip]
pub fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    match &cx.node.op {
        Op::AffineGrid(op) => grid_sample::compile_affine(op, cx),
        Op::Arg(op) => arg::compile(op, cx),
        Op::Attention(op) => attention::compile(op, cx),
        Op::BatchNormalization(op) => batch_norm::compile(op, cx),
        Op::Bernoulli(op) => random::compile_bernoulli(op, cx),
        Op::Binary(op) => binary::compile(op, cx),
        Op::BitCast(_) => Ok(cast::same_bytes()),
        Op::Cast(op) => cast::compile(op, cx),
        Op::CausalConv(op) => causal_conv::compile(op, cx),
        Op::CenterCropPad(op) => text::moves(cx, |cx| pad::compile_center(op, cx)),
        Op::Clip(_) => clip::compile(cx),
        Op::Col2Im(op) => col2im::compile(op, cx),
        Op::Compress(op) => text::moves(cx, |cx| compress::compile(op, cx)),
        Op::Concat(op) => text::moves(cx, |cx| concat::compile(op, cx)),
        Op::Conv(op) => conv::compile(op, cx),
        Op::ConvInteger(op) => conv_integer::compile(op, cx),
        Op::ConvTranspose(op) => conv_transpose::compile(op, cx),
        Op::CosineWindow(op) => cosine_window::compile(op),
        Op::CropAndResize(op) => crop_and_resize::compile(op, cx),
        Op::Cumulative(op) => cumulative::compile(op, cx),
        Op::Custom(op) => custom::compile(op),
        Op::DFT(op) => dft::compile(op, cx),
        Op::Decoding(op) => decoding::compile(op),
        Op::DeformConv(op) => deform_conv::compile(op, cx),
        Op::DequantizeLinear(op) => quantize::compile_dequantize(op, cx),
        Op::Det(_) => det::compile(cx),
        Op::Dropout(op) => dropout::compile(op, cx),
        Op::DynamicQuantizeLinear(_) => quantize::compile_dynamic(cx),
        Op::Einsum(op) => einsum::compile(op, cx),
        Op::Expand(op) => text::moves(cx, |cx| expand::compile(op, cx)),
        Op::ExpertMatMul(op) => expert_matmul::compile(op, cx),
        Op::EyeLike(op) => trilu::compile_eye(op, cx),
        Op::Features(op) => ml_features::compile(op),
        Op::Flatten(_) => Ok(Kernel::view()),
        Op::Gather(op) => text::moves(cx, |cx| gather::compile(op, cx)),
        Op::GatherElements(op) => text::moves(cx, |cx| gather::compile_elements(op, cx)),
        Op::GatherND(op) => text::moves(cx, |cx| gather::compile_nd(op, cx)),
        Op::GridSample(op) => grid_sample::compile(op, cx),
        Op::GroupNormalization(op) => instance_norm::compile(op, cx),
        Op::Identity(_) => Ok(Kernel::view()),
        Op::ImageDecoder(op) => image::compile(op),
        Op::Inverse(_) => inverse::compile(cx),
        Op::LabelEncoder(op) => ml_maps::compile_encoder(op),
        Op::LayerNormalization(op) => layer_norm::compile(op, cx),
        Op::LinearAttention(op) => linear_attention::compile(op, cx),
        Op::LinearModel(op) => ml_linear::compile(op),
        Op::Lrn(op) => lrn::compile(op, cx),
        Op::MapOp(op) => ml_maps::compile(op),
        Op::MatMul(op) => matmul::compile(op, cx),
        Op::MatMulBnb4(op) => matmul_n_bits::compile_bnb4(op, cx),
        Op::MatMulInteger(_) => matmul_integer::compile(cx),
        Op::MatMulNBits(op) => matmul_n_bits::compile(op, cx),
        Op::MaxRoiPool(op) => roi::compile_max(op, cx),
        Op::MaxUnpool(op) => unpool::compile(op, cx),
        Op::MelWeightMatrix(op) => cosine_window::compile_mel(op),
        Op::Multinomial(op) => random::compile_multinomial(op, cx),
        Op::NegativeLogLikelihoodLoss(op) => loss::compile(op, cx),
        Op::NonMaxSuppression(op) => non_max_suppression::compile(op, cx),
        Op::NonZero(op) => compress::compile_non_zero(op, cx),
        Op::OneHot(op) => text::moves(cx, |cx| one_hot::compile(op, cx)),
        Op::Optimizer(op) => training::compile(op),
        Op::Optional(op) => optional::compile(op),
        Op::Pad(op) => text::moves(cx, |cx| pad::compile(op, cx)),
        Op::Pointwise(op) => pointwise::compile(op, cx),
        Op::Pool(op) => pool::compile(op, cx),
        Op::QLinearConv(op) => conv_integer::compile_qlinear(op, cx),
        Op::QLinearMatMul(_) => matmul_integer::compile_qlinear(cx),
        Op::QuantizeLinear(op) => quantize::compile(op, cx),
        Op::QuantizedAdd(op) => quantized_add::compile(op, cx),
        Op::QuantizeRows(op) => quantize_rows::compile(op, cx),
        Op::QuantizedMatMul(op) => quantized_matmul::compile(op, cx),
        Op::Random(op) => random::compile(op, cx),
        Op::Range(op) => range::compile(op, cx),
        Op::Recurrent(op) => recurrent::compile(op, cx),
        Op::Reduce(op) => reduce::compile(op, cx),
        Op::Reshape(_) => Ok(Kernel::view()),
        Op::Resize(op) => resize::compile(op, cx),
        Op::ReverseSequence(op) => text::moves(cx, |cx| reverse_sequence::compile(op, cx)),
        Op::RmsNormalization(op) => layer_norm::compile_rms(op, cx),
        Op::RoiAlign(op) => roi::compile(op, cx),
        Op::RotaryEmbedding(op) => rotary_embedding::compile(op, cx),
        Op::STFT(_) => dft::compile_stft(cx),
        Op::ScatterElements(op) => scatter::compile_elements(op, cx),
        Op::ScatterND(op) => scatter::compile_nd(op, cx),
        Op::Sequence(op) => sequence::compile(op, cx),
        Op::Shape(_) => identity::known_output(cx),
        Op::Size(_) => identity::known_output(cx),
        Op::Slice(op) => text::moves(cx, |cx| slice::compile(op, cx)),
        Op::Softmax(op) => softmax::compile(op, cx),
        Op::SpaceDepth(op) => text::moves(cx, |cx| space_depth::compile(op, cx)),
        Op::Split(op) => text::moves(cx, |cx| split::compile(op, cx)),
        Op::Squeeze(_) => Ok(Kernel::view()),
        Op::StringOp(op) => strings::compile(op, cx),
        Op::SupportVectors(op) => ml_linear::compile_svm(op),
        Op::TensorScatter(op) => scatter::compile_tensor(op, cx),
        Op::TfIdfVectorizer(op) => tf_idf::compile(op),
        Op::Tile(op) => text::moves(cx, |cx| expand::compile_tile(op, cx)),
        Op::TopK(op) => topk::compile(op, cx),
        Op::Transpose(op) => text::moves(cx, |cx| transpose::compile(op, cx)),
        Op::TreeEnsemble(op) => ml_tree::compile(op, cx),
        Op::Trilu(op) => text::moves(cx, |cx| trilu::compile(op, cx)),
        Op::Unary(op) => unary::compile(op, cx),
        Op::Unique(op) => unique::compile(op, cx),
        Op::Unsqueeze(_) => Ok(Kernel::view()),
        Op::Where(_) => where_::compile(cx),
        op => Err(unsupported!("{} has no CPU kernel", op.name())),
    }
}

/// Packs a node's weights ahead of its first run. The facts may have unknown sizes; what cannot
/// be settled yet is left to `compile`.
#[rustfmt::skip]
pub fn prepack(cx: &Cx<'_>) -> Result<(), Reason> {
    match &cx.node.op {
        Op::Conv(op) => conv::prepack(op, cx),
        Op::ExpertMatMul(op) => expert_matmul::prepack(op, cx),
        Op::MatMul(op) => matmul::prepack(op, cx),
        Op::MatMulInteger(_) => matmul_integer::prepack(false, 1, cx),
        Op::MatMulNBits(op) => matmul_n_bits::prepack(op, cx),
        Op::QLinearMatMul(_) => matmul_integer::prepack(false, 3, cx),
        Op::QuantizedMatMul(op) => quantized_matmul::prepack(op, cx),
        Op::Recurrent(op) => recurrent::prepack(op, cx),
        _ => Ok(()),
    }
}
