//! What an operator's export function sees of its node, and how it writes ONNX nodes from it.

use rinfer_onnx_proto as pb;
use rinfer_onnx_proto::attribute_proto::AttributeType as Ty;

use super::super::tensors;
use super::GraphOut;
use crate::{DType, Fact, Node, Reason, Tensor, Value, ValueId, invalid};

/// Attributes of an ONNX node.
pub(super) type Attrs = Vec<pb::AttributeProto>;

fn attribute(name: &str, ty: Ty) -> pb::AttributeProto {
    pb::AttributeProto {
        name: Some(name.to_string()),
        r#type: Some(ty as i32),
        ..Default::default()
    }
}

/// Attribute of type INT.
pub(super) fn int(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { i: Some(i), ..attribute(name, Ty::Int) }
}

/// Attribute of type INT that says yes or no.
pub(super) fn flag(name: &str, on: impl Into<bool>) -> pb::AttributeProto {
    int(name, i64::from(on.into()))
}

/// Attribute of type FLOAT.
pub(super) fn float(name: &str, f: f32) -> pb::AttributeProto {
    pb::AttributeProto { f: Some(f), ..attribute(name, Ty::Float) }
}

/// Attribute of type FLOATS.
pub(super) fn floats(name: &str, floats: &[f32]) -> pb::AttributeProto {
    pb::AttributeProto { floats: floats.to_vec(), ..attribute(name, Ty::Floats) }
}

/// Attribute of type STRINGS.
pub(super) fn strings(name: &str, strings: &[&str]) -> pb::AttributeProto {
    let strings = strings.iter().map(|s| s.as_bytes().to_vec().into()).collect();
    pb::AttributeProto { strings, ..attribute(name, Ty::Strings) }
}

/// Attribute of type STRING.
pub(super) fn string(name: &str, s: &str) -> pb::AttributeProto {
    pb::AttributeProto { s: Some(s.as_bytes().to_vec().into()), ..attribute(name, Ty::String) }
}

/// Attribute of type INTS.
pub(super) fn ints(name: &str, ints: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto { ints: ints.to_vec(), ..attribute(name, Ty::Ints) }
}

/// Attribute of type INTS, from sizes.
pub(super) fn sizes(name: &str, sizes: &[usize]) -> pb::AttributeProto {
    ints(name, &sizes.iter().map(|&n| n as i64).collect::<Vec<_>>())
}

/// Attribute of type GRAPH.
pub(super) fn graph(name: &str, g: pb::GraphProto) -> pb::AttributeProto {
    pb::AttributeProto { g: Some(g), ..attribute(name, Ty::Graph) }
}

/// Attribute of type TYPE_PROTO.
pub(super) fn type_attr(name: &str, tp: pb::TypeProto) -> pb::AttributeProto {
    pb::AttributeProto { tp: Some(tp), ..attribute(name, Ty::TypeProto) }
}

/// Attribute of type TENSOR.
pub(super) fn tensor(name: &str, t: pb::TensorProto) -> pb::AttributeProto {
    pb::AttributeProto { t: Some(t), ..attribute(name, Ty::Tensor) }
}

/// One node being written.
pub(super) struct NodeOut<'g, 'a> {
    pub graph: &'g mut GraphOut<'a>,
    pub node: &'a Node,
}

impl<'g, 'a> NodeOut<'g, 'a> {
    pub fn new(graph: &'g mut GraphOut<'a>, node: &'a Node) -> NodeOut<'g, 'a> {
        NodeOut { graph, node }
    }

