//! What the command does: one module per verb.

pub mod bench;
pub mod compare;
pub mod devices;
pub mod gpubench;
pub mod inspect;
mod layers;
pub mod ops;
pub mod optimize;
pub mod quantize;
mod roofline;
pub mod run;
pub mod test;
pub mod tune;

use clap::CommandFactory;

use crate::failure::Result;

/// Prints a completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut command = crate::args::Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "rinfer", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ok(())
}
