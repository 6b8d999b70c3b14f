//! Small models that are right: what mutations start from.

use super::wire::{
    self, Graph, Message, body, elem, f32s, float, head, i64s, int, ints, node, node_of, open, raw,
    string, value,
};

/// Files by name; each loads and runs.
pub fn models() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = layers();
    all.extend(moves());
    all.extend(numbers());
    all.extend(control());
    all.extend(values());
    all
}

fn one(nodes: Vec<Message>, weights: Vec<Message>, dims: &[i64], out: i64) -> Vec<u8> {
    let inputs = vec![value("x", elem::F32, dims)];
    Graph { nodes, weights, inputs, outputs: vec![open("y", out)] }.file()
}

fn ramp(name: &str, dims: &[i64]) -> Message {
    let n: i64 = dims.iter().product();
    let data: Vec<f32> = (0..n).map(|i| (i % 7) as f32 * 0.25 - 0.5).collect();
    f32s(name, dims, &data)
}

fn layers() -> Vec<(&'static str, Vec<u8>)> {
    let conv = vec![
        node("Conv", &["x", "w", "b"], &["c"], &[ints("pads", &[1; 4]), ints("strides", &[2, 2])]),
        node("Relu", &["c"], &["r"], &[]),
        node("MaxPool", &["r"], &["y"], &[ints("kernel_shape", &[2, 2])]),
    ];
    let gemm = vec![
        node("Flatten", &["x"], &["f"], &[int("axis", 1)]),
        node("Gemm", &["f", "w", "b"], &["g"], &[int("transB", 1), float("alpha", 0.5)]),
        node("Softmax", &["g"], &["y"], &[int("axis", -1)]),
    ];
    let norm = vec![
        node("LayerNormalization", &["x", "s", "b"], &["n"], &[]),
        node("MatMul", &["n", "w"], &["y"], &[]),
    ];
    let attention = vec![
        node("Transpose", &["x"], &["t"], &[ints("perm", &[0, 2, 1])]),
        node("MatMul", &["x", "t"], &["a"], &[]),
        node("Softmax", &["a"], &["p"], &[]),
        node("MatMul", &["p", "x"], &["y"], &[]),
    ];
    let lstm = vec![node("LSTM", &["x", "w", "r"], &["y"], &[int("hidden_size", 2)])];
    let quantized = vec![
        node("QuantizeLinear", &["x", "s", "z"], &["q"], &[]),
        node("DequantizeLinear", &["q", "s", "z"], &["y"], &[]),
    ];
    let batch_norm = vec![
        node("BatchNormalization", &["x", "s", "b", "b", "s"], &["n"], &[]),
        node("GlobalAveragePool", &["n"], &["y"], &[]),
    ];
    let transposed = vec![node("ConvTranspose", &["x", "w"], &["y"], &[ints("strides", &[2, 2])])];
    let image = &[1, 2, 6, 6];
    vec![
        ("conv", one(conv, vec![ramp("w", &[3, 2, 3, 3]), ramp("b", &[3])], image, elem::F32)),
        ("gemm", one(gemm, vec![ramp("w", &[4, 8]), ramp("b", &[4])], &[2, 2, 4], elem::F32)),
        (
            "norm",
            one(
                norm,
                vec![ramp("s", &[8]), ramp("b", &[8]), ramp("w", &[8, 4])],
                &[2, 3, 8],
                elem::F32,
            ),
        ),
        ("attention", one(attention, vec![], &[2, 4, 8], elem::F32)),
        ("lstm", one(lstm, vec![ramp("w", &[1, 8, 3]), ramp("r", &[1, 8, 2])], &[4, 1, 3], 1)),
        (
            "quantized",
            one(quantized, vec![f32s("s", &[], &[0.1]), raw("z", elem::U8, &[], &[3])], &[2, 5], 1),
        ),
        (
            "batch_norm",
            one(batch_norm, vec![f32s("s", &[2], &[1.0, 2.0]), ramp("b", &[2])], image, 1),
        ),
        ("conv_transpose", one(transposed, vec![ramp("w", &[2, 3, 2, 2])], image, elem::F32)),
    ]
}

