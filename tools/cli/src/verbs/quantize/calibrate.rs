//! `rinfer quantize calibrate`, and how the other verbs come by ranges.

use std::path::Path;

use rinfer_quant::{Job, Running, Samples};

use super::{config, failed};
use crate::args::PrintArgs;
use crate::context::{self, say};
use crate::failure::{Failure, Result};
use crate::formats;
use crate::quantize_args::{CalibrateArgs, DataArgs, HowArgs};
use crate::samples::Data;

/// Runs samples and writes what ranges activations have.
pub fn calibrate(args: &CalibrateArgs, print: &PrintArgs) -> Result<()> {
    let mut config = config::config(&args.how, &args.data)?;
    // Whatever the mode will be: a range more does no harm.
    config.mode = rinfer_quant::Mode::Static;
    let model = context::open(&args.model, &args.how.limits, &[])?;
    let Some(data) = Data::open(&model, &args.data, print)? else {
        return Err(Failure::usage("which samples? --calib"));
    };
    let mut job = Job::new(model, config).map_err(|e| failed(&args.model, e))?;
    run(&args.model, &mut job, &args.how, &data, print)?;
    let text = format!("{}\n", job.ranges_json());
    formats::write(&args.output, text.as_bytes(), args.overwrite)?;
    println!("{} values, {} samples", job.ranges.seen.len(), job.ranges.samples);
    Ok(())
}

/// How samples run.
pub fn running<'a>(how: &HowArgs, progress: &'a dyn Fn(&str, usize, usize)) -> Result<Running<'a>> {
    Ok(Running { threads: how.threads, options: context::run_options(None)?, progress })
}

/// Tells how far it is, on a terminal only.
pub fn told(print: &PrintArgs) -> impl Fn(&str, usize, usize) + use<> {
    use std::io::IsTerminal;
    let show = !print.quiet && std::io::stderr().is_terminal();
    move |what, i, n| {
        if show && (i == n || i % 8 == 0) {
            eprintln!("{what}: {i} of {n}");
        }
    }
}

fn run(
    path: &Path,
    job: &mut Job,
    how: &HowArgs,
    data: &dyn Samples,
    print: &PrintArgs,
) -> Result<()> {
    let told = told(print);
    let running = running(how, &told)?;
    job.calibrate(data, &running).map_err(|e| failed(path, e))?;
    let strange: u64 = job.ranges.seen.values().map(|o| o.strange()).sum();
    if strange > 0 {
        say(print, format!("{strange} numbers inside were NaN or infinite: left out of ranges"));
    }
    Ok(())
}

/// Gives a job its ranges, where it needs any: from a file, or from samples.
pub fn ranges(
    path: &Path,
    job: &mut Job,
    how: &HowArgs,
    args: &DataArgs,
    data: Option<&dyn Samples>,
    print: &PrintArgs,
) -> Result<()> {
    if let Some(file) = &args.ranges {
        let bad = |e: String| Failure::usage(format!("{}: {e}", file.display()));
        let json = serde_json::from_slice(&formats::read(file)?).map_err(|e| bad(e.to_string()))?;
        return job.load_ranges(&json).map_err(|e| bad(e.to_string()));
    }
    match data {
        Some(data) if job.config.mode != rinfer_quant::Mode::Half => {
            run(path, job, how, data, print)
        }
        None if job.config.needs_samples() => {
            Err(Failure::usage("this needs samples: --calib, or --ranges"))
        }
        _ => Ok(()),
    }
}
