//! The nodes of a program, their values renumbered.

use std::collections::HashMap;

use rinfer_graph::backend::{NodeError, Region};
use rinfer_graph::{DType, Fact, Node, NodeId, Reason, Tensor, Type, Value, ValueId, invalid};
use smallvec::SmallVec;

use crate::half::{Values, halves};
use crate::site::{Site, sites};

/// The number of a value inside a program.
pub(crate) type Local = usize;

/// One node, its values by their numbers.
pub(crate) struct Entry {
    pub id: NodeId,
    pub node: Node,
    pub site: Site,
    pub inputs: SmallVec<[Option<Local>; 4]>,
    pub outputs: SmallVec<[Local; 1]>,
}

/// The nodes of a program.
pub(crate) struct Nodes {
    pub entries: Vec<Entry>,
    pub inputs: Vec<Local>,
    pub outputs: Vec<Local>,
    constants: HashMap<Local, (Fact, Value)>,
    /// One past the last node that reads each value; `usize::MAX` for the program's outputs.
    read_until: Vec<usize>,
    /// Values that are floats of 32 bits, and kept in 16 bits on the GPU.
    halves: Vec<bool>,
}

impl Nodes {
    /// With `half`, values that cannot overflow are kept in 16 bits.
    pub fn new(region: &Region<'_>, half: bool) -> Result<Nodes, NodeError> {
        let g = region.graph;
        let mut locals: HashMap<ValueId, Local> = HashMap::new();
        let mut ids = Vec::new();
        let mut local = |v: ValueId| {
            *locals.entry(v).or_insert_with(|| {
                ids.push(v);
                ids.len() - 1
            })
        };
        let inputs: Vec<Local> = region.inputs.iter().map(|&v| local(v)).collect();
        let mut where_: HashMap<NodeId, Result<Site, Reason>> =
            g.order().iter().copied().zip(sites(g)).collect();
        let mut entries = Vec::with_capacity(region.nodes.len());
        for &id in region.nodes {
            let node = g.node(id).clone();
            let site = where_.remove(&id).unwrap_or_else(|| Err(invalid!("not in the graph")));
            entries.push(Entry {
                id,
                site: site.map_err(|reason| reason.at(id))?,
                inputs: node.inputs.iter().map(|v| v.map(&mut local)).collect(),
                outputs: node.outputs.iter().map(|&v| local(v)).collect(),
                node,
            });
        }
        let outputs: Vec<Local> = region.outputs.iter().map(|&v| local(v)).collect();
        let mut read_until = vec![0; ids.len()];
        for (i, entry) in entries.iter().enumerate() {
            entry.inputs.iter().flatten().for_each(|&l| read_until[l] = i + 1);
        }
        outputs.iter().for_each(|&l| read_until[l] = usize::MAX);
        let mut constants = HashMap::new();
        for (l, &v) in ids.iter().enumerate() {
            let fact = g.fact(v);
            if g.producer(v).is_none()
                && !region.inputs.contains(&v)
                && let Some(value) = fact.value()
            {
                constants.insert(l, (fact.clone(), value));
            }
        }
        let halves = match half {
            false => vec![false; ids.len()],
            true => halves(&Values {
                count: ids.len(),
                entries: &entries,
                ends: inputs.iter().chain(&outputs).copied().collect(),
                constant: &|l| constants.get(&l).and_then(|(_, v)| v.as_tensor().ok().cloned()),
                dtype: &|l| g.fact(ids[l]).dtype().ok(),
                sizes: &|l| Some(g.fact(ids[l]).shape()?.iter().map(|d| d.size()).collect()),
            }),
        };
        Ok(Nodes { entries, inputs, outputs, constants, read_until, halves })
    }

    /// Whether a value is kept in 16 bits though it is of 32.
    pub fn is_half(&self, l: Local) -> bool {
        self.halves[l]
    }

    /// What is known of a value as the GPU keeps it.
    pub fn kept_fact(&self, l: Local, fact: &Fact) -> Fact {
        match self.halves[l] {
            true => Fact { ty: Type::Tensor(DType::F16), known: None, ..fact.clone() },
            false => fact.clone(),
        }
    }

    /// How many values there are.
    pub fn values(&self) -> usize {
        self.read_until.len()
    }

    /// Whether node `node` or a later one reads the value, or it is an output.
    pub fn is_read_from(&self, l: Local, node: usize) -> bool {
        self.read_until[l] > node
    }

    /// The constant that this value is.
    pub fn constant(&self, l: Local) -> Option<&Value> {
        self.constants.get(&l).map(|(_, value)| value)
    }

    /// What is known of the constants.
    pub fn constant_facts(&self) -> impl Iterator<Item = (Local, &Fact)> {
        self.constants.iter().map(|(&l, (fact, _))| (l, fact))
    }

    /// Bytes of the constants.
    pub fn weight_bytes(&self) -> usize {
        let tensors = self.constants.values().filter_map(|(_, value)| value.as_tensor().ok());
        tensors.map(Tensor::byte_len).sum()
    }
}
