//! Tensors of hostile sizes: larger than memory, than 2⁶⁴, than their data; negative; endless.

use super::wire::{self, Graph, Message, elem, f32s, i64s, ints, node, open, value};
use super::{Case, Expect};

pub(super) fn cases() -> Vec<Case> {
    let mut all = huge();
    all.extend(grown());
    all.extend(declared());
    all
}

/// `nodes` that make `y` of `x`, which has the sizes `dims`, and of these weights.
fn model(nodes: Vec<Message>, weights: Vec<Message>, dims: &[i64], out: i64) -> Vec<u8> {
    let inputs = vec![value("x", elem::F32, dims)];
    Graph { nodes, weights, inputs, outputs: vec![open("y", out)] }.file()
}

fn refused(name: &str, model: Vec<u8>) -> Case {
    Case::new(name, Expect::Refused, model)
}

fn huge() -> Vec<Case> {
    let fill = |n: &[i64]| {
        let nodes = vec![
            node("ConstantOfShape", &["n"], &["c"], &[]),
            node("Add", &["c", "x"], &["y"], &[]),
        ];
        model(nodes, vec![i64s("n", &[n.len() as i64], n)], &[1], elem::F32)
    };
    let two = |op: &str, n: &[i64], dims: &[i64]| {
        let weights = vec![i64s("n", &[n.len() as i64], n)];
        model(vec![node(op, &["x", "n"], &["y"], &[])], weights, dims, elem::F32)
    };
    let range = |from: f32, to: f32, step: f32| {
        let weights = vec![f32s("a", &[], &[from]), f32s("b", &[], &[to]), f32s("c", &[], &[step])];
        let nodes = vec![
            node("Range", &["a", "b", "c"], &["r"], &[]),
            node("ReduceSum", &["r"], &["s"], &[]),
            node("Add", &["s", "x"], &["y"], &[]),
        ];
        model(nodes, weights, &[1], elem::F32)
    };
    let pads = |n: &[i64]| {
        let weights = vec![i64s("n", &[n.len() as i64], n)];
        model(vec![node("Pad", &["x", "n"], &["y"], &[])], weights, &[2, 2], elem::F32)
    };
    let eight = vec![i64s("n", &[1], &[2 << 30])];
    let fold = vec![
        node("ConstantOfShape", &["n"], &["c"], &[]),
        node("Exp", &["c"], &["e"], &[]),
        node("ReduceMax", &["e"], &["m"], &[]),
        node("Add", &["m", "x"], &["y"], &[]),
    ];
    vec![
        refused("03_constant_of_4_tib", fill(&[1 << 40])),
        refused("04_product_of_2_to_the_66", fill(&[1 << 32, 1 << 32, 4])),
        refused("04_product_that_wraps_to_0", fill(&[1 << 32, 1 << 32])),
        Case::new("04_product_with_a_zero", Expect::Either, fill(&[0, i64::MAX, i64::MAX])),
        refused("04_negative_size", fill(&[-1])),
        refused("05_expand_2_to_the_65", two("Expand", &[1 << 32, 1 << 32, 8], &[1])),
        refused("05_expand_largest", two("Expand", &[i64::MAX], &[1])),
        refused("06_tile_2_to_the_62", two("Tile", &[1 << 62], &[4])),
        refused("06_tile_wraps", two("Tile", &[1 << 32, 1 << 32], &[4, 4])),
        refused("06_tile_negative", two("Tile", &[-1], &[4])),
        refused("25_fold_8_gib", model(fold, eight, &[1], elem::F32)),
        refused("28_range_step_tiny", range(0.0, 1.0, 1e-30)),
        refused("28_range_step_zero", range(0.0, 1.0, 0.0)),
        refused("28_range_step_nan", range(0.0, 1.0, f32::NAN)),
        refused("28_range_to_infinity", range(0.0, f32::INFINITY, 1.0)),
        refused("30_pad_largest", pads(&[0, 0, i64::MAX, i64::MAX])),
        refused("30_pad_wraps", pads(&[1 << 62, 1 << 62, 1 << 62, 1 << 62])),
        refused("30_pad_below_zero", pads(&[-9, -9, -9, -9])),
        refused("32_reshape_wraps", two("Reshape", &[1 << 32, 1 << 32, -1], &[4])),
        refused("32_reshape_two_unknown", two("Reshape", &[-1, -1], &[4])),
        refused("32_reshape_negative", two("Reshape", &[-2, 2], &[4])),
    ]
}

/// `n` nodes, each of which doubles the value before it.
fn doubling(n: usize, op: &str) -> Vec<u8> {
    let mut nodes = Vec::new();
    let mut last = "x".to_string();
    for i in 0..n {
        let next = if i + 1 == n { "y".to_string() } else { format!("d{i}") };
        nodes.push(match op {
            "Concat" => node("Concat", &[&last, &last], &[&next], &[wire::int("axis", 0)]),
            _ => node("Tile", &[&last, "two"], &[&next], &[]),
        });
        last = next;
    }
    model(nodes, vec![i64s("two", &[1], &[2])], &[1], elem::F32)
}

