//! Plans: what a program does for given input shapes, and in which memory.
//!
//! A plan covers nodes from where it starts up to the first whose shapes depend on content that is
//! not known yet; there it ends, and the next plan is looked up by what has become known. Each
//! step has its kernel, its sources and its slots. A slot is one buffer, used again as soon as the
//! value in it is dead; an output may overwrite an input that dies with the step.

use rinfer_graph::backend::{NodeError, RunCx};
use rinfer_graph::ops::Inputs;
use rinfer_graph::shape::Sizes;
use rinfer_graph::sync::AtomicBool;
use rinfer_graph::tensor::size_in_bytes;
use rinfer_graph::{DType, Dim, Fact, Facts, Reason, Tensor, Type, Value};
use smallvec::SmallVec;

use crate::conv::chain::Layer;
use crate::eval::run_node;
use crate::kernel::{Cx, Kernel, Run};
use crate::program::{Local, Nodes};
use crate::scratch::Scratch;
use crate::{ops, par, plan_among, plan_chains, plan_last, plan_turned};

/// Where a step's input comes from.
pub(crate) enum Source {
    /// A value that is made in each run, or given.
    Local(Local),
    /// A weight of the program, by its local number.
    Weight(Local),
    /// Computed when the plan was made.
    Fixed(usize),
}

/// Where a step's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A slot of the arena.
    Slot(usize),
    /// Memory of its own: it outlives the run, or the kernel makes it.
    Own,
    /// The buffer of this input (its position among the node's inputs).
    Input(usize),
}

/// An output of a step.
pub(crate) struct Out {
    pub local: Local,
    pub dtype: DType,
    pub sizes: Sizes,
    pub place: Place,
}

/// One node of a plan.
pub(crate) struct Step {
    /// Its position in the program's list.
    pub node: usize,
    pub kernel: Kernel,
    pub inputs: SmallVec<[Option<Source>; 4]>,
    /// Outputs with their shapes; for a kernel that makes its own, only which they are.
    pub outputs: SmallVec<[Out; 1]>,
    pub facts: Facts,
    /// Multiply–accumulate steps of its products.
    pub macs: u64,
    /// Whether it only turns an image for its node.
    pub turns: bool,
    /// The convolution that it is, if its outputs have their channels side by side.
    pub layer: Option<Layer>,
    /// Values that nobody reads after this step.
    pub dead: SmallVec<[Local; 2]>,
}

impl Step {
    /// The value that its first input is: what a view is a view of.
    fn viewed(&self) -> Option<Local> {
        match self.inputs.first() {
            Some(Some(Source::Local(l))) => Some(*l),
            _ => None,
        }
    }
}

/// The types and sizes of the values that a plan was made for.
pub(crate) type ShapeKey = Vec<(Local, Type, Option<Sizes>)>;

/// What the program does from one node up to another, for given shapes.
#[derive(Default)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    /// Tensors that depend on shapes only, by [`Source::Fixed`].
    pub fixed: Vec<Tensor>,
    /// Values that turned out to depend on shapes only, to be put where later plans look.
    pub constants: Vec<(Local, Value)>,
    /// Bytes of each slot.
    pub slots: Vec<usize>,
    /// Bytes of the slots if nothing were used twice.
    pub unshared: usize,
    /// Bytes of steps' outputs that leave the program.
    pub outputs: usize,
    /// What the steps take besides values, and the threads that it was reckoned for.
    pub scratch: Scratch,
    pub threads: usize,
    /// The first node that is not covered.
    pub end: usize,
    /// Values whose content, too, the plan was made for.
    pub relied: Vec<(Local, Value)>,
    /// The slot that each value lives in.
    pub slot_of: Vec<Option<usize>>,
    /// Whether its last run was over before another thread would have been awake.
    pub quick: AtomicBool,
}

/// Where a value is made and read within a plan.
#[derive(Clone, Copy, Default)]
pub(crate) struct Uses {
    pub made_by: Option<usize>,
    /// The last step that reads it, and how many reads there are.
    pub reader: usize,
    pub reads: usize,
}

