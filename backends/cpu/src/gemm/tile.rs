//! The register tile: `C[r, w] = start + alpha · A[r, k] · B[k, w]` over packed panels.
//!
//! A panel of A is `k × r`, one of B `k × w`; both are read once, in order. Or the rows of A are read
//! as they lie: the sums leave time enough to read from as many places. The accumulators fill the
//! registers: 14 × 2 vectors of 32, 6 × 2 of 16, 4 × 2 where some are taken.

use crate::simd::{F32s, Isa, MatMut, Simd};

/// Rows of a full tile.
pub const fn tile_rows<S: Simd>() -> usize {
    match (S::REGISTERS, S::LANES) {
        (_, 1) => 4,
        (32.., _) => 14,
        (16.., _) => 6,
        _ => 4,
    }
}

/// Vectors in a row of a full tile.
pub const fn tile_vectors<S: Simd>() -> usize {
    if S::LANES == 1 { 4 } else { 2 }
}

/// The shape of a full tile, as packing must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Columns that make a vector.
    pub lanes: usize,
}

impl Shape {
    /// The full tile of an instruction set.
    pub fn of(isa: Isa) -> Shape {
        fn shape<S: Simd>(_: S) -> Shape {
            let cols = tile_vectors::<S>() * S::LANES;
            Shape { rows: tile_rows::<S>(), cols, lanes: S::LANES }
        }
        crate::simd_dispatch!(isa, s => shape(s))
    }
}

/// What a tile starts from.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Zero.
    Zero,
    /// What is in C.
    Load,
    /// One number per column.
    Row(&'a [f32]),
    /// One number per row.
    Col(&'a [f32]),
}

/// What is done to the sums of a tile while they are in registers.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    /// What the sums are multiplied by.
    pub alpha: f32,
    /// What they are added to.
    pub start: Start<'a>,
    /// The ends the result is clipped to; NaN stays.
    pub clip: Option<(f32, f32)>,
}

/// The rows of A that a tile reads.
pub trait Left: Copy {
    /// `Σ A[i, t] · B[t, j]` for `R` rows and `P` panels of `NV` vectors, in the order of `t`.
    fn products<S: Simd, const R: usize, const NV: usize, const P: usize>(
        self,
        s: S,
        b: [&[f32]; P],
    ) -> [[[S::F32; NV]; R]; P];
}

/// A panel: for each step the rows side by side.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a>(pub &'a [f32]);

/// Rows as they lie in memory.
#[derive(Clone, Copy, Debug)]
pub struct Lying<'a> {
    /// From the first step of the first row on.
    pub data: &'a [f32],
    /// From a row to the next.
    pub stride: usize,
    /// Steps.
    pub steps: usize,
}

impl Lying<'_> {
    /// Whether `rows` of them, `stride` apart, can be read at the same time: those a page apart all
    /// meet in the same few lines of a cache.
    pub fn suits(stride: usize, rows: usize) -> bool {
        const PAGE: usize = 4096 / size_of::<f32>();
        stride % PAGE != 0 || rows < 8
    }
}

/// Computes one tile: `c.rows()` by `c.cols()`, from as many rows of A and a panel of B of that
/// width rounded up to whole vectors.
#[inline(always)]
pub fn tile<S: Simd>(s: S, a: impl Left, b: &[f32], c: &mut MatMut<'_, f32>, store: Store<'_>) {
    match c.cols().div_ceil(S::LANES) {
        1 => rows::<S, _, 1>(s, a, b, c, store),
        2 => rows::<S, _, 2>(s, a, b, c, store),
        n => {
            if const { S::LANES == 1 } {
                match n {
                    3 => rows::<S, _, 3>(s, a, b, c, store),
                    4 => rows::<S, _, 4>(s, a, b, c, store),
                    _ => unreachable!("{n} vectors in a tile"),
                }
            } else {
                unreachable!("{n} vectors in a tile")
            }
        }
    }
}

