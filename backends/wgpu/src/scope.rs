//! What the device says about the calls that it is given: at once natively, later in a page.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rinfer_graph::backend::RunCx;
use rinfer_graph::{Kind, Reason};
use wgpu::ErrorFilter;

use crate::device::{Gpu, gone};

type Said = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;

/// Calls that the device has not yet spoken about.
pub(crate) struct Late {
    what: String,
    scopes: Vec<Said>,
}

impl Late {
    /// What was said, if all is said.
    fn poll(&mut self, waker: &Waker) -> Poll<Option<wgpu::Error>> {
        let mut error = None;
        let cx = &mut Context::from_waker(waker);
        self.scopes.retain_mut(|scope| match scope.as_mut().poll(cx) {
            Poll::Ready(said) => {
                error = error.take().or(said);
                false
            }
            Poll::Pending => true,
        });
        match error {
            None if !self.scopes.is_empty() => Poll::Pending,
            said => Poll::Ready(said),
        }
    }
}

impl Gpu {
    /// Runs `f` and hands on what the device says about it. What is not said at once is kept
    /// ([`Gpu::take_late`]): whoever uses what `f` made must ask later ([`Gpu::settle`]).
    pub(crate) fn scoped<T>(&self, what: &str, f: impl FnOnce() -> T) -> Result<T, Reason> {
        self.check()?;
        let filters = [ErrorFilter::OutOfMemory, ErrorFilter::Validation, ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let made = f();
        let scopes = scopes.into_iter().rev().map(|scope| Box::pin(scope.pop()) as Said);
        let mut late = Late { what: String::new(), scopes: scopes.collect() };
        match late.poll(Waker::noop()) {
            Poll::Ready(error) => self.judge(what, error)?,
            Poll::Pending => {
                late.what = what.to_string();
                self.late().push(late);
            }
        }
        Ok(made)
    }

    /// The calls of this slice that the device has not spoken about.
    pub(crate) fn take_late(&self) -> Vec<Late> {
        std::mem::take(&mut self.late())
    }

    /// Whether the device has spoken about all of these calls; `Err` if one failed.
    pub(crate) fn settle(&self, late: &mut Vec<Late>, cx: &RunCx<'_>) -> Result<bool, Reason> {
        let waker = cx.waker.unwrap_or(Waker::noop());
        let mut failed = None;
        late.retain_mut(|calls| match calls.poll(waker) {
            Poll::Pending => true,
            Poll::Ready(error) => {
                let judged = self.judge(&calls.what, error);
                failed = failed.take().or(judged.err());
                false
            }
        });
        match failed {
            Some(reason) => Err(reason),
            None => Ok(late.is_empty()),
        }
    }

    fn judge(&self, what: &str, error: Option<wgpu::Error>) -> Result<(), Reason> {
        match error {
            None => self.check(),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Reason::new(Kind::Limit, format!("the GPU has no memory for {what}")))
            }
            Some(e) => self.check().and(Err(gone(format!("{what}: {e}")))),
        }
    }
}
