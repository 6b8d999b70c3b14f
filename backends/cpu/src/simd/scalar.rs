//! One lane and plain Rust: the meaning of every vector operation.

use super::{F32s, I32s, MAX_LANES, Mask, Simd};
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Sub};

/// The instruction set every machine has.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// One `f32`.
#[derive(Clone, Copy, Debug)]
pub struct F32x1(f32);

/// One `i32`.
#[derive(Clone, Copy, Debug)]
pub struct I32x1(i32);

/// One truth value.
#[derive(Clone, Copy, Debug)]
pub struct Mask1(bool);

impl Simd for Scalar {
    type F32 = F32x1;
    type I32 = I32x1;
    type Mask = Mask1;
    const LANES: usize = 1;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn call<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    fn splat(self, x: f32) -> F32x1 {
        F32x1(x)
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> I32x1 {
        I32x1(x)
    }
    #[inline(always)]
    fn iota(self) -> I32x1 {
        I32x1(0)
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> F32x1 {
        F32x1(src[0])
    }
    #[inline(always)]
    fn load_i32(self, src: &[i32]) -> I32x1 {
        I32x1(src[0])
    }
    #[inline(always)]
    fn load_u16(self, src: &[u16]) -> I32x1 {
        I32x1(src[0].into())
    }
    #[inline(always)]
    fn load_partial(self, src: &[f32], fill: f32) -> F32x1 {
        F32x1(src.first().copied().unwrap_or(fill))
    }
    #[inline(always)]
    fn first(self, n: usize) -> Mask1 {
        Mask1(n > 0)
    }
    #[inline(always)]
    fn transpose(self, _: &mut [F32x1; MAX_LANES]) {}
    #[inline(always)]
    fn zip(self, a: F32x1, b: F32x1) -> (F32x1, F32x1) {
        (a, b)
    }
    #[inline(always)]
    fn unzip(self, a: F32x1, b: F32x1) -> (F32x1, F32x1) {
        (a, b)
    }
}

macro_rules! operators {
    ($V:ident: $($Op:ident $op:ident ($a:ident, $b:ident) = $e:expr;)*) => {
        $(impl $Op for $V {
            type Output = $V;
            #[inline(always)]
            fn $op(self, other: $V) -> $V {
                let ($a, $b) = (self.0, other.0);
                $V($e)
            }
        })*
    };
}
operators! { F32x1:
    Add add (a, b) = a + b;
    Sub sub (a, b) = a - b;
    Mul mul (a, b) = a * b;
    Div div (a, b) = a / b;
}
operators! { I32x1:
    Add add (a, b) = a.wrapping_add(b);
    Sub sub (a, b) = a.wrapping_sub(b);
    Mul mul (a, b) = a.wrapping_mul(b);
    BitAnd bitand (a, b) = a & b;
    BitOr bitor (a, b) = a | b;
    BitXor bitxor (a, b) = a ^ b;
}
operators! { Mask1:
    BitAnd bitand (a, b) = a & b;
    BitOr bitor (a, b) = a | b;
    BitXor bitxor (a, b) = a ^ b;
}

impl Neg for F32x1 {
    type Output = F32x1;
    #[inline(always)]
    fn neg(self) -> F32x1 {
        F32x1(-self.0)
    }
}
impl Not for I32x1 {
    type Output = I32x1;
    #[inline(always)]
    fn not(self) -> I32x1 {
        I32x1(!self.0)
    }
}
impl Not for Mask1 {
    type Output = Mask1;
    #[inline(always)]
    fn not(self) -> Mask1 {
        Mask1(!self.0)
    }
}

impl F32s<Scalar> for F32x1 {
    #[inline(always)]
    fn store(self, dst: &mut [f32]) {
        dst[0] = self.0;
    }
    #[inline(always)]
    fn store_partial(self, dst: &mut [f32]) {
        if let Some(d) = dst.first_mut() {
            *d = self.0;
        }
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        F32x1(mul_add(self.0, b.0, c.0))
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        if self.0 > b.0 { self } else { b }
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        if self.0 < b.0 { self } else { b }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F32x1(self.0.abs())
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F32x1(self.0.sqrt())
    }
    #[inline(always)]
    fn floor(self) -> Self {
        F32x1(self.0.floor())
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        F32x1(self.0.ceil())
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        F32x1(self.0.trunc())
    }
    #[inline(always)]
    fn round_even(self) -> Self {
        // Below 2^23 adding and taking away 1.5·2^23 rounds; beyond, every float is an integer.
        const MAGIC: f32 = 12_582_912.0;
        let x = self.0;
        if x.abs() < 4_194_304.0 {
            F32x1(((x + MAGIC) - MAGIC).copysign(x))
        } else {
            F32x1(x.round_ties_even())
        }
    }
    #[inline(always)]
    fn lt(self, b: Self) -> Mask1 {
        Mask1(self.0 < b.0)
    }
    #[inline(always)]
    fn le(self, b: Self) -> Mask1 {
        Mask1(self.0 <= b.0)
    }
    #[inline(always)]
    fn eq(self, b: Self) -> Mask1 {
        Mask1(self.0 == b.0)
    }
    #[inline(always)]
    fn round_i32(self) -> I32x1 {
        I32x1(self.round_even().0 as i32)
    }
    #[inline(always)]
    fn trunc_i32(self) -> I32x1 {
        I32x1(self.0 as i32)
    }
    #[inline(always)]
    fn bits(self) -> I32x1 {
        I32x1(self.0.to_bits() as i32)
    }
    #[inline(always)]
    fn reduce_add(self) -> f32 {
        self.0
    }
    #[inline(always)]
    fn reduce_max(self) -> f32 {
        self.0
    }
    #[inline(always)]
    fn reduce_min(self) -> f32 {
        self.0
    }
}

impl I32s<Scalar> for I32x1 {
    #[inline(always)]
    fn store(self, dst: &mut [i32]) {
        dst[0] = self.0;
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut [u16]) {
        dst[0] = self.0 as u16;
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        I32x1(self.0 << N)
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        I32x1((self.0 as u32 >> N) as i32)
    }
    #[inline(always)]
    fn sar<const N: u32>(self) -> Self {
        I32x1(self.0 >> N)
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        I32x1(self.0.max(b.0))
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        I32x1(self.0.min(b.0))
    }
    #[inline(always)]
    fn eq(self, b: Self) -> Mask1 {
        Mask1(self.0 == b.0)
    }
    #[inline(always)]
    fn gt(self, b: Self) -> Mask1 {
        Mask1(self.0 > b.0)
    }
    #[inline(always)]
    fn to_f32(self) -> F32x1 {
        F32x1(self.0 as f32)
    }
    #[inline(always)]
    fn as_f32(self) -> F32x1 {
        F32x1(f32::from_bits(self.0 as u32))
    }
    #[inline(always)]
    fn reduce_add(self) -> i32 {
        self.0
    }
}

impl Mask<Scalar> for Mask1 {
    #[inline(always)]
    fn select(self, a: F32x1, b: F32x1) -> F32x1 {
        if self.0 { a } else { b }
    }
    #[inline(always)]
    fn select_i32(self, a: I32x1, b: I32x1) -> I32x1 {
        if self.0 { a } else { b }
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.0.into()
    }
}

/// `a · b + c`, rounded once, as vectors of other instruction sets have it: without hardware for it
/// `f32::mul_add` is a slow library call.
///
/// In f64 the product is exact, and the sum is rounded to odd, so that rounding it to f32 gives what
/// rounding the exact sum gives (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums:
/// proved algorithms using rounding to odd", 2008).
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    let (p, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = p + c;
    // Knuth's TwoSum: what rounding took away.
    let t = sum - p;
    let lost = (p - (sum - t)) + (c - t);
    let bits = sum.to_bits();
    // Not of infinities and NaN, whose error is NaN.
    let odd = match lost != 0.0 && lost.is_finite() && bits & 1 == 0 {
        true if (lost > 0.0) == (sum > 0.0) => bits + 1,
        true => bits - 1,
        false => bits,
    };
    f64::from_bits(odd) as f32
}

#[cfg(test)]
mod tests {
    use super::mul_add;

    #[test]
    fn a_fused_product_is_rounded_once() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        let check = |a: f32, b: f32, c: f32| {
            let (made, exact) = (mul_add(a, b, c), a.mul_add(b, c));
            let same = made.to_bits() == exact.to_bits() || (made.is_nan() && exact.is_nan());
            assert!(same, "{a} · {b} + {c} = {exact}, not {made}");
        };
        for _ in 0..200_000 {
            let [a, b, c] = [next(), next(), next()].map(f32::from_bits);
            check(a, b, c);
            // Of like size, where sums round twice most easily.
            let near = |x: f32| f32::from_bits(x.to_bits() & 0x807f_ffff | 0x3f80_0000);
            check(near(a), near(b), near(c));
            check(near(a), near(b), near(c) * f32::from_bits(0x3380_0000));
            check(near(a), near(b) * 1e-38, near(c) * 1e-38);
        }
    }
}
