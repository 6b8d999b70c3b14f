//! The six official Bernoulli tests, whose expected values no attribute of the model determines:
//! held to type, shape, distribution, and equality under a seed instead.

use rinfer::{RunOptions, Session, Tensor};
use rinfer_tests::formats;

use crate::onnx_node::official;

/// How often an unseeded model runs: five standard deviations of a mean are then below 0.05.
const RUNS: u64 = 2500;

/// The tests: whether the node is expanded to its function, whether it has a seed.
const TESTS: &[(&str, bool, bool)] = &[
    ("test_bernoulli", false, false),
    ("test_bernoulli_double", false, false),
    ("test_bernoulli_double_expanded", true, false),
    ("test_bernoulli_expanded", true, false),
    ("test_bernoulli_seed", false, true),
    ("test_bernoulli_seed_expanded", true, true),
];

/// The numbers of a tensor of f32 or f64.
fn numbers(t: &Tensor) -> Vec<f64> {
    rinfer_tests::stats::numbers(t).expect("a tensor of numbers")
}

#[test]
fn bernoulli_draws_what_its_input_says() {
    for &(name, expanded, seeded) in TESTS {
        let dir = official().join("node").join(name);
        let read = |file: &str, ty| {
            let bytes = formats::read(&dir.join("test_data_set_0").join(file)).expect(name);
            formats::pb::decode(bytes, ty).expect(name).into_tensor().expect(name)
        };
        let session = Session::load(dir.join("model.onnx")).expect(name);
        let (input, output) = (&session.inputs()[0], &session.outputs()[0]);
        let x = read("input_0.pb", &input.ty);
        let expected = read("output_0.pb", &output.ty);
        let run = |session: &Session, seed: u64| {
            let options = RunOptions::new().seed(seed);
            let y = session.run_with([("x", x.clone())], &options).expect(name).remove(0);
            let y = y.into_tensor().expect(name);
            assert_eq!((y.dtype(), y.shape()), (expected.dtype(), expected.shape()), "{name}");
            numbers(&y)
        };
        let again = Session::load(dir.join("model.onnx")).expect(name);
        assert_eq!(run(&session, 1), run(&again, 1), "{name}: the same seed gives the same draw");
        if seeded {
            assert_eq!(run(&session, 1), run(&session, 2), "{name}: the node's seed decides");
            continue;
        }
        let mut sums = vec![0.0; expected.len()];
        for seed in 0..RUNS {
            for (sum, y) in sums.iter_mut().zip(run(&session, seed)) {
                assert!(y == 0.0 || y == 1.0, "{name}: {y}");
                *sum += y;
            }
        }
        for (sum, p) in sums.iter().zip(numbers(&x)) {
            // ONNX's function compares the other way round, and its graph is what runs.
            let p = if expanded { 1.0 - p } else { p };
            let mean = sum / RUNS as f64;
            assert!((mean - p).abs() < 0.05, "{name}: {mean} of draws with probability {p}");
        }
    }
}
