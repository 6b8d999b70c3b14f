//! Threads that share sessions: what ThreadSanitizer watches (`tests/deep sanitizers`).
//! RINFER_RUNS says how many runs each thread does.
#![cfg(all(feature = "cpu", not(shuttle)))]

use std::sync::Arc;
use std::time::Duration;

use rinfer::{CancelToken, Kind, RunOptions, Session, Tensor, Value};

/// Products, convolutions in strips, sums of rows: loops of several threads, and scratch memory.
fn text() -> String {
    let weight = |name: &str, shape: &[usize]| {
        let n: usize = shape.iter().product();
        let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 0.3).collect();
        format!("{name}: float{shape:?} = {x:?}; ")
    };
    weight("w", &[16, 3, 3, 3])
        + &weight("v", &[16, 16, 3, 3])
        + &weight("u", &[16, 40])
        + "x: float[n, 3, 24, 24]; \
           a = Conv<pads = [1, 1, 1, 1]>(x, w); b = Relu(a); \
           c = Conv<pads = [1, 1, 1, 1]>(b, v); d = Sigmoid(c); \
           e = ReduceMean<keepdims = 0>(d, [2, 3]); f = MatMul(e, u); \
           g = Transpose<perm = [1, 0]>(f); h = MatMul(f, g); y = Softmax(h); → y, f"
}

fn images(n: usize) -> Tensor {
    let x: Vec<f32> = (0..n * 3 * 24 * 24).map(|i| (i as f32 * 0.11 * n as f32).sin()).collect();
    Tensor::from_slice(&[n, 3, 24, 24], &x)
}

fn runs() -> usize {
    std::env::var("RINFER_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

fn load(threads: usize) -> Session {
    Session::builder().threads(threads).load_text(&text()).unwrap()
}

/// What batches of one to four images give.
fn answers(session: &Session) -> Vec<Vec<Value>> {
    (1..5).map(|n| session.run([("x", images(n))]).unwrap()).collect()
}

#[test]
fn many_threads_share_a_session_that_has_threads_of_its_own() {
    let right = answers(&load(1));
    for threads in [1, 3] {
        let session = load(threads);
        std::thread::scope(|scope| {
            for t in 0..64 {
                let (session, right) = (&session, &right);
                scope.spawn(move || {
                    for i in 0..runs() {
                        let n = (t + i) % 4;
                        assert_eq!(session.run([("x", images(n + 1))]).unwrap(), right[n]);
                        if (t + i) % 29 == 0 {
                            session.trim();
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn some_runs_are_cancelled_or_late_and_the_others_are_right() {
    let (session, right) = (load(3), answers(&load(1)));
    std::thread::scope(|scope| {
        for t in 0..8usize {
            let (session, right) = (&session, &right);
            scope.spawn(move || {
                for i in 0..runs() {
                    let n = (t + i) % 4;
                    let token = CancelToken::new();
                    let late = Duration::from_micros(100 * (i as u64 % 7));
                    let options = match t % 3 {
                        0 => RunOptions::new().cancel(token.clone()),
                        1 => RunOptions::new().timeout(late),
                        _ => RunOptions::new(),
                    };
                    let made = std::thread::scope(|scope| {
                        if t % 3 == 0 {
                            scope.spawn(|| {
                                std::thread::sleep(late);
                                token.cancel();
                            });
                        }
                        session.run_with([("x", images(n + 1))], &options)
                    });
                    match made {
                        Ok(made) => assert_eq!(made, right[n]),
                        Err(e) => assert!(matches!(e.kind(), Kind::Cancelled | Kind::Deadline)),
                    }
                }
            });
        }
    });
    assert_eq!(answers(&session), right);
}

#[test]
fn sessions_and_outputs_are_dropped_while_others_run() {
    let right = answers(&load(1));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..runs().min(10) {
                    let session = Arc::new(load(2));
                    let other = session.clone();
                    let running = std::thread::spawn(move || other.run([("x", images(i % 4 + 1))]));
                    drop(session);
                    assert_eq!(running.join().unwrap().unwrap(), right[i % 4]);
                }
            });
        }
    });
}
