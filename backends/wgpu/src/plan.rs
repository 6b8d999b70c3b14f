//! Plans: what a program does for given input shapes, and in which memory.
//!
//! A plan covers nodes from where it starts up to the first whose shapes depend on content that is
//! not known yet. A slot is one buffer, used again as soon as the value in it is dead. What comes
//! from the host has a slot that nothing used before, so that it can be written before anything of
//! the plan runs.

use rinfer_graph::backend::{NodeError, RunCx};
use rinfer_graph::ops::Inputs;
use rinfer_graph::shape::Sizes;
use rinfer_graph::tensor::size_in_bytes;
use rinfer_graph::{DType, Fact, Facts, Kind, Reason, Type, Value, invalid, unsupported};
use smallvec::SmallVec;
use web_time::Instant;

use crate::device::{Traits, padded};
use crate::half::kept;
use crate::kernel::{Cx, Kernel};
use crate::nodes::{Local, Nodes};
use crate::ops;
use crate::program::Host;
use crate::shader::{Bind, Launch};
use crate::site::{Site, content_inputs};
use crate::slots::Slots;

/// A buffer that a kernel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A slot of the arena.
    Slot(usize),
    /// A weight of the program.
    Weight(Local),
    /// A table or a tensor of the plan.
    Fixed(usize),
    /// Where faults are noted.
    Faults,
}

/// A value that goes from the GPU to the host.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    pub local: Local,
    pub source: Source,
    pub dtype: DType,
    pub sizes: Sizes,
    /// Whether the GPU keeps it in 16 bits.
    pub half: bool,
}

impl Download {
    pub fn bytes(&self) -> usize {
        let dtype = if self.half { DType::F16 } else { self.dtype };
        size_in_bytes(dtype, &self.sizes).unwrap_or(0)
    }
}

/// How a step runs.
pub(crate) enum Work {
    /// These launches of the plan.
    Gpu(std::ops::Range<usize>),
    /// By the host, once these values are there.
    Host(Vec<Download>),
    /// A value on the host under another shape.
    HostView,
    /// A value on the GPU under another shape: nothing.
    View,
}

/// One node of a plan.
pub(crate) struct Step {
    /// Its position in the program's list.
    pub node: usize,
    pub work: Work,
    /// Values that go to the GPU before it, and their slots.
    pub uploads: Vec<(Local, usize)>,
    pub facts: Facts,
}

/// A launch and the buffers that it is bound to.
pub(crate) struct Bound {
    pub launch: Launch,
    /// Each with its first byte and its bytes.
    pub sources: Vec<(Source, usize, usize)>,
}

/// What the program does from one node up to another, for given shapes.
#[derive(Default)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    pub launches: Vec<Bound>,
    /// Contents of [`Source::Fixed`].
    pub fixed: Vec<Vec<u8>>,
    /// Values that depend on shapes only.
    pub constants: Vec<(Local, Value)>,
    /// Bytes of each slot.
    pub slots: Vec<usize>,
    /// Bytes of the slots if nothing were used twice.
    pub unshared: usize,
    /// What leaves the plan.
    pub downloads: Vec<Download>,
    /// The first node that is not covered.
    pub end: usize,
    /// Values whose content, too, the plan was made for.
    pub relied: Vec<(Local, Value)>,
}

impl Plan {
    /// Bytes of all slots.
    pub fn bytes(&self) -> usize {
        self.slots.iter().fold(0, |sum: usize, &bytes| sum.saturating_add(bytes))
    }
}

/// Bytes of a constant that a plan may compute ahead.
const FIXED_VALUE: usize = 1 << 20;
/// Elements of a value whose content may become part of a plan's key.
const CONTENT: usize = 4096;

/// A plan that is being made.
pub(crate) struct Draft {
    facts: Vec<Option<Fact>>,
    /// Whether the value is made in this plan, so that its content is not at hand.
    made: Vec<bool>,
    /// Whether the value is on the host when the plan has come this far.
    on_host: Vec<bool>,
    on_gpu: Vec<Option<Source>>,
    slots: Slots,
    plan: Plan,
}

impl Draft {
    /// `facts` are those of the values that exist before node `start` runs.
    pub fn new(nodes: &Nodes, start: usize, facts: Vec<Option<Fact>>) -> Draft {
        let n = facts.len();
        let on_gpu = (0..n).map(|l| nodes.constant(l).map(|_| Source::Weight(l))).collect();
        Draft {
            made: vec![false; n],
            on_host: facts.iter().map(Option::is_some).collect(),
            on_gpu,
            facts,
            slots: Slots::default(),
            plan: Plan { end: start, ..Plan::default() },
        }
    }
}

