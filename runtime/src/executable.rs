//! A graph made ready to run: programs of backends, control flow between them.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rinfer_graph::backend::{
    Backend, Backends, Held, Memory, NodeError, Program, Reading, Region, RunCx, Running,
};
use rinfer_graph::{Fact, Graph, NodeId, Op, Reason, Tensor, Value, ValueId, invalid};
use web_time::Instant;

use crate::control;
use crate::error::Error;

/// A reason with the way to the node where it arose.
#[derive(Debug)]
pub(crate) struct Located {
    path: Vec<String>,
    op: String,
    facts: Vec<String>,
    reason: Reason,
}

impl From<Reason> for Located {
    fn from(reason: Reason) -> Located {
        Located { path: Vec::new(), op: String::new(), facts: Vec::new(), reason }
    }
}

impl From<Located> for Error {
    fn from(e: Located) -> Error {
        if e.path.is_empty() {
            return Error::Option(e.reason);
        }
        Error::Node { node: e.path.join("/"), op: e.op, facts: e.facts, reason: e.reason }
    }
}

impl Located {
    fn new(graph: &Graph, e: NodeError) -> Located {
        let Some(id) = e.node else { return e.reason.into() };
        let node = graph.node(id);
        let facts =
            node.inputs.iter().flatten().map(|&v| graph.fact(v).clone().forget().to_string());
        Located {
            path: vec![node_name(graph, id)],
            op: node.op.name().to_string(),
            facts: facts.collect(),
            reason: e.reason,
        }
    }

    /// The same, seen from a node around it.
    fn inside(mut self, graph: &Graph, id: NodeId) -> Located {
        if self.path.is_empty() {
            return Located::new(graph, self.reason.at(id));
        }
        self.path.insert(0, node_name(graph, id));
        self
    }
}

/// The node's name, or that of its first output, or its number.
fn node_name(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    if !node.name.is_empty() {
        return node.name.to_string();
    }
    let output = node.outputs.first().and_then(|&v| graph.name(v));
    output.map_or_else(|| format!("#{}", id.index()), |name| name.to_string())
}

enum Work {
    /// Nodes that one backend runs.
    Region {
        program: Arc<dyn Program>,
        backend: &'static str,
        nodes: Vec<NodeId>,
        inputs: Vec<ValueId>,
        outputs: Vec<ValueId>,
    },
    /// A node that runs graphs.
    Control { node: NodeId, bodies: Vec<Executable> },
}

struct Part {
    work: Work,
    /// Values that nothing reads after this part.
    dead: Vec<ValueId>,
}

/// A graph made ready to run.
pub(crate) struct Executable {
    graph: Arc<Graph>,
    parts: Vec<Part>,
}

/// Where a node runs, in the order of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The backend; `session` for control flow, `host` for arithmetic of shapes beside a GPU.
    pub backend: &'static str,
}

