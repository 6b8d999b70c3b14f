//! Small graphs from text: a short way to write an ONNX graph, for tests and examples.
//!
//! ```text
//! x: float[n, 4]; w: float[4] = [1, 2, 3, 4]; c: float = 0.5;     inputs, constants
//! y = Softmax<axis = -1>(x); z = Reshape(y, [2, -1]); → z         nodes, outputs
//! ```
//! Operators and attributes are those of the newest ONNX. Statements end with `;` or a line's
//! end. A constant of one number is filled with it. Literals among a node's inputs are int64 or
//! float by how they are written, and of rank 0 or 1; `_` is an omitted input. An attribute that
//! is a graph is such a text in braces; it sees the names around it.

use rinfer_onnx_proto as pb;
use rinfer_onnx_proto::attribute_proto::AttributeType as Ty;

use super::{ImportOptions, NEWEST_OPSET, import, tensors};
use crate::{DType, Graph, Reason, Tensor, Value, invalid, with_dtype};

/// Reads a graph from text.
///
/// # Errors
/// The text is none, or the model that it describes is not valid or not supported.
pub fn parse(text: &str) -> Result<Graph, Reason> {
    parse_with(text, &ImportOptions::default())
}

/// As [`parse`], with limits, sizes and operators of the caller's.
///
/// # Errors
/// As for [`parse`].
pub fn parse_with(text: &str, options: &ImportOptions<'_>) -> Result<Graph, Reason> {
    let mut parser = Parser { text, at: 0, depth: 0, constants: 0 };
    let graph = parser.graph()?;
    if !parser.rest().is_empty() {
        return Err(parser.expected("the end"));
    }
    let opset = |domain: &str, version| pb::OperatorSetIdProto {
        domain: Some(domain.into()),
        version: Some(version),
    };
    let model = pb::ModelProto {
        ir_version: Some(14),
        opset_import: vec![
            opset("", NEWEST_OPSET),
            opset("ai.onnx.ml", 5),
            opset("com.microsoft", 1),
        ],
        graph: Some(graph),
        ..Default::default()
    };
    let bytes = pb::encode(&model).into();
    let model = import(bytes, options).map_err(|e| invalid!("{e}"))?;
    let mut graph = model.graph;
    unname_literals(&mut graph);
    Ok(graph)
}

/// Literals need a name in ONNX, but have none here.
const LITERAL: &str = "literal ";

