//! Convolutions that follow one another, a strip of rows at a time: what one makes is still in a
//! near cache when the next reads it.
//!
//! x → pixel by pixel, or the first of a network → channel by channel → pixel by pixel → y
//!
//! where a pool goes channel by channel as a depthwise convolution does.
//!
//! Networks for phones are made of such blocks (Sandler et al., "MobileNetV2", 2018): the values
//! in the middle are six times as many as those between blocks, and whole they fit no near cache.

use std::ops::Range;
use std::sync::Arc;

use rinfer_graph::backend::RunCx;
use rinfer_graph::{Reason, unsupported};

use super::depthwise_last::{self, Image};
use super::{Among, Follow, Geometry, first, last, pool_last};
use crate::kernel::limit;
use crate::math::Activation;
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// Bytes that are near: what strips take at most, and what values may take without them.
const NEAR: usize = 512 << 10;

/// A convolution whose outputs have their channels side by side.
#[derive(Clone)]
pub struct Layer {
    /// Its sizes.
    pub g: Geometry,
    /// Its weights, and how the image lies.
    pub weights: Weights,
    /// What is applied last.
    pub activation: Activation,
}

/// Weights made ready.
#[derive(Clone)]
pub enum Weights {
    /// For an image in planes, of few channels.
    First(Arc<first::Weights>),
    /// For an image with its channels side by side.
    Last(Arc<last::Weights>),
    /// None: a pool of such an image.
    Pool(Arc<pool_last::Pool>),
}

/// What is added to a layer's outputs: a number per channel, and one per output.
pub type Added<'a> = (Option<&'a [f32]>, Option<&'a [f32]>);

impl Layer {
    fn follow<'a>(&self, (bias, residual): Added<'a>) -> Follow<'a> {
        Follow { bias, residual, activation: self.activation }
    }

    /// The whole layer.
    ///
    /// # Errors
    /// It is to stop, or memory cannot be had.
    pub fn run(
        &self,
        isa: Isa,
        x: &[f32],
        added: Added<'_>,
        y: &mut [f32],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let follow = self.follow(added);
        match &self.weights {
            Weights::First(w) => first::run(isa, &self.g, (x, w), &follow, y),
            Weights::Last(w) => last::run(isa, &self.g, (x, w), &follow, y, cx),
            Weights::Pool(pool) => {
                pool.run(isa, x, y);
                Ok(())
            }
        }
    }

    /// Whether it can write into some of the channels of its outputs' pixels.
    pub fn stands_among(&self) -> bool {
        matches!(self.weights, Weights::Last(_)) && !self.is_by_channel()
    }

    /// As [`Layer::run`] into some of the channels of `y`, if it [`Layer::stands_among`] others.
    ///
    /// # Errors
    /// As [`Layer::run`].
    pub fn run_among(
        &self,
        isa: Isa,
        x: &[f32],
        added: Added<'_>,
        to: (&mut [f32], Among),
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let follow = self.follow(added);
        match &self.weights {
            Weights::First(_) | Weights::Pool(_) => {
                Err(unsupported!("a first convolution or a pool among other channels"))
            }
            Weights::Last(w) => last::run_among(isa, &self.g, (x, w), &follow, to, cx),
        }
    }

    /// What [`Layer::run`] takes.
    pub fn scratch(&self, isa: Isa) -> Scratch {
        match &self.weights {
            Weights::First(_) => first::scratch(&self.g),
            Weights::Last(w) => last::scratch(isa, &self.g, w),
            Weights::Pool(_) => Scratch::none(),
        }
    }

    /// What so many rows of outputs take on one thread.
    fn rows_scratch(&self, isa: Isa, rows: usize) -> Scratch {
        match &self.weights {
            Weights::First(_) => first::rows_scratch(&self.g),
            Weights::Last(_) => last::pixels_scratch(isa, &self.g, rows * self.g.axes[2].output),
            Weights::Pool(_) => Scratch::none(),
        }
    }

    /// Whether it goes pixel by pixel.
    fn is_pixelwise(&self) -> bool {
        let matrix =
            matches!(&self.weights, Weights::Last(w) if matches!(**w, last::Weights::Patches(_)));
        matrix && last::is_pixelwise(&self.g)
    }

    /// Whether it can be the first of a chain.
    pub fn begins(&self) -> bool {
        matches!(self.weights, Weights::First(_)) || self.is_pixelwise()
    }

    /// Whether it can be the last of a chain.
    pub fn ends(&self) -> bool {
        self.is_pixelwise()
    }

    /// Whether it goes channel by channel.
    pub fn is_by_channel(&self) -> bool {
        match &self.weights {
            Weights::First(_) => false,
            Weights::Last(w) => matches!(**w, last::Weights::Depthwise(_)),
            Weights::Pool(_) => true,
        }
    }

    /// Output channels in all.
    pub fn channels(&self) -> usize {
        self.g.group * self.g.m
    }

    /// Elements of a row of outputs.
    fn row(&self) -> usize {
        self.g.axes[2].output * self.channels()
    }

    /// Nanoseconds that a row of outputs takes, about.
    fn row_ns(&self) -> usize {
        self.row() * self.g.c * self.g.taps() / 32
    }

    /// Rows of all images' outputs from `first` on, as many as `y` holds.
    fn rows(
        &self,
        isa: Isa,
        x: &[f32],
        added: Added<'_>,
        first: usize,
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let (g, follow) = (&self.g, self.follow(added));
        match &self.weights {
            Weights::First(w) => first::rows(isa, g, (x, w), &follow, first, y),
            Weights::Last(w) => match &**w {
                last::Weights::Patches(w) => {
                    let x = &x[first * g.axes[2].input * g.c..];
                    last::pixels(isa, g, (x, w), &follow, y)
                }
                _ => Err(unsupported!("{g:?} in a chain")),
            },
            Weights::Pool(_) => Err(unsupported!("a pool at an end of a chain")),
        }
    }

    /// As [`Layer::rows`] of a layer that goes channel by channel, for one image of which `seen` is
    /// what they see.
    fn rows_by_channel(
        &self,
        isa: Isa,
        seen: Image<'_>,
        bias: Option<&[f32]>,
        first: usize,
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let follow = self.follow((bias, None));
        match &self.weights {
            Weights::Pool(pool) => pool.rows(isa, seen, first, y),
            Weights::Last(w) => match &**w {
                last::Weights::Depthwise(w) => {
                    depthwise_last::rows(isa, &self.g, (seen, w), &follow, first, y);
                }
                _ => return Err(unsupported!("{:?} in the middle of a chain", self.g)),
            },
            Weights::First(_) => return Err(unsupported!("a first convolution in the middle")),
        }
        Ok(())
    }
}

