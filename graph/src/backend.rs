//! The border between graphs and what executes them.

use std::any::Any;
use std::sync::Arc;
use std::task::Waker;

use web_time::Instant;

use crate::sync::{AtomicBool, Ordering};
use crate::{DType, Fact, Graph, Kind, Limits, NodeId, Reason, Tensor, Value, ValueId};

/// Executes parts of graphs on one kind of device.
pub trait Backend: Send + Sync {
    /// Its name: `cpu`, `gpu`.
    fn name(&self) -> &'static str;

    /// Whether it can execute each node, in the graph's order, judged by operator, attributes and
    /// facts.
    fn supports(&self, graph: &Graph) -> Vec<Result<(), Reason>>;

    /// Makes a region ready to run: packs weights, builds pipelines.
    fn compile(&self, region: Region<'_>) -> Result<Arc<dyn Program>, NodeError>;

    /// Whether runs only come to an end if they are left for a while, as on a page's GPU. What
    /// cannot be left, the bodies of control flow, runs on other backends then.
    fn pauses(&self) -> bool {
        false
    }
}

/// Nodes of a graph that one backend executes together.
#[derive(Clone, Copy)]
pub struct Region<'a> {
    /// The graph they belong to.
    pub graph: &'a Graph,
    /// The nodes in an order in which they can run.
    pub nodes: &'a [NodeId],
    /// Values from outside that they read; constants are not among them.
    pub inputs: &'a [ValueId],
    /// Values that are read outside.
    pub outputs: &'a [ValueId],
    /// Called as weights are made ready, with the bytes done since the last call.
    pub progress: &'a (dyn Fn(usize) + Sync),
}

/// A region made ready to run. Any number of threads may run it at once.
pub trait Program: Send + Sync {
    /// Runs once. Inputs and outputs as in the [`Region`].
    fn run(&self, inputs: Vec<Value>, cx: &RunCx<'_>) -> Result<Vec<Value>, NodeError>;

    /// As [`Program::run`], with values that stay on a device: those that are given so, and the
    /// outputs that `keep` says, if this backend has made them there. Without a device everything
    /// comes to the host.
    fn run_held(
        &self,
        inputs: Vec<Held>,
        _keep: &[bool],
        cx: &RunCx<'_>,
    ) -> Result<Vec<Held>, NodeError> {
        let inputs = inputs.into_iter().map(|v| v.into_host(cx)).collect::<Result<_, _>>()?;
        Ok(self.run(inputs, cx)?.into_iter().map(Held::Host).collect())
    }

    /// What a run with inputs of these facts takes in memory.
    fn memory(&self, inputs: &[crate::Fact]) -> Result<Memory, NodeError>;

    /// Whether it takes tensors where a device keeps them; else they come to the host first.
    fn takes_device(&self) -> bool {
        false
    }

    /// Begins a run that is done in slices. Inputs and `keep` as in [`Program::run_held`].
    fn start(
        self: Arc<Self>,
        inputs: Vec<Held>,
        keep: Vec<bool>,
        cx: &RunCx<'_>,
    ) -> Result<Box<dyn Running>, NodeError>;

    /// Gives memory that earlier runs left for later ones back to the system.
    fn trim(&self) {}

    /// Where a node of the region runs, if that is not where the backend's others do.
    fn place(&self, _node: NodeId) -> Option<&'static str> {
        None
    }
}

/// A value on the host, or a tensor where a backend keeps it.
#[derive(Clone)]
pub enum Held {
    /// On the host.
    Host(Value),
    /// In a device's memory.
    Device(Arc<dyn OnDevice>),
}

impl Held {
    /// The value on the host, read back if need be.
    pub fn into_host(self, cx: &RunCx<'_>) -> Result<Value, Reason> {
        match self {
            Held::Host(value) => Ok(value),
            Held::Device(tensor) => Ok(tensor.read(cx)?.into()),
        }
    }
}

/// A tensor in a device's own memory. Nothing writes it once it exists.
pub trait OnDevice: Send + Sync {
    /// The type of its elements.
    fn dtype(&self) -> DType;

    /// The size of each axis.
    fn shape(&self) -> &[usize];

    /// Begins to bring its content to the host.
    fn reading(&self) -> Result<Box<dyn Reading>, Reason>;

    /// Its content; waits until the device has made it.
    fn read(&self, cx: &RunCx<'_>) -> Result<Tensor, Reason> {
        self.reading()?.advance(cx, None)?.ok_or_else(Reason::cannot_wait)
    }

    /// For the backend that made it.
    fn as_any(&self) -> &dyn Any;
}

/// A tensor on its way to the host; dropped, it is left where it is.
pub trait Reading: Send {
    /// The tensor, once it is there. Waits until `until` where a thread may wait for a device;
    /// else the run's waker is told when to come again.
    fn advance(&mut self, cx: &RunCx<'_>, until: Option<Instant>)
    -> Result<Option<Tensor>, Reason>;
}

/// A run between two of its slices; dropped, it ends.
pub trait Running: Send {
    /// Goes on until `until` has passed, and at least one step; the outputs, when there are all.
    /// Where a thread may wait for a device it does; else the slice ends, and the run's waker is
    /// told when to go on.
    fn advance(
        &mut self,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Vec<Held>>, NodeError>;

    /// Whether the last slice ended because a device is not ready: nothing is to be done before
    /// the waker says so.
    fn waits(&self) -> bool {
        false
    }
}

/// Bytes that a run takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Weights as they are kept for running, packed copies included.
    pub weights: usize,
    /// Intermediate values at the same time, at most, after reuse.
    pub arena: usize,
    /// The same without any reuse.
    pub unshared: usize,
    /// Outputs of the region.
    pub outputs: usize,
    /// What kernels take besides, at most: operands as they are multiplied, sums of each thread.
    pub scratch: usize,
    /// Whether a part depends on content that is known only when running, and is left out.
    pub partial: bool,
}

/// A reason, and the node it arose in.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeError {
    /// The node in the region's graph; `None` for the region as a whole.
    pub node: Option<NodeId>,
    /// What is wrong.
    pub reason: Reason,
}

