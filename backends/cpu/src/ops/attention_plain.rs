//! Attention by its definition, in f64, with the scores if they are asked for.

use rinfer_graph::ops::Scores;
use rinfer_graph::{DType, Reason, Tensor, scarce, unsupported};

use super::attention::{Settled, elements};
use crate::attention::Steps;
use crate::kernel::Args;
use crate::quant::write_codes;

/// Everything in f64.
struct Plain<'a> {
    settled: &'a Settled,
    q: Vec<f64>,
    past: [Vec<f64>; 2],
    k: Vec<f64>,
    v: Vec<f64>,
    mask: Vec<f64>,
    lens: Vec<usize>,
    starts: Vec<usize>,
    sinks: Vec<f64>,
}

/// One query of a head.
#[derive(Clone, Copy)]
struct Query {
    batch: usize,
    head: usize,
    i: usize,
}

pub(super) fn run(settled: &Settled, args: &mut Args<'_>) -> Result<(), Reason> {
    let read = |i: usize| args.opt(i).map_or(Ok(Vec::new()), elements);
    let plain = Plain {
        settled,
        q: read(0)?,
        k: read(1)?,
        v: read(2)?,
        mask: read(3)?,
        past: [read(4)?, read(5)?],
        lens: settled.lens(args)?,
        starts: settled.starts(args)?,
        sinks: read(8)?,
    };
    let s = &settled.sizes;
    let mut y = scarce::zeros(args.outputs[0].len());
    let mut shown = scarce::zeros(args.outputs.get(3).map_or(0, Tensor::len));
    let steps = Steps::new(s.side_by_side, s.q_heads, s.queries, s.v_head);
    let mut scores = vec![0.0; s.keys()];
    for n in 0..s.batch * s.q_heads * s.queries {
        if n % 16 == 0 {
            args.cx.check()?;
        }
        let (rows, i) = (n / s.queries, n % s.queries);
        let query = Query { batch: rows / s.q_heads, head: rows % s.q_heads, i };
        let shown = match shown.is_empty() {
            true => &mut [][..],
            false => &mut shown[n * s.keys()..][..s.keys()],
        };
        plain.weights(query, &mut scores, shown);
        let at = query.batch * steps.batch + query.head * steps.head + i * steps.position;
        plain.mean(query, &scores, &mut y[at..][..s.v_head]);
    }
    write(&y, &mut args.outputs[0])?;
    args.outputs.get_mut(3).map_or(Ok(()), |out| write(&shown, out))
}

fn write(x: &[f64], out: &mut Tensor) -> Result<(), Reason> {
    match out.dtype() {
        DType::F64 => out.as_mut_slice::<f64>().copy_from_slice(x),
        dtype @ (DType::F32 | DType::F16 | DType::BF16) => {
            let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
            let isa = crate::simd::Isa::BASE;
            write_codes(isa, dtype, &narrow, false, out.as_mut_bytes())?;
        }
        dtype => return Err(unsupported!("attention over {dtype} is not supported")),
    }
    Ok(())
}

impl Plain<'_> {
    /// Key (0) or value (1) `j` of a head.
    fn vector(&self, which: usize, query: Query, j: usize) -> &[f64] {
        let s = &self.settled.sizes;
        let (new, size) = if which == 0 { (&self.k, s.head) } else { (&self.v, s.v_head) };
        let head = query.head / (s.q_heads / s.kv_heads);
        let (data, steps, j) = match j.checked_sub(s.past_keys) {
            Some(j) => (new, Steps::new(s.kv_side_by_side, s.kv_heads, s.new_keys, size), j),
            None => (&self.past[which], Steps::new(false, s.kv_heads, s.past_keys, size), j),
        };
        let at = query.batch * steps.batch + head * steps.head + j * steps.position;
        &data[at..][..size]
    }

    /// What is added to the score of key `j`.
    fn bias(&self, query: Query, j: usize) -> f64 {
        let (settled, s) = (self.settled, &self.settled.sizes);
        let (past, len) = match self.lens.get(query.batch) {
            Some(&len) => (len as i64 - s.queries as i64, len),
            None => (s.past_keys as i64, s.keys()),
        };
        let past = self.starts.get(query.batch).map_or(past, |&start| start as i64);
        let distance = j as i64 - (past + query.i as i64);
        let within = |n: Option<usize>, d: i64| n.is_none_or(|n| d <= n as i64);
        let seen = within(settled.right(), distance) && within(settled.op.left_window, -distance);
        if !seen || j >= len {
            return f64::NEG_INFINITY;
        }
        match settled.mask {
            None => 0.0,
            Some((_, keys)) if j >= keys => f64::NEG_INFINITY,
            Some(([b, h, i], _)) => self.mask[query.batch * b + query.head * h + query.i * i + j],
        }
    }

    /// softmax of the scores of one query; the stage that is to be shown goes to `shown`.
    fn weights(&self, query: Query, scores: &mut [f64], shown: &mut [f64]) {
        let (settled, s) = (self.settled, &self.settled.sizes);
        let steps = Steps::new(s.side_by_side, s.q_heads, s.queries, s.head);
        let at = query.batch * steps.batch + query.head * steps.head + query.i * steps.position;
        let q = &self.q[at..][..s.head];
        let scale = f64::from(settled.scale);
        for (j, score) in scores.iter_mut().enumerate() {
            let k = self.vector(0, query, j);
            *score = scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
        }
        let mut show = |stage, scores: &[f64]| {
            if settled.op.scores == stage && !shown.is_empty() {
                shown.copy_from_slice(scores);
            }
        };
        show(Scores::Raw, scores);
        let cap = f64::from(settled.op.softcap);
        if cap > 0.0 {
            scores.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
        }
        show(Scores::Capped, scores);
        for (j, score) in scores.iter_mut().enumerate() {
            let bias = self.bias(query, j);
            *score = if bias == f64::NEG_INFINITY { bias } else { *score + bias };
        }
        show(Scores::Biased, scores);
        let sink = self.sinks.get(query.head).copied().unwrap_or(f64::NEG_INFINITY);
        let max = scores.iter().copied().fold(sink, f64::max);
        let base = if max == f64::NEG_INFINITY { 0.0 } else { max };
        scores.iter_mut().for_each(|x| *x = (*x - base).exp());
        let sum = scores.iter().sum::<f64>() + (sink - base).exp();
        if sum != 0.0 {
            scores.iter_mut().for_each(|x| *x /= sum);
        }
        show(Scores::Softmax, scores);
    }

    fn mean(&self, query: Query, weights: &[f64], y: &mut [f64]) {
        y.fill(0.0);
        for (j, &weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            let v = self.vector(1, query, j);
            y.iter_mut().zip(v).for_each(|(y, v)| *y += weight * v);
        }
    }
}