/// Makes a plan.
pub(crate) struct Planner<'a> {
    nodes: &'a Nodes,
    traits: &'a Traits,
    host: &'a Host,
    draft: Draft,
}

impl<'a> Planner<'a> {
    /// Goes on with a draft.
    pub fn new(nodes: &'a Nodes, traits: &'a Traits, host: &'a Host, draft: Draft) -> Planner<'a> {
        Planner { nodes, traits, host, draft }
    }

    /// Plans as many nodes as shapes are known for, or until `until` has passed, which leaves a
    /// draft. `content` gives a value's content if it exists.
    pub fn run(
        mut self,
        content: &dyn Fn(Local) -> Option<Value>,
        until: Option<Instant>,
    ) -> Result<Result<Plan, Draft>, NodeError> {
        while self.draft.plan.end < self.nodes.entries.len() {
            let node = self.draft.plan.end;
            let id = self.nodes.entries[node].id;
            if !self.settle(node, content) {
                break;
            }
            let mut outputs = self.infer(node).map_err(|reason| reason.at(id))?;
            if !is_planned(&outputs) {
                if self.waits_for_content(node) && !self.draft.plan.steps.is_empty() {
                    break;
                }
                outputs = self.bind(node, outputs, content).map_err(|reason| reason.at(id))?;
            }
            let known = is_planned(&outputs);
            self.node(node, outputs).map_err(|reason| reason.at(id))?;
            self.draft.plan.end += 1;
            if !known {
                break;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Err(self.draft));
            }
        }
        self.finish()?;
        Ok(Ok(self.draft.plan))
    }

    fn inputs(&self, node: usize) -> SmallVec<[Option<&Fact>; 4]> {
        let locals = self.nodes.entries[node].inputs.iter();
        locals.map(|l| l.and_then(|l| self.draft.facts[l].as_ref())).collect()
    }

    /// The facts of its inputs as the GPU keeps them.
    fn kept(&self, node: usize) -> Vec<Option<Fact>> {
        let of = |l: &Option<Local>| {
            let fact = l.and_then(|l| Some((l, self.draft.facts[l].as_ref()?)));
            fact.map(|(l, fact)| self.nodes.kept_fact(l, fact))
        };
        self.nodes.entries[node].inputs.iter().map(of).collect()
    }

    /// The facts of its outputs as the GPU keeps them.
    fn kept_outputs(&self, node: usize, facts: &Facts) -> Facts {
        let locals =
            self.nodes.entries[node].outputs.iter().map(Some).chain(std::iter::repeat(None));
        let of = |(l, fact): (Option<&Local>, &Fact)| match l {
            Some(&l) => self.nodes.kept_fact(l, fact),
            None => fact.clone(),
        };
        locals.zip(facts).map(of).collect()
    }

    fn infer(&self, node: usize) -> Result<Facts, Reason> {
        let entry = &self.nodes.entries[node];
        entry.node.op.infer(&Inputs::new(&self.inputs(node), entry.outputs.len()))
    }

    /// Whether the content of one of its inputs comes into being in this very plan.
    fn waits_for_content(&self, node: usize) -> bool {
        self.nodes.entries[node].inputs.iter().flatten().any(|&l| self.draft.made[l])
    }

    /// Looks at the content that a kernel must know; false if it comes into being in this plan.
    fn settle(&mut self, node: usize, content: &dyn Fn(Local) -> Option<Value>) -> bool {
        let entry = &self.nodes.entries[node];
        if entry.site == Site::Host {
            return true;
        }
        for &i in content_inputs(&entry.node.op) {
            let Some(l) = entry.inputs.get(i).copied().flatten() else { continue };
            if self.draft.facts[l].as_ref().is_none_or(Fact::is_const) {
                continue;
            }
            if self.draft.made[l] {
                return false;
            }
            if let Some(value) = content(l) {
                self.draft.facts[l] = Some(Fact::of_value(&value));
                self.draft.plan.relied.push((l, value));
            }
        }
        true
    }

