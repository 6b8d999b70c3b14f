//! Graphs as text, for people and for the tests of passes.
//!
//! ```text
//! x: float[n, 4]                      an input
//! w: float[4, 64] = 0.5               a constant (one number: every element)
//! y = Softmax{axis: Axis(-1)}(x)      a node: outputs = operator(inputs)
//! z = Reshape{allowzero: false}(y, [2, -1])   constants without a name stand in place
//! → z                                 the outputs
//! ```
//! Values without a name are numbered as they appear: `%0`. An omitted input is `_`. `{:#}` adds
//! what is known of each output. [`crate::onnx::parse()`] reads a text much like it.

use std::fmt::{self, Write};

use crate::fact::Known;
use crate::{DType, Fact, Graph, Node, Op, Tensor, Value, ValueId, with_dtype};

/// More elements of a constant than these are not written out.
const MAX_ELEMENTS: usize = 8;

/// What a value is called in messages: its name, else `%` and its number.
pub(crate) fn name(graph: &Graph, v: ValueId) -> String {
    let known = v.index() < graph.value_count();
    match known.then(|| graph.name(v)).flatten() {
        Some(name) => name.to_string(),
        None => format!("%{}", v.index()),
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_graph(&mut text, self, 0, f.alternate())?;
        f.write_str(text.trim_end())
    }
}

fn write_graph(out: &mut String, g: &Graph, indent: usize, facts: bool) -> fmt::Result {
    let pad = " ".repeat(indent);
    let labels = labels(g);
    for &v in g.inputs() {
        writeln!(out, "{pad}{}: {}", labels[v.index()], g.fact(v))?;
    }
    let mut listed = vec![false; g.value_count()];
    let read = g.nodes().flat_map(|(_, n)| n.inputs.iter().flatten()).chain(g.outputs());
    for &v in read {
        let constant = g.fact(v).is_const() && g.producer(v).is_none();
        if constant && g.name(v).is_some() && !std::mem::replace(&mut listed[v.index()], true) {
            let (fact, elements) = (g.fact(v), elements(g.fact(v)));
            writeln!(out, "{pad}{}: {fact} = {elements}", labels[v.index()])?;
        }
    }
    for (_, node) in g.nodes() {
        write_node(out, g, node, &labels, (indent, facts))?;
    }
    let outputs: Vec<&str> = g.outputs().iter().map(|v| &*labels[v.index()]).collect();
    writeln!(out, "{pad}→ {}", outputs.join(", "))
}

fn write_node(
    out: &mut String,
    g: &Graph,
    node: &Node,
    labels: &[String],
    (indent, facts): (usize, bool),
) -> fmt::Result {
    let label = |v: &Option<ValueId>| v.map_or("_", |v| &*labels[v.index()]);
    let outputs: Vec<String> = node
        .outputs
        .iter()
        .map(|&v| match facts {
            true => format!("{}: {}", labels[v.index()], g.fact(v)),
            false => labels[v.index()].clone(),
        })
        .collect();
    let inputs: Vec<&str> = node.inputs.iter().map(label).collect();
    let pad = " ".repeat(indent);
    let (op, inputs) = (operator(&node.op), inputs.join(", "));
    writeln!(out, "{pad}{} = {op}({inputs})", outputs.join(", "))?;
    let names: &[&str] = match &node.op {
        Op::If(_) => &["then_branch", "else_branch"],
        _ => &["body"],
    };
    for (name, body) in names.iter().zip(node.op.bodies()) {
        writeln!(out, "{pad}  {name}:")?;
        write_graph(out, body, indent + 4, facts)?;
    }
    Ok(())
}

/// What each value is called: by name, by number, or, constants without a name, by content.
fn labels(g: &Graph) -> Vec<String> {
    let mut labels: Vec<String> = g
        .values()
        .map(|v| match g.name(v) {
            Some(name) => name.to_string(),
            None if g.fact(v).is_const() && g.producer(v).is_none() => constant(g.fact(v)),
            None => String::new(),
        })
        .collect();
    let mut next = 0;
    let made = g.nodes().flat_map(|(_, n)| n.outputs.iter());
    for v in g.inputs().iter().chain(made) {
        if labels[v.index()].is_empty() {
            labels[v.index()] = format!("%{next}");
            next += 1;
        }
    }
    labels
}

