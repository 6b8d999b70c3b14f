//! Range: start, start + delta, start + 2·delta, …, up to but without limit.
use super::{Inputs, one};
use crate::fact::SHORT;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, Tensor, invalid, unsupported};

/// start, limit, delta: scalars → [⌈(limit - start) / delta⌉]
#[derive(Clone, Debug, PartialEq)]
pub struct Range;

impl Range {
    /// How many elements there are.
    pub fn len(start: &Tensor, limit: &Tensor, delta: &Tensor) -> Result<usize, Reason> {
        let too_many = || Reason::new(crate::Kind::Limit, "a range of more than 2^63 elements");
        if let (Some(start), Some(limit), Some(delta)) =
            (start.to_ints(), limit.to_ints(), delta.to_ints())
        {
            let [start, limit, delta] = [start, limit, delta].map(|v| v.first().copied());
            let (Some(start), Some(limit), Some(delta)) = (start, limit, delta) else {
                return Err(invalid!("start, limit or delta is empty"));
            };
            if delta == 0 {
                return Err(invalid!("a range from {start} to {limit} by steps of 0"));
            }
            let (span, step) = (limit as i128 - start as i128, delta as i128);
            let (span, step) = if step < 0 { (-span, -step) } else { (span, step) };
            let n = if span <= 0 { 0 } else { (span + step - 1) / step };
            return usize::try_from(n).map_err(|_| too_many());
        }
        let [start, limit, delta] = [number(start)?, number(limit)?, number(delta)?];
        let n = ((limit - start) / delta).ceil();
        if n.is_nan() || delta == 0.0 || n >= 9.2e18 {
            return Err(invalid!("a range from {start} to {limit} by steps of {delta}"));
        }
        Ok(n.max(0.0) as usize)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        inputs.same_dtype(0, 1)?;
        inputs.same_dtype(0, 2)?;
        let (start, limit, delta) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        if let (Some(a), Some(b), Some(c)) = (start.tensor(), limit.tensor(), delta.tensor()) {
            let n = Range::len(a, b, c)?;
            if dtype == DType::I64
                && n <= SHORT
                && let (Some(start), Some(delta)) = (start.ints(), delta.ints())
            {
                let at = |i: usize| Dim::N(start[0].wrapping_add(delta[0].wrapping_mul(i as i64)));
                return one(Fact::of_dims((0..n).map(at).collect(), false));
            }
            return one(Fact::sized(dtype, &[n]));
        }
        let first = |f: &Fact| f.dims().and_then(|d| d.first().cloned());
        let n = match (first(start), first(limit), first(delta)) {
            (Some(start), Some(limit), Some(Dim::N(1))) => limit.sub(&start),
            _ => Dim::Unknown,
        };
        let n = if n.is_size() { n } else { Dim::Unknown };
        one(Fact::new(dtype, [n].into_iter().collect()))
    }
}

/// One number of a type that may be beyond int64.
pub fn number(x: &Tensor) -> Result<f64, Reason> {
    let value = match x.dtype() {
        DType::F64 => x.as_slice::<f64>().first().copied(),
        DType::U64 => x.as_slice::<u64>().first().map(|&n| n as f64),
        _ => x.to_f32().map(f64::from),
    };
    value.ok_or_else(|| invalid!("{x:?} where one number is needed"))
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    // The elements of float16 and bfloat16 are computed in double precision, then rounded: at
    // least as exact as either type that may be asked for.
    if cx.version >= 27
        && let Some(stash) = cx.dtype_attr("stash_type")?
        && !matches!(stash, DType::F32 | DType::F64)
    {
        return Err(unsupported!("stash_type {stash} of Range"));
    }
    cx.emit(Range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(start: f32, limit: f32, delta: f32) -> Result<usize, Reason> {
        Range::len(&Tensor::scalar(start), &Tensor::scalar(limit), &Tensor::scalar(delta))
    }

    #[test]
    fn the_limit_is_not_reached() {
        assert_eq!(len(0.0, 1.0, 0.1).unwrap(), 10);
        assert_eq!(len(3.0, 1.0, 0.5).unwrap(), 0);
        assert_eq!(len(10.0, 4.0, -2.0).unwrap(), 3);
        assert!(len(0.0, 1.0, 0.0).is_err());
        assert!(len(0.0, f32::INFINITY, 1.0).is_err());
    }

    #[test]
    fn a_range_to_a_symbol_has_its_size() {
        let (n, m) = (Dim::symbol("n"), Dim::symbol("m"));
        let infer = |start: Dim, limit: Dim| {
            let [start, limit] = [start, limit].map(|d| Fact::of_dims(vec![d], true));
            let delta = Fact::constant(Tensor::scalar(1i64));
            let inputs = [Some(&start), Some(&limit), Some(&delta)];
            Range.infer(&Inputs::new(&inputs, 1)).unwrap()[0].to_string()
        };
        assert_eq!(infer(Dim::N(0), n.clone()), "int64[n]");
        assert_eq!(infer(m.clone(), n.add(&m)), "int64[n]");
        assert_eq!(infer(Dim::N(1), n), "int64[?]");
    }
}
