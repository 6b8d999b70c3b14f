//! Convolution of bytes, summed exactly in 32 bits: patches a block of outputs at a time, packed
//! as they are made, and products of bytes. One channel per group goes through the kernel for
//! floats, which hold integers below 2²⁴ exactly; where sums may be larger, the plain loops.

use bytemuck::{cast_slice, cast_slice_mut};
use rinfer_graph::backend::RunCx;
use rinfer_graph::{Reason, invalid};

use super::geometry::Geometry;
use super::source::Source;
use super::{Follow, depthwise, reference};
use crate::gemm::bytes::{
    Bias, ByteGemm, Finish, Matrix, PackedBytes, Panel, Side, Zero, finish_sums,
};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch_of;
use crate::scratch::Scratch;
use crate::simd::{Bytes, Isa};

/// Codes of the patches that are made at a time.
const BLOCK: usize = 256 * 1024;

/// A convolution of bytes, made ready.
pub struct Plan {
    g: Geometry,
    source: Source,
    /// Of one group, if sums of so few products are exact in floats.
    depthwise: Option<depthwise::Plan>,
    isa: Isa,
    bytes: Bytes,
}

/// Products of differences of codes whose sum is below 2²⁴, whatever the codes.
pub(super) const EXACT: usize = (1 << 24) / (255 * 255);

/// Codes and their zero point, which stands in the padding too.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The codes.
    pub data: &'a [u8],
    /// Whether they are int8.
    pub signed: bool,
    /// The zero point.
    pub zero: i32,
}

/// Weights, made ready for one kind of convolution.
#[derive(Debug)]
pub enum Weights {
    /// Of each group, packed; and the zero points of all output channels.
    Packed(Vec<PackedBytes>, Vec<i32>),
    /// Less their zero points.
    Plain(Vec<i32>),
    /// Less their zero points, as floats.
    Exact(Vec<f32>),
}

impl Plan {
    /// `Err` if the sizes overflow.
    pub fn new(isa: Isa, g: &Geometry) -> Result<Plan, Reason> {
        let too_large = || invalid!("a convolution of {g:?} is larger than any memory");
        let one = Geometry { batch: 1, group: 1, ..g.clone() };
        let few = g.taps() <= EXACT;
        Ok(Plan {
            g: g.clone(),
            depthwise: depthwise::Plan::new(&one).filter(|_| few),
            source: Source::new(g).ok_or_else(too_large)?,
            isa,
            bytes: Bytes::of(isa),
        })
    }

    /// Makes weights ready: codes, whether they are int8, the zero point of each output channel.
    pub fn weights(&self, w: &[u8], signed: bool, zeros: Vec<i32>) -> Result<Weights, Reason> {
        let g = &self.g;
        let k = g.c * g.taps();
        if g.c == 1 {
            let wide = |(i, &w): (usize, &u8)| {
                (if signed { i32::from(w as i8) } else { i32::from(w) }) - zeros[i / k.max(1)]
            };
            let wide = w.iter().enumerate().map(wide);
            return Ok(match self.depthwise {
                Some(_) => Weights::Exact(wide.map(|w| w as f32).collect()),
                None => Weights::Plain(wide.collect()),
            });
        }
        let pack = |group: usize| {
            let data = &w[group * g.m * k..][..g.m * k];
            let matrix = Matrix { data, signed, lanes: g.m, k, lane: k, step: 1 };
            PackedBytes::pack(self.bytes, Side::Left, &matrix).map_err(limit)
        };
        Ok(Weights::Packed((0..g.group).map(pack).collect::<Result<_, _>>()?, zeros))
    }

