//! TopK: the k largest or smallest elements along an axis, best first.
//!
//! An element and its index make one integer that sorts by value, then by index, so that what is
//! selected and sorted are integers whatever the dtype. NaN is larger than any number.

use half::{bf16, f16};
use rinfer_graph::ops::TopK;
use rinfer_graph::{Element, Reason, Tensor, unsupported, with_dtype};

use crate::kernel::{Args, Cx, Kernel};
use crate::par;

/// An element as an unsigned integer of the same order.
trait Ordered: Element {
    fn order(self) -> u64;
}

macro_rules! ints {
    ($($T:ty, $offset:expr;)*) => { $(
        impl Ordered for $T {
            fn order(self) -> u64 {
                (self as i128 - $offset) as u64
            }
        }
    )* };
}
ints! {
    i8, i8::MIN as i128; i16, i16::MIN as i128; i32, i32::MIN as i128; i64, i64::MIN as i128;
    u8, 0; u16, 0; u32, 0; u64, 0;
}

macro_rules! floats {
    ($($T:ty, $to_bits:ident, $Bits:ty;)*) => { $(
        impl Ordered for $T {
            fn order(self) -> u64 {
                if self.is_nan() {
                    return <$Bits>::MAX as u64;
                }
                let top = 1 << (<$Bits>::BITS - 1);
                match self.$to_bits() {
                    // Both zeros are one.
                    bits if bits == top => top as u64,
                    bits if bits & top != 0 => !bits as u64,
                    bits => (bits | top) as u64,
                }
            }
        }
    )* };
}
floats! {
    f16, to_bits, u16;
    bf16, to_bits, u16;
    f32, to_bits, u32;
    f64, to_bits, u64;
}

/// What is sorted: value before index.
trait Item: Ord + Copy + Send {
    fn new(order: u64, index: usize) -> Self;
    fn index(self) -> usize;
}

/// Up to 32 bits of value, then 32 of index.
impl Item for u64 {
    fn new(order: u64, index: usize) -> u64 {
        order << 32 | index as u64
    }
    fn index(self) -> usize {
        (self & u32::MAX as u64) as usize
    }
}

impl Item for (u64, usize) {
    fn new(order: u64, index: usize) -> (u64, usize) {
        (order, index)
    }
    fn index(self) -> usize {
        self.1
    }
}

/// x as blocks of `n` rows of `inner` elements, of which `k` rows are left.
#[derive(Clone, Copy)]
struct Search {
    n: usize,
    inner: usize,
    k: usize,
    largest: bool,
}

pub(super) fn compile(op: &TopK, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, out) = (cx.sizes(0)?, cx.out_sizes(0)?);
    let axis = op.axis.resolve(sizes.len())?;
    let inner = sizes[axis + 1..].iter().product();
    let search = Search { n: sizes[axis], inner, k: out[axis], largest: op.largest };
    let dtype = cx.dtype(0)?;
    let narrow = dtype.bits() <= 32 && u32::try_from(search.n).is_ok();
    with_dtype!(dtype, [i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64], T => {
        Ok(match narrow {
            true => Kernel::new(move |args| run::<u64>(search, orders::<T>, args)),
            false => Kernel::new(move |args| run::<(u64, usize)>(search, orders::<T>, args)),
        })
    }, else Err(unsupported!("TopK of {dtype} is not supported")))
}

/// Adds the orders of every `step`-th element from `start` on, as many as there are room for.
type Orders = fn(&Tensor, usize, usize, &mut [u64]);

fn orders<T: Ordered>(x: &Tensor, start: usize, step: usize, to: &mut [u64]) {
    let x = &x.as_slice::<T>()[start..];
    to.iter_mut().zip(x.iter().step_by(step)).for_each(|(to, x)| *to = x.order());
}

