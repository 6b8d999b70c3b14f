//! Layers: the nodes whose weights can be integers, and what each of them is.

use rinfer::graph::ops::{Clip, Gather, Unary, UnaryFn};
use rinfer::graph::{Graph, NodeId, Op, ValueId, cost};
use rinfer::{DType, Tensor};

use crate::rebuild::{Site, each_graph};

/// What a layer does with its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A product with a constant matrix (MatMul, Gemm).
    Product,
    /// A convolution.
    Conv,
    /// Rows picked from a table (Gather).
    Table,
    /// Anything else that reads a large constant: its weight can be stored in integers.
    Other,
}

/// A node with a weight.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Where it stands.
    pub site: Site,
    /// Its name in the model, or that of its output.
    pub name: String,
    /// ONNX's operator.
    pub op: String,
    /// What it does with its weight.
    pub role: Role,
    /// What it reads besides its weight: activations, or the indices of a table.
    pub data: ValueId,
    /// The constant that is its weight.
    pub weight: ValueId,
    /// The weight's sizes as they are stored.
    pub shape: Vec<usize>,
    /// The axis of the stored weight that output channels lie along.
    pub channels: Option<usize>,
    /// Whether the weight is read through a Transpose of its two axes.
    pub swapped: bool,
    /// The constant added to each channel.
    pub bias: Option<ValueId>,
    /// What it makes: where a Relu or Clip alone reads the node, the result of that.
    pub result: ValueId,
    /// That Relu or Clip.
    pub activation: Option<NodeId>,
    /// Multiply–accumulate steps, symbolic sizes taken as 1.
    pub macs: u64,
}

impl Layer {
    /// Numbers in the weight.
    pub fn weights(&self) -> usize {
        self.shape.iter().product()
    }

    /// Rows and columns of a product's weight as the product needs it: k and n.
    pub fn k_n(&self) -> (usize, usize) {
        let (a, b) = (self.shape[self.shape.len() - 2], self.shape[self.shape.len() - 1]);
        if self.channels == Some(self.shape.len() - 2) { (b, a) } else { (a, b) }
    }
}

/// A node that computes with numbers and is no layer, and why.
#[derive(Clone, Debug)]
pub struct Left {
    /// Its name.
    pub name: String,
    /// ONNX's operator.
    pub op: String,
    /// Why it is no layer.
    pub why: String,
    /// Multiply–accumulate steps.
    pub macs: u64,
}

/// A node's name, or its first output's.
pub fn node_name(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    match (&*node.name, node.outputs.first()) {
        ("", Some(&v)) => {
            graph.name(v).map_or_else(|| format!("v{}", v.index()), |n| n.to_string())
        }
        (name, _) => name.to_string(),
    }
}

/// The layers of a model, bodies included, in order; and what looks like one but is none.
pub fn layers(graph: &Graph) -> (Vec<Layer>, Vec<Left>) {
    let (mut found, mut left) = (Vec::new(), Vec::new());
    each_graph(graph, &mut |number, g| {
        let readers = only_readers(g);
        for (id, _) in g.nodes() {
            let site = Site { graph: number, node: id };
            match layer(g, site, &readers) {
                Some(Ok(layer)) => found.push(layer),
                Some(Err(why)) => left.push(why),
                None => {}
            }
        }
    });
    unique_names(&mut found);
    (found, left)
}

/// For each value the node that reads it, if there is one and nobody else does.
fn only_readers(g: &Graph) -> Vec<Option<NodeId>> {
    let uses = g.use_counts();
    let mut readers = vec![None; g.value_count()];
    for (id, node) in g.nodes() {
        for &v in node.inputs.iter().flatten() {
            readers[v.index()] = (uses[v.index()] == 1).then_some(id);
        }
    }
    readers
}

/// Names that stand twice get a number.
fn unique_names(layers: &mut [Layer]) {
    let mut seen = std::collections::HashMap::<String, usize>::new();
    for layer in layers {
        let n = seen.entry(layer.name.clone()).or_insert(0);
        *n += 1;
        if *n > 1 {
            layer.name = format!("{}#{n}", layer.name);
        }
    }
}

