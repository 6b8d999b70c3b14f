//! Decides what each layer becomes, and says why.

use std::collections::{BTreeMap, BTreeSet};

use rinfer::graph::ops::{Pool, PoolKind};
use rinfer::graph::passes::{PREPARE, Pass};
use rinfer::graph::{Graph, Op, ValueId};
use rinfer::{DType, Model};

use crate::blocks::BlockScheme;
use crate::calibrate::{Place, Ranges, Running, Samples, observe, place_name};
use crate::config::{Config, Format, Mode, Rounding};
use crate::equalize::equalize;
use crate::error::{Error, Result};
use crate::forms::{Choice, Form};
use crate::layers::{Layer, Left, Role, layers};
use crate::observe::{Method, Observer};
use crate::rebuild::{graphs, rebuild};
use crate::scheme::{Params, Scheme};
use crate::smooth::Peaks;
use crate::weights::WeightScheme;
use crate::write::Quantizer;

/// What is decided about a layer, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What it becomes.
    pub choice: Choice,
    /// Why, in words for the user.
    pub why: String,
}

impl Decision {
    fn new(form: Form, why: impl Into<String>) -> Decision {
        Decision { choice: form.into(), why: why.into() }
    }

    /// Stays as it is.
    pub fn keep(why: impl Into<String>) -> Decision {
        Decision::new(Form::Float, why)
    }
}

/// A model on its way to be quantized.
pub struct Job {
    /// The model, made ready: constants folded, normalization moved into convolutions.
    pub model: Model,
    /// What is asked for.
    pub config: Config,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// What computes and is no layer.
    pub left: Vec<Left>,
    /// What was seen of activations.
    pub ranges: Ranges,
    /// The ends of each channel of what products read.
    pub peaks: BTreeMap<Place, Peaks>,
    /// Whether calibration looks at channels, which a search may want; smoothing does anyway.
    pub watch_channels: bool,
}

/// Weights below this gain nothing in integers: what surrounds the product takes longer.
const SMALL: usize = 16 << 10;

impl Job {
    /// Reads a model's layers. A model with codes in it keeps them.
    ///
    /// # Errors
    /// The configuration does not fit together, or a pattern matches nothing.
    pub fn new(mut model: Model, config: Config) -> Result<Job> {
        config.check()?;
        prepare(&mut model)?;
        if config.equalize {
            equalize(&mut model)?;
        }
        let (layers, left) = layers(model.graph());
        config.check_matches(&layers, &left)?;
        let (ranges, peaks) = (Ranges::default(), BTreeMap::new());
        Ok(Job { model, config, layers, left, ranges, peaks, watch_channels: false })
    }

    /// The values whose ranges static layers need.
    pub fn places(&self) -> Vec<Place> {
        let graphs = graphs(self.model.graph());
        let mut places = BTreeSet::new();
        for layer in &self.layers {
            let static_form = self.config.mode == Mode::Static || layer.role == Role::Conv;
            let Some(g) = graphs.get(&layer.site.graph).filter(|_| static_form) else { continue };
            if !matches!(layer.role, Role::Product | Role::Conv) {
                continue;
            }
            places.insert((layer.site.graph, root(g, layer.data)));
            if layer.role == Role::Conv {
                places.insert((layer.site.graph, layer.result));
            }
        }
        places.into_iter().collect()
    }

    /// Runs the samples and remembers what ranges activations have.
    ///
    /// # Errors
    /// A sample cannot be read, or the model cannot run it.
    pub fn calibrate(&mut self, samples: &dyn Samples, running: &Running<'_>) -> Result<()> {
        let places = self.places();
        let wanted = self.watch_channels
            || self.config.smooth.is_some()
            || self.config.rounding == Rounding::Awq;
        let product = |l: &&Layer| wanted && l.role == Role::Product;
        let read = self.layers.iter().filter(product).map(|l| (l.site.graph, l.data));
        let read: BTreeSet<Place> = read.collect();
        let method = self.config.method;
        let (ranges, peaks) = observe(&self.model, (&places, &read), method, samples, running)?;
        (self.ranges, self.peaks) = (ranges, peaks);
        Ok(())
    }

