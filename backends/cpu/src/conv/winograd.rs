//! 3 × 3 convolution with stride 1 by Winograd's F(4 × 4, 3 × 3): 36 multiplications for 16 outputs
//! instead of 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
//!
//! An image is cut into tiles of 4 × 4 outputs, which read 6 × 6 inputs. V = Bᵀ d B of each tile
//! and channel, U = G g Gᵀ of each filter; for each of the 36 points one matrix product
//! M = U [m, c] · V [c, tiles]; then Aᵀ M A gives the outputs.
//!
//! Results differ from exact ones by a few times as much as plain sums do: see [`A`].

use std::ops::Range;

use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::Span;

use super::Follow;
use super::geometry::Geometry;
use super::source::Source;
use crate::gemm::{Columns, PackedA, Strided, panel_lanes, panels_len, run_panels};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::{F32s, Isa, MAX_LANES, MatMut, Simd};

/// Outputs along each side of a tile.
pub(super) const TILE: usize = 4;
/// The points at which polynomials are evaluated are 0, ±A, ±B and ∞. Near √½ and √2 the transforms
/// amplify rounding least, four times less than with 1 and 2; the powers of these are exact.
const A: f32 = 0.625;
const B: f32 = 1.5;
/// Points: the inputs of a tile.
pub(super) const POINTS: usize = 36;
/// Numbers that V and M of tiles worked on together should take, unless U takes more.
const TOGETHER: usize = 160 * 1024;

/// A convolution by Winograd's algorithm, made ready.
pub struct Plan {
    g: Geometry,
    /// The convolution that reads tiles as this one reads outputs, and how it lays images out.
    patches: Geometry,
    source: Source,
    /// Rows and columns of tiles.
    tiles: (usize, usize),
    /// Rows of tiles worked on together.
    rows: usize,
}

/// The filters of each group, transformed: for each point a packed matrix [m, c].
pub type Weights = Vec<Vec<PackedA>>;

/// Transforms and packs filters.
pub fn pack(isa: Isa, group: usize, m: usize, c: usize, w: &[f32]) -> Result<Weights, Reason> {
    let len = m * c;
    with_scratch(POINTS * len, |u| {
        let mut groups = Weights::new();
        for i in 0..group {
            filters(isa, w.get(i * len * 9..(i + 1) * len * 9).unwrap_or_default(), u);
            let packed = u
                .chunks_exact(len.max(1))
                .map(|u| PackedA::pack(isa, m, c, Strided::rows(u, c)).map_err(limit));
            groups.push(packed.collect::<Result<_, _>>()?);
        }
        Ok(groups)
    })
    .map_err(limit)?
}

/// What [`pack`] takes.
pub fn packing(m: usize, c: usize) -> Scratch {
    Scratch::floats(POINTS * m * c)
}

/// Filters transformed at a time.
const FILTERS: usize = 16;

/// G: for each point its powers 0, 1, 2 over Π (p - q), q the other points.
fn powers() -> [[f64; 3]; 6] {
    let (a, b) = (f64::from(A), f64::from(B));
    let (a2, b2) = (a * a, b * b);
    let powers = |p: f64, n: f64| [1.0 / n, p / n, p * p / n];
    let (na, nb) = (2.0 * a2 * (a2 - b2), 2.0 * b2 * (b2 - a2));
    [
        powers(0.0, a2 * b2),
        powers(a, na),
        powers(-a, na),
        powers(b, nb),
        powers(-b, nb),
        [0.0, 0.0, 1.0],
    ]
}

