//! What every verb needs: sessions made as the flags say, progress, the keyboard's interrupt.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rinfer::{
    CancelToken, Device, Limits, LoadOptions, Model, Precision, RunOptions, Session, SessionBuilder,
};

use crate::args::{BackendChoice, EngineArgs, LimitArgs, PrecisionChoice, PrintArgs};
use crate::failure::{Code, Failure, Result};

/// Cancelled by Ctrl-C.
static INTERRUPT: LazyLock<CancelToken> = LazyLock::new(CancelToken::new);

/// Lets Ctrl-C stop runs; a second one ends the process at once.
pub fn watch_interrupt() {
    let times = AtomicUsize::new(0);
    // Without a handler Ctrl-C ends the process, which is no worse than having none.
    let _ = ctrlc::set_handler(move || {
        if times.fetch_add(1, Ordering::Relaxed) > 0 {
            std::process::exit(Code::Interrupted as i32);
        }
        INTERRUPT.cancel();
    });
}

/// Says something on stderr, unless `--quiet`.
pub fn say(print: &PrintArgs, text: impl std::fmt::Display) {
    if !print.quiet {
        eprintln!("{text}");
    }
}

/// The limits that the flags ask for.
pub fn limits(args: &LimitArgs) -> Limits {
    let base = if args.untrusted { Limits::untrusted() } else { Limits::trusted() };
    Limits {
        model_bytes: args.max_model.unwrap_or(base.model_bytes),
        subgraph_depth: args.max_depth.unwrap_or(base.subgraph_depth),
        nodes: args.max_nodes.unwrap_or(base.nodes),
        rank: args.max_rank.unwrap_or(base.rank),
        tensor_bytes: args.max_tensor.unwrap_or(base.tensor_bytes),
        memory: args.max_memory.unwrap_or(base.memory),
        fold_value: args.max_folded.unwrap_or(base.fold_value).min(base.fold_value),
        fold_total: args.max_folded.unwrap_or(base.fold_total),
        loop_iterations: args.max_iterations.unwrap_or(base.loop_iterations),
        string_bytes: args.max_strings.unwrap_or(base.string_bytes),
        regex_bytes: args.max_regex.unwrap_or(base.regex_bytes),
        image_pixels: args.max_pixels.unwrap_or(base.image_pixels),
        ..base
    }
}

/// `NAME=N` pairs.
pub fn parse_dims(dims: &[String]) -> Result<Vec<(String, usize)>> {
    let parse = |dim: &String| {
        let (name, n) = dim.split_once('=')?;
        Some((name.to_string(), n.parse().ok()?))
    };
    dims.iter()
        .map(|dim| parse(dim).ok_or_else(|| Failure::usage(format!("--dim {dim} is not NAME=N"))))
        .collect()
}

/// Reads a model.
pub fn open(path: &Path, args: &LimitArgs, dims: &[(String, usize)]) -> Result<Model> {
    let mut options = LoadOptions::new().limits(limits(args)).mmap(!args.untrusted);
    for (name, n) in dims {
        options = options.dim(name, *n);
    }
    Model::open_with(path, &options).map_err(|e| Failure::load(path, e))
}

/// `Err` if a symbol that `--dim` names does not occur in the model as it is in the file.
pub fn check_dims(path: &Path, args: &LimitArgs, dims: &[(String, usize)]) -> Result<()> {
    if dims.is_empty() {
        return Ok(());
    }
    let model = open(path, args, &[])?;
    let ports = model.inputs().iter();
    let symbols = ports.flat_map(|p| p.shape.iter().flatten());
    let mut symbols: Vec<String> =
        symbols.filter_map(|d| d.as_symbol().map(|s| s.to_string())).collect();
    symbols.sort();
    symbols.dedup();
    match dims.iter().find(|(name, _)| !symbols.contains(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let hint = rinfer::did_you_mean(name, &symbols);
            Err(Failure::usage(format!("--dim {name}: no input has this dimension{hint}")))
        }
    }
}

