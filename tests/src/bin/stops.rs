//! How fast runs stop: an endless Loop and a product of 4096³, cancelled and past a deadline.
//!
//! stops [TRIALS]: prints milliseconds, median, 99th percentile and most.

use std::time::{Duration, Instant};

use rinfer::{CancelToken, RunOptions, Session, Tensor};
use rinfer_tests::hostile::long::{endless, square};

fn main() {
    let trials: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1000);
    let endless = Session::builder().load_bytes(endless()).expect("the model is right");
    let one = Tensor::scalar(1f32);
    row("endless Loop, cancel", trials, || cancelled(&endless, &one));
    row("endless Loop, deadline of 100 ms", trials.min(50), || late(&endless, &one));
    for threads in [1, 0] {
        let product = Session::builder().threads(threads).load_bytes(square()).expect("so is this");
        let n = 4096;
        let x = Tensor::from_slice(&[n, n], &vec![0.5f32; n * n]);
        let threads = if threads == 0 { "all threads" } else { "1 thread" };
        row(&format!("MatMul 4096^3, {threads}, cancel"), trials.min(50), || {
            cancelled(&product, &x)
        });
        row(&format!("MatMul 4096^3, {threads}, deadline"), trials.min(50), || late(&product, &x));
    }
}

/// Time from the cancellation, 30 ms into a run, to the run's end.
fn cancelled(session: &Session, x: &Tensor) -> Duration {
    let token = CancelToken::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let options = RunOptions::new().cancel(token.clone());
            assert!(session.run_with([("x", x.clone())], &options).is_err());
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(30));
        let asked = Instant::now();
        token.cancel();
        running.join().expect("runs do not panic").saturating_duration_since(asked)
    })
}

/// Time from a deadline of 100 ms to the run's end.
fn late(session: &Session, x: &Tensor) -> Duration {
    let deadline = Instant::now() + Duration::from_millis(100);
    let options = RunOptions::new().deadline(deadline);
    assert!(session.run_with([("x", x.clone())], &options).is_err());
    Instant::now().saturating_duration_since(deadline)
}

fn row(what: &str, trials: usize, mut f: impl FnMut() -> Duration) {
    let mut times: Vec<f64> = (0..trials).map(|_| f().as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    println!("{what}: median {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(0.5), at(0.99), at(1.0));
}
