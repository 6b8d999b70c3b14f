//! Models of many layers, small, on a GPU beside the CPU: a transformer of twelve layers, written
//! out in single operators, and a residual network of convolutions. Without an adapter they are
//! skipped, and that is said.

use std::fmt::Write;

use rinfer::{Device, Model, Precision, Session, Tensor, Value};
use rinfer_cli::fill::{Fill, Random};

/// Layers of the transformer.
const LAYERS: usize = 12;

/// Token numbers to scores over a vocabulary: norms, causal attention over fewer key heads than
/// query heads, a gated network, residuals. Weights are inputs.
fn transformer() -> String {
    let mut text = String::from("ids: int64[2, n]; vocabulary: float[61, 48]; seen: float[n, n]; ");
    let mut body = String::from("h0 = Gather(vocabulary, ids); ");
    for i in 0..LAYERS {
        let _ = write!(
            text,
            "g{i}: float[48]; c{i}: float[48]; q{i}w: float[48, 48]; k{i}w: float[48, 24]; \
             v{i}w: float[48, 24]; o{i}w: float[48, 48]; u{i}w: float[48, 96]; \
             t{i}w: float[48, 96]; d{i}w: float[96, 48]; "
        );
        let _ = write!(
            body,
            "a{i} = LayerNormalization(h{i}, g{i}, c{i}); \
             q{i} = MatMul(a{i}, q{i}w); k{i} = MatMul(a{i}, k{i}w); v{i} = MatMul(a{i}, v{i}w); \
             qs{i} = Reshape(q{i}, [2, -1, 4, 12]); qt{i} = Transpose<perm = [0, 2, 1, 3]>(qs{i}); \
             ks{i} = Reshape(k{i}, [2, -1, 2, 12]); kt{i} = Transpose<perm = [0, 2, 1, 3]>(ks{i}); \
             vs{i} = Reshape(v{i}, [2, -1, 2, 12]); vt{i} = Transpose<perm = [0, 2, 1, 3]>(vs{i}); \
             m{i} = Attention<is_causal = 1>(qt{i}, kt{i}, vt{i}, seen); \
             mt{i} = Transpose<perm = [0, 2, 1, 3]>(m{i}); ms{i} = Reshape(mt{i}, [2, -1, 48]); \
             o{i} = MatMul(ms{i}, o{i}w); r{i} = Add(h{i}, o{i}); \
             b{i} = LayerNormalization(r{i}, g{i}, c{i}); \
             u{i} = MatMul(b{i}, u{i}w); t{i} = MatMul(b{i}, t{i}w); s{i} = Sigmoid(t{i}); \
             x{i} = Mul(t{i}, s{i}); y{i} = Mul(u{i}, x{i}); d{i} = MatMul(y{i}, d{i}w); \
             h{} = Add(r{i}, d{i}); ",
            i + 1
        );
    }
    let _ = write!(
        body,
        "e = Transpose<perm = [1, 0]>(vocabulary); y = MatMul(h{LAYERS}, e); \
         z = LogSoftmax(y); best, at = TopK(z, [3]); → z, at"
    );
    text + &body
}

/// A first convolution, four blocks with and without a stride, the mean of each channel, scores.
fn residual_network() -> String {
    let mut text = String::from("x: float[2, 3, 32, 32]; w: float[8, 3, 7, 7]; ");
    let mut body = String::from(
        "a = Conv<strides = [2, 2], pads = [3, 3, 3, 3]>(x, w); b = Relu(a); \
         h0 = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(b); ",
    );
    for i in 0..4usize {
        let (c, m) = (8 << (i / 2), 8 << (i.div_ceil(2)));
        let stride = if c == m { 1 } else { 2 };
        let _ = write!(
            text,
            "w{i}: float[{m}, {c}, 3, 3]; v{i}: float[{m}, {m}, 3, 3]; s{i}: float[{m}, {c}, 1, 1]; \
             n{i}: float[{m}]; p{i}: float[{m}]; "
        );
        let _ = write!(
            body,
            "a{i} = Conv<strides = [{stride}, {stride}], pads = [1, 1, 1, 1]>(h{i}, w{i}); \
             b{i} = Relu(a{i}); c{i} = Conv<pads = [1, 1, 1, 1]>(b{i}, v{i}); \
             d{i} = InstanceNormalization(c{i}, n{i}, p{i}); \
             e{i} = Conv<strides = [{stride}, {stride}]>(h{i}, s{i}); f{i} = Add(d{i}, e{i}); \
             h{} = Relu(f{i}); ",
            i + 1
        );
    }
    text += "f: float[10, 32]; ";
    body += "g = GlobalAveragePool(h4); k = Flatten(g); y = Gemm<transB = 1>(k, f); → y";
    text + &body
}