fn run<I: Item>(search: Search, orders: Orders, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?;
    let Search { n, inner, k, .. } = search;
    let (cx, size, bits) = (args.cx, x.dtype().size(), x.dtype().bits());
    let (values, indices) = match args.outputs {
        [values, indices, ..] => (values.as_mut_bytes(), indices.as_mut_slice::<i64>()),
        [values] => (values.as_mut_bytes(), &mut [][..]),
        [] => return Ok(()),
    };
    if values.is_empty() {
        return Ok(());
    }
    let outer = x.len() / (n * inner);
    let work = ((values, k * inner * size), (indices, k * inner));
    par::split(work, outer, par::grain(n * inner * 4), |first, ((values, _), (indices, _))| {
        let mut found: Vec<u64> = vec![0; n];
        let mut items: Vec<I> = Vec::with_capacity(n);
        for (block, values) in values.chunks_exact_mut(k * inner * size).enumerate() {
            for col in 0..inner {
                if cx.check().is_err() {
                    return;
                }
                let start = (first + block) * n * inner + col;
                orders(x, start, inner, &mut found);
                best(&found, search, bits, &mut items);
                for (i, item) in items.iter().enumerate() {
                    let from = (start + item.index() * inner) * size;
                    values[(i * inner + col) * size..][..size]
                        .copy_from_slice(&x.as_bytes()[from..][..size]);
                    if let Some(index) = indices.get_mut(block * k * inner + i * inner + col) {
                        *index = item.index() as i64;
                    }
                }
            }
        }
    });
    cx.check()
}

/// The `k` best of `orders`, of elements of `bits` bits, sorted.
fn best<I: Item>(orders: &[u64], search: Search, bits: usize, items: &mut Vec<I>) {
    let Search { n, k, largest, .. } = search;
    let flip = if largest { mask(bits) } else { 0 };
    items.clear();
    items.extend(orders.iter().enumerate().map(|(i, order)| I::new(order ^ flip, i)));
    if k < n && k > 0 {
        items.select_nth_unstable(k - 1);
    }
    items.truncate(k);
    items.sort_unstable();
}

/// The low `bits` bits.
fn mask(bits: usize) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run as run_op;
    use crate::simd::Isa;
    use rinfer_graph::Value;
    use rinfer_graph::ops::Axis;

    fn topk<T: Element>(x: &Tensor, axis: i64, k: i64, largest: bool) -> (Vec<T>, Vec<i64>) {
        let inputs = [x.clone(), Tensor::vector(&[k])].map(Value::Tensor);
        let y = run_op(Isa::best(), TopK { axis: Axis(axis), largest }, &inputs, 2).unwrap();
        let tensor = |i: usize| y[i].as_tensor().unwrap();
        (tensor(0).as_slice::<T>().to_vec(), tensor(1).as_slice::<i64>().to_vec())
    }

    #[test]
    fn the_best_come_first_and_ties_go_to_the_lower_index() {
        let x = Tensor::vector(&[3.0f32, -1.0, 3.0, 7.0, -0.0, 0.0]);
        assert_eq!(topk(&x, 0, 3, true), (vec![7.0f32, 3.0, 3.0], vec![3, 0, 2]));
        assert_eq!(topk(&x, 0, 3, false), (vec![-1.0f32, 0.0, 0.0], vec![1, 4, 5]));
        assert_eq!(topk::<f32>(&x, 0, 0, true), (vec![], vec![]));
    }

    #[test]
    fn any_axis_is_searched() {
        let x = Tensor::from_slice(&[2, 3], &[1i32, 9, 5, 4, -2, 6]);
        assert_eq!(topk(&x, 0, 1, true), (vec![4i32, 9, 6], vec![1, 0, 1]));
        assert_eq!(topk(&x, 1, 2, false), (vec![1i32, 5, -2, 4], vec![0, 2, 1, 0]));
    }

    #[test]
    fn wide_integers_keep_every_bit() {
        let x = Tensor::vector(&[u64::MAX - 1, 5, u64::MAX]);
        assert_eq!(topk(&x, 0, 2, true), (vec![u64::MAX, u64::MAX - 1], vec![2, 0]));
        let x = Tensor::vector(&[i64::MIN, 0, i64::MIN + 1]);
        assert_eq!(topk(&x, 0, 2, false), (vec![i64::MIN, i64::MIN + 1], vec![0, 2]));
    }

    #[test]
    fn nan_is_the_largest() {
        let x = Tensor::vector(&[1.0f32, f32::NAN, f32::INFINITY, -f32::NAN]);
        assert_eq!(topk::<f32>(&x, 0, 3, true).1, [1, 3, 2]);
        assert_eq!(topk::<f32>(&x, 0, 2, false).1, [0, 2]);
        let x = Tensor::vector(&[1.0, -2.0, 0.5].map(f16::from_f32));
        assert_eq!(topk::<f16>(&x, 0, 3, false).1, [1, 2, 0]);
    }
}
