//! LinearAttention: token by token, a head's state in L1, in f32.

use rinfer_graph::ops::{LinearAttention, LinearAttentionSizes};
use rinfer_graph::{Reason, Tensor, invalid, scarce};

use crate::kernel::{Args, Cx, Kernel};
use crate::simd::Isa;
use crate::{convert, par};

struct Settled {
    isa: Isa,
    op: LinearAttention,
    sizes: LinearAttentionSizes,
    scale: f32,
}

/// What the recurrence reads, in f32.
struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Logarithms; for each element of a key, or one for each head.
    decay: Vec<f32>,
    /// For each head, or one for all.
    beta: Vec<f32>,
}

pub(super) fn compile(op: &LinearAttention, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = op.sizes([&cx.sizes(0)?, &cx.sizes(1)?, &cx.sizes(2)?])?;
    let scale = op.scale.unwrap_or(1.0 / (sizes.head as f32).sqrt());
    let settled = Settled { isa: cx.isa, op: op.clone(), sizes, scale };
    Ok(Kernel::new(move |args| settled.run(args)))
}

impl Settled {
    fn run(&self, args: &mut Args<'_>) -> Result<(), Reason> {
        let wide = |i: usize| {
            let Some(x) = args.opt(i) else { return Ok(Vec::new()) };
            let mut wide = scarce::zeros(x.len());
            convert::read(self.isa, x, 0, &mut wide).map(|()| wide)
        };
        let inputs =
            Inputs { q: wide(0)?, k: wide(1)?, v: wide(2)?, decay: wide(4)?, beta: wide(5)? };
        let (s, heads) = (&self.sizes, self.op.kv_heads);
        let matrix = s.head * s.v_head;
        let mut states = wide(3)?;
        if states.is_empty() {
            states = scarce::zeros(s.batch * heads * matrix);
        }
        let group = self.op.q_heads / heads;
        let each = s.tokens * group * s.v_head;
        // Each head of the state makes its outputs by itself: [batch, head, token, group, e].
        let mut made = scarce::zeros(s.batch * heads * each);
        let failure = par::Failure::default();
        let work = ((&mut states[..], matrix.max(1)), (&mut made[..], each.max(1)));
        let grain = par::grain(s.tokens * matrix / 8);
        par::split(work, s.batch * heads, grain, |first, ((states, _), (made, _))| {
            let chunks = states.chunks_mut(matrix.max(1)).zip(made.chunks_mut(each.max(1)));
            for (i, (state, made)) in chunks.enumerate() {
                failure.attempt(|| self.head(first + i, &inputs, state, made, args));
            }
        });
        failure.result()?;
        let mut y = scarce::zeros(made.len());
        let row = group * s.v_head;
        for (n, made) in made.chunks_exact(row.max(1)).enumerate() {
            let (head, token) = (n / s.tokens, n % s.tokens);
            let at = (head / heads * s.tokens + token) * heads + head % heads;
            y[at * row..][..row].copy_from_slice(made);
        }
        let [out, rest @ ..] = &mut *args.outputs else {
            return Err(invalid!("linear attention without outputs"));
        };
        convert::write(self.isa, &y, out, 0)?;
        rest.first_mut()
            .map_or(Ok(()), |out: &mut Tensor| convert::write(self.isa, &states, out, 0))
    }

