//! Loading a model piece by piece, and running it in slices.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use js_sys::{Array, Object, Uint8Array};
use rinfer::graph::invalid;
use rinfer::{
    Dim, Error, Limits, Port, Profiler, Reason, Run, RunOptions, RunValue, Session, SessionBuilder,
    Type,
};
use wasm_bindgen::prelude::*;

use crate::fault::{self, guarded};
use crate::turn::Turn;
use crate::value::{fed, made_to_js, name_of, object};

/// A model on its way into memory.
#[wasm_bindgen]
pub struct Loader {
    /// The model, then the files beside it by name.
    files: Vec<(String, Vec<u8>)>,
    limits: Limits,
    dims: Vec<(String, usize)>,
    outputs: Option<Vec<String>>,
    optimize: bool,
    gpu: bool,
}

#[wasm_bindgen]
impl Loader {
    /// A loader without bytes. The limits are those for models of strangers if `untrusted`.
    #[wasm_bindgen(constructor)]
    pub fn new(untrusted: bool) -> Loader {
        let limits = if untrusted { Limits::untrusted() } else { Limits::trusted() };
        let files = Vec::new();
        Loader { files, limits, dims: Vec::new(), outputs: None, optimize: true, gpu: false }
    }

    /// Begins a file: the model first, under any name, then files with its external data. `size`
    /// is how many bytes will come, as far as is known.
    pub fn file(&mut self, name: String, size: f64) -> Result<(), JsValue> {
        let mut bytes = Vec::new();
        let size = size.clamp(0.0, u32::MAX as f64) as usize;
        bytes.try_reserve_exact(size).map_err(|_| fault::reason(Reason::no_memory(size)))?;
        self.files.push((name, bytes));
        Ok(())
    }

    /// The next bytes of the file.
    pub fn push(&mut self, chunk: &Uint8Array) -> Result<(), JsValue> {
        let Some((_, bytes)) = self.files.last_mut() else {
            return Err(fault::reason(invalid!("bytes without a file")));
        };
        let (old, n) = (bytes.len(), chunk.length() as usize);
        bytes.try_reserve(n).map_err(|_| fault::reason(Reason::no_memory(old + n)))?;
        bytes.resize(old + n, 0);
        chunk.copy_to(&mut bytes[old..]);
        Ok(())
    }

    /// Gives a symbolic dimension a size.
    pub fn dim(&mut self, symbol: String, size: u32) {
        self.dims.push((symbol, size as usize));
    }

    /// The values that runs give back instead of the model's outputs.
    pub fn outputs(&mut self, names: Vec<String>) {
        self.outputs = Some(names);
    }

    /// Whether the graph is optimized.
    pub fn optimize(&mut self, optimize: bool) {
        self.optimize = optimize;
    }

    /// Whether nodes run on the GPU that is open, as far as it can run them.
    pub fn gpu(&mut self, gpu: bool) {
        self.gpu = gpu;
    }

    /// Sets a limit by its name in JavaScript.
    pub fn limit(&mut self, name: &str, value: f64) -> Result<(), JsValue> {
        let l = &mut self.limits;
        if value.is_nan() || value < 0.0 {
            return Err(fault::reason(invalid!("the limit {name} cannot be {value}")));
        }
        let n = value.min(usize::MAX as f64) as usize;
        match name {
            "modelBytes" => l.model_bytes = n,
            "subgraphDepth" => l.subgraph_depth = n.min(Limits::trusted().subgraph_depth),
            "nodes" => l.nodes = n,
            "rank" => l.rank = n,
            "tensorBytes" => l.tensor_bytes = n,
            "memory" => l.memory = n,
            "loopIterations" => l.loop_iterations = value as u64,
            "runTime" => l.run_time = Some(Duration::from_secs_f64(value.min(1e12) / 1e3)),
            "stringBytes" => l.string_bytes = n,
            "regexBytes" => l.regex_bytes = n,
            "imagePixels" => l.image_pixels = n,
            _ => return Err(fault::reason(invalid!("there is no limit {name:?}"))),
        }
        Ok(())
    }

