//! A model whose layers can be switched between forms from run to run.
//!
//! Each layer becomes an operator that runs a small model of its own: the layer as it is, or as one
//! of its forms writes it. What is measured so is what the written model will compute, and trying
//! another choice takes no time to build.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use rinfer::graph::ops::Custom;
use rinfer::graph::{Graph, NodeId, Op, ValueId};
use rinfer::{
    CustomOp, DType, Fact, Facts, Inputs, Kind, Model, Reason, RunOptions, Session, Tensor, Value,
};

use crate::calibrate::{Running, Sample};
use crate::error::{Error, Result};
use crate::forms::Choice;
use crate::layers::{Layer, Role, layers};
use crate::plan::Job;
use crate::rebuild::{Rebuild, Site, Writer, graphs, rebuild};
use crate::write::Quantizer;

/// A layer that is one of several forms.
struct Switch {
    /// The layer alone, as a graph that reads "x".
    float: Graph,
    /// Of the layer alone.
    layer: Option<Layer>,
    name: String,
    /// Form 0 is the layer as it is.
    forms: RwLock<Vec<Arc<Form>>>,
    at: AtomicUsize,
    op: Op,
    facts: [Option<Fact>; 2],
    table: bool,
    /// Whether it stands in the main graph.
    main: bool,
    /// What the layer as it is made in the run that was recorded.
    made: Mutex<Memory>,
    /// Where outputs of a form are compared with the layer's own.
    meter: Mutex<Option<Meter>>,
    /// The axis that channels of outputs lie along, counted from the end for products.
    channels_last: bool,
}

/// What a layer does about the run that is recorded.
#[derive(Default)]
enum Memory {
    /// Nothing.
    #[default]
    Off,
    /// Remembers what it makes.
    Record(Option<Vec<Value>>),
    /// Keeps what it remembers for later, and computes.
    Keep(Vec<Value>),
    /// Gives what it remembers, and computes nothing.
    Replay(Vec<Value>),
}

/// How a form's outputs differ from the layer's own, on the same inputs.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The sum of what each channel lacks.
    pub lacks: Vec<f64>,
    /// Numbers summed in each channel.
    pub count: u64,
    /// Squares of the layer's outputs, summed.
    pub signal: f64,
    /// Squares of the differences, summed.
    pub noise: f64,
}

impl Meter {
    /// Signal over noise in decibels.
    pub fn sqnr(&self) -> f64 {
        match self.noise {
            0.0 => f64::INFINITY,
            noise => 10.0 * (self.signal / noise).log10(),
        }
    }

    fn see(&mut self, want: &Tensor, got: &Tensor, last: bool) {
        if want.dtype() != DType::F32 || got.shape() != want.shape() || want.rank() < 2 {
            return;
        }
        let shape = want.shape();
        let (channels, inner) = match last {
            true => (shape[shape.len() - 1], 1),
            false => (shape[1], shape[2..].iter().product()),
        };
        self.lacks.resize(channels, 0.0);
        self.count += (want.len() / channels.max(1)) as u64;
        let pairs = want.as_slice::<f32>().iter().zip(got.as_slice::<f32>());
        for (i, (&a, &b)) in pairs.enumerate() {
            let d = f64::from(a) - f64::from(b);
            self.lacks[i / inner % channels] += d;
            self.signal += f64::from(a) * f64::from(a);
            self.noise += d * d;
        }
    }
}

/// A form, made ready when it first runs.
struct Form {
    choice: Option<Choice>,
    session: OnceLock<std::result::Result<Session, String>>,
}

impl Switch {
    /// What a form makes of `x`.
    fn make(&self, at: usize, x: Value) -> std::result::Result<Vec<Value>, Reason> {
        let form = {
            let forms = self.forms.read().unwrap_or_else(|e| e.into_inner());
            forms[at.min(forms.len() - 1)].clone()
        };
        let session = self.session(&form)?;
        session
            .run_with([("x", x)], &RunOptions::new())
            .map_err(|e| Reason::new(e.kind(), format!("{}: {e}", self.name)))
    }

    fn session<'a>(&self, form: &'a Form) -> std::result::Result<&'a Session, Reason> {
        let made = form.session.get_or_init(|| {
            let graph = match (&form.choice, &self.layer) {
                (Some(choice), Some(layer)) => {
                    rebuild(&self.float, &mut Quantizer::new([(layer, choice)]))
                        .map_err(|e| e.to_string())?
                }
                _ => self.float.clone(),
            };
            let model = Model::from_graph(graph);
            Session::builder().nested().build(model).map_err(|e| e.to_string())
        });
        made.as_ref().map_err(|e| Reason::new(Kind::Unsupported, format!("{}: {e}", self.name)))
    }
}

