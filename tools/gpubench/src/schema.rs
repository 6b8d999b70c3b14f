//! The schema: machines with what they are and what was measured on them.
//!
//! Fields are only ever added within a version; readers ignore those that they do not know.

use serde::{Deserialize, Serialize};

/// What `schema` says in every file.
pub const SCHEMA: &str = "rinfer-gpubench";
/// The version of the schema.
pub const VERSION: u32 = 1;

/// One file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// One for each adapter, side by side.
    pub machines: Vec<Machine>,
}

/// An adapter, and what was measured on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// What it is called in reports.
    pub label: String,
    /// When it was measured: UTC, `2026-11-22T20:00:00Z`.
    pub date: String,
    /// The version of rinfer.
    pub rinfer: String,
    /// Whether times were short (`--quick`).
    pub quick: bool,
    /// The computer around the adapter.
    pub host: Host,
    /// What was measured.
    pub adapter: Adapter,
    /// What it can do.
    pub features: Features,
    /// How far.
    pub limits: LimitSet,
    /// Every benchmark, those that could not be measured too.
    pub results: Vec<Row>,
}

/// A computer, or a browser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// `linux`, `macos`, `windows`, or a browser with its version.
    pub os: String,
    /// `x86_64`, `aarch64`, `wasm32`.
    pub arch: String,
    /// The processor's name, where it is known.
    pub cpu: String,
    /// Its cores.
    pub cores: usize,
}

/// A GPU under one interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12`, `webgpu`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: String,
}

/// What an adapter can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// 16-bit floats in kernels.
    pub f16: bool,
    /// Lanes of a subgroup exchange values.
    pub subgroups: bool,
    /// Kernels can be timed by the GPU's clock.
    pub timestamps: bool,
    /// Products of four bytes with four bytes.
    pub int8_dot: bool,
    /// Tiles of matrix units: `16x16x16 f16→f32`.
    pub cooperative_matrix: Vec<String>,
}

/// How far an adapter goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitSet {
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Bytes that a kernel sees of a buffer.
    pub binding_bytes: u64,
    /// Buffers that a kernel sees.
    pub buffers: u32,
    /// Bytes that a workgroup shares.
    pub workgroup_bytes: u32,
    /// Lanes of a workgroup.
    pub workgroup_invocations: u32,
    /// Workgroups along one axis.
    pub workgroups: u32,
    /// Lanes of a subgroup, the least and the most.
    pub subgroup_lanes: (u32, u32),
}

/// What a benchmark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Bytes per second of the GPU's memory, and to it and back.
    Memory,
    /// Operations per second from registers.
    Compute,
    /// What it takes to start a kernel and to hear of its end.
    Latency,
    /// One kernel of this backend at a standard shape.
    Kernel,
    /// A whole model.
    Model,
}

/// How a benchmark ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was measured, and its result is right.
    Ok,
    /// It was not measured: the adapter lacks something, or it would take too long.
    Absent,
    /// Its result is wrong, so it has no speed.
    Wrong,
    /// The device or the run failed.
    Failed,
}

/// One benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is about.
    pub group: Group,
    /// Its name; the same on every machine.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// Why, unless it ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `GB/s`, `GFLOP/s`, `GOP/s`, `µs` or `ms`.
    pub unit: String,
    /// The median in this unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Times of the repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
    /// Operations of one repetition, a multiply–add counted as two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
    /// Bytes that one repetition must move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<f64>,
    /// What it reaches of the lower of the two roofs over it, as measured on this adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roofline: Option<f64>,
    /// Which roof that is: `memory` or `compute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
    /// What of the result was compared with what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
}

/// Times of repetitions, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// How many there were.
    pub repetitions: usize,
    /// Half of them took less.
    pub median_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// Nine of ten took less.
    pub p90_ms: f64,
    /// The standard deviation over the mean.
    pub cv: f64,
    /// Whose clock: `gpu` or `host`.
    pub timer: String,
}

impl Stats {
    /// Of at least one time, in seconds.
    pub fn of(seconds: &[f64], timer: &str) -> Stats {
        let mut ms: Vec<f64> = seconds.iter().map(|s| s * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let n = ms.len().max(1);
        let at = |q: f64| ms.get((q * (n - 1) as f64).round() as usize).copied().unwrap_or(0.0);
        let mean = ms.iter().sum::<f64>() / n as f64;
        let squares: f64 = ms.iter().map(|t| (t - mean) * (t - mean)).sum();
        let deviation = (squares / (n - 1).max(1) as f64).sqrt();
        Stats {
            repetitions: ms.len(),
            median_ms: at(0.5),
            min_ms: at(0.0),
            p90_ms: at(0.9),
            cv: if mean > 0.0 { deviation / mean } else { 0.0 },
            timer: timer.to_string(),
        }
    }
}

impl Row {
    /// A benchmark that was not measured, or whose result does not count.
    pub fn without(group: Group, name: &str, unit: &str, status: Status, reason: String) -> Row {
        Row {
            group,
            name: name.to_string(),
            status,
            reason: Some(reason),
            unit: unit.to_string(),
            value: None,
            stats: None,
            flops: None,
            bytes: None,
            roofline: None,
            bound: None,
            checked: None,
        }
    }

