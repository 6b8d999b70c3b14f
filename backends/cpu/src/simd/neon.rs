//! NEON, which every 64-bit ARM has: 4 lanes.

use super::{F32s, I32s, MAX_LANES, Mask, Simd};
use std::arch::aarch64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Sub};

/// Proof that the CPU has NEON.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// The token: the architecture includes NEON.
    pub fn always() -> Neon {
        Neon(())
    }
}

/// 4 × `f32`.
#[derive(Clone, Copy, Debug)]
pub struct F32x4(float32x4_t);
/// 4 × `i32`.
#[derive(Clone, Copy, Debug)]
pub struct I32x4(pub(super) int32x4_t);
/// 4 truth values: all bits of a lane, or none.
#[derive(Clone, Copy, Debug)]
pub struct Mask4(uint32x4_t);

// SAFETY of every block below: NEON is part of the target, and loads and stores touch exactly
// the lanes of a slice whose length was checked in the line before.

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
    ($V:ident -> $To:ident: $($name:ident($($b:ident),*) = $intrinsic:ident;)*) => {
        $(#[inline(always)]
        fn $name(self $(, $b: $V)*) -> $To {
            $To(unsafe { $intrinsic(self.0 $(, $b.0)*) })
        })*
    };
}

operators! { F32x4: Add add vaddq_f32; Sub sub vsubq_f32; Mul mul vmulq_f32; Div div vdivq_f32; }
operators! { I32x4: Add add vaddq_s32; Sub sub vsubq_s32; Mul mul vmulq_s32;
BitAnd bitand vandq_s32; BitOr bitor vorrq_s32; BitXor bitxor veorq_s32; }
operators! { Mask4: BitAnd bitand vandq_u32; BitOr bitor vorrq_u32; BitXor bitxor veorq_u32; }

impl Neg for F32x4 {
    type Output = F32x4;
    #[inline(always)]
    fn neg(self) -> F32x4 {
        F32x4(unsafe { vnegq_f32(self.0) })
    }
}
impl Not for I32x4 {
    type Output = I32x4;
    #[inline(always)]
    fn not(self) -> I32x4 {
        I32x4(unsafe { vmvnq_s32(self.0) })
    }
}
impl Not for Mask4 {
    type Output = Mask4;
    #[inline(always)]
    fn not(self) -> Mask4 {
        Mask4(unsafe { vmvnq_u32(self.0) })
    }
}

