//! The report: one HTML file that loads nothing, light or dark as the reader's system is.

use std::fmt::Write;

use crate::plot::{Bar, NARROW, WIDE, Width, bars, escape, kernels, kind, roofline, short};
use crate::schema::{Group, Machine, Report, Row, Status};

const STYLE: &str = include_str!("page.css");
/// Colours of the page.
const COLORS: usize = 6;

/// The report of one machine, or of several side by side.
pub fn html(report: &Report) -> String {
    let machines = &report.machines;
    let title = match machines.len() {
        1 => format!("GPU benchmark: {}", machines[0].label),
        n => format!("GPU benchmark: {n} machines"),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\">\n<title>{0}</title>\n<style>\n{STYLE}\
         </style></head>\n<body><main>\n<h1>{0}</h1>\n<p>Measured by <code>rinfer gpubench</code>. \
         Every result was compared with what it must be before its time counts.</p>\n",
        escape(&title)
    );
    page += "<div class=\"grid\">";
    machines.iter().enumerate().for_each(|(i, m)| card(&mut page, i, m));
    page += "</div>\n";
    adapters(&mut page, machines);
    roofs(&mut page, machines);
    shapes(&mut page, machines);
    models(&mut page, machines);
    if machines.len() > 1 {
        page += "<h2>Side by side</h2>\n<p>Medians; the best of each row is bold.</p>\n";
        side_by_side(&mut page, machines);
    }
    page += "<h2>All results</h2>\n<p>Times are of one repetition; cv is the standard deviation \
             over the mean. “Of roof” is the least time that the measured memory and arithmetic \
             allow, over the median.</p>\n";
    machines.iter().for_each(|m| results(&mut page, m, machines.len() > 1));
    let versions: Vec<String> = machines.iter().map(|m| m.rinfer.clone()).collect();
    let _ = write!(
        page,
        "<footer>rinfer {}, schema {} version {}.</footer>\n</main></body></html>\n",
        escape(&versions.first().cloned().unwrap_or_default()),
        report.schema,
        report.version
    );
    page
}

fn dot(color: usize) -> String {
    format!("<span class=\"dot\" style=\"background:var(--c{})\"></span>", color % COLORS)
}

/// What an adapter is.
fn card(page: &mut String, i: usize, m: &Machine) {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let (f, l) = (&m.features, &m.limits);
    let _ = write!(
        page,
        "<div class=\"card\"><p class=\"name\" style=\"color:var(--ink)\">{}{}</p><div \
         class=\"sub\">{} · {} · {}</div>",
        dot(i),
        escape(&m.label),
        escape(&m.adapter.backend),
        escape(&m.adapter.kind),
        escape(&m.adapter.driver)
    );
    let chips = [
        ("16-bit floats", f.f16),
        ("subgroups", f.subgroups),
        ("timestamps", f.timestamps),
        ("int8 dot", f.int8_dot),
        ("matrix units", !f.cooperative_matrix.is_empty()),
    ];
    for (name, has) in chips {
        let _ = write!(page, "<span class=\"chip{}\">{name}</span>", if has { "" } else { " no" });
    }
    let lanes = format!("{} to {}", l.subgroup_lanes.0, l.subgroup_lanes.1);
    let host = [m.host.cpu.as_str(), &m.host.os, &m.host.arch];
    let host: Vec<&str> = host.into_iter().filter(|s| !s.is_empty()).collect();
    let rows = [
        ("buffer", mib(l.buffer_bytes)),
        ("seen at once", mib(l.binding_bytes)),
        (
            "workgroup",
            format!("{} lanes, {} KiB", l.workgroup_invocations, l.workgroup_bytes >> 10),
        ),
        ("subgroup lanes", lanes),
        ("matrix tiles", f.cooperative_matrix.join(", ")),
        ("host", format!("{}, {} cores", host.join(", "), m.host.cores)),
        ("measured", format!("{}{}", m.date, if m.quick { ", quickly" } else { "" })),
    ];
    *page += "<dl>";
    for (name, value) in rows.iter().filter(|(_, v)| !v.is_empty()) {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    }
    *page += "</dl></div>\n";
}

/// The names of a group's rows, in order, over all machines.
fn names(machines: &[Machine], group: Group) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for row in machines.iter().flat_map(|m| &m.results).filter(|r| r.group == group) {
        if !all.contains(&row.name.as_str()) {
            all.push(&row.name);
        }
    }
    all
}

fn find<'a>(m: &'a Machine, name: &str) -> Option<&'a Row> {
    m.results.iter().find(|row| row.name == name)
}

/// What bars show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// The median.
    Value,
    /// The share of the roof.
    Share,
}

