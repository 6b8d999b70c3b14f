//! What one run may be given besides its inputs.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use web_time::Instant;

use rinfer_graph::sync::{AtomicBool, Ordering};

use crate::profile::Profiler;

/// Stops runs from another thread. Clones share one state.
///
/// ```
/// let token = rinfer::CancelToken::new();
/// let options = rinfer::RunOptions::new().cancel(token.clone());
/// token.cancel();
/// assert!(token.is_cancelled());
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Stops every run that has this token, now or later.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancelToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn flag(&self) -> &Arc<AtomicBool> {
        &self.0
    }
}

/// Where a session runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// This machine's processor.
    #[default]
    Cpu,
    /// A GPU: the adapter with this number or this text in its name, or the first. What it cannot
    /// run is an error; only the arithmetic of shapes and control flow stay on the host.
    Gpu(Option<String>),
    /// A GPU as far as it can, the processor for the rest, or for all if there is no GPU at all.
    GpuOrCpu(Option<String>),
}

/// In how many bits values of type float are kept between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32.
    #[default]
    F32,
    /// 16 where a value provably stays far from what they can hold, else 32; sums are made in 32.
    /// Only GPUs do this; on the processor it is an error.
    F16,
}

/// Options of one run. The default has no bounds and records nothing.
///
/// ```
/// use rinfer::{Profiler, RunOptions, Session, Tensor};
/// use std::time::Duration;
///
/// let session = Session::builder().load_text("x: float[n]; y = Exp(x); → y")?;
/// let profiler = Profiler::new();
/// let options = RunOptions::new().timeout(Duration::from_secs(5)).profile(&profiler);
/// session.run_with([("x", Tensor::vector(&[0f32]))], &options)?;
/// assert_eq!(profiler.events().len(), 1);
/// println!("{}", profiler.chrome_trace());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) profiler: Option<Profiler>,
    pub(crate) seed: u64,
    pub(crate) waker: Option<Waker>,
}

impl RunOptions {
    /// Options without bounds.
    pub fn new() -> RunOptions {
        RunOptions::default()
    }

    /// Stops when the token is cancelled.
    pub fn cancel(mut self, token: CancelToken) -> RunOptions {
        self.cancel = Some(token);
        self
    }

    /// Stops at this time.
    pub fn deadline(mut self, at: Instant) -> RunOptions {
        self.deadline = Some(at);
        self
    }

    /// Stops this long after the run begins.
    pub fn timeout(mut self, after: Duration) -> RunOptions {
        self.timeout = Some(after);
        self
    }

    /// Records what every node takes.
    pub fn profile(mut self, profiler: &Profiler) -> RunOptions {
        self.profiler = Some(profiler.clone());
        self
    }

    /// Seeds operators that draw random numbers and name no seed of their own.
    pub fn seed(mut self, seed: u64) -> RunOptions {
        self.seed = seed;
        self
    }

    /// Told when a run that waits for a GPU can go on ([`crate::Run::waits`]): for pages, where
    /// nobody may wait. Native runs wait by themselves.
    pub fn waker(mut self, waker: Waker) -> RunOptions {
        self.waker = Some(waker);
        self
    }
}
