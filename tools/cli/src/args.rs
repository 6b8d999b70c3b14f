//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::quantize_args::QuantizeArgs;

/// Runs ONNX models on the CPU and on GPUs, without any C or C++ runtime.
#[derive(Debug, Parser)]
#[command(name = "rinfer", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// How to print.
    #[command(flatten)]
    pub print: PrintArgs,
}

/// What the command does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a model once and show its outputs
    Run(RunArgs),
    /// Run folders in ONNX's test layout and compare the outputs
    Test(TestArgs),
    /// Show a model's inputs, outputs, operators, size and memory plan
    Inspect(InspectArgs),
    /// Measure load time, latency and throughput
    Bench(BenchArgs),
    /// Measure GPUs: memory, arithmetic, latency, kernels, models
    Gpubench(GpubenchArgs),
    /// Measure which kernels are fastest on a GPU, for runs with --tuned
    Tune(TuneArgs),
    /// Compare two models, or one model under two settings
    Compare(CompareArgs),
    /// Write the optimized graph as ONNX
    Optimize(OptimizeArgs),
    /// Write a model in integers, as accurate as asked for
    Quantize(Box<QuantizeArgs>),
    /// Show this machine's CPU and GPUs
    Devices {
        /// Print one JSON object on stdout instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show which operators are supported
    Ops(OpsArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How to print.
#[derive(Args, Clone, Debug, Default)]
pub struct PrintArgs {
    /// Print JSON on stdout instead of tables: a flag of most verbs, a file for `test`.
    #[arg(skip)]
    pub json: bool,
    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more on stderr, such as where each node runs
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// Bits of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionChoice {
    /// 32
    F32,
    /// 16 where a value provably cannot overflow, 32 elsewhere and in sums
    F16,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// This machine's processor.
    #[default]
    Cpu,
    /// A GPU through WebGPU; an error if there is none.
    Gpu,
    /// A GPU where possible, the CPU for the rest.
    GpuOrCpu,
}

/// Where a model runs, and within which bounds.
#[derive(Args, Clone, Debug)]
pub struct EngineArgs {
    /// Where to run
    #[arg(long, value_enum, default_value = "cpu")]
    pub backend: BackendChoice,
    /// Which GPU: a number or a part of its name, as `rinfer devices` shows them
    #[arg(long, value_name = "N|NAME")]
    pub device: Option<String>,
    /// Use the kernels that `rinfer tune` found fastest on this GPU
    #[arg(long)]
    pub tuned: bool,
    /// In how many bits a GPU keeps floats
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionChoice,
    /// Threads of the CPU backend; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// What the model may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Stop a run after this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<f64>,
    /// Leave the graph as it is in the file
    #[arg(long)]
    pub no_optimize: bool,
}

/// What a model may ask for. Sizes in bytes may end in K, M or G.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Use the strict limits for models of strangers, and read files instead of mapping them
    #[arg(long)]
    pub untrusted: bool,
    /// Memory of a session: weights, intermediate values and outputs
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_memory: Option<usize>,
    /// Size of one tensor
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_tensor: Option<usize>,
    /// Size of the model file, external data apart
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_model: Option<usize>,
    /// Nodes after inlining functions
    #[arg(long, value_name = "N")]
    pub max_nodes: Option<usize>,
    /// How deep bodies of If, Loop and Scan may be nested
    #[arg(long, value_name = "N")]
    pub max_depth: Option<usize>,
    /// Axes of a tensor
    #[arg(long, value_name = "N")]
    pub max_rank: Option<usize>,
    /// Iterations of one Loop
    #[arg(long, value_name = "N")]
    pub max_iterations: Option<u64>,
    /// What constant folding may make in all
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_folded: Option<usize>,
    /// Text in one tensor of strings
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_strings: Option<usize>,
    /// Size of one compiled regular expression
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_regex: Option<usize>,
    /// Pixels of one decoded image
    #[arg(long, value_name = "N")]
    pub max_pixels: Option<usize>,
}

/// `1000`, `64K`, `16M`, `2G`.
fn bytes(text: &str) -> Result<usize, String> {
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let found = units.iter().find_map(|(c, shift)| Some((text.strip_suffix(*c)?, *shift)));
    let (digits, shift) = found.unwrap_or((text, 0));
    let n: usize = digits.parse().map_err(|_| format!("{text} is no number of bytes"))?;
    n.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than any memory"))
}

/// What a model is given.
#[derive(Args, Clone, Debug, Default)]
pub struct InputArgs {
    /// An input: NAME=FILE (.npy .npz[:key] .pb .safetensors[:key] .json .png .jpg .txt .bin), or
    /// NAME=rand, rand(lo,hi), zeros, ones
    #[arg(short, long = "input", value_name = "NAME=SPEC")]
    pub inputs: Vec<String>,
    /// The size of a symbolic dimension
    #[arg(long = "dim", value_name = "NAME=N")]
    pub dims: Vec<String>,
    /// The shape of an input
    #[arg(long = "shape", value_name = "NAME:1x3x224x224")]
    pub shapes: Vec<String>,
    /// How pixels become numbers: raw (0…255), unit (0…1), signed (−1…1), imagenet
    #[arg(long, value_name = "HOW", default_value = "unit")]
    pub preprocess: String,
    /// What cuts the lines of .txt inputs into tokens: a tokenizer.json
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Seed of random inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// `rinfer run`
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// The model
    pub model: PathBuf,
    /// What it is given.
    #[command(flatten)]
    pub input: InputArgs,
    /// Where it runs.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Give back these values, inner ones too, instead of the model's outputs
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub outputs: Vec<String>,
    /// Write every output into this folder
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// The format of the files
    #[arg(long, value_enum, default_value = "npy")]
    pub output_format: Format,
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
    /// Compare the outputs with the files in a folder, or the arrays in a .npz
    #[arg(long, value_name = "DIR|FILE.npz")]
    pub compare: Option<PathBuf>,
    /// How far numbers may be off.
    #[command(flatten)]
    pub tolerance: ToleranceArgs,
    /// Write what each node took as a Chrome trace
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Print the time by operator, and the slowest nodes with their shapes
    #[arg(long)]
    pub profile_table: bool,
}

/// How far numbers may be off.
#[derive(Args, Clone, Copy, Debug)]
pub struct ToleranceArgs {
    /// Relative tolerance
    #[arg(long, default_value_t = 1e-3)]
    pub rtol: f64,
    /// Absolute tolerance
    #[arg(long, default_value_t = 1e-7)]
    pub atol: f64,
}

/// The format of output files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Format {
    Npy,
    Pb,
    Npz,
    Json,
}

