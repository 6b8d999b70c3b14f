//! What is measured beyond the adapter itself: kernels at standard shapes, and small models.
//!
//! Each is a model as text; inputs called `w…` are its weights.

use rinfer::graph::ValueId;
use rinfer::{DType, Fact, Model, Value};

use crate::fill::{Fill, Random};

/// One kernel at one shape.
pub struct Kernel {
    /// Its name in reports.
    pub name: String,
    /// The model.
    pub text: String,
    /// The same model for the first rows alone, where all would take the processor long to check.
    pub part: Option<String>,
    /// `f32`, `f16`, `int8`.
    pub dtype: &'static str,
    /// Operations, a multiply–add counted as two.
    pub flops: f64,
    /// How far results may be off, relative to the largest.
    pub tolerance: f64,
}

fn kernel(name: String, text: String, dtype: &'static str, flops: f64) -> Kernel {
    let tolerance = match dtype {
        "f16" => 4e-3,
        "int8" => 0.0,
        _ => 1e-4,
    };
    Kernel { name, text, part: None, dtype, flops, tolerance }
}

/// ONNX's name of a type.
fn onnx(dtype: &str) -> &'static str {
    match dtype {
        "f16" => "float16",
        "int8" => "int8",
        _ => "float",
    }
}

/// Rows that are checked of a large product.
const ROWS: usize = 8;

fn matmul(m: usize, k: usize, n: usize, dtype: &'static str) -> Kernel {
    let (ty, op) = (onnx(dtype), if dtype == "int8" { "MatMulInteger" } else { "MatMul" });
    let text = |m: usize| format!("x: {ty}[{m}, {k}]; w: {ty}[{k}, {n}]; y = {op}(x, w); → y");
    let flops = 2.0 * (m * k * n) as f64;
    let mut kernel = kernel(format!("matmul {m}x{k}x{n} {dtype}"), text(m), dtype, flops);
    kernel.part = (flops > 1e9).then(|| text(ROWS));
    kernel
}

/// A convolution of a square image: channels, side, filters, their side, stride, groups.
fn conv(c: usize, s: usize, f: usize, k: usize, stride: usize, group: usize) -> Kernel {
    let (pad, out) = (k / 2, s.div_ceil(stride));
    let text = format!(
        "x: float[1, {c}, {s}, {s}]; w: float[{f}, {}, {k}, {k}]; \
         y = Conv<group = {group}, strides = [{stride}, {stride}], \
         pads = [{pad}, {pad}, {pad}, {pad}]>(x, w); → y",
        c / group
    );
    let kind = if group > 1 { "depthwise" } else { "conv" };
    let flops = 2.0 * (f * out * out * (c / group) * k * k) as f64;
    kernel(format!("{kind} {k}x{k}/{stride} {c}→{f} {s}x{s} f32"), text, "f32", flops)
}

/// Attention of so many heads of 64: queries, and the keys that they see.
fn attention(heads: usize, queries: usize, keys: usize) -> Kernel {
    let text = format!(
        "q: float[1, {heads}, {queries}, 64]; k: float[1, {heads}, {keys}, 64]; \
         v: float[1, {heads}, {keys}, 64]; y = Attention(q, k, v); → y"
    );
    let flops = 4.0 * (heads * queries * keys * 64) as f64;
    kernel(format!("attention {heads} heads {queries}x{keys} f32"), text, "f32", flops)
}

/// The standard shapes, small ones first within a kind.
pub fn kernels() -> Vec<Kernel> {
    let mut all: Vec<Kernel> =
        [256, 512, 1024, 2048, 4096].into_iter().map(|n| matmul(n, n, n, "f32")).collect();
    all.extend([512, 1024, 4096].into_iter().map(|n| matmul(n, n, n, "f16")));
    all.extend([512, 1024].into_iter().map(|n| matmul(n, n, n, "int8")));
    all.push(matmul(128, 768, 3072, "f32"));
    all.push(matmul(1, 4096, 4096, "f32"));
    all.push(matmul(1, 4096, 4096, "f16"));
    all.push(conv(3, 224, 64, 7, 2, 1));
    all.push(conv(64, 56, 64, 3, 1, 1));
    all.push(conv(256, 56, 64, 1, 1, 1));
    all.push(conv(512, 7, 512, 3, 1, 1));
    all.push(conv(96, 112, 96, 3, 1, 96));
    all.push(attention(12, 128, 128));
    all.push(attention(12, 512, 512));
    all.push(attention(32, 1, 2048));
    let rows = "x: float[1024, 1024]; y = Softmax(x); → y".to_string();
    all.push(kernel("softmax 1024x1024 f32".to_string(), rows, "f32", 5.0 * 1048576.0));
    let sum = "x: float[2048, 2048]; z: float[2048, 2048]; y = Add(x, z); → y".to_string();
    all.push(kernel("add 2048x2048 f32".to_string(), sum, "f32", 4194304.0));
    all
}

