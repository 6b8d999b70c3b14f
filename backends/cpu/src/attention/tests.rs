//! The blocked kernel and the sweep against the definition.

use super::*;

struct Case {
    sizes: [usize; 7],
    side_by_side: bool,
    mask: Option<([usize; 3], usize, bool)>,
    lens: Vec<usize>,
    starts: Vec<usize>,
    sinks: Vec<f32>,
    past: isize,
    left: Option<usize>,
    right: Option<usize>,
    softcap: f32,
}

/// [batch, heads of queries, heads of keys, queries, keys, head, head of a value]
fn case(sizes: [usize; 7]) -> Case {
    Case {
        sizes,
        side_by_side: false,
        mask: None,
        lens: Vec::new(),
        starts: Vec::new(),
        sinks: Vec::new(),
        past: 0,
        left: None,
        right: None,
        softcap: 0.0,
    }
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / (1u32 << 22) as f32 - 2.0
    };
    (0..n).map(next).collect()
}

fn plain(job: &Job<'_>) -> Vec<f64> {
    let out = Steps::new(job.side_by_side, job.q_heads, job.queries, job.v_head);
    let mut y = vec![0.0; job.batch * job.q_heads * job.queries * job.v_head];
    for n in 0..job.batch * job.q_heads * job.queries {
        let (b, h, i) =
            (n / job.queries / job.q_heads, n / job.queries % job.q_heads, n % job.queries);
        let kv = h / (job.q_heads / job.kv_heads);
        let q = &job.q.head(b, h)[i * job.q.steps.position..][..job.head];
        let score = |j: usize| -> f64 {
            let k = &job.k.head(b, kv)[j * job.k.steps.position..][..job.head];
            let dot: f64 = q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
            let mut x = dot * f64::from(job.scale);
            if job.softcap > 0.0 {
                x = f64::from(job.softcap) * (x / f64::from(job.softcap)).tanh();
            }
            let at = b * job.mask.steps[0] + h * job.mask.steps[1] + i * job.mask.steps[2] + j;
            let seen = job.seen(b, i, i + 1).contains(&j);
            match job.mask.data {
                _ if !seen => f64::NEG_INFINITY,
                MaskData::None => x,
                MaskData::Add(m) => x + f64::from(m[at]),
                MaskData::Keep(m) if m[at] != 0 => x,
                MaskData::Keep(_) => f64::NEG_INFINITY,
            }
        };
        let scores: Vec<f64> = (0..job.keys).map(score).collect();
        let sink = job.sinks.get(h).map_or(f64::NEG_INFINITY, |&sink| sink.into());
        let max = scores.iter().copied().fold(sink, f64::max);
        let p = scores.iter().map(|&x| if max.is_finite() { (x - max).exp() } else { 0.0 });
        let p: Vec<f64> = p.collect();
        let sum = p.iter().sum::<f64>() + if max.is_finite() { (sink - max).exp() } else { 0.0 };
        let y = &mut y[b * out.batch + h * out.head + i * out.position..][..job.v_head];
        for (j, p) in p.iter().enumerate() {
            let v = &job.v.head(b, kv)[j * job.v.steps.position..][..job.v_head];
            let weight = if sum > 0.0 { p / sum } else { 0.0 };
            y.iter_mut().zip(v).for_each(|(y, &v)| *y += weight * f64::from(v));
        }
    }
    y
}

