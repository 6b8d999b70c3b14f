//! A GPU that is open: its device, its queue, and the kernels compiled for it.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rinfer_graph::{Kind, Reason};
use wgpu::{BufferUsages, Features};

use crate::adapter::{AdapterInfo, describe, enumerate};
use crate::scope::Late;
use crate::tune::Tuning;
use crate::wait::{MAY_WAIT, block_on};

/// An open GPU. Sessions that run on the same one share it.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) traits: Traits,
    info: AdapterInfo,
    pipelines: Mutex<HashMap<String, Arc<wgpu::ComputePipeline>>>,
    layouts: Mutex<HashMap<Vec<bool>, Arc<Layout>>>,
    lost: Arc<Mutex<Option<String>>>,
    /// Buffers of tensors that nobody needs any more.
    pub(crate) spare: Mutex<Vec<Arc<Buffer>>>,
    /// Calls that the device has not spoken about yet.
    late: Mutex<Vec<Late>>,
}

/// A buffer whose memory goes back to the GPU as soon as nobody has it and what was submitted is
/// done: a page's own collector would let it go some day.
pub(crate) struct Buffer(wgpu::Buffer);

impl Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Natively it goes with its last handle.
        if !MAY_WAIT {
            self.device.destroy();
        }
    }
}

/// How the buffers of a kernel are bound.
pub(crate) struct Layout {
    pub group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// The GPUs that are open, by how they were asked for.
static OPEN: Mutex<Vec<(Key, Weak<Gpu>)>> = Mutex::new(Vec::new());

/// Which adapter, and with which kernels if not the usual.
type Key = (Option<String>, Option<Tuning>);

/// What kernels must know of the device they are written for.
#[derive(Clone, Debug)]
pub(crate) struct Traits {
    /// Bytes of one buffer that a kernel may see.
    pub max_binding: u64,
    /// Buffers that a kernel may see.
    pub max_buffers: usize,
    /// Workgroups along one axis of a dispatch.
    pub max_groups: u32,
    /// Whether lanes that wait for one another are cheap: they are not where a processor plays GPU.
    pub barriers: bool,
    /// Which kernels multiply.
    pub tuning: Tuning,
    /// Whether the lanes of a subgroup exchange values, whatever its size is.
    pub subgroups: bool,
}

impl Traits {
    /// What every device has.
    pub fn least() -> Traits {
        Traits {
            max_binding: 128 << 20,
            max_buffers: 8,
            max_groups: 65535,
            barriers: true,
            tuning: Tuning::usual(true),
            subgroups: false,
        }
    }
}

impl Gpu {
    /// Opens the adapter that `which` names: its number in [`crate::adapters`] or a part of its
    /// name; without, the first. What is open already, and not lost, is shared.
    ///
    /// # Errors
    /// There is no such adapter, or its driver refuses. In a page: it is not open yet
    /// ([`Gpu::request`]).
    pub fn open(which: Option<&str>) -> Result<Arc<Gpu>, Reason> {
        Gpu::open_tuned(which, None)
    }

    /// The same, with kernels of one's choice: a device of its own.
    ///
    /// # Errors
    /// As for [`Gpu::open`].
    pub fn open_tuned(which: Option<&str>, tuning: Option<Tuning>) -> Result<Arc<Gpu>, Reason> {
        match find(&(which.map(str::to_string), tuning)) {
            Some(gpu) => Ok(gpu),
            None => block_on(Gpu::request_tuned(which, tuning))?,
        }
    }

    /// As [`Gpu::open`], where nobody may wait: in a page.
    ///
    /// # Errors
    /// There is no such adapter, or it gives no device.
    pub async fn request(which: Option<&str>) -> Result<Arc<Gpu>, Reason> {
        Gpu::request_tuned(which, None).await
    }

    async fn request_tuned(
        which: Option<&str>,
        tuning: Option<Tuning>,
    ) -> Result<Arc<Gpu>, Reason> {
        let key: Key = (which.map(str::to_string), tuning);
        if let Some(gpu) = find(&key) {
            return Ok(gpu);
        }
        let gpu = Gpu::new(which, tuning).await?;
        // Somebody else may have opened it meanwhile.
        if let Some(other) = find(&key) {
            return Ok(other);
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, gpu)| gpu.strong_count() > 0);
        open.push((key, Arc::downgrade(&gpu)));
        Ok(gpu)
    }

