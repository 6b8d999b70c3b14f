//! Graphs of hostile structure: endless, bottomless, circular, enormous, or no graphs at all.

use super::wire::{self, Graph, Message, body, elem, i64s, int, node, node_of, value};
use super::{Case, Expect};

pub(super) fn cases() -> Vec<Case> {
    let mut all = loops();
    all.extend(nesting());
    all.extend(functions());
    all.extend(malformed());
    all.extend(broken());
    all.extend(chains());
    all
}

/// A Loop's body: state `x`, and a scan output if asked for; `cond` makes its condition.
fn loop_body(cond: Message, scan: bool) -> Message {
    let mut outputs = vec![value("go_on", elem::BOOL, &[]), value("y", elem::F32, &[])];
    if scan {
        outputs.push(value("seen", elem::F32, &[]));
    }
    let inputs = [("i", elem::I64), ("go", elem::BOOL), ("x", elem::F32)];
    Graph {
        nodes: vec![
            cond,
            node("Add", &["x", "x"], &["y"], &[]),
            node("Neg", &["x"], &["seen"], &[]),
        ],
        inputs: inputs.iter().map(|(n, e)| value(n, *e, &[])).collect(),
        outputs,
        ..Graph::default()
    }
    .message()
}

fn loop_model(trips: Option<i64>, body_graph: &Message, scan: bool) -> Vec<u8> {
    let mut outputs = vec!["last"];
    let mut declared = vec![value("last", elem::F32, &[])];
    if scan {
        outputs.push("all");
        declared.push(wire::open("all", elem::F32));
    }
    let name = if trips.is_some() { "trips" } else { "" };
    Graph {
        nodes: vec![node("Loop", &[name, "", "start"], &outputs, &[body("body", body_graph)])],
        weights: vec![i64s("trips", &[], &[trips.unwrap_or(0)])],
        inputs: vec![value("start", elem::F32, &[])],
        outputs: declared,
    }
    .file()
}

fn loops() -> Vec<Case> {
    let same = || node("Identity", &["go"], &["go_on"], &[]);
    let computed = || node("GreaterOrEqual", &["i", "i"], &["go_on"], &[]);
    let plain = loop_body(same(), false);
    let scan = loop_body(same(), true);
    let most = Some(i64::MAX);
    vec![
        Case::new("01_endless_loop", Expect::Limit, loop_model(None, &plain, false)),
        Case::new("01_endless_loop_most_trips", Expect::Limit, loop_model(most, &plain, false)),
        Case::new("02_endless_loop_with_scan_output", Expect::Limit, loop_model(most, &scan, true)),
        Case::new("02_loop_without_trips_with_scan", Expect::Limit, loop_model(None, &scan, true)),
        Case::new(
            "01_endless_loop_of_a_computed_condition",
            Expect::Limit,
            loop_model(None, &loop_body(computed(), false), false),
        )
        .args(&["--timeout", "1"]),
        Case::new(
            "02_endless_scan_of_a_computed_condition",
            Expect::Limit,
            loop_model(None, &loop_body(computed(), true), true),
        )
        .args(&["--timeout", "1"]),
        Case::new("02_negative_trips", Expect::Either, loop_model(Some(-5), &scan, true)),
    ]
}

/// If inside If, `levels` deep, every level naming its values alike.
fn nested(levels: usize) -> Message {
    let out = |name: &str| vec![value(name, elem::F32, &[1])];
    let mut inner = Graph {
        nodes: vec![node("Neg", &["x"], &["y"], &[])],
        outputs: out("y"),
        ..Graph::default()
    }
    .message();
    for _ in 0..levels {
        let branches = [body("then_branch", &inner), body("else_branch", &leaf())];
        inner = Graph {
            nodes: vec![node("If", &["c"], &["y"], &branches)],
            outputs: out("y"),
            ..Graph::default()
        }
        .message();
    }
    Graph {
        nodes: vec![node(
            "If",
            &["c"],
            &["out"],
            &[body("then_branch", &inner), body("else_branch", &leaf())],
        )],
        inputs: vec![value("c", elem::BOOL, &[]), value("x", elem::F32, &[1])],
        outputs: out("out"),
        ..Graph::default()
    }
    .model()
}

