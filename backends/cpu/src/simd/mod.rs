//! Instruction sets as values, and vectors with operators over them: the only module that says
//! `unsafe` or names an instruction set.
//!
//! An [`Isa`] holds a token; a token is made only after the features it stands for were seen, so
//! holding one proves the CPU. A kernel is one generic body over [`Simd`], written in
//! [`simd_fn!`](crate::simd_fn) and compiled once for each instruction set.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx512;
mod dots;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod view;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub use dots::Vnni;
pub use dots::{Bytes, Dots};
#[cfg(target_arch = "aarch64")]
pub use dots::{Dotprod, I8mm};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Scalar;
pub use view::MatMut;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::Wasm;
#[cfg(target_arch = "x86_64")]
pub use x86::Avx2;

#[cfg(test)]
mod tests;

use half::{bf16, f16};
use std::fmt::Debug;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Sub};

/// The widest vector of any instruction set, in `f32` lanes.
pub const MAX_LANES: usize = 16;

/// The instruction set chosen for a session.
#[derive(Clone, Copy, Debug)]
pub enum Isa {
    /// One lane, no intrinsics: the reference the others are tested against.
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    Scalar(Scalar),
    /// 8 lanes: AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 16 lanes: AVX-512 F, BW, VL and DQ on top of [`Isa::Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// 4 lanes: what every 64-bit ARM has.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// 4 lanes: WebAssembly's simd128.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Wasm(Wasm),
}

impl Isa {
    /// What needs no detection. A module for browsers is downloaded, and holds no second set.
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    pub const BASE: Isa = Isa::Scalar(Scalar);
    /// What needs no detection. A module for browsers is downloaded, and holds no second set.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    pub const BASE: Isa = Isa::Wasm(Wasm::always());

    /// Every instruction set this machine can run, widest last.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut, reason = "some targets have no other")]
        let mut isas = vec![Isa::BASE];
        #[cfg(target_arch = "x86_64")]
        isas.extend(Avx2::detect().map(Isa::Avx2));
        #[cfg(target_arch = "x86_64")]
        isas.extend(Avx512::detect().map(Isa::Avx512));
        #[cfg(target_arch = "aarch64")]
        isas.push(Isa::Neon(Neon::always()));
        isas.dedup_by(|a, b| a.name() == b.name());
        isas
    }

    /// The widest instruction set of this machine.
    pub fn best() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa::BASE)
    }

    /// The instruction set that `RINFER_ISA` asks for, or the widest if it is not set.
    ///
    /// # Errors
    /// The variable holds a name that is unknown, or that this machine cannot run.
    pub fn from_env() -> Result<Isa, String> {
        match std::env::var("RINFER_ISA") {
            Ok(name) => Isa::named(&name),
            Err(std::env::VarError::NotPresent) => Ok(Isa::best()),
            Err(e) => Err(format!("RINFER_ISA cannot be read: {e}")),
        }
    }

    /// The instruction set called `name`: `scalar`, `avx2`, `avx512`, `neon` or `wasm`.
    ///
    /// # Errors
    /// The name is unknown, or this machine cannot run it.
    pub fn named(name: &str) -> Result<Isa, String> {
        let isas = Isa::available();
        if let Some(isa) = isas.iter().find(|isa| isa.name() == name) {
            return Ok(*isa);
        }
        let have: Vec<_> = isas.iter().map(|isa| isa.name()).collect();
        Err(format!("instruction set {name:?} is not one of {} on this machine", have.join(", ")))
    }

    /// The name that [`Isa::named`] accepts.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Isa::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Wasm(_) => "wasm",
        }
    }

    /// Whether it rounds `a · b + c` once. All that do give the same bits, whatever is computed in
    /// f32: sums have the same order on each. WebAssembly's vectors round twice.
    pub fn fuses(self) -> bool {
        self.name() != "wasm"
    }

    /// `f32` lanes in one vector.
    pub fn lanes(self) -> usize {
        crate::simd_dispatch!(self, s => lanes_of(s))
    }
}

fn lanes_of<S: Simd>(_: S) -> usize {
    S::LANES
}

