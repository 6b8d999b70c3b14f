//! One table: every kernel that is vectorized, on every instruction set, against the scalar one.
//!
//! A row is a graph as text, and how many units in the last place (ULP) its floats may differ by:
//! of each element itself where elements are computed one by one ([`each`]), of the output's largest
//! element where sums are taken in another order ([`sum`]). All else must be equal.

use rinfer::{DType, Model, Session, Tensor, Value};
use rinfer_cli::fill::{Fill, Random};

struct Row {
    graph: &'static str,
    ulps: f64,
    /// Whether an ULP is that of the largest element.
    of_largest: bool,
}

/// Floats may differ by so many ULPs of themselves.
const fn each(ulps: u32, graph: &'static str) -> Row {
    Row { graph, ulps: ulps as f64, of_largest: false }
}

/// Floats may differ by so many ULPs of the largest.
const fn sum(ulps: u32, graph: &'static str) -> Row {
    Row { graph, ulps: ulps as f64, of_largest: true }
}

/// Not one bit may differ.
const fn equal(graph: &'static str) -> Row {
    each(0, graph)
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Elementary functions; each is within two or three ULPs of the truth.
    each(4, "x: float[1037]; y = Exp(x); → y"),
    each(4, "x: float[1037]; y = Log(x); → y"),
    each(4, "x: float[1037]; y = Tanh(x); → y"),
    each(4, "x: float[1037]; y = Erf(x); → y"),
    each(6, "x: float[1037]; y = Sigmoid(x); → y"),
    each(6, "x: float[1037]; y = Softplus(x); → y"),
    each(8, "x: float[1037]; y = Mish(x); → y"),
    sum(4, "x: float[1037]; y = Sin(x); → y"),
    sum(4, "x: float[1037]; y = Cos(x); → y"),
    sum(4, "x: float[1037]; y = Gelu(x); → y"),
    sum(4, "x: float[1037]; y = Gelu<approximate = \"tanh\">(x); → y"),
    sum(4, "x: float[1037]; y = Swish(x); → y"),
    sum(4, "x: float[1037]; y = Elu(x); → y"),
    sum(4, "x: float[1037]; y = Selu(x); → y"),
    sum(4, "x: float[1037]; y = Celu(x); → y"),
    equal("x: float[1037]; y = Sqrt(x); → y"),
    equal("x: float[1037]; y = Reciprocal(x); → y"),
    equal("x: float[1037]; y = Round(x); → y"),
    sum(1, "x: float[1037]; y = HardSwish(x); → y"),
    equal("x: float[1037]; y = LeakyRelu(x); → y"),
    equal("x: float16[1037]; y = Tanh(x); z = Relu(y); → z"),
    // Two operands, broadcast every way, in every width.
    equal("a: float[7, 1, 33]; b: float[5, 1]; y = Add(a, b); → y"),
    equal("a: float[7, 5, 33]; b: float[33]; y = Div(a, b); → y"),
    equal("a: float[7, 5, 33]; b: float[7, 1, 1]; y = Max(a, b); → y"),
    equal("a: double[129]; b: double[129]; y = Mul(a, b); → y"),
    equal("a: int32[129]; b: int32[1]; y = Sub(a, b); → y"),
    equal("a: int64[129]; b: int64[129]; y = Less(a, b); → y"),
    equal("a: uint8[130]; b: uint8[130]; y = Equal(a, b); → y"),
    equal("a: float[9, 70]; b: float[70]; c = Greater(a, b); y = Where(c, a, b); → y"),
    each(8, "a: float[65]; b: float[65]; c = Abs(a); y = Pow(c, b); → y"),
    // A chain that becomes one program.
    sum(8, "x: float[3, 200]; b: float[200]; s: float = 0.7; \
            a = Mul(x, s); c = Add(a, b); d = Tanh(c); e = Mul(d, x); y = Sub(e, b); → y"),
    // Conversions.
    equal("x: float[519]; y = Cast<to = 10>(x); z = Cast<to = 1>(y); → z"),
    equal("x: float[519]; y = Cast<to = 16>(x); z = Cast<to = 1>(y); → z"),
    equal("x: float[519]; y = Cast<to = 6>(x); → y"),
    equal("x: int64[519]; y = Cast<to = 1>(x); → y"),
    // Reductions, and what is built on them.
    sum(8, "x: float[5, 1031]; y = ReduceSum(x, [1]); → y"),
    sum(8, "x: float[5, 31, 17]; y = ReduceMean(x, [0, 2]); → y"),
    sum(8, "x: float[5, 31, 17]; y = ReduceL2(x, [1]); → y"),
    equal("x: float[5, 31, 17]; y = ReduceMax(x, [2]); → y"),
    equal("x: float[5, 310]; y = ArgMax<axis = 1>(x); → y"),
    equal("x: float[5, 310]; v, i = TopK(x, [7]); → v, i"),
    sum(8, "x: float[6, 257]; y = Softmax(x); → y"),
    sum(8, "x: float[6, 20, 9]; y = Softmax<axis = 1>(x); → y"),
    sum(8, "x: float[6, 257]; y = LogSoftmax(x); → y"),
    sum(16, "x: float[6, 257]; s: float[257]; b: float[257]; y = LayerNormalization(x, s, b); → y"),
    sum(16, "x: float[6, 257]; s: float[257]; y = RMSNormalization(x, s); → y"),
    sum(16, "x: float[2, 6, 57]; s: float[6]; b: float[6]; y = InstanceNormalization(x, s, b); → y"),
    sum(16, "x: float[2, 6, 57]; s: float[6]; b: float[6]; \
             y = GroupNormalization<num_groups = 3>(x, s, b); → y"),
    sum(8, "x: float[1, 9, 5, 5]; y = LRN<size = 3>(x); → y"),
    // Products: whole tiles, edges, single rows, weights and not, turned, batched.
    sum(16, "a: float[65, 130]; b: float[130, 67]; y = MatMul(a, b); → y"),
    sum(16, "a: float[1, 517]; b: float[517, 95]; y = MatMul(a, b); → y"),
    sum(16, "a: float[3, 517]; w: float[517, 95] = 0.25; y = MatMul(a, w); → y"),
    sum(16, "a: float[2, 3, 19, 33]; b: float[3, 33, 21]; y = MatMul(a, b); → y"),
    sum(16, "a: float[33, 19]; b: float[21, 33]; c: float[21]; \
             y = Gemm<transA = 1, transB = 1, alpha = 0.5>(a, b, c); → y"),
    sum(16, "a: float[40, 64]; b: float[64, 50]; c: float[50]; \
             p = MatMul(a, b); q = Add(p, c); y = Gelu(q); → y"),
    sum(16, "a: float16[20, 64]; b: float16[64, 50]; y = MatMul(a, b); → y"),
    sum(4, "a: double[20, 64]; b: double[64, 50]; y = MatMul(a, b); → y"),
    equal("a: uint8[33, 130]; b: int8[130, 47]; y = MatMulInteger(a, b); → y"),
    equal("a: int8[33, 131]; b: int8[131, 47]; y = MatMulInteger(a, b); → y"),
    sum(16, "a: float[6, 7, 8]; b: float[8, 7, 5]; y = Einsum<equation = \"ijk,kjl->il\">(a, b); → y"),
    // Convolutions: pointwise, 3×3 (tiles), strided, depthwise, grouped, dilated, 1-D, 3-D, transposed.
    sum(32, "x: float[2, 17, 14, 15]; w: float[24, 17, 1, 1]; y = Conv(x, w); → y"),
    sum(64, "x: float[1, 32, 28, 29]; w: float[40, 32, 3, 3]; b: float[40]; \
             y = Conv<pads = [1, 1, 1, 1]>(x, w, b); z = Relu(y); → z"),
    sum(32, "x: float[1, 3, 33, 35]; w: float[16, 3, 7, 7]; \
             y = Conv<strides = [2, 2], pads = [3, 3, 3, 3]>(x, w); → y"),
    sum(32, "x: float[1, 24, 19, 21]; w: float[24, 1, 3, 3]; \
             y = Conv<group = 24, pads = [1, 1, 1, 1]>(x, w); → y"),
    sum(32, "x: float[1, 24, 19, 21]; w: float[24, 1, 5, 5]; \
             y = Conv<group = 24, strides = [2, 2], pads = [2, 2, 2, 2]>(x, w); → y"),
    sum(32, "x: float[2, 12, 19, 21]; w: float[18, 4, 3, 3]; \
             y = Conv<group = 3, dilations = [2, 2]>(x, w); → y"),
    sum(32, "x: float[2, 12, 50]; w: float[18, 12, 3]; y = Conv<pads = [2, 0]>(x, w); → y"),
    sum(32, "x: float[1, 4, 7, 8, 9]; w: float[5, 4, 3, 2, 3]; y = Conv(x, w); → y"),
    sum(32, "x: float[1, 9, 8, 9]; w: float[9, 7, 4, 4]; \
             y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w); → y"),
    equal("x: uint8[1, 9, 8, 9]; w: uint8[5, 9, 3, 3]; y = ConvInteger(x, w); → y"),
    // Windows.
    equal("x: float[1, 5, 19, 20]; y = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x); → y"),
    sum(8, "x: float[1, 5, 19, 20]; \
            y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x); → y"),
    sum(8, "x: float[2, 5, 19, 20]; y = GlobalAveragePool(x); → y"),
    sum(8, "x: float[1, 3, 9, 10]; y = Resize<mode = \"linear\">(x, _, _, [1, 3, 17, 31]); → y"),
    sum(8, "x: float[1, 3, 9, 10]; y = Resize<mode = \"cubic\">(x, _, _, [1, 3, 17, 31]); → y"),
    // Attention: plain, causal, masked, fewer key heads.
    sum(32, "q: float[2, 4, 37, 24]; k: float[2, 4, 53, 24]; v: float[2, 4, 53, 40]; \
             y = Attention(q, k, v); → y"),
    sum(32, "q: float[1, 4, 37, 24]; k: float[1, 2, 37, 24]; v: float[1, 2, 37, 24]; \
             y = Attention<is_causal = 1>(q, k, v); → y"),
    sum(32, "q: float[1, 2, 9, 24]; k: float[1, 2, 600, 24]; v: float[1, 2, 600, 24]; \
             m: float[9, 600]; y = Attention<softcap = 5.0>(q, k, v, m); → y"),
    // Recurrence: sums of up to 100, whose rounding goes through every step.
    sum(128, "x: float[12, 2, 20]; w: float[1, 76, 20]; r: float[1, 76, 19]; \
             y = LSTM<hidden_size = 19>(x, w, r); → y"),
    sum(128, "x: float[12, 2, 20]; w: float[1, 57, 20]; r: float[1, 57, 19]; \
             y = GRU<hidden_size = 19>(x, w, r); → y"),
    // To and from integers.
    equal("x: float[6, 131]; s: float = 0.013; z: uint8 = 7; y = QuantizeLinear(x, s, z); → y"),
    equal("x: int8[6, 131]; s: float = 0.013; y = DequantizeLinear(x, s); → y"),
    equal("x: float[6, 131]; y, s, z = DynamicQuantizeLinear(x); → y, s, z"),
    equal("a: uint8[17, 68]; s: float = 0.02; z: uint8 = 120; b: int8[68, 33]; t: float = 0.01; \
           o: int8 = 0; u: float = 0.1; p: uint8 = 128; y = QLinearMatMul(a, s, z, b, t, o, u, p); → y"),
    // Moves by width.
    equal("x: float[5, 33, 17]; y = Transpose<perm = [2, 0, 1]>(x); → y"),
    equal("x: uint8[5, 33, 17]; y = Transpose<perm = [0, 2, 1]>(x); → y"),
    equal("x: float[40, 33]; i: int64[3, 2] = 5; y = Gather(x, i); → y"),
    sum(8, "x: float[7, 130]; y = CumSum(x, 1); → y"),
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
fn run(row: &Row, isa: &str, threads: usize) -> Vec<Tensor> {
    let model = Model::from_text(row.graph).unwrap_or_else(|e| panic!("{}: {e}", row.graph));
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
    let session = session.unwrap_or_else(|e| panic!("{}: {e}", row.graph));
    let outputs = session.run(inputs).unwrap_or_else(|e| panic!("{} on {isa}: {e}", row.graph));
    outputs.iter().map(|v| v.as_tensor().unwrap().clone()).collect()
}

/// The floats of a tensor, and how far apart floats of size 1 are.
fn floats(t: &Tensor) -> Option<(Vec<f64>, f64)> {
    Some(match t.dtype() {
        DType::F32 => (t.as_slice::<f32>().iter().map(|&x| x.into()).collect(), 2f64.powi(-23)),
        DType::F64 => (t.as_slice::<f64>().to_vec(), 2f64.powi(-52)),
        DType::F16 => {
            let x = t.as_slice::<half::f16>();
            (x.iter().map(|&x| x.into()).collect(), 2f64.powi(-10))
        }
        _ => return None,
    })
}

/// The largest difference, in ULPs; infinite if what is not a float differs at all.
fn difference(row: &Row, x: &Tensor, y: &Tensor) -> f64 {
    let (Some((x, step)), Some((y, _))) = (floats(x), floats(y)) else {
        return if x == y { 0.0 } else { f64::INFINITY };
    };
    let largest = y.iter().filter(|y| y.is_finite()).fold(0f64, |m, y| m.max(y.abs()));
    let pairs = x.iter().zip(&y).filter(|(x, y)| x != y && !(x.is_nan() && y.is_nan()));
    pairs.fold(0.0, |worst, (x, y)| {
        let size = if row.of_largest { largest } else { y.abs() }.max(f32::MIN_POSITIVE.into());
        let ulp = size.log2().floor().exp2() * step;
        let ulps = (x - y).abs() / ulp;
        if ulps.is_nan() { f64::INFINITY } else { ulps.max(worst) }
    })
}

#[test]
fn every_instruction_set_agrees_with_scalar() {
    let mut bad = Vec::new();
    let mut compared = 0;
    for row in ROWS {
        let wanted = run(row, "scalar", 1);
        for isa in rinfer::instruction_sets() {
            for threads in [1, 2] {
                let got = run(row, isa, threads);
                let worst = got.iter().zip(&wanted).map(|(x, y)| difference(row, x, y));
                let worst = worst.fold(0.0, f64::max);
                compared += 1;
                if worst > row.ulps {
                    let (graph, ulps) = (row.graph, row.ulps);
                    bad.push(format!("{isa}: {worst:.1} ULP of at most {ulps}: {graph}"));
                }
            }
        }
    }
    println!("{compared} comparisons on {:?}", rinfer::instruction_sets());
    assert!(bad.is_empty(), "{} rows:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn a_difference_is_seen() {
    let row = each(4, "");
    let t = |x: f32| Tensor::vector(&[x]);
    assert_eq!(difference(&row, &t(1.0), &t(1.0 + f32::EPSILON)), 1.0);
    assert_eq!(difference(&row, &t(f32::NAN), &t(f32::NAN)), 0.0);
    assert_eq!(difference(&row, &t(f32::NAN), &t(1.0)), f64::INFINITY);
    assert_eq!(difference(&row, &Tensor::vector(&[1i64]), &Tensor::vector(&[2i64])), f64::INFINITY);
}
