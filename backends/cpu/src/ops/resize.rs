//! Resize: a tensor sampled at other places, axis by axis.
//!
//! y[.., o, ..] = Σ weight[o][t] · x[.., index[o][t], ..], for one axis after the other

mod linear;

use half::{bf16, f16};
use rinfer_graph::ops::{Interpolation, Resize, Samples, to_floats};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{DType, Reason, Tensor, invalid, unsupported, with_width};

use crate::kernel::{Args, Cx, Kernel};
use crate::par;
use crate::scratch::Scratch;
use crate::simd::Isa;

pub(super) fn compile(op: &Resize, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let input = cx.sizes(0)?;
    let scales = cx.opt(2).filter(|f| !f.is_empty());
    let sizes = cx.opt(3).filter(|f| !f.is_empty());
    let roi = cx.opt(1).filter(|f| !f.is_empty());
    let known = |f: Option<&rinfer_graph::Fact>| f.is_none_or(|f| f.tensor().is_some());
    let (op, output, isa) = (op.clone(), cx.out_sizes(0)?, cx.isa);
    if known(scales) && known(sizes) && known(roi) {
        let tensor = |f: Option<&rinfer_graph::Fact>| f.and_then(|f| f.tensor().cloned());
        let job = Job::new(&op, &input, &output, [tensor(roi), tensor(scales), tensor(sizes)])?;
        let scratch = job.scratch(cx.dtype(0)?);
        return Ok(Kernel::new(move |args| job.run(isa, args)).takes(scratch));
    }
    let most = input.iter().zip(&output).map(|(&a, &b)| a.max(b)).fold(1, usize::saturating_mul);
    let scratch = linear::scratch(cx.dtype(0)?, most.saturating_mul(2));
    Ok(Kernel::new(move |args| {
        let given = |i| args.opt(i).filter(|t| !t.is_empty()).cloned();
        Job::new(&op, &input, &output, [given(1), given(2), given(3)])?.run(isa, args)
    })
    .takes(scratch))
}

/// A resize of known sizes and places.
struct Job {
    /// The samples of each axis that changes.
    axes: Vec<(usize, Samples)>,
    nearest: bool,
    input: Sizes,
    output: Sizes,
}

impl Job {
    fn new(
        op: &Resize,
        input: &[usize],
        output: &[usize],
        [roi, scales, sizes]: [Option<Tensor>; 3],
    ) -> Result<Job, Reason> {
        let scales = scales.as_ref().map(to_floats).transpose()?;
        let sizes = sizes.as_ref().and_then(Tensor::to_ints);
        let resolved = op.resolve(input, scales.as_deref(), sizes.as_deref())?;
        let roi = roi.as_ref().map(to_floats).transpose()?;
        let count = resolved.len();
        if roi.as_ref().is_some_and(|roi| roi.len() != 2 * count) {
            return Err(invalid!("a region of interest for other than {count} axes"));
        }
        let mut axes = Vec::new();
        for (i, a) in resolved.iter().enumerate() {
            if output[a.axis] != a.output {
                return Err(invalid!(
                    "axis {} became {}, not {}",
                    a.axis,
                    a.output,
                    output[a.axis]
                ));
            }
            let ends = roi.as_ref().map(|roi| (roi[i], roi[count + i]));
            let samples = Samples::new(op, input[a.axis], a, ends)?;
            if !samples.is_identity(input[a.axis]) {
                axes.push((a.axis, samples));
            }
        }
        let nearest = matches!(op.interpolation, Interpolation::Nearest(_));
        // An axis that shrinks goes first, one that grows last: less is left to do in between.
        let ratio = |axis: usize| output[axis] as f64 / input[axis].max(1) as f64;
        axes.sort_by(|a, b| ratio(a.0).total_cmp(&ratio(b.0)).then(b.0.cmp(&a.0)));
        Ok(Job { axes, nearest, input: input.into(), output: output.into() })
    }

    /// What a run takes.
    fn scratch(&self, dtype: DType) -> Scratch {
        match self.copies() {
            true => Scratch::none(),
            false => {
                let (one, other) = linear::rooms(self);
                linear::scratch(dtype, one.saturating_add(other))
            }
        }
    }

    /// Whether each output is a copy of one input.
    fn copies(&self) -> bool {
        self.nearest && self.axes.iter().all(|(_, s)| s.outside.is_none())
    }

    fn run(&self, isa: Isa, args: &mut Args<'_>) -> Result<(), Reason> {
        let x = args.input(0)?;
        let cx = args.cx;
        let y = &mut args.outputs[0];
        if y.is_empty() {
            return Ok(());
        }
        let dtype = x.dtype();
        if self.copies() {
            return with_width!(dtype, W => {
                self.nearest(x.as_bits::<W>(), y.as_mut_bits::<W>());
                Ok(())
            }, else Err(unsupported!("Resize of {dtype} is not supported")));
        }
        macro_rules! through {
            ($Acc:ty: $($D:ident $T:ty),*) => {
                match dtype {
                    $(DType::$D => return linear::run::<$T, $Acc>(
                        isa, self, x.as_slice(), y.as_mut_slice(), cx),)*
                    _ => {}
                }
            };
        }
        through!(f32: F32 f32, F16 f16, BF16 bf16, I8 i8, U8 u8, I16 i16, U16 u16);
        through!(f64: F64 f64, I32 i32, U32 u32, I64 i64, U64 u64);
        Err(unsupported!("Resize of {dtype} by interpolation is not supported"))
    }

    /// Every axis at once: each output is a copy of one input.
    fn nearest<W: bytemuck::Pod + Send + Sync>(&self, x: &[W], y: &mut [W]) {
        let rank = self.input.len();
        let mut index: Vec<Vec<usize>> = self.input.iter().map(|&n| (0..n).collect()).collect();
        for (axis, samples) in &self.axes {
            index[*axis] = samples.nearest();
        }
        // Trailing axes that do not change move as one.
        let same = self.axes.iter().map(|(axis, _)| axis + 1).max().unwrap_or(0);
        let block: usize = self.input[same..].iter().product();
        let Some(last) = same.checked_sub(1) else {
            y.copy_from_slice(x);
            return;
        };
        debug_assert!(last < rank);
        let row = &index[last];
        let row_len = row.len() * block;
        let strides = rinfer_graph::shape::strides(&self.input);
        par::rows(y, row_len, row_len, |rows, y| {
            for (r, y) in rows.zip(y.chunks_exact_mut(row_len)) {
                let (mut rest, mut at) = (r, 0);
                for axis in (0..last).rev() {
                    at += index[axis][rest % self.output[axis]] * strides[axis];
                    rest /= self.output[axis];
                }
                let x = &x[at..at + self.input[last] * block];
                match block {
                    1 => y.iter_mut().zip(row).for_each(|(y, &i)| *y = x[i]),
                    _ => y.chunks_exact_mut(block).zip(row).for_each(|(y, &i)| {
                        y.copy_from_slice(&x[i * block..][..block]);
                    }),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
