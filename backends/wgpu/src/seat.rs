//! Where programs run: a GPU, and what it holds of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rinfer_graph::shape::Sizes;
use rinfer_graph::{Reason, Type, invalid};
use wgpu::BufferUsages;

use crate::device::{Buffer, Gpu, Traits};
use crate::half::kept;
use crate::nodes::{Local, Nodes};
use crate::program::Env;
use crate::ready::Ready;

/// The GPU of a session's programs. After it was lost, or for any other reason, they can be given
/// another: weights are uploaded there and plans are made anew with the next run.
pub struct Seat(Mutex<Arc<Gpu>>);

impl Seat {
    /// A seat on this GPU.
    pub fn new(gpu: Arc<Gpu>) -> Seat {
        Seat(Mutex::new(gpu))
    }

    /// The GPU that runs begin on.
    pub fn gpu(&self) -> Arc<Gpu> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs begin on this GPU from now on; those under way end where they are.
    pub fn change(&self, gpu: Arc<Gpu>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = gpu;
    }
}

/// What of a program is on one GPU.
pub(crate) struct OnGpu {
    pub gpu: Arc<Gpu>,
    pub traits: Traits,
    weights: Mutex<HashMap<Local, Arc<Buffer>>>,
    plans: Mutex<Plans>,
}

/// Plans kept for different shapes; beyond that the oldest go.
const PLANS: usize = 16;

/// The first node of a plan, and the types and sizes of the values that it was made for.
pub(crate) type Key = (usize, Vec<(Local, Type, Option<Sizes>)>);

#[derive(Default)]
struct Plans {
    by_shape: HashMap<Key, Vec<Arc<Ready>>>,
    oldest: VecDeque<Key>,
}

impl OnGpu {
    pub fn new(gpu: Arc<Gpu>, traits: Traits) -> OnGpu {
        OnGpu { gpu, traits, weights: Mutex::default(), plans: Mutex::default() }
    }

    /// A constant on the GPU, uploaded when it is first needed.
    pub fn weight(&self, nodes: &Nodes, l: Local) -> Result<Arc<Buffer>, Reason> {
        let lock = || self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&l) {
            return Ok(found.clone());
        }
        let value = nodes.constant(l).ok_or_else(|| invalid!("a weight that is none"))?;
        let bytes = kept(value.as_tensor()?, nodes.is_half(l));
        let buffer = self.gpu.upload(&bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC)?;
        Ok(lock().entry(l).or_insert(Arc::new(buffer)).clone())
    }

    /// The plan for these shapes, if there is one that relies on no other content.
    pub fn plan(&self, key: &Key, env: &Env) -> Option<Arc<Ready>> {
        let fits = |ready: &&Arc<Ready>| {
            ready.plan.relied.iter().all(|(l, value)| env[*l].as_ref() == Some(value))
        };
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.by_shape.get(key)?.iter().find(fits).cloned()
    }

    /// Keeps a plan for later runs.
    pub fn keep(&self, key: Key, ready: &Arc<Ready>) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        while plans.oldest.len() >= PLANS {
            if let Some(old) = plans.oldest.pop_front() {
                plans.by_shape.remove(&old);
            }
        }
        plans.oldest.push_back(key.clone());
        plans.by_shape.entry(key).or_default().push(ready.clone());
    }

    /// Gives back what runs left for later ones.
    pub fn trim(&self) {
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.by_shape.values().flatten().for_each(|ready| ready.trim());
        self.gpu.trim();
    }

    /// Lets go of everything: what the device refused may be part of it.
    pub fn clear(&self) {
        *self.plans.lock().unwrap_or_else(PoisonError::into_inner) = Plans::default();
        self.weights.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
