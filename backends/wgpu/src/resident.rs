//! Tensors that stay in the GPU's memory between runs.

use std::any::Any;
use std::sync::{Arc, PoisonError};

use rinfer_graph::backend::{OnDevice, Reading, RunCx};
use rinfer_graph::shape::Sizes;
use rinfer_graph::tensor::size_in_bytes;
use rinfer_graph::{DType, Reason, Tensor, invalid};
use web_time::Instant;
use wgpu::BufferUsages;

use crate::device::{Buffer, Gpu, padded};
use crate::readback::Readback;
use crate::scope::Late;

/// A tensor in a buffer of its own; views of one content share that.
pub(crate) struct Resident {
    memory: Arc<Memory>,
    dtype: DType,
    sizes: Sizes,
}

/// A buffer that goes back to its GPU when nobody needs its content.
struct Memory {
    gpu: Arc<Gpu>,
    buffer: Arc<Buffer>,
}

/// Buffers kept for later tensors, and their bytes in all, at most.
const SPARE: usize = 64;
const SPARE_BYTES: u64 = 1 << 30;

impl Resident {
    /// Memory for a tensor, whatever is in it.
    pub fn new(gpu: &Arc<Gpu>, dtype: DType, sizes: &[usize]) -> Result<Resident, Reason> {
        let bytes = padded(size_in_bytes(dtype, sizes)?);
        let lock = || gpu.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = {
            let mut spare = lock();
            let fits = spare.iter().position(|b| b.size() == bytes as u64);
            fits.map(|i| spare.swap_remove(i))
        };
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = match kept {
            Some(buffer) => buffer,
            None => Arc::new(gpu.buffer(bytes, usage)?),
        };
        let memory = Arc::new(Memory { gpu: gpu.clone(), buffer });
        Ok(Resident { memory, dtype, sizes: sizes.into() })
    }

    /// The one that a tensor on some device is, if that is this one.
    pub fn of<'a>(tensor: &'a dyn OnDevice, gpu: &Gpu) -> Option<&'a Resident> {
        let found = tensor.as_any().downcast_ref::<Resident>()?;
        std::ptr::eq(&*found.memory.gpu, gpu).then_some(found)
    }

    /// The same content under another shape of as many elements.
    pub fn viewed(&self, sizes: &[usize]) -> Resident {
        Resident { memory: self.memory.clone(), dtype: self.dtype, sizes: sizes.into() }
    }

    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.memory.buffer
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        size_in_bytes(self.dtype, &self.sizes).unwrap_or(0)
    }
}

impl Drop for Memory {
    /// What is submitted and reads the buffer runs before whatever is submitted to write it.
    fn drop(&mut self) {
        let mut spare = self.gpu.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let held: u64 = spare.iter().map(|buffer| buffer.size()).sum();
        if spare.len() < SPARE && held + self.buffer.size() <= SPARE_BYTES {
            spare.push(self.buffer.clone());
        }
    }
}

impl OnDevice for Resident {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.sizes
    }

    fn reading(&self) -> Result<Box<dyn Reading>, Reason> {
        let gpu = &self.memory.gpu;
        let tensor = Tensor::try_zeros(self.dtype, &self.sizes)?;
        let size = padded(tensor.byte_len()) as u64;
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = gpu.buffer(tensor.byte_len(), usage)?;
        let index = gpu.scoped("a readback", || {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(self.buffer(), 0, &staging, 0, size);
            gpu.queue.submit([encoder.finish()])
        })?;
        let readback = Readback::new(gpu, &staging, size, index)?;
        let (gpu, late) = (gpu.clone(), gpu.take_late());
        Ok(Box::new(Coming { gpu, readback, tensor: Some(tensor), late, _staging: staging }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A tensor on its way to the host.
struct Coming {
    gpu: Arc<Gpu>,
    readback: Readback,
    tensor: Option<Tensor>,
    late: Vec<Late>,
    _staging: Buffer,
}

impl Reading for Coming {
    fn advance(
        &mut self,
        cx: &RunCx<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Tensor>, Reason> {
        let settled = self.gpu.settle(&mut self.late, cx)?;
        if !self.readback.ready(&self.gpu, cx, until)? || !settled {
            return Ok(None);
        }
        let mut tensor = self.tensor.take().ok_or_else(|| invalid!("the tensor was read"))?;
        self.readback.read(|bytes| {
            let to = tensor.as_mut_bytes();
            to.copy_from_slice(&bytes[..to.len()]);
        })?;
        Ok(Some(tensor))
    }
}
