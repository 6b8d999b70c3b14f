//! Runs test folders in ONNX's layout, each in a process of its own, and counts how they end.
//!
//! conformance [--filter TEXT] [--verbose] [--in-process] FOLDER…
//!
//! Each test has 10 seconds. A test whose process dies is a crash, whatever the reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rinfer_tests::folder::{Outcome, find, run};

fn main() {
    let mut filter = String::new();
    let (mut verbose, mut in_process, mut roots) = (false, false, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--filter" => filter = args.next().unwrap_or_default(),
            "--verbose" => verbose = true,
            "--in-process" => in_process = true,
            "--one" => one(Path::new(&args.next().unwrap_or_default())),
            root => roots.push(PathBuf::from(root)),
        }
    }
    let tests: Vec<PathBuf> = roots
        .iter()
        .flat_map(|root| find(root))
        .filter(|p| p.to_string_lossy().contains(&filter))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(test) =
                    tests.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let result = if in_process { describe(&run(test)) } else { spawn(test) };
                    results.lock().unwrap().insert(test.clone(), result);
                }
            });
        }
    });
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (test, result) in results.into_inner().unwrap() {
        let class = result.split(' ').next().unwrap_or("").to_string();
        if verbose || class != "pass" {
            let suite =
                test.parent().and_then(|p| p.file_name()).unwrap_or_default().to_string_lossy();
            let name = test.file_name().unwrap_or_default().to_string_lossy();
            println!("{suite}/{name}: {}", result.replace('\n', " "));
        }
        *counts.entry(class).or_default() += 1;
    }
    let passed = counts.get("pass").copied().unwrap_or(0);
    println!("{counts:?}");
    println!("{passed} passed, {} failed", tests.len() - passed);
}

/// Runs one test here, prints how it ended, and is done.
fn one(dir: &Path) -> ! {
    println!("{}", describe(&run(dir)));
    std::process::exit(0)
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pass => "pass".into(),
        Outcome::Wrong(why) => format!("wrong {why}"),
        Outcome::Unsupported(why) => format!("unsupported {why}"),
        Outcome::Failed(why) => format!("failed {why}"),
    }
}

/// Runs one test in a process of its own.
fn spawn(test: &Path) -> String {
    let me = std::env::current_exe().expect("a program knows its own file");
    let child = Command::new(me)
        .args(["--one".as_ref(), test.as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => return format!("crash {e}"),
    };
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() > Duration::from_secs(10) => {
                let _ = child.kill();
                let _ = child.wait();
                return "timeout".into();
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(e) => return format!("crash {e}"),
        }
    };
    let read = |pipe: Option<&mut dyn std::io::Read>| {
        let mut text = String::new();
        if let Some(pipe) = pipe {
            let _ = pipe.read_to_string(&mut text);
        }
        text
    };
    let out = read(child.stdout.as_mut().map(|p| p as _));
    if status.success() && !out.trim().is_empty() {
        return out.trim().to_string();
    }
    let err = read(child.stderr.as_mut().map(|p| p as _));
    format!("crash {status} {}", err.trim().lines().take(3).collect::<Vec<_>>().join(" | "))
}
