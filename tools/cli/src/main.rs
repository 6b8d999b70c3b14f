//! The `rinfer` command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    rinfer_cli::command(std::env::args_os())
}
