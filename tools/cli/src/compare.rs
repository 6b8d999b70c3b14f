//! How far two values are apart, and whether that counts as equal.
//!
//! Equal as in ONNX's own test runner: types, shapes and strings the same; numbers
//! `|found − expected| ≤ atol + rtol·|expected|`, NaN equals NaN, infinities must match. bfloat16
//! is held to 2⁻⁶.

use rinfer::{DType, Tensor, Value};

use crate::stats;

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

impl From<crate::args::ToleranceArgs> for Tolerance {
    fn from(t: crate::args::ToleranceArgs) -> Tolerance {
        Tolerance { rtol: t.rtol, atol: t.atol }
    }
}

/// How far two tensors of one shape are apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    /// The largest difference.
    pub max_abs: f64,
    /// The largest difference relative to the expected number.
    pub max_rel: f64,
    /// The cosine of the angle between both as vectors.
    pub cosine: f64,
}

/// How far two tensors are apart; `None` if shapes differ or they hold no numbers.
pub fn distance(found: &Value, expected: &Value) -> Option<Distance> {
    let (Value::Tensor(a), Value::Tensor(b)) = (found, expected) else { return None };
    if a.shape() != b.shape() {
        return None;
    }
    let (a, b) = (stats::numbers(a)?, stats::numbers(b)?);
    let mut d = Distance::default();
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(&b) {
        // Equal infinities and NaNs at the same place are no distance.
        let diff = if x == y || (x.is_nan() && y.is_nan()) { 0.0 } else { (x - y).abs() };
        let diff = if diff.is_nan() { f64::INFINITY } else { diff };
        d.max_abs = d.max_abs.max(diff);
        d.max_rel = d.max_rel.max(if diff == 0.0 { 0.0 } else { diff / y.abs() });
        if x.is_finite() && y.is_finite() {
            (dot, aa, bb) = (dot + x * y, aa + x * x, bb + y * y);
        }
    }
    d.cosine = if aa == 0.0 && bb == 0.0 { 1.0 } else { dot / (aa * bb).sqrt() };
    Some(d)
}

/// `Err` says where the values differ.
pub fn compare(found: &Value, expected: &Value, tol: Tolerance) -> Result<(), String> {
    match (found, expected) {
        (Value::Tensor(a), Value::Tensor(b)) => tensors(a, b, tol),
        (Value::Text(a), Value::Text(b)) if a == b => Ok(()),
        (Value::Text(a), Value::Text(b)) => Err(format!(
            "strings {:?} {:?}, expected {:?} {:?}",
            a.shape(),
            a.as_slice(),
            b.shape(),
            b.as_slice()
        )),
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

/// Whether a difference is small; an infinite one never is, however large the tolerance.
fn within(difference: f64, tolerance: f64) -> bool {
    difference.is_finite() && difference.abs() <= tolerance
}

fn tensors(found: &Tensor, expected: &Tensor, tol: Tolerance) -> Result<(), String> {
    if found.dtype() != expected.dtype() {
        return Err(format!("dtype {}, expected {}", found.dtype(), expected.dtype()));
    }
    if found.shape() != expected.shape() {
        return Err(format!("shape {:?}, expected {:?}", found.shape(), expected.shape()));
    }
    let (Some(a), Some(b)) = (stats::numbers(found), stats::numbers(expected)) else {
        let same = found.as_bytes() == expected.as_bytes();
        return if same { Ok(()) } else { Err(format!("{} elements differ", found.dtype())) };
    };
    let rtol = if found.dtype() == DType::BF16 { tol.rtol.max(1.0 / 64.0) } else { tol.rtol };
    // 64-bit integers and bools have no tolerance worth having, and may not fit into a double.
    let exact = matches!(found.dtype(), DType::I64 | DType::U64 | DType::Bool);
    let width = found.dtype().size();
    let bits = |t: &Tensor, i: usize| t.as_bytes()[i * width..][..width].to_vec();
    let far = |i: usize| {
        let (x, y) = (a[i], b[i]);
        let close =
            x == y || (x.is_nan() && y.is_nan()) || within(x - y, tol.atol + rtol * y.abs());
        if exact { bits(found, i) != bits(expected, i) } else { !close }
    };
    let wrong: Vec<usize> = (0..a.len()).filter(|&i| far(i)).collect();
    match wrong.first() {
        None => Ok(()),
        Some(&i) => Err(format!(
            "{} of {} elements differ, [{i}] is {}, expected {}",
            wrong.len(),
            a.len(),
            a[i],
            b[i]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_must_match_and_nan_equals_nan() {
        let v = |x: &[f32]| Value::from(Tensor::vector(x));
        let tol = Tolerance::default();
        assert!(compare(&v(&[f32::INFINITY]), &v(&[f32::INFINITY]), tol).is_ok());
        assert!(compare(&v(&[f32::MAX]), &v(&[f32::INFINITY]), tol).is_err());
        assert!(compare(&v(&[f32::NAN]), &v(&[f32::NAN]), tol).is_ok());
        assert!(compare(&v(&[1.002]), &v(&[1.0]), tol).is_err());
    }

    #[test]
    fn large_integers_are_compared_exactly() {
        let v = |x: i64| Value::from(Tensor::scalar(x));
        assert!(compare(&v(1 << 40), &v((1 << 40) + 1), Tolerance::default()).is_err());
    }
}
