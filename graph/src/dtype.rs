//! Element types: every one that ONNX's `TensorProto.DataType` knows and a tensor can hold.
//!
//! A dtype has a width in bits; types narrower than a byte are packed, first element in the low
//! bits (ONNX IR, "TensorProto.raw_data"). Rust types that hold whole bytes implement [`Element`].

use half::{bf16, f16};

use crate::float8::{F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    Bool,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    U2,
    U4,
    U8,
    U16,
    U32,
    U64,
    F4E2M1,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F16,
    BF16,
    F32,
    F64,
    C64,
    C128,
    /// UTF-8 strings. They live in [`crate::Strings`], never in a [`crate::Tensor`].
    String,
}

/// dtype, `TensorProto.DataType`, width in bits, name as ONNX prints it in `tensor(…)`.
const TABLE: &[(DType, i32, usize, &str)] = &[
    (DType::F32, 1, 32, "float"),
    (DType::U8, 2, 8, "uint8"),
    (DType::I8, 3, 8, "int8"),
    (DType::U16, 4, 16, "uint16"),
    (DType::I16, 5, 16, "int16"),
    (DType::I32, 6, 32, "int32"),
    (DType::I64, 7, 64, "int64"),
    (DType::String, 8, 0, "string"),
    (DType::Bool, 9, 8, "bool"),
    (DType::F16, 10, 16, "float16"),
    (DType::F64, 11, 64, "double"),
    (DType::U32, 12, 32, "uint32"),
    (DType::U64, 13, 64, "uint64"),
    (DType::C64, 14, 64, "complex64"),
    (DType::C128, 15, 128, "complex128"),
    (DType::BF16, 16, 16, "bfloat16"),
    (DType::F8E4M3FN, 17, 8, "float8e4m3fn"),
    (DType::F8E4M3FNUZ, 18, 8, "float8e4m3fnuz"),
    (DType::F8E5M2, 19, 8, "float8e5m2"),
    (DType::F8E5M2FNUZ, 20, 8, "float8e5m2fnuz"),
    (DType::U4, 21, 4, "uint4"),
    (DType::I4, 22, 4, "int4"),
    (DType::F4E2M1, 23, 4, "float4e2m1"),
    (DType::F8E8M0, 24, 8, "float8e8m0"),
    (DType::U2, 25, 2, "uint2"),
    (DType::I2, 26, 2, "int2"),
];

impl DType {
    fn row(self) -> &'static (DType, i32, usize, &'static str) {
        TABLE.iter().find(|row| row.0 == self).expect("every dtype has a row")
    }

    /// Every dtype, in the order of ONNX's numbers.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The dtype with ONNX's number `TensorProto.DataType`.
    pub fn from_onnx(number: i32) -> Option<DType> {
        TABLE.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// ONNX's number for it.
    pub fn to_onnx(self) -> i32 {
        self.row().1
    }

    /// Width of one element in bits; 0 for strings.
    pub fn bits(self) -> usize {
        self.row().2
    }

    /// Width of one element in bytes; 0 for strings and types packed below a byte.
    pub fn size(self) -> usize {
        self.bits() / 8
    }

    /// Bytes that `len` elements take, the last byte padded; `None` if that overflows.
    pub fn bytes_for(self, len: usize) -> Option<usize> {
        match self.bits() {
            bits @ (2 | 4) => Some(len.div_ceil(8 / bits)),
            bits => len.checked_mul(bits / 8),
        }
    }

    /// Whether several elements share a byte.
    pub fn is_packed(self) -> bool {
        matches!(self.bits(), 2 | 4)
    }

    /// Whether it is one of the floating-point types, the 8- and 4-bit ones included.
    pub fn is_float(self) -> bool {
        use DType::*;
        matches!(self, F16 | BF16 | F32 | F64) || self.is_float8() || self == F4E2M1
    }

    /// Whether it is one of the 8-bit floating-point types.
    pub fn is_float8(self) -> bool {
        use DType::*;
        matches!(self, F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0)
    }

    /// Whether it is an integer type, signed or not (bool is not).
    pub fn is_int(self) -> bool {
        use DType::*;
        matches!(self, I2 | I4 | I8 | I16 | I32 | I64) || self.is_unsigned()
    }

    /// Whether it is an unsigned integer type.
    pub fn is_unsigned(self) -> bool {
        use DType::*;
        matches!(self, U2 | U4 | U8 | U16 | U32 | U64)
    }
}

