//! What the pointwise operators share: broadcasting, loops over chunks of the output, and the
//! functions themselves.
//!
//! A kernel here is a function over a run of the output: `run(a, b, y)`. An operand is a [`Side`]:
//! as long as `y`, or one element for all of it, or `y` itself when a plan works in place.

mod broadcast;
pub mod float;
pub mod half;
pub mod ints;
pub mod number;
pub mod real;

pub use broadcast::Broadcast;

use rinfer_graph::backend::RunCx;
use rinfer_graph::{Element, Reason, invalid};

use crate::kernel::Args;
use crate::par;

/// An operand of a run: as many elements as the output, or one for all; `None` if the output
/// holds it already and is to be overwritten.
pub type Side<'a, T> = Option<&'a [T]>;

/// Elements of the output between two looks at the clock, and the least a thread is given.
const CHUNK: usize = 4096;

/// Elements that are staged on the stack when a function has no form of its own for a case.
pub const BLOCK: usize = 256;

/// `f(start, y)` for chunks of `y` at the index `start`, when one element takes `ps` picoseconds.
pub fn for_chunks<Y: Send>(
    y: &mut [Y],
    ps: usize,
    cx: &RunCx<'_>,
    f: impl Fn(usize, &mut [Y]) + Sync,
) -> Result<(), Reason> {
    // One function for every `f`: a call for each chunk is nothing beside the chunk.
    chunks(y, ps, cx, &f)
}

fn chunks<Y: Send>(
    y: &mut [Y],
    ps: usize,
    cx: &RunCx<'_>,
    f: &(dyn Fn(usize, &mut [Y]) + Sync),
) -> Result<(), Reason> {
    par::chunks_mut(y, CHUNK, par::grain(CHUNK * ps / 1000), |i, y| {
        if cx.check().is_ok() {
            f(i * CHUNK, y);
        }
    });
    cx.check()
}

/// `f(offsets, y)` for runs of `y`, with the offset of each input's part.
pub fn for_runs<Y: Send>(
    plan: &Broadcast,
    y: &mut [Y],
    ps: usize,
    cx: &RunCx<'_>,
    f: impl Fn(&[usize], &mut [Y]) + Sync,
) -> Result<(), Reason> {
    runs(plan, y, ps, cx, &f)
}

fn runs<Y: Send>(
    plan: &Broadcast,
    y: &mut [Y],
    ps: usize,
    cx: &RunCx<'_>,
    f: &(dyn Fn(&[usize], &mut [Y]) + Sync),
) -> Result<(), Reason> {
    if y.len() != plan.len() {
        return Err(invalid!("{} elements where {} are planned", y.len(), plan.len()));
    }
    // Short runs cost more than their elements.
    let ps = ps + 10_000 / plan.run_len().max(1);
    for_chunks(y, ps, cx, |start, y| {
        plan.runs(start..start + y.len(), |range, offsets| f(offsets, &mut y[range]));
    })
}

/// Runs a function of input 0 that fills output 0.
pub fn map<T: Element, Y: Element>(
    args: &mut Args<'_>,
    ps: usize,
    run: impl Fn(Side<'_, T>, &mut [Y]) + Sync,
) -> Result<(), Reason> {
    let x = args.opt(0).map(|x| x.as_slice::<T>());
    let y = args.outputs[0].as_mut_slice::<Y>();
    if x.is_some_and(|x| x.len() != y.len()) {
        return Err(invalid!("the input has not the {} elements of the output", y.len()));
    }
    for_chunks(y, ps, args.cx, |start, y| run(x.map(|x| &x[start..][..y.len()]), y))
}

/// Runs a function of inputs 0 and 1 that fills output 0.
pub fn zip<A: Element, B: Element, Y: Element>(
    args: &mut Args<'_>,
    plan: &Broadcast,
    ps: usize,
    run: impl Fn(Side<'_, A>, Side<'_, B>, &mut [Y]) + Sync,
) -> Result<(), Reason> {
    let a = args.opt(0).map(|a| a.as_slice::<A>());
    let b = args.opt(1).map(|b| b.as_slice::<B>());
    let y = args.outputs[0].as_mut_slice::<Y>();
    for_runs(plan, y, ps, args.cx, |at, y| {
        let a = a.map(|a| plan.part(0, a, at[0], y.len()));
        let b = b.map(|b| plan.part(1, b, at[1], y.len()));
        run(a, b, y);
    })
}

/// Calls `run(a, b, y)` with what `y` holds copied out first, where an operand is `y` itself.
pub fn staged<T: Element, Y: Element>(
    a: Side<'_, T>,
    b: Side<'_, T>,
    y: &mut [Y],
    run: impl Fn(&[T], &[T], &mut [Y]),
) {
    if let (Some(a), Some(b)) = (a, b) {
        return run(a, b, y);
    }
    let mut held = [T::default(); BLOCK];
    for start in (0..y.len()).step_by(BLOCK) {
        let end = y.len().min(start + BLOCK);
        let held = &mut held[..end - start];
        // In place both types are the same.
        held.copy_from_slice(bytemuck::cast_slice(&y[start..end]));
        let (a, b) = (block(a, start..end, held), block(b, start..end, held));
        run(a, b, &mut y[start..end]);
    }
}

/// The elements of an operand at `range`: one for all, or `held` if it is the output itself.
pub fn block<'a, T>(side: Side<'a, T>, range: std::ops::Range<usize>, held: &'a [T]) -> &'a [T] {
    match side {
        None => held,
        Some(one) if one.len() == 1 => one,
        Some(x) => &x[range],
    }
}

/// `y[i] = f(a[i], b[i])`, an operand of one element standing for all.
#[inline(always)]
pub fn each<A: Copy, B: Copy, Y>(a: &[A], b: &[B], y: &mut [Y], f: impl Fn(A, B) -> Y) {
    match (a.len() == y.len(), b.len() == y.len()) {
        (true, true) => {
            for ((&a, &b), y) in a.iter().zip(b).zip(y) {
                *y = f(a, b);
            }
        }
        (true, false) => {
            let b = b[0];
            for (&a, y) in a.iter().zip(y) {
                *y = f(a, b);
            }
        }
        (false, _) => {
            let a = a[0];
            if b.len() == 1 {
                y.iter_mut().for_each(|y| *y = f(a, b[0]));
                return;
            }
            for (&b, y) in b.iter().zip(y) {
                *y = f(a, b);
            }
        }
    }
}
