//! AVX2 with FMA and F16C: 8 lanes.

use super::{F32s, I32s, MAX_LANES, Mask, Simd};
use half::f16;
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Sub};

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The token, if the CPU has the features.
    pub fn detect() -> Option<Avx2> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }
}

/// 8 × `f32`.
#[derive(Clone, Copy, Debug)]
pub struct F32x8(pub(super) __m256);
/// 8 × `i32`.
#[derive(Clone, Copy, Debug)]
pub struct I32x8(pub(super) __m256i);
/// 8 truth values: all bits of a lane, or none.
#[derive(Clone, Copy, Debug)]
pub struct Mask8(__m256);
// SAFETY of every block below: a vector or mask is only made through a token, a token only where
// its features were seen, and each intrinsic needs no other features. Loads and stores touch
// exactly the lanes of a slice whose length was checked in the line before.

macro_rules! operators {
    ($V:ident: $($Op:ident $op:ident $intrinsic:ident;)*) => {
        $(impl $Op for $V {
            type Output = $V;
            #[inline(always)]
            fn $op(self, b: $V) -> $V {
                $V(unsafe { $intrinsic(self.0, b.0) })
            }
        })*
    };
}
macro_rules! methods {
    ($V:ident: $($name:ident($($b:ident),*) = $intrinsic:ident;)*) => {
        $(#[inline(always)]
        fn $name(self $(, $b: $V)*) -> $V {
            $V(unsafe { $intrinsic(self.0 $(, $b.0)*) })
        })*
    };
}
macro_rules! convert {
    ($($name:ident -> $To:ident = $intrinsic:ident;)*) => {
        $(#[inline(always)]
        fn $name(self) -> $To {
            $To(unsafe { $intrinsic(self.0) })
        })*
    };
}

macro_rules! unary {
    ($($V:ident $Op:ident $op:ident $a:ident => $e:expr;)*) => {
        $(impl $Op for $V {
            type Output = $V;
            #[inline(always)]
            fn $op(self) -> $V {
                let $a = self.0;
                $V(unsafe { $e })
            }
        })*
    };
}
pub(super) use {convert, methods, operators, unary};

operators! { F32x8: Add add _mm256_add_ps; Sub sub _mm256_sub_ps; Mul mul _mm256_mul_ps;
Div div _mm256_div_ps; }
operators! { I32x8: Add add _mm256_add_epi32; Sub sub _mm256_sub_epi32;
Mul mul _mm256_mullo_epi32; BitAnd bitand _mm256_and_si256; BitOr bitor _mm256_or_si256;
BitXor bitxor _mm256_xor_si256; }
operators! { Mask8: BitAnd bitand _mm256_and_ps; BitOr bitor _mm256_or_ps;
BitXor bitxor _mm256_xor_ps; }
unary! {
    F32x8 Neg neg a => _mm256_xor_ps(a, _mm256_set1_ps(-0.0));
    I32x8 Not not a => _mm256_xor_si256(a, _mm256_set1_epi32(-1));
    Mask8 Not not a => _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
}