/// Bars of these rows, those of all machines together under one label.
fn chart(machines: &[Machine], names: &[&str], shown: Shown, width: Width) -> String {
    let share = shown == Shown::Share;
    let mut all = Vec::new();
    for (k, name) in names.iter().enumerate() {
        for (i, m) in machines.iter().enumerate() {
            let Some(row) = find(m, name) else { continue };
            let value = if share { row.roofline.map(|r| 100.0 * r) } else { row.value };
            let text = match (row.value, &row.stats) {
                (Some(v), Some(s)) if share => {
                    format!("{} %, {} {}", short(value.unwrap_or(f64::NAN)), short(v), row.unit)
                        + if s.cv > 0.25 { " ±" } else { "" }
                }
                (Some(v), _) => format!("{} {}", short(v), row.unit),
                _ => "not measured".to_string(),
            };
            let number = if share { format!("{} · ", k + 1) } else { String::new() };
            let single = if share { kind(name) } else { 0 };
            all.push(Bar {
                label: if i == 0 { format!("{number}{name}") } else { String::new() },
                value: value.filter(|v| v.is_finite()),
                text,
                color: if machines.len() > 1 { i % COLORS } else { single },
                tip: tip(m, row),
            });
        }
    }
    bars(&all, share.then_some(100.0), width)
}

fn tip(m: &Machine, row: &Row) -> String {
    let head = format!("{} on {}", row.name, m.label);
    match (&row.stats, &row.reason) {
        (Some(s), _) => format!(
            "{head}: median {} ms, min {} ms, p90 {} ms, cv {:.1} %, {} times by the {}'s clock",
            short(s.median_ms),
            short(s.min_ms),
            short(s.p90_ms),
            100.0 * s.cv,
            s.repetitions,
            s.timer
        ),
        (None, Some(reason)) => format!("{head}: {reason}"),
        _ => head,
    }
}

fn legend(page: &mut String, machines: &[Machine]) {
    if machines.len() > 1 {
        *page += "<div class=\"legend\">";
        for (i, m) in machines.iter().enumerate() {
            let _ = write!(page, "<span>{}{}</span>", dot(i), escape(&m.label));
        }
        *page += "</div>";
    }
}

/// Memory, arithmetic, latency.
fn adapters(page: &mut String, machines: &[Machine]) {
    *page += "<h2>What the adapter reaches</h2>\n<p>Memory as kernels read and copy it, and on the \
              way from and to the host; arithmetic from registers alone; what it takes to start a \
              kernel and to hear of its end.</p>\n";
    legend(page, machines);
    *page += "<div class=\"grid\">";
    let charts = [
        (Group::Memory, "Memory, GB/s — more is better"),
        (Group::Compute, "Arithmetic, 10⁹ operations/s — more is better"),
        (Group::Latency, "Latency, µs — less is better"),
    ];
    for (group, title) in charts {
        let svg = chart(machines, &names(machines, group), Shown::Value, NARROW);
        let _ = writeln!(page, "<div class=\"card\"><h3>{title}</h3>{svg}</div>");
    }
    *page += "</div>\n";
}

/// Kernels under their roofs.
fn roofs(page: &mut String, machines: &[Machine]) {
    let plots: Vec<(&Machine, String)> =
        machines.iter().filter_map(|m| Some((m, roofline(m)?))).collect();
    if plots.is_empty() {
        return;
    }
    *page += "<h2>Kernels under the roofs</h2>\n<p>Each number is a kernel of the list below. A \
              kernel cannot be above the slope (memory) nor above the level of its type \
              (arithmetic). Both were measured on this adapter. Bytes are those of inputs and \
              outputs; what stays in caches may seem faster than memory.</p>\n<div \
              class=\"legend\">";
    for (i, name) in ["matrix product", "convolution", "attention", "other"].iter().enumerate() {
        let _ = write!(page, "<span>{}{name}</span>", dot(i));
    }
    *page += "</div><div class=\"grid wide\">";
    for (m, svg) in plots {
        let label = escape(&m.label);
        let _ = writeln!(page, "<div class=\"card\"><h3>{label}</h3>{svg}</div>");
    }
    *page += "</div>\n";
}

/// What kernels reach of their roofs.
fn shapes(page: &mut String, machines: &[Machine]) {
    let all = names(machines, Group::Kernel);
    if all.is_empty() {
        return;
    }
    *page += "<h2>Kernels at standard shapes</h2>\n<p>Share of the roof over each, and the rate. \
              ± marks times that vary by more than a quarter.</p>\n";
    legend(page, machines);
    let _ =
        writeln!(page, "<div class=\"card\">{}</div>", chart(machines, &all, Shown::Share, WIDE));
    let counted: usize = machines.iter().map(|m| kernels(m).len()).sum();
    if counted == 0 {
        *page += "<p>None was measured.</p>\n";
    }
}

fn models(page: &mut String, machines: &[Machine]) {
    let all = names(machines, Group::Model);
    if all.is_empty() {
        return;
    }
    *page += "<h2>Whole models</h2>\n<p>From inputs on the host to outputs on the host, ms — less \
              is better.</p>\n";
    legend(page, machines);
    let _ =
        writeln!(page, "<div class=\"card\">{}</div>", chart(machines, &all, Shown::Value, WIDE));
}

