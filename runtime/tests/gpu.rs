//! Trained models on the GPU against the CPU, on the same random inputs.
//!
//! Without an adapter nothing runs, and that is said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rinfer::{DType, Device, Error, Profiler, RunOptions, RunValue, Session, Tensor, Value};

/// Models of `tests/models`, and how far results may be off, relative to the largest.
const MODELS: &[(&str, f32)] =
    &[("digits", 1e-4), ("mnist", 1e-4), ("dtln-1", 1e-4), ("ultraface-rfb-320", 1e-4)];

fn session(name: &str, device: Device) -> Result<Session, Error> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/models");
    Session::builder().device(device).load(format!("{root}/{name}/model.onnx"))
}

/// Numbers between 0 and 1; symbolic sizes are 1.
fn inputs(session: &Session) -> Vec<(String, Value)> {
    let mut seed = 1u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32
    };
    let mut all = Vec::new();
    for port in session.inputs() {
        assert_eq!(port.ty.dtype(), Some(DType::F32), "{}", port.name);
        let sizes = port.shape.iter().flatten().map(|d| d.size().unwrap_or(1));
        let sizes: Vec<usize> = sizes.collect();
        let x: Vec<f32> = (0..sizes.iter().product()).map(|_| next()).collect();
        all.push((port.name.clone(), Tensor::from_slice(&sizes, &x).into()));
    }
    all
}

/// Runs a model on both; what runs where, or what is wrong.
fn compare(name: &str, tolerance: f32) -> Result<String, String> {
    let text = |e: Error| e.to_string();
    let cpu = session(name, Device::Cpu).map_err(text)?;
    let gpu = session(name, Device::Gpu(None)).map_err(text)?;
    let given = inputs(&cpu);
    let expected = cpu.run(given.clone()).map_err(text)?;
    for _ in 0..2 {
        let found = gpu.run(given.clone()).map_err(text)?;
        for (found, expected) in found.iter().zip(&expected) {
            near(found, expected, tolerance)?;
        }
    }
    let places = gpu.placements();
    let on = |backend| places.iter().filter(|p| p.backend == backend).count();
    if on("cpu") > 0 || on("gpu") == 0 {
        return Err(format!("{places:?}"));
    }
    Ok(format!("{} nodes on the GPU, {} on the host", on("gpu"), on("host")))
}

fn near(found: &Value, expected: &Value, tolerance: f32) -> Result<(), String> {
    let floats = |v: &Value| -> Result<Vec<f32>, String> {
        let t = v.as_tensor().map_err(|e| e.to_string())?;
        Ok(t.as_slice::<f32>().to_vec())
    };
    let (a, b) = (floats(found)?, floats(expected)?);
    if found.shape() != expected.shape() {
        return Err(format!("shape {:?}, not {:?}", found.shape(), expected.shape()));
    }
    let scale = b.iter().fold(0f32, |m, x| m.max(x.abs())).max(1e-6);
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= tolerance * scale;
    match a.iter().zip(&b).position(|pair| !near(pair)) {
        None => Ok(()),
        Some(i) => Err(format!("element {i} is {}, not {}; the largest is {scale}", a[i], b[i])),
    }
}

/// Whether a profile shows the nodes of the GPU, and no more time than there was.
fn profile(name: &str) -> Result<String, String> {
    let text = |e: Error| e.to_string();
    let gpu = session(name, Device::Gpu(None)).map_err(text)?;
    let given = inputs(&gpu);
    let profiler = Profiler::new();
    let began = std::time::Instant::now();
    let options = RunOptions::new().profile(&profiler);
    gpu.run_with(given, &options).map_err(text)?;
    let wall = began.elapsed();
    let events = profiler.events();
    let timed = rinfer::adapters()[0].timestamps;
    let nodes = events.iter().filter(|e| e.op == "Conv" && e.backend == "gpu").count();
    let total: std::time::Duration = events.iter().map(|e| e.duration).sum();
    let convs = gpu.placements().iter().filter(|p| p.op == "Conv").count();
    match timed {
        true if nodes != convs => Err(format!("{nodes} of {convs} convolutions: {events:?}")),
        true if total > wall => Err(format!("nodes took {total:?} of {wall:?}")),
        true => Ok(format!("{total:?} of {wall:?} in {} events", events.len())),
        false if events.iter().any(|e| e.op == "Submission") => Ok("no timestamps".to_string()),
        false => Err(format!("neither nodes nor a submission: {events:?}")),
    }
}