    /// What was seen, for a file.
    pub fn ranges_json(&self) -> serde_json::Value {
        let graphs = graphs(self.model.graph());
        let seen: serde_json::Map<String, serde_json::Value> =
            self.ranges.seen.iter().map(|(&p, o)| (place_name(&graphs, p), o.to_json())).collect();
        serde_json::json!({
            "method": self.ranges.method.map(|m| m.to_string()),
            "samples": self.ranges.samples, "values": seen,
        })
    }

    /// Takes over what [`Job::ranges_json`] wrote.
    ///
    /// # Errors
    /// It is of another model, or of another method.
    pub fn load_ranges(&mut self, json: &serde_json::Value) -> Result<()> {
        let bad = |text: String| Error::Config(format!("ranges: {text}"));
        let method = json["method"].as_str().ok_or_else(|| bad("no method".into()))?;
        let method = Method::parse(method).map_err(bad)?;
        let graphs = graphs(self.model.graph());
        let mut seen = BTreeMap::new();
        for place in self.places() {
            let name = place_name(&graphs, place);
            let entry = &json["values"][&name];
            if entry.is_null() {
                return Err(bad(format!("there is none for {name}: made of another model?")));
            }
            let observer = Observer::from_json(entry, method);
            seen.insert(place, observer.map_err(|e| bad(format!("{name}: {e}")))?);
        }
        let samples = json["samples"].as_u64().unwrap_or(0) as usize;
        self.config.method = method;
        self.ranges = Ranges { method: Some(method), seen, samples };
        Ok(())
    }

    /// Scale and zero point of a value, if it was seen.
    pub fn params(&self, graph: usize, v: ValueId, scheme: Scheme) -> Option<Params> {
        self.params_by(graph, v, scheme, self.config.method)
    }

    /// As [`Job::params`], by another method than the configured one.
    pub fn params_by(
        &self,
        graph: usize,
        v: ValueId,
        scheme: Scheme,
        method: Method,
    ) -> Option<Params> {
        let graphs = graphs(self.model.graph());
        let v = root(graphs.get(&graph)?, v);
        let (lo, hi) = self.ranges.seen.get(&(graph, v))?.range(method, scheme)?;
        Some(scheme.fit(lo, hi))
    }

    /// What each layer becomes by the configuration alone.
    pub fn decide(&self) -> Vec<Decision> {
        self.layers.iter().map(|layer| self.decide_layer(layer)).collect()
    }

    fn decide_layer(&self, layer: &Layer) -> Decision {
        let config = &self.config;
        if let Some(why) = config.excluded(layer) {
            return Decision::keep(why);
        }
        match (layer.role, config.mode) {
            (_, Mode::Half) => Decision::keep("half precision"),
            (Role::Table, _) if !config.embeddings => Decision::keep("tables are kept"),
            (Role::Table, _) => {
                // Rows are scaled when they are picked: there is no place for zero points.
                let weight = WeightScheme { scheme: Scheme::INT8, ..config.weight };
                Decision::new(Form::Stored(weight), "rows of a table")
            }
            (Role::Product, Mode::WeightOnly) if layer.shape.len() == 2 => self.in_blocks(),
            (_, Mode::WeightOnly) | (Role::Other, _) => {
                Decision::new(Form::Stored(config.weight), "the weight alone")
            }
            (Role::Product, Mode::Auto) if layer.weights() < SMALL => Decision::keep(format!(
                "{} weights: too small to gain from integers",
                layer.weights()
            )),
            (Role::Product, Mode::Auto | Mode::Dynamic) => {
                let mut weight = config.weight;
                weight.per_channel &= layer.channels.is_some();
                let rows = self.config.rows;
                let why = if rows { "rows' ranges" } else { "ranges" };
                Decision::new(
                    Form::Dynamic { weight, rows },
                    format!("{why} are found in every run"),
                )
            }
            (Role::Conv, Mode::Auto) if self.ranges.samples == 0 => {
                Decision::keep("a convolution in integers needs calibration: --calib")
            }
            (Role::Conv, Mode::Dynamic) if self.ranges.samples == 0 => Decision::new(
                Form::Stored(config.weight),
                "the weight alone: a convolution in integers needs calibration",
            ),
            (Role::Product | Role::Conv, _) => self.fixed(layer, config.activations),
        }
    }