/// Models that need no file: a perceptron, a few convolutions, a layer of an encoder.
pub fn models() -> Vec<(&'static str, &'static str)> {
    let perceptron = "x: float[1, 784]; w1: float[784, 512]; w2: float[512, 512];
        w3: float[512, 10]; a = MatMul(x, w1); b = Relu(a); c = MatMul(b, w2); d = Relu(c);
        e = MatMul(d, w3); y = Softmax(e); → y";
    let convolutions = "x: float[1, 3, 64, 64]; w1: float[32, 3, 3, 3]; w2: float[64, 32, 3, 3];
        w3: float[64, 64, 3, 3]; w4: float[64, 10];
        a = Conv<pads = [1, 1, 1, 1]>(x, w1); b = Relu(a);
        c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(b, w2); d = Relu(c);
        e = Conv<pads = [1, 1, 1, 1]>(d, w3); f = Add(e, d); g = Relu(f);
        h = GlobalAveragePool(g); i = Flatten(h); y = MatMul(i, w4); → y";
    let encoder = "x: float[1, 64, 256]; wq: float[256, 256]; wk: float[256, 256];
        wv: float[256, 256]; wo: float[256, 256]; w1: float[256, 1024]; w2: float[1024, 256];
        ws: float[256]; wb: float[256];
        q = MatMul(x, wq); k = MatMul(x, wk); v = MatMul(x, wv);
        a = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v);
        o = MatMul(a, wo); r = Add(o, x); n = LayerNormalization(r, ws, wb);
        f = MatMul(n, w1); g = Gelu(f); h = MatMul(g, w2); s = Add(h, n);
        y = LayerNormalization(s, ws, wb); → y";
    vec![
        ("perceptron 784-512-512-10", perceptron),
        ("convolutions 64x64", convolutions),
        ("encoder layer 64x256", encoder),
    ]
}

/// The model of a text, its weights random constants.
pub fn model(text: &str) -> Result<Model, String> {
    let parsed = Model::from_text(text).map_err(|e| e.to_string())?;
    let mut graph = parsed.graph().clone();
    let mut rng = Random(7);
    let is_weight = |v: &ValueId| graph.name(*v).is_some_and(|name| name.starts_with('w'));
    let (weights, inputs): (Vec<ValueId>, Vec<ValueId>) =
        graph.inputs().iter().copied().partition(is_weight);
    for v in weights {
        let fact = graph.fact(v);
        let sizes = fact.sizes().ok_or("a weight without sizes")?;
        // Sums over many elements stay near one.
        let scale = match sizes.len() {
            1 => 1.0,
            2 => 1.7 / (sizes[0] as f64).sqrt(),
            _ => 1.7 / (sizes[1..].iter().product::<usize>() as f64).sqrt(),
        };
        let dtype = fact.dtype().map_err(|e| e.to_string())?;
        let value = random(dtype, &sizes, scale, &mut rng)?;
        graph.set_fact(v, Fact::of_value(&value));
    }
    graph.set_inputs(inputs);
    Ok(Model::from_graph(graph))
}

/// Random numbers around zero; bytes of all values.
fn random(dtype: DType, sizes: &[usize], scale: f64, rng: &mut Random) -> Result<Value, String> {
    let (lo, hi) = match dtype {
        DType::I8 => (-127.0, 127.0),
        DType::U8 => (0.0, 255.0),
        _ => (-scale, scale),
    };
    Fill::Random(Some((lo, hi))).make(dtype, sizes, rng, None)
}

/// Random inputs of a model whose shapes are known.
pub fn inputs(model: &Model) -> Result<Vec<(String, Value)>, String> {
    let mut rng = Random(11);
    let mut all = Vec::new();
    for port in model.inputs() {
        let dims = port.shape.iter().flatten();
        let sizes: Option<Vec<usize>> = dims.map(|d| d.size()).collect();
        let sizes = sizes.ok_or_else(|| format!("{} has no fixed shape", port.name))?;
        let dtype = port.ty.dtype().ok_or_else(|| format!("{} is no tensor", port.name))?;
        all.push((port.name.clone(), random(dtype, &sizes, 1.0, &mut rng)?));
    }
    Ok(all)
}

/// The first rows of each input, as a model with fewer of them has its inputs.
pub fn first_rows(
    model: &Model,
    inputs: &[(String, Value)],
) -> Result<Vec<(String, Value)>, String> {
    let mut all = Vec::new();
    for (port, (name, value)) in model.inputs().iter().zip(inputs) {
        let dims = port.shape.iter().flatten();
        let sizes: Option<Vec<usize>> = dims.map(|d| d.size()).collect();
        let sizes = sizes.ok_or("no fixed shape")?;
        let t = value.as_tensor().map_err(|e| e.to_string())?;
        let mut part = rinfer::Tensor::try_zeros(t.dtype(), &sizes).map_err(|e| e.to_string())?;
        let n = part.byte_len();
        part.as_mut_bytes().copy_from_slice(&t.as_bytes()[..n]);
        all.push((name.clone(), part.into()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_a_model_and_its_weights_are_constants() {
        for (name, text) in models() {
            let model = model(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(model.inputs().len(), 1, "{name}");
        }
        for k in kernels().iter().filter(|k| k.flops < 1e8) {
            let model = model(&k.text).unwrap_or_else(|e| panic!("{}: {e}", k.name));
            assert!(!inputs(&model).unwrap().is_empty(), "{}", k.name);
        }
    }
}
