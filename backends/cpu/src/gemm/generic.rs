//! Matrix products of the types that have no tiles: f64 and integers, which wrap.
//!
//! C (row-major) `= A · B`, four rows of B at a time so that C is read and written a quarter as
//! often.

use crate::par;
use crate::simd::Isa;

/// A number that can be multiplied and added; integers wrap.
pub trait Number: Copy + Send + Sync + 'static {
    /// Nothing.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// `self · b + c`
    fn mul_add(self, b: Self, c: Self) -> Self;
}

macro_rules! numbers {
    ($($T:ty: $x:ident, $b:ident, $c:ident => $e:expr;)*) => {
        $(impl Number for $T {
            const ZERO: $T = 0 as $T;
            const ONE: $T = 1 as $T;
            #[inline(always)]
            fn mul_add(self, $b: $T, $c: $T) -> $T {
                let $x = self;
                $e
            }
        })*
    };
}
numbers! {
    f32: x, b, c => x * b + c;
    f64: x, b, c => x * b + c;
    i8: x, b, c => x.wrapping_mul(b).wrapping_add(c);
    i16: x, b, c => x.wrapping_mul(b).wrapping_add(c);
    i32: x, b, c => x.wrapping_mul(b).wrapping_add(c);
    i64: x, b, c => x.wrapping_mul(b).wrapping_add(c);
    u8: x, b, c => x.wrapping_mul(b).wrapping_add(c);
    u16: x, b, c => x.wrapping_mul(b).wrapping_add(c);
    u32: x, b, c => x.wrapping_mul(b).wrapping_add(c);
    u64: x, b, c => x.wrapping_mul(b).wrapping_add(c);
}

/// Columns of C that stay in L1.
const COLUMNS: usize = 1024;

/// `C[m, n] = A[m, k] · B[k, n]`, or `C += A · B` with [`super::Write::Add`]. `a` and `b` come with
/// the distances between their rows and between their columns; rows of `c` follow one another.
///
/// # Errors
/// A slice is too short for its matrix, or memory cannot be had.
pub fn gemm_generic<T: Number>(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    (a, a_strides): (&[T], (usize, usize)),
    (b, b_strides): (&[T], (usize, usize)),
    write: super::Write,
    c: &mut [T],
) -> Result<(), String> {
    check("the left operand", a.len(), (m, k), a_strides)?;
    check("the right operand", b.len(), (k, n), b_strides)?;
    check("the result", c.len(), (m, n), (n, 1))?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let c = &mut c[..m * n];
    if write == super::Write::Set {
        c.fill(T::ZERO);
    }
    if k == 0 {
        return Ok(());
    }
    let copy;
    let (b, b_row) = match b_strides {
        (row, 1) => (b, row),
        (row, col) => {
            copy = by_rows(b, (k, n), (row, col))?;
            (copy.as_slice(), n)
        }
    };
    let row_ns = n.saturating_mul(k) / 4;
    par::rows(c, n, row_ns, |rows, c| {
        let a = Operand { data: &a[(rows.start * a_strides.0).min(a.len())..], strides: a_strides };
        multiply::<T>(isa, a, (b, b_row), k, (c, n));
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct Operand<'a, T> {
    data: &'a [T],
    strides: (usize, usize),
}

fn check(
    what: &str,
    len: usize,
    (rows, cols): (usize, usize),
    (row, col): (usize, usize),
) -> Result<(), String> {
    // Only the length and the strides matter: count it as a matrix of bytes would be.
    let fits = rows == 0
        || cols == 0
        || (rows - 1)
            .checked_mul(row)
            .and_then(|r| r.checked_add((cols - 1).checked_mul(col)?))
            .is_some_and(|last| last < len);
    fits.then_some(())
        .ok_or_else(|| format!("{what} of {rows} x {cols} does not fit {len} elements"))
}

fn by_rows<T: Number>(
    b: &[T],
    (k, n): (usize, usize),
    (row, col): (usize, usize),
) -> Result<Vec<T>, String> {
    let mut copy = Vec::new();
    let len = k.checked_mul(n).ok_or_else(|| format!("a matrix of {k} x {n} is too large"))?;
    copy.try_reserve_exact(len).map_err(|_| format!("no memory for a matrix of {k} x {n}"))?;
    for p in 0..k {
        copy.extend((0..n).map(|j| b[p * row + j * col]));
    }
    Ok(copy)
}

crate::simd_fn! {
    fn multiply<T: Number>(
        _s: S,
        a: Operand<'_, T>,
        b: (&[T], usize),
        k: usize,
        c: (&mut [T], usize),
    ) {
        let ((b, b_row), (c, n)) = (b, c);
        let (row, col) = a.strides;
        let mut j0 = 0;
        while j0 < n {
            let w = COLUMNS.min(n - j0);
            let mut p = 0;
            while p < k {
                let u = if p + 4 <= k { 4 } else { 1 };
                let base = |q: usize| &b[(p + q) * b_row + j0..][..w];
                for (i, c) in c.chunks_exact_mut(n).enumerate() {
                    let x = |q: usize| a.data[i * row + (p + q) * col];
                    let c = &mut c[j0..j0 + w];
                    if u == 4 {
                        let (b0, b1, b2, b3) = (base(0), base(1), base(2), base(3));
                        let (x0, x1, x2, x3) = (x(0), x(1), x(2), x(3));
                        for j in 0..w {
                            let y = x1.mul_add(b1[j], x0.mul_add(b0[j], c[j]));
                            c[j] = x3.mul_add(b3[j], x2.mul_add(b2[j], y));
                        }
                    } else {
                        let (b0, x0) = (base(0), x(0));
                        for j in 0..w {
                            c[j] = x0.mul_add(b0[j], c[j]);
                        }
                    }
                }
                p += u;
            }
            j0 += COLUMNS;
        }
    }
}
