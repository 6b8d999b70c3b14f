//! Measures one adapter: itself, then kernels against its roofs, then models.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rinfer::gpu::{Gpu, Micro};
use rinfer::{Device, Error, Event, Kind, Model, Profiler, Session, Value};
use rinfer_gpubench::{Adapter, Features, Group, Host, LimitSet, Machine, Row, Stats, Status};

use super::cases::{self, Kernel};
use crate::args::{GpubenchArgs, InputArgs, LimitArgs, PrintArgs};
use crate::context;
use crate::failure::{Code, Failure, OrFail, Result};
use crate::inputs;
use crate::stats::{numbers, short};

/// A kernel that would take longer in one dispatch is left out.
const LONGEST: f64 = 0.5;
/// What our kernels are taken to reach of the peak before one of their kind was measured.
const SHARE: f64 = 0.02;
/// A run of a model that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is timed of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timed {
    /// The GPU's nodes, where they can be timed.
    Nodes,
    /// All that the caller waits for.
    Whole,
}

struct Bench<'a> {
    device: Device,
    budget: Duration,
    machine: Machine,
    print: &'a PrintArgs,
}

/// Everything about one adapter.
pub fn machine(which: Option<String>, args: &GpubenchArgs, print: &PrintArgs) -> Result<Machine> {
    let gpu = Gpu::open(which.as_deref()).or_fail(Code::Run, "gpubench")?;
    let budget = Duration::from_millis(if args.quick { 100 } else { 500 });
    let machine = describe(&gpu, args.quick);
    context::say(print, format!("{}: {}", machine.label, machine.adapter.driver));
    let mut bench = Bench { device: Device::Gpu(which), budget, machine, print };
    for what in Micro::ALL {
        context::check_interrupt()?;
        bench.add(micro(&gpu, what, budget));
    }
    for kernel in cases::kernels() {
        context::check_interrupt()?;
        let row = bench.kernel(&kernel)?;
        bench.add(row);
    }
    for (name, text) in cases::models() {
        context::check_interrupt()?;
        let model = cases::model(text).or_fail(Code::Run, name)?;
        let given = cases::inputs(&model).or_fail(Code::Run, name)?;
        let reference = cases::model(text).or_fail(Code::Run, name)?;
        let row = bench.model(name, model, reference, given)?;
        bench.add(row);
    }
    for path in &args.files {
        context::check_interrupt()?;
        let open = || context::open(path, &LimitArgs::default(), &[]);
        let model = open()?;
        let quiet = PrintArgs { quiet: true, ..print.clone() };
        let input = InputArgs { preprocess: "unit".to_string(), ..InputArgs::default() };
        let given = inputs::gather(path, &model, &input, &quiet)?;
        let row = bench.model(&name_of(path), model, open()?, given)?;
        bench.add(row);
    }
    Ok(bench.machine)
}

/// A model's name: its file's, or its folder's if all files there are called so.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = || Some(path.parent()?.file_name()?.to_string_lossy().into_owned());
    if stem == "model" { folder().unwrap_or(stem) } else { stem }
}

fn describe(gpu: &Gpu, quick: bool) -> Machine {
    let info = gpu.info();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Machine {
        label: info.name.clone(),
        date: date(),
        rinfer: env!("CARGO_PKG_VERSION").to_string(),
        quick,
        host: Host {
            os: std::env::consts::OS.to_string(),
            arch: std::env::consts::ARCH.to_string(),
            cpu: crate::verbs::devices::processor().unwrap_or_default(),
            cores,
        },
        adapter: Adapter {
            name: info.name.clone(),
            driver: info.driver.clone(),
            backend: info.backend.clone(),
            kind: info.kind.to_string(),
        },
        features: Features {
            f16: info.f16,
            subgroups: info.subgroups,
            timestamps: info.timestamps,
            int8_dot: info.int8_dot,
            cooperative_matrix: info.cooperative_matrix.clone(),
        },
        limits: LimitSet {
            buffer_bytes: info.max_buffer,
            binding_bytes: info.max_binding,
            buffers: info.max_buffers,
            workgroup_bytes: info.workgroup_memory,
            workgroup_invocations: info.workgroup_size,
            workgroups: info.max_workgroups,
            subgroup_lanes: info.subgroup_size,
        },
        results: Vec::new(),
    }
}

