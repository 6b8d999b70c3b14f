//! What becomes of exact sums: themselves, floats, or codes again.
//!
//! Sums: y = sum. Floats: y = activation(sum · scale · rows + bias).
//! Codes: y = saturate(round(sum · scale) + zero), ties to even.
//!
//! Products and additions are rounded one by one, so that every processor computes the same.

use std::ops::Range;

use crate::math::Activation;
use crate::simd::{F32s, I32s, MatMut, Simd};

/// Makes results of sums.
pub trait Finish: Sync {
    /// What a result is.
    type Out: Send + Sync;

    /// Whether it is made for a result of this size.
    ///
    /// # Errors
    /// It is not.
    fn check(&self, m: usize, n: usize) -> Result<(), String>;

    /// Turns the sums of a tile into results: as many rows as `y` has, `width` sums each, which is
    /// whole vectors.
    fn tile<S: Simd>(
        &self,
        s: S,
        place: (usize, usize),
        sums: (&mut [i32], usize),
        y: &mut MatMut<'_, Self::Out>,
    );
}

/// Numbers for rows or columns.
#[derive(Clone, Copy, Debug)]
pub enum Per<'a> {
    /// One for all.
    One(f32),
    /// One for each row.
    Rows(&'a [f32]),
    /// One for each column.
    Cols(&'a [f32]),
}

impl Per<'_> {
    /// The numbers of some columns, as many as a vector holds; 1 where rows have theirs.
    #[inline(always)]
    fn columns<S: Simd>(&self, s: S, columns: Range<usize>) -> S::F32 {
        match self {
            Per::One(x) => s.splat(*x),
            Per::Rows(_) => s.splat(1.0),
            Per::Cols(x) => s.load_partial(&x[columns], 0.0),
        }
    }

    /// The number of a row, if rows have theirs, or those of the columns.
    #[inline(always)]
    fn of_row<S: Simd>(&self, s: S, row: usize, columns: S::F32) -> S::F32 {
        match self {
            Per::Rows(x) => s.splat(x[row]),
            _ => columns,
        }
    }

    fn check(&self, what: &str, m: usize, n: usize) -> Result<(), String> {
        let (have, need) = match self {
            Per::One(_) => return Ok(()),
            Per::Rows(x) => (x.len(), m),
            Per::Cols(x) => (x.len(), n),
        };
        if have == need { Ok(()) } else { Err(format!("{have} {what} where {need} are needed")) }
    }
}

/// The sums themselves.
#[derive(Clone, Copy, Debug)]
pub struct Sums;

impl Finish for Sums {
    type Out = i32;

    fn check(&self, _m: usize, _n: usize) -> Result<(), String> {
        Ok(())
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        _s: S,
        _place: (usize, usize),
        (sums, width): (&mut [i32], usize),
        y: &mut MatMut<'_, i32>,
    ) {
        let cols = y.cols();
        for (i, sums) in sums.chunks_exact(width).take(y.rows()).enumerate() {
            y.row(i).copy_from_slice(&sums[..cols]);
        }
    }
}

/// Numbers again.
#[derive(Clone, Copy, Debug)]
pub struct Floats<'a> {
    /// Factor.
    pub scale: Per<'a>,
    /// A factor for each row, applied next.
    pub rows: Option<&'a [f32]>,
    /// Added to each row, if there is one.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl Finish for Floats<'_> {
    type Out = f32;

    fn check(&self, m: usize, n: usize) -> Result<(), String> {
        self.scale.check("scales", m, n)?;
        Per::Rows(self.rows.unwrap_or(&[])).check("factors", self.rows.map_or(0, |_| m), n)?;
        Per::Cols(self.bias.unwrap_or(&[])).check("biases", m, self.bias.map_or(0, |_| n))
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        s: S,
        place: (usize, usize),
        sums: (&mut [i32], usize),
        y: &mut MatMut<'_, f32>,
    ) {
        let (cols, width) = (y.cols(), sums.1);
        let made = self.in_place(s, place, sums, (y.rows(), cols));
        for (i, made) in made.chunks_exact(width).enumerate() {
            y.row(i).copy_from_slice(&made[..cols]);
        }
    }
}

