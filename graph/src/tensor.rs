//! Dense row-major arrays on the host.
//!
//! A tensor's bytes are either its own, in 64-byte lines so that every element type is aligned, or
//! borrowed from a `Bytes` (a mapped model file). Borrowed bytes that are misaligned for a type
//! are copied once, on the first typed access; reading them as bytes never copies.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use web_time::Instant;

use crate::shape::{Sizes, count};
use crate::sync::{Mutex, MutexGuard, OnceLock};
use crate::{DType, Element, Reason, invalid, scarce};

/// A cache line; the unit of allocation.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

/// Memory for a tensor's elements: zeroed when new, reused as it is.
pub type Buffer = Vec<Line>;

/// A zeroed buffer of at least `bytes` bytes, or the reason why there is none.
pub fn try_buffer(bytes: usize) -> Result<Buffer, Reason> {
    scarce::try_zeros(bytes.div_ceil(64))
}

/// Memory that tensors leave behind when they are dropped, for the tensors after them. It keeps
/// no more than it was allowed to.
#[derive(Default)]
pub struct Spare(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    /// In the order in which they came.
    buffers: Vec<Buffer>,
    bytes: usize,
    limit: usize,
    /// When the limit was last asked for.
    allowed: Option<Instant>,
}

/// Memory that no run asked for in so long goes back to the system.
pub const KEEP_TIME: Duration = Duration::from_millis(500);
/// Bytes below which an allocator is as good.
const SPARED: usize = 16 << 10;

impl Spare {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Allows it to keep this many bytes, or as many as were allowed within the last half second.
    pub fn allow(&self, bytes: usize) {
        let now = Instant::now();
        let mut idle = self.lock();
        let old = |at: Instant| now.duration_since(at) > KEEP_TIME;
        if bytes >= idle.limit || idle.allowed.is_some_and(old) {
            idle.limit = bytes;
            idle.allowed = Some(now);
        }
        let gone = idle.shrink();
        drop(idle);
        drop(gone);
    }

    /// Gives everything back to the system.
    pub fn clear(&self) {
        let gone = std::mem::take(&mut *self.lock());
        drop(gone);
    }

    /// A tensor whose memory comes back here; its content is arbitrary.
    ///
    /// # Errors
    /// The size overflows, or the machine has no memory for it.
    pub fn tensor(self: &Arc<Spare>, dtype: DType, shape: &[usize]) -> Result<Tensor, Reason> {
        let bytes = size_in_bytes(dtype, shape)?;
        if bytes < SPARED {
            return Tensor::try_zeros(dtype, shape);
        }
        let lines = bytes.div_ceil(64);
        let mut idle = self.lock();
        // The smallest that is large enough and not far too large.
        let fits = |(_, b): &(usize, &Buffer)| (lines..=2 * lines).contains(&b.len());
        let best = idle.buffers.iter().enumerate().filter(fits).min_by_key(|(_, b)| b.len());
        let found = best.map(|(i, _)| i).map(|i| idle.buffers.remove(i));
        // One that is just too small: shapes grow.
        let grows = idle.buffers.iter().any(|b| (lines - lines / 4..lines).contains(&b.len()));
        idle.bytes -= found.as_ref().map_or(0, |buffer| buffer.len() * 64);
        drop(idle);
        let lines = match found {
            Some(buffer) => buffer,
            // A little more than needed, so that slowly growing shapes find it large enough.
            None => try_buffer(bytes.saturating_add(if grows { bytes / 8 } else { 0 }))?,
        };
        let owned = Owned { lines, home: Arc::downgrade(self) };
        Ok(Tensor { dtype, shape: shape.into(), data: Data::Own(Arc::new(owned)) })
    }

    fn keep(&self, buffer: Buffer) {
        let mut idle = self.lock();
        idle.bytes += buffer.len() * 64;
        idle.buffers.push(buffer);
        let gone = idle.shrink();
        drop(idle);
        drop(gone);
    }
}

impl Idle {
    /// Takes out what is over the limit, for the caller to drop where nobody waits for it.
    fn shrink(&mut self) -> Vec<Buffer> {
        let mut gone = Vec::new();
        while self.bytes > self.limit.saturating_add(self.limit / 8) {
            let oldest = self.buffers.remove(0);
            self.bytes -= oldest.len() * 64;
            gone.push(oldest);
        }
        gone
    }
}

/// A tensor's own memory.
struct Owned {
    lines: Buffer,
    /// Where it goes when nobody needs it any more.
    home: Weak<Spare>,
}