/// `rinfer test`
#[derive(Args, Debug)]
pub struct TestArgs {
    /// Folders with a model.onnx, or folders of such folders
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Where they run.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// How far numbers may be off; a folder's own data.json comes first.
    #[command(flatten)]
    pub tolerance: ToleranceArgs,
    /// Write the results as JSON into this file; - is stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `rinfer inspect`
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// The model
    pub model: PathBuf,
    /// The size of a symbolic dimension
    #[arg(long = "dim", value_name = "NAME=N")]
    pub dims: Vec<String>,
    /// What the model may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Print the graph as text: as in the file, or optimized
    #[arg(long, value_name = "WHICH")]
    pub graph: Option<GraphChoice>,
}

/// Which graph is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum GraphChoice {
    File,
    Optimized,
}

/// `rinfer bench`
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// The models
    pub models: Vec<PathBuf>,
    /// What they are given.
    #[command(flatten)]
    pub input: InputArgs,
    /// Where they run: several are measured in turn
    #[arg(long = "backend", value_enum, value_delimiter = ',', default_value = "cpu")]
    pub backends: Vec<BackendChoice>,
    /// Which GPU: a number or a part of its name, as `rinfer devices` shows them
    #[arg(long, value_name = "N|NAME")]
    pub device: Option<String>,
    /// Use the kernels that `rinfer tune` found fastest on this GPU
    #[arg(long)]
    pub tuned: bool,
    /// Threads of the CPU backend; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// What the model may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Seconds of runs before measuring
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub warmup: f64,
    /// Seconds of measured runs
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub duration: f64,
    /// Measured runs, instead of a duration
    #[arg(long, value_name = "N")]
    pub runs: Option<usize>,
    /// Runs at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub concurrency: usize,
    /// Sizes of the first symbolic dimension; without it inputs are as `run` has them
    #[arg(long, value_name = "1,8", value_delimiter = ',')]
    pub batch: Vec<usize>,
    /// Write the results into FILE (.json, .csv, .md), or print them in this format
    #[arg(long, value_name = "FILE|json|csv|md")]
    pub export: Option<String>,
    /// Measure one operator: "MatMul:1x128x768:768x3072:f32"
    #[arg(long, value_name = "OP:SHAPES:DTYPE")]
    pub op: Option<String>,
    /// Print for each node what it reaches of the machine's limits, what loses most first
    #[arg(long)]
    pub profile: bool,
    /// Leave graphs as they are in the file
    #[arg(long)]
    pub no_optimize: bool,
}

