//! The scratch memory that kernels say they take, so that plans count it before anything runs.
//!
//! A buffer that a kernel takes outside of its loops exists once in a run. One that it takes inside
//! a loop whose pieces several threads share exists once on each thread. Buffers are kept from step
//! to step (see [`crate::pool`]): the largest of a step, the next largest, and so on, each as large
//! as the most that any step asks of it.

use smallvec::SmallVec;

use crate::par;

/// Bytes of buffers that exist at the same time, the largest first.
type Sizes = SmallVec<[usize; 4]>;

/// What a kernel takes besides its inputs and outputs, and gives back when it is through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// What the thread that runs the step takes.
    once: Sizes,
    /// What each thread takes that shares a loop of it.
    each: Sizes,
}

impl Scratch {
    /// Nothing.
    pub fn none() -> Scratch {
        Scratch::default()
    }

    /// One buffer of `len` elements of `T`.
    pub fn of<T>(len: usize) -> Scratch {
        let bytes = len.saturating_mul(size_of::<T>()).div_ceil(64).saturating_mul(64);
        let once = if bytes == 0 { Sizes::new() } else { smallvec::smallvec![bytes] };
        Scratch { once, each: Sizes::new() }
    }

    /// One buffer of `len` floats.
    pub fn floats(len: usize) -> Scratch {
        Scratch::of::<f32>(len)
    }

    /// This and, at the same time, that.
    pub fn and(mut self, other: Scratch) -> Scratch {
        let add = |to: &mut Sizes, more: Sizes| {
            to.extend(more);
            to.sort_unstable_by(|a, b| b.cmp(a));
        };
        add(&mut self.once, other.once);
        add(&mut self.each, other.each);
        self
    }

    /// This, and after it that, in the same buffers.
    pub fn then(mut self, other: &Scratch) -> Scratch {
        let most = |to: &mut Sizes, other: &Sizes| {
            to.resize(to.len().max(other.len()), 0);
            to.iter_mut().zip(other).for_each(|(to, &n)| *to = n.max(*to));
        };
        most(&mut self.once, &other.once);
        most(&mut self.each, &other.each);
        self
    }

    /// What the pieces of a loop take, as [`par::split`] makes them of `n` items.
    pub fn in_loop(self, n: usize, grain: usize) -> Scratch {
        self.in_pieces(par::pieces(n, grain))
    }

    /// What so many pieces of work take that threads share.
    pub fn in_pieces(self, pieces: usize) -> Scratch {
        if pieces <= 1 {
            return self;
        }
        let Scratch { once, each } = self;
        Scratch { once: Sizes::new(), each: once }.and(Scratch { once: Sizes::new(), each })
    }

    /// Bytes in all, on so many threads.
    pub fn bytes(&self, threads: usize) -> usize {
        self.each_bytes().saturating_mul(threads).saturating_add(self.once_bytes())
    }

    /// Bytes that exist once.
    pub fn once_bytes(&self) -> usize {
        self.once.iter().fold(0, |sum, &n| sum.saturating_add(n))
    }

    /// Bytes of each thread.
    pub fn each_bytes(&self) -> usize {
        self.each.iter().fold(0, |sum, &n| sum.saturating_add(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::par::Pool;

    #[test]
    fn buffers_are_shared_by_steps_and_not_by_loops_of_several_threads() {
        let pool = Pool::new(3).unwrap();
        pool.install(|| {
            let one = Scratch::floats(16).and(Scratch::floats(320));
            assert_eq!(one.bytes(3), 64 + 1280);
            assert_eq!(one.clone().then(&Scratch::floats(160)).bytes(3), 64 + 1280);
            assert_eq!(one.clone().then(&Scratch::floats(640)).bytes(3), 64 + 2560);
            assert_eq!(one.clone().in_loop(1, 1).bytes(3), 64 + 1280);
            assert_eq!(one.clone().in_loop(8, 1).bytes(3), 3 * (64 + 1280));
            assert_eq!(one.in_loop(8, 8).bytes(3), 64 + 1280);
        });
        assert_eq!(Scratch::floats(0), Scratch::none());
        assert_eq!(Scratch::of::<f64>(usize::MAX).bytes(usize::MAX), usize::MAX);
    }
}
