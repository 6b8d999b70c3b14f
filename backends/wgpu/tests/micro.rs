//! The microbenchmarks: each runs, checks its own result, and stays within its time, or says what
//! the adapter lacks. Without an adapter there is nothing to run.

use std::time::{Duration, Instant};

use rinfer_graph::Kind;
use rinfer_wgpu::bench::{Micro, measure};
use rinfer_wgpu::{Gpu, adapters};

#[test]
fn every_microbenchmark_is_right_or_says_what_is_missing() {
    if adapters().is_empty() {
        println!("skipped: no adapter was found");
        return;
    }
    let gpu = Gpu::open(None).unwrap();
    for what in Micro::ALL {
        let began = Instant::now();
        match measure(&gpu, what, Duration::from_millis(20)) {
            Ok(sample) => {
                let mut seconds = sample.seconds.clone();
                seconds.sort_by(f64::total_cmp);
                let median = seconds[seconds.len() / 2];
                println!(
                    "{what:?}: {:.3} G/s, {:.1} µs, {} times in {:?}, checked {}",
                    sample.work / median / 1e9,
                    median * 1e6,
                    seconds.len(),
                    began.elapsed(),
                    sample.checked
                );
                assert!(median > 0.0, "{what:?} takes no time");
            }
            Err(e) if e.kind == Kind::Unsupported => println!("{what:?}: {e}"),
            Err(e) => panic!("{what:?}: {e}"),
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what:?}: {:?}", began.elapsed());
    }
}

#[test]
fn all_kernels_for_products_agree_when_they_are_measured() {
    if adapters().is_empty() {
        println!("skipped: no adapter was found");
        return;
    }
    let (tuning, trials) = rinfer_wgpu::tune(None).unwrap();
    println!("{tuning}: {trials:?}");
    assert_eq!(trials.len(), 6);
    assert!(trials.iter().all(|t| t.ms > 0.0 && t.ms.is_finite()));
    assert_eq!(tuning.to_string().parse::<rinfer_wgpu::Tuning>().unwrap(), tuning);
}