impl std::fmt::Display for DType {
    /// ONNX's name: `float`, `int64`, `float8e4m3fn`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().3)
    }
}

/// A truth value as a tensor stores it: one byte, 0 or 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable,
)]
#[repr(transparent)]
pub struct Bool(pub u8);

impl Bool {
    /// Whether it is true (any byte but 0).
    pub fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(b: bool) -> Bool {
        Bool(b as u8)
    }
}

/// A complex number, real part first.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct C64 {
    pub re: f32,
    pub im: f32,
}

/// A complex number in double precision, real part first.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct C128 {
    pub re: f64,
    pub im: f64,
}

/// A Rust type that a tensor can hold: plain bytes, a known [`DType`].
pub trait Element: bytemuck::Pod + Default + PartialEq + std::fmt::Debug + Send + Sync {
    /// The dtype of a tensor of these.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty = $d:ident),* $(,)?) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(
    Bool = Bool,
    i8 = I8,
    i16 = I16,
    i32 = I32,
    i64 = I64,
    u8 = U8,
    u16 = U16,
    u32 = U32,
    u64 = U64,
    F8E4M3FN = F8E4M3FN,
    F8E4M3FNUZ = F8E4M3FNUZ,
    F8E5M2 = F8E5M2,
    F8E5M2FNUZ = F8E5M2FNUZ,
    F8E8M0 = F8E8M0,
    f16 = F16,
    bf16 = BF16,
    f32 = F32,
    f64 = F64,
    C64 = C64,
    C128 = C128,
);

/// Runs `$body` with `$T` naming the Rust type of `$dtype`, for the listed types only.
///
/// ```
/// use rinfer_graph::{DType, with_dtype};
/// let size = with_dtype!(DType::F64, [f32, f64], T => size_of::<T>(), else 0);
/// assert_eq!(size, 8);
/// ```
#[macro_export]
macro_rules! with_dtype {
    ($dtype:expr, [$($ty:ty),+ $(,)?], $T:ident => $body:expr, else $other:expr) => {{
        let dtype: $crate::DType = $dtype;
        $(if dtype == <$ty as $crate::Element>::DTYPE { type $T = $ty; $body } else)+ { $other }
    }};
}

/// Like [`with_dtype!`], but by element width (1, 2, 4, 8 or 16 bytes): for kernels that move
/// elements and never look at them. `else` is for packed types and strings.
#[macro_export]
macro_rules! with_width {
    ($dtype:expr, $W:ident => $body:expr, else $other:expr) => {
        match $dtype.size() {
            1 => {
                type $W = u8;
                $body
            }
            2 => {
                type $W = u16;
                $body
            }
            4 => {
                type $W = u32;
                $body
            }
            8 => {
                type $W = u64;
                $body
            }
            16 => {
                type $W = u128;
                $body
            }
            _ => $other,
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn onnx_numbers_lead_back() {
        for dtype in DType::all() {
            assert_eq!(DType::from_onnx(dtype.to_onnx()), Some(dtype));
        }
    }

    #[test]
    fn packed_types_round_up_to_bytes() {
        assert_eq!(DType::U4.bytes_for(3), Some(2));
        assert_eq!(DType::I2.bytes_for(5), Some(2));
        assert_eq!(DType::F64.bytes_for(usize::MAX), None);
    }
}