    /// Looks at the content of inputs until the shapes are known: first those after the first,
    /// then the first too.
    fn bind(
        &mut self,
        node: usize,
        mut outputs: Facts,
        content: &dyn Fn(Local) -> Option<Value>,
    ) -> Result<Facts, Reason> {
        for first in [1, 0] {
            let mut bound = Vec::new();
            for l in self.nodes.entries[node].inputs.iter().skip(first).flatten().copied() {
                let small =
                    |v: &Value| v.shape().and_then(rinfer_graph::shape::count) <= Some(CONTENT);
                let unknown = self.draft.facts[l].as_ref().is_some_and(|fact| !fact.is_const());
                if let Some(value) =
                    content(l).filter(|v| unknown && !self.draft.made[l] && small(v))
                {
                    let old = self.draft.facts[l].replace(Fact::of_value(&value));
                    bound.push((l, old));
                }
            }
            if bound.is_empty() {
                continue;
            }
            outputs = self.infer(node)?;
            if is_planned(&outputs) {
                let relied = bound.iter().filter_map(|(l, _)| Some((*l, content(*l)?)));
                self.draft.plan.relied.extend(relied);
                break;
            }
            // It did not help: the plan must not depend on it.
            for (l, old) in bound {
                self.draft.facts[l] = old;
            }
            outputs = self.infer(node)?;
        }
        Ok(outputs)
    }

    /// Adds one node: computed now if it depends on shapes only, else as a step.
    fn node(&mut self, node: usize, outputs: Facts) -> Result<(), Reason> {
        let entry = &self.nodes.entries[node];
        if self.fix(node, &outputs)? {
            self.free(node);
            return Ok(());
        }
        let mut step = Step { node, work: Work::View, uploads: Vec::new(), facts: outputs };
        let planned = is_planned(&step.facts);
        if entry.site == Site::Host {
            step.work = Work::Host(self.downloads(node)?);
            entry.outputs.iter().for_each(|&l| self.draft.on_host[l] = true);
        } else if !planned {
            let op = entry.node.op.name();
            return Err(unsupported!("{op} on the GPU, whose shape its inputs' content decides"));
        } else {
            step.facts.iter().try_for_each(check_size)?;
            self.on_gpu(node, &mut step)?;
        }
        for (&l, fact) in entry.outputs.iter().zip(&step.facts) {
            self.draft.facts[l] = Some(fact.clone());
            self.draft.made[l] = true;
        }
        self.draft.plan.steps.push(step);
        self.free(node);
        Ok(())
    }

    /// Computes a node's outputs ahead if they are known, or it is shape arithmetic on constants.
    fn fix(&mut self, node: usize, outputs: &Facts) -> Result<bool, Reason> {
        let entry = &self.nodes.entries[node];
        let known = outputs.iter().all(Fact::is_const);
        let inputs = self.inputs(node);
        let constant = entry.site == Site::Host && inputs.iter().flatten().all(|f| f.is_const());
        let bytes: usize = outputs.iter().map(|f| bytes_of(f).unwrap_or(FIXED_VALUE)).sum();
        if !(known || constant) || bytes > FIXED_VALUE {
            return Ok(false);
        }
        let values: Vec<Value> = if known {
            outputs.iter().filter_map(Fact::value).collect()
        } else {
            let values: Vec<_> = inputs.iter().map(|f| f.and_then(Fact::value)).collect();
            (self.host)(&entry.node, &values, &RunCx::unbounded())?
        };
        drop(inputs);
        if values.len() < entry.outputs.len() {
            return Ok(false);
        }
        for (&l, value) in entry.outputs.iter().zip(values) {
            self.draft.facts[l] = Some(Fact::of_value(&value));
            self.draft.on_host[l] = true;
            self.draft.plan.constants.push((l, value));
        }
        Ok(true)
    }

    /// What must come from the GPU before the host can run a node.
    fn downloads(&mut self, node: usize) -> Result<Vec<Download>, Reason> {
        let mut all = Vec::new();
        for &l in self.nodes.entries[node].inputs.iter().flatten() {
            if !self.draft.on_host[l] && self.nodes.constant(l).is_none() {
                all.push(self.download(l)?);
                self.draft.on_host[l] = true;
            }
        }
        Ok(all)
    }

    fn download(&self, l: Local) -> Result<Download, Reason> {
        let fact =
            self.draft.facts[l].as_ref().ok_or_else(|| invalid!("a value without a fact"))?;
        let source = self.draft.on_gpu[l].ok_or_else(|| invalid!("a value that was not made"))?;
        let sizes = fact.sizes().ok_or_else(|| invalid!("a value on the GPU without sizes"))?;
        let half = self.nodes.is_half(l);
        Ok(Download { local: l, source, dtype: fact.dtype()?, sizes, half })
    }

