//! The targets: what each does with bytes.

use clap::Parser;
use rinfer::{DType, Fact, Kind, Model, Session, Tensor, Type};
use rinfer_cli::formats::{npy, npz, pb, safetensors};
use rinfer_cli::{args::Cli, context, fill::Fill};
use rinfer_onnx_proto as proto;
use rinfer_quant::{Config, Format, Job, Mode, Rounding};

use crate::hostile::{agree::agree, generate, mutate};

/// Bytes as a protobuf message: decoded, and written again, it is the same message.
pub fn reader(data: &[u8]) {
    let Ok(model) = proto::decode(data.to_vec().into()) else { return };
    let again = proto::encode(&model);
    // NaN is unequal to itself: what is written twice is compared, not what is read.
    let twice = proto::decode(again.clone().into()).map(|model| proto::encode(&model));
    assert_eq!(twice.as_deref(), Ok(&again[..]));
}

/// Bytes as a model file: loaded, optimized and run under strict limits.
pub fn load(data: &[u8]) {
    if let Err(defect) = mutate::survive(data) {
        panic!("{defect}");
    }
}

/// A generated model gives one answer, optimized with vectors or plain and scalar.
pub fn answers(data: &[u8]) {
    if let Err(difference) = agree(&generate::model(data, 24)) {
        panic!("{difference}");
    }
}

/// A generated model, optimized and written as ONNX, is read again and means the same.
pub fn optimizer(data: &[u8]) {
    let file = generate::model(data, 24);
    let Ok(mut model) = Model::from_bytes(file.clone()) else { return };
    model.optimize().expect("passes keep the graph right");
    let Ok(written) = model.to_onnx() else { return };
    if agree(&file) == Ok(true) {
        assert_eq!(agree(&written), Ok(true));
    }
}

/// Halves for an input.
fn halves(port: &rinfer::Port) -> (String, Tensor) {
    let sizes: Vec<usize> = port.shape.iter().flatten().filter_map(|d| d.size()).collect();
    let n: usize = sizes.iter().product();
    (port.name.clone(), Tensor::from_slice(&sizes, &vec![0.5f32; n]))
}

/// What was inferred of every value of a generated model is what running makes of it.
pub fn shapes(data: &[u8]) {
    let file = generate::model(data, 16);
    let Ok(model) = Model::from_bytes(file.clone()) else { return };
    let made = model.graph().nodes().flat_map(|(_, node)| node.outputs.iter().copied());
    let named: Vec<_> =
        made.filter_map(|v| Some((model.graph().name(v)?.to_string(), v))).collect();
    let builder = Session::builder().optimize(false).limits(mutate::limits());
    let names = named.iter().map(|(name, _)| name.clone());
    let Ok(session) = builder.outputs(names).load_bytes(file) else { return };
    let Ok(values) = session.run(session.inputs().iter().map(halves)) else { return };
    for ((name, v), value) in named.iter().zip(&values) {
        let (said, found) = (model.graph().fact(*v), Fact::of_value(value).forget());
        assert!(said.compatible(&found), "{name}: {said} was inferred, {found} was made");
    }
}

/// External data of any location, offset and length gives bytes below the folder or an error.
#[cfg(unix)]
pub fn external(data: &[u8]) {
    use crate::hostile::wire::{self, Graph, elem, node, open, value};

    let dir = std::env::temp_dir().join(format!("rinfer-fuzz-{}", std::process::id()));
    let folder = dir.join("model");
    if !folder.exists() {
        std::fs::create_dir_all(folder.join("sub")).expect("a folder for temporary files");
        std::fs::write(folder.join("w.bin"), [1u8; 64]).expect("it can be written");
        std::fs::write(dir.join("secret.bin"), [7u8; 64]).expect("it can be written");
        std::os::unix::fs::symlink(dir.join("secret.bin"), folder.join("link")).expect("links");
    }
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or("").to_string();
    let (location, offset, length) = (part(), part(), part());
    let mut entries = vec![("location", location.as_str())];
    entries.extend((!offset.is_empty()).then_some(("offset", offset.as_str())));
    entries.extend((!length.is_empty()).then_some(("length", length.as_str())));
    let graph = Graph {
        nodes: vec![node("Add", &["x", "w"], &["y"], &[])],
        weights: vec![wire::external("w", elem::U8, &[16], &entries)],
        inputs: vec![value("x", elem::U8, &[16])],
        outputs: vec![open("y", elem::U8)],
    };
    let path = folder.join("model.onnx");
    std::fs::write(&path, graph.file()).expect("it can be written");
    let Ok(model) = Model::open(&path) else { return };
    for v in model.graph().values() {
        if let Some(t) = model.graph().tensor(v) {
            assert!(!t.as_bytes().contains(&7), "{location:?} gave the secret");
        }
    }
}

/// Bytes as .npy, .npz, .safetensors and .pb: tensors or errors.
pub fn files(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Ok(t) = npy::decode(data) {
                let again = npy::encode(&t.clone().into()).and_then(|bytes| npy::decode(&bytes));
                assert_eq!(again.as_ref(), Ok(&t));
            }
        }
        1 => drop(npz::decode(data)),
        2 => drop(safetensors::pick(data.to_vec(), None)),
        _ => drop(pb::decode(data.to_vec(), &Type::Tensor(DType::F32))),
    }
}

/// A generated model is quantized or refused; what was written loads and runs, or is refused too.
pub fn quantize(data: &[u8]) {
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
    if let Err(e) = session.run(session.inputs().iter().map(halves)) {
        assert_ne!(e.kind(), Kind::Internal, "{e}");
    }
}

/// The kernels that the GPU backend writes for a generated model are valid WGSL.
#[cfg(feature = "wgpu")]
pub fn kernels(data: &[u8]) {
    let Ok(mut model) = Model::from_bytes(generate::model(data, 16)) else { return };
    for _ in 0..2 {
        crate::wgsl::check(model.graph()).expect("kernels are valid");
        if model.optimize().is_err() {
            return;
        }
    }
}

/// What stands on the command line after --input, --dim, --shape and limits is parsed or refused.
pub fn inputs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = Fill::parse(&text).map(|fill| fill.map(drop));
    let _ = context::parse_dims(&[text.to_string()]);
    let words = ["rinfer", "run"].into_iter().chain(text.split('\n'));
    let _ = Cli::try_parse_from(words);
}
