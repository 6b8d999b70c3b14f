//! Elements of any number type, for kernels that compute in `f64`.
use half::{bf16, f16};
use rinfer_graph::{Element, Reason, Tensor, invalid};

/// A number that is read as `f64` and written from it: floats round, integers truncate and clamp.
pub(super) trait Wide: Element {
    fn wide(self) -> f64;
    fn narrow(x: f64) -> Self;
}

macro_rules! wide {
    ($($T:ident)*) => {
        $(impl Wide for $T {
            fn wide(self) -> f64 {
                self as f64
            }
            fn narrow(x: f64) -> $T {
                x as $T
            }
        })*
    };
}
wide!(f32 f64 i8 i16 i32 i64 u8 u16 u32 u64);

macro_rules! wide_half {
    ($($T:ident)*) => {
        $(impl Wide for $T {
            fn wide(self) -> f64 {
                self.to_f64()
            }
            fn narrow(x: f64) -> $T {
                $T::from_f64(x)
            }
        })*
    };
}
wide_half!(f16 bf16);

/// Every type that is [`Wide`], for `with_dtype!`.
macro_rules! with_wide {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        rinfer_graph::with_dtype!(
            $dtype,
            [f32, f64, half::f16, half::bf16, i8, i16, i32, i64, u8, u16, u32, u64],
            $T => $body,
            else $other
        )
    };
}
pub(super) use with_wide;

/// The one number that a tensor holds.
pub(super) fn scalar(t: &Tensor) -> Result<f64, Reason> {
    if t.len() != 1 {
        return Err(invalid!("{} elements where one number is needed", t.len()));
    }
    with_wide!(t.dtype(), T => Ok(t.as_slice::<T>()[0].wide()),
        else Err(invalid!("{} where a number is needed", t.dtype())))
}
