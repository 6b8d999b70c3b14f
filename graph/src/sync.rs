//! Locks and flags that threads share: those of the standard library, or, built with
//! `--cfg shuttle`, those of [shuttle](https://docs.rs/shuttle), under which a test tries many
//! orders in which threads may take turns (`runtime/tests/interleavings.rs`). Those for WebAssembly
//! never sleep.

#[cfg(target_family = "wasm")]
pub use crate::spin::{Mutex, OnceLock};
#[cfg(not(any(shuttle, target_family = "wasm")))]
pub use std::sync::Mutex;
#[cfg(not(target_family = "wasm"))]
pub use std::sync::OnceLock;
#[cfg(not(shuttle))]
pub use std::sync::{
    MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

#[cfg(shuttle)]
pub use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

#[cfg(shuttle)]
pub use shuttle::thread_local;
#[cfg(not(shuttle))]
pub use std::thread_local;