/// Proof that an instruction set is present, and the vectors it gives.
///
/// Every method is meant to be called inside [`simd_fn!`](crate::simd_fn), where it becomes an
/// instruction; elsewhere it is correct but slow.
pub trait Simd: Copy + Send + Sync + Debug + 'static {
    /// `LANES` single-precision numbers.
    type F32: F32s<Self>;
    /// `LANES` two's-complement integers; arithmetic wraps.
    type I32: I32s<Self>;
    /// One truth value per lane.
    type Mask: Mask<Self>;
    /// Lanes in a vector: 1, 4, 8 or 16.
    const LANES: usize;
    /// Vector registers there are: bounds how many accumulators a tile may hold.
    const REGISTERS: usize;

    /// Runs `f`, compiled under the features of this instruction set where it is inlined.
    fn call<R>(self, f: impl FnOnce() -> R) -> R;
    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// `x` in every lane.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// 0, 1, 2, … by lane.
    fn iota(self) -> Self::I32;
    /// The first `LANES` of `src`; panics if there are fewer.
    fn load(self, src: &[f32]) -> Self::F32;
    /// The first `LANES` of `src`; panics if there are fewer.
    fn load_i32(self, src: &[i32]) -> Self::I32;
    /// The first `LANES` of `src`, zero-extended; panics if there are fewer.
    fn load_u16(self, src: &[u16]) -> Self::I32;
    /// The first `LANES` of `src`, zero-extended; panics if there are fewer.
    #[inline(always)]
    fn load_u8(self, src: &[u8]) -> Self::I32 {
        let mut wide = [0; MAX_LANES];
        for (wide, &x) in wide.iter_mut().zip(&src[..Self::LANES]) {
            *wide = x.into();
        }
        self.load_i32(&wide)
    }
    /// As many of `src` as there are lanes or elements; `fill` in the lanes beyond its end.
    fn load_partial(self, src: &[f32], fill: f32) -> Self::F32;
    /// Asks for the cache line of element `at` to be brought near, if there is such an
    /// instruction; `at` may lie beyond the end.
    #[inline(always)]
    fn prefetch(self, _src: &[f32], _at: usize) {}
    /// True in the first `n` lanes.
    fn first(self, n: usize) -> Self::Mask;

    /// `[0.0, 0.0, …]`
    #[inline(always)]
    fn zero(self) -> Self::F32 {
        self.splat(0.0)
    }

    /// The first `LANES` of `src`, widened exactly; panics if there are fewer.
    #[inline(always)]
    fn load_f16(self, src: &[f16]) -> Self::F32 {
        let h = self.load_u16(bytemuck::must_cast_slice(src));
        let sign = (h & self.splat_i32(0x8000)).shl::<16>();
        let bits = (h & self.splat_i32(0x7fff)).shl::<13>();
        // Read as f32 bits the exponent is short by 127 - 15; scaling mends subnormals too.
        let scaled = (bits.as_f32() * self.splat(f32::from_bits(239 << 23))).bits();
        let inf = bits.gt(self.splat_i32(0x0f7f_ffff));
        let special = bits | self.splat_i32(0x7f80_0000);
        (inf.select_i32(special, scaled) | sign).as_f32()
    }

    /// The first `LANES` of `src`, widened exactly; panics if there are fewer.
    #[inline(always)]
    fn load_bf16(self, src: &[bf16]) -> Self::F32 {
        self.load_u16(bytemuck::must_cast_slice(src)).shl::<16>().as_f32()
    }

    /// Writes every lane to the front of `dst`, rounded to nearest even; panics if there is no
    /// room.
    #[inline(always)]
    fn store_f16(self, x: Self::F32, dst: &mut [f16]) {
        let sign = x.bits().shr::<16>() & self.splat_i32(0x8000);
        let bits = x.bits() & self.splat_i32(i32::MAX);
        let abs = bits.as_f32();
        // 65520 and more round to infinity.
        let inf = self.splat_i32(0x7c00);
        let odd = bits.shr::<13>() & self.splat_i32(1);
        let normal = (bits + self.splat_i32(0xfff - (112 << 23)) + odd).shr::<13>();
        let normal = normal.min(inf);
        // Adding 0.5 leaves a subnormal half, rounded, in the low bits of the sum.
        let tiny = (abs + self.splat(0.5)).bits() - self.splat_i32(126 << 23);
        let half = abs.lt(self.splat(6.103_515_6e-5)).select_i32(tiny, normal);
        let nan = self.splat_i32(0x7e00) | (bits.shr::<13>() & self.splat_i32(0x3ff));
        let half = x.is_nan().select_i32(nan, half);
        (half | sign).store_u16(bytemuck::must_cast_slice_mut(dst));
    }

    /// Writes every lane to the front of `dst`, rounded to nearest even; panics if there is no
    /// room.
    #[inline(always)]
    fn store_bf16(self, x: Self::F32, dst: &mut [bf16]) {
        let bits = x.bits();
        let odd = bits.shr::<16>() & self.splat_i32(1);
        let rounded = (bits + self.splat_i32(0x7fff) + odd).shr::<16>();
        let quiet = bits.shr::<16>() | self.splat_i32(0x40);
        let half = x.is_nan().select_i32(quiet, rounded);
        half.store_u16(bytemuck::must_cast_slice_mut(dst));
    }

    /// `x · 2^n` for whole `n` of magnitude up to 250, rounded once: in two steps, for `2^n` alone
    /// may be out of range where the product is not.
    #[inline(always)]
    fn scale(self, x: Self::F32, n: Self::F32) -> Self::F32 {
        let n = n.round_i32();
        let a = n.sar::<1>();
        let b = n - a;
        let bias = self.splat_i32(127);
        x * (a + bias).shl::<23>().as_f32() * (b + bias).shl::<23>().as_f32()
    }

    /// The numbers in the low `BITS` bits of each lane: 2, 4 or 8 of them.
    #[inline(always)]
    fn low_bits<const BITS: u32>(self, x: Self::I32) -> Self::F32 {
        (x & self.splat_i32((1 << BITS) - 1)).to_f32()
    }

    /// Turns rows into columns: lane `j` of vector `i` goes to lane `i` of vector `j`, for the
    /// first `LANES` vectors.
    fn transpose(self, block: &mut [Self::F32; MAX_LANES]);
    /// Lanes of `a` and `b` in turn, `a₀ b₀ a₁ b₁ …`: the first half of them and the second.
    fn zip(self, a: Self::F32, b: Self::F32) -> (Self::F32, Self::F32);
    /// Undoes [`Simd::zip`]: of the lanes of `a` and then `b`, every other from the first, and
    /// from the second.
    fn unzip(self, a: Self::F32, b: Self::F32) -> (Self::F32, Self::F32);

    /// The larger; NaN if either is NaN.
    #[inline(always)]
    fn max_nan(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        a.is_nan().select(a, a.max(b))
    }

    /// The smaller; NaN if either is NaN.
    #[inline(always)]
    fn min_nan(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        a.is_nan().select(a, a.min(b))
    }

    /// `|x|` with the sign of `sign`.
    #[inline(always)]
    fn copysign(self, x: Self::F32, sign: Self::F32) -> Self::F32 {
        let top = self.splat_i32(i32::MIN);
        ((x.bits() & !top) | (sign.bits() & top)).as_f32()
    }
}

