//! A model that is written and read again is the same graph.

use super::export;
use crate::onnx::{ImportOptions, Model, Port, import, parse};
use crate::{Graph, ops};

/// The model around a graph.
fn model(graph: Graph) -> Model {
    let port = |&v: &crate::ValueId| Port {
        name: graph.name(v).map_or("", |n| &**n).to_string(),
        ty: graph.fact(v).ty.clone(),
        shape: graph.fact(v).shape.clone(),
    };
    let inputs = graph.inputs().iter().map(port).collect();
    let outputs = graph.outputs().iter().map(port).collect();
    Model { inputs, outputs, graph, ..Model::default() }
}

fn again(model: &Model) -> Model {
    let bytes = export(model).unwrap();
    import(bytes.into(), &ImportOptions::default()).unwrap()
}

/// Checks that the graph of `text` comes back as it is.
fn round_trip(text: &str) {
    let before = parse(text).unwrap_or_else(|r| panic!("{text}: {r}"));
    let expected = before.to_string();
    assert_eq!(again(&model(before)).graph.to_string(), expected);
}

#[test]
fn attributes_come_back() {
    round_trip(
        "x: float[n, 4]; w: float[4] = 0.5; a = Elu<alpha = 0.5>(x); b = Add(a, w); \
         c = Flatten<axis = 0>(b); d = Cast<to = 10>(c); e = Shape<start = 1>(d); → d, e",
    );
}

#[test]
fn nodes_have_names_of_their_own() {
    let mut graph = parse("x: float[n, 4]; w: float[4, 4] = 0.5; y = MatMul(x, w); → y").unwrap();
    let id = graph.order()[0];
    let relu = Some(ops::Activation::Relu);
    graph.node_mut(id).op = ops::MatMul { activation: relu, ..ops::MatMul::PLAIN }.into();
    graph.node_mut(id).name = "p".into();
    let bytes = export(&model(graph)).unwrap();
    let written = rinfer_onnx_proto::decode(bytes.into()).unwrap().graph.unwrap_or_default();
    let names: Vec<&str> = written.node.iter().map(|n| n.name()).collect();
    assert_eq!(names, ["p", "p_1"]);
}

#[test]
fn omitted_inputs_stay_omitted() {
    round_trip("x: float[n]; hi: float = 6; y = Clip(x, _, hi); → y");
}

#[test]
fn windows_come_back() {
    round_trip(
        "x: float[n, 4, 8, 8]; w: float[4, 2, 3, 3] = 1; s: float[4] = [1, 1, 2, 3]; \
         a = Conv<group = 2, pads = [1, 1, 1, 1], strides = [2, 2]>(x, w); \
         b = MaxPool<kernel_shape = [2, 2], ceil_mode = 1>(a); \
         c = Resize<mode = \"linear\">(b, _, s); d = GlobalAveragePool(c); → d",
    );
}

#[test]
fn bodies_read_what_is_around_them_by_name() {
    round_trip(
        "c: bool; x: float[2]; y = If<then_branch = { a = Relu(x); b = Abs(a); → b }, \
         else_branch = { w: float[2] = 1; z = Add(x, w); → z }>(c); → y",
    );
}

#[test]
fn a_loop_comes_back() {
    let text = "n: int64; x: float[2]; k: bool = 1; w: float[2]; y, s = Loop<body = { \
                i: int64; c: bool; v: float[2]; d = Identity(c); u = Add(v, w); t = Neg(u); \
                → d, u, t }>(n, k, x); → y, s";
    let before = parse(text).unwrap();
    let after = again(&model(before.clone())).graph;
    assert_eq!(after.to_string().lines().count(), before.to_string().lines().count());
    assert!(matches!(&after.node(after.order()[0]).op, crate::Op::Loop(op) if op.state == 1));
}

#[test]
fn an_output_that_is_an_input_or_twice_there_keeps_its_names() {
    let graph = parse("x: float[2]; y = Relu(x); → y, y, x").unwrap();
    let mut model = model(graph);
    model.outputs[1].name = "again".into();
    model.outputs[2].name = "copy".into();
    let after = again(&model);
    let names: Vec<&str> = after.outputs.iter().map(|p| &*p.name).collect();
    assert_eq!(names, ["y", "again", "copy"]);
    assert_eq!(after.graph.order().len(), 3);
}

#[test]
fn what_is_fused_is_written_in_pieces() {
    let mut g = Graph::new();
    let x = g.input("x", crate::Fact::sized(crate::DType::F32, &[3, 2, 4]));
    let w = g.constant(crate::Tensor::from_slice(&[4, 5], &[0.5f32; 20]));
    let bias = g.constant(crate::Tensor::vector(&[1f32; 5]));
    let op =
        ops::MatMul { alpha: 0.5, activation: Some(ops::Activation::Gelu), ..ops::MatMul::PLAIN };
    let y = g.push(op, &[Some(x), Some(w), Some(bias)], 1).unwrap()[0];
    g.set_name(y, "y");
    g.output(y);
    let after = again(&model(g)).graph;
    let names: Vec<String> = after.nodes().map(|(_, n)| crate::text::operator(&n.op)).collect();
    assert_eq!(
        names.join(" "),
        "MatMul{trans_a: false, trans_b: false, alpha: 1.0, \
        activation: None} Mul Add Gelu"
    );
    assert_eq!(after.fact(after.outputs()[0]).to_string(), "float[3, 2, 5]");
}