fn check(case: &Case) {
    let [batch, q_heads, kv_heads, queries, keys, head, v_head] = case.sizes;
    let q = numbers(batch * q_heads * queries * head, 1);
    let k = numbers(batch * kv_heads * keys * head, 2);
    let v = numbers(batch * kv_heads * keys * v_head, 3);
    let side = case.side_by_side;
    let vectors =
        |data, heads, len, size| Vectors { data, steps: Steps::new(side, heads, len, size) };
    let mask_len = batch * q_heads * queries * keys;
    let added: Vec<f32> = numbers(mask_len, 4)
        .into_iter()
        .map(|x| if x < -1.0 { f32::NEG_INFINITY } else { x })
        .collect();
    let kept: Vec<u8> = added.iter().map(|x| x.is_finite() as u8).collect();
    let (steps, mask_keys, data) = match case.mask {
        None => ([0; 3], keys, MaskData::None),
        Some((steps, n, true)) => (steps, n, MaskData::Add(&added)),
        Some((steps, n, false)) => (steps, n, MaskData::Keep(&kept)),
    };
    let job = Job {
        batch,
        q_heads,
        kv_heads,
        queries,
        keys,
        head,
        v_head,
        q: vectors(&q, q_heads, queries, head),
        k: vectors(&k, kv_heads, keys, head),
        v: vectors(&v, kv_heads, keys, v_head),
        side_by_side: side,
        scale: 0.3,
        softcap: case.softcap,
        mask: Mask { data, steps, keys: mask_keys },
        lens: &case.lens,
        starts: &case.starts,
        sinks: &case.sinks,
        past: case.past,
        left: case.left,
        right: case.right,
    };
    let want = plain(&job);
    for isa in Isa::available() {
        for threads in [1, 3] {
            let mut y = vec![f32::NAN; want.len()];
            let pool = par::Pool::new(threads).unwrap();
            pool.install(|| job.run(isa, &RunCx::unbounded(), &mut y)).unwrap();
            for (i, (&y, &want)) in y.iter().zip(&want).enumerate() {
                let close = (f64::from(y) - want).abs() < 2e-5;
                assert!(close, "{}: element {i} is {y}, not {want}", isa.name());
            }
        }
    }
}

#[test]
fn blocks_agree_with_the_definition() {
    check(&case([1, 1, 1, 5, 7, 4, 3]));
    check(&case([2, 3, 3, 40, 300, 64, 40]));
    check(&Case { side_by_side: true, ..case([2, 4, 2, 33, 129, 20, 64]) });
}

#[test]
fn one_query_agrees_with_the_definition() {
    check(&case([2, 4, 2, 1, 100, 64, 64]));
    check(&Case { side_by_side: true, softcap: 1.5, ..case([1, 2, 2, 3, 50, 37, 70]) });
}

#[test]
fn a_query_sees_its_window() {
    for queries in [3, 70] {
        for (left, right) in
            [(None, Some(0)), (Some(5), Some(0)), (Some(9), None), (Some(0), Some(4))]
        {
            let sizes = [1, 2, 1, queries, queries + 60, 16, 16];
            check(&Case { left, right, past: 60, ..case(sizes) });
            check(&Case { left, right, past: -2, ..case(sizes) });
        }
    }
}

#[test]
fn masks_broadcast() {
    for queries in [2, 50] {
        let keys = 150;
        for add in [false, true] {
            let sizes = [2, 2, 2, queries, keys, 8, 8];
            let full = [2 * queries * keys, queries * keys, keys];
            for (steps, n) in
                [(full, keys), ([keys, 0, 0], keys), ([0, 0, keys], keys), ([0; 3], 90)]
            {
                check(&Case { mask: Some((steps, n, add)), softcap: 2.0, ..case(sizes) });
            }
        }
    }
}

#[test]
fn padding_is_not_seen() {
    for queries in [1, 20] {
        let sizes = [3, 2, 2, queries, 140, 8, 8];
        check(&Case { lens: vec![0, 17, 140], ..case(sizes) });
        check(&Case { lens: vec![3, 17, 140], right: Some(0), ..case(sizes) });
    }
}

#[test]
fn queries_start_where_their_batch_says() {
    for queries in [1, 20] {
        let sizes = [3, 2, 2, queries, 140, 8, 8];
        let (lens, starts) = (vec![17, 30, 140], vec![0, 29, 120]);
        check(&Case { lens, starts, left: Some(6), right: Some(0), ..case(sizes) });
    }
}

#[test]
fn a_sink_takes_its_share() {
    for queries in [2, 40] {
        let sizes = [2, 4, 2, queries, 150, 8, 8];
        let sinks = vec![0.0, 3.0, -50.0, f32::NEG_INFINITY];
        check(&Case { sinks, lens: vec![0, 150], ..case(sizes) });
    }
}

#[test]
fn without_keys_the_result_is_zero() {
    check(&case([1, 2, 2, 20, 0, 8, 8]));
    check(&case([1, 2, 2, 1, 0, 8, 8]));
    check(&case([1, 2, 2, 0, 5, 8, 8]));
    check(&case([1, 2, 2, 9, 5, 0, 8]));
}