impl Simd for Neon {
    type F32 = F32x4;
    type I32 = I32x4;
    type Mask = Mask4;
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn call<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    fn splat(self, x: f32) -> F32x4 {
        F32x4(unsafe { vdupq_n_f32(x) })
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> I32x4 {
        I32x4(unsafe { vdupq_n_s32(x) })
    }
    #[inline(always)]
    fn iota(self) -> I32x4 {
        I32x4(unsafe { vld1q_s32([0, 1, 2, 3].as_ptr()) })
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> F32x4 {
        let src = &src[..4];
        F32x4(unsafe { vld1q_f32(src.as_ptr()) })
    }
    #[inline(always)]
    fn load_i32(self, src: &[i32]) -> I32x4 {
        let src = &src[..4];
        I32x4(unsafe { vld1q_s32(src.as_ptr()) })
    }
    #[inline(always)]
    fn load_u16(self, src: &[u16]) -> I32x4 {
        let src = &src[..4];
        I32x4(unsafe { vreinterpretq_s32_u32(vmovl_u16(vld1_u16(src.as_ptr()))) })
    }
    #[inline(always)]
    fn load_u8(self, src: &[u8]) -> I32x4 {
        let word = u32::from_le_bytes(src.as_chunks().0[0]);
        unsafe {
            let wide = vget_low_u16(vmovl_u8(vcreate_u8(word.into())));
            I32x4(vreinterpretq_s32_u32(vmovl_u16(wide)))
        }
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
        unsafe { (F32x4(vzip1q_f32(a.0, b.0)), F32x4(vzip2q_f32(a.0, b.0))) }
    }
    #[inline(always)]
    fn unzip(self, a: F32x4, b: F32x4) -> (F32x4, F32x4) {
        unsafe { (F32x4(vuzp1q_f32(a.0, b.0)), F32x4(vuzp2q_f32(a.0, b.0))) }
    }
    #[inline(always)]
    fn transpose(self, block: &mut [F32x4; MAX_LANES]) {
        let [a, b, c, d] = [block[0].0, block[1].0, block[2].0, block[3].0];
        unsafe {
            let (ac, bd) = (vzip1q_f32(a, c), vzip1q_f32(b, d));
            let (ac2, bd2) = (vzip2q_f32(a, c), vzip2q_f32(b, d));
            block[0] = F32x4(vzip1q_f32(ac, bd));
            block[1] = F32x4(vzip2q_f32(ac, bd));
            block[2] = F32x4(vzip1q_f32(ac2, bd2));
            block[3] = F32x4(vzip2q_f32(ac2, bd2));
        }
    }
}

impl F32s<Neon> for F32x4 {
    #[inline(always)]
    fn store(self, dst: &mut [f32]) {
        let dst = &mut dst[..4];
        unsafe { vst1q_f32(dst.as_mut_ptr(), self.0) }
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
        F32x4(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }
    // Not vmaxq/vminq, which make NaN of either NaN.
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.gt(b).select(self, b)
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        self.lt(b).select(self, b)
    }
    methods! { F32x4 -> F32x4:
        abs() = vabsq_f32;
        sqrt() = vsqrtq_f32;
        floor() = vrndmq_f32;
        ceil() = vrndpq_f32;
        trunc() = vrndq_f32;
        round_even() = vrndnq_f32;
    }
    methods! { F32x4 -> Mask4: lt(b) = vcltq_f32; le(b) = vcleq_f32; eq(b) = vceqq_f32; }
    methods! { F32x4 -> I32x4:
        round_i32() = vcvtnq_s32_f32;
        trunc_i32() = vcvtq_s32_f32;
        bits() = vreinterpretq_s32_f32;
    }
    #[inline(always)]
    fn reduce_add(self) -> f32 {
        unsafe {
            let half = vadd_f32(vget_low_f32(self.0), vget_high_f32(self.0));
            vget_lane_f32::<0>(half) + vget_lane_f32::<1>(half)
        }
    }
    #[inline(always)]
    fn reduce_max(self) -> f32 {
        unsafe { vmaxvq_f32(self.0) }
    }
    #[inline(always)]
    fn reduce_min(self) -> f32 {
        unsafe { vminvq_f32(self.0) }
    }
}

impl I32s<Neon> for I32x4 {
    #[inline(always)]
    fn store(self, dst: &mut [i32]) {
        let dst = &mut dst[..4];
        unsafe { vst1q_s32(dst.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut [u16]) {
        let dst = &mut dst[..4];
        unsafe { vst1_u16(dst.as_mut_ptr(), vmovn_u32(vreinterpretq_u32_s32(self.0))) }
    }
    #[inline(always)]
    fn store_u8(self, dst: &mut [u8]) {
        let word = unsafe {
            let half = vmovn_u32(vreinterpretq_u32_s32(self.0));
            vget_lane_u32::<0>(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(half, half))))
        };
        dst[..4].copy_from_slice(&word.to_le_bytes());
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        I32x4(unsafe { vshlq_s32(self.0, vdupq_n_s32(N as i32)) })
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        let bits = unsafe { vreinterpretq_u32_s32(self.0) };
        I32x4(unsafe { vreinterpretq_s32_u32(vshlq_u32(bits, vdupq_n_s32(-(N as i32)))) })
    }
    #[inline(always)]
    fn sar<const N: u32>(self) -> Self {
        I32x4(unsafe { vshlq_s32(self.0, vdupq_n_s32(-(N as i32))) })
    }
    methods! { I32x4 -> I32x4: max(b) = vmaxq_s32; min(b) = vminq_s32; }
    methods! { I32x4 -> Mask4: eq(b) = vceqq_s32; gt(b) = vcgtq_s32; }
    methods! { I32x4 -> F32x4: to_f32() = vcvtq_f32_s32; as_f32() = vreinterpretq_f32_s32; }
    #[inline(always)]
    fn reduce_add(self) -> i32 {
        unsafe { vaddvq_s32(self.0) }
    }
}

impl Mask<Neon> for Mask4 {
    #[inline(always)]
    fn select(self, a: F32x4, b: F32x4) -> F32x4 {
        F32x4(unsafe { vbslq_f32(self.0, a.0, b.0) })
    }
    #[inline(always)]
    fn select_i32(self, a: I32x4, b: I32x4) -> I32x4 {
        I32x4(unsafe { vbslq_s32(self.0, a.0, b.0) })
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        unsafe { vaddvq_u32(vandq_u32(self.0, vld1q_u32([1, 2, 4, 8].as_ptr()))) }
    }
}
