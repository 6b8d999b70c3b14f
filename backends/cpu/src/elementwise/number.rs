//! Arithmetic as ONNX defines it, the same for every whole-byte integer type and f64.

use rinfer_graph::ops::BinaryFn;
use rinfer_graph::{Bool, Element};

use super::each;

/// A number that the pointwise operators compute with directly.
pub trait Number: Element + PartialOrd {
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// a + b; integers wrap.
    fn add(self, b: Self) -> Self;
    /// a - b; integers wrap.
    fn sub(self, b: Self) -> Self;
    /// a · b; integers wrap.
    fn mul(self, b: Self) -> Self;
    /// a / b; integers round towards zero, and give 0 for b = 0.
    fn div(self, b: Self) -> Self;
    /// a - b·trunc(a/b); integers give 0 for b = 0.
    fn rem(self, b: Self) -> Self;
    /// a - b·⌊a/b⌋; integers give 0 for b = 0.
    fn modulo(self, b: Self) -> Self;
    /// |x|; integers wrap.
    fn abs(self) -> Self;
    /// The nearest f64.
    fn to_f64(self) -> f64;

    /// The larger; NaN if either is NaN.
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        if self >= b || !is_ordered(self) { self } else { b }
    }
    /// The smaller; NaN if either is NaN.
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        if self <= b || !is_ordered(self) { self } else { b }
    }
    /// a where a ≥ 0, else a·b.
    #[inline(always)]
    fn prelu(self, b: Self) -> Self {
        if self < Self::ZERO { self.mul(b) } else { self }
    }
    /// 1, 0 or -1.
    #[inline(always)]
    fn sign(self) -> Self {
        if self > Self::ZERO {
            Self::ONE
        } else if self < Self::ZERO {
            Self::ZERO.sub(Self::ONE)
        } else {
            Self::ZERO
        }
    }
}

#[inline(always)]
fn is_ordered<T: PartialOrd>(x: T) -> bool {
    x.partial_cmp(&x).is_some()
}

/// An integer of whole bytes.
pub trait Int: Number + Eq {
    /// a & b
    fn and(self, b: Self) -> Self;
    /// a | b
    fn or(self, b: Self) -> Self;
    /// a ^ b
    fn xor(self, b: Self) -> Self;
    /// Every bit flipped.
    fn not(self) -> Self;
    /// a · 2ᵇ without what passes the top bit; 0 if b is negative or the width or more.
    fn shl(self, b: Self) -> Self;
    /// ⌊a / 2ᵇ⌋; the sign alone (0 or -1) if b is negative or the width or more.
    fn shr(self, b: Self) -> Self;
    /// aⁿ wrapping; for n < 0 what 1 / a⁻ⁿ rounds to towards zero, and 0 for a = 0.
    fn pow(self, n: i64) -> Self;
    /// The low bits of an i64, reinterpreted.
    fn wrap(x: i64) -> Self;
    /// The value; u64 is reinterpreted.
    fn to_i64(self) -> i64;
}