fn moves() -> Vec<(&'static str, Vec<u8>)> {
    let gather = vec![
        node("Gather", &["x", "i"], &["g"], &[int("axis", 1)]),
        node("ScatterElements", &["g", "j", "u"], &["y"], &[int("axis", 0)]),
    ];
    let slice = vec![
        node("Slice", &["x", "a", "b", "c", "d"], &["s"], &[]),
        node("Pad", &["s", "p"], &["q"], &[string("mode", "reflect")]),
        node("Concat", &["q", "q"], &["y"], &[int("axis", -1)]),
    ];
    let shapes = vec![
        node("Shape", &["x"], &["s"], &[]),
        node("Gather", &["s", "zero"], &["n"], &[]),
        node("Concat", &["n", "minus"], &["t"], &[int("axis", 0)]),
        node("Reshape", &["x", "t"], &["r"], &[]),
        node("Expand", &["r", "e"], &["y"], &[]),
    ];
    let one_i = |name: &str, n: i64| i64s(name, &[1], &[n]);
    vec![
        (
            "gather",
            one(
                gather,
                vec![i64s("i", &[2], &[-1, 0]), i64s("j", &[1, 2], &[1, 0]), ramp("u", &[1, 2])],
                &[2, 4],
                1,
            ),
        ),
        (
            "slice",
            one(
                slice,
                vec![
                    one_i("a", 3),
                    one_i("b", -9),
                    one_i("c", 1),
                    one_i("d", -1),
                    i64s("p", &[4], &[0, 1, 0, 1]),
                ],
                &[2, 4],
                1,
            ),
        ),
        (
            "shapes",
            one(
                shapes,
                vec![one_i("zero", 0), one_i("minus", -1), i64s("e", &[3], &[2, 1, 1])],
                &[3, 2, 2],
                1,
            ),
        ),
    ]
}

fn numbers() -> Vec<(&'static str, Vec<u8>)> {
    let resize = vec![node("Resize", &["x", "", "s"], &["y"], &[string("mode", "linear")])];
    let reduce = vec![
        node("ReduceMean", &["x", "axes"], &["m"], &[int("keepdims", 1)]),
        node("Sub", &["x", "m"], &["d"], &[]),
        node("Pow", &["d", "two"], &["p"], &[]),
        node("ReduceSum", &["p"], &["y"], &[]),
    ];
    let top = vec![
        node("TopK", &["x", "k"], &["v", "i"], &[]),
        node("Split", &["v"], &["a", "b"], &[int("num_outputs", 2), int("axis", 0)]),
        node("Einsum", &["a", "b"], &["y"], &[string("equation", "ij,ij->i")]),
    ];
    let picks = vec![
        node("Greater", &["x", "zero"], &["m"], &[]),
        node("NonZero", &["m"], &["n"], &[]),
        node("Transpose", &["n"], &["t"], &[]),
        node("GatherND", &["x", "t"], &["y"], &[]),
    ];
    let one_i = |name: &str, n: i64| i64s(name, &[1], &[n]);
    vec![
        ("resize", one(resize, vec![f32s("s", &[4], &[1.0, 1.0, 2.0, 1.5])], &[1, 1, 4, 4], 1)),
        ("reduce", one(reduce, vec![one_i("axes", -1), f32s("two", &[], &[2.0])], &[3, 4], 1)),
        ("top", one(top, vec![one_i("k", 3)], &[4, 5], 1)),
        ("picks", one(picks, vec![f32s("zero", &[], &[0.4])], &[3, 4], 1)),
    ]
}