fn leaf() -> Message {
    Graph {
        nodes: vec![node("Abs", &["x"], &["z"], &[])],
        outputs: vec![value("z", elem::F32, &[1])],
        ..Graph::default()
    }
    .message()
}

/// Length-delimited fields inside one another, `levels` deep.
fn matryoshka(levels: usize, tag: u8) -> Vec<u8> {
    let mut heads: Vec<Vec<u8>> = Vec::new();
    let mut len = 0usize;
    for _ in 0..levels {
        let head = Message::new().int(0, len as i64).finish()[1..].to_vec();
        len += 1 + head.len();
        heads.push([vec![tag], head].concat());
    }
    let inner: Vec<u8> = heads.into_iter().rev().flatten().collect();
    Message::new().int(1, 10).bytes(7, &inner).finish()
}

fn nesting() -> Vec<Case> {
    let ifs = |n: usize, expect| Case::new(format!("08_if_{n}_deep"), expect, nested(n).finish());
    vec![
        ifs(20, Expect::Answered),
        ifs(24, Expect::Either),
        ifs(60, Expect::Refused),
        ifs(2000, Expect::Refused),
        Case::new("09_messages_60000_deep", Expect::Refused, matryoshka(60_000, 0x0a)),
        Case::new("09_unknown_fields_60000_deep", Expect::Refused, matryoshka(60_000, 0xfa)),
        Case::new("09_groups_100000_deep", Expect::Refused, vec![0xfb; 100_000]),
    ]
}

fn calls(functions: &[Message], call: Message) -> Vec<u8> {
    Graph {
        nodes: vec![call],
        inputs: vec![value("x", elem::F32, &[1])],
        outputs: vec![wire::open("y", elem::F32)],
        ..Graph::default()
    }
    .model()
    .all(25, functions)
    .finish()
}

fn functions() -> Vec<Case> {
    let call = |f: &str| node_of("f", f, &["x"], &["y"]);
    let itself = wire::function("A", &["x"], &["y"], &[call("A")]);
    let a = wire::function("A", &["x"], &["y"], &[call("B")]);
    let b = wire::function("B", &["x"], &["y"], &[call("A")]);
    let mut bomb = vec![wire::function("F0", &["x"], &["y"], &[node("Neg", &["x"], &["y"], &[])])];
    for i in 1..=30 {
        let below = format!("F{}", i - 1);
        let twice = [node_of("f", &below, &["x"], &["h"]), node_of("f", &below, &["h"], &["y"])];
        bomb.push(wire::function(&format!("F{i}"), &["x"], &["y"], &twice));
    }
    let mut hidden = bomb.clone();
    let inside = Graph {
        nodes: vec![node_of("f", "F29", &["x"], &["t"])],
        outputs: vec![wire::open("t", elem::F32)],
        ..Graph::default()
    }
    .message();
    let branches = [body("then_branch", &inside), body("else_branch", &inside)];
    hidden.push(wire::function(
        "H",
        &["x"],
        &["y"],
        &[
            node(
                "Constant",
                &[],
                &["c"],
                &[wire::tensor("value", &wire::raw("", elem::BOOL, &[], &[1]))],
            ),
            node("If", &["c"], &["y"], &branches),
        ],
    ));
    vec![
        Case::new("23_function_that_calls_itself", Expect::Refused, calls(&[itself], call("A"))),
        Case::new("23_function_cycle", Expect::Refused, calls(&[a, b], call("A"))),
        Case::new("24_function_bomb", Expect::Limit, calls(&bomb, call("F30"))),
        Case::new("24_function_bomb_in_a_branch", Expect::Limit, calls(&hidden, call("H"))),
    ]
}

