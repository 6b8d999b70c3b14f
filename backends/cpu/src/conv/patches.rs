//! Convolution as a matrix product: weights [m, c · taps] times patches [c · taps, outputs].
//!
//! The patches are made a block of outputs at a time, from the image laid out by [`Source`], and
//! go straight into the panels that the product reads.

use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;

use super::Follow;
use super::geometry::Geometry;
use super::source::Source;
use crate::gemm::room::{self, Lies};
use crate::gemm::{Bias, Epilogue, Gemm, Lhs, Made, PackedA, Rhs, Strided};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::{F32s, Isa};

/// A convolution by matrix products, made ready.
pub struct Plan {
    g: Geometry,
    source: Source,
    /// For each row of the patches, where the first output's element stands.
    rows: Vec<usize>,
}

/// The weights of each group, packed.
pub fn pack(isa: Isa, group: usize, m: usize, k: usize, w: &[f32]) -> Result<Vec<PackedA>, Reason> {
    (0..group)
        .map(|i| {
            let w = w.get(i * m * k..).unwrap_or_default();
            PackedA::pack(isa, m, k, Strided::rows(w, k)).map_err(limit)
        })
        .collect()
}

impl Plan {
    /// `None` if the sizes overflow.
    pub fn new(g: &Geometry) -> Option<Plan> {
        let source = Source::new(g)?;
        let rows = (0..g.c).flat_map(|c| source.taps.iter().map(move |t| (c, t)));
        let rows = rows.map(|(c, t)| c * source.channel + t).collect();
        Some(Plan { g: g.clone(), source, rows })
    }

    /// `y = follow(conv(x, weights))`
    pub fn run(
        &self,
        isa: Isa,
        (x, weights): (&[f32], &[PackedA]),
        follow: &Follow<'_>,
        y: &mut [f32],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let g = &self.g;
        let (from, to) = (g.c * g.in_len(), g.m * g.out_len());
        let failure = par::Failure::default();
        par::chunks_mut(y, to, self.grain(), |i, y| {
            failure.attempt(|| {
                cx.check()?;
                let x = &x[i * from..][..from];
                let follow = follow.channels((i % g.group) * g.m, g.m, i * to, to);
                let weights = &weights[i % g.group];
                if self.source.as_is {
                    return self.image(isa, (x, weights), &follow, y);
                }
                with_scratch(g.c * self.source.channel, |laid_out| {
                    self.source.lay_out(isa, g, x, laid_out);
                    self.image(isa, (laid_out, weights), &follow, y)
                })
                .map_err(limit)?
            });
        });
        failure.result()
    }

    /// What a run takes: an image laid out, and panels of patches.
    pub fn scratch(&self, isa: Isa) -> Scratch {
        let (g, n) = (&self.g, self.g.out_len());
        let laid_out = if self.source.as_is { 0 } else { g.c * self.source.channel };
        let b = if self.is_matrix() { Lies::Plain([n, 1]) } else { Lies::Made };
        Scratch::floats(laid_out)
            .and(room::scratch(isa, (g.m, n, self.rows.len()), Lies::Packed, b))
            .in_loop(g.batch * g.group, self.grain())
    }

    /// Images, each by group, worth handing to another thread.
    fn grain(&self) -> usize {
        par::grain((self.g.m * self.g.out_len()).saturating_mul(self.rows.len()) / 32)
    }

    /// Whether an image that is laid out is the right operand: there is one tap.
    fn is_matrix(&self) -> bool {
        self.source.taps.len() == 1 && self.source.channel == self.g.out_len()
    }

    /// One group of one image, laid out.
    fn image(
        &self,
        isa: Isa,
        (x, weights): (&[f32], &PackedA),
        follow: &Follow<'_>,
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let (n, k) = (self.g.out_len(), self.rows.len());
        let patches = Patches { plan: self, x };
        let b = match self.is_matrix() {
            true => Rhs::Plain(Strided::rows(x, n)),
            false => Rhs::Made(&patches),
        };
        let epilogue = Epilogue {
            bias: follow.bias.map(Bias::Col),
            residual: follow.residual.map(|r| (r, n)),
            activation: follow.activation,
        };
        let gemm = Gemm::new((self.g.m, n, k), Lhs::Packed(weights), b);
        Gemm { epilogue, ..gemm }.run(isa, y, n).map_err(limit)
    }
}

/// The patches of one laid-out image.
struct Patches<'a> {
    plan: &'a Plan,
    x: &'a [f32],
}

impl std::fmt::Debug for Patches<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Patches({} of {})", self.plan.rows.len(), self.x.len())
    }
}

/// Outputs side by side whose elements stand side by side too: from lane, their number, where the
/// first of them stands.
type Run = (usize, usize, usize);

impl Made for Patches<'_> {
    fn panel(&self, isa: Isa, first: usize, cols: usize, width: usize, panel: &mut [f32]) {
        let [_, h, w] = self.plan.g.axes.map(|a| a.output);
        let pitch = self.plan.source.pitch;
        let mut runs: smallvec::SmallVec<[Run; 32]> = smallvec::SmallVec::new();
        let mut lane = 0;
        while lane < cols {
            let p = first + lane;
            let (z, r, c) = (p / (h * w), p / w % h, p % w);
            let (len, at) = ((w - c).min(cols - lane), z * pitch[0] + r * pitch[1] + c);
            match runs.last_mut() {
                Some(last) if last.2 + last.1 == at => last.1 += len,
                _ => runs.push((lane, len, at)),
            }
            lane += len;
        }
        copy(isa, self.x, &self.plan.rows, &runs, width, panel);
    }
}

crate::simd_fn! {
    /// Whole vectors, in order: what one writes too much the next overwrites.
    fn copy(
        s: S, x: &[f32], rows: &[usize], runs: &[Run], width: usize, panel: &mut [f32]
    ) {
        for (i, &row) in rows.iter().enumerate() {
            for &(lane, len, at) in runs {
                let (from, to) = (row + at, i * width + lane);
                let mut j = 0;
                while j < len {
                    let v = s.load_partial(&x[from + j..], 0.0);
                    v.store_partial(&mut panel[to + j..]);
                    j += S::LANES;
                }
            }
        }
    }
}
