//! A generated model is quantized or refused; what was written loads and runs, or is refused too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer::{Kind, Model, Session, Tensor};
use rinfer_quant::{Config, Format, Job, Mode, Rounding};
use rinfer_tests::hostile::{generate, mutate};

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let file = generate::model(data, 24);
    let Ok(model) = Model::from_bytes(file) else { return };
    let mode = [Mode::Auto, Mode::Dynamic, Mode::WeightOnly, Mode::Half][usize::from(how % 4)];
    let config = Config {
        mode,
        bits: if how & 4 == 0 { 8 } else { 4 },
        block: [16, 32, 128][usize::from(how / 8 % 3)],
        symmetric_blocks: how & 64 != 0,
        rounding: Rounding::Nearest,
        format: (how & 128 != 0).then_some(Format::Qdq),
        ..Config::default()
    };
    let written = Job::new(model, config).and_then(|job| {
        let choices: Vec<_> = job.decide().into_iter().map(|d| d.choice).collect();
        job.write(&choices)
    });
    let model = match written {
        Ok(model) => model,
        Err(e) => return assert_ne!(e.kind(), Kind::Internal, "{e}"),
    };
    let session = match Session::builder().threads(1).limits(mutate::limits()).build(model) {
        Ok(session) => session,
        Err(e) => return assert_ne!(e.kind(), Kind::Internal, "{e}"),
    };
    let filled = |port: &rinfer::Port| {
        let sizes: Vec<usize> = port.shape.iter().flatten().filter_map(|d| d.size()).collect();
        let n: usize = sizes.iter().product();
        (port.name.clone(), Tensor::from_slice(&sizes, &vec![0.5f32; n]))
    };
    let inputs: Vec<_> = session.inputs().iter().map(filled).collect();
    if let Err(e) = session.run(inputs) {
        assert_ne!(e.kind(), Kind::Internal, "{e}");
    }
});