impl From<Buffer> for Owned {
    fn from(lines: Buffer) -> Owned {
        Owned { lines, home: Weak::new() }
    }
}

impl Clone for Owned {
    fn clone(&self) -> Owned {
        self.lines.clone().into()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.lines.len() * 64 >= SPARED
            && let Some(home) = self.home.upgrade()
        {
            home.keep(std::mem::take(&mut self.lines));
        }
    }
}

#[derive(Clone)]
enum Data {
    Own(Arc<Owned>),
    Borrowed { bytes: Bytes, aligned: Arc<OnceLock<Buffer>> },
}

/// A dense row-major array on the host. Cloning shares the data.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Sizes,
    data: Data,
}

impl Tensor {
    /// Zeros; `Err` if the size overflows or the machine has no memory for it.
    pub fn try_zeros(dtype: DType, shape: &[usize]) -> Result<Tensor, Reason> {
        let bytes = size_in_bytes(dtype, shape)?;
        Ok(Tensor {
            dtype,
            shape: shape.into(),
            data: Data::Own(Arc::new(try_buffer(bytes)?.into())),
        })
    }

    /// A tensor over `buffer`, whose first bytes become the elements as they are.
    ///
    /// `Err` if the buffer is too small for the shape.
    pub fn from_buffer(dtype: DType, shape: &[usize], buffer: Buffer) -> Result<Tensor, Reason> {
        let bytes = size_in_bytes(dtype, shape)?;
        if bytes > buffer.len() * 64 {
            return Err(invalid!(
                "{bytes} bytes do not fit into a buffer of {}",
                buffer.len() * 64
            ));
        }
        Ok(Tensor { dtype, shape: shape.into(), data: Data::Own(Arc::new(buffer.into())) })
    }