fn unname_literals(graph: &mut Graph) {
    for v in graph.values() {
        if graph.name(v).is_some_and(|n| n.starts_with(LITERAL)) {
            graph.clear_name(v);
        }
    }
    for id in graph.order().to_vec() {
        for body in graph.node_mut(id).op.bodies_mut() {
            unname_literals(std::sync::Arc::make_mut(body));
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    constants: usize,
}

/// Numbers as they are written, and whether in brackets.
struct Literal {
    words: Vec<String>,
    list: bool,
}

impl Literal {
    fn is_float(&self) -> bool {
        self.words.iter().any(|w| w.contains(['.', 'e', 'n']))
    }

    fn tensor(&self, dtype: DType, sizes: &[usize]) -> Result<Tensor, Reason> {
        let numbers: Vec<f64> = self.words.iter().map(|w| number(w)).collect::<Result<_, _>>()?;
        let len = crate::shape::count(sizes).ok_or_else(|| invalid!("a size of {sizes:?}"))?;
        let at = |i: usize| if numbers.len() == 1 { numbers[0] } else { numbers[i] };
        if numbers.len() != 1 && numbers.len() != len {
            return Err(invalid!("{} numbers for the shape {sizes:?}", numbers.len()));
        }
        if dtype == DType::I64 {
            let ints: Vec<i64> = self.words.iter().map(|w| integer(w)).collect::<Result<_, _>>()?;
            let ints: Vec<i64> = if ints.len() == 1 { vec![ints[0]; len] } else { ints };
            return Tensor::try_from_slice(sizes, &ints);
        }
        with_dtype!(dtype, [f32, f64, i8, i16, i32, u8, u16, u32, u64], T => {
            Tensor::try_from_slice(sizes, &(0..len).map(|i| at(i) as T).collect::<Vec<_>>())
        }, else match dtype {
            DType::F16 => {
                let x: Vec<_> = (0..len).map(|i| half::f16::from_f64(at(i))).collect();
                Tensor::try_from_slice(sizes, &x)
            }
            DType::BF16 => {
                let x: Vec<_> = (0..len).map(|i| half::bf16::from_f64(at(i))).collect();
                Tensor::try_from_slice(sizes, &x)
            }
            DType::Bool => {
                let x: Vec<_> = (0..len).map(|i| crate::Bool::from(at(i) != 0.0)).collect();
                Tensor::try_from_slice(sizes, &x)
            }
            _ => Err(invalid!("constants of {dtype} cannot be written")),
        })
    }
}

fn number(word: &str) -> Result<f64, Reason> {
    match word {
        "true" => Ok(1.0),
        "false" => Ok(0.0),
        word => word.parse().map_err(|_| invalid!("{word:?} is no number")),
    }
}

fn integer(word: &str) -> Result<i64, Reason> {
    word.parse().map_err(|_| invalid!("{word:?} is no integer"))
}

impl<'a> Parser<'a> {
    /// What is left, blanks skipped.
    fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    fn expected(&mut self, what: &str) -> Reason {
        let found: String = self.rest().chars().take(20).collect();
        invalid!("{what} is expected where {found:?} stands")
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), Reason> {
        if self.take(token) { Ok(()) } else { Err(self.expected(&format!("{token:?}"))) }
    }

    fn word(&mut self) -> Result<&'a str, Reason> {
        let rest = self.rest();
        let part = |c: char| c.is_alphanumeric() || "_.%/+-".contains(c);
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.expected("a name or number"));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    /// Whether a number stands next.
    fn at_number(&mut self) -> bool {
        let rest = self.rest();
        rest.starts_with(|c: char| c.is_ascii_digit() || "-[".contains(c))
    }

    fn literal(&mut self) -> Result<Literal, Reason> {
        if !self.take("[") {
            return Ok(Literal { words: vec![self.word()?.to_string()], list: false });
        }
        let mut words = Vec::new();
        while !self.take("]") {
            words.push(self.word()?.to_string());
            if !self.take(",") && !self.rest().starts_with(']') {
                return Err(self.expected("\",\" or \"]\""));
            }
        }
        Ok(Literal { words, list: true })
    }

    fn graph(&mut self) -> Result<pb::GraphProto, Reason> {
        self.depth += 1;
        if self.depth > 8 {
            return Err(invalid!("graphs are nested more than 8 deep"));
        }
        let mut g = pb::GraphProto { name: Some("graph".into()), ..Default::default() };
        while !self.take("→") {
            let first = self.word()?;
            if self.take(":") {
                self.declaration(first, &mut g)?;
            } else {
                self.node(first, &mut g)?;
            }
            self.take(";");
        }
        loop {
            let name = Some(self.word()?.to_string());
            g.output.push(pb::ValueInfoProto { name, ..Default::default() });
            if !self.take(",") {
                break;
            }
        }
        self.take(";");
        self.depth -= 1;
        Ok(g)
    }

    /// After `name:` a type and shape, and for constants `= content`.
    fn declaration(&mut self, name: &str, g: &mut pb::GraphProto) -> Result<(), Reason> {
        let word = self.word()?;
        let dtype = DType::all()
            .find(|d| d.to_string() == word)
            .ok_or_else(|| invalid!("{word:?} is no element type"))?;
        let shape = if self.rest().starts_with('[') { self.literal()?.words } else { Vec::new() };
        if self.take("=") {
            let sizes: Vec<usize> = shape
                .iter()
                .map(|w| w.parse().map_err(|_| invalid!("{w:?} is no size of a constant")))
                .collect::<Result<_, _>>()?;
            let tensor = self.literal()?.tensor(dtype, &sizes)?;
            g.initializer.push(tensors::to_proto(name, &Value::Tensor(tensor))?);
            return Ok(());
        }
        use pb::tensor_shape_proto::{Dimension, dimension::Value as V};
        let dim = |w: String| Dimension {
            value: match (w.parse(), &*w) {
                (Ok(n), _) => Some(V::DimValue(n)),
                (_, "_") => None,
                _ => Some(V::DimParam(w)),
            },
            ..Default::default()
        };
        let unranked = matches!(shape.first().map(|w| &**w), Some(".."));
        let shape = pb::TensorShapeProto { dim: shape.into_iter().map(dim).collect() };
        let tensor = pb::type_proto::Tensor {
            elem_type: Some(dtype.to_onnx()),
            shape: (!unranked).then_some(shape),
        };
        let value = Some(pb::type_proto::Value::TensorType(tensor));
        g.input.push(pb::ValueInfoProto {
            name: Some(name.to_string()),
            r#type: Some(pb::TypeProto { value, ..Default::default() }),
            ..Default::default()
        });
        Ok(())
    }

    fn node(&mut self, first: &str, g: &mut pb::GraphProto) -> Result<(), Reason> {
        let mut node = pb::NodeProto::default();
        let name = |w: &str| if w == "_" { String::new() } else { w.to_string() };
        node.output.push(name(first));
        while self.take(",") {
            node.output.push(name(self.word()?));
        }
        self.expect("=")?;
        let op = self.word()?;
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        (node.domain, node.op_type) = (Some(domain.into()), Some(op.into()));
        if self.take("<") {
            while !self.take(">") {
                node.attribute.push(self.attribute()?);
                self.take(",");
            }
        }
        self.expect("(")?;
        while !self.take(")") {
            if self.at_number() {
                let literal = self.literal()?;
                let dtype = if literal.is_float() { DType::F32 } else { DType::I64 };
                let sizes = if literal.list { vec![literal.words.len()] } else { Vec::new() };
                let label = format!("{LITERAL}{}", self.constants);
                self.constants += 1;
                let tensor = Value::Tensor(literal.tensor(dtype, &sizes)?);
                g.node.push(constant_node(&label, &tensor)?);
                node.input.push(label);
            } else {
                node.input.push(name(self.word()?));
            }
            if !self.take(",") && !self.rest().starts_with(')') {
                return Err(self.expected("\",\" or \")\""));
            }
        }
        g.node.push(node);
        Ok(())
    }

    fn attribute(&mut self) -> Result<pb::AttributeProto, Reason> {
        let name = Some(self.word()?.to_string());
        let mut a = pb::AttributeProto { name, ..Default::default() };
        self.expect("=")?;
        let ty = if self.take("{") {
            a.g = Some(self.graph()?);
            self.expect("}")?;
            Ty::Graph
        } else if self.rest().starts_with('"') {
            a.s = Some(self.string()?.into());
            Ty::String
        } else if self.rest().starts_with("[\"") {
            self.expect("[")?;
            while !self.take("]") {
                a.strings.push(self.string()?.into());
                self.take(",");
            }
            Ty::Strings
        } else {
            let literal = self.literal()?;
            let floats = || literal.words.iter().map(|w| number(w).map(|x| x as f32));
            let ints = || literal.words.iter().map(|w| integer(w));
            match (literal.list, literal.is_float()) {
                (true, true) => {
                    a.floats = floats().collect::<Result<_, _>>()?;
                    Ty::Floats
                }
                (true, false) => {
                    a.ints = ints().collect::<Result<_, _>>()?;
                    Ty::Ints
                }
                (false, true) => {
                    a.f = floats().next().transpose()?;
                    Ty::Float
                }
                (false, false) => {
                    a.i = ints().next().transpose()?;
                    Ty::Int
                }
            }
        };
        a.r#type = Some(ty as i32);
        Ok(a)
    }

    /// A text in quotes, as its bytes.
    fn string(&mut self) -> Result<Vec<u8>, Reason> {
        self.expect("\"")?;
        let rest = &self.text[self.at..];
        let end = rest.find('"').ok_or_else(|| invalid!("a string without end"))?;
        self.at += end + 1;
        Ok(rest.as_bytes()[..end].to_vec())
    }
}

/// A Constant node, whose value gets no place among the named ones.
fn constant_node(name: &str, value: &Value) -> Result<pb::NodeProto, Reason> {
    let attribute = pb::AttributeProto {
        name: Some("value".into()),
        r#type: Some(Ty::Tensor as i32),
        t: Some(tensors::to_proto("", value)?),
        ..Default::default()
    };
    Ok(pb::NodeProto {
        output: vec![name.into()],
        op_type: Some("Constant".into()),
        attribute: vec![attribute],
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_graph_is_an_error() {
        for (text, error) in [
            ("x: float[2]", "a name or number is expected where \"\" stands"),
            ("x: flat[2]; → x", "\"flat\" is no element type"),
            ("x: float[2]; y = Identity(x → y", "\",\" or \")\" is expected where \"→ y\" stands"),
            ("x: float[2] = [1, 2, 3]; → x", "3 numbers for the shape [2]"),
        ] {
            assert_eq!(parse(text).map(|g| g.to_string()), Err(invalid!("{error}")), "{text}");
        }
    }
}