impl From<Reason> for NodeError {
    fn from(reason: Reason) -> NodeError {
        NodeError { node: None, reason }
    }
}

impl Reason {
    /// A device must be waited for where nobody may wait.
    pub fn cannot_wait() -> Reason {
        let text = "a page cannot wait for the GPU: this has to be done in slices";
        Reason::new(Kind::Unsupported, text)
    }

    /// This reason, arisen in `node`.
    pub fn at(self, node: NodeId) -> NodeError {
        NodeError { node: Some(node), reason: self }
    }
}

/// What one run brings along: when to stop, what to record.
#[derive(Clone, Copy)]
pub struct RunCx<'a> {
    /// Set from outside to stop the run.
    pub cancel: Option<&'a Arc<AtomicBool>>,
    /// When to stop at the latest.
    pub deadline: Option<Instant>,
    /// Sees every step.
    pub profile: Option<&'a dyn Profile>,
    /// Bytes that the run may hold at once, weights and inputs apart.
    pub memory: usize,
    /// Everything else that it may ask for.
    pub limits: &'a Limits,
    /// Seed of operators that draw random numbers and name none.
    pub seed: u64,
    /// Told when a run that waits for a device can go on.
    pub waker: Option<&'a Waker>,
}

static UNBOUNDED: Limits = Limits::trusted();

impl RunCx<'_> {
    /// A run without bounds.
    pub fn unbounded() -> RunCx<'static> {
        RunCx {
            cancel: None,
            deadline: None,
            profile: None,
            memory: usize::MAX,
            limits: &UNBOUNDED,
            seed: 0,
            waker: None,
        }
    }

    /// The same for iteration `i` of a loop, whose random numbers are others.
    pub fn iteration(&self, i: u64) -> Self {
        let step = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        RunCx { seed: self.seed.wrapping_add(step), ..*self }
    }

    /// `Err` unless a run that holds `bytes` stays within its memory.
    pub fn check_memory(&self, bytes: usize) -> Result<(), Reason> {
        match bytes <= self.memory {
            true => Ok(()),
            false => Err(Reason::over("memory for a run", format!("{bytes} bytes"), self.memory)),
        }
    }

    /// `Err` unless each output's rank and size are within the limits, and all of them within
    /// the run's memory.
    pub fn check_outputs<'f>(
        &self,
        facts: impl IntoIterator<Item = &'f Fact>,
    ) -> Result<(), Reason> {
        let mut sum = 0usize;
        for fact in facts {
            let limit = self.limits.rank;
            if let Some(rank) = fact.rank().filter(|&rank| rank > limit) {
                return Err(Reason::over("a rank", rank, limit));
            }
            let (Some(dtype), Some(sizes)) = (fact.ty.dtype(), fact.sizes()) else { continue };
            if dtype.bits() == 0 {
                continue;
            }
            let bytes = crate::tensor::size_in_bytes(dtype, &sizes)?;
            let limit = self.limits.tensor_bytes;
            if bytes > limit {
                return Err(Reason::over("a tensor", format!("{bytes} bytes, {fact},"), limit));
            }
            sum = sum.saturating_add(bytes);
        }
        self.check_memory(sum)
    }

    /// `Err` if a value, made by a kernel that decides its size itself, is over a limit. `planned`
    /// of its bytes were counted before.
    pub fn check_made(&self, value: &Value, planned: usize) -> Result<(), Reason> {
        let bytes = value.byte_len();
        let (what, limit) = match value {
            Value::Text(_) => ("a tensor of strings", self.limits.string_bytes),
            _ => ("a value", self.limits.tensor_bytes),
        };
        if bytes > limit {
            return Err(Reason::over(what, format!("{bytes} bytes"), limit));
        }
        self.check_memory(bytes.saturating_sub(planned))
    }

    /// `Err` if the run is to stop. Cheap enough for every few microseconds of work.
    pub fn check(&self) -> Result<(), Reason> {
        if self.cancel.is_some_and(|c| c.load(Ordering::Relaxed)) {
            return Err(Reason::new(Kind::Cancelled, "the run was cancelled"));
        }
        if self.deadline.is_some_and(|d| Instant::now() >= d) {
            return Err(Reason::new(Kind::Deadline, "the deadline has passed"));
        }
        Ok(())
    }
}

/// Sees the steps of a run.
pub trait Profile: Sync {
    /// One node ran.
    fn node(&self, event: &NodeEvent<'_>);
}

/// One step of a run.
#[derive(Clone, Debug)]
pub struct NodeEvent<'a> {
    /// The node's name in the model.
    pub name: &'a str,
    /// Its operator.
    pub op: &'a str,
    /// Where it ran.
    pub backend: &'static str,
    /// When it began and ended.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// What it read, as `float[1, 3]`, and made.
    pub inputs: Vec<String>,
    /// What it made.
    pub outputs: Vec<String>,
    /// Bytes of its inputs and outputs.
    pub bytes: usize,
    /// Multiply–accumulate steps of products.
    pub macs: u64,
}

/// Runs single nodes on constants: what constant folding needs.
pub trait Eval {
    /// Computes the outputs of `graph`'s node from its inputs' values.
    fn eval(
        &self,
        graph: &Graph,
        node: NodeId,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>, Reason>;
}

/// A list of backends in order of preference.
pub type Backends = Vec<Arc<dyn Backend>>;