impl Plan {
    /// The uses of each of `values` values.
    pub fn uses(&self, values: usize) -> Vec<Uses> {
        let mut uses = vec![Uses::default(); values];
        for (i, step) in self.steps.iter().enumerate() {
            for source in step.inputs.iter().flatten() {
                if let Source::Local(l) = source {
                    (uses[*l].reader, uses[*l].reads) = (i, uses[*l].reads + 1);
                }
            }
            step.outputs.iter().for_each(|out| uses[out.local].made_by = Some(i));
        }
        uses
    }

    /// Bytes that a run of it takes.
    pub fn bytes(&self) -> usize {
        let values = self.slots.iter().fold(self.outputs, |sum, &n| sum.saturating_add(n));
        values.saturating_add(self.scratch_bytes())
    }

    /// Bytes that steps take besides values.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.bytes(self.threads)
    }
}

/// Bytes of one constant, and of all, that a plan may compute ahead from shapes alone.
const FIXED_VALUE: usize = 1 << 20;
const FIXED_TOTAL: usize = 16 << 20;
/// Elements of a value whose content may become part of a plan's key.
const CONTENT: usize = 4096;

/// Makes a plan.
pub(crate) struct Planner<'a> {
    nodes: &'a Nodes,
    cx: &'a RunCx<'a>,
    /// What is known of each value; weights and fixed values are constants.
    facts: Vec<Option<Fact>>,
    /// Whether the value is made in this plan, so that its content is not at hand.
    made: Vec<bool>,
    /// Position in `fixed` of values that this plan computed ahead.
    fixed_at: Vec<Option<usize>>,
    fixed_bytes: usize,
    plan: Plan,
}

