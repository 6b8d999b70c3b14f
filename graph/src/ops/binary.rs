//! Binary: y = f(a, b), element by element, shapes broadcast as NumPy does it.
//!
//! a [s..], b [t..]  →  y [broadcast(s, t)..] of a's dtype (bool for comparisons)

use super::unary::is_number;
use super::{Axis, Identity, Inputs, Unsqueeze, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::broadcast;
use crate::{DType, Dim, Fact, Facts, Reason, Tensor, Type, ValueId, invalid};

/// y = f(a, b) for each pair of elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Binary(pub BinaryFn);

/// A function of two numbers, named and with the attributes as in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryFn {
    Add,
    And,
    /// a · 2ᵇ or ⌊a / 2ᵇ⌋; from the width of the type on nothing but the sign is left.
    BitShift {
        left: bool,
    },
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    /// Integers round towards zero.
    Div,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// NaN if either is NaN.
    Max,
    /// NaN if either is NaN.
    Min,
    /// a - b·⌊a/b⌋ (the sign of b), or with `fmod` a - b·trunc(a/b) (the sign of a).
    Mod {
        fmod: bool,
    },
    Mul,
    Or,
    /// a where a ≥ 0, else a·b; b broadcasts to a, never a to b.
    PRelu,
    /// aᵇ, of the type of a whatever the type of b.
    Pow,
    Sub,
    Xor,
}

impl BinaryFn {
    /// Whether it takes elements of these dtypes.
    pub fn takes(self, a: DType, b: DType) -> bool {
        use BinaryFn::*;
        let same = a == b;
        match self {
            Add | Sub | Mul | Div | Mod { .. } | Max | Min | PRelu => same && is_number(a),
            Greater | GreaterOrEqual | Less | LessOrEqual => same && is_number(a),
            Equal => same && (is_number(a) || matches!(a, DType::Bool | DType::String)),
            Pow => is_number(a) && is_number(b),
            And | Or | Xor => same && a == DType::Bool,
            BitShift { .. } | BitwiseAnd | BitwiseOr | BitwiseXor => {
                same && is_number(a) && a.is_int()
            }
        }
    }

    /// The dtype of f(a, b), from that of a.
    pub fn result(self, a: DType) -> DType {
        if self.compares() { DType::Bool } else { a }
    }

    /// Whether it compares numbers or strings: the result is bool.
    pub fn compares(self) -> bool {
        use BinaryFn::*;
        matches!(self, Equal | Greater | GreaterOrEqual | Less | LessOrEqual)
    }

    /// Whether f(a, b) = f(b, a).
    pub fn commutes(self) -> bool {
        use BinaryFn::*;
        matches!(
            self,
            Add | And | BitwiseAnd | BitwiseOr | BitwiseXor | Equal | Max | Min | Mul | Or | Xor
        )
    }

    /// f on sizes, where it means something; unknown where the result is.
    fn of_dims(self, a: &Dim, b: &Dim) -> Option<Dim> {
        Some(match self {
            BinaryFn::Add => a.add(b),
            BinaryFn::Sub => a.sub(b),
            BinaryFn::Mul => a.mul(b),
            BinaryFn::Div => a.div(b),
            BinaryFn::Max | BinaryFn::Min => match order(a, b)? {
                std::cmp::Ordering::Less if self == BinaryFn::Max => b.clone(),
                std::cmp::Ordering::Greater if self == BinaryFn::Min => b.clone(),
                _ => a.clone(),
            },
            BinaryFn::Mod { fmod } => {
                let (a, b) = (a.value()?, b.value()?);
                let rest = a.checked_rem(b)?;
                Dim::N(if fmod || rest == 0 || (rest < 0) == (b < 0) { rest } else { rest + b })
            }
            _ => return None,
        })
    }

    /// How two sizes compare, if that is certain.
    fn compare_dims(self, a: &Dim, b: &Dim) -> Option<bool> {
        let order = order(a, b)?;
        match self {
            BinaryFn::Equal => Some(order.is_eq()),
            BinaryFn::Greater => Some(order.is_gt()),
            BinaryFn::GreaterOrEqual => Some(order.is_ge()),
            BinaryFn::Less => Some(order.is_lt()),
            BinaryFn::LessOrEqual => Some(order.is_le()),
            _ => None,
        }
    }
}

/// The order of two sizes, if it is the same whatever their symbols are. A size that is one symbol
/// is not negative.
fn order(a: &Dim, b: &Dim) -> Option<std::cmp::Ordering> {
    use std::cmp::Ordering::*;
    if let Some(difference) = a.sub(b).value() {
        return Some(difference.cmp(&0));
    }
    match (a.as_symbol(), a.value(), b.as_symbol(), b.value()) {
        (Some(_), _, _, Some(b)) if b < 0 => Some(Greater),
        (_, Some(a), Some(_), _) if a < 0 => Some(Less),
        _ => None,
    }
}