/// Medians of all machines in one table.
fn side_by_side(page: &mut String, machines: &[Machine]) {
    *page += "<div class=\"card\"><table><tr><th>benchmark</th><th>unit</th>";
    for m in machines {
        let _ = write!(page, "<th class=\"n\">{}</th>", escape(&m.label));
    }
    *page += "</tr>\n";
    for group in [Group::Memory, Group::Compute, Group::Latency, Group::Kernel, Group::Model] {
        for name in names(machines, group) {
            let rows: Vec<Option<&Row>> = machines.iter().map(|m| find(m, name)).collect();
            let Some(first) = rows.iter().flatten().next() else { continue };
            let values = rows.iter().flatten().filter_map(|r| r.value);
            let best = match first.more_is_better() {
                true => values.reduce(f64::max),
                false => values.reduce(f64::min),
            };
            let (name, unit) = (escape(name), escape(&first.unit));
            let _ = write!(page, "<tr><td>{name}</td><td>{unit}</td>");
            for row in rows {
                let value = row.and_then(|r| r.value);
                let class = if value.is_some() && value == best { "n best" } else { "n" };
                let text = value.map_or("–".to_string(), short);
                let _ = write!(page, "<td class=\"{class}\">{text}</td>");
            }
            *page += "</tr>\n";
        }
    }
    *page += "</table></div>\n";
}

/// Everything about one machine's rows.
fn results(page: &mut String, m: &Machine, fold: bool) {
    *page += "<div class=\"card\">";
    if fold {
        let _ = write!(page, "<details><summary>{}</summary>", escape(&m.label));
    }
    *page += "<table><tr><th>benchmark</th><th class=\"n\">median</th><th></th><th \
              class=\"n\">median ms</th><th class=\"n\">min ms</th><th class=\"n\">p90 ms</th><th \
              class=\"n\">cv</th><th class=\"n\">times</th><th class=\"n\">of roof</th><th>clock, \
              check</th></tr>\n";
    for row in &m.results {
        let _ = write!(page, "<tr><td>{}</td>", escape(&row.name));
        let number = |text: String| format!("<td class=\"n\">{text}</td>");
        match (&row.stats, row.value) {
            (Some(s), Some(value)) => {
                *page += &number(short(value));
                let _ = write!(page, "<td>{}</td>", escape(&row.unit));
                let roof =
                    row.roofline.map_or("–".to_string(), |r| format!("{:.0} %", 100.0 * r));
                let cells = [
                    short(s.median_ms),
                    short(s.min_ms),
                    short(s.p90_ms),
                    format!("{:.1} %", 100.0 * s.cv),
                    s.repetitions.to_string(),
                    roof + row
                        .bound
                        .as_deref()
                        .map_or("", |b| if b == "memory" { " m" } else { " c" }),
                ];
                cells.into_iter().for_each(|cell| *page += &number(cell));
                let checked = row.checked.as_deref().unwrap_or("");
                let _ = write!(page, "<td>{}: {}</td>", escape(&s.timer), escape(checked));
            }
            _ => {
                let class = match row.status {
                    Status::Wrong => "wrong",
                    Status::Failed => "failed",
                    _ => "absent",
                };
                let reason = escape(row.reason.as_deref().unwrap_or("not measured"));
                let _ = write!(page, "<td class=\"{class}\" colspan=\"9\">{class}: {reason}</td>");
            }
        }
        *page += "</tr>\n";
    }
    *page += "</table>";
    *page += if fold { "</details></div>\n" } else { "</div>\n" };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Adapter, Features, Host, LimitSet, Stats};

    fn machine(label: &str) -> Machine {
        let row = |group, name: &str, unit: &str, work| {
            Row::measured(group, name, unit, work, Stats::of(&[1e-3, 2e-3], "gpu"))
        };
        let mut kernel = row(Group::Kernel, "matmul 8x8x8 f32", "GFLOP/s", 1e6);
        (kernel.flops, kernel.bytes, kernel.roofline) = (Some(1e6), Some(1e5), Some(0.5));
        Machine {
            label: label.to_string(),
            date: String::new(),
            rinfer: "0.1.0".to_string(),
            quick: false,
            host: Host::default(),
            adapter: Adapter { name: label.to_string(), ..Adapter::default() },
            features: Features::default(),
            limits: LimitSet::default(),
            results: vec![
                row(Group::Memory, "memory read", "GB/s", 1e9),
                row(Group::Compute, "f32", "GFLOP/s", 1e10),
                Row::without(Group::Compute, "f16", "GFLOP/s", Status::Absent, "<no>".into()),
                kernel,
            ],
        }
    }

    #[test]
    fn a_report_needs_nothing_but_itself() {
        let page = html(&Report::new(vec![machine("a"), machine("b & c")]));
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("b &amp; c") && page.contains("absent: &lt;no&gt;"));
        assert!(page.contains("class=\"roof\"") && page.contains("Side by side"));
    }
}
