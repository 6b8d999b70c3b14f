//! Where sessions run: the processor, a GPU, or both.

use std::sync::Arc;

use rinfer_cpu::CpuBackend;
use rinfer_cpu::simd::Isa;
use rinfer_graph::backend::{Backend, Backends};
use rinfer_graph::{Kind, Reason, invalid};

use crate::error::Error;
use crate::options::{Device, Precision};
use crate::session::{Session, SessionBuilder};

pub(crate) use gpu::{Opened, Seated};

/// The backends of a session in order of preference, and the GPU that it sits on.
pub(crate) struct Places {
    pub backends: Backends,
    pub isa: Isa,
    pub seat: Option<Seated>,
}

impl SessionBuilder {
    pub(crate) fn places(&self) -> Result<Places, Error> {
        let isa = self.isa.as_deref().map_or_else(Isa::from_env, Isa::named);
        let isa = isa.map_err(|text| Error::Option(invalid!("{text}")))?;
        if self.reproducible && !isa.fuses() {
            return Err(Error::Option(invalid!(
                "{} rounds products and sums apart: its bits are not those of other processors",
                isa.name()
            )));
        }
        let cpu = || match self.nested {
            true => Ok(CpuBackend::nested(isa)),
            false => CpuBackend::new(isa, self.threads).map_err(Error::Option),
        };
        let mut backends: Backends = Vec::new();
        let mut seat = None;
        match &self.device {
            Device::Cpu if self.precision == Precision::F16 => {
                let text = "floats are kept in 16 bits on GPUs only (Device::Gpu)";
                return Err(Error::Option(invalid!("{text}")));
            }
            Device::Cpu => backends.push(Arc::new(cpu()?)),
            Device::Gpu(which) => {
                let (gpu, on) = self.gpu(which.as_deref(), isa).map_err(Error::Option)?;
                seat = Some(on);
                backends.push(gpu);
            }
            Device::GpuOrCpu(which) => {
                match self.gpu(which.as_deref(), isa) {
                    Ok((gpu, on)) => {
                        seat = Some(on);
                        backends.push(gpu);
                    }
                    Err(reason) if reason.kind == Kind::Device && which.is_none() => {}
                    Err(reason) => return Err(Error::Option(reason)),
                }
                backends.push(Arc::new(cpu()?));
            }
        }
        Ok(Places { backends, isa, seat })
    }
}

impl Session {
    /// Whether nodes run on a GPU, if it can run them.
    pub fn is_on_gpu(&self) -> bool {
        self.seat.is_some()
    }
}

#[cfg(feature = "wgpu")]
mod gpu {
    use rinfer_graph::Value;
    use rinfer_graph::backend::RunCx;
    use rinfer_wgpu::{Gpu, GpuBackend, Seat};

    use super::*;

    /// A GPU that is open.
    pub(crate) type Opened = Arc<Gpu>;
    /// The GPU that a session sits on.
    pub(crate) type Seated = Arc<Seat>;

    impl SessionBuilder {
        /// A GPU that was opened before: what [`Device::Gpu`] and [`Device::GpuOrCpu`] mean then,
        /// whichever adapter they name. A page opens its GPU so ([`Gpu::request`]).
        pub fn on_gpu(mut self, gpu: Arc<Gpu>) -> SessionBuilder {
            self.opened = Some(gpu);
            self
        }

        /// The GPU backend; shapes are computed by the CPU's kernels.
        pub(super) fn gpu(
            &self,
            which: Option<&str>,
            isa: Isa,
        ) -> Result<(Arc<dyn Backend>, Seated), Reason> {
            let host = Arc::new(move |node: &_, inputs: &[Option<Value>], cx: &RunCx<'_>| {
                rinfer_cpu::eval::run_node(isa, node, inputs, usize::MAX, cx)
            });
            let tuning = self.tuning.as_deref().map(str::parse).transpose()?;
            let gpu = match &self.opened {
                Some(gpu) => gpu.clone(),
                None => Gpu::open_tuned(which, tuning)?,
            };
            let (seat, half) = (Arc::new(Seat::new(gpu)), self.precision == Precision::F16);
            Ok((Arc::new(GpuBackend::seated(seat.clone(), host).half(half)), seat))
        }
    }

    impl Session {
        /// The GPU that runs begin on, if there is one.
        pub fn gpu(&self) -> Option<Arc<Gpu>> {
            self.seat.as_ref().map(|seat| seat.gpu())
        }

        /// Runs begin on this GPU from now on, if they began on one: after it was lost. The next
        /// run uploads the weights to it.
        pub fn move_to(&self, gpu: Arc<Gpu>) {
            if let Some(seat) = &self.seat {
                seat.change(gpu);
            }
        }
    }
}

#[cfg(not(feature = "wgpu"))]
mod gpu {
    use super::*;

    /// There is none.
    pub(crate) enum Opened {}
    /// There is none.
    pub(crate) enum Seated {}

    impl SessionBuilder {
        pub(super) fn gpu(
            &self,
            _: Option<&str>,
            _: Isa,
        ) -> Result<(Arc<dyn Backend>, Seated), Reason> {
            match &self.opened {
                Some(opened) => match *opened {},
                None => {
                    let text = "this build has no GPU backend (feature wgpu)";
                    Err(Reason::new(Kind::Device, text))
                }
            }
        }
    }
}