    /// What is known of input `i`; `Err` if it is omitted.
    pub fn fact(&self, i: usize) -> Result<&'a Fact, Reason> {
        let v = self.node.inputs.get(i).copied().flatten();
        Ok(self.graph.graph.fact(v.ok_or_else(|| invalid!("input {i} is missing"))?))
    }

    /// Whether input `i` is given.
    pub fn has(&self, i: usize) -> bool {
        self.node.inputs.get(i).is_some_and(Option::is_some)
    }

    /// What is known of output `i`.
    pub fn made(&self, i: usize) -> &'a Fact {
        self.graph.graph.fact(self.node.outputs[i])
    }

    /// The name of input `i`; empty if it is omitted.
    pub fn input(&mut self, i: usize) -> Result<String, Reason> {
        match self.node.inputs.get(i).copied().flatten() {
            Some(v) => self.graph.name(v),
            None => Ok(String::new()),
        }
    }

    /// The names of all inputs.
    pub fn inputs(&mut self) -> Result<Vec<String>, Reason> {
        (0..self.node.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// The name of output `i`.
    pub fn output(&mut self, i: usize) -> Result<String, Reason> {
        self.graph.name(self.node.outputs[i])
    }

    /// The names of all outputs.
    pub fn outputs(&mut self) -> Result<Vec<String>, Reason> {
        (0..self.node.outputs.len()).map(|i| self.output(i)).collect()
    }

    /// The opset of ONNX's own domain must be at least this.
    pub fn need(&mut self, opset: i64) {
        self.graph.shared.need("", opset);
    }

    /// Another domain is used, and its version must be at least this.
    pub fn need_domain(&mut self, domain: &'static str, version: i64) {
        self.graph.shared.need(domain, version);
    }

    /// The opset must be one that knows the value's dtype.
    pub fn need_dtype(&mut self, v: ValueId) {
        match self.graph.graph.fact(v).ty.dtype() {
            Some(DType::F4E2M1) => self.need(23),
            Some(DType::F8E8M0) => self.need(24),
            Some(DType::I2 | DType::U2) => self.need(25),
            _ => {}
        }
    }

    /// The node as one ONNX node with the same inputs and outputs.
    pub fn plain(&mut self, op: &str, attrs: Attrs) -> Result<(), Reason> {
        let (inputs, outputs) = (self.inputs()?, self.outputs()?);
        self.write(op, inputs, outputs, attrs)
    }

    /// The node as one node of com.microsoft with the same inputs and outputs.
    pub fn contrib(&mut self, op: &str, attrs: Attrs) -> Result<(), Reason> {
        self.graph.shared.need("com.microsoft", 1);
        self.plain(&format!("com.microsoft.{op}"), attrs)
    }

    /// An ONNX node with the node's outputs.
    pub fn last(&mut self, op: &str, inputs: Vec<String>, attrs: Attrs) -> Result<(), Reason> {
        let outputs = self.outputs()?;
        self.write(op, inputs, outputs, attrs)
    }

    /// An ONNX node whose one output is new; its name.
    pub fn step(&mut self, op: &str, inputs: &[&str], attrs: Attrs) -> Result<String, Reason> {
        let hint = format!("{}_{}", self.node.outputs.first().map_or(0, |v| v.index()), op);
        let output = self.graph.shared.name(&hint);
        let inputs = inputs.iter().map(|s| s.to_string()).collect();
        self.write(op, inputs, vec![output.clone()], attrs)?;
        Ok(output)
    }

    /// An ONNX node.
    pub fn write(
        &mut self,
        op: &str,
        mut inputs: Vec<String>,
        outputs: Vec<String>,
        attribute: Attrs,
    ) -> Result<(), Reason> {
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        self.graph.nodes.push(pb::NodeProto {
            input: inputs,
            output: outputs,
            name: Some(self.graph.shared.node_name(&self.node.name)),
            op_type: Some(op.to_string()),
            domain: Some(domain.to_string()),
            attribute,
            ..Default::default()
        });
        Ok(())
    }

    /// A new constant; its name.
    pub fn constant(&mut self, tensor: Tensor) -> Result<String, Reason> {
        let name = self.graph.shared.name("constant");
        self.graph.constant(&name, &Value::Tensor(tensor))?;
        Ok(name)
    }

    /// A new scalar constant of this dtype; its name.
    pub fn scalar(&mut self, dtype: DType, x: f32) -> Result<String, Reason> {
        self.constant(tensors::float_scalar(dtype, x)?)
    }
}
