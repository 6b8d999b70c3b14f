//! One table: every kernel that is vectorized, on every instruction set, against the scalar one. Not
//! a bit may differ: sums have one order everywhere, and products are added in one rounding.

use rinfer::{DType, Model, Session, Tensor, Value};
use rinfer_cli::fill::{Fill, Random};

#[rustfmt::skip]
const ROWS: &[&str] = &[
    // Elementary functions; each is within two or three ULPs of the truth.
    "x: float[1037]; y = Exp(x); → y",
    "x: float[1037]; y = Log(x); → y",
    "x: float[1037]; y = Tanh(x); → y",
    "x: float[1037]; y = Erf(x); → y",
    "x: float[1037]; y = Sigmoid(x); → y",
    "x: float[1037]; y = Softplus(x); → y",
    "x: float[1037]; y = Mish(x); → y",
    "x: float[1037]; y = Sin(x); → y",
    "x: float[1037]; y = Cos(x); → y",
    "x: float[1037]; y = Gelu(x); → y",
    "x: float[1037]; y = Gelu<approximate = \"tanh\">(x); → y",
    "x: float[1037]; y = Swish(x); → y",
    "x: float[1037]; y = Elu(x); → y",
    "x: float[1037]; y = Selu(x); → y",
    "x: float[1037]; y = Celu(x); → y",
    "x: float[1037]; y = Sqrt(x); → y",
    "x: float[1037]; y = Reciprocal(x); → y",
    "x: float[1037]; y = Round(x); → y",
    "x: float[1037]; y = HardSwish(x); → y",
    "x: float[1037]; y = LeakyRelu(x); → y",
    "x: float16[1037]; y = Tanh(x); z = Relu(y); → z",
    // Two operands, broadcast every way, in every width.
    "a: float[7, 1, 33]; b: float[5, 1]; y = Add(a, b); → y",
    "a: float[7, 5, 33]; b: float[33]; y = Div(a, b); → y",
    "a: float[7, 5, 33]; b: float[7, 1, 1]; y = Max(a, b); → y",
    "a: double[129]; b: double[129]; y = Mul(a, b); → y",
    "a: int32[129]; b: int32[1]; y = Sub(a, b); → y",
    "a: int64[129]; b: int64[129]; y = Less(a, b); → y",
    "a: uint8[130]; b: uint8[130]; y = Equal(a, b); → y",
    "a: float[9, 70]; b: float[70]; c = Greater(a, b); y = Where(c, a, b); → y",
    "a: float[65]; b: float[65]; c = Abs(a); y = Pow(c, b); → y",
    // A chain that becomes one program.
    "x: float[3, 200]; b: float[200]; s: float = 0.7; \
            a = Mul(x, s); c = Add(a, b); d = Tanh(c); e = Mul(d, x); y = Sub(e, b); → y",
    // Conversions.
    "x: float[519]; y = Cast<to = 10>(x); z = Cast<to = 1>(y); → z",
    "x: float[519]; y = Cast<to = 16>(x); z = Cast<to = 1>(y); → z",
    "x: float[519]; y = Cast<to = 6>(x); → y",
    "x: int64[519]; y = Cast<to = 1>(x); → y",
    // Reductions, and what is built on them.
    "x: float[5, 1031]; y = ReduceSum(x, [1]); → y",
    "x: float[5, 31, 17]; y = ReduceMean(x, [0, 2]); → y",
    "x: float[5, 31, 17]; y = ReduceL2(x, [1]); → y",
    "x: float[5, 31, 17]; y = ReduceMax(x, [2]); → y",
    "x: float[5, 310]; y = ArgMax<axis = 1>(x); → y",
    "x: float[5, 310]; v, i = TopK(x, [7]); → v, i",
    "x: float[6, 257]; y = Softmax(x); → y",
    "x: float[6, 20, 9]; y = Softmax<axis = 1>(x); → y",
    "x: float[6, 257]; y = LogSoftmax(x); → y",
    "x: float[6, 257]; s: float[257]; b: float[257]; y = LayerNormalization(x, s, b); → y",
    "x: float[6, 257]; s: float[257]; y = RMSNormalization(x, s); → y",
    "x: float[2, 6, 57]; s: float[6]; b: float[6]; y = InstanceNormalization(x, s, b); → y",
    "x: float[2, 6, 57]; s: float[6]; b: float[6]; \
             y = GroupNormalization<num_groups = 3>(x, s, b); → y",
    "x: float[1, 9, 5, 5]; y = LRN<size = 3>(x); → y",
    // Products: whole tiles, edges, single rows, weights and not, turned, batched.
    "a: float[65, 130]; b: float[130, 67]; y = MatMul(a, b); → y",
    "a: float[1, 517]; b: float[517, 95]; y = MatMul(a, b); → y",
    "a: float[3, 517]; w: float[517, 95] = 0.25; y = MatMul(a, w); → y",
    "a: float[2, 3, 19, 33]; b: float[3, 33, 21]; y = MatMul(a, b); → y",
    "a: float[33, 19]; b: float[21, 33]; c: float[21]; \
             y = Gemm<transA = 1, transB = 1, alpha = 0.5>(a, b, c); → y",
    "a: float[40, 64]; b: float[64, 50]; c: float[50]; \
             p = MatMul(a, b); q = Add(p, c); y = Gelu(q); → y",
    "a: float16[20, 64]; b: float16[64, 50]; y = MatMul(a, b); → y",
    "a: double[20, 64]; b: double[64, 50]; y = MatMul(a, b); → y",
    "a: uint8[33, 130]; b: int8[130, 47]; y = MatMulInteger(a, b); → y",
    "a: int8[33, 131]; b: int8[131, 47]; y = MatMulInteger(a, b); → y",
    "a: float[6, 7, 8]; b: float[8, 7, 5]; y = Einsum<equation = \"ijk,kjl->il\">(a, b); → y",
    // Convolutions: pointwise, 3×3 (tiles), strided, depthwise, grouped, dilated, 1-D, 3-D, transposed.
    "x: float[2, 17, 14, 15]; w: float[24, 17, 1, 1]; y = Conv(x, w); → y",
    "x: float[1, 32, 28, 29]; w: float[40, 32, 3, 3]; b: float[40]; \
             y = Conv<pads = [1, 1, 1, 1]>(x, w, b); z = Relu(y); → z",
    "x: float[1, 3, 33, 35]; w: float[16, 3, 7, 7]; \
             y = Conv<strides = [2, 2], pads = [3, 3, 3, 3]>(x, w); → y",
    "x: float[1, 24, 19, 21]; w: float[24, 1, 3, 3]; \
             y = Conv<group = 24, pads = [1, 1, 1, 1]>(x, w); → y",
    "x: float[1, 24, 19, 21]; w: float[24, 1, 5, 5]; \
             y = Conv<group = 24, strides = [2, 2], pads = [2, 2, 2, 2]>(x, w); → y",
    "x: float[2, 12, 19, 21]; w: float[18, 4, 3, 3]; \
             y = Conv<group = 3, dilations = [2, 2]>(x, w); → y",
    "x: float[2, 12, 50]; w: float[18, 12, 3]; y = Conv<pads = [2, 0]>(x, w); → y",
    "x: float[1, 4, 7, 8, 9]; w: float[5, 4, 3, 2, 3]; y = Conv(x, w); → y",
    "x: float[1, 9, 8, 9]; w: float[9, 7, 4, 4]; \
             y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w); → y",
    "x: uint8[1, 9, 8, 9]; w: uint8[5, 9, 3, 3]; y = ConvInteger(x, w); → y",
    // Windows.
    "x: float[1, 5, 19, 20]; y = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x); → y",
    "x: float[1, 5, 19, 20]; \
            y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x); → y",
    "x: float[2, 5, 19, 20]; y = GlobalAveragePool(x); → y",
    "x: float[1, 3, 9, 10]; y = Resize<mode = \"linear\">(x, _, _, [1, 3, 17, 31]); → y",
    "x: float[1, 3, 9, 10]; y = Resize<mode = \"cubic\">(x, _, _, [1, 3, 17, 31]); → y",
    // Attention: plain, causal, masked, fewer key heads.
    "q: float[2, 4, 37, 24]; k: float[2, 4, 53, 24]; v: float[2, 4, 53, 40]; \
             y = Attention(q, k, v); → y",
    "q: float[1, 4, 37, 24]; k: float[1, 2, 37, 24]; v: float[1, 2, 37, 24]; \
             y = Attention<is_causal = 1>(q, k, v); → y",
    "q: float[1, 2, 9, 24]; k: float[1, 2, 600, 24]; v: float[1, 2, 600, 24]; \
             m: float[9, 600]; y = Attention<softcap = 5.0>(q, k, v, m); → y",
    // Recurrence: sums of up to 100, whose rounding goes through every step.
    "x: float[12, 2, 20]; w: float[1, 76, 20]; r: float[1, 76, 19]; \
             y = LSTM<hidden_size = 19>(x, w, r); → y",
    "x: float[12, 2, 20]; w: float[1, 57, 20]; r: float[1, 57, 19]; \
             y = GRU<hidden_size = 19>(x, w, r); → y",
    // To and from integers.
    "x: float[6, 131]; s: float = 0.013; z: uint8 = 7; y = QuantizeLinear(x, s, z); → y",
    "x: int8[6, 131]; s: float = 0.013; y = DequantizeLinear(x, s); → y",
    "x: float[6, 131]; y, s, z = DynamicQuantizeLinear(x); → y, s, z",
    "a: uint8[17, 68]; s: float = 0.02; z: uint8 = 120; b: int8[68, 33]; t: float = 0.01; \
           o: int8 = 0; u: float = 0.1; p: uint8 = 128; y = QLinearMatMul(a, s, z, b, t, o, u, p); → y",
    // Moves by width.
    "x: float[5, 33, 17]; y = Transpose<perm = [2, 0, 1]>(x); → y",
    "x: uint8[5, 33, 17]; y = Transpose<perm = [0, 2, 1]>(x); → y",
    "x: float[40, 33]; i: int64[3, 2] = 5; y = Gather(x, i); → y",
    "x: float[7, 130]; y = CumSum(x, 1); → y",
];

