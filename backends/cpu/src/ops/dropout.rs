//! Dropout: y = x · mask / (1 - ratio) in training, else the input.
//!
//! An element stays where NumPy's next uniform number is at least the ratio.

use half::{bf16, f16};
use rinfer_graph::ops::Dropout;
use rinfer_graph::{Bool, DType, Element, Reason, Tensor, invalid, unsupported, with_width};

use super::random::{Source, one_bits};
use super::softmax::source;
use crate::kernel::{Args, Cx, Kernel};

pub(super) fn compile(op: &Dropout, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let seed = op.seed.map(|seed| u32::try_from(seed).unwrap_or(seed as u32 ^ (seed >> 32) as u32));
    let random = Source::new(seed, cx);
    let one = one_bits(op.mask)?;
    let dtype = cx.dtype(0)?;
    if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        return Err(unsupported!("Dropout of {dtype} is not supported"));
    }
    Ok(Kernel::new(move |args| run(random, one, args)).in_place(&[0]))
}

fn run(random: Source, one: u64, args: &mut Args<'_>) -> Result<(), Reason> {
    let trains = args.opt(2).is_some_and(|t| t.as_slice::<Bool>().first().is_some_and(|b| b.get()));
    let ratio = match args.opt(1).filter(|_| trains) {
        Some(ratio) => {
            ratio.to_f32().ok_or_else(|| invalid!("{} ratios where one is needed", ratio.len()))?
        }
        None if trains => 0.5,
        None => 0.0,
    };
    if !(0.0..1.0).contains(&ratio) {
        return Err(invalid!("the ratio is {ratio}, not in [0, 1)"));
    }
    args.cx.check()?;
    let n = args.outputs[0].len();
    let stays: Vec<bool> = if ratio == 0.0 {
        vec![true; n]
    } else {
        let mut random = random.generator(args.cx);
        std::iter::repeat_with(|| random.uniform() >= ratio as f64).take(n).collect()
    };
    let scale = 1.0 / (1.0 - ratio);
    match args.outputs[0].dtype() {
        DType::F32 => apply::<f32>(args, &stays, |x| x * scale),
        DType::F64 => apply::<f64>(args, &stays, |x| x * scale as f64),
        DType::F16 => apply::<f16>(args, &stays, |x| f16::from_f32(x.to_f32() * scale)),
        _ => apply::<bf16>(args, &stays, |x| bf16::from_f32(x.to_f32() * scale)),
    }
    match args.outputs.get_mut(1) {
        Some(mask) => write_mask(&stays, one, mask),
        None => Ok(()),
    }
}

fn apply<T: Element>(args: &mut Args<'_>, stays: &[bool], scaled: impl Fn(T) -> T) {
    let x = source::<T>(args);
    let y = args.outputs[0].as_mut_slice::<T>();
    if !x.is_empty() {
        y.copy_from_slice(x);
    }
    for (y, &stays) in y.iter_mut().zip(stays) {
        *y = if stays { scaled(*y) } else { T::default() };
    }
}

fn write_mask(stays: &[bool], one: u64, mask: &mut Tensor) -> Result<(), Reason> {
    let dtype = mask.dtype();
    with_width!(dtype, W => {
        for (mask, &stays) in mask.as_mut_bits::<W>().iter_mut().zip(stays) {
            *mask = if stays { one as W } else { 0 };
        }
        Ok(())
    }, else Err(unsupported!("a mask of {dtype}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run as run_op, run1};
    use crate::simd::Isa;
    use rinfer_graph::Value;

    const OP: Dropout = Dropout { seed: Some(0), mask: DType::Bool };

    #[test]
    fn inference_changes_nothing() {
        let x = Tensor::vector(&[1.0f32, 2.0]);
        let y = run_op(Isa::best(), OP, &[Value::Tensor(x.clone())], 2).unwrap();
        assert_eq!(y[0].as_tensor().unwrap(), &x);
        assert_eq!(y[1].as_tensor().unwrap().as_slice::<Bool>(), [Bool(1), Bool(1)]);
    }

    #[test]
    fn training_drops_where_numpys_numbers_say() {
        // RandomState(0).uniform begins 0.55, 0.72, 0.60, 0.54, 0.42
        let inputs = [
            Tensor::vector(&[1.0f32, 2.0, 3.0, 4.0, 5.0]),
            Tensor::scalar(0.58f32),
            Tensor::scalar(Bool(1)),
        ];
        let y = run1(Isa::best(), OP, &inputs).unwrap();
        let scale = 1.0 / (1.0 - 0.58f32);
        assert_eq!(y.as_slice::<f32>(), [0.0, 2.0 * scale, 3.0 * scale, 0.0, 0.0]);
    }

    #[test]
    fn a_ratio_that_drops_everything_is_refused() {
        let inputs = [Tensor::vector(&[1.0f32]), Tensor::scalar(1.0f32), Tensor::scalar(Bool(1))];
        assert!(run1(Isa::best(), OP, &inputs).is_err());
    }
}
