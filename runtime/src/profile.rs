//! What each node of a run took, and the same as a Chrome trace.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rinfer_graph::backend::{NodeEvent, Profile};
use web_time::Instant;

/// One node's part of a run.
#[derive(Clone, Debug)]
pub struct Event {
    /// The node's name in the model; may be empty.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The backend it ran on.
    pub backend: &'static str,
    /// When it began, counted from the profiler's making.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
    /// What it read: `float[1, 3, 224, 224]`.
    pub inputs: Vec<String>,
    /// What it made.
    pub outputs: Vec<String>,
    /// Bytes of its inputs and outputs.
    pub bytes: usize,
    /// Multiply–accumulate steps of products.
    pub macs: u64,
}

/// Records the nodes of the runs it is given to. Clones record into one list.
#[derive(Clone, Debug)]
pub struct Profiler {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Default for Profiler {
    fn default() -> Profiler {
        Profiler::new()
    }
}

impl Profiler {
    /// A profiler without events.
    pub fn new() -> Profiler {
        Profiler { began: Instant::now(), events: Arc::default() }
    }

    /// The events so far, in the order in which nodes finished.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// The events as a Chrome trace ("Trace Event Format", complete events): JSON that
    /// `chrome://tracing` and Perfetto read. Nodes of a GPU have a row of their own: they last
    /// what its clock says, and begin when they were handed over at the earliest.
    pub fn chrome_trace(&self) -> String {
        let mut out = String::from("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
        let mut comma = "";
        for (tid, name) in [(1, "host"), (2, "gpu")] {
            let _ = write!(
                out,
                "{comma}\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":{tid},\
                 \"args\":{{\"name\":\"{name}\"}}}}"
            );
            comma = ",";
        }
        for e in &self.events() {
            let name = if e.name.is_empty() { &e.op } else { &e.name };
            let tid = if e.backend == "gpu" { 2 } else { 1 };
            let (ts, dur) = (e.start.as_nanos() as f64 / 1e3, e.duration.as_nanos() as f64 / 1e3);
            let _ = write!(
                out,
                "{comma}\n{{\"name\":{},\"cat\":{},\"ph\":\"X\",\"pid\":1,\"tid\":{tid},\"ts\":{ts:.3},\
                 \"dur\":{dur:.3},\"args\":{{\"backend\":{},\"inputs\":{},\"outputs\":{},\"bytes\":{}}}}}",
                json(name),
                json(&e.op),
                json(e.backend),
                json(&e.inputs.join(", ")),
                json(&e.outputs.join(", ")),
                e.bytes
            );
        }
        out.push_str("\n]}\n");
        out
    }
}

impl Profile for Profiler {
    fn node(&self, event: &NodeEvent<'_>) {
        let event = Event {
            name: event.name.to_string(),
            op: event.op.to_string(),
            backend: event.backend,
            start: event.start.saturating_duration_since(self.began),
            duration: event.end.saturating_duration_since(event.start),
            inputs: event.inputs.clone(),
            outputs: event.outputs.clone(),
            bytes: event.bytes,
            macs: event.macs,
        };
        self.events.lock().unwrap_or_else(|e| e.into_inner()).push(event);
    }
}

/// A JSON string.
fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_json() {
        assert_eq!(json("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }
}
