//! A with few rows times B as it lies in memory: B is read once, in the order it lies in.
//!
//! Rows of B side by side (`b.col == 1`): a group of rows, times numbers of A, is added to sums that
//! stay in L1. Columns of B side by side (`b.row == 1`): dot products of them with rows of A.

use super::{Bias, Gemm, PIECE_READ, Strided, THIN, Write};
use crate::par;
use crate::pool::with_scratch;
use crate::simd::{F32s, Isa, MAX_LANES, MatMut, Simd, sum_lanes, vectors};
use crate::stop::checkpoint;

/// Columns of which the sums stay in L1.
const COLUMNS: usize = 512;

/// A small product: A is `m × k`, row after row, multiplied by alpha.
struct Thin<'a> {
    gemm: &'a Gemm<'a>,
    a: &'a [f32],
    b: Strided<'a>,
}

/// Computes a product of few rows.
pub(super) fn run(
    isa: Isa,
    gemm: &Gemm<'_>,
    a: Strided<'_>,
    b: Strided<'_>,
    c: MatMut<'_, f32>,
) -> Result<(), String> {
    let (m, k, n) = (gemm.m, gemm.k, gemm.n);
    with_scratch(m.saturating_mul(k), |copy| {
        for (i, row) in copy.chunks_exact_mut(k.max(1)).enumerate() {
            let src = a.data[i * a.row..].iter().step_by(a.col.max(1));
            if a.col == 0 {
                row.fill(a.data[i * a.row] * gemm.alpha);
                continue;
            }
            for (x, a) in row.iter_mut().zip(src) {
                *x = a * gemm.alpha;
            }
        }
        let thin = Thin { gemm, a: copy, b };
        let pieces = match par::threads() {
            1 => 1,
            t => (k.saturating_mul(n) / PIECE_READ).clamp(1, 2 * t),
        };
        thin.cut(isa, c, 0, pieces);
    })
}

impl Thin<'_> {
    /// Cuts C by columns, at whole vectors.
    fn cut(&self, isa: Isa, mut c: MatMut<'_, f32>, col0: usize, pieces: usize) {
        let left = pieces / 2;
        let at = if pieces > 1 { (c.cols() * left / pieces).next_multiple_of(16) } else { 0 };
        if at == 0 || at >= c.cols() {
            // Rows side by side first: a matrix of one column is both.
            return match self.b.col == 1 {
                true => by_rows(isa, self, &mut c, col0),
                false => by_columns(isa, self, &mut c, col0),
            };
        }
        let (c1, c2) = c.split_cols(at);
        par::join(|| self.cut(isa, c1, col0, left), || self.cut(isa, c2, col0 + at, pieces - left));
    }

    /// What element `(i, j)` of C starts from.
    #[inline(always)]
    fn start(&self, old: f32, i: usize, j: usize) -> f32 {
        match (self.gemm.write, self.gemm.epilogue.bias) {
            (Write::Add, _) => old,
            (_, Some(Bias::Row(x))) => x[j],
            (_, Some(Bias::Col(x))) => x[i],
            (_, None) => 0.0,
        }
    }
}

/// Sums for `COLUMNS` columns of C, apart from it: rows of C and B may all fall on the same sets
/// of the cache. The padding keeps rows of sums from doing so.
struct Sums([[f32; COLUMNS + 16]; THIN]);

crate::simd_fn! {
    /// `c`, which starts at column `col0`, from rows of B.
    fn by_rows(s: S, t: &Thin<'_>, c: &mut MatMut<'_, f32>, col0: usize) {
        let (m, n) = (c.rows(), c.cols());
        let mut sums = Sums([[0.0; COLUMNS + 16]; THIN]);
        let mut j = 0;
        while j < n {
            checkpoint();
            let mut c = c.block(0, m, j, COLUMNS.min(n - j));
            for i in 0..m {
                for (at, y) in c.row(i).iter().enumerate() {
                    sums.0[i][at] = t.start(*y, i, col0 + j + at);
                }
            }
            let place = (col0 + j, c.cols());
            match m {
                1 => columns::<S, 1, 8>(s, t, &mut sums, m, place),
                2 => columns::<S, 2, 4>(s, t, &mut sums, m, place),
                3 => columns::<S, 3, 4>(s, t, &mut sums, m, place),
                _ => columns::<S, 4, 4>(s, t, &mut sums, m, place),
            }
            for i in 0..m {
                let row = c.row(i);
                row.copy_from_slice(&sums.0[i][..row.len()]);
            }
            t.gemm.epilogue.finish(s, t.gemm.write, &mut c, (0, col0 + j));
            j += COLUMNS;
        }
    }
}

/// All rows of B, `U` at a time, at `n` columns from `col0` on; rows of A `M` at a time. There
/// is room for more rows of sums than A has.
#[inline(always)]
fn columns<S: Simd, const M: usize, const U: usize>(
    s: S,
    t: &Thin<'_>,
    sums: &mut Sums,
    m: usize,
    place: (usize, usize),
) {
    let k = t.gemm.k;
    let mut p = 0;
    while p < k {
        let whole = p + U <= k;
        let mut i0 = 0;
        while i0 < m {
            match whole {
                true => add_rows::<S, M, U>(s, t, sums, i0, place, p),
                false => add_rows::<S, M, 1>(s, t, sums, i0, place, p),
            }
            i0 += M;
        }
        p += if whole { U } else { 1 };
    }
}