    /// A benchmark that was measured: `work` in billions per second for rates, and the time itself
    /// for `µs` and `ms`.
    pub fn measured(group: Group, name: &str, unit: &str, work: f64, stats: Stats) -> Row {
        let value = match unit {
            "ms" => stats.median_ms,
            "µs" => stats.median_ms * 1e3,
            _ => work / (stats.median_ms * 1e-3) * 1e-9,
        };
        Row {
            status: Status::Ok,
            reason: None,
            value: Some(value),
            stats: Some(stats),
            ..Row::without(group, name, unit, Status::Ok, String::new())
        }
    }

    /// Whether more is better.
    pub fn more_is_better(&self) -> bool {
        self.unit.ends_with("/s")
    }
}

impl Machine {
    /// The value of a benchmark that ended well.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.results.iter().find(|row| row.name == name)?.value
    }

    /// Bytes per nanosecond that kernels move at most.
    pub fn bandwidth(&self) -> Option<f64> {
        let rates = ["memory read", "memory copy"].into_iter().filter_map(|n| self.value(n));
        rates.reduce(f64::max)
    }

    /// Operations per nanosecond of the fastest unit for a type.
    pub fn peak(&self, dtype: &str) -> Option<f64> {
        let names: &[&str] = match dtype {
            "f16" => &["f16", "f32", "matrix f16"],
            "int8" => &["int8 dot"],
            _ => &["f32"],
        };
        names.iter().filter_map(|n| self.value(n)).reduce(f64::max)
    }
}

impl Report {
    /// Of these machines.
    pub fn new(machines: Vec<Machine>) -> Report {
        Report { schema: SCHEMA.to_string(), version: VERSION, machines }
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// From JSON.
    ///
    /// # Errors
    /// It is no JSON, or follows another schema, or a later version.
    pub fn from_json(text: &str) -> Result<Report, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let schema = value.get("schema").and_then(|s| s.as_str()).unwrap_or("none");
        if schema != SCHEMA {
            return Err(format!("the schema is {schema}, not {SCHEMA}"));
        }
        let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if !(1..=u64::from(VERSION)).contains(&version) {
            return Err(format!("the schema's version is {version}, this reads up to {VERSION}"));
        }
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    /// Puts the machines of several reports side by side; those of one name are told apart.
    pub fn merged(reports: Vec<Report>) -> Report {
        let mut machines: Vec<Machine> = Vec::new();
        for mut machine in reports.into_iter().flat_map(|r| r.machines) {
            let label = machine.label.clone();
            let mut k = 1;
            while machines.iter().any(|m| m.label == machine.label) {
                k += 1;
                machine.label = format!("{label} ({k})");
            }
            machines.push(machine);
        }
        Report::new(machines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn machine(label: &str) -> Machine {
        let stats = Stats::of(&[2e-3, 1e-3, 3e-3], "gpu");
        Machine {
            label: label.to_string(),
            date: "2026-11-22T20:00:00Z".to_string(),
            rinfer: "0.1.0".to_string(),
            quick: true,
            host: Host::default(),
            adapter: Adapter::default(),
            features: Features::default(),
            limits: LimitSet::default(),
            results: vec![
                Row::measured(Group::Memory, "memory read", "GB/s", 2e6, stats),
                Row::without(Group::Compute, "f16", "GFLOP/s", Status::Absent, "none".into()),
            ],
        }
    }

    #[test]
    fn a_rate_is_work_over_the_median_time() {
        let m = machine("a");
        assert_eq!(m.value("memory read"), Some(1.0));
        assert_eq!(m.bandwidth(), Some(1.0));
        assert_eq!(m.peak("f16"), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let report = Report::new(vec![machine("a")]);
        assert_eq!(Report::from_json(&report.to_json()).unwrap(), report);
        assert!(Report::from_json("{}").unwrap_err().contains("schema"));
        let later = report.to_json().replace("\"version\": 1", "\"version\": 2");
        assert!(Report::from_json(&later).unwrap_err().contains("version is 2"));
    }

    #[test]
    fn machines_of_one_name_are_told_apart() {
        let one = || Report::new(vec![machine("a")]);
        let labels: Vec<String> =
            Report::merged(vec![one(), one()]).machines.into_iter().map(|m| m.label).collect();
        assert_eq!(labels, ["a", "a (2)"]);
    }

    #[test]
    fn one_repetition_does_not_vary() {
        assert_eq!(Stats::of(&[1e-3], "host").cv, 0.0);
    }
}