/// A vector of `f32`.
pub trait F32s<S: Simd>:
    Copy
    + Debug
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Writes every lane to the front of `dst`; panics if there is no room.
    fn store(self, dst: &mut [f32]);
    /// Writes as many lanes as fit into `dst`.
    fn store_partial(self, dst: &mut [f32]);

    /// `self * b + c`: rounded once where the instruction set fuses (AVX2, AVX-512, NEON),
    /// twice on scalar and wasm.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self > b ? self : b`, so `b` if either is NaN: `zero.max(x)` keeps the NaNs of `x`.
    fn max(self, b: Self) -> Self;
    /// `self < b ? self : b`, so `b` if either is NaN.
    fn min(self, b: Self) -> Self;
    /// Magnitude; clears the sign of NaN as well.
    fn abs(self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// The integer at or below.
    fn floor(self) -> Self;
    /// The integer at or above.
    fn ceil(self) -> Self;
    /// The integer towards zero.
    fn trunc(self) -> Self;
    /// The nearest integer, ties to even.
    fn round_even(self) -> Self;
    /// `self < b`; false where either is NaN.
    fn lt(self, b: Self) -> S::Mask;
    /// `self <= b`; false where either is NaN.
    fn le(self, b: Self) -> S::Mask;
    /// `self == b`; false where either is NaN.
    fn eq(self, b: Self) -> S::Mask;
    /// `self > b`; false where either is NaN.
    #[inline(always)]
    fn gt(self, b: Self) -> S::Mask {
        b.lt(self)
    }
    /// `self >= b`; false where either is NaN.
    #[inline(always)]
    fn ge(self, b: Self) -> S::Mask {
        b.le(self)
    }
    /// True where a lane is NaN.
    #[inline(always)]
    fn is_nan(self) -> S::Mask {
        !self.eq(self)
    }
    /// To integers, ties to even; unspecified where the value does not fit.
    fn round_i32(self) -> S::I32;
    /// To integers, towards zero; unspecified where the value does not fit.
    fn trunc_i32(self) -> S::I32;
    /// The same bits.
    fn bits(self) -> S::I32;

    /// The sum of all lanes, halves added pairwise: the upper half to the lower, and again.
    fn reduce_add(self) -> f32;
    /// The largest lane; NaN if any is NaN.
    fn reduce_max(self) -> f32;
    /// The smallest lane; NaN if any is NaN.
    fn reduce_min(self) -> f32;
}

