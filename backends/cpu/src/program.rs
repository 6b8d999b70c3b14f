//! A region of a graph made ready to run: packed weights, plans by shape, reused memory.

use std::collections::HashMap;
use std::sync::Arc;

use rinfer_graph::backend::{
    Backend, Held, Memory, NodeError, NodeEvent, Program, Region, RunCx, Running,
};
use rinfer_graph::sync::Mutex;
use rinfer_graph::tensor::{Buffer, Spare, try_buffer};
use rinfer_graph::{
    Fact, Graph, Kind, Node, NodeId, Reason, Tensor, Type, Value, ValueId, invalid, unsupported,
};
use smallvec::SmallVec;
use web_time::Instant;

use crate::arena::Arenas;
use crate::kernel::{Args, Cx, Packs, Run};
use crate::meter::metered;
use crate::ops;
use crate::par::{self, Pool};
use crate::plan::{Place, Plan, Planner, ShapeKey, Source, Step, bytes_of};
use crate::plan_last;
use crate::running::{Inside, Paused};
use crate::simd::Isa;
use crate::stop::{self, Stop};

/// The number of a value inside a program.
pub(crate) type Local = usize;

/// Executes on this machine's processor.
pub struct CpuBackend {
    isa: Isa,
    pool: Pool,
}

impl CpuBackend {
    /// With `threads` threads (0: one per core) and this instruction set.
    pub fn new(isa: Isa, threads: usize) -> Result<CpuBackend, Reason> {
        let pool = Pool::new(threads).map_err(|text| Reason::new(Kind::Limit, text))?;
        Ok(CpuBackend { isa, pool })
    }

    /// With the threads of the run in which its own runs happen.
    pub fn nested(isa: Isa) -> CpuBackend {
        CpuBackend { isa, pool: Pool::inherited() }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn supports(&self, graph: &Graph) -> Vec<Result<(), Reason>> {
        let control = |op: &rinfer_graph::Op| match op.is_control() {
            true => Err(unsupported!("{} is run by the session", op.name())),
            false => Ok(()),
        };
        graph.nodes().map(|(_, node)| control(&node.op)).collect()
    }

    fn compile(&self, region: Region<'_>) -> Result<Arc<dyn Program>, NodeError> {
        let nodes = Nodes::new(self.isa, &region);
        let packed = self.pool.install(|| nodes.prepack(&region));
        self.pool.trim();
        packed?;
        Ok(Arc::new(CpuProgram {
            nodes,
            pool: self.pool.clone(),
            plans: Mutex::default(),
            arenas: Arenas::default(),
            spare: Arc::default(),
        }))
    }
}

/// The nodes of a program, their values renumbered, and its weights.
pub(crate) struct Nodes {
    pub isa: Isa,
    pub packs: Packs,
    nodes: Vec<(NodeId, Node)>,
    inputs: Vec<SmallVec<[Option<Local>; 4]>>,
    outputs: Vec<SmallVec<[Local; 1]>>,
    /// Constants: their facts. Tensors among them are weights.
    constants: Vec<(Local, Fact)>,
    /// Constants that are no tensors of numbers.
    pub others: Vec<(Local, Value)>,
    weights: Vec<Option<Tensor>>,
    /// One past the last node that reads each value; `usize::MAX` for the program's outputs.
    read_until: Vec<usize>,
    pub program_inputs: Vec<Local>,
    program_outputs: Vec<Local>,
}

impl Nodes {
    fn new(isa: Isa, region: &Region<'_>) -> Nodes {
        let g = region.graph;
        let mut locals: HashMap<ValueId, Local> = HashMap::new();
        let mut ids = Vec::new();
        let mut local = |v: ValueId| {
            *locals.entry(v).or_insert_with(|| {
                ids.push(v);
                ids.len() - 1
            })
        };
        let program_inputs: Vec<Local> = region.inputs.iter().map(|&v| local(v)).collect();
        let mut nodes = Nodes {
            isa,
            packs: Packs::default(),
            nodes: region.nodes.iter().map(|&id| (id, g.node(id).clone())).collect(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            constants: Vec::new(),
            others: Vec::new(),
            weights: Vec::new(),
            read_until: Vec::new(),
            program_inputs,
            program_outputs: Vec::new(),
        };
        for (_, node) in &nodes.nodes {
            nodes.inputs.push(node.inputs.iter().map(|v| v.map(&mut local)).collect());
            nodes.outputs.push(node.outputs.iter().map(|&v| local(v)).collect());
        }
        nodes.program_outputs = region.outputs.iter().map(|&v| local(v)).collect();
        nodes.read_until = vec![0; ids.len()];
        for (i, inputs) in nodes.inputs.iter().enumerate() {
            inputs.iter().flatten().for_each(|&l| nodes.read_until[l] = i + 1);
        }
        nodes.program_outputs.iter().for_each(|&l| nodes.read_until[l] = usize::MAX);
        nodes.weights = vec![None; ids.len()];
        let mut by_id = HashMap::new();
        for (l, &v) in ids.iter().enumerate() {
            let fact = g.fact(v);
            if fact.is_const() && g.producer(v).is_none() && !region.inputs.contains(&v) {
                nodes.constants.push((l, fact.clone()));
                match fact.value() {
                    Some(Value::Tensor(tensor)) => {
                        nodes.weights[l] = Some(tensor.clone());
                        by_id.insert(v, tensor);
                    }
                    other => nodes.others.extend(other.map(|value| (l, value))),
                }
            }
        }
        let ops = nodes.nodes.iter().map(|(_, node)| node);
        let channels_last = ops.filter(|node| plan_last::is_core(node, &by_id)).count() >= IMAGES;
        nodes.packs = Packs::new(by_id, channels_last);
        nodes
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i].1
    }

