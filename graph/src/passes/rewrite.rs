//! What a rule sees of a graph, what it answers, and the sweep that applies the answers.

use smallvec::SmallVec;

use crate::ops::Inputs;
use crate::verify::VerifyError;
use crate::{Fact, Graph, Node, NodeId, Op, OutputIds, Tensor, ValueId};

/// A graph as a rule sees it: everything before the node is rewritten already.
#[derive(Clone, Copy)]
pub struct GraphView<'a> {
    graph: &'a Graph,
    uses: &'a [u32],
    is_output: &'a [bool],
}

impl<'a> GraphView<'a> {
    /// The node.
    pub fn node(&self, id: NodeId) -> &'a Node {
        self.graph.node(id)
    }

    /// The node's operator.
    pub fn op(&self, id: NodeId) -> &'a Op {
        &self.graph.node(id).op
    }

    /// Input `i` of the node, if it is given.
    pub fn input(&self, id: NodeId, i: usize) -> Option<ValueId> {
        self.graph.node(id).inputs.get(i).copied().flatten()
    }

    /// Output `i` of the node.
    pub fn output(&self, id: NodeId, i: usize) -> Option<ValueId> {
        self.graph.node(id).outputs.get(i).copied()
    }

    /// What is known of a value.
    pub fn fact(&self, v: ValueId) -> &'a Fact {
        self.graph.fact(v)
    }

    /// The tensor that a value holds, if it is a constant.
    pub fn constant(&self, v: ValueId) -> Option<&'a Tensor> {
        self.graph.tensor(v)
    }

    /// The number that a value holds, if it is a constant of one float element, whatever its rank.
    pub fn scalar(&self, v: ValueId) -> Option<f32> {
        self.constant(v).and_then(Tensor::to_f32)
    }

    /// The integers that a value holds, if it is a constant.
    pub fn ints(&self, v: ValueId) -> Option<SmallVec<[i64; 4]>> {
        self.fact(v).ints()
    }

    /// The node that makes a value; `None` for inputs and constants.
    pub fn producer(&self, v: ValueId) -> Option<NodeId> {
        self.graph.producer(v)
    }

    /// The node that makes a value, itself.
    pub fn made_by(&self, v: ValueId) -> Option<&'a Node> {
        self.graph.made_by(v)
    }

    /// How often a value is read; being one of the graph's outputs counts.
    pub fn uses(&self, v: ValueId) -> u32 {
        self.uses[v.index()]
    }

    /// Whether one node reads the value, once, and nobody else.
    pub fn single_use(&self, v: ValueId) -> bool {
        self.uses(v) == 1 && !self.is_output(v)
    }

    /// Whether it is one of the graph's outputs.
    pub fn is_output(&self, v: ValueId) -> bool {
        self.is_output[v.index()]
    }

    /// Whether it is one of the graph's inputs, or a constant.
    pub fn is_source(&self, v: ValueId) -> bool {
        self.graph.producer(v).is_none()
    }

    /// The rewrite that puts `v`, which exists already, in the place of the node's only output.
    pub fn alias(&self, v: ValueId) -> Option<Rewrite> {
        self.patch().finish(&[v])
    }

    /// The rewrite that replaces a node by one other.
    pub fn replace(&self, op: impl Into<Op>, inputs: &[ValueId]) -> Option<Rewrite> {
        let mut p = self.patch();
        let y = p.push1(op, inputs)?;
        p.finish(&[y])
    }

    /// New nodes and constants, none so far.
    pub fn patch(&self) -> Patch<'a> {
        Patch { graph: self.graph, facts: Vec::new(), nodes: Vec::new() }
    }
}

/// New nodes and constants that are to stand in a node's place.
pub struct Patch<'a> {
    graph: &'a Graph,
    /// The new values: they are numbered on from those of the graph.
    facts: Vec<Fact>,
    nodes: Vec<Node>,
}

