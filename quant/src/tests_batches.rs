//! Dynamic layers: a row has the same bits whatever else is in its batch.

use rinfer::{Fact, Model, Session, Tensor, Value};

use crate::tests::{cosine, run};
use crate::{Config, Job, Mode};

/// A layer of a transformer over [b, 6, 32] with four heads; its weights are waves.
fn transformer() -> Model {
    let text = "x: float[b, 6, 32]; g: float[32] = 1.0; z: float[32] = 0.1; scale: float = 0.35\n\
        heads: int64[4] = [0, 6, 4, 8]; whole: int64[3] = [0, 6, 32]\n\
        wq: float[32, 32] = 1; wk: float[32, 32] = 2; wv: float[32, 32] = 3\n\
        wo: float[32, 32] = 4; wu: float[32, 96] = 5; wd: float[96, 32] = 6\n\
        n = LayerNormalization(x, g, z)\n\
        q = MatMul(n, wq); k = MatMul(n, wk); v = MatMul(n, wv)\n\
        qr = Reshape(q, heads); kr = Reshape(k, heads); vr = Reshape(v, heads)\n\
        qt = Transpose<perm = [0, 2, 1, 3]>(qr); kt = Transpose<perm = [0, 2, 3, 1]>(kr)\n\
        vt = Transpose<perm = [0, 2, 1, 3]>(vr); qk = MatMul(qt, kt); qs = Mul(qk, scale)\n\
        p = Softmax<axis = -1>(qs); pv = MatMul(p, vt)\n\
        pt = Transpose<perm = [0, 2, 1, 3]>(pv); c = Reshape(pt, whole)\n\
        l = MatMul(c, wo); r = Add(x, l); m = LayerNormalization(r, g, z)\n\
        u = MatMul(m, wu); a = Gelu(u); w = MatMul(a, wd); y = Add(r, w)\n→ y";
    let mut graph = Model::from_text(text).unwrap().graph().clone();
    for (i, v) in graph.values().enumerate() {
        let Some(t) = graph.tensor(v).filter(|t| t.len() > 1000) else { continue };
        let wave = |j: usize| (j as f32 * (0.37 + i as f32 * 0.11)).sin() * 0.2;
        let waves: Vec<f32> = (0..t.len()).map(wave).collect();
        let weight = Tensor::from_slice(t.shape(), &waves);
        graph.set_fact(v, Fact::constant(weight));
    }
    Model::from_graph(graph)
}

/// Eight rows, each larger than the one before.
fn numbers(count: usize) -> Tensor {
    let number = |i: usize| (i as f32 * 0.71).sin() * (1 + i / 192 * 7) as f32;
    Tensor::from_slice(&[count, 6, 32], &(0..count * 192).map(number).collect::<Vec<_>>())
}

fn dynamic(rows: bool) -> Model {
    let config = Config { mode: Mode::Dynamic, rows, ..Config::default() };
    let job = Job::new(transformer(), config).unwrap();
    let decisions = job.decide();
    assert_eq!(decisions.iter().filter(|d| d.choice.form.is_integer()).count(), 6);
    let choices: Vec<_> = decisions.into_iter().map(|d| d.choice).collect();
    Model::from_bytes(job.write(&choices).unwrap().to_onnx().unwrap()).unwrap()
}

/// The bits of rows `first` … of a batch of `count`.
fn bits(session: &Session, first: usize, count: usize) -> Vec<u32> {
    let all = numbers(8);
    let x = &all.as_slice::<f32>()[first * 192..][..count * 192];
    let y = session.run([("x", Value::from(Tensor::from_slice(&[count, 6, 32], x)))]).unwrap();
    y[0].as_tensor().unwrap().as_slice::<f32>().iter().map(|y| y.to_bits()).collect()
}

#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    let model = dynamic(true);
    let mut seen: Option<Vec<Vec<u32>>> = None;
    for threads in [1, 3] {
        let session = Session::builder().threads(threads).build(model.clone()).unwrap();
        let count =
            |name: &str| session.graph().nodes().filter(|(_, node)| node.op.name() == name).count();
        // What three products read becomes codes once.
        assert_eq!([count("QuantizeRows"), count("QuantizedMatMul")], [4, 6]);
        let alone: Vec<_> = (0..8).map(|i| bits(&session, i, 1)).collect();
        for count in 2..=8 {
            for first in [0, 8 - count] {
                let together = bits(&session, first, count);
                assert_eq!(together, alone[first..first + count].concat(), "{first} {count}");
            }
        }
        assert_eq!(*seen.get_or_insert_with(|| alone.clone()), alone);
    }
}

#[test]
fn ranges_of_rows_are_as_accurate_and_one_range_stays_to_be_had() {
    let sample = vec![("x".to_string(), Value::from(numbers(8)))];
    let want = run(&transformer(), &sample);
    let [rows, tensor] = [true, false].map(|rows| cosine(&want, &run(&dynamic(rows), &sample)));
    assert!(rows > 0.9999 && rows > tensor, "{rows} {tensor}");
    let names = |model: &Model| -> Vec<&str> {
        model.graph().nodes().map(|(_, node)| node.op.name()).collect()
    };
    let has = |rows: bool| names(&dynamic(rows)).contains(&"DynamicQuantizeLinear");
    assert_eq!([has(true), has(false)], [false, true]);
}