/// One head of attention with its cache, as a decoder of text has: a step for one position.
const DECODER: &str = "x: float[1, 1, 16]; past_k: float[1, 2, p, 8]; past_v: float[1, 2, p, 8];
    one: float[16]; zero: float[16]; wq: float[16, 16]; wk: float[16, 16]; wv: float[16, 16];
    q = MatMul(x, wq); k = MatMul(x, wk); v = MatMul(x, wv);
    a, present_k, present_v = Attention<q_num_heads = 2, kv_num_heads = 2>(
        q, k, v, _, past_k, past_v);
    r = Add(a, x); y = LayerNormalization(r, one, zero); → y, present_k, present_v";

/// Steps of a decoder whose cache never leaves the GPU, against the CPU's; then another session and
/// the CPU are given the cache.
fn decode() -> Result<String, String> {
    let text = |e: Error| e.to_string();
    let load = |device| Session::builder().device(device).load_text(DECODER).map_err(text);
    let (cpu, gpu) = (load(Device::Cpu)?, load(Device::Gpu(None))?);
    let options = RunOptions::new();
    let square = |seed: usize| -> Tensor {
        let x: Vec<f32> =
            (0..256).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 23.0 - 0.5).collect();
        Tensor::from_slice(&[16, 16], &x)
    };
    let fixed: Vec<(&str, RunValue)> = vec![
        ("one", Tensor::from_slice(&[16], &[1f32; 16]).into()),
        ("zero", Tensor::from_slice(&[16], &[0f32; 16]).into()),
        ("wq", square(1).into()),
        ("wk", square(2).into()),
        ("wv", square(3).into()),
    ];
    let empty = || RunValue::from(Tensor::from_slice::<f32>(&[1, 2, 0, 8], &[]));
    let (mut k, mut v, mut cpu_k, mut cpu_v) = (empty(), empty(), empty(), empty());
    let mut x = Tensor::from_slice(&[1, 1, 16], &[0.25f32; 16]);
    let mut brought = 0;
    for _ in 0..6 {
        let given = |k: RunValue, v: RunValue| {
            let own = [("x", x.clone().into()), ("past_k", k), ("past_v", v)];
            fixed.iter().cloned().chain(own).collect::<Vec<_>>()
        };
        let profiler = Profiler::new();
        let profiled = options.clone().profile(&profiler);
        let keep = ["present_k", "present_v"];
        let made = gpu.run_on_device(given(k, v), &keep, &profiled).map_err(text)?;
        let expected = cpu.run_on_device(given(cpu_k, cpu_v), &[], &options).map_err(text)?;
        let [y, next_k, next_v] = <[RunValue; 3]>::try_from(made).map_err(|_| "outputs")?;
        let [expected, next_cpu_k, next_cpu_v] =
            <[RunValue; 3]>::try_from(expected).map_err(|_| "outputs")?;
        if next_k.as_device().is_none() || next_v.as_device().is_none() {
            return Err("the cache is on the host".to_string());
        }
        let back = profiler.events();
        brought += back.iter().filter(|e| e.op == "Readback").map(|e| e.bytes).sum::<usize>();
        let y = y.into_value().map_err(text)?;
        near(&y, &expected.into_value().map_err(text)?, 1e-5)?;
        x = y.into_tensor().map_err(|e| e.to_string())?;
        (k, v, cpu_k, cpu_v) = (next_k, next_v, next_cpu_k, next_cpu_v);
    }
    if rinfer::adapters()[0].timestamps && brought != 6 * 64 {
        return Err(format!("{brought} bytes were read back, not {}", 6 * 64));
    }
    let half = "x: float[1, 2, p, 8]; y = Mul(x, 0.5); → y";
    let kept = k.as_device().ok_or("no tensor")?.clone();
    let whole = kept.read().map_err(text)?;
    near(&whole.clone().into(), &cpu_k.into_value().map_err(text)?, 1e-5)?;
    for device in [Device::Gpu(None), Device::Cpu] {
        let other = Session::builder().device(device).load_text(half).map_err(text)?;
        let made = other.run_on_device([("x", kept.clone())], &["y"], &options).map_err(text)?;
        let made = made.into_iter().next().ok_or("no output")?.into_value().map_err(text)?;
        let found = made.as_tensor().map_err(|e| e.to_string())?.as_slice::<f32>().to_vec();
        let expected: Vec<f32> = whole.as_slice::<f32>().iter().map(|x| x * 0.5).collect();
        if found != expected {
            return Err("another session reads something else".to_string());
        }
    }
    Ok(format!("six steps, {brought} bytes read back, {:?}", kept))
}