impl Patch<'_> {
    fn value(&mut self, fact: Fact) -> ValueId {
        self.facts.push(fact);
        ValueId::from_index(self.graph.value_count() + self.facts.len() - 1)
    }

    /// What is known of a value, old or new.
    pub fn fact(&self, v: ValueId) -> &Fact {
        match v.index().checked_sub(self.graph.value_count()) {
            Some(i) => &self.facts[i],
            None => self.graph.fact(v),
        }
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.value(Fact::constant(tensor))
    }

    /// Adds a constant int64 vector.
    pub fn ints(&mut self, values: &[i64]) -> ValueId {
        self.constant(Tensor::vector(values))
    }

    /// Adds a node; `None` if the operator refuses these inputs.
    pub fn push(
        &mut self,
        op: impl Into<Op>,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Option<OutputIds> {
        self.push_op(op.into(), inputs, outputs)
    }

    /// [`Patch::push`], once for all operators.
    fn push_op(&mut self, op: Op, inputs: &[Option<ValueId>], outputs: usize) -> Option<OutputIds> {
        let made = {
            let facts: SmallVec<[Option<&Fact>; 4]> =
                inputs.iter().map(|v| v.map(|v| self.fact(v))).collect();
            op.infer(&Inputs::new(&facts, outputs)).ok()?
        };
        let outputs: OutputIds = made.into_iter().map(|fact| self.value(fact)).collect();
        let node = Node { op, inputs: inputs.into(), outputs: outputs.clone(), name: "".into() };
        self.nodes.push(node);
        Some(outputs)
    }

    /// [`Patch::push`] for the many operators with one output and no omitted input.
    pub fn push1(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Option<ValueId> {
        self.push_op1(op.into(), inputs)
    }

    fn push_op1(&mut self, op: Op, inputs: &[ValueId]) -> Option<ValueId> {
        let inputs: SmallVec<[Option<ValueId>; 4]> = inputs.iter().copied().map(Some).collect();
        Some(self.push_op(op, &inputs, 1)?[0])
    }

    /// The rewrite: `outputs[i]` takes the place of the node's output `i`.
    pub fn finish(self, outputs: &[ValueId]) -> Option<Rewrite> {
        Some(Rewrite { facts: self.facts, nodes: self.nodes, outputs: outputs.into() })
    }
}

/// What stands in a node's place: new constants and nodes, and a value for each of its outputs.
#[derive(Debug)]
pub struct Rewrite {
    facts: Vec<Fact>,
    nodes: Vec<Node>,
    outputs: OutputIds,
}

/// Gives `new` what `old`, whose place it takes, was known by: name, facts, being an output.
pub(super) fn inherit(graph: &mut Graph, is_output: &mut [bool], old: ValueId, new: ValueId) {
    let (o, n) = (old.index(), new.index());
    let source = graph.producer(new).is_none();
    // An output's name is the user's; any other is better than none.
    let better = is_output[o] && !is_output[n] && !source;
    if let Some(name) = graph.name(old).cloned()
        && (better || graph.name(new).is_none())
    {
        graph.set_name(new, &name);
    }
    is_output[n] |= std::mem::take(&mut is_output[o]);
    if !source {
        let fact = graph.fact(new).clone().refined(graph.fact(old));
        graph.set_fact(new, fact);
    }
}

/// Which values are outputs of the graph.
pub(super) fn output_flags(graph: &Graph) -> Vec<bool> {
    let mut flags = vec![false; graph.value_count()];
    graph.outputs().iter().for_each(|v| flags[v.index()] = true);
    flags
}

/// A graph being swept.
struct Sweep<'g> {
    graph: &'g mut Graph,
    /// The value that a replaced one is now; one hop leads to the end.
    alias: Vec<Option<ValueId>>,
    uses: Vec<u32>,
    is_output: Vec<bool>,
    /// What can be read at the place the sweep has come to.
    defined: Vec<bool>,
    gone: Vec<bool>,
    order: Vec<NodeId>,
}