crate::simd_fn! {
    /// U = G g Gᵀ of every filter of `w` [filters, 9]  →  u [36, filters].
    pub(super) fn filters(_s: S, w: &[f32], u: &mut [f32]) {
        let (transform, len) = (powers(), w.len() / 9);
        for (i, w) in w.chunks(9 * FILTERS).enumerate() {
            let mut g = [[0.0; FILTERS]; 9];
            for (f, w) in w.chunks_exact(9).enumerate() {
                (0..9).for_each(|t| g[t][f] = f64::from(w[t]));
            }
            // A sum over one axis of three, for all filters.
            let sum = |by: &[f64; 3], x: [&[f64; FILTERS]; 3]| {
                let mut sum = [0.0; FILTERS];
                for f in 0..FILTERS {
                    sum[f] = by[0] * x[0][f] + by[1] * x[1][f] + by[2] * x[2][f];
                }
                sum
            };
            for (row, left) in transform.iter().enumerate() {
                let half = [0, 1, 2].map(|j| sum(left, [&g[j], &g[3 + j], &g[6 + j]]));
                for (col, right) in transform.iter().enumerate() {
                    let sums = sum(right, [&half[0], &half[1], &half[2]]);
                    let to = (row * 6 + col) * len + i * FILTERS;
                    let u = &mut u[to..to + w.len() / 9];
                    u.iter_mut().zip(sums).for_each(|(u, sum)| *u = sum as f32);
                }
            }
        }
    }
}

/// Tiles worked on together, about: filters that are larger than the tiles they meet must meet more
/// of them.
pub(super) fn together(g: &Geometry) -> usize {
    TOGETHER.max(POINTS * g.c * g.m) / (POINTS * (g.c + g.m))
}

/// Whether tiles are worth their transforms for this convolution.
pub fn suits(g: &Geometry) -> bool {
    let [_, h, w] = &g.axes;
    let square = |a: &Span| a.kernel == 3 && a.stride == 1 && a.dilation == 1;
    if !g.is_flat() || !square(h) || !square(w) || g.c < 8 || g.m < 8 {
        return false;
    }
    let tiles = h.output.div_ceil(TILE) * w.output.div_ceil(TILE);
    // Lanes are filled in sixteens either way. The transformed filters are four times as large, so
    // with few tiles reading them takes longer than multiplying.
    let (few, plain) = (tiles.div_ceil(16) * POINTS, g.out_len().div_ceil(16) * 9);
    tiles >= 12 && 3 * few <= 2 * plain
}

impl Plan {
    /// `None` if it does not suit, or the sizes overflow.
    pub fn new(g: &Geometry) -> Option<Plan> {
        if !suits(g) {
            return None;
        }
        let [d, h, w] = g.axes;
        let tiles = (h.output.div_ceil(TILE), w.output.div_ceil(TILE));
        let patch = |a: Span, n: usize| Span { output: n, kernel: 6, stride: TILE, ..a };
        let mut patches = g.clone();
        patches.axes = [d, patch(h, tiles.0), patch(w, tiles.1)];
        let source = Source::new(&patches)?;
        let room = together(g);
        let rows = best_rows(tiles.1, (room / tiles.1).clamp(1, tiles.0), tiles.0);
        Some(Plan { g: g.clone(), patches, source, tiles, rows })
    }

