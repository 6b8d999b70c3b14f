//! Nodes of the same operator on the same values are computed once.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::Cx;
use super::rewrite::{inherit, output_flags};
use crate::{Graph, Node, NodeId, ValueId};

pub(super) fn run(graph: &mut Graph, _: &Cx<'_>) -> usize {
    let state = RandomState::new();
    let mut seen: HashMap<u64, NodeId> = HashMap::new();
    let mut alias: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    let mut is_output = output_flags(graph);
    let mut order = Vec::with_capacity(graph.order().len());
    for id in graph.order().to_vec() {
        for v in graph.node_mut(id).inputs.iter_mut().flatten() {
            *v = alias[v.index()].unwrap_or(*v);
        }
        let node = graph.node(id);
        // Bodies would have to be compared; what is random differs each time.
        if node.op.is_random() || node.op.is_control() {
            order.push(id);
            continue;
        }
        let first = *seen.entry(hash(&state, node)).or_insert(id);
        if first == id || !same(graph.node(first), node) {
            order.push(id);
            continue;
        }
        let pairs: Vec<(ValueId, ValueId)> =
            node.outputs.iter().copied().zip(graph.node(first).outputs.iter().copied()).collect();
        for (from, to) in pairs {
            alias[from.index()] = Some(to);
            inherit(graph, &mut is_output, from, to);
        }
    }
    let changes = graph.order().len() - order.len();
    if changes > 0 {
        graph.set_order(order);
        super::replace_values(graph, &alias);
    }
    changes
}

/// Same operator, same inputs, as many outputs.
fn same(a: &Node, b: &Node) -> bool {
    a.inputs == b.inputs && a.outputs.len() == b.outputs.len() && a.op == b.op
}

fn hash(state: &RandomState, node: &Node) -> u64 {
    let mut hasher = state.build_hasher();
    node.inputs.hash(&mut hasher);
    node.outputs.len().hash(&mut hasher);
    // Attributes are structs of all kinds, floats among them; all of them can be written.
    let _ = write!(Written(&mut hasher), "{:?}", node.op);
    hasher.finish()
}

/// A hasher that text is written into.
struct Written<'a, H: Hasher>(&'a mut H);

impl<H: Hasher> Write for Written<'_, H> {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.write(s.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NoEval, check, draw, pass};
    use super::super::{Options, run_passes};
    use crate::{DType, Fact, Graph};

    #[test]
    fn the_same_computation_is_done_once() {
        check(
            &["common_subexpressions"],
            "x: float[2, 3]; a = Flatten(x); b = Flatten(x); c = Identity(a); d = Identity(b); \
             e = Flatten<axis = 0>(x); → c, d, e",
            "x: float[2, 3]
             a = Flatten{axis: Axis(1)}(x)
             c = Identity(a)
             e = Flatten{axis: Axis(0)}(x)
             → c, c, e",
        );
    }

    #[test]
    fn two_draws_stay_two() {
        let mut g = Graph::new();
        let x = g.input("x", Fact::sized(DType::F32, &[2]));
        let draw = draw();
        for _ in 0..2 {
            let y = g.push1(draw.clone(), &[x]).unwrap();
            g.output(y);
        }
        run_passes(&mut g, &[pass("common_subexpressions")], &NoEval, &Options::default()).unwrap();
        assert_eq!(g.order().len(), 2);
    }
}