    pub fn id(&self, i: usize) -> NodeId {
        self.nodes[i].0
    }

    pub fn inputs(&self, i: usize) -> &[Option<Local>] {
        &self.inputs[i]
    }

    pub fn outputs(&self, i: usize) -> &[Local] {
        &self.outputs[i]
    }

    pub fn is_weight(&self, l: Local) -> bool {
        self.weights[l].is_some()
    }

    fn weight(&self, l: Local) -> Option<&Tensor> {
        self.weights[l].as_ref()
    }

    fn weight_bytes(&self) -> usize {
        self.weights.iter().flatten().map(Tensor::byte_len).sum()
    }

    /// How many values there are.
    pub fn values(&self) -> usize {
        self.weights.len()
    }

    /// The facts of the values given, and of the constants.
    fn facts(&self, given: impl Iterator<Item = (Local, Fact)>) -> Vec<Option<Fact>> {
        let mut facts = vec![None; self.values()];
        given.for_each(|(l, fact)| facts[l] = Some(fact));
        self.constants.iter().for_each(|(l, fact)| facts[*l] = Some(fact.clone()));
        facts
    }

    /// Whether node `node` or a later one reads the value, or it is an output. What a plan adds to
    /// the program's values is read by that plan alone.
    pub fn is_read_from(&self, l: Local, node: usize) -> bool {
        self.read_until.get(l).is_some_and(|&until| until > node)
    }

