//! The harness that every integration test and the conformance runner share.

pub mod runner;

pub use rinfer_cli::{compare, folder};
