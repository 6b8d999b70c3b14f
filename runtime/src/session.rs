//! Sessions: models made ready to run, any number of times, from any number of threads.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rinfer_graph::backend::Memory;
use rinfer_graph::onnx::Port;
use rinfer_graph::ops::CustomOp;
use rinfer_graph::{Dim, Fact, Graph, Limits, Reason, Value, cost, invalid};

use crate::error::{Error, guarded};
use crate::executable::Executable;
use crate::mmap::Mapping;
use crate::model::{LoadOptions, Model};
use crate::options::{Device, Precision};
use crate::places::{Opened, Places, Seated};

/// What is settled before a model is loaded.
pub struct SessionBuilder {
    load: LoadOptions,
    pub(crate) threads: usize,
    pub(crate) nested: bool,
    pub(crate) isa: Option<String>,
    pub(crate) reproducible: bool,
    optimize: bool,
    outputs: Option<Vec<String>>,
    progress: Box<dyn Fn(usize) + Sync + Send>,
    pub(crate) device: Device,
    pub(crate) opened: Option<Opened>,
    pub(crate) tuning: Option<String>,
    pub(crate) precision: Precision,
}

impl Default for SessionBuilder {
    fn default() -> SessionBuilder {
        SessionBuilder {
            load: LoadOptions::default(),
            threads: 0,
            nested: false,
            isa: None,
            reproducible: false,
            optimize: true,
            outputs: None,
            progress: Box::new(|_| {}),
            device: Device::Cpu,
            opened: None,
            tuning: None,
            precision: Precision::F32,
        }
    }
}

impl SessionBuilder {
    /// How many threads a run may use; 0, the default, is one per core.
    pub fn threads(mut self, threads: usize) -> SessionBuilder {
        self.threads = threads;
        self
    }

    /// For a session that an operator of another session runs: its runs use that one's threads
    /// instead of threads of their own.
    pub fn nested(mut self) -> SessionBuilder {
        self.nested = true;
        self
    }

    /// The instruction set (`scalar`, `avx2`, `avx512`, `neon`, `wasm`); by default the best that
    /// the machine has, or what the environment variable `RINFER_ISA` names.
    pub fn isa(mut self, name: &str) -> SessionBuilder {
        self.isa = Some(name.to_string());
        self
    }

    /// Whether outputs must have the same bits on every processor. They always do from run to run
    /// and for any number of threads, and with AVX2, AVX-512, NEON and without vectors: sums have
    /// the same order everywhere. WebAssembly's vectors know no fused multiply-add; with this, a
    /// session there is an error instead of other bits. Nothing takes longer.
    pub fn reproducible(mut self, reproducible: bool) -> SessionBuilder {
        self.reproducible = reproducible;
        self
    }

    /// Where the model runs; on the CPU, by default.
    pub fn device(mut self, device: Device) -> SessionBuilder {
        self.device = device;
        self
    }

    /// Which kernels multiply on a GPU, as `gpu::tune` found them: `few=row many=tile`. By default
    /// they follow from the kind of adapter, and results are the same wherever that is.
    pub fn tuning(mut self, tuning: &str) -> SessionBuilder {
        self.tuning = Some(tuning.to_string());
        self
    }

    /// In how many bits floats are kept; without it in 32.
    pub fn precision(mut self, precision: Precision) -> SessionBuilder {
        self.precision = precision;
        self
    }

    /// Whether the graph is optimized; it is, by default.
    pub fn optimize(mut self, optimize: bool) -> SessionBuilder {
        self.optimize = optimize;
        self
    }

    /// Bounds on what the model may ask for, when it is loaded and in every run.
    pub fn limits(mut self, limits: Limits) -> SessionBuilder {
        self.load = self.load.limits(limits);
        self
    }