/// Now, in UTC.
fn date() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, s) = ((now.as_secs() / 86400) as i64, now.as_secs() % 86400);
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant's civil_from_days).
    let z = days + 719_468;
    let (era, day) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let m = (5 * in_year + 2) / 153;
    let (d, month) = (in_year - (153 * m + 2) / 5 + 1, if m < 10 { m + 3 } else { m - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    let (h, min, sec) = (s / 3600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{d:02}T{h:02}:{min:02}:{sec:02}Z")
}

/// One microbenchmark.
fn micro(gpu: &Gpu, what: Micro, budget: Duration) -> Row {
    let (group, name, unit) = match what {
        Micro::Read => (Group::Memory, "memory read", "GB/s"),
        Micro::Copy => (Group::Memory, "memory copy", "GB/s"),
        Micro::F32 => (Group::Compute, "f32", "GFLOP/s"),
        Micro::F16 => (Group::Compute, "f16", "GFLOP/s"),
        Micro::Int8 => (Group::Compute, "int8 dot", "GOP/s"),
        Micro::Matrix => (Group::Compute, "matrix f16", "GFLOP/s"),
        Micro::Chained => (Group::Latency, "dispatch, in one pass", "µs"),
        Micro::Submits => (Group::Latency, "dispatch, submitted alone", "µs"),
        Micro::RoundTrip => (Group::Latency, "dispatch and readback", "µs"),
        Micro::Upload => (Group::Memory, "upload", "GB/s"),
        Micro::Readback => (Group::Memory, "readback", "GB/s"),
    };
    match rinfer::gpu::measure(gpu, what, budget) {
        Ok(sample) => {
            let stats = Stats::of(&sample.seconds, sample.timer);
            let mut row = Row::measured(group, name, unit, sample.work, stats);
            match group {
                Group::Memory => row.bytes = Some(sample.work),
                Group::Compute => row.flops = Some(sample.work),
                _ => {}
            }
            Row { checked: Some(sample.checked), ..row }
        }
        Err(e) => Row::without(group, name, unit, status(e.kind), e.to_string()),
    }
}

/// How a benchmark ended that ended with such an error.
fn status(kind: Kind) -> Status {
    match kind {
        Kind::Unsupported | Kind::Limit => Status::Absent,
        Kind::Internal => Status::Wrong,
        _ => Status::Failed,
    }
}

impl Bench<'_> {
    fn add(&mut self, row: Row) {
        let what = match (&row.value, &row.reason) {
            (Some(value), _) => format!("{} {}", short(*value), row.unit),
            (None, Some(reason)) => reason.clone(),
            _ => String::new(),
        };
        context::say(self.print, format!("  {}: {what}", row.name));
        self.machine.results.push(row);
    }

    fn session(&self, model: Model) -> std::result::Result<Session, Error> {
        Session::builder().device(self.device.clone()).build(model)
    }

    /// Operations per nanosecond that a kernel may be taken to reach: what the one of its kind before
    /// it did.
    fn expected(&self, kernel: &Kernel) -> Option<f64> {
        let ends = |name: &str| {
            let mut words = name.split(' ');
            (words.next().map(str::to_string), words.next_back().map(str::to_string))
        };
        let like = |row: &&Row| {
            row.group == Group::Kernel
                && row.value.is_some()
                && ends(&row.name) == ends(&kernel.name)
        };
        let before = self.machine.results.iter().rev().find(like).and_then(|row| row.value);
        before.or_else(|| Some(SHARE * self.machine.peak("f32")?))
    }

    /// One kernel: its own time, and what that is of the roofs.
    fn kernel(&self, kernel: &Kernel) -> Result<Row> {
        let (name, unit) = (&kernel.name, if kernel.dtype == "int8" { "GOP/s" } else { "GFLOP/s" });
        let without = |status, reason| Ok(Row::without(Group::Kernel, name, unit, status, reason));
        if kernel.dtype == "f16" && !self.machine.features.f16 {
            return without(Status::Absent, "the adapter has no 16-bit floats".to_string());
        }
        let (peak, rate) = (self.machine.peak(kernel.dtype), self.machine.bandwidth());
        if let Some(rate) = self.expected(kernel) {
            let seconds = kernel.flops / (rate * 1e9);
            if seconds > LONGEST {
                let text = format!("one dispatch would take about {seconds:.1} s here");
                return without(Status::Absent, text);
            }
        }
        let model = cases::model(&kernel.text).or_fail(Code::Run, name)?;
        let given = cases::inputs(&model).or_fail(Code::Run, name)?;
        let weights = model.weight_bytes();
        let session = match self.session(model) {
            Ok(session) => session,
            Err(e) => return without(status(e.kind()), e.to_string()),
        };
        let (seconds, timer, made) = match self.time(&session, &given, Timed::Nodes) {
            Ok(timed) => timed,
            Err(e) => return without(status(e.kind()), e.to_string()),
        };
        let checked = match check(kernel, &given, &made) {
            Ok(checked) => checked,
            Err(e) => return without(Status::Wrong, e),
        };
        let io = given.iter().map(|(_, v)| v).chain(&made).map(Value::byte_len).sum::<usize>();
        let bytes = (io + weights) as f64;
        let stats = Stats::of(&seconds, timer);
        let best = stats.median_ms * 1e-3;
        let row = Row::measured(Group::Kernel, name, unit, kernel.flops, stats);
        let least = [
            ("compute", peak.map(|peak| kernel.flops / (peak * 1e9))),
            ("memory", rate.map(|rate| bytes / (rate * 1e9))),
        ];
        let roof = least.into_iter().filter_map(|(roof, s)| Some((roof, s?)));
        let roof = roof.max_by(|a, b| a.1.total_cmp(&b.1));
        Ok(Row {
            flops: Some(kernel.flops),
            bytes: Some(bytes),
            roofline: roof.map(|(_, least)| least / best),
            bound: roof.map(|(roof, _)| roof.to_string()),
            checked: Some(checked),
            ..row
        })
    }

    /// Runs a session until the budget is used up: seconds, whose clock, and the outputs.
    fn time(
        &self,
        session: &Session,
        given: &[(String, Value)],
        what: Timed,
    ) -> std::result::Result<(Vec<f64>, &'static str, Vec<Value>), Error> {
        let (began, mut seconds) = (Instant::now(), Vec::new());
        let kernels = what == Timed::Nodes && self.machine.features.timestamps;
        let plain = context::run_options(None).unwrap_or_default().timeout(PATIENCE);
        // The first run makes the plan and compiles kernels.
        let mut made = session.run_with(given.to_vec(), &plain)?;
        while seconds.len() < 50 && (seconds.len() < 3 || began.elapsed() < self.budget) {
            if !seconds.is_empty() && began.elapsed() > 20 * self.budget {
                break;
            }
            let profiler = Profiler::new();
            let options = if kernels { plain.clone().profile(&profiler) } else { plain.clone() };
            let start = Instant::now();
            made = session.run_with(given.to_vec(), &options)?;
            let wall = start.elapsed();
            let nodes = |e: &&Event| e.backend == "gpu" && e.op != "Readback";
            let events = profiler.events();
            let own: Duration = events.iter().filter(nodes).map(|e| e.duration).sum();
            seconds.push(if kernels && own > Duration::ZERO { own } else { wall }.as_secs_f64());
        }
        Ok((seconds, if kernels { "gpu" } else { "host" }, made))
    }

    /// A whole model: what the caller waits, and whether the outputs are the processor's.
    fn model(
        &self,
        name: &str,
        model: Model,
        reference: Model,
        given: Vec<(String, Value)>,
    ) -> Result<Row> {
        let without = |status, reason| Ok(Row::without(Group::Model, name, "ms", status, reason));
        let macs = rinfer::graph::cost::macs(model.graph());
        let cpu =
            Session::builder().build(reference).map_err(|e| Failure::load(Path::new(name), e));
        let cpu = cpu?;
        let options = context::run_options(None)?.timeout(PATIENCE);
        let expected = match cpu.run_with(given.clone(), &options) {
            Ok(expected) => expected,
            Err(e) => return without(Status::Failed, format!("on the processor: {e}")),
        };
        let session = match self.session(model) {
            Ok(session) => session,
            Err(e) => return without(status(e.kind()), e.to_string()),
        };
        let (seconds, timer, made) = match self.time(&session, &given, Timed::Whole) {
            Ok(timed) => timed,
            Err(e) => return without(status(e.kind()), e.to_string()),
        };
        for (found, expected) in made.iter().zip(&expected) {
            if let Err(e) = near(found, expected, 2e-3) {
                return without(Status::Wrong, e);
            }
        }
        let row = Row::measured(Group::Model, name, "ms", 0.0, Stats::of(&seconds, timer));
        let flops = (macs > 0).then_some(2.0 * macs as f64);
        let checked = Some("every output against the processor's".to_string());
        Ok(Row { flops, checked, ..row })
    }
}

/// Compares a kernel's output with the processor's: all of it, or its first rows.
fn check(
    kernel: &Kernel,
    given: &[(String, Value)],
    made: &[Value],
) -> std::result::Result<String, String> {
    let text = |e: Error| format!("on the processor: {e}");
    let model = cases::model(kernel.part.as_deref().unwrap_or(&kernel.text))?;
    let part = cases::first_rows(&model, given)?;
    let session = Session::builder().build(model).map_err(text)?;
    let expected = session.run(part).map_err(text)?;
    for (found, expected) in made.iter().zip(&expected) {
        near(found, expected, kernel.tolerance)?;
    }
    Ok(match kernel.part.is_some() {
        true => "the first rows against the processor's".to_string(),
        false => "every element against the processor's".to_string(),
    })
}

/// `Err` if an element is further off than this share of the largest; `found` may go on.
fn near(found: &Value, expected: &Value, tolerance: f64) -> std::result::Result<(), String> {
    let tensor = |v: &Value| match v {
        Value::Tensor(t) => numbers(t),
        _ => None,
    };
    let (Some(a), Some(b)) = (tensor(found), tensor(expected)) else { return Ok(()) };
    let largest = b.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
    if a.len() < b.len() {
        return Err(format!("{} elements, expected {}", a.len(), b.len()));
    }
    let far = |(a, b): (&f64, &f64)| {
        let same = a == b || (a.is_nan() && b.is_nan());
        !(same || (a - b).abs() <= tolerance * largest.max(1e-6))
    };
    match a.iter().zip(&b).position(far) {
        None => Ok(()),
        Some(i) => Err(format!("the result is wrong: element {i} is {}, not {}", a[i], b[i])),
    }
}