/// Slices make what a whole run makes, and nobody waits for the GPU longer than a slice; tensors
/// that stay there stay in slices too.
fn slices(name: &str) -> Result<String, String> {
    let text = |e: Error| e.to_string();
    let session = Arc::new(session(name, Device::Gpu(None)).map_err(text)?);
    let given = inputs(&session);
    let whole = session.run(given.clone()).map_err(text)?;
    let mut run = session.start(given.clone(), &RunOptions::new()).map_err(text)?;
    let (mut count, mut longest) = (1, Duration::ZERO);
    let made = loop {
        let began = Instant::now();
        let made = run.advance(Duration::from_millis(1)).map_err(text)?;
        longest = longest.max(began.elapsed());
        match made {
            Some(made) => break made,
            None => count += 1,
        }
    };
    if made != whole || count < 2 {
        return Err(format!("{count} slices, the same: {}", made == whole));
    }
    // A run that is given up leaves nothing behind that others would see.
    for _ in 0..3 {
        let mut run = session.start(given.clone(), &RunOptions::new()).map_err(text)?;
        run.advance(Duration::ZERO).map_err(text)?;
    }
    let names: Vec<String> = session.outputs().iter().map(|port| port.name.clone()).collect();
    let keep: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut run = session.start_on_device(given, &keep, &RunOptions::new()).map_err(text)?;
    let made = loop {
        if let Some(made) = run.advance_on_device(Duration::from_millis(1)).map_err(text)? {
            break made;
        }
    };
    for (value, whole) in made.iter().zip(&whole) {
        let tensor = value.as_device().ok_or("an output is on the host")?;
        let mut read = tensor.start_read(&RunOptions::new()).map_err(text)?;
        let tensor = loop {
            if let Some(tensor) = read.advance(Duration::ZERO).map_err(text)? {
                break tensor;
            }
        };
        if Value::from(tensor) != *whole {
            return Err("what stayed on the GPU is something else".to_string());
        }
    }
    Ok(format!("{count} slices of 1 ms, the longest took {longest:?}"))
}

fn main() {
    if rinfer::adapters().is_empty() {
        println!("{} models skipped: no adapter was found", MODELS.len());
        return;
    }
    let mut failed = 0;
    for (name, tolerance) in MODELS {
        match compare(name, *tolerance) {
            Ok(places) => println!("{name}: as on the CPU, {places}"),
            Err(e) => {
                failed += 1;
                println!("{name}: FAILED: {e}");
            }
        }
    }
    let others = [
        ("mnist, profiled", profile("mnist")),
        ("a cache on the GPU", decode()),
        ("ultraface-rfb-320, in slices", slices("ultraface-rfb-320")),
    ];
    for (name, result) in others {
        failed += result.is_err() as usize;
        let result = result.unwrap_or_else(|e| format!("FAILED: {e}"));
        println!("{name}: {result}");
    }
    assert_eq!(failed, 0, "{failed} models differ");
}