/// A constant of floats, behind a Transpose of two axes or not.
fn weight(g: &Graph, v: ValueId) -> Option<(ValueId, &Tensor, bool)> {
    if let (None, Some(t)) = (g.producer(v), g.tensor(v)) {
        return Some((v, t, false));
    }
    let node = g.made_by(v)?;
    let Op::Transpose(op) = &node.op else { return None };
    let from = node.inputs[0]?;
    let t = g.tensor(from).filter(|t| t.rank() == 2 && g.producer(from).is_none())?;
    let swaps = op.perm.as_ref().is_none_or(|perm| perm.as_slice() == [1, 0]);
    swaps.then_some((from, t, true))
}

/// Whether a value is made of integer codes already.
fn is_coded(g: &Graph, v: ValueId) -> bool {
    let mut v = v;
    while let Some(node) = g.made_by(v) {
        match &node.op {
            Op::DequantizeLinear(_) => return true,
            Op::Transpose(_) | Op::Reshape(_) | Op::Identity(_) => match node.inputs[0] {
                Some(from) => v = from,
                None => return false,
            },
            _ => return false,
        }
    }
    false
}

fn layer(g: &Graph, site: Site, readers: &[Option<NodeId>]) -> Option<Result<Layer, Left>> {
    let node = g.node(site.node);
    let at = |i: usize| node.inputs.get(i).copied().flatten();
    let (role, op, data, from) = match &node.op {
        Op::MatMul(m) => {
            let plain = !m.trans_b && at(2).is_none();
            (Role::Product, if plain { "MatMul" } else { "Gemm" }, at(0)?, at(1)?)
        }
        Op::Conv(_) => (Role::Conv, "Conv", at(0)?, at(1)?),
        Op::Gather(_) => (Role::Table, "Gather", at(1)?, at(0)?),
        Op::ConvTranspose(_) => (Role::Other, "ConvTranspose", at(0)?, at(1)?),
        _ => return None,
    };
    let facts: Vec<_> = node.inputs.iter().map(|v| v.map(|v| g.fact(v))).collect();
    let macs = cost::op_macs(&node.op, &facts, node.outputs.first().map(|&v| g.fact(v)));
    let name = node_name(g, site.node);
    let no =
        |why: &str| Some(Err(Left { name: name.clone(), op: op.into(), why: why.into(), macs }));
    let Some((weight, tensor, swapped)) = weight(g, from) else {
        return match role {
            Role::Table => None,
            _ if is_coded(g, from) => no("its weight is in integers already"),
            _ => no("its weight is no constant of this graph"),
        };
    };
    if tensor.dtype() != DType::F32 {
        // Tables of integers are shapes and indices.
        return if role == Role::Table { None } else { no("its weight is not float32") };
    }
    let shape = tensor.shape().to_vec();
    let channels = match channels(&node.op, &shape, swapped) {
        Ok(channels) => channels,
        Err(why) => return no(why),
    };
    if role == Role::Product && g.fact(data).rank().is_some_and(|rank| rank < 2) {
        return no("it multiplies a vector");
    }
    if role == Role::Table && (shape.len() < 2 || tensor.len() < 1024) {
        return None;
    }
    let bias = at(2).filter(|&v| g.tensor(v).is_some() && g.producer(v).is_none());
    if matches!(role, Role::Product | Role::Conv) && at(2).is_some() && bias.is_none() {
        return no("its bias is no constant of this graph");
    }
    let made = node.outputs[0];
    let activation = readers[made.index()]
        .filter(|&id| bounds_at_zero(g, id, made))
        .filter(|_| role == Role::Conv);
    let result = activation.map_or(made, |id| g.node(id).outputs[0]);
    Some(Ok(Layer {
        site,
        name,
        op: op.into(),
        role,
        data,
        weight,
        shape,
        channels,
        swapped,
        bias: bias.filter(|_| matches!(role, Role::Product | Role::Conv)),
        result,
        activation,
        macs,
    }))
}

