//! ONNX's operators: one row each, sorted by domain and name.
//!
//! The support table in the documentation is printed from this list. A row says at which opset
//! versions the definition changed; an operator's versions end in its `import` function.

use super::*;
use crate::onnx::{NodeCx, Outputs};
use crate::unsupported;

/// How one ONNX operator becomes IR.
pub struct OnnxOp {
    /// Its domain; empty for ai.onnx.
    pub domain: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The opset versions at which its definition changed, oldest first.
    pub since: &'static [i64],
    /// Builds the IR of one node.
    pub import: fn(&mut NodeCx<'_>) -> Result<Outputs, Reason>,
}

/// A row of [`ONNX`].
const fn row(
    domain: &'static str,
    name: &'static str,
    since: &'static [i64],
    import: fn(&mut NodeCx<'_>) -> Result<Outputs, Reason>,
) -> OnnxOp {
    OnnxOp { domain, name, since, import }
}

/// Every operator that is read.
#[rustfmt::skip]
pub static ONNX: &[OnnxOp] = &[
    row("", "Abs", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Abs)),
    row("", "Acos", &[7, 22], |cx| unary::import(cx, UnaryFn::Acos)),
    row("", "Acosh", &[9, 22], |cx| unary::import(cx, UnaryFn::Acosh)),
    row("", "Add", &[1, 6, 7, 13, 14], |cx| binary::import(cx, BinaryFn::Add)),
    row("", "AffineGrid", &[20], grid_sample::import_affine),
    row("", "And", &[1, 7], |cx| binary::import(cx, BinaryFn::And)),
    row("", "ArgMax", &[1, 11, 12, 13], arg::import_max),
    row("", "ArgMin", &[1, 11, 12, 13], arg::import_min),
    row("", "Asin", &[7, 22], |cx| unary::import(cx, UnaryFn::Asin)),
    row("", "Asinh", &[9, 22], |cx| unary::import(cx, UnaryFn::Asinh)),
    row("", "Atan", &[7, 22], |cx| unary::import(cx, UnaryFn::Atan)),
    row("", "Atanh", &[9, 22], |cx| unary::import(cx, UnaryFn::Atanh)),
    row("", "Attention", &[23, 24, 25], attention::import),
    row("", "AveragePool", &[1, 7, 10, 11, 19, 22], pool::import_average),
    row("", "BatchNormalization", &[1, 6, 7, 9, 14, 15], batch_norm::import),
    row("", "Bernoulli", &[15, 22], random::import_bernoulli),
    row("", "BitCast", &[26], cast::import_bit_cast),
    row("", "BitShift", &[11, 28], binary::import_bit_shift),
    row("", "BitwiseAnd", &[18], |cx| binary::import(cx, BinaryFn::BitwiseAnd)),
    row("", "BitwiseNot", &[18], |cx| unary::import(cx, UnaryFn::BitwiseNot)),
    row("", "BitwiseOr", &[18], |cx| binary::import(cx, BinaryFn::BitwiseOr)),
    row("", "BitwiseXor", &[18], |cx| binary::import(cx, BinaryFn::BitwiseXor)),
    row("", "BlackmanWindow", &[17], cosine_window::import_blackman),
    row("", "Cast", &[1, 6, 9, 13, 19, 21, 23, 24, 25, 28], cast::import),
    row("", "CastLike", &[15, 19, 21, 23, 24, 25], cast::import_like),
    row("", "CausalConvWithState", &[27], causal_conv::import),
    row("", "Ceil", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Ceil)),
    row("", "Celu", &[12, 28], unary::import_celu),
    row("", "CenterCropPad", &[18], pad::import_center_crop_pad),
    row("", "Clip", &[1, 6, 11, 12, 13], clip::import),
    row("", "Col2Im", &[18], col2im::import),
    row("", "Compress", &[9, 11, 28], compress::import),
    row("", "Concat", &[1, 4, 11, 13], concat::import),
    row("", "ConcatFromSequence", &[11], sequence::import_concat),
    row("", "Constant", &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25], constant::import),
    row("", "ConstantOfShape", &[9, 20, 21, 23, 24, 25], expand::import_constant_of_shape),
    row("", "Conv", &[1, 11, 22], conv::import),
    row("", "ConvInteger", &[10], conv::import_integer),
    row("", "ConvTranspose", &[1, 11, 22], conv_transpose::import),
    row("", "Cos", &[7, 22], |cx| unary::import(cx, UnaryFn::Cos)),
    row("", "Cosh", &[9, 22], |cx| unary::import(cx, UnaryFn::Cosh)),
    row("", "CumProd", &[26], cumulative::import_prod),
    row("", "CumSum", &[11, 14], cumulative::import_sum),
    row("", "DFT", &[17, 20], dft::import),
    row("", "DeformConv", &[19, 22], deform_conv::import),
    row("", "DepthToSpace", &[1, 11, 13, 28], space_depth::import_to_space),
    row("", "DequantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], quantize::import_dequantize),
    row("", "Det", &[11, 22], det::import),
    row("", "Div", &[1, 6, 7, 13, 14], |cx| binary::import(cx, BinaryFn::Div)),
    row("", "Dropout", &[1, 6, 7, 10, 12, 13, 22], dropout::import),
    row("", "DynamicQuantizeLinear", &[11], quantize::import_dynamic),
    row("", "Einsum", &[12, 28], einsum::import),
    row("", "Elu", &[1, 6, 22], unary::import_elu),
    row("", "Equal", &[1, 7, 11, 13, 19], |cx| binary::import(cx, BinaryFn::Equal)),
    row("", "Erf", &[9, 13], |cx| unary::import(cx, UnaryFn::Erf)),
    row("", "Exp", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Exp)),
    row("", "Expand", &[8, 13], expand::import),
    row("", "EyeLike", &[9, 22], eye_like::import),
    row("", "Flatten", &[1, 9, 11, 13, 21, 23, 24, 25], reshape::import_flatten),
    row("", "Floor", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Floor)),
    row("", "GRU", &[1, 3, 7, 14, 22], recurrent::import_gru),
    row("", "Gather", &[1, 11, 13], gather::import),
    row("", "GatherElements", &[11, 13], gather::import_elements),
    row("", "GatherND", &[11, 12, 13], gather::import_nd),
    row("", "Gelu", &[20], unary::import_gelu),
    row("", "Gemm", &[1, 6, 7, 9, 11, 13], matmul::import_gemm),
    row("", "GlobalAveragePool", &[1, 22], pool::import_global_average),
    row("", "GlobalLpPool", &[1, 2, 22], pool::import_global_lp),
    row("", "GlobalMaxPool", &[1, 22], pool::import_global_max),
    row("", "Greater", &[1, 7, 9, 13], |cx| binary::import(cx, BinaryFn::Greater)),
    row("", "GreaterOrEqual", &[12, 16], |cx| binary::import(cx, BinaryFn::GreaterOrEqual)),
    row("", "GridSample", &[16, 20, 22], grid_sample::import),
    row("", "GroupNormalization", &[18, 21], instance_norm::import_group),
    row("", "HammingWindow", &[17], cosine_window::import_hamming),
    row("", "HannWindow", &[17], cosine_window::import_hann),
    row("", "HardSigmoid", &[1, 6, 22], unary::import_hard_sigmoid),
    row("", "HardSwish", &[14, 22], |cx| unary::import(cx, UnaryFn::HardSwish)),
    row("", "Hardmax", &[1, 11, 13], softmax::import_hardmax),
    row("", "Identity", &[1, 13, 14, 16, 19, 21, 23, 24, 25], identity::import),
    row("", "If", &[1, 11, 13, 16, 19, 21, 23, 24, 25], control::import_if),
    row("", "ImageDecoder", &[20], image::import),
    row("", "InstanceNormalization", &[1, 6, 22], instance_norm::import),
    row("", "IsInf", &[10, 20], unary::import_is_inf),
    row("", "IsNaN", &[9, 13, 20], |cx| unary::import(cx, UnaryFn::IsNaN)),
    row("", "LRN", &[1, 13], lrn::import),
    row("", "LSTM", &[1, 7, 14, 22], recurrent::import_lstm),
    row("", "LayerNormalization", &[17], layer_norm::import),
    row("", "LeakyRelu", &[1, 6, 16], unary::import_leaky_relu),
    row("", "Less", &[1, 7, 9, 13], |cx| binary::import(cx, BinaryFn::Less)),
    row("", "LessOrEqual", &[12, 16], |cx| binary::import(cx, BinaryFn::LessOrEqual)),
    row("", "LinearAttention", &[27], linear_attention::import),
    row("", "Log", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Log)),
    row("", "LogSoftmax", &[1, 11, 13], softmax::import_log_softmax),
    row("", "Loop", &[1, 11, 13, 16, 19, 21, 23, 24, 25], control::import_loop),
    row("", "LpNormalization", &[1, 22], lp_norm::import),
    row("", "LpPool", &[1, 2, 11, 18, 22], pool::import_lp),
    row("", "MatMul", &[1, 9, 13], matmul::import),
    row("", "MatMulInteger", &[10], matmul_integer::import),
    row("", "Max", &[1, 6, 8, 12, 13], |cx| binary::import_chain(cx, BinaryFn::Max)),
    row("", "MaxPool", &[1, 8, 10, 11, 12, 22], pool::import_max),
    row("", "MaxRoiPool", &[1, 22], roi::import_max),
    row("", "MaxUnpool", &[9, 11, 22], unpool::import),
    row("", "Mean", &[1, 6, 8, 13], binary::import_mean),
    row("", "MeanVarianceNormalization", &[9, 13], mean_variance::import),
    row("", "MelWeightMatrix", &[17], cosine_window::import_mel),
    row("", "Min", &[1, 6, 8, 12, 13], |cx| binary::import_chain(cx, BinaryFn::Min)),
    row("", "Mish", &[18, 22], |cx| unary::import(cx, UnaryFn::Mish)),
    row("", "Mod", &[10, 13, 28], binary::import_mod),
    row("", "Mul", &[1, 6, 7, 13, 14], |cx| binary::import(cx, BinaryFn::Mul)),
    row("", "Multinomial", &[7, 22], random::import_multinomial),
    row("", "Neg", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Neg)),
    row("", "NegativeLogLikelihoodLoss", &[12, 13, 22], loss::import),
    row("", "NonMaxSuppression", &[10, 11], non_max_suppression::import),
    row("", "NonZero", &[9, 13], compress::import_non_zero),
    row("", "Not", &[1], |cx| unary::import(cx, UnaryFn::Not)),
    row("", "OneHot", &[9, 11, 28], one_hot::import),
    row("", "Optional", &[15, 28], optional::import),
    row("", "OptionalGetElement", &[15, 18, 28], optional::import_get),
    row("", "OptionalHasElement", &[15, 18, 28], optional::import_has),
    row("", "Or", &[1, 7], |cx| binary::import(cx, BinaryFn::Or)),
    row("", "PRelu", &[1, 6, 7, 9, 16], binary::import_prelu),
    row("", "Pad", &[1, 2, 11, 13, 18, 19, 21, 23, 24, 25], pad::import),
    row("", "Pow", &[1, 7, 12, 13, 15], |cx| binary::import(cx, BinaryFn::Pow)),
    row("", "QLinearConv", &[10], conv::import_qlinear),
    row("", "QLinearMatMul", &[10, 21], matmul_integer::import_qlinear),
    row("", "QuantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], quantize::import),
    row("", "RMSNormalization", &[23], layer_norm::import_rms),
    row("", "RNN", &[1, 7, 14, 22], recurrent::import_rnn),
    row("", "RandomNormal", &[1, 22], random::import_normal),
    row("", "RandomNormalLike", &[1, 22], random::import_normal_like),
    row("", "RandomUniform", &[1, 22], random::import_uniform),
    row("", "RandomUniformLike", &[1, 22], random::import_uniform_like),
    row("", "Range", &[11, 27], range::import),
    row("", "Reciprocal", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Reciprocal)),
    row("", "ReduceL1", &[1, 11, 13, 18], reduce::import_l1),
    row("", "ReduceL2", &[1, 11, 13, 18], reduce::import_l2),
    row("", "ReduceLogSum", &[1, 11, 13, 18, 28], reduce::import_log_sum),
    row("", "ReduceLogSumExp", &[1, 11, 13, 18, 28], reduce::import_log_sum_exp),
    row("", "ReduceMax", &[1, 11, 12, 13, 18, 20], reduce::import_max),
    row("", "ReduceMean", &[1, 11, 13, 18], reduce::import_mean),
    row("", "ReduceMin", &[1, 11, 12, 13, 18, 20], reduce::import_min),
    row("", "ReduceProd", &[1, 11, 13, 18], reduce::import_prod),
    row("", "ReduceSum", &[1, 11, 13], reduce::import_sum),
    row("", "ReduceSumSquare", &[1, 11, 13, 18], reduce::import_sum_square),
    row("", "RegexFullMatch", &[20], strings::import_full_match),
    row("", "Relu", &[1, 6, 13, 14], |cx| unary::import(cx, UnaryFn::Relu)),
    row("", "Reshape", &[1, 5, 13, 14, 19, 21, 23, 24, 25], reshape::import),
    row("", "Resize", &[10, 11, 13, 18, 19], resize::import),
    row("", "ReverseSequence", &[10, 28], reverse_sequence::import),
    row("", "RoiAlign", &[10, 16, 22], roi::import),
    row("", "RotaryEmbedding", &[23], rotary_embedding::import),
    row("", "Round", &[11, 22], |cx| unary::import(cx, UnaryFn::Round)),
    row("", "STFT", &[17], dft::import_stft),
    row("", "Scan", &[8, 9, 11, 16, 19, 21, 23, 24, 25], control::import_scan),
    row("", "Scatter", &[9, 11], scatter::import_elements),
    row("", "ScatterElements", &[11, 13, 16, 18], scatter::import_elements),
    row("", "ScatterND", &[11, 13, 16, 18], scatter::import_nd),
    row("", "Selu", &[1, 6, 22], unary::import_selu),
    row("", "SequenceAt", &[11], sequence::import_at),
    row("", "SequenceConstruct", &[11], sequence::import_construct),
    row("", "SequenceEmpty", &[11], sequence::import_empty),
    row("", "SequenceErase", &[11], sequence::import_erase),
    row("", "SequenceInsert", &[11], sequence::import_insert),
    row("", "SequenceLength", &[11], sequence::import_length),
    row("", "SequenceMap", &[17], sequence::import_map),
    row("", "Shape", &[1, 13, 15, 19, 21, 23, 24, 25], shape::import),
    row("", "Shrink", &[9], unary::import_shrink),
    row("", "Sigmoid", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Sigmoid)),
    row("", "Sign", &[9, 13], |cx| unary::import(cx, UnaryFn::Sign)),
    row("", "Sin", &[7, 22], |cx| unary::import(cx, UnaryFn::Sin)),
    row("", "Sinh", &[9, 22], |cx| unary::import(cx, UnaryFn::Sinh)),
    row("", "Size", &[1, 13, 19, 21, 23, 24, 25], shape::import_size),
    row("", "Slice", &[1, 10, 11, 13], slice::import),
    row("", "Softmax", &[1, 11, 13], softmax::import_softmax),
    row("", "SoftmaxCrossEntropyLoss", &[12, 13], loss::import_softmax),
    row("", "Softplus", &[1, 22], |cx| unary::import(cx, UnaryFn::Softplus)),
    row("", "Softsign", &[1, 22], |cx| unary::import(cx, UnaryFn::Softsign)),
    row("", "SpaceToDepth", &[1, 13, 28], space_depth::import_to_depth),
    row("", "Split", &[1, 2, 11, 13, 18], split::import),
    row("", "SplitToSequence", &[11, 24], sequence::import_split),
    row("", "Sqrt", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Sqrt)),
    row("", "Squeeze", &[1, 11, 13, 21, 23, 24, 25], reshape::import_squeeze),
    row("", "StringConcat", &[20], strings::import_concat),
    row("", "StringNormalizer", &[10], strings::import_normalizer),
    row("", "StringSplit", &[20], strings::import_split),
    row("", "Sub", &[1, 6, 7, 13, 14], |cx| binary::import(cx, BinaryFn::Sub)),
    row("", "Sum", &[1, 6, 8, 13], |cx| binary::import_chain(cx, BinaryFn::Add)),
    row("", "SwiGLU", &[28], swiglu::import),
    row("", "Swish", &[24], unary::import_swish),
    row("", "Tan", &[7, 22], |cx| unary::import(cx, UnaryFn::Tan)),
    row("", "Tanh", &[1, 6, 13], |cx| unary::import(cx, UnaryFn::Tanh)),
    row("", "TensorScatter", &[24], scatter::import_tensor),
    row("", "TfIdfVectorizer", &[9], strings::import_tf_idf),
    row("", "ThresholdedRelu", &[10, 22], unary::import_thresholded_relu),
    row("", "Tile", &[1, 6, 13], expand::import_tile),
    row("", "TopK", &[1, 10, 11, 24], topk::import),
    row("", "Transpose", &[1, 13, 21, 23, 24, 25], transpose::import),
    row("", "Trilu", &[14], trilu::import),
    row("", "Unique", &[11, 28], unique::import),
    row("", "Unsqueeze", &[1, 11, 13, 21, 23, 24, 25], reshape::import_unsqueeze),
    row("", "Upsample", &[1, 7, 9, 10], resize::import_upsample),
    row("", "Where", &[9, 16], where_::import),
    row("", "Xor", &[1, 7], |cx| binary::import(cx, BinaryFn::Xor)),
    row("ai.onnx.ml", "ArrayFeatureExtractor", &[1], ml_features::import_extractor),
    row("ai.onnx.ml", "Binarizer", &[1], ml_features::import_binarizer),
    row("ai.onnx.ml", "CastMap", &[1], ml_maps::import_cast_map),
    row("ai.onnx.ml", "CategoryMapper", &[1], ml_maps::import_mapper),
    row("ai.onnx.ml", "DictVectorizer", &[1], ml_maps::import_vectorizer),
    row("ai.onnx.ml", "FeatureVectorizer", &[1], ml_features::import_vectorizer),
    row("ai.onnx.ml", "Imputer", &[1], ml_features::import_imputer),
    row("ai.onnx.ml", "LabelEncoder", &[1, 2, 4], ml_maps::import_encoder),
    row("ai.onnx.ml", "LinearClassifier", &[1], ml_linear::import_linear_classifier),
    row("ai.onnx.ml", "LinearRegressor", &[1], ml_linear::import_linear_regressor),
    row("ai.onnx.ml", "Normalizer", &[1], ml_features::import_normalizer),
    row("ai.onnx.ml", "OneHotEncoder", &[1], ml_features::import_one_hot),
    row("ai.onnx.ml", "SVMClassifier", &[1], ml_linear::import_svm_classifier),
    row("ai.onnx.ml", "SVMRegressor", &[1], ml_linear::import_svm_regressor),
    row("ai.onnx.ml", "Scaler", &[1], ml_features::import_scaler),
    row("ai.onnx.ml", "TreeEnsemble", &[5], ml_tree::import),
    row("ai.onnx.ml", "TreeEnsembleClassifier", &[1, 3, 5], ml_tree::import_classifier),
    row("ai.onnx.ml", "TreeEnsembleRegressor", &[1, 3, 5], ml_tree::import_regressor),
    row("ai.onnx.ml", "ZipMap", &[1], ml_maps::import_zip),
    row("ai.onnx.preview", "FlexAttention", &[1], flex_attention::import),
    row("ai.onnx.preview.training", "Adagrad", &[1], training::import_adagrad),
    row("ai.onnx.preview.training", "Adam", &[1], training::import_adam),
    row("ai.onnx.preview.training", "Gradient", &[1], gradient::import),
    row("ai.onnx.preview.training", "Momentum", &[1], training::import_momentum),
];

/// The operator's row, and the version of its definition that `opset` selects.
pub fn find(domain: &str, name: &str, opset: i64) -> Result<(&'static OnnxOp, i64), Reason> {
    let dot = if domain.is_empty() { "" } else { "." };
    let row = ONNX
        .binary_search_by_key(&(domain, name), |op| (op.domain, op.name))
        .map_err(|_| unsupported!("operator {domain}{dot}{name} is not supported"))?;
    let op = &ONNX[row];
    match op.since.iter().rev().find(|&&v| v <= opset) {
        Some(&version) => Ok((op, version)),
        None => Err(invalid!(
            "operator {domain}{dot}{name} begins with opset {}, the model uses {opset}",
            op.since[0]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_domain_and_name() {
        for pair in ONNX.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            assert!((a.domain, a.name) < (b.domain, b.name), "{} stands before {}", a.name, b.name);
        }
    }

    #[test]
    fn the_version_is_the_newest_not_after_the_opset() {
        assert_eq!(find("", "Reshape", 12).unwrap().1, 5);
        assert!(find("", "Scan", 7).is_err());
        assert!(find("", "Nonsense", 7).is_err());
    }
}
