//! Convolution in i32, where sums wrap: patches a block of outputs at a time, and products of
//! integers; one channel per group goes through the plain loops.

use bytemuck::{cast_slice, cast_slice_mut};
use rinfer_graph::backend::RunCx;
use rinfer_graph::{Reason, invalid};

use super::geometry::Geometry;
use super::reference;
use super::source::Source;
use crate::gemm::{Write, gemm_generic};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch_of;
use crate::simd::Isa;

/// Elements of the patches that are made at a time.
const BLOCK: usize = 64 * 1024;

/// A convolution of integers, made ready.
pub struct Plan {
    g: Geometry,
    source: Source,
}

impl Plan {
    /// `Err` if the sizes overflow.
    pub fn new(g: &Geometry) -> Result<Plan, Reason> {
        let too_large = || invalid!("a convolution of {g:?} is larger than any memory");
        Ok(Plan { g: g.clone(), source: Source::new(g).ok_or_else(too_large)? })
    }

    /// `y = conv(x, w)`
    pub fn run(
        &self,
        isa: Isa,
        (x, w): (&[i32], &[i32]),
        y: &mut [i32],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let g = &self.g;
        if g.c == 1 || y.is_empty() {
            return reference::convolve(g, (x, w), y, cx, |_, _| ());
        }
        let (from, to) = (g.c * g.in_len(), g.m * g.out_len());
        let k = g.c * g.taps();
        let failure = par::Failure::default();
        par::chunks_mut(y, to, par::grain(to.saturating_mul(k) / 4), |i, y| {
            failure.attempt(|| {
                let x = &x[i * from..][..from];
                let w = &w[i % g.group * g.m * k..][..g.m * k];
                if self.source.as_is {
                    return self.image(isa, (x, w), y, cx);
                }
                with_scratch_of(g.c * self.source.channel, |laid_out: &mut [i32]| {
                    // Bits are only moved.
                    let (from, to) = (cast_slice(x), cast_slice_mut(laid_out));
                    self.source.lay_out(isa, g, from, to);
                    self.image(isa, (laid_out, w), y, cx)
                })
                .map_err(limit)?
            });
        });
        failure.result()
    }

    fn image(
        &self,
        isa: Isa,
        (x, w): (&[i32], &[i32]),
        y: &mut [i32],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let (g, n) = (&self.g, self.g.out_len());
        let k = g.c * g.taps();
        let cols = (BLOCK / k.max(1)).clamp(16, n.max(16));
        with_scratch_of((k + g.m).saturating_mul(cols), |scratch: &mut [i32]| {
            let (patches, sums) = scratch.split_at_mut(k * cols);
            for first in (0..n).step_by(cols) {
                cx.check()?;
                let cols = cols.min(n - first);
                self.patches(x, first, cols, &mut patches[..k * cols]);
                let size = (g.m, cols, k);
                let (a, b) = ((w, (k, 1)), (&patches[..k * cols], (cols, 1)));
                let sums = &mut sums[..g.m * cols];
                gemm_generic(isa, size, a, b, Write::Set, sums).map_err(limit)?;
                for (y, sums) in y.chunks_exact_mut(n).zip(sums.chunks_exact(cols)) {
                    y[first..first + cols].copy_from_slice(sums);
                }
            }
            Ok(())
        })
        .map_err(limit)?
    }

    /// Columns `first..first + cols` of the patches, row after row.
    fn patches(&self, x: &[i32], first: usize, cols: usize, patches: &mut [i32]) {
        let [_, h, w] = self.g.axes.map(|a| a.output);
        let pitch = self.source.pitch;
        let rows = (0..self.g.c)
            .flat_map(|c| self.source.taps.iter().map(move |t| c * self.source.channel + t));
        for (row, patches) in rows.zip(patches.chunks_exact_mut(cols)) {
            let mut lane = 0;
            while lane < cols {
                let p = first + lane;
                let (z, r, c) = (p / (h * w), p / w % h, p % w);
                let len = (w - c).min(cols - lane);
                let at = row + z * pitch[0] + r * pitch[1] + c;
                patches[lane..lane + len].copy_from_slice(&x[at..at + len]);
                lane += len;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;

    #[test]
    fn products_agree_with_the_plain_loops() {
        let mut r = Random::new(6);
        for _ in 0..40 {
            let group = 1 + r.below(3);
            let g = Geometry::random(&mut r, group);
            let mut bytes = |n: usize| (0..n).map(|_| r.below(511) as i32 - 255).collect();
            let x: Vec<i32> = bytes(g.batch * g.group * g.c * g.in_len());
            let w: Vec<i32> = bytes(g.group * g.m * g.c * g.taps());
            let mut wanted = vec![0; g.batch * g.group * g.m * g.out_len()];
            let mut y = wanted.clone();
            let cx = RunCx::unbounded();
            reference::convolve(&g, (&x, &w), &mut wanted, &cx, |_, _| ()).unwrap();
            Plan::new(&g).unwrap().run(Isa::best(), (&x, &w), &mut y, &cx).unwrap();
            assert_eq!(y, wanted, "{g:?}");
        }
    }
}
