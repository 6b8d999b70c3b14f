//! What an operator's `import` function sees of its node, and how it builds IR from it.

use smallvec::SmallVec;

use super::attrs::Attrs;
use super::import::Build;
use crate::{DType, Fact, Graph, Op, Reason, Tensor, Type, Value, ValueId, invalid};

/// The values that an imported node makes, in the order of its outputs.
pub type Outputs = SmallVec<[ValueId; 1]>;

/// One ONNX node being imported: its attributes, its inputs, and the graph it becomes part of.
pub struct NodeCx<'a> {
    pub(super) build: &'a mut (dyn Build + 'a),
    pub(super) attrs: &'a Attrs<'a>,
    pub(super) inputs: Vec<Option<ValueId>>,
    pub(super) outputs: usize,
    pub(super) name: std::sync::Arc<str>,
    /// The version of the operator's definition that the model's opset selects.
    pub version: i64,
}

impl NodeCx<'_> {
    /// The inputs; omitted ones are `None`.
    pub fn inputs(&self) -> &[Option<ValueId>] {
        &self.inputs
    }

    /// How many outputs the node has, omitted ones that stand before others included.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Input `i`; `Err` if it is omitted.
    pub fn input(&self, i: usize) -> Result<ValueId, Reason> {
        self.opt_input(i).ok_or_else(|| invalid!("input {i} is missing"))
    }

    /// Input `i`, if it is given.
    pub fn opt_input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Every input; `Err` if one is omitted.
    pub fn all_inputs(&self) -> Result<Vec<ValueId>, Reason> {
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// `Err` unless there are between `min` and `max` inputs.
    pub fn check_inputs(&self, min: usize, max: usize) -> Result<(), Reason> {
        match self.inputs.len() {
            n if n < min => Err(invalid!("{n} inputs where at least {min} are needed")),
            n if n > max => Err(invalid!("{n} inputs where at most {max} are allowed")),
            _ => Ok(()),
        }
    }

    /// What is known of a value.
    pub fn fact(&self, v: ValueId) -> &Fact {
        self.build.graph_ref().fact(v)
    }

    /// The graph so far, that of the body within a body.
    pub fn graph(&self) -> &Graph {
        self.build.graph_ref()
    }

    /// The value that has this name in the model, if it is made before this node.
    pub fn named(&mut self, name: &str) -> Option<ValueId> {
        self.build.find(name)
    }

    /// The dtype of a value; `Err` if it is no tensor.
    pub fn dtype(&self, v: ValueId) -> Result<DType, Reason> {
        self.fact(v).dtype()
    }

    /// Attribute of type INT.
    pub fn int(&self, name: &str) -> Result<Option<i64>, Reason> {
        self.attrs.int(name)
    }

    /// Attribute of type INT that counts something; `Err` if it is negative.
    pub fn size(&self, name: &str) -> Result<Option<usize>, Reason> {
        let Some(n) = self.attrs.int(name)? else { return Ok(None) };
        usize::try_from(n).map(Some).map_err(|_| invalid!("attribute {name} is {n}"))
    }

    /// Attribute of type INT that says yes (not 0) or no.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Reason> {
        Ok(self.attrs.int(name)?.map_or(default, |n| n != 0))
    }

    /// Attribute of type FLOAT.
    pub fn float(&self, name: &str) -> Result<Option<f32>, Reason> {
        self.attrs.float(name)
    }

    /// Attribute of type STRING, as text.
    pub fn string(&self, name: &str) -> Result<Option<&str>, Reason> {
        self.attrs.string(name)
    }

    /// Attribute of type STRING, as bytes.
    pub fn bytes(&self, name: &str) -> Result<Option<&[u8]>, Reason> {
        self.attrs.bytes(name)
    }

    /// Attribute of type INTS.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Reason> {
        self.attrs.ints(name)
    }

    /// Attribute of type FLOATS.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, Reason> {
        self.attrs.floats(name)
    }

    /// Attribute of type STRINGS.
    pub fn strings(&self, name: &str) -> Result<Option<Vec<String>>, Reason> {
        self.attrs.strings(name)
    }

    /// Attribute of type TENSOR.
    pub fn tensor(&self, name: &str) -> Result<Option<Value>, Reason> {
        self.attrs.tensor(name, self.build.external())
    }

    /// Attribute of type SPARSE_TENSOR, made dense.
    pub fn sparse_tensor(&self, name: &str) -> Result<Option<Value>, Reason> {
        self.attrs.sparse(name, self.build.external(), &|bytes| self.build.count_dense(bytes))
    }

    /// Attribute of type TYPE_PROTO.
    pub fn type_attr(&self, name: &str) -> Result<Option<Type>, Reason> {
        let Some(t) = self.attrs.type_proto(name)? else { return Ok(None) };
        super::tensors::type_of(t).map(|t| Some(t.0))
    }

    /// Attribute of type INT that is a `TensorProto.DataType`.
    pub fn dtype_attr(&self, name: &str) -> Result<Option<DType>, Reason> {
        let Some(n) = self.attrs.int(name)? else { return Ok(None) };
        super::tensors::dtype(i32::try_from(n).unwrap_or(-1)).map(Some)
    }

    /// Whether the attribute is there, whatever its type.
    pub fn has(&self, name: &str) -> bool {
        self.attrs.find(name).is_some()
    }

    /// Marks attributes as known that have no meaning any more.
    pub fn ignore(&self, names: &[&str]) {
        for name in names {
            let _ = self.attrs.find(name);
        }
    }

    /// Reads the graph in attribute `name`. `facts` are what is known of its first inputs.
    ///
    /// Returns the graph, and the values outside that it captures: they are its last inputs.
    pub fn body(&mut self, name: &str, facts: &[Fact]) -> Result<(Graph, Vec<ValueId>), Reason> {
        let body =
            self.attrs.graph(name)?.ok_or_else(|| invalid!("attribute {name} is missing"))?;
        self.build.body(body, facts)
    }

    /// Adds a constant to the graph.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.build.graph().constant(tensor)
    }

    /// Adds a constant that need not be a tensor of numbers.
    pub fn constant_value(&mut self, value: &Value) -> ValueId {
        self.build.graph().constant_value(value)
    }

    /// Adds a constant int64 vector.
    pub fn constant_ints(&mut self, values: &[i64]) -> ValueId {
        self.constant(Tensor::vector(values))
    }

    /// Adds a scalar constant of a value's dtype.
    pub fn scalar_like(&mut self, v: ValueId, x: f32) -> Result<ValueId, Reason> {
        let tensor = super::tensors::float_scalar(self.dtype(v)?, x)?;
        Ok(self.constant(tensor))
    }

    /// Turns an INTS attribute of older versions into the input `at` that replaced it, if given.
    pub fn attr_to_input(&mut self, name: &str, at: usize) -> Result<(), Reason> {
        if let Some(values) = self.ints(name)? {
            let v = self.constant_ints(&values);
            self.set_input(at, v);
        }
        Ok(())
    }

    /// Replaces input `at`.
    pub fn set_input(&mut self, at: usize, v: ValueId) {
        if self.inputs.len() <= at {
            self.inputs.resize(at + 1, None);
        }
        self.inputs[at] = Some(v);
    }

    /// Adds a node with the ONNX node's inputs and outputs.
    pub fn emit(&mut self, op: impl Into<Op>) -> Result<Outputs, Reason> {
        let inputs = std::mem::take(&mut self.inputs);
        self.push_op(op.into(), &inputs, self.outputs)
    }

    /// Adds a node with these inputs and the ONNX node's outputs.
    pub fn push(
        &mut self,
        op: impl Into<Op>,
        inputs: &[Option<ValueId>],
    ) -> Result<Outputs, Reason> {
        self.push_op(op.into(), inputs, self.outputs)
    }

    /// Adds a node with these inputs and `outputs` outputs.
    pub fn push_n(
        &mut self,
        op: impl Into<Op>,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<Outputs, Reason> {
        self.push_op(op.into(), inputs, outputs)
    }

    /// [`NodeCx::push_n`], once for all operators.
    fn push_op(
        &mut self,
        op: Op,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<Outputs, Reason> {
        let name = self.name.clone();
        self.build.count_node()?;
        let graph = self.build.graph();
        let made = graph.push_op(op, inputs, outputs)?;
        if let Some(id) = made.first().and_then(|&v| graph.producer(v)) {
            graph.node_mut(id).name = name;
        }
        Ok(made)
    }

    /// Adds a node with these inputs and one output, a step of a composition.
    pub fn push1(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Reason> {
        self.push_op1(op.into(), inputs)
    }

    fn push_op1(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, Reason> {
        let inputs: SmallVec<[Option<ValueId>; 4]> = inputs.iter().copied().map(Some).collect();
        Ok(self.push_op(op, &inputs, 1)?[0])
    }

    /// One value as a node's only output.
    pub fn done(&self, v: ValueId) -> Result<Outputs, Reason> {
        Ok(smallvec::smallvec![v])
    }
}
