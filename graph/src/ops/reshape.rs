//! Reshape, Flatten, Squeeze, Unsqueeze: the same elements under another shape.
use smallvec::SmallVec;

use super::{Axis, Inputs, one, resolve_axes};
use crate::fact::Known;
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, show};
use crate::{Dim, Fact, Facts, Reason, invalid};

/// x, shape: int64 [r] → x with that shape; -1 is inferred, 0 copies unless `allowzero`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// Whether 0 in `shape` means a size of 0 instead of a copy of the input's.
    pub allowzero: bool,
}

impl Reshape {
    /// The output's shape from the input's and the wanted one; unknown sizes stay unknown.
    pub fn resolve(&self, input: &[Dim], wanted: &[Dim]) -> Result<Shape, Reason> {
        let mut out = Shape::new();
        let mut inferred = None;
        for (i, dim) in wanted.iter().enumerate() {
            match dim.value() {
                Some(-1) if inferred.is_some() => {
                    return Err(invalid!("more than one -1 in the shape {}", show(wanted)));
                }
                Some(-1) => {
                    inferred = Some(i);
                    out.push(Dim::N(1));
                }
                Some(0) if !self.allowzero => out.push(input.get(i).cloned().ok_or_else(|| {
                    invalid!(
                        "0 at {i} of the shape {} copies no size of {}",
                        show(wanted),
                        show(input)
                    )
                })?),
                Some(n) if n < 0 => return Err(invalid!("size {n} in the shape {}", show(wanted))),
                _ => out.push(dim.clone()),
            }
        }
        let mismatch = || invalid!("{} cannot take the shape {}", show(input), show(wanted));
        if let Some(i) = inferred {
            if self.allowzero && wanted.iter().any(|d| d.is(0)) {
                return Err(invalid!("0 and -1 together in {} with allowzero", show(wanted)));
            }
            if overflows(&out) {
                return Err(mismatch());
            }
            out[i] = quotient(input, &out).ok_or_else(mismatch)?;
        } else if overflows(&out) {
            return Err(mismatch());
        } else if let (Some(a), Some(b)) = (product(input), product(&out))
            && a != b
        {
            return Err(mismatch());
        }
        Ok(out)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, wanted) = (inputs.get(0)?, inputs.get(1)?);
        let fact = match (x.shape(), wanted.dims()) {
            (Some(shape), Some(wanted)) => with_shape(x, self.resolve(shape, &wanted)?),
            (None, Some(wanted)) if wanted.iter().all(|d| d.value().is_some_and(|n| n > 0)) => {
                with_shape(x, wanted.iter().cloned().collect())
            }
            (_, Some(wanted)) => {
                Fact { shape: Some(SmallVec::from_elem(Dim::Unknown, wanted.len())), ..unknown(x) }
            }
            _ => match wanted.shape().and_then(|s| s.first()?.size()) {
                Some(rank) if rank <= 64 => {
                    Fact { shape: Some(SmallVec::from_elem(Dim::Unknown, rank)), ..unknown(x) }
                }
                _ => unknown(x),
            },
        };
        one(fact)
    }
}

/// x [d0, …] → [d0 … d(axis-1), d(axis) …]
#[derive(Clone, Debug, PartialEq)]
pub struct Flatten {
    /// The first axis of the second output axis; may be the rank.
    pub axis: Axis,
}

impl Flatten {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let Some(shape) = x.shape() else {
            return one(Fact { shape: Some(SmallVec::from_elem(Dim::Unknown, 2)), ..unknown(x) });
        };
        let axis = self.axis.resolve_position(shape.len())?;
        let fold = |dims: &[Dim]| dims.iter().fold(Dim::N(1), |n, d| n.mul(d));
        one(with_shape(x, [fold(&shape[..axis]), fold(&shape[axis..])].into_iter().collect()))
    }
}

/// Drops axes of size 1: those of input 1, or all of them without it.
#[derive(Clone, Debug, PartialEq)]
pub struct Squeeze;

impl Squeeze {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let axes = match inputs.opt(1) {
            None => None,
            Some(axes) => match axes.ints() {
                Some(axes) => Some(axes),
                None => return one(unknown(x)),
            },
        };
        let Some(shape) = x.shape() else { return one(unknown(x)) };
        let Some(axes) = axes else {
            if shape.iter().any(|d| d.value().is_none()) {
                return one(unknown(x));
            }
            return one(with_shape(x, shape.iter().filter(|d| !d.is(1)).cloned().collect()));
        };
        let axes = resolve_axes(&axes, shape.len())?;
        if let Some(&axis) = axes.iter().find(|&&a| shape[a].value().is_some_and(|n| n != 1)) {
            return Err(invalid!("axis {axis} of {} has not size 1", show(shape)));
        }
        let kept = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i].clone());
        one(with_shape(x, kept.collect()))
    }
}

/// Adds axes of size 1, at the positions of input 1 in the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsqueeze;

