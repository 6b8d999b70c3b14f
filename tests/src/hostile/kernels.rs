//! Operators with hostile attributes and indices: zero strides, indices outside, NaN, overflow.

use super::wire::{
    Graph, Message, elem, f32s, float, i64s, int, ints, node, open, raw, string, value,
};
use super::{Case, Expect};

pub(super) fn cases() -> Vec<Case> {
    let mut all = indices();
    all.extend(windows());
    all.extend(layers());
    all.extend(arithmetic());
    all.extend(others());
    all.extend(text());
    all
}

fn model(nodes: Vec<Message>, weights: Vec<Message>, dims: &[i64], out: i64) -> Vec<u8> {
    let inputs = vec![value("x", elem::F32, dims)];
    Graph { nodes, weights, inputs, outputs: vec![open("y", out)] }.file()
}

fn refused(name: impl Into<String>, model: Vec<u8>) -> Case {
    Case::new(name, Expect::Refused, model)
}

fn indices() -> Vec<Case> {
    let mut all = Vec::new();
    for (what, at) in [("far", 99), ("largest", i64::MAX), ("smallest", i64::MIN)] {
        let one = i64s("i", &[1], &[at]);
        let pair = i64s("i", &[1, 2], &[at, 0]);
        let square = i64s("i", &[1, 1], &[at]);
        let x = &[4, 4][..];
        let gather = |op: &str, i: &Message| {
            model(vec![node(op, &["x", "i"], &["y"], &[])], vec![i.clone()], x, elem::F32)
        };
        let scatter = |op: &str, i: &Message, updates: Message| {
            let nodes = vec![node(op, &["x", "i", "u"], &["y"], &[])];
            model(nodes, vec![i.clone(), updates], x, elem::F32)
        };
        all.push(refused(format!("15_gather_{what}"), gather("Gather", &one)));
        all.push(refused(format!("15_gather_elements_{what}"), gather("GatherElements", &square)));
        all.push(refused(format!("15_gather_nd_{what}"), gather("GatherND", &pair)));
        let u = f32s("u", &[1, 1], &[1.0]);
        all.push(refused(
            format!("16_scatter_elements_{what}"),
            scatter("ScatterElements", &square, u),
        ));
        let u = f32s("u", &[1], &[1.0]);
        all.push(refused(format!("16_scatter_nd_{what}"), scatter("ScatterND", &pair, u)));
        let labels = vec![i64s("l", &[4], &[at, 0, 0, 0])];
        let loss = vec![node("SoftmaxCrossEntropyLoss", &["x", "l"], &["y"], &[])];
        all.push(refused(format!("15_loss_{what}"), model(loss, labels, x, elem::F32)));
        let axis = vec![node("Concat", &["x", "x"], &["y"], &[int("axis", at)])];
        all.push(refused(format!("16_axis_{what}"), model(axis, vec![], x, elem::F32)));
        let perm = vec![node("Transpose", &["x"], &["y"], &[ints("perm", &[at, 0])])];
        all.push(refused(format!("16_perm_{what}"), model(perm, vec![], x, elem::F32)));
        let k = vec![node("TopK", &["x", "i"], &["y", "z"], &[])];
        all.push(refused(format!("26_topk_{what}"), model(k, vec![one.clone()], x, elem::F32)));
        let split = vec![node("Split", &["x", "s"], &["y", "z"], &[])];
        let sizes = vec![i64s("s", &[2], &[at, at])];
        all.push(refused(format!("26_split_{what}"), model(split, sizes, x, elem::F32)));
        let slice = vec![node("Slice", &["x", "i", "e", "a", "s"], &["y"], &[])];
        let ends = |step| {
            let end = i64s("e", &[1], &[i64::MIN]);
            vec![one.clone(), end, i64s("a", &[1], &[0]), i64s("s", &[1], &[step])]
        };
        for (how, step, expect) in [
            ("zero", 0, Expect::Refused),
            ("largest", i64::MAX, Expect::Either),
            ("smallest", i64::MIN, Expect::Either),
        ] {
            let name = format!("26_slice_{what}_step_{how}");
            let file = model(slice.clone(), ends(step), x, elem::F32);
            all.push(Case::new(name, expect, file));
        }
    }
    all
}

