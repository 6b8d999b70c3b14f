//! Threads that share a session, in many orders of their turns.
//!
//! [shuttle](https://docs.rs/shuttle) takes the place of the standard library's locks and flags
//! and decides at each of them which thread goes on: at random, and by a strategy that finds
//! rare orders. What is checked holds in every order: answers are right, cancelled runs say so,
//! and nothing waits for ever.
//!
//! RUSTFLAGS='--cfg shuttle' cargo test -p rinfer --no-default-features --features cpu \
//!     --test interleavings
#![cfg(shuttle)]

use std::sync::Arc;

use rinfer::{CancelToken, Kind, RunOptions, Session, Tensor};
use shuttle::thread;

/// Orders that are tried, by each of the two strategies.
const ORDERS: usize = 300;

fn everywhere(f: impl Fn() + Send + Sync + 'static) {
    let config = || {
        let mut config = shuttle::Config::new();
        // Kernels and the compiler of plans need more than a thread of shuttle has.
        config.stack_size = 4 << 20;
        config
    };
    let f = Arc::new(f);
    let again = f.clone();
    let random = shuttle::scheduler::RandomScheduler::new(ORDERS);
    shuttle::Runner::new(random, config()).run(move || f());
    let rare = shuttle::scheduler::PctScheduler::new(3, ORDERS);
    shuttle::Runner::new(rare, config()).run(move || again());
}

/// y = relu(x · w) + x, for x [n, 4].
fn session() -> Session {
    let text = "x: float[n, 4]; w: float[4, 4] = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]; \
                a = MatMul(x, w); b = Relu(a); y = Add(b, x); → y";
    let graph = rinfer::Model::from_text(text).expect("the text is a model");
    Session::builder().threads(1).build(graph).expect("it can be run")
}

fn rows(n: usize, start: f32) -> Tensor {
    let x: Vec<f32> = (0..4 * n).map(|i| start + i as f32).collect();
    Tensor::from_slice(&[n, 4], &x)
}

fn doubled(x: &Tensor) -> Vec<f32> {
    x.as_slice::<f32>().iter().map(|x| x.max(0.0) + x).collect()
}

#[test]
fn runs_of_several_shapes_share_plans_arenas_and_packed_weights() {
    everywhere(|| {
        let session = Arc::new(session());
        let runs = [(1, 0.5), (2, -3.0), (1, 7.0)].map(|(n, start)| {
            let session = session.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let x = rows(n, start);
                    let made = session.run([("x", x.clone())]).expect("the run is right");
                    let y = made[0].as_tensor().expect("it is a tensor");
                    assert_eq!(y.as_slice::<f32>(), doubled(&x));
                }
            })
        });
        runs.into_iter().for_each(|run| run.join().expect("no thread fails"));
    });
}

#[test]
fn a_cancelled_run_says_so_and_the_next_is_right() {
    everywhere(|| {
        let session = Arc::new(session());
        let token = CancelToken::new();
        let run = {
            let (session, token) = (session.clone(), token.clone());
            thread::spawn(move || {
                let x = rows(2, 1.0);
                let options = RunOptions::new().cancel(token.clone());
                match session.run_with([("x", x.clone())], &options) {
                    Ok(made) => {
                        let y = made[0].as_tensor().expect("it is a tensor");
                        assert_eq!(y.as_slice::<f32>(), doubled(&x));
                    }
                    Err(e) => {
                        assert_eq!(e.kind(), Kind::Cancelled);
                        assert!(token.is_cancelled());
                    }
                }
            })
        };
        token.cancel();
        run.join().expect("no thread fails");
        let x = rows(2, 3.0);
        let made = session.run([("x", x.clone())]).expect("the session is as it was");
        assert_eq!(made[0].as_tensor().expect("a tensor").as_slice::<f32>(), doubled(&x));
    });
}

#[test]
fn memory_that_comes_back_is_given_to_one_tensor_at_a_time() {
    use rinfer_graph::{DType, tensor::Spare};
    everywhere(|| {
        let spare = Arc::new(Spare::default());
        spare.allow(1 << 20);
        let threads = [1u8, 2, 3].map(|mark| {
            let spare = spare.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    let mut t = spare.tensor(DType::U8, &[20_000]).expect("there is memory");
                    t.as_mut_slice::<u8>().fill(mark);
                    thread::yield_now();
                    assert!(t.as_slice::<u8>().iter().all(|&x| x == mark));
                }
            })
        });
        threads.into_iter().for_each(|t| t.join().expect("no thread fails"));
    });
}
