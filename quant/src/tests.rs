//! Whole models, quantized and run beside the originals.

use rinfer::{Model, RunOptions, Session, Tensor, Value};

use crate::calibrate::Running;
use crate::{Config, Decision, Form, Job, Mode, Sample};

pub(crate) fn running() -> Running<'static> {
    Running { threads: 1, options: RunOptions::new(), progress: &|_, _, _| {} }
}

pub(crate) fn digits() -> Model {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/models/digits/model.onnx");
    Model::open(file).unwrap()
}

/// Numbers that look like a picture of ink.
pub(crate) fn pictures(n: usize) -> Vec<Sample> {
    let picture = |i: usize| {
        let pixel = |p: usize| ((((p * 31 + i * 97) * 2654435761) >> 7) % 17) as f32 / 16.0;
        let pixels: Vec<f32> = (0..2 * 64).map(pixel).collect();
        vec![("image".to_string(), Value::from(Tensor::from_slice(&[2, 1, 8, 8], &pixels)))]
    };
    (0..n).map(picture).collect()
}

pub(crate) fn run(model: &Model, sample: &Sample) -> Vec<f32> {
    let session = Session::builder().threads(1).build(model.clone()).unwrap();
    let made = session.run(sample.clone()).unwrap();
    made[0].as_tensor().unwrap().as_slice::<f32>().to_vec()
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| *x as f64 * *y as f64).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn quantized(config: Config) -> (Job, Vec<Decision>, Model) {
    let mut job = Job::new(digits(), config).unwrap();
    if job.config.mode == Mode::Static {
        job.calibrate(&pictures(8), &running()).unwrap();
    }
    let decisions = job.decide();
    let choices: Vec<_> = decisions.iter().map(|d| d.choice.clone()).collect();
    let written = job.write(&choices).unwrap();
    // What is written is read again: nothing but ONNX may stand in it.
    let again = Model::from_bytes(written.to_onnx().unwrap()).unwrap();
    (job, decisions, again)
}

#[test]
fn every_mode_keeps_the_digits() {
    let sample = &pictures(20)[17];
    let want = run(&digits(), sample);
    for (mode, bits, least) in [
        (Mode::Dynamic, 8, 0.9995),
        (Mode::Static, 8, 0.999),
        (Mode::WeightOnly, 8, 0.9995),
        (Mode::WeightOnly, 4, 0.99),
        (Mode::Auto, 8, 0.9995),
    ] {
        let (_, decisions, model) = quantized(Config { mode, bits, ..Config::default() });
        assert_eq!(decisions.len(), 3);
        let cosine = cosine(&want, &run(&model, &sample.clone()));
        assert!(cosine > least, "{mode:?} {bits}: {cosine}");
    }
}

#[test]
fn a_static_model_runs_in_integers() {
    let (_, decisions, model) = quantized(Config { mode: Mode::Static, ..Config::default() });
    assert!(decisions.iter().all(|d| d.choice.form.is_integer()));
    let session = Session::builder().threads(1).build(model).unwrap();
    let ops: Vec<_> = session.graph().nodes().map(|(_, n)| n.op.name()).collect();
    for op in ["QLinearConv", "QuantizedMatMul"] {
        assert!(ops.contains(&op), "{ops:?}");
    }
    assert!(!ops.contains(&"Conv"), "{ops:?}");
}

#[test]
fn the_order_of_samples_and_a_file_of_ranges_change_nothing() {
    let config = Config { mode: Mode::Static, ..Config::default() };
    let (job, decisions, _) = quantized(config.clone());
    let mut again = Job::new(digits(), config).unwrap();
    again.load_ranges(&job.ranges_json()).unwrap();
    let forms = |d: Vec<Decision>| d.into_iter().map(|d| d.choice.form).collect::<Vec<Form>>();
    assert_eq!(forms(again.decide()), forms(decisions));
}

