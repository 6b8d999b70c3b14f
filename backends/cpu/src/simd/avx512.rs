//! AVX-512 F, BW, VL and DQ, on top of AVX2, FMA and F16C: 16 lanes.

use super::x86::{Avx2, F32x8, I32x8, convert, methods, operators, unary};
use super::{F32s, I32s, MAX_LANES, Mask, Simd};
use half::f16;
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Sub};

/// Proof that the CPU has AVX-512 F, BW, VL and DQ besides AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx512 {
    vnni: bool,
    bf16: bool,
}

impl Avx512 {
    /// The token, if the CPU has the features.
    pub fn detect() -> Option<Avx512> {
        let has = Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        has.then(|| Avx512 {
            vnni: is_x86_feature_detected!("avx512vnni"),
            bf16: is_x86_feature_detected!("avx512bf16"),
        })
    }

    /// The CPU multiplies bytes into 32-bit sums (VNNI).
    pub fn has_vnni(self) -> bool {
        self.vnni
    }

    /// The CPU multiplies bfloat16 pairs into 32-bit floats.
    pub fn has_bf16(self) -> bool {
        self.bf16
    }
}

/// 16 × `f32`.
#[derive(Clone, Copy, Debug)]
pub struct F32x16(__m512);
/// 16 × `i32`.
#[derive(Clone, Copy, Debug)]
pub struct I32x16(pub(super) __m512i);
/// 16 truth values.
#[derive(Clone, Copy, Debug)]
pub struct Mask16(__mmask16);

// SAFETY of every block below: a vector or mask is only made through a token, a token only where
// its features were seen, and each intrinsic needs no other features. Loads and stores touch
// exactly the lanes of a slice whose length was checked in the line before.

operators! { F32x16: Add add _mm512_add_ps; Sub sub _mm512_sub_ps; Mul mul _mm512_mul_ps;
Div div _mm512_div_ps; }
operators! { I32x16: Add add _mm512_add_epi32; Sub sub _mm512_sub_epi32;
Mul mul _mm512_mullo_epi32; BitAnd bitand _mm512_and_si512; BitOr bitor _mm512_or_si512;
BitXor bitxor _mm512_xor_si512; }
operators! { Mask16: BitAnd bitand _kand_mask16; BitOr bitor _kor_mask16;
BitXor bitxor _kxor_mask16; }

unary! {
    F32x16 Neg neg a => _mm512_xor_ps(a, _mm512_set1_ps(-0.0));
    I32x16 Not not a => _mm512_xor_si512(a, _mm512_set1_epi32(-1));
    Mask16 Not not a => _knot_mask16(a);
}

