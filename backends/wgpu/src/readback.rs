//! A buffer on its way to the host: whoever wants it comes again until it is there.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use rinfer_graph::backend::RunCx;
use rinfer_graph::{Kind, Reason};
use web_time::Instant;

use crate::device::{Gpu, gone};
use crate::wait::MAY_WAIT;

/// Bytes that the host will be able to read, once what was submitted before is done.
pub(crate) struct Readback {
    buffer: wgpu::Buffer,
    size: u64,
    index: wgpu::SubmissionIndex,
    news: Arc<Mutex<News>>,
}

/// What the device says, and who wants to know.
#[derive(Default)]
struct News {
    mapped: Option<bool>,
    waker: Option<Waker>,
}

/// How long a thread waits at most before it looks whether the run is to stop.
const LOOK: Duration = Duration::from_millis(20);
/// How long it may take until the device tells that a buffer is mapped, once its work is done.
const TOLD: Duration = Duration::from_secs(1);

impl Readback {
    /// Of the first `size` bytes, which submission `index` writes.
    pub fn new(
        gpu: &Gpu,
        buffer: &wgpu::Buffer,
        size: u64,
        index: wgpu::SubmissionIndex,
    ) -> Result<Readback, Reason> {
        let news: Arc<Mutex<News>> = Arc::default();
        let told = news.clone();
        gpu.scoped("a readback", || {
            buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
                let mut news = told.lock().unwrap_or_else(PoisonError::into_inner);
                news.mapped = Some(result.is_ok());
                if let Some(waker) = news.waker.take() {
                    waker.wake();
                }
            });
        })?;
        Ok(Readback { buffer: buffer.clone(), size, index, news })
    }

    /// Whether the bytes are there. Waits until `until` where that is allowed.
    pub fn ready(&self, gpu: &Gpu, cx: &RunCx<'_>, until: Option<Instant>) -> Result<bool, Reason> {
        let mut through_since = None;
        loop {
            cx.check()?;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let poll = gpu.device.poll(wgpu::PollType::Wait {
                submission_index: Some(self.index.clone()),
                timeout: Some(left.map_or(LOOK, |left| left.min(LOOK))),
            });
            gpu.check()?;
            let through = match poll {
                Ok(_) => true,
                Err(wgpu::PollError::Timeout) => false,
                Err(e) => return Err(gone(format!("waiting for the GPU: {e}"))),
            };
            let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            match news.mapped {
                Some(true) => return Ok(true),
                Some(false) => return Err(nothing()),
                None if !MAY_WAIT => {
                    news.waker = cx.waker.cloned();
                    return Ok(false);
                }
                // Another thread, which waits too, is about to tell.
                None if through => {
                    drop(news);
                    let since = *through_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > TOLD {
                        return Err(nothing());
                    }
                    std::thread::yield_now();
                }
                None if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                None => {}
            }
        }
    }

    /// Waits for the bytes.
    pub fn wait(&self, gpu: &Gpu, cx: &RunCx<'_>) -> Result<(), Reason> {
        if self.ready(gpu, cx, None)? { Ok(()) } else { Err(Reason::cannot_wait()) }
    }

    /// What `f` makes of the bytes, which are there; then the buffer can be used again.
    pub fn read<T>(&self, f: impl FnOnce(&[u8]) -> T) -> Result<T, Reason> {
        let view = self.buffer.get_mapped_range(0..self.size).map_err(|_| nothing())?;
        let made = f(&view);
        drop(view);
        self.buffer.unmap();
        Ok(made)
    }
}

fn nothing() -> Reason {
    Reason::new(Kind::Device, "the GPU gives nothing back")
}
