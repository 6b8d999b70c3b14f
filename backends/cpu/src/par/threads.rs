//! The threads that loops are shared by: a pool of a session's own, that of whoever calls, or those
//! that a program is lent.

#[cfg(feature = "threads")]
use std::cell::Cell;
#[cfg(feature = "threads")]
use std::thread::LocalKey;
#[cfg(feature = "threads")]
use std::time::Duration;

#[cfg(feature = "threads")]
use rinfer_graph::tensor::KEEP_TIME;
#[cfg(feature = "threads")]
use web_time::Instant;

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
                    pool.install(|| with(&SERIAL, false, || awake(pool, f)))
                }
                None if self.inherited => f(),
                None => with(&SERIAL, true, f),
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
    return with(&SERIAL, true, f);
    #[cfg(not(feature = "threads"))]
    f()
}

#[cfg(feature = "threads")]
thread_local! {
    /// A serial pool is installed on this thread.
    static SERIAL: Cell<bool> = const { Cell::new(false) };
}

#[cfg(feature = "threads")]
thread_local! {
    /// This thread runs something for a pool, or waits for something to run.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    /// This thread does pieces of work that others share.
    static IN_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Does `f` with this in a flag of the thread, and puts back what was there, however `f` ends.
#[cfg(feature = "threads")]
fn with<R>(flag: &'static LocalKey<Cell<bool>>, now: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(&'static LocalKey<Cell<bool>>, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(flag, flag.replace(now));
    f()
}

/// Does `f`, all of it or in part a piece of work that others share.
#[cfg(feature = "threads")]
pub(super) fn inside_a_loop<R>(f: impl FnOnce() -> R) -> R {
    with(&IN_LOOP, true, f)
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
    return with(&IN_LOOP, false, f);
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

/// Threads that the loops called here will use.
pub fn threads() -> usize {
    #[cfg(feature = "threads")]
    if !SERIAL.get() && rayon::current_thread_index().is_some() {
        return rayon::current_num_threads();
    }
    1
}
