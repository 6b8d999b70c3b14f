//! Numbers about numbers: of a tensor's elements, and of measured times.

use half::{bf16, f16};
use rinfer::{Bool, DType, Tensor, Value};

/// What a table shows of a tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The smallest number; NaN is left out.
    pub min: Option<f64>,
    /// The largest number; NaN is left out.
    pub max: Option<f64>,
    /// The mean; NaN if one is NaN.
    pub mean: Option<f64>,
    /// The first elements.
    pub first: Vec<String>,
    /// How many elements are NaN.
    pub nan: usize,
    /// How many elements are infinite.
    pub inf: usize,
}

/// The elements as doubles; `None` for types that hold no real numbers.
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
        DType::I64 => read!(i64),
        DType::U8 => read!(u8),
        DType::U16 => read!(u16),
        DType::U32 => read!(u32),
        DType::U64 => read!(u64),
        DType::Bool => read!(Bool, |b| b.get() as u8 as f64),
        _ => return None,
    })
}

impl Summary {
    /// What there is to say about a value.
    pub fn of(value: &Value) -> Summary {
        match value {
            Value::Tensor(t) => match numbers(t) {
                Some(numbers) => Summary::of_numbers(&numbers),
                None => Summary::default(),
            },
            Value::Text(s) => Summary {
                first: s.as_slice().iter().take(5).map(|s| format!("{s:?}")).collect(),
                ..Summary::default()
            },
            Value::Seq { items, .. } => {
                Summary { first: vec![format!("{} elements", items.len())], ..Summary::default() }
            }
            Value::Optional { value: Some(value), .. } => Summary::of(value),
            Value::Optional { value: None, .. } => {
                Summary { first: vec!["absent".into()], ..Summary::default() }
            }
            Value::Map { entries, .. } => {
                Summary { first: vec![format!("{} entries", entries.len())], ..Summary::default() }
            }
        }
    }

    fn of_numbers(x: &[f64]) -> Summary {
        let real = || x.iter().copied().filter(|x| !x.is_nan());
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        Summary {
            min: real().reduce(f64::min),
            max: real().reduce(f64::max),
            mean: (!x.is_empty()).then_some(mean),
            first: x.iter().take(5).map(|&x| short(x)).collect(),
            nan: x.iter().filter(|x| x.is_nan()).count(),
            inf: x.iter().filter(|x| x.is_infinite()).count(),
        }
    }
}

/// A number in about six digits.
pub fn short(x: f64) -> String {
    if x == x.trunc() && x.abs() < 1e9 {
        return format!("{x}");
    }
    if x != 0.0 && !(1e-4..1e7).contains(&x.abs()) { format!("{x:.4e}") } else { format!("{x:.5}") }
}

/// Sorted times in milliseconds.
#[derive(Clone, Debug)]
pub struct Times(Vec<f64>);

impl Times {
    /// Of at least one time.
    pub fn new(mut ms: Vec<f64>) -> Times {
        ms.sort_by(f64::total_cmp);
        Times(ms)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that a share `q` of all stay below, nearest rank.
    pub fn quantile(&self, q: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((q * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The sample standard deviation; 0 for one time.
    pub fn stddev(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.0.iter().map(|t| (t - mean) * (t - mean)).sum();
        (squares / self.0.len().saturating_sub(1).max(1) as f64).sqrt()
    }
}

/// The most memory that this process has held, in bytes, where the system tells.
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times = Times::new(vec![3.0, 1.0, 2.0, 10.0]);
        assert_eq!(times.quantile(0.0), 1.0);
        assert_eq!(times.quantile(1.0), 10.0);
        assert_eq!(Times::new(vec![5.0]).stddev(), 0.0);
    }

    #[test]
    fn nan_is_counted_and_kept_out_of_the_range() {
        let s = Summary::of(&Tensor::vector(&[1f32, f32::NAN, -2.0]).into());
        assert_eq!((s.min, s.max, s.nan), (Some(-2.0), Some(1.0), 1));
    }
}