    /// `y = follow(conv(x, weights))`
    pub fn run(
        &self,
        isa: Isa,
        (x, weights): (&[f32], &Weights),
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
                with_scratch(g.c * self.source.channel, |laid_out| {
                    self.source.lay_out(isa, &self.patches, x, laid_out);
                    self.image(isa, laid_out, weights, &follow, y)
                })
                .map_err(limit)?
            });
        });
        failure.result()
    }

    /// What a run takes: an image laid out, and V and M of some rows of tiles.
    pub fn scratch(&self, isa: Isa) -> Scratch {
        let (g, n) = (&self.g, self.rows * self.tiles.1);
        let v = POINTS * odd_lines(panels_len(isa, n, g.c).unwrap_or(usize::MAX / POINTS / 2));
        let products = POINTS * odd_lines(g.m * n.next_multiple_of(MAX_LANES));
        let blocks = Scratch::floats(v).and(Scratch::floats(products));
        let count = self.tiles.0.div_ceil(self.rows);
        Scratch::floats(g.c * self.source.channel)
            .and(blocks.in_loop(count, self.block_grain()))
            .in_loop(g.batch * g.group, self.grain())
    }

    /// Images, each by group, and blocks of rows of tiles worth handing to another thread.
    fn grain(&self) -> usize {
        par::grain((self.g.m * self.g.out_len()).saturating_mul(self.g.c) / 8)
    }

    fn block_grain(&self) -> usize {
        par::grain(POINTS * self.rows * self.tiles.1 * self.g.c * self.g.m / 16)
    }

    /// One group of one laid-out image: some rows of tiles after the other, or at the same time.
    fn image(
        &self,
        isa: Isa,
        x: &[f32],
        weights: &[PackedA],
        follow: &Follow<'_>,
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let (g, out) = (&self.g, self.g.out_len());
        let count = self.tiles.0.div_ceil(self.rows);
        let width = self.rows * TILE * g.axes[2].output;
        let work = Columns { c: MatMut::new(y, g.m, out, out), width };
        let failure = par::Failure::default();
        par::split(work, count, self.block_grain(), |first, mut part| {
            let (m, cols) = (part.c.rows(), part.c.cols());
            for (i, at) in (0..cols).step_by(width).enumerate() {
                let rows = (first + i) * self.rows..self.tiles.0.min((first + i + 1) * self.rows);
                let y = part.c.block(0, m, at, width.min(cols - at));
                failure.attempt(|| self.together(isa, x, weights, follow, rows, y));
            }
        });
        failure.result()
    }

    /// Some rows of tiles: `y` holds just their outputs.
    fn together(
        &self,
        isa: Isa,
        x: &[f32],
        weights: &[PackedA],
        follow: &Follow<'_>,
        rows: Range<usize>,
        y: MatMut<'_, f32>,
    ) -> Result<(), Reason> {
        let (c, m, n) = (self.g.c, self.g.m, rows.len() * self.tiles.1);
        let len = panels_len(isa, n, c).map_err(limit)?;
        let pitch = n.next_multiple_of(MAX_LANES);
        let (v_step, step) = (odd_lines(len), odd_lines(m * pitch));
        with_scratch(POINTS * v_step, |v| {
            let job = Transform { plan: self, x, rows: &rows, n };
            job.inputs(isa, MatMut::new(v, POINTS, len, v_step));
            with_scratch(POINTS * step, |products| {
                let failure = par::Failure::default();
                let grain = par::grain(m * c * n / 16);
                par::chunks_mut(products, step, grain, |p, products| {
                    failure.attempt(|| {
                        let y = MatMut::new(products, m, n, pitch);
                        run_panels(isa, (m, n, c), &weights[p], &v[p * v_step..], y).map_err(limit)
                    });
                });
                failure.result()?;
                job.outputs(isa, Products { data: products, step, pitch }, follow, y);
                Ok(())
            })
            .map_err(limit)?
        })
        .map_err(limit)?
    }
}

/// At least `n` elements, in an odd number of cache lines: what stands so far apart for each point
/// does not fall into the same few sets of the cache.
pub(super) fn odd_lines(n: usize) -> usize {
    (n.div_ceil(16) | 1) * 16
}

/// The products of each point: matrices [m, tiles] whose rows are `pitch` apart, `step` apart.
#[derive(Clone, Copy)]
struct Products<'a> {
    data: &'a [f32],
    step: usize,
    pitch: usize,
}

/// A number of rows up to twice `wanted` whose tiles fill vectors best.
fn best_rows(columns: usize, wanted: usize, all: usize) -> usize {
    let filled = |rows: usize| {
        let n = rows * columns;
        n as f64 / n.next_multiple_of(MAX_LANES) as f64
    };
    let candidates = wanted..=(2 * wanted).min(all);
    candidates.max_by(|&a, &b| filled(a).total_cmp(&filled(b)).then(b.cmp(&a))).unwrap_or(wanted)
}

/// Some rows of tiles between image and points.
struct Transform<'a> {
    plan: &'a Plan,
    x: &'a [f32],
    rows: &'a Range<usize>,
    /// Tiles.
    n: usize,
}