    /// Makes the model ready to run.
    pub fn build(self) -> Result<WebSession, JsValue> {
        guarded(move || {
            let mut builder: SessionBuilder =
                Session::builder().limits(self.limits).optimize(self.optimize);
            if self.gpu {
                builder = on_gpu(builder).map_err(fault::reason)?;
            }
            for (symbol, size) in &self.dims {
                builder = builder.dim(symbol, *size);
            }
            if let Some(names) = self.outputs {
                builder = builder.outputs(names);
            }
            let mut files = self.files.into_iter();
            let Some((_, model)) = files.next() else {
                return Err(fault::reason(invalid!("there is no model to load")));
            };
            for (name, bytes) in files {
                builder = builder.file(&name, bytes);
            }
            let session = builder.load_bytes(model).map_err(fault::error)?;
            Ok(WebSession { session: AssertUnwindSafe(Arc::new(session)) })
        })
    }
}

/// The builder of a session on the page's GPU.
#[cfg(feature = "webgpu")]
fn on_gpu(builder: SessionBuilder) -> Result<SessionBuilder, Reason> {
    Ok(builder.device(rinfer::Device::GpuOrCpu(None)).on_gpu(crate::gpu::opened()?))
}

#[cfg(not(feature = "webgpu"))]
fn on_gpu(_: SessionBuilder) -> Result<SessionBuilder, Reason> {
    Err(Reason::new(rinfer::Kind::Device, "this module has no WebGPU"))
}

// A panic is caught before it gets anywhere near JavaScript (`guarded`), and leaves sessions and
// runs as they were or over: both are unwind safe.

/// A model that is ready to run.
#[wasm_bindgen]
pub struct WebSession {
    session: AssertUnwindSafe<Arc<Session>>,
}

#[wasm_bindgen]
impl WebSession {
    /// `{name, isTensor, type, shape}` of each input.
    pub fn inputs(&self) -> Array {
        self.session.inputs().iter().map(describe).collect()
    }

    /// `{name, isTensor, type, shape}` of each output.
    pub fn outputs(&self) -> Array {
        self.session.outputs().iter().map(describe).collect()
    }

    /// Bytes of the weights.
    #[wasm_bindgen(js_name = weightBytes)]
    pub fn weight_bytes(&self) -> f64 {
        self.session.weight_bytes() as f64
    }

    /// Begins a run with `{name: value}`. A timeout that is no number is none. The outputs that
    /// are named stay on the GPU, if they are made there.
    pub fn start(
        &self,
        feeds: &JsValue,
        seed: f64,
        timeout: f64,
        profile: bool,
        keep: Vec<String>,
    ) -> Result<WebRun, JsValue> {
        guarded(|| {
            let turn = Turn::new();
            let mut options = RunOptions::new().seed(seed as u64).waker(turn.waker());
            if timeout >= 0.0 {
                options = options.timeout(Duration::from_secs_f64(timeout.min(1e12) / 1e3));
            }
            let profiler = profile.then(Profiler::new);
            if let Some(profiler) = &profiler {
                options = options.profile(profiler);
            }
            let given = self.given(feeds).map_err(fault::error)?;
            let keep: Vec<&str> = keep.iter().map(String::as_str).collect();
            let run = self.session.start_on_device(given, &keep, &options).map_err(fault::error)?;
            Ok(WebRun { run: AssertUnwindSafe(run), turn, profiler, names: self.names() })
        })
    }

    /// Gives memory that runs left for later ones back.
    pub fn trim(&self) {
        self.session.trim();
    }
}

#[cfg(feature = "webgpu")]
#[wasm_bindgen]
impl WebSession {
    /// Whether the GPU that it runs on is lost.
    #[wasm_bindgen(js_name = isLost)]
    pub fn is_lost(&self) -> bool {
        self.session.gpu().is_some_and(|gpu| gpu.is_lost())
    }

    /// Runs begin on the GPU that is open from now on.
    #[wasm_bindgen(js_name = moveToGpu)]
    pub fn move_to_gpu(&self) -> Result<(), JsValue> {
        self.session.move_to(crate::gpu::opened().map_err(fault::reason)?);
        Ok(())
    }
}

