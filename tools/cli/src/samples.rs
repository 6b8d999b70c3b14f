//! Samples for calibration: folders and files of what `--input` reads, one at a time.
//!
//! A folder is ONNX's test layout, or files that are a sample each; an array has a sample in each
//! row (as many as the input's first axis has, where that is fixed). What is called `labels` or
//! `label` beside the inputs is the right answer.

use std::path::{Path, PathBuf};

use rinfer::{DType, Model, Port, Tensor, Value};
use rinfer_quant::{Error, Sample, Samples};

use crate::args::PrintArgs;
use crate::context::say;
use crate::failure::{Failure, Result};
use crate::fill::{Fill, Random, index_bound};
use crate::formats::{self, ending};
use crate::inputs::read_set;
use crate::quantize_args::DataArgs;

/// Where samples come from.
enum Source {
    /// Arrays by input name, cut along their first axis.
    Arrays { arrays: Vec<(String, Tensor)>, rows: usize },
    /// Files that are a sample each.
    Files(Vec<PathBuf>),
    /// Folders in ONNX's test layout.
    Sets(Vec<PathBuf>),
    /// Lines of text, or of JSON objects.
    Lines { lines: Vec<String>, json: bool },
    /// Made up.
    Random,
}

/// Samples for a model, and which of them are used.
pub struct Data {
    source: Source,
    picked: Vec<usize>,
    ports: Vec<Port>,
    declared: Vec<String>,
    bounds: Vec<Option<usize>>,
    dims: Vec<(String, usize)>,
    args: DataArgs,
}

impl Data {
    /// The samples that the flags name; `None` if they name none.
    pub fn open(model: &Model, args: &DataArgs, print: &PrintArgs) -> Result<Option<Data>> {
        let Some(path) = &args.calib else { return Ok(None) };
        let (source, count) = open_source(path, model.inputs(), args)?;
        if count == 0 {
            return Err(Failure::usage(format!("{}: there are no samples", path.display())));
        }
        let n = args.samples.clamp(1, count);
        let picked: Vec<usize> = (0..n).map(|i| i * count / n).collect();
        if matches!(source, Source::Random) {
            let text = "samples are random numbers: ranges and accuracy say nothing of real data";
            say(print, text);
        }
        let graph = model.graph();
        let bounds = graph.inputs().iter().map(|&v| index_bound(graph, v)).collect();
        Ok(Some(Data {
            source,
            picked,
            ports: model.inputs().to_vec(),
            declared: model.info().declared_inputs.clone(),
            bounds,
            dims: crate::context::parse_dims(&args.dims)?,
            args: args.clone(),
        }))
    }

    /// The right answers of sample `i`, if it has any.
    pub fn labels(&self, i: usize) -> Option<Vec<i64>> {
        let Source::Arrays { arrays, rows } = &self.source else { return None };
        let (_, labels) = arrays.iter().find(|(name, _)| is_label(name))?;
        let labels = labels.to_ints()?;
        let at = self.picked[i] * rows;
        labels.get(at..at + rows).map(<[i64]>::to_vec)
    }

    fn sample(&self, i: usize) -> Result<Sample> {
        let at = self.picked[i];
        match &self.source {
            Source::Arrays { arrays, rows } => {
                let inputs = arrays.iter().filter(|(name, _)| !is_label(name));
                inputs.map(|(name, t)| Ok((name.clone(), cut(t, at * rows, *rows)?))).collect()
            }
            Source::Files(files) => self.file(&files[at]),
            Source::Sets(sets) => read_set(&sets[at], &self.declared, &self.ports),
            Source::Lines { lines, json: false } => self.text(lines[at].as_bytes()),
            Source::Lines { lines, json: true } => self.object(&lines[at]),
            Source::Random => self.random(at),
        }
    }