fn control() -> Vec<(&'static str, Vec<u8>)> {
    let scalar = |name: &str| value(name, elem::F32, &[]);
    let step = Graph {
        nodes: vec![
            node("Add", &["s", "s"], &["t"], &[]),
            node("Identity", &["go"], &["go_on"], &[]),
            node("Mul", &["t", "x"], &["seen"], &[]),
        ],
        inputs: vec![value("i", elem::I64, &[]), value("go", elem::BOOL, &[]), scalar("s")],
        outputs: vec![value("go_on", elem::BOOL, &[]), scalar("t"), open("seen", elem::F32)],
        ..Graph::default()
    };
    let looped =
        vec![node("Loop", &["n", "", "one"], &["last", "y"], &[body("body", &step.message())])];
    let scanned = Graph {
        nodes: vec![node("Add", &["s", "e"], &["t"], &[]), node("Neg", &["t"], &["o"], &[])],
        inputs: vec![value("s", elem::F32, &[2]), value("e", elem::F32, &[2])],
        outputs: vec![value("t", elem::F32, &[2]), value("o", elem::F32, &[2])],
        ..Graph::default()
    };
    let attributes = [body("body", &scanned.message()), int("num_scan_inputs", 1)];
    let scan = vec![node("Scan", &["start", "x"], &["end", "y"], &attributes)];
    let branch = |op: &str| {
        body(
            if op == "Neg" { "then_branch" } else { "else_branch" },
            &Graph {
                nodes: vec![node(op, &["x"], &["z"], &[])],
                outputs: vec![open("z", elem::F32)],
                ..Graph::default()
            }
            .message(),
        )
    };
    let choice = vec![
        node("ReduceMax", &["x"], &["m"], &[int("keepdims", 0)]),
        node("Greater", &["m", "half"], &["c"], &[]),
        node("If", &["c"], &["y"], &[branch("Neg"), branch("Abs")]),
    ];
    let twice = [node("Neg", &["a"], &["h"], &[]), node("Exp", &["h"], &["b"], &[])];
    let calls = Graph {
        nodes: vec![node_of("f", "F", &["x"], &["y"])],
        inputs: vec![value("x", elem::F32, &[3])],
        outputs: vec![open("y", elem::F32)],
        ..Graph::default()
    }
    .model()
    .message(25, &wire::function("F", &["a"], &["b"], &twice))
    .finish();
    vec![
        ("loop", one(looped, vec![i64s("n", &[], &[3]), f32s("one", &[], &[1.0])], &[2], 1)),
        ("scan", one(scan, vec![f32s("start", &[2], &[0.0, 1.0])], &[3, 2], 1)),
        ("if", one(choice, vec![f32s("half", &[], &[0.5])], &[4], 1)),
        ("function", calls),
    ]
}

fn values() -> Vec<(&'static str, Vec<u8>)> {
    let sequence = vec![
        node("SplitToSequence", &["x"], &["s"], &[int("axis", 0)]),
        node("SequenceAt", &["s", "i"], &["a"], &[]),
        node("ConcatFromSequence", &["s"], &["c"], &[int("axis", 0)]),
        node("Add", &["c", "a"], &["y"], &[]),
    ];
    let texts = head("t", elem::STRING, &[2]).text(6, "one two").text(6, "three");
    let strings = Graph {
        nodes: vec![
            node("StringSplit", &["t"], &["p", "n"], &[]),
            node("RegexFullMatch", &["p"], &["y"], &[string("pattern", "t[a-z]+")]),
        ],
        weights: vec![texts],
        inputs: vec![],
        outputs: vec![open("y", elem::BOOL)],
    };
    let sparse = Message::new()
        .message(1, &f32s("w", &[2], &[1.0, 2.0]))
        .message(2, &i64s("i", &[2], &[1, 3]))
        .int(3, 4);
    let graph = Graph {
        nodes: vec![node("Add", &["x", "w"], &["y"], &[])],
        inputs: vec![value("x", elem::F32, &[4])],
        outputs: vec![open("y", elem::F32)],
        ..Graph::default()
    };
    vec![
        ("sequence", one(sequence, vec![i64s("i", &[], &[1])], &[2, 3], 1)),
        ("strings", strings.file()),
        ("sparse", wire::model(&graph.message().message(15, &sparse)).finish()),
    ]
}
