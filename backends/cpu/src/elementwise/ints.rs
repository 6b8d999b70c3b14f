//! Integers of every whole-byte width computed as i64, block by block: for types that models rarely
//! compute with, whose own loops would be more code than all others.

use rinfer_graph::{Bool, DType, Reason, Tensor, invalid, with_dtype};

use super::number::Int;
use super::{BLOCK, Broadcast, CHUNK};
use crate::kernel::Args;
use crate::par;

/// Whether i64 holds every value of this type, and it has no loops of its own: integers up to 32
/// bits but i32, and truth values.
pub fn is_narrow(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, Bool | I8 | I16 | U8 | U16 | U32)
}

/// Elements of whole bytes from `start` on; u64 is reinterpreted.
pub fn widen(x: &Tensor, start: usize, y: &mut [i64]) {
    with_dtype!(x.dtype(), [i8, i16, i32, i64, u8, u16, u32, u64], T => {
        let x = &x.as_slice::<T>()[start..];
        x.iter().zip(y).for_each(|(&x, y)| *y = x.to_i64());
    }, else {
        // What is left is truth values.
        let x = &x.as_slice::<Bool>()[start..];
        x.iter().zip(y).for_each(|(x, y)| *y = x.get().into());
    })
}

/// As [`widen`], of bytes that are aligned as the elements are.
fn widen_bytes(dtype: DType, x: &[u8], y: &mut [i64]) {
    with_dtype!(dtype, [i8, i16, i32, i64, u8, u16, u32, u64], T => {
        let x = bytemuck::cast_slice::<u8, T>(x);
        x.iter().zip(y).for_each(|(&x, y)| *y = x.to_i64());
    }, else {
        // What is left is truth values.
        let x = bytemuck::cast_slice::<u8, Bool>(x);
        x.iter().zip(y).for_each(|(x, y)| *y = x.get().into());
    })
}

/// The low bits of integers as elements of whole bytes.
pub fn narrow(x: &[i64], to: DType, y: &mut [u8]) {
    with_dtype!(to, [i8, i16, i32, i64, u8, u16, u32, u64], T => {
        let y = bytemuck::cast_slice_mut::<u8, T>(y);
        x.iter().zip(y).for_each(|(&x, y)| *y = T::wrap(x));
    }, else x.iter().zip(y).for_each(|(&x, y)| *y = x as u8))
}

/// Runs a function of inputs 0 and 1 that fills output 0, which is of their type.
pub fn zip(
    args: &mut Args<'_>,
    plan: &Broadcast,
    ps: usize,
    run: fn(&[i64], &[i64], &mut [i64]),
) -> Result<(), Reason> {
    let to = args.outputs[0].dtype();
    blocks(args, plan, ps, &|a, b, y| {
        let mut made = [0; BLOCK];
        let made = &mut made[..y.len() / to.size()];
        run(a, b, made);
        narrow(made, to, y);
    })
}

/// Runs a comparison of inputs 0 and 1 that fills output 0.
pub fn compare(
    args: &mut Args<'_>,
    plan: &Broadcast,
    ps: usize,
    run: impl Fn(&[i64], &[i64], &mut [Bool]) + Sync,
) -> Result<(), Reason> {
    blocks(args, plan, ps, &|a, b, y| run(a, b, bytemuck::cast_slice_mut(y)))
}

type Block<'a> = &'a (dyn Fn(&[i64], &[i64], &mut [u8]) + Sync);

/// `run(a, b, y)` for blocks of the output's bytes.
fn blocks(args: &mut Args<'_>, plan: &Broadcast, ps: usize, run: Block<'_>) -> Result<(), Reason> {
    let sides = [args.opt(0), args.opt(1)];
    let (cx, y) = (args.cx, &mut args.outputs[0]);
    if y.len() != plan.len() {
        return Err(invalid!("{} elements where {} are planned", y.len(), plan.len()));
    }
    let to = y.dtype();
    let size = to.size();
    let grain = par::grain(CHUNK * ps / 1000);
    par::chunks_mut(y.as_mut_bytes(), CHUNK * size, grain, |i, y| {
        if cx.check().is_err() {
            return;
        }
        let mut held = [[0; BLOCK]; 2];
        let [a, b] = &mut held;
        plan.runs(i * CHUNK..i * CHUNK + y.len() / size, |range, at| {
            for first in range.clone().step_by(BLOCK) {
                let n = BLOCK.min(range.end - first);
                let y = &mut y[first * size..][..n * size];
                let side = |i: usize| Part {
                    from: sides[i],
                    at: at[i] + if plan.moves(i) { first - range.start } else { 0 },
                    len: if plan.moves(i) { n } else { 1 },
                };
                run(side(0).read(to, y, a), side(1).read(to, y, b), y);
            }
        });
    });
    cx.check()
}

/// Elements of an operand, or, without one, of the output that holds it.
struct Part<'a> {
    from: Option<&'a Tensor>,
    at: usize,
    len: usize,
}

impl Part<'_> {
    fn read<'b>(&self, dtype: DType, y: &[u8], into: &'b mut [i64; BLOCK]) -> &'b [i64] {
        let Some(x) = self.from else {
            let n = y.len() / dtype.size();
            widen_bytes(dtype, y, &mut into[..n]);
            return &into[..n];
        };
        widen(x, self.at, &mut into[..self.len]);
        &into[..self.len]
    }
}

