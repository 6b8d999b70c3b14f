//! The backend: regions made ready, plans kept by shape.

use std::sync::{Arc, Mutex, PoisonError};

use rinfer_graph::backend::{
    Backend, Held, Memory, NodeError, OnDevice, Program, Reading, Region, RunCx, Running,
};
use rinfer_graph::{Fact, Graph, Kind, Node, NodeId, Reason, Type, Value, invalid};
use web_time::Instant;

use crate::device::{Gpu, Traits};
use crate::nodes::{Local, Nodes};
use crate::plan::{Draft, Planner};
use crate::ready::{Making, Ready};
use crate::resident::Resident;
use crate::run::{At, Run};
use crate::scope::Late;
use crate::seat::{Key, OnGpu, Seat};
use crate::site::{Site, content_inputs, sites};
use crate::wait::MAY_WAIT;

/// Runs single nodes on the host: the arithmetic of shapes.
pub type Host =
    Arc<dyn Fn(&Node, &[Option<Value>], &RunCx<'_>) -> Result<Vec<Value>, Reason> + Send + Sync>;

/// Executes on a GPU.
pub struct GpuBackend {
    seat: Arc<Seat>,
    host: Host,
    kernels: Kernels,
    half: bool,
}

/// What kernels are written for, where that is not what the device is best at.
#[derive(Clone, Copy, Default)]
struct Kernels {
    barriers: Option<bool>,
    no_subgroups: bool,
    binding: Option<u64>,
}

impl Kernels {
    fn traits(self, gpu: &Gpu) -> Traits {
        let mut traits = gpu.traits.clone();
        traits.barriers = self.barriers.unwrap_or(traits.barriers);
        traits.subgroups &= !self.no_subgroups;
        traits.max_binding = self.binding.unwrap_or(u64::MAX).min(traits.max_binding);
        traits
    }
}

impl GpuBackend {
    /// On this GPU; `host` runs what shapes are computed by.
    pub fn new(gpu: Arc<Gpu>, host: Host) -> GpuBackend {
        GpuBackend::seated(Arc::new(Seat::new(gpu)), host)
    }

    /// On the GPU of this seat, or whatever that is changed to.
    pub fn seated(seat: Arc<Seat>, host: Host) -> GpuBackend {
        GpuBackend { seat, host, kernels: Kernels::default(), half: false }
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
        self.kernels.barriers = Some(barriers);
        self
    }

    /// The same, without kernels whose lanes exchange values within their subgroup.
    pub fn without_subgroups(mut self) -> GpuBackend {
        self.kernels.no_subgroups = true;
        self
    }

    /// The same, for kernels that see at most this many bytes of a buffer at once: what is larger
    /// is bound in parts, as a GPU's own limit asks for.
    pub fn binding_at_most(mut self, bytes: u64) -> GpuBackend {
        self.kernels.binding = Some(bytes.min(self.kernels.binding.unwrap_or(bytes)));
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
        let gpu = self.seat.gpu();
        let on = Arc::new(OnGpu::new(gpu.clone(), self.kernels.traits(&gpu)));
        for entry in nodes.entries.iter().filter(|e| e.site == Site::Gpu) {
            // Those that decide shapes are read on the host; large ones never do.
            const LARGE: usize = 4096;
            for &l in entry.inputs.iter().flatten() {
                let Some(Value::Tensor(t)) = nodes.constant(l) else { continue };
                if t.byte_len() >= LARGE {
                    on.weight(&nodes, l).map_err(|reason| reason.at(entry.id))?;
                    (region.progress)(t.byte_len());
                }
            }
        }
        let (seat, host, kernels) = (self.seat.clone(), self.host.clone(), self.kernels);
        let (on, late) = (Mutex::new(on), Mutex::new(gpu.take_late()));
        Ok(Arc::new(GpuProgram { nodes, seat, host, kernels, on, late }))
    }

    fn pauses(&self) -> bool {
        !MAY_WAIT
    }
}

struct GpuProgram {
    nodes: Nodes,
    seat: Arc<Seat>,
    host: Host,
    kernels: Kernels,
    on: Mutex<Arc<OnGpu>>,
    /// What the device has not said yet of the weights: the first run asks.
    late: Mutex<Vec<Late>>,
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
    /// Begins to bring a value to the host if it is on the GPU alone.
    pub fn fetch(&self, l: Local, env: &Env) -> Result<Option<Box<dyn Reading>>, Reason> {
        match (&env[l], &self.tensors[l]) {
            (None, Some(tensor)) => tensor.reading().map(Some),
            _ => Ok(None),
        }
    }
}

/// How far a run has come.
pub(crate) struct Progress {
    on: Arc<OnGpu>,
    env: Env,
    here: Here,
    /// The node with which the plan begins that it is in, or that comes next.
    node: usize,
    stage: Stage,
    /// Values on their way to the host.
    fetches: Vec<(Local, Box<dyn Reading>)>,
    /// What the device has not said yet about what was done.
    late: Vec<Late>,
    /// The outputs, while the device has not said that all went well.
    made: Option<Vec<Held>>,
}

/// Where in a plan a run is.
enum Stage {
    Plan,
    Draft(Key, Box<Draft>),
    Make(Key, Box<Making>),
    Run(Box<Run>),
}

impl GpuProgram {
    /// What of the program is on the GPU of its seat.
    fn on_gpu(&self) -> Arc<OnGpu> {
        let gpu = self.seat.gpu();
        let mut on = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&on.gpu, &gpu) {
            *on = Arc::new(OnGpu::new(gpu.clone(), self.kernels.traits(&gpu)));
            self.late.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        on.clone()
    }

    fn facts(&self, given: impl Iterator<Item = (Local, Fact)>) -> Vec<Option<Fact>> {
        let mut facts = vec![None; self.nodes.values()];
        given.for_each(|(l, fact)| facts[l] = Some(fact));
        self.nodes.constant_facts().for_each(|(l, fact)| facts[l] = Some(fact.clone()));
        facts
    }

    fn key(&self, run: &Progress) -> Key {
        let (env, here) = (&run.env, &run.here);
        let read = |&l: &Local| self.nodes.is_read_from(l, run.node);
        let key = |l: Local| match (&env[l], &here.tensors[l]) {
            (Some(v), _) => Some((l, v.ty(), v.shape().map(|s| s.into()))),
            (None, Some(t)) => Some((l, Type::Tensor(t.dtype()), Some(t.shape().into()))),
            (None, None) => None,
        };
        (run.node, (0..env.len()).filter(read).filter_map(key).collect())
    }

    /// The plan that comes next: one that was made before, or what becomes one.
    fn plan(&self, run: &Progress, cx: &RunCx<'_>) -> Result<Stage, NodeError> {
        let key = self.key(run);
        if let Some(ready) = run.on.plan(&key, &run.env) {
            return self.enter(run, ready, cx);
        }
        let facts = self.facts(key.1.iter().map(|(l, ty, shape)| {
            let shape = shape.as_ref().map(|s| s.iter().map(|&n| n.into()).collect());
            (*l, Fact { ty: ty.clone(), shape, known: None })
        }));
        Ok(Stage::Draft(key, Box::new(Draft::new(&self.nodes, run.node, facts))))
    }

    /// Goes on with a plan.
    fn draft(
        &self,
        run: &Progress,
        key: Key,
        draft: Draft,
        until: Option<Instant>,
    ) -> Result<Stage, NodeError> {
        let planner = Planner::new(&self.nodes, &run.on.traits, &self.host, draft);
        Ok(match planner.run(&|l| run.env[l].clone(), until)? {
            Ok(plan) => Stage::Make(key, Box::new(Making::new(plan))),
            Err(draft) => Stage::Draft(key, Box::new(draft)),
        })
    }

    /// A run of a plan, if there is memory for it.
    fn enter(&self, run: &Progress, ready: Arc<Ready>, cx: &RunCx<'_>) -> Result<Stage, NodeError> {
        let bytes = ready.plan.bytes();
        if bytes > cx.memory {
            let text = format!("the run would take {bytes} bytes, the limit is {}", cx.memory);
            return Err(Reason::new(Kind::Limit, text).into());
        }
        Ok(Stage::Run(Box::new(Run::new(&run.on, ready, cx)?)))
    }

    /// Puts the inputs where they are: on the host, or on this GPU, and there too those whose
    /// content somebody must know before kernels run.
    fn begin(&self, inputs: Vec<Held>, keep: &[bool]) -> Result<Progress, NodeError> {
        if inputs.len() != self.nodes.inputs.len() {
            let (given, needed) = (inputs.len(), self.nodes.inputs.len());
            return Err(invalid!("{given} inputs for a program of {needed}").into());
        }
        let (on, n) = (self.on_gpu(), self.nodes.values());
        on.gpu.check()?;
        let (mut env, mut fetches): (Env, Vec<(Local, Box<dyn Reading>)>) =
            (vec![None; n], Vec::new());
        let mut here = Here { tensors: vec![None; n], keep: vec![false; n] };
        for (&l, &keep) in self.nodes.outputs.iter().zip(keep) {
            // What a node reads on the host comes there anyway, and stays there.
            here.keep[l] |= keep && !self.needs_content(l);
        }
        for (&l, value) in self.nodes.inputs.iter().zip(inputs) {
            match value {
                Held::Host(value) => env[l] = Some(value),
                Held::Device(tensor) => match Resident::of(&*tensor, &on.gpu) {
                    Some(found) => {
                        here.tensors[l] = Some(Arc::new(found.viewed(tensor.shape())));
                        if self.needs_content(l) {
                            fetches.push((l, tensor.reading()?));
                        }
                    }
                    // Of another GPU, or of one that was lost.
                    None => fetches.push((l, tensor.reading()?)),
                },
            }
        }
        let mut late =
            std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        late.extend(on.gpu.take_late());
        let (node, stage, made) = (0, Stage::Plan, None);
        Ok(Progress { on, env, here, node, stage, fetches, late, made })
    }

    /// Goes on with a run until `until` has passed; its outputs, if it is through.
    fn advance(
        &self,
        run: &mut Progress,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Vec<Held>>, NodeError> {
        let gpu = run.on.gpu.clone();
        cx.check()?;
        let mut made = match run.made.take() {
            Some(made) => Ok(Some(made)),
            None => self.go(run, cx, until),
        };
        run.late.extend(gpu.take_late());
        // What the device says tells more than what came of it.
        match gpu.settle(&mut run.late, cx) {
            Ok(true) => {}
            Ok(false) => run.made = made.as_mut().ok().and_then(Option::take),
            Err(reason) => {
                run.on.clear();
                return Err(reason.into());
            }
        }
        made
    }

    fn go(
        &self,
        run: &mut Progress,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Vec<Held>>, NodeError> {
        let on = run.on.clone();
        loop {
            while let Some((l, reading)) = run.fetches.first_mut() {
                let Some(tensor) = reading.advance(cx, until)? else { return Ok(None) };
                run.env[*l] = Some(tensor.into());
                run.fetches.remove(0);
            }
            if run.node == self.nodes.entries.len() {
                let outputs = self.nodes.outputs.iter().copied();
                if self.fetch(run, outputs.filter(|&l| !run.here.keep[l]).collect())? {
                    continue;
                }
                return self.collect(run).map(Some);
            }
            let over = || until.is_some_and(|until| Instant::now() >= until);
            match std::mem::replace(&mut run.stage, Stage::Plan) {
                Stage::Plan => run.stage = self.plan(run, cx)?,
                Stage::Draft(key, draft) => match self.draft(run, key, *draft, until) {
                    // A shape may depend on what is on the GPU alone.
                    Err(e)
                        if e.reason.kind == Kind::Unsupported
                            && self.fetch(run, (0..run.env.len()).collect())? => {}
                    other => {
                        run.stage = other?;
                        if over() {
                            return Ok(None);
                        }
                    }
                },
                Stage::Make(key, mut making) => match making.advance(&on, &self.nodes, until)? {
                    None => {
                        run.stage = Stage::Make(key, making);
                        return Ok(None);
                    }
                    Some(ready) => {
                        let ready = Arc::new(ready);
                        on.keep(key, &ready);
                        run.stage = self.enter(run, ready, cx)?;
                    }
                },
                Stage::Run(mut inner) => {
                    let at = At { on: &on, nodes: &self.nodes, host: &self.host };
                    if !inner.advance(&at, (&mut run.env, &mut run.here), cx, until)? {
                        run.stage = Stage::Run(inner);
                        return Ok(None);
                    }
                    run.node = inner.ready.plan.end;
                }
            }
        }
    }

    /// Begins to bring those of these values to the host that are on the GPU alone; whether there
    /// is any.
    fn fetch(&self, run: &mut Progress, all: Vec<Local>) -> Result<bool, Reason> {
        for l in all {
            let reading = run.here.fetch(l, &run.env)?;
            if let Some(reading) = reading.filter(|_| run.fetches.iter().all(|(of, _)| *of != l)) {
                run.fetches.push((l, reading));
            }
        }
        Ok(!run.fetches.is_empty())
    }

    /// The program's outputs; one that is a constant or an input is handed out as it is.
    fn collect(&self, run: &mut Progress) -> Result<Vec<Held>, NodeError> {
        let outputs = &self.nodes.outputs;
        let mut made = Vec::with_capacity(outputs.len());
        for (i, &l) in outputs.iter().enumerate() {
            if let Some(tensor) = run.here.tensors[l].clone().filter(|_| run.here.keep[l]) {
                made.push(Held::Device(tensor));
                continue;
            }
            let again = outputs[i + 1..].contains(&l);
            let value = if again { run.env[l].clone() } else { run.env[l].take() };
            let value = value.or_else(|| self.nodes.constant(l).cloned());
            made.push(Held::Host(value.ok_or_else(|| invalid!("an output was not made"))?));
        }
        Ok(made)
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
        let mut run = self.begin(inputs, keep)?;
        let made = self.advance(&mut run, cx, None)?;
        Ok(made.ok_or_else(Reason::cannot_wait)?)
    }

    fn takes_device(&self) -> bool {
        true
    }

    fn start(
        self: Arc<Self>,
        inputs: Vec<Held>,
        keep: Vec<bool>,
        _cx: &RunCx<'_>,
    ) -> Result<Box<dyn Running>, NodeError> {
        let progress = self.begin(inputs, &keep)?;
        Ok(Box::new(Paused { program: self, progress, waits: false }))
    }

    fn trim(&self) {
        let on = self.on.lock().unwrap_or_else(PoisonError::into_inner).clone();
        on.trim();
    }

    fn memory(&self, inputs: &[Fact]) -> Result<Memory, NodeError> {
        let given = self.nodes.inputs.iter().copied().zip(inputs.iter().cloned().map(Fact::forget));
        let (on, draft) = (self.on_gpu(), Draft::new(&self.nodes, 0, self.facts(given)));
        let planner = Planner::new(&self.nodes, &on.traits, &self.host, draft);
        let plan = planner.run(&|_| None, None)?;
        let plan =
            plan.map_err(|_| Reason::new(Kind::Internal, "a plan without an end stopped"))?;
        Ok(Memory {
            weights: self.nodes.weight_bytes(),
            arena: plan.bytes(),
            unshared: plan.unshared,
            outputs: plan.downloads.iter().map(|d| d.bytes()).sum(),
            scratch: 0,
            partial: plan.end < self.nodes.entries.len(),
        })
    }

    fn place(&self, node: NodeId) -> Option<&'static str> {
        let entry = self.nodes.entries.iter().find(|e| e.id == node)?;
        (entry.site == Site::Host).then_some("host")
    }
}

/// A run that waits for its next slice.
struct Paused {
    program: Arc<GpuProgram>,
    progress: Progress,
    waits: bool,
}

impl Running for Paused {
    fn advance(
        &mut self,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Vec<Held>>, NodeError> {
        let made = self.program.advance(&mut self.progress, cx, until)?;
        // What was not ended by time was ended by the device.
        self.waits = made.is_none() && until.is_none_or(|until| Instant::now() < until);
        Ok(made)
    }

    fn waits(&self) -> bool {
        self.waits
    }
}
