//! `rinfer quantize` as a command: samples from folders and arrays, reports, exit codes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rinfer::{Model, Tensor, Value};
use rinfer_cli::formats::npz;

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits")
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("rinfer-quantize-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs the command; its exit code as text.
fn rinfer(args: &[&str]) -> String {
    let args = ["rinfer", "-q", "quantize"].iter().chain(args).map(OsString::from);
    format!("{:?}", rinfer_cli::command(args))
}

fn code(n: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(n))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_folder_of_test_data_calibrates_and_the_report_names_every_layer() {
    let dir = folder("static");
    let (model, out) = (text(&digits().join("model.onnx")), text(&dir.join("q.onnx")));
    let report = text(&dir.join("q.json"));
    let calib = text(&digits());
    let args = [&*model, "-o", &out, "--mode", "static", "--calib", &calib, "--report", &report];
    assert_eq!(rinfer(&args), code(0));
    let json = std::fs::read_to_string(&report).unwrap();
    assert_eq!(json.matches("\"why\"").count(), 3, "{json}");
    assert!(json.contains("\"integer_macs_share\": 1.0"), "{json}");
    let metadata = Model::open(&out).unwrap().info().metadata.clone();
    assert!(metadata.contains(&("rinfer.quant.mode".into(), "Static".into())), "{metadata:?}");
    // What exists is not replaced unless asked.
    assert_eq!(rinfer(&args), code(2));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn arrays_are_cut_into_samples_and_labels_are_the_right_answers() {
    let dir = folder("search");
    let (model, out) = (text(&digits().join("model.onnx")), text(&dir.join("q.onnx")));
    let calib = dir.join("digits.npz");
    let set = digits().join("test_data_set_0");
    let port = Model::open(&model).unwrap().inputs()[0].clone();
    let images = std::fs::read(set.join("input_0.pb")).unwrap();
    let images = rinfer_cli::formats::pb::decode(images, &port.ty).unwrap();
    let rows = images.shape().unwrap()[0];
    let labels = Value::from(Tensor::vector(&vec![11i64; rows]));
    let arrays = [("image".to_string(), images), ("labels".to_string(), labels)];
    std::fs::write(&calib, npz::encode(&arrays).unwrap()).unwrap();
    let calib = text(&calib);
    let mut args = vec![&*model, "-o", &out, "--mode", "static", "--calib", &calib];
    args.extend(["--metric", "top1", "--max-drop", "1pp"]);
    // No answer is right, before or after: nothing drops, and so few samples do not show it.
    assert_eq!(rinfer(&args), code(1));
    assert!(dir.join("q.onnx.partial").exists() && !dir.join("q.onnx").exists());
    args.push("--accept-measured");
    assert_eq!(rinfer(&args), code(0));
    assert!(dir.join("q.onnx").exists());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn ranges_are_kept_in_a_file_and_give_the_same_model() {
    let dir = folder("ranges");
    let (model, calib) = (text(&digits().join("model.onnx")), text(&digits()));
    let ranges = text(&dir.join("ranges.json"));
    let (a, b) = (text(&dir.join("a.onnx")), text(&dir.join("b.onnx")));
    assert_eq!(rinfer(&["calibrate", &model, "--calib", &calib, "-o", &ranges]), code(0));
    // Ranges say nothing of single channels, by which outliers would be moved.
    let settings = ["--mode", "static", "--smooth", "off"];
    for (made, from) in [(&a, ["--calib", &calib]), (&b, ["--ranges", &ranges])] {
        let all = [&[&*model, "-o", made][..], &settings, &from].concat();
        assert_eq!(rinfer(&all), code(0));
    }
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_does_not_fit_together_is_an_error_of_usage() {
    let dir = folder("usage");
    let (model, out) = (text(&digits().join("model.onnx")), text(&dir.join("q.onnx")));
    for wrong in [
        &["--mode", "static"][..],
        &["--exclude", "no such layer"],
        &["--weights", "int4"],
        &["--max-drop", "0.5pp"],
        &["--mode", "weight-only", "--round", "gptq"],
        &["--format", "matmulnbits"],
        &["--granularity", "block=32"],
        &["--mode", "dynamic", "--format", "qdq"],
    ] {
        let mut args = vec![&*model, "-o", &out];
        args.extend(wrong);
        assert_eq!(rinfer(&args), code(2), "{wrong:?}");
    }
    assert!(!dir.join("q.onnx").exists());
    std::fs::remove_dir_all(dir).unwrap();
}
