//! Exact sums of products of bytes: a 32-bit lane holds as many codes as an instruction multiplies.
//!
//! Codes of the left side are unsigned bytes, those of the right side signed. Where the processor
//! multiplies bytes (AVX-512 VNNI, ARM's dotprod and i8mm; the scalar reference too) a word holds four
//! of them; elsewhere two numbers of 16 bits, for the byte products that AVX2 has saturate. Sums
//! wrap, and are the same everywhere.

#[cfg(target_arch = "aarch64")]
use super::Neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use super::Wasm;
#[cfg(target_arch = "x86_64")]
use super::{Avx2, Avx512};
use super::{I32s, Isa, Scalar, Simd};

/// How a processor sums products of bytes.
pub trait Dots: Copy + Send + Sync + 'static {
    /// Its vectors.
    type Simd: Simd;
    /// Codes in a word: 4 bytes or 2 numbers of 16 bits, the first in the low bits.
    const STEP: usize;

    /// Vector registers that [`Dots::dot`] keeps for itself.
    const KEPT: usize = 0;

    /// The token of its vectors.
    fn simd(self) -> Self::Simd;
    /// Runs `f`, compiled under its features where it is inlined.
    fn call<R>(self, f: impl FnOnce() -> R) -> R;
    /// `acc + Σ a · b` over the codes of each lane; a unsigned, b signed.
    fn dot(
        self,
        acc: <Self::Simd as Simd>::I32,
        a: <Self::Simd as Simd>::I32,
        b: <Self::Simd as Simd>::I32,
    ) -> <Self::Simd as Simd>::I32;
}

/// A way of summing products of bytes, proven to be there.
#[derive(Clone, Copy, Debug)]
pub enum Bytes {
    /// Byte by byte.
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    Scalar(Scalar),
    /// Pairs of 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Pairs of 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// Four bytes.
    #[cfg(target_arch = "x86_64")]
    Vnni(Vnni),
    /// Pairs of 16 bits.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// Four bytes, of one sign: those of the left side are shifted.
    #[cfg(target_arch = "aarch64")]
    Dotprod(Dotprod),
    /// Four bytes.
    #[cfg(target_arch = "aarch64")]
    I8mm(I8mm),
    /// Pairs of 16 bits.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Wasm(Wasm),
}

impl Bytes {
    /// The best way that an instruction set has.
    pub fn of(isa: Isa) -> Bytes {
        match isa {
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Isa::Scalar(s) => Bytes::Scalar(s),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(s) => Bytes::Avx2(s),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(s) => Vnni::new(s).map_or(Bytes::Avx512(s), Bytes::Vnni),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(s) => match (I8mm::new(s), Dotprod::new(s)) {
                (Some(d), _) => Bytes::I8mm(d),
                (None, Some(d)) => Bytes::Dotprod(d),
                (None, None) => Bytes::Neon(s),
            },
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Wasm(s) => Bytes::Wasm(s),
        }
    }

    /// Every way that this machine has.
    pub fn available() -> Vec<Bytes> {
        let mut all = Vec::new();
        for isa in Isa::available() {
            #[cfg(target_arch = "x86_64")]
            if let Isa::Avx512(s) = isa {
                all.push(Bytes::Avx512(s));
            }
            #[cfg(target_arch = "aarch64")]
            if let Isa::Neon(s) = isa {
                all.push(Bytes::Neon(s));
                all.extend(Dotprod::new(s).map(Bytes::Dotprod));
            }
            all.push(Bytes::of(isa));
        }
        all
    }

    /// Codes in a word.
    pub fn step(self) -> usize {
        crate::dots_dispatch!(self, d => step_of(d))
    }

    /// Lanes of a vector.
    pub fn lanes(self) -> usize {
        crate::dots_dispatch!(self, d => lanes_of(d))
    }

    /// Vector registers that there are for sums and codes.
    pub fn registers(self) -> usize {
        crate::dots_dispatch!(self, d => registers_of(d))
    }
}

fn step_of<D: Dots>(_: D) -> usize {
    D::STEP
}

fn lanes_of<D: Dots>(_: D) -> usize {
    D::Simd::LANES
}

fn registers_of<D: Dots>(_: D) -> usize {
    D::Simd::REGISTERS - D::KEPT
}