impl std::fmt::Display for BinaryFn {
    /// `Add`, `Mod { fmod: true }`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Shape-like tensors are short; what is longer is left to constant folding.
const LONGEST: usize = 64;

/// The elements of an int64 tensor of rank 0 or 1, where it is short and something is known.
pub(super) fn short_dims(fact: &Fact) -> Option<smallvec::SmallVec<[Dim; 4]>> {
    let short = fact.rank()? <= 1 && fact.len()? <= LONGEST;
    if short && fact.ty == Type::Tensor(DType::I64) { fact.dims() } else { None }
}

/// Element `i` of a vector that may be one element broadcast.
pub(super) fn at<T>(elements: &[T], i: usize) -> &T {
    if elements.len() == 1 { &elements[0] } else { &elements[i] }
}

impl Binary {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let (ta, tb) = (a.dtype()?, b.dtype()?);
        if !self.0.takes(ta, tb) {
            return Err(invalid!("{} of {ta} and {tb} is not defined", self.0));
        }
        let shape = match (a.shape(), b.shape()) {
            (Some(a), Some(b)) => Some(broadcast(a, b)?),
            _ => None,
        };
        if self.0 == BinaryFn::PRelu {
            if let (Some(x), Some(y)) = (a.shape(), &shape)
                && (x.len() != y.len() || a.sizes().is_some_and(|x| not_sizes(y, &x)))
            {
                return Err(invalid!("the slope, {b}, does not broadcast to {a}"));
            }
            return one(a.clone().forget());
        }
        let fact = Fact { ty: Type::Tensor(self.0.result(ta)), shape, known: None };
        one(self.known(a, b).unwrap_or(fact))
    }

    /// Arithmetic on shapes: the result's fact with content.
    fn known(&self, a: &Fact, b: &Fact) -> Option<Fact> {
        let scalar = a.rank()? == 0 && b.rank()? == 0;
        let (a, b) = (short_dims(a)?, short_dims(b)?);
        let n = if a.len() == 1 { b.len() } else { a.len() };
        let mut pairs = (0..n).map(|i| (at(&a, i), at(&b, i)));
        if self.0.compares() {
            let y: Option<Vec<crate::Bool>> =
                pairs.map(|(a, b)| self.0.compare_dims(a, b).map(crate::Bool::from)).collect();
            let sizes: &[usize] = if scalar { &[] } else { &[n] };
            return Tensor::try_from_slice(sizes, &y?).ok().map(Fact::constant);
        }
        self.0.of_dims(&Dim::N(1), &Dim::N(1))?;
        let y: Vec<Dim> =
            pairs.by_ref().map(|(a, b)| self.0.of_dims(a, b).unwrap_or(Dim::Unknown)).collect();
        Some(Fact::of_dims(y, scalar))
    }
}

/// Whether a shape certainly has other sizes than these.
fn not_sizes(shape: &[Dim], sizes: &[usize]) -> bool {
    shape.iter().zip(sizes).any(|(d, &n)| d.size().is_some_and(|d| d != n))
}

/// Imports a function without attributes of its own.
pub(super) fn import(cx: &mut NodeCx<'_>, f: BinaryFn) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    // From version 7 on every operator here broadcasts as NumPy does; those born later begin there.
    if cx.version < 7 {
        cx.ignore(&["consumed_inputs"]);
        let broadcasts = cx.flag("broadcast", false)?;
        if let Some(axis) = cx.int("axis")?
            && broadcasts
        {
            align(cx, Axis(axis))?;
        }
    }
    cx.emit(Binary(f))
}

/// Gives input 1 the axes of size 1 that place its first axis at `axis` of input 0.
fn align(cx: &mut NodeCx<'_>, axis: Axis) -> Result<(), Reason> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (Some(ra), Some(rb)) = (cx.fact(a).rank(), cx.fact(b).rank()) else {
        return Err(crate::unsupported!("broadcasting at an axis needs known ranks"));
    };
    let axis = axis.resolve_position(ra)?;
    let missing = ra
        .checked_sub(axis + rb)
        .ok_or_else(|| invalid!("rank {rb} at axis {axis} does not fit into rank {ra}"))?;
    if missing > 0 {
        let positions: Vec<i64> = (rb..rb + missing).map(|i| i as i64).collect();
        let axes = cx.constant_ints(&positions);
        let b = cx.push1(Unsqueeze, &[b, axes])?;
        cx.set_input(1, b);
    }
    Ok(())
}

pub(super) fn import_bit_shift(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let left = match cx.string("direction")? {
        Some("LEFT") => true,
        Some("RIGHT") => false,
        other => return Err(invalid!("direction is {other:?}, not LEFT or RIGHT")),
    };
    import(cx, BinaryFn::BitShift { left })
}