macro_rules! ints {
    ($($t:ident),*) => { $(
        impl Number for $t {
            const ZERO: $t = 0;
            const ONE: $t = 1;
            #[inline(always)]
            fn add(self, b: $t) -> $t {
                self.wrapping_add(b)
            }
            #[inline(always)]
            fn sub(self, b: $t) -> $t {
                self.wrapping_sub(b)
            }
            #[inline(always)]
            fn mul(self, b: $t) -> $t {
                self.wrapping_mul(b)
            }
            #[inline(always)]
            fn div(self, b: $t) -> $t {
                if b == 0 { 0 } else { self.wrapping_div(b) }
            }
            #[inline(always)]
            fn rem(self, b: $t) -> $t {
                if b == 0 { 0 } else { self.wrapping_rem(b) }
            }
            #[inline(always)]
            fn modulo(self, b: $t) -> $t {
                let rest = Number::rem(self, b);
                let same = rest == 0 || (rest < Self::ZERO) == (b < Self::ZERO);
                if same { rest } else { rest.wrapping_add(b) }
            }
            #[inline(always)]
            fn abs(self) -> $t {
                if self < Self::ZERO { Self::ZERO.wrapping_sub(self) } else { self }
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
        }
        impl Int for $t {
            #[inline(always)]
            fn and(self, b: $t) -> $t {
                self & b
            }
            #[inline(always)]
            fn or(self, b: $t) -> $t {
                self | b
            }
            #[inline(always)]
            fn xor(self, b: $t) -> $t {
                self ^ b
            }
            #[inline(always)]
            fn not(self) -> $t {
                !self
            }
            #[inline(always)]
            fn shl(self, b: $t) -> $t {
                u32::try_from(b).ok().and_then(|b| self.checked_shl(b)).unwrap_or(0)
            }
            #[inline(always)]
            fn shr(self, b: $t) -> $t {
                let most = <$t>::BITS - 1;
                let by = u32::try_from(b).ok().filter(|&b| b <= most);
                let sign = if self < Self::ZERO { !0 } else { 0 };
                by.map_or(sign, |by| self >> by)
            }
            fn pow(self, n: i64) -> $t {
                if n < 0 {
                    return match self {
                        1 => 1,
                        x if x < Self::ZERO && x.wrapping_add(1) == 0 => {
                            if n % 2 == 0 { 1 } else { x }
                        }
                        _ => 0,
                    };
                }
                let (mut y, mut x, mut n) = (1, self, n);
                while n > 0 {
                    if n & 1 == 1 {
                        y = Number::mul(y, x);
                    }
                    x = Number::mul(x, x);
                    n >>= 1;
                }
                y
            }
            #[inline(always)]
            fn wrap(x: i64) -> $t {
                x as $t
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                self as i64
            }
        }
    )* };
}
ints!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Number for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    #[inline(always)]
    fn add(self, b: f64) -> f64 {
        self + b
    }
    #[inline(always)]
    fn sub(self, b: f64) -> f64 {
        self - b
    }
    #[inline(always)]
    fn mul(self, b: f64) -> f64 {
        self * b
    }
    #[inline(always)]
    fn div(self, b: f64) -> f64 {
        self / b
    }
    #[inline(always)]
    fn rem(self, b: f64) -> f64 {
        self % b
    }
    #[inline(always)]
    fn modulo(self, b: f64) -> f64 {
        let rest = self % b;
        if rest == 0.0 {
            // Zero takes the sign of b (Mod-28).
            0f64.copysign(b)
        } else if (rest < 0.0) == (b < 0.0) || rest.is_nan() {
            rest
        } else {
            rest + b
        }
    }
    #[inline(always)]
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
}

/// `y = f(a, b)` for comparisons; false where either is NaN.
pub fn compare<T: Element + PartialOrd>(f: BinaryFn, a: &[T], b: &[T], y: &mut [Bool]) {
    match f {
        BinaryFn::Equal => each(a, b, y, |a, b| Bool::from(a == b)),
        BinaryFn::Greater => each(b, a, y, |b, a| Bool::from(b < a)),
        BinaryFn::GreaterOrEqual => each(b, a, y, |b, a| Bool::from(b <= a)),
        BinaryFn::Less => each(a, b, y, |a, b| Bool::from(a < b)),
        _ => each(a, b, y, |a, b| Bool::from(a <= b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_never_traps() {
        assert_eq!(Number::div(i32::MIN, -1), i32::MIN);
        assert_eq!(Number::div(-7i8, 2), -3);
        assert_eq!(Number::rem(i64::MIN, -1), 0);
        assert_eq!(Number::modulo(7u8, 0), 0);
    }

    #[test]
    fn modulo_has_the_sign_of_the_divisor() {
        assert_eq!([(-7i32).modulo(3), 7i32.modulo(-3), (-6i32).modulo(3)], [2, -2, 0]);
        assert_eq!([(-7f64).modulo(3.0), 7f64.modulo(-3.0)], [2.0, -2.0]);
        assert_eq!(1f64.modulo(f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!(0f64.modulo(-3.0).is_sign_negative() && (-0f64).modulo(3.0).is_sign_positive());
        assert!(1f64.modulo(0.0).is_nan() && f64::INFINITY.modulo(2.0).is_nan());
    }

    #[test]
    fn shifts_beyond_the_width_leave_the_sign() {
        assert_eq!([Int::shr(-8i8, 1), Int::shr(-8i8, 8), Int::shr(-8i8, -1)], [-4, -1, -1]);
        assert_eq!([Int::shl(1i8, 7), Int::shl(1i8, 8), Int::shl(1i8, -1)], [-128, 0, 0]);
        assert_eq!([Int::shr(255u8, 7), Int::shr(255u8, 8)], [1, 0]);
    }

    #[test]
    fn powers_of_integers_wrap_and_round() {
        assert_eq!([Int::pow(3i32, 4), Int::pow(2i32, -1), Int::pow(-1i32, -3)], [81, 0, -1]);
        assert_eq!([Int::pow(2u8, 8), Int::pow(255u8, -1), Int::pow(0u8, 0)], [0, 0, 1]);
    }

    #[test]
    fn the_larger_of_nan_is_nan() {
        assert!(Number::max(f64::NAN, 1.0).is_nan() && Number::max(1.0, f64::NAN).is_nan());
        assert!(Number::min(f64::NAN, 1.0).is_nan() && Number::min(1.0, f64::NAN).is_nan());
    }
}