/// The precision that the flags ask for.
fn precision(engine: &EngineArgs) -> Result<Precision> {
    match (engine.precision, engine.backend) {
        (PrecisionChoice::F32, _) => Ok(Precision::F32),
        (PrecisionChoice::F16, BackendChoice::Cpu) => {
            Err(Failure::usage("--precision f16 is for GPUs, --backend is cpu"))
        }
        (PrecisionChoice::F16, _) => Ok(Precision::F16),
    }
}

/// The device that the flags ask for.
pub fn device(engine: &EngineArgs, print: &PrintArgs) -> Result<Device> {
    let which = engine.device.clone();
    match engine.backend {
        BackendChoice::Cpu if which.is_some() => {
            Err(Failure::usage("--device names a GPU, --backend is cpu"))
        }
        BackendChoice::Cpu => Ok(Device::Cpu),
        BackendChoice::Gpu => Ok(Device::Gpu(which)),
        BackendChoice::GpuOrCpu => {
            if !has_gpu() {
                say(print, "no GPU adapter was found: running on the CPU");
            }
            Ok(Device::GpuOrCpu(which))
        }
    }
}

/// The kernels that `--tuned` asks for, where a GPU runs.
pub fn tuning(engine: &EngineArgs) -> Result<Option<String>> {
    let gpu = match engine.backend {
        BackendChoice::Cpu => false,
        BackendChoice::Gpu => true,
        BackendChoice::GpuOrCpu => has_gpu(),
    };
    match engine.tuned && gpu {
        true => crate::verbs::tune::tuning(engine.device.as_deref()).map(Some),
        false => Ok(None),
    }
}

#[cfg(feature = "wgpu")]
fn has_gpu() -> bool {
    !rinfer::adapters().is_empty()
}

#[cfg(not(feature = "wgpu"))]
fn has_gpu() -> bool {
    false
}

/// Makes a model ready to run as the flags say.
pub fn session(
    path: &Path,
    model: Model,
    engine: &EngineArgs,
    print: &PrintArgs,
    settings: impl FnOnce(SessionBuilder) -> SessionBuilder,
) -> Result<Session> {
    let device = device(engine, print)?;
    let bar = progress(model.info().initializer_bytes as u64, print);
    let seen = bar.clone();
    let builder = Session::builder()
        .device(device)
        .precision(precision(engine)?)
        .threads(engine.threads)
        .optimize(!engine.no_optimize)
        .limits(limits(&engine.limits))
        .on_progress(move |bytes| seen.inc(bytes as u64));
    let builder = match tuning(engine)? {
        Some(tuning) => builder.tuning(&tuning),
        None => builder,
    };
    let session = settings(builder).build(model).map_err(|e| Failure::load(path, e));
    bar.finish_and_clear();
    let session = session?;
    if print.verbose {
        for placement in session.placements() {
            eprintln!("{}: {} on {}", placement.node, placement.op, placement.backend);
        }
    }
    Ok(session)
}

/// A bar for loads that take long, on a terminal only.
fn progress(bytes: u64, print: &PrintArgs) -> Arc<ProgressBar> {
    let hidden = print.quiet || bytes < 32 << 20;
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    if let Ok(style) = ProgressStyle::with_template("loading {bar:30} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    Arc::new(bar)
}

/// `Err` once Ctrl-C was pressed.
pub fn check_interrupt() -> Result<()> {
    match INTERRUPT.is_cancelled() {
        true => Err(Failure::new(Code::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

/// Options of a run that Ctrl-C stops, and the time if one is set.
pub fn run_options(timeout: Option<f64>) -> Result<RunOptions> {
    let options = RunOptions::new().cancel(INTERRUPT.clone());
    match timeout {
        None => Ok(options),
        Some(seconds) => match Duration::try_from_secs_f64(seconds) {
            Ok(timeout) => Ok(options.timeout(timeout)),
            Err(_) => Err(Failure::usage(format!("--timeout {seconds} is no number of seconds"))),
        },
    }
}