impl Simd for Avx512 {
    type F32 = F32x16;
    type I32 = I32x16;
    type Mask = Mask16;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline]
    fn call<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
        fn go<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: a token is only made by `detect`, which saw these features.
        unsafe { go(f) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        F32x16(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> I32x16 {
        I32x16(unsafe { _mm512_set1_epi32(x) })
    }
    #[inline(always)]
    fn iota(self) -> I32x16 {
        I32x16(unsafe { _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) })
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> F32x16 {
        let src = &src[..16];
        F32x16(unsafe { _mm512_loadu_ps(src.as_ptr()) })
    }
    #[inline(always)]
    fn load_i32(self, src: &[i32]) -> I32x16 {
        let src = &src[..16];
        I32x16(unsafe { _mm512_loadu_si512(src.as_ptr().cast()) })
    }
    #[inline(always)]
    fn load_u16(self, src: &[u16]) -> I32x16 {
        let src = &src[..16];
        I32x16(unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(src.as_ptr().cast())) })
    }
    #[inline(always)]
    fn load_u8(self, src: &[u8]) -> I32x16 {
        let src = &src[..16];
        I32x16(unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(src.as_ptr().cast())) })
    }
    #[inline(always)]
    fn load_partial(self, src: &[f32], fill: f32) -> F32x16 {
        if src.len() >= 16 {
            return self.load(src);
        }
        let lanes = self.first(src.len());
        // A masked load reads only the lanes that the mask names.
        F32x16(unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), lanes.0, src.as_ptr()) })
    }
    #[inline(always)]
    fn low_bits<const BITS: u32>(self, x: I32x16) -> F32x16 {
        if BITS == 8 {
            return (x & self.splat_i32(0xff)).to_f32();
        }
        // A table is looked up with the low four bits of an index: one instruction instead of two.
        let number = self.iota() & self.splat_i32((1 << BITS) - 1);
        F32x16(unsafe { _mm512_permutexvar_ps(x.0, number.to_f32().0) })
    }
    #[inline(always)]
    fn first(self, n: usize) -> Mask16 {
        Mask16(((1u32 << n.min(16)) - 1) as u16)
    }
    #[inline(always)]
    fn scale(self, x: F32x16, n: F32x16) -> F32x16 {
        F32x16(unsafe { _mm512_scalef_ps(x.0, n.0) })
    }
    #[inline(always)]
    fn prefetch(self, src: &[f32], at: usize) {
        // A prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(src.as_ptr().wrapping_add(at).cast()) }
    }
    #[inline(always)]
    fn zip(self, a: F32x16, b: F32x16) -> (F32x16, F32x16) {
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            let pick = |lanes| F32x16(_mm512_permutex2var_ps(a.0, lanes, b.0));
            (pick(low), pick(high))
        }
    }
    #[inline(always)]
    fn unzip(self, a: F32x16, b: F32x16) -> (F32x16, F32x16) {
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            let pick = |lanes| F32x16(_mm512_permutex2var_ps(a.0, lanes, b.0));
            (pick(even), pick(odd))
        }
    }
    #[inline(always)]
    fn transpose(self, block: &mut [F32x16; MAX_LANES]) {
        let mut quad = [self.splat(0.0).0; 16];
        // 4 x 4 within each quarter of four rows: quarter q of quad[i + j] holds column 4q + j.
        for i in [0, 4, 8, 12] {
            let [a, b, c, d] = [block[i].0, block[i + 1].0, block[i + 2].0, block[i + 3].0];
            unsafe {
                let (ac, bd) = (_mm512_unpacklo_ps(a, c), _mm512_unpacklo_ps(b, d));
                let (ac2, bd2) = (_mm512_unpackhi_ps(a, c), _mm512_unpackhi_ps(b, d));
                quad[i] = _mm512_unpacklo_ps(ac, bd);
                quad[i + 1] = _mm512_unpackhi_ps(ac, bd);
                quad[i + 2] = _mm512_unpacklo_ps(ac2, bd2);
                quad[i + 3] = _mm512_unpackhi_ps(ac2, bd2);
            }
        }
        // Then 4 x 4 of quarters.
        for j in 0..4 {
            let [a, b, c, d] = [quad[j], quad[j + 4], quad[j + 8], quad[j + 12]];
            unsafe {
                let ab = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
                let cd = _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d);
                let ab2 = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
                let cd2 = _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d);
                block[j] = F32x16(_mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd));
                block[j + 4] = F32x16(_mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd));
                block[j + 8] = F32x16(_mm512_shuffle_f32x4::<0b10_00_10_00>(ab2, cd2));
                block[j + 12] = F32x16(_mm512_shuffle_f32x4::<0b11_01_11_01>(ab2, cd2));
            }
        }
    }
    #[inline(always)]
    fn load_f16(self, src: &[f16]) -> F32x16 {
        let src = &src[..16];
        F32x16(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(src.as_ptr().cast())) })
    }
    #[inline(always)]
    fn store_f16(self, x: F32x16, dst: &mut [f16]) {
        let dst = &mut dst[..16];
        unsafe {
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.0);
            _mm256_storeu_si256(dst.as_mut_ptr().cast(), half);
        }
    }
}

impl F32x16 {
    #[inline(always)]
    fn halves(self) -> (F32x8, F32x8) {
        let high = unsafe { _mm512_extractf32x8_ps::<1>(self.0) };
        (F32x8(unsafe { _mm512_castps512_ps256(self.0) }), F32x8(high))
    }
}

