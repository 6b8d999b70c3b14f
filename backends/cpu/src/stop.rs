//! Runs that stop in the middle of a kernel: cancelled, or past their deadline.
//!
//! A kernel is told nothing. Whoever runs it says when to stop ([`Stop`]); loops ([`crate::par`])
//! and long products look at it between pieces of work, and once it is due they unwind to
//! [`run`], which answers `None`. What the kernel was making is lost, nothing else is: outputs that
//! are half done are never seen. Where panics abort there is no way back, and nothing stops early.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;
use rinfer_graph::sync::{AtomicBool, Ordering, thread_local};
use web_time::Instant;

/// When to stop.
#[derive(Debug)]
pub(crate) struct Stop {
    cancel: Option<Arc<AtomicBool>>,
    deadline: Option<Instant>,
}

impl Stop {
    /// What a run's context says; `None` if nothing ever stops it.
    pub fn of(cx: &RunCx<'_>) -> Option<Arc<Stop>> {
        let bounded = cfg!(panic = "unwind") && (cx.cancel.is_some() || cx.deadline.is_some());
        bounded.then(|| Arc::new(Stop { cancel: cx.cancel.cloned(), deadline: cx.deadline }))
    }

    fn is_due(&self) -> bool {
        self.cancel.as_ref().is_some_and(|c| c.load(Ordering::Relaxed))
            || self.deadline.is_some_and(|d| Instant::now() >= d)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Stop>>> = const { RefCell::new(None) };
}

/// What stops the work that this thread does now.
pub(crate) fn current() -> Option<Arc<Stop>> {
    CURRENT.with(|stop| stop.borrow().clone())
}

/// Does `f` so that `stop` stops it, and puts back what was before.
pub(crate) fn under<R>(stop: Option<Arc<Stop>>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<Stop>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with(|stop| *stop.borrow_mut() = self.0.take());
        }
    }
    let _restore = Restore(CURRENT.with(|now| now.replace(stop)));
    f()
}

/// What unwinds through a kernel.
struct Stopped;

/// Stops here if it is time to.
#[inline(never)]
pub(crate) fn checkpoint() {
    let due = CURRENT.with(|stop| stop.borrow().as_ref().is_some_and(|stop| stop.is_due()));
    if due {
        resume_unwind(Box::new(Stopped));
    }
}

/// Runs a kernel. `Err` if it was stopped, which the context explains, or if it panicked: that is
/// a defect, but one of this node, not of the process.
pub(crate) fn run<R>(
    cx: &RunCx<'_>,
    kernel: impl FnOnce() -> Result<R, Reason>,
) -> Result<R, Reason> {
    // A kernel that panics leaves nothing behind but memory that nobody reads again: its outputs
    // are dropped, scratch memory is made anew.
    let payload = match catch_unwind(AssertUnwindSafe(kernel)) {
        Ok(result) => return result,
        Err(payload) => payload,
    };
    if payload.is::<Stopped>() {
        cx.check()?;
    }
    Err(Reason::of_panic(payload.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::par::{self, Pool};
    use rinfer_graph::Kind;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    fn spin() {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(200) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_loop_stops_within_milliseconds_on_any_number_of_threads() {
        for threads in [1, 2, 3] {
            let deadline = Instant::now() + Duration::from_millis(20);
            let cx = RunCx { deadline: Some(deadline), ..RunCx::unbounded() };
            let done = AtomicUsize::new(0);
            let result = Pool::new(threads).unwrap().install(|| {
                under(Stop::of(&cx), || {
                    run(&cx, || {
                        par::for_each_index(1_000_000, 1, |_| {
                            spin();
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                        Ok(())
                    })
                })
            });
            assert_eq!(result.unwrap_err().kind, Kind::Deadline);
            assert!(done.into_inner() < 100_000);
            assert!(current().is_none());
        }
    }

    #[test]
    fn work_of_others_is_not_stopped() {
        let cancel = Arc::new(AtomicBool::new(true));
        let cx = RunCx { cancel: Some(&cancel), ..RunCx::unbounded() };
        let pool = Pool::new(2).unwrap();
        let stopped = || {
            under(Stop::of(&cx), || {
                run(&cx, || {
                    par::for_each_index(9, 1, |_| ());
                    Ok(())
                })
            })
        };
        let free = || {
            run(&RunCx::unbounded(), || {
                par::for_each_index(9, 1, |_| spin());
                Ok(())
            })
        };
        pool.install(|| {
            for _ in 0..100 {
                let (a, b) = par::join(stopped, free);
                assert_eq!((a.unwrap_err().kind, b), (Kind::Cancelled, Ok(())));
            }
        });
    }

    #[test]
    fn a_panic_is_an_error_of_the_node() {
        let broken = || -> Result<(), Reason> { std::panic::resume_unwind(Box::new("broken")) };
        let reason = run(&RunCx::unbounded(), broken).unwrap_err();
        assert_eq!((reason.kind, &*reason.text), (Kind::Internal, "internal error: broken"));
    }
}
