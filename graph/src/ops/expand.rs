//! Expand and Tile: a tensor repeated along axes.
//!
//! Expand: x, shape → x broadcast with the shape. Tile: y[i…] = x[i mod n…], n·repeats elements
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, broadcast, show};
use crate::{DType, Dim, Fact, Facts, Reason, Tensor, Value, invalid, unsupported};

/// x, shape: int64 [r] → x broadcast with that shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Expand;

impl Expand {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, wanted) = (inputs.get(0)?, inputs.get(1)?);
        let dtype = x.dtype()?;
        let Some(dims) = wanted.dims().or_else(|| wanted.elements()) else {
            return one(Fact::unranked(dtype));
        };
        if let Some(n) = dims.iter().filter_map(Dim::value).find(|&n| n < 0) {
            return Err(invalid!("size {n} in the shape {}", show(&dims)));
        }
        let Some(shape) = x.shape() else { return one(Fact::unranked(dtype)) };
        let out = broadcast(shape, &dims)?;
        // A short vector of one value, as exporters make for Where and ScatterND over shapes.
        let len = out.iter().try_fold(1, |n: i64, d| n.checked_mul(d.value()?));
        if dtype == DType::I64
            && out.len() <= 1
            && let (Some(elements), Some(0..=128)) = (x.elements(), len)
            && let [value] = &elements[..]
            && *value != Dim::Unknown
        {
            let n = len.unwrap_or(1) as usize;
            return one(Fact::of_dims(vec![value.clone(); n], out.is_empty()));
        }
        one(Fact::new(dtype, out))
    }
}

/// x, repeats: int64 [rank] → x that many times along each axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile;

impl Tile {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (x, repeats) = (inputs.get(0)?, inputs.get(1)?);
        let dtype = x.dtype()?;
        let rank = || repeats.shape().and_then(|s| s.first()?.size()).filter(|&r| r <= 64);
        let Some(shape) = x.shape() else {
            return one(match rank() {
                Some(rank) => Fact::ranked(dtype, rank),
                None => Fact::unranked(dtype),
            });
        };
        let Some(repeats) = repeats.dims() else {
            return one(Fact::ranked(dtype, shape.len()));
        };
        if repeats.len() != shape.len() {
            return Err(invalid!("{} repeats for {} axes", repeats.len(), shape.len()));
        }
        if let Some(n) = repeats.iter().filter_map(Dim::value).find(|&n| n < 0) {
            return Err(invalid!("{n} repeats in {}", show(&repeats)));
        }
        let out: Shape = shape.iter().zip(&repeats).map(|(d, n)| d.mul(n)).collect();
        if let Some(i) = (0..out.len()).find(|&i| too_large(&shape[i], &repeats[i], &out[i])) {
            return Err(invalid!("{} repeats of size {} are too many", repeats[i], shape[i]));
        }
        one(Fact::new(dtype, out))
    }
}

/// Whether the product of two numbers overflowed.
fn too_large(a: &Dim, b: &Dim, product: &Dim) -> bool {
    a.value().is_some() && b.value().is_some() && product.value().is_none()
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    cx.emit(Expand)
}

/// ConstantOfShape(shape) is Expand(value, shape).
pub(super) fn import_constant_of_shape(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let value = match cx.tensor("value")? {
        None => Tensor::scalar(0f32),
        Some(Value::Tensor(t)) if t.len() == 1 => t.reshaped(&[])?,
        Some(Value::Tensor(t)) => {
            return Err(invalid!("the value has {} elements where 1 is needed", t.len()));
        }
        Some(other) => return Err(invalid!("the value is a {}", other.ty())),
    };
    let (value, shape) = (cx.constant(value), cx.input(0)?);
    cx.push(Expand, &[Some(value), Some(shape)])
}

pub(super) fn import_tile(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    if cx.version < 6 {
        // Version 1 repeats along one axis; `tiles` and `axis` have the dtype of the input.
        let number = |i: usize| {
            let fact = cx.fact(cx.input(i)?);
            let ints = fact.ints().and_then(|v| v.first().copied());
            ints.or_else(|| fact.tensor()?.to_f32().map(|x| x as i64))
                .ok_or_else(|| unsupported!("Tile-1 whose tiles and axis are no constants"))
        };
        let (tiles, axis, x) = (number(1)?, number(2)?, cx.input(0)?);
        let rank = cx.fact(x).rank().ok_or_else(|| unsupported!("Tile-1 of unknown rank"))?;
        let mut repeats = vec![1; rank];
        repeats[super::Axis(axis).resolve(rank)?] = tiles;
        let repeats = cx.constant_ints(&repeats);
        return cx.push(Tile, &[Some(x), Some(repeats)]);
    }
    cx.check_inputs(2, 2)?;
    cx.emit(Tile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expand_broadcasts_both_ways() {
        let x = Fact::new(DType::F32, [Dim::symbol("n"), Dim::N(1)].into_iter().collect());
        let shape = Fact::of_dims(vec![Dim::symbol("b"), Dim::N(1), Dim::N(4)], false);
        let out = Expand.infer(&Inputs::new(&[Some(&x), Some(&shape)], 1)).unwrap();
        assert_eq!(out[0].to_string(), "float[b, n, 4]");
    }

    #[test]
    fn a_short_vector_of_one_value_is_known() {
        let x = Fact::constant(Tensor::scalar(-1i64));
        let shape = Fact::constant(Tensor::vector(&[3i64]));
        let out = Expand.infer(&Inputs::new(&[Some(&x), Some(&shape)], 1)).unwrap();
        assert_eq!(out[0].ints().unwrap()[..], [-1, -1, -1]);
    }

    #[test]
    fn tile_that_overflows_is_refused() {
        let x = Fact::sized(DType::F32, &[3]);
        let repeats = Fact::constant(Tensor::vector(&[i64::MAX]));
        assert!(Tile.infer(&Inputs::new(&[Some(&x), Some(&repeats)], 1)).is_err());
    }
}
