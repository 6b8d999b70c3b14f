//! Copies a graph node by node, bodies too; a writer puts other nodes in the place of some.
//!
//! What stands for an old value takes its name, so the copy reads as the original did.

use std::collections::HashMap;
use std::sync::Arc;

use rinfer::graph::{Graph, InputIds, Node, NodeId, Op, ValueId};
use rinfer::{Fact, Reason, Tensor};

/// Where a node stands in a model: graphs are numbered as [`rebuild`] meets them, the main one 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// The number of the graph.
    pub graph: usize,
    /// The node in it.
    pub node: NodeId,
}

/// Decides about every node.
pub trait Writer {
    /// Writes what stands for a node and says so; if it does not, the node is copied.
    ///
    /// # Errors
    /// Why it cannot.
    fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> Result<bool, Reason>;

    /// Called when a node was written or copied.
    ///
    /// # Errors
    /// Why it cannot go on.
    fn after(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> Result<(), Reason> {
        let _ = (r, id);
        Ok(())
    }
}

/// A graph that is being copied.
pub struct Rebuild<'a> {
    /// The original.
    pub old: &'a Graph,
    /// The copy.
    pub new: Graph,
    /// The number of this graph in the model.
    pub number: usize,
    map: Vec<Option<ValueId>>,
}

/// Copies a graph; `writer` decides about every node.
///
/// # Errors
/// What the writer says.
pub fn rebuild(old: &Graph, writer: &mut dyn Writer) -> Result<Graph, Reason> {
    let mut count = 0;
    copy_graph(old, writer, &mut count)
}

fn copy_graph(old: &Graph, writer: &mut dyn Writer, count: &mut usize) -> Result<Graph, Reason> {
    let number = *count;
    *count += 1;
    let map = vec![None; old.value_count()];
    let mut r = Rebuild { old, new: Graph::new(), number, map };
    r.new.name = old.name.clone();
    for &v in old.inputs() {
        let new = r.like(v);
        r.map[v.index()] = Some(new);
    }
    r.new.set_inputs(old.inputs().iter().filter_map(|v| r.map[v.index()]).collect());
    for (id, node) in old.nodes() {
        // Bodies are numbered in order, whoever writes the node.
        let mut op = node.op.clone();
        for body in op.bodies_mut() {
            *body = Arc::new(copy_graph(body, writer, count)?);
        }
        if !writer.node(&mut r, id)? {
            r.copy_as(id, op);
        }
        writer.after(&mut r, id)?;
    }
    let outputs = old.outputs().iter().map(|&v| r.value(v)).collect();
    r.new.set_outputs(outputs);
    Ok(r.new)
}

