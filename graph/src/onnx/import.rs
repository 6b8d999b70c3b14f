//! From `ModelProto` to [`Graph`]: names become numbers, versions and functions disappear.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use rinfer_onnx_proto as pb;

use super::attrs::Attrs;
use super::census;
use super::external::{ExternalData, NoExternalData};
use super::model::{Model, Port};
use super::node::{NodeCx, Outputs};
use super::order::sorted;
use super::tensors;
use crate::ops::{Custom, CustomOp, table};
use crate::{Fact, Graph, Limits, Reason, ValueId, invalid, unsupported};

/// Why a model cannot be imported.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The bytes are not an ONNX model.
    #[error(transparent)]
    Decode(#[from] pb::DecodeError),
    /// Something about a node.
    #[error("node {node} ({op}): {reason}")]
    Node {
        /// The node's name, or its first output's, or its position.
        node: String,
        /// Domain, operator and version.
        op: String,
        /// What is wrong.
        reason: Reason,
    },
    /// Something about the model as a whole.
    #[error("{0}")]
    Model(Reason),
}

impl ImportError {
    /// The bare reason, if there is one.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            ImportError::Decode(_) => None,
            ImportError::Node { reason, .. } | ImportError::Model(reason) => Some(reason),
        }
    }
}

/// `Err` with the first attribute that nobody asked for: it must not pass unseen.
fn all_read(attrs: &Attrs<'_>, by: &str) -> Result<(), Reason> {
    match attrs.unread()[..] {
        [] => Ok(()),
        [name, ..] => Err(invalid!("attribute {name} is unknown to {by}")),
    }
}

/// Operators that the user brings, by domain and name.
pub type CustomOps = HashMap<(String, String), Arc<dyn CustomOp>>;

/// What importing a model needs besides its bytes.
pub struct ImportOptions<'a> {
    /// Where external data comes from.
    pub external: &'a dyn ExternalData,
    /// What a model may ask for.
    pub limits: &'a Limits,
    /// The user's operators; they come before ONNX's of the same name.
    pub custom: &'a CustomOps,
    /// Sizes that symbolic dimensions of the inputs are given.
    pub dims: &'a HashMap<String, usize>,
}

impl Default for ImportOptions<'_> {
    fn default() -> Self {
        static CUSTOM: std::sync::LazyLock<CustomOps> = std::sync::LazyLock::new(CustomOps::new);
        static DIMS: std::sync::LazyLock<HashMap<String, usize>> =
            std::sync::LazyLock::new(HashMap::new);
        static LIMITS: Limits = Limits::trusted();
        ImportOptions { external: &NoExternalData, limits: &LIMITS, custom: &CUSTOM, dims: &DIMS }
    }
}

/// Reads a model. Its weights alias `bytes`.
pub fn import(bytes: bytes::Bytes, options: &ImportOptions<'_>) -> Result<Model, ImportError> {
    let limit = options.limits.model_bytes;
    if bytes.len() > limit {
        let asked = format!("{} bytes", bytes.len());
        return Err(ImportError::Model(Reason::over("a model file", asked, limit)));
    }
    let proto = pb::decode(bytes)?;
    census::check(&proto, options.limits).map_err(ImportError::Model)?;
    let mut importer = Importer::new(&proto, options).map_err(ImportError::Model)?;
    let result = importer.model(&proto);
    result.map_err(|reason| match importer.failed.take() {
        Some((node, op)) => ImportError::Node { node, op, reason },
        None => ImportError::Model(reason),
    })
}

/// What [`NodeCx`] needs of the importer.
pub(super) trait Build {
    fn graph(&mut self) -> &mut Graph;
    fn graph_ref(&self) -> &Graph;
    fn external(&self) -> &dyn ExternalData;
    fn body(
        &mut self,
        body: &pb::GraphProto,
        facts: &[Fact],
    ) -> Result<(Graph, Vec<ValueId>), Reason>;
    fn count_node(&mut self) -> Result<(), Reason>;
    /// Counts the bytes of a tensor that the file only describes.
    fn count_dense(&self, bytes: usize) -> Result<(), Reason>;
    fn find(&mut self, name: &str) -> Option<ValueId>;
}

