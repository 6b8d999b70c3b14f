//! The `rinfer` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use rinfer_cli::args::{Cli, PrintArgs, Verb};
use rinfer_cli::{context, print, verbs};

fn main() -> ExitCode {
    // clap itself exits with 2 on a wrong command line and with 0 for help.
    let cli = Cli::parse();
    context::watch_interrupt();
    let quiet = cli.print;
    let how = |json: bool| PrintArgs { json, ..quiet.clone() };
    let result = match cli.verb {
        Verb::Run(args) => verbs::run::run(&args, &how(args.json)),
        Verb::Test(args) => verbs::test::test(&args, &how(false)),
        Verb::Inspect(args) => verbs::inspect::inspect(&args, &how(args.json)),
        Verb::Bench(args) => verbs::bench::bench(&args, &how(args.json)),
        Verb::Compare(args) => verbs::compare::compare(&args, &how(args.json)),
        Verb::Optimize(args) => verbs::optimize::optimize(&args, &how(args.json)),
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
