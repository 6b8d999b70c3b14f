//! Graphs: nodes that turn values into values.
//!
//! Nodes and values are dense numbers, so whatever else needs to know about them keeps a `Vec`
//! beside the graph. A node that is no longer in `order` is gone; its number is not used again.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ops::Inputs;
use crate::{Fact, Op, Reason, Tensor, Value};

/// The number of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// The number of a value in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

macro_rules! dense_id {
    ($Id:ident) => {
        impl $Id {
            /// The number, to index a side table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
            /// The id with this number.
            ///
            /// # Panics
            /// Beyond 2³² of them; the importer's limits are far below.
            pub fn from_index(index: usize) -> $Id {
                $Id(u32::try_from(index).expect("fewer than 2^32 nodes and values"))
            }
        }
    };
}
dense_id!(NodeId);
dense_id!(ValueId);

/// A node's inputs: an omitted optional input is `None`.
pub type InputIds = SmallVec<[Option<ValueId>; 4]>;
/// A node's outputs.
pub type OutputIds = SmallVec<[ValueId; 1]>;

/// One operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it reads; omitted optional inputs are `None`.
    pub inputs: InputIds,
    /// What it makes.
    pub outputs: OutputIds,
    /// Its name in the model, for messages; may be empty.
    pub name: Arc<str>,
}

#[derive(Clone, Debug)]
struct ValueEntry {
    fact: Fact,
    name: Option<Arc<str>>,
    producer: Option<NodeId>,
}

