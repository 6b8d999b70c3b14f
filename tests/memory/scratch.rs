//! Kernels say beforehand what they take besides inputs and outputs.

use rinfer::Session;

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
            assert!(most <= said, "{name}, {threads} threads: {most} bytes taken, {said} said");
            taken += most;
        }
    }
    assert!(taken > 0);
}
