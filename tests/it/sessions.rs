//! What sessions promise beyond right answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rinfer::{CancelToken, Kind, Profiler, RunOptions, Session, Tensor};

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).join("model.onnx")
}

fn digit(batch: usize) -> Tensor {
    let pixels: Vec<f32> = (0..batch * 64).map(|i| (i * 7 % 17) as f32).collect();
    Tensor::from_slice(&[batch, 1, 8, 8], &pixels)
}

#[test]
fn threads_share_one_session_and_agree_bit_for_bit() {
    let session = Session::load(model("digits")).unwrap();
    let alone: Vec<_> = (1..5).map(|b| session.run([("image", digit(b))]).unwrap()).collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for i in 0..100 {
                    let b = 1 + i % 4;
                    assert_eq!(session.run([("image", digit(b))]).unwrap(), alone[b - 1]);
                }
            });
        }
    });
}

#[test]
fn thread_counts_agree_bit_for_bit() {
    let run = |threads| {
        let session = Session::builder().threads(threads).load(model("ultraface-rfb-320")).unwrap();
        let x: Vec<f32> = (0..3 * 240 * 320).map(|i| (i % 255) as f32 / 255.0 - 0.5).collect();
        session.run([("input", Tensor::from_slice(&[1, 3, 240, 320], &x))]).unwrap()
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

#[test]
fn wrong_inputs_are_named() {
    let session = Session::load(model("digits")).unwrap();
    let message = |inputs: Vec<(&str, Tensor)>| session.run(inputs).unwrap_err().to_string();
    assert_eq!(message(vec![]), "input \"image\": is missing");
    assert_eq!(
        message(vec![("imgae", digit(1))]),
        "input \"imgae\": there is no such input, did you mean \"image\"?"
    );
    assert_eq!(
        message(vec![("image", Tensor::vector(&[1i64]))]),
        "input \"image\": is tensor(int64), the model needs tensor(float)"
    );
    assert!(
        message(vec![("image", Tensor::vector(&[1f32]))])
            .contains("has shape [1], the model needs")
    );
}

#[test]
fn a_cancelled_run_stops_and_the_session_lives_on() {
    let session = Session::load(model("digits")).unwrap();
    let token = CancelToken::new();
    token.cancel();
    let options = RunOptions::new().cancel(token);
    let error = session.run_with([("image", digit(1))], &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    let options = RunOptions::new().timeout(Duration::ZERO);
    let error = session.run_with([("image", digit(1))], &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Deadline);
    assert!(session.run([("image", digit(1))]).is_ok());
}

#[test]
fn profiles_see_every_node_and_export_as_a_trace() {
    let session = Session::load(model("digits")).unwrap();
    let profiler = Profiler::new();
    session.run_with([("image", digit(1))], &RunOptions::new().profile(&profiler)).unwrap();
    let events = profiler.events();
    assert!(events.iter().any(|e| e.op == "Conv" || e.op == "MatMul"), "{events:?}");
    let trace = profiler.chrome_trace();
    assert!(trace.starts_with("{\"displayTimeUnit\"") && trace.contains("\"ph\":\"X\""));
}

#[test]
fn values_inside_the_graph_can_be_asked_for() {
    let plain = Session::load(model("digits")).unwrap();
    let graph = rinfer::Model::open(model("digits")).unwrap();
    let inner = graph.graph().nodes().next().unwrap().1.outputs[0];
    let name = graph.graph().name(inner).unwrap().to_string();
    let session =
        Session::builder().outputs([name.clone(), "scores".into()]).load(model("digits")).unwrap();
    let outputs = session.run([("image", digit(2))]).unwrap();
    assert_eq!(outputs.len(), 2);
    assert_eq!(session.outputs()[0].name, name);
    assert_eq!(outputs[1], plain.run([("image", digit(2))]).unwrap()[0]);
}

#[test]
fn an_attribute_that_a_custom_operator_does_not_read_is_an_error() {
    struct Same;
    impl rinfer::CustomOp for Same {
        fn name(&self) -> &str {
            "Same"
        }
        fn infer(&self, inputs: &rinfer::Inputs<'_>) -> Result<rinfer::Facts, rinfer::Reason> {
            Ok([inputs.get(0)?.clone()].into_iter().collect())
        }
        fn run(&self, x: &[Option<rinfer::Value>]) -> Result<Vec<rinfer::Value>, rinfer::Reason> {
            Ok(x.iter().flatten().cloned().collect())
        }
    }
    let load = |text| {
        let op = std::sync::Arc::new(Same);
        Session::builder().custom_op("my", "Same", op).load_text(text).map(|_| ())
    };
    load("x: float[n]; y = my.Same(x); → y").unwrap();
    let error = load("x: float[n]; y = my.Same<strength = 3>(x); → y").unwrap_err().to_string();
    assert!(error.contains("strength"), "{error}");
}

#[test]
fn a_chain_of_200000_nodes_is_loaded_and_run() {
    const NODES: usize = 200_000;
    let mut text = String::from("x0: float[3]\n");
    for i in 0..NODES {
        let op = ["Neg", "Abs", "Relu", "Neg"][i % 4];
        text.push_str(&format!("x{} = {op}(x{i})\n", i + 1));
    }
    text.push_str(&format!("→ x{NODES}\n"));
    let bytes = rinfer::Model::from_text(&text).unwrap().to_onnx().unwrap();
    let began = std::time::Instant::now();
    let session = Session::builder().load_bytes(bytes).unwrap();
    let loaded = began.elapsed();
    let y = session.run([("x0", Tensor::vector(&[1f32, -2.0, 3.0]))]).unwrap();
    println!("{NODES} nodes: loaded in {loaded:?}, answered after {:?}", began.elapsed());
    assert_eq!(y[0].as_tensor().unwrap().as_slice::<f32>(), [-1.0, -2.0, -3.0]);
}

#[test]
fn memory_is_known_before_running() {
    let session = Session::load(model("digits")).unwrap();
    let one = session.memory(&[("image", &[1, 1, 8, 8])]).unwrap();
    let many = session.memory(&[("image", &[64, 1, 8, 8])]).unwrap();
    assert!(one.arena > 0 && one.arena <= one.unshared);
    assert!(many.arena > 8 * one.arena && !many.partial);
}