#[test]
fn moves_and_reductions_come_back() {
    round_trip(
        "x: float[n, 4, 6]; s: int64[1] = 2; i: int64[2] = 1; p: int64[6] = [0, 0, 1, 0, 0, 1]; \
         a = Transpose<perm = [0, 2, 1]>(x); b, c = Split<axis = 2, num_outputs = 2>(a); \
         d = Concat<axis = -1>(b, c); e = Gather<axis = 1>(d, i); f = Pad<mode = \"edge\">(e, p); \
         g = ReduceMean<keepdims = 0>(f, s); h = Softmax<axis = 0>(g); → h",
    );
}

/// Checks that the operators of a model come back with every attribute.
fn nodes_come_back(text: &str) {
    let before = parse(text).unwrap_or_else(|r| panic!("{text}: {r}"));
    let nodes = |g: &Graph| g.nodes().map(|(_, n)| format!("{:?}", n.op)).collect::<Vec<_>>();
    let expected = nodes(&before);
    assert_eq!(nodes(&again(&model(before)).graph), expected);
}

#[test]
fn attention_comes_back() {
    nodes_come_back(
        "q: float[1, 4, 5, 8]; k: float[1, 2, 7, 8]; \
         y = Attention<is_causal = 1, scale = 0.5, softcap = 3.0, left_window_size = 4>(q, k, k); \
         → y",
    );
}

#[test]
fn models_over_rows_come_back() {
    nodes_come_back(
        "x: float[n, 2]; a = ai.onnx.ml.Scaler<offset = [1.0, 2.0], scale = [0.5, 0.25]>(x); \
         b = ai.onnx.ml.Normalizer<norm = \"L2\">(a); \
         c = ai.onnx.ml.LinearRegressor<coefficients = [1.0, 2.0], intercepts = [3.0]>(b); \
         d, e = ai.onnx.ml.LinearClassifier<coefficients = [1.0, 2.0, 3.0, 4.0], \
         classlabels_strings = [\"no\", \"yes\"], post_transform = \"SOFTMAX\">(b); \
         f = ai.onnx.ml.ZipMap<classlabels_strings = [\"no\", \"yes\"]>(e); → c, d, f",
    );
}

#[test]
fn trees_come_back() {
    nodes_come_back(
        "x: float[n, 2]; y, z = ai.onnx.ml.TreeEnsembleClassifier<nodes_treeids = [0, 0, 0, 1], \
         nodes_nodeids = [0, 1, 2, 0], nodes_featureids = [1, 0, 0, 0], \
         nodes_values = [0.5, 0.0, 0.0, 0.0], nodes_truenodeids = [1, 0, 0, 0], \
         nodes_falsenodeids = [2, 0, 0, 0], \
         nodes_modes = [\"BRANCH_LT\", \"LEAF\", \"LEAF\", \"LEAF\"], \
         class_treeids = [0, 0, 1], class_nodeids = [1, 2, 0], class_ids = [0, 1, 2], \
         class_weights = [1.0, 2.0, 3.0], classlabels_int64s = [7, 8, 9]>(x); → y, z",
    );
}

#[test]
fn support_vectors_come_back() {
    nodes_come_back(
        "x: float[n, 2]; y = ai.onnx.ml.SVMRegressor<kernel_type = \"RBF\", \
         kernel_params = [0.5, 0.0, 0.0], n_supports = 2, support_vectors = [1.0, 2.0, 3.0, 4.0], \
         coefficients = [1.0, -1.0], rho = [0.25]>(x); → y",
    );
}

#[test]
fn weights_beside_the_file_stand_at_pages_and_come_back() {
    struct Beside(Vec<u8>);
    impl crate::onnx::ExternalData for Beside {
        fn read(
            &self,
            location: &str,
            offset: u64,
            length: Option<u64>,
        ) -> Result<bytes::Bytes, crate::Reason> {
            assert_eq!((location, offset % 4096), ("weights.bin", 0));
            let at = offset as usize;
            Ok(bytes::Bytes::copy_from_slice(&self.0[at..at + length.unwrap() as usize]))
        }
    }
    let text = "x: float[1]; a: float[700] = 1.5; b: float[900] = 2.5; c: float = 3; \
                d = Add(x, a); e = Add(x, b); y = Concat<axis = 0>(d, e); z = Add(y, c); → z";
    let before = model(parse(text).unwrap());
    let mut data = Vec::new();
    let bytes = super::export_external(&before, "weights.bin", &mut data).unwrap();
    assert_eq!(data.len(), 4096 + 3600);
    assert!(bytes.len() < 1024);
    let beside = Beside(data);
    let options = ImportOptions { external: &beside, ..ImportOptions::default() };
    let after = import(bytes.into(), &options).unwrap();
    assert_eq!(after.graph.to_string(), before.graph.to_string());
}

#[test]
fn what_onnx_has_not_comes_back() {
    nodes_come_back(
        "x: float[3, 3]; a = com.microsoft.Inverse(x); \
         b = com.microsoft.MurmurHash3<seed = 7, positive = 0>(x); \
         c = com.microsoft.DynamicTimeWarping(x); ids: int64[3, 5]; \
         d = com.microsoft.NGramRepeatBlock<ngram_size = 2>(ids, x); \
         t: int64[n]; i: int64[1]; \
         e, f = com.microsoft.BifurcationDetector<max_ngram_size = 4>(t, t, i); → a, b, c, d, e, f",
    );
}
