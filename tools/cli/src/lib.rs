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
pub mod stats;
pub mod table;
pub mod tested;
pub mod verbs;