impl<'a> Planner<'a> {
    /// `facts` are those of the values that exist before node `start` runs.
    pub fn new(
        nodes: &'a Nodes,
        start: usize,
        facts: Vec<Option<Fact>>,
        cx: &'a RunCx<'a>,
    ) -> Planner<'a> {
        let n = facts.len();
        let plan = Plan { end: start, slot_of: vec![None; n], ..Plan::default() };
        Planner {
            nodes,
            cx,
            facts,
            made: vec![false; n],
            fixed_at: vec![None; n],
            fixed_bytes: 0,
            plan,
        }
    }

    /// Plans as many nodes as shapes are known for. `content` gives a value's content if it
    /// exists.
    pub fn run(mut self, content: &dyn Fn(Local) -> Option<Value>) -> Result<Plan, NodeError> {
        while self.plan.end < self.nodes.len() {
            let node = self.plan.end;
            let at = |reason: Reason| reason.at(self.nodes.id(node));
            let mut outputs = self.infer(node).map_err(at)?;
            if !is_planned(&outputs) {
                if self.waits_for_content(node) && !self.plan.steps.is_empty() {
                    break;
                }
                outputs = self.bind(node, outputs, content)?;
            }
            let known = is_planned(&outputs);
            self.node(node, outputs).map_err(|reason| reason.at(self.nodes.id(node)))?;
            self.plan.end += 1;
            if !known {
                break;
            }
        }
        plan_turned::fold(self.nodes, &self.facts, self.cx.limits, &mut self.plan);
        plan_last::turn(self.nodes, &mut self.facts, self.cx.limits, &mut self.plan);
        plan_chains::join(self.nodes, self.facts.len(), &mut self.plan);
        plan_among::place(self.nodes, &mut self.facts, &mut self.plan);
        self.place();
        let steps = self.plan.steps.iter();
        let all = steps.fold(Scratch::none(), |all, step| all.then(&step.kernel.scratch));
        (self.plan.scratch, self.plan.threads) = (all, par::threads());
        Ok(self.plan)
    }

    fn inputs(&self, node: usize) -> SmallVec<[Option<&Fact>; 4]> {
        let locals = self.nodes.inputs(node).iter();
        locals.map(|l| l.and_then(|l| self.facts[l].as_ref())).collect()
    }

    fn infer(&self, node: usize) -> Result<Facts, Reason> {
        let inputs = self.inputs(node);
        self.nodes.node(node).op.infer(&Inputs::new(&inputs, self.nodes.outputs(node).len()))
    }

    /// Whether the content of one of its inputs comes into being in this very plan.
    fn waits_for_content(&self, node: usize) -> bool {
        let mut inputs = self.nodes.inputs(node).iter().flatten();
        inputs.any(|&l| self.made[l])
    }

    /// Looks at the content of inputs until the shapes are known: first those after the first
    /// (shapes, axes, counts), then the first too.
    fn bind(
        &mut self,
        node: usize,
        mut outputs: Facts,
        content: &dyn Fn(Local) -> Option<Value>,
    ) -> Result<Facts, NodeError> {
        for first in [1, 0] {
            let mut bound = Vec::new();
            for l in self.nodes.inputs(node).iter().skip(first).flatten().copied() {
                let small =
                    |v: &Value| v.shape().and_then(rinfer_graph::shape::count) <= Some(CONTENT);
                let unknown = self.facts[l].as_ref().is_some_and(|fact| !fact.is_const());
                if let Some(value) = content(l).filter(|v| unknown && !self.made[l] && small(v)) {
                    let old = self.facts[l].replace(Fact::of_value(&value));
                    bound.push((l, old));
                }
            }
            if bound.is_empty() {
                continue;
            }
            outputs = self.infer(node).map_err(|reason| reason.at(self.nodes.id(node)))?;
            if is_planned(&outputs) {
                let relied = bound.iter().filter_map(|(l, _)| Some((*l, content(*l)?)));
                self.plan.relied.extend(relied);
                break;
            }
            // It did not help: the plan must not depend on it.
            for (l, old) in bound {
                self.facts[l] = old;
            }
            outputs = self.infer(node).map_err(|reason| reason.at(self.nodes.id(node)))?;
        }
        Ok(outputs)
    }

    /// Adds one node: computed now if it depends on shapes only, else as a step.
    fn node(&mut self, node: usize, outputs: Facts) -> Result<(), Reason> {
        if self.fix(node, &outputs) {
            return Ok(());
        }
        // Kernels are compiled for sizes that fit: tables they make are no larger than tensors. What
        // is between convolutions may never be there as a whole: the plan will say.
        let in_strips = self.nodes.packs.channels_last()
            && matches!(self.nodes.node(node).op, rinfer_graph::Op::Conv(_));
        let memory = if in_strips { usize::MAX } else { self.cx.memory };
        RunCx { memory, ..*self.cx }.check_outputs(&outputs)?;
        let inputs = self.inputs(node);
        let cx = Cx {
            isa: self.nodes.isa,
            node: self.nodes.node(node),
            inputs: &inputs,
            outputs: &outputs,
            packs: &self.nodes.packs,
            limits: self.cx.limits,
        };
        let kernel = ops::compile(&cx)?;
        let macs = rinfer_graph::cost::op_macs(&cx.node.op, &inputs, outputs.first());
        drop(inputs);
        let sources = self.nodes.inputs(node).iter().map(|l| l.map(|l| self.source(l))).collect();
        let mut outs = SmallVec::new();
        for (i, &local) in self.nodes.outputs(node).iter().enumerate() {
            let fact = outputs[i].clone();
            outs.push(Out {
                local,
                dtype: fact.ty.dtype().unwrap_or(DType::U8),
                sizes: fact.sizes().unwrap_or_default(),
                place: Place::Own,
            });
            // Content that inference found stays known: it may decide shapes further on.
            self.facts[local] = Some(fact);
            self.made[local] = true;
        }
        let (dead, facts) = (SmallVec::new(), outputs);
        self.plan.steps.push(Step {
            node,
            kernel,
            inputs: sources,
            outputs: outs,
            facts,
            macs,
            turns: false,
            layer: None,
            dead,
        });
        Ok(())
    }

    fn source(&self, l: Local) -> Source {
        match self.fixed_at[l] {
            Some(i) => Source::Fixed(i),
            None if self.nodes.is_weight(l) => Source::Weight(l),
            None => Source::Local(l),
        }
    }

    /// Computes a node ahead if its inputs are known in full and its outputs are small.
    fn fix(&mut self, node: usize, outputs: &Facts) -> bool {
        let known = outputs.iter().all(Fact::is_const);
        let inputs = self.inputs(node);
        let constant = inputs.iter().flatten().all(|fact| fact.is_const());
        if !(known || constant) || self.nodes.node(node).op.is_random() {
            return false;
        }
        let bytes: Option<usize> = outputs.iter().map(bytes_of).sum();
        let Some(bytes) =
            bytes.filter(|&b| b <= FIXED_VALUE && b + self.fixed_bytes <= FIXED_TOTAL)
        else {
            return false;
        };
        let values = if known {
            outputs.iter().filter_map(Fact::value).collect()
        } else {
            let values: Vec<_> = inputs.iter().map(|f| f.and_then(Fact::value)).collect();
            match run_node(self.nodes.isa, self.nodes.node(node), &values, FIXED_VALUE, self.cx) {
                Ok(values) => values,
                // The step itself will say what is wrong, when it runs.
                Err(_) => return false,
            }
        };
        let locals = self.nodes.outputs(node);
        if values.len() < locals.len() || !values.iter().all(|v| matches!(v, Value::Tensor(_))) {
            return false;
        }
        drop(inputs);
        self.fixed_bytes += bytes;
        for (&l, value) in locals.iter().zip(values) {
            self.facts[l] = Some(Fact::of_value(&value));
            if let Value::Tensor(t) = &value {
                self.fixed_at[l] = Some(self.plan.fixed.len());
                self.plan.fixed.push(t.clone());
            }
            self.plan.constants.push((l, value));
        }
        true
    }

    /// Finds when each value dies, and gives every output its place.
    fn place(&mut self) {
        let mut last = vec![None; self.facts.len()];
        for (i, step) in self.plan.steps.iter().enumerate() {
            for source in step.inputs.iter().flatten() {
                if let Source::Local(l) = source {
                    last[*l] = Some(i);
                }
            }
            for out in &step.outputs {
                last[out.local].get_or_insert(i);
            }
        }
        let end = self.plan.end;
        self.plan.constants.retain(|(l, _)| self.nodes.is_read_from(*l, end));
        let survives = |l: Local| self.nodes.is_read_from(l, end);
        for (l, last) in last.iter().enumerate() {
            if let Some(i) = last.filter(|_| !survives(l)) {
                self.plan.steps[i].dead.push(l);
            }
        }
        // What such a value is a view of leaves with it: were that in a slot, all of the slot would.
        let mut leaves: Vec<bool> = (0..self.facts.len()).map(survives).collect();
        for step in self.plan.steps.iter().rev() {
            if let (Run::View, Some(l)) = (&step.kernel.run, step.viewed()) {
                leaves[l] |= leaves[step.outputs[0].local];
            }
        }
        let mut slots = Slots::new(self.facts.len());
        let mut own = Owned::new(self.facts.len());
        for i in 0..self.plan.steps.len() {
            let step = &mut self.plan.steps[i];
            for o in 0..step.outputs.len() {
                let bytes = bytes_of(&step.facts[o]).unwrap_or(0);
                let place = if matches!(step.kernel.run, Run::View) && o == 0 {
                    own.view(step);
                    slots.view(step)
                } else if leaves[step.outputs[o].local]
                    || !matches!(step.kernel.run, Run::Tensors(_))
                {
                    own.add(step.outputs[o].local, bytes);
                    Place::Own
                } else {
                    self.plan.unshared += bytes;
                    slots.output(step, o, bytes)
                };
                step.outputs[o].place = place;
            }
            slots.free(&step.dead);
            own.free(&step.dead);
        }
        self.plan.outputs = own.most;
        self.plan.slots = slots.sizes;
        self.plan.slot_of = slots.slot_of;
    }
}