impl CustomOp for Switch {
    fn name(&self) -> &str {
        "Layer"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> std::result::Result<Facts, Reason> {
        let x = inputs.get(0)?.clone().forget();
        let mut facts: Vec<Option<&Fact>> = vec![Some(&x)];
        facts.extend(self.facts.iter().map(Option::as_ref));
        if self.table {
            facts.swap(0, 1);
        }
        self.op.infer(&Inputs::new(&facts, 1))
    }

    fn run(&self, inputs: &[Option<Value>]) -> std::result::Result<Vec<Value>, Reason> {
        let x = inputs.first().cloned().flatten();
        let x = x.ok_or_else(|| Reason::new(Kind::Invalid, "a layer reads nothing"))?;
        let at = self.at.load(Ordering::Relaxed);
        {
            let mut memory = self.made.lock().unwrap_or_else(|e| e.into_inner());
            match &mut *memory {
                Memory::Replay(made) if at == 0 => return Ok(made.clone()),
                Memory::Record(made) if at == 0 => {
                    let now = self.make(0, x)?;
                    *made = Some(now.clone());
                    return Ok(now);
                }
                _ => {}
            }
        }
        let mut meter = self.meter.lock().unwrap_or_else(|e| e.into_inner());
        let Some(meter) = meter.as_mut().filter(|_| at > 0) else {
            drop(meter);
            return self.make(at, x);
        };
        let (want, got) = (self.make(0, x.clone())?, self.make(at, x)?);
        meter.see(want[0].as_tensor()?, got[0].as_tensor()?, self.channels_last);
        Ok(want)
    }

    fn deterministic(&self) -> bool {
        false
    }
}

/// A model with switches in it.
pub struct Probe {
    session: Session,
    switches: Vec<Arc<Switch>>,
}

impl Probe {
    /// A probe of all layers of a job; every layer is as it is.
    ///
    /// # Errors
    /// A layer cannot be taken out of its graph.
    pub fn new(job: &Job, running: &Running<'_>) -> Result<Probe> {
        let graphs = graphs(job.model.graph());
        let mut switches = Vec::with_capacity(job.layers.len());
        for layer in &job.layers {
            let failed = |reason| Error::Layer { layer: layer.name.clone(), reason };
            let g = graphs.get(&layer.site.graph).copied();
            let g = g.ok_or_else(|| failed(Reason::new(Kind::Internal, "it has no graph")))?;
            switches.push(Arc::new(switch(g, layer).map_err(failed)?));
        }
        let mut writer = Placer { layers: &job.layers, switches: &switches };
        let graph = rebuild(job.model.graph(), &mut writer)?;
        let session = Session::builder().threads(running.threads);
        let session = session.build(job.model.with_graph(graph))?;
        Ok(Probe { session, switches })
    }

    /// Adds a form of layer `i`; its number.
    pub fn add(&self, i: usize, choice: &Choice) -> usize {
        let mut forms = self.switches[i].forms.write().unwrap_or_else(|e| e.into_inner());
        forms.push(Arc::new(Form { choice: Some(choice.clone()), session: OnceLock::new() }));
        forms.len() - 1
    }

    /// Makes layer `i` one of its forms in later runs; 0 is the layer as it is.
    pub fn set(&self, i: usize, form: usize) {
        self.switches[i].at.store(form, Ordering::Relaxed);
    }

    /// Makes every layer one of its forms.
    pub fn set_all(&self, forms: &[usize]) {
        forms.iter().enumerate().for_each(|(i, &form)| self.set(i, form));
    }

    /// From now on layers make what they make as they are, and outputs of their forms are compared
    /// with that.
    pub fn compare(&self) {
        for switch in &self.switches {
            let mut meter = switch.meter.lock().unwrap_or_else(|e| e.into_inner());
            *meter = Some(Meter::default());
        }
    }