    /// A node that runs on the GPU.
    fn on_gpu(&mut self, node: usize, step: &mut Step) -> Result<(), Reason> {
        let entry = &self.nodes.entries[node];
        let kernel = {
            let kept = self.kept(node);
            let inputs: SmallVec<[Option<&Fact>; 4]> = kept.iter().map(Option::as_ref).collect();
            let outputs = self.kept_outputs(node, &step.facts);
            let traits = self.traits;
            ops::compile(&Cx { node: &entry.node, inputs: &inputs, outputs: &outputs, traits })?
        };
        if kernel.view {
            return self.view(node, step);
        }
        let read: Vec<usize> = inputs_read(&kernel);
        for &i in &read {
            let l = entry.inputs[i].ok_or_else(|| invalid!("input {i} is missing"))?;
            self.upload(l, step)?;
        }
        let outputs = self.kept_outputs(node, &step.facts);
        for (&l, fact) in entry.outputs.iter().zip(&outputs) {
            let slot = self.draft.slots.take(bytes_of(fact).unwrap_or(0));
            self.draft.on_gpu[l] = Some(Source::Slot(slot));
        }
        let from = self.draft.plan.launches.len();
        if step.facts.iter().any(|f| !f.is_empty()) {
            self.launch(node, kernel, step)?;
        }
        step.work = Work::Gpu(from..self.draft.plan.launches.len());
        Ok(())
    }

    fn launch(&mut self, node: usize, kernel: Kernel, step: &Step) -> Result<(), Reason> {
        let entry = &self.nodes.entries[node];
        let scratch: Vec<usize> =
            kernel.scratch.iter().map(|&n| self.draft.slots.take(n)).collect();
        let tables = self.draft.plan.fixed.len();
        let sizes: Vec<usize> = kernel.tables.iter().map(Vec::len).collect();
        self.draft.plan.fixed.extend(kernel.tables);
        for mut launch in kernel.launches {
            launch.numbered(self.draft.plan.steps.len() as u32 + 1);
            let mut whole = Vec::with_capacity(launch.binds.len());
            for &(bind, _) in &launch.binds {
                let of =
                    |l: Local| self.draft.on_gpu[l].ok_or_else(|| invalid!("a value is not there"));
                let bytes = |l: Local, f: Option<&Fact>| {
                    f.and_then(|f| bytes_of(&self.nodes.kept_fact(l, f))).unwrap_or(0)
                };
                let (source, size) = match bind {
                    Bind::Input(i) => {
                        let l = entry.inputs[i].ok_or_else(|| invalid!("input {i} is missing"))?;
                        (of(l)?, bytes(l, self.draft.facts[l].as_ref()))
                    }
                    Bind::Output(o) => {
                        let l = entry.outputs[o];
                        (of(l)?, bytes(l, step.facts.get(o)))
                    }
                    Bind::Scratch(i) => (Source::Slot(scratch[i]), kernel.scratch[i]),
                    Bind::Table(i) => (Source::Fixed(tables + i), sizes[i]),
                    Bind::Faults => (Source::Faults, 4),
                };
                whole.push((source, size));
            }
            let sources = self.spread(&mut launch, &whole)?;
            self.draft.plan.launches.push(Bound { launch, sources });
        }
        scratch.into_iter().for_each(|slot| self.draft.slots.leave(slot));
        Ok(())
    }

    /// Binds a launch's buffers, those in parts that are larger than what a kernel sees at once.
    fn spread(
        &self,
        launch: &mut Launch,
        whole: &[(Source, usize)],
    ) -> Result<Vec<(Source, usize, usize)>, Reason> {
        let binding = usize::try_from(self.traits.max_binding).unwrap_or(usize::MAX);
        let sizes: Vec<usize> = whole.iter().map(|&(_, size)| size).collect();
        launch.spread(&sizes, binding)?;
        let (buffers, most) = (launch.binds.len(), self.traits.max_buffers);
        if buffers > most {
            let text =
                format!("{buffers} buffers or parts of them, a kernel of this GPU sees {most}");
            return Err(Reason::new(Kind::Limit, text));
        }
        let mut sources = Vec::with_capacity(buffers);
        let mut k = 0;
        for (i, &offset) in launch.offsets.iter().enumerate() {
            // Parts of one buffer follow each other.
            if i > 0 && offset == 0 {
                k += 1;
            }
            let (source, size) = whole[k];
            let next = launch.offsets.get(i + 1).copied().filter(|&next| next > 0);
            let end = next.unwrap_or(padded(size));
            sources.push((source, offset, end - offset));
        }
        Ok(sources)
    }

