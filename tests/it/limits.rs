//! Limits, deadlines and cancellation: what exceeds one is an error that says so, and the session
//! lives on.

use std::path::Path;
use std::time::{Duration, Instant};

use rinfer::{CancelToken, Error, Kind, Limits, RunOptions, Session, Tensor, Value};
use rinfer_tests::hostile::long::{endless, square};
use rinfer_tests::hostile::wire::{
    self, Graph, Message, body, elem, f32s, i64s, node, open, string, value,
};

fn digits() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits/model.onnx")
}

fn digit(batch: usize) -> Tensor {
    let pixels: Vec<f32> = (0..batch * 64).map(|i| (i * 7 % 17) as f32).collect();
    Tensor::from_slice(&[batch, 1, 8, 8], &pixels)
}

fn load(file: Vec<u8>, limits: Limits) -> Result<Session, Error> {
    Session::builder().limits(limits).load_bytes(file)
}

/// The message of a limit's error.
fn exceeded<T>(result: Result<T, Error>) -> String {
    let error = result.map(|_| ()).expect_err("a limit is exceeded");
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    error.to_string()
}

/// A file of a few bytes with a sparse tensor of `n` elements.
fn sparse(n: u64) -> Vec<u8> {
    let (values, indices) = (f32s("w", &[1], &[1.0]), i64s("i", &[1], &[0]));
    let t = Message::new().message(1, &values).message(2, &indices).int(3, n as i64);
    let graph = Graph {
        nodes: vec![node("Add", &["x", "w"], &["y"], &[])],
        inputs: vec![open("x", elem::F32)],
        outputs: vec![open("y", elem::F32)],
        ..Graph::default()
    };
    wire::model(&graph.message().message(15, &t)).finish()
}

#[test]
fn limits_of_loading_name_themselves_and_what_was_asked() {
    let file = std::fs::read(digits()).unwrap();
    let t = Limits::trusted;
    let bytes = file.len();
    let message = |limits| exceeded(load(file.clone(), limits));
    assert_eq!(
        message(Limits { model_bytes: 1000, ..t() }),
        format!("a model file of {bytes} bytes is over the limit of 1000")
    );
    let nodes = message(Limits { nodes: 2, ..t() });
    assert!(nodes.ends_with("is over the limit of 2") && nodes.contains("nodes"), "{nodes}");
    assert!(message(Limits { rank: 1, ..t() }).ends_with("is over the limit of 1"));
    let memory = message(Limits { memory: 1000, ..t() });
    assert!(memory.contains("of weights is over the limit of 1000"), "{memory}");
    let one = exceeded(load(sparse(1 << 20), Limits { tensor_bytes: 4096, ..t() }));
    assert!(
        one.ends_with("bytes of a sparse tensor of 4194304 is over the limit of 4096"),
        "{one}"
    );
    let more = exceeded(load(sparse(1 << 58), t()));
    assert!(more.contains("bytes of sparse tensors"), "{more}");
    let deep = exceeded(load(endless(), Limits { subgraph_depth: 0, ..t() }));
    assert_eq!(deep, "node y (Loop, opset 21): a depth of subgraphs of 1 is over the limit of 0");
}

#[test]
fn limits_of_running_name_themselves_the_node_and_what_was_asked() {
    let x = |n: usize| Tensor::from_slice(&[n, n], &vec![1f32; n * n]);
    let small = Limits { tensor_bytes: 4096, ..Limits::trusted() };
    let session = load(square(), small).unwrap();
    assert!(session.run([("x", x(32))]).is_ok());
    let message = exceeded(session.run([("x", x(33))]));
    assert!(message.starts_with("node y (MatMul): a tensor of 4356 bytes"), "{message}");
    assert!(message.contains("is over the limit of 4096"), "{message}");
    assert!(session.run([("x", x(32))]).is_ok());

    let limits = Limits { loop_iterations: 1000, ..Limits::trusted() };
    let message = exceeded(load(endless(), limits).unwrap().run([("x", Tensor::scalar(1f32))]));
    assert!(message.contains("iterations") && message.contains("limit of 1000"), "{message}");

    let regex = Graph {
        nodes: vec![node("RegexFullMatch", &["x"], &["y"], &[string("pattern", r"\pL{100}")])],
        inputs: vec![open("x", elem::STRING)],
        outputs: vec![open("y", elem::BOOL)],
        ..Graph::default()
    };
    let text: Value = rinfer::Strings::new(&[1], vec!["a".into()]).unwrap().into();
    let session = load(regex.file(), Limits { regex_bytes: 1000, ..Limits::trusted() });
    let message = exceeded(session.and_then(|s| s.run([("x", text)])));
    assert!(message.contains("a regular expression"), "{message}");
}

#[test]
fn the_memory_limit_is_exact() {
    let plan = Session::load(digits()).unwrap().memory(&[("image", &[4, 1, 8, 8])]).unwrap();
    let peak = plan.weights + plan.arena + plan.outputs + plan.scratch;
    let load = |memory| {
        Session::builder().limits(Limits { memory, ..Limits::trusted() }).load(digits()).unwrap()
    };
    assert!(load(peak).run([("image", digit(4))]).is_ok());
    let tight = load(peak - 1);
    for _ in 0..10 {
        let message = exceeded(tight.run([("image", digit(4))]));
        assert!(message.contains("memory for a run"), "{message}");
    }
    assert!(tight.run([("image", digit(3))]).is_ok());
}

