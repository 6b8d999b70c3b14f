//! Every operator of the IR: its attributes, and what it does to types and shapes.
//!
//! An operator is one file: the formula, the attribute struct, `infer`, and how ONNX's operators
//! of that name are imported. The list below is the IR; `table.rs` is ONNX's list.

mod arg;
mod attention;
mod batch_norm;
mod binary;
mod cast;
mod causal_conv;
mod clip;
mod col2im;
mod compress;
mod concat;
mod constant;
mod contrib;
mod control;
mod conv;
mod conv_transpose;
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
mod epilogue;
mod expand;
mod expert_matmul;
mod eye_like;
mod flex_attention;
mod gather;
mod gather_block;
mod gradient;
mod grid_sample;
mod identity;
mod image;
mod instance_norm;
mod inverse;
mod layer_norm;
mod linear_attention;
mod loss;
mod lp_norm;
mod lrn;
mod matmul;
mod matmul_integer;
mod matmul_n_bits;
mod mean_variance;
mod ml;
mod ml_features;
mod ml_linear;
mod ml_maps;
mod ml_tree;
mod non_max_suppression;
mod one_hot;
mod optional;
mod pad;
mod pointwise;
mod pool;
mod qgemm;
mod qlinear;
mod quantize;
mod quantize_rows;
mod quantized_add;
mod quantized_matmul;
mod random;
mod range;
mod recurrent;
mod reduce;
mod reshape;
mod resize;
mod reverse_sequence;
mod roi;
mod rotary_embedding;
mod samples;
mod scatter;
mod sequence;
mod shape;
mod slice;
mod softmax;
mod space_depth;
mod split;
mod steps;
mod strings;
mod swiglu;
pub mod table;
mod topk;
mod training;
mod transpose;
mod trilu;
mod unary;
mod unique;
mod unpool;
mod where_;
mod window;

pub use arg::{Arg, Extreme};
pub use attention::{Attention, AttentionSizes, Scores, mask_strides};
pub use batch_norm::BatchNormalization;
pub use binary::{Binary, BinaryFn};
pub use cast::{BitCast, Cast};
pub use causal_conv::CausalConv;
pub use clip::Clip;
pub use col2im::{Col2Im, ImageAxis};
pub use compress::{Compress, NonZero};
pub use concat::Concat;
pub use control::{If, Loop, Scan, ScanAxis};
pub use conv::{Conv, ConvInteger, QLinearConv};
pub use conv_transpose::ConvTranspose;
pub use cosine_window::{CosineWindow, MelWeightMatrix};
pub use crop_and_resize::CropAndResize;
pub use cumulative::{Accumulate, Cumulative};
pub use custom::{Custom, CustomOp};
pub use decoding::Decoding;
pub use deform_conv::DeformConv;
pub use det::Det;
pub use dft::{DFT, STFT};
pub use dropout::Dropout;
pub use einsum::{Einsum, EinsumLabels};
pub use epilogue::Activation;
pub use expand::{Expand, Tile};
pub use expert_matmul::ExpertMatMul;
pub use eye_like::EyeLike;
pub use gather::{Gather, GatherElements, GatherND, position};
pub use grid_sample::{AffineGrid, GridMode, GridPadding, GridSample};
pub use identity::Identity;
pub use image::{ImageDecoder, PixelFormat};
pub use instance_norm::{GroupNormalization, Per};
pub use inverse::Inverse;
pub use layer_norm::{LayerNormalization, RmsNormalization};
pub use linear_attention::{LinearAttention, LinearAttentionSizes};
pub use loss::{LossReduction, NegativeLogLikelihoodLoss};
pub use lrn::Lrn;
pub use matmul::MatMul;
pub use matmul_integer::{MatMulInteger, QLinearMatMul};
pub use matmul_n_bits::{FourBits, MatMulBnb4, MatMulNBits};
pub use ml::{Labels, PostTransform};
pub use ml_features::{Features, Norm};
pub use ml_linear::{LinearModel, SupportVectors, SvmClasses, SvmKernel, SvmOutput};
pub use ml_maps::{LabelEncoder, MapOp};
pub use ml_tree::{Aggregate, Branch, Child, Forest, Test, TreeEnsemble, TreeOutput, Vote};
pub use non_max_suppression::NonMaxSuppression;
pub use one_hot::OneHot;
pub use optional::Optional;
pub use pad::{CenterCropPad, Pad, PadMode, Pads};
pub use pointwise::{Operand, Pointwise, Step};
pub use pool::{Pool, PoolKind};
pub use quantize::{Blocks, DequantizeLinear, DynamicQuantizeLinear, QuantizeLinear};
pub use quantize_rows::QuantizeRows;
pub use quantized_add::QuantizedAdd;
pub use quantized_matmul::QuantizedMatMul;
pub use random::{Bernoulli, Distribution, Multinomial, Random};
pub use range::{Range, number};
pub use recurrent::{Cell, Direction, GateFn, Recurrent};
pub use reduce::{Reduce, ReduceKind};
pub use reshape::{Flatten, Reshape, Squeeze, Unsqueeze};
pub use resize::{
    AspectRatio, Coordinates, Interpolation, Resize, ResizedAxis, Rounding, to_floats,
};
pub use reverse_sequence::ReverseSequence;
pub use roi::{MaxRoiPool, RoiAlign};
pub use rotary_embedding::RotaryEmbedding;
pub use samples::Samples;
pub use scatter::{Reduction, ScatterElements, ScatterND, TensorScatter};
pub use sequence::Sequence;
pub use shape::{Shape, Size};
pub use slice::{Cut, Slice};
pub use softmax::{Softmax, SoftmaxKind};
pub use space_depth::{BlocksTo, DepthOrder, SpaceDepth};
pub use split::Split;
pub use strings::{CaseChange, NgramPool, StringOp, TfIdfVectorizer, Weighting};
pub use topk::TopK;
pub use training::{Optimizer, OptimizerRule};
pub use transpose::Transpose;
pub use trilu::Trilu;
pub use unary::{Unary, UnaryFn};
pub use unique::Unique;
pub use unpool::MaxUnpool;
pub use where_::Where;
pub use window::{Padding, PerAxis, Span, Window};