#[test]
fn what_is_excluded_stays_and_what_matches_nothing_is_an_error() {
    let name = Job::new(digits(), Config::default()).unwrap().layers[0].name.clone();
    let exclude = vec![crate::config::pattern(&format!("^{}$", regex::escape(&name))).unwrap()];
    let job = Job::new(digits(), Config { exclude, ..Config::default() }).unwrap();
    let decisions = job.decide();
    assert_eq!(decisions[0].choice.form, Form::Float);
    assert!(decisions[0].why.contains("excluded by the name"));
    let exclude = vec![crate::config::pattern("no such layer").unwrap()];
    let error = Job::new(digits(), Config { exclude, ..Config::default() }).err().unwrap();
    assert!(error.to_string().contains("matches no layer"), "{error}");
    let exclude_ops = vec!["LSTM".to_string()];
    let error = Job::new(digits(), Config { exclude_ops, ..Config::default() }).err().unwrap();
    assert!(error.to_string().contains("there are Conv, Gemm"), "{error}");
}

/// Eight products with Relu between them; the outputs of some have one channel `by` times as
/// large, which the next weight's row makes up for: the same function, harder to quantize.
pub(crate) fn planted(layers: &[usize], by: f32) -> Model {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let n = 48;
    let mut g = rinfer::Graph::new();
    let mut x = g.input("x", rinfer::Fact::ranked(rinfer::DType::F32, 2));
    for layer in 0..8 {
        let mut w: Vec<f32> = (0..n * n).map(|_| uniform() * 0.5).collect();
        if layers.contains(&layer) {
            (0..n).for_each(|i| w[i * n + 5] *= by);
        }
        if layer > 0 && layers.contains(&(layer - 1)) {
            (0..n).for_each(|i| w[5 * n + i] /= by);
        }
        let w = g.constant(Tensor::from_slice(&[n, n], &w));
        x = g.push1(rinfer::graph::ops::MatMul::PLAIN, &[x, w]).unwrap();
        g.set_name(x, &format!("product_{layer}"));
        if layer < 7 {
            let relu = rinfer::graph::ops::Unary(rinfer::graph::ops::UnaryFn::Relu);
            x = g.push1(relu, &[x]).unwrap();
            g.set_name(x, &format!("relu_{layer}"));
        }
    }
    g.output(x);
    Model::from_graph(g)
}

pub(crate) fn rows(n: usize) -> Vec<Sample> {
    let mut state = 99u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.3
    };
    let row = |_| {
        let x: Vec<f32> = (0..4 * 48).map(|_| uniform()).collect();
        vec![("x".to_string(), Value::from(Tensor::from_slice(&[4, 48], &x)))]
    };
    (0..n).map(row).collect()
}

fn ask(metric: crate::metric::Metric, goal: crate::metric::Goal) -> crate::search::Ask<'static> {
    crate::search::Ask {
        metric,
        goal,
        command: None,
        labels: &|_| None,
        budget: None,
        seed: 0,
        cache: crate::search::Cache::default(),
        keep: &|_| {},
    }
}

fn calibrated(model: Model, samples: &Vec<Sample>, config: Config) -> (Job, Vec<Decision>) {
    let mut job = Job::new(model, config).unwrap();
    job.watch_channels = true;
    job.calibrate(samples, &running()).unwrap();
    let decisions = job.decide();
    (job, decisions)
}

fn naive() -> Config {
    let mut config = Config { mode: Mode::Static, ..Config::default() };
    config.method = crate::observe::Method::MinMax;
    config.weight.per_channel = false;
    config
}