fn windows() -> Vec<Case> {
    let conv = |name: &str, attributes: &[Message]| {
        let weights = vec![f32s("w", &[1, 1, 2, 2], &[1.0; 4])];
        let nodes = vec![node("Conv", &["x", "w"], &["y"], attributes)];
        refused(name, model(nodes, weights, &[1, 1, 4, 4], elem::F32))
    };
    let pool = |name: &str, op: &str, attributes: &[Message]| {
        let nodes = vec![node(op, &["x"], &["y"], attributes)];
        refused(name, model(nodes, vec![], &[1, 1, 4, 4], elem::F32))
    };
    let k = |n: i64| ints("kernel_shape", &[n, n]);
    let most = i64::MAX;
    vec![
        conv("17_conv_stride_0", &[ints("strides", &[0, 0])]),
        conv("17_conv_stride_negative", &[ints("strides", &[-1, 1])]),
        conv("17_conv_dilation_0", &[ints("dilations", &[0, 0])]),
        conv("17_conv_dilation_largest", &[ints("dilations", &[most, most])]),
        conv("17_conv_group_0", &[int("group", 0)]),
        conv("17_conv_group_negative", &[int("group", -1)]),
        conv("17_conv_pads_largest", &[ints("pads", &[most; 4])]),
        conv("17_conv_pads_smallest", &[ints("pads", &[i64::MIN; 4])]),
        conv("17_conv_pads_2_to_the_40", &[ints("pads", &[1 << 40; 4])]),
        conv("17_conv_kernel_shape_differs", &[k(7)]),
        conv("17_conv_auto_pad_unknown", &[string("auto_pad", "SIDEWAYS")]),
        pool("21_max_pool_kernel_0", "MaxPool", &[k(0)]),
        pool("21_max_pool_kernel_largest", "MaxPool", &[k(most)]),
        pool("21_max_pool_stride_0", "MaxPool", &[k(2), ints("strides", &[0, 0])]),
        pool("21_average_pool_kernel_negative", "AveragePool", &[k(-2)]),
        pool("21_average_pool_pads", "AveragePool", &[k(2), ints("pads", &[1 << 62; 4])]),
        pool("21_lp_pool_p_0", "LpPool", &[k(2), int("p", 0)]),
        pool("21_lrn_size_0", "LRN", &[int("size", 0)]),
        pool("21_depth_to_space_0", "DepthToSpace", &[int("blocksize", 0)]),
        pool("21_space_to_depth_largest", "SpaceToDepth", &[int("blocksize", most)]),
    ]
}

fn layers() -> Vec<Case> {
    let group_norm = |groups: i64| {
        let weights = vec![f32s("s", &[4], &[1.0; 4]), f32s("b", &[4], &[0.0; 4])];
        let nodes = vec![node(
            "GroupNormalization",
            &["x", "s", "b"],
            &["y"],
            &[int("num_groups", groups)],
        )];
        model(nodes, weights, &[1, 4, 2, 2], elem::F32)
    };
    let quantize = |scale: f32| {
        let weights = vec![f32s("s", &[], &[scale]), raw("z", elem::U8, &[], &[0])];
        model(vec![node("QuantizeLinear", &["x", "s", "z"], &["y"], &[])], weights, &[4], elem::U8)
    };
    let four_bits = {
        let attributes =
            [int("K", 1 << 20), int("N", 1 << 20), int("bits", 4), int("block_size", 16)];
        let weights = vec![raw("b", elem::U8, &[1, 1, 8], &[0; 8]), f32s("s", &[1], &[1.0])];
        let nodes = vec![
            node("MatMulNBits", &["x", "b", "s"], &["y"], &attributes).text(7, "com.microsoft"),
        ];
        model(nodes, weights, &[1, 16], elem::F32)
    };
    let lstm = |hidden: i64, lens: i64| {
        let weights = vec![
            f32s("w", &[1, 8, 3], &[0.1; 24]),
            f32s("r", &[1, 8, 2], &[0.1; 16]),
            raw("l", elem::I32, &[1], &(lens as i32).to_le_bytes()),
        ];
        let nodes =
            vec![node("LSTM", &["x", "w", "r", "", "l"], &["y"], &[int("hidden_size", hidden)])];
        model(nodes, weights, &[5, 1, 3], elem::F32)
    };
    vec![
        refused("21_group_norm_0", group_norm(0)),
        refused("21_group_norm_3_of_4", group_norm(3)),
        Case::new("21_quantize_scale_0", Expect::Either, quantize(0.0)),
        Case::new("21_quantize_scale_nan", Expect::Either, quantize(f32::NAN)),
        Case::new("21_quantize_scale_infinite", Expect::Either, quantize(f32::INFINITY)),
        refused("33_four_bit_weights_too_small", four_bits),
        refused("26_lstm_hidden_size_differs", lstm(1 << 40, 5)),
        Case::new("26_lstm_length_too_large", Expect::Either, lstm(2, 99)),
        Case::new("26_lstm_length_negative", Expect::Either, lstm(2, -1)),
    ]
}