    /// Every token of one head (of batch and head `n`).
    fn head(
        &self,
        n: usize,
        inputs: &Inputs,
        state: &mut [f32],
        made: &mut [f32],
        args: &Args<'_>,
    ) -> Result<(), Reason> {
        let (s, heads) = (&self.sizes, self.op.kv_heads);
        let (batch, head, group) = (n / heads, n % heads, self.op.q_heads / heads);
        let mut update = vec![0.0; s.v_head];
        for token in 0..s.tokens {
            if token % 64 == 0 {
                args.cx.check()?;
            }
            let at = batch * s.tokens + token;
            let k = &inputs.k[(at * heads + head) * s.head..][..s.head];
            let v = &inputs.v[(at * heads + head) * s.v_head..][..s.v_head];
            if self.op.gated {
                self.decay(inputs, at, head, state);
            }
            update.copy_from_slice(v);
            if self.op.delta {
                let width = inputs.beta.len() / (s.batch * s.tokens);
                let beta = inputs.beta[at * width + if width == 1 { 0 } else { head }];
                add_rows(self.isa, state, k, -1.0, &mut update);
                update.iter_mut().for_each(|x| *x *= beta);
            }
            outer(self.isa, k, &update, state);
            for g in 0..group {
                let q = &inputs.q[(at * self.op.q_heads + head * group + g) * s.head..][..s.head];
                let y = &mut made[(token * group + g) * s.v_head..][..s.v_head];
                y.fill(0.0);
                add_rows(self.isa, state, q, self.scale, y);
            }
        }
        Ok(())
    }

    fn decay(&self, inputs: &Inputs, at: usize, head: usize, state: &mut [f32]) {
        let (s, heads) = (&self.sizes, self.op.kv_heads);
        let per_head = inputs.decay.len() == s.batch * s.tokens * heads;
        for (i, row) in state.chunks_exact_mut(s.v_head.max(1)).enumerate() {
            let decay = match per_head {
                true => inputs.decay[at * heads + head],
                false => inputs.decay[(at * heads + head) * s.head + i],
            };
            let factor = decay.exp();
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

crate::simd_fn! {
    /// `y += factor · Σ k[i] · state[i]`
    fn add_rows(_s: S, state: &[f32], k: &[f32], factor: f32, y: &mut [f32]) {
        let n = y.len();
        if n == 0 {
            return;
        }
        for (row, &k) in state.chunks_exact(n).zip(k) {
            let k = k * factor;
            for (y, &x) in y.iter_mut().zip(row) {
                *y += k * x;
            }
        }
    }
}

crate::simd_fn! {
    /// `state[i] += k[i] · u`
    fn outer(_s: S, k: &[f32], u: &[f32], state: &mut [f32]) {
        let n = u.len();
        if n == 0 {
            return;
        }
        for (row, &k) in state.chunks_exact_mut(n).zip(k) {
            for (y, &u) in row.iter_mut().zip(u) {
                *y += k * u;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run_opt;
    use rinfer_graph::Value;

    fn t(shape: &[usize], x: &[f32]) -> Option<Value> {
        Some(Tensor::from_slice(shape, x).into())
    }

    fn check(gated: bool, delta: bool, want: [f32; 3]) {
        let op = LinearAttention { q_heads: 1, kv_heads: 1, scale: Some(2.0), gated, delta };
        let half = 0.5f32.ln();
        let inputs = [
            t(&[1, 2, 1], &[1.0, 3.0]),
            t(&[1, 2, 1], &[1.0, 1.0]),
            t(&[1, 2, 1], &[5.0, 7.0]),
            t(&[1, 1, 1, 1], &[4.0]),
            t(&[1, 2, 1], &[half, half]).filter(|_| gated),
            t(&[1, 2, 1], &[0.5, 0.5]).filter(|_| delta),
        ];
        let y = run_opt(Isa::best(), op, &inputs, 2).unwrap();
        let y = |i: usize| y[i].as_tensor().unwrap().as_slice::<f32>().to_vec();
        let made = [y(0), y(1)].concat();
        assert!(made.iter().zip(want).all(|(y, w)| (y - w).abs() < 1e-4), "{made:?}, {want:?}");
    }

    #[test]
    fn every_rule_is_its_formula() {
        check(false, false, [18.0, 96.0, 16.0]);
        check(true, false, [14.0, 63.0, 10.5]);
        check(false, true, [9.0, 34.5, 5.75]);
        check(true, true, [7.0, 26.25, 4.375]);
    }
}
