//! The harness that every integration test and the conformance runner share.

pub mod compare;
pub mod folder;
pub mod runner;