    /// Packs every weight, on all threads.
    fn prepack(&self, region: &Region<'_>) -> Result<(), NodeError> {
        let failed = Mutex::new(None);
        par::for_each_index(self.len(), 1, |i| {
            let (id, node) = &self.nodes[i];
            let facts: SmallVec<[Option<&Fact>; 4]> =
                node.inputs.iter().map(|v| v.map(|v| region.graph.fact(v))).collect();
            if !facts.iter().flatten().any(|fact| fact.is_const()) {
                return;
            }
            let outputs = node.outputs.iter().map(|&v| region.graph.fact(v).clone()).collect();
            let cx = Cx {
                isa: self.isa,
                node,
                inputs: &facts,
                outputs: &outputs,
                packs: &self.packs,
                limits: RunCx::unbounded().limits,
            };
            let bytes = facts.iter().filter_map(|f| Some(f.as_ref()?.tensor()?.byte_len())).sum();
            match ops::prepack(&cx) {
                Ok(()) => (region.progress)(bytes),
                Err(reason) => {
                    let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                    failed.get_or_insert(reason.at(*id));
                }
            }
        });
        match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Convolutions of images from which on it is worth keeping channels side by side between them.
const IMAGES: usize = 4;

/// Plans kept for different shapes; beyond that the oldest go.
const PLANS: usize = 64;

pub(crate) struct CpuProgram {
    pub nodes: Nodes,
    pub pool: Pool,
    plans: Mutex<Plans>,
    pub arenas: Arenas,
    /// Outputs that the caller has dropped.
    pub spare: Arc<Spare>,
}

/// Does `f` on the threads of `pool`, so that what stops the run stops it.
pub(crate) fn on<R: Send>(pool: &Pool, cx: &RunCx<'_>, f: impl FnOnce() -> R + Send) -> R {
    let stop = Stop::of(cx);
    pool.install(|| stop::under(stop, f))
}

/// Plans by where they start and the shapes that they were made for.
#[derive(Default)]
struct Plans {
    by_shape: HashMap<(usize, ShapeKey), Vec<Arc<Plan>>>,
    oldest: std::collections::VecDeque<(usize, ShapeKey)>,
}

pub(crate) type Env = Vec<Option<Value>>;

impl CpuProgram {
    /// What the shapes of the values at hand are, as far as nodes from `start` on read them.
    fn shape_key(&self, start: usize, env: &Env) -> ShapeKey {
        let live = |&(l, _): &(Local, &Value)| self.nodes.is_read_from(l, start);
        env.iter()
            .enumerate()
            .filter_map(|(l, v)| v.as_ref().map(|v| (l, v)))
            .filter(live)
            .map(|(l, v)| (l, v.ty(), v.shape().map(|s| s.into())))
            .collect()
    }

    /// Bytes of the values that earlier plans of this run made.
    pub fn held(&self, env: &Env) -> usize {
        let given = &self.nodes.program_inputs;
        let made = env.iter().enumerate().filter(|(l, _)| !given.contains(l));
        made.filter_map(|(_, v)| Some(v.as_ref()?.byte_len())).sum()
    }

    pub fn plan(&self, start: usize, env: &Env, cx: &RunCx<'_>) -> Result<Arc<Plan>, NodeError> {
        let key = (start, self.shape_key(start, env));
        let lock = || self.plans.lock().unwrap_or_else(|e| e.into_inner());
        let fits = |plan: &&Arc<Plan>| {
            plan.relied.iter().all(|(l, value)| env[*l].as_ref() == Some(value))
        };
        if let Some(plan) = lock().by_shape.get(&key).and_then(|plans| plans.iter().find(fits)) {
            return Ok(plan.clone());
        }
        let facts = self.nodes.facts(key.1.iter().map(|(l, ty, shape)| {
            let shape = shape.as_ref().map(|s| s.iter().map(|&n| n.into()).collect());
            (*l, Fact { ty: ty.clone(), shape, known: None })
        }));
        let planner = Planner::new(&self.nodes, start, facts, cx);
        let make = || stop::run(cx, || Ok(planner.run(&|l| env[l].clone())));
        let plan = Arc::new(on(&self.pool, cx, make)??);
        let mut plans = lock();
        // Of several runs that made a plan for the same shapes at the same time the first stays.
        if let Some(first) = plans.by_shape.get(&key).and_then(|plans| plans.iter().find(fits)) {
            return Ok(first.clone());
        }
        while plans.oldest.len() >= PLANS {
            if let Some(old) = plans.oldest.pop_front() {
                plans.by_shape.remove(&old);
            }
        }
        plans.oldest.push_back(key.clone());
        plans.by_shape.entry(key).or_default().push(plan.clone());
        Ok(plan)
    }

    /// The program's outputs; one that is a constant or an input is handed out as it is.
    pub fn collect(&self, mut env: Env) -> Result<Vec<Value>, NodeError> {
        let outputs = &self.nodes.program_outputs;
        let mut made = Vec::with_capacity(outputs.len());
        for (i, &l) in outputs.iter().enumerate() {
            let again = outputs[i + 1..].contains(&l);
            let weight = || self.nodes.weight(l).cloned().map(Value::Tensor);
            let value = if again { env[l].clone() } else { env[l].take() };
            made.push(value.or_else(weight).ok_or_else(|| invalid!("an output was not made"))?);
        }
        Ok(made)
    }

    /// Takes the steps of a plan until `until` has passed, but at least one; whether there are no
    /// more.
    pub fn run_plan(
        &self,
        inside: &mut Inside,
        env: &mut Env,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, NodeError> {
        let (plan, slots) = (&*inside.plan, &mut inside.room.slots);
        if inside.step == 0 {
            env.resize(env.len().max(plan.slot_of.len()), None);
            for (l, value) in &plan.constants {
                env[*l] = Some(value.clone());
            }
        }
        let first = inside.step;
        for step in &plan.steps[first..] {
            if inside.step > first && until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            let id = self.nodes.id(step.node);
            cx.check().map_err(|reason| reason.at(id))?;
            let start = cx.profile.map(|_| Instant::now());
            let made = stop::run(cx, || self.run_step(plan, step, env, slots, cx));
            let made = made.map_err(|reason| reason.at(id))?;
            if let (Some(profile), Some(start)) = (cx.profile, start) {
                let event = self.event(plan, step, env, &made, start);
                profile.node(&event);
            }
            for (out, value) in step.outputs.iter().zip(made) {
                env[out.local] = Some(value);
            }
            for &l in &step.dead {
                recycle(env[l].take(), plan.slot_of[l], slots);
            }
            inside.step += 1;
        }
        Ok(true)
    }

    fn run_step(
        &self,
        plan: &Plan,
        step: &Step,
        env: &mut Env,
        slots: &mut [Option<Buffer>],
        cx: &RunCx<'_>,
    ) -> Result<Vec<Value>, Reason> {
        let run = match &step.kernel.run {
            Run::Tensors(run) => run,
            Run::View => return crate::eval::view(&self.values(plan, step, env), &step.facts),
            Run::Values(run) => {
                let made =
                    metered(&step.kernel.scratch, || run(&self.values(plan, step, env), cx))?;
                return check_made(step, made, cx);
            }
        };
        let mut outputs = SmallVec::<[Tensor; 2]>::new();
        for out in &step.outputs {
            outputs.push(self.place(plan, step, out, env, slots)?);
        }
        let mut inputs = SmallVec::<[Option<&Tensor>; 8]>::new();
        for source in &step.inputs {
            inputs.push(match source {
                None => None,
                Some(Source::Weight(l)) => self.nodes.weight(*l),
                Some(Source::Fixed(i)) => Some(&plan.fixed[*i]),
                // A value whose memory an output took over is no longer there.
                Some(Source::Local(l)) => env[*l].as_ref().map(Value::as_tensor).transpose()?,
            });
        }
        metered(&step.kernel.scratch, || {
            run(&mut Args { inputs: &inputs, outputs: &mut outputs, cx })
        })?;
        Ok(outputs.into_iter().map(Value::Tensor).collect())
    }

    /// The memory of one output. An operator of the user may hand on what it read, so memory that
    /// the plan counts on can be held by somebody else: then there is other memory.
    fn place(
        &self,
        plan: &Plan,
        step: &Step,
        out: &crate::plan::Out,
        env: &mut Env,
        slots: &mut [Option<Buffer>],
    ) -> Result<Tensor, Reason> {
        match out.place {
            Place::Own => self.spare.tensor(out.dtype, &out.sizes),
            Place::Slot(slot) => {
                let buffer = match slots[slot].take() {
                    Some(buffer) => buffer,
                    None => try_buffer(plan.slots[slot])?,
                };
                Tensor::from_buffer(out.dtype, &out.sizes, buffer)
            }
            Place::Input(i) => {
                let taken = match &step.inputs[i] {
                    Some(Source::Local(l)) => env[*l].take(),
                    _ => None,
                };
                let Some(Value::Tensor(mut t)) = taken else {
                    return Err(invalid!("the input that is to be overwritten is no tensor"));
                };
                if !t.is_unique() {
                    let mut copy = self.spare.tensor(out.dtype, &out.sizes)?;
                    copy.as_mut_bytes().copy_from_slice(t.as_bytes());
                    return Ok(copy);
                }
                let buffer = t.into_buffer();
                let buffer = buffer.ok_or_else(|| invalid!("an input without memory"))?;
                Tensor::from_buffer(out.dtype, &out.sizes, buffer)
            }
        }
    }

    /// A step's inputs as complete values.
    fn values(&self, plan: &Plan, step: &Step, env: &Env) -> Vec<Option<Value>> {
        let value = |source: &Source| match source {
            Source::Weight(l) => self.nodes.weight(*l).cloned().map(Value::Tensor),
            Source::Fixed(i) => Some(Value::Tensor(plan.fixed[*i].clone())),
            Source::Local(l) => env[*l].clone(),
        };
        step.inputs.iter().map(|source| source.as_ref().and_then(value)).collect()
    }

    fn event<'a>(
        &'a self,
        plan: &Plan,
        step: &Step,
        env: &Env,
        made: &[Value],
        start: Instant,
    ) -> NodeEvent<'a> {
        let end = Instant::now();
        let node = self.nodes.node(step.node);
        let show = |v: &Value| Fact::of_value(v).forget().to_string();
        let inputs: Vec<Value> = self.values(plan, step, env).into_iter().flatten().collect();
        NodeEvent {
            name: &node.name,
            op: if step.turns { "Transpose" } else { node.op.name() },
            backend: "cpu",
            start,
            end,
            inputs: inputs.iter().map(show).collect(),
            outputs: made.iter().map(show).collect(),
            bytes: inputs.iter().chain(made).map(Value::byte_len).sum(),
            macs: step.macs,
        }
    }
}

/// Puts the memory of a dead value back into its slot, unless somebody still holds it.
fn recycle(value: Option<Value>, slot: Option<usize>, slots: &mut [Option<Buffer>]) {
    if let (Some(Value::Tensor(t)), Some(slot)) = (value, slot)
        && let Some(buffer) = t.into_buffer()
    {
        slots[slot] = Some(buffer);
    }
}

/// What a kernel made by itself, held against what inference promised: plans rely on it.
fn check_made(step: &Step, made: Vec<Value>, cx: &RunCx<'_>) -> Result<Vec<Value>, Reason> {
    if made.len() < step.outputs.len() {
        return Err(invalid!(
            "{} outputs were made, {} are needed",
            made.len(),
            step.outputs.len()
        ));
    }
    for (fact, value) in step.facts.iter().zip(&made) {
        let found = Fact::of_value(value).forget();
        // An optional that is known to be there may be handed on as what it holds.
        let wrapped = matches!(&fact.ty, Type::Optional(of) if **of == found.ty);
        if !wrapped && !fact.compatible(&found) {
            return Err(invalid!("the operator made {found} where {fact} was inferred"));
        }
        cx.check_made(value, bytes_of(fact).unwrap_or(0))?;
    }
    Ok(made)
}

impl Program for CpuProgram {
    fn run(&self, inputs: Vec<Value>, cx: &RunCx<'_>) -> Result<Vec<Value>, NodeError> {
        let mut run = self.begin(inputs)?;
        let made = self.advance(&mut run, cx, None)?;
        made.ok_or_else(|| Reason::new(Kind::Internal, "a run without an end stopped").into())
    }

    fn start(
        self: Arc<Self>,
        inputs: Vec<Held>,
        _keep: Vec<bool>,
        cx: &RunCx<'_>,
    ) -> Result<Box<dyn Running>, NodeError> {
        let inputs = inputs.into_iter().map(|value| value.into_host(cx));
        Ok(Box::new(Paused::new(self, inputs.collect::<Result<_, _>>()?)?))
    }

    fn trim(&self) {
        self.arenas.trim();
        self.spare.clear();
        self.pool.trim();
    }

    fn memory(&self, inputs: &[Fact]) -> Result<Memory, NodeError> {
        let facts = self.nodes.facts(
            self.nodes.program_inputs.iter().copied().zip(inputs.iter().cloned().map(Fact::forget)),
        );
        let cx = &RunCx::unbounded();
        let make = || Planner::new(&self.nodes, 0, facts, cx).run(&|_| None);
        let plan = self.pool.install(make)?;
        Ok(Memory {
            weights: self.nodes.weight_bytes(),
            arena: plan.slots.iter().sum(),
            unshared: plan.unshared,
            outputs: plan.outputs,
            scratch: plan.scratch_bytes(),
            partial: plan.end < self.nodes.len(),
        })
    }
}