    async fn new(which: Option<&str>, tuning: Option<Tuning>) -> Result<Arc<Gpu>, Reason> {
        let adapter = pick(enumerate().await, which)?;
        let info = describe(&adapter);
        let limits = adapter.limits();
        let (device, queue) = request(&adapter, &limits)
            .await
            .map_err(|e| gone(format!("the adapter {} gives no device: {e}", info.name)))?;
        let lost = Arc::new(Mutex::new(None));
        let seen = lost.clone();
        device.set_device_lost_callback(move |_, text| {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        });
        // Every call that can fail stands in a scope; what comes from elsewhere must not abort.
        let seen = lost.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get_or_insert(e.to_string());
        }));
        let traits = Traits {
            max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            max_buffers: limits.max_storage_buffers_per_shader_stage as usize,
            max_groups: limits.max_compute_workgroups_per_dimension,
            barriers: info.kind != "cpu",
            tuning: tuning.unwrap_or(Tuning::usual(info.kind != "cpu")),
            subgroups: info.subgroups,
        };
        let (pipelines, layouts, spare, late) = Default::default();
        Ok(Arc::new(Gpu { device, queue, traits, info, pipelines, layouts, lost, spare, late }))
    }

    /// The adapter that was opened.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// Whether kernels may use matrix units.
    pub(crate) fn has_matrix(&self) -> bool {
        self.device.features().contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
    }

    /// Gives back memory of tensors that nobody has any more, which is kept for later ones.
    pub fn trim(&self) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Gives the device up: whatever runs on it from now on is an error.
    pub fn destroy(&self) {
        self.device.destroy();
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert_with(|| "it was destroyed".to_string());
    }

    /// Whether the device is lost: nothing runs on it any more.
    pub fn is_lost(&self) -> bool {
        self.check().is_err()
    }

    /// `Err` if the device is lost.
    pub(crate) fn check(&self) -> Result<(), Reason> {
        match &*self.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(text) => Err(gone(format!("the device {} is lost: {text}", self.info.name))),
        }
    }

    pub(crate) fn late(&self) -> MutexGuard<'_, Vec<Late>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of at least this many bytes.
    pub(crate) fn buffer(&self, bytes: usize, usage: BufferUsages) -> Result<Buffer, Reason> {
        let size = padded(bytes) as u64;
        let most = self.device.limits().max_buffer_size;
        if size > most {
            let text = format!("{bytes} bytes in one buffer, the GPU allows {most}");
            return Err(Reason::new(Kind::Limit, text));
        }
        self.scoped(&format!("{bytes} bytes"), || {
            Buffer(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            }))
        })
    }

    /// A buffer with this content, for kernels to read.
    pub(crate) fn upload(&self, bytes: &[u8], usage: BufferUsages) -> Result<Buffer, Reason> {
        let buffer = self.buffer(bytes.len(), usage | BufferUsages::COPY_DST)?;
        self.write(&buffer, bytes)?;
        Ok(buffer)
    }

    /// Writes into a buffer, before whatever is submitted next.
    pub(crate) fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<(), Reason> {
        let whole = bytes.len() / 4 * 4;
        self.scoped("an upload", || {
            if whole > 0 {
                self.queue.write_buffer(buffer, 0, &bytes[..whole]);
            }
            if whole < bytes.len() {
                let mut last = [0; 4];
                last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
                self.queue.write_buffer(buffer, whole as u64, &last);
            }
        })
    }

    /// The kernel of this source, compiled once.
    pub(crate) fn pipeline(
        &self,
        source: &str,
        layout: &Layout,
    ) -> Result<Arc<wgpu::ComputePipeline>, Reason> {
        let lock = || self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(source) {
            return Ok(found.clone());
        }
        let made = self.scoped("a kernel", || {
            let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl(source.into()),
            });
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: Some(&layout.pipeline),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            })
        })?;
        Ok(lock().entry(source.to_string()).or_insert(Arc::new(made)).clone())
    }

    /// How buffers are bound of which these are written, and numbers after them.
    pub(crate) fn layout(&self, written: Vec<bool>) -> Result<Arc<Layout>, Reason> {
        let lock = || self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&written) {
            return Ok(found.clone());
        }
        let entry = |(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let storage = written.iter().map(|&w| wgpu::BufferBindingType::Storage { read_only: !w });
        let all = storage.chain([wgpu::BufferBindingType::Uniform]);
        let entries: Vec<_> = all.enumerate().map(entry).collect();
        let made = self.scoped("a layout", || {
            let group = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            });
            let pipeline = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            Layout { group, pipeline }
        })?;
        Ok(lock().entry(written).or_insert(Arc::new(made)).clone())
    }

    /// Waits until a submission is done, looking at `stop` now and then.
    pub(crate) fn wait(
        &self,
        index: wgpu::SubmissionIndex,
        stop: &dyn Fn() -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        loop {
            let poll = self.device.poll(wgpu::PollType::Wait {
                submission_index: Some(index.clone()),
                timeout: Some(Duration::from_millis(20)),
            });
            self.check()?;
            match poll {
                Ok(_) => return Ok(()),
                Err(wgpu::PollError::Timeout) => stop()?,
                Err(e) => return Err(gone(format!("waiting for the GPU: {e}"))),
            }
        }
    }
}

