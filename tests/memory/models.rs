//! Models whose kernels take memory besides their inputs and outputs.

use rinfer::{DType, Port, Session, Tensor};

/// A constant in a text model, its elements between -0.3 and 0.3.
fn weight(name: &str, shape: &[usize]) -> String {
    let n: usize = shape.iter().product();
    let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 0.3).collect();
    format!("{name}: float{shape:?} = {x:?}; ")
}

/// Texts by name.
pub fn texts() -> Texts {
    [convolutions(), networks(), products(), others()].concat()
}

type Texts = Vec<(&'static str, String)>;

fn convolutions() -> Texts {
    let conv = |c: usize, m: usize, k: usize, rest: &str| weight("w", &[m, c, k, k]) + rest;
    vec![
        (
            "tiles",
            conv(16, 24, 3, "x: float[2, 16, 40, 40]; y = Conv<pads = [1, 1, 1, 1]>(x, w); → y"),
        ),
        (
            "patches",
            conv(6, 20, 5, "x: float[3, 6, 61, 50]; y = Conv<strides = [2, 2]>(x, w); → y"),
        ),
        (
            "channel by channel",
            conv(
                1,
                32,
                3,
                "x: float[2, 32, 30, 31]; y = Conv<group = 32, pads = [1, 1, 1, 1]>(x, w); → y",
            ),
        ),
        (
            "weights that are computed",
            "x: float[1, 8, 40, 40]; w: float[16, 8, 3, 3]; v: float[8, 16, 2, 2]; \
             a = Conv<pads = [1, 1, 1, 1]>(x, w); b = Conv(a, v); → b"
                .into(),
        ),
        (
            "groups",
            conv(
                4,
                24,
                3,
                "x: float[2, 12, 40, 40]; y = Conv<group = 3, pads = [1, 1, 1, 1]>(x, w); → y",
            ),
        ),
    ]
}

fn networks() -> Texts {
    vec![
        (
            "a network of convolutions",
            weight("w1", &[32, 3, 3, 3])
                + &weight("w2", &[96, 32, 1, 1])
                + &weight("w3", &[96, 1, 3, 3])
                + &weight("w4", &[24, 96, 1, 1])
                + &weight("w5", &[40, 24, 3, 3])
                + "x: float[1, 3, 160, 160]; \
                   a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w1); b = Relu(a); \
                   c = Conv(b, w2); d = Relu(c); \
                   e = Conv<group = 96, pads = [1, 1, 1, 1], strides = [2, 2]>(d, w3); \
                   f = Relu(e); g = Conv(f, w4); h = Conv<pads = [1, 1, 1, 1]>(g, w5); \
                   i = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(h); → i",
        ),
        (
            "upwards",
            weight("w", &[12, 8, 4, 4])
                + "x: float[2, 12, 30, 30]; \
                   y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w); → y",
        ),
    ]
}

fn products() -> Texts {
    vec![
        (
            "products of what is computed",
            "x: float[3, 70, 600]; y: float[3, 600, 90]; z: float[5, 600]; \
             a = MatMul(x, y); b = Transpose<perm = [0, 2, 1]>(y); c = MatMul(b, y); \
             d = Transpose<perm = [1, 0]>(z); e = MatMul(z, d); → a, c, e"
                .into(),
        ),
        (
            "attention",
            "q: float[2, 6, 90, 32]; k: float[2, 3, 140, 32]; v: float[2, 3, 140, 24]; \
             y = Attention(q, k, v); r: float[1, 2, 3, 32]; s: float[1, 2, 900, 32]; \
             z = Attention(r, s, s); → y, z"
                .into(),
        ),
        (
            "half precision",
            weight("w", &[64, 48])
                + "x: float16[40, 64]; v = Cast<to = 10>(w); a = MatMul(x, v); \
                   b = Relu(a); c = ReduceSum(b, [1]); d = Transpose<perm = [1, 0]>(b); \
                   e = MatMul(b, d); f = LogSoftmax(e); → c, f",
        ),
    ]
}

fn others() -> Texts {
    vec![
        (
            "a recurrent network",
            weight("w", &[2, 160, 24])
                + &weight("r", &[2, 160, 40])
                + "x: float[30, 5, 24]; \
                   y, h, c = LSTM<hidden_size = 40, direction = \"bidirectional\">(x, w, r); \
                   → y, h, c",
        ),
        (
            "other sizes",
            "x: float[2, 5, 40, 40]; \
             a = Resize<mode = \"linear\">(x, _, [1.0, 1.0, 1.5, 2.0]); \
             b = AveragePool<kernel_shape = [5, 5], pads = [2, 2, 2, 2]>(x); \
             c = LpPool<kernel_shape = [3, 3]>(x); d = LRN<size = 3>(x); → a, b, c, d"
                .into(),
        ),
        (
            "sums",
            "x: float[40, 50, 60]; y: float[60, 30]; a = ReduceMean(x, [0, 1, 2]); \
             b = ReduceL2(x, [2]); c = Einsum<equation = \"ijk,kl->il\">(x, y); → a, b, c"
                .into(),
        ),
        (
            "bytes",
            "x: uint8[2, 8, 30, 30]; w: int8[16, 8, 3, 3]; a: uint8[70, 65]; b: int8[65, 40]; \
             y = ConvInteger<pads = [1, 1, 1, 1]>(x, w); z = MatMulInteger(a, b); → y, z"
                .into(),
        ),
        (
            "elements",
            weight("b", &[7])
                + "x: float[900, 7]; a = Add(x, b); c = Sigmoid(a); d = Mul(c, x); \
                   e = Sub(d, b); f = Exp(e); → f",
        ),
    ]
}

/// Something for an input.
pub fn filled(port: &Port) -> (String, Tensor) {
    let sizes: Vec<usize> = port.shape.iter().flatten().filter_map(|d| d.size()).collect();
    let dtype = port.ty.dtype().unwrap_or(DType::F32);
    let mut t = Tensor::try_zeros(dtype, &sizes).unwrap();
    match dtype {
        DType::F32 => {
            let x = t.as_mut_slice::<f32>().iter_mut();
            x.enumerate().for_each(|(i, x)| *x = (i as f32 * 0.7).sin());
        }
        DType::F16 => t.as_mut_slice::<half::f16>().fill(half::f16::from_f32(0.5)),
        _ => t.as_mut_bytes().iter_mut().enumerate().for_each(|(i, x)| *x = (i % 100) as u8),
    }
    (port.name.clone(), t)
}

/// Something for all inputs.
pub fn inputs(session: &Session) -> Vec<(String, Tensor)> {
    session.inputs().iter().map(filled).collect()
}