/// Applies a rule once to every node, in order. Returns how often it said something.
pub(super) fn sweep(
    graph: &mut Graph,
    pass: &str,
    rule: fn(&GraphView<'_>, NodeId) -> Option<Rewrite>,
) -> Result<usize, VerifyError> {
    let uses = graph.use_counts();
    let is_output = output_flags(graph);
    let defined = graph.values().map(|v| graph.producer(v).is_none()).collect();
    let (values, nodes, old) = (uses.len(), graph.node_count(), graph.order().to_vec());
    let order = Vec::with_capacity(old.len());
    let mut s = Sweep {
        graph,
        alias: vec![None; values],
        uses,
        is_output,
        defined,
        gone: vec![false; nodes],
        order,
    };
    let mut changes = 0;
    for id in old {
        s.forward(id);
        let view = GraphView { graph: s.graph, uses: &s.uses, is_output: &s.is_output };
        let rewrite = if s.is_dead(id) { None } else { rule(&view, id) };
        match rewrite.map(|r| s.check(id, &r).map(|()| r)) {
            Some(Ok(rewrite)) => {
                s.apply(id, rewrite);
                changes += 1;
                continue;
            }
            // Refusing is safe; but a rule that is wrong must not go unnoticed.
            Some(Err(what)) if cfg!(debug_assertions) => {
                return Err(VerifyError { pass: pass.to_string(), what });
            }
            _ => {}
        }
        s.place(id);
    }
    if changes > 0 {
        s.finish();
    }
    Ok(changes)
}

impl Sweep<'_> {
    /// Makes a node read what the values it names have become.
    fn forward(&mut self, id: NodeId) {
        for v in self.graph.node_mut(id).inputs.iter_mut().flatten() {
            if let Some(now) = self.alias[v.index()] {
                *v = now;
            }
        }
    }

    fn is_dead(&self, id: NodeId) -> bool {
        self.graph.node(id).outputs.iter().all(|v| self.uses[v.index()] == 0)
    }

    fn place(&mut self, id: NodeId) {
        self.order.push(id);
        for v in &self.graph.node(id).outputs {
            self.defined[v.index()] = true;
        }
    }

    /// `Err` if the rewrite contradicts what is known of the node's outputs.
    fn check(&self, id: NodeId, rewrite: &Rewrite) -> Result<(), String> {
        let node = self.graph.node(id);
        let what = |text: String| format!("{} at {:?}: {text}", node.op.name(), node.name);
        let base = self.graph.value_count();
        let fact = |v: ValueId| match v.index().checked_sub(base) {
            Some(i) => rewrite.facts.get(i),
            None => Some(self.graph.fact(v)),
        };
        if rewrite.outputs.len() != node.outputs.len() {
            let (n, m) = (rewrite.outputs.len(), node.outputs.len());
            return Err(what(format!("{n} values take the place of {m}")));
        }
        for (&old, &new) in node.outputs.iter().zip(&rewrite.outputs) {
            let (before, after) = (self.graph.fact(old), fact(new));
            let after = after.ok_or_else(|| what("an output is out of range".into()))?;
            if !before.compatible(after) {
                return Err(what(format!("{after} takes the place of {before}")));
            }
        }
        let read = rewrite.nodes.iter().flat_map(|n| n.inputs.iter().flatten());
        for &v in read.chain(&rewrite.outputs) {
            if v.index() < base && !self.defined[v.index()] {
                let name = crate::text::name(self.graph, v);
                return Err(what(format!("{name} is read before it is made")));
            }
        }
        Ok(())
    }

    fn apply(&mut self, id: NodeId, rewrite: Rewrite) {
        for fact in rewrite.facts {
            self.graph.value(fact);
        }
        let values = self.graph.value_count();
        self.alias.resize(values, None);
        self.uses.resize(values, 0);
        self.is_output.resize(values, false);
        self.defined.resize(values, true);
        let old = self.graph.node(id);
        let (name, outputs) = (old.name.clone(), old.outputs.clone());
        let first = self.graph.node_count();
        for mut node in rewrite.nodes {
            node.inputs.iter().flatten().for_each(|v| self.uses[v.index()] += 1);
            node.name = name.clone();
            let new = self.graph.add_node(node);
            self.gone.push(false);
            self.place(new);
        }
        for (&old, &new) in outputs.iter().zip(&rewrite.outputs) {
            self.hand_over(old, new);
        }
        self.kill(id);
        for new in (first..self.graph.node_count()).rev().map(NodeId::from_index) {
            if !self.gone[new.index()] && self.is_dead(new) {
                self.kill(new);
            }
        }
    }

    /// From now on, `new` is what `old` was.
    fn hand_over(&mut self, old: ValueId, new: ValueId) {
        let (o, n) = (old.index(), new.index());
        self.alias[o] = Some(new);
        self.uses[n] += std::mem::take(&mut self.uses[o]);
        inherit(self.graph, &mut self.is_output, old, new);
    }

    /// Takes a node out, and those before it that only it read.
    fn kill(&mut self, id: NodeId) {
        let mut dying = vec![id];
        while let Some(id) = dying.pop() {
            if std::mem::replace(&mut self.gone[id.index()], true) {
                continue;
            }
            for &v in self.graph.node(id).inputs.iter().flatten() {
                self.uses[v.index()] -= 1;
                if self.uses[v.index()] == 0
                    && let Some(producer) = self.graph.producer(v)
                    && self.is_dead(producer)
                {
                    dying.push(producer);
                }
            }
        }
    }

    fn finish(self) {
        let Sweep { graph, alias, gone, mut order, .. } = self;
        order.retain(|id| !gone[id.index()]);
        let outputs = graph.outputs().iter().map(|&v| alias[v.index()].unwrap_or(v)).collect();
        graph.set_outputs(outputs);
        graph.set_order(order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::parse;
    use crate::verify::verify;

    fn no_identity(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
        let Op::Identity(_) = g.op(id) else { return None };
        g.alias(g.input(id, 0)?)
    }

    fn check(
        rule: fn(&GraphView<'_>, NodeId) -> Option<Rewrite>,
        text: &str,
        expected: &str,
    ) -> usize {
        let mut g = parse(text).unwrap();
        let changes = sweep(&mut g, "a rule", rule).unwrap();
        verify(&g, "a rule").unwrap();
        assert_eq!(g.to_string(), expected);
        changes
    }

    #[test]
    fn a_chain_of_aliases_goes_in_one_sweep() {
        let text = "x: float[2]; a = Identity(x); b = Identity(a); c = Identity(b); → c, b";
        assert_eq!(check(no_identity, text, "x: float[2]\n→ x, x"), 3);
    }

    #[test]
    fn an_output_keeps_its_name() {
        let text = "x: float[2, 3]; a = Flatten(x); y = Identity(a); → y";
        check(no_identity, text, "x: float[2, 3]\ny = Flatten{axis: Axis(1)}(x)\n→ y");
    }

    #[test]
    fn what_only_a_replaced_node_read_dies_with_it() {
        fn second(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
            let Op::Identity(_) = g.op(id) else { return None };
            let flat = g.producer(g.input(id, 0)?)?;
            let flat = g.producer(g.input(flat, 0)?)?;
            let Op::Flatten(op) = g.op(flat) else { return None };
            g.replace(op.clone(), &[g.input(flat, 0)?])
        }
        let text = "x: float[2, 3]; a = Flatten(x); b = Flatten(a); y = Identity(b); → y";
        check(second, text, "x: float[2, 3]\ny = Flatten{axis: Axis(1)}(x)\n→ y");
    }

    #[test]
    fn a_rewrite_that_changes_the_type_is_refused() {
        fn wrong(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
            let mut p = g.patch();
            let y = p.ints(&[1]);
            matches!(g.op(id), Op::Identity(_)).then_some(())?;
            p.finish(&[y])
        }
        let mut g = parse("x: float[2]; y = Identity(x); → y").unwrap();
        let error = sweep(&mut g, "a rule", wrong).unwrap_err().to_string();
        let expected = "after a rule: Identity at \"y\": int64[1] takes the place of float[2]";
        assert_eq!(error, expected);
    }
}
