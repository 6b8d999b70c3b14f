//! What can go wrong between a file and its outputs.

use std::path::PathBuf;

use rinfer_graph::onnx::{ExportError, ImportError};
use rinfer_graph::{Kind, Reason};

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The model is malformed, or asks for something that is not supported.
    #[error("{0}")]
    Import(#[from] ImportError),
    /// The model cannot be written as ONNX.
    #[error("{0}")]
    Export(ExportError),
    /// The model was changed into something that breaks an invariant: a defect of this engine.
    #[error("{0}")]
    Internal(String),
    /// A node could not be made ready, or could not run.
    #[error("node {node} ({op}): {reason}{}", show_facts(facts))]
    Node {
        /// Its name, names of the nodes around it before it.
        node: String,
        /// Its operator.
        op: String,
        /// What it reads.
        facts: Vec<String>,
        /// What is wrong.
        reason: Reason,
    },
    /// An input is missing, unknown, or of the wrong type or shape.
    #[error("input {name:?}: {reason}")]
    Input {
        /// The input's name.
        name: String,
        /// What is wrong.
        reason: Reason,
    },
    /// An output that was asked for does not exist.
    #[error("output {name:?}: {reason}")]
    Output {
        /// The output's name.
        name: String,
        /// What is wrong.
        reason: Reason,
    },
    /// The model as a whole asks for more than a limit allows.
    #[error("{0}")]
    Model(Reason),
    /// A mapped file of weights was cut short while it was in use.
    #[error("the model's file was truncated while it was in use")]
    Lost,
    /// An option cannot be met: an instruction set that the machine lacks, too many threads.
    #[error("{0}")]
    Option(Reason),
}

/// Does what loads a model. A panic is an error: a defect of this engine must not end the process
/// of whoever meets it.
pub(crate) fn guarded<R>(f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    // What was being built is dropped, and nothing else was touched.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or_else(|payload| {
        let reason = Reason::of_panic(payload.as_ref());
        match reason.kind {
            Kind::Internal => Err(Error::Internal(reason.text.into_owned())),
            _ => Err(Error::Model(reason)),
        }
    })
}

fn show_facts(facts: &[String]) -> String {
    if facts.is_empty() { String::new() } else { format!("; inputs {}", facts.join(", ")) }
}

impl Error {
    /// What kind of obstacle it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Import(e) => e.reason().map_or(Kind::Invalid, |r| r.kind),
            Error::Node { reason, .. }
            | Error::Input { reason, .. }
            | Error::Output { reason, .. }
            | Error::Model(reason)
            | Error::Option(reason) => reason.kind,
            Error::Export(_) => Kind::Unsupported,
            Error::Io { .. } | Error::Lost => Kind::Invalid,
            Error::Internal(_) => Kind::Internal,
        }
    }
}