fn arithmetic() -> Vec<Case> {
    let einsum = |equation: &str| {
        let nodes = vec![node("Einsum", &["x", "x"], &["y"], &[string("equation", equation)])];
        model(nodes, vec![], &[4, 4], elem::F32)
    };
    let divide = {
        let nodes = vec![
            node("Cast", &["x"], &["i"], &[int("to", 7)]),
            node("Div", &["i", "z"], &["y"], &[]),
        ];
        model(nodes, vec![i64s("z", &[1], &[0])], &[4], elem::I64)
    };
    let smallest = {
        let nodes = vec![
            node("Div", &["m", "n"], &["a"], &[]),
            node("Mod", &["m", "n"], &["b"], &[]),
            node("Abs", &["m"], &["c"], &[]),
            node("Neg", &["m"], &["d"], &[]),
            node("Sum", &["x", "x"], &["y"], &[]),
        ];
        model(nodes, vec![i64s("m", &[1], &[i64::MIN]), i64s("n", &[1], &[-1])], &[1], elem::F32)
    };
    let nms = {
        let weights = vec![
            f32s("s", &[1, 1, 4], &[f32::NAN; 4]),
            i64s("m", &[1], &[i64::MAX]),
            f32s("t", &[1], &[f32::NAN]),
        ];
        let nodes = vec![node("NonMaxSuppression", &["x", "s", "m", "t"], &["y"], &[])];
        model(nodes, weights, &[1, 4, 4], elem::I64)
    };
    vec![
        refused("26_einsum_nonsense", einsum("ij,->,k->")),
        refused("26_einsum_unknown_letter", einsum("ij,jk->il")),
        Case::new("26_integer_division_by_zero", Expect::Either, divide),
        Case::new("26_smallest_integer_by_minus_one", Expect::Answered, smallest),
        Case::new("26_nms_of_nan", Expect::Either, nms),
    ]
}

