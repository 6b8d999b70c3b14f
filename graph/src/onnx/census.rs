//! How many nodes a model has once its functions are inlined, counted before anything is built.
//!
//! nodes(body) = Σ over its nodes: 1, or nodes(function); plus what its subgraphs have
//!
//! Each function is counted once, so a model that doubles itself thirty times is refused as fast
//! as it is read. Functions that call each other in a circle are found on the way.

use std::collections::HashMap;

use rinfer_onnx_proto as pb;

use super::import::canonical;
use crate::{Kind, Limits, Reason};

type Key<'a> = (&'a str, &'a str, &'a str);

/// Functions inside functions no deeper than this.
const FUNCTION_DEPTH: usize = 64;

/// What is known of a function.
#[derive(Clone, Copy)]
enum Count {
    /// It is being counted: whoever meets it again closes a circle.
    Open,
    /// Nodes, its own functions' included, and how deep they nest.
    Done(usize, usize),
}

struct Census<'a> {
    functions: HashMap<Key<'a>, &'a pb::FunctionProto>,
    counts: HashMap<Key<'a>, Count>,
    open: usize,
}

/// `Err` if the model has more nodes than the limit, or functions that contain themselves.
pub(super) fn check(model: &pb::ModelProto, limits: &Limits) -> Result<(), Reason> {
    let key = |f| -> Key<'_> {
        let f: &pb::FunctionProto = f;
        (canonical(f.domain()), f.name(), f.overload())
    };
    let functions = model.functions.iter().map(|f| (key(f), f)).collect();
    let mut census = Census { functions, counts: HashMap::new(), open: 0 };
    let nodes = model.graph.as_ref().map_or(&[][..], |g| &g.node);
    let (count, _) = census.nodes(nodes)?;
    match count > limits.nodes {
        true if count == usize::MAX => Err(Reason::over(
            "a number of nodes, functions inlined,",
            "more than 2^63",
            limits.nodes,
        )),
        true => Err(Reason::over("a number of nodes, functions inlined,", count, limits.nodes)),
        false => Ok(()),
    }
}

impl<'a> Census<'a> {
    /// Nodes of a list, and how deep functions nest in it.
    fn nodes(&mut self, nodes: &'a [pb::NodeProto]) -> Result<(usize, usize), Reason> {
        let (mut total, mut deepest) = (0usize, 0);
        // Bodies nest no deeper than the decoder's limit on messages, but that is not for this
        // function to know: they wait in a list.
        let mut lists = vec![nodes];
        while let Some(list) = lists.pop() {
            for node in list {
                let (n, depth) = self.node(node)?;
                total = total.saturating_add(n);
                deepest = deepest.max(depth);
                let bodies = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
                lists.extend(bodies.map(|g| g.node.as_slice()));
            }
        }
        Ok((total, deepest))
    }

    fn node(&mut self, node: &'a pb::NodeProto) -> Result<(usize, usize), Reason> {
        let key = (canonical(node.domain()), node.op_type(), node.overload());
        let Some(&function) = self.functions.get(&key) else { return Ok((1, 0)) };
        match self.counts.get(&key) {
            Some(&Count::Done(n, depth)) => return Ok((n, depth)),
            Some(Count::Open) => {
                return Err(Reason::new(
                    Kind::Limit,
                    format!("function {:?} of domain {:?} calls itself", key.1, key.0),
                ));
            }
            None => {}
        }
        if self.open >= FUNCTION_DEPTH {
            return Err(too_deep());
        }
        self.open += 1;
        self.counts.insert(key, Count::Open);
        let (n, depth) = self.nodes(&function.node)?;
        self.open -= 1;
        if depth >= FUNCTION_DEPTH {
            return Err(too_deep());
        }
        self.counts.insert(key, Count::Done(n, depth + 1));
        Ok((n, depth + 1))
    }
}

fn too_deep() -> Reason {
    Reason::new(Kind::Limit, format!("functions are nested more than {FUNCTION_DEPTH} deep"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str) -> pb::NodeProto {
        pb::NodeProto { op_type: Some(op.into()), ..Default::default() }
    }

    fn model(functions: &[(&str, &[&str])], calls: &[&str]) -> pb::ModelProto {
        let function = |(name, body): &(&str, &[&str])| pb::FunctionProto {
            name: Some((*name).into()),
            node: body.iter().map(|op| node(op)).collect(),
            ..Default::default()
        };
        let graph = pb::GraphProto {
            node: calls.iter().map(|op| node(op)).collect(),
            ..Default::default()
        };
        pb::ModelProto {
            functions: functions.iter().map(function).collect(),
            graph: Some(graph),
            ..Default::default()
        }
    }

    fn limits(nodes: usize) -> Limits {
        Limits { nodes, ..Limits::trusted() }
    }

    #[test]
    fn calls_count_as_what_they_become() {
        let m = model(&[("A", &["Neg", "Neg"]), ("B", &["A", "A", "Abs"])], &["B", "Neg"]);
        assert!(check(&m, &limits(6)).is_ok());
        let text = check(&m, &limits(5)).unwrap_err().text;
        assert_eq!(text, "a number of nodes, functions inlined, of 6 is over the limit of 5");
    }

    #[test]
    fn circles_are_named() {
        let text = check(&model(&[("A", &["B"]), ("B", &["A"])], &["A"]), &limits(9)).unwrap_err();
        assert_eq!(text.text, "function \"A\" of domain \"\" calls itself");
    }

    #[test]
    fn a_function_that_nobody_calls_counts_nothing() {
        assert!(check(&model(&[("A", &["A"])], &["Neg"]), &limits(1)).is_ok());
    }
}