/// Random inputs, `n` for sizes that are symbols; token numbers below 61.
fn inputs(model: &Model, n: usize) -> Vec<(String, Value)> {
    let mut numbers = Random(11);
    let one = |port: &rinfer::Port, numbers: &mut Random| {
        let shape: Vec<usize> =
            port.shape.iter().flatten().map(|d| d.size().unwrap_or(n)).collect();
        let dtype = port.ty.dtype().expect("a tensor");
        let most = if dtype == rinfer::DType::I64 { (0.0, 60.0) } else { (-0.4, 0.4) };
        Fill::Random(Some(most)).make(dtype, &shape, numbers, None).expect("numbers")
    };
    model.inputs().iter().map(|port| (port.name.clone(), one(port, &mut numbers))).collect()
}

/// The largest difference of two outputs, relative to the largest element; integers are equal.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!((a.shape(), a.dtype()), (b.shape(), b.dtype()));
    if a.dtype() != rinfer::DType::F32 {
        assert_eq!(a, b);
        return 0.0;
    }
    let (a, b) = (a.as_slice::<f32>(), b.as_slice::<f32>());
    let scale = b.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
}

fn compare(name: &str, text: &str, sizes: &[usize], precision: Precision, tolerance: f32) {
    let build = |device: Device, precision: Precision| {
        let model = Model::from_text(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let builder = Session::builder().device(device).precision(precision);
        builder.build(model).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let model = Model::from_text(text).unwrap_or_else(|e| panic!("{name}: {e}"));
    let cpu = build(Device::Cpu, Precision::F32);
    let gpu = build(Device::Gpu(None), precision);
    assert!(gpu.placements().iter().all(|p| p.backend != "cpu"), "{:?}", gpu.placements());
    for &n in sizes {
        let given = inputs(&model, n);
        let expected = cpu.run(given.clone()).unwrap();
        let found = gpu.run(given).unwrap();
        for (a, b) in found.iter().zip(&expected) {
            let worst = difference(a.as_tensor().unwrap(), b.as_tensor().unwrap());
            println!("{name}, n = {n}: {worst:e} of the largest");
            assert!(worst < tolerance, "{name}, n = {n}: {worst} of the largest element");
        }
    }
}

#[test]
fn models_of_many_layers_agree_with_the_cpu() {
    if rinfer::adapters().is_empty() {
        println!("skipped: no GPU adapter was found");
        return;
    }
    compare("a transformer of 12 layers", &transformer(), &[1, 7, 70], Precision::F32, 1e-4);
    compare("a residual network", &residual_network(), &[1], Precision::F32, 1e-4);
}

/// Floats of 16 bits end at 65,504: the squares here are far beyond, what they are made of is not.
const SQUARES: &str = "x: float[5, n, 64]; g: float[64] = 1; c: float[64] = 0; \
    w: float[64, 64] = 0.05; a = LayerNormalization(x, g, c); b = Mul(a, 200.0); \
    d = Transpose<perm = [1, 0, 2]>(b); e = MatMul(d, w); f = Add(d, e); h = Mul(f, f); \
    i = ReduceMean(h, [-1]); j = Sqrt(i); k = Div(f, j); l = Softmax(k); m = MatMul(l, w); \
    y = Tanh(m); → y, k";

#[test]
fn floats_of_16_bits_do_not_overflow_where_they_are_kept() {
    if rinfer::adapters().is_empty() {
        println!("skipped: no GPU adapter was found");
        return;
    }
    compare("squares", SQUARES, &[9], Precision::F16, 3e-3);
    compare("a transformer of 12 layers in 16 bits", &transformer(), &[7], Precision::F16, 3e-2);
    let model = Model::from_text(SQUARES).unwrap();
    let refused = Session::builder().precision(Precision::F16).build(model);
    assert!(refused.is_err_and(|e| e.to_string().contains("on GPUs only")));
}