impl Simd for Avx2 {
    type F32 = F32x8;
    type I32 = I32x8;
    type Mask = Mask8;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline]
    fn call<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn go<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: a token is only made by `detect`, which saw these features.
        unsafe { go(f) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F32x8 {
        F32x8(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> I32x8 {
        I32x8(unsafe { _mm256_set1_epi32(x) })
    }
    #[inline(always)]
    fn iota(self) -> I32x8 {
        I32x8(unsafe { _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7) })
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> F32x8 {
        let src = &src[..8];
        F32x8(unsafe { _mm256_loadu_ps(src.as_ptr()) })
    }
    #[inline(always)]
    fn load_i32(self, src: &[i32]) -> I32x8 {
        let src = &src[..8];
        I32x8(unsafe { _mm256_loadu_si256(src.as_ptr().cast()) })
    }
    #[inline(always)]
    fn load_u16(self, src: &[u16]) -> I32x8 {
        let src = &src[..8];
        I32x8(unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(src.as_ptr().cast())) })
    }
    #[inline(always)]
    fn load_u8(self, src: &[u8]) -> I32x8 {
        let src = &src[..8];
        I32x8(unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(src.as_ptr().cast())) })
    }
    #[inline(always)]
    fn load_partial(self, src: &[f32], fill: f32) -> F32x8 {
        if src.len() >= 8 {
            return self.load(src);
        }
        let lanes = self.first(src.len());
        // A masked load reads only the lanes that the mask names.
        let x = unsafe { _mm256_maskload_ps(src.as_ptr(), _mm256_castps_si256(lanes.0)) };
        lanes.select(F32x8(x), self.splat(fill))
    }
    #[inline(always)]
    fn first(self, n: usize) -> Mask8 {
        let n = self.splat_i32(n.min(8) as i32);
        n.gt(self.iota())
    }
    #[inline(always)]
    fn prefetch(self, src: &[f32], at: usize) {
        // A prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(src.as_ptr().wrapping_add(at).cast()) }
    }
    #[inline(always)]
    fn zip(self, a: F32x8, b: F32x8) -> (F32x8, F32x8) {
        unsafe {
            // In turn within each half.
            let (low, high) = (_mm256_unpacklo_ps(a.0, b.0), _mm256_unpackhi_ps(a.0, b.0));
            (
                F32x8(_mm256_permute2f128_ps::<0x20>(low, high)),
                F32x8(_mm256_permute2f128_ps::<0x31>(low, high)),
            )
        }
    }
    #[inline(always)]
    fn unzip(self, a: F32x8, b: F32x8) -> (F32x8, F32x8) {
        unsafe {
            let (low, high) = (
                _mm256_permute2f128_ps::<0x20>(a.0, b.0),
                _mm256_permute2f128_ps::<0x31>(a.0, b.0),
            );
            // Lanes of a are in the lower halves of both now, lanes of b in the upper.
            (
                F32x8(_mm256_shuffle_ps::<0b10_00_10_00>(low, high)),
                F32x8(_mm256_shuffle_ps::<0b11_01_11_01>(low, high)),
            )
        }
    }
    #[inline(always)]
    fn transpose(self, block: &mut [F32x8; MAX_LANES]) {
        // Rows i and i + 4 side by side in halves, then 4 x 4 in each half.
        let mut half = [self.splat(0.0).0; 8];
        for i in 0..4 {
            let (a, b) = (block[i].0, block[i + 4].0);
            unsafe {
                half[i] = _mm256_permute2f128_ps::<0x20>(a, b);
                half[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
            }
        }
        for i in [0, 4] {
            let [a, b, c, d] = [half[i], half[i + 1], half[i + 2], half[i + 3]];
            unsafe {
                let (ac, bd) = (_mm256_unpacklo_ps(a, c), _mm256_unpacklo_ps(b, d));
                let (ac2, bd2) = (_mm256_unpackhi_ps(a, c), _mm256_unpackhi_ps(b, d));
                block[i] = F32x8(_mm256_unpacklo_ps(ac, bd));
                block[i + 1] = F32x8(_mm256_unpackhi_ps(ac, bd));
                block[i + 2] = F32x8(_mm256_unpacklo_ps(ac2, bd2));
                block[i + 3] = F32x8(_mm256_unpackhi_ps(ac2, bd2));
            }
        }
    }
    #[inline(always)]
    fn load_f16(self, src: &[f16]) -> F32x8 {
        let src = &src[..8];
        F32x8(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(src.as_ptr().cast())) })
    }
    #[inline(always)]
    fn store_f16(self, x: F32x8, dst: &mut [f16]) {
        let dst = &mut dst[..8];
        unsafe {
            let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.0);
            _mm_storeu_si128(dst.as_mut_ptr().cast(), half);
        }
    }
}