#[test]
fn a_probe_computes_what_the_written_model_does() {
    let samples = pictures(6);
    let config = Config { mode: Mode::Static, ..Config::default() };
    let (job, decisions) = calibrated(digits(), &samples, config);
    let probe = crate::probe::Probe::new(&job, &running()).unwrap();
    for (i, decision) in decisions.iter().enumerate() {
        let form = probe.add(i, &decision.choice);
        probe.set(i, form);
    }
    let choices: Vec<_> = decisions.into_iter().map(|d| d.choice).collect();
    let written = job.write(&choices).unwrap();
    for sample in &samples {
        let got = probe.run(sample.clone(), &RunOptions::new()).unwrap();
        assert_eq!(got[0].as_tensor().unwrap().as_slice::<f32>(), run(&written, sample));
    }
}

#[test]
fn ranks_are_those_of_whole_runs() {
    let samples = rows(6);
    let (job, decisions) = calibrated(planted(&[2, 5], 50.0), &samples, naive());
    let (ranked, used) =
        crate::search::sensitivity(&job, &decisions, &samples, &running()).unwrap();
    assert!((1..=crate::search::RANKED).contains(&used));
    let probe = crate::probe::Probe::new(&job, &running()).unwrap();
    for found in ranked {
        let mut sum = 0.0;
        for sample in &samples[..used] {
            let want = probe.run(sample.clone(), &RunOptions::new()).unwrap();
            probe.set(found.layer, probe.add(found.layer, &decisions[found.layer].choice));
            let got = probe.run(sample.clone(), &RunOptions::new()).unwrap();
            probe.set(found.layer, 0);
            sum += crate::metric::damage(&want, &got);
        }
        let mean = sum / used as f64;
        assert!((found.damage - mean).abs() <= 1e-12 * mean, "{} {mean}", found.damage);
    }
}

#[test]
fn the_search_finds_the_layers_that_were_made_hard() {
    use crate::metric::{Goal, Metric};
    let samples = rows(24);
    let (job, decisions) = calibrated(planted(&[2, 5], 300.0), &samples, naive());
    let asked = ask(Metric::Cosine, Goal::Drop(0.5));
    let found = crate::search::search(&job, &decisions, &samples, &running(), asked).unwrap();
    assert!(found.reached, "{found:?}");
    let changed: Vec<&str> = job
        .layers
        .iter()
        .zip(found.decisions.iter().zip(&decisions))
        .filter(|(_, (new, old))| new.choice.form != old.choice.form)
        .map(|(layer, _)| layer.name.as_str())
        .collect();
    // Products 2 and 5 make the large channels, 3 and 6 read them.
    let expected = ["product_2", "product_3", "product_5", "product_6"];
    assert!(changed.iter().all(|c| expected.contains(c)), "{changed:?}");
    assert!(["product_2", "product_5"].iter().all(|e| changed.contains(e)), "{changed:?}");
    let integer = found.decisions.iter().filter(|d| d.choice.form.is_integer()).count();
    assert!(integer >= 6, "{:?}", found.decisions);
    // What was measured once is not measured again, and leads to the same.
    let (evaluations, _) = found.evaluations;
    assert!(evaluations < 20, "{evaluations}");
}

#[test]
fn what_was_measured_is_not_measured_again() {
    use crate::metric::{Goal, Metric};
    let samples = rows(8);
    let (job, decisions) = calibrated(planted(&[2], 300.0), &samples, naive());
    let kept = std::cell::RefCell::new(crate::search::Cache::default());
    let keep = |cache: &crate::search::Cache| *kept.borrow_mut() = cache.clone();
    let mut asked = ask(Metric::Cosine, Goal::Drop(0.5));
    asked.keep = &keep;
    let first = crate::search::search(&job, &decisions, &samples, &running(), asked).unwrap();
    let cache = crate::search::Cache::from_json(&kept.borrow().to_json());
    let again = crate::search::Ask { cache, ..ask(Metric::Cosine, Goal::Drop(0.5)) };
    let second = crate::search::search(&job, &decisions, &samples, &running(), again).unwrap();
    assert_eq!(second.evaluations, (0, 0));
    assert_eq!(second.searched, first.searched);
}

