//! What quantization leaves of the accuracy of models that were trained here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rinfer::{DType, Model, Session, Tensor, Value};
use rinfer_cli::formats::npz;

/// Examples that calibrate; all others are held out.
const CALIBRATE: usize = 256;

/// A trained model, and examples of its task.
struct Subject {
    model: PathBuf,
    /// Its input's name.
    input: String,
    x: Tensor,
    labels: Vec<i64>,
    dir: PathBuf,
}

impl Subject {
    fn new(name: &str, test: &str) -> Subject {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("quantized/trained");
        let model = folder.join(format!("{name}.onnx"));
        let arrays = npz::decode(&std::fs::read(folder.join(format!("{name}.npz"))).unwrap());
        let arrays = arrays.unwrap();
        let of = |key: &str| arrays.iter().find(|a| a.0 == key).unwrap().1.clone();
        let input = Model::open(&model).unwrap().inputs()[0].name.clone();
        let dir = format!("rinfer-trained-{test}-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        let (x, labels) = (of(&input), of("labels").as_slice::<i64>().to_vec());
        let subject = Subject { model, input, x, labels, dir };
        let labels = Tensor::from_slice(of("labels").shape(), &subject.labels);
        let first = [
            (subject.input.clone(), Value::from(rows(&subject.x, 0, CALIBRATE))),
            ("labels".into(), Value::from(rows(&labels, 0, CALIBRATE))),
        ];
        std::fs::write(subject.dir.join("calib.npz"), npz::encode(&first).unwrap()).unwrap();
        subject
    }

    /// How many points of a hundred of its accuracy the model loses.
    fn loses(&self, settings: &[&str]) -> f64 {
        let path = |file: &str| self.dir.join(file).display().to_string();
        let (calib, out) = (path("calib.npz"), path("q.onnx"));
        let model = self.model.display().to_string();
        let fixed = ["rinfer", "-q", "quantize", &*model, "-o", &*out, "--overwrite", "--no-check"];
        let given = ["--calib", &*calib];
        let args = fixed.iter().chain(&given).chain(settings).map(OsString::from);
        let done = format!("{:?}", rinfer_cli::command(args));
        assert_eq!(done, format!("{:?}", std::process::ExitCode::SUCCESS), "{settings:?}");
        self.accuracy(&self.model) - self.accuracy(Path::new(&out))
    }

    /// In percent, of the labels held out that count.
    fn accuracy(&self, model: &Path) -> f64 {
        let n = self.x.shape()[0];
        let each = self.labels.len() / n;
        let session = Session::load(model).unwrap();
        let x = rows(&self.x, CALIBRATE, n);
        let logits = session.run([(self.input.as_str(), x)]).unwrap();
        let logits = logits[0].as_tensor().unwrap();
        let classes = *logits.shape().last().unwrap();
        let (mut right, mut counted) = (0, 0);
        let labels = &self.labels[CALIBRATE * each..];
        for (row, &label) in logits.as_slice::<f32>().chunks(classes).zip(labels) {
            let best = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            counted += i32::from(label >= 0);
            right += i32::from(best as i64 == label);
        }
        100.0 * f64::from(right) / f64::from(counted)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Rows of a tensor.
fn rows(t: &Tensor, from: usize, to: usize) -> Tensor {
    let each: usize = t.shape()[1..].iter().product();
    let mut shape = t.shape().to_vec();
    shape[0] = to - from;
    match t.dtype() {
        DType::F32 => Tensor::from_slice(&shape, &t.as_slice::<f32>()[from * each..to * each]),
        _ => Tensor::from_slice(&shape, &t.as_slice::<i64>()[from * each..to * each]),
    }
}

#[test]
fn trained_models_keep_their_accuracy() {
    let int4 = ["--mode", "weight-only", "--weights", "int4-g32", "--round"];
    let settings: [(&str, Vec<&str>, f64); 5] = [
        ("dynamic", vec!["--mode", "dynamic"], 0.8),
        ("static", vec!["--mode", "static"], 0.8),
        ("hqq", [&int4[..], &["hqq"]].concat(), 3.0),
        ("gptq", [&int4[..], &["gptq"]].concat(), 2.0),
        ("awq", [&int4[..], &["awq"]].concat(), 2.5),
    ];
    let subjects = ["encoder", "decoder", "tabular"].map(|name| Subject::new(name, "bars"));
    for (name, settings, most) in &settings {
        for subject in &subjects {
            let drop = subject.loses(settings);
            assert!(drop <= *most, "{name}, {}: {drop:.2} points", subject.model.display());
        }
    }
}

#[test]
fn a_model_trained_with_rounding_stays_as_it_is() {
    let mut subject = Subject::new("encoder", "qat");
    let float = subject.accuracy(&subject.model);
    subject.model = subject.model.with_file_name("encoder-qat.onnx");
    assert!(float - subject.accuracy(&subject.model) < 0.5);
    let same = subject.loses(&["--mode", "static", "--embeddings", "keep"]);
    assert_eq!(same, 0.0);
}
