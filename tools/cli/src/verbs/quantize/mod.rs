//! `rinfer quantize`: a model in integers, checked, with the reason for every layer.

mod calibrate;
mod config;
mod convert;
mod diff;
mod search;
mod sensitivity;

use std::path::{Path, PathBuf};

use rinfer::{Model, Session};
use rinfer_quant::convert::to_operators;
use rinfer_quant::half::halve;
use rinfer_quant::metric::{Goal, Metric};
use rinfer_quant::report::Report;
use rinfer_quant::search::{Found, Searched};
use rinfer_quant::{Choice, Config, Decision, Error, Format, Job, Mode, Samples};

use crate::args::PrintArgs;
use crate::compare::distance;
use crate::context::{self, say};
use crate::failure::{Code, Failure, Result};
use crate::formats::{self, ending};
use crate::quantize_args::{QuantizeArgs, QuantizeVerb};
use crate::samples::Data;
use crate::stats::short;
use crate::table::Table;

/// Quantizes a model and writes it, or does what the second verb says.
pub fn quantize(args: &QuantizeArgs, print: &PrintArgs) -> Result<()> {
    match &args.verb {
        Some(QuantizeVerb::Calibrate(args)) => calibrate::calibrate(args, print),
        Some(QuantizeVerb::Sensitivity(args)) => {
            sensitivity::sensitivity(args, &PrintArgs { json: args.json, ..print.clone() })
        }
        Some(QuantizeVerb::Diff(args)) => {
            diff::diff(args, &PrintArgs { json: args.json, ..print.clone() })
        }
        Some(QuantizeVerb::Convert(args)) => convert::convert(args, print),
        None => whole(args, print),
    }
}

/// An error of the quantizer, about the model in `path`.
fn failed(path: &Path, error: Error) -> Failure {
    match error {
        Error::Engine(e) => Failure::run(path, e),
        Error::Config(text) => Failure::usage(text),
        Error::Caller(text) => Failure::usage(text),
        other => Failure::new(Code::Model, format!("{}: {other}", path.display())),
    }
}

fn whole(args: &QuantizeArgs, print: &PrintArgs) -> Result<()> {
    let Some(path) = &args.model else { return Err(Failure::usage("which model?")) };
    if let Some(output) = &args.output
        && output.exists()
        && !args.overwrite
    {
        let text = format!("{} exists; --overwrite replaces it", output.display());
        return Err(Failure::usage(text));
    }
    let config = config::config(&args.how, &args.data)?;
    let asked = search::asked(args)?;
    let model = context::open(path, &args.how.limits, &[])?;
    let data = Data::open(&model, &args.data, print)?;
    if asked.is_some() && config.mode == Mode::Half {
        return Err(Failure::usage("a search chooses among forms of integers: not with fp16"));
    }
    let mut attempt = self::attempt(args, (&model, config.clone()), &asked, data.as_ref(), print)?;
    // Balanced channels are easier to quantize: where layers had to give way, both are tried.
    let gave_way = attempt.found.as_ref().is_some_and(|(_, f)| !f.is_whole());
    if gave_way && !config.equalize && config.mode != Mode::WeightOnly {
        let config = Config { equalize: true, ..config };
        let other = self::attempt(args, (&model, config), &asked, data.as_ref(), print)?;
        if other.rank(args) > attempt.rank(args) {
            attempt = other;
        }
    }
    finish(args, path, &model, attempt, data.as_ref(), print)
}

/// A model with its layers decided, and what a search found of them.
struct Attempt {
    job: Job,
    decisions: Vec<Decision>,
    found: Option<(Metric, Found)>,
}

impl Attempt {
    /// What is better is larger: accepted before not, then the more in integers.
    fn rank(&self, args: &QuantizeArgs) -> (bool, u64) {
        let pairs = self.job.layers.iter().zip(&self.decisions);
        let integer = pairs.filter(|(_, d)| d.choice.form.is_integer()).map(|(l, _)| l.macs);
        (self.found.as_ref().is_some_and(|(_, f)| accepted(args, f)), integer.sum())
    }
}

/// Whether what was found is what was asked for.
fn accepted(args: &QuantizeArgs, found: &Found) -> bool {
    found.reached && (found.shown || args.accuracy.accept_measured)
}

fn attempt(
    args: &QuantizeArgs,
    (model, config): (&Model, Config),
    asked: &Option<(Metric, Goal)>,
    data: Option<&Data>,
    print: &PrintArgs,
) -> Result<Attempt> {
    let Some(path) = &args.model else { return Err(Failure::usage("which model?")) };
    let mut job = Job::new(model.clone(), config).map_err(|e| failed(path, e))?;
    job.watch_channels = asked.is_some();
    let half = data.map(|d| Searched(d));
    let samples: Option<&dyn Samples> = match (asked, &half) {
        (Some(_), Some(half)) => Some(half),
        _ => data.map(|d| d as &dyn Samples),
    };
    calibrate::ranges(path, &mut job, &args.how, &args.data, samples, print)?;
    let mut decisions = job.decide();
    let told = calibrate::told(print);
    let running = calibrate::running(&args.how, &told)?;
    job.refine(&mut decisions, samples, &running).map_err(|e| failed(path, e))?;
    let found = match (asked, data) {
        (None, _) => None,
        (Some(_), None) => return Err(Failure::usage("a search needs samples: --calib")),
        (Some((metric, goal)), Some(data)) => {
            let asked = (metric.clone(), *goal);
            let found = search::search(args, &job, &decisions, data, asked, print)?;
            decisions = found.decisions.clone();
            Some((metric.clone(), found))
        }
    };
    Ok(Attempt { job, decisions, found })
}

