//! From [`Model`] back to `ModelProto`: numbers become names, fused operators their pieces.
//!
//! What ONNX has is written in operators of its own domains, opset 21 or as new as what is used
//! asks for. A family of operators has one function that writes it; the match in `operators.rs`
//! is the list of them. Inputs and outputs keep their names, types and symbolic sizes.

mod attention;
mod contrib;
mod control;
mod conv;
mod elementwise;
mod matmul;
mod ml;
mod moves;
mod node;
mod operators;
mod random;
mod recurrent;
mod reduce;
mod shapes;
mod strings;
mod values;
mod vision;

use std::collections::{BTreeMap, HashSet};

use rinfer_onnx_proto as pb;

use self::node::NodeOut;
use super::model::{Model, Port};
use super::tensors;
use crate::shape::Dim;
use crate::{Fact, Graph, Kind, NodeId, Reason, Tensor, Type, Value, ValueId, invalid};

/// Why a model cannot be written as ONNX.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Something about a node.
    #[error("node {node} ({op}): {reason}")]
    Node {
        /// The node's name or its first output's.
        node: String,
        /// The operator in the IR.
        op: String,
        /// What is wrong.
        reason: Reason,
    },
    /// Something about the model as a whole.
    #[error("{0}")]
    Model(Reason),
}

impl From<Reason> for ExportError {
    fn from(reason: Reason) -> ExportError {
        ExportError::Model(reason)
    }
}

/// The opset that is written unless an operator needs a newer one: what everybody reads.
const BASE_OPSET: i64 = 21;

/// Writes a model as the bytes of an ONNX file, weights included.
///
/// # Errors
/// An operator has no counterpart in ONNX, or the file would be larger than the 2 GiB that protobuf
/// allows.
pub fn export(model: &Model) -> Result<Vec<u8>, ExportError> {
    Ok(write(model, None)?.0)
}

/// Writes a model as the bytes of an ONNX file, and its weights into `data`, which the file knows
/// as the file `location` beside it.
///
/// # Errors
/// As for [`export`], or `data` cannot be written.
pub fn export_external(
    model: &Model,
    location: &str,
    data: &mut dyn std::io::Write,
) -> Result<Vec<u8>, ExportError> {
    let external = External { location: location.into(), tensors: Vec::new(), end: 0 };
    let (bytes, tensors) = write(model, Some(external))?;
    let put = |e: std::io::Error| invalid!("{location}: {e}");
    let mut end = 0;
    for (offset, tensor) in tensors {
        data.write_all(&vec![0; offset - end]).map_err(put)?;
        data.write_all(tensor.as_bytes()).map_err(put)?;
        end = offset + tensor.byte_len();
    }
    Ok(bytes)
}