/// Tiles side by side: the first one's lane, how many, their row and first column.
type Run = (usize, usize, usize, usize);

impl Transform<'_> {
    /// The runs of tiles at these lanes, none longer than a vector.
    fn runs(&self, lanes: Range<usize>, longest: usize) -> impl Iterator<Item = Run> + use<> {
        let (columns, first) = (self.plan.tiles.1, self.rows.start);
        let mut lane = lanes.start;
        std::iter::from_fn(move || {
            if lane >= lanes.end {
                return None;
            }
            let (row, column) = (lane / columns, lane % columns);
            let len = (columns - column).min(lanes.end - lane).min(longest);
            lane += len;
            Some((lane - len, len, first + row, column))
        })
    }

    /// V, point by point, as panels of a right operand [c, tiles].
    fn inputs(&self, isa: Isa, v: MatMut<'_, f32>) {
        let c = self.plan.g.c;
        let mut starts = Vec::new();
        let mut at = 0;
        for panel in 0.. {
            let (lanes, width) = panel_lanes(isa, self.n, panel);
            if lanes.is_empty() {
                break;
            }
            for channel in 0..c {
                starts.push((at, channel, lanes.clone()));
                at += width;
            }
        }
        let grain = par::grain(200 * self.n.div_ceil(16));
        par::split(Pieces { v, starts: &starts }, starts.len(), grain, |_, mut part| {
            points(isa, self, &mut part);
        });
    }

    /// The outputs from the products of each point.
    fn outputs(&self, isa: Isa, m: Products<'_>, follow: &Follow<'_>, y: MatMut<'_, f32>) {
        let (channels, out) = (y.rows(), self.plan.g.out_len());
        let grain = par::grain(300 * self.n.div_ceil(16));
        par::split(y, channels, grain, |first, mut y| {
            for i in 0..y.rows() {
                let channel = first + i;
                let follow = follow.channels(channel, 1, channel * out, out);
                let m = Products { data: &m.data[channel * m.pitch..], ..m };
                finish(isa, self, m, &follow, y.row(i));
            }
        });
    }
}

/// Columns of V, cut where a channel of a panel begins.
struct Pieces<'a> {
    v: MatMut<'a, f32>,
    starts: &'a [(usize, usize, Range<usize>)],
}

impl par::Split for Pieces<'_> {
    fn split(self, at: usize) -> (Self, Self) {
        let (left, right) = self.starts.split_at(at);
        let first = left.first().map_or(0, |s| s.0);
        let middle = right.first().map_or(self.v.cols(), |s| s.0 - first);
        let (a, b) = self.v.split_cols(middle);
        (Pieces { v: a, starts: left }, Pieces { v: b, starts: right })
    }
}

crate::simd_fn! {
    /// Bᵀ d B of every tile and channel of a piece.
    fn points(s: S, job: &Transform<'_>, part: &mut Pieces<'_>) {
        let (source, first) = (&job.plan.source, part.starts.first().map_or(0, |s| s.0));
        for (start, channel, lanes) in part.starts {
            let x = &job.x[channel * source.channel..][..source.channel];
            for (lane, _, row, column) in job.runs(lanes.clone(), S::LANES) {
                let at = row * source.pitch[1] + column;
                let mut d = [[s.zero(); 6]; 6];
                for i in 0..6 {
                    for j in 0..6 {
                        d[i][j] = s.load_partial(&x[source.taps[i * 6 + j] + at..], 0.0);
                    }
                }
                for j in 0..6 {
                    let t = b_transposed(s, [d[0][j], d[1][j], d[2][j], d[3][j], d[4][j], d[5][j]]);
                    for i in 0..6 {
                        d[i][j] = t[i];
                    }
                }
                // What a vector writes too much, the next run or channel overwrites.
                let to = start - first + lane - lanes.start;
                for i in 0..6 {
                    let t = b_transposed(s, d[i]);
                    for j in 0..6 {
                        t[j].store_partial(&mut part.v.row(i * 6 + j)[to..]);
                    }
                }
            }
        }
    }
}

