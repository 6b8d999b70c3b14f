//! Writes the hostile models into a folder and runs a command on each of them.
//!
//! hostile FOLDER RINFER [FLAGS…]: `RINFER run FOLDER/CASE/model.onnx FLAGS…`, 6 GB of address
//! space and 12 seconds each; a line for each that does not end as it must within 2 seconds.
//! hostile --as-rinfer ARGS…: is the command `rinfer` itself, for the tests.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rinfer_tests::hostile::{cases, run};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|a| a.to_str()) {
        Some("--as-rinfer") => rinfer_cli::command(args),
        Some(root) if args.len() > 1 => check(Path::new(root), &args[1], &args[2..]),
        _ => {
            eprintln!("hostile FOLDER RINFER [FLAGS…]");
            ExitCode::from(2)
        }
    }
}

fn check(root: &Path, rinfer: &OsStr, flags: &[OsString]) -> ExitCode {
    let (mut bad, mut slowest) = (0, Duration::ZERO);
    let cases = cases();
    for case in &cases {
        let path = case.write(root).expect("the folder can be written");
        let mut command = vec![rinfer, OsStr::new("run"), path.as_os_str()];
        command.extend(flags.iter().map(OsString::as_os_str));
        command.extend(case.args.iter().map(OsStr::new));
        let ending = run(&command, Duration::from_secs(12)).expect("a shell can be started");
        slowest = slowest.max(ending.time);
        if let Some(complaint) = ending.complaint(case.expect, Duration::from_secs(2)) {
            println!("{}: {complaint}", case.name);
            bad += 1;
        } else if std::env::var_os("VERBOSE").is_some() {
            println!("{}: {:?} {}", case.name, ending.code, ending.stderr.trim());
        }
    }
    println!("{} cases, {bad} do not end as they must, the slowest took {slowest:?}", cases.len());
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
