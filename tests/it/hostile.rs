//! Hostile models: each is refused with a typed error, or answered.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[cfg(feature = "wgpu")]
use rinfer::Model;
use rinfer_tests::hostile::agree::agree;
use rinfer_tests::hostile::{self, generate, mutate, valid};
#[cfg(feature = "wgpu")]
use rinfer_tests::wgsl;

/// How often something random is done: a little here, more if the environment says so.
fn times(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn no_hostile_model_ends_a_process() {
    let exe = Path::new(env!("CARGO_BIN_EXE_hostile"));
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
    // Chains of 200,000 nodes take debug builds too long.
    let heavy = |case: &hostile::Case| cfg!(debug_assertions) && case.name.contains("_200000");
    let cases: Vec<_> = hostile::cases().into_iter().filter(|c| !heavy(c)).collect();
    let (next, bad) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let check = |case: &hostile::Case| {
        let path = case.write(&root).expect("the folder can be written");
        let mut command = vec![exe.as_os_str(), OsStr::new("--as-rinfer"), OsStr::new("run")];
        command.extend([path.as_os_str(), OsStr::new("--threads"), OsStr::new("1")]);
        command.extend(case.args.iter().map(OsStr::new));
        // Machines that test are slow and shared: how long it takes is for `hostile` to measure.
        let ending = hostile::run(&command, Duration::from_secs(300)).expect("a shell starts");
        ending.complaint(case.expect, Duration::MAX)
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(complaint) = check(case) {
                        bad.lock().unwrap().push(format!("{}: {complaint}", case.name));
                    }
                }
            });
        }
    });
    let bad = bad.into_inner().unwrap();
    assert!(bad.is_empty(), "{} of {} cases:\n{}", bad.len(), cases.len(), bad.join("\n"));
}

#[test]
fn what_mutations_start_from_runs() {
    for (name, file) in valid::models() {
        assert_eq!(mutate::survive(&file), Ok(mutate::Outcome::Ran), "{name}");
    }
}

#[test]
fn no_prefix_of_a_model_panics() {
    let step = times("RINFER_PREFIX_STEP", 7);
    for (name, file) in valid::models() {
        if let Err(defect) = mutate::prefixes(&file, step) {
            panic!("{name}: {defect}");
        }
    }
}

#[test]
fn no_flipped_bits_panic() {
    let models = valid::models();
    let each = times("RINFER_FLIPS", 2000).div_ceil(models.len());
    let mut sum = [0; 3];
    for (name, file) in models {
        match mutate::flips(&file, each, 1) {
            Ok(counts) => (0..3).for_each(|i| sum[i] += counts[i]),
            Err(defect) => panic!("{name}: {defect}"),
        }
    }
    println!("refused, loaded, ran: {sum:?}");
    assert!(sum.iter().all(|&n| n > 0), "{sum:?}");
}

#[test]
fn generated_models_give_one_answer_optimized_or_not_with_vectors_or_without() {
    let (mut answered, models) = (0, times("RINFER_GENERATED", 300));
    for seed in 0..models as u64 {
        let mut rng = rinfer_cli::fill::Random(seed);
        let bytes: Vec<u8> = (0..256).map(|_| rng.bits() as u8).collect();
        let file = generate::model(&bytes, 12);
        match agree(&file) {
            Ok(ran) => answered += usize::from(ran),
            Err(e) => panic!("seed {seed}: {e}"),
        }
    }
    println!("{answered} of {models} generated models ran");
    assert!(answered * 10 >= models * 9, "{answered} of {models} ran");
}

#[cfg(feature = "wgpu")]
#[test]
fn the_gpu_kernels_of_generated_models_are_valid() {
    let mut kernels = 0;
    for seed in 0..times("RINFER_KERNELS", 200) as u64 {
        let mut rng = rinfer_cli::fill::Random(seed);
        let bytes: Vec<u8> = (0..256).map(|_| rng.bits() as u8).collect();
        let Ok(mut model) = Model::from_bytes(generate::model(&bytes, 12)) else { continue };
        let valid = |model: &Model| {
            wgsl::check(model.graph()).unwrap_or_else(|e| panic!("seed {seed}: {e}"))
        };
        kernels += valid(&model);
        model.optimize().unwrap();
        kernels += valid(&model);
    }
    assert!(kernels > 2000, "{kernels} kernels");
}
