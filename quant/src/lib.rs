//! Quantized models: weights and activations in few bits, the accuracy kept.
//!
//! A [`Job`] reads a model's layers, [`Job::calibrate`] runs samples, [`Job::decide`] says what
//! each layer becomes and why, [`Job::write`] makes the model.
//!
//! ```
//! use rinfer::Model;
//! use rinfer_quant::{Config, Job, Mode};
//!
//! let model = Model::from_text("x: float[n, 64]; w: float[64, 32] = 0.5; y = MatMul(x, w); → y")?;
//! let job = Job::new(model, Config { mode: Mode::Dynamic, ..Config::default() })?;
//! let choices: Vec<_> = job.decide().into_iter().map(|d| d.choice).collect();
//! let quantized = job.write(&choices)?;
//! assert!(quantized.graph().to_string().contains("MatMulInteger"));
//! # Ok::<(), rinfer_quant::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod blocks;
pub mod calibrate;
pub mod config;
pub mod convert;
mod dynamic;
mod equalize;
mod error;
pub mod forms;
mod gptq;
mod grams;
pub mod half;
mod ladder;
pub mod layers;
pub mod metric;
pub mod observe;
mod plan;
pub mod probe;
mod products;
pub mod rebuild;
mod refine;
pub mod report;
pub mod rounding;
pub mod scheme;
pub mod search;
mod share;
pub mod smooth;
pub mod weights;
pub mod write;

pub use calibrate::{Running, Sample, Samples};
pub use config::{Config, Format, Mode, Rounding, Smooth};
pub use error::{Error, Result};
pub use forms::{Choice, Form};
pub use layers::{Layer, Left, Role};
pub use plan::{Decision, Job};
pub use report::Report;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_batches;
#[cfg(test)]
mod tests_processors;
