//! Scratch memory: buffers that a thread keeps and hands out again.

use bytemuck::{Pod, Zeroable};
use std::cell::RefCell;

/// A cache line, aligned as one.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Owned memory aligned to 64 bytes, seen as a slice of any plain type.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// Room for `len` elements of `T`, all bytes zero.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn zeroed<T: Pod>(len: usize) -> Result<Buffer, String> {
        let mut buffer = Buffer::default();
        buffer.grow::<T>(len)?;
        Ok(buffer)
    }

    /// Makes room for `len` elements of `T`; what was there stays.
    fn grow<T: Pod>(&mut self, len: usize) -> Result<(), String> {
        let lines = len.checked_mul(size_of::<T>()).map(|bytes| bytes.div_ceil(64));
        let lines = lines.ok_or_else(|| format!("a buffer of {len} elements is too large"))?;
        if let Some(more) = lines.checked_sub(self.lines.len()) {
            let failed =
                |_| format!("no memory for a buffer of {} bytes", lines.saturating_mul(64));
            self.lines.try_reserve_exact(more).map_err(failed)?;
            self.lines.resize(lines, Line::zeroed());
        }
        Ok(())
    }

    /// All of it; as many elements as whole cache lines hold.
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.lines)
    }

    /// All of it; as many elements as whole cache lines hold.
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.lines.len() * 64)
    }
}

/// Buffers a thread keeps: kernels nest no deeper.
const KEPT: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` elements of scratch memory, aligned to 64 bytes, holding anything.
///
/// Calls may nest, and a thread that takes up other work in the middle may call again: each call
/// has a buffer to itself.
///
/// # Errors
/// The memory cannot be had; `f` is not called.
pub fn with_scratch_of<T: Pod, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> Result<R, String> {
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.grow::<T>(len)?;
    let r = f(&mut buffer.as_mut_slice()[..len]);
    FREE.with_borrow_mut(|free| {
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
    Ok(r)
}

/// [`with_scratch_of`] for `f32`.
///
/// # Errors
/// The memory cannot be had; `f` is not called.
pub fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> Result<R, String> {
    with_scratch_of(len, f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_buffers_are_apart_and_aligned() {
        with_scratch(10, |a| {
            a.fill(1.0);
            with_scratch_of(3, |b: &mut [u64]| b.fill(2)).unwrap();
            assert_eq!((a.as_ptr() as usize % 64, &*a), (0, [1.0; 10].as_slice()));
        })
        .unwrap();
    }

    #[test]
    fn memory_is_used_again() {
        let at = |_: &mut [f32]| ();
        let first = with_scratch(100, |x| x.as_ptr() as usize).unwrap();
        assert_eq!(with_scratch(50, |x| x.as_ptr() as usize).unwrap(), first);
        with_scratch(0, at).unwrap();
    }

    #[test]
    fn too_much_memory_is_an_error() {
        assert!(with_scratch(usize::MAX, |_| ()).is_err());
        assert!(with_scratch(1 << 55, |_| ()).is_err());
        assert!(Buffer::zeroed::<u8>(usize::MAX - 64).is_err());
    }
}
