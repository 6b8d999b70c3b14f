//! The 8-bit and 4-bit floating-point formats of ONNX (spec: "Float stored in 8 bits").
//!
//! | format | exponent | mantissa | bias | inf | NaN |
//! |---|--:|--:|--:|---|---|
//! | E4M3FN | 4 | 3 | 7 | no | S.1111.111 |
//! | E4M3FNUZ | 4 | 3 | 8 | no | 0x80 |
//! | E5M2 | 5 | 2 | 15 | S.11111.00 | S.11111.{01,10,11} |
//! | E5M2FNUZ | 5 | 2 | 16 | no | 0x80 |
//! | E8M0 | 8 | 0 | 127 | no | 0xff |
//! | E2M1 (4 bits) | 2 | 1 | 1 | no | none |

/// The layout of a small float: how many bits, and what its top codes mean.
#[derive(Clone, Copy, Debug)]
struct Format {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    /// The largest finite value's code, sign bit clear.
    max: u8,
    /// The code of infinity, where there is one.
    inf: Option<u8>,
    /// The code that a NaN becomes.
    nan: u8,
    /// `FNUZ`: no negative zero; 0x80 is NaN.
    unsigned_zero: bool,
}

const E4M3FN: Format = Format {
    exponent: 4,
    mantissa: 3,
    bias: 7,
    max: 0x7e,
    inf: None,
    nan: 0x7f,
    unsigned_zero: false,
};
const E4M3FNUZ: Format = Format {
    exponent: 4,
    mantissa: 3,
    bias: 8,
    max: 0x7f,
    inf: None,
    nan: 0x80,
    unsigned_zero: true,
};
const E5M2: Format = Format {
    exponent: 5,
    mantissa: 2,
    bias: 15,
    max: 0x7b,
    inf: Some(0x7c),
    nan: 0x7e,
    unsigned_zero: false,
};
const E5M2FNUZ: Format = Format {
    exponent: 5,
    mantissa: 2,
    bias: 16,
    max: 0x7f,
    inf: None,
    nan: 0x80,
    unsigned_zero: true,
};

impl Format {
    fn decode(self, code: u8) -> f32 {
        let (sign, magnitude) = (if code & 0x80 != 0 { -1.0 } else { 1.0 }, code & 0x7f);
        if self.unsigned_zero && code == 0x80 {
            return f32::NAN;
        }
        if self.inf == Some(magnitude) {
            return sign * f32::INFINITY;
        }
        if magnitude > self.max {
            return f32::NAN;
        }
        sign * self.magnitude(magnitude)
    }

    /// The value of a finite code with the sign bit clear.
    fn magnitude(self, code: u8) -> f32 {
        let mantissa = (code & ((1 << self.mantissa) - 1)) as f32 / (1u32 << self.mantissa) as f32;
        let exponent = (code >> self.mantissa) as i32;
        debug_assert!(exponent < 1 << self.exponent);
        match exponent {
            0 => mantissa * 2f32.powi(1 - self.bias),
            e => (1.0 + mantissa) * 2f32.powi(e - self.bias),
        }
    }

    /// Rounds to the nearest, ties to even; out of range saturates or becomes inf/NaN.
    fn encode(self, x: f32, saturate: bool) -> u8 {
        let sign = if x.is_sign_negative() { 0x80 } else { 0 };
        if x.is_nan() {
            return self.nan | if self.unsigned_zero { 0 } else { sign };
        }
        let code = round_to_code(x.abs() as f64, self.mantissa, self.bias);
        let code = if x.is_infinite() || code > self.max as u32 {
            match (saturate, self.inf) {
                (true, _) => self.max,
                (false, Some(inf)) => inf,
                (false, None) => return self.nan | if self.unsigned_zero { 0 } else { sign },
            }
        } else {
            code as u8
        };
        if code == 0 && self.unsigned_zero { 0 } else { sign | code }
    }
}

/// The code of `x ≥ 0` in a format with unlimited exponents: nearest, ties to even.
fn round_to_code(x: f64, mantissa: u32, bias: i32) -> u32 {
    if x == 0.0 {
        return 0;
    }
    let exponent = ((x.to_bits() >> 52) as i32 - 1023).max(1 - bias);
    // In units of the last place a code is an integer, and codes of one exponent are consecutive.
    let steps = (x * 2f64.powi(mantissa as i32 - exponent)).round_ties_even();
    if steps > 1e9 || exponent > 200 {
        return u32::MAX;
    }
    let below = ((exponent + bias - 1) as u32) << mantissa;
    below + steps as u32
}