    /// A tensor whose elements are `bytes` (little-endian, packed), without a copy.
    ///
    /// `Err` unless `bytes` is exactly as long as dtype and shape say.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: Bytes) -> Result<Tensor, Reason> {
        let expected = size_in_bytes(dtype, shape)?;
        if bytes.len() != expected {
            return Err(invalid!(
                "{} bytes of data for a {dtype} tensor of shape {shape:?}, which takes {expected}",
                bytes.len()
            ));
        }
        if cfg!(target_endian = "big") && dtype.size() > 1 {
            return Err(crate::unsupported!("big-endian machines are not supported"));
        }
        let data = Data::Borrowed { bytes, aligned: Arc::default() };
        Ok(Tensor { dtype, shape: shape.into(), data })
    }

    /// A copy of `data` with the given shape; `Err` if their lengths differ.
    pub fn try_from_slice<T: Element>(shape: &[usize], data: &[T]) -> Result<Tensor, Reason> {
        let mut t = Tensor::try_zeros(T::DTYPE, shape)?;
        if t.len() != data.len() {
            return Err(invalid!("{} elements for shape {shape:?}", data.len()));
        }
        t.as_mut_slice::<T>().copy_from_slice(data);
        Ok(t)
    }

    /// A copy of `data` with the given shape.
    ///
    /// # Panics
    /// If the lengths differ, or, with the [`Reason`], if there is no memory; for sizes that come
    /// from a model use [`Tensor::try_from_slice`].
    pub fn from_slice<T: Element>(shape: &[usize], data: &[T]) -> Tensor {
        Tensor::try_from_slice(shape, data).unwrap_or_else(|reason| match reason.kind {
            crate::Kind::Limit => std::panic::panic_any(reason),
            _ => panic!("{reason}"),
        })
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::from_slice(&[], &[value])
    }

    /// A tensor of rank 1.
    pub fn vector<T: Element>(values: &[T]) -> Tensor {
        Tensor::from_slice(&[values.len()], values)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        count(&self.shape).expect("checked when the tensor was made")
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The same elements under another shape; `Err` if the number of elements differs.
    pub fn reshaped(mut self, shape: &[usize]) -> Result<Tensor, Reason> {
        if count(shape) != Some(self.len()) {
            return Err(invalid!("{} elements cannot take the shape {shape:?}", self.len()));
        }
        self.shape = shape.into();
        Ok(self)
    }

    /// The same bytes read as another dtype of the same width.
    pub fn bit_cast(mut self, dtype: DType) -> Result<Tensor, Reason> {
        if dtype.bits() != self.dtype.bits() || dtype.bits() == 0 {
            return Err(invalid!("{} cannot be read as {dtype}: the widths differ", self.dtype));
        }
        self.dtype = dtype;
        Ok(self)
    }

    /// The number of bytes that the elements take.
    pub fn byte_len(&self) -> usize {
        self.dtype.bytes_for(self.len()).expect("checked when the tensor was made")
    }

    /// The elements as bytes, little-endian, packed; may be misaligned for the dtype.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.data {
            Data::Own(own) => &bytemuck::cast_slice(own.lines.as_slice())[..self.byte_len()],
            Data::Borrowed { bytes, .. } => bytes,
        }
    }

    /// The elements as bytes, to be written. Shared or borrowed data is copied first.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        let len = self.byte_len();
        &mut bytemuck::cast_slice_mut(self.own().as_mut_slice())[..len]
    }

    fn own(&mut self) -> &mut Buffer {
        if let Data::Borrowed { .. } = &self.data {
            let bytes = self.as_bytes();
            let mut lines: Buffer = scarce::zeros(bytes.len().div_ceil(64));
            bytemuck::cast_slice_mut(&mut lines)[..bytes.len()].copy_from_slice(bytes);
            self.data = Data::Own(Arc::new(lines.into()));
        }
        match &mut self.data {
            Data::Own(own) => &mut Arc::make_mut(own).lines,
            Data::Borrowed { .. } => unreachable!("made own above"),
        }
    }

    /// The elements.
    ///
    /// # Panics
    /// If `T` is not the element type: callers dispatch on [`Tensor::dtype`] first.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.dtype, "dtype asked for and dtype held");
        self.as_bits()
    }

    /// The elements, to be written. Shared or borrowed data is copied first.
    ///
    /// # Panics
    /// If `T` is not the element type.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.dtype, "dtype asked for and dtype held");
        self.as_mut_bits()
    }

    /// The elements as plain words of the same width.
    ///
    /// # Panics
    /// If the widths differ.
    pub fn as_bits<W: bytemuck::Pod>(&self) -> &[W] {
        assert_eq!(size_of::<W>(), self.dtype.size(), "width asked for and width held");
        let len = self.byte_len();
        match &self.data {
            Data::Own(own) => {
                bytemuck::cast_slice(&bytemuck::cast_slice::<_, u8>(&own.lines)[..len])
            }
            Data::Borrowed { bytes, aligned } => {
                bytemuck::try_cast_slice(bytes).unwrap_or_else(|_| {
                    let lines = aligned.get_or_init(|| {
                        let mut lines: Buffer = scarce::zeros(len.div_ceil(64));
                        bytemuck::cast_slice_mut(&mut lines)[..len].copy_from_slice(bytes);
                        lines
                    });
                    bytemuck::cast_slice(&bytemuck::cast_slice::<_, u8>(lines)[..len])
                })
            }
        }
    }

    /// The elements as plain words of the same width, to be written.
    ///
    /// # Panics
    /// If the widths differ.
    pub fn as_mut_bits<W: bytemuck::Pod>(&mut self) -> &mut [W] {
        assert_eq!(size_of::<W>(), self.dtype.size(), "width asked for and width held");
        bytemuck::cast_slice_mut(self.as_mut_bytes())
    }

    /// Gives the memory back for reuse, if nobody else holds it and it is the tensor's own.
    pub fn into_buffer(self) -> Option<Buffer> {
        match self.data {
            Data::Own(own) => Some(std::mem::take(&mut Arc::try_unwrap(own).ok()?.lines)),
            Data::Borrowed { .. } => None,
        }
    }

    /// Whether writing needs no copy: the memory is the tensor's own and nobody shares it.
    pub fn is_unique(&mut self) -> bool {
        match &mut self.data {
            Data::Own(own) => Arc::get_mut(own).is_some(),
            Data::Borrowed { .. } => false,
        }
    }

    /// Whether both hold the very same memory.
    pub fn shares_memory(&self, other: &Tensor) -> bool {
        self.as_bytes().as_ptr() == other.as_bytes().as_ptr()
    }

    /// Integers as `i64`, for shapes, axes and indices; `None` for other dtypes.
    pub fn to_ints(&self) -> Option<SmallVec<[i64; 4]>> {
        Some(match self.dtype {
            DType::I64 => self.as_slice::<i64>().into(),
            DType::I32 => self.as_slice::<i32>().iter().map(|&x| x as i64).collect(),
            DType::I16 => self.as_slice::<i16>().iter().map(|&x| x as i64).collect(),
            DType::I8 => self.as_slice::<i8>().iter().map(|&x| x as i64).collect(),
            DType::U8 => self.as_slice::<u8>().iter().map(|&x| x as i64).collect(),
            DType::U16 => self.as_slice::<u16>().iter().map(|&x| x as i64).collect(),
            DType::U32 => self.as_slice::<u32>().iter().map(|&x| x as i64).collect(),
            _ => return None,
        })
    }

    /// The value as `f32`, if this is one element of a float type.
    pub fn to_f32(&self) -> Option<f32> {
        if self.len() != 1 {
            return None;
        }
        Some(match self.dtype {
            DType::F32 => self.as_slice::<f32>()[0],
            DType::F64 => self.as_slice::<f64>()[0] as f32,
            DType::F16 => self.as_slice::<half::f16>()[0].to_f32(),
            DType::BF16 => self.as_slice::<half::bf16>()[0].to_f32(),
            _ => return None,
        })
    }
}