impl Executable {
    /// Gives every node to the first backend that supports it, and compiles maximal runs. Loop and
    /// Scan do not pause: their bodies run on backends that need not.
    pub fn new(
        graph: Arc<Graph>,
        backends: &Backends,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Executable, Located> {
        let groups = partition(&graph, backends)?;
        let mut uses = Uses::new(&graph, &groups);
        let mut parts = Vec::with_capacity(groups.len());
        for (i, (backend, nodes)) in groups.iter().enumerate() {
            let work = match backend {
                None => {
                    let node = nodes[0];
                    let bodies = graph.node(node).op.bodies();
                    let pauses = matches!(graph.node(node).op, Op::If(_));
                    let fit = |b: &&Arc<dyn Backend>| pauses || !b.pauses();
                    let inside: Backends = backends.iter().filter(fit).cloned().collect();
                    let bodies = bodies.into_iter().map(|body| {
                        Executable::new(body.clone(), &inside, progress)
                            .map_err(|e| e.inside(&graph, node))
                    });
                    Work::Control { node, bodies: bodies.collect::<Result<_, _>>()? }
                }
                Some(backend) => {
                    let (inputs, outputs) = uses.border(&graph, i, nodes);
                    let region = Region {
                        graph: &graph,
                        nodes,
                        inputs: &inputs,
                        outputs: &outputs,
                        progress,
                    };
                    let program = backend.compile(region).map_err(|e| Located::new(&graph, e))?;
                    Work::Region {
                        program,
                        backend: backend.name(),
                        nodes: nodes.clone(),
                        inputs,
                        outputs,
                    }
                }
            };
            parts.push(Part { work, dead: uses.take_dead(i) });
        }
        Ok(Executable { graph, parts })
    }

    /// Where every node runs, bodies of control flow included.
    pub fn placements(&self) -> Vec<Placement> {
        let mut all = Vec::new();
        for part in &self.parts {
            let place = |&id: &NodeId, backend| Placement {
                node: node_name(&self.graph, id),
                op: self.graph.node(id).op.name().to_string(),
                backend,
            };
            match &part.work {
                Work::Region { program, backend, nodes, .. } => {
                    let at = |id: &NodeId| program.place(*id).unwrap_or(*backend);
                    all.extend(nodes.iter().map(|id| place(id, at(id))));
                }
                Work::Control { node, bodies } => {
                    all.push(place(node, "session"));
                    all.extend(bodies.iter().flat_map(Executable::placements));
                }
            }
        }
        all
    }

    /// Runs once. Inputs and outputs in the graph's order.
    pub fn run(&self, inputs: Vec<Value>, cx: &RunCx<'_>) -> Result<Vec<Value>, Located> {
        let inputs = inputs.into_iter().map(Held::Host).collect();
        let made = self.run_held(inputs, Vec::new(), cx)?;
        made.into_iter().map(|value| Ok(value.into_host(cx)?)).collect()
    }

    /// The same with values on devices; outputs in `keep` stay where they were made.
    pub fn run_held(
        &self,
        inputs: Vec<Held>,
        keep: Vec<ValueId>,
        cx: &RunCx<'_>,
    ) -> Result<Vec<Held>, Located> {
        let mut run = self.begin(inputs, keep)?;
        let made = self.advance(&mut run, cx, None)?;
        made.ok_or_else(|| Reason::cannot_wait().into())
    }

    /// A run that has not begun; inputs and `keep` as in [`Executable::run_held`].
    pub fn begin(&self, inputs: Vec<Held>, keep: Vec<ValueId>) -> Result<Progress, Reason> {
        let needed = self.graph.inputs().len();
        if inputs.len() != needed {
            return Err(invalid!("{} inputs for a graph of {needed}", inputs.len()));
        }
        let env = Env::new(&self.graph, inputs);
        let (inside, branch, coming) = (None, None, Vec::new());
        Ok(Progress { env, keep, part: 0, inside, branch, coming, waits: false })
    }

    /// Goes on with a run until `until` has passed; its outputs, if it is through.
    pub fn advance(
        &self,
        run: &mut Progress,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Vec<Held>>, Located> {
        let graph = &*self.graph;
        run.waits = false;
        while let Some(part) = self.parts.get(run.part) {
            if !self.part(part, run, cx, until)? {
                return Ok(None);
            }
            for v in &part.dead {
                run.env.take(graph, *v);
            }
            run.part += 1;
            let more = run.part < self.parts.len();
            if more && until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
        }
        let outputs = graph.outputs();
        let last = |i: usize| !outputs[i + 1..].contains(&outputs[i]);
        let env = &mut run.env;
        let made = (0..outputs.len()).map(|i| Ok(env.read(graph, outputs[i], last(i))?));
        made.collect::<Result<_, Located>>().map(Some)
    }

    /// Goes on with one part; whether it is through.
    fn part(
        &self,
        part: &Part,
        run: &mut Progress,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, Located> {
        let graph = &*self.graph;
        let takes_device = match &part.work {
            Work::Region { program, .. } => program.takes_device(),
            Work::Control { .. } => false,
        };
        let begun = run.inside.is_some() || run.branch.is_some();
        if !begun && !takes_device && !self.bring(part, run, cx, until)? {
            return Ok(false);
        }
        let env = &mut run.env;
        let left = || cx.memory.saturating_sub(env.held);
        match &part.work {
            Work::Region { program, inputs, outputs, .. } => {
                let (mut running, memory) = match run.inside.take() {
                    Some(inside) => inside,
                    None => {
                        let memory = left();
                        let brought = &run.coming;
                        let mut read = |v: &ValueId| match brought.iter().find(|c| c.of == *v) {
                            Some(coming) => coming.value(),
                            None => env.read(graph, *v, part.dead.contains(v)),
                        };
                        let given = inputs.iter().map(&mut read).collect::<Result<_, _>>()?;
                        run.coming.clear();
                        let keep = outputs.iter().map(|v| run.keep.contains(v)).collect();
                        let (program, cx) = (program.clone(), &RunCx { memory, ..*cx });
                        let running = program.start(given, keep, cx);
                        (running.map_err(|e| Located::new(graph, e))?, memory)
                    }
                };
                let made = running.advance(&RunCx { memory, ..*cx }, until);
                match made.map_err(|e| Located::new(graph, e))? {
                    Some(made) => env.put(outputs, made),
                    None => {
                        run.waits = running.waits();
                        run.inside = Some((running, memory));
                        return Ok(false);
                    }
                }
            }
            Work::Control { node, bodies } => {
                let cx = &RunCx { memory: left(), ..*cx };
                return self.control(*node, bodies, run, cx, until);
            }
        }
        Ok(true)
    }

    /// Goes on with control flow; whether it is through. A panic is an error of the node.
    fn control(
        &self,
        node: NodeId,
        bodies: &[Executable],
        run: &mut Progress,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, Located> {
        // What the node was making is lost with the run.
        let done = || self.control_flow(node, bodies, run, cx, until);
        catch_unwind(AssertUnwindSafe(done)).unwrap_or_else(|payload| {
            let reason = Reason::of_panic(payload.as_ref());
            Err(Located::from(reason).inside(&self.graph, node))
        })
    }

    /// As [`Executable::control`]. If goes on as its branch does, Loop and
    /// Scan are never paused inside.
    fn control_flow(
        &self,
        node: NodeId,
        bodies: &[Executable],
        run: &mut Progress,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, Located> {
        let (graph, n) = (&*self.graph, self.graph.node(node));
        let inside = |e: Located| e.inside(graph, node);
        if run.branch.is_none() {
            let (env, brought) = (&mut run.env, &run.coming);
            let mut read = |v| match brought.iter().find(|c| c.of == v) {
                Some(coming) => coming.value()?.into_host(cx),
                None => env.read(graph, v, false)?.into_host(cx),
            };
            let given = n.inputs.iter().map(|v| v.map(&mut read).transpose());
            let given = given.collect::<Result<_, Reason>>()?;
            run.coming.clear();
            let Op::If(op) = &n.op else {
                let made = control::run(&n.op, bodies, given, cx).map_err(inside)?;
                run.env.put(&n.outputs, made.into_iter().map(Held::Host).collect());
                return Ok(true);
            };
            let chosen = control::branch(op, given).and_then(|(i, given)| {
                let given = given.into_iter().map(Held::Host).collect();
                Ok((i, Box::new(bodies[i].begin(given, Vec::new())?)))
            });
            run.branch = Some(chosen.map_err(|reason| inside(reason.into()))?);
        }
        let Some((i, branch)) = &mut run.branch else { return Ok(true) };
        let made = bodies[*i].advance(branch, cx, until).map_err(inside)?;
        let Some(made) = made else {
            run.waits = branch.waits;
            return Ok(false);
        };
        run.branch = None;
        run.env.put(&n.outputs, made);
        Ok(true)
    }

    /// Brings what a part reads from devices to the host; whether all of it is there.
    fn bring(
        &self,
        part: &Part,
        run: &mut Progress,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, Reason> {
        let read: Vec<ValueId> = match &part.work {
            Work::Region { inputs, .. } => inputs.clone(),
            Work::Control { node, .. } => {
                self.graph.node(*node).inputs.iter().flatten().copied().collect()
            }
        };
        for of in read {
            if let Some(Held::Device(tensor)) = run.env.values.get(&of)
                && run.coming.iter().all(|coming| coming.of != of)
            {
                run.coming.push(Coming { of, reading: tensor.reading()?, tensor: None });
            }
        }
        for coming in run.coming.iter_mut().filter(|coming| coming.tensor.is_none()) {
            coming.tensor = coming.reading.advance(cx, until)?;
            if coming.tensor.is_none() {
                run.waits = until.is_none_or(|until| Instant::now() < until);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives memory that earlier runs left for later ones back to the system.
    pub fn trim(&self) {
        for part in &self.parts {
            match &part.work {
                Work::Region { program, .. } => program.trim(),
                Work::Control { bodies, .. } => bodies.iter().for_each(Executable::trim),
            }
        }
    }

    /// What a run with inputs of these facts takes in memory, control flow's bodies left out.
    pub fn memory(&self, inputs: &[Fact]) -> Result<Memory, Located> {
        let mut total = Memory::default();
        let given: HashMap<ValueId, &Fact> =
            self.graph.inputs().iter().copied().zip(inputs).collect();
        for part in &self.parts {
            match &part.work {
                Work::Region { program, inputs, .. } => {
                    let facts: Vec<Fact> = inputs
                        .iter()
                        .map(|v| {
                            given
                                .get(v)
                                .map_or_else(|| self.graph.fact(*v).clone(), |f| (*f).clone())
                        })
                        .collect();
                    if facts.iter().any(|f| f.ty.dtype().is_some() && f.sizes().is_none()) {
                        total.partial = true;
                        continue;
                    }
                    let m = program.memory(&facts).map_err(|e| Located::new(&self.graph, e))?;
                    total.weights += m.weights;
                    total.arena = total.arena.max(m.arena);
                    total.unshared += m.unshared;
                    total.outputs += m.outputs;
                    total.scratch = total.scratch.max(m.scratch);
                    total.partial |= m.partial;
                }
                Work::Control { .. } => total.partial = true,
            }
        }
        Ok(total)
    }
}

/// How far a run has come.
pub(crate) struct Progress {
    env: Env,
    /// Outputs that stay where they are made.
    keep: Vec<ValueId>,
    part: usize,
    /// The part's run, if it is paused inside, and the memory that it may take.
    inside: Option<(Box<dyn Running>, usize)>,
    /// The branch of an If that it is in.
    branch: Option<(usize, Box<Progress>)>,
    /// What the part reads from devices, on its way to the host.
    coming: Vec<Coming>,
    /// Whether the last slice ended because a device is not ready.
    pub waits: bool,
}

/// A value on its way from a device to the host.
struct Coming {
    of: ValueId,
    reading: Box<dyn Reading>,
    tensor: Option<Tensor>,
}

impl Coming {
    /// The value, which came; a part may read it more than once.
    fn value(&self) -> Result<Held, Reason> {
        let tensor = self.tensor.clone().ok_or_else(|| invalid!("a value did not come"))?;
        Ok(Held::Host(tensor.into()))
    }
}

/// The values that are alive in a run.
struct Env {
    values: HashMap<ValueId, Held>,
    /// Bytes of those that parts made; the graph's inputs are the caller's.
    held: usize,
}

/// Bytes of the host's memory that a value takes.
fn on_host(value: &Held) -> usize {
    match value {
        Held::Host(value) => value.byte_len(),
        Held::Device(_) => 0,
    }
}

impl Env {
    fn new(graph: &Graph, inputs: Vec<Held>) -> Env {
        let values = graph.inputs().iter().copied().zip(inputs).collect();
        Env { values, held: 0 }
    }

    fn put(&mut self, to: &[ValueId], made: Vec<Held>) {
        for (&v, value) in to.iter().zip(made) {
            self.held = self.held.saturating_add(on_host(&value));
            self.values.insert(v, value);
        }
    }

    /// The value, which nobody will ask for again.
    fn take(&mut self, graph: &Graph, v: ValueId) -> Option<Held> {
        let value = self.values.remove(&v)?;
        if graph.producer(v).is_some() {
            self.held = self.held.saturating_sub(on_host(&value));
        }
        Some(value)
    }

    /// A value's content: computed, given, or a constant.
    fn read(&mut self, graph: &Graph, v: ValueId, take: bool) -> Result<Held, Reason> {
        let found = if take { self.take(graph, v) } else { self.values.get(&v).cloned() };
        let name = || graph.name(v).map_or("", |n| n);
        found
            .or_else(|| graph.fact(v).value().map(Held::Host))
            .ok_or_else(|| invalid!("value {} does not exist yet", name()))
    }
}

type Group = (Option<Arc<dyn Backend>>, Vec<NodeId>);

/// Nodes in order, grouped by the backend that runs them; control flow stands alone.
fn partition(graph: &Graph, backends: &Backends) -> Result<Vec<Group>, Located> {
    let mut groups: Vec<Group> = Vec::new();
    let supported: Vec<Support<'_>> = backends.iter().map(|b| (b, b.supports(graph))).collect();
    for (i, &id) in graph.order().iter().enumerate() {
        if graph.node(id).op.is_control() {
            groups.push((None, vec![id]));
            continue;
        }
        let backend = choose(i, &supported).map_err(|r| Located::new(graph, r.at(id)))?;
        match groups.last_mut() {
            Some((Some(last), nodes)) if Arc::ptr_eq(last, &backend) => nodes.push(id),
            _ => groups.push((Some(backend), vec![id])),
        }
    }
    Ok(groups)
}

/// A backend, and for every node whether it executes that.
type Support<'a> = (&'a Arc<dyn Backend>, Vec<Result<(), Reason>>);

/// The first backend that executes node `i`.
fn choose(i: usize, supported: &[Support<'_>]) -> Result<Arc<dyn Backend>, Reason> {
    let mut why = invalid!("there is no backend");
    for (backend, nodes) in supported {
        match &nodes[i] {
            Ok(()) => return Ok((*backend).clone()),
            Err(reason) => why = reason.clone(),
        }
    }
    Err(why)
}

/// Who makes and who reads each value, by group.
struct Uses {
    made_in: HashMap<ValueId, usize>,
    last_read: HashMap<ValueId, usize>,
    dead: Vec<Vec<ValueId>>,
}

impl Uses {
    fn new(graph: &Graph, groups: &[Group]) -> Uses {
        let (mut made_in, mut last_read) = (HashMap::new(), HashMap::new());
        for (i, (_, nodes)) in groups.iter().enumerate() {
            for &id in nodes {
                let node = graph.node(id);
                made_in.extend(node.outputs.iter().map(|&v| (v, i)));
                last_read.extend(node.inputs.iter().flatten().map(|&v| (v, i)));
            }
        }
        last_read.extend(graph.outputs().iter().map(|&v| (v, usize::MAX)));
        let mut dead = vec![Vec::new(); groups.len()];
        for (&v, &last) in last_read.iter().filter(|(_, last)| **last != usize::MAX) {
            dead[last].push(v);
        }
        Uses { made_in, last_read, dead }
    }

    /// What a group reads from outside, and what others read of it.
    fn border(&self, graph: &Graph, i: usize, nodes: &[NodeId]) -> (Vec<ValueId>, Vec<ValueId>) {
        let mut inputs = Vec::new();
        let mut outputs = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for &id in nodes {
            let node = graph.node(id);
            for &v in node.inputs.iter().flatten() {
                let outside = self.made_in.get(&v).is_none_or(|&made| made != i);
                let constant = graph.producer(v).is_none() && graph.fact(v).is_const();
                if outside && !constant && seen.insert(v) {
                    inputs.push(v);
                }
            }
            let later = |v: &&ValueId| self.last_read.get(v).is_some_and(|&last| last > i);
            outputs.extend(node.outputs.iter().filter(later));
        }
        (inputs, outputs)
    }

    fn take_dead(&mut self, i: usize) -> Vec<ValueId> {
        std::mem::take(&mut self.dead[i])
    }
}
