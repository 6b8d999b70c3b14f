//! Loops over every core: the only place that knows of rayon.
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
#[cfg(feature = "threads")]
use rinfer_graph::tensor::KEEP_TIME;
use web_time::Instant;

use crate::stop::{self, checkpoint};

/// Work worth handing to another thread, in nanoseconds.
const PIECE_NS: usize = 20_000;
/// Pieces per thread: more than one, for one thread may be slower than another.
const PIECES: usize = 4;
/// How long a thread works before it looks again whether the run is to stop.
const LOOK: Duration = Duration::from_micros(500);

/// Bytes of a thread's stack: kernels that were not optimized fill 3 MB. Only what is touched is
/// taken from the machine.
#[cfg(feature = "threads")]
const STACK: usize = 8 << 20;

/// A set of threads that runs whatever is computed inside [`Pool::install`].
#[derive(Clone, Debug)]
pub struct Pool {
    #[cfg(feature = "threads")]
    threads: Option<std::sync::Arc<Threads>>,
    /// The threads of whoever calls.
    #[cfg(feature = "threads")]
    inherited: bool,
}

#[cfg(feature = "threads")]
#[derive(Debug)]
struct Threads {
    pool: rayon::ThreadPool,
    /// Scratch memory that each may keep, and when it was asked for.
    kept: rinfer_graph::sync::Mutex<(usize, Option<Instant>)>,
}

#[cfg(feature = "threads")]
impl From<rayon::ThreadPool> for Pool {
    fn from(pool: rayon::ThreadPool) -> Pool {
        let threads = Threads { pool, kept: Default::default() };
        Pool { threads: Some(std::sync::Arc::new(threads)), inherited: false }
    }
}

impl Pool {
    /// A pool of `threads` threads; 0 asks for one per core. The one pool that there is if threads
    /// are [`host`]ed.
    ///
    /// # Errors
    /// The operating system gives no more threads.
    #[cfg(feature = "threads")]
    pub fn new(threads: usize) -> Result<Pool, String> {
        let threads = match threads {
            0 if HOSTED.get().is_some() => usize::MAX,
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        if threads == 1 {
            return Ok(Pool::serial());
        }
        if let Some(pool) = HOSTED.get() {
            return Ok(pool.clone());
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("rinfer-{i}"))
            .stack_size(STACK)
            .build()
            .map_err(|e| format!("a pool of {threads} threads cannot be made: {e}"))?;
        Ok(pool.into())
    }

    /// A pool that runs everything on the calling thread: built without the feature `threads`.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "threads"))]
    pub fn new(_threads: usize) -> Result<Pool, String> {
        Ok(Pool::serial())
    }

    /// A pool that runs everything on the calling thread.
    pub fn serial() -> Pool {
        Pool {
            #[cfg(feature = "threads")]
            threads: None,
            #[cfg(feature = "threads")]
            inherited: false,
        }
    }

    /// The threads of the pool in which it is used, if it is used in one.
    pub fn inherited() -> Pool {
        Pool {
            #[cfg(feature = "threads")]
            inherited: true,
            ..Pool::serial()
        }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        #[cfg(feature = "threads")]
        if let Some(pool) = &self.threads {
            return pool.pool.current_num_threads();
        }
        1
    }

    /// Lets each thread keep so much scratch memory for the pieces of loops. What was kept beyond
    /// that goes back to the system once nobody has asked for it for [`KEEP_TIME`].
    pub(crate) fn keep(&self, bytes: usize) {
        #[cfg(feature = "threads")]
        if let Some(threads) = &self.threads {
            let now = Instant::now();
            let mut kept = threads.kept.lock().unwrap_or_else(|e| e.into_inner());
            let old = kept.1.is_some_and(|asked| now.duration_since(asked) > KEEP_TIME);
            let less = bytes < kept.0;
            if !less || old {
                *kept = (bytes, Some(now));
            }
            drop(kept);
            if less && old {
                threads.pool.spawn_broadcast(move |_| crate::pool::shrink_own(bytes));
            }
        }
        let _ = bytes;
    }

    /// Gives the scratch memory that threads keep back to the system, each as soon as it is idle.
    pub(crate) fn trim(&self) {
        #[cfg(feature = "threads")]
        if let Some(threads) = &self.threads {
            threads.pool.spawn_broadcast(|_| crate::pool::shrink_own(0));
        }
        crate::pool::shrink_own(0);
    }

    /// Runs `f` so that the loops inside it use the threads of this pool.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        #[cfg(feature = "threads")]
        {
            match &self.threads {
                Some(threads) => {
                    let pool = &threads.pool;
                    pool.install(|| as_serial(false, || awake(pool, f)))
                }
                None if self.inherited => f(),
                None => as_serial(true, f),
            }
        }
        #[cfg(not(feature = "threads"))]
        f()
    }
}

