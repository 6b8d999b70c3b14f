//! Loops over every core: with [`threads`](mod@threads), the only place that knows of rayon.
//!
//! Kernels say what is independent and how much work a piece must be worth; how many pieces are
//! made depends on the threads, what a piece computes never does. Outside a [`Pool`], or without
//! the feature `threads`, everything runs where it is called.
//!
//! `grain` is always the least number of items in one piece; [`grain`] finds it from what one
//! item costs.

use std::ops::Range;
use std::time::Duration;

use rinfer_graph::Reason;
use rinfer_graph::sync::OnceLock;
use web_time::Instant;

use crate::stop::{self, checkpoint};

mod threads;

#[cfg(feature = "threads")]
use threads::inside_a_loop;
pub use threads::{Pool, alone, threads};
#[cfg(feature = "threads")]
pub use threads::{host, work};
pub(crate) use threads::{in_loop, outside_of_loops};

/// Work worth handing to another thread, in nanoseconds.
const PIECE_NS: usize = 20_000;
/// Pieces per thread: more than one, for one thread may be slower than another.
const PIECES: usize = 4;
/// How long a thread works before it looks again whether the run is to stop.
const LOOK: Duration = Duration::from_micros(500);

/// Runs both, at the same time if there is a thread for it.
pub fn join<A: Send, B: Send>(
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    checkpoint();
    #[cfg(feature = "threads")]
    if threads() > 1 {
        // Whichever thread does the second half stops when this one is to.
        return inside_a_loop(|| match stop::current() {
            None => rayon::join(a, || stop::under(None, b)),
            stop => rayon::join(a, || stop::under(stop, b)),
        });
    }
    (a(), b())
}

/// Items in a piece worth handing to another thread, when one item takes `item_ns` nanoseconds.
pub fn grain(item_ns: usize) -> usize {
    (PIECE_NS / item_ns.max(1)).max(1)
}

/// The first failure of work that several threads do together.
#[derive(Debug, Default)]
pub struct Failure(OnceLock<Reason>);

impl Failure {
    /// Does `work`, unless some work failed already; keeps the reason if it fails.
    pub fn attempt(&self, work: impl FnOnce() -> Result<(), Reason>) {
        if self.0.get().is_none()
            && let Err(reason) = work()
        {
            // Of two that failed at the same time the first is told.
            let _ = self.0.set(reason);
        }
    }

    /// What failed, if anything did.
    pub fn result(self) -> Result<(), Reason> {
        self.0.into_inner().map_or(Ok(()), Err)
    }
}

/// Something that can be cut in two at an item.
pub trait Split: Sized + Send {
    /// Items before and after `at`.
    fn split(self, at: usize) -> (Self, Self);
}

impl Split for Range<usize> {
    fn split(self, at: usize) -> (Self, Self) {
        let mid = self.start + at;
        (self.start..mid, mid..self.end)
    }
}

/// A slice read in chunks: an item is a chunk, the last may be shorter.
impl<T: Sync> Split for (&[T], usize) {
    fn split(self, at: usize) -> (Self, Self) {
        let (data, chunk) = self;
        let (a, b) = data.split_at(at.saturating_mul(chunk).min(data.len()));
        ((a, chunk), (b, chunk))
    }
}

/// A slice written in chunks: an item is a chunk, the last may be shorter.
impl<T: Send> Split for (&mut [T], usize) {
    fn split(self, at: usize) -> (Self, Self) {
        let (data, chunk) = self;
        let mid = at.saturating_mul(chunk).min(data.len());
        let (a, b) = data.split_at_mut(mid);
        ((a, chunk), (b, chunk))
    }
}

/// Cut by rows.
impl<T: Send + Sync> Split for crate::simd::MatMut<'_, T> {
    fn split(self, at: usize) -> (Self, Self) {
        self.split_rows(at)
    }
}

impl<A: Split, B: Split> Split for (A, B) {
    fn split(self, at: usize) -> (Self, Self) {
        let ((a, c), (b, d)) = (self.0.split(at), self.1.split(at));
        ((a, b), (c, d))
    }
}