    fn in_blocks(&self) -> Decision {
        let config = &self.config;
        let how = BlockScheme {
            bits: config.bits,
            size: config.block,
            symmetric: config.symmetric_blocks,
            packed: config.format != Some(Format::Qdq),
            half: config.half_scales,
        };
        Decision::new(Form::Blocks(how), "the weight alone, in blocks")
    }

    /// The static form with activations in codes of `scheme`.
    pub fn fixed(&self, layer: &Layer, scheme: Scheme) -> Decision {
        match self.static_form(layer, scheme, self.config.method) {
            Some(form) => Decision::new(form, "ranges come from calibration"),
            None => Decision::keep("no sample reached it: its range is not known"),
        }
    }

    /// The static form with these codes and this method, if ranges are known.
    pub fn static_form(&self, layer: &Layer, scheme: Scheme, method: Method) -> Option<Form> {
        let graph = layer.site.graph;
        let input = self.params_by(graph, layer.data, scheme, method)?;
        let output = match layer.role {
            Role::Conv => Some(self.params_by(graph, layer.result, scheme, method)?),
            _ => None,
        };
        let mut weight = self.config.weight;
        weight.per_channel &= layer.channels.is_some();
        Some(Form::Static { weight, input, output })
    }

    /// The model with its layers as they are chosen.
    ///
    /// # Errors
    /// A layer cannot be written so.
    pub fn write(&self, choices: &[Choice]) -> Result<Model> {
        let graph = self.write_graph(choices)?;
        let mut model = self.model.with_graph(graph);
        // A Transpose of a weight has no reader any more.
        let dead = |p: &&Pass| p.name == "drop_dead";
        let dead: Vec<Pass> = PREPARE.iter().filter(dead).copied().collect();
        model.run_passes(&dead, &[])?;
        for (key, value) in self.config.describe() {
            model.set_metadata(&format!("rinfer.quant.{key}"), &value);
        }
        Ok(model)
    }

    fn write_graph(&self, choices: &[Choice]) -> Result<Graph> {
        let mut writer = Quantizer::new(self.layers.iter().zip(choices));
        Ok(rebuild(self.model.graph(), &mut writer)?)
    }
}

/// Constants become one, normalization moves into convolutions; in a model with codes nothing is
/// folded, so that they stay codes.
fn prepare(model: &mut Model) -> Result<()> {
    let coded = graphs(model.graph()).values().any(|g| {
        g.nodes().any(|(_, n)| matches!(n.op, Op::DequantizeLinear(_) | Op::QuantizeLinear(_)))
    });
    let without: &[&str] = if coded { &["fold_constants", "fold_conv_constants"] } else { &[] };
    model.run_passes(PREPARE, without)?;
    Ok(())
}

/// The value that `v` is a picture of: operators that only move numbers keep the codes.
pub fn root(g: &Graph, v: ValueId) -> ValueId {
    let mut v = v;
    while let Some(node) = g.made_by(v) {
        let moves = match &node.op {
            Op::Pool(Pool { kind: PoolKind::Max { .. }, .. }) => node.outputs.len() == 1,
            Op::Reshape(_) | Op::Transpose(_) | Op::Flatten(_) => true,
            Op::Squeeze(_) | Op::Unsqueeze(_) | Op::Identity(_) => true,
            _ => false,
        };
        match node.inputs.first().copied().flatten() {
            Some(from) if moves && g.fact(from).dtype() == Ok(DType::F32) => v = from,
            _ => break,
        }
    }
    v
}