    /// Adds an operator; it comes before ONNX's of the same domain and name.
    ///
    /// ```
    /// use rinfer::{CustomOp, Facts, Inputs, NodeCx, Reason, Session, Tensor, Value};
    /// use std::sync::Arc;
    ///
    /// /// y = factor · x
    /// struct Scale(f32);
    ///
    /// impl CustomOp for Scale {
    ///     fn name(&self) -> &str {
    ///         "Scale"
    ///     }
    ///     fn for_node(&self, node: &NodeCx<'_>) -> Result<Option<Arc<dyn CustomOp>>, Reason> {
    ///         Ok(Some(Arc::new(Scale(node.float("factor")?.unwrap_or(1.0)))))
    ///     }
    ///     fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
    ///         Ok([inputs.get(0)?.clone().forget()].into_iter().collect())
    ///     }
    ///     fn run(&self, inputs: &[Option<Value>]) -> Result<Vec<Value>, Reason> {
    ///         let mut x = inputs[0].as_ref().map(Value::as_tensor).transpose()?.cloned().unwrap();
    ///         x.as_mut_slice::<f32>().iter_mut().for_each(|x| *x *= self.0);
    ///         Ok(vec![x.into()])
    ///     }
    /// }
    ///
    /// let model = "x: float[n]; y = my.Scale<factor = 3.0>(x); → y";
    /// let session =
    ///     Session::builder().custom_op("my", "Scale", Arc::new(Scale(1.0))).load_text(model)?;
    /// let y = session.run([("x", Tensor::vector(&[1f32, 2.0]))])?;
    /// assert_eq!(y[0].as_tensor()?.as_slice::<f32>(), [3.0, 6.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn custom_op(mut self, domain: &str, name: &str, op: Arc<dyn CustomOp>) -> SessionBuilder {
        self.load = self.load.custom_op(domain, name, op);
        self
    }

    /// Gives a symbolic dimension of the inputs a fixed size.
    pub fn dim(mut self, symbol: &str, size: usize) -> SessionBuilder {
        self.load = self.load.dim(symbol, size);
        self
    }

    /// Whether model files are mapped (the default) or read.
    pub fn mmap(mut self, mmap: bool) -> SessionBuilder {
        self.load = self.load.mmap(mmap);
        self
    }

    /// For a model that is loaded from memory: a file beside it, as [`LoadOptions::file`].
    pub fn file(mut self, location: &str, bytes: impl Into<Bytes>) -> SessionBuilder {
        self.load = self.load.file(location, bytes);
        self
    }

    /// The values that runs give back, in this order, instead of the model's outputs. Values
    /// inside the graph may be named.
    pub fn outputs<S: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> SessionBuilder {
        self.outputs = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Called while weights are made ready, with the bytes done since the last call; from any
    /// thread.
    pub fn on_progress(mut self, f: impl Fn(usize) + Sync + Send + 'static) -> SessionBuilder {
        self.progress = Box::new(f);
        self
    }

    /// Loads a model file.
    ///
    /// # Errors
    /// The file cannot be read, is no model, or asks for what is not supported or not allowed; an
    /// option cannot be met.
    pub fn load(self, path: impl AsRef<Path>) -> Result<Session, Error> {
        let model = Model::open_with(path, &self.load)?;
        self.build(model)
    }

    /// Loads a model from memory.
    ///
    /// # Errors
    /// As for [`SessionBuilder::load`].
    pub fn load_bytes(self, bytes: impl Into<Bytes>) -> Result<Session, Error> {
        let model = Model::from_bytes_with(bytes, &self.load)?;
        self.build(model)
    }

    /// Loads a small model from text, as [`Model::from_text`] reads it.
    ///
    /// # Errors
    /// As for [`SessionBuilder::load`].
    pub fn load_text(self, text: &str) -> Result<Session, Error> {
        let model = Model::from_text_with(text, &self.load)?;
        self.build(model)
    }

    /// Makes a model that was read before ready to run. Options of reading (dimensions, custom
    /// operators, limits) are those it was read with.
    ///
    /// # Errors
    /// An option cannot be met, or a node has no kernel.
    pub fn build(self, model: Model) -> Result<Session, Error> {
        guarded(|| self.make(model))
    }

    fn make(self, model: Model) -> Result<Session, Error> {
        let Model { mut inner, limits, mappings } = model;
        let defaults = inner
            .defaults
            .iter()
            .filter_map(|(name, v)| Some((name.clone(), inner.graph.fact(*v).value()?)))
            .collect();
        if let Some(names) = &self.outputs {
            pick_outputs(&mut inner.graph, &mut inner.outputs, names)?;
        }
        let Places { backends, isa, seat } = self.places()?;
        if self.optimize {
            optimize(&mut inner.graph, isa, &limits)?;
        }
        let graph = Arc::new(inner.graph);
        let memory = limits.memory.min(crate::machine::memory());
        let weights = cost::weight_bytes(&graph);
        if weights > memory {
            let asked = format!("{weights} bytes of weights");
            return Err(Error::Model(Reason::over("memory for a session", asked, memory)));
        }
        let release = Release::new(&mappings, &self.progress);
        let executable = Executable::new(graph.clone(), &backends, &|bytes| release.done(bytes))?;
        mappings.iter().for_each(Mapping::release);
        if mappings.iter().any(Mapping::is_lost) {
            return Err(Error::Lost);
        }
        Ok(Session {
            memory: memory - weights,
            mappings,
            executable,
            graph,
            inputs: inner.inputs,
            outputs: inner.outputs,
            defaults,
            limits,
            isa: isa.name(),
            seat,
        })
    }
}

/// Lets go of the pages of mapped weights once enough of them were packed, so that the file and
/// the packed copy are not both in memory in full.
struct Release<'a> {
    mappings: &'a [Mapping],
    progress: &'a (dyn Fn(usize) + Sync + Send),
    since: std::sync::atomic::AtomicUsize,
}

impl<'a> Release<'a> {
    fn new(mappings: &'a [Mapping], progress: &'a (dyn Fn(usize) + Sync + Send)) -> Release<'a> {
        Release { mappings, progress, since: 0.into() }
    }

    fn done(&self, bytes: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        const EVERY: usize = 64 << 20;
        (self.progress)(bytes);
        if self.since.fetch_add(bytes, Relaxed) + bytes >= EVERY {
            self.since.store(0, Relaxed);
            self.mappings.iter().for_each(Mapping::release);
        }
    }
}