/// Writes and checks what was decided, and says so.
fn finish(
    args: &QuantizeArgs,
    path: &Path,
    model: &Model,
    Attempt { job, decisions, found }: Attempt,
    data: Option<&Data>,
    print: &PrintArgs,
) -> Result<()> {
    let mut report = Report::new(&path.display().to_string(), &job, &decisions);
    let quantized = write_job(path, &job, &decisions, &mut report)?;
    if let Some((metric, found)) = &found {
        report.search = Some(found.to_json());
        report.accuracy = search::lines(metric, found);
    }
    let partial = found.as_ref().is_some_and(|(_, f)| !accepted(args, f));
    if let Some(output) = &args.output
        && !args.dry_run
    {
        let output = if partial { with_partial(output) } else { output.clone() };
        // The weights were read; what is written need not stand in memory beside them.
        model.release();
        let before = std::fs::metadata(path).map_or(0, |m| m.len()) as usize;
        let bytes = formats::write_model(&quantized, path, &output, args.overwrite)?;
        report.bytes = Some((before, bytes));
        drop(quantized);
        if !args.no_check {
            report.accuracy.extend(check(args, model, &output, data)?);
        }
    }
    write_reports(args, &report)?;
    show(&report, print);
    match partial {
        false => Ok(()),
        true => {
            let text = "the goal was not shown to hold; what came nearest has the ending .partial";
            Err(Failure::new(Code::Differs, text))
        }
    }
}

/// The model as decided, in the format that is asked for.
fn write_job(path: &Path, job: &Job, decisions: &[Decision], report: &mut Report) -> Result<Model> {
    let failed = |e| failed(path, e);
    if job.config.mode == Mode::Half {
        let keep = |name: &str, op: &str| job.config.excluded_name(name, op);
        let halved = halve(&job.model, &keep).map_err(failed)?;
        report.halved(&halved.kept);
        return Ok(halved.model);
    }
    let choices: Vec<Choice> = decisions.iter().map(|d| d.choice.clone()).collect();
    let quantized = job.write(&choices).map_err(failed)?;
    match job.config.format {
        Some(Format::QOperator) => to_operators(&quantized).map_err(failed),
        _ => Ok(quantized),
    }
}

/// `q.onnx.partial`
fn with_partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Reads what was written; where there are samples, runs it beside the original on one.
fn check(
    args: &QuantizeArgs,
    model: &Model,
    output: &Path,
    data: Option<&Data>,
) -> Result<Vec<String>> {
    let written = Model::open(output).map_err(|e| Failure::load(output, e))?;
    let Some(data) = data else { return Ok(Vec::new()) };
    let sample = data.get(0).map_err(|e| failed(output, e))?;
    let options = context::run_options(None)?;
    let run = |model: Model| {
        let session = Session::builder().threads(args.how.threads).build(model);
        let session = session.map_err(|e| Failure::load(output, e))?;
        session.run_with(sample.clone(), &options).map_err(|e| Failure::run(output, e))
    };
    let names: Vec<String> = model.outputs().iter().map(|p| p.name.clone()).collect();
    let (want, got) = (run(model.clone())?, run(written)?);
    let mut lines = Vec::new();
    for ((name, want), got) in names.iter().zip(&want).zip(&got) {
        if let Some(d) = distance(got, want) {
            lines
                .push(format!("{name}: cosine {} to the float model, one sample", short(d.cosine)));
        }
    }
    Ok(lines)
}

fn write_reports(args: &QuantizeArgs, report: &Report) -> Result<()> {
    for path in &args.report {
        let text = match ending(path).as_str() {
            "json" => format!("{:#}\n", report.to_json()),
            "html" => report.to_html(),
            other => {
                return Err(Failure::usage(format!("a report ending in {other:?}: json, html")));
            }
        };
        formats::write(path, text.as_bytes(), args.overwrite)?;
    }
    Ok(())
}

fn show(report: &Report, print: &PrintArgs) {
    if print.json {
        println!("{}", report.to_json());
        return;
    }
    let mut table = Table::new(&["layer", "op", "became", "why", "weights"]);
    for r in &report.rows {
        table.row([
            r.name.clone(),
            r.op.clone(),
            r.form.clone(),
            r.why.clone(),
            r.weights.to_string(),
        ]);
    }
    print!("{table}");
    let kept = report.rows.iter().filter(|r| r.form == "float").count();
    println!("layers   {} quantized, {kept} kept", report.rows.len() - kept);
    println!("integers {:.1} % of multiply–accumulate steps", 100.0 * report.integer_share());
    if let Some((before, after)) = report.bytes {
        println!(
            "bytes    {before} → {after} ({:.1} %)",
            100.0 * after as f64 / before.max(1) as f64
        );
    }
    for line in &report.accuracy {
        say(&PrintArgs { quiet: false, ..print.clone() }, line);
    }
}