/// Layers that run strip by strip.
pub struct Chain {
    /// Pixel by pixel, or the first of a network.
    before: Layer,
    /// Channel by channel.
    middle: Layer,
    /// Pixel by pixel.
    after: Option<Layer>,
    /// Bytes that strips may take.
    near: usize,
}

/// What is added in a chain: after each layer its bias, and at the end a number per output.
pub struct ChainAdded<'a> {
    /// A number per channel of each layer.
    pub biases: [Option<&'a [f32]>; 3],
    /// A number per output of the last.
    pub residual: Option<&'a [f32]>,
}

impl Chain {
    /// A chain of these layers; `None` if they make none, or what is between them is near as it is.
    pub fn new(before: &Layer, middle: &Layer, after: Option<&Layer>) -> Option<Chain> {
        let seen = before.row() * middle.g.axes[1].extent() * size_of::<f32>();
        (seen <= NEAR).then(|| Chain::within(NEAR, before, middle, after))?
    }

    fn within(near: usize, before: &Layer, middle: &Layer, after: Option<&Layer>) -> Option<Chain> {
        let bytes = before.g.out_len() * before.channels() * size_of::<f32>();
        let fits = before.begins() && middle.is_by_channel() && after.is_none_or(Layer::ends);
        let (before, middle, after) = (before.clone(), middle.clone(), after.cloned());
        (fits && bytes > near).then_some(Chain { before, middle, after, near })
    }

    /// Rows of the middle layer's outputs that are made at a time.
    fn strip(&self) -> usize {
        let h = &self.middle.g.axes[1];
        let row = self.before.row() * h.stride + self.between();
        let fixed = self.before.row() * h.extent();
        ((self.near / size_of::<f32>()).saturating_sub(fixed) / row.max(1)).clamp(1, h.output)
    }

    /// Elements of a row between the middle layer and the one after it.
    fn between(&self) -> usize {
        if self.after.is_some() { self.middle.row() } else { 0 }
    }

