//! MatMul and Gemm: products of matrices, batches of them broadcast.
//!
//! y = activation(alpha · op(a)·op(b) + bias + residual), op transposes the last two axes or not
//!
//! a [.., m, k], b [.., k, n]  →  y [.., m, n]; an operand of rank 1 is a row (a) or a column (b)
//! whose axis of size 1 is dropped from y again. bias: a row of n elements (or fewer, broadcast);
//! residual: y's shape.

use super::epilogue::Activation;
use super::{Binary, BinaryFn, Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, broadcast, show};
use crate::{DType, Dim, Fact, Facts, Reason, ValueId, invalid, unsupported};

/// Inputs a, b, bias (optional), residual (optional).
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    /// Whether the last two axes of a are swapped.
    pub trans_a: bool,
    /// Whether the last two axes of b are swapped.
    pub trans_b: bool,
    /// Factor of the product.
    pub alpha: f32,
    /// What follows the sum.
    pub activation: Option<Activation>,
}

impl MatMul {
    /// The plain product.
    pub const PLAIN: MatMul =
        MatMul { trans_a: false, trans_b: false, alpha: 1.0, activation: None };

    /// The shape of the product.
    pub fn resolve(&self, a: &[Dim], b: &[Dim]) -> Result<Shape, Reason> {
        let no = || invalid!("{} times {} is no matrix product", show(a), show(b));
        if a.is_empty() || b.is_empty() || (self.trans_a && a.len() < 2) {
            return Err(no());
        }
        if self.trans_b && b.len() < 2 {
            return Err(no());
        }
        let last = |s: &[Dim], i: usize| s[s.len() - i].clone();
        let (m, k) = match (a.len(), self.trans_a) {
            (1, _) => (None, last(a, 1)),
            (_, false) => (Some(last(a, 2)), last(a, 1)),
            (_, true) => (Some(last(a, 1)), last(a, 2)),
        };
        let (n, k2) = match (b.len(), self.trans_b) {
            (1, _) => (None, last(b, 1)),
            (_, false) => (Some(last(b, 1)), last(b, 2)),
            (_, true) => (Some(last(b, 2)), last(b, 1)),
        };
        if let (Some(k), Some(k2)) = (k.value(), k2.value())
            && k != k2
        {
            let swapped = match (self.trans_a, self.trans_b) {
                (false, false) => "",
                _ => " (transposed as asked)",
            };
            return Err(invalid!(
                "{} times {}{swapped}: {k} columns meet {k2} rows",
                show(a),
                show(b)
            ));
        }
        let batch =
            |s: &[Dim]| -> Shape { s[..s.len().saturating_sub(2)].iter().cloned().collect() };
        let mut shape = broadcast(&batch(a), &batch(b))?;
        shape.extend(m);
        shape.extend(n);
        Ok(shape)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        use DType::*;
        let dtype = inputs.dtype(0)?;
        if !matches!(dtype, F16 | BF16 | F32 | F64 | I32 | I64 | U32 | U64) {
            return Err(unsupported!("a product of {dtype} matrices is not supported"));
        }
        (1..4).try_for_each(|i| inputs.same_dtype(0, i))?;
        let (Some(a), Some(b)) = (inputs.shape(0)?, inputs.shape(1)?) else {
            let residual = inputs.opt(3).and_then(Fact::shape);
            let shape = residual.map(|s| s.iter().cloned().collect());
            return one(Fact { shape, ..Fact::unranked(dtype) });
        };
        let shape = self.resolve(a, b)?;
        if let Some(bias) = inputs.opt(2).and_then(Fact::shape) {
            check_bias(bias, &shape)?;
        }
        if let Some(residual) = inputs.opt(3).and_then(Fact::shape) {
            let same = |(r, y): (&Dim, &Dim)| r.value().is_none() || y.value().is_none() || r == y;
            if residual.len() != shape.len() || !residual.iter().zip(&shape).all(same) {
                return Err(invalid!(
                    "a residual of shape {} for a product of shape {}",
                    show(residual),
                    show(&shape)
                ));
            }
        }
        one(Fact::new(dtype, shape))
    }
}

/// A bias has no axis but the last.
fn check_bias(bias: &[Dim], y: &[Dim]) -> Result<(), Reason> {
    let one = Dim::N(1);
    let (n, others) = bias.split_last().map_or((&one, &[][..]), |(n, others)| (n, others));
    let row = y.last().unwrap_or(&one);
    let fits = match (n.value(), row.value()) {
        (Some(n), Some(row)) => n == 1 || n == row,
        _ => true,
    };
    let flat = others.iter().all(|d| d.value().is_none_or(|d| d == 1));
    if fits && flat && bias.len() <= y.len().max(1) {
        return Ok(());
    }
    Err(invalid!("a bias of shape {} for a product of shape {}", show(bias), show(y)))
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    cx.emit(MatMul::PLAIN)
}

pub(super) fn import_gemm(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let y = gemm(cx)?;
    cx.done(y)
}

