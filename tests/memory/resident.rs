//! How far the process grows in a run, held against the plan.

use std::time::Duration;

use rinfer::Session;

use crate::models;

/// Large enough that what else the process does is little beside it.
const MODELS: &[(&str, &str)] = &[
    (
        "values",
        "x: float[64, 256, 256]; a = Exp(x); b = ReduceSum(a, [2]); c = Div(a, b); \
         d = Transpose<perm = [0, 2, 1]>(c); e = CumSum(d, 1); f = Transpose<perm = [2, 0, 1]>(e); → f",
    ),
    (
        "scratch",
        "x: float[1, 24, 512, 512]; w: float[24, 1, 3, 3]; v: float[4, 24, 1, 1]; \
         a = Conv<group = 24, pads = [1, 1, 1, 1]>(x, w); b = Conv(a, v); \
         c = Resize<mode = \"linear\">(b, _, [1.0, 1.0, 2.0, 2.0]); → c",
    ),
];

/// A line of the process's status, in bytes.
fn status(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

pub fn a_run_takes_what_is_planned() {
    for (name, text) in MODELS {
        for threads in [1, 2, 3] {
            let session = Session::builder().threads(threads).load_text(text);
            let session = session.unwrap_or_else(|e| panic!("{name}: {e}"));
            let inputs = models::inputs(&session);
            let shapes: Vec<(&str, &[usize])> =
                inputs.iter().map(|(n, t)| (&**n, t.shape())).collect();
            let said = session.memory(&shapes).unwrap();
            let said = said.arena + said.outputs + said.scratch;
            let run = || drop(session.run(inputs.clone()).unwrap());
            run();
            session.trim();
            // Each thread gives back what it keeps as soon as it is idle.
            std::thread::sleep(Duration::from_millis(50));
            if std::fs::write("/proc/self/clear_refs", "5").is_err() {
                return println!("the system does not say how far a process grows");
            }
            let before = status("VmRSS:");
            run();
            let grown = status("VmHWM:").saturating_sub(before);
            let ratio = grown as f64 / said as f64;
            println!("{name}, {threads} threads: {said} bytes planned, {grown} taken: {ratio:.3}");
            assert!((0.95..=1.05).contains(&ratio), "{name}, {threads} threads: {grown} of {said}");
        }
    }
}

/// Sessions that come and go, on several threads at a time.
pub fn sessions_leave_nothing_behind() {
    let (_, text) = models::texts().pop().unwrap();
    let come_and_go = |times: usize| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..times / 4 {
                        let session = Session::builder().threads(2).load_text(&text).unwrap();
                        session.run(models::inputs(&session)).unwrap();
                    }
                });
            }
        });
    };
    come_and_go(1000);
    let before = status("VmRSS:");
    come_and_go(1000);
    let grown = status("VmRSS:").saturating_sub(before);
    println!("1000 sessions: {grown} bytes left behind");
    assert!(grown < 1 << 20, "{grown} bytes");
}