impl<A: Split, B: Split, C: Split> Split for (A, B, C) {
    fn split(self, at: usize) -> (Self, Self) {
        let ((a, d), (b, e), (c, f)) = (self.0.split(at), self.1.split(at), self.2.split(at));
        ((a, b, c), (d, e, f))
    }
}

/// Into how many pieces of at least `grain` items [`split`] cuts `n` of them.
pub(crate) fn pieces(n: usize, grain: usize) -> usize {
    match threads() {
        1 => 1,
        t => (n / grain.max(1)).clamp(1, t.saturating_mul(PIECES)),
    }
}

/// Cuts `work` of `n` items into pieces of at least `grain` and runs `f` on each.
///
/// `f` gets the index of the first item of its piece, and the piece.
pub fn split<W: Split>(work: W, n: usize, grain: usize, f: impl Fn(usize, W) + Sync) {
    match pieces(n, grain) {
        1 => piece(work, 0..n, grain, &f),
        pieces => halve(work, 0..n, (pieces, grain), &f),
    }
}

/// Behind a pointer `f` costs a call for each piece; a copy of this for each loop of each kernel was
/// a fifth of all kernels' code.
fn halve<W: Split>(
    work: W,
    items: Range<usize>,
    (pieces, grain): (usize, usize),
    f: &(dyn Fn(usize, W) + Sync),
) {
    if pieces <= 1 || items.len() <= 1 {
        return piece(work, items, grain, f);
    }
    let left = pieces / 2;
    let at = (items.len() as u128 * left as u128 / pieces as u128) as usize;
    let mid = items.start + at;
    let (a, b) = work.split(at);
    let right = pieces - left;
    let (mut a, mut b) = (Some(a), Some(b));
    // By reference, so that what stands behind `join` is there once and not for each kind of work.
    join_two(
        &mut || {
            if let Some(a) = a.take() {
                halve(a, items.start..mid, (left, grain), f);
            }
        },
        &mut || {
            if let Some(b) = b.take() {
                halve(b, mid..items.end, (right, grain), f);
            }
        },
    );
}

fn join_two(a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send)) {
    join(a, b);
}

/// One piece on this thread: at once if nothing can stop it, else in steps that grow until one
/// takes as long as a look at the clock is worth.
fn piece<W: Split>(
    mut work: W,
    mut items: Range<usize>,
    grain: usize,
    f: &(dyn Fn(usize, W) + Sync),
) {
    if stop::current().is_some() {
        let mut step = grain.max(1);
        while items.len() > step {
            checkpoint();
            let began = Instant::now();
            let (now, later) = work.split(step);
            f(items.start, now);
            work = later;
            items.start += step;
            if began.elapsed() < LOOK {
                step = step.saturating_mul(2);
            }
        }
        checkpoint();
    }
    if !items.is_empty() {
        f(items.start, work);
    }
}

/// `f(i)` for every `i` in `0..n`.
pub fn for_each_index(n: usize, grain: usize, f: impl Fn(usize) + Sync) {
    for_each_range(n, grain, |range| range.for_each(&f));
}

/// `f(range)` for ranges that together make `0..n`.
pub fn for_each_range(n: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
    split(0..n, n, grain, |_, range| f(range));
}

/// `f(i, chunk)` for every chunk of `len` elements of `y`; the last may be shorter.
pub fn chunks_mut<T: Send>(
    y: &mut [T],
    len: usize,
    grain: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    let len = len.max(1);
    let n = y.len().div_ceil(len);
    split((y, len), n, grain, |first, (y, len)| {
        for (i, y) in y.chunks_mut(len).enumerate() {
            f(first + i, y);
        }
    });
}

/// `f(i, x_chunk, y_chunk)` for the chunks of `x_len` and `y_len` elements that stand at the same
/// place in `x` and `y`, as many as both have.
pub fn zip_chunks<A: Sync, B: Send>(
    (x, x_len): (&[A], usize),
    (y, y_len): (&mut [B], usize),
    grain: usize,
    f: impl Fn(usize, &[A], &mut [B]) + Sync,
) {
    let (x_len, y_len) = (x_len.max(1), y_len.max(1));
    let n = x.len().div_ceil(x_len).min(y.len().div_ceil(y_len));
    split(((x, x_len), (y, y_len)), n, grain, |first, ((x, x_len), (y, y_len))| {
        for (i, (x, y)) in x.chunks(x_len).zip(y.chunks_mut(y_len)).enumerate() {
            f(first + i, x, y);
        }
    });
}