    /// A file that is a sample: an archive of inputs, or what the only input reads.
    fn file(&self, path: &Path) -> Result<Sample> {
        let bad = |e: String| Failure::usage(format!("{}: {e}", path.display()));
        let bytes = formats::read(path)?;
        match ending(path).as_str() {
            "npz" => {
                let arrays = formats::npz::decode(&bytes).map_err(bad)?;
                let named = |(n, t): (String, Tensor)| (n, Value::from(t));
                return Ok(arrays.into_iter().filter(|(n, _)| !is_label(n)).map(named).collect());
            }
            "txt" => return self.text(&bytes),
            "safetensors" => {
                let pick = |p: &Port| {
                    let t =
                        formats::safetensors::pick(bytes.clone(), Some(&p.name)).map_err(bad)?;
                    Ok((p.name.clone(), Value::from(t)))
                };
                return self.ports.iter().map(pick).collect();
            }
            _ => {}
        }
        let [port] = &self.ports[..] else {
            return Err(bad(format!("one array for {} inputs: use .npz", self.ports.len())));
        };
        let sizes: Vec<Option<usize>> = port.shape.iter().flatten().map(|d| d.size()).collect();
        let dtype = port.ty.dtype().unwrap_or(DType::F32);
        let value = match ending(path).as_str() {
            "npy" => formats::npy::decode(&bytes).map(Value::from),
            "pb" => formats::pb::decode(bytes, &port.ty),
            "png" | "jpg" | "jpeg" => {
                formats::image::decode(&bytes, dtype, &sizes, &self.args.preprocess)
            }
            other => Err(format!("files ending in {other:?} are no samples")),
        };
        Ok(vec![(port.name.clone(), value.map_err(bad)?)])
    }

    /// A text for every input, each taking what its name says.
    fn text(&self, text: &[u8]) -> Result<Sample> {
        let Some(tokenizer) = &self.args.tokenizer else {
            return Err(Failure::usage("text needs --tokenizer tokenizer.json"));
        };
        let one = |port: &Port| {
            let sizes: Vec<Option<usize>> = port.shape.iter().flatten().map(|d| d.size()).collect();
            let dtype = port.ty.dtype().unwrap_or(DType::I64);
            let value = formats::text::decode(text, tokenizer, &port.name, dtype, &sizes);
            let value = value.map_err(|e| Failure::usage(format!("{}: {e}", port.name)))?;
            Ok((port.name.clone(), value))
        };
        self.ports.iter().map(one).collect()
    }

    /// `{"text": "…"}`, or inputs by name.
    fn object(&self, line: &str) -> Result<Sample> {
        let bad = |e: String| Failure::usage(format!("a line of the samples: {e}"));
        let json: serde_json::Value = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
        if let Some(text) = json["text"].as_str() {
            return self.text(text.as_bytes());
        }
        let one = |port: &Port| {
            let bytes = json[&port.name].to_string();
            let value = formats::json::decode(bytes.as_bytes(), &port.ty);
            Ok((port.name.clone(), value.map_err(|e| bad(format!("{}: {e}", port.name)))?))
        };
        self.ports.iter().map(one).collect()
    }

    fn random(&self, i: usize) -> Result<Sample> {
        let mut rng = Random(self.args.seed.wrapping_add(i as u64 * 7919));
        let make = |(port, bound): (&Port, &Option<usize>)| {
            let bad = |e: String| Failure::usage(format!("input {:?}: {e}", port.name));
            let dtype = port.ty.dtype().ok_or_else(|| bad("is no tensor".into()))?;
            let size = |d: &rinfer::Dim| {
                let given = |s: String| self.dims.iter().find(|(n, _)| *n == s).map(|(_, n)| *n);
                d.size().or_else(|| d.as_symbol().and_then(|s| given(s.to_string())))
            };
            let sizes = port.shape.iter().flatten().map(|d| size(d).unwrap_or(1));
            let sizes: Vec<usize> = sizes.collect();
            let value = Fill::Random(None).make(dtype, &sizes, &mut rng, *bound).map_err(bad)?;
            Ok((port.name.clone(), value))
        };
        self.ports.iter().zip(&self.bounds).map(make).collect()
    }
}

impl Samples for Data {
    fn len(&self) -> usize {
        self.picked.len()
    }

    fn get(&self, i: usize) -> rinfer_quant::Result<Sample> {
        self.sample(i).map_err(|e| Error::Caller(e.message))
    }
}

fn is_label(name: &str) -> bool {
    matches!(name, "label" | "labels")
}

/// How many samples `rand` makes.
const RANDOM: usize = 1 << 20;