impl Floats<'_> {
    /// Turns the sums of a tile of this size into floats where they lie, in L1.
    #[inline(always)]
    fn in_place<'t, S: Simd>(
        &self,
        s: S,
        (row, col): (usize, usize),
        (sums, width): (&'t mut [i32], usize),
        (rows, cols): (usize, usize),
    ) -> &'t mut [f32] {
        let sums = &mut sums[..rows * width];
        // Column by column of vectors: what belongs to a column stays in registers.
        for j in (0..cols).step_by(S::LANES) {
            let column = self.scale.columns(s, col + j..col + cols);
            let bias = self.bias.map(|bias| s.load_partial(&bias[col + j..col + cols], 0.0));
            for (i, sums) in sums.chunks_exact_mut(width).enumerate() {
                let sums = &mut sums[j..];
                let scale = self.scale.of_row(s, row + i, column);
                let mut x = s.load_i32(sums).to_f32() * scale;
                if let Some(rows) = self.rows {
                    x = x * s.splat(rows[row + i]);
                }
                if let Some(bias) = bias {
                    x = x + bias;
                }
                x.bits().store(sums);
            }
        }
        let made = bytemuck::must_cast_slice_mut(sums);
        activate(s, self.activation, made);
        made
    }
}

/// The activation of every element: one copy of them all, whatever ends here.
#[inline(always)]
fn activate<S: Simd>(s: S, f: Activation, y: &mut [f32]) {
    #[inline(never)]
    fn apart<S: Simd>(s: S, f: Activation, y: &mut [f32]) {
        s.call(
            #[inline(always)]
            move || f.apply_slice(s, y),
        );
    }
    if f != Activation::None {
        apart(s, f, y);
    }
}

/// Codes again, in bytes: int8 in two's complement.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// Factor.
    pub scale: Per<'a>,
    /// The code of zero.
    pub zero: i32,
    /// The least and the greatest code.
    pub ends: [i32; 2],
}

impl Finish for Codes<'_> {
    type Out = u8;

    fn check(&self, m: usize, n: usize) -> Result<(), String> {
        self.scale.check("scales", m, n)
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        s: S,
        (row, col): (usize, usize),
        (sums, width): (&mut [i32], usize),
        y: &mut MatMut<'_, u8>,
    ) {
        // Column by column of vectors: what belongs to a column stays in registers.
        let to = Clip::new(s, self.zero, self.ends);
        let (rows, cols) = (y.rows(), y.cols());
        for j in (0..cols).step_by(S::LANES) {
            let column = self.scale.columns(s, col + j..col + cols);
            for (i, sums) in sums.chunks_exact(width).take(rows).enumerate() {
                let scale = self.scale.of_row(s, row + i, column);
                let codes = to.code(s.load_i32(&sums[j..]).to_f32() * scale);
                codes.store_u8_partial(&mut y.row(i)[j..]);
            }
        }
    }
}

/// Codes of numbers in units of their scale: `saturate(round(x) + zero)`, ties to even.
#[derive(Clone, Copy)]
struct Clip<S: Simd> {
    lo: S::F32,
    hi: S::F32,
    zero: S::I32,
}

impl<S: Simd> Clip<S> {
    #[inline(always)]
    fn new(s: S, zero: i32, ends: [i32; 2]) -> Clip<S> {
        // Clipped before it is shifted: what is far out of range is no int32.
        let (lo, hi) = (s.splat((ends[0] - zero) as f32), s.splat((ends[1] - zero) as f32));
        Clip { lo, hi, zero: s.splat_i32(zero) }
    }

    /// NaN becomes the least code.
    #[inline(always)]
    fn code(&self, x: S::F32) -> S::I32 {
        x.max(self.lo).min(self.hi).round_i32() + self.zero
    }
}

/// Codes of floats: y = saturate(round(float / y_scale) + zero).
#[derive(Clone, Copy, Debug)]
pub struct Requantized<'a> {
    /// The floats.
    pub floats: Floats<'a>,
    /// What they are divided by.
    pub y_scale: f32,
    /// The code of zero.
    pub zero: i32,
    /// The least and the greatest code.
    pub ends: [i32; 2],
}

impl Finish for Requantized<'_> {
    type Out = u8;

    fn check(&self, m: usize, n: usize) -> Result<(), String> {
        self.floats.check(m, n)
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        s: S,
        place: (usize, usize),
        sums: (&mut [i32], usize),
        y: &mut MatMut<'_, u8>,
    ) {
        let (cols, width) = (y.cols(), sums.1);
        let made = self.floats.in_place(s, place, sums, (y.rows(), cols));
        let to = Clip::new(s, self.zero, self.ends);
        let scale = s.splat(self.y_scale);
        for (i, made) in made.chunks_exact(width).enumerate() {
            let y = y.row(i);
            for j in (0..cols).step_by(S::LANES) {
                to.code(s.load(&made[j..]) / scale).store_u8_partial(&mut y[j..]);
            }
        }
    }
}