#[test]
fn an_endless_loop_is_cancelled_and_meets_its_deadline() {
    let session = load(endless(), Limits::trusted()).unwrap();
    let run = |options: &RunOptions| session.run_with([("x", Tensor::scalar(1f32))], options);
    let began = Instant::now();
    let error = run(&RunOptions::new().timeout(Duration::from_millis(50))).unwrap_err();
    assert_eq!(error.kind(), Kind::Deadline);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let token = CancelToken::new();
    let late = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let error = run(&RunOptions::new().cancel(token.clone())).unwrap_err();
            (error.kind(), Instant::now())
        });
        std::thread::sleep(Duration::from_millis(30));
        let cancelled = Instant::now();
        token.cancel();
        let (kind, ended) = running.join().unwrap();
        assert_eq!(kind, Kind::Cancelled);
        ended.saturating_duration_since(cancelled)
    });
    assert!(late < Duration::from_secs(5), "{late:?}");
}

#[test]
fn a_loop_that_cannot_end_is_refused_at_once() {
    let inside = Graph {
        nodes: vec![
            node("Identity", &["go"], &["go_on"], &[]),
            node("Add", &["s", "s"], &["t"], &[]),
        ],
        inputs: vec![
            value("i", elem::I64, &[]),
            value("go", elem::BOOL, &[]),
            value("s", elem::F32, &[]),
        ],
        outputs: vec![value("go_on", elem::BOOL, &[]), value("t", elem::F32, &[])],
        ..Graph::default()
    };
    let model = |trips: &str| {
        Graph {
            nodes: vec![node(
                "Loop",
                &[trips, "", "x"],
                &["y"],
                &[body("body", &inside.message())],
            )],
            weights: vec![i64s("n", &[], &[i64::MAX]), i64s("three", &[], &[3])],
            inputs: vec![value("x", elem::F32, &[])],
            outputs: vec![value("y", elem::F32, &[])],
        }
        .file()
    };
    for optimize in [true, false] {
        let run = |trips: &str| {
            let builder = Session::builder().optimize(optimize);
            builder.load_bytes(model(trips)).unwrap().run([("x", Tensor::scalar(1f32))])
        };
        assert!(exceeded(run("")).contains("the loop never ends"));
        assert!(exceeded(run("n")).contains("9223372036854775807 is over the limit"));
        assert_eq!(run("three").unwrap()[0], Tensor::scalar(8f32).into());
    }
}

#[test]
fn a_long_product_stops_in_the_middle_and_the_session_lives_on() {
    // Long enough that a debug build cannot end it, short enough to fit anywhere.
    let n = 2048;
    let x = Tensor::from_slice(&[n, n], &vec![0.5f32; n * n]);
    for threads in [1, 2] {
        let session = Session::builder().threads(threads).load_bytes(square()).unwrap();
        let options = RunOptions::new().timeout(Duration::from_millis(20));
        let error = session.run_with([("x", x.clone())], &options).unwrap_err();
        assert_eq!(error.kind(), Kind::Deadline);
        assert!(error.to_string().contains("node y (MatMul)"), "{error}");
        let two = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0]);
        let made = session.run([("x", two)]).unwrap();
        assert_eq!(made[0], Tensor::from_slice(&[2, 2], &[7f32, 10.0, 15.0, 22.0]).into());
    }
}

#[test]
fn a_deadline_that_is_met_changes_no_bit() {
    let session = Session::load(digits()).unwrap();
    let options = RunOptions::new().timeout(Duration::from_secs(600)).cancel(CancelToken::new());
    for batch in [1, 7, 64] {
        let free = session.run([("image", digit(batch))]).unwrap();
        assert_eq!(session.run_with([("image", digit(batch))], &options).unwrap(), free);
    }
}

#[test]
#[cfg(unix)]
fn a_mapped_file_that_is_truncated_is_an_error_not_the_end() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("truncated.onnx");
    // A table that is only gathered from is never packed: it stays in the file.
    let rows = 100_000;
    let model = Graph {
        nodes: vec![node("Gather", &["table", "i"], &["y"], &[])],
        weights: vec![f32s("table", &[rows, 16], &vec![1.0; 16 * rows as usize])],
        inputs: vec![value("i", elem::I64, &[-1])],
        outputs: vec![open("y", elem::F32)],
    };
    std::fs::write(&path, wire::model(&model.message()).finish()).unwrap();
    let mapped = Session::load(&path).unwrap();
    let read = Session::builder().mmap(false).load(&path).unwrap();
    let last = || [("i", Tensor::vector(&[rows - 1, rows / 2]))];
    let before = mapped.run(last()).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10_000).unwrap();
    for _ in 0..3 {
        assert!(matches!(mapped.run(last()), Err(Error::Lost)));
    }
    assert_eq!(read.run(last()).unwrap(), before);
}
