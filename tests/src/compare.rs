//! When two values count as equal: ONNX's own rules for its test data.
//!
//! Types, shapes and strings must be equal; numbers `|found − expected| ≤ atol + rtol·|expected|`,
//! NaN equals NaN, infinities must match. bfloat16 is held to 2⁻⁶.

use half::{bf16, f16};
use rinfer::{DType, Tensor, Value};

/// How far a number may be off.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Relative to the expected number.
    pub rtol: f64,
    /// On top.
    pub atol: f64,
}

impl Default for Tolerance {
    fn default() -> Tolerance {
        Tolerance { rtol: 1e-3, atol: 1e-7 }
    }
}

/// `Err` says where the values differ.
pub fn compare(found: &Value, expected: &Value, tol: Tolerance) -> Result<(), String> {
    match (found, expected) {
        (Value::Tensor(a), Value::Tensor(b)) => tensors(a, b, tol),
        (Value::Text(a), Value::Text(b)) => {
            if a == b {
                return Ok(());
            }
            Err(format!(
                "strings {:?} {:?}, expected {:?} {:?}",
                a.shape(),
                a.as_slice(),
                b.shape(),
                b.as_slice()
            ))
        }
        (Value::Seq { items: a, .. }, Value::Seq { items: b, .. }) => {
            if a.len() != b.len() {
                return Err(format!("{} elements, expected {}", a.len(), b.len()));
            }
            let each = |(i, (a, b))| compare(a, b, tol).map_err(|e| format!("[{i}]: {e}"));
            a.iter().zip(b.iter()).enumerate().try_for_each(each)
        }
        (Value::Optional { value: a, .. }, Value::Optional { value: b, .. }) => match (a, b) {
            (None, None) => Ok(()),
            (Some(a), Some(b)) => compare(a, b, tol),
            _ => Err("one optional is absent".into()),
        },
        // A value that is there stands for an optional that holds it.
        (a, Value::Optional { value: Some(b), .. }) => compare(a, b, tol),
        (Value::Optional { value: Some(a), .. }, b) => compare(a, b, tol),
        (Value::Map { entries: a, .. }, Value::Map { entries: b, .. }) => {
            if !a.keys().eq(b.keys()) {
                return Err("the keys differ".into());
            }
            a.values().zip(b.values()).try_for_each(|(a, b)| compare(a, b, tol))
        }
        (a, b) => Err(format!("{}, expected {}", a.ty(), b.ty())),
    }
}

fn tensors(found: &Tensor, expected: &Tensor, tol: Tolerance) -> Result<(), String> {
    if found.dtype() != expected.dtype() {
        return Err(format!("dtype {}, expected {}", found.dtype(), expected.dtype()));
    }
    if found.shape() != expected.shape() {
        return Err(format!("shape {:?}, expected {:?}", found.shape(), expected.shape()));
    }
    let (Some(a), Some(b)) = (numbers(found), numbers(expected)) else {
        let same = found.as_bytes() == expected.as_bytes();
        return if same { Ok(()) } else { Err(format!("{} elements differ", found.dtype())) };
    };
    let rtol = if found.dtype() == DType::BF16 { tol.rtol.max(1.0 / 64.0) } else { tol.rtol };
    let far = |(a, b): (f64, f64)| {
        let close = a == b || (a - b).abs() <= tol.atol + rtol * b.abs();
        !(close || (a.is_nan() && b.is_nan()))
    };
    let wrong: Vec<usize> = (0..a.len()).filter(|&i| far((a[i], b[i]))).collect();
    match wrong.first() {
        None => Ok(()),
        Some(&i) => {
            let n = a.len();
            Err(format!(
                "{} of {n} elements differ, [{i}] is {}, expected {}",
                wrong.len(),
                a[i],
                b[i]
            ))
        }
    }
}

/// The elements as doubles; `None` for types that are compared bit by bit.
pub fn numbers(t: &Tensor) -> Option<Vec<f64>> {
    macro_rules! read {
        ($T:ty) => {
            t.as_slice::<$T>().iter().map(|&x| x as f64).collect()
        };
        ($T:ty, $f:expr) => {
            t.as_slice::<$T>().iter().map($f).collect()
        };
    }
    Some(match t.dtype() {
        DType::F32 => read!(f32),
        DType::F64 => read!(f64),
        DType::F16 => read!(f16, |x| x.to_f64()),
        DType::BF16 => read!(bf16, |x| x.to_f64()),
        DType::I8 => read!(i8),
        DType::I16 => read!(i16),
        DType::I32 => read!(i32),
        DType::U8 => read!(u8),
        DType::U16 => read!(u16),
        DType::U32 => read!(u32),
        // 64-bit integers, bools and the small types have no tolerance worth having.
        _ => return None,
    })
}
