//! One query: a sweep over the keys, softmax, a sweep over the values.

use super::{Job, MaskData, Place};
use crate::math::exp;
use crate::pool::with_scratch;
use crate::simd::{F32s, Isa, MAX_LANES, sum_lanes, vectors};

/// Computes one row of the result.
pub(super) fn query(
    job: &Job<'_>,
    isa: Isa,
    place: Place,
    query: usize,
    y: &mut [f32],
) -> Result<(), String> {
    let Place { batch, head } = place;
    let seen = job.seen(batch, query, query + 1);
    let group = job.q_heads / job.kv_heads.max(1);
    let from = |steps: usize, data: &[f32]| (seen.start * steps).min(data.len());
    let q = &job.q.head(batch, head)[query * job.q.steps.position..][..job.head];
    let (k, v) = (job.k.head(batch, head / group), job.v.head(batch, head / group));
    let (k_step, v_step) = (job.k.steps.position, job.v.steps.position);
    let (k, v) = (&k[from(k_step, k)..], &v[from(v_step, v)..]);
    with_scratch(seen.len(), |scores| {
        products(isa, q, k, k_step, job.scale, scores);
        if job.softcap > 0.0 {
            capped(isa, job.softcap, scores);
        }
        let [b, h, i] = job.mask.steps;
        let at = batch * b + head * h + query * i + seen.start;
        match job.mask.data {
            MaskData::None => {}
            MaskData::Add(x) => {
                for (y, &x) in scores.iter_mut().zip(&x[at..]) {
                    *y = if x == f32::NEG_INFINITY { x } else { *y + x };
                }
            }
            MaskData::Keep(x) => {
                for (y, &x) in scores.iter_mut().zip(&x[at..]) {
                    *y = if x != 0 { *y } else { f32::NEG_INFINITY };
                }
            }
        }
        let total = exponentials(isa, job.begin(head), scores);
        let factor = if total == 0.0 { 0.0 } else { 1.0 / total };
        mean(isa, scores, v, v_step, factor, y);
    })
}

crate::simd_fn! {
    /// `x = c · tanh(x / c)`
    fn capped(s: S, c: f32, x: &mut [f32]) {
        super::block::cap(s, c, x);
    }
}

crate::simd_fn! {
    /// `y[j] = scale · q · k[j]`
    fn products(s: S, q: &[f32], k: &[f32], step: usize, scale: f32, y: &mut [f32]) {
        for (j, y) in y.iter_mut().enumerate() {
            let k = &k[j * step..][..q.len()];
            let (mut a, mut b) = ([s.zero(); MAX_LANES], [s.zero(); MAX_LANES]);
            let (mut qs, mut ks) = (q.chunks_exact(2 * MAX_LANES), k.chunks_exact(2 * MAX_LANES));
            for (q, k) in (&mut qs).zip(&mut ks) {
                for v in 0..const { vectors::<S>() } {
                    let (i, j) = (v * S::LANES, MAX_LANES + v * S::LANES);
                    a[v] = s.load(&q[i..]).mul_add(s.load(&k[i..]), a[v]);
                    b[v] = s.load(&q[j..]).mul_add(s.load(&k[j..]), b[v]);
                }
            }
            let rest = qs.remainder().chunks(S::LANES).zip(ks.remainder().chunks(S::LANES));
            for (i, (q, k)) in rest.enumerate() {
                let a = &mut a[i % const { vectors::<S>() }];
                *a = s.load_partial(q, 0.0).mul_add(s.load_partial(k, 0.0), *a);
            }
            for v in 0..const { vectors::<S>() } {
                a[v] = a[v] + b[v];
            }
            *y = sum_lanes::<S>(a) * scale;
        }
    }
}

crate::simd_fn! {
    /// `x = exp(x - max x)`, and their sum, where one score and its sum are there before; zeros if
    /// all are -∞.
    fn exponentials(s: S, begin: (f32, f32), x: &mut [f32]) -> f32 {
        let mut max = s.splat(begin.0);
        let mut xs = x.chunks_exact(S::LANES);
        for x in &mut xs {
            max = s.load(x).max(max);
        }
        let max = s.load_partial(xs.remainder(), f32::NEG_INFINITY).max(max).reduce_max();
        let lowest = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let base = s.splat(lowest);
        let mut sum = [s.zero(); MAX_LANES];
        for x in x.chunks_mut(MAX_LANES) {
            for (x, sum) in x.chunks_mut(S::LANES).zip(&mut sum) {
                let e = exp(s, s.load_partial(x, f32::NEG_INFINITY) - base);
                *sum = *sum + e;
                e.store_partial(x);
            }
        }
        sum_lanes::<S>(sum) + begin.1 * (begin.0 - lowest).exp()
    }
}

crate::simd_fn! {
    /// `y = factor · Σ p[j] · v[j]`
    fn mean(s: S, p: &[f32], v: &[f32], step: usize, factor: f32, y: &mut [f32]) {
        let mut d = 0;
        while d < y.len() {
            let mut sums = [s.zero(); 4];
            let n = (y.len() - d).min(4 * S::LANES);
            if n == 4 * S::LANES {
                for (j, &p) in p.iter().enumerate() {
                    let (v, p) = (&v[j * step + d..][..4 * S::LANES], s.splat(p));
                    for (c, sum) in sums.iter_mut().enumerate() {
                        *sum = s.load(&v[c * S::LANES..]).mul_add(p, *sum);
                    }
                }
            } else {
                for (j, &p) in p.iter().enumerate() {
                    let (v, p) = (&v[j * step + d..][..n], s.splat(p));
                    for (v, sum) in v.chunks(S::LANES).zip(&mut sums) {
                        *sum = s.load_partial(v, 0.0).mul_add(p, *sum);
                    }
                }
            }
            let y = y[d..][..n].chunks_mut(S::LANES);
            for (y, sum) in y.zip(sums) {
                (sum * s.splat(factor)).store_partial(y);
            }
            d += n;
        }
    }
}
