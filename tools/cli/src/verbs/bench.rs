//! `rinfer bench`: how long a model takes to load and to run.
//!
//! Every combination of model, backend and batch is measured in turn, round by round, so that a
//! machine that slows down slows all of them; times are of whole runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rinfer::{Model, Session};
use serde_json::{Value as Json, json};

use crate::args::{BackendChoice, BenchArgs, EngineArgs, InputArgs, PrecisionChoice, PrintArgs};
use crate::context;
use crate::failure::{Code, Failure, OrFail, Result};
use crate::formats::{self, ending};
use crate::inputs::{self, Inputs};
use crate::stats::{Times, peak_rss, short};
use crate::table::Table;
use crate::verbs::roofline;

/// One combination that is measured.
struct Case {
    model: String,
    backend: &'static str,
    batch: usize,
    session: Session,
    inputs: Inputs,
    load_ms: f64,
    first_ms: f64,
    times: Vec<f64>,
    /// Wall time of the measured rounds.
    wall: Duration,
}

/// Measures models, or one operator.
pub fn bench(args: &BenchArgs, print: &PrintArgs) -> Result<()> {
    if args.device.is_some() && args.backends.iter().all(|&b| b == BackendChoice::Cpu) {
        return Err(Failure::usage("--device names a GPU, --backend is cpu"));
    }
    let mut cases = Vec::new();
    for &backend in &args.backends {
        for batch in batches(args) {
            if let Some(op) = &args.op {
                let model = op_model(op)?;
                cases.push(case(Path::new(op), Some(model), backend, batch, args, print)?);
            }
            for path in &args.models {
                cases.push(case(path, None, backend, batch, args, print)?);
            }
        }
    }
    if cases.is_empty() {
        return Err(Failure::usage("name a model, or an operator with --op"));
    }
    measure(&mut cases, args)?;
    report(&cases, args, print)?;
    for case in cases.iter().filter(|_| args.profile) {
        let peak = match case.backend {
            "cpu" => {
                let peak = rinfer::peak(case.session.isa(), args.threads);
                Some(peak.or_fail(Code::Run, "measuring the peak")?)
            }
            "gpu" => gpu_peak(args.device.as_deref())?,
            // Nodes of both would need two rows of limits.
            _ => None,
        };
        let table = roofline::table(&case.session, &case.inputs, peak)?;
        context::say(print, format!("\n{} {}\n{table}", case.model, case.backend));
    }
    Ok(())
}

/// What the GPU reaches at most in f32, and of its memory.
#[cfg(feature = "wgpu")]
fn gpu_peak(which: Option<&str>) -> Result<Option<rinfer::Peak>> {
    use rinfer::gpu::{Gpu, Micro, measure};
    let what = "measuring the peak";
    let gpu = Gpu::open(which).or_fail(Code::Run, what)?;
    let rate = |micro| {
        let sample = measure(&gpu, micro, Duration::from_millis(100)).or_fail(Code::Run, what)?;
        let best = sample.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(1e-9 * sample.work / best)
    };
    let gbytes = f64::max(rate(Micro::Read)?, rate(Micro::Copy)?);
    Ok(Some(rinfer::Peak { gflops: rate(Micro::F32)?, gbytes }))
}

#[cfg(not(feature = "wgpu"))]
fn gpu_peak(_: Option<&str>) -> Result<Option<rinfer::Peak>> {
    Ok(None)
}

/// The batches that are asked for; `None` takes the inputs as they come.
fn batches(args: &BenchArgs) -> Vec<Option<usize>> {
    match &args.batch[..] {
        [] => vec![None],
        sizes => sizes.iter().copied().map(Some).collect(),
    }
}

