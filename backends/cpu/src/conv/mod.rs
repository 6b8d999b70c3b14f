//! Convolutions: the sizes of one, and the ways to compute it in f32.
//!
//! One channel per group goes channel by channel ([`depthwise`]), 3 × 3 with stride 1 by tiles
//! ([`winograd`]) where there are enough of them, everything else is a matrix product
//! ([`patches`]); all read the image as [`source`] lays it out. [`mod@reference`] is the
//! definition, and what other types use.

pub mod chain;
pub mod depthwise;
mod depthwise_bytes;
mod depthwise_last;
pub mod first;
pub mod geometry;
pub mod integer;
pub mod integer_last;
pub mod last;
pub mod patches;
pub mod pool_last;
pub mod reference;
pub mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod winograd;
mod winograd_last;

pub use geometry::Geometry;

use rinfer_graph::backend::RunCx;
use rinfer_graph::{Reason, invalid};

use crate::gemm::PackedA;
use crate::math::Activation;
use crate::scratch::Scratch;
use crate::simd::{Isa, Simd};

/// What follows a convolution, for some of its output channels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Follow<'a> {
    /// One number per channel, added first.
    pub bias: Option<&'a [f32]>,
    /// One number per output, added next.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

/// Where a convolution's outputs stand among channels side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Among {
    /// Channels of a pixel in memory.
    pub all: usize,
    /// The first that is the convolution's.
    pub first: usize,
}

impl<'a> Follow<'a> {
    /// What an output is clipped to: the activation, if it is no more than that. A kernel that
    /// holds sums in registers has no room for other functions beside them.
    fn clip(&self) -> (f32, f32) {
        match self.activation {
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Clip(lo, hi) => (lo, hi),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// The activation of outputs that were clipped by [`Follow::clip`].
    #[inline(always)]
    fn after_clip<S: Simd>(&self, s: S, y: &mut [f32]) {
        match self.activation {
            Activation::None | Activation::Relu | Activation::Clip(..) => {}
            activation => activation.apply_slice(s, y),
        }
    }

    /// What follows for `count` channels from `first` on, whose outputs are `len` from `at` on.
    fn channels(&self, first: usize, count: usize, at: usize, len: usize) -> Follow<'a> {
        Follow {
            bias: self.bias.map(|b| &b[first..first + count]),
            residual: self.residual.map(|r| &r[at..at + len]),
            activation: self.activation,
        }
    }
}

/// How a convolution is computed.
pub enum Plan {
    /// Channel by channel.
    Depthwise(depthwise::Plan),
    /// By tiles.
    Winograd(winograd::Plan),
    /// By matrix products.
    Patches(patches::Plan),
}

/// Weights made ready for a [`Plan`].
pub enum Weights {
    /// As the model has them.
    Plain,
    /// Transformed, for tiles.
    Winograd(winograd::Weights),
    /// Packed for matrix products, group by group.
    Patches(Vec<PackedA>),
}

impl Weights {
    /// Makes weights ready for the way that suits these sizes.
    pub fn pack(isa: Isa, g: &Geometry, w: &[f32]) -> Result<Weights, Reason> {
        Ok(match () {
            () if g.c == 1 => Weights::Plain,
            () if winograd::suits(g) => {
                Weights::Winograd(winograd::pack(isa, g.group, g.m, g.c, w)?)
            }
            () => Weights::Patches(patches::pack(isa, g.group, g.m, g.c * g.taps(), w)?),
        })
    }
}

/// One convolution's images and weights.
pub struct Operands<'a> {
    /// The images.
    pub x: &'a [f32],
    /// The weights as the model has them.
    pub w: &'a [f32],
    /// The weights made ready, if that was done ahead.
    pub ready: Option<&'a Weights>,
}

impl Plan {
    /// The fastest way for these sizes.
    pub fn new(g: &Geometry) -> Result<Plan, Reason> {
        if let Some(plan) = depthwise::Plan::new(g) {
            return Ok(Plan::Depthwise(plan));
        }
        if let Some(plan) = winograd::Plan::new(g) {
            return Ok(Plan::Winograd(plan));
        }
        patches::Plan::new(g)
            .map(Plan::Patches)
            .ok_or_else(|| invalid!("a convolution of {g:?} is larger than any memory"))
    }

    /// What a run takes, and the weights if they are not `ready`.
    pub fn scratch(&self, isa: Isa, g: &Geometry, ready: bool) -> Scratch {
        let weights = g.group * g.m * g.c * g.taps();
        match self {
            Plan::Depthwise(plan) => plan.scratch(g.batch * g.group * g.m),
            Plan::Winograd(plan) if ready => plan.scratch(isa),
            Plan::Winograd(plan) => {
                let packed = Scratch::floats(g.group * g.m * g.c * winograd::POINTS);
                winograd::packing(g.m, g.c).then(&plan.scratch(isa)).and(packed)
            }
            Plan::Patches(plan) if ready => plan.scratch(isa),
            Plan::Patches(plan) => plan.scratch(isa).and(Scratch::floats(weights)),
        }
    }

    /// `y = follow(conv(x, w))`
    pub fn run(
        &self,
        isa: Isa,
        g: &Geometry,
        operands: &Operands<'_>,
        follow: &Follow<'_>,
        y: &mut [f32],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        if y.is_empty() {
            return Ok(());
        }
        let Operands { x, w, ready } = *operands;
        match (self, ready) {
            (Plan::Depthwise(plan), _) => plan.run(isa, (x, w), follow, y, cx),
            (Plan::Winograd(plan), Some(Weights::Winograd(w))) => {
                plan.run(isa, (x, w), follow, y, cx)
            }
            (Plan::Winograd(plan), _) => {
                let w = winograd::pack(isa, g.group, g.m, g.c, w)?;
                plan.run(isa, (x, &w), follow, y, cx)
            }
            (Plan::Patches(plan), Some(Weights::Patches(w))) => {
                plan.run(isa, (x, w), follow, y, cx)
            }
            (Plan::Patches(plan), _) => {
                let w = patches::pack(isa, g.group, g.m, g.c * g.taps(), w)?;
                plan.run(isa, (x, &w), follow, y, cx)
            }
        }
    }
}
