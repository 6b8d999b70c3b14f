//! The border to ONNX: the only module that knows protobuf.

mod attrs;
mod census;
mod export;
pub mod external;
mod import;
mod model;
mod node;
mod order;
mod parse;
pub mod tensors;
pub mod values;

pub use export::{ExportError, export, export_external};
pub use external::{ExternalData, Files, NoExternalData};
pub use import::{CustomOps, ImportError, ImportOptions, import};
pub use model::{Model, Port};
pub use node::{NodeCx, Outputs};
pub use order::operators;
pub use parse::{parse, parse_with};

/// The newest version of the default operator set that is known.
pub const NEWEST_OPSET: i64 = 28;
