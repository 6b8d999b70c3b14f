//! Models that run for as long as they are let.

use super::wire::{Graph, body, elem, i64s, node, value};

/// A Loop that goes on for as long as `i >= 0`, which only running it tells.
pub fn endless() -> Vec<u8> {
    let inside = Graph {
        nodes: vec![
            node("GreaterOrEqual", &["i", "zero"], &["go_on"], &[]),
            node("Add", &["s", "s"], &["t"], &[]),
        ],
        weights: vec![i64s("zero", &[], &[0])],
        inputs: vec![
            value("i", elem::I64, &[]),
            value("go", elem::BOOL, &[]),
            value("s", elem::F32, &[]),
        ],
        outputs: vec![value("go_on", elem::BOOL, &[]), value("t", elem::F32, &[])],
    };
    Graph {
        nodes: vec![node("Loop", &["", "", "x"], &["y"], &[body("body", &inside.message())])],
        inputs: vec![value("x", elem::F32, &[])],
        outputs: vec![value("y", elem::F32, &[])],
        ..Graph::default()
    }
    .file()
}

/// `y = x · x`
pub fn square() -> Vec<u8> {
    Graph {
        nodes: vec![node("MatMul", &["x", "x"], &["y"], &[])],
        inputs: vec![value("x", elem::F32, &[-1, -1])],
        outputs: vec![value("y", elem::F32, &[-1, -1])],
        ..Graph::default()
    }
    .file()
}