type FunctionKey<'a> = (&'a str, &'a str, &'a str);
type OuterAttrs<'a> = HashMap<&'a str, &'a pb::AttributeProto>;

/// The names that a list of nodes may use.
#[derive(Default)]
struct Scope {
    /// `None` is a function's input that the caller left out.
    names: HashMap<String, Option<ValueId>>,
    /// The scope around a body; a function's body has none.
    parent: Option<usize>,
    /// Which of `graphs` the names are values of.
    graph: usize,
}

/// A graph under construction, with what it captures of the graph around it.
#[derive(Default)]
struct Frame {
    graph: Graph,
    captures: Vec<ValueId>,
}

struct Importer<'a> {
    options: &'a ImportOptions<'a>,
    functions: HashMap<FunctionKey<'a>, &'a pb::FunctionProto>,
    /// The opsets of the model or, inside a function, of the function.
    opsets: Vec<HashMap<&'a str, i64>>,
    frames: Vec<Frame>,
    scopes: Vec<Scope>,
    nodes: usize,
    /// Bytes of tensors that the file only describes.
    dense: Cell<usize>,
    failed: Option<(String, String)>,
}

pub(super) fn opset_map(imports: &[pb::OperatorSetIdProto]) -> HashMap<&str, i64> {
    imports.iter().map(|o| (canonical(o.domain()), o.version())).collect()
}