/// Runs a function that turns input 0 into output 0.
pub fn map(
    args: &mut Args<'_>,
    ps: usize,
    run: &(dyn Fn(&mut [i64]) + Sync),
) -> Result<(), Reason> {
    let x = args.opt(0);
    let (cx, y) = (args.cx, &mut args.outputs[0]);
    if x.is_some_and(|x| x.len() != y.len()) {
        return Err(invalid!("the input has not the {} elements of the output", y.len()));
    }
    let to = y.dtype();
    let size = to.size();
    super::for_chunks(y.as_mut_bytes(), ps, cx, |start, y| {
        // A chunk is a whole number of elements, whatever their size.
        let mut wide = [0; BLOCK];
        for (i, y) in y.chunks_mut(BLOCK * size).enumerate() {
            let part = Part { from: x, at: start / size + i * BLOCK, len: y.len() / size };
            let n = part.read(to, y, &mut wide).len();
            run(&mut wide[..n]);
            narrow(&wide[..n], to, y);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Op;
    use rinfer_graph::ops::{Binary, BinaryFn, Unary, UnaryFn};

    /// Every type as i64 makes it: over blocks, with operands that repeat.
    fn check(
        f: BinaryFn,
        a: &[i64],
        b: &[i64],
        shapes: [&[usize]; 2],
        y: impl Fn(i64, i64) -> i64,
    ) {
        use DType::*;
        for dtype in [I8, I16, U8, U16, U32] {
            let tensor = |x: &[i64], shape: &[usize]| {
                let mut made = Tensor::try_zeros(dtype, shape).unwrap();
                narrow(x, dtype, made.as_mut_bytes());
                made
            };
            let wide = |x: &Tensor| {
                let mut made = vec![0; x.len()];
                widen(x, 0, &mut made);
                made
            };
            let (a, b) = (tensor(a, shapes[0]), tensor(b, shapes[1]));
            let made = run1(Isa::best(), Op::from(Binary(f)), &[a.clone(), b.clone()]).unwrap();
            let (p, q) = (wide(&a), wide(&b));
            let expected: Vec<i64> = (0..made.len())
                .map(|i| {
                    y(
                        p[i % p.len()],
                        if q.len() < p.len() { q[i / (p.len() / q.len())] } else { q[i] },
                    )
                })
                .collect();
            let mut low = Tensor::try_zeros(made.dtype(), made.shape()).unwrap();
            narrow(&expected, made.dtype(), low.as_mut_bytes());
            assert_eq!(made, low, "{f} of {dtype}");
        }
    }

    #[test]
    fn narrow_types_compute_as_wide_ones() {
        let a: Vec<i64> = (0..1800).map(|i| i * 37 % 251 - 100).collect();
        let b: Vec<i64> = (0..1800).map(|i| i * 11 % 9 + 1).collect();
        for (b, shape) in [(&b[..], &[3, 600][..]), (&b[..3], &[3, 1])] {
            let shapes = [&[3, 600][..], shape];
            check(BinaryFn::Add, &a, b, shapes, i64::wrapping_add);
            check(BinaryFn::Sub, &a, b, shapes, i64::wrapping_sub);
            check(BinaryFn::Mul, &a, b, shapes, i64::wrapping_mul);
            check(BinaryFn::Div, &a, b, shapes, i64::wrapping_div);
            check(BinaryFn::Mod { fmod: true }, &a, b, shapes, i64::wrapping_rem);
            check(BinaryFn::Max, &a, b, shapes, i64::max);
            check(BinaryFn::BitwiseXor, &a, b, shapes, |a, b| a ^ b);
            check(BinaryFn::BitShift { left: true }, &a, b, shapes, |a, b| a << b);
            check(BinaryFn::BitShift { left: false }, &a, b, shapes, |a, b| a >> b);
            check(BinaryFn::Less, &a, b, shapes, |a, b| (a < b).into());
            check(BinaryFn::GreaterOrEqual, &a, b, shapes, |a, b| (a >= b).into());
        }
        let x = Tensor::vector(&[-128i8, 127, -5, 0].repeat(150));
        for (f, y) in [
            (UnaryFn::Abs, [-128i8, 127, 5, 0]),
            (UnaryFn::Neg, [-128, -127, 5, 0]),
            (UnaryFn::Sign, [-1, 1, -1, 0]),
            (UnaryFn::BitwiseNot, [127, -128, 4, -1]),
        ] {
            let made = run1(Isa::best(), Unary(f), &[x.clone()]).unwrap();
            assert_eq!(made.as_slice::<i8>(), y.repeat(150), "{f}");
        }
    }

    #[test]
    fn narrow_types_do_not_divide_by_zero() {
        let inputs = [Tensor::vector(&[7u16, 256]), Tensor::vector(&[256u16, 0])];
        let error = run1(Isa::best(), Binary(BinaryFn::Div), &inputs).unwrap_err();
        assert_eq!(error.to_string(), "division of uint16 by zero");
    }
}