/// One function for each number of rows: the loop over `k` must know it.
#[inline(always)]
fn rows<S: Simd, A: Left, const NV: usize>(
    s: S,
    a: A,
    b: &[f32],
    c: &mut MatMut<'_, f32>,
    store: Store<'_>,
) {
    macro_rules! by_rows {
        ($($r:literal),*; $otherwise:expr) => {
            match c.rows() {
                $($r => kernel::<S, A, $r, NV, 1>(s, a, [b], c, store),)*
                _ => $otherwise,
            }
        };
    }
    // Const blocks, so that what cannot happen is not compiled either.
    by_rows!(1, 2, 3, 4; {
        if const { tile_rows::<S>() > 4 } {
            by_rows!(5, 6; {
                if const { tile_rows::<S>() > 6 } {
                    by_rows!(7, 8, 9, 10, 11, 12, 13, 14; unreachable!("{} rows in a tile", c.rows()))
                }
            })
        }
    });
}

/// Full panels of B that few rows of A should meet in one call of [`wide`]: a sum takes 4 cycles to
/// be ready again, so there must be several.
pub fn together<S: Simd>(rows: usize) -> usize {
    match rows {
        _ if S::LANES == 1 => 1,
        1 => WIDE,
        2 | 3 => WIDE / 2,
        _ => 1,
    }
}

/// Panels that one row meets at the same time.
pub const WIDE: usize = 4;

/// As [`tile`], for [`together`] full panels of B side by side. Sums are added up in the same
/// order, so that a row is the same whatever rows are computed beside it.
#[inline(always)]
pub fn wide<S: Simd>(
    s: S,
    a: impl Left,
    b: [&[f32]; WIDE],
    c: &mut MatMut<'_, f32>,
    store: Store<'_>,
) {
    let half = [b[0], b[1]];
    match c.rows() {
        1 => kernel::<S, _, 1, 2, WIDE>(s, a, b, c, store),
        2 => kernel::<S, _, 2, 2, { WIDE / 2 }>(s, a, half, c, store),
        3 => kernel::<S, _, 3, 2, { WIDE / 2 }>(s, a, half, c, store),
        n => unreachable!("{n} rows in a wide tile"),
    }
}

/// `R` rows by `P` panels of `NV` vectors.
#[inline(never)]
fn kernel<S: Simd, A: Left, const R: usize, const NV: usize, const P: usize>(
    s: S,
    a: A,
    b: [&[f32]; P],
    c: &mut MatMut<'_, f32>,
    store: Store<'_>,
) {
    s.call(
        #[inline(always)]
        move || {
            // C is met when the sums are done: ask for it now.
            for i in 0..R {
                let row = c.row(i);
                s.prefetch(row, 0);
                s.prefetch(row, row.len() - 1);
            }
            let acc = a.products::<S, R, NV, P>(s, b);
            if P == 1 {
                return write(s, acc[0], c, store);
            }
            let width = NV * S::LANES;
            for (p, acc) in acc.into_iter().enumerate() {
                let start = match store.start {
                    Start::Row(x) => Start::Row(&x[p * width..][..width]),
                    start => start,
                };
                let mut c = c.block(0, R, p * width, width);
                write(s, acc, &mut c, Store { start, ..store });
            }
        },
    )
}

impl Left for Panel<'_> {
    #[inline(always)]
    fn products<S: Simd, const R: usize, const NV: usize, const P: usize>(
        self,
        s: S,
        b: [&[f32]; P],
    ) -> [[[S::F32; NV]; R]; P] {
        let mut acc = [[[s.zero(); NV]; R]; P];
        let a = self.0.as_chunks::<R>().0;
        if P == 1 {
            for (a, b) in a.iter().zip(b[0].chunks_exact(NV * S::LANES)) {
                step(s, a, b, &mut acc[0]);
            }
            return acc;
        }
        for (i, a) in a.iter().enumerate() {
            for p in 0..P {
                step(s, a, &b[p][i * NV * S::LANES..][..NV * S::LANES], &mut acc[p]);
            }
        }
        acc
    }
}

