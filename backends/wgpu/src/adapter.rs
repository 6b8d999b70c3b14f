//! The machine's GPUs, and what each can do.

use wgpu::{Backends, Features, Instance, InstanceDescriptor, InstanceFlags};

use crate::wait::block_on;

/// A GPU, or a program that stands for one, under one graphics interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its name, as its driver says it.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// The interface it is reached by: `vulkan`, `metal`, `dx12`, `webgpu`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` (a software driver) or `other`.
    pub kind: &'static str,
    /// Bytes that one buffer may have.
    pub max_buffer: u64,
    /// Bytes of a buffer that a kernel may see at once.
    pub max_binding: u64,
    /// Buffers that a kernel may see.
    pub max_buffers: u32,
    /// Bytes that a workgroup shares.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub workgroup_size: u32,
    /// Workgroups along one axis of a dispatch.
    pub max_workgroups: u32,
    /// The least and the most lanes that a subgroup may have.
    pub subgroup_size: (u32, u32),
    /// Whether kernels may compute in 16-bit floats.
    pub f16: bool,
    /// Whether the lanes of a subgroup may exchange values.
    pub subgroups: bool,
    /// Whether kernels can be timed.
    pub timestamps: bool,
    /// Products of four bytes with four bytes; every adapter has them, exact, but not always fast.
    pub int8_dot: bool,
    /// Sizes and types of the products that matrix units do: `16x16x16 f16→f32`.
    pub cooperative_matrix: Vec<String>,
}

/// The machine's adapters, those that are no software first. Empty if no driver is installed, and in
/// a page, which has to wait for them.
pub fn adapters() -> Vec<AdapterInfo> {
    block_on(enumerate()).unwrap_or_default().iter().map(describe).collect()
}

/// The adapters themselves, in the order in which [`adapters`] shows them.
pub(crate) async fn enumerate() -> Vec<wgpu::Adapter> {
    let instance = Instance::new(InstanceDescriptor {
        backends: Backends::PRIMARY,
        // Neither validation layers nor debug labels: they write to stderr where they are missing.
        flags: InstanceFlags::empty(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    let mut all = instance.enumerate_adapters(Backends::PRIMARY).await;
    all.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    all
}

/// What one adapter can do.
pub(crate) fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let tiles = adapter.cooperative_matrix_properties();
    let mut tiles: Vec<String> = tiles
        .iter()
        .map(|t| {
            let (from, to) = (format!("{:?}", t.ab_type), format!("{:?}", t.cr_type));
            let sizes = format!("{}x{}x{}", t.m_size, t.n_size, t.k_size);
            format!("{sizes} {}→{}", from.to_lowercase(), to.to_lowercase())
        })
        .collect();
    tiles.dedup();
    AdapterInfo {
        // Browsers do not always tell.
        name: if info.name.is_empty() { "WebGPU".to_string() } else { info.name },
        driver: [info.driver, info.driver_info].join(" ").trim().to_string(),
        backend: info.backend.to_str().to_string(),
        kind: kind(info.device_type),
        max_buffer: limits.max_buffer_size,
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffers: limits.max_storage_buffers_per_shader_stage,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        workgroup_size: limits.max_compute_invocations_per_workgroup,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        subgroup_size: (info.subgroup_min_size, info.subgroup_max_size),
        f16: features.contains(Features::SHADER_F16),
        subgroups: features.contains(Features::SUBGROUP),
        timestamps: features.contains(Features::TIMESTAMP_QUERY),
        int8_dot: true,
        cooperative_matrix: tiles,
    }
}

fn kind(device: wgpu::DeviceType) -> &'static str {
    match device {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "cpu",
        wgpu::DeviceType::Other => "other",
    }
}

/// Fast ones first.
fn rank(device: wgpu::DeviceType) -> u8 {
    match device {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::VirtualGpu => 1,
        wgpu::DeviceType::IntegratedGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}