#[test]
fn smoothing_alone_keeps_what_was_made_hard() {
    let samples = rows(16);
    let model = planted(&[1, 4], 200.0);
    let mut config = naive();
    config.weight.per_channel = true;
    let cosine_of = |config: Config| {
        let (job, mut decisions) = calibrated(model.clone(), &samples, config);
        job.refine(&mut decisions, Some(&samples), &running()).unwrap();
        let choices: Vec<_> = decisions.into_iter().map(|d| d.choice).collect();
        let written = job.write(&choices).unwrap();
        cosine(&run(&model, &samples[0]), &run(&written, &samples[0]))
    };
    let plain = cosine_of(config.clone());
    let smooth = cosine_of(Config { smooth: Some(crate::Smooth::Auto), ..config });
    assert!(smooth > 0.999 && smooth > plain, "{plain} {smooth}");
}

#[test]
fn better_codes_lose_less() {
    use crate::Rounding;
    let samples = rows(64);
    let model = planted(&[], 1.0);
    let lost = |rounding: Rounding| {
        let config = Config { mode: Mode::WeightOnly, rounding, ..Config::default() };
        let (job, mut decisions) = calibrated(model.clone(), &samples, config);
        job.refine(&mut decisions, Some(&samples), &running()).unwrap();
        let choices: Vec<_> = decisions.into_iter().map(|d| d.choice).collect();
        let written = job.write(&choices).unwrap();
        let written = Model::from_bytes(written.to_onnx().unwrap()).unwrap();
        let of = |s: &Sample| 1.0 - cosine(&run(&model, s), &run(&written, s));
        samples.iter().take(4).map(of).sum::<f64>()
    };
    let nearest = lost(Rounding::Nearest);
    for rounding in [Rounding::Hqq, Rounding::Gptq, Rounding::Awq] {
        let found = lost(rounding);
        assert!(found < nearest, "{rounding:?}: {found}, nearest {nearest}");
    }
}

#[test]
fn corrected_biases_keep_the_mean() {
    let samples = pictures(12);
    let mut config = naive();
    config.correct_bias = true;
    let (job, mut decisions) = calibrated(digits(), &samples, config);
    let plain: Vec<_> = decisions.iter().map(|d| d.choice.clone()).collect();
    job.refine(&mut decisions, Some(&samples), &running()).unwrap();
    let corrected: Vec<_> = decisions.into_iter().map(|d| d.choice).collect();
    assert!(corrected.iter().all(|c| c.shift.is_some()));
    let off = |choices: &[crate::Choice]| {
        let written = job.write(choices).unwrap();
        let d = |s: &Sample| -> f32 {
            run(&digits(), s).iter().zip(run(&written, s)).map(|(a, b)| a - b).sum()
        };
        samples.iter().map(d).sum::<f32>().abs()
    };
    assert!(off(&corrected) < off(&plain), "{} {}", off(&corrected), off(&plain));
}

#[test]
fn layers_in_bodies_are_quantized_and_calibrated() {
    let text = "x: float[n, 32]; c: bool; w: float[32, 24] = 0.02; v: float[32, 24] = -0.03\n\
        y = If<then_branch = { a = MatMul(x, w); → a }, else_branch = { b = MatMul(x, v); → b }>(c)\n\
        → y";
    let model = Model::from_text(text).unwrap();
    let sample = |c: bool| {
        let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        let c = Tensor::from_slice(&[], &[rinfer::Bool::from(c)]);
        vec![
            ("x".to_string(), Value::from(Tensor::from_slice(&[2, 32], &x))),
            ("c".to_string(), c.into()),
        ]
    };
    // Weights are captured from the graph around.
    let (job, decisions) =
        calibrated(model.clone(), &vec![sample(true)], Config { mode: Mode::Static, ..naive() });
    assert_eq!(decisions.len(), 2, "{:?}", job.left);
    let integer: Vec<bool> = decisions.iter().map(|d| d.choice.form.is_integer()).collect();
    assert_eq!(integer, [true, false]);
    assert!(decisions[1].why.contains("no sample"), "{:?}", decisions[1]);
    let choices: Vec<_> = decisions.into_iter().map(|d| d.choice).collect();
    let written = Model::from_bytes(job.write(&choices).unwrap().to_onnx().unwrap()).unwrap();
    for c in [true, false] {
        assert!(cosine(&run(&model, &sample(c)), &run(&written, &sample(c))) > 0.999);
    }
}

