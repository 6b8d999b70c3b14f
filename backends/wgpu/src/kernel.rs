//! What a node becomes once its inputs' facts are known: kernels, one after the other.

use rinfer_graph::shape::Sizes;
use rinfer_graph::{DType, Fact, Facts, Node, Reason, invalid};

use crate::device::Traits;
use crate::shader::{Bind, Launch};

/// What is settled when a node is compiled.
pub(crate) struct Cx<'a> {
    /// The node; its operator is what is compiled.
    pub node: &'a Node,
    /// What is known of the inputs; every size is a number.
    pub inputs: &'a [Option<&'a Fact>],
    /// What was inferred of the outputs.
    pub outputs: &'a Facts,
    /// What the device can do.
    pub traits: &'a Traits,
}

impl<'a> Cx<'a> {
    /// The fact of input `i`; `Err` if it is omitted.
    pub fn input(&self, i: usize) -> Result<&'a Fact, Reason> {
        self.opt(i).ok_or_else(|| invalid!("input {i} is missing"))
    }

    /// The fact of input `i`, if it is given.
    pub fn opt(&self, i: usize) -> Option<&'a Fact> {
        self.inputs.get(i).copied().flatten()
    }

    /// The dtype of input `i`; `Err` if it is omitted or no tensor.
    pub fn dtype(&self, i: usize) -> Result<DType, Reason> {
        self.input(i)?.dtype()
    }

    /// The sizes of input `i`; `Err` if one is not known.
    pub fn sizes(&self, i: usize) -> Result<Sizes, Reason> {
        let fact = self.input(i)?;
        fact.sizes().ok_or_else(|| invalid!("the sizes of input {i}, {fact}, are not known"))
    }

    /// The dtype of output `i`.
    pub fn out_dtype(&self, i: usize) -> Result<DType, Reason> {
        self.outputs.get(i).ok_or_else(|| invalid!("there is no output {i}"))?.dtype()
    }

    /// The sizes of output `i`; `Err` if one is not known.
    pub fn out_sizes(&self, i: usize) -> Result<Sizes, Reason> {
        let fact = self.outputs.get(i).ok_or_else(|| invalid!("there is no output {i}"))?;
        fact.sizes().ok_or_else(|| invalid!("the sizes of output {i}, {fact}, are not known"))
    }

    /// Whether output `i` exists.
    pub fn wants(&self, i: usize) -> bool {
        i < self.node.outputs.len()
    }

    /// The integers that input `i` holds; `None` if it is omitted.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>, Reason> {
        let Some(fact) = self.opt(i) else { return Ok(None) };
        let ints = fact.ints().ok_or_else(|| invalid!("the content of input {i} is not known"))?;
        Ok(Some(ints.to_vec()))
    }
}

/// A node made ready to run for given shapes.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    /// What runs, in this order.
    pub launches: Vec<Launch>,
    /// Bytes of memory between them.
    pub scratch: Vec<usize>,
    /// Tables that they read.
    pub tables: Vec<Vec<u8>>,
    /// Output 0 is input 0 under another shape: nothing runs.
    pub view: bool,
}

impl Kernel {
    /// One launch.
    pub fn one(launch: Launch) -> Kernel {
        Kernel { launches: vec![launch], ..Kernel::default() }
    }

    /// Output 0 is input 0 under another shape.
    pub fn view() -> Kernel {
        Kernel { view: true, ..Kernel::default() }
    }

    /// Memory for `n` elements of this dtype between launches.
    pub fn scratch(&mut self, dtype: DType, n: usize) -> Result<Bind, Reason> {
        let bytes = dtype.bytes_for(n).ok_or_else(|| invalid!("{n} elements of {dtype}"))?;
        self.scratch.push(bytes);
        Ok(Bind::Scratch(self.scratch.len() - 1))
    }

    /// A table of words.
    pub fn table<T: bytemuck::Pod>(&mut self, words: &[T]) -> Bind {
        self.tables.push(bytemuck::cast_slice(words).to_vec());
        Bind::Table(self.tables.len() - 1)
    }

    /// Adds a launch.
    pub fn push(&mut self, launch: Launch) {
        self.launches.push(launch);
    }
}