    /// Brings a value to the GPU, unless it is there.
    fn upload(&mut self, l: Local, step: &mut Step) -> Result<(), Reason> {
        if self.draft.on_gpu[l].is_some() {
            return Ok(());
        }
        if let Some((_, value)) = self.draft.plan.constants.iter().find(|(c, _)| *c == l) {
            let bytes = kept(value.as_tensor()?, self.nodes.is_half(l)).into_owned();
            self.draft.plan.fixed.push(bytes);
            self.draft.on_gpu[l] = Some(Source::Fixed(self.draft.plan.fixed.len() - 1));
            return Ok(());
        }
        let bytes =
            self.draft.facts[l].as_ref().and_then(|f| bytes_of(&self.nodes.kept_fact(l, f)));
        let bytes = bytes.ok_or_else(|| invalid!("a value of unknown size for the GPU"))?;
        let slot = self.draft.slots.fresh(bytes);
        self.draft.on_gpu[l] = Some(Source::Slot(slot));
        step.uploads.push((l, slot));
        Ok(())
    }

    /// Output 0 is input 0, wherever that is.
    fn view(&mut self, node: usize, step: &mut Step) -> Result<(), Reason> {
        let entry = &self.nodes.entries[node];
        let x = entry.inputs.first().copied().flatten();
        let x = x.ok_or_else(|| invalid!("input 0 is missing"))?;
        let y = entry.outputs[0];
        step.work = match self.draft.on_gpu[x] {
            Some(source) => {
                if let Source::Slot(slot) = source {
                    self.draft.slots.share(slot);
                }
                self.draft.on_gpu[y] = Some(source);
                Work::View
            }
            None => {
                self.draft.on_host[y] = true;
                Work::HostView
            }
        };
        Ok(())
    }

    /// Lets go of the slots of values that nobody reads after this node.
    fn free(&mut self, node: usize) {
        let entry = &self.nodes.entries[node];
        let mut seen = SmallVec::<[Local; 8]>::new();
        for &l in entry.inputs.iter().flatten().chain(&entry.outputs) {
            if !seen.contains(&l) && !self.nodes.is_read_from(l, node + 1) {
                seen.push(l);
                if let Some(Source::Slot(slot)) = self.draft.on_gpu[l].take() {
                    self.draft.slots.leave(slot);
                }
            }
        }
    }

    /// What later nodes or the caller need goes to the host.
    fn finish(&mut self) -> Result<(), Reason> {
        let end = self.draft.plan.end;
        for l in 0..self.draft.facts.len() {
            let live = self.nodes.is_read_from(l, end);
            if live && self.draft.made[l] && !self.draft.on_host[l] {
                let download = self.download(l)?;
                self.draft.plan.downloads.push(download);
            }
        }
        self.draft.plan.slots = std::mem::take(&mut self.draft.slots.sizes);
        self.draft.plan.unshared = self.draft.slots.unshared;
        Ok(())
    }
}

/// The inputs that a kernel's launches are bound to.
fn inputs_read(kernel: &Kernel) -> Vec<usize> {
    let binds = kernel.launches.iter().flat_map(|l| &l.binds);
    let mut read: Vec<usize> = binds
        .filter_map(|(bind, _)| match bind {
            Bind::Input(i) => Some(*i),
            _ => None,
        })
        .collect();
    read.sort_unstable();
    read.dedup();
    read
}

/// Whether every tensor among the outputs has a known shape.
pub(crate) fn is_planned(outputs: &Facts) -> bool {
    outputs.iter().all(|fact| fact.ty.dtype().is_none() || fact.sizes().is_some())
}

/// `Err` if a tensor has more bytes than this machine, or a buffer, can count.
fn check_size(fact: &Fact) -> Result<(), Reason> {
    let (Type::Tensor(dtype), Some(sizes)) = (&fact.ty, fact.sizes()) else { return Ok(()) };
    size_in_bytes(*dtype, &sizes).map(drop)
}

/// Bytes of a tensor of known shape.
pub(crate) fn bytes_of(fact: &Fact) -> Option<usize> {
    match &fact.ty {
        Type::Tensor(dtype) => size_in_bytes(*dtype, &fact.sizes()?).ok(),
        _ => None,
    }
}