/// Loads one combination and runs it once.
fn case(
    path: &Path,
    model: Option<Model>,
    backend: BackendChoice,
    batch: Option<usize>,
    args: &BenchArgs,
    print: &PrintArgs,
) -> Result<Case> {
    let began = Instant::now();
    let mut dims = context::parse_dims(&args.input.dims)?;
    let model = match model {
        Some(model) => model,
        None => {
            context::check_dims(path, &args.limits, &dims)?;
            let model = context::open(path, &args.limits, &dims)?;
            match (batch, batch_symbol(&model)) {
                (Some(batch), Some(symbol)) => dims.push((symbol, batch)),
                (Some(batch), None) if batch != 1 => {
                    let text =
                        format!("{}: no input has a symbolic first dimension", path.display());
                    return Err(Failure::usage(text));
                }
                _ => {}
            }
            context::open(path, &args.limits, &dims)?
        }
    };
    let quiet = PrintArgs { quiet: true, ..print.clone() };
    let fixed = dims.iter().map(|(name, n)| format!("{name}={n}")).collect();
    let input = InputArgs { dims: fixed, ..args.input.clone() };
    let given = inputs::gather(path, &model, &input, &quiet)?;
    let batch = batch.or_else(|| given.first()?.1.shape()?.first().copied()).unwrap_or(1);
    let engine = EngineArgs {
        backend,
        device: args.device.clone().filter(|_| backend != BackendChoice::Cpu),
        tuned: args.tuned,
        precision: PrecisionChoice::F32,
        threads: args.threads,
        limits: args.limits.clone(),
        timeout: None,
        no_optimize: args.no_optimize,
    };
    let session = context::session(path, model, &engine, print, |builder| builder)?;
    let load_ms = ms(began.elapsed());
    let began = Instant::now();
    session.run(given.clone()).map_err(|e| Failure::run(path, e))?;
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Case {
        model: if args.op.is_some() { path.display().to_string() } else { name },
        backend: match backend {
            BackendChoice::Cpu => "cpu",
            BackendChoice::Gpu => "gpu",
            BackendChoice::GpuOrCpu => "gpu-or-cpu",
        },
        batch,
        session,
        inputs: given,
        load_ms,
        first_ms: ms(began.elapsed()),
        times: Vec::new(),
        wall: Duration::ZERO,
    })
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// The symbol that is the first dimension of the first input that has one.
fn batch_symbol(model: &Model) -> Option<String> {
    let mut firsts = model.inputs().iter().filter_map(|p| p.shape.as_ref()?.first());
    firsts.find_map(|d| d.as_symbol()).map(|s| s.to_string())
}

/// A model of one operator: `MatMul:1x128x768:768x3072:f32`.
fn op_model(spec: &str) -> Result<Model> {
    let parts: Vec<&str> = spec.split(':').collect();
    let [op, shapes @ .., dtype] = parts.as_slice() else {
        return Err(Failure::usage(format!("--op {spec} is not OP:SHAPE:…:DTYPE")));
    };
    let dtype = match *dtype {
        "f32" => "float",
        "f16" => "float16",
        "bf16" => "bfloat16",
        "f64" => "double",
        "i32" => "int32",
        "i64" => "int64",
        "i8" => "int8",
        "u8" => "uint8",
        other => other,
    };
    let mut text = String::new();
    let mut names = Vec::new();
    for (i, shape) in shapes.iter().enumerate() {
        text.push_str(&format!("x{i}: {dtype}[{}]\n", shape.replace('x', ", ")));
        names.push(format!("x{i}"));
    }
    text.push_str(&format!("y = {op}({})\n→ y\n", names.join(", ")));
    Model::from_text(&text).or_fail(Code::Usage, format!("--op {spec}"))
}

/// Warms up, then measures in rounds until every case had its share.
fn measure(cases: &mut [Case], args: &BenchArgs) -> Result<()> {
    let seconds =
        |s: f64| Duration::try_from_secs_f64(s).or_fail(Code::Usage, format!("{s} seconds"));
    let (warmup, duration) = (seconds(args.warmup)?, seconds(args.duration)?);
    let options = context::run_options(None)?;
    for case in cases.iter() {
        let began = Instant::now();
        while began.elapsed() < warmup {
            run(case, &options)?;
        }
    }
    const ROUNDS: u32 = 10;
    for round in 0..ROUNDS {
        for case in cases.iter_mut() {
            let share = |n: usize| {
                n * (round as usize + 1) / ROUNDS as usize - n * round as usize / ROUNDS as usize
            };
            let runs = args.runs.map(share);
            let (times, wall) =
                burst(case, runs, duration / ROUNDS, args.concurrency.max(1), &options)?;
            case.times.extend(times);
            case.wall += wall;
        }
    }
    Ok(())
}

