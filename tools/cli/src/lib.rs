//! The `rinfer` command as a library: what it reads, prints and compares.
//!
//! Scripts rely on the command's conventions (`docs/cli.md`); everything it does is done by the
//! crate `rinfer`, this one parses and prints.
#![forbid(unsafe_code)]

pub mod args;
pub mod compare;
pub mod context;
pub mod failure;
pub mod fill;
pub mod folder;
pub mod formats;
pub mod inputs;
pub mod outputs;
pub mod stats;
pub mod table;
pub mod verbs;