fn open_source(path: &Path, ports: &[Port], args: &DataArgs) -> Result<(Source, usize)> {
    if path.as_os_str() == "rand" {
        return Ok((Source::Random, args.samples.min(RANDOM)));
    }
    if path.is_dir() {
        return folder(path);
    }
    let bad = |e: String| Failure::usage(format!("{}: {e}", path.display()));
    let bytes = formats::read(path)?;
    let arrays = match ending(path).as_str() {
        "npz" => formats::npz::decode(&bytes).map_err(bad)?,
        "npy" => match ports {
            [port] => vec![(port.name.clone(), formats::npy::decode(&bytes).map_err(bad)?)],
            _ => return Err(bad(format!("one array for {} inputs: use .npz", ports.len()))),
        },
        "safetensors" => {
            let pick = |p: &Port| {
                let t = formats::safetensors::pick(bytes.clone(), Some(&p.name)).map_err(bad)?;
                Ok((p.name.clone(), t))
            };
            ports.iter().map(pick).collect::<Result<_>>()?
        }
        "txt" | "jsonl" => {
            let text = String::from_utf8(bytes).map_err(|e| bad(format!("no UTF-8: {e}")))?;
            let lines = text.lines().filter(|l| !l.trim().is_empty()).map(str::to_string);
            let lines: Vec<String> = lines.collect();
            let count = lines.len();
            return Ok((Source::Lines { lines, json: ending(path) == "jsonl" }, count));
        }
        _ => return Ok((Source::Files(vec![path.to_path_buf()]), 1)),
    };
    let rows = rows(&arrays, ports).map_err(bad)?;
    let count = arrays.first().map_or(0, |(_, t)| t.shape()[0] / rows);
    Ok((Source::Arrays { arrays, rows }, count))
}

/// How many rows make a sample: as many as the inputs' first axis has, where it is fixed.
fn rows(arrays: &[(String, Tensor)], ports: &[Port]) -> std::result::Result<usize, String> {
    let mut rows = None;
    for port in ports {
        let (_, t) = arrays
            .iter()
            .find(|(name, _)| *name == port.name)
            .ok_or_else(|| format!("there is no array {:?}", port.name))?;
        if t.rank() == 0 || port.shape.as_ref().is_some_and(|s| s.len() != t.rank()) {
            return Err(format!("{:?} has shape {:?}", port.name, t.shape()));
        }
        let fixed = port.shape.as_ref().and_then(|s| s.first()?.size()).unwrap_or(1);
        if rows.replace(fixed).is_some_and(|before| before != fixed) {
            return Err("inputs have first axes of different sizes".into());
        }
    }
    let lengths: Vec<usize> =
        arrays.iter().map(|(_, t)| t.shape().first().copied().unwrap_or(0)).collect();
    if lengths.windows(2).any(|w| w[0] != w[1]) {
        return Err(format!("arrays of {lengths:?} rows"));
    }
    Ok(rows.unwrap_or(1).max(1))
}

/// `test_data_set_*` below the folder, or its files.
fn folder(path: &Path) -> Result<(Source, usize)> {
    let entries =
        std::fs::read_dir(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    all.sort();
    let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if path.join("input_0.pb").is_file() {
        return Ok((Source::Sets(vec![path.to_path_buf()]), 1));
    }
    let sets: Vec<PathBuf> = all
        .iter()
        .filter(|p| p.is_dir() && name(p).starts_with("test_data_set_"))
        .cloned()
        .collect();
    if !sets.is_empty() {
        let count = sets.len();
        return Ok((Source::Sets(sets), count));
    }
    let known = ["npy", "npz", "pb", "png", "jpg", "jpeg", "txt", "safetensors"];
    let files: Vec<PathBuf> =
        all.into_iter().filter(|p| p.is_file() && known.contains(&ending(p).as_str())).collect();
    let count = files.len();
    Ok((Source::Files(files), count))
}

/// Rows of an array.
fn cut(t: &Tensor, at: usize, rows: usize) -> Result<Value> {
    let mut shape = t.shape().to_vec();
    let row = t.byte_len() / shape[0].max(1);
    shape[0] = rows;
    let bytes = t.as_bytes().get(at * row..(at + rows) * row).unwrap_or_default();
    let cut = Tensor::from_bytes(t.dtype(), &shape, bytes.to_vec().into());
    cut.map(Value::from).map_err(|e| Failure::usage(e.to_string()))
}
