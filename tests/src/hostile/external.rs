//! Weights outside the model's folder, or not where or as long as they say.
//!
//! `secret.bin` lies above the model's folder and must never be read.

use std::path::Path;

use super::wire::{self, Graph, Message, elem, i64s, node, open, value};
use super::{Case, Expect};

fn adds(w: Message) -> Vec<u8> {
    Graph {
        nodes: vec![node("Add", &["x", "w"], &["y"], &[])],
        weights: vec![w],
        inputs: vec![value("x", elem::F32, &[4])],
        outputs: vec![open("y", elem::F32)],
    }
    .file()
}

/// A weight of four floats at this place.
fn at(entries: &[(&str, &str)]) -> Message {
    wire::external("w", elem::F32, &[4], entries)
}

fn beside(dir: &Path) -> std::io::Result<()> {
    std::fs::write(dir.join("w.bin"), [0u8; 16])?;
    std::fs::write(dir.join("short.bin"), [0u8; 15])?;
    let root = dir.parent().unwrap_or(dir);
    let outside = root.join("outside");
    std::fs::create_dir_all(&outside)?;
    let secret = outside
        .join(format!("secret_{}.bin", dir.file_name().unwrap_or_default().to_string_lossy()));
    std::fs::write(&secret, [7u8; 16])?;
    std::fs::create_dir_all(dir.join("sub"))?;
    std::fs::create_dir_all(dir.join("folder.bin"))?;
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, dir.join("link.bin"))?;
        std::os::unix::fs::symlink(&outside, dir.join("linked"))?;
        let hard = dir.join("hard.bin");
        std::fs::hard_link(&secret, hard)?;
        std::process::Command::new("mkfifo").arg(dir.join("pipe.bin")).status()?;
    }
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    let whole = |location: &str| at(&[("location", location)]);
    let case = |name: &str, expect, w: Message| {
        Case::new(format!("10_{name}"), expect, adds(w)).beside(beside)
    };
    let bad = |name: &str, w: Message| case(name, Expect::Refused, w);
    let secret = |name: &str| format!("secret_10_{name}.bin");
    let range = |offset: &str, length: &str| {
        at(&[("location", "w.bin"), ("offset", offset), ("length", length)])
    };
    let mut all = vec![
        case("good", Expect::Answered, whole("w.bin")),
        case("good_with_range", Expect::Answered, range("0", "16")),
        bad("above", whole(&format!("../outside/{}", secret("above")))),
        bad("absolute", whole("/etc/hostname")),
        bad("down_and_up", whole(&format!("sub/../../outside/{}", secret("down_and_up")))),
        bad("symbolic_link", whole("link.bin")),
        bad("below_a_symbolic_link", whole(&format!("linked/{}", secret("below_a_symbolic_link")))),
        bad("hard_link", whole("hard.bin")),
        bad("pipe", whole("pipe.bin")),
        bad("folder", whole("folder.bin")),
        bad("device", whole("/dev/zero")),
        bad("own_memory", whole("/proc/self/mem")),
        bad("drive", whole("C:w.bin")),
        bad("share", whole("\\\\server\\w.bin")),
        bad("stream", whole("w.bin:stream")),
        bad("zero_byte", whole("w.bin\0.txt")),
        bad("no_location", at(&[("offset", "0")])),
        bad("empty_location", whole("")),
        bad("missing", whole("nothing.bin")),
        bad("offset_wraps", range("18446744073709551608", "16")),
        bad("offset_negative", range("-1", "16")),
        bad("offset_no_number", range("0x10", "16")),
        bad("length_huge", range("0", "1125899906842624")),
        bad("length_negative", range("0", "-1")),
        bad("length_differs", range("0", "8")),
        bad("offset_past_the_end", range("8", "16")),
        bad("short", whole("short.bin")),
        bad("sizes_wrap", wire::external("w", elem::F32, &[1 << 62, 16], &[("location", "w.bin")])),
        bad("sizes_huge", wire::external("w", elem::F32, &[1 << 50], &[("location", "w.bin")])),
        bad("marker_of_an_address", whole("*/_ORT_MEM_ADDR_/*")),
    ];
    all.extend(places());
    all
}

/// The same link in every other place where a tensor can stand.
fn places() -> Vec<Case> {
    let hard = |n: &[i64]| wire::external("w", elem::F32, n, &[("location", "hard.bin")]);
    let x = || vec![value("x", elem::F32, &[4])];
    let y = || vec![open("y", elem::F32)];
    let sparse = |values: &Message| {
        Message::new().message(1, values).message(2, &i64s("i", &[4], &[0, 1, 2, 3])).int(3, 4)
    };
    let add = || node("Add", &["x", "w"], &["y"], &[]);
    let in_sparse = {
        let graph =
            Graph { nodes: vec![add()], inputs: x(), outputs: y(), ..Graph::default() }.message();
        wire::model(&graph.message(15, &sparse(&hard(&[4])))).finish()
    };
    let constant = |attribute: Message| {
        let nodes = vec![node("Constant", &[], &["w"], &[attribute]), add()];
        Graph { nodes, inputs: x(), outputs: y(), ..Graph::default() }
    };
    let branch = Graph {
        nodes: vec![node("Add", &["x", "w"], &["z"], &[])],
        weights: vec![hard(&[4])],
        outputs: vec![open("z", elem::F32)],
        ..Graph::default()
    }
    .message();
    let in_branch = {
        let branches = [wire::body("then_branch", &branch), wire::body("else_branch", &branch)];
        let mut inputs = x();
        inputs.push(value("c", elem::BOOL, &[]));
        let nodes = vec![node("If", &["c"], &["y"], &branches)];
        Graph { nodes, inputs, outputs: y(), ..Graph::default() }.file()
    };
    let in_function = {
        let inner = [
            node("Constant", &[], &["w"], &[wire::tensor("value", &hard(&[4]))]),
            node("Add", &["a", "w"], &["b"], &[]),
        ];
        let f = wire::function("F", &["a"], &["b"], &inner);
        let nodes = vec![wire::node_of("f", "F", &["x"], &["y"])];
        Graph { nodes, inputs: x(), outputs: y(), ..Graph::default() }
            .model()
            .message(25, &f)
            .finish()
    };
    let value = constant(wire::tensor("value", &hard(&[4]))).file();
    let sparse_value = constant(wire::sparse_tensor("sparse_value", &sparse(&hard(&[4])))).file();
    [
        ("in_a_sparse_initializer", in_sparse),
        ("in_a_constant", value),
        ("in_a_sparse_constant", sparse_value),
        ("in_a_branch", in_branch),
        ("in_a_function", in_function),
    ]
    .into_iter()
    .map(|(name, model)| {
        Case::new(format!("10_hard_link_{name}"), Expect::Refused, model).beside(beside)
    })
    .collect()
}
