//! What can go wrong on the way to a quantized model.

use rinfer::{Kind, Reason};

/// Why a model was not quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine could not read, run or write the model.
    #[error("{0}")]
    Engine(#[from] rinfer::Error),
    /// Something about the graph.
    #[error("{0}")]
    Graph(#[from] Reason),
    /// Something about a layer.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// Its name.
        layer: String,
        /// What is wrong.
        reason: Reason,
    },
    /// What was asked for does not fit together, or not to this model.
    #[error("{0}")]
    Config(String),
    /// What was read or measured by the caller failed.
    #[error("{0}")]
    Caller(String),
}

impl Error {
    /// What kind of obstacle it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Engine(e) => e.kind(),
            Error::Graph(r) | Error::Layer { reason: r, .. } => r.kind,
            Error::Config(_) | Error::Caller(_) => Kind::Invalid,
        }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