fn run(case: &Case, options: &rinfer::RunOptions) -> Result<()> {
    let done = case.session.run_with(case.inputs.clone(), options);
    done.map(drop).map_err(|e| Failure::run(&PathBuf::from(&case.model), e))
}

/// Runs on several threads until the time or the number of runs is reached.
fn burst(
    case: &Case,
    runs: Option<usize>,
    time: Duration,
    threads: usize,
    options: &rinfer::RunOptions,
) -> Result<(Vec<f64>, Duration)> {
    let began = Instant::now();
    let worker = |i: usize| -> Result<Vec<f64>> {
        let mine = runs.map(|n| n / threads + usize::from(i < n % threads));
        let mut times = Vec::new();
        while mine.map_or(times.is_empty() || began.elapsed() < time, |n| times.len() < n) {
            let start = Instant::now();
            run(case, options)?;
            times.push(ms(start.elapsed()));
        }
        Ok(times)
    };
    let all = std::thread::scope(|scope| {
        let worker = &worker;
        let handles: Vec<_> = (0..threads).map(|i| scope.spawn(move || worker(i))).collect();
        let join = |h: std::thread::ScopedJoinHandle<'_, Result<Vec<f64>>>| {
            h.join().unwrap_or_else(|_| Err(Failure::new(Code::Run, "a run panicked")))
        };
        handles.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    Ok((all.concat(), began.elapsed()))
}

fn to_json(case: &Case, args: &BenchArgs) -> Json {
    let t = Times::new(case.times.clone());
    json!({
        "model": case.model, "backend": case.backend, "threads": threads(args), "batch": case.batch,
        "load_ms": case.load_ms, "first_run_ms": case.first_ms, "runs": t.count(),
        "min_ms": t.quantile(0.0), "median_ms": t.quantile(0.5), "p90_ms": t.quantile(0.9),
        "p99_ms": t.quantile(0.99), "stddev_ms": t.stddev(), "peak_rss_bytes": peak_rss(),
        "concurrency": args.concurrency, "isa": case.session.isa(),
        "items_per_second": (t.count() * case.batch) as f64 / case.wall.as_secs_f64(),
    })
}

fn threads(args: &BenchArgs) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if args.threads == 0 { cores() } else { args.threads }
}

fn table(cases: &[Case]) -> Table {
    let mut table = Table::new(&[
        "model",
        "backend",
        "batch",
        "load ms",
        "first ms",
        "runs",
        "min ms",
        "median ms",
        "p90 ms",
        "p99 ms",
        "σ ms",
        "items/s",
        "ratio",
    ]);
    let first = cases.first().map_or(f64::NAN, |c| Times::new(c.times.clone()).quantile(0.5));
    for case in cases {
        let t = Times::new(case.times.clone());
        let throughput = (t.count() * case.batch) as f64 / case.wall.as_secs_f64();
        let mut row = vec![case.model.clone(), case.backend.to_string(), case.batch.to_string()];
        row.extend([case.load_ms, case.first_ms].map(short));
        row.push(t.count().to_string());
        row.extend([0.0, 0.5, 0.9, 0.99].map(|q| short(t.quantile(q))));
        row.extend([t.stddev(), throughput, t.quantile(0.5) / first].map(short));
        table.row(row);
    }
    table
}

fn report(cases: &[Case], args: &BenchArgs, print: &PrintArgs) -> Result<()> {
    let json = Json::Array(cases.iter().map(|c| to_json(c, args)).collect());
    let table = table(cases);
    let text = |format: &str| match format {
        "json" => Some(format!("{json:#}\n")),
        "csv" => Some(table.csv()),
        "md" => Some(table.markdown()),
        _ => None,
    };
    if let Some(export) = &args.export {
        if let Some(text) = text(export) {
            print!("{text}");
            return Ok(());
        }
        let path = Path::new(export);
        let text = text(&ending(path))
            .ok_or_else(|| Failure::usage(format!("--export {export} is no json, csv or md")))?;
        formats::write(path, text.as_bytes(), true)?;
    }
    if print.json {
        println!("{json}");
    } else {
        print!("{table}");
        if let Some(bytes) = peak_rss() {
            println!(
                "peak memory {:.1} MiB, {} threads",
                bytes as f64 / (1 << 20) as f64,
                threads(args)
            );
        }
    }
    Ok(())
}