/// Floats in −3…3, integers over the whole of a byte or in −99…99.
fn random(dtype: DType, shape: &[usize], numbers: &mut Random) -> Value {
    let bounds = match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I32 | DType::I64 => (-99.0, 99.0),
        _ => (-3.0, 3.0),
    };
    Fill::Random(Some(bounds)).make(dtype, shape, numbers, None).unwrap()
}

/// One run of a row on an instruction set.
fn run(graph: &str, isa: &str, threads: usize) -> Vec<Tensor> {
    let model = Model::from_text(graph).unwrap_or_else(|e| panic!("{graph}: {e}"));
    let mut numbers = Random(7);
    let inputs: Vec<(String, Value)> = model
        .inputs()
        .iter()
        .map(|port| {
            let shape: Vec<usize> =
                port.shape.iter().flatten().map(|d| d.size().unwrap()).collect();
            (port.name.clone(), random(port.ty.dtype().unwrap(), &shape, &mut numbers))
        })
        .collect();
    let session = Session::builder().isa(isa).threads(threads).build(model);
    let session = session.unwrap_or_else(|e| panic!("{graph}: {e}"));
    let outputs = session.run(inputs).unwrap_or_else(|e| panic!("{graph} on {isa}: {e}"));
    outputs.iter().map(|v| v.as_tensor().unwrap().clone()).collect()
}

