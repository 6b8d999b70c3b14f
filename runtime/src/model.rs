//! Models: files or bytes, read and understood, not yet made ready to run.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rinfer_graph::onnx::{
    self, CustomOps, ExternalData, Files, ImportOptions, NoExternalData, Port,
};
use rinfer_graph::ops::CustomOp;
use rinfer_graph::{Graph, Limits, cost};

use crate::error::{Error, guarded};
use crate::machine;
use crate::mmap::{self, Folder, Mapping};

/// How a model is read.
#[derive(Clone)]
pub struct LoadOptions {
    pub(crate) limits: Limits,
    pub(crate) custom: CustomOps,
    pub(crate) dims: HashMap<String, usize>,
    pub(crate) mmap: bool,
    pub(crate) files: Files,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            limits: machine::bounded(Limits::trusted()),
            custom: CustomOps::new(),
            dims: HashMap::new(),
            mmap: true,
            files: Files::default(),
        }
    }
}

impl LoadOptions {
    /// The defaults: trusted limits, mapped files.
    pub fn new() -> LoadOptions {
        LoadOptions::default()
    }

    /// Bounds on what the model may ask for.
    pub fn limits(mut self, limits: Limits) -> LoadOptions {
        self.limits = machine::bounded(limits);
        self
    }

    /// Adds an operator; it comes before ONNX's of the same domain and name.
    pub fn custom_op(mut self, domain: &str, name: &str, op: Arc<dyn CustomOp>) -> LoadOptions {
        self.custom.insert((domain.to_string(), name.to_string()), op);
        self
    }

    /// Gives a symbolic dimension of the inputs a fixed size.
    pub fn dim(mut self, symbol: &str, size: usize) -> LoadOptions {
        self.dims.insert(symbol.to_string(), size);
        self
    }

    /// Whether files are mapped (the default, where the feature is on) or read. A mapped file that
    /// is truncated while it is in use makes loads and runs fail ([`Error::Lost`]); one that is
    /// changed in place may change the answers: read the files of strangers.
    pub fn mmap(mut self, mmap: bool) -> LoadOptions {
        self.mmap = mmap;
        self
    }

    /// For a model that is read from memory: the bytes of a file beside it, by its path below the
    /// model's folder.
    pub fn file(mut self, location: &str, bytes: impl Into<Bytes>) -> LoadOptions {
        self.files.insert(location, bytes.into());
        self
    }

    fn import<'a>(&'a self, external: &'a dyn ExternalData) -> ImportOptions<'a> {
        ImportOptions { external, limits: &self.limits, custom: &self.custom, dims: &self.dims }
    }
}

/// A model that was read: its graph and what its file says about it. Clones share the weights.
#[derive(Clone)]
pub struct Model {
    pub(crate) inner: onnx::Model,
    pub(crate) limits: Limits,
    pub(crate) mappings: Vec<Mapping>,
}

