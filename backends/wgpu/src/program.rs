//! The backend: regions made ready, plans kept by shape.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rinfer_graph::backend::{Backend, Memory, NodeError, Program, Region, RunCx};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{Fact, Graph, Kind, Node, NodeId, Reason, Type, Value, invalid};

use crate::device::Gpu;
use crate::nodes::{Local, Nodes};
use crate::plan::{Plan, Planner};
use crate::run::{Ready, Run};
use crate::site::{Site, sites};

/// Runs single nodes on the host: the arithmetic of shapes.
pub type Host =
    Arc<dyn Fn(&Node, &[Option<Value>], &RunCx<'_>) -> Result<Vec<Value>, Reason> + Send + Sync>;

/// Executes on a GPU.
pub struct GpuBackend {
    gpu: Arc<Gpu>,
    host: Host,
}

impl GpuBackend {
    /// On this GPU; `host` runs what shapes are computed by.
    pub fn new(gpu: Arc<Gpu>, host: Host) -> GpuBackend {
        GpuBackend { gpu, host }
    }
}

impl Backend for GpuBackend {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn supports(&self, graph: &Graph) -> Vec<Result<(), Reason>> {
        sites(graph).into_iter().map(|site| site.map(drop)).collect()
    }

    fn compile(&self, region: Region<'_>) -> Result<Box<dyn Program>, NodeError> {
        let nodes = Nodes::new(&region)?;
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
        Ok(Box::new(GpuProgram { nodes, gpu, host, plans: Mutex::default() }))
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
    plans: Mutex<Plans>,
}

/// The values that are on the host.
pub(crate) type Env = Vec<Option<Value>>;

impl GpuProgram {
    fn facts(&self, given: impl Iterator<Item = (Local, Fact)>) -> Vec<Option<Fact>> {
        let mut facts = vec![None; self.nodes.values()];
        given.for_each(|(l, fact)| facts[l] = Some(fact));
        self.nodes.constant_facts().for_each(|(l, fact)| facts[l] = Some(fact.clone()));
        facts
    }

    fn shape_key(&self, start: usize, env: &Env) -> ShapeKey {
        env.iter()
            .enumerate()
            .filter_map(|(l, v)| v.as_ref().map(|v| (l, v)))
            .filter(|&(l, _)| self.nodes.is_read_from(l, start))
            .map(|(l, v)| (l, v.ty(), v.shape().map(|s| s.into())))
            .collect()
    }

    fn make(
        &self,
        start: usize,
        facts: Vec<Option<Fact>>,
        content: &dyn Fn(Local) -> Option<Value>,
    ) -> Result<Plan, NodeError> {
        Planner::new(&self.nodes, &self.gpu.traits, &self.host, start, facts).run(content)
    }

    fn plan(&self, start: usize, env: &Env) -> Result<Arc<Ready>, NodeError> {
        let key = (start, self.shape_key(start, env));
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
    fn collect(&self, mut env: Env) -> Result<Vec<Value>, NodeError> {
        let outputs = &self.nodes.outputs;
        let mut made = Vec::with_capacity(outputs.len());
        for (i, &l) in outputs.iter().enumerate() {
            let again = outputs[i + 1..].contains(&l);
            let value = if again { env[l].clone() } else { env[l].take() };
            let value = value.or_else(|| self.nodes.constant(l).cloned());
            made.push(value.ok_or_else(|| invalid!("an output was not made"))?);
        }
        Ok(made)
    }
}

impl Program for GpuProgram {
    fn run(&self, inputs: Vec<Value>, cx: &RunCx<'_>) -> Result<Vec<Value>, NodeError> {
        self.gpu.check()?;
        if inputs.len() != self.nodes.inputs.len() {
            let (given, needed) = (inputs.len(), self.nodes.inputs.len());
            return Err(invalid!("{given} inputs for a program of {needed}").into());
        }
        let mut env: Env = vec![None; self.nodes.values()];
        for (&l, value) in self.nodes.inputs.iter().zip(inputs) {
            env[l] = Some(value);
        }
        let mut start = 0;
        while start < self.nodes.entries.len() {
            let ready = self.plan(start, &env)?;
            let bytes: usize = ready.plan.slots.iter().sum();
            if bytes > cx.memory {
                let text = format!("the run would take {bytes} bytes, the limit is {}", cx.memory);
                return Err(Reason::new(Kind::Limit, text).into());
            }
            Run::new(&self.gpu, &self.nodes, &self.host, &ready).run(&mut env, cx)?;
            start = ready.plan.end;
        }
        self.collect(env)
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