impl WebSession {
    fn names(&self) -> Vec<String> {
        self.session.outputs().iter().map(|port| port.name.clone()).collect()
    }

    fn given(&self, feeds: &JsValue) -> Result<Vec<(String, RunValue)>, Error> {
        let Some(feeds) = feeds.dyn_ref::<Object>() else {
            return Err(Error::Option(invalid!("the feeds are no object")));
        };
        let mut given = Vec::new();
        for entry in Object::entries(feeds).iter() {
            let entry: Array = entry.unchecked_into();
            let name = entry.get(0).as_string().unwrap_or_default();
            let port = self.session.inputs().iter().find(|port| port.name == name);
            let ty = port.map_or(Type::Tensor(rinfer::DType::F32), |port| port.ty.clone());
            let value = fed(&entry.get(1), &ty)
                .map_err(|reason| Error::Input { name: name.clone(), reason })?;
            given.push((name, value));
        }
        Ok(given)
    }
}

fn describe(port: &Port) -> JsValue {
    let name = JsValue::from(port.name.as_str());
    let Some(dtype) = port.ty.dtype() else {
        let ty = JsValue::from(port.ty.to_string());
        return object(&[("name", name), ("isTensor", false.into()), ("type", ty)]);
    };
    let dim = |d: &Dim| match d.size() {
        Some(n) => JsValue::from(n as u32),
        None => JsValue::from(d.to_string()),
    };
    let shape = match &port.shape {
        Some(dims) => dims.iter().map(dim).collect::<Array>().into(),
        None => JsValue::UNDEFINED,
    };
    object(&[
        ("name", name),
        ("isTensor", true.into()),
        ("type", name_of(dtype).into()),
        ("shape", shape),
    ])
}

/// A run that goes on slice by slice; freed, it ends.
#[wasm_bindgen]
pub struct WebRun {
    run: AssertUnwindSafe<Run>,
    turn: Arc<Turn>,
    profiler: Option<Profiler>,
    names: Vec<String>,
}

#[wasm_bindgen]
impl WebRun {
    /// Goes on for about so many milliseconds: `{name: value}` of the outputs once there are all,
    /// `undefined` before.
    pub fn advance(&mut self, ms: f64) -> Result<JsValue, JsValue> {
        guarded(|| {
            self.turn.begin();
            let time = Duration::from_secs_f64(ms.clamp(0.0, 1e9) / 1e3);
            let Some(made) = self.run.advance_on_device(time).map_err(fault::error)? else {
                return Ok(JsValue::UNDEFINED);
            };
            let mut outputs = Vec::with_capacity(made.len());
            for (name, value) in self.names.iter().zip(made) {
                outputs.push((name.as_str(), made_to_js(value).map_err(fault::reason)?));
            }
            Ok(object(&outputs))
        })
    }

    /// Whether the run waits for the GPU: it is of no use to go on before [`WebRun::ready`].
    pub fn waits(&self) -> bool {
        self.run.waits()
    }

    /// Resolves when it is of use to go on.
    pub fn ready(&self) -> js_sys::Promise {
        self.turn.promise()
    }

    /// What each node took: `{name, op, start, duration, inputs, outputs, bytes}`, times in
    /// milliseconds.
    pub fn events(&self) -> Array {
        let event = |e: rinfer::Event| {
            let texts = |all: &[String]| -> JsValue {
                all.iter().map(|text| JsValue::from(text.as_str())).collect::<Array>().into()
            };
            object(&[
                ("name", e.name.as_str().into()),
                ("op", e.op.as_str().into()),
                ("backend", e.backend.into()),
                ("start", (e.start.as_secs_f64() * 1e3).into()),
                ("duration", (e.duration.as_secs_f64() * 1e3).into()),
                ("inputs", texts(&e.inputs)),
                ("outputs", texts(&e.outputs)),
                ("bytes", (e.bytes as f64).into()),
            ])
        };
        self.profiler.iter().flat_map(Profiler::events).map(event).collect()
    }
}