fn others() -> Vec<Case> {
    let four = |op: &str, attributes: &[Message]| {
        model(vec![node(op, &["x"], &["y"], attributes)], vec![], &[1, 4, 2, 2], elem::F32)
    };
    vec![
        Case::new("26_dropout_of_everything", Expect::Either, four("Dropout", &[])),
        Case::new(
            "26_lp_normalization_p_0",
            Expect::Refused,
            four("LpNormalization", &[int("p", 0)]),
        ),
        Case::new("26_elu_nan", Expect::Answered, four("Elu", &[float("alpha", f32::NAN)])),
        refused("26_flatten_axis_9", four("Flatten", &[int("axis", 9)])),
        refused("26_squeeze_of_4", {
            let nodes = vec![node("Squeeze", &["x", "a"], &["y"], &[])];
            model(nodes, vec![i64s("a", &[1], &[1])], &[1, 4, 2, 2], elem::F32)
        }),
        refused(
            "26_det_of_a_vector",
            model(vec![node("Det", &["x"], &["y"], &[])], vec![], &[4], 1),
        ),
        refused("26_affine_grid_largest", {
            let nodes = vec![node("AffineGrid", &["x", "n"], &["y"], &[])];
            model(nodes, vec![i64s("n", &[4], &[1, 1, 1 << 40, 1 << 40])], &[1, 2, 3], elem::F32)
        }),
        refused("26_col2im_largest", {
            let nodes = vec![node("Col2Im", &["x", "n", "k"], &["y"], &[])];
            let weights = vec![i64s("n", &[2], &[1 << 40, 1 << 40]), i64s("k", &[2], &[2, 2])];
            model(nodes, weights, &[1, 4, 4], elem::F32)
        }),
        refused("26_max_unpool_outside", {
            let nodes =
                vec![node("MaxUnpool", &["x", "i"], &["y"], &[ints("kernel_shape", &[2, 2])])];
            model(nodes, vec![i64s("i", &[1, 1, 1, 1], &[1 << 50])], &[1, 1, 1, 1], elem::F32)
        }),
        refused("26_reverse_sequence_too_long", {
            let nodes = vec![node("ReverseSequence", &["x", "l"], &["y"], &[])];
            model(nodes, vec![i64s("l", &[4], &[99; 4])], &[4, 4], elem::F32)
        }),
    ]
}

fn text() -> Vec<Case> {
    let one = |op: &str, attributes: &[Message], data: &str, out: i64| {
        let t = Message::new().int(1, 1).int(2, elem::STRING).text(8, "t").text(6, data);
        let nodes = vec![node(op, &["t"], &["y"], attributes)];
        Graph { nodes, weights: vec![t], inputs: vec![], outputs: vec![open("y", out)] }.file()
    };
    let regex = |pattern: &str, data: &str| {
        one("RegexFullMatch", &[string("pattern", pattern)], data, elem::BOOL)
    };
    let bytes = Message::new().int(1, 1).int(2, elem::STRING).text(8, "t").bytes(6, &[0xff, 0xfe]);
    vec![
        refused("22_regex_huge", regex("((a{1000}){1000}){1000}", "a")),
        Case::new("22_regex_that_backtracks", Expect::Answered, regex("(a+)+b", &"a".repeat(4096))),
        refused("22_regex_malformed", regex("((((", "a")),
        refused(
            "22_regex_nested",
            regex(&format!("{}a{}", "(".repeat(9000), ")".repeat(9000)), "a"),
        ),
        refused("22_string_that_is_no_number", {
            one("Cast", &[int("to", 1)], "not a number", elem::F32)
        }),
        refused("22_string_not_utf8", {
            let nodes = vec![node("Identity", &["t"], &["y"], &[])];
            let outputs = vec![open("y", elem::STRING)];
            Graph { nodes, weights: vec![bytes], inputs: vec![], outputs }.file()
        }),
        Case::new("22_image_of_noise", Expect::Answered, {
            let noise: Vec<u8> = (0..64).map(|i| (i * 37) as u8).collect();
            let nodes = vec![node("ImageDecoder", &["d"], &["y"], &[])];
            let weights = vec![raw("d", elem::U8, &[64], &noise)];
            Graph { nodes, weights, inputs: vec![], outputs: vec![open("y", elem::U8)] }.file()
        }),
        Case::new("22_image_that_claims_65535_squared", Expect::Either, {
            let nodes = vec![node("ImageDecoder", &["d"], &["y"], &[])];
            let weights = vec![raw("d", elem::U8, &[PNG.len() as i64], PNG)];
            Graph { nodes, weights, inputs: vec![], outputs: vec![open("y", elem::U8)] }.file()
        }),
    ]
}

/// The head of a PNG of 65535 × 65535 pixels, 16 bits each.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0xff, 0xff,
    0, 0, 0xff, 0xff, 16, 6, 0, 0, 0, 0x4d, 0x5d, 0x2c, 0xd6, 0, 0, 0, 0, b'I', b'E', b'N', b'D',
    0xae, 0x42, 0x60, 0x82,
];
