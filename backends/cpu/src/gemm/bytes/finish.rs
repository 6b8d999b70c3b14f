//! What becomes of exact sums: themselves, floats, or codes again.
//!
//! Sums: y = sum. Floats: y = activation(sum · scale · rows + bias).
//! Codes: y = saturate(round(sum · scale) + zero), ties to even.
//!
//! Products and additions are rounded one by one, so that every processor computes the same.

use crate::math::Activation;
use crate::simd::{F32s, I32s, MAX_LANES, MatMut, Simd};

/// Makes results of sums.
pub trait Finish: Sync {
    /// What a result is.
    type Out: Send + Sync;

    /// Whether it is made for a result of this size.
    ///
    /// # Errors
    /// It is not.
    fn check(&self, m: usize, n: usize) -> Result<(), String>;

    /// Turns sums into results: those of one row, from a place of C on. There may be more sums, to
    /// the end of a vector.
    fn row<S: Simd>(&self, s: S, place: (usize, usize), sums: &mut [i32], y: &mut [Self::Out]);

    /// Turns the sums of a tile into results, `width` sums for each row of `y`.
    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        s: S,
        (row, col): (usize, usize),
        (sums, width): (&mut [i32], usize),
        y: &mut MatMut<'_, Self::Out>,
    ) {
        for (i, sums) in sums.chunks_exact_mut(width).take(y.rows()).enumerate() {
            self.row(s, (row + i, col), sums, y.row(i));
        }
    }
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
    fn row<S: Simd>(&self, _s: S, _place: (usize, usize), sums: &mut [i32], y: &mut [i32]) {
        y.copy_from_slice(&sums[..y.len()]);
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
    fn row<S: Simd>(&self, s: S, (row, col): (usize, usize), sums: &mut [i32], y: &mut [f32]) {
        scaled(s, self.scale, (row, col), &sums[..y.len()], y);
        if let Some(rows) = self.rows {
            let factor = s.splat(rows[row]);
            for y in y.chunks_mut(S::LANES) {
                (s.load_partial(y, 0.0) * factor).store_partial(y);
            }
        }
        if let Some(bias) = self.bias {
            let n = y.len();
            for (y, bias) in y.chunks_mut(S::LANES).zip(bias[col..][..n].chunks(S::LANES)) {
                (s.load_partial(y, 0.0) + s.load_partial(bias, 0.0)).store_partial(y);
            }
        }
        if self.activation != Activation::None {
            self.activation.apply_slice(s, y);
        }
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
            let scale = match self.scale {
                Per::One(x) => s.splat(x),
                Per::Rows(_) => s.splat(1.0),
                Per::Cols(x) => s.load_partial(&x[col + j..col + cols], 0.0),
            };
            let bias = self.bias.map(|bias| s.load_partial(&bias[col + j..col + cols], 0.0));
            for (i, sums) in sums.chunks_exact_mut(width).enumerate() {
                let sums = &mut sums[j..];
                let mut x = s.load_i32(sums).to_f32();
                x = match self.scale {
                    Per::Rows(each) => x * s.splat(each[row + i]),
                    _ => x * scale,
                };
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
        self.activation.apply_slice(s, made);
        made
    }
}

/// `y = sum · scale`
#[inline(always)]
fn scaled<S: Simd>(s: S, scale: Per<'_>, (row, col): (usize, usize), sums: &[i32], y: &mut [f32]) {
    let each = match scale {
        Per::One(x) => return by_one(s, x, sums, y),
        Per::Rows(x) => return by_one(s, x[row], sums, y),
        Per::Cols(x) => &x[col..][..sums.len()],
    };
    let whole = sums.len() - sums.len() % S::LANES;
    for j in (0..whole).step_by(S::LANES) {
        (s.load_i32(&sums[j..]).to_f32() * s.load(&each[j..])).store(&mut y[j..]);
    }
    for ((y, &sum), x) in y[whole..].iter_mut().zip(&sums[whole..]).zip(&each[whole..]) {
        *y = sum as f32 * x;
    }
}

/// `y = sum · x`
#[inline(always)]
fn by_one<S: Simd>(s: S, x: f32, sums: &[i32], y: &mut [f32]) {
    let whole = sums.len() - sums.len() % S::LANES;
    for j in (0..whole).step_by(S::LANES) {
        (s.load_i32(&sums[j..]).to_f32() * s.splat(x)).store(&mut y[j..]);
    }
    for (y, &sum) in y[whole..].iter_mut().zip(&sums[whole..]) {
        *y = sum as f32 * x;
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
    fn row<S: Simd>(&self, s: S, (row, col): (usize, usize), sums: &mut [i32], y: &mut [u8]) {
        let to = Clip::new(s, self.zero, self.ends);
        let (each, one) = match self.scale {
            Per::One(x) => (None, x),
            Per::Rows(x) => (None, x[row]),
            Per::Cols(x) => (Some(&x[col..][..y.len()]), 0.0),
        };
        for j in (0..y.len()).step_by(S::LANES) {
            let scale = match each {
                Some(x) => s.load_partial(&x[j..], 0.0),
                None => s.splat(one),
            };
            to.code(load_some(s, &sums[j..]).to_f32() * scale).store_u8_partial(&mut y[j..]);
        }
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        s: S,
        (row, col): (usize, usize),
        (sums, width): (&mut [i32], usize),
        y: &mut MatMut<'_, u8>,
    ) {
        let Per::Cols(scale) = self.scale else {
            for (i, sums) in sums.chunks_exact_mut(width).take(y.rows()).enumerate() {
                self.row(s, (row + i, col), sums, y.row(i));
            }
            return;
        };
        // Column by column of vectors: what belongs to a column stays in registers.
        let to = Clip::new(s, self.zero, self.ends);
        let (rows, cols) = (y.rows(), y.cols());
        for j in (0..cols).step_by(S::LANES) {
            let scale = s.load_partial(&scale[col + j..col + cols], 0.0);
            for (i, sums) in sums.chunks_exact(width).take(rows).enumerate() {
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

/// The first sums, and zeros if a vector holds more.
#[inline(always)]
fn load_some<S: Simd>(s: S, sums: &[i32]) -> S::I32 {
    if sums.len() >= S::LANES {
        return s.load_i32(sums);
    }
    let mut all = [0; MAX_LANES];
    all[..sums.len()].copy_from_slice(sums);
    s.load_i32(&all)
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
    fn row<S: Simd>(&self, s: S, place: (usize, usize), sums: &mut [i32], y: &mut [u8]) {
        let mut row = [0.0f32; super::PIECE];
        let floats = &mut row[..y.len()];
        self.floats.row(s, place, sums, floats);
        let to = Clip::new(s, self.zero, self.ends);
        let scale = s.splat(self.y_scale);
        for j in (0..floats.len()).step_by(S::LANES) {
            let x = s.load_partial(&floats[j..], 0.0) / scale;
            to.code(x).store_u8_partial(&mut y[j..]);
        }
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