fn malformed() -> Vec<Case> {
    let good = Graph {
        nodes: vec![node("Relu", &["x"], &["y"], &[])],
        inputs: vec![value("x", elem::F32, &[2])],
        outputs: vec![value("y", elem::F32, &[2])],
        ..Graph::default()
    };
    let file = good.file();
    let noise: Vec<u8> =
        (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let refused = |name: &str, model: Vec<u8>| Case::new(name, Expect::Refused, model);
    vec![
        refused("29_empty", Vec::new()),
        refused("29_random", noise),
        refused("29_truncated", file[..file.len() - 7].to_vec()),
        refused("29_text", b"not a model at all\n".to_vec()),
        refused("29_no_graph", Message::new().int(1, 10).finish()),
        refused(
            "30_no_nodes",
            Graph { outputs: vec![value("y", 1, &[1])], ..Graph::default() }.file(),
        ),
    ]
}

fn broken() -> Vec<Case> {
    let graph = |nodes: Vec<Message>, outputs: &[&str]| {
        let inputs = vec![value("x", elem::F32, &[2])];
        let outputs = outputs.iter().map(|o| wire::open(o, elem::F32)).collect();
        Graph { nodes, inputs, outputs, ..Graph::default() }.file()
    };
    let refused = |name: &str, model: Vec<u8>| Case::new(name, Expect::Refused, model);
    vec![
        refused(
            "14_cycle",
            graph(
                vec![node("Add", &["x", "b"], &["a"], &[]), node("Neg", &["a"], &["b"], &[])],
                &["b"],
            ),
        ),
        refused("14_node_feeds_itself", graph(vec![node("Neg", &["a"], &["a"], &[])], &["a"])),
        refused("18_unknown_operator", graph(vec![node("NoSuchOp", &["x"], &["y"], &[])], &["y"])),
        refused(
            "18_unknown_domain",
            graph(vec![node_of("nobody", "Relu", &["x"], &["y"])], &["y"]),
        ),
        refused("19_no_inputs", graph(vec![node("Add", &[], &["y"], &[])], &["y"])),
        refused("19_too_many_inputs", graph(vec![node("Relu", &["x", "x"], &["y"], &[])], &["y"])),
        refused("19_too_many_outputs", graph(vec![node("Relu", &["x"], &["y", "z"], &[])], &["y"])),
        refused("20_output_made_by_nobody", graph(vec![node("Relu", &["x"], &["y"], &[])], &["q"])),
        refused(
            "20_value_made_twice",
            graph(
                vec![node("Relu", &["x"], &["y"], &[]), node("Neg", &["x"], &["y"], &[])],
                &["y"],
            ),
        ),
        refused(
            "22_wrong_type_of_attribute",
            graph(vec![node("Softmax", &["x"], &["y"], &[wire::string("axis", "a")])], &["y"]),
        ),
        refused(
            "22_element_type_99",
            Graph {
                nodes: vec![node("Relu", &["x"], &["y"], &[])],
                inputs: vec![value("x", 99, &[2])],
                outputs: vec![value("y", 99, &[2])],
                ..Graph::default()
            }
            .file(),
        ),
        refused(
            "22_cast_to_99",
            graph(vec![node("Cast", &["x"], &["y"], &[int("to", 99)])], &["y"]),
        ),
        Case::new(
            "32_rank_of_70",
            Expect::Refused,
            Graph {
                nodes: vec![node("Relu", &["x"], &["y"], &[])],
                inputs: vec![value("x", elem::F32, &[1; 70])],
                outputs: vec![wire::open("y", elem::F32)],
                ..Graph::default()
            }
            .file(),
        ),
    ]
}

/// `n` nodes in a row.
fn chain(n: usize) -> Vec<u8> {
    let nodes =
        (0..n).map(|i| node("Neg", &[&format!("v{i}")], &[&format!("v{}", i + 1)], &[])).collect();
    Graph {
        nodes,
        inputs: vec![value("v0", elem::F32, &[1])],
        outputs: vec![value(&format!("v{n}"), elem::F32, &[1])],
        ..Graph::default()
    }
    .file()
}

fn chains() -> Vec<Case> {
    let wide: Vec<String> = (0..200_000).map(|i| format!("v{i}")).collect();
    let names: Vec<&str> = wide.iter().map(String::as_str).collect();
    let split = Graph {
        nodes: vec![node("Split", &["x"], &names, &[int("num_outputs", 200_000)])],
        inputs: vec![value("x", elem::F32, &[200_000])],
        outputs: vec![value("v7", elem::F32, &[1])],
        ..Graph::default()
    };
    vec![
        Case::new("31_chain_of_20000", Expect::Answered, chain(20_000)),
        Case::new("31_chain_of_200000", Expect::Answered, chain(200_000)),
        Case::new("31_chain_of_200000_untrusted", Expect::Limit, chain(200_000))
            .args(&["--untrusted"]),
        Case::new("31_split_into_200000", Expect::Either, split.file()),
    ]
}
