//! RotaryEmbedding: pairs turned by the angle of their position, in f32.

use rinfer_graph::ops::RotaryEmbedding;
use rinfer_graph::{Reason, Tensor, invalid};

use crate::convert::Float;
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::{F32s, Isa};

pub(super) fn compile(op: &RotaryEmbedding, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let x = cx.sizes(0)?;
    let (sizes, dim) = op.sizes(&x)?;
    let positions = cx.opt(3).map(|_| cx.sizes(1)).transpose()?.map(|cos| cos[0]);
    let (isa, side_by_side, interleaved) = (cx.isa, x.len() == 3, op.interleaved);
    let one_first = cx.opt(3).map(|_| cx.sizes(3)).transpose()?.is_some_and(|ids| ids.len() < 2);
    let rotary = Rotary { isa, sizes, dim, side_by_side, interleaved, positions, one_first };
    rinfer_graph::with_dtype!(cx.dtype(0)?, [f32, half::f16, half::bf16], T => {
        // A row of cosines, of sines, and of numbers.
        let scratch = Scratch::floats(2 * dim);
        let scratch = scratch.in_loop(sizes[..3].iter().product(), par::grain(sizes[3]));
        Ok(Kernel::new(move |args| rotary.run::<T>(args)).takes(scratch))
    }, else Err(invalid!("RotaryEmbedding of {}", cx.dtype(0)?)))
}

struct Rotary {
    isa: Isa,
    /// Batch, heads, positions, size of a head.
    sizes: [usize; 4],
    /// Elements that are turned.
    dim: usize,
    side_by_side: bool,
    interleaved: bool,
    /// Rows of the caches, where position_ids choose among them.
    positions: Option<usize>,
    /// Whether position_ids is the position of the first, and the others follow it.
    one_first: bool,
}

impl Rotary {
    fn run<T: Float>(&self, args: &mut Args<'_>) -> Result<(), Reason> {
        let [_, heads, steps, head] = self.sizes;
        let x = args.input(0)?.as_slice::<T>();
        let (cos, sin) = (args.input(1)?.as_slice::<T>(), args.input(2)?.as_slice::<T>());
        let ids = args.opt(3).map(Tensor::as_slice::<i64>);
        let after = if self.one_first { steps.saturating_sub(1) } else { 0 };
        for &id in ids.unwrap_or_default() {
            let rows = self.positions.unwrap_or(0);
            let last = usize::try_from(id).ok().and_then(|id| id.checked_add(after));
            if last.is_none_or(|last| last >= rows) {
                return Err(invalid!("position {id} + {after} is out of range for {rows} rows"));
            }
        }
        let half = self.dim / 2;
        let failure = par::Failure::default();
        let y = args.outputs[0].as_mut_slice::<T>();
        par::rows(y, head, head, |rows, y| {
            let turn = |scratch: &mut [f32]| {
                let (c, rest) = scratch.split_at_mut(half);
                let (s, row) = rest.split_at_mut(half);
                for (r, y) in rows.clone().zip(y.chunks_exact_mut(head)) {
                    let at = match self.side_by_side {
                        true => r / heads,
                        false => r / (heads * steps) * steps + r % steps,
                    };
                    let at = half
                        * match ids {
                            None => at,
                            Some(ids) if self.one_first => ids[0] as usize + at % steps,
                            Some(ids) => ids[at] as usize,
                        };
                    T::widen(self.isa, &cos[at..at + half], c);
                    T::widen(self.isa, &sin[at..at + half], s);
                    let x = &x[r * head..][..head];
                    T::widen(self.isa, &x[..self.dim], row);
                    match self.interleaved {
                        true => turn_neighbours(row, c, s),
                        false => turn_halves(self.isa, row, c, s),
                    }
                    T::narrow(self.isa, row, &mut y[..self.dim]);
                    y[self.dim..].copy_from_slice(&x[self.dim..]);
                }
            };
            failure.attempt(|| {
                args.cx.check()?;
                with_scratch(2 * self.dim, turn).map_err(limit)
            });
        });
        failure.result()
    }
}

crate::simd_fn! {
    fn turn_halves(s: S, x: &mut [f32], cos: &[f32], sin: &[f32]) {
        let (x1, x2) = x.split_at_mut(cos.len());
        let mut i = 0;
        while i < cos.len() {
            let load = |x: &[f32]| s.load_partial(&x[i..], 0.0);
            let (a, b, c, d) = (load(x1), load(x2), load(cos), load(sin));
            (c * a - d * b).store_partial(&mut x1[i..]);
            (d * a + c * b).store_partial(&mut x2[i..]);
            i += S::LANES;
        }
    }
}

fn turn_neighbours(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (x, (c, s)) in x.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
        *x = [c * x[0] - s * x[1], s * x[0] + c * x[1]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;

    fn rows(interleaved: bool, dim: usize) -> Vec<f32> {
        let op = RotaryEmbedding { interleaved, heads: 1, dim };
        let x = Tensor::from_slice(&[1, 2, 4], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let n = if dim == 0 { 2 } else { dim / 2 };
        // A quarter turn at position 0, none at position 1.
        let cache = |a: f32, b: f32| {
            let rows: Vec<f32> = [vec![a; n], vec![b; n]].concat();
            Tensor::from_slice(&[2, n], &rows)
        };
        let ids = Tensor::from_slice(&[1, 2], &[1i64, 0]);
        let y = run1(Isa::best(), op, &[x, cache(0.0, 1.0), cache(1.0, 0.0), ids]).unwrap();
        y.as_slice::<f32>().to_vec()
    }

    #[test]
    fn halves_or_neighbours_are_turned() {
        assert_eq!(rows(false, 0), [1.0, 2.0, 3.0, 4.0, -7.0, -8.0, 5.0, 6.0]);
        assert_eq!(rows(true, 0), [1.0, 2.0, 3.0, 4.0, -6.0, 5.0, -8.0, 7.0]);
    }

    #[test]
    fn what_lies_beyond_the_turned_part_stays() {
        assert_eq!(rows(false, 2), [1.0, 2.0, 3.0, 4.0, -6.0, 5.0, 7.0, 8.0]);
    }

    #[test]
    fn one_position_is_that_of_the_first() {
        let op = RotaryEmbedding { interleaved: false, heads: 0, dim: 0 };
        let x = Tensor::from_slice(&[1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
        let cos = Tensor::from_slice(&[3, 1], &[9.0f32, 0.0, 1.0]);
        let sin = Tensor::from_slice(&[3, 1], &[9.0f32, 1.0, 0.0]);
        let turned = |first: i64| {
            let ids = Tensor::vector(&[first]);
            run1(Isa::best(), op.clone(), &[x.clone(), cos.clone(), sin.clone(), ids])
        };
        assert_eq!(turned(1).unwrap().as_slice::<f32>(), [-2.0, 1.0, 3.0, 4.0]);
        assert!(turned(2).is_err());
    }

    #[test]
    fn a_position_beyond_the_cache_is_an_error() {
        let op = RotaryEmbedding { interleaved: false, heads: 1, dim: 0 };
        let cache = Tensor::from_slice(&[1, 1], &[1.0f32]);
        let x = Tensor::from_slice(&[1, 1, 2], &[1.0f32, 2.0]);
        let ids = Tensor::from_slice(&[1, 1], &[1i64]);
        assert!(run1(Isa::best(), op, &[x, cache.clone(), cache, ids]).is_err());
    }
}
