//! What each node reaches of what the machine can do.
//!
//! A node cannot take less than its multiply-adds at the peak, nor than its bytes at the bandwidth
//! of memory; bytes that are still in a cache may be faster than that. What it takes beyond the
//! larger of the two is lost: nodes that lose most stand first.

use rinfer::{Event, Peak, Profiler, Session};

use crate::failure::{Code, OrFail, Result};
use crate::inputs::Inputs;
use crate::stats::short;
use crate::table::Table;

/// Runs of which each node's shortest time counts.
const RUNS: usize = 10;
/// Rows of the table.
const ROWS: usize = 30;

/// Nodes of one kind: the same operator on the same shapes.
struct Kind {
    event: Event,
    nodes: usize,
    seconds: f64,
}

/// The table of a session's nodes; without limits where those are not known.
pub fn table(session: &Session, inputs: &Inputs, peak: Option<Peak>) -> Result<String> {
    let mut best: Vec<Event> = Vec::new();
    for _ in 0..RUNS {
        let profiler = Profiler::new();
        let options = crate::context::run_options(None)?.profile(&profiler);
        session.run_with(inputs.clone(), &options).or_fail(Code::Run, "a profiled run")?;
        for (i, event) in profiler.events().into_iter().enumerate() {
            match best.get_mut(i) {
                Some(old) if old.op == event.op => {
                    old.duration = old.duration.min(event.duration);
                }
                Some(old) => *old = event,
                None => best.push(event),
            }
        }
    }
    let note = match best.iter().any(|e| e.op == "Submission") {
        true => format!("{}\n", super::run::NO_TIMESTAMPS),
        false => String::new(),
    };
    Ok(note + &print(kinds(best), peak))
}

/// Nodes that do the same, put together.
fn kinds(events: Vec<Event>) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let same =
        |a: &Event, b: &Event| a.op == b.op && a.inputs == b.inputs && a.outputs == b.outputs;
    for event in events {
        let seconds = event.duration.as_secs_f64();
        match kinds.iter_mut().find(|kind| same(&kind.event, &event)) {
            Some(kind) => (kind.nodes, kind.seconds) = (kind.nodes + 1, kind.seconds + seconds),
            None => kinds.push(Kind { event, nodes: 1, seconds }),
        }
    }
    kinds
}

fn print(mut kinds: Vec<Kind>, peak: Option<Peak>) -> String {
    let flops = |k: &Kind| 2.0 * k.event.macs as f64 * k.nodes as f64;
    let bytes = |k: &Kind| k.event.bytes as f64 * k.nodes as f64;
    let least = |k: &Kind| {
        peak.map_or(0.0, |peak| 1e-9 * (flops(k) / peak.gflops).max(bytes(k) / peak.gbytes))
    };
    let lost = |k: &Kind| k.seconds - least(k);
    kinds.sort_by(|a, b| lost(b).total_cmp(&lost(a)));
    let total: f64 = kinds.iter().map(|k| k.seconds).sum();
    let head = ["op", "nodes", "ms", "share", "GFLOP/s", "GB/s", "of limit", "lost ms", "shapes"];
    let mut table = Table::new(&head);
    for k in kinds.iter().take(ROWS) {
        let rate = |work: f64| short(1e-9 * work / k.seconds.max(1e-9));
        let shapes = format!("{} → {}", k.event.inputs.join(" "), k.event.outputs.join(" "));
        let known = |text: String| peak.map_or("-".to_string(), |_| text);
        table.row([
            k.event.op.clone(),
            k.nodes.to_string(),
            short(1e3 * k.seconds),
            format!("{:.1} %", 100.0 * k.seconds / total),
            rate(flops(k)),
            rate(bytes(k)),
            known(format!("{:.0} %", 100.0 * least(k) / k.seconds.max(1e-9))),
            known(short(1e3 * lost(k))),
            shapes.chars().take(100).collect(),
        ]);
    }
    let all = short(1e3 * total);
    let Some(peak) = peak else { return format!("{table}all nodes {all} ms\n") };
    let limit: f64 = kinds.iter().map(least).sum();
    format!(
        "{table}limits {} GFLOP/s, {} GB/s; all nodes {all} ms, at the limits {} ms\n",
        short(peak.gflops),
        short(peak.gbytes),
        short(1e3 * limit)
    )
}