/// Whether no element differs in a bit, but for those that are NaN in both.
fn same(x: &Tensor, y: &Tensor) -> bool {
    fn all<T: Copy>(x: &[T], y: &[T], same: impl Fn(T, T) -> bool) -> bool {
        x.len() == y.len() && x.iter().zip(y).all(|(&x, &y)| same(x, y))
    }
    match (x.dtype(), y.dtype()) {
        (DType::F32, DType::F32) => all(x.as_slice::<f32>(), y.as_slice(), |x, y| {
            x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan())
        }),
        (DType::F64, DType::F64) => all(x.as_slice::<f64>(), y.as_slice(), |x, y| {
            x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan())
        }),
        _ => x == y,
    }
}

#[test]
fn every_instruction_set_agrees_with_scalar() {
    let mut bad = Vec::new();
    let mut compared = 0;
    for graph in ROWS {
        let wanted = run(graph, "scalar", 1);
        for isa in rinfer::instruction_sets() {
            for threads in [1, 2] {
                let got = run(graph, isa, threads);
                compared += 1;
                if got.len() != wanted.len() || !got.iter().zip(&wanted).all(|(x, y)| same(x, y)) {
                    bad.push(format!("{isa}: {graph}"));
                }
            }
        }
    }
    println!("{compared} comparisons on {:?}", rinfer::instruction_sets());
    assert!(bad.is_empty(), "{} rows:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn a_difference_is_seen() {
    let t = |x: f32| Tensor::vector(&[x]);
    assert!(!same(&t(1.0), &t(1.0 + f32::EPSILON)));
    assert!(!same(&t(0.0), &t(-0.0)));
    assert!(same(&t(f32::NAN), &t(-f32::NAN)));
    assert!(!same(&t(f32::NAN), &t(1.0)));
    assert!(!same(&Tensor::vector(&[1i64]), &Tensor::vector(&[2i64])));
}
