//! MaxUnpool: puts each element where a max pool found it, zeros elsewhere.
//!
//! x [n, c, s..], places int64 like x, output_shape int64 [r]  →  [n, c, o..]
//!
//! o = (s - 1) · stride - pads + kernel; places count over [n, c, o..]

use super::window::{check_float, per_axis};
use super::{Inputs, PerAxis, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, show};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// The partial inverse of a max pool; input 2, the output's shape, may be omitted.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxUnpool {
    /// Elements of the window along each axis.
    pub kernel: PerAxis,
    /// Steps between two places; empty means 1.
    pub strides: PerAxis,
    /// Padding before each axis, then after; empty means none.
    pub pads: PerAxis,
}

impl MaxUnpool {
    /// The shape in which places count: what the pool's input was, if its size was exact.
    pub fn shape(&self, x: &[Dim]) -> Result<Shape, Reason> {
        let Some(axes) = x.len().checked_sub(2).filter(|&axes| axes == self.kernel.len()) else {
            let kernel = &self.kernel;
            return Err(invalid!("a kernel {kernel:?} for an input of rank {}", x.len()));
        };
        if (!self.strides.is_empty() && self.strides.len() != axes)
            || (!self.pads.is_empty() && self.pads.len() != 2 * axes)
        {
            let (strides, pads) = (&self.strides, &self.pads);
            return Err(invalid!("strides {strides:?} and pads {pads:?} for {axes} spatial axes"));
        }
        let mut shape: Shape = x[..2].iter().cloned().collect();
        for i in 0..axes {
            let stride = Dim::from(self.strides.get(i).copied().unwrap_or(1));
            let pad = |i: usize| Dim::from(self.pads.get(i).copied().unwrap_or(0));
            let size = x[i + 2].sub(&Dim::N(1)).mul(&stride).add(&Dim::from(self.kernel[i]));
            shape.push(size.sub(&pad(i)).sub(&pad(i + axes)));
        }
        Ok(shape)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        check_float("MaxUnpool", dtype)?;
        if inputs.dtype(1)? != DType::I64 {
            return Err(invalid!("places are {}, not int64", inputs.get(1)?.ty));
        }
        if let (Some(a), Some(b)) = (x.sizes(), inputs.get(1)?.sizes())
            && a != b
        {
            return Err(invalid!("places {b:?} for an input {a:?}"));
        }
        let inner = x.shape().map(|shape| self.shape(shape)).transpose()?;
        let Some(given) = inputs.opt(2) else {
            return one(Fact { shape: inner, ..Fact::unranked(dtype) });
        };
        let Some(given) = given.dims() else {
            return one(match inner {
                Some(inner) => Fact::ranked(dtype, inner.len()),
                None => Fact::unranked(dtype),
            });
        };
        let short = |(a, b): (&Dim, &Dim)| matches!((a, b), (Dim::N(a), Dim::N(b)) if a < b);
        if let Some(inner) = inner
            && (inner.len() != given.len() || given.iter().zip(&inner).any(short))
        {
            let (given, inner) = (show(&given), show(&inner));
            return Err(invalid!("an output {given} does not hold the pool's input {inner}"));
        }
        one(Fact::new(dtype, given.into_iter().collect()))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    let op = MaxUnpool {
        kernel: per_axis(cx, "kernel_shape")?,
        strides: per_axis(cx, "strides")?,
        pads: per_axis(cx, "pads")?,
    };
    cx.emit(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_what_the_pool_read_or_larger() {
        let op = MaxUnpool {
            kernel: [2, 2].into_iter().collect(),
            strides: [2, 2].into_iter().collect(),
            pads: PerAxis::new(),
        };
        let x = Fact::sized(DType::F32, &[1, 1, 2, 2]);
        let places = Fact::sized(DType::I64, &[1, 1, 2, 2]);
        let infer = |shape: Option<&Fact>| {
            op.infer(&Inputs::new(&[Some(&x), Some(&places), shape], 1)).map(|f| f[0].to_string())
        };
        assert_eq!(infer(None).unwrap(), "float[1, 1, 4, 4]");
        let given = |n| Fact::constant(crate::Tensor::vector(&[1i64, 1, n, n]));
        assert_eq!(infer(Some(&given(5))).unwrap(), "float[1, 1, 5, 5]");
        assert!(infer(Some(&given(3))).is_err());
    }
}