/// `rinfer tune`
#[derive(Args, Debug)]
pub struct TuneArgs {
    /// Print one JSON object on stdout instead of a table
    #[arg(long)]
    pub json: bool,
    /// Which GPU: a number or a part of its name, as `rinfer devices` shows them
    #[arg(long, value_name = "N|NAME")]
    pub device: Option<String>,
}

/// `rinfer gpubench`
#[derive(Args, Debug)]
pub struct GpubenchArgs {
    /// Models to run besides the small ones that need no file; with --merge, JSON files
    pub files: Vec<PathBuf>,
    /// Put the machines of several JSON files side by side instead of measuring
    #[arg(long)]
    pub merge: bool,
    /// Measure every adapter
    #[arg(long, conflicts_with_all = ["device", "merge"])]
    pub all_adapters: bool,
    /// Which GPU: a number or a part of its name, as `rinfer devices` shows them
    #[arg(long, value_name = "N|NAME", conflicts_with = "merge")]
    pub device: Option<String>,
    /// Write the results as JSON into this file; - is stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report as one HTML file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Measure each for a tenth of a second instead of half a second
    #[arg(long, conflicts_with = "merge")]
    pub quick: bool,
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
}

/// `rinfer compare`
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// The model
    pub a: PathBuf,
    /// Another model; without it A is compared with itself, not optimized
    pub b: Option<PathBuf>,
    /// What they are given.
    #[command(flatten)]
    pub input: InputArgs,
    /// Where they run: one for both, or that of A and then that of B
    #[arg(long = "backend", value_enum, value_delimiter = ',', default_value = "cpu")]
    pub backends: Vec<BackendChoice>,
    /// Where B runs, if that is elsewhere
    #[arg(long, value_enum)]
    pub backend_b: Option<BackendChoice>,
    /// Which GPU: a number or a part of its name, as `rinfer devices` shows them
    #[arg(long, value_name = "N|NAME")]
    pub device: Option<String>,
    /// Use the kernels that `rinfer tune` found fastest on this GPU
    #[arg(long)]
    pub tuned: bool,
    /// In how many bits a GPU keeps floats
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionChoice,
    /// Threads of the CPU backend; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// What the models may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Stop a run after this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<f64>,
    /// Leave the graphs as they are in the file
    #[arg(long)]
    pub no_optimize: bool,
    /// How far numbers may be off.
    #[command(flatten)]
    pub tolerance: ToleranceArgs,
    /// Compare every value that both have by name; with two backends and one model, every node of
    /// the second backend, given what the first computed
    #[arg(long)]
    pub per_layer: bool,
    /// The folder for the first node over its budget; MODEL-NODE by default
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
}

/// `rinfer optimize`
#[derive(Args, Debug)]
pub struct OptimizeArgs {
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// The model
    pub model: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// Do not run both graphs on random inputs
    #[arg(long)]
    pub no_check: bool,
    /// What the check is given.
    #[command(flatten)]
    pub input: InputArgs,
    /// What the model may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// `rinfer ops`
#[derive(Args, Debug)]
pub struct OpsArgs {
    /// Print one JSON object on stdout instead of tables
    #[arg(long)]
    pub json: bool,
    /// Which operators of this model are supported, before any weight is loaded
    #[arg(long, value_name = "MODEL")]
    pub coverage: Option<PathBuf>,
    /// Print the page docs/operators.md: what was tested, by version and type
    #[arg(long, conflicts_with_all = ["json", "coverage"])]
    pub markdown: bool,
}