#[test]
fn a_tied_weight_is_stored_once() {
    let mut g = rinfer::Graph::new();
    let ids = g.input("ids", rinfer::Fact::ranked(rinfer::DType::I64, 2));
    let numbers: Vec<f32> = (0..300 * 16).map(|i| ((i * 31 % 97) as f32 - 48.0) / 50.0).collect();
    let table = g.constant(Tensor::from_slice(&[300, 16], &numbers));
    let gather = rinfer::graph::ops::Gather { axis: rinfer::graph::ops::Axis(0) };
    let x = g.push1(gather, &[table, ids]).unwrap();
    let perm = Some([1, 0].into_iter().collect());
    let swapped = g.push1(rinfer::graph::ops::Transpose { perm }, &[table]).unwrap();
    let y = g.push1(rinfer::graph::ops::MatMul::PLAIN, &[x, swapped]).unwrap();
    g.output(y);
    let model = Model::from_graph(g);
    let job = Job::new(model.clone(), Config { mode: Mode::Dynamic, ..Config::default() }).unwrap();
    let decisions = job.decide();
    assert_eq!(decisions.len(), 2);
    let choices: Vec<_> = decisions.into_iter().map(|d| d.choice).collect();
    let bytes = job.write(&choices).unwrap().to_onnx().unwrap();
    assert!(bytes.len() < 300 * 16 + 300 * 8 + 2000, "{} bytes", bytes.len());
    let ids = Tensor::from_slice(&[1, 4], &[3i64, 299, 0, 17]);
    let sample = vec![("ids".to_string(), Value::from(ids))];
    let written = Model::from_bytes(bytes).unwrap();
    assert!(cosine(&run(&model, &sample), &run(&written, &sample)) > 0.999);
}

#[test]
fn memory_that_an_observer_hands_on_is_not_taken_for_another_size() {
    // Values of growing sizes: the memory of small ones would be taken for large ones.
    let text = "x: float[n, 8]; a: float[8, 8] = 0.1; b: float[8, 64] = 0.1; c: float[64, 8] = 0.1\n\
        p = MatMul(x, a); q = MatMul(p, a); r = Relu(q); s = MatMul(r, b); t = Relu(s)\n\
        u = MatMul(t, c); v = MatMul(u, b); w = Relu(v); y = MatMul(w, c); → y";
    let model = Model::from_text(text).unwrap();
    let x: Vec<f32> = (0..40).map(|i| (i as f32).sin()).collect();
    let sample = vec![("x".to_string(), Value::from(Tensor::from_slice(&[5, 8], &x)))];
    let (job, _) = calibrated(model, &vec![sample.clone(), sample], naive());
    assert!(job.ranges.seen.values().all(|o| o.samples() == 2));
}

#[test]
fn a_model_with_codes_passes_through() {
    let (_, _, quantized) = quantized(Config { mode: Mode::Static, ..Config::default() });
    for mode in [Mode::Dynamic, Mode::WeightOnly, Mode::Auto] {
        let job = Job::new(quantized.clone(), Config { mode, ..Config::default() }).unwrap();
        assert!(job.layers.is_empty());
        assert!(job.left.iter().all(|l| l.why.contains("already")), "{:?}", job.left);
        let again = job.write(&[]).unwrap();
        let again = Model::from_bytes(again.to_onnx().unwrap()).unwrap();
        let sample = &pictures(3)[2];
        assert_eq!(run(&again, sample), run(&quantized, sample));
    }
}
