//! Quantized models answer the same bits on every instruction set that the machine has, as far as
//! they compute in integers: no knob says so, and no float product stands between.

use rinfer::{Model, Session};

use crate::calibrate::Sample;
use crate::scheme::Scheme;
use crate::tests::{digits, pictures, planted, rows, running};
use crate::{Config, Job, Mode};

/// The model in these settings, calibrated by these samples.
fn quantized(model: Model, config: Config, samples: &Vec<Sample>) -> Model {
    let mut job = Job::new(model, config).unwrap();
    if job.config.mode == Mode::Static {
        job.calibrate(samples, &running()).unwrap();
    }
    let choices: Vec<_> = job.decide().into_iter().map(|d| d.choice).collect();
    assert!(choices.iter().any(|choice| choice.form.is_integer()));
    Model::from_bytes(job.write(&choices).unwrap().to_onnx().unwrap()).unwrap()
}

/// The bits of what the model makes on each instruction set that there is.
fn bits(model: &Model, sample: &Sample) -> Vec<(&'static str, Vec<u32>)> {
    let mut all = Vec::new();
    for isa in ["scalar", "avx2", "avx512", "neon"] {
        let session = Session::builder().threads(1).isa(isa);
        let Ok(session) = session.build(model.clone()) else { continue };
        let made = session.run(sample.clone()).unwrap();
        let y = made[0].as_tensor().unwrap().as_slice::<f32>();
        all.push((isa, y.iter().map(|y| y.to_bits()).collect()));
    }
    all
}

#[test]
fn every_processor_answers_the_same_bits() {
    let (rows, pictures) = (rows(6), pictures(4));
    let of = |mode, activations, per_channel| {
        let mut config = Config { mode, activations, ..Config::default() };
        config.weight.per_channel = per_channel;
        config
    };
    let (unsigned, signed) = (Scheme::UINT8, Scheme::INT8);
    let cases = [
        (digits(), &pictures, of(Mode::Static, unsigned, true)),
        (digits(), &pictures, of(Mode::Static, signed, true)),
        (digits(), &pictures, of(Mode::Static, unsigned, false)),
        (planted(&[2, 5], 50.0), &rows, of(Mode::Static, unsigned, true)),
        (planted(&[2, 5], 50.0), &rows, of(Mode::Static, signed, false)),
        (planted(&[2, 5], 50.0), &rows, of(Mode::Dynamic, unsigned, true)),
        (planted(&[], 1.0), &rows, of(Mode::Dynamic, unsigned, false)),
    ];
    for (case, (model, samples, config)) in cases.into_iter().enumerate() {
        let model = quantized(model, config, samples);
        let found = bits(&model, &samples[0]);
        assert!(found.len() > 1, "one instruction set alone says nothing");
        for (isa, y) in &found[1..] {
            assert_eq!(*y, found[0].1, "case {case}: {isa} is not {}", found[0].0);
        }
    }
}