/// ONNX's own domain has two names.
pub(super) fn canonical(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl<'a> Importer<'a> {
    fn new(
        model: &'a pb::ModelProto,
        options: &'a ImportOptions<'a>,
    ) -> Result<Importer<'a>, Reason> {
        let opsets = opset_map(&model.opset_import);
        if let Some(&v) = opsets.get("").filter(|&&v| v > super::NEWEST_OPSET) {
            return Err(unsupported!("opset {v} is newer than {}", super::NEWEST_OPSET));
        }
        let key = |f: &'a pb::FunctionProto| (canonical(f.domain()), f.name(), f.overload());
        Ok(Importer {
            options,
            functions: model.functions.iter().map(|f| (key(f), f)).collect(),
            opsets: vec![opsets],
            frames: vec![Frame::default()],
            scopes: vec![Scope::default()],
            nodes: 0,
            dense: Cell::new(0),
            failed: None,
        })
    }

    fn model(&mut self, proto: &'a pb::ModelProto) -> Result<Model, Reason> {
        let graph_proto = proto.graph.as_ref().ok_or_else(|| invalid!("the model has no graph"))?;
        let mut model = Model {
            ir_version: proto.ir_version(),
            opsets: proto
                .opset_import
                .iter()
                .map(|o| (canonical(o.domain()).to_string(), o.version()))
                .collect(),
            producer: format!("{} {}", proto.producer_name(), proto.producer_version())
                .trim()
                .to_string(),
            domain: proto.domain().to_string(),
            version: proto.model_version(),
            doc: proto.doc_string().to_string(),
            metadata: proto
                .metadata_props
                .iter()
                .map(|p| (p.key().to_string(), p.value().to_string()))
                .collect(),
            declared_inputs: graph_proto.input.iter().map(|i| i.name().to_string()).collect(),
            ..Model::default()
        };
        self.initializers(graph_proto)?;
        for info in &graph_proto.input {
            if let Some(&Some(v)) = self.scope().names.get(info.name()) {
                model.defaults.push((info.name().to_string(), v));
                continue;
            }
            let mut port = port(info)?;
            port.shape.iter_mut().flatten().for_each(|d| self.give_size(d));
            let fact = Fact { ty: port.ty.clone(), shape: port.shape.clone(), known: None };
            self.check_rank(&fact)?;
            let v = self.graph().input(&port.name, fact);
            self.bind(&port.name, v)?;
            model.inputs.push(port);
        }
        self.import_nodes(&graph_proto.node, None)?;
        for info in &graph_proto.output {
            let v = self
                .lookup(0, info.name())
                .flatten()
                .ok_or_else(|| invalid!("nothing makes the output {:?}", info.name()))?;
            self.graph().output(v);
            let fact = self.graph_ref().fact(v).clone();
            // Old files may leave an output's type out.
            let port = port(info).unwrap_or_else(|_| Port {
                name: info.name().into(),
                ty: fact.ty,
                shape: fact.shape,
            });
            model.outputs.push(port);
        }
        model.file_nodes = self.nodes;
        model.initializer_bytes = graph_proto.initializer.iter().map(|t| t.raw_data().len()).sum();
        model.graph = std::mem::take(&mut self.frames[0].graph);
        model.graph.name = graph_proto.name().to_string();
        Ok(model)
    }

    /// Reads a body into the innermost graph, whose scope stands.
    fn fill_body(&mut self, body: &pb::GraphProto, facts: &[Fact]) -> Result<(), Reason> {
        for (i, info) in body.input.iter().enumerate() {
            let declared = port(info).map(|p| Fact { ty: p.ty, shape: p.shape, known: None });
            let fact = match (facts.get(i), declared) {
                (Some(fact), Ok(declared)) if fact.compatible(&declared) => {
                    fact.clone().refined(&declared)
                }
                (Some(fact), _) => fact.clone(),
                (None, declared) => declared?,
            };
            let v = self.graph().input(info.name(), fact.forget());
            self.bind(info.name(), v)?;
        }
        if body.input.len() < facts.len() {
            return Err(invalid!(
                "the body has {} inputs, {} are given",
                body.input.len(),
                facts.len()
            ));
        }
        self.initializers(body)?;
        self.import_nodes(&body.node, None)?;
        let scope = self.scopes.len() - 1;
        for info in &body.output {
            let v = self.lookup(scope, info.name()).flatten();
            let v =
                v.ok_or_else(|| invalid!("nothing makes the body's output {:?}", info.name()))?;
            self.graph().output(v);
        }
        Ok(())
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("there is always a scope")
    }

    /// Replaces a symbol by the size that the caller gave it.
    fn give_size(&self, dim: &mut crate::Dim) {
        if let Some(&size) = dim.as_symbol().and_then(|name| self.options.dims.get(&**name)) {
            *dim = crate::Dim::from(size);
        }
    }

    fn check_rank(&self, fact: &Fact) -> Result<(), Reason> {
        let limit = self.options.limits.rank;
        match fact.rank() {
            Some(rank) if rank > limit => Err(Reason::over("a rank", rank, limit)),
            _ => Ok(()),
        }
    }

    /// Names a value in the innermost scope; `Err` if the name is taken there.
    fn bind(&mut self, name: &str, v: ValueId) -> Result<(), Reason> {
        let graph = self.graph();
        if graph.name(v).is_none() {
            graph.set_name(v, name);
        }
        match self.scope().names.insert(name.to_string(), Some(v)) {
            Some(_) => Err(invalid!("two values are named {name:?}")),
            None => Ok(()),
        }
    }

    fn initializers(&mut self, graph: &pb::GraphProto) -> Result<(), Reason> {
        let external = self.options.external;
        for t in &graph.initializer {
            let value =
                tensors::tensor(t, external).map_err(|r| within("initializer", t.name(), r))?;
            let v = self.graph().constant_value(&value);
            self.bind(t.name(), v)?;
        }
        for t in &graph.sparse_initializer {
            let name = t.values.as_ref().map_or("", |v| v.name());
            let dense = tensors::sparse(t, external, &|bytes| self.count_dense(bytes))
                .map_err(|r| within("initializer", name, r))?;
            let v = self.graph().constant(dense);
            self.bind(name, v)?;
        }
        Ok(())
    }

    /// The value with this name as the scope's graph sees it: outer values become captures.
    fn lookup(&mut self, scope: usize, name: &str) -> Option<Option<ValueId>> {
        if let Some(&v) = self.scopes[scope].names.get(name) {
            return Some(v);
        }
        let parent = self.scopes[scope].parent?;
        let Some(outer) = self.lookup(parent, name)? else { return Some(None) };
        let (from, to) = (self.scopes[parent].graph, self.scopes[scope].graph);
        if from == to {
            return Some(Some(outer));
        }
        let fact = self.frames[from].graph.fact(outer).clone();
        let inner = if fact.is_const() {
            self.frames[to].graph.value(fact)
        } else {
            self.frames[to].captures.push(outer);
            self.frames[to].graph.input(name, fact.forget())
        };
        self.scopes[scope].names.insert(name.to_string(), Some(inner));
        Some(Some(inner))
    }

    /// Imports nodes in an order in which each finds its inputs (files need not be sorted).
    fn import_nodes<'n>(
        &mut self,
        nodes: &'n [pb::NodeProto],
        outer: Option<&OuterAttrs<'n>>,
    ) -> Result<(), Reason> {
        for i in sorted(nodes)? {
            let node = &nodes[i];
            if let Err(reason) = self.node(node, outer) {
                if self.failed.is_none() {
                    let name = [node.name(), node.output.first().map_or("", |s| s)];
                    let name = name.into_iter().find(|n| !n.is_empty());
                    self.failed =
                        Some((name.map_or(format!("#{i}"), str::to_string), self.describe(node)));
                }
                return Err(reason);
            }
        }
        Ok(())
    }

    fn describe(&self, node: &pb::NodeProto) -> String {
        let domain = canonical(node.domain());
        let opset = self.opsets.last().and_then(|o| o.get(domain));
        let dot = if domain.is_empty() { "" } else { "." };
        let version = opset.map_or(String::new(), |v| format!(", opset {v}"));
        format!("{domain}{dot}{}{version}", node.op_type())
    }

    fn node<'n>(
        &mut self,
        node: &'n pb::NodeProto,
        outer: Option<&OuterAttrs<'n>>,
    ) -> Result<(), Reason> {
        let attrs = Attrs::new(&node.attribute, outer)?;
        let scope = self.scopes.len() - 1;
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(match name.as_str() {
                "" => None,
                name => self
                    .lookup(scope, name)
                    .ok_or_else(|| invalid!("nothing makes the input {name:?}"))?,
            });
        }
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        let wanted = node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |i| i + 1);
        let domain = canonical(node.domain());
        let function = self.functions.get(&(domain, node.op_type(), node.overload())).copied();
        let made = if let Some(function) = function {
            self.call(function, &attrs, &inputs, wanted)?
        } else {
            self.operator(node, domain, &attrs, inputs, wanted)?
        };
        for (i, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let v = *made.get(i).ok_or_else(|| invalid!("output {i} ({name:?}) is not made"))?;
            let fact = self.graph_ref().fact(v).clone();
            self.check_rank(&fact)?;
            self.bind(name, v)?;
        }
        Ok(())
    }

    fn operator(
        &mut self,
        node: &pb::NodeProto,
        domain: &str,
        attrs: &Attrs<'_>,
        inputs: Vec<Option<ValueId>>,
        outputs: usize,
    ) -> Result<Outputs, Reason> {
        let name = [node.name(), node.output.first().map_or("", |s| s)];
        let name = name.into_iter().find(|n| !n.is_empty()).unwrap_or("");
        let custom =
            self.options.custom.get(&(domain.to_string(), node.op_type().to_string())).cloned();
        let opset = self.opsets.last().and_then(|o| o.get(domain)).copied();
        let mut cx = NodeCx { build: self, attrs, inputs, outputs, name: name.into(), version: 0 };
        if let Some(op) = custom {
            let own = op.for_node(&cx)?;
            all_read(attrs, "the operator")?;
            return cx.emit(Custom(own.unwrap_or(op)));
        }
        // The operator set that a file leaves out is version 1 of ONNX's own.
        let opset = match (opset, domain) {
            (Some(v), _) => v,
            (None, "") => 1,
            (None, _) => {
                return Err(invalid!("the model imports no opset of the domain {domain:?}"));
            }
        };
        let (op, version) = table::find(domain, node.op_type(), opset)?;
        cx.version = version;
        let made = (op.import)(&mut cx)?;
        all_read(attrs, &format!("version {version} of the operator"))?;
        Ok(made)
    }

    /// Inlines a function's body into the current graph.
    fn call(
        &mut self,
        function: &'a pb::FunctionProto,
        attrs: &Attrs<'_>,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<Outputs, Reason> {
        if inputs.len() > function.input.len() || outputs > function.output.len() {
            return Err(invalid!(
                "{} inputs and {outputs} outputs for a function with {} and {}",
                inputs.len(),
                function.input.len(),
                function.output.len()
            ));
        }
        let graph = self.scope().graph;
        let mut scope = Scope { graph, ..Scope::default() };
        for (i, name) in function.input.iter().enumerate() {
            scope.names.insert(name.clone(), inputs.get(i).copied().flatten());
        }
        let mut given = attrs.all();
        for default in &function.attribute_proto {
            given.entry(default.name()).or_insert(default);
        }
        self.scopes.push(scope);
        self.opsets.push(opset_map(&function.opset_import));
        let result = self.import_nodes(&function.node, Some(&given));
        let made = result.and_then(|()| {
            let inner = self.scopes.len() - 1;
            let find = |name: &String| {
                self.lookup(inner, name).flatten().ok_or_else(|| invalid!("nothing makes {name:?}"))
            };
            function.output[..outputs].iter().map(find).collect::<Result<Outputs, _>>()
        });
        self.opsets.pop();
        self.scopes.pop();
        made
    }
}

