//! ExpertMatMul: a product whose matrix each row picks for itself; a mixture of experts is two of
//! them. The importer makes it; ONNX has no such operator.
//!
//! y[i] = w[expert[i]] · x[i]
//!
//! x [m, k], w [e, n, k], expert int64 [m]  →  y [m, n]; w may be codes of few bits with scales
//! [e, n, blocks] and zero points, those of each expert laid as MatMulNBits has them.

use super::{Inputs, MatMulNBits, one};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Inputs x, w, expert, scales, zero_points; the last two only with codes, the last optional.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertMatMul {
    /// The matrix of one expert, where matrices are codes. One block may be a whole row.
    pub codes: Option<MatMulNBits>,
}

impl ExpertMatMul {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, w, expert) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let float = |dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        if x.dtype()? != DType::F32 || expert.dtype()? != DType::I64 {
            return Err(unsupported!("rows {} of experts {}", x.ty, expert.ty));
        }
        let Some(w_shape) = w.shape() else {
            return Err(unsupported!("experts of unknown rank"));
        };
        let [experts, n, k] = w_shape else {
            return Err(invalid!("experts {w} where [experts, n, k] is needed"));
        };
        let (n, k) = match &self.codes {
            None if float(w.dtype()?) => (n.clone(), k.clone()),
            Some(codes) if w.dtype()? == DType::U8 => {
                codes.check_experts(inputs, experts, [n, k])?;
                (Dim::from(codes.n), Dim::from(codes.k))
            }
            _ => return Err(unsupported!("experts of type {}", w.ty)),
        };
        let Some(shape) = x.shape() else { return one(Fact::unranked(DType::F32)) };
        let [rows, columns] = shape else {
            return Err(invalid!("rows {x} where [rows, k] is needed"));
        };
        let differ = |a: &Dim, b: &Dim| a.value().is_some() && b.value().is_some() && a != b;
        if differ(columns, &k) {
            return Err(invalid!("{columns} columns meet {k} rows"));
        }
        if let Some(of) = expert.shape()
            && (of.len() != 1 || differ(&of[0], rows))
        {
            return Err(invalid!("experts {expert} of {rows} rows"));
        }
        one(Fact::new(DType::F32, [rows.clone(), n].into_iter().collect()))
    }
}

impl MatMulNBits {
    /// `Err` unless w, scales and zero points are those of so many experts.
    fn check_experts(
        &self,
        inputs: &Inputs<'_>,
        experts: &Dim,
        [n, bytes]: [&Dim; 2],
    ) -> Result<(), Reason> {
        if !matches!(self.bits, 2 | 4 | 8) || self.block_size == 0 {
            return Err(unsupported!("weights of {} bits are not supported", self.bits));
        }
        let row = self.k.checked_mul(self.bits).filter(|bits| bits.is_multiple_of(8));
        let (Some(experts), Some(row)) = (experts.size(), row) else {
            return Err(unsupported!("{experts} experts of rows of {} codes", self.k));
        };
        if self.k % self.block_size != 0 {
            return Err(unsupported!("blocks of {} in rows of {}", self.block_size, self.k));
        }
        if !(n.is(self.n as i64) && bytes.is((row / 8) as i64)) {
            return Err(invalid!("experts of [{n}, {bytes}] bytes for {self:?}"));
        }
        let rows = experts.checked_mul(self.n);
        let scales = rows.and_then(|rows| rows.checked_mul(self.blocks()));
        let zeros = rows.and_then(|rows| rows.checked_mul(self.zero_bytes()));
        let zeros = match inputs.opt(4).map(Fact::dtype).transpose()? {
            Some(DType::U8) => zeros,
            _ => scales,
        };
        for (i, want, what) in [(3, scales, "scales"), (4, zeros, "zero points")] {
            let len = inputs.opt(i).and_then(Fact::len);
            if len.is_some() && len != want {
                return Err(invalid!(
                    "{} {what} for {experts} experts of {self:?}",
                    len.unwrap_or(0)
                ));
            }
        }
        if !matches!(inputs.dtype(3)?, DType::F32 | DType::F16 | DType::BF16) {
            return Err(unsupported!("scales of type {}", inputs.dtype(3)?));
        }
        match inputs.opt(4).map(Fact::dtype).transpose()? {
            None | Some(DType::U8 | DType::F32) => Ok(()),
            Some(other) => Err(unsupported!("zero points of type {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(op: ExpertMatMul, rest: &[Fact]) -> Result<String, Reason> {
        let x = Fact::new(DType::F32, [Dim::symbol("m"), Dim::N(32)].into_iter().collect());
        let expert = Fact::new(DType::I64, [Dim::symbol("m")].into_iter().collect());
        let mut all = vec![Some(&x), Some(&rest[0]), Some(&expert)];
        all.extend(rest[1..].iter().map(Some));
        op.infer(&Inputs::new(&all, 1)).map(|facts| facts[0].to_string())
    }

    #[test]
    fn every_row_meets_one_matrix() {
        let w = Fact::sized(DType::F16, &[3, 5, 32]);
        assert_eq!(infer(ExpertMatMul { codes: None }, &[w]).unwrap(), "float[m, 5]");
        let w = Fact::sized(DType::F32, &[3, 5, 31]);
        assert!(infer(ExpertMatMul { codes: None }, &[w]).is_err());
    }

    #[test]
    fn codes_are_as_many_as_their_scales_say() {
        let op = || {
            let codes = MatMulNBits { n: 5, k: 32, bits: 4, block_size: 16 };
            ExpertMatMul { codes: Some(codes) }
        };
        let w = Fact::sized(DType::U8, &[3, 5, 16]);
        let scales = |blocks| Fact::sized(DType::F32, &[3, 5, blocks]);
        assert_eq!(infer(op(), &[w.clone(), scales(2)]).unwrap(), "float[m, 5]");
        assert!(infer(op(), &[w.clone(), scales(1)]).is_err());
        assert!(infer(op(), &[w, scales(2), Fact::sized(DType::U8, &[3, 5, 2])]).is_err());
    }
}
