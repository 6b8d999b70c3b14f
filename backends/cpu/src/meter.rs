//! Debug builds count the scratch memory that is in use, so that a kernel that takes more than it
//! says is a failed test. Other builds count nothing.

#[cfg(all(debug_assertions, not(shuttle)))]
use crate::par;
use crate::scratch::Scratch;

#[cfg(all(debug_assertions, not(shuttle)))]
mod counted {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    thread_local! {
        /// Bytes in use by this thread, and the most of them.
        static HERE: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }

    /// Bytes in use by all threads, and the most of them.
    static IN_USE: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    /// A buffer in use.
    pub(crate) struct Taken(usize);

    impl Taken {
        pub fn new(bytes: usize) -> Taken {
            let (now, most) = HERE.get();
            HERE.set((now + bytes, most.max(now + bytes)));
            MOST.fetch_max(IN_USE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
            Taken(bytes)
        }
    }

    impl Drop for Taken {
        fn drop(&mut self) {
            let (now, most) = HERE.get();
            HERE.set((now - self.0, most));
            IN_USE.fetch_sub(self.0, Relaxed);
        }
    }

    /// The most bytes that this thread takes at the same time while `f` runs, beside what it has.
    pub(crate) fn most<R>(f: impl FnOnce() -> R) -> (R, usize) {
        let (now, before) = HERE.get();
        HERE.set((now, now));
        let r = f();
        let (_, most) = HERE.get();
        HERE.set((now, before.max(most)));
        (r, most - now)
    }

    /// Runs what counts for itself: a program that a kernel of another one runs.
    pub(crate) fn apart<R>(f: impl FnOnce() -> R) -> R {
        let before = HERE.get();
        let r = f();
        HERE.set(before);
        r
    }

    /// The most bytes that all threads of this process had in use at the same time since the last
    /// call. For tests that are alone in their process.
    pub fn most_of_all() -> usize {
        MOST.swap(IN_USE.load(Relaxed), Relaxed)
    }
}

#[cfg(all(debug_assertions, not(shuttle)))]
pub use counted::*;

/// Runs a kernel that says it takes this; where one thread does all of it, debug builds see whether
/// that is so.
pub(crate) fn metered<R>(said: &Scratch, run: impl FnOnce() -> R) -> R {
    #[cfg(all(debug_assertions, not(shuttle)))]
    if par::threads() == 1 {
        let (made, most) = most(run);
        let said = said.bytes(1);
        assert!(most <= said, "the kernel takes {most} bytes of scratch memory and said {said}");
        return made;
    }
    let _ = said;
    run()
}

/// Runs what counts for itself: a program that a kernel of another one runs.
#[cfg(not(all(debug_assertions, not(shuttle))))]
pub(crate) fn apart<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// A buffer in use.
#[cfg(not(all(debug_assertions, not(shuttle))))]
pub(crate) struct Taken;

#[cfg(not(all(debug_assertions, not(shuttle))))]
impl Taken {
    pub fn new(_bytes: usize) -> Taken {
        Taken
    }
}