    fn last(&self) -> &Layer {
        self.after.as_ref().unwrap_or(&self.middle)
    }

    /// Rows of outputs worth handing to another thread.
    fn grain(&self) -> usize {
        let ns = self.before.row_ns() * self.middle.g.axes[1].stride
            + self.middle.row_ns() * 2
            + self.after.as_ref().map_or(0, Layer::row_ns);
        par::grain(ns).max(self.strip())
    }

    /// Rows of the first layer's outputs that a strip sees.
    fn held(&self) -> usize {
        let h = &self.middle.g.axes[1];
        ((self.strip() - 1) * h.stride + h.extent()).min(h.input)
    }

    /// Numbers of a strip: what it sees, and what is between the middle layer and the last.
    fn room(&self) -> usize {
        (self.held() * self.before.row()).saturating_add(self.strip() * self.between())
    }

    /// What a run takes.
    pub fn scratch(&self, isa: Isa) -> Scratch {
        let layers = par::alone(|| {
            let before = self.before.rows_scratch(isa, self.held());
            let after = self.after.as_ref().map(|after| after.rows_scratch(isa, self.strip()));
            before.then(&after.unwrap_or_default())
        });
        let g = &self.middle.g;
        let n = g.batch * g.axes[1].output;
        Scratch::floats(self.room()).and(layers).in_loop(n, self.grain())
    }

    /// All layers.
    ///
    /// # Errors
    /// Memory cannot be had.
    pub fn run(
        &self,
        isa: Isa,
        x: &[f32],
        added: &ChainAdded<'_>,
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let row = self.last().row();
        let n = y.len() / row;
        let failure = par::Failure::default();
        par::split((y, row), n, self.grain(), |start, (y, _)| {
            let rows = start..start + y.len() / row;
            failure.attempt(|| par::alone(|| self.band(isa, x, added, rows, y)));
        });
        failure.result()
    }

    /// Rows of all images' outputs, strip after strip on this thread.
    fn band(
        &self,
        isa: Isa,
        x: &[f32],
        added: &ChainAdded<'_>,
        mut rows: Range<usize>,
        mut y: &mut [f32],
    ) -> Result<(), Reason> {
        let (strip, h) = (self.strip(), &self.middle.g.axes[1]);
        let held = self.held() * self.before.row();
        let made = with_scratch(self.room(), |scratch| {
            let (near, between) = scratch.split_at_mut(held);
            let mut window = Window { near, image: 0, rows: 0..0 };
            while !rows.is_empty() {
                let (image, oy) = (rows.start / h.output, rows.start % h.output);
                let n = strip.min(h.output - oy).min(rows.len());
                window.slide(isa, self, x, added, (image, oy..oy + n))?;
                let (now, later) = std::mem::take(&mut y).split_at_mut(n * self.last().row());
                self.strip_of(isa, &window, between, added, (image, oy), now)?;
                (y, rows.start) = (later, rows.start + n);
            }
            Ok(())
        });
        made.map_err(limit)?
    }

    /// The middle layer and the one after it for the rows from `at` on that `y` holds.
    fn strip_of(
        &self,
        isa: Isa,
        window: &Window<'_>,
        between: &mut [f32],
        added: &ChainAdded<'_>,
        (image, oy): (usize, usize),
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let g = &self.middle.g;
        let seen = Image { x: window.near, top: window.rows.start };
        let bias = added.biases[1];
        let Some(after) = &self.after else {
            return self.middle.rows_by_channel(isa, seen, bias, oy, y);
        };
        let between = &mut between[..y.len() / after.row() * self.middle.row()];
        self.middle.rows_by_channel(isa, seen, bias, oy, between)?;
        let first = (image * g.axes[1].output + oy) * after.row();
        let residual = added.residual.map(|r| &r[first..first + y.len()]);
        after.rows(isa, between, (added.biases[2], residual), 0, y)
    }
}

/// The rows of the first layer's outputs that the middle one sees now.
struct Window<'a> {
    near: &'a mut [f32],
    image: usize,
    rows: Range<usize>,
}