fn optimize(graph: &mut Graph, isa: rinfer_cpu::simd::Isa, limits: &Limits) -> Result<(), Error> {
    use rinfer_graph::passes::{self, Options};
    let eval = rinfer_cpu::eval::NodeEval { isa, limit: limits.fold_value };
    // Weights that are stored in another form (float16, transposed) may double in memory: running
    // is what they are loaded for.
    let options = Options { limits, growth: 1.0, ..Options::default() };
    match passes::optimize(graph, &eval, &options) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::Internal(format!("internal error: {e}"))),
    }
}

/// Makes the named values the outputs.
fn pick_outputs(graph: &mut Graph, ports: &mut Vec<Port>, names: &[String]) -> Result<(), Error> {
    let mut ids = Vec::with_capacity(names.len());
    let mut picked = Vec::with_capacity(names.len());
    for name in names {
        let id = match ports.iter().position(|p| p.name == *name) {
            Some(i) => Some(graph.outputs()[i]),
            None => graph.find(name),
        };
        let Some(id) = id else {
            let all: Vec<String> =
                graph.values().filter_map(|v| graph.name(v).map(|n| n.to_string())).collect();
            let reason = invalid!("there is no such value{}", did_you_mean(name, &all));
            return Err(Error::Output { name: name.clone(), reason });
        };
        let fact = graph.fact(id);
        picked.push(Port { name: name.clone(), ty: fact.ty.clone(), shape: fact.shape.clone() });
        ids.push(id);
    }
    graph.set_outputs(ids);
    *ports = picked;
    Ok(())
}

/// `, did you mean "input_ids"?` if a name is near.
pub fn did_you_mean(name: &str, names: &[String]) -> String {
    let distance = |other: &String| edit_distance(name, other);
    match names.iter().map(|n| (distance(n), n)).min() {
        Some((d, near)) if d <= 1 + name.len() / 3 => format!(", did you mean {near:?}?"),
        _ if names.len() <= 8 && !names.is_empty() => format!(", there are {}", names.join(", ")),
        _ => String::new(),
    }
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(128).enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (corner + (x != *y) as usize).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

/// A model made ready to run.
///
/// Running takes `&self`: one session serves any number of threads at once.
///
/// ```
/// use rinfer::{Session, Tensor};
///
/// let session = Session::builder().load_text("x: float[n, 2]; y = ReduceSum(x, [1]); → y")?;
/// std::thread::scope(|threads| {
///     for n in 1..4 {
///         let session = &session;
///         threads.spawn(move || {
///             let x = Tensor::from_slice(&[n, 2], &vec![1f32; 2 * n]);
///             let y = session.run([("x", x)]).unwrap();
///             assert_eq!(y[0].as_tensor().unwrap().shape(), [n, 1]);
///         });
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session {
    pub(crate) executable: Executable,
    pub(crate) graph: Arc<Graph>,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) defaults: Vec<(String, Value)>,
    pub(crate) limits: Limits,
    /// What the weights leave for runs.
    pub(crate) memory: usize,
    pub(crate) mappings: Vec<Mapping>,
    isa: &'static str,
    pub(crate) seat: Option<Seated>,
}

impl Session {
    /// Settings before loading.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    /// Loads a model file with the default settings.
    ///
    /// # Errors
    /// As for [`SessionBuilder::load`].
    pub fn load(path: impl AsRef<Path>) -> Result<Session, Error> {
        Session::builder().load(path)
    }

    /// The inputs that a run must be given.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What a run gives back, in this order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The graph as it runs, optimized.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where every node runs.
    pub fn placements(&self) -> Vec<crate::executable::Placement> {
        self.executable.placements()
    }

    /// The name of the instruction set in use.
    pub fn isa(&self) -> &'static str {
        self.isa
    }

    /// What a run takes in memory, when the inputs have these shapes.
    ///
    /// # Errors
    /// The shapes do not fit the model.
    pub fn memory(&self, shapes: &[(&str, &[usize])]) -> Result<Memory, Error> {
        let mut facts = Vec::with_capacity(self.inputs.len());
        for port in &self.inputs {
            let given = shapes.iter().find(|(name, _)| *name == port.name);
            let shape = match given {
                Some((_, sizes)) => Some(sizes.iter().map(|&n| Dim::from(n)).collect()),
                None => port.shape.clone(),
            };
            facts.push(Fact { ty: port.ty.clone(), shape, known: None });
        }
        let weights = self.weight_bytes();
        Ok(Memory { weights, ..self.executable.memory(&facts)? })
    }

    /// The constants that the session keeps, in bytes.
    pub fn weight_bytes(&self) -> usize {
        cost::weight_bytes(&self.graph)
    }

    /// Gives the memory that runs left for later runs back to the system. What a run left unused
    /// for half a second goes back by itself with the next run.
    pub fn trim(&self) {
        self.executable.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Session>();
        check::<Model>();
        check::<crate::Tensor>();
    }

    #[test]
    fn near_names_are_suggested() {
        let names = ["input_ids".to_string(), "attention_mask".to_string()];
        assert_eq!(did_you_mean("inputs_ids", &names), ", did you mean \"input_ids\"?");
    }
}
