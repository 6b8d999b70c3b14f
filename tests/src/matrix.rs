//! What an official test shows: which operator, which version of it, which type.

use std::path::Path;

use rinfer::graph::onnx::operators;
use rinfer::graph::ops::table::find;
use rinfer::{Model, Type};

/// Domain, operator, version of its definition, type of the first input (`-` if there is none).
pub type Row = (String, String, i64, String);

/// The row of a test folder whose model is one node; `None` of other folders.
pub fn row(dir: &Path) -> Option<Row> {
    let file = dir.join("model.onnx");
    let bytes = std::fs::read(&file).ok()?;
    let [(domain, name, opset)] = &operators(bytes.into()).ok()?[..] else { return None };
    let (_, version) = find(domain, name, *opset).ok()?;
    let model = Model::open(file).ok()?;
    let mut ty = model.inputs().first().map(|port| &port.ty);
    while let Some(Type::Sequence(of) | Type::Optional(of)) = ty {
        ty = Some(of);
    }
    let dtype = ty.and_then(|ty| ty.dtype()).map_or("-".into(), |dtype| dtype.to_string());
    Some((domain.clone(), name.clone(), version, dtype))
}