/// The pool of threads that the program is lent, where it can start none.
#[cfg(feature = "threads")]
static HOSTED: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();

/// The threads of that pool that nobody has become yet.
#[cfg(feature = "threads")]
static VACANT: std::sync::Mutex<Vec<rayon::ThreadBuilder>> = std::sync::Mutex::new(Vec::new());

/// Makes the pool that every later [`Pool::new`] of more than one thread gives: of this thread, on
/// which alone runs may begin from now on, and of those that come to [`work`], `threads` in all.
/// For places where a program cannot start threads and whoever runs it can: browsers.
///
/// # Errors
/// There are such threads already, or this thread is one of a pool.
#[cfg(feature = "threads")]
pub fn host(threads: usize) -> Result<(), String> {
    let vacant = || VACANT.lock().unwrap_or_else(|e| e.into_inner());
    if HOSTED.get().is_some() {
        return Err("threads are lent once".to_string());
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .use_current_thread()
        .spawn_handler(|thread| {
            vacant().push(thread);
            Ok(())
        })
        .build()
        .map_err(|e| format!("a pool of {threads} threads cannot be made: {e}"))?;
    HOSTED.set(pool.into()).map_err(|_| "threads are lent once".to_string())
}

/// Works for the pool that was made by [`host`], until the program ends.
///
/// # Errors
/// It has as many threads as it was to have.
#[cfg(feature = "threads")]
pub fn work() -> Result<(), String> {
    let vacant = VACANT.lock().unwrap_or_else(|e| e.into_inner()).pop();
    vacant.ok_or("the pool has all its threads")?.run();
    Ok(())
}

/// Runs `f` so that the loops inside it stay on this thread: what is already a piece of a loop.
pub fn alone<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(feature = "threads")]
    return as_serial(true, f);
    #[cfg(not(feature = "threads"))]
    f()
}

#[cfg(feature = "threads")]
thread_local! {
    /// A serial pool is installed on this thread.
    static SERIAL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(feature = "threads")]
thread_local! {
    /// This thread runs something for a pool, or waits for something to run.
    static BUSY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    /// This thread does pieces of work that others share.
    static IN_LOOP: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Does `f` with this in [`IN_LOOP`], and puts back what was there.
#[cfg(feature = "threads")]
fn with_in_loop<R>(now: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_LOOP.set(self.0);
        }
    }
    let _restore = Restore(IN_LOOP.replace(now));
    f()
}

/// Whether this thread does a piece of work that others share.
pub(crate) fn in_loop() -> bool {
    #[cfg(feature = "threads")]
    return IN_LOOP.get();
    #[cfg(not(feature = "threads"))]
    false
}

/// Does `f`, which is no piece of whatever this thread was doing.
pub(crate) fn outside_of_loops<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(feature = "threads")]
    return with_in_loop(false, f);
    #[cfg(not(feature = "threads"))]
    f()
}

/// How long a thread looks for work before it sleeps: to wake it takes as long as many a node.
#[cfg(feature = "threads")]
const AWAKE: Duration = Duration::from_millis(1);

/// Runs `f` on a thread of the pool while the others stay awake.
#[cfg(feature = "threads")]
fn awake<R>(pool: &rayon::ThreadPool, f: impl FnOnce() -> R) -> R {
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Tells the others that it is over, however it ends.
    struct Over(std::sync::Arc<AtomicBool>);
    impl Drop for Over {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            BUSY.set(false);
        }
    }
    if BUSY.replace(true) {
        return f();
    }
    let over = Over(std::sync::Arc::default());
    let seen = over.0.clone();
    pool.spawn_broadcast(move |_| {
        // A thread that waits for others must not wait here for itself.
        if !BUSY.replace(true) {
            look_for_work(|| seen.load(Ordering::Relaxed));
            BUSY.set(false);
        }
    });
    f()
}

/// Takes up other threads' work as it comes, until it is over or nothing has come for a while.
#[cfg(feature = "threads")]
fn look_for_work(over: impl Fn() -> bool) {
    let mut idle = Instant::now();
    while !over() {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = Instant::now(),
            _ if idle.elapsed() > AWAKE => return,
            _ => {
                (0..32).for_each(|_| std::hint::spin_loop());
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(feature = "threads")]
fn as_serial<R>(serial: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SERIAL.set(self.0);
        }
    }
    let _restore = Restore(SERIAL.replace(serial));
    f()
}

/// Threads that the loops called here will use.
pub fn threads() -> usize {
    #[cfg(feature = "threads")]
    if !SERIAL.get() && rayon::current_thread_index().is_some() {
        return rayon::current_num_threads();
    }
    1
}

/// Runs both, at the same time if there is a thread for it.
pub fn join<A: Send, B: Send>(
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    checkpoint();
    #[cfg(feature = "threads")]
    if threads() > 1 {
        // Whichever thread does the second half stops when this one is to.
        return with_in_loop(true, || match stop::current() {
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
