//! What a model file says besides its graph.

use crate::Graph;
use crate::shape::Shape;
use crate::{Type, ValueId};

/// An input or output as the model declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Its shape, if one is declared.
    pub shape: Option<Shape>,
}

/// A model: its graph, and what the file says about it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What it computes.
    pub graph: Graph,
    /// The inputs in the graph's order.
    pub inputs: Vec<Port>,
    /// The outputs in the graph's order.
    pub outputs: Vec<Port>,
    /// Initializers that the file also lists as inputs: constants here, by name.
    pub defaults: Vec<(String, ValueId)>,
    /// The names of all `graph.input` entries of the file, defaults included, in its order.
    pub declared_inputs: Vec<String>,
    /// ONNX IR version.
    pub ir_version: i64,
    /// Operator sets: domain (empty for ai.onnx) and version.
    pub opsets: Vec<(String, i64)>,
    /// Name and version of the program that wrote the file.
    pub producer: String,
    /// The author's domain.
    pub domain: String,
    /// The author's version.
    pub version: i64,
    /// Free text.
    pub doc: String,
    /// Key–value pairs.
    pub metadata: Vec<(String, String)>,
    /// How many nodes the file has, subgraphs and functions included.
    pub file_nodes: usize,
    /// Bytes of all initializers in the file.
    pub initializer_bytes: usize,
}