/// A computation: values made from `inputs` and constants by nodes in `order`.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Its name in the model; may be empty.
    pub name: String,
    nodes: Vec<Node>,
    values: Vec<ValueEntry>,
    order: Vec<NodeId>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Adds a value of which `fact` is known and which nothing makes yet.
    pub fn value(&mut self, fact: Fact) -> ValueId {
        let id = ValueId::from_index(self.values.len());
        self.values.push(ValueEntry { fact, name: None, producer: None });
        id
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, fact: Fact) -> ValueId {
        let id = self.value(fact);
        self.set_name(id, name);
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.value(Fact::constant(tensor))
    }

    /// Adds a constant that need not be a tensor of numbers.
    pub fn constant_value(&mut self, value: &Value) -> ValueId {
        self.value(Fact::of_value(value))
    }

    /// Adds a node at the end of the order; its outputs' facts follow from its inputs'.
    ///
    /// `Err` if the operator cannot take these inputs, or makes fewer than `outputs` values.
    pub fn push(
        &mut self,
        op: impl Into<Op>,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<OutputIds, Reason> {
        self.push_op(op.into(), inputs, outputs)
    }

    /// [`Graph::push`], once for all operators.
    pub(crate) fn push_op(
        &mut self,
        op: Op,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<OutputIds, Reason> {
        let facts = self.infer(&op, inputs, outputs)?;
        let outputs = facts.into_iter().map(|fact| self.value(fact)).collect::<OutputIds>();
        self.push_node(Node {
            op,
            inputs: inputs.into(),
            outputs: outputs.clone(),
            name: "".into(),
        });
        Ok(outputs)
    }

    /// [`Graph::push`] for the many operators with one output and no omitted input.
    pub fn push1(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Reason> {
        self.push_op1(op.into(), inputs)
    }

    fn push_op1(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, Reason> {
        let inputs: InputIds = inputs.iter().copied().map(Some).collect();
        Ok(self.push_op(op, &inputs, 1)?[0])
    }

    /// Adds a node whose outputs are values of this graph already, at the end of the order.
    pub fn push_node(&mut self, node: Node) -> NodeId {
        let id = self.add_node(node);
        self.order.push(id);
        id
    }

    /// Adds a node without a place in the order.
    pub(crate) fn add_node(&mut self, node: Node) -> NodeId {
        let id = NodeId::from_index(self.nodes.len());
        for &output in &node.outputs {
            self.values[output.index()].producer = Some(id);
        }
        self.nodes.push(node);
        id
    }

    /// The facts that `op` would give its first `outputs` outputs.
    pub fn infer(
        &self,
        op: &Op,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<crate::Facts, Reason> {
        let facts: SmallVec<[Option<&Fact>; 4]> =
            inputs.iter().map(|v| v.map(|v| self.fact(v))).collect();
        op.infer(&Inputs::new(&facts, outputs))
    }

    /// Makes `id` an output too.
    pub fn output(&mut self, id: ValueId) {
        self.outputs.push(id);
    }

    /// The values that must be given.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// The values that are asked for; one value may stand here twice.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Replaces the list of inputs.
    pub fn set_inputs(&mut self, inputs: Vec<ValueId>) {
        self.inputs = inputs;
    }

    /// Replaces the list of outputs.
    pub fn set_outputs(&mut self, outputs: Vec<ValueId>) {
        self.outputs = outputs;
    }

    /// The nodes in an order in which they can run.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// Replaces the order; nodes that it leaves out are gone, and make their outputs no more.
    pub fn set_order(&mut self, order: Vec<NodeId>) {
        let mut kept = vec![false; self.nodes.len()];
        order.iter().for_each(|id| kept[id.index()] = true);
        for entry in &mut self.values {
            entry.producer = entry.producer.filter(|id| kept[id.index()]);
        }
        self.order = order;
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The node with this id, to be changed. Its outputs must stay values of this graph.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// The nodes in order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> {
        self.order.iter().map(|&id| (id, self.node(id)))
    }

    /// How many node ids there are, gone ones included: the length of a side table.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// How many values there are: the length of a side table.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Every value's id.
    pub fn values(&self) -> impl ExactSizeIterator<Item = ValueId> + use<> {
        (0..self.values.len()).map(ValueId::from_index)
    }

    /// What is known of a value.
    pub fn fact(&self, id: ValueId) -> &Fact {
        &self.values[id.index()].fact
    }

    /// Replaces what is known of a value.
    pub fn set_fact(&mut self, id: ValueId, fact: Fact) {
        self.values[id.index()].fact = fact;
    }

    /// The value's name in the model, if it has one.
    pub fn name(&self, id: ValueId) -> Option<&Arc<str>> {
        self.values[id.index()].name.as_ref()
    }

    /// Names a value.
    pub fn set_name(&mut self, id: ValueId, name: &str) {
        self.values[id.index()].name = Some(name.into());
    }

    /// Takes a value's name away.
    pub fn clear_name(&mut self, id: ValueId) {
        self.values[id.index()].name = None;
    }

    /// The node that makes a value; `None` for inputs and constants.
    pub fn producer(&self, id: ValueId) -> Option<NodeId> {
        self.values[id.index()].producer
    }

    /// The node that makes a value, itself.
    pub fn made_by(&self, id: ValueId) -> Option<&Node> {
        self.producer(id).map(|n| self.node(n))
    }

    /// The tensor a value holds, if it is known.
    pub fn tensor(&self, id: ValueId) -> Option<&Tensor> {
        self.fact(id).tensor()
    }

    /// The value with this name; slow, for tests and look-ups by users.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values().find(|&id| self.name(id).is_some_and(|n| &**n == name))
    }

    /// How often each value is read, the graph's outputs included.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut uses = vec![0u32; self.values.len()];
        let read = self.nodes().flat_map(|(_, n)| n.inputs.iter().flatten());
        for &v in read.chain(&self.outputs) {
            uses[v.index()] += 1;
        }
        uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::Identity;

    #[test]
    fn a_node_left_out_of_the_order_makes_nothing() {
        let mut g = Graph::new();
        let x = g.input("x", Fact::sized(DType::F32, &[2]));
        let y = g.push1(Identity, &[x]).unwrap();
        assert!(g.producer(y).is_some());
        g.set_order(Vec::new());
        assert!(g.producer(y).is_none());
    }
}