/// By row the coefficients of Π (x - q), q the points but one; of all points in the last.
#[inline(always)]
pub(super) fn b_transposed<S: Simd>(s: S, d: [S::F32; 6]) -> [S::F32; 6] {
    const A2: f32 = A * A;
    const B2: f32 = B * B;
    let (a, b, a2, b2) = (s.splat(A), s.splat(B), s.splat(-A2), s.splat(-B2));
    let (sum, product) = (s.splat(-A2 - B2), s.splat(A2 * B2));
    let (e, f) = (b2.mul_add(d[2], d[4]), b2.mul_add(d[1], d[3]) * a);
    let (g, h) = (a2.mul_add(d[2], d[4]), a2.mul_add(d[1], d[3]) * b);
    [
        product.mul_add(d[0], sum.mul_add(d[2], d[4])),
        e + f,
        e - f,
        g + h,
        g - h,
        product.mul_add(d[1], sum.mul_add(d[3], d[5])),
    ]
}

/// By row a power of each point: 0, 1, 2, 3.
#[inline(always)]
pub(super) fn a_transposed<S: Simd>(s: S, m: [S::F32; 6]) -> [S::F32; 4] {
    let (a, a2, a3) = (s.splat(A), s.splat(A * A), s.splat(A * A * A));
    let (b, b2, b3) = (s.splat(B), s.splat(B * B), s.splat(B * B * B));
    let (e, f, g, h) = (m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]);
    [m[0] + e + g, a.mul_add(f, b * h), a2.mul_add(e, b2 * g), a3.mul_add(f, b3.mul_add(h, m[5]))]
}

crate::simd_fn! {
    /// Aᵀ M A of every tile of one output channel, and what follows it.
    fn finish(
        s: S,
        job: &Transform<'_>,
        products: Products<'_>,
        follow: &Follow<'_>,
        y: &mut [f32],
    ) {
        let Products { data, step, .. } = products;
        let [_, h, w] = job.plan.g.axes.map(|a| a.output);
        let top = job.rows.start * TILE;
        let bias = s.splat(follow.bias.map_or(0.0, |b| b[0]));
        for (lane, len, row, column) in job.runs(0..job.n, S::LANES) {
            let mut m = [[s.zero(); 6]; 6];
            for i in 0..6 {
                for j in 0..6 {
                    m[i][j] = s.load_partial(&data[(i * 6 + j) * step + lane..], 0.0);
                }
            }
            let mut half = [[s.zero(); 6]; 4];
            for j in 0..6 {
                let t = a_transposed(s, [m[0][j], m[1][j], m[2][j], m[3][j], m[4][j], m[5][j]]);
                for i in 0..4 {
                    half[i][j] = t[i];
                }
            }
            let left = column * TILE;
            let cols = (len * TILE).min(w - left);
            for i in 0..TILE.min(h - row * TILE) {
                let at = (row * TILE + i) * w + left;
                let y = &mut y[at - top * w..][..cols];
                let residual = follow.residual.map(|x| &x[at..][..cols]);
                let line = in_turn(s, a_transposed(s, half[i]));
                for (j, v) in line.into_iter().enumerate().take(cols.div_ceil(S::LANES)) {
                    let mut v = v + bias;
                    if let Some(x) = residual {
                        v = v + s.load_partial(&x[j * S::LANES..], 0.0);
                    }
                    follow.activation.apply(s, v).store_partial(&mut y[j * S::LANES..]);
                }
            }
        }
    }
}

/// Lane 0 of each vector, lane 1 of each, and so on.
#[inline(always)]
fn in_turn<S: Simd>(s: S, [a, b, c, d]: [S::F32; TILE]) -> [S::F32; TILE] {
    let ((ac, ac2), (bd, bd2)) = (s.zip(a, c), s.zip(b, d));
    let ((e, f), (g, h)) = (s.zip(ac, bd), s.zip(ac2, bd2));
    [e, f, g, h]
}
