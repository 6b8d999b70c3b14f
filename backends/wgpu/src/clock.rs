//! What nodes take by the GPU's own clock: two timestamps around each.
//!
//! Each node is a pass of its own then, since any GPU with timestamps can write them where a pass
//! begins and ends. A run that nobody profiles has one pass for all.

use std::time::Duration;

use rinfer_graph::Reason;
use web_time::Instant;
use wgpu::{BufferUsages, Features};

use crate::device::{Buffer, Gpu};
use crate::readback::Readback;

/// Passes that one clock can time: what every query set has room for.
pub(crate) const PASSES: usize = 2048;

/// The timestamps of one submission.
pub(crate) struct Clock {
    queries: wgpu::QuerySet,
    resolved: Buffer,
    staging: Buffer,
    passes: usize,
}

/// When a pass began and ended, by the GPU's clock.
pub(crate) type Span = (u64, u64);

impl Clock {
    /// For so many passes; `None` if the GPU has no timestamps.
    pub fn new(gpu: &Gpu, passes: usize) -> Result<Option<Clock>, Reason> {
        if passes == 0 || !gpu.device.features().contains(Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let count = 2 * passes as u32;
        let queries = gpu.scoped("timestamps", || {
            gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count,
            })
        })?;
        let bytes = 8 * count as usize;
        let from = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let resolved = gpu.buffer(bytes, from)?;
        let staging = gpu.buffer(bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        Ok(Some(Clock { queries, resolved, staging, passes }))
    }

    /// What times pass `k`.
    pub fn pass(&self, k: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * k as u32),
            end_of_pass_write_index: Some(2 * k as u32 + 1),
        }
    }

    /// Ends the recording: the timestamps go where the host can read them.
    pub fn finish(&self, encoder: &mut wgpu::CommandEncoder) {
        let count = 2 * self.passes as u32;
        encoder.resolve_query_set(&self.queries, 0..count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, 8 * u64::from(count));
    }

    /// Begins to read the timestamps, which submission `index` writes.
    pub fn reading(
        self,
        gpu: &Gpu,
        index: wgpu::SubmissionIndex,
    ) -> Result<(Clock, Readback), Reason> {
        let all = 16 * self.passes as u64;
        let readback = Readback::new(gpu, &self.staging, all, index)?;
        Ok((self, readback))
    }
}

/// The spans of the passes, once they are there.
pub(crate) fn spans(readback: &Readback) -> Result<Vec<Span>, Reason> {
    let tick = |bytes: &[u8]| {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    readback.read(|bytes| {
        bytes.chunks_exact(16).map(|two| (tick(&two[..8]), tick(&two[8..]))).collect()
    })
}

/// Puts spans on the host's clock: the first begins when its submission was handed over, or as
/// much earlier as the last would otherwise end after `end`. Nothing tells more exactly how the
/// two clocks lie; durations are the GPU's own.
pub(crate) fn place(
    spans: &[Span],
    period: f64,
    start: Instant,
    end: Instant,
) -> Vec<(Instant, Instant)> {
    let base = spans.first().map_or(0, |s| s.0);
    // The counter may run over.
    let ns = |tick: u64| (tick.wrapping_sub(base) as i64 as f64 * period).max(0.0) as u64;
    let last = spans.iter().map(|s| ns(s.1)).max().unwrap_or(0);
    let late = (start + Duration::from_nanos(last)).saturating_duration_since(end);
    let start = start.checked_sub(late).unwrap_or(start);
    let at = |ns: u64| start + Duration::from_nanos(ns);
    spans.iter().map(|s| (at(ns(s.0)), at(ns(s.1).max(ns(s.0))))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_too_late_begins_earlier() {
        let start = Instant::now() + Duration::from_secs(1);
        let end = start + Duration::from_nanos(50);
        let placed = place(&[(100, 120), (120, 200)], 1.0, start, end);
        assert_eq!(placed[1].1, end);
        assert_eq!(placed[0].1 - placed[0].0, Duration::from_nanos(20));
        let placed = place(&[(100, 120)], 1.0, start, end);
        assert_eq!(placed[0].0, start);
    }
}