impl Rebuild<'_> {
    /// The site of a node of this graph.
    pub fn site(&self, node: NodeId) -> Site {
        Site { graph: self.number, node }
    }

    /// A new value with the fact and the name of an old one.
    fn like(&mut self, v: ValueId) -> ValueId {
        let new = self.new.value(self.old.fact(v).clone());
        if let Some(name) = self.old.name(v) {
            self.new.set_name(new, name);
        }
        new
    }

    /// What stands for an old value; constants are copied when they are first asked for.
    pub fn value(&mut self, v: ValueId) -> ValueId {
        if let Some(new) = self.map[v.index()] {
            return new;
        }
        let new = self.like(v);
        self.map[v.index()] = Some(new);
        new
    }

    /// Input `i` of an old node, as it is called in the copy.
    pub fn input(&mut self, id: NodeId, i: usize) -> Option<ValueId> {
        let v = self.old.node(id).inputs.get(i).copied().flatten()?;
        Some(self.value(v))
    }

    /// Copies a node as it is.
    pub fn copy(&mut self, id: NodeId) {
        self.copy_as(id, self.old.node(id).op.clone());
    }

    /// Copies a node with another operator, which makes the same of the same.
    pub fn copy_as(&mut self, id: NodeId, op: Op) {
        let node = self.old.node(id);
        let inputs: InputIds = node.inputs.iter().map(|v| v.map(|v| self.value(v))).collect();
        let outputs = node.outputs.iter().map(|&v| {
            let new = self.like(v);
            self.map[v.index()] = Some(new);
            new
        });
        let outputs = outputs.collect();
        self.new.push_node(Node { op, inputs, outputs, name: node.name.clone() });
    }

    /// Says that `new` is read wherever `old` was, from here on; names stay.
    pub fn redirect(&mut self, old: ValueId, new: ValueId) {
        self.map[old.index()] = Some(new);
    }

    /// Says that `new` stands for `old` from here on, and gives it its name.
    pub fn bind(&mut self, old: ValueId, new: ValueId) {
        if let Some(before) = self.map[old.index()]
            && before != new
            && let Some(name) = self.old.name(old)
        {
            self.new.set_name(before, &format!("{name}_float"));
        }
        if let Some(name) = self.old.name(old) {
            self.new.set_name(new, name);
        }
        // What was known of the original and does not depend on its content holds still.
        let fact = self.new.fact(new).clone();
        if fact.ty == self.old.fact(old).ty {
            let known = self.old.fact(old).clone().forget();
            self.new.set_fact(new, fact.refined(&known));
        }
        self.map[old.index()] = Some(new);
    }

    /// A node with one output, which is called `old`'s name and `suffix`.
    ///
    /// # Errors
    /// The operator does not take these inputs.
    pub fn step(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        old: ValueId,
        suffix: &str,
    ) -> Result<ValueId, Reason> {
        let new = self.new.push1(op, inputs)?;
        self.name(new, old, suffix);
        Ok(new)
    }

    /// Names a new value after an old one.
    pub fn name(&mut self, new: ValueId, old: ValueId, suffix: &str) {
        let name =
            self.old.name(old).map_or_else(|| format!("v{}", old.index()), |n| n.to_string());
        self.new.set_name(new, &format!("{name}_{suffix}"));
    }

    /// A constant named after an old value.
    pub fn constant(&mut self, tensor: Tensor, old: ValueId, suffix: &str) -> ValueId {
        let new = self.new.constant(tensor);
        self.name(new, old, suffix);
        new
    }

    /// What is known of what stands for an old value.
    pub fn fact(&mut self, old: ValueId) -> &Fact {
        let new = self.value(old);
        self.new.fact(new)
    }
}

/// Calls `f` with every graph of a model and its number, in the order of [`rebuild`].
pub fn each_graph<'a>(graph: &'a Graph, f: &mut dyn FnMut(usize, &'a Graph)) {
    fn walk<'a>(graph: &'a Graph, n: &mut usize, f: &mut dyn FnMut(usize, &'a Graph)) {
        f(*n, graph);
        *n += 1;
        for (_, node) in graph.nodes() {
            for body in node.op.bodies() {
                walk(body, n, f);
            }
        }
    }
    walk(graph, &mut 0, f);
}

/// Every graph of a model by its number.
pub fn graphs(graph: &Graph) -> HashMap<usize, &Graph> {
    let mut all = HashMap::new();
    each_graph(graph, &mut |n, g| {
        all.insert(n, g);
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use rinfer::graph::onnx::parse;

    struct Nothing(Vec<Site>);

    impl Writer for Nothing {
        fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> Result<bool, Reason> {
            self.0.push(r.site(id));
            Ok(false)
        }
    }

    #[test]
    fn a_copy_is_the_same_graph() {
        let text = "x: float[n, 4]; c: bool; w: float[4] = 2.0; a = Mul(x, w)\n\
            y = If<then_branch = { t = Add(a, w); → t }, else_branch = { e = Neg(a); → e }>(c)\n\
            → y, a";
        let old = parse(text).unwrap();
        let mut writer = Nothing(Vec::new());
        let new = rebuild(&old, &mut writer).unwrap();
        assert_eq!(new.to_string(), old.to_string());
        rinfer::graph::verify::verify(&new, "copy").unwrap();
        let mut numbers: Vec<usize> = writer.0.iter().map(|s| s.graph).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 0, 1, 2]);
        assert_eq!(graphs(&old).len(), 3);
    }
}