impl Build for Importer<'_> {
    fn graph(&mut self) -> &mut Graph {
        let frame = self.scope().graph;
        &mut self.frames[frame].graph
    }

    fn graph_ref(&self) -> &Graph {
        let scope = self.scopes.last().expect("there is always a scope");
        &self.frames[scope.graph].graph
    }

    fn external(&self) -> &dyn ExternalData {
        self.options.external
    }

    fn body(
        &mut self,
        body: &pb::GraphProto,
        facts: &[Fact],
    ) -> Result<(Graph, Vec<ValueId>), Reason> {
        let limit = self.options.limits.subgraph_depth;
        if self.frames.len() > limit {
            return Err(Reason::over("a depth of subgraphs", self.frames.len(), limit));
        }
        let scope = Scope {
            parent: Some(self.scopes.len() - 1),
            graph: self.frames.len(),
            ..Scope::default()
        };
        self.frames.push(Frame::default());
        self.scopes.push(scope);
        let result = self.fill_body(body, facts);
        self.scopes.pop();
        let frame = self.frames.pop().expect("pushed above");
        result.map(|()| (frame.graph, frame.captures))
    }

    fn find(&mut self, name: &str) -> Option<ValueId> {
        self.lookup(self.scopes.len() - 1, name).flatten()
    }

    fn count_dense(&self, bytes: usize) -> Result<(), Reason> {
        let limits = self.options.limits;
        if bytes > limits.tensor_bytes {
            return Err(Reason::over("bytes of a sparse tensor", bytes, limits.tensor_bytes));
        }
        self.dense.set(self.dense.get().saturating_add(bytes));
        match self.dense.get() > limits.memory {
            true => Err(Reason::over("bytes of sparse tensors", self.dense.get(), limits.memory)),
            false => Ok(()),
        }
    }

    fn count_node(&mut self) -> Result<(), Reason> {
        self.nodes += 1;
        let limit = self.options.limits.nodes;
        if self.nodes > limit {
            return Err(Reason::over("a number of nodes", self.nodes, limit));
        }
        Ok(())
    }
}

fn within(what: &str, name: &str, reason: Reason) -> Reason {
    Reason::new(reason.kind, format!("{what} {name:?}: {}", reason.text))
}

fn port(info: &pb::ValueInfoProto) -> Result<Port, Reason> {
    let ty = info.r#type.as_ref().ok_or_else(|| invalid!("{:?} has no type", info.name()))?;
    let (ty, shape) =
        tensors::type_of(ty).map_err(|r| within("input or output", info.name(), r))?;
    Ok(Port { name: info.name().to_string(), ty, shape })
}