/// `dots_dispatch!(bytes, d => expr)`: `expr` with `d` bound to the token, compiled under its
/// features.
#[macro_export]
macro_rules! dots_dispatch {
    ($bytes:expr, $d:ident => $e:expr) => {{
        use $crate::simd::Bytes;
        match $bytes {
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Bytes::Scalar($d) => $e,
            #[cfg(target_arch = "x86_64")]
            Bytes::Avx2($d) => $crate::simd::Dots::call(
                $d,
                #[inline(always)]
                move || $e,
            ),
            #[cfg(target_arch = "x86_64")]
            Bytes::Avx512($d) => $crate::simd::Dots::call(
                $d,
                #[inline(always)]
                move || $e,
            ),
            #[cfg(target_arch = "x86_64")]
            Bytes::Vnni($d) => $crate::simd::Dots::call(
                $d,
                #[inline(always)]
                move || $e,
            ),
            #[cfg(target_arch = "aarch64")]
            Bytes::Neon($d) => $e,
            #[cfg(target_arch = "aarch64")]
            Bytes::Dotprod($d) => $e,
            #[cfg(target_arch = "aarch64")]
            Bytes::I8mm($d) => $e,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Bytes::Wasm($d) => $e,
        }
    }};
}

impl Dots for Scalar {
    type Simd = Scalar;
    const STEP: usize = 4;

