//! A run of a program: plan after plan, at once or in slices.

use std::sync::Arc;
use std::time::Duration;

use rinfer_graph::backend::{Held, NodeError, RunCx, Running};
use rinfer_graph::sync::Ordering;
use rinfer_graph::{Reason, Value, invalid};
use web_time::Instant;

use crate::arena::Room;
use crate::meter::apart;
use crate::par::Pool;
use crate::plan::Plan;
use crate::pool::with_shelf;
use crate::program::{CpuProgram, Env, on};

/// A plan that takes no longer is not worth waking other threads for: that takes about as long.
const QUICK: Duration = Duration::from_micros(50);

/// How far a run has come.
pub(crate) struct Progress {
    env: Env,
    /// The node with which the plan begins that it is in, or that comes next.
    node: usize,
    inside: Option<Inside>,
}

/// Where in a plan a run is.
pub(crate) struct Inside {
    pub plan: Arc<Plan>,
    pub room: Room,
    /// The step that comes next.
    pub step: usize,
    /// Bytes that the plan takes, and that earlier plans of the run made.
    bytes: usize,
}

impl CpuProgram {
    /// A run that has not begun.
    pub fn begin(&self, inputs: Vec<Value>) -> Result<Progress, Reason> {
        let needed = self.nodes.program_inputs.len();
        if inputs.len() != needed {
            return Err(invalid!("{} inputs for a program of {needed}", inputs.len()));
        }
        let mut env: Env = vec![None; self.nodes.values()];
        for (&l, value) in self.nodes.program_inputs.iter().zip(inputs) {
            env[l] = Some(value);
        }
        for (l, value) in &self.nodes.others {
            env[*l] = Some(value.clone());
        }
        Ok(Progress { env, node: 0, inside: None })
    }

    /// Goes on with a run until `until` has passed; its outputs, if it is through.
    pub fn advance(
        &self,
        run: &mut Progress,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Vec<Value>>, NodeError> {
        while run.node < self.nodes.len() {
            let mut inside = match run.inside.take() {
                Some(inside) => inside,
                None => self.enter(run, cx)?,
            };
            let left = cx.memory.saturating_sub(inside.bytes);
            let cx = &RunCx { memory: left, ..*cx };
            let result = self.timed(&mut inside, &mut run.env, cx, until);
            if let Ok(false) = result {
                run.inside = Some(inside);
                return Ok(None);
            }
            run.node = inside.plan.end;
            self.arenas.give_back(&inside.plan, inside.room);
            result?;
        }
        self.collect(std::mem::take(&mut run.env)).map(Some)
    }

    /// The plan that comes next, with its memory.
    fn enter(&self, run: &Progress, cx: &RunCx<'_>) -> Result<Inside, NodeError> {
        let plan = self.plan(run.node, &run.env, cx)?;
        let bytes = plan.bytes().saturating_add(self.held(&run.env));
        cx.check_memory(bytes)?;
        self.spare.allow(plan.outputs);
        self.pool.keep(plan.scratch.each_bytes());
        let room = self.arenas.take(&plan)?;
        Ok(Inside { plan, room, step: 0, bytes })
    }

    /// Runs a plan on all threads, or on the caller's alone if it was quick the last time; whether
    /// it is through.
    fn timed(
        &self,
        inside: &mut Inside,
        env: &mut Env,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<bool, NodeError> {
        let plan = inside.plan.clone();
        let serial = Pool::serial();
        let pool = if plan.quick.load(Ordering::Relaxed) { &serial } else { &self.pool };
        let (start, whole) = (Instant::now(), inside.step == 0);
        let mut shelf = std::mem::take(&mut inside.room.scratch);
        let steps = || with_shelf(&mut shelf, || self.run_plan(inside, env, cx, until));
        let through = apart(|| on(pool, cx, steps));
        inside.room.scratch = shelf;
        let through = through?;
        plan.quick.store(whole && through && start.elapsed() < QUICK, Ordering::Relaxed);
        Ok(through)
    }
}

/// A run that waits for its next slice.
pub(crate) struct Paused {
    program: Arc<CpuProgram>,
    progress: Progress,
}

impl Paused {
    /// A run that has not begun.
    pub fn new(program: Arc<CpuProgram>, inputs: Vec<Value>) -> Result<Paused, Reason> {
        let progress = program.begin(inputs)?;
        Ok(Paused { program, progress })
    }
}

impl Running for Paused {
    fn advance(
        &mut self,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Vec<Held>>, NodeError> {
        let made = self.program.advance(&mut self.progress, cx, until)?;
        Ok(made.map(|made| made.into_iter().map(Held::Host).collect()))
    }
}
