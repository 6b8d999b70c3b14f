//! Max pools that also give the place of each largest element, counted over the whole input.

use half::{bf16, f16};
use rinfer_graph::{DType, Element, Reason, unsupported};

use crate::conv::Geometry;
use crate::conv::geometry::taps_inside;
use crate::kernel::{Args, Kernel};
use crate::par;

pub(super) fn compile(g: Geometry, dtype: DType, column_major: bool) -> Result<Kernel, Reason> {
    let strides = strides(&g, column_major);
    Ok(match dtype {
        DType::F32 => Kernel::new(move |args| run::<f32>(&g, strides, args)),
        DType::F64 => Kernel::new(move |args| run::<f64>(&g, strides, args)),
        DType::F16 => Kernel::new(move |args| run::<f16>(&g, strides, args)),
        DType::BF16 => Kernel::new(move |args| run::<bf16>(&g, strides, args)),
        DType::I8 => Kernel::new(move |args| run::<i8>(&g, strides, args)),
        DType::U8 => Kernel::new(move |args| run::<u8>(&g, strides, args)),
        other => return Err(unsupported!("a max pool over {other} is not supported")),
    })
}

/// What one step along each axis adds to a place.
fn strides(g: &Geometry, column_major: bool) -> [usize; 3] {
    let [d, h, w] = g.axes.map(|a| a.input);
    // Missing axes have size 1 and index 0, so the first of them that is there has stride 1.
    if column_major { [1, d, d * h] } else { [h * w, w, 1] }
}

fn run<T: Element + PartialOrd>(
    g: &Geometry,
    strides: [usize; 3],
    args: &mut Args<'_>,
) -> Result<(), Reason> {
    let x = args.input(0)?.as_slice::<T>();
    let cx = args.cx;
    let [y, places] = args.outputs else {
        return Err(rinfer_graph::invalid!("a max pool with places has two outputs"));
    };
    let (len, out) = (g.in_len(), g.out_len());
    let (y, places) = (y.as_mut_slice::<T>(), places.as_mut_slice::<i64>());
    if y.is_empty() {
        return Ok(());
    }
    let n = y.len() / out;
    let grain = par::grain(out.saturating_mul(g.taps()));
    let failure = par::Failure::default();
    par::split(((y, out), (places, out)), n, grain, |first, ((y, _), (places, _))| {
        let channels = y.chunks_mut(out).zip(places.chunks_mut(out));
        for (i, (y, places)) in channels.enumerate() {
            let base = (first + i) * len;
            failure.attempt(|| {
                channel(g, strides, &x[base..][..len], y, places);
                places.iter_mut().for_each(|p| *p += base as i64);
                cx.check()
            });
        }
    });
    failure.result()
}

fn channel<T: Element + PartialOrd>(
    g: &Geometry,
    strides: [usize; 3],
    x: &[T],
    y: &mut [T],
    places: &mut [i64],
) {
    let [d, h, w] = &g.axes;
    let mut out = y.iter_mut().zip(places);
    for z in 0..d.output {
        for r in 0..h.output {
            for (c, (y, place)) in (0..w.output).zip(&mut out) {
                let mut best: Option<(T, usize)> = None;
                for kz in taps_inside(d, z) {
                    let iz = z * d.stride + kz * d.dilation - d.before;
                    for kr in taps_inside(h, r) {
                        let ir = r * h.stride + kr * h.dilation - h.before;
                        for kc in taps_inside(w, c) {
                            let ic = c * w.stride + kc * w.dilation - w.before;
                            let v = x[(iz * h.input + ir) * w.input + ic];
                            if best.is_none_or(|(b, _)| v > b) {
                                let at = iz * strides[0] + ir * strides[1] + ic * strides[2];
                                best = Some((v, at));
                            }
                        }
                    }
                }
                // A window in the padding alone has no largest element.
                let (v, at) = best.unwrap_or_default();
                (*y, *place) = (v, at as i64);
            }
        }
    }
}