/// The one that is open under this name, and not lost.
fn find(key: &Key) -> Option<Arc<Gpu>> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.iter().filter(|(name, _)| name == key).find_map(|(_, gpu)| {
        let gpu = gpu.upgrade()?;
        gpu.check().is_ok().then_some(gpu)
    })
}

/// A device with the features that kernels use, as far as the adapter has them; without matrix
/// units if it will not give those.
async fn request(
    adapter: &wgpu::Adapter,
    limits: &wgpu::Limits,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let wanted = Features::TIMESTAMP_QUERY | Features::SHADER_F16 | Features::SUBGROUP;
    let wanted = adapter.features() & wanted;
    let matrix = adapter.features() & Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    let ask = |features: Features, experimental| {
        adapter.request_device(&wgpu::DeviceDescriptor {
            label: None,
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: experimental,
            ..Default::default()
        })
    };
    if !matrix.is_empty()
        && let Ok(made) = ask(wanted | matrix, crate::fence::experimental()).await
    {
        return Ok(made);
    }
    ask(wanted, wgpu::ExperimentalFeatures::disabled()).await
}

/// A reason of kind `Device`.
pub(crate) fn gone(text: String) -> Reason {
    Reason::new(Kind::Device, text)
}

/// Bytes as buffers have them: whole words, and some.
pub(crate) fn padded(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(16).unwrap_or(usize::MAX / 16 * 16).max(16)
}

/// The adapter with this number, or this text in its name.
fn pick(mut all: Vec<wgpu::Adapter>, which: Option<&str>) -> Result<wgpu::Adapter, Reason> {
    let names: Vec<String> = all.iter().map(|a| a.get_info().name).collect();
    if all.is_empty() {
        let text = match MAY_WAIT {
            true => "no GPU adapter was found: no Vulkan, Metal or DirectX 12 driver is installed",
            false => "no GPU adapter was found: this browser gives none",
        };
        return Err(Reason::new(Kind::Device, text));
    }
    let Some(which) = which else { return Ok(all.swap_remove(0)) };
    let found = match which.parse::<usize>() {
        Ok(i) => Some(i).filter(|&i| i < names.len()),
        Err(_) => {
            let which = which.to_lowercase();
            names.iter().position(|name| name.to_lowercase().contains(&which))
        }
    };
    match found {
        Some(i) => Ok(all.swap_remove(i)),
        None => Err(gone(format!("no adapter is called {which:?}, there are {names:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_whole_words() {
        assert_eq!([0, 1, 16, 17].map(padded), [16, 16, 16, 32]);
    }

    #[test]
    fn no_adapter_is_a_reason_of_its_own() {
        let reason = pick(Vec::new(), None).err().unwrap();
        assert_eq!(reason.kind, Kind::Device);
    }
}
