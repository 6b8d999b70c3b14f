//! Tensors that stay in the GPU's memory between runs.

use std::any::Any;
use std::sync::{Arc, PoisonError, mpsc};

use rinfer_graph::backend::{OnDevice, RunCx};
use rinfer_graph::shape::Sizes;
use rinfer_graph::tensor::size_in_bytes;
use rinfer_graph::{DType, Kind, Reason, Tensor};
use wgpu::BufferUsages;

use crate::device::{Gpu, padded};

/// A tensor in a buffer of its own; views of one content share that.
pub(crate) struct Resident {
    memory: Arc<Memory>,
    dtype: DType,
    sizes: Sizes,
}

/// A buffer that goes back to its GPU when nobody needs its content.
struct Memory {
    gpu: Arc<Gpu>,
    buffer: wgpu::Buffer,
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
            None => gpu.buffer(bytes, usage)?,
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
        let held: u64 = spare.iter().map(wgpu::Buffer::size).sum();
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

    fn read(&self, cx: &RunCx<'_>) -> Result<Tensor, Reason> {
        let gpu = &*self.memory.gpu;
        let lost = || Reason::new(Kind::Device, "the GPU gives nothing back");
        let mut t = Tensor::try_zeros(self.dtype, &self.sizes)?;
        let n = t.byte_len();
        let size = padded(n) as u64;
        let staging = gpu.buffer(n, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let (sender, receiver) = mpsc::channel();
        let index = gpu.scoped("a readback", || {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(self.buffer(), 0, &staging, 0, size);
            let index = gpu.queue.submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, 0..size, move |result| {
                // The receiver waits, unless the wait was given up.
                let _ = sender.send(result);
            });
            index
        })?;
        gpu.wait(index, &|| cx.check())?;
        receiver.try_recv().map_err(|_| lost())?.map_err(|_| lost())?;
        let view = staging.get_mapped_range(0..size).map_err(|_| lost())?;
        t.as_mut_bytes().copy_from_slice(&view[..n]);
        Ok(t)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