/// The bytes of a tensor; `Err` with the numbers if no machine could hold them.
pub fn size_in_bytes(dtype: DType, shape: &[usize]) -> Result<usize, Reason> {
    if dtype == DType::String {
        return Err(invalid!("strings do not fit into a tensor of bytes"));
    }
    count(shape)
        .and_then(|n| dtype.bytes_for(n))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or_else(|| {
            let text = format!("a {dtype} tensor of shape {shape:?} is larger than any memory");
            Reason::new(crate::Kind::Limit, text)
        })
}

impl PartialEq for Tensor {
    /// Same dtype, shape and bits.
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && (self.shares_memory(other) || self.as_bytes() == other.as_bytes())
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.dtype, &self.shape[..])?;
        match crate::with_dtype!(self.dtype, [f32, f64, i64, i32, u8, i8], T => {
            (self.len() <= 8).then(|| format!("{:?}", self.as_slice::<T>()))
        }, else None)
        {
            Some(elements) => write!(f, "({elements})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misaligned_bytes_read_right() {
        let mut raw = vec![0u8];
        raw.extend_from_slice(bytemuck::cast_slice(&[1.5f32, -2.0]));
        let bytes = Bytes::from(raw).slice(1..);
        let t = Tensor::from_bytes(DType::F32, &[2], bytes.clone()).unwrap();
        assert_eq!(t.as_slice::<f32>(), [1.5, -2.0]);
        assert_eq!(t.as_bytes().as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn writing_to_a_clone_leaves_the_original() {
        let a = Tensor::vector(&[1i32, 2]);
        let mut b = a.clone();
        b.as_mut_slice::<i32>()[0] = 9;
        assert_eq!(a.as_slice::<i32>(), [1, 2]);
        assert_eq!(b.as_slice::<i32>(), [9, 2]);
    }

    #[test]
    fn sizes_that_no_memory_holds_are_errors() {
        assert!(Tensor::try_zeros(DType::F32, &[usize::MAX, 2]).is_err());
        assert!(Tensor::try_zeros(DType::F64, &[1 << 59]).is_err());
        assert!(Tensor::from_bytes(DType::F32, &[2], Bytes::from_static(&[0; 7])).is_err());
    }

    #[test]
    fn dropped_memory_is_used_again_within_the_limit() {
        let spare = Arc::new(Spare::default());
        let at = |t: &Tensor| t.as_bytes().as_ptr();
        spare.allow(1 << 20);
        let t = spare.tensor(DType::F32, &[1000, 200]).unwrap();
        let (place, shared) = (at(&t), t.clone());
        drop(t);
        assert_ne!(at(&spare.tensor(DType::F32, &[1000, 200]).unwrap()), place);
        drop(shared);
        assert_eq!(at(&spare.tensor(DType::F32, &[1000, 190]).unwrap()), place);
        // The first that is too large has room for the next.
        spare.clear();
        spare.allow(1 << 20);
        drop(spare.tensor(DType::F32, &[1000, 200]).unwrap());
        let place = at(&spare.tensor(DType::F32, &[1000, 210]).unwrap());
        assert_eq!(at(&spare.tensor(DType::F32, &[1000, 220]).unwrap()), place);
        drop(spare.tensor(DType::F32, &[1000, 1000]).unwrap());
        assert!(spare.lock().bytes <= (1 << 20) + (1 << 17));
        std::thread::sleep(KEEP_TIME + Duration::from_millis(50));
        spare.allow(1 << 17);
        assert!(spare.lock().bytes <= (1 << 17) + (1 << 14));
        spare.clear();
        assert_eq!(spare.lock().bytes, 0);
    }

    #[test]
    fn the_buffer_comes_back_only_when_unshared() {
        let t = Tensor::vector(&[1f32]);
        let kept = t.clone();
        assert!(t.into_buffer().is_none());
        assert!(kept.into_buffer().is_some());
    }
}