/// The axis of the stored weight that output channels lie along; `None` if there is none.
fn channels(op: &Op, shape: &[usize], swapped: bool) -> Result<Option<usize>, &'static str> {
    match op {
        Op::MatMul(op) => {
            if op.trans_a || op.activation.is_some() {
                return Err("its product is of a form that is not quantized");
            }
            match shape.len() {
                0 | 1 => Err("its weight is a vector"),
                2 if op.trans_b != swapped => Ok(Some(0)),
                2 => Ok(Some(1)),
                _ if op.trans_b || swapped => Err("its weight is a batch of transposed matrices"),
                _ => Ok(None),
            }
        }
        Op::Conv(op) if op.activation.is_some() => Err("its activation is fused"),
        Op::Conv(_) => Ok(Some(0)),
        Op::ConvTranspose(op) => Ok((op.group == 1).then_some(1)),
        Op::Gather(Gather { axis }) => match axis.resolve(shape.len()) {
            Ok(0) if shape.len() == 2 => Ok(Some(0)),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// Whether a node is a Relu, or a Clip at zero, of a value.
fn bounds_at_zero(g: &Graph, id: NodeId, v: ValueId) -> bool {
    let node = g.node(id);
    let bound = |i: usize| g.tensor(node.inputs.get(i).copied().flatten()?);
    let zero = |t: &Tensor| t.dtype() == DType::F32 && t.as_slice::<f32>() == [0.0];
    let relu = match &node.op {
        Op::Unary(Unary(UnaryFn::Relu)) => true,
        // An upper bound that is computed cannot be taken along.
        Op::Clip(Clip) => {
            bound(1).is_some_and(zero)
                && node.inputs.get(2).copied().flatten().is_none_or(|v| g.tensor(v).is_some())
        }
        _ => false,
    };
    relu && node.inputs[0] == Some(v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rinfer::graph::onnx::parse;

    #[test]
    fn layers_are_nodes_with_constant_weights() {
        let g = parse(
            "x: float[n, 1, 8, 8]; w: float[4, 1, 3, 3] = 0.5; m: float[4, 10] = 0.1; i: int64[n]\n\
             t: float[300, 4] = 1.0; a = Conv(x, w); r = Relu(a); p = GlobalAveragePool(r)\n\
             f = Flatten(p); e = Gather(t, i); s = Add(f, e); y = MatMul(s, m)\n\
             z = MatMul(y, y) → z",
        );
        let g = g.unwrap_or_else(|_| {
            parse(
                "x: float[n, 1, 8, 8]; w: float[4, 1, 3, 3] = 0.5; m: float[4, 10] = 0.1\n\
                 i: int64[n]; t: float[300, 4] = 1.0; a = Conv(x, w); r = Relu(a)\n\
                 p = GlobalAveragePool(r); f = Flatten(p); e = Gather(t, i); s = Add(f, e)\n\
                 y = MatMul(s, m); u = Transpose(y); z = MatMul(y, u); → z",
            )
            .unwrap()
        });
        let (found, left) = layers(&g);
        let roles: Vec<Role> = found.iter().map(|l| l.role).collect();
        assert_eq!(roles, [Role::Conv, Role::Table, Role::Product]);
        assert!(found[0].activation.is_some());
        assert_eq!(found[2].k_n(), (4, 10));
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].why, "its weight is no constant of this graph");
    }

    #[test]
    fn a_weight_may_stand_behind_a_transpose() {
        let g =
            parse("x: float[n, 4]; w: float[6, 4] = 0.5; u = Transpose(w); y = MatMul(x, u); → y")
                .unwrap();
        let (found, _) = layers(&g);
        assert_eq!((found[0].swapped, found[0].channels, found[0].k_n()), (true, Some(0), (4, 6)));
    }
}
