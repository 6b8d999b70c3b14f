//! Codes: which integers stand for which numbers.
//!
//! code = saturate(round(x / scale) + zero), x ≈ (code - zero) · scale, round half to even

use rinfer::DType;

/// The integers that codes are, and how they lie about zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// Bits of a code: 4, 8 or 16.
    pub bits: u32,
    /// Whether codes may be negative.
    pub signed: bool,
    /// Whether the zero point is the middle of the codes, so that x and -x have equal steps.
    pub symmetric: bool,
}

impl Scheme {
    /// Signed symmetric codes of 8 bits: what weights are by default.
    pub const INT8: Scheme = Scheme { bits: 8, signed: true, symmetric: true };
    /// Unsigned codes of 8 bits with a zero point: what activations are by default.
    pub const UINT8: Scheme = Scheme { bits: 8, signed: false, symmetric: false };
    /// Unsigned codes of 16 bits with a zero point.
    pub const UINT16: Scheme = Scheme { bits: 16, signed: false, symmetric: false };

    /// The type of the codes.
    pub fn dtype(self) -> DType {
        match (self.bits, self.signed) {
            (4, true) => DType::I4,
            (4, false) => DType::U4,
            (16, true) => DType::I16,
            (16, false) => DType::U16,
            (_, true) => DType::I8,
            (_, false) => DType::U8,
        }
    }

    /// The least and the greatest code.
    pub fn limits(self) -> (i32, i32) {
        let n = 1i32 << self.bits;
        if self.signed { (-n / 2, n / 2 - 1) } else { (0, n - 1) }
    }

    /// Scale and zero point for numbers from `lo` to `hi`; zero always has a code of its own.
    ///
    /// Symmetric signed codes leave the least one out: ±127 for 8 bits.
    pub fn fit(self, lo: f32, hi: f32) -> Params {
        let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
        let (lo, hi) = (finite(lo).min(0.0), finite(hi).max(0.0));
        let (least, most) = self.limits();
        let steps = (most - least) as f32;
        if self.symmetric {
            let zero = if self.signed { 0 } else { (least + most + 1) / 2 };
            let scale = usable(lo.abs().max(hi) / ((most - least) / 2) as f32);
            return Params { scale, zero, scheme: self };
        }
        // Half of each, so that the widest range of floats does not overflow.
        let scale = usable((hi / 2.0 - lo / 2.0) / (steps / 2.0));
        let zero = (least as f32 - lo / scale).round_ties_even();
        Params { scale, zero: (zero as i32).clamp(least, most), scheme: self }
    }
}

/// A scale that can be divided by: that of nothing but zeros is 1.
pub(crate) fn usable(scale: f32) -> f32 {
    if scale >= f32::MIN_POSITIVE && scale.is_finite() { scale } else { 1.0 }
}

/// Scale and zero point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// The distance of two neighbouring codes.
    pub scale: f32,
    /// The code of zero.
    pub zero: i32,
    /// What the codes are.
    pub scheme: Scheme,
}

impl Params {
    /// The code of `x`.
    pub fn code(&self, x: f32) -> i32 {
        let (least, most) = self.scheme.limits();
        // `as` saturates, and makes zero of NaN.
        let code = ((x / self.scale).round_ties_even() as i32).saturating_add(self.zero);
        code.clamp(least, most)
    }

    /// The number that a code stands for.
    pub fn number(&self, code: i32) -> f32 {
        (code - self.zero) as f32 * self.scale
    }

    /// What becomes of `x`.
    pub fn round(&self, x: f32) -> f32 {
        self.number(self.code(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_exact_and_the_ends_are_reached() {
        let p = Scheme::UINT8.fit(-1.0, 3.0);
        assert_eq!((p.round(0.0), p.code(-1.0), p.code(3.0)), (0.0, 0, 255));
        assert!((p.round(3.0) - 3.0).abs() <= p.scale / 2.0 + 1e-6);
        let s = Scheme::INT8.fit(-2.0, 1.0);
        assert_eq!((s.zero, s.code(-2.0), s.code(2.0), s.scale), (0, -127, 127, 2.0 / 127.0));
    }

    #[test]
    fn a_range_without_zero_gets_it() {
        let p = Scheme::UINT8.fit(2.0, 4.0);
        assert_eq!((p.zero, p.scale), (0, 4.0 / 255.0));
        assert_eq!(Scheme::UINT8.fit(0.0, 0.0).scale, 1.0);
        assert!(Scheme::UINT8.fit(f32::MIN, f32::MAX).scale.is_finite());
    }

    #[test]
    fn what_is_out_of_range_saturates() {
        let p = Scheme::UINT8.fit(0.0, 1.0);
        assert_eq!((p.code(9.0), p.code(-9.0), p.code(f32::NAN)), (255, 0, 0));
        assert_eq!(p.code(f32::INFINITY), 255);
    }
}