    /// How the form of layer `i` compared.
    pub fn compared(&self, i: usize) -> Option<Meter> {
        self.switches[i].meter.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Runs the model with every layer as it is, and remembers what each makes.
    ///
    /// # Errors
    /// It cannot run.
    pub fn record(&self, sample: Sample, options: &RunOptions) -> Result<Vec<Value>> {
        for switch in &self.switches {
            switch.at.store(0, Ordering::Relaxed);
            // In a body a layer may run more than once, or not at all.
            let memory = if switch.main { Memory::Record(None) } else { Memory::Off };
            *switch.made.lock().unwrap_or_else(|e| e.into_inner()) = memory;
        }
        self.run(sample, options)
    }

    /// From now on layers before number `upto` give what was recorded, as long as they are as they
    /// are; what they read must not change. 0 makes all forget.
    pub fn replay(&self, upto: usize) {
        for (i, switch) in self.switches.iter().enumerate() {
            let mut memory = switch.made.lock().unwrap_or_else(|e| e.into_inner());
            *memory = match std::mem::take(&mut *memory) {
                Memory::Record(Some(made)) | Memory::Keep(made) | Memory::Replay(made)
                    if upto > 0 =>
                {
                    if i < upto {
                        Memory::Replay(made)
                    } else {
                        Memory::Keep(made)
                    }
                }
                _ => Memory::Off,
            };
        }
    }

    /// Runs the model with its layers as they are set.
    ///
    /// # Errors
    /// It cannot run.
    pub fn run(&self, sample: Sample, options: &RunOptions) -> Result<Vec<Value>> {
        Ok(self.session.run_with(sample, options)?)
    }
}

/// The layer alone: its node, what is constant, and the activation that belongs to it.
fn switch(g: &Graph, layer: &Layer) -> std::result::Result<Switch, Reason> {
    let node = g.node(layer.site.node);
    let mut float = Graph::new();
    let x = float.input("x", g.fact(layer.data).clone().forget());
    let constant = |float: &mut Graph, v: ValueId| -> std::result::Result<ValueId, Reason> {
        if v == layer.data {
            return Ok(x);
        }
        let from = g.made_by(v).filter(|_| layer.swapped).and_then(|n| n.inputs[0]);
        let (held, swap) = (from.unwrap_or(v), from.is_some());
        let value = g.fact(held).value();
        let value = value.ok_or_else(|| Reason::new(Kind::Unsupported, "it reads two values"))?;
        let c = float.constant_value(&value);
        match swap {
            false => Ok(c),
            true => {
                float.push1(g.made_by(v).map(|n| n.op.clone()).unwrap_or(node.op.clone()), &[c])
            }
        }
    };
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for v in &node.inputs {
        inputs.push(match v {
            Some(v) => Some(constant(&mut float, *v)?),
            None => None,
        });
    }
    let facts = inputs.iter().filter(|v| **v != Some(x)).map(|v| v.map(|v| float.fact(v).clone()));
    let mut facts: Vec<Option<Fact>> = facts.collect();
    facts.resize(2, None);
    let mut y = float.push(node.op.clone(), &inputs, 1)?[0];
    if let Some(id) = layer.activation {
        let mut inputs = vec![Some(y)];
        for v in g.node(id).inputs.iter().skip(1) {
            inputs.push(match v {
                Some(v) => Some(constant(&mut float, *v)?),
                None => None,
            });
        }
        y = float.push(g.node(id).op.clone(), &inputs, 1)?[0];
    }
    float.set_name(y, "y");
    float.output(y);
    let own = layers(&float).0.into_iter().next();
    Ok(Switch {
        float,
        layer: own,
        name: layer.name.clone(),
        forms: RwLock::new(vec![Arc::new(Form { choice: None, session: OnceLock::new() })]),
        at: AtomicUsize::new(0),
        op: node.op.clone(),
        facts: [facts[0].take(), facts[1].take()],
        table: layer.role == Role::Table,
        main: layer.site.graph == 0,
        made: Mutex::default(),
        meter: Mutex::new(None),
        channels_last: matches!(layer.role, Role::Product | Role::Table),
    })
}

/// Puts switches in the place of layers.
struct Placer<'a> {
    layers: &'a [Layer],
    switches: &'a [Arc<Switch>],
}

impl Writer for Placer<'_> {
    fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<bool, Reason> {
        let site = r.site(id);
        let is = |layer: &Layer| layer.site == site;
        let follows = |l: &Layer| l.activation.is_some_and(|node| Site { node, ..l.site } == site);
        if self.layers.iter().any(follows) {
            return Ok(true);
        }
        let Some(i) = self.layers.iter().position(is) else { return Ok(false) };
        let layer = &self.layers[i];
        let x = r.value(layer.data);
        let y = r.new.push1(Custom(self.switches[i].clone()), &[x])?;
        r.redirect(layer.result, y);
        Ok(true)
    }
}
