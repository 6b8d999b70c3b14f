//! Kernels say beforehand what they take besides inputs and outputs.

use rinfer::{Kind, Limits, Session};

use crate::models;

pub fn no_kernel_takes_more_than_it_says() {
    let mut taken = 0;
    for (name, text) in models::texts() {
        for threads in [1, 2, 3, 5] {
            let session = Session::builder().threads(threads).load_text(&text);
            let session = session.unwrap_or_else(|e| panic!("{name}: {e}"));
            let inputs = models::inputs(&session);
            let shapes: Vec<(&str, &[usize])> =
                inputs.iter().map(|(n, t)| (&**n, t.shape())).collect();
            let said = session.memory(&shapes).unwrap();
            assert!(!said.partial, "{name}");
            rinfer_cpu::meter::most_of_all();
            for _ in 0..3 {
                session.run(inputs.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
            let most = rinfer_cpu::meter::most_of_all();
            let said = said.scratch;
            println!("{name}, {threads} threads: {said} bytes said, {most} taken");
            // A thread that waits for others inside a piece of a loop may begin another piece, and
            // hold the memory of both for a while.
            let most_said = if threads == 1 { said } else { 2 * said };
            assert!(most <= most_said, "{name}, {threads} threads: {most} bytes of {said}");
            taken += most;
        }
    }
    assert!(taken > 0);
}

pub fn the_limit_is_exact() {
    for (name, text) in models::texts() {
        for threads in [1, 2] {
            let load = |memory| {
                let limits = Limits { memory, ..Limits::trusted() };
                Session::builder().threads(threads).limits(limits).load_text(&text).unwrap()
            };
            let session = load(usize::MAX);
            let inputs = models::inputs(&session);
            let shapes: Vec<(&str, &[usize])> =
                inputs.iter().map(|(n, t)| (&**n, t.shape())).collect();
            let said = session.memory(&shapes).unwrap();
            let peak = said.weights + said.arena + said.outputs + said.scratch;
            let right = session.run(inputs.clone()).unwrap();
            assert_eq!(load(peak).run(inputs.clone()).unwrap(), right, "{name}");
            let tight = load(peak - 1);
            let times = if name == "elements" { 1000 } else { 3 };
            for _ in 0..times {
                let error = tight.run(inputs.clone()).unwrap_err();
                assert_eq!(error.kind(), Kind::Limit, "{name}: {error}");
            }
        }
    }
}
