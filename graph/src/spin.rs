//! Locks for where a thread may not sleep, as a page's own in a browser: those of the standard
//! library, asked again and again instead of waited for. What they guard takes no time to speak of.

use std::sync::{LockResult, MutexGuard, TryLockError};

/// As the standard library's.
#[derive(Debug, Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Around a value.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(std::sync::Mutex::new(value))
    }

    /// The value, once nobody else has it.
    ///
    /// # Errors
    /// A thread went down while it had the value.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        loop {
            match self.0.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poison)) => return Err(poison),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
    }

    /// The value.
    ///
    /// # Errors
    /// A thread went down while it had the value.
    pub fn into_inner(self) -> LockResult<T> {
        self.0.into_inner()
    }
}

/// As the standard library's; of threads that come at the same time each makes a value, and the
/// first stays.
#[derive(Debug)]
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    /// Whoever has it may set the value: nobody waits for another who does.
    door: Mutex<()>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> OnceLock<T> {
    /// Without a value.
    pub const fn new() -> OnceLock<T> {
        OnceLock { value: std::sync::OnceLock::new(), door: Mutex::new(()) }
    }

    /// The value, if there is one.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Sets the value.
    ///
    /// # Errors
    /// There is one already; `value` comes back.
    pub fn set(&self, value: T) -> Result<(), T> {
        let _door = self.door.lock().unwrap_or_else(|e| e.into_inner());
        self.value.set(value)
    }

    /// The value, which `make` makes if there is none.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        // Of two the first stays.
        let _ = self.set(make());
        self.get().expect("it was just set")
    }

    /// The value, if there is one.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns() {
        let (sum, first) = (Mutex::new(0), OnceLock::new());
        std::thread::scope(|threads| {
            for i in 0..4 {
                let (sum, first) = (&sum, &first);
                threads.spawn(move || {
                    for _ in 0..1000 {
                        *sum.lock().unwrap() += 1;
                    }
                    assert!(*first.get_or_init(|| i) < 4);
                });
            }
        });
        assert_eq!(sum.into_inner().unwrap(), 4000);
        assert!(first.set(9).is_err() && first.into_inner().is_some());
    }

    #[test]
    fn a_thread_that_went_down_is_told() {
        let lock = Mutex::new(1);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock.lock().unwrap();
            panic!("down");
        }));
        assert_eq!(*lock.lock().unwrap_err().into_inner(), 1);
    }
}