/// As [`zip_chunks`], with two inputs.
pub fn zip2_chunks<A: Sync, B: Sync, C: Send>(
    (a, a_len): (&[A], usize),
    (b, b_len): (&[B], usize),
    (y, y_len): (&mut [C], usize),
    grain: usize,
    f: impl Fn(usize, &[A], &[B], &mut [C]) + Sync,
) {
    let (a_len, b_len, y_len) = (a_len.max(1), b_len.max(1), y_len.max(1));
    let n = a.len().div_ceil(a_len).min(b.len().div_ceil(b_len)).min(y.len().div_ceil(y_len));
    let work = ((a, a_len), (b, b_len), (y, y_len));
    split(work, n, grain, |first, (a, b, y)| {
        let inputs = a.0.chunks(a_len).zip(b.0.chunks(b_len));
        for (i, ((a, b), y)) in inputs.zip(y.0.chunks_mut(y_len)).enumerate() {
            f(first + i, a, b, y);
        }
    });
}

/// `f(rows, block)` for blocks of whole rows of `y`, `row_len` elements each, when one row takes
/// `row_ns` nanoseconds.
pub fn rows<T: Send>(
    y: &mut [T],
    row_len: usize,
    row_ns: usize,
    f: impl Fn(Range<usize>, &mut [T]) + Sync,
) {
    let row_len = row_len.max(1);
    let n = y.len().div_ceil(row_len);
    split((y, row_len), n, grain(row_ns), |first, (y, _)| {
        f(first..first + y.len().div_ceil(row_len), y);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn everywhere(check: impl Fn() + Sync + Send) {
        check();
        for threads in [1, 2, 3] {
            Pool::new(threads).unwrap().install(&check);
        }
    }

    #[test]
    fn every_index_is_visited_once() {
        everywhere(|| {
            for n in [0, 1, 2, 7, 100] {
                let seen: Vec<_> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                for_each_index(n, 1, |i| {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == 1));
            }
        });
    }

    #[test]
    fn chunks_carry_their_index() {
        everywhere(|| {
            let mut y = [0; 10];
            chunks_mut(&mut y, 3, 1, |i, y| y.fill(i));
            assert_eq!(y, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);
        });
    }

    #[test]
    fn chunks_of_two_slices_stand_at_the_same_place() {
        everywhere(|| {
            let x: Vec<usize> = (0..20).collect();
            let mut y = [0; 5];
            zip_chunks((&x, 4), (&mut y, 1), 1, |i, x, y| y[0] = x[1] + 100 * i);
            assert_eq!(y, [1, 105, 209, 313, 417]);
            zip2_chunks((&x, 4), (&[2, 3, 4, 5, 6], 1), (&mut y, 1), 1, |_, a, b, y| {
                y[0] = a[0] * b[0];
            });
            assert_eq!(y, [0, 12, 32, 60, 96]);
        });
    }

    #[test]
    fn rows_come_in_whole_blocks() {
        everywhere(|| {
            let mut y = [0; 12];
            rows(&mut y, 3, 1_000_000, |rows, y| {
                assert_eq!(y.len(), 3 * rows.len());
                for (r, y) in rows.zip(y.chunks_mut(3)) {
                    y.fill(r);
                }
            });
            assert_eq!(y, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
        });
    }

    #[test]
    fn the_first_failure_stops_the_rest() {
        let failure = Failure::default();
        failure.attempt(|| Ok(()));
        failure.attempt(|| Err(rinfer_graph::invalid!("first")));
        failure.attempt(|| panic!("not done any more"));
        assert_eq!(failure.result().unwrap_err().text, "first");
    }

    #[test]
    fn a_serial_pool_inside_another_is_serial() {
        let pool = Pool::new(2).unwrap();
        pool.install(|| {
            Pool::serial().install(|| assert_eq!(threads(), 1));
            assert_eq!(threads(), pool.threads());
        });
        assert_eq!(threads(), 1);
    }
}