/// Whether every tensor among the outputs has a known shape.
fn is_planned(outputs: &Facts) -> bool {
    outputs.iter().all(|fact| fact.ty.dtype().is_none() || fact.sizes().is_some())
}

/// Bytes of a tensor of known shape.
pub(crate) fn bytes_of(fact: &Fact) -> Option<usize> {
    match (&fact.ty, &fact.shape) {
        (Type::Tensor(dtype), Some(shape)) if shape.iter().all(|d| matches!(d, Dim::N(_))) => {
            size_in_bytes(*dtype, &fact.sizes()?).ok()
        }
        _ => None,
    }
}

/// Values with memory of their own: those that survive the plan, and those that kernels make.
struct Owned {
    /// Bytes of each, and how many living values (views of one another) hold it.
    held: Vec<(usize, usize)>,
    of: Vec<Option<usize>>,
    /// Bytes at the same time, now and at most.
    now: usize,
    most: usize,
}

impl Owned {
    fn new(locals: usize) -> Owned {
        Owned { held: Vec::new(), of: vec![None; locals], now: 0, most: 0 }
    }

    fn add(&mut self, l: Local, bytes: usize) {
        self.of[l] = Some(self.held.len());
        self.held.push((bytes, 1));
        self.now = self.now.saturating_add(bytes);
        self.most = self.most.max(self.now);
    }

