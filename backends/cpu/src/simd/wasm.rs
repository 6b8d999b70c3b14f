//! WebAssembly's simd128: 4 lanes, no fused multiply-add.

use super::{F32s, I32s, MAX_LANES, Mask, Simd};
use std::arch::wasm32::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Sub};

/// Proof that the module was compiled with simd128.
#[derive(Clone, Copy, Debug)]
pub struct Wasm(());

impl Wasm {
    /// The token: this file is only compiled with the feature.
    pub const fn always() -> Wasm {
        Wasm(())
    }
}

/// 4 × `f32`.
#[derive(Clone, Copy, Debug)]
pub struct F32x4(v128);
/// 4 × `i32`.
#[derive(Clone, Copy, Debug)]
pub struct I32x4(pub(super) v128);
/// 4 truth values: all bits of a lane, or none.
#[derive(Clone, Copy, Debug)]
pub struct Mask4(v128);

macro_rules! operators {
    ($V:ident: $($Op:ident $op:ident $intrinsic:ident;)*) => {
        $(impl $Op for $V {
            type Output = $V;
            #[inline(always)]
            fn $op(self, b: $V) -> $V {
                $V($intrinsic(self.0, b.0))
            }
        })*
    };
}
macro_rules! methods {
    ($V:ident -> $To:ident: $($name:ident($($b:ident),*) = $intrinsic:ident;)*) => {
        $(#[inline(always)]
        fn $name(self $(, $b: $V)*) -> $To {
            $To($intrinsic(self.0 $(, $b.0)*))
        })*
    };
}

operators! { F32x4: Add add f32x4_add; Sub sub f32x4_sub; Mul mul f32x4_mul; Div div f32x4_div; }
operators! { I32x4: Add add i32x4_add; Sub sub i32x4_sub; Mul mul i32x4_mul;
BitAnd bitand v128_and; BitOr bitor v128_or; BitXor bitxor v128_xor; }
operators! { Mask4: BitAnd bitand v128_and; BitOr bitor v128_or; BitXor bitxor v128_xor; }

impl Neg for F32x4 {
    type Output = F32x4;
    #[inline(always)]
    fn neg(self) -> F32x4 {
        F32x4(f32x4_neg(self.0))
    }
}
impl Not for I32x4 {
    type Output = I32x4;
    #[inline(always)]
    fn not(self) -> I32x4 {
        I32x4(v128_not(self.0))
    }
}
impl Not for Mask4 {
    type Output = Mask4;
    #[inline(always)]
    fn not(self) -> Mask4 {
        Mask4(v128_not(self.0))
    }
}

impl Simd for Wasm {
    type F32 = F32x4;
    type I32 = I32x4;
    type Mask = Mask4;
    const LANES: usize = 4;
    // Browsers keep one of x86's 16 for themselves, and a product needs one before it is added.
    const REGISTERS: usize = 14;