pub(super) fn import_mod(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let fmod = match cx.int("fmod")?.unwrap_or(0) {
        0 => false,
        1 => true,
        other => return Err(invalid!("fmod is {other}, not 0 or 1")),
    };
    import(cx, BinaryFn::Mod { fmod })
}

pub(super) fn import_prelu(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    if cx.version < 7 {
        cx.ignore(&["consumed_inputs"]);
        // One slope for all, or one for each channel: axis 1.
        let (x, slope) = (cx.input(0)?, cx.input(1)?);
        let one = cx.fact(slope).shape().is_some_and(|s| s.iter().all(|n| n.is(1)));
        if cx.fact(slope).rank() == Some(1) && !one && cx.fact(x).rank() != Some(1) {
            align(cx, Axis(1))?;
        }
    }
    cx.emit(Binary(BinaryFn::PRelu))
}

/// Sum, Max, Min of any number of inputs: a chain of f.
pub(super) fn import_chain(cx: &mut NodeCx<'_>, f: BinaryFn) -> Result<Outputs, Reason> {
    let inputs = chain_inputs(cx)?;
    let Some((&last, rest @ [_, ..])) = inputs.split_last() else {
        return cx.emit(Identity);
    };
    let y = chain(cx, f, rest)?;
    cx.push(Binary(f), &[Some(y), Some(last)])
}

pub(super) fn import_mean(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let inputs = chain_inputs(cx)?;
    let sum = chain(cx, BinaryFn::Add, &inputs)?;
    let n = cx.scalar_like(sum, inputs.len() as f32)?;
    cx.push(Binary(BinaryFn::Div), &[Some(sum), Some(n)])
}

fn chain_inputs(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>, Reason> {
    if cx.version < 6 {
        cx.ignore(&["consumed_inputs"]);
    }
    cx.check_inputs(1, usize::MAX)?;
    cx.all_inputs()
}

/// f(f(x0, x1), x2) …; x0 if it is alone.
fn chain(cx: &mut NodeCx<'_>, f: BinaryFn, inputs: &[ValueId]) -> Result<ValueId, Reason> {
    let first = cx.input(0)?;
    inputs.iter().skip(1).try_fold(first, |sum, &x| cx.push1(Binary(f), &[sum, x]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(f: BinaryFn, a: &Fact, b: &Fact, expected: &str) {
        let made = Binary(f).infer(&Inputs::new(&[Some(a), Some(b)], 1));
        assert_eq!(made.map_or_else(|e| e.to_string(), |f| f[0].to_string()), expected);
    }

    fn dims(dims: &[Dim]) -> Fact {
        Fact::of_dims(dims.to_vec(), false)
    }

    #[test]
    fn shapes_broadcast() {
        let (a, b) = (Fact::sized(DType::F32, &[2, 1, 3]), Fact::sized(DType::F32, &[4, 1]));
        check(BinaryFn::Add, &a, &b, "float[2, 4, 3]");
        check(BinaryFn::Less, &a, &b, "bool[2, 4, 3]");
        check(BinaryFn::PRelu, &b, &b, "float[4, 1]");
        let wide = Fact::sized(DType::F32, &[4, 2]);
        check(
            BinaryFn::PRelu,
            &b,
            &wide,
            "the slope, float[4, 2], does not broadcast to float[4, 1]",
        );
    }

    #[test]
    fn dtypes_must_agree_except_in_pow() {
        let (a, b) = (Fact::sized(DType::F32, &[2]), Fact::sized(DType::I64, &[2]));
        check(BinaryFn::Add, &a, &b, "Add of float and int64 is not defined");
        check(BinaryFn::Pow, &a, &b, "float[2]");
        check(BinaryFn::BitwiseAnd, &a, &a, "BitwiseAnd of float and float is not defined");
    }

    #[test]
    fn arithmetic_on_shapes_is_known() {
        let n = Dim::symbol("n");
        let (a, b) = (dims(&[n.clone(), Dim::N(4)]), dims(&[Dim::N(2)]));
        check(BinaryFn::Mul, &a, &b, "int64[2] = [2n, 8]");
        check(BinaryFn::Sub, &a, &a, "int64[2]");
        let made = Binary(BinaryFn::Sub).infer(&Inputs::new(&[Some(&a), Some(&a)], 1)).unwrap();
        assert_eq!(made[0].ints().unwrap()[..], [0, 0]);
    }

    #[test]
    fn a_size_is_certainly_not_minus_one() {
        let (a, b) = (dims(&[Dim::symbol("n"), Dim::N(-1)]), dims(&[Dim::N(-1)]));
        let made = Binary(BinaryFn::Equal).infer(&Inputs::new(&[Some(&a), Some(&b)], 1)).unwrap();
        assert_eq!(made[0].tensor().unwrap().as_bytes(), [0, 1]);
    }
}
