//! Pools: the largest element, the mean or the p-norm of each window, or of a whole channel.
//!
//! x [n, c, s..]  →  y [n, c, o..]; a max pool also gives the places of the largest, int64 [n, c, o..]

use super::window::check_float;
use super::{Inputs, Window};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// What becomes of the elements under a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PoolKind {
    /// The largest, padding apart.
    Max {
        /// Whether places are counted with the first spatial axis fastest.
        column_major: bool,
    },
    /// The mean.
    Average {
        /// Whether padding counts as zeros.
        count_include_pad: bool,
    },
    /// (Σ |x|ᵖ)^(1/p)
    Lp {
        /// The order of the norm.
        p: f32,
    },
}

/// One of the six pools.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// What is computed.
    pub kind: PoolKind,
    /// The window; `None` is a window over each whole channel.
    pub window: Option<Window>,
}

impl Pool {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let dtype = x.dtype()?;
        let bytes = matches!(dtype, DType::I8 | DType::U8);
        if !(bytes && matches!(self.kind, PoolKind::Max { .. })) {
            check_float("a pool", dtype)?;
        }
        let shape = x.shape().map(|shape| self.shape(shape)).transpose()?;
        let y = Fact { shape: shape.clone(), ..Fact::unranked(dtype) };
        let mut facts: Facts = [y].into_iter().collect();
        if matches!(self.kind, PoolKind::Max { .. }) && self.window.is_some() {
            facts.push(Fact { shape, ..Fact::unranked(DType::I64) });
        }
        Ok(facts)
    }

    fn shape(&self, x: &[Dim]) -> Result<Shape, Reason> {
        let Some(axes) = x.len().checked_sub(2) else {
            return Err(invalid!("a pool over a tensor of rank {}", x.len()));
        };
        let mut shape: Shape = x[..2].iter().cloned().collect();
        match &self.window {
            None => shape.extend((0..axes).map(|_| Dim::N(1))),
            Some(window) => {
                window.check(axes)?;
                if window.kernel.len() != axes {
                    return Err(invalid!("kernel {:?} for {axes} spatial axes", window.kernel));
                }
                for (i, &kernel) in window.kernel.iter().enumerate() {
                    if let Some(input) = x[i + 2].size() {
                        window.check_same(i, kernel, input)?;
                    }
                    shape.push(window.out_dim(i, axes, Some(kernel), &x[i + 2])?);
                }
            }
        }
        Ok(shape)
    }
}

pub(super) fn import_window(cx: &NodeCx<'_>) -> Result<Option<Window>, Reason> {
    let mut window = Window::import(cx)?;
    window.ceil_mode = cx.flag("ceil_mode", false)?;
    if window.kernel.is_empty() {
        return Err(invalid!("attribute kernel_shape is missing"));
    }
    Ok(Some(window))
}

/// The attribute `p`: a float in the first version, an integer since.
fn import_p(cx: &NodeCx<'_>) -> Result<f32, Reason> {
    let p = if cx.version == 1 { cx.float("p")? } else { cx.int("p")?.map(|p| p as f32) };
    match p.unwrap_or(2.0) {
        p if p > 0.0 => Ok(p),
        p => Err(unsupported!("a pool of order {p} is not supported")),
    }
}

pub(super) fn import_max(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let column_major = cx.flag("storage_order", false)?;
    let window = import_window(cx)?;
    cx.emit(Pool { kind: PoolKind::Max { column_major }, window })
}

pub(super) fn import_average(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let count_include_pad = cx.flag("count_include_pad", false)?;
    let window = import_window(cx)?;
    cx.emit(Pool { kind: PoolKind::Average { count_include_pad }, window })
}

pub(super) fn import_lp(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let kind = PoolKind::Lp { p: import_p(cx)? };
    let window = import_window(cx)?;
    cx.emit(Pool { kind, window })
}

pub(super) fn import_global_max(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.emit(Pool { kind: PoolKind::Max { column_major: false }, window: None })
}

pub(super) fn import_global_average(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.emit(Pool { kind: PoolKind::Average { count_include_pad: false }, window: None })
}

pub(super) fn import_global_lp(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let kind = PoolKind::Lp { p: import_p(cx)? };
    cx.emit(Pool { kind, window: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_pool_leaves_one_element_per_channel() {
        let x = Fact::new(
            DType::F32,
            [Dim::symbol("n"), 8.into(), 7.into(), 5.into()].into_iter().collect(),
        );
        let pool = Pool { kind: PoolKind::Average { count_include_pad: false }, window: None };
        let out = pool.infer(&Inputs::new(&[Some(&x)], 1)).unwrap();
        assert_eq!(out[0].to_string(), "float[n, 8, 1, 1]");
    }

    #[test]
    fn bytes_have_a_largest_but_no_mean() {
        let x = Fact::sized(DType::U8, &[1, 1, 4]);
        let infer = |kind| Pool { kind, window: None }.infer(&Inputs::new(&[Some(&x)], 1));
        assert!(infer(PoolKind::Max { column_major: false }).is_ok());
        assert!(infer(PoolKind::Average { count_include_pad: false }).is_err());
    }
}
