//! Memory that is not there. What is as large as a tensor is asked for here, and may be refused;
//! tests of debug builds refuse what the machine would give, to see what follows.

use bytemuck::Zeroable;

use crate::Reason;

#[cfg(debug_assertions)]
mod refusal {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// How many more requests are granted, and how many there were. For the whole process.
    static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    /// Refuses one request after `granted` others, and none after it. For tests that are alone in
    /// their process.
    pub fn refuse_after(granted: usize) {
        LEFT.store(granted, Relaxed);
        ASKED.store(0, Relaxed);
    }

    /// How often memory was asked for since [`refuse_after`].
    pub fn asked() -> usize {
        ASKED.load(Relaxed)
    }

    pub(super) fn granted() -> bool {
        ASKED.fetch_add(1, Relaxed);
        let less = |left: usize| match left {
            usize::MAX => None,
            0 => Some(usize::MAX),
            n => Some(n - 1),
        };
        LEFT.fetch_update(Relaxed, Relaxed, less) != Ok(0)
    }
}

#[cfg(debug_assertions)]
pub use refusal::{asked, refuse_after};

/// Whether so many bytes may be asked of the machine.
pub fn may_ask(bytes: usize) -> bool {
    if isize::try_from(bytes).is_err() {
        return false;
    }
    #[cfg(debug_assertions)]
    return refusal::granted();
    #[cfg(not(debug_assertions))]
    true
}

/// `len` zeros, or the reason why there are none.
pub fn try_zeros<T: Zeroable>(len: usize) -> Result<Vec<T>, Reason> {
    let bytes = len.saturating_mul(size_of::<T>());
    let refused = || Reason::no_memory(bytes);
    if !may_ask(bytes) {
        return Err(refused());
    }
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| refused())
}

/// `len` zeros, for whoever cannot say that there are none: then this unwinds with the reason, and
/// whoever runs the node answers with it.
pub fn zeros<T: Zeroable>(len: usize) -> Vec<T> {
    try_zeros(len).unwrap_or_else(|reason| std::panic::resume_unwind(Box::new(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn what_cannot_be_had_is_a_limit_also_where_it_cannot_be_said() {
        assert_eq!(try_zeros::<u64>(usize::MAX).unwrap_err().kind, Kind::Limit);
        let payload = std::panic::catch_unwind(|| zeros::<u64>(usize::MAX)).unwrap_err();
        assert_eq!(Reason::of_panic(payload.as_ref()).kind, Kind::Limit);
        assert_eq!(zeros::<u8>(3), [0, 0, 0]);
    }
}