/// The file, and what belongs into the file of weights beside it: where, and what.
fn write(
    model: &Model,
    external: Option<External>,
) -> Result<(Vec<u8>, Vec<(usize, Tensor)>), ExportError> {
    let mut shared =
        Shared { names: HashSet::new(), nodes: HashSet::new(), opsets: BTreeMap::new(), external };
    shared.need("", BASE_OPSET);
    let graph = main_graph(model, &mut shared)?;
    let opset = |(&domain, &version): (&&str, &i64)| pb::OperatorSetIdProto {
        domain: Some(domain.to_string()),
        version: Some(version),
    };
    let metadata = |(key, value): &(String, String)| pb::StringStringEntryProto {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    let proto = pb::ModelProto {
        ir_version: Some(ir_version(shared.opsets[""])),
        opset_import: shared.opsets.iter().map(opset).collect(),
        producer_name: Some("rinfer".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        domain: Some(model.domain.clone()),
        model_version: Some(model.version),
        doc_string: Some(model.doc.clone()),
        metadata_props: model.metadata.iter().map(metadata).collect(),
        graph: Some(graph),
        ..Default::default()
    };
    let bytes = pb::Message::encoded_len(&proto);
    if bytes > pb::MAX_BYTES {
        let text = format!("the file would have {bytes} bytes, the limit is {}", pb::MAX_BYTES);
        return Err(Reason::new(Kind::Limit, text).into());
    }
    Ok((pb::encode(&proto), shared.external.map_or(Vec::new(), |external| external.tensors)))
}

/// The IR version that came with an opset.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    }
}

/// The file of weights beside the model's.
struct External {
    location: String,
    /// Each with its place in the file.
    tensors: Vec<(usize, Tensor)>,
    end: usize,
}

impl External {
    /// Weights smaller than this stay in the model's file.
    const LEAST: usize = 1024;
    /// What a weight's place is a multiple of: a page, so that it can be mapped by itself.
    const ALIGN: usize = 4096;

    /// Gives a tensor a place; its description, which says where it stands.
    fn put(&mut self, name: &str, tensor: &Tensor) -> pb::TensorProto {
        let offset = self.end.next_multiple_of(External::ALIGN);
        let length = tensor.byte_len();
        self.end = offset + length;
        self.tensors.push((offset, tensor.clone()));
        let numbers = [("offset", offset), ("length", length)].map(|(k, n)| (k, n.to_string()));
        let entry = |(key, value): (&str, String)| pb::StringStringEntryProto {
            key: Some(key.into()),
            value: Some(value),
        };
        let entries = [("location", self.location.clone())].into_iter().chain(numbers);
        pb::TensorProto {
            name: Some(name.into()),
            dims: tensor.shape().iter().map(|&n| n as i64).collect(),
            data_type: Some(tensor.dtype().to_onnx()),
            data_location: Some(pb::tensor_proto::DataLocation::External as i32),
            external_data: entries.map(entry).collect(),
            ..Default::default()
        }
    }
}

/// What all graphs of a model share.
struct Shared {
    /// Every name of a value: ONNX wants them unique, bodies included.
    names: HashSet<String>,
    /// Every name of a node: ONNX Runtime wants them unique.
    nodes: HashSet<String>,
    opsets: BTreeMap<&'static str, i64>,
    external: Option<External>,
}

impl Shared {
    fn need(&mut self, domain: &'static str, version: i64) {
        let have = self.opsets.entry(domain).or_insert(version);
        *have = version.max(*have);
    }

    /// The name for an ONNX node that a node of this name becomes, or becomes a part of.
    fn node_name(&mut self, name: &str) -> String {
        if name.is_empty() || self.nodes.insert(name.to_string()) {
            return name.to_string();
        }
        let mut i = self.nodes.len();
        loop {
            let free = format!("{name}_{i}");
            if self.nodes.insert(free.clone()) {
                return free;
            }
            i += 1;
        }
    }

    /// `hint`, or the first of `hint_1`, `hint_2`, … that is free.
    fn name(&mut self, hint: &str) -> String {
        let hint = if hint.is_empty() { "v" } else { hint };
        let mut name = hint.to_string();
        let mut i = self.names.len();
        while !self.names.insert(name.clone()) {
            i += 1;
            name = format!("{hint}_{i}");
        }
        name
    }
}

/// A graph being written.
struct GraphOut<'a> {
    graph: &'a Graph,
    shared: &'a mut Shared,
    /// What each value is called, once somebody asked.
    names: Vec<Option<String>>,
    nodes: Vec<pb::NodeProto>,
    initializers: Vec<pb::TensorProto>,
}

fn main_graph(model: &Model, shared: &mut Shared) -> Result<pb::GraphProto, ExportError> {
    let graph = &model.graph;
    let ports = model.inputs.iter().chain(&model.outputs);
    shared.names.extend(ports.map(|p| p.name.clone()));
    let mut out = GraphOut::new(graph, shared);
    for (&v, port) in graph.inputs().iter().zip(&model.inputs) {
        out.names[v.index()] = Some(port.name.clone());
    }
    let wanted: Vec<String> = model.outputs.iter().map(|p| p.name.clone()).collect();
    let (nodes, initializers) = out.run(&wanted)?;
    Ok(pb::GraphProto {
        name: Some(if graph.name.is_empty() { "graph".into() } else { graph.name.clone() }),
        node: nodes,
        initializer: initializers,
        input: model.inputs.iter().map(port_info).collect(),
        output: model.outputs.iter().map(port_info).collect(),
        ..Default::default()
    })
}