impl F32s<Avx2> for F32x8 {
    #[inline(always)]
    fn store(self, dst: &mut [f32]) {
        let dst = &mut dst[..8];
        unsafe { _mm256_storeu_ps(dst.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_partial(self, dst: &mut [f32]) {
        if dst.len() >= 8 {
            return self.store(dst);
        }
        let lanes = Avx2(()).first(dst.len());
        // A masked store writes only the lanes that the mask names.
        unsafe { _mm256_maskstore_ps(dst.as_mut_ptr(), _mm256_castps_si256(lanes.0), self.0) }
    }
    methods! { F32x8:
        mul_add(b, c) = _mm256_fmadd_ps;
        max(b) = _mm256_max_ps;
        min(b) = _mm256_min_ps;
        sqrt() = _mm256_sqrt_ps;
        floor() = _mm256_floor_ps;
        ceil() = _mm256_ceil_ps;
    }
    convert! {
        round_i32 -> I32x8 = _mm256_cvtps_epi32;
        trunc_i32 -> I32x8 = _mm256_cvttps_epi32;
        bits -> I32x8 = _mm256_castps_si256;
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F32x8(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        F32x8(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn round_even(self) -> Self {
        const MODE: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        F32x8(unsafe { _mm256_round_ps::<MODE>(self.0) })
    }
    #[inline(always)]
    fn lt(self, b: Self) -> Mask8 {
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0) })
    }
    #[inline(always)]
    fn le(self, b: Self) -> Mask8 {
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, b.0) })
    }
    #[inline(always)]
    fn eq(self, b: Self) -> Mask8 {
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, b.0) })
    }
    #[inline(always)]
    fn reduce_add(self) -> f32 {
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn reduce_max(self) -> f32 {
        if self.is_nan().any() {
            return f32::NAN;
        }
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn reduce_min(self) -> f32 {
        -(-self).reduce_max()
    }
}

impl I32s<Avx2> for I32x8 {
    #[inline(always)]
    fn store(self, dst: &mut [i32]) {
        let dst = &mut dst[..8];
        unsafe { _mm256_storeu_si256(dst.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn store_u8(self, dst: &mut [u8]) {
        let dst = &mut dst[..8];
        unsafe {
            let low = _mm256_and_si256(self.0, _mm256_set1_epi32(0xff));
            let both = _mm256_packus_epi32(low, low);
            let half = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(both));
            _mm_storel_epi64(dst.as_mut_ptr().cast(), _mm_packus_epi16(half, half));
        }
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut [u16]) {
        let dst = &mut dst[..8];
        unsafe {
            let low = _mm256_and_si256(self.0, _mm256_set1_epi32(0xffff));
            let both = _mm256_packus_epi32(low, low);
            let half = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(both));
            _mm_storeu_si128(dst.as_mut_ptr().cast(), half);
        }
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        I32x8(unsafe { _mm256_sll_epi32(self.0, _mm_cvtsi32_si128(N as i32)) })
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        I32x8(unsafe { _mm256_srl_epi32(self.0, _mm_cvtsi32_si128(N as i32)) })
    }
    #[inline(always)]
    fn sar<const N: u32>(self) -> Self {
        I32x8(unsafe { _mm256_sra_epi32(self.0, _mm_cvtsi32_si128(N as i32)) })
    }
    methods! { I32x8: max(b) = _mm256_max_epi32; min(b) = _mm256_min_epi32; }
    convert! { to_f32 -> F32x8 = _mm256_cvtepi32_ps; as_f32 -> F32x8 = _mm256_castsi256_ps; }
    #[inline(always)]
    fn eq(self, b: Self) -> Mask8 {
        Mask8(unsafe { _mm256_castsi256_ps(_mm256_cmpeq_epi32(self.0, b.0)) })
    }
    #[inline(always)]
    fn gt(self, b: Self) -> Mask8 {
        Mask8(unsafe { _mm256_castsi256_ps(_mm256_cmpgt_epi32(self.0, b.0)) })
    }
    #[inline(always)]
    fn reduce_add(self) -> i32 {
        unsafe {
            let (low, high) =
                (_mm256_castsi256_si128(self.0), _mm256_extracti128_si256::<1>(self.0));
            let x = _mm_add_epi32(low, high);
            let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
            _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b10_11_00_01>(x)))
        }
    }
}

impl Mask<Avx2> for Mask8 {
    #[inline(always)]
    fn select(self, a: F32x8, b: F32x8) -> F32x8 {
        F32x8(unsafe { _mm256_blendv_ps(b.0, a.0, self.0) })
    }
    #[inline(always)]
    fn select_i32(self, a: I32x8, b: I32x8) -> I32x8 {
        self.select(a.as_f32(), b.as_f32()).bits()
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        unsafe { _mm256_movemask_ps(self.0) as u32 }
    }
}