/// `sums[i] += a[i, p + u] · b[p + u]` for `u` in `0..U` and `M` rows from `i0` on.
#[inline(always)]
fn add_rows<S: Simd, const M: usize, const U: usize>(
    s: S,
    t: &Thin<'_>,
    sums: &mut Sums,
    i0: usize,
    (col0, n): (usize, usize),
    p: usize,
) {
    let k = t.gemm.k;
    let sums = &mut sums.0[i0..i0 + M];
    let mut b = [&t.b.data[..0]; U];
    for u in 0..U {
        b[u] = &t.b.data[(p + u) * t.b.row + col0..][..n];
    }
    let mut a = [[s.zero(); U]; M];
    for i in 0..M {
        // Beyond the last row of A its sums are not used: any row will do.
        let row = &t.a[(i0 + i).min(t.gemm.m - 1) * k + p..][..U];
        for u in 0..U {
            a[i][u] = s.splat(row[u]);
        }
    }
    let mut j = 0;
    while j + S::LANES <= n {
        let mut bv = [s.zero(); U];
        for u in 0..U {
            bv[u] = s.load(&b[u][j..]);
        }
        for i in 0..M {
            let row = &mut sums[i][j..];
            let mut y = s.load(row);
            for u in 0..U {
                y = bv[u].mul_add(a[i][u], y);
            }
            y.store(row);
        }
        j += S::LANES;
    }
    // The same sums in the same order, the lanes beyond the end left alone.
    for i in 0..M {
        let row = &mut sums[i][j..n];
        let mut y = s.load_partial(row, 0.0);
        for u in 0..U {
            y = s.load_partial(&b[u][j..], 0.0).mul_add(a[i][u], y);
        }
        y.store_partial(row);
    }
}

crate::simd_fn! {
    /// `c`, which starts at column `col0`, from columns of B that lie side by side.
    fn by_columns(s: S, t: &Thin<'_>, c: &mut MatMut<'_, f32>, col0: usize) {
        let n = c.cols();
        let mut j = 0;
        if const { S::REGISTERS >= 32 } {
            while j + 4 <= n {
                if j % 64 == 0 {
                    checkpoint();
                }
                dots::<S, 4>(s, t, c, col0, j);
                j += 4;
            }
        }
        while j + 2 <= n {
            if j % 64 == 0 {
                checkpoint();
            }
            dots::<S, 2>(s, t, c, col0, j);
            j += 2;
        }
        if j < n {
            dots::<S, 1>(s, t, c, col0, j);
        }
        t.gemm.epilogue.finish(s, t.gemm.write, c, (0, col0));
    }
}

/// Rows of A that meet columns of B at the same time, where a vector has all lanes.
const MAX_ROWS: usize = 4;

/// All rows of A with `N` columns of B.
#[inline(always)]
fn dots<S: Simd, const N: usize>(
    s: S,
    t: &Thin<'_>,
    c: &mut MatMut<'_, f32>,
    col0: usize,
    j: usize,
) {
    // As many as have room for their sums in registers.
    let most = const { MAX_ROWS / vectors::<S>() }.max(1);
    for i in (0..c.rows()).step_by(most) {
        match most.min(c.rows() - i) {
            1 => dot::<S, 1, N>(s, t, c, col0, (i, j)),
            2 => dot::<S, 2, N>(s, t, c, col0, (i, j)),
            3 => dot::<S, 3, N>(s, t, c, col0, (i, j)),
            _ => dot::<S, MAX_ROWS, N>(s, t, c, col0, (i, j)),
        }
    }
}

#[inline(always)]
fn dot<S: Simd, const M: usize, const N: usize>(
    s: S,
    t: &Thin<'_>,
    c: &mut MatMut<'_, f32>,
    col0: usize,
    (i0, j0): (usize, usize),
) {
    let k = t.gemm.k;
    let (mut a, mut b) = ([&t.a[..0]; M], [&t.b.data[..0]; N]);
    for i in 0..M {
        a[i] = &t.a[(i0 + i) * k..][..k];
    }
    for j in 0..N {
        // With `k` of 0 there may be no column to point to.
        b[j] = t.b.data.get((col0 + j0 + j) * t.b.col..).map_or(&[], |b| &b[..k]);
    }
    let mut acc = [[[s.zero(); MAX_LANES]; N]; M];
    /// One step with a way to load.
    macro_rules! step {
        ($v:ident, $x:ident => $load:expr) => {
            let (mut av, mut bv) = ([s.zero(); M], [s.zero(); N]);
            for (v, $x) in av.iter_mut().zip(a) {
                *v = $load;
            }
            for (v, $x) in bv.iter_mut().zip(b) {
                *v = $load;
            }
            for i in 0..M {
                for j in 0..N {
                    acc[i][j][$v] = av[i].mul_add(bv[j], acc[i][j][$v]);
                }
            }
        };
    }
    let mut p = 0;
    while p + MAX_LANES <= k {
        for v in 0..const { vectors::<S>() } {
            step!(v, x => s.load(&x[p + v * S::LANES..]));
        }
        p += MAX_LANES;
    }
    for (v, p) in (p..k).step_by(S::LANES).enumerate() {
        step!(v, x => s.load_partial(&x[p..], 0.0));
    }
    for i in 0..M {
        let row = c.row(i0 + i);
        for j in 0..N {
            let start = t.start(row[j0 + j], i0 + i, col0 + j0 + j);
            row[j0 + j] = start + sum_lanes::<S>(acc[i][j]);
        }
    }
}
