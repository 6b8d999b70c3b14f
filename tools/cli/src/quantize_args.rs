//! The command line of `rinfer quantize`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::args::LimitArgs;

/// `rinfer quantize`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct QuantizeArgs {
    /// What to do instead of quantizing.
    #[command(subcommand)]
    pub verb: Option<QuantizeVerb>,
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// The model
    #[arg(required = true)]
    pub model: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
    /// Say what would become of each layer, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How.
    #[command(flatten)]
    pub how: HowArgs,
    /// With which data.
    #[command(flatten)]
    pub data: DataArgs,
    /// How accurate.
    #[command(flatten)]
    pub accuracy: AccuracyArgs,
    /// Write what became of each layer, and why: FILE.json, FILE.html, or both
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub report: Vec<PathBuf>,
    /// Do not run what was written beside the original
    #[arg(long)]
    pub no_check: bool,
}

/// What `rinfer quantize` does besides.
#[derive(Debug, Subcommand)]
pub enum QuantizeVerb {
    /// Rank layers by what each loses alone when it is quantized
    Sensitivity(SensitivityArgs),
    /// Compare values of a model and of its quantized one, the worst first
    Diff(DiffArgs),
    /// Run samples and write what ranges activations have
    Calibrate(CalibrateArgs),
    /// Write a quantized model in another form, or as floats
    Convert(ConvertArgs),
}

/// What becomes of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ModeChoice {
    Auto,
    Dynamic,
    Static,
    WeightOnly,
    Fp16,
}

/// How a quantized model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum FormatChoice {
    Qdq,
    Qoperator,
    Matmulnbits,
    Float,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Switch {
    Auto,
    On,
    Off,
}

/// What becomes of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum TableChoice {
    Int8,
    Keep,
}

/// What shares a range that is found in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum RangeChoice {
    Row,
    Tensor,
}

/// How scales of blocks are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ScaleChoice {
    Float32,
    Float16,
}

/// How codes of blocks are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum RoundChoice {
    Nearest,
    Hqq,
    Gptq,
    Awq,
}

/// How a model is quantized.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "How")]
pub struct HowArgs {
    /// What becomes of layers
    #[arg(long, value_enum, default_value = "auto")]
    pub mode: ModeChoice,
    /// Weights: int8, uint8; with weight-only int8, int4, int4-g32, int4-g128 (blocks of 32, 128)
    #[arg(long, value_name = "TYPE", default_value = "int8")]
    pub weights: String,
    /// Activations of static layers: uint8, int8, uint16, int16
    #[arg(long, value_name = "TYPE", default_value = "uint8")]
    pub acts: String,
    /// Activations of dynamic layers that share a range: row, or tensor as in
    /// DynamicQuantizeLinear (then a row's answer depends on its batch)
    #[arg(long, value_enum, default_value = "row")]
    pub dynamic_ranges: RangeChoice,
    /// How ranges of activations are chosen: minmax, ema=0.1, percentile=99.99, entropy, mse
    #[arg(long, value_name = "METHOD", default_value = "mse")]
    pub calib_method: String,
    /// How ranges of weights are chosen: minmax, mse
    #[arg(long, value_name = "METHOD", default_value = "minmax")]
    pub weight_range: String,
    /// Numbers that share a scale in weights: tensor, channel, block=32
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub granularity: String,
    /// How scales of blocks are stored; float16 takes half the room
    #[arg(long, value_enum, default_value = "float32")]
    pub block_scales: ScaleChoice,
    /// Codes that are symmetric about zero: weights by default, blocks and activations not
    #[arg(long, value_enum, default_value = "auto")]
    pub symmetric: Switch,
    /// Tables of embeddings
    #[arg(long, value_enum, default_value = "int8")]
    pub embeddings: TableChoice,
    /// How the model is written
    #[arg(long, value_enum)]
    pub format: Option<FormatChoice>,
    /// How codes of blocks are chosen
    #[arg(long, value_enum, default_value = "nearest")]
    pub round: RoundChoice,
    /// Move outliers of activations into weights: auto (default of static with samples), off, or how
    /// much (0 … 1)
    #[arg(long, value_name = "ALPHA")]
    pub smooth: Option<String>,
    /// Balance channels of neighbouring convolutions
    #[arg(long)]
    pub equalize: bool,
    /// Make up for the mean error of each channel in the biases
    #[arg(long)]
    pub bias_correct: bool,
    /// Layers whose name matches this regular expression stay float
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// Layers of this operator stay float
    #[arg(long, value_name = "OP")]
    pub exclude_op: Vec<String>,
    /// Quantize only layers whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<String>,
    /// What the model may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Threads; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// Samples to run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Samples")]
pub struct DataArgs {
    /// Samples: a folder, or a file (.npy .npz .safetensors .txt .jsonl), or `rand`
    #[arg(long, value_name = "PATH")]
    pub calib: Option<PathBuf>,
    /// Ranges that `quantize calibrate` wrote, instead of samples
    #[arg(long, value_name = "FILE.json", conflicts_with = "calib")]
    pub ranges: Option<PathBuf>,
    /// At most this many samples, spread over what there is
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub samples: usize,
    /// How pixels become numbers: raw (0…255), unit (0…1), signed (−1…1), imagenet
    #[arg(long, value_name = "HOW", default_value = "unit")]
    pub preprocess: String,
    /// What cuts text into tokens: a tokenizer.json
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// The size of a symbolic dimension of samples that are made up
    #[arg(long = "dim", value_name = "NAME=N")]
    pub dims: Vec<String>,
    /// Seed of whatever is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// How accurate the quantized model must be.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Accuracy")]
pub struct AccuracyArgs {
    /// Lose at most this much of the metric: 0.5pp (points of a hundred), or a number
    #[arg(long, value_name = "0.5pp")]
    pub max_drop: Option<String>,
    /// Keep at least this share of the float model's metric, in percent
    #[arg(long, value_name = "99.9", conflicts_with = "max_drop")]
    pub target: Option<f64>,
    /// What is measured: top1, f1, cos, sqnr, kl, or cmd:'./eval.sh {model}'
    #[arg(long, value_name = "METRIC")]
    pub metric: Option<String>,
    /// Accept what was measured, even where so few samples cannot show it
    #[arg(long)]
    pub accept_measured: bool,
    /// Stop searching after this long: 90s, 10m, 1h
    #[arg(long, value_name = "TIME")]
    pub budget: Option<String>,
    /// Remember what was measured in this file, and go on from it
    #[arg(long, value_name = "FILE.json")]
    pub resume: Option<PathBuf>,
}

/// `rinfer quantize sensitivity`
#[derive(Args, Debug)]
pub struct SensitivityArgs {
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// The model
    pub model: PathBuf,
    /// How.
    #[command(flatten)]
    pub how: HowArgs,
    /// With which data.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `rinfer quantize diff`
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// The model
    pub model: PathBuf,
    /// Its quantized one
    pub quantized: PathBuf,
    /// How many of the worst values are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub worst: usize,
    /// With which data.
    #[command(flatten)]
    pub data: DataArgs,
    /// What the models may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Threads; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// `rinfer quantize calibrate`
#[derive(Args, Debug)]
pub struct CalibrateArgs {
    /// The model
    pub model: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "RANGES.json")]
    pub output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// How.
    #[command(flatten)]
    pub how: HowArgs,
    /// With which data.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `rinfer quantize convert`
#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// The quantized model
    pub model: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// The form
    #[arg(long, value_enum)]
    pub format: FormatChoice,
    /// What the model may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
}
