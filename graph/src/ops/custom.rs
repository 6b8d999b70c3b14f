//! Operators that a user of the library brings along.
use std::fmt;
use std::sync::Arc;

use super::Inputs;
use crate::onnx::NodeCx;
use crate::{Facts, Reason, Value};

/// An operator that is not one of ONNX's: what it is called, what it does to facts, how it runs.
///
/// It runs on the host; its inputs are complete values and it returns complete values.
pub trait CustomOp: Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// The operator as one node has it, made of the node's attributes (`node.int("axis")?`); `None`,
    /// the default, is this one as it is. An attribute that is not asked for is an error.
    fn for_node(&self, node: &NodeCx<'_>) -> Result<Option<Arc<dyn CustomOp>>, Reason> {
        let _ = node;
        Ok(None)
    }

    /// The facts of its outputs. A shape that depends on the inputs' content may be left unknown.
    fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason>;

    /// Computes the outputs. Omitted inputs are `None`.
    fn run(&self, inputs: &[Option<Value>]) -> Result<Vec<Value>, Reason>;

    /// Whether equal inputs always give equal outputs; if not, it is never folded or merged.
    fn deterministic(&self) -> bool {
        true
    }
}

/// A [`CustomOp`] as an operator of the IR.
#[derive(Clone)]
pub struct Custom(pub Arc<dyn CustomOp>);

impl Custom {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        self.0.infer(inputs)
    }
}

impl PartialEq for Custom {
    /// The same object.
    fn eq(&self, other: &Custom) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Custom({} at {:p})", self.0.name(), Arc::as_ptr(&self.0))
    }
}
