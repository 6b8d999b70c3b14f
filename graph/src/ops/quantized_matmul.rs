//! QuantizedMatMul: a product of 8-bit matrices, and what follows it. Passes make it; ONNX has no
//! such operator.
//!
//! y = activation(Σ (a - a_zero)·(b - b_zero) · scale · rows + bias), and with a y_scale codes of
//! that: saturate(round(y / y_scale) + y_zero)
//!
//! a [.., m, k], b [.., k, n] (or its transpose); scale and b_zero: one, or one for each column;
//! rows: one for each row of the product; bias: a row; a_zero, y_scale, y_zero: one.

use super::epilogue::Activation;
use super::{Inputs, MatMul, one};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Inputs a, b, a_zero, b_zero, scale, bias, y_scale, y_zero, rows; only a, b and scale must be
/// given, y_scale and y_zero both or neither.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatMul {
    /// Whether the last two axes of b are swapped.
    pub trans_b: bool,
    /// What follows the sum.
    pub activation: Option<Activation>,
}

impl QuantizedMatMul {
    /// The product of matrices that it is.
    pub fn product(&self) -> MatMul {
        MatMul { trans_b: self.trans_b, ..MatMul::PLAIN }
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        for i in [0, 1] {
            let dtype = inputs.dtype(i)?;
            if !matches!(dtype, DType::I8 | DType::U8) {
                return Err(unsupported!("a quantized product of {dtype} is not supported"));
            }
            inputs.same_dtype(i, i + 2)?;
        }
        for i in [4, 5, 6, 8] {
            if let Some(fact) = inputs.opt(i)
                && fact.dtype()? != DType::F32
            {
                return Err(invalid!("input {i} is {} where float is needed", fact.ty));
            }
        }
        let dtype = match (inputs.opt(6), inputs.opt(7)) {
            (None, None) => DType::F32,
            (Some(_), Some(zero)) if matches!(zero.dtype()?, DType::I8 | DType::U8) => {
                zero.dtype()?
            }
            _ => return Err(invalid!("a scale of y without a zero point, or the other way round")),
        };
        let (Some(a), Some(b)) = (inputs.shape(0)?, inputs.shape(1)?) else {
            return one(Fact::unranked(dtype));
        };
        if a.len() < 2 || b.len() < 2 {
            return Err(unsupported!("a quantized product of vectors"));
        }
        let shape = self.product().resolve(a, b)?;
        let n = shape.last().cloned().unwrap_or(Dim::N(1));
        for (i, columns) in [(2, false), (3, true), (4, true), (5, true), (6, false), (7, false)] {
            check_line(inputs, i, columns.then_some(&n))?;
        }
        check_rows(inputs, &shape)?;
        one(Fact::new(dtype, shape))
    }
}

/// `Err` if the factors of rows are certainly not as many as there are rows.
fn check_rows(inputs: &Inputs<'_>, y: &[Dim]) -> Result<(), Reason> {
    let Some(have) = inputs.opt(8).and_then(Fact::len) else { return Ok(()) };
    let sizes = y.iter().rev().skip(1).map(Dim::value);
    let rows = sizes.map(|n| n.map(|n| n as usize)).product::<Option<usize>>();
    match rows {
        Some(rows) if rows != have => Err(invalid!("{have} factors for {rows} rows")),
        _ => Ok(()),
    }
}

/// `Err` if input `i` certainly holds neither one number nor (if it may) one for each column.
fn check_line(inputs: &Inputs<'_>, i: usize, columns: Option<&Dim>) -> Result<(), Reason> {
    let Some(len) = inputs.opt(i).and_then(Fact::len) else { return Ok(()) };
    let fits = |n: &Dim| n.value().is_none_or(|n| n == len as i64);
    if len == 1 || columns.is_some_and(fits) {
        return Ok(());
    }
    Err(invalid!("input {i} has {len} elements"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_out_where_y_has_a_scale() {
        let (a, b) = (Fact::sized(DType::U8, &[4, 3]), Fact::sized(DType::I8, &[3, 2]));
        let (one, row) = (Fact::sized(DType::F32, &[]), Fact::sized(DType::F32, &[2]));
        let zero = Fact::sized(DType::I8, &[]);
        let op = QuantizedMatMul { trans_b: false, activation: None };
        let infer = |rest: [Option<&Fact>; 3]| {
            let all = [Some(&a), Some(&b), None, None, rest[0], None, rest[1], rest[2]];
            op.infer(&Inputs::new(&all, 1)).map(|facts| facts[0].to_string())
        };
        assert_eq!(infer([Some(&row), None, None]).unwrap(), "float[4, 2]");
        assert_eq!(infer([Some(&row), Some(&one), Some(&zero)]).unwrap(), "int8[4, 2]");
        assert!(infer([Some(&row), Some(&one), None]).is_err());
        let scaled = |n: usize| {
            let rows = Fact::sized(DType::F32, &[n, 1]);
            let none = [None; 3];
            let all = [&[Some(&a), Some(&b), None, None, Some(&row)][..], &none, &[Some(&rows)]];
            op.infer(&Inputs::new(&all.concat(), 1)).map(|facts| facts[0].to_string())
        };
        assert_eq!(scaled(4).unwrap(), "float[4, 2]");
        assert!(scaled(3).is_err());
    }
}
