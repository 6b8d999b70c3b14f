//! Waiting for the GPU: a thread may do so natively, in a page none may. Whatever differs between
//! the two is here.

use std::future::Future;

use rinfer_graph::Reason;

/// Whether this thread may wait. Where it may not, a run returns to whoever called it, and the
/// browser tells its waker when to go on.
pub(crate) const MAY_WAIT: bool = cfg!(not(target_family = "wasm"));

/// Waits for a future.
///
/// # Errors
/// Nobody may wait here.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Reason> {
    if MAY_WAIT { Ok(pollster::block_on(future)) } else { Err(Reason::cannot_wait()) }
}
