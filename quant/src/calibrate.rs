//! Calibration: the model runs on samples while observers look at values inside.
//!
//! An observer is an operator that hands on what it reads, so it works in the bodies of loops too,
//! and nothing of a sample is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use rinfer::graph::ops::Custom;
use rinfer::graph::{Graph, NodeId, ValueId};
use rinfer::{CustomOp, DType, Facts, Inputs, Model, Reason, RunOptions, Session, Value};

use crate::error::{Error, Result};
use crate::observe::{Method, Observer};
use crate::rebuild::{Rebuild, Writer, rebuild};
use crate::smooth::Peaks;

/// A value of a model: the number of its graph, and its own.
pub type Place = (usize, ValueId);

/// The inputs of one run, by name.
pub type Sample = Vec<(String, Value)>;

/// Samples, read one at a time.
pub trait Samples {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample `i`.
    ///
    /// # Errors
    /// It cannot be read.
    fn get(&self, i: usize) -> Result<Sample>;
}

impl Samples for Vec<Sample> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn get(&self, i: usize) -> Result<Sample> {
        Ok(self[i].clone())
    }
}

/// Looks at a value in passing.
pub(crate) trait Look: Send + Sync {
    /// Sees the value of one run.
    fn look(&self, shape: &[usize], x: &[f32]);
}

impl Look for Mutex<Observer> {
    fn look(&self, _: &[usize], x: &[f32]) {
        self.lock().unwrap_or_else(|e| e.into_inner()).see(x);
    }
}

/// y = x; x is looked at.
struct Watch(Vec<Arc<dyn Look>>);

/// Who looks at which value.
pub(crate) type Looks = HashMap<Place, Vec<Arc<dyn Look>>>;

impl CustomOp for Watch {
    fn name(&self) -> &str {
        "Watch"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> std::result::Result<Facts, Reason> {
        Ok([inputs.get(0)?.clone().forget()].into_iter().collect())
    }

    fn run(&self, inputs: &[Option<Value>]) -> std::result::Result<Vec<Value>, Reason> {
        let Some(Some(x)) = inputs.first() else {
            return Err(Reason::new(rinfer::Kind::Invalid, "nothing to look at"));
        };
        let t = x.as_tensor()?;
        if t.dtype() == DType::F32 {
            self.0.iter().for_each(|look| look.look(t.shape(), t.as_slice()));
        }
        Ok(vec![x.clone()])
    }

    fn deterministic(&self) -> bool {
        false
    }
}

struct Watcher<'a> {
    looks: &'a Looks,
}

impl Watcher<'_> {
    fn watch(&mut self, r: &mut Rebuild<'_>, v: ValueId) -> std::result::Result<(), Reason> {
        let Some(look) = self.looks.get(&(r.number, v)) else { return Ok(()) };
        let x = r.value(v);
        let y = r.new.push1(Custom(Arc::new(Watch(look.clone()))), &[x])?;
        r.redirect(v, y);
        Ok(())
    }
}

impl Writer for Watcher<'_> {
    fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<bool, Reason> {
        if r.old.order().first() == Some(&id) {
            for &v in r.old.inputs() {
                self.watch(r, v)?;
            }
        }
        Ok(false)
    }

    fn after(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<(), Reason> {
        let outputs = r.old.node(id).outputs.clone();
        outputs.iter().try_for_each(|&v| self.watch(r, v))
    }
}

/// A session of a model in which these values are looked at.
pub(crate) fn watched(model: &Model, looks: &Looks, threads: usize) -> Result<Session> {
    let graph = rebuild(model.graph(), &mut Watcher { looks })?;
    Ok(Session::builder().threads(threads).build(model.with_graph(graph))?)
}

/// What is told while samples run: how many are done, of how many.
pub type Progress<'a> = &'a dyn Fn(&str, usize, usize);

/// What was seen of values inside a model.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// What was remembered.
    pub method: Option<Method>,
    /// The observers.
    pub seen: BTreeMap<Place, Observer>,
    /// How many samples were run.
    pub samples: usize,
}

/// How the samples run.
#[derive(Clone)]
pub struct Running<'a> {
    /// Threads of the engine; 0 is one for each core.
    pub threads: usize,
    /// Bounds on each run.
    pub options: RunOptions,
    /// Told how far it is.
    pub progress: Progress<'a>,
}

/// Runs the samples and observes values: the ranges of some, the channels of others.
///
/// # Errors
/// A sample cannot be read, or the model cannot run it.
pub fn observe(
    model: &Model,
    (places, read): (&[Place], &BTreeSet<Place>),
    method: Method,
    samples: &dyn Samples,
    running: &Running<'_>,
) -> Result<(Ranges, BTreeMap<Place, Peaks>)> {
    let observers: BTreeMap<Place, Arc<Mutex<Observer>>> =
        places.iter().map(|&p| (p, Arc::new(Mutex::new(Observer::new(method))))).collect();
    let peaks: BTreeMap<Place, Arc<Mutex<Peaks>>> =
        read.iter().map(|&p| (p, Arc::default())).collect();
    let mut looks = Looks::new();
    for (&p, o) in &observers {
        looks.entry(p).or_default().push(o.clone());
    }
    for (&p, o) in &peaks {
        looks.entry(p).or_default().push(o.clone());
    }
    run_all(&watched(model, &looks, running.threads)?, samples, running, "calibration")?;
    let seen = observers.iter().map(|(&p, o)| (p, taken(o))).collect();
    let ranges = Ranges { method: Some(method), seen, samples: samples.len() };
    Ok((ranges, peaks.iter().map(|(&p, o)| (p, taken(o))).collect()))
}

fn taken<T: Clone>(held: &Mutex<T>) -> T {
    held.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

/// Runs every sample for what is seen inside.
pub(crate) fn run_all(
    session: &Session,
    samples: &dyn Samples,
    running: &Running<'_>,
    what: &str,
) -> Result<()> {
    if samples.is_empty() {
        return Err(Error::Config("there are no samples".into()));
    }
    for i in 0..samples.len() {
        session.run_with(samples.get(i)?, &running.options)?;
        (running.progress)(what, i + 1, samples.len());
    }
    Ok(())
}

/// The name by which a value is known in files: the model's, with the graph's number before it in
/// bodies.
pub fn place_name(graphs: &HashMap<usize, &Graph>, (number, v): Place) -> String {
    let name = graphs.get(&number).and_then(|g| g.name(v));
    let name = name.map_or_else(|| format!("v{}", v.index()), |n| n.to_string());
    if number == 0 { name } else { format!("{number}/{name}") }
}