macro_rules! float8 {
    ($($(#[$doc:meta])* $name:ident = $format:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[derive(bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(transparent)]
        pub struct $name(pub u8);

        impl $name {
            /// The value it stands for; exact.
            pub fn to_f32(self) -> f32 {
                $format.decode(self.0)
            }
            /// The nearest value, ties to even; what is out of range saturates to the largest
            /// finite value, or becomes infinity (NaN where there is none).
            pub fn from_f32(x: f32, saturate: bool) -> $name {
                $name($format.encode(x, saturate))
            }
        }
    )* };
}
float8! {
    /// 1 sign, 4 exponent, 3 mantissa bits; finite, NaN at the top.
    F8E4M3FN = E4M3FN;
    /// 1 sign, 4 exponent, 3 mantissa bits; no negative zero, NaN is 0x80.
    F8E4M3FNUZ = E4M3FNUZ;
    /// 1 sign, 5 exponent, 2 mantissa bits; IEEE-like with infinities.
    F8E5M2 = E5M2;
    /// 1 sign, 5 exponent, 2 mantissa bits; no negative zero, NaN is 0x80.
    F8E5M2FNUZ = E5M2FNUZ;
}

/// A power of two: 8 exponent bits and nothing else (OCP microscaling formats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct F8E8M0(pub u8);

/// How [`F8E8M0::from_f32`] rounds (ONNX Cast-24, attribute `round_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Round {
    /// Away from zero: the next power of two at or above.
    #[default]
    Up,
    /// Towards zero: the power of two at or below.
    Down,
    /// The nearest power of two, ties up.
    Nearest,
}

impl F8E8M0 {
    /// The value it stands for; exact (the smallest is subnormal in `f32`).
    pub fn to_f32(self) -> f32 {
        match self.0 {
            0xff => f32::NAN,
            code => (2f64.powi(code as i32 - 127)) as f32,
        }
    }

    /// The power of two that stands for `|x|`; NaN and infinity (unless saturated) become NaN.
    pub fn from_f32(x: f32, saturate: bool, round: Round) -> F8E8M0 {
        if x.is_nan() || (x.is_infinite() && !saturate) {
            return F8E8M0(0xff);
        }
        if x.is_infinite() {
            return F8E8M0(0xfe);
        }
        let x = (x as f64).abs();
        if x == 0.0 {
            return F8E8M0(0);
        }
        let exponent = (x.to_bits() >> 52) as i32 - 1023;
        let fraction = x / 2f64.powi(exponent);
        let up = match round {
            Round::Up => fraction > 1.0,
            Round::Down => false,
            Round::Nearest => fraction >= 1.5,
        };
        let code = exponent + up as i32 + 127;
        match (code, saturate) {
            (..=0, _) => F8E8M0(0),
            (255.., true) => F8E8M0(0xfe),
            (255.., false) => F8E8M0(0xff),
            (code, _) => F8E8M0(code as u8),
        }
    }
}

/// The sixteen values of float4e2m1 by code.
pub const F4E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The float4e2m1 code nearest to `x`, ties to even, saturating at ±6; NaN, which the format does
/// not have, becomes -0 as in ONNX's tests of Cast.
pub fn f4e2m1_from_f32(x: f32) -> u8 {
    if x.is_nan() {
        return 8;
    }
    let sign = if x.is_sign_negative() { 8 } else { 0 };
    sign | round_to_code(x.abs().min(6.0) as f64, 1, 1).min(7) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_code_survives_the_round_trip() {
        for code in 0..=255u8 {
            let (a, b) = (F8E4M3FN(code), F8E5M2(code));
            let (c, d) = (F8E4M3FNUZ(code), F8E5M2FNUZ(code));
            if a.to_f32().is_finite() {
                assert_eq!(F8E4M3FN::from_f32(a.to_f32(), true), a)
            }
            if b.to_f32().is_finite() {
                assert_eq!(F8E5M2::from_f32(b.to_f32(), true), b)
            }
            if c.to_f32().is_finite() {
                assert_eq!(F8E4M3FNUZ::from_f32(c.to_f32(), true), c)
            }
            if d.to_f32().is_finite() {
                assert_eq!(F8E5M2FNUZ::from_f32(d.to_f32(), true), d)
            }
        }
        for code in 0..16u8 {
            assert_eq!(f4e2m1_from_f32(F4E2M1[code as usize]), code);
        }
    }

    #[test]
    fn largest_values_are_those_of_the_spec() {
        assert_eq!(F8E4M3FN(0x7e).to_f32(), 448.0);
        assert_eq!(F8E4M3FNUZ(0x7f).to_f32(), 240.0);
        assert_eq!(F8E5M2(0x7b).to_f32(), 57344.0);
        assert_eq!(F8E5M2FNUZ(0x7f).to_f32(), 57344.0);
    }

    #[test]
    fn overflow_saturates_only_when_asked() {
        assert_eq!(F8E4M3FN::from_f32(1e6, true).to_f32(), 448.0);
        assert!(F8E4M3FN::from_f32(1e6, false).to_f32().is_nan());
        assert_eq!(F8E5M2::from_f32(-1e6, false).to_f32(), f32::NEG_INFINITY);
    }

    #[test]
    fn ties_go_to_even() {
        assert_eq!(f4e2m1_from_f32(2.5), 4);
        assert_eq!(f4e2m1_from_f32(3.5), 6);
        assert_eq!(F8E8M0::from_f32(1.5, true, Round::Nearest).to_f32(), 2.0);
        assert_eq!(F8E8M0::from_f32(1.25, true, Round::Up).to_f32(), 2.0);
    }
}