impl Unsqueeze {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let (Some(shape), Some(axes)) = (x.shape(), inputs.get(1)?.ints()) else {
            return one(unknown(x));
        };
        let rank = shape.len() + axes.len();
        let axes = resolve_axes(&axes, rank)?;
        let mut old = shape.iter().cloned();
        let out = (0..rank).map(|i| match axes.contains(&i) {
            true => Dim::N(1),
            false => old.next().unwrap_or(Dim::Unknown),
        });
        one(with_shape(x, out.collect()))
    }
}

/// The same content under another shape.
fn with_shape(x: &Fact, shape: Shape) -> Fact {
    let sizes: Option<SmallVec<[usize; 6]>> = shape.iter().map(Dim::size).collect();
    let known = match (&x.known, sizes) {
        (Some(Known::Const(t)), Some(sizes)) => t.clone().reshaped(&sizes).ok().map(Known::Const),
        (Some(Known::Dims(dims)), _) if shape.len() <= 1 => Some(Known::Dims(dims.clone())),
        _ => None,
    };
    Fact { ty: x.ty.clone(), shape: Some(shape), known }
}

fn unknown(x: &Fact) -> Fact {
    Fact { ty: x.ty.clone(), shape: None, known: None }
}

/// The product of sizes that are all numbers.
fn product(dims: &[Dim]) -> Option<i64> {
    if dims.iter().any(|d| d.is(0)) {
        return Some(0);
    }
    dims.iter().try_fold(1i64, |n, d| n.checked_mul(d.value()?))
}

/// Whether sizes that are all numbers make more elements than can be counted.
fn overflows(dims: &[Dim]) -> bool {
    dims.iter().all(|d| d.value().is_some()) && product(dims).is_none()
}

/// `∏ a / ∏ b`, equal sizes cancelled; `None` if it certainly leaves a remainder.
fn quotient(a: &[Dim], b: &[Dim]) -> Option<Dim> {
    if b.iter().any(|d| d.is(0)) {
        // 0 elements either way; NumPy and ONNX Runtime agree that the missing size is 0 or an
        // error: any size would do, so the only one that is no guess is refused.
        return product(a).filter(|&n| n == 0).map(|_| Dim::N(0));
    }
    let mut rest: SmallVec<[&Dim; 6]> = b.iter().filter(|d| !d.is(1)).collect();
    let mut top: SmallVec<[&Dim; 6]> = SmallVec::new();
    for dim in a.iter().filter(|d| !d.is(1)) {
        match rest.iter().position(|d| d.same(dim)) {
            Some(i) => drop(rest.remove(i)),
            None => top.push(dim),
        }
    }
    let fold = |dims: &[&Dim]| dims.iter().fold(Dim::N(1), |n, d| n.mul(d));
    let (top, rest) = (fold(&top), fold(&rest));
    match (top.value(), rest.value()) {
        (Some(m), Some(n)) if n != 0 => (m % n == 0).then(|| Dim::N(m / n)),
        _ => Some(top.div(&rest)),
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let allowzero = cx.int("allowzero")?.unwrap_or(0) != 0;
    if cx.version < 5 {
        cx.attr_to_input("shape", 1)?;
    }
    cx.emit(Reshape { allowzero })
}

pub(super) fn import_flatten(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let axis = Axis(cx.int("axis")?.unwrap_or(1));
    cx.emit(Flatten { axis })
}

pub(super) fn import_squeeze(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    if cx.version < 13 {
        cx.attr_to_input("axes", 1)?;
    }
    cx.emit(Squeeze)
}

pub(super) fn import_unsqueeze(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    if cx.version < 13 {
        cx.attr_to_input("axes", 1)?;
    }
    cx.emit(Unsqueeze)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[Dim], wanted: &[i64], expected: &str) {
        let wanted: Vec<Dim> = wanted.iter().map(|&n| Dim::N(n)).collect();
        let out = Reshape { allowzero: false }.resolve(input, &wanted);
        assert_eq!(out.map_or_else(|e| e.to_string(), |s| show(&s)), expected);
    }

    #[test]
    fn minus_one_takes_what_is_left() {
        let n = Dim::symbol("n");
        check(&[Dim::N(2), Dim::N(6)], &[3, -1], "[3, 4]");
        check(&[n.clone(), Dim::N(8), Dim::N(4)], &[0, -1], "[n, 32]");
        check(&[n.clone(), Dim::N(8)], &[-1, 4], "[2n, 4]");
        check(&[Dim::N(5)], &[2, -1], "[5] cannot take the shape [2, -1]");
    }

    #[test]
    fn a_different_number_of_elements_is_refused() {
        check(&[Dim::N(5)], &[2, 3], "[5] cannot take the shape [2, 3]");
        check(&[Dim::N(5)], &[-1, -1], "more than one -1 in the shape [-1, -1]");
    }
}