    /// The output of a view is held by what its input is.
    fn view(&mut self, step: &Step) {
        if let Some(i) = step.viewed().and_then(|l| self.of[l]) {
            self.of[step.outputs[0].local] = Some(i);
            self.held[i].1 += 1;
        }
    }

    fn free(&mut self, dead: &[Local]) {
        for &l in dead {
            if let Some(i) = self.of[l] {
                self.held[i].1 -= 1;
                if self.held[i].1 == 0 {
                    self.now = self.now.saturating_sub(self.held[i].0);
                }
            }
        }
    }
}

/// Which slots hold living values.
struct Slots {
    sizes: Vec<usize>,
    /// How many living values (views of one another) a slot holds.
    users: Vec<usize>,
    /// Free slots, the one freed last at the end: its memory is likely still in a cache.
    idle: Vec<usize>,
    slot_of: Vec<Option<usize>>,
}

impl Slots {
    fn new(locals: usize) -> Slots {
        Slots {
            sizes: Vec::new(),
            users: Vec::new(),
            idle: Vec::new(),
            slot_of: vec![None; locals],
        }
    }

    /// The output of a view lives where its input does.
    fn view(&mut self, step: &Step) -> Place {
        if let Some(slot) = step.viewed().and_then(|l| self.slot_of[l]) {
            self.slot_of[step.outputs[0].local] = Some(slot);
            self.users[slot] += 1;
        }
        Place::Own
    }

    fn output(&mut self, step: &Step, o: usize, bytes: usize) -> Place {
        if o == 0
            && let Some(input) = self.in_place(step, bytes)
        {
            return input;
        }
        let slot = self.best_fit(bytes);
        self.users[slot] = 1;
        self.slot_of[step.outputs[o].local] = Some(slot);
        Place::Slot(slot)
    }

    /// An input that the kernel may overwrite, that dies here and has its slot to itself.
    fn in_place(&mut self, step: &Step, bytes: usize) -> Option<Place> {
        for (i, source) in step.inputs.iter().enumerate().take(32) {
            let Some(Source::Local(l)) = source else { continue };
            let Some(slot) = self.slot_of[*l] else { continue };
            let reads =
                step.inputs.iter().flatten().filter(|s| matches!(s, Source::Local(m) if m == l));
            let alone = self.users[slot] == 1 && reads.count() == 1;
            if step.kernel.in_place & (1 << i) != 0
                && alone
                && step.dead.contains(l)
                && self.sizes[slot] >= bytes
            {
                self.users[slot] += 1;
                self.slot_of[step.outputs[0].local] = Some(slot);
                return Some(Place::Input(i));
            }
        }
        None
    }

    /// The smallest idle slot that is large enough, or else the largest, grown, or a new one.
    fn best_fit(&mut self, bytes: usize) -> usize {
        let fits = |&&slot: &&usize| self.sizes[slot] >= bytes;
        let best = self.idle.iter().rev().filter(fits).min_by_key(|&&slot| self.sizes[slot]);
        let best = best.or_else(|| self.idle.iter().max_by_key(|&&slot| self.sizes[slot])).copied();
        match best {
            Some(slot) => {
                self.idle.retain(|&s| s != slot);
                self.sizes[slot] = self.sizes[slot].max(bytes);
                slot
            }
            None => {
                self.sizes.push(bytes);
                self.users.push(0);
                self.sizes.len() - 1
            }
        }
    }

    fn free(&mut self, dead: &[Local]) {
        for &l in dead {
            if let Some(slot) = self.slot_of[l] {
                self.users[slot] -= 1;
                if self.users[slot] == 0 {
                    self.idle.push(slot);
                }
            }
        }
    }
}