impl<'a> GraphOut<'a> {
    fn new(graph: &'a Graph, shared: &'a mut Shared) -> GraphOut<'a> {
        let names = vec![None; graph.value_count()];
        GraphOut { graph, shared, names, nodes: Vec::new(), initializers: Vec::new() }
    }

    /// Writes every node; the outputs get the names `wanted`, which are taken already.
    fn run(
        mut self,
        wanted: &[String],
    ) -> Result<(Vec<pb::NodeProto>, Vec<pb::TensorProto>), ExportError> {
        let graph = self.graph;
        let mut copies = Vec::new();
        for (&v, name) in graph.outputs().iter().zip(wanted) {
            let made = graph.producer(v).is_some();
            // Inputs, constants and what is an output already need a node to bear the name.
            match &mut self.names[v.index()] {
                entry @ None if made => *entry = Some(name.clone()),
                Some(known) if known == name => {}
                _ => copies.push((v, name.clone())),
            }
        }
        for (id, node) in graph.nodes() {
            operators::write(&mut NodeOut::new(&mut self, node))
                .map_err(|reason| failed(graph, id, reason))?;
        }
        for (v, name) in copies {
            let from = self.name(v)?;
            self.nodes.push(pb::NodeProto {
                input: vec![from],
                output: vec![name],
                op_type: Some("Identity".into()),
                ..Default::default()
            });
        }
        Ok((self.nodes, self.initializers))
    }

    /// The name of a value; constants are written down when they are first named.
    fn name(&mut self, v: ValueId) -> Result<String, Reason> {
        if let Some(name) = &self.names[v.index()] {
            return Ok(name.clone());
        }
        let hint = self.graph.name(v).map_or("", |n| n);
        let name = self.shared.name(hint);
        self.names[v.index()] = Some(name.clone());
        if self.graph.producer(v).is_none() {
            let value = self.graph.fact(v).value();
            let value = value.ok_or_else(|| invalid!("nothing makes the value {name}"))?;
            self.constant(&name, &value)?;
        }
        Ok(name)
    }

    /// Writes a constant down: an initializer, or nodes for what no initializer can be.
    fn constant(&mut self, name: &str, value: &Value) -> Result<(), Reason> {
        match (value, &mut self.shared.external) {
            (Value::Tensor(t), Some(external)) if t.byte_len() >= External::LEAST => {
                self.initializers.push(external.put(name, t));
                Ok(())
            }
            (Value::Tensor(_) | Value::Text(_), _) => {
                self.initializers.push(tensors::to_proto(name, value)?);
                Ok(())
            }
            (other, _) => values::constant(self, name, other),
        }
    }
}

fn failed(graph: &Graph, id: NodeId, reason: Reason) -> ExportError {
    let node = graph.node(id);
    let name = match (&*node.name, node.outputs.first()) {
        ("", Some(&v)) => crate::text::name(graph, v),
        (name, _) => name.to_string(),
    };
    ExportError::Node { node: name, op: node.op.name().into(), reason }
}

fn port_info(port: &Port) -> pb::ValueInfoProto {
    let fact = Fact { ty: port.ty.clone(), shape: port.shape.clone(), known: None };
    value_info(&port.name, &fact)
}

fn value_info(name: &str, fact: &Fact) -> pb::ValueInfoProto {
    pb::ValueInfoProto {
        name: Some(name.to_string()),
        r#type: Some(type_proto(&fact.ty, fact.shape())),
        ..Default::default()
    }
}

/// A type; `shape` is that of a tensor.
fn type_proto(ty: &Type, shape: Option<&[Dim]>) -> pb::TypeProto {
    use pb::type_proto::{Map, Optional, Sequence, Tensor, Value as V};
    let inner = |of: &Type| Some(Box::new(type_proto(of, None)));
    let value = match ty {
        Type::Tensor(dtype) => V::TensorType(Tensor {
            elem_type: Some(dtype.to_onnx()),
            shape: shape.map(shape_proto),
        }),
        Type::Sequence(of) => V::SequenceType(Box::new(Sequence { elem_type: inner(of) })),
        Type::Optional(of) => V::OptionalType(Box::new(Optional { elem_type: inner(of) })),
        Type::Map(key, of) => {
            V::MapType(Box::new(Map { key_type: Some(key.to_onnx()), value_type: inner(of) }))
        }
    };
    pb::TypeProto { value: Some(value), ..Default::default() }
}

fn shape_proto(shape: &[Dim]) -> pb::TensorShapeProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value as V};
    let dim = |d: &Dim| Dimension {
        value: match d {
            Dim::N(n) => Some(V::DimValue(*n)),
            Dim::Sym(_) => Some(V::DimParam(d.to_string())),
            Dim::Unknown => None,
        },
        ..Default::default()
    };
    pb::TensorShapeProto { dim: shape.iter().map(dim).collect() }
}

#[cfg(test)]
mod tests;
