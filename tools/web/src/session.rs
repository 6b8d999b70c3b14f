//! Loading a model piece by piece, and running it in slices.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use js_sys::{Array, Object, Uint8Array};
use rinfer::graph::invalid;
use rinfer::{
    CancelToken, Dim, Error, Limits, Port, Profiler, Reason, Run, RunOptions, Session,
    SessionBuilder, Type,
};
use wasm_bindgen::prelude::*;

use crate::fault::{self, guarded};
use crate::value::{from_js, name_of, object, to_js};

/// A model on its way into memory.
#[wasm_bindgen]
pub struct Loader {
    /// The model, then the files beside it by name.
    files: Vec<(String, Vec<u8>)>,
    limits: Limits,
    dims: Vec<(String, usize)>,
    outputs: Option<Vec<String>>,
    optimize: bool,
}

#[wasm_bindgen]
impl Loader {
    /// A loader without bytes. The limits are those for models of strangers if `untrusted`.
    #[wasm_bindgen(constructor)]
    pub fn new(untrusted: bool) -> Loader {
        let limits = if untrusted { Limits::untrusted() } else { Limits::trusted() };
        let files = Vec::new();
        Loader { files, limits, dims: Vec::new(), outputs: None, optimize: true }
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

    /// Begins a run with `{name: value}`. A timeout that is no number is none.
    pub fn start(
        &self,
        feeds: &JsValue,
        seed: f64,
        timeout: f64,
        profile: bool,
    ) -> Result<WebRun, JsValue> {
        guarded(|| {
            let cancel = CancelToken::new();
            let mut options = RunOptions::new().seed(seed as u64).cancel(cancel.clone());
            if timeout >= 0.0 {
                options = options.timeout(Duration::from_secs_f64(timeout.min(1e12) / 1e3));
            }
            let profiler = profile.then(Profiler::new);
            if let Some(profiler) = &profiler {
                options = options.profile(profiler);
            }
            let given = self.given(feeds).map_err(fault::error)?;
            let run = self.session.start(given, &options).map_err(fault::error)?;
            Ok(WebRun { run: AssertUnwindSafe(run), profiler, names: self.names() })
        })
    }

    /// Gives memory that runs left for later ones back.
    pub fn trim(&self) {
        self.session.trim();
    }
}

impl WebSession {
    fn names(&self) -> Vec<String> {
        self.session.outputs().iter().map(|port| port.name.clone()).collect()
    }

    fn given(&self, feeds: &JsValue) -> Result<Vec<(String, rinfer::Value)>, Error> {
        let Some(feeds) = feeds.dyn_ref::<Object>() else {
            return Err(Error::Option(invalid!("the feeds are no object")));
        };
        let mut given = Vec::new();
        for entry in Object::entries(feeds).iter() {
            let entry: Array = entry.unchecked_into();
            let name = entry.get(0).as_string().unwrap_or_default();
            let port = self.session.inputs().iter().find(|port| port.name == name);
            let ty = port.map_or(Type::Tensor(rinfer::DType::F32), |port| port.ty.clone());
            let value = from_js(&entry.get(1), &ty)
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
    profiler: Option<Profiler>,
    names: Vec<String>,
}

#[wasm_bindgen]
impl WebRun {
    /// Goes on for about so many milliseconds: `{name: value}` of the outputs once there are all,
    /// `undefined` before.
    pub fn advance(&mut self, ms: f64) -> Result<JsValue, JsValue> {
        guarded(|| {
            let time = Duration::from_secs_f64(ms.clamp(0.0, 1e9) / 1e3);
            let Some(made) = self.run.advance(time).map_err(fault::error)? else {
                return Ok(JsValue::UNDEFINED);
            };
            let mut outputs = Vec::with_capacity(made.len());
            for (name, value) in self.names.iter().zip(&made) {
                outputs.push((name.as_str(), to_js(value).map_err(fault::reason)?));
            }
            Ok(object(&outputs))
        })
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