use smallvec::SmallVec;

use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// Declares the closed set of operators, one a line.
macro_rules! ops {
    ($($Op:ident),* $(,)?) => {
        /// What a node does.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Op { $($Op($Op)),* }
        impl Op {
            /// The operator's name in the IR.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$Op(_) => stringify!($Op)),* }
            }
            /// The facts of the outputs that `inputs` asks for.
            pub fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
                let facts = match self { $(Op::$Op(op) => op.infer(inputs)?),* };
                inputs.check_outputs(facts)
            }
        }
        $(impl From<$Op> for Op { fn from(op: $Op) -> Op { Op::$Op(op) } })*
    };
}
ops!(
    AffineGrid,
    Arg,
    Attention,
    BatchNormalization,
    Bernoulli,
    Binary,
    BitCast,
    Cast,
    CausalConv,
    CenterCropPad,
    Clip,
    Col2Im,
    Compress,
    Concat,
    Conv,
    ConvInteger,
    ConvTranspose,
    CosineWindow,
    CropAndResize,
    Cumulative,
    Custom,
    DFT,
    Decoding,
    DeformConv,
    DequantizeLinear,
    Det,
    Dropout,
    DynamicQuantizeLinear,
    Einsum,
    Expand,
    ExpertMatMul,
    EyeLike,
    Features,
    Flatten,
    Gather,
    GatherElements,
    GatherND,
    GridSample,
    GroupNormalization,
    Identity,
    If,
    ImageDecoder,
    Inverse,
    LabelEncoder,
    LayerNormalization,
    LinearAttention,
    LinearModel,
    Loop,
    Lrn,
    MapOp,
    MatMul,
    MatMulBnb4,
    MatMulInteger,
    MatMulNBits,
    MaxRoiPool,
    MaxUnpool,
    MelWeightMatrix,
    Multinomial,
    NegativeLogLikelihoodLoss,
    NonMaxSuppression,
    NonZero,
    OneHot,
    Optimizer,
    Optional,
    Pad,
    Pointwise,
    Pool,
    QLinearConv,
    QLinearMatMul,
    QuantizeLinear,
    QuantizeRows,
    QuantizedAdd,
    QuantizedMatMul,
    Random,
    Range,
    Recurrent,
    Reduce,
    Reshape,
    Resize,
    ReverseSequence,
    RmsNormalization,
    RoiAlign,
    RotaryEmbedding,
    STFT,
    Scan,
    ScatterElements,
    ScatterND,
    Sequence,
    Shape,
    Size,
    Slice,
    Softmax,
    SpaceDepth,
    Split,
    Squeeze,
    StringOp,
    SupportVectors,
    TensorScatter,
    TfIdfVectorizer,
    Tile,
    TopK,
    Transpose,
    TreeEnsemble,
    Trilu,
    Unary,
    Unique,
    Unsqueeze,
    Where,
);

impl Op {
    /// Whether two runs with equal inputs may give different results.
    pub fn is_random(&self) -> bool {
        match self {
            Op::Custom(c) => !c.0.deterministic(),
            op => RANDOM.contains(&op.name()),
        }
    }

    /// Whether it runs graphs of its own.
    pub fn is_control(&self) -> bool {
        matches!(self, Op::If(_) | Op::Loop(_) | Op::Scan(_))
    }

    /// The graphs that it runs.
    pub fn bodies(&self) -> SmallVec<[&std::sync::Arc<crate::Graph>; 2]> {
        match self {
            Op::If(op) => smallvec::smallvec![&op.then_branch, &op.else_branch],
            Op::Loop(op) => smallvec::smallvec![&op.body],
            Op::Scan(op) => smallvec::smallvec![&op.body],
            _ => SmallVec::new(),
        }
    }

    /// The graphs that it runs, to be changed.
    pub fn bodies_mut(&mut self) -> SmallVec<[&mut std::sync::Arc<crate::Graph>; 2]> {
        match self {
            Op::If(op) => smallvec::smallvec![&mut op.then_branch, &mut op.else_branch],
            Op::Loop(op) => smallvec::smallvec![&mut op.body],
            Op::Scan(op) => smallvec::smallvec![&mut op.body],
            _ => SmallVec::new(),
        }
    }
}

