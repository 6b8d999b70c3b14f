//! Memory that cannot be had, wherever that is: an error that says so, and the session lives on.

use rinfer::graph::scarce;
use rinfer::{Error, Kind, Port, Session, Tensor, Value};
use rinfer_tests::hostile::valid;

use crate::models;

/// More than any of these models asks for.
const MOST: usize = 100_000;

/// Does `f` once with each of its requests for memory refused; how many there were.
fn refused_at_each<R>(
    name: &str,
    mut f: impl FnMut() -> Result<R, Error>,
    right: impl Fn(&R),
) -> usize {
    for granted in 0..MOST {
        scarce::refuse_after(granted);
        let made = f();
        let reached = scarce::asked() > granted;
        scarce::refuse_after(usize::MAX);
        match made {
            // What is only tried, constants that are computed ahead, may be left alone.
            Ok(made) => right(&made),
            Err(e) => assert_eq!(e.kind(), Kind::Limit, "{name}, request {granted}: {e}"),
        }
        if !reached {
            return granted;
        }
    }
    panic!("{name}: more than {MOST} requests");
}

/// Something for an input of any size.
fn filled(port: &Port) -> (String, Tensor) {
    let sizes: Vec<usize> = port.shape.iter().flatten().map(|d| d.size().unwrap_or(2)).collect();
    let n: usize = sizes.iter().product();
    let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
    (port.name.clone(), Tensor::from_slice(&sizes, &x))
}

fn check(
    name: &str,
    load: impl Fn(usize) -> Result<Session, Error>,
    input: fn(&Port) -> (String, Tensor),
) {
    let loads = refused_at_each(name, || load(1), |_| ());
    for threads in [1, 2] {
        let session = load(threads).unwrap();
        let inputs: Vec<(String, Tensor)> = session.inputs().iter().map(input).collect();
        let run = || session.run(inputs.clone());
        let right = run().unwrap();
        let same = |made: &Vec<Value>| assert_eq!(*made, right, "{name}");
        let anew = || {
            session.trim();
            run()
        };
        let runs = refused_at_each(name, anew, same);
        same(&run().unwrap());
        println!("{name}, {threads} threads: {loads} requests to load, {runs} to run");
    }
}

pub fn every_request_can_be_refused() {
    for (name, file) in valid::models() {
        let load = |threads| Session::builder().threads(threads).load_bytes(file.clone());
        check(name, load, filled);
    }
    for (name, text) in models::texts() {
        let load = |threads| Session::builder().threads(threads).load_text(&text);
        check(name, load, models::filled);
    }
}