impl Window<'_> {
    /// Makes it hold what rows `outputs` of an image see; what it has of that stays.
    fn slide(
        &mut self,
        isa: Isa,
        chain: &Chain,
        x: &[f32],
        added: &ChainAdded<'_>,
        (image, outputs): (usize, Range<usize>),
    ) -> Result<(), Reason> {
        let (h, row) = (&chain.middle.g.axes[1], chain.before.row());
        let inside = |at: usize| at.saturating_sub(h.before).min(h.input);
        let last = (outputs.end - 1) * h.stride + h.extent();
        let seen = inside(outputs.start * h.stride)..inside(last);
        let mut from = seen.start;
        if image == self.image && self.rows.contains(&from) {
            let kept = (from - self.rows.start) * row..self.rows.len() * row;
            from = self.rows.end;
            self.near.copy_within(kept, 0);
        }
        if from < seen.end {
            let new = &mut self.near[(from - seen.start) * row..(seen.end - seen.start) * row];
            let added = (added.biases[0], None);
            chain.before.rows(isa, x, added, image * h.input + from, new)?;
        }
        (self.image, self.rows) = (image, seen);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rinfer_graph::ops::Span;

    use super::*;
    use crate::conv::pool_last::Take;
    use crate::conv::testing::Random;
    use crate::par::Pool;

    fn span(input: usize, kernel: usize, stride: usize) -> Span {
        let before = kernel / 2;
        let output = (input + 2 * before - kernel) / stride + 1;
        Span { input, output, kernel, stride, dilation: 1, before, after: before }
    }

    fn layer(r: &mut Random, g: Geometry, activation: Activation, planes: bool) -> Layer {
        let w = r.floats(g.group * g.m * g.c * g.taps());
        let isa = Isa::best();
        let weights = match planes {
            true => Weights::First(Arc::new(first::Weights::pack(isa, &g, &w))),
            false => Weights::Last(Arc::new(last::Weights::pack(isa, &g, &w).unwrap())),
        };
        Layer { g, weights, activation }
    }

    /// One layer after the other.
    fn one_by_one(layers: &[&Layer], x: &[f32], added: &ChainAdded<'_>) -> Vec<f32> {
        let mut x = x.to_vec();
        for (i, layer) in layers.iter().enumerate() {
            let mut y = vec![0.0; layer.g.batch * layer.g.out_len() * layer.channels()];
            let residual = if i + 1 == layers.len() { added.residual } else { None };
            let cx = RunCx::unbounded();
            layer.run(Isa::best(), &x, (added.biases[i], residual), &mut y, &cx).unwrap();
            x = y;
        }
        x
    }

    #[test]
    fn strips_give_the_bits_of_whole_layers() {
        let mut r = Random::new(5);
        let cases = [
            // batch, channels (in, middle, out), size, kernel, stride, planes
            (1, (16, 48, 24), (20, 17), 3, 1, false),
            (2, (16, 48, 24), (20, 17), 3, 2, false),
            (1, (8, 33, 7), (9, 30), 5, 1, false),
            (3, (8, 40, 16), (15, 12), 5, 2, false),
            (2, (3, 32, 16), (24, 19), 3, 1, true),
            (1, (4, 19, 5), (1, 40), 3, 1, false),
        ];
        for (batch, (c, mid, m), (h, w), kernel, stride, planes) in cases {
            let (k, step) = if planes { (3, 2) } else { (1, 1) };
            let seen = [span(h, k, step), span(w, k, step)];
            let g = Geometry::new(batch, 1, (c, mid), &seen).unwrap();
            let before = layer(&mut r, g, Activation::Clip(0.0, 6.0), planes);
            let made = seen.map(|s| span(s.output, kernel, stride));
            let g = Geometry::new(batch, mid, (mid, mid), &made).unwrap();
            let middle = layer(&mut r, g, Activation::Silu, false);
            let pixels = made.map(|s| span(s.output, 1, 1));
            let g = Geometry::new(batch, 1, (mid, m), &pixels).unwrap();
            let after = layer(&mut r, g, Activation::None, false);

            check(&mut r, (&before, &middle, &after));
        }
    }

    #[test]
    fn strips_of_a_pool_give_the_bits_of_a_whole_one() {
        let mut r = Random::new(6);
        for take in [Take::Max, Take::Mean, Take::PaddedMean] {
            for (batch, m, (h, w), kernel, stride) in
                [(1, 64, (30, 27), 3, 2), (2, 21, (24, 19), 3, 1), (2, 32, (23, 18), 2, 2)]
            {
                let seen = [span(h, 3, 2), span(w, 3, 2)];
                let g = Geometry::new(batch, 1, (3, m), &seen).unwrap();
                let before = layer(&mut r, g, Activation::Relu, true);
                let made = seen.map(|s| span(s.output, kernel, stride));
                let g = Geometry::new(batch, m, (m, m), &made).unwrap();
                let weights = Weights::Pool(Arc::new(pool_last::Pool::new(g.clone(), take)));
                let middle = Layer { g, weights, activation: Activation::None };
                let pixels = made.map(|s| span(s.output, 1, 1));
                let g = Geometry::new(batch, 1, (m, 16), &pixels).unwrap();
                let after = layer(&mut r, g, Activation::Relu, false);
                check(&mut r, (&before, &middle, &after));
            }
        }
    }

    /// Whether strips of some sizes, on some threads, make what whole layers make.
    fn check(r: &mut Random, (before, middle, after): (&Layer, &Layer, &Layer)) {
        let of = |layer: &Layer| layer.g.batch * layer.g.group * layer.g.c * layer.g.in_len();
        let x = r.floats(of(before));
        let biases = [before, middle, after].map(|layer| r.floats(layer.channels()));
        let residual = r.floats(after.g.batch * after.channels() * after.g.out_len());
        let bytes = 4 * before.channels() * before.g.out_len();
        let cases = [(None, bytes / 2), (Some(after), bytes / 2), (Some(after), bytes / 3)];
        for (after, near) in cases.into_iter().chain([(Some(after), 10)]) {
            let added = ChainAdded {
                biases: [Some(&biases[0]), None, after.map(|_| &biases[2][..])],
                residual: after.map(|_| &residual[..]),
            };
            let mut layers = vec![before, middle];
            layers.extend(after);
            let expected = one_by_one(&layers, &x, &added);
            let chain = Chain::within(near, before, middle, after).unwrap();
            for threads in [1, 3] {
                let mut y = vec![f32::NAN; expected.len()];
                let run = || chain.run(Isa::best(), &x, &added, &mut y);
                Pool::new(threads).unwrap().install(run).unwrap();
                assert_eq!(y, expected, "{:?} {:?}, {threads} threads", before.g, middle.g);
            }
        }
    }

    #[test]
    fn a_layer_among_other_channels_makes_the_same_and_leaves_them() {
        let mut r = Random::new(7);
        for (c, m, kernel, stride) in [(16, 24, 1, 1), (16, 24, 3, 1), (8, 7, 3, 2), (40, 33, 3, 1)]
        {
            for activation in [Activation::None, Activation::Relu, Activation::Silu] {
                let size = [span(21, kernel, stride), span(18, kernel, stride)];
                let g = Geometry::new(2, 1, (c, m), &size).unwrap();
                let layer = layer(&mut r, g, activation, false);
                let (x, bias) = (r.floats(2 * c * 21 * 18), r.floats(m));
                let pixels = 2 * layer.g.out_len();
                let (residual, cx) = (r.floats(pixels * m), RunCx::unbounded());
                for added in [(Some(&bias[..]), Some(&residual[..])), (None, None)] {
                    let mut alone = vec![0.0; pixels * m];
                    let pool = Pool::new(2).unwrap();
                    pool.install(|| layer.run(Isa::best(), &x, added, &mut alone, &cx)).unwrap();
                    let others = r.floats(pixels * (m + 5));
                    let mut y = others.clone();
                    let among = Among { all: m + 5, first: 3 };
                    let to = (&mut y[..], among);
                    pool.install(|| layer.run_among(Isa::best(), &x, added, to, &cx)).unwrap();
                    let rows = y.chunks(m + 5).zip(others.chunks(m + 5)).zip(alone.chunks(m));
                    for ((y, others), alone) in rows {
                        assert_eq!(&y[3..3 + m], alone, "{c} {m} {kernel} {stride}");
                        assert_eq!((&y[..3], &y[3 + m..]), (&others[..3], &others[3 + m..]));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_near_anyway_is_no_chain() {
        let mut r = Random::new(1);
        let g = Geometry::new(1, 1, (8, 16), &[span(8, 1, 1), span(8, 1, 1)]).unwrap();
        let before = layer(&mut r, g, Activation::None, false);
        let g = Geometry::new(1, 16, (16, 16), &[span(8, 3, 1), span(8, 3, 1)]).unwrap();
        let middle = layer(&mut r, g, Activation::None, false);
        assert!(Chain::new(&before, &middle, None).is_none());
        assert!(Chain::within(0, &middle, &middle, None).is_none());
    }
}
