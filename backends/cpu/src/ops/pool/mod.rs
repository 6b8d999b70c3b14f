//! Pools: the largest element, the mean or the p-norm of each window.
//!
//! A window over several axes is worked off axis by axis ([`axis`]); with the places of the
//! largest elements it is not ([`places`]).

mod axis;
mod global;
pub(crate) mod last;
mod places;

use rinfer_graph::ops::{Pool, PoolKind};
use rinfer_graph::{DType, Reason, unsupported};

use super::staged::{self, needed, single};
use crate::conv::Geometry;
use crate::kernel::{Args, Cx, Kernel};
use crate::simd::Isa;

use axis::{Item, Steps};

pub(super) fn compile(op: &Pool, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let x = cx.sizes(0)?;
    let (isa, kind, dtype) = (cx.isa, op.kind, cx.dtype(0)?);
    let Some(window) = &op.window else {
        return global::compile(kind, x[2..].iter().product(), cx);
    };
    let spans = window.spans(&window.kernel, &x[2..])?;
    let g = Geometry::new(x[0], x[1].max(1), (x[1], x[1]), &spans)?;
    if let (PoolKind::Max { column_major }, true) = (kind, cx.wants(1)) {
        return places::compile(g, dtype, column_major);
    }
    let channels = g.batch * g.group;
    let steps = Steps::new(g, kind);
    let room = |bytes: usize| steps.scratch(channels, bytes);
    let scratch = match dtype {
        DType::F16 | DType::BF16 => staged::scratch(cx).and(room(4)),
        dtype => room(dtype.size()),
    };
    let kernel = match dtype {
        DType::F32 => Ok(Kernel::new(move |args| typed::<f32>(isa, &steps, args))),
        DType::F64 => Ok(Kernel::new(move |args| typed::<f64>(isa, &steps, args))),
        DType::I8 => Ok(Kernel::new(move |args| typed::<i8>(isa, &steps, args))),
        DType::U8 => Ok(Kernel::new(move |args| typed::<u8>(isa, &steps, args))),
        DType::F16 | DType::BF16 => Ok(Kernel::new(move |args| {
            let cx = args.cx;
            single(isa, args, |inputs, outputs| steps.run(isa, needed(inputs, 0)?, outputs[0], cx))
        })),
        other => Err(unsupported!("a pool over {other} is not supported")),
    };
    Ok(kernel?.takes(scratch))
}

fn typed<T: Item>(isa: Isa, steps: &Steps, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?.as_slice::<T>();
    let cx = args.cx;
    steps.run(isa, x, args.outputs[0].as_mut_slice::<T>(), cx)
}

#[cfg(test)]
mod tests;