impl Model {
    /// Reads a model file. External data is looked for below its folder.
    ///
    /// # Errors
    /// The file cannot be read, is no model, or asks for what is not supported or not allowed.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, Error> {
        Model::open_with(path, &LoadOptions::default())
    }

    /// As [`Model::open`], with options.
    pub fn open_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Model, Error> {
        guarded(|| Model::read(path.as_ref(), options))
    }

    fn read(path: &Path, options: &LoadOptions) -> Result<Model, Error> {
        let io = |source| Error::Io { path: path.into(), source };
        let limit = options.limits.model_bytes;
        let (bytes, mapping) = mmap::open(path, options.mmap, limit).map_err(io)?;
        let folder = Folder::new(path.parent().unwrap_or(Path::new("")), options.mmap);
        let inner = onnx::import(bytes, &options.import(&folder));
        let mut mappings = folder.mappings.into_inner().unwrap_or_else(|e| e.into_inner());
        mappings.extend(mapping);
        if mappings.iter().any(Mapping::is_lost) {
            return Err(Error::Lost);
        }
        let inner = inner?;
        Ok(Model { inner, limits: options.limits.clone(), mappings })
    }

    /// Reads a model from memory. Weights alias the bytes; external data is what
    /// [`LoadOptions::file`] was given.
    ///
    /// # Errors
    /// As for [`Model::open`].
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Model, Error> {
        Model::from_bytes_with(bytes, &LoadOptions::default())
    }

    /// As [`Model::from_bytes`], with options.
    pub fn from_bytes_with(bytes: impl Into<Bytes>, options: &LoadOptions) -> Result<Model, Error> {
        let import = || Ok(onnx::import(bytes.into(), &options.import(&options.files))?);
        let inner = guarded(import)?;
        Ok(Model { inner, limits: options.limits.clone(), mappings: Vec::new() })
    }

    /// Reads a small model from text, as [`onnx::parse()`] describes it: for tests and examples.
    ///
    /// ```
    /// let model = rinfer::Model::from_text("x: float[n, 3]; y = Softmax(x); → y")?;
    /// assert_eq!(model.outputs()[0].name, "y");
    /// # Ok::<(), rinfer::Error>(())
    /// ```
    ///
    /// # Errors
    /// The text is none, or the model that it describes is not valid or not supported.
    pub fn from_text(text: &str) -> Result<Model, Error> {
        Model::from_text_with(text, &LoadOptions::default())
    }

    /// As [`Model::from_text`], with options.
    pub fn from_text_with(text: &str, options: &LoadOptions) -> Result<Model, Error> {
        let parse = || {
            let graph = onnx::parse_with(text, &options.import(&NoExternalData));
            graph.map_err(|reason| Error::Import(onnx::ImportError::Model(reason)))
        };
        let graph = guarded(parse)?;
        Ok(Model { limits: options.limits.clone(), ..Model::from_graph(graph) })
    }

    /// A model around a graph that was built by a program.
    pub fn from_graph(graph: Graph) -> Model {
        let port = |v: &rinfer_graph::ValueId| Port {
            name: graph.name(*v).map_or_else(|| format!("v{}", v.index()), |n| n.to_string()),
            ty: graph.fact(*v).ty.clone(),
            shape: graph.fact(*v).shape.clone(),
        };
        let inputs: Vec<Port> = graph.inputs().iter().map(port).collect();
        let outputs = graph.outputs().iter().map(port).collect();
        let declared_inputs = inputs.iter().map(|p| p.name.clone()).collect();
        let opsets = vec![(String::new(), onnx::NEWEST_OPSET)];
        let inner = onnx::Model {
            graph,
            inputs,
            outputs,
            declared_inputs,
            opsets,
            ..onnx::Model::default()
        };
        Model { inner, limits: Limits::trusted(), mappings: Vec::new() }
    }

    /// Optimizes the graph, without anything that only this engine could run afterwards.
    ///
    /// # Errors
    /// A pass broke the graph: a defect of this engine.
    pub fn optimize(&mut self) -> Result<rinfer_graph::passes::Report, Error> {
        self.run_passes(rinfer_graph::passes::PIPELINE, &[])
    }

    /// Runs these passes, but for those `without`, by name.
    ///
    /// # Errors
    /// As for [`Model::optimize`].
    pub fn run_passes(
        &mut self,
        passes: &[rinfer_graph::passes::Pass],
        without: &[&str],
    ) -> Result<rinfer_graph::passes::Report, Error> {
        use rinfer_graph::passes::{self, Options};
        let isa = rinfer_cpu::simd::Isa::best();
        let eval = rinfer_cpu::eval::NodeEval { isa, limit: self.limits.fold_value };
        let options = Options { limits: &self.limits, disabled: without, ..Options::default() };
        guarded(|| {
            passes::run_passes(&mut self.inner.graph, passes, &eval, &options)
                .map_err(|e| Error::Internal(format!("internal error: {e}")))
        })
    }

    /// The model with another graph, which has as many inputs and outputs, in the same order.
    pub fn with_graph(&self, graph: Graph) -> Model {
        let info = &self.inner;
        let inner = onnx::Model {
            graph,
            inputs: info.inputs.clone(),
            outputs: info.outputs.clone(),
            defaults: Vec::new(),
            declared_inputs: info.declared_inputs.clone(),
            opsets: info.opsets.clone(),
            producer: info.producer.clone(),
            domain: info.domain.clone(),
            doc: info.doc.clone(),
            metadata: info.metadata.clone(),
            ..*info
        };
        Model { inner, limits: self.limits.clone(), mappings: self.mappings.clone() }
    }

    /// Sets an entry of the model's metadata, which its file keeps.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        self.inner.metadata.retain(|(k, _)| k != key);
        self.inner.metadata.push((key.to_string(), value.to_string()));
    }

    /// Tells the system that mapped weights need not stay in memory: what is read again comes from
    /// the file again.
    pub fn release(&self) {
        self.mappings.iter().for_each(Mapping::release);
    }

    /// The model as the bytes of an ONNX file.
    ///
    /// # Errors
    /// Something in the graph has no form in ONNX, such as an operator of the user.
    pub fn to_onnx(&self) -> Result<Vec<u8>, Error> {
        onnx::export(&self.inner).map_err(Error::Export)
    }

    /// The model as the bytes of an ONNX file that finds its weights in the file `location` beside
    /// it; they are written into `data`. For models of more than the 2 GiB that one file may have.
    ///
    /// # Errors
    /// As for [`Model::to_onnx`], or `data` cannot be written.
    pub fn to_onnx_external(
        &self,
        location: &str,
        data: &mut dyn std::io::Write,
    ) -> Result<Vec<u8>, Error> {
        onnx::export_external(&self.inner, location, data).map_err(Error::Export)
    }

    /// The bytes of all constants.
    pub fn weight_bytes(&self) -> usize {
        cost::weight_bytes(&self.inner.graph)
    }

    /// The inputs that must be given.
    pub fn inputs(&self) -> &[Port] {
        &self.inner.inputs
    }

    /// The outputs.
    pub fn outputs(&self) -> &[Port] {
        &self.inner.outputs
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.inner.graph
    }

    /// Everything that the file says.
    pub fn info(&self) -> &onnx::Model {
        &self.inner
    }
}
