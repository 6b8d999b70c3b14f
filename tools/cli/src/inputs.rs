//! What a model is given: files, filled tensors, test data beside the model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rinfer::{Dim, Model, Port, Type, Value};

use crate::args::{InputArgs, PrintArgs};
use crate::context::say;
use crate::failure::{Failure, Result};
use crate::fill::{Fill, Random, index_bound};
use crate::formats::{self, ending};

/// Values by input name.
pub type Inputs = Vec<(String, Value)>;

/// The inputs that the flags describe; what is left out is made up, and said so.
pub fn gather(path: &Path, model: &Model, args: &InputArgs, print: &PrintArgs) -> Result<Inputs> {
    let shapes = parse_shapes(model, &args.shapes)?;
    let mut given: HashMap<String, &str> = HashMap::new();
    for input in &args.inputs {
        let Some((name, spec)) = input.split_once('=') else {
            return Err(Failure::usage(format!("--input {input} is not NAME=SPEC")));
        };
        check_name(model, name)?;
        if given.insert(name.to_string(), spec).is_some() {
            return Err(Failure::usage(format!("--input {name} is given twice")));
        }
    }
    if given.is_empty()
        && shapes.is_empty()
        && args.dims.is_empty()
        && let Some(inputs) = beside(path, model)?
    {
        say(print, "inputs from test_data_set_0 beside the model");
        return Ok(inputs);
    }
    let mut rng = Random(args.seed);
    let mut inputs = Inputs::new();
    for (i, port) in model.inputs().iter().enumerate() {
        let shape = shapes.get(&port.name).map(|s| s.as_slice());
        let value = match given.get(&port.name) {
            Some(spec) => from_spec(model, i, spec, shape, args, &mut rng, print)?,
            None => {
                let value = fill(model, i, Fill::Random(None), shape, &mut rng, print)?;
                say(print, format!("{}: random, seed {}", port.name, args.seed));
                value
            }
        };
        inputs.push((port.name.clone(), value));
    }
    Ok(inputs)
}

fn check_name(model: &Model, name: &str) -> Result<()> {
    let names: Vec<String> = model.inputs().iter().map(|p| p.name.clone()).collect();
    if names.iter().any(|n| n == name) {
        return Ok(());
    }
    let hint = rinfer::did_you_mean(name, &names);
    Err(Failure::usage(format!("the model has no input {name:?}{hint}")))
}

/// `NAME:1x3x224x224` pairs.
fn parse_shapes(model: &Model, shapes: &[String]) -> Result<HashMap<String, Vec<usize>>> {
    let mut map = HashMap::new();
    for text in shapes {
        let parsed = text.rsplit_once(':').and_then(|(name, sizes)| {
            let sizes = sizes.split('x').filter(|s| !s.is_empty());
            Some((name, sizes.map(|s| s.parse().ok()).collect::<Option<Vec<usize>>>()?))
        });
        let Some((name, sizes)) = parsed else {
            return Err(Failure::usage(format!("--shape {text} is not NAME:1x3x224x224")));
        };
        check_name(model, name)?;
        map.insert(name.to_string(), sizes);
    }
    Ok(map)
}

/// One input from its SPEC: a fill, or a file by its ending.
fn from_spec(
    model: &Model,
    i: usize,
    spec: &str,
    shape: Option<&[usize]>,
    args: &InputArgs,
    rng: &mut Random,
    print: &PrintArgs,
) -> Result<Value> {
    let port = &model.inputs()[i];
    if let Some(parsed) = Fill::parse(spec) {
        let parsed = parsed.map_err(Failure::usage)?;
        return fill(model, i, parsed, shape, rng, print);
    }
    let (path, key) = split_key(spec);
    let bad = |e: String| Failure::usage(format!("{}: {e}", path.display()));
    let bytes = formats::read(&path)?;
    let dtype = || port.ty.dtype().ok_or_else(|| bad(format!("the input is a {}", port.ty)));
    let value = match ending(&path).as_str() {
        "npy" => formats::npy::decode(&bytes).map(Value::from),
        "npz" => formats::npz::pick(&bytes, key.as_deref()).map(Value::from),
        "pb" => formats::pb::decode(bytes, &port.ty),
        "safetensors" => formats::safetensors::pick(bytes, key.as_deref()).map(Value::from),
        "json" => formats::json::decode(&bytes, &port.ty),
        "bin" => {
            let sizes = sizes_of(port, shape, print);
            formats::raw::decode(bytes, dtype()?, &sizes).map(Value::from)
        }
        "png" | "jpg" | "jpeg" => {
            formats::image::decode(&bytes, dtype()?, &known_sizes(port, shape), &args.preprocess)
        }
        "txt" => {
            let Some(tokenizer) = &args.tokenizer else {
                return Err(bad("text needs --tokenizer tokenizer.json".into()));
            };
            formats::text::decode(
                &bytes,
                tokenizer,
                &port.name,
                dtype()?,
                &known_sizes(port, shape),
            )
        }
        other => Err(format!("files ending in {other:?} are not read")),
    };
    value.map_err(bad)
}