/// As many vectors as have [`MAX_LANES`] lanes together: the first of these, of which S uses
/// [`vectors`]. Sums over the elements of a row are kept in so many lanes on every instruction set, so
/// that their order, and their bits, are the same everywhere.
pub type Wide<S> = [<S as Simd>::F32; MAX_LANES];

/// Vectors that have [`MAX_LANES`] lanes.
#[inline(always)]
pub const fn vectors<S: Simd>() -> usize {
    MAX_LANES / S::LANES
}

/// All lanes as one vector: the upper half joins the lower, and again.
#[inline(always)]
pub fn halve<S: Simd>(mut x: Wide<S>, join: impl Fn(S::F32, S::F32) -> S::F32) -> S::F32 {
    let mut n = const { vectors::<S>() };
    while n > 1 {
        n /= 2;
        for v in 0..n {
            x[v] = join(x[v], x[v + n]);
        }
    }
    x[0]
}

/// The sum of all lanes.
#[inline(always)]
pub fn sum_lanes<S: Simd>(x: Wide<S>) -> f32 {
    let sum = halve::<S>(
        x,
        #[inline(always)]
        |a, b| a + b,
    );
    sum.reduce_add()
}

/// A vector of `i32`; arithmetic wraps.
pub trait I32s<S: Simd>:
    Copy
    + Debug
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
{
    /// Writes every lane to the front of `dst`; panics if there is no room.
    fn store(self, dst: &mut [i32]);
    /// Writes the low half of every lane to the front of `dst`; panics if there is no room.
    fn store_u16(self, dst: &mut [u16]);
    /// Writes the low byte of every lane to the front of `dst`; panics if there is no room.
    #[inline(always)]
    fn store_u8(self, dst: &mut [u8]) {
        let mut wide = [0; MAX_LANES];
        self.store(&mut wide);
        for (y, &x) in dst[..S::LANES].iter_mut().zip(&wide) {
            *y = x as u8;
        }
    }
    /// Writes the low bytes of as many lanes as fit into `dst`.
    #[inline(always)]
    fn store_u8_partial(self, dst: &mut [u8]) {
        if dst.len() >= S::LANES {
            return self.store_u8(dst);
        }
        let mut all = [0; MAX_LANES];
        self.store_u8(&mut all);
        for (y, &x) in dst.iter_mut().zip(&all[..S::LANES]) {
            *y = x;
        }
    }
    /// `self << N`
    fn shl<const N: u32>(self) -> Self;
    /// `self >> N`, zeros from the left.
    fn shr<const N: u32>(self) -> Self;
    /// `self >> N`, the sign from the left.
    fn sar<const N: u32>(self) -> Self;
    /// The larger, signed.
    fn max(self, b: Self) -> Self;
    /// The smaller, signed.
    fn min(self, b: Self) -> Self;
    /// `self == b`
    fn eq(self, b: Self) -> S::Mask;
    /// `self > b`, signed.
    fn gt(self, b: Self) -> S::Mask;
    /// To floats, rounded to nearest even.
    fn to_f32(self) -> S::F32;
    /// The same bits.
    fn as_f32(self) -> S::F32;
    /// The sum of all lanes, wrapping.
    fn reduce_add(self) -> i32;
}

