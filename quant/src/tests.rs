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
        let pixel = |p: usize| (((p * 31 + i * 97) * 2654435761 >> 7) % 17) as f32 / 16.0;
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
