//! `rinfer gpubench`: what GPUs reach, what this engine reaches of it, and machines side by side.

#[cfg(feature = "wgpu")]
mod cases;
#[cfg(feature = "wgpu")]
mod measure;

use rinfer_gpubench::{Report, Status, html};

use crate::args::{GpubenchArgs, PrintArgs};
use crate::failure::{Code, Failure, OrFail, Result};
use crate::formats;
use crate::stats::short;
use crate::table::Table;

/// Measures adapters, or merges reports; exit code 1 if a result was wrong, 4 if a run failed.
pub fn gpubench(args: &GpubenchArgs, print: &PrintArgs) -> Result<()> {
    for file in args.json.iter().chain(&args.html).filter(|f| f.as_os_str() != "-") {
        if !args.overwrite && file.exists() {
            let text = format!("{} exists; --overwrite replaces it", file.display());
            return Err(Failure::usage(text));
        }
    }
    let report = if args.merge { merge(args)? } else { measured(args, print)? };
    write(&report, args)?;
    if args.json.as_ref().is_none_or(|f| f.as_os_str() != "-") {
        print!("{}", tables(&report));
    }
    if args.merge {
        return Ok(());
    }
    let rows = || report.machines.iter().flat_map(|m| &m.results);
    let count = |status| rows().filter(|row| row.status == status).count();
    match (count(Status::Wrong), count(Status::Failed)) {
        (0, 0) => Ok(()),
        (0, n) => Err(Failure::new(Code::Run, format!("{n} benchmarks failed"))),
        (n, _) => Err(Failure::new(Code::Differs, format!("{n} benchmarks gave wrong results"))),
    }
}

fn merge(args: &GpubenchArgs) -> Result<Report> {
    if args.files.is_empty() {
        return Err(Failure::usage("--merge needs JSON files that gpubench wrote"));
    }
    let read = |path: &std::path::PathBuf| {
        let text = String::from_utf8(formats::read(path)?).or_fail(Code::Usage, path.display())?;
        Report::from_json(&text).or_fail(Code::Usage, path.display())
    };
    Ok(Report::merged(args.files.iter().map(read).collect::<Result<_>>()?))
}

#[cfg(feature = "wgpu")]
fn measured(args: &GpubenchArgs, print: &PrintArgs) -> Result<Report> {
    let adapters = rinfer::adapters();
    if adapters.is_empty() {
        let text = "no GPU adapter was found: no Vulkan, Metal or DirectX 12 driver is installed";
        return Err(Failure::new(Code::Run, text));
    }
    let which: Vec<Option<String>> = match args.all_adapters {
        true => (0..adapters.len()).map(|i| Some(i.to_string())).collect(),
        false => vec![args.device.clone()],
    };
    let mut machines = Vec::new();
    for which in which {
        machines.push(measure::machine(which, args, print)?);
    }
    // Adapters of one name are told apart as those of several files are.
    Ok(Report::merged(vec![Report::new(machines)]))
}

#[cfg(not(feature = "wgpu"))]
fn measured(_: &GpubenchArgs, _: &PrintArgs) -> Result<Report> {
    Err(Failure::new(Code::Run, "this command was built without its GPU backend"))
}

fn write(report: &Report, args: &GpubenchArgs) -> Result<()> {
    if let Some(file) = &args.json {
        match file.as_os_str() == "-" {
            true => print!("{}", report.to_json()),
            false => formats::write(file, report.to_json().as_bytes(), args.overwrite)?,
        }
    }
    if let Some(file) = &args.html {
        formats::write(file, html(report).as_bytes(), args.overwrite)?;
    }
    Ok(())
}

/// A table of every machine.
fn tables(report: &Report) -> String {
    let mut text = String::new();
    for m in &report.machines {
        let (name, driver) = (&m.adapter.name, &m.adapter.driver);
        text += &format!("{}: {name}, {}, {driver}\n", m.label, m.adapter.backend);
        let head = ["benchmark", "median", "", "min ms", "p90 ms", "cv", "n", "of roof", "note"];
        let mut table = Table::new(&head);
        for row in &m.results {
            let value = row.value.map_or("-".to_string(), short);
            let mut cells = vec![row.name.clone(), value, row.unit.clone()];
            cells.extend(match &row.stats {
                Some(s) => vec![
                    short(s.min_ms),
                    short(s.p90_ms),
                    format!("{:.1} %", 100.0 * s.cv),
                    s.repetitions.to_string(),
                ],
                None => vec!["-".to_string(); 4],
            });
            cells.push(row.roofline.map_or("-".into(), |r| format!("{:.0} %", 100.0 * r)));
            cells.push(row.reason.clone().unwrap_or_default());
            table.row(cells);
        }
        text += &format!("{table}\n");
    }
    text
}