    /// `y = finish(group)(conv(x, w) + bias)`
    pub fn run<F: Finish>(
        &self,
        (x, w): (Image<'_>, &Weights),
        bias: Option<&[i32]>,
        finish: impl Fn(usize) -> F + Sync,
        y: &mut [F::Out],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let g = &self.g;
        let (from, to) = (g.c * g.in_len(), g.m * g.out_len());
        let k = g.c * g.taps();
        let failure = par::Failure::default();
        par::chunks_mut(y, to.max(1), self.grain(), |i, y| {
            failure.attempt(|| {
                let group = i % g.group;
                let x = Image { data: &x.data[i * from..][..from], ..x };
                let bias = bias.map(|bias| &bias[group * g.m..][..g.m]);
                match w {
                    Weights::Plain(w) => {
                        let w = &w[group * g.m * k..][..g.m * k];
                        self.plain((x, w), bias, &finish(group), y, cx)
                    }
                    Weights::Exact(w) => {
                        let w = &w[group * g.m * k..][..g.m * k];
                        self.channels((x, w), bias, &finish(group), y, cx)
                    }
                    Weights::Packed(w, zeros) => {
                        let zeros = &zeros[group * g.m..][..g.m];
                        self.image(x, (&w[group], zeros), bias, &finish(group), y, cx)
                    }
                }
            });
        });
        failure.result()
    }

    /// What a run takes: images in other numbers, sums, and blocks of patches.
    pub fn scratch(&self) -> Scratch {
        let g = &self.g;
        let (from, to) = (g.c * g.in_len(), g.m * g.out_len());
        let image = match (&self.depthwise, g.c) {
            (Some(plan), 1) => Scratch::floats(from + 2 * to).and(plan.scratch(g.m)),
            (None, 1) => Scratch::of::<i32>(from + to),
            _ => {
                let (k, laid_out) = (g.c * g.taps(), g.c * self.source.channel);
                let cols = (BLOCK / k.max(1)).next_multiple_of(64).min(g.out_len());
                let block = PackedBytes::room(self.bytes, Side::Right, (cols, k));
                let block = Scratch::of::<u8>(block);
                let one = if self.source.as_is { 0 } else { laid_out };
                let lay = if self.source.as_is { 0 } else { from + laid_out };
                Scratch::of::<u32>(lay).then(&block).and(Scratch::of::<u8>(one))
            }
        };
        image.in_loop(g.batch * g.group, self.grain())
    }

    /// Images, each by group, worth handing to another thread.
    fn grain(&self) -> usize {
        let g = &self.g;
        par::grain((g.m * g.out_len()).saturating_mul(g.c * g.taps()) / 16)
    }

    /// One channel per group: the loops of the definition.
    fn plain<F: Finish>(
        &self,
        (x, w): (Image<'_>, &[i32]),
        bias: Option<&[i32]>,
        finish: &F,
        y: &mut [F::Out],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let g = Geometry { batch: 1, group: 1, ..self.g.clone() };
        let (len, out) = (x.data.len(), g.out_len());
        with_scratch_of(len + y.len(), |scratch: &mut [i32]| {
            let (wide, sums) = scratch.split_at_mut(len);
            for (wide, &code) in wide.iter_mut().zip(x.data) {
                let code = if x.signed { i32::from(code as i8) } else { i32::from(code) };
                *wide = code - x.zero;
            }
            let add = |m: usize, sums: &mut [i32]| {
                let bias = bias.map_or(0, |bias| bias[m]);
                sums.iter_mut().for_each(|sum| *sum = sum.wrapping_add(bias));
            };
            reference::convolve(&g, (&*wide, w), sums, cx, add)?;
            finish_sums(self.bytes, finish, sums, (g.m, out), y).map_err(limit)
        })
        .map_err(limit)?
    }

    /// One channel per group, in floats.
    fn channels<F: Finish>(
        &self,
        (x, w): (Image<'_>, &[f32]),
        bias: Option<&[i32]>,
        finish: &F,
        y: &mut [F::Out],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let Some(plan) = &self.depthwise else {
            return Err(invalid!("weights made ready for another convolution"));
        };
        let (m, len, out) = (self.g.m, x.data.len(), y.len());
        with_scratch_of(len + 2 * out, |scratch: &mut [f32]| {
            let (codes, rest) = scratch.split_at_mut(len);
            let (floats, sums) = rest.split_at_mut(out);
            let zero = x.zero as f32;
            let pairs = codes.iter_mut().zip(x.data);
            match x.signed {
                true => pairs.for_each(|(y, &x)| *y = f32::from(x as i8) - zero),
                false => pairs.for_each(|(y, &x)| *y = f32::from(x) - zero),
            }
            plan.run(self.isa, (&*codes, w), &Follow::default(), floats, cx)?;
            let sums: &mut [i32] = cast_slice_mut(sums);
            let each = (out / m.max(1)).max(1);
            for (c, (sums, floats)) in sums.chunks_mut(each).zip(floats.chunks(each)).enumerate() {
                let bias = bias.map_or(0, |bias| bias[c]);
                for (sum, &x) in sums.iter_mut().zip(floats) {
                    *sum = (x as i32).wrapping_add(bias);
                }
            }
            finish_sums(self.bytes, finish, sums, (m, each), y).map_err(limit)
        })
        .map_err(limit)?
    }

    fn image<F: Finish>(
        &self,
        x: Image<'_>,
        w: (&PackedBytes, &[i32]),
        bias: Option<&[i32]>,
        finish: &F,
        y: &mut [F::Out],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        if self.source.as_is {
            return self.blocks((x, 0), w, bias, finish, y, cx);
        }
        // Padding is laid out as 0, which is what the zero point becomes.
        let (g, mask) = (&self.g, x.zero as u8);
        let laid_out_len = g.c * self.source.channel;
        with_scratch_of(laid_out_len, |laid_out: &mut [u8]| {
            with_scratch_of(x.data.len() + laid_out_len, |scratch: &mut [u32]| {
                let (masked, words) = scratch.split_at_mut(x.data.len());
                masked.iter_mut().zip(x.data).for_each(|(y, &x)| *y = u32::from(x ^ mask));
                // Bits are only moved.
                let (from, to) = (cast_slice(masked), cast_slice_mut(words));
                self.source.lay_out(self.isa, g, from, to);
                laid_out.iter_mut().zip(&*words).for_each(|(y, &x)| *y = x as u8);
            })
            .map_err(limit)?;
            let x = Image { data: laid_out, ..x };
            self.blocks((x, mask), w, bias, finish, y, cx)
        })
        .map_err(limit)?
    }

    /// Blocks of outputs; codes are masked.
    fn blocks<F: Finish>(
        &self,
        (x, mask): (Image<'_>, u8),
        (w, zeros): (&PackedBytes, &[i32]),
        bias: Option<&[i32]>,
        finish: &F,
        y: &mut [F::Out],
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let (g, n) = (&self.g, self.g.out_len());
        let k = g.c * g.taps();
        let cols = (BLOCK / k.max(1)).next_multiple_of(64);
        for first in (0..n).step_by(cols) {
            cx.check()?;
            let cols = cols.min(n - first);
            let fill = |_: usize, panel: &Panel, words: &mut [i32]| {
                self.patches((x.data, mask), first, panel, words);
            };
            let right = PackedBytes::made(self.bytes, Side::Right, (cols, k), x.signed, fill);
            let right = right.map_err(limit)?;
            let gemm = ByteGemm {
                a: w.into(),
                b: &right,
                a_zero: Zero::Each(zeros),
                b_zero: Zero::One(x.zero),
                bias: bias.map_or(Bias::None, Bias::Rows),
            };
            gemm.run(finish, &mut y[first..], n).map_err(limit)?;
        }
        Ok(())
    }

    /// A panel of the patches whose columns begin at `first`.
    fn patches(&self, (x, mask): (&[u8], u8), first: usize, panel: &Panel, words: &mut [i32]) {
        let [_, h, w] = self.g.axes.map(|a| a.output);
        let pitch = self.source.pitch;
        let lanes = panel.lanes.len();
        // Outputs in one row read codes that lie side by side.
        let mut runs = smallvec::SmallVec::<[(usize, usize, usize); 8]>::new();
        let mut lane = 0;
        while lane < lanes {
            let p = first + panel.lanes.start + lane;
            let (z, r, c) = (p / (h * w), p / w % h, p % w);
            let len = (w - c).min(lanes - lane);
            runs.push((lane, len, z * pitch[0] + r * pitch[1] + c));
            lane += len;
        }
        let rows = (0..self.g.c)
            .flat_map(|c| self.source.taps.iter().map(move |t| c * self.source.channel + t));
        panel.copy_rows(rows, mask, words, |row, codes| {
            for &(lane, len, at) in &runs {
                codes[lane..lane + len].copy_from_slice(&x[row + at..][..len]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;
    use crate::gemm::bytes::Sums;

    #[test]
    fn products_agree_with_the_plain_loops() {
        let mut r = Random::new(6);
        for round in 0..60 {
            let group = 1 + r.below(3);
            let g = Geometry::random(&mut r, group);
            let mut bytes = |n: usize| -> Vec<u8> { (0..n).map(|_| r.below(256) as u8).collect() };
            let x = bytes(g.batch * g.group * g.c * g.in_len());
            let w = bytes(g.group * g.m * g.c * g.taps());
            let zeros: Vec<i32> = bytes(g.group * g.m).iter().map(|&z| i32::from(z)).collect();
            let zero = if round % 2 == 0 { 3 } else { -128 };
            let signed = round % 2 == 1;
            let wide = |x: &u8| (if signed { i32::from(*x as i8) } else { i32::from(*x) }) - zero;
            let wide: Vec<i32> = x.iter().map(wide).collect();
            let k = g.c * g.taps();
            let plain = |(i, w): (usize, &u8)| i32::from(*w) - zeros[i / k];
            let plain: Vec<i32> = w.iter().enumerate().map(plain).collect();
            let mut wanted = vec![0; g.batch * g.group * g.m * g.out_len()];
            let cx = RunCx::unbounded();
            reference::convolve(&g, (&wide, &plain), &mut wanted, &cx, |_, _| ()).unwrap();
            for bytes in Bytes::available() {
                let plan = Plan { bytes, ..Plan::new(Isa::best(), &g).unwrap() };
                let weights = plan.weights(&w, false, zeros.clone()).unwrap();
                let mut y = vec![0; wanted.len()];
                let image = Image { data: &x, signed, zero };
                plan.run((image, &weights), None, |_| Sums, &mut y, &cx).unwrap();
                assert_eq!(y, wanted, "{g:?} {bytes:?}");
            }
        }
    }
}