/// Gemm: alpha · op(A)·op(B) + beta · C, of matrices.
pub(super) fn gemm(cx: &mut NodeCx<'_>) -> Result<ValueId, Reason> {
    // Before opset 7 C broadcast only if asked to; it may now, which allows what was an error.
    cx.ignore(&["broadcast"]);
    let (alpha, beta) = (cx.float("alpha")?.unwrap_or(1.0), cx.float("beta")?.unwrap_or(1.0));
    let (trans_a, trans_b) = (cx.flag("transA", false)?, cx.flag("transB", false)?);
    let (mut a, b) = (cx.input(0)?, cx.input(1)?);
    for v in [a, b] {
        if let Some(rank) = cx.fact(v).rank()
            && rank != 2
        {
            return Err(invalid!("Gemm of an operand of rank {rank}, where 2 is needed"));
        }
    }
    let dtype = cx.dtype(a)?;
    let mut op = MatMul { trans_a, trans_b, alpha, activation: None };
    if !dtype.is_float() && (alpha != 1.0 || beta != 1.0) {
        let least = if dtype.is_unsigned() { 0.0 } else { -128.0 };
        let whole = |x: f32| x.fract() == 0.0 && (least..128.0).contains(&x);
        if !whole(alpha) || !whole(beta) {
            return Err(unsupported!("Gemm of {dtype} with alpha {alpha} and beta {beta}"));
        }
        let factor = cx.scalar_like(a, alpha)?;
        a = cx.push1(Binary(BinaryFn::Mul), &[a, factor])?;
        op.alpha = 1.0;
    }
    let c = cx.opt_input(2).filter(|_| beta != 0.0);
    let Some(mut c) = c else { return cx.push1(op, &[a, b]) };
    if beta != 1.0 {
        let factor = cx.scalar_like(c, beta)?;
        c = cx.push1(Binary(BinaryFn::Mul), &[c, factor])?;
    }
    match is_row(cx, c) {
        true => cx.push1(op, &[a, b, c]),
        false => {
            let product = cx.push1(op, &[a, b])?;
            cx.push1(Binary(BinaryFn::Add), &[product, c])
        }
    }
}

/// Whether a value certainly has no axis but the last.
fn is_row(cx: &NodeCx<'_>, v: ValueId) -> bool {
    cx.fact(v).shape().is_some_and(|s| s.iter().rev().skip(1).all(|d| d.is(1)) && s.len() <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &[i64], b: &[i64], trans: [bool; 2], expected: &str) {
        let dims = |s: &[i64]| s.iter().map(|&n| Dim::N(n)).collect::<Vec<_>>();
        let op = MatMul { trans_a: trans[0], trans_b: trans[1], ..MatMul::PLAIN };
        let shape = op.resolve(&dims(a), &dims(b));
        assert_eq!(shape.map_or_else(|e| e.to_string(), |s| show(&s)), expected);
    }

    #[test]
    fn batches_broadcast() {
        check(&[5, 1, 2, 3], &[4, 3, 7], [false; 2], "[5, 4, 2, 7]");
        check(&[2, 3], &[3, 7], [false; 2], "[2, 7]");
    }

    #[test]
    fn an_axis_added_to_a_vector_is_dropped_again() {
        check(&[3], &[3], [false; 2], "[]");
        check(&[3], &[4, 3, 7], [false; 2], "[4, 7]");
        check(&[4, 2, 3], &[3], [false; 2], "[4, 2]");
    }

    #[test]
    fn transposing_swaps_the_last_two_axes() {
        check(&[3, 2], &[7, 3], [true; 2], "[2, 7]");
        check(&[3], &[7, 3], [false, true], "[7]");
    }

    #[test]
    fn sizes_that_do_not_meet_are_errors() {
        check(&[2, 3], &[4, 7], [false; 2], "[2, 3] times [4, 7]: 3 columns meet 4 rows");
        check(&[], &[4, 7], [false; 2], "[] times [4, 7] is no matrix product");
    }

    #[test]
    fn unknown_sizes_stay_unknown() {
        let (n, a) = (Dim::symbol("n"), [Dim::symbol("n"), Dim::Unknown]);
        let shape = MatMul::PLAIN.resolve(&a, &[Dim::N(4), Dim::N(7)]).unwrap();
        assert_eq!(shape.as_slice(), [n, Dim::N(7)]);
    }

    #[test]
    fn a_bias_has_one_axis() {
        let dims = |s: &[i64]| s.iter().map(|&n| Dim::N(n)).collect::<Vec<_>>();
        assert!(check_bias(&dims(&[1, 7]), &dims(&[2, 7])).is_ok());
        assert!(check_bias(&dims(&[]), &dims(&[2, 7])).is_ok());
        assert!(check_bias(&dims(&[2, 1]), &dims(&[2, 7])).is_err());
        assert!(check_bias(&dims(&[6]), &dims(&[2, 7])).is_err());
    }
}
