//! The backend: regions made ready, plans kept by shape.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rinfer_graph::backend::{
    Backend, Held, Memory, NodeError, OnDevice, Program, Region, RunCx, Running, Whole,
};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{Fact, Graph, Kind, Node, NodeId, Reason, Type, Value, invalid};

use crate::device::{Gpu, Traits};
use crate::nodes::{Local, Nodes};
use crate::plan::{Plan, Planner};
use crate::resident::Resident;
use crate::run::{Ready, Run};
use crate::site::{Site, content_inputs, sites};

/// Runs single nodes on the host: the arithmetic of shapes.
pub type Host =
    Arc<dyn Fn(&Node, &[Option<Value>], &RunCx<'_>) -> Result<Vec<Value>, Reason> + Send + Sync>;

/// Executes on a GPU.
pub struct GpuBackend {
    gpu: Arc<Gpu>,
    host: Host,
    traits: Traits,
    half: bool,
}

impl GpuBackend {
    /// On this GPU; `host` runs what shapes are computed by.
    pub fn new(gpu: Arc<Gpu>, host: Host) -> GpuBackend {
        let traits = gpu.traits.clone();
        GpuBackend { gpu, host, traits, half: false }
    }

    /// The same, with floats of 32 bits kept in 16 bits where they cannot overflow; sums, and
    /// values without a bound, stay in 32 bits.
    pub fn half(mut self, half: bool) -> GpuBackend {
        self.half = half;
        self
    }

    /// The same, with kernels whose lanes wait for one another, or with those whose lanes do not:
    /// by default what is fast on the device.
    pub fn barriers(mut self, barriers: bool) -> GpuBackend {
        self.traits.barriers = barriers;
        self
    }

    /// The same, without kernels whose lanes exchange values within their subgroup.
    pub fn without_subgroups(mut self) -> GpuBackend {
        self.traits.subgroups = false;
        self
    }

    /// The same, for kernels that see at most this many bytes of a buffer at once: what is larger
    /// is bound in parts, as a GPU's own limit asks for.
    pub fn binding_at_most(mut self, bytes: u64) -> GpuBackend {
        self.traits.max_binding = self.traits.max_binding.min(bytes);
        self
    }
}

impl Backend for GpuBackend {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn supports(&self, graph: &Graph) -> Vec<Result<(), Reason>> {
        sites(graph).into_iter().map(|site| site.map(drop)).collect()
    }

    fn compile(&self, region: Region<'_>) -> Result<Arc<dyn Program>, NodeError> {
        let nodes = Nodes::new(&region, self.half)?;
        for entry in nodes.entries.iter().filter(|e| e.site == Site::Gpu) {
            // Those that decide shapes are read on the host; large ones never do.
            const LARGE: usize = 4096;
            for &l in entry.inputs.iter().flatten() {
                let Some(Value::Tensor(t)) = nodes.constant(l) else { continue };
                if t.byte_len() >= LARGE {
                    nodes.weight(&self.gpu, l).map_err(|reason| reason.at(entry.id))?;
                    (region.progress)(t.byte_len());
                }
            }
        }
        let (gpu, host) = (self.gpu.clone(), self.host.clone());
        let traits = self.traits.clone();
        Ok(Arc::new(GpuProgram { nodes, gpu, host, traits, plans: Mutex::default() }))
    }
}

/// Plans kept for different shapes; beyond that the oldest go.
const PLANS: usize = 16;

/// The types and sizes of the values that a plan was made for.
type ShapeKey = Vec<(Local, Type, Option<Sizes>)>;

#[derive(Default)]
struct Plans {
    by_shape: HashMap<(usize, ShapeKey), Vec<Arc<Ready>>>,
    oldest: VecDeque<(usize, ShapeKey)>,
}

struct GpuProgram {
    nodes: Nodes,
    gpu: Arc<Gpu>,
    host: Host,
    traits: Traits,
    plans: Mutex<Plans>,
}

/// The values that are on the host.
pub(crate) type Env = Vec<Option<Value>>;

/// The values that are on the GPU before a plan runs, or stay there after it.
pub(crate) struct Here {
    pub tensors: Vec<Option<Arc<Resident>>>,
    /// Whether a value, once made, is to stay.
    pub keep: Vec<bool>,
}

impl Here {
    /// Brings a value to the host if it is on the GPU alone.
    pub fn fetch(&self, l: Local, env: &mut Env, cx: &RunCx<'_>) -> Result<(), Reason> {
        if let (None, Some(tensor)) = (&env[l], &self.tensors[l]) {
            env[l] = Some(tensor.read(cx)?.into());
        }
        Ok(())
    }

    /// The same for all values; false if there was none.
    fn fetch_all(&self, env: &mut Env, cx: &RunCx<'_>) -> Result<bool, Reason> {
        let only = (0..env.len()).filter(|&l| env[l].is_none() && self.tensors[l].is_some());
        let only: Vec<Local> = only.collect();
        only.iter().try_for_each(|&l| self.fetch(l, env, cx))?;
        Ok(!only.is_empty())
    }
}

impl GpuProgram {
    fn facts(&self, given: impl Iterator<Item = (Local, Fact)>) -> Vec<Option<Fact>> {
        let mut facts = vec![None; self.nodes.values()];
        given.for_each(|(l, fact)| facts[l] = Some(fact));
        self.nodes.constant_facts().for_each(|(l, fact)| facts[l] = Some(fact.clone()));
        facts
    }

    fn shape_key(&self, start: usize, env: &Env, here: &Here) -> ShapeKey {
        let read = |&l: &Local| self.nodes.is_read_from(l, start);
        let key = |l: Local| match (&env[l], &here.tensors[l]) {
            (Some(v), _) => Some((l, v.ty(), v.shape().map(|s| s.into()))),
            (None, Some(t)) => Some((l, Type::Tensor(t.dtype()), Some(t.shape().into()))),
            (None, None) => None,
        };
        (0..env.len()).filter(read).filter_map(key).collect()
    }

    fn make(
        &self,
        start: usize,
        facts: Vec<Option<Fact>>,
        content: &dyn Fn(Local) -> Option<Value>,
    ) -> Result<Plan, NodeError> {
        Planner::new(&self.nodes, &self.traits, &self.host, start, facts).run(content)
    }

    fn plan(&self, start: usize, env: &Env, here: &Here) -> Result<Arc<Ready>, NodeError> {
        let key = (start, self.shape_key(start, env, here));
        let lock = || self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |ready: &&Arc<Ready>| {
            ready.plan.relied.iter().all(|(l, value)| env[*l].as_ref() == Some(value))
        };
        if let Some(found) = lock().by_shape.get(&key).and_then(|plans| plans.iter().find(fits)) {
            return Ok(found.clone());
        }
        let facts = self.facts(key.1.iter().map(|(l, ty, shape)| {
            let shape = shape.as_ref().map(|s| s.iter().map(|&n| n.into()).collect());
            (*l, Fact { ty: ty.clone(), shape, known: None })
        }));
        let plan = self.make(start, facts, &|l| env[l].clone())?;
        let ready = Arc::new(Ready::new(&self.gpu, &self.nodes, plan)?);
        let mut plans = lock();
        while plans.oldest.len() >= PLANS {
            if let Some(old) = plans.oldest.pop_front() {
                plans.by_shape.remove(&old);
            }
        }
        plans.oldest.push_back(key.clone());
        plans.by_shape.entry(key).or_default().push(ready.clone());
        Ok(ready)
    }

    /// The program's outputs; one that is a constant or an input is handed out as it is.
    fn collect(&self, mut env: Env, here: &Here, cx: &RunCx<'_>) -> Result<Vec<Held>, NodeError> {
        let outputs = &self.nodes.outputs;
        let mut made = Vec::with_capacity(outputs.len());
        for (i, &l) in outputs.iter().enumerate() {
            if let Some(tensor) = here.tensors[l].clone().filter(|_| here.keep[l]) {
                made.push(Held::Device(tensor));
                continue;
            }
            here.fetch(l, &mut env, cx)?;
            let again = outputs[i + 1..].contains(&l);
            let value = if again { env[l].clone() } else { env[l].take() };
            let value = value.or_else(|| self.nodes.constant(l).cloned());
            made.push(Held::Host(value.ok_or_else(|| invalid!("an output was not made"))?));
        }
        Ok(made)
    }

    /// Puts the inputs where they are: on the host, or on this GPU, and there too those whose
    /// content somebody must know before kernels run.
    fn place_inputs(
        &self,
        inputs: Vec<Held>,
        env: &mut Env,
        here: &mut Here,
        cx: &RunCx<'_>,
    ) -> Result<(), NodeError> {
        if inputs.len() != self.nodes.inputs.len() {
            let (given, needed) = (inputs.len(), self.nodes.inputs.len());
            return Err(invalid!("{given} inputs for a program of {needed}").into());
        }
        for (&l, value) in self.nodes.inputs.iter().zip(inputs) {
            match value {
                Held::Host(value) => env[l] = Some(value),
                Held::Device(tensor) => match Resident::of(&*tensor, &self.gpu) {
                    Some(found) => {
                        here.tensors[l] = Some(Arc::new(found.viewed(tensor.shape())));
                        if self.needs_content(l) {
                            here.fetch(l, env, cx)?;
                        }
                    }
                    // Of another GPU, or of one that was lost.
                    None => env[l] = Some(tensor.read(cx)?.into()),
                },
            }
        }
        Ok(())
    }

    /// Whether a node's shapes, or its place on the host, ask for a value's content.
    fn needs_content(&self, l: Local) -> bool {
        self.nodes.entries.iter().any(|entry| {
            let content = content_inputs(&entry.node.op);
            let reads = |&(i, input): &(usize, &Option<Local>)| {
                *input == Some(l) && (entry.site == Site::Host || content.contains(&i))
            };
            entry.inputs.iter().enumerate().any(|pair| reads(&pair))
        })
    }
}

impl Program for GpuProgram {
    fn run(&self, inputs: Vec<Value>, cx: &RunCx<'_>) -> Result<Vec<Value>, NodeError> {
        let inputs = inputs.into_iter().map(Held::Host).collect();
        let made = self.run_held(inputs, &[], cx)?;
        made.into_iter().map(|value| Ok(value.into_host(cx)?)).collect()
    }

    fn run_held(
        &self,
        inputs: Vec<Held>,
        keep: &[bool],
        cx: &RunCx<'_>,
    ) -> Result<Vec<Held>, NodeError> {
        self.gpu.check()?;
        let n = self.nodes.values();
        let mut env: Env = vec![None; n];
        let mut here = Here { tensors: vec![None; n], keep: vec![false; n] };
        for (&l, &keep) in self.nodes.outputs.iter().zip(keep) {
            // What a node reads on the host comes there anyway, and stays there.
            here.keep[l] |= keep && !self.needs_content(l);
        }
        self.place_inputs(inputs, &mut env, &mut here, cx)?;
        let mut start = 0;
        while start < self.nodes.entries.len() {
            let ready = match self.plan(start, &env, &here) {
                // A shape may depend on what is on the GPU alone.
                Err(e) if e.reason.kind == Kind::Unsupported && here.fetch_all(&mut env, cx)? => {
                    self.plan(start, &env, &here)?
                }
                other => other?,
            };
            let bytes: usize = ready.plan.slots.iter().sum();
            if bytes > cx.memory {
                let text = format!("the run would take {bytes} bytes, the limit is {}", cx.memory);
                return Err(Reason::new(Kind::Limit, text).into());
            }
            Run::new(&self.gpu, &self.nodes, &self.host, &ready).run(&mut env, &mut here, cx)?;
            start = ready.plan.end;
        }
        self.collect(env, &here, cx)
    }

    fn start(
        self: Arc<Self>,
        inputs: Vec<Held>,
        keep: Vec<bool>,
        _cx: &RunCx<'_>,
    ) -> Result<Box<dyn Running>, NodeError> {
        Ok(Box::new(Whole::new(self, inputs, keep)))
    }

    fn memory(&self, inputs: &[Fact]) -> Result<Memory, NodeError> {
        let given = self.nodes.inputs.iter().copied().zip(inputs.iter().cloned().map(Fact::forget));
        let plan = self.make(0, self.facts(given), &|_| None)?;
        Ok(Memory {
            weights: self.nodes.weight_bytes(),
            arena: plan.slots.iter().sum(),
            unshared: plan.unshared,
            outputs: plan.downloads.iter().map(|d| d.bytes()).sum(),
            partial: plan.end < self.nodes.entries.len(),
        })
    }

    fn place(&self, node: NodeId) -> Option<&'static str> {
        let entry = self.nodes.entries.iter().find(|e| e.id == node)?;
        (entry.site == Site::Host).then_some("host")
    }
}