/// One truth value per lane.
pub trait Mask<S: Simd>:
    Copy
    + Debug
    + Send
    + Sync
    + 'static
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
{
    /// `self ? a : b` by lane.
    fn select(self, a: S::F32, b: S::F32) -> S::F32;
    /// `self ? a : b` by lane.
    fn select_i32(self, a: S::I32, b: S::I32) -> S::I32;
    /// One bit per lane, lane 0 lowest.
    fn to_bits(self) -> u32;
    /// Some lane is true.
    #[inline(always)]
    fn any(self) -> bool {
        self.to_bits() != 0
    }
    /// Every lane is true.
    #[inline(always)]
    fn all(self) -> bool {
        self.to_bits() == u32::MAX >> (32 - S::LANES)
    }
}

/// `simd_fn! { fn name(s: S, arg: Type, ..) -> Ret { body } }` makes `name(isa, arg, ..)`: one body,
/// generic over `S: Simd`, compiled once under the features of each instruction set.
///
/// Generics go in angle brackets, constants before types: `fn name<const N: usize>(s: S, ..)` or
/// `fn name<T: Bound>(s: S, ..)`. What the body calls must be `#[inline(always)]` to be compiled
/// under the same features; closures handed to iterators often are not inlined, so write loops.
#[macro_export]
macro_rules! simd_fn {
    ($(#[$m:meta])* $vis:vis fn $name:ident $(<$(const $n:ident : $nt:ty),+>)?
        ($s:ident : $S:ident $(, $arg:ident : $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$m])*
        $vis fn $name $(<$(const $n: $nt),+>)? (isa: $crate::simd::Isa $(, $arg: $ty)*)
        $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<$S: $crate::simd::Simd $($(, const $n: $nt)+)?>($s: $S $(, $arg: $ty)*)
            $(-> $ret)? $body
            $crate::simd_dispatch!(isa, s => body::<_ $($(, $n)+)?>(s $(, $arg)*))
        }
    };
    ($(#[$m:meta])* $vis:vis fn $name:ident <$($t:ident : $bound:path),+>
        ($s:ident : $S:ident $(, $arg:ident : $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$m])*
        $vis fn $name<$($t: $bound),+>(isa: $crate::simd::Isa $(, $arg: $ty)*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<$S: $crate::simd::Simd, $($t: $bound),+>($s: $S $(, $arg: $ty)*)
            $(-> $ret)? $body
            $crate::simd_dispatch!(isa, s => body::<_, $($t),+>(s $(, $arg)*))
        }
    };
}

/// `simd_dispatch!(isa, s => expr)`: `expr` with `s` bound to the token of `isa`, compiled under
/// its features. `expr` may move and mutate what it captures.
#[macro_export]
macro_rules! simd_dispatch {
    ($isa:expr, $s:ident => $e:expr) => {{
        use $crate::simd::Isa;
        match $isa {
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Isa::Scalar($s) => $e,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2($s) => $crate::simd::Simd::call(
                $s,
                #[inline(always)]
                move || $e,
            ),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512($s) => $crate::simd::Simd::call(
                $s,
                #[inline(always)]
                move || $e,
            ),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon($s) => $e,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Wasm($s) => $e,
        }
    }};
}