/// `archive.npz:key`; a colon that belongs to the file's own name stays with it.
fn split_key(spec: &str) -> (PathBuf, Option<String>) {
    if let Some((file, key)) = spec.rsplit_once(':') {
        let path = PathBuf::from(file);
        if ["npz", "safetensors"].contains(&ending(&path).as_str()) {
            return (path, Some(key.to_string()));
        }
    }
    (PathBuf::from(spec), None)
}

/// The sizes of an input, as far as the flags or the model fix them.
fn known_sizes(port: &Port, shape: Option<&[usize]>) -> Vec<Option<usize>> {
    match shape {
        Some(shape) => shape.iter().copied().map(Some).collect(),
        None => port.shape.iter().flatten().map(Dim::size).collect(),
    }
}

/// The sizes of an input; those that are not fixed become 1, and that is said.
fn sizes_of(port: &Port, shape: Option<&[usize]>, print: &PrintArgs) -> Vec<usize> {
    if let Some(shape) = shape {
        return shape.to_vec();
    }
    let declared = port.shape.clone().unwrap_or_default();
    declared
        .iter()
        .map(|d| {
            d.size().unwrap_or_else(|| {
                say(print, format!("{}: dimension {d} taken as 1", port.name));
                1
            })
        })
        .collect()
}

fn fill(
    model: &Model,
    i: usize,
    fill: Fill,
    shape: Option<&[usize]>,
    rng: &mut Random,
    print: &PrintArgs,
) -> Result<Value> {
    let port = &model.inputs()[i];
    let bad = |e: String| Failure::usage(format!("input {:?}: {e}", port.name));
    let dtype = match &port.ty {
        Type::Tensor(dtype) => *dtype,
        other => return Err(bad(format!("a {other} must be given, as a .pb file"))),
    };
    let bound = index_bound(model.graph(), model.graph().inputs()[i]);
    fill.make(dtype, &sizes_of(port, shape, print), rng, bound).map_err(bad)
}

/// `test_data_set_0/input_*.pb` beside the model, if they are there.
fn beside(path: &Path, model: &Model) -> Result<Option<Inputs>> {
    let set = path.parent().unwrap_or(Path::new("")).join("test_data_set_0");
    if !set.join("input_0.pb").is_file() {
        return Ok(None);
    }
    read_set(&set, &model.info().declared_inputs, model.inputs()).map(Some)
}

/// The inputs of a folder in ONNX's layout. File `i` belongs to input `i` of all that the file
/// declares, if there are as many, else of those that are no initializers.
pub fn read_set(set: &Path, declared: &[String], ports: &[Port]) -> Result<Inputs> {
    let file = |i: usize| set.join(format!("input_{i}.pb"));
    let files = (0..).take_while(|&i| file(i).is_file()).count();
    let required: Vec<String> = ports.iter().map(|p| p.name.clone()).collect();
    let names = if files == declared.len() { declared } else { &required };
    let mut inputs = Inputs::new();
    for (i, name) in names.iter().enumerate().take(files) {
        // An initializer that is also given has the same content.
        let Some(port) = ports.iter().find(|p| p.name == *name) else { continue };
        let value = formats::pb::decode(formats::read(&file(i))?, &port.ty)
            .map_err(|e| Failure::usage(format!("{}: {e}", file(i).display())))?;
        inputs.push((name.clone(), value));
    }
    Ok(inputs)
}