fn grown() -> Vec<Case> {
    let one_hot = |depth: i64| {
        let weights = vec![i64s("d", &[], &[depth]), f32s("v", &[2], &[0.0, 1.0])];
        let nodes = vec![
            node("Cast", &["x"], &["i"], &[wire::int("to", 7)]),
            node("OneHot", &["i", "d", "v"], &["y"], &[]),
        ];
        model(nodes, weights, &[8], elem::F32)
    };
    let resize = |scale: f32| {
        let weights = vec![f32s("s", &[4], &[1.0, 1.0, scale, scale])];
        model(vec![node("Resize", &["x", "", "s"], &["y"], &[])], weights, &[1, 1, 4, 4], 1)
    };
    let sizes = |n: i64| {
        let weights = vec![i64s("s", &[4], &[1, 1, n, n])];
        model(vec![node("Resize", &["x", "", "", "s"], &["y"], &[])], weights, &[1, 1, 4, 4], 1)
    };
    let eye = |n: i64| {
        let weights = vec![i64s("n", &[2], &[n, n])];
        let nodes = vec![
            node("ConstantOfShape", &["n"], &["c"], &[]),
            node("EyeLike", &["c"], &["y"], &[]),
        ];
        model(nodes, weights, &[1], elem::F32)
    };
    let window = |n: i64| {
        let weights = vec![i64s("n", &[], &[n])];
        model(vec![node("HannWindow", &["n"], &["y"], &[])], weights, &[1], elem::F32)
    };
    let conv = |stride: i64, pad: i64| {
        let attributes = [ints("strides", &[stride; 2]), ints("output_padding", &[pad; 2])];
        let weights = vec![f32s("w", &[1, 1, 2, 2], &[1.0; 4])];
        let nodes = vec![node("ConvTranspose", &["x", "w"], &["y"], &attributes)];
        model(nodes, weights, &[1, 1, 4, 4], elem::F32)
    };
    vec![
        refused("07_concat_doubling_40", doubling(40, "Concat")),
        refused("07_concat_doubling_70", doubling(70, "Concat")),
        refused("07_tile_doubling_40", doubling(40, "Tile")),
        refused("26_one_hot_largest", one_hot(i64::MAX)),
        refused("26_one_hot_2_to_the_40", one_hot(1 << 40)),
        refused("26_one_hot_negative", one_hot(-3)),
        refused("27_resize_infinite", resize(f32::INFINITY)),
        refused("27_resize_nan", resize(f32::NAN)),
        refused("27_resize_1e30", resize(1e30)),
        refused("27_resize_negative", resize(-2.0)),
        refused("27_resize_to_2_to_the_62", sizes(1 << 62)),
        refused("27_resize_to_less_than_nothing", sizes(-4)),
        refused("30_eye_2_to_the_31", eye(1 << 31)),
        refused("30_hann_window_2_to_the_60", window(1 << 60)),
        refused("30_hann_window_negative", window(-8)),
        refused("30_conv_transpose_stride_2_to_the_62", conv(1 << 62, 0)),
        refused("30_conv_transpose_padding_negative", conv(1, -7)),
    ]
}

/// A model that adds the weight `w` to `x`.
fn adds(w: Message) -> Vec<u8> {
    model(vec![node("Add", &["x", "w"], &["y"], &[])], vec![w], &[1], elem::F32)
}

fn declared() -> Vec<Case> {
    let sparse = |index: i64, dims: &[i64]| {
        let values = f32s("w", &[1], &[1.0]);
        let t = Message::new().message(1, &values).message(2, &i64s("i", &[1], &[index]));
        let t = dims.iter().fold(t, |t, &d| t.int(3, d));
        let graph = Graph {
            nodes: vec![node("Add", &["x", "w"], &["y"], &[])],
            inputs: vec![value("x", elem::F32, &[1])],
            outputs: vec![open("y", elem::F32)],
            ..Graph::default()
        };
        wire::model(&graph.message().message(15, &t)).finish()
    };
    let input = |dims: &[i64]| {
        let inputs = vec![value("x", elem::F32, dims)];
        let nodes = vec![node("Relu", &["x"], &["y"], &[])];
        Graph { nodes, inputs, outputs: vec![open("y", 1)], ..Graph::default() }.file()
    };
    let raw = |elem, dims: &[i64], len: usize| adds(wire::raw("w", elem, dims, &vec![0; len]));
    let mut all = vec![
        refused("11_raw_data_too_short", raw(elem::F32, &[4], 15)),
        refused("11_raw_data_too_long", raw(elem::F32, &[4], 17)),
        refused("12_sizes_without_data", adds(wire::head("w", elem::F32, &[1 << 40]))),
        refused("12_sizes_that_wrap", adds(wire::head("w", elem::F32, &[1 << 32, 1 << 32]))),
        refused("13_negative_size", adds(wire::head("w", elem::F32, &[-4]))),
        refused("13_smallest_size", adds(wire::head("w", elem::F32, &[i64::MIN]))),
        refused("15_sparse_index_outside", sparse(4, &[4])),
        refused("15_sparse_index_negative", sparse(-1, &[4])),
        refused("15_sparse_of_2_to_the_60", sparse(0, &[1 << 60])),
        refused("15_sparse_of_2_to_the_66", sparse(0, &[1 << 33, 1 << 33])),
        refused("12_input_of_2_to_the_66", input(&[1 << 33, 1 << 33])),
        refused("12_input_of_4_tib", input(&[1 << 40])),
    ];
    // Every element type with one byte too few.
    for dtype in (1..=26).filter(|d| ![8].contains(d)) {
        all.push(refused(&format!("11_type_{dtype}_without_data"), raw(dtype, &[64], 1)));
    }
    all.push(refused("11_strings_in_raw_data", raw(elem::STRING, &[4], 4)));
    all
}
