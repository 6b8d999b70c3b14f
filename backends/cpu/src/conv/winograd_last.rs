//! [`winograd`](super::winograd) for images whose channels stand side by side: vectors of channels.
//!
//! V [36][tiles, c] = Bᵀ d B,  M [36] = V · U [c, m],  y = Aᵀ M A

use std::ops::Range;

use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;

use super::geometry::Geometry;
use super::winograd::{POINTS, TILE, a_transposed, b_transposed, filters, odd_lines, together};
use super::{Among, Follow};
use crate::gemm::room::{self, Lies};
use crate::gemm::{Columns, Gemm, Lhs, PackedB, Rhs, Strided};
use crate::kernel::limit;
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::{F32s, Isa, MatMut};

/// The transformed filters: for each point a packed matrix [c, m].
pub type Weights = Vec<PackedB>;

/// Transforms and packs filters [m, c, 3, 3].
pub fn pack(isa: Isa, m: usize, c: usize, w: &[f32]) -> Result<Weights, Reason> {
    let len = m * c;
    with_scratch(POINTS * len, |u| {
        filters(isa, w, u);
        let points = u.chunks_exact(len.max(1));
        let matrix = |u| PackedB::pack(isa, c, m, Strided::rows(u, c).transposed());
        points.map(|u| matrix(u).map_err(limit)).collect()
    })
    .map_err(limit)?
}

/// `y = follow(conv(x, weights))`, into some of the channels of `y`; the residual has the outputs'
/// channels alone.
pub fn run(
    isa: Isa,
    g: &Geometry,
    (x, weights): (&[f32], &Weights),
    follow: &Follow<'_>,
    (y, among): (&mut [f32], Among),
    cx: &RunCx<'_>,
) -> Result<(), Reason> {
    let Blocks { tiles, rows, pixels: block, grain } = Blocks::new(g);
    let (from, pixels) = (g.c * g.in_len(), g.out_len());
    let failure = par::Failure::default();
    for (image, y) in y.chunks_exact_mut(pixels * among.all).enumerate() {
        let residual = follow.residual.map(|r| &r[image * pixels * g.m..][..pixels * g.m]);
        par::chunks_mut(y, block * among.all, grain, |i, y| {
            failure.attempt(|| {
                cx.check()?;
                let rows = i * rows..tiles.0.min((i + 1) * rows);
                let residual = residual.map(|r| &r[i * block * g.m..]);
                let follow = Follow { residual, ..*follow };
                let x = &x[image * from..][..from];
                Job { g, x, rows, columns: tiles.1, follow, among }.run(isa, weights, y)
            });
        });
    }
    failure.result()
}

/// What [`run`] takes: V and M of a block of tiles.
pub fn scratch(isa: Isa, g: &Geometry) -> Scratch {
    let Blocks { tiles, rows, pixels, grain } = Blocks::new(g);
    let (c, m, n) = (g.c, g.m, rows * tiles.1);
    let product = room::scratch(isa, (n, m, c), Lies::Plain([c, 1]), Lies::Packed);
    Scratch::floats(POINTS * odd_lines(n * c))
        .and(Scratch::floats(POINTS * odd_lines(n * m)))
        .and(product.in_loop(POINTS, par::grain(m * c * n / 16)))
        .in_loop(g.out_len().div_ceil(pixels.max(1)), grain)
}

/// How the tiles of an image are cut.
struct Blocks {
    /// Rows and columns of tiles.
    tiles: (usize, usize),
    /// Rows of tiles in a block.
    rows: usize,
    /// Pixels of outputs in a block.
    pixels: usize,
    /// Blocks worth handing to another thread.
    grain: usize,
}

impl Blocks {
    fn new(g: &Geometry) -> Blocks {
        let [_, h, w] = &g.axes;
        let tiles = (h.output.div_ceil(TILE), w.output.div_ceil(TILE));
        let rows = (together(g) / tiles.1).clamp(1, tiles.0);
        // As many in each block, so that none is nearly empty.
        let rows = tiles.0.div_ceil(tiles.0.div_ceil(rows));
        let pixels = rows * TILE * w.output;
        let ns = (pixels * g.m).saturating_mul(g.c) / 8;
        Blocks { tiles, rows, pixels, grain: par::grain(ns) }
    }
}

/// Some rows of tiles of one image.
struct Job<'a> {
    g: &'a Geometry,
    x: &'a [f32],
    rows: Range<usize>,
    columns: usize,
    /// The residual begins with these rows.
    follow: Follow<'a>,
    among: Among,
}