/// The operator and its attributes: `Relu`, `Softmax{axis: Axis(-1)}`.
pub fn operator(op: &Op) -> String {
    match op {
        Op::If(_) => "If".into(),
        Op::Loop(op) => format!("Loop{{state: {}}}", op.state),
        Op::Scan(op) => {
            format!(
                "Scan{{state: {}, inputs: {:?}, outputs: {:?}}}",
                op.state, op.inputs, op.outputs
            )
        }
        Op::Custom(op) => op.0.name().to_string(),
        Op::Pointwise(op) => format!("Pointwise{{{op}}}"),
        op => {
            // Op's Debug is `Variant(…)` around the operator's own, which for a family of
            // functions is again `Variant(…)` around the function.
            let text = format!("{op:?}");
            let mut inner = &*text;
            while let Some(rest) = inner.strip_prefix(op.name()).and_then(|s| s.strip_prefix('(')) {
                inner = rest.strip_suffix(')').unwrap_or(rest);
            }
            inner.replace(" { ", "{").replace(" }", "}")
        }
    }
}

/// A constant in place: `[2, -1]`, `0.5`, `double[2] [0.5, 1.0]`.
fn constant(fact: &Fact) -> String {
    let elements = elements(fact);
    match (fact.ty.dtype(), fact.rank()) {
        (Some(DType::I64 | DType::F32), Some(0)) => elements,
        (Some(DType::I64 | DType::F32), Some(1)) if elements.starts_with('[') => elements,
        _ => format!("{fact} {elements}"),
    }
}

/// `[1.0, 2.0]`, or one element if all are the same; `…` where it is too much.
fn elements(fact: &Fact) -> String {
    match &fact.known {
        Some(Known::Const(t)) => tensor_elements(t),
        Some(Known::Value(Value::Text(s))) if s.as_slice().len() <= MAX_ELEMENTS => {
            format!("{:?}", s.as_slice())
        }
        _ => "…".into(),
    }
}

fn tensor_elements(t: &Tensor) -> String {
    macro_rules! show {
        ($($T:ty),*; $($W:ty => $widen:expr),*) => {
            with_dtype!(t.dtype(), [$($T),*], T => {
                list(t.rank(), t.as_slice::<T>().iter().map(|x| format!("{x:?}")))
            }, else { $(if t.dtype() == <$W as crate::Element>::DTYPE {
                list(t.rank(), t.as_slice::<$W>().iter().map($widen))
            } else)* { "…".into() } })
        };
    }
    if t.len() > MAX_ELEMENTS && !uniform(t) {
        return "[…]".into();
    }
    show!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64;
        half::f16 => |x| format!("{:?}", x.to_f32()),
        half::bf16 => |x| format!("{:?}", x.to_f32()),
        crate::Bool => |x| x.get().to_string())
}

/// Whether a tensor too long to be written has the same bits in every element.
fn uniform(t: &Tensor) -> bool {
    let (bytes, size) = (t.as_bytes(), t.dtype().size());
    size > 0 && bytes[size..] == bytes[..bytes.len() - size]
}

fn list(rank: usize, elements: impl ExactSizeIterator<Item = String>) -> String {
    let len = elements.len();
    let shown: Vec<String> = elements.take(MAX_ELEMENTS + 1).collect();
    let same = shown.windows(2).all(|pair| pair[0] == pair[1]);
    match shown.first() {
        Some(first) if rank == 0 || (same && len > 1) => first.clone(),
        _ => format!("[{}]", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use crate::onnx::parse;

    #[test]
    fn a_graph_reads_as_it_was_written() {
        let text = "x: float[n, 4]\n\
                    y = Flatten{axis: Axis(1)}(x)\n\
                    z = Reshape{allowzero: false}(y, [2, -1])\n\
                    → z";
        let g = parse("x: float[n, 4]; y = Flatten(x); z = Reshape(y, [2, -1]); → z").unwrap();
        assert_eq!(g.to_string(), text);
        assert!(format!("{g:#}").contains("z: float[2, 2n]"), "{g:#}");
    }

    #[test]
    fn small_constants_show_their_elements() {
        let g = parse(
            "w: float[2, 2] = [1, 2, 3, 4]; s: double = 0.5; b: bool[3] = 1; \
             a = Identity(w); c = Identity(s); d = Identity(b); → a, c, d",
        );
        let text = g.unwrap().to_string();
        let lines: Vec<&str> = text.lines().take(3).collect();
        let expected =
            ["w: float[2, 2] = [1.0, 2.0, 3.0, 4.0]", "s: double[] = 0.5", "b: bool[3] = true"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn bodies_stand_below_their_node() {
        let g = parse(
            "c: bool; x: float[2]; y = If<then_branch = { a = Identity(x); → a }, \
             else_branch = { → x }>(c); → y",
        );
        let text = g.unwrap().to_string();
        let expected = "c: bool[]\nx: float[2]\ny = If(c, x, x)\n  then_branch:\n    \
                        x: float[2]\n    a = Identity(x)\n    → a\n  else_branch:\n    \
                        x: float[2]\n    → x\n→ y";
        assert_eq!(text, expected);
    }
}