    fn simd(self) -> Scalar {
        self
    }
    #[inline(always)]
    fn call<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    fn dot(
        self,
        acc: <Scalar as Simd>::I32,
        a: <Scalar as Simd>::I32,
        b: <Scalar as Simd>::I32,
    ) -> <Scalar as Simd>::I32 {
        let (a, b) = (a.reduce_add().to_le_bytes(), b.reduce_add().to_le_bytes());
        let mut sum = acc.reduce_add();
        for i in 0..4 {
            sum = sum.wrapping_add(i32::from(a[i]) * i32::from(b[i] as i8));
        }
        self.splat_i32(sum)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::avx512::I32x16;
    use super::super::x86::I32x8;
    use super::{Avx2, Avx512, Dots, Simd};
    use std::arch::x86_64::*;

    // SAFETY of every block below: a token proves the features that the intrinsics need.

    impl Dots for Avx2 {
        type Simd = Avx2;
        const STEP: usize = 2;

        #[inline(always)]
        fn simd(self) -> Avx2 {
            self
        }
        #[inline(always)]
        fn call<R>(self, f: impl FnOnce() -> R) -> R {
            Simd::call(self, f)
        }
        #[inline(always)]
        fn dot(self, acc: I32x8, a: I32x8, b: I32x8) -> I32x8 {
            I32x8(unsafe { _mm256_add_epi32(acc.0, _mm256_madd_epi16(a.0, b.0)) })
        }
    }

    impl Dots for Avx512 {
        type Simd = Avx512;
        const STEP: usize = 2;

        #[inline(always)]
        fn simd(self) -> Avx512 {
            self
        }
        #[inline(always)]
        fn call<R>(self, f: impl FnOnce() -> R) -> R {
            Simd::call(self, f)
        }
        #[inline(always)]
        fn dot(self, acc: I32x16, a: I32x16, b: I32x16) -> I32x16 {
            I32x16(unsafe { _mm512_add_epi32(acc.0, _mm512_madd_epi16(a.0, b.0)) })
        }
    }

    /// Proof that the CPU has AVX-512 VNNI on top of [`Avx512`].
    #[derive(Clone, Copy, Debug)]
    pub struct Vnni(Avx512);

    impl Vnni {
        /// The token, if the CPU has the feature.
        pub fn new(s: Avx512) -> Option<Vnni> {
            s.has_vnni().then_some(Vnni(s))
        }
    }

    impl Dots for Vnni {
        type Simd = Avx512;
        const STEP: usize = 4;

        #[inline(always)]
        fn simd(self) -> Avx512 {
            self.0
        }
        #[inline]
        fn call<R>(self, f: impl FnOnce() -> R) -> R {
            #[target_feature(
                enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"
            )]
            fn go<R>(f: impl FnOnce() -> R) -> R {
                f()
            }
            // SAFETY: a token is only made where these features were seen.
            unsafe { go(f) }
        }
        #[inline(always)]
        fn dot(self, acc: I32x16, a: I32x16, b: I32x16) -> I32x16 {
            I32x16(unsafe { _mm512_dpbusd_epi32(acc.0, a.0, b.0) })
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86::Vnni;

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::super::neon::I32x4;
    use super::{Dots, Neon};
    use std::arch::aarch64::*;
    use std::arch::{asm, is_aarch64_feature_detected};

    impl Dots for Neon {
        type Simd = Neon;
        const STEP: usize = 2;

        #[inline(always)]
        fn simd(self) -> Neon {
            self
        }
        #[inline(always)]
        fn call<R>(self, f: impl FnOnce() -> R) -> R {
            f()
        }
        #[inline(always)]
        fn dot(self, acc: I32x4, a: I32x4, b: I32x4) -> I32x4 {
            // SAFETY: the token proves NEON, and no other feature is needed.
            I32x4(unsafe {
                let (a, b) = (vreinterpretq_s16_s32(a.0), vreinterpretq_s16_s32(b.0));
                let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
                vaddq_s32(acc.0, vpaddq_s32(low, vmull_high_s16(a, b)))
            })
        }
    }

    // Rust has no stable functions for what follows.
    macro_rules! four_bytes {
        ($(#[$doc:meta])* $Token:ident, $feature:tt, $name:ident = $instruction:tt) => {
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $Token(Neon);

            impl $Token {
                /// The token, if the CPU has the feature.
                pub fn new(s: Neon) -> Option<$Token> {
                    is_aarch64_feature_detected!($feature).then_some($Token(s))
                }

                /// `acc + Σ a · b` over the four bytes of each lane.
                #[inline(always)]
                fn $name(self, mut acc: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
                    // SAFETY: the token proves the instruction, which touches nothing but registers.
                    unsafe {
                        asm!(
                            concat!(".arch_extension ", $feature),
                            concat!($instruction, " {0:v}.4s, {1:v}.16b, {2:v}.16b"),
                            inout(vreg) acc,
                            in(vreg) a,
                            in(vreg) b,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                    }
                    acc
                }
            }
        };
    }
    four_bytes! {
        /// Proof that the CPU multiplies signed bytes by signed ones (dotprod).
        Dotprod, "dotprod", signed = "sdot"
    }
    four_bytes! {
        /// Proof that the CPU multiplies unsigned bytes by signed ones (i8mm).
        I8mm, "i8mm", mixed = "usdot"
    }

    impl Dots for Dotprod {
        type Simd = Neon;
        const STEP: usize = 4;
        const KEPT: usize = 8;

        #[inline(always)]
        fn simd(self) -> Neon {
            self.0
        }
        #[inline(always)]
        fn call<R>(self, f: impl FnOnce() -> R) -> R {
            f()
        }
        /// Σ a·b = Σ (a - 128)·b + 128 · Σ b, where the last sum is the same in each row of a tile.
        #[inline(always)]
        fn dot(self, acc: I32x4, a: I32x4, b: I32x4) -> I32x4 {
            // SAFETY: as above.
            let [top, half, none] =
                unsafe { [0x8080_8080u32 as i32, 0x4040_4040, 0].map(|x| vdupq_n_s32(x)) };
            let shifted = self.signed(acc.0, unsafe { veorq_s32(a.0, top) }, b.0);
            let rest = self.signed(self.signed(none, half, b.0), half, b.0);
            I32x4(unsafe { vaddq_s32(shifted, rest) })
        }
    }

    impl Dots for I8mm {
        type Simd = Neon;
        const STEP: usize = 4;

        #[inline(always)]
        fn simd(self) -> Neon {
            self.0
        }
        #[inline(always)]
        fn call<R>(self, f: impl FnOnce() -> R) -> R {
            f()
        }
        #[inline(always)]
        fn dot(self, acc: I32x4, a: I32x4, b: I32x4) -> I32x4 {
            I32x4(self.mixed(acc.0, a.0, b.0))
        }
    }
}
#[cfg(target_arch = "aarch64")]
pub use neon::{Dotprod, I8mm};

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use super::super::wasm::I32x4;
    use super::{Dots, Wasm};
    use std::arch::wasm32::*;

    impl Dots for Wasm {
        type Simd = Wasm;
        const STEP: usize = 2;

        #[inline(always)]
        fn simd(self) -> Wasm {
            self
        }
        #[inline(always)]
        fn call<R>(self, f: impl FnOnce() -> R) -> R {
            f()
        }
        #[inline(always)]
        fn dot(self, acc: I32x4, a: I32x4, b: I32x4) -> I32x4 {
            I32x4(i32x4_add(acc.0, i32x4_dot_i16x8(a.0, b.0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_codes_are_summed_exactly() {
        for bytes in Bytes::available() {
            let step = bytes.step();
            let word = |code: i16| match step {
                4 => i32::from_le_bytes([code as u8; 4]),
                _ => i32::from(code as u16) | i32::from(code) << 16,
            };
            let (a, b) = (word(255), word(-128));
            let sum = crate::dots_dispatch!(bytes, d => {
                let s = d.simd();
                let dot = d.dot(s.splat_i32(7), s.splat_i32(a), s.splat_i32(b));
                d.dot(dot, s.splat_i32(a), s.splat_i32(word(127))).reduce_add()
            });
            assert_eq!(sum, bytes.lanes() as i32 * (7 - step as i32 * 255), "{bytes:?}");
        }
    }
}