impl Job<'_> {
    fn run(&self, isa: Isa, weights: &Weights, y: &mut [f32]) -> Result<(), Reason> {
        let (c, m, n) = (self.g.c, self.g.m, self.rows.len() * self.columns);
        let (v_step, step) = (odd_lines(n * c), odd_lines(n * m));
        with_scratch(POINTS * v_step, |v| {
            let tiles = Columns { c: MatMut::new(v, POINTS, n * c, v_step), width: c };
            par::split(tiles, n, par::grain(10 * c), |first, mut part| {
                points(isa, self, first, &mut part.c);
            });
            with_scratch(POINTS * step, |products| {
                let failure = par::Failure::default();
                par::chunks_mut(products, step, par::grain(m * c * n / 16), |p, products| {
                    let a = Lhs::Plain(Strided::rows(&v[p * v_step..][..n * c], c));
                    let gemm = Gemm::new((n, m, c), a, Rhs::Packed(&weights[p]));
                    failure.attempt(|| gemm.run(isa, products, m).map_err(limit));
                });
                failure.result()?;
                let row = TILE * self.g.axes[2].output * self.among.all;
                par::chunks_mut(y, row, par::grain(10 * m * self.columns), |r, y| {
                    finish(isa, self, r, (products, step), y);
                });
                Ok(())
            })
            .map_err(limit)?
        })
        .map_err(limit)?
    }
}

/// Where the inputs of a tile stand that lie inside the image, in elements.
type Places = [[Option<usize>; 6]; 6];

impl Job<'_> {
    fn places(&self, row: usize, column: usize) -> Places {
        let [_, h, w] = &self.g.axes;
        let inside = |tile: usize, i: usize, before: usize, n: usize| {
            (tile * TILE + i).checked_sub(before).filter(|&at| at < n)
        };
        std::array::from_fn(|i| {
            let y = inside(row, i, h.before, h.input);
            std::array::from_fn(|j| {
                let x = inside(column, j, w.before, w.input);
                Some((y? * w.input + x?) * self.g.c)
            })
        })
    }
}

/// The first channels of the vectors that together hold `n`: the last overlaps the one before it
/// instead of being partial, if there is one.
fn vectors(n: usize, lanes: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(lanes).map(move |at| at.min(n.saturating_sub(lanes)))
}

crate::simd_fn! {
    /// Bᵀ d B of tiles from `first` on, as many as `v` holds.
    fn points(s: S, job: &Job<'_>, first: usize, v: &mut MatMut<'_, f32>) {
        let c = job.g.c;
        for t in 0..v.cols() / c {
            let (row, column) = ((first + t) / job.columns, (first + t) % job.columns);
            let places = job.places(job.rows.start + row, column);
            for c0 in vectors(c, S::LANES) {
                let mut half = [[s.zero(); 6]; 6];
                for j in 0..6 {
                    let mut d = [s.zero(); 6];
                    for i in 0..6 {
                        if let Some(at) = places[i][j] {
                            d[i] = s.load_partial(&job.x[at + c0..at + c], 0.0);
                        }
                    }
                    let t = b_transposed(s, d);
                    for i in 0..6 {
                        half[i][j] = t[i];
                    }
                }
                for i in 0..6 {
                    let made = b_transposed(s, half[i]);
                    for j in 0..6 {
                        made[j].store_partial(&mut v.row(i * 6 + j)[t * c + c0..(t + 1) * c]);
                    }
                }
            }
        }
    }
}

crate::simd_fn! {
    /// Aᵀ M A of row `row` of tiles, and what follows it.
    fn finish(
        s: S,
        job: &Job<'_>,
        row: usize,
        products: (&[f32], usize),
        y: &mut [f32],
    ) {
        let (products, step) = products;
        let (m, w, among) = (job.g.m, job.g.axes[2].output, job.among);
        let height = y.len() / (w * among.all);
        let residual = job.follow.residual.map(|r| &r[row * TILE * w * m..][..height * w * m]);
        let (lo, hi) = job.follow.clip();
        let (lo, hi) = (s.splat(lo), s.splat(hi));
        for column in 0..job.columns {
            let tile = row * job.columns + column;
            let width = TILE.min(w - column * TILE);
            for m0 in vectors(m, S::LANES) {
                let mut half = [[s.zero(); 6]; 4];
                for j in 0..6 {
                    let mut d = [s.zero(); 6];
                    for i in 0..6 {
                        let at = (i * 6 + j) * step + tile * m;
                        d[i] = s.load_partial(&products[at + m0..at + m], 0.0);
                    }
                    let t = a_transposed(s, d);
                    for i in 0..4 {
                        half[i][j] = t[i];
                    }
                }
                let bias = match job.follow.bias {
                    Some(bias) => s.load_partial(&bias[m0..m], 0.0),
                    None => s.zero(),
                };
                for i in 0..height {
                    let line = a_transposed(s, half[i]);
                    for (j, v) in line.into_iter().enumerate().take(width) {
                        let pixel = i * w + column * TILE + j;
                        let mut v = v + bias;
                        if let Some(x) = residual {
                            v = v + s.load_partial(&x[pixel * m + m0..(pixel + 1) * m], 0.0);
                        }
                        let at = pixel * among.all + among.first;
                        hi.min(lo.max(v)).store_partial(&mut y[at + m0..at + m]);
                    }
                }
            }
        }
        if among.all == m {
            return job.follow.after_clip(s, y);
        }
        for pixel in y.chunks_exact_mut(among.all) {
            job.follow.after_clip(s, &mut pixel[among.first..][..m]);
        }
    }
}
