//! The `rinfer` command as a library: what it reads, prints and compares.
//!
//! Scripts rely on the command's conventions (`docs/cli.md`); everything it does is done by the
//! crate `rinfer`, this one parses and prints.
#![forbid(unsafe_code)]

/// Text on stdout. Shadows the standard macro, which panics when a pipe's reader is gone.
macro_rules! print {
    ($($what:tt)*) => { $crate::print::text(format_args!($($what)*)) };
}

/// A line on stdout, likewise.
macro_rules! println {
    ($($what:tt)*) => { $crate::print::text(format_args!("{}\n", format_args!($($what)*))) };
}

/// A line on stderr. Shadows the standard macro, which panics when nobody can read it.
macro_rules! eprintln {
    ($($what:tt)*) => { $crate::print::error_line(format_args!($($what)*)) };
}

pub mod args;
pub mod compare;
pub mod context;
pub mod failure;
pub mod fill;
pub mod folder;
pub mod formats;
pub mod inputs;
pub mod outputs;
pub mod print;
pub mod quantize_args;
pub mod samples;
pub mod stats;
pub mod table;
pub mod tested;
pub mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, PrintArgs, Verb};

/// Does what the command line says; the exit code.
pub fn command(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // clap itself exits with 2 on a wrong command line and with 0 for help.
    let cli = Cli::parse_from(args);
    context::watch_interrupt();
    let quiet = cli.print;
    let how = |json: bool| PrintArgs { json, ..quiet.clone() };
    let result = match cli.verb {
        Verb::Run(args) => verbs::run::run(&args, &how(args.json)),
        Verb::Test(args) => verbs::test::test(&args, &how(false)),
        Verb::Inspect(args) => verbs::inspect::inspect(&args, &how(args.json)),
        Verb::Bench(args) => verbs::bench::bench(&args, &how(args.json)),
        Verb::Gpubench(args) => verbs::gpubench::gpubench(&args, &how(false)),
        Verb::Tune(args) => verbs::tune::tune(&args, &how(args.json)),
        Verb::Compare(args) => verbs::compare::compare(&args, &how(args.json)),
        Verb::Optimize(args) => verbs::optimize::optimize(&args, &how(args.json)),
        Verb::Quantize(args) => verbs::quantize::quantize(&args, &how(args.json)),
        Verb::Devices { json } => verbs::devices::devices(&how(json)),
        Verb::Ops(args) => verbs::ops::ops(&args, &how(args.json)),
        Verb::Completions { shell } => verbs::completions(shell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                print::error_line(format_args!("rinfer: {failure}"));
            }
            ExitCode::from(failure.code as u8)
        }
    }
}