impl F32s<Avx512> for F32x16 {
    #[inline(always)]
    fn store(self, dst: &mut [f32]) {
        let dst = &mut dst[..16];
        unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_partial(self, dst: &mut [f32]) {
        // A masked store is slow even with a full mask, and so is a load of what it wrote.
        if dst.len() >= 16 {
            return self.store(dst);
        }
        let lanes = ((1u32 << dst.len().min(16)) - 1) as u16;
        // A masked store writes only the lanes that the mask names.
        unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), lanes, self.0) }
    }
    methods! { F32x16:
        mul_add(b, c) = _mm512_fmadd_ps;
        max(b) = _mm512_max_ps;
        min(b) = _mm512_min_ps;
        abs() = _mm512_abs_ps;
        sqrt() = _mm512_sqrt_ps;
        floor() = _mm512_roundscale_floor;
        ceil() = _mm512_roundscale_ceil;
        trunc() = _mm512_roundscale_trunc;
        round_even() = _mm512_roundscale_even;
    }
    convert! {
        round_i32 -> I32x16 = _mm512_cvtps_epi32;
        trunc_i32 -> I32x16 = _mm512_cvttps_epi32;
        bits -> I32x16 = _mm512_castps_si512;
    }
    #[inline(always)]
    fn lt(self, b: Self) -> Mask16 {
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0) })
    }
    #[inline(always)]
    fn le(self, b: Self) -> Mask16 {
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, b.0) })
    }
    #[inline(always)]
    fn eq(self, b: Self) -> Mask16 {
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, b.0) })
    }
    #[inline(always)]
    fn reduce_add(self) -> f32 {
        let (low, high) = self.halves();
        (low + high).reduce_add()
    }
    #[inline(always)]
    fn reduce_max(self) -> f32 {
        if self.is_nan().any() {
            return f32::NAN;
        }
        let (low, high) = self.halves();
        low.max(high).reduce_max()
    }
    #[inline(always)]
    fn reduce_min(self) -> f32 {
        -(-self).reduce_max()
    }
}

macro_rules! roundscale {
    ($($name:ident = $mode:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name(x: __m512) -> __m512 {
            unsafe { _mm512_roundscale_ps::<{ $mode | _MM_FROUND_NO_EXC }>(x) }
        })*
    };
}
roundscale! {
    _mm512_roundscale_floor = _MM_FROUND_TO_NEG_INF;
    _mm512_roundscale_ceil = _MM_FROUND_TO_POS_INF;
    _mm512_roundscale_trunc = _MM_FROUND_TO_ZERO;
    _mm512_roundscale_even = _MM_FROUND_TO_NEAREST_INT;
}

impl I32s<Avx512> for I32x16 {
    #[inline(always)]
    fn store(self, dst: &mut [i32]) {
        let dst = &mut dst[..16];
        unsafe { _mm512_storeu_si512(dst.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn store_u8(self, dst: &mut [u8]) {
        let dst = &mut dst[..16];
        unsafe { _mm_storeu_si128(dst.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(self.0)) }
    }
    #[inline(always)]
    fn store_u8_partial(self, dst: &mut [u8]) {
        if dst.len() >= 16 {
            return self.store_u8(dst);
        }
        let lanes = ((1u32 << dst.len().min(16)) - 1) as u16;
        // A masked store writes only the lanes that the mask names.
        unsafe { _mm512_mask_cvtepi32_storeu_epi8(dst.as_mut_ptr().cast(), lanes, self.0) }
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut [u16]) {
        let dst = &mut dst[..16];
        unsafe { _mm256_storeu_si256(dst.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(self.0)) }
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        I32x16(unsafe { _mm512_slli_epi32::<N>(self.0) })
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        I32x16(unsafe { _mm512_srli_epi32::<N>(self.0) })
    }
    #[inline(always)]
    fn sar<const N: u32>(self) -> Self {
        I32x16(unsafe { _mm512_srai_epi32::<N>(self.0) })
    }
    methods! { I32x16: max(b) = _mm512_max_epi32; min(b) = _mm512_min_epi32; }
    convert! { to_f32 -> F32x16 = _mm512_cvtepi32_ps; as_f32 -> F32x16 = _mm512_castsi512_ps; }
    #[inline(always)]
    fn eq(self, b: Self) -> Mask16 {
        Mask16(unsafe { _mm512_cmpeq_epi32_mask(self.0, b.0) })
    }
    #[inline(always)]
    fn gt(self, b: Self) -> Mask16 {
        Mask16(unsafe { _mm512_cmpgt_epi32_mask(self.0, b.0) })
    }
    #[inline(always)]
    fn reduce_add(self) -> i32 {
        let high = unsafe { _mm512_extracti32x8_epi32::<1>(self.0) };
        (I32x8(unsafe { _mm512_castsi512_si256(self.0) }) + I32x8(high)).reduce_add()
    }
}

impl Mask<Avx512> for Mask16 {
    #[inline(always)]
    fn select(self, a: F32x16, b: F32x16) -> F32x16 {
        F32x16(unsafe { _mm512_mask_blend_ps(self.0, b.0, a.0) })
    }
    #[inline(always)]
    fn select_i32(self, a: I32x16, b: I32x16) -> I32x16 {
        I32x16(unsafe { _mm512_mask_blend_epi32(self.0, b.0, a.0) })
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.0.into()
    }
}
