//! `--max-drop` and `--target`: the search, with the user's metric or command.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rinfer::Model;
use rinfer_quant::metric::{Goal, Metric};
use rinfer_quant::search::{Ask, Cache, Found, search as find};
use rinfer_quant::{Decision, Error, Job};

use super::{calibrate, failed};
use crate::args::PrintArgs;
use crate::failure::{Failure, Result};
use crate::formats;
use crate::quantize_args::QuantizeArgs;
use crate::samples::Data;
use crate::stats::short;

/// What is asked for; `None` if nothing is.
pub fn asked(args: &QuantizeArgs) -> Result<Option<(Metric, Goal)>> {
    let a = &args.accuracy;
    let metric = Metric::parse(a.metric.as_deref().unwrap_or("cos"));
    let metric = metric.map_err(|e| Failure::usage(format!("--metric: {e}")))?;
    let goal = match (&a.max_drop, a.target) {
        (Some(drop), _) => {
            let number = drop.strip_suffix("pp").unwrap_or(drop);
            let bad = || Failure::usage(format!("--max-drop {drop} is not 0.5pp or 0.01"));
            Goal::Drop(number.parse::<f64>().ok().filter(|x| *x >= 0.0).ok_or_else(bad)?)
        }
        (None, Some(share)) if metric == Metric::Sqnr => Goal::Least(share),
        (None, Some(share)) => Goal::Share(share),
        (None, None) if a.metric.is_some() => {
            return Err(Failure::usage("--metric: how good? --max-drop or --target"));
        }
        (None, None) => return Ok(None),
    };
    match (&metric, goal) {
        (Metric::Sqnr, Goal::Drop(_)) => {
            Err(Failure::usage("the float model has no SQNR to drop from: --target 30 is 30 dB"))
        }
        (Metric::Kl, Goal::Share(_)) => {
            Err(Failure::usage("the float model's divergence is 0: --max-drop 0.01"))
        }
        _ => Ok(Some((metric, goal))),
    }
}

/// Searches; what was measured is kept in the file that `--resume` names.
pub fn search(
    args: &QuantizeArgs,
    job: &Job,
    base: &[Decision],
    data: &Data,
    (metric, goal): (Metric, Goal),
    print: &PrintArgs,
) -> Result<Found> {
    let Some(path) = &args.model else { return Err(Failure::usage("which model?")) };
    let told = calibrate::told(print);
    let running = calibrate::running(&args.how, &told)?;
    let cache = match &args.accuracy.resume {
        Some(file) if file.exists() => {
            let json = serde_json::from_slice(&formats::read(file)?)
                .map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
            Cache::from_json(&json)
        }
        _ => Cache::default(),
    };
    let lost = RefCell::new(None);
    let keep = |cache: &Cache| {
        if let Some(file) = &args.accuracy.resume {
            let text = format!("{:#}\n", cache.to_json());
            if let Err(e) = formats::write(file, text.as_bytes(), true) {
                *lost.borrow_mut() = Some(e);
            }
        }
    };
    let measure = |model: &Model| match &metric {
        Metric::Command(command) => run_command(command, args, path, model),
        _ => Err(Error::Config("there is no command".into())),
    };
    let labels = |i: usize| data.labels(i);
    let ask = Ask {
        metric: metric.clone(),
        goal,
        command: Some(&measure),
        labels: &labels,
        budget: args.accuracy.budget.as_deref().map(duration).transpose()?,
        seed: args.data.seed,
        cache,
        keep: &keep,
    };
    let found = find(job, base, data, &running, ask).map_err(|e| failed(path, e))?;
    match lost.into_inner() {
        Some(e) => Err(e),
        None => Ok(found),
    }
}

/// What was found, in sentences.
pub fn lines(metric: &Metric, found: &Found) -> Vec<String> {
    let unit = metric.unit();
    let (float, value) = found.searched;
    let mut lines = vec![format!(
        "on the samples of the search: float {}{unit}, quantized {}{unit}: the goal {}",
        short(float),
        short(value),
        if found.reached { "holds" } else { "does not hold" }
    )];
    if let (Some((a, b)), Some(i)) = (found.held_out, found.interval) {
        lines.push(format!(
            "on those held out: float {}{unit}, quantized {}{unit}",
            short(a),
            short(b)
        ));
        if i.drop.is_finite() {
            lines.push(format!(
                "drop {}{unit}, with 95 % confidence between {} and {}",
                short(i.drop),
                short(i.low),
                short(i.high)
            ));
        }
    }
    if let Some(n) = found.samples_needed {
        lines.push(format!("so few samples do not show the goal; about {n} would"));
    }
    lines
}

/// `90s`, `10m`, `1h`.
fn duration(text: &str) -> Result<Duration> {
    let bad = || Failure::usage(format!("--budget {text} is not 90s, 10m or 1h"));
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    let number: f64 = number.parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())
}

/// Writes a model beside the output, runs the command on it, and reads the last number it prints.
fn run_command(
    command: &str,
    args: &QuantizeArgs,
    from: &Path,
    model: &Model,
) -> std::result::Result<f64, Error> {
    let said = |e: String| Error::Caller(format!("--metric cmd:{command}: {e}"));
    let output = args.output.clone().unwrap_or_else(|| from.to_path_buf());
    let file = output.with_extension(format!("try-{}.onnx", std::process::id()));
    formats::write_model(model, from, &file, true).map_err(|e| said(e.message))?;
    let quoted = format!("'{}'", file.display().to_string().replace('\'', "'\\''"));
    let line = command.replace("{model}", &quoted);
    let shell = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let made = Command::new(shell.0).arg(shell.1).arg(line).stderr(Stdio::inherit()).output();
    let _ = std::fs::remove_file(&file);
    let made = made.map_err(|e| said(e.to_string()))?;
    if !made.status.success() {
        return Err(said(format!("it ended with {}", made.status)));
    }
    let text = String::from_utf8_lossy(&made.stdout);
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    numbers.next_back().ok_or_else(|| said("it printed no number".into()))
}