impl Left for Lying<'_> {
    #[inline(always)]
    fn products<S: Simd, const R: usize, const NV: usize, const P: usize>(
        self,
        s: S,
        b: [&[f32]; P],
    ) -> [[[S::F32; NV]; R]; P] {
        let mut acc = [[[s.zero(); NV]; R]; P];
        let Lying { data, stride, steps } = self;
        // Each is cut to the same length: then no index needs to be checked below.
        let mut rows = [&data[..steps]; R];
        for i in 1..R {
            rows[i] = &data[i * stride..][..steps];
        }
        let width = NV * S::LANES;
        let mut panels = b;
        for p in 0..P {
            panels[p] = &b[p][..steps * width];
        }
        for t in 0..steps {
            for p in 0..P {
                let mut bv = [s.zero(); NV];
                for j in 0..NV {
                    bv[j] = s.load(&panels[p][t * width + j * S::LANES..]);
                }
                for i in 0..R {
                    // From memory into every lane: gathered first, they would take registers.
                    let av = s.splat(rows[i][t]);
                    for j in 0..NV {
                        acc[p][i][j] = av.mul_add(bv[j], acc[p][i][j]);
                    }
                }
            }
        }
        acc
    }
}

#[inline(always)]
fn step<S: Simd, const R: usize, const NV: usize>(
    s: S,
    a: &[f32],
    b: &[f32],
    acc: &mut [[S::F32; NV]; R],
) {
    let mut bv = [s.zero(); NV];
    for j in 0..NV {
        bv[j] = s.load(&b[j * S::LANES..]);
    }
    for i in 0..R {
        let av = s.splat(a[i]);
        for j in 0..NV {
            acc[i][j] = av.mul_add(bv[j], acc[i][j]);
        }
    }
}

#[inline(always)]
fn write<S: Simd, const R: usize, const NV: usize>(
    s: S,
    mut acc: [[S::F32; NV]; R],
    c: &mut MatMut<'_, f32>,
    store: Store<'_>,
) {
    let alpha = s.splat(store.alpha);
    let full = c.cols() == NV * S::LANES;
    /// `acc = acc · alpha + start(i, j)`
    macro_rules! add {
        ($i:ident, $j:ident => $start:expr) => {
            for $i in 0..R {
                for $j in 0..NV {
                    acc[$i][$j] = acc[$i][$j].mul_add(alpha, $start);
                }
            }
        };
    }
    match store.start {
        Start::Zero => {
            for row in &mut acc {
                for v in row {
                    *v = *v * alpha;
                }
            }
        }
        Start::Load if full => add!(i, j => s.load(&c.row(i)[j * S::LANES..])),
        Start::Load => add!(i, j => s.load_partial(&c.row(i)[j * S::LANES..], 0.0)),
        Start::Row(x) => {
            let mut bias = [s.zero(); NV];
            for j in 0..NV {
                bias[j] = s.load_partial(&x[j * S::LANES..c.cols()], 0.0);
            }
            add!(i, j => bias[j]);
        }
        Start::Col(x) => {
            let x = &x[..R];
            add!(i, _j => s.splat(x[i]));
        }
    }
    if let Some((lo, hi)) = store.clip {
        let (lo, hi) = (s.splat(lo), s.splat(hi));
        for row in &mut acc {
            for v in row {
                *v = hi.min(lo.max(*v));
            }
        }
    }
    for i in 0..R {
        let row = c.row(i);
        for j in 0..NV {
            if full {
                acc[i][j].store(&mut row[j * S::LANES..]);
            } else {
                acc[i][j].store_partial(&mut row[j * S::LANES..]);
            }
        }
    }
}