/// Operators that draw random numbers: never folded, never merged.
const RANDOM: &[&str] = &["Bernoulli", "Dropout", "Multinomial", "Random"];

/// What a node reads, as far as it is known, and how many outputs it must make.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    facts: &'a [Option<&'a Fact>],
    outputs: usize,
}

impl<'a> Inputs<'a> {
    /// Inputs (omitted ones `None`) of a node with this number of outputs.
    pub fn new(facts: &'a [Option<&'a Fact>], outputs: usize) -> Inputs<'a> {
        Inputs { facts, outputs }
    }

    /// How many inputs there are, omitted ones among them included.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// How many outputs the node has.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Input `i`; `Err` if it is omitted.
    pub fn get(&self, i: usize) -> Result<&'a Fact, Reason> {
        self.opt(i).ok_or_else(|| invalid!("input {i} is missing"))
    }

    /// Input `i`, if it is given.
    pub fn opt(&self, i: usize) -> Option<&'a Fact> {
        self.facts.get(i).copied().flatten()
    }

    /// Every input that is given.
    pub fn given(&self) -> impl Iterator<Item = &'a Fact> + '_ {
        self.facts.iter().copied().flatten()
    }

    /// The dtype of input `i`; `Err` if it is omitted or no tensor.
    pub fn dtype(&self, i: usize) -> Result<DType, Reason> {
        self.get(i)?.dtype()
    }

    /// The shape of input `i`, if its rank is known; `Err` if it is omitted.
    pub fn shape(&self, i: usize) -> Result<Option<&'a [Dim]>, Reason> {
        Ok(self.get(i)?.shape())
    }

    /// `Err` unless inputs `i` and `j`, where both are given, have the same dtype.
    pub fn same_dtype(&self, i: usize, j: usize) -> Result<(), Reason> {
        match (self.opt(i), self.opt(j)) {
            (Some(a), Some(b)) if a.ty != b.ty => {
                Err(invalid!("input {i} is {} and input {j} is {}", a.ty, b.ty))
            }
            _ => Ok(()),
        }
    }

    /// `Err` if the rank of input `i` is known and not `rank`.
    pub fn check_rank(&self, i: usize, rank: usize) -> Result<(), Reason> {
        match self.opt(i).and_then(Fact::rank) {
            Some(r) if r != rank => Err(invalid!("input {i} has rank {r} where {rank} is needed")),
            _ => Ok(()),
        }
    }

    fn check_outputs(&self, mut facts: Facts) -> Result<Facts, Reason> {
        if facts.len() < self.outputs {
            return Err(invalid!(
                "{} outputs are asked for, there are {}",
                self.outputs,
                facts.len()
            ));
        }
        facts.truncate(self.outputs);
        // A size that no tensor can have must stop here, before anyone multiplies it.
        for fact in &facts {
            for dim in fact.shape().unwrap_or(&[]) {
                if dim.value().is_some_and(|n| n < 0) {
                    return Err(invalid!(
                        "an output would have the shape {}",
                        crate::shape::show(fact.shape().unwrap_or(&[]))
                    ));
                }
            }
        }
        Ok(facts)
    }
}

/// One fact as a node's facts.
pub(crate) fn one(fact: Fact) -> Result<Facts, Reason> {
    Ok(smallvec::smallvec![fact])
}

/// An axis as ONNX writes it: negative counts from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis(pub i64);

impl Axis {
    /// The axis of a tensor of this rank; `Err` if there is none.
    pub fn resolve(self, rank: usize) -> Result<usize, Reason> {
        let axis = if self.0 < 0 { self.0.checked_add(rank as i64) } else { Some(self.0) };
        axis.and_then(|a| usize::try_from(a).ok())
            .filter(|&a| a < rank)
            .ok_or_else(|| invalid!("axis {} is out of range for rank {rank}", self.0))
    }

    /// Like [`Axis::resolve`], but `rank` itself is allowed too (a position between axes).
    pub fn resolve_position(self, rank: usize) -> Result<usize, Reason> {
        let axis = if self.0 < 0 { self.0.checked_add(rank as i64) } else { Some(self.0) };
        axis.and_then(|a| usize::try_from(a).ok())
            .filter(|&a| a <= rank)
            .ok_or_else(|| invalid!("axis {} is out of range for rank {rank}", self.0))
    }
}

/// Resolves several axes; `Err` if one is out of range or stands twice.
pub fn resolve_axes(axes: &[i64], rank: usize) -> Result<SmallVec<[usize; 4]>, Reason> {
    let mut seen = smallvec::SmallVec::<[bool; 8]>::from_elem(false, rank);
    axes.iter()
        .map(|&axis| {
            let resolved = Axis(axis).resolve(rank)?;
            if std::mem::replace(&mut seen[resolved], true) {
                return Err(invalid!("axis {axis} stands twice in {axes:?}"));
            }
            Ok(resolved)
        })
        .collect()
}
