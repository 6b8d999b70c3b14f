//! The same inputs give the same bits: from run to run and thread to thread.

use std::path::{Path, PathBuf};

use rinfer::{Session, Tensor, Value};
use rinfer_tests::hostile::valid;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).join("model.onnx")
}

fn digits(from: usize, batch: usize) -> Tensor {
    let pixels: Vec<f32> = (64 * from..64 * (from + batch)).map(|i| (i * 7 % 17) as f32).collect();
    Tensor::from_slice(&[batch, 1, 8, 8], &pixels)
}

fn image() -> Tensor {
    let x: Vec<f32> = (0..3 * 240 * 320).map(|i| (i * 31 % 255) as f32 / 255.0 - 0.5).collect();
    Tensor::from_slice(&[1, 3, 240, 320], &x)
}

/// FNV-1a over the bytes of tensors.
fn hash(values: &[Value]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for value in values {
        for byte in value.as_tensor().unwrap().as_bytes() {
            h = (h ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    h
}

#[test]
fn sixty_four_threads_on_one_session_agree_bit_for_bit() {
    let runs: usize = std::env::var("RINFER_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let session = Session::load(model("digits")).unwrap();
    let alone: Vec<_> = (1..5).map(|b| session.run([("image", digits(b, b))]).unwrap()).collect();
    std::thread::scope(|scope| {
        for t in 0..64 {
            let (session, alone) = (&session, &alone);
            scope.spawn(move || {
                for i in 0..runs {
                    let b = 1 + (t + i) % 4;
                    let made = session.run([("image", digits(b, b))]).unwrap();
                    assert_eq!(made, alone[b - 1]);
                }
            });
        }
    });
}

#[test]
fn sessions_come_and_go_while_others_run() {
    let file = std::fs::read(model("digits")).unwrap();
    let expected = Session::builder().load_bytes(file.clone()).unwrap();
    let expected = expected.run([("image", digits(0, 3))]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let session = Session::builder().threads(2).load_bytes(file.clone()).unwrap();
                    assert_eq!(session.run([("image", digits(0, 3))]).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let run = |threads, name: &str, input: &str, x: Tensor| {
        let session = Session::builder().threads(threads).load(model(name)).unwrap();
        let first = session.run([(input, x.clone())]).unwrap();
        assert_eq!(session.run([(input, x)]).unwrap(), first, "run to run");
        first
    };
    for (name, input, x) in
        [("digits", "image", digits(0, 33)), ("ultraface-rfb-320", "input", image())]
    {
        let one = run(1, name, input, x.clone());
        for threads in [2, 3, 5, 8] {
            assert_eq!(run(threads, name, input, x.clone()), one, "{name}, {threads} threads");
        }
    }
}

#[test]
fn a_row_is_the_same_whatever_else_is_in_the_batch() {
    let layer = "x: float[n, 48]; \
        a = MatMul(x, w); b = Gelu(a); c = MatMul(b, v); d = Add(c, x); \
        e = LayerNormalization(d, s); y = Softmax(e); → y";
    let weight = |name: &str, shape: &[usize]| {
        let n: usize = shape.iter().product();
        let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 0.3).collect();
        format!("{name}: float{shape:?} = {x:?}; ")
    };
    let text = weight("w", &[48, 1100]) + &weight("v", &[1100, 48]) + &weight("s", &[48]) + layer;
    let x: Vec<f32> = (0..40 * 48).map(|i| (i as f32 * 0.73).sin()).collect();
    let rows = |first: usize, n: usize| Tensor::from_slice(&[n, 48], &x[48 * first..][..48 * n]);
    let layer = Session::builder().load_text(&text).unwrap();
    let digit = Session::load(model("digits")).unwrap();
    let check = |session: &Session,
                 name: &str,
                 batch: usize,
                 of: &dyn Fn(usize, usize) -> Tensor| {
        let all = session.run([(name, of(0, batch))]).unwrap();
        for b in 0..batch {
            let one = session.run([(name, of(b, 1))]).unwrap();
            for (all, one) in all.iter().zip(&one) {
                let (all, one) = (all.as_tensor().unwrap(), one.as_tensor().unwrap());
                let len = one.byte_len();
                assert_eq!(&all.as_bytes()[b * len..][..len], one.as_bytes(), "row {b} of {batch}");
            }
        }
    };
    for batch in [2, 3, 7, 14, 15, 40] {
        check(&layer, "x", batch, &rows);
        check(&digit, "image", batch, &digits);
    }
}

/// The instruction sets that this machine has.
fn isas() -> Vec<&'static str> {
    let has = |isa: &&str| Session::builder().isa(isa).load(model("digits")).is_ok();
    ["scalar", "avx2", "avx512", "neon"].into_iter().filter(has).collect()
}

/// Sample `i` of a batch whose samples have this shape.
fn sample(x: &Tensor, first: usize, n: usize) -> Tensor {
    let mut shape = x.shape().to_vec();
    let each = x.len() / shape[0];
    shape[0] = n;
    Tensor::from_slice(&shape, &x.as_slice::<f32>()[first * each..][..n * each])
}

#[test]
fn a_sample_is_the_same_in_any_batch_also_where_two_computed_values_meet() {
    // b is the same for all samples, or belongs to each; the outputs' first axis is the batch.
    let cases = [
        ("x: float[n, 70]; w: float[70, 33]; y = MatMul(x, w); → y", &[20, 70][..], None),
        ("x: float[n, 70]; w: float[33, 70]; y = Gemm<transB = 1>(x, w); → y", &[20, 70], None),
        ("x: float[n, 3, 70]; w: float[70, 33]; y = MatMul(x, w); → y", &[20, 3, 70], None),
        ("x: float[n, 3, 70]; w: float[1, 70, 33]; y = MatMul(x, w); → y", &[20, 3, 70], None),
        (
            "x: float[n, 70]; w: float[70, 33]; y = Einsum<equation = \"bi,ij->bj\">(x, w); → y",
            &[20, 70],
            None,
        ),
        (
            "x: float[n, 3, 70]; z: float[n, 9, 70]; y = Einsum<equation = \"bqi,bki->bqk\">(x, z); → y",
            &[20, 3, 70],
            Some(&[20, 9, 70][..]),
        ),
        (
            "x: float[n, 3, 70]; z: float[n, 70, 9]; y = MatMul(x, z); → y",
            &[20, 3, 70],
            Some(&[20, 70, 9]),
        ),
        (
            "x: float[n, 2, 5, 16]; z: float[n, 2, 40, 16]; y = Attention(x, z, z); → y",
            &[20, 2, 5, 16],
            Some(&[20, 2, 40, 16]),
        ),
        ("x: float[n, 6, 9, 9]; w: float[4, 6, 3, 3]; y = Conv(x, w); → y", &[20, 6, 9, 9], None),
    ];
    let made = |shape: &[usize], by: f32| {
        let n: usize = shape.iter().product();
        let x: Vec<f32> = (0..n).map(|i| (i as f32 * by).sin()).collect();
        Tensor::from_slice(shape, &x)
    };
    for (text, x, z) in cases {
        let session = Session::builder().load_text(text).unwrap();
        let (x, z) = (made(x, 0.73), z.map(|z| made(z, 0.37)));
        let run = |first: usize, n: usize| {
            let of = |port: &rinfer::Port| {
                let value = match port.name.as_str() {
                    "x" => sample(&x, first, n),
                    "z" => sample(z.as_ref().unwrap(), first, n),
                    _ => {
                        let shape = port.shape.iter().flatten().map(|d| d.size().unwrap());
                        made(&shape.collect::<Vec<_>>(), 0.57)
                    }
                };
                (port.name.clone(), value)
            };
            let inputs: Vec<_> = session.inputs().iter().map(of).collect();
            session.run(inputs).unwrap().remove(0).into_tensor().unwrap()
        };
        let alone: Vec<Tensor> = (0..20).map(|i| run(i, 1)).collect();
        for batch in [2, 3, 8, 9, 20] {
            let all = run(0, batch);
            for (i, one) in alone.iter().take(batch).enumerate() {
                assert_eq!(sample(&all, i, 1), *one, "{text}: sample {i} of {batch}");
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_bits_of_every_other_machine() {
    for isa in isas() {
        let run = |name: &str, input: &str, x: Tensor| {
            let builder = Session::builder().reproducible(true).isa(isa);
            hash(&builder.load(model(name)).unwrap().run([(input, x)]).unwrap())
        };
        let found =
            [run("digits", "image", digits(0, 5)), run("ultraface-rfb-320", "input", image())];
        assert_eq!(found, GOLDEN, "{isa}: {found:#x?}");
    }
}

#[test]
fn small_models_give_the_same_bits_on_every_instruction_set() {
    for (name, file) in valid::models() {
        let made: Vec<_> = isas()
            .into_iter()
            .map(|isa| {
                let session = Session::builder().isa(isa).load_bytes(file.clone()).unwrap();
                session.run(filled(&session)).unwrap()
            })
            .collect();
        made.iter().for_each(|values| assert_eq!(*values, made[0], "{name}"));
    }
}

/// Inputs for a session, of unknown sizes 2.
fn filled(session: &Session) -> Vec<(String, Tensor)> {
    let one = |port: &rinfer::Port| {
        let sizes: Vec<usize> =
            port.shape.iter().flatten().map(|d| d.size().unwrap_or(2)).collect();
        let n: usize = sizes.iter().product();
        let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
        (port.name.clone(), Tensor::from_slice(&sizes, &x))
    };
    session.inputs().iter().map(one).collect()
}

/// Hashes of outputs; they change only when kernels are meant to round differently.
const GOLDEN: [u64; 2] = [0xda60_46e5_0a74_5f09, 0xfd96_50b2_8a87_9248];

#[test]
fn small_models_give_the_same_bits_on_any_number_of_threads() {
    for (name, file) in valid::models() {
        let run = |threads| {
            let session = Session::builder().threads(threads).load_bytes(file.clone()).unwrap();
            session.run(filled(&session)).unwrap()
        };
        assert_eq!(run(1), run(3), "{name}");
    }
}
