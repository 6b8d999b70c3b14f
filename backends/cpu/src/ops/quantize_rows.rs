//! QuantizeRows: the largest of a row, then its codes, while the row is in cache.
//!
//! A row that holds NaN has NaN for a scale; an infinite one makes an infinite scale.

use rinfer_graph::ops::QuantizeRows;
use rinfer_graph::{Reason, Tensor, invalid};

use super::quantize::encode;
use crate::kernel::{Cx, Kernel};
use crate::par;

pub(super) fn compile(op: &QuantizeRows, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (isa, QuantizeRows { levels, least, zero }) = (cx.isa, op.clone());
    let k = cx.sizes(0)?.last().copied().ok_or_else(|| invalid!("a scalar has no rows"))?;
    Ok(Kernel::new(move |args| {
        let x: &[f32] = args.input(0)?.as_slice();
        let (codes, mut scales) = match &mut *args.outputs {
            [codes] => (codes.as_mut_slice::<u8>(), None),
            [codes, scales] => (codes.as_mut_slice(), Some(scales)),
            other => return Err(invalid!("{} outputs instead of 2", other.len())),
        };
        let n = x.len().checked_div(k).unwrap_or(0);
        let mut unused = Vec::new();
        let scales: &mut [f32] = match &mut scales {
            Some(scales) => Tensor::as_mut_slice(scales),
            None => {
                unused.resize(n, 0.0);
                &mut unused
            }
        };
        if k == 0 {
            // The largest of none is -∞.
            scales.fill(least / levels);
            return Ok(());
        }
        let work = ((x, k), (codes, k), (scales, 1));
        par::split(work, n, par::grain(20 + k / 4), |_, (x, codes, scales)| {
            let rows = x.0.chunks(k).zip(codes.0.chunks_mut(k));
            for ((x, codes), scale) in rows.zip(scales.0) {
                let most = f32::from_bits(most(isa, x));
                // NaN stays.
                *scale = if most < least { least } else { most } / levels;
                encode(isa, [*scale, f32::from(zero), 0.0, 255.0], x, codes);
            }
        });
        Ok(())
    }))
}

crate::simd_fn! {
    /// The bits of the largest magnitude, NaN above all.
    fn most(_s: S, x: &[f32]) -> u32 {
        x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7fff_ffff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;
    use rinfer_graph::Value;

    const OP: QuantizeRows = QuantizeRows { levels: 127.0, least: 1e-30, zero: 128 };

    fn of(isa: Isa, sizes: &[usize], x: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let y = run(isa, OP, &[Tensor::from_slice(sizes, x).into()], 2).unwrap();
        let [Value::Tensor(codes), Value::Tensor(scales)] = &y[..] else { panic!("{y:?}") };
        (codes.as_slice().to_vec(), scales.as_slice().to_vec())
    }

    #[test]
    fn each_row_is_measured_by_its_largest() {
        let x = [1.0, -2.0, 0.5, 0.0, 0.0, 0.0, 254.0, 3.0, -5.0];
        for isa in Isa::available() {
            let (codes, scales) = of(isa, &[3, 1, 3], &x);
            assert_eq!(scales, [2.0 / 127.0, 1e-30 / 127.0, 2.0]);
            assert_eq!(codes, [192, 1, 160, 128, 128, 128, 255, 130, 126]);
        }
    }

    #[test]
    fn what_is_no_number_stays_in_its_row() {
        let x = [1.0, f32::NAN, 2.0, 1.0, f32::INFINITY, 1.0];
        for isa in Isa::available() {
            let (codes, scales) = of(isa, &[3, 2], &x);
            assert!(scales[0].is_nan() && scales[2] == f32::INFINITY);
            assert_eq!((scales[1], &codes[2..4]), (2.0 / 127.0, &[255, 192][..]));
        }
    }

    #[test]
    fn long_rows_agree_with_short_ones() {
        let x: Vec<f32> = (0..4 * 515).map(|i| ((i * 7919 % 1000) as f32 - 400.0) * 0.37).collect();
        for isa in Isa::available() {
            let (codes, scales) = of(isa, &[4, 515], &x);
            for (r, x) in x.chunks(515).enumerate() {
                let scale = x.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0;
                assert_eq!(scales[r], scale);
                let want = x.iter().map(|x| ((x / scale).round_ties_even() + 128.0) as u8);
                assert!(want.eq(codes[r * 515..][..515].iter().copied()));
            }
        }
    }
}
