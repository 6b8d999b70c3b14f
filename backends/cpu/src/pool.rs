//! Scratch memory: buffers that a thread keeps and hands out again.

use bytemuck::{Pod, Zeroable};
use rinfer_graph::scarce;
use rinfer_graph::sync::thread_local;
use std::cell::RefCell;

use crate::{meter, par};

/// A cache line, aligned as one.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Owned memory aligned to 64 bytes, seen as a slice of any plain type.
#[derive(Default)]
pub struct Buffer {
    memory: Memory,
}

/// Where a buffer lies.
enum Memory {
    Lines(Vec<Line>),
    /// Pages of 2 MiB where the system has them: a first touch of each page of 4 KiB costs more
    /// than packing what goes there.
    #[cfg(target_os = "linux")]
    Pages(memmap2::MmapMut),
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::Lines(Vec::new())
    }
}

/// Bytes from which on a buffer is made of large pages.
#[cfg(target_os = "linux")]
const LARGE: usize = 2 << 20;

impl Memory {
    /// This many cache lines, all zero.
    fn zeroed(lines: usize) -> Result<Memory, String> {
        let refused = || format!("no memory for a buffer of {} bytes", lines.saturating_mul(64));
        if !scarce::may_ask(lines.saturating_mul(64)) {
            return Err(refused());
        }
        #[cfg(target_os = "linux")]
        if let Some(bytes) = lines.checked_mul(64).filter(|&bytes| bytes >= LARGE)
            && let Ok(pages) = memmap2::MmapMut::map_anon(bytes)
        {
            // A system without large pages does as well with small ones.
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Ok(Memory::Pages(pages));
        }
        bytemuck::allocation::try_zeroed_vec(lines).map(Memory::Lines).map_err(|()| refused())
    }
}

impl Buffer {
    /// Room for `len` elements of `T`, all bytes zero.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn zeroed<T: Pod>(len: usize) -> Result<Buffer, String> {
        let lines = len.checked_mul(size_of::<T>()).map(|bytes| bytes.div_ceil(64));
        let lines = lines.ok_or_else(|| format!("a buffer of {len} elements is too large"))?;
        Ok(Buffer { memory: Memory::zeroed(lines)? })
    }

    /// Makes room for `len` elements of `T`; what was there is gone if there was too little.
    fn grow<T: Pod>(&mut self, len: usize) -> Result<(), String> {
        if self.as_slice::<T>().len() < len {
            *self = Buffer::default();
            *self = Buffer::zeroed::<T>(len)?;
        }
        Ok(())
    }

    /// How many bytes there are.
    pub fn byte_len(&self) -> usize {
        self.as_slice::<u8>().len()
    }

    /// All of it; as many elements as whole cache lines hold.
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        match &self.memory {
            Memory::Lines(lines) => bytemuck::cast_slice(lines),
            #[cfg(target_os = "linux")]
            Memory::Pages(pages) => bytemuck::cast_slice(pages),
        }
    }

    /// All of it; as many elements as whole cache lines hold.
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Lines(lines) => bytemuck::cast_slice_mut(lines),
            #[cfg(target_os = "linux")]
            Memory::Pages(pages) => bytemuck::cast_slice_mut(pages),
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.byte_len())
    }
}

/// Buffers a thread keeps: kernels nest no deeper.
const KEPT: usize = 8;

/// Scratch memory that nobody uses at the moment.
pub(crate) type Shelf = Vec<Buffer>;

thread_local! {
    /// What this thread takes for its share of loops.
    static OWN: RefCell<Shelf> = const { RefCell::new(Vec::new()) };
    /// What the run takes that this thread runs, outside of loops.
    static RUN: RefCell<Option<Shelf>> = const { RefCell::new(None) };
}

/// Does `f`, the steps of a run, with the buffers that earlier runs left on `shelf`.
pub(crate) fn with_shelf<R>(shelf: &mut Shelf, f: impl FnOnce() -> R) -> R {
    /// Puts back what was there before, however `f` ends.
    struct Restore<'a>(&'a mut Shelf, Option<Shelf>);
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            *self.0 = RUN.with(|run| run.replace(self.1.take())).unwrap_or_default();
        }
    }
    let before = RUN.with(|run| run.replace(Some(std::mem::take(shelf))));
    let _restore = Restore(shelf, before);
    par::outside_of_loops(f)
}

/// Gives back what this thread keeps for loops, until it keeps no more than `bytes`.
pub(crate) fn shrink_own(bytes: usize) {
    OWN.with(|own| shrink(&mut own.borrow_mut(), bytes));
}

/// Gives back the largest buffers until no more than `bytes` are left.
pub(crate) fn shrink(shelf: &mut Shelf, bytes: usize) {
    shelf.sort_unstable_by_key(Buffer::byte_len);
    while shelf.iter().map(Buffer::byte_len).sum::<usize>() > bytes {
        shelf.pop();
    }
}

/// The smallest buffer with `bytes`; else the largest, which then is made anew; else a new one.
fn take(shelf: &mut Shelf, bytes: usize) -> Buffer {
    let sizes = || shelf.iter().map(Buffer::byte_len).enumerate();
    let fits = sizes().filter(|&(_, n)| n >= bytes).min_by_key(|&(_, n)| n);
    let best = fits.or_else(|| sizes().max_by_key(|&(_, n)| n));
    best.map(|(i, _)| shelf.swap_remove(i)).unwrap_or_default()
}

fn put(shelf: &mut Shelf, buffer: Buffer) {
    if shelf.len() < KEPT && buffer.byte_len() > 0 {
        shelf.push(buffer);
    }
}

/// Calls `f` with `len` elements of scratch memory, aligned to 64 bytes, holding anything.
///
/// Calls may nest, and a thread that takes up other work in the middle may call again: each call
/// has a buffer to itself. A kernel says beforehand what it will take
/// ([`Kernel::takes`](crate::kernel::Kernel::takes)).
///
/// # Errors
/// The memory cannot be had; `f` is not called.
pub fn with_scratch_of<T: Pod, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> Result<R, String> {
    let bytes = len.saturating_mul(size_of::<T>());
    let of_run = !par::in_loop() && RUN.with(|run| run.borrow().is_some());
    let mut buffer = match of_run {
        true => RUN.with(|run| run.borrow_mut().as_mut().map(|run| take(run, bytes))),
        false => OWN.with(|own| Some(take(&mut own.borrow_mut(), bytes))),
    }
    .unwrap_or_default();
    buffer.grow::<T>(len)?;
    let taken = meter::Taken::new(bytes);
    let r = f(&mut buffer.as_mut_slice()[..len]);
    drop(taken);
    match of_run {
        true => RUN.with(|run| put(run.borrow_mut().get_or_insert_default(), buffer)),
        false => OWN.with(|own| put(&mut own.borrow_mut(), buffer)),
    }
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
