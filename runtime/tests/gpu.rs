//! Trained models on the GPU against the CPU, on the same random inputs.
//!
//! Without an adapter nothing runs, and that is said.

use rinfer::{DType, Device, Error, Profiler, RunOptions, Session, Tensor, Value};

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
    match profile("mnist") {
        Ok(what) => println!("mnist, profiled: {what}"),
        Err(e) => {
            failed += 1;
            println!("mnist, profiled: FAILED: {e}");
        }
    }
    assert_eq!(failed, 0, "{failed} models differ");
}