    #[inline(always)]
    fn call<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    fn splat(self, x: f32) -> F32x4 {
        F32x4(f32x4_splat(x))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> I32x4 {
        I32x4(i32x4_splat(x))
    }
    #[inline(always)]
    fn iota(self) -> I32x4 {
        I32x4(i32x4(0, 1, 2, 3))
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> F32x4 {
        let src = &src[..4];
        // SAFETY: 16 bytes are in the slice; the load needs no alignment.
        F32x4(unsafe { v128_load(src.as_ptr().cast()) })
    }
    #[inline(always)]
    fn load_i32(self, src: &[i32]) -> I32x4 {
        let src = &src[..4];
        // SAFETY: as in `load`.
        I32x4(unsafe { v128_load(src.as_ptr().cast()) })
    }
    #[inline(always)]
    fn load_u16(self, src: &[u16]) -> I32x4 {
        let src = &src[..4];
        // SAFETY: 8 bytes are in the slice; the load needs no alignment.
        I32x4(unsafe { u32x4_load_extend_u16x4(src.as_ptr()) })
    }
    #[inline(always)]
    fn load_partial(self, src: &[f32], fill: f32) -> F32x4 {
        if src.len() >= 4 {
            return self.load(src);
        }
        let mut lanes = [fill; 4];
        lanes[..src.len()].copy_from_slice(src);
        self.load(&lanes)
    }
    #[inline(always)]
    fn first(self, n: usize) -> Mask4 {
        self.splat_i32(n.min(4) as i32).gt(self.iota())
    }
    #[inline(always)]
    fn zip(self, a: F32x4, b: F32x4) -> (F32x4, F32x4) {
        let high = F32x4(i32x4_shuffle::<2, 6, 3, 7>(a.0, b.0));
        (F32x4(i32x4_shuffle::<0, 4, 1, 5>(a.0, b.0)), high)
    }
    #[inline(always)]
    fn unzip(self, a: F32x4, b: F32x4) -> (F32x4, F32x4) {
        let odd = F32x4(i32x4_shuffle::<1, 3, 5, 7>(a.0, b.0));
        (F32x4(i32x4_shuffle::<0, 2, 4, 6>(a.0, b.0)), odd)
    }
    #[inline(always)]
    fn transpose(self, block: &mut [F32x4; MAX_LANES]) {
        let [a, b, c, d] = [block[0].0, block[1].0, block[2].0, block[3].0];
        let (ac, bd) = (i32x4_shuffle::<0, 4, 1, 5>(a, c), i32x4_shuffle::<0, 4, 1, 5>(b, d));
        let (ac2, bd2) = (i32x4_shuffle::<2, 6, 3, 7>(a, c), i32x4_shuffle::<2, 6, 3, 7>(b, d));
        block[0] = F32x4(i32x4_shuffle::<0, 4, 1, 5>(ac, bd));
        block[1] = F32x4(i32x4_shuffle::<2, 6, 3, 7>(ac, bd));
        block[2] = F32x4(i32x4_shuffle::<0, 4, 1, 5>(ac2, bd2));
        block[3] = F32x4(i32x4_shuffle::<2, 6, 3, 7>(ac2, bd2));
    }
}

impl F32s<Wasm> for F32x4 {
    #[inline(always)]
    fn store(self, dst: &mut [f32]) {
        let dst = &mut dst[..4];
        // SAFETY: 16 bytes are in the slice; the store needs no alignment.
        unsafe { v128_store(dst.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn store_partial(self, dst: &mut [f32]) {
        if dst.len() >= 4 {
            return self.store(dst);
        }
        let mut lanes = [0.0; 4];
        self.store(&mut lanes);
        let n = dst.len();
        dst.copy_from_slice(&lanes[..n]);
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self * b + c
    }
    // pmax(a, b) is `a < b ? b : a`.
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        F32x4(f32x4_pmax(b.0, self.0))
    }
    // pmin(a, b) is `b < a ? b : a`.
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        F32x4(f32x4_pmin(b.0, self.0))
    }
    methods! { F32x4 -> F32x4:
        abs() = f32x4_abs;
        sqrt() = f32x4_sqrt;
        floor() = f32x4_floor;
        ceil() = f32x4_ceil;
        trunc() = f32x4_trunc;
        round_even() = f32x4_nearest;
    }
    methods! { F32x4 -> Mask4: lt(b) = f32x4_lt; le(b) = f32x4_le; eq(b) = f32x4_eq; }
    methods! { F32x4 -> I32x4: trunc_i32() = i32x4_trunc_sat_f32x4; }
    #[inline(always)]
    fn round_i32(self) -> I32x4 {
        self.round_even().trunc_i32()
    }
    #[inline(always)]
    fn bits(self) -> I32x4 {
        I32x4(self.0)
    }
    #[inline(always)]
    fn reduce_add(self) -> f32 {
        let half = f32x4_add(self.0, i32x4_shuffle::<2, 3, 0, 1>(self.0, self.0));
        f32x4_extract_lane::<0>(half) + f32x4_extract_lane::<1>(half)
    }
    #[inline(always)]
    fn reduce_max(self) -> f32 {
        let half = f32x4_max(self.0, i32x4_shuffle::<2, 3, 0, 1>(self.0, self.0));
        f32x4_extract_lane::<0>(f32x4_max(half, i32x4_shuffle::<1, 0, 3, 2>(half, half)))
    }
    #[inline(always)]
    fn reduce_min(self) -> f32 {
        let half = f32x4_min(self.0, i32x4_shuffle::<2, 3, 0, 1>(self.0, self.0));
        f32x4_extract_lane::<0>(f32x4_min(half, i32x4_shuffle::<1, 0, 3, 2>(half, half)))
    }
}

impl I32s<Wasm> for I32x4 {
    #[inline(always)]
    fn store(self, dst: &mut [i32]) {
        let dst = &mut dst[..4];
        // SAFETY: 16 bytes are in the slice; the store needs no alignment.
        unsafe { v128_store(dst.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut [u16]) {
        let dst = &mut dst[..4];
        let low = v128_and(self.0, i32x4_splat(0xffff));
        let half = u16x8_narrow_i32x4(low, low);
        // SAFETY: 8 bytes are in the slice; the store needs no alignment.
        unsafe { v128_store64_lane::<0>(half, dst.as_mut_ptr().cast()) }
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        I32x4(i32x4_shl(self.0, N))
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        I32x4(u32x4_shr(self.0, N))
    }
    #[inline(always)]
    fn sar<const N: u32>(self) -> Self {
        I32x4(i32x4_shr(self.0, N))
    }
    methods! { I32x4 -> I32x4: max(b) = i32x4_max; min(b) = i32x4_min; }
    methods! { I32x4 -> Mask4: eq(b) = i32x4_eq; gt(b) = i32x4_gt; }
    methods! { I32x4 -> F32x4: to_f32() = f32x4_convert_i32x4; }
    #[inline(always)]
    fn as_f32(self) -> F32x4 {
        F32x4(self.0)
    }
    #[inline(always)]
    fn reduce_add(self) -> i32 {
        let half = i32x4_add(self.0, i32x4_shuffle::<2, 3, 0, 1>(self.0, self.0));
        i32x4_extract_lane::<0>(half).wrapping_add(i32x4_extract_lane::<1>(half))
    }
}

impl Mask<Wasm> for Mask4 {
    #[inline(always)]
    fn select(self, a: F32x4, b: F32x4) -> F32x4 {
        F32x4(v128_bitselect(a.0, b.0, self.0))
    }
    #[inline(always)]
    fn select_i32(self, a: I32x4, b: I32x4) -> I32x4 {
        I32x4(v128_bitselect(a.0, b.0, self.0))
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        u32::from(i32x4_bitmask(self.0))
    }
}
