//! Outputs as a table, as JSON, and as files.

use std::path::Path;

use rinfer::Value;
use serde_json::{Value as Json, json};

use crate::args::Format;
use crate::failure::{Code, Failure, OrFail, Result};
use crate::formats;
use crate::stats::{Summary, short};
use crate::table::Table;

/// Name, type, shape, range, mean and first elements of every output.
pub fn table(outputs: &[(String, Value)]) -> Table {
    let mut table = Table::new(&["name", "dtype", "shape", "min", "max", "mean", "first values"]);
    for (name, value) in outputs {
        let s = Summary::of(value);
        let number = |x: Option<f64>| x.map_or_else(|| "-".into(), short);
        let dtype = value.ty().dtype().map_or_else(|| value.ty().to_string(), |d| d.to_string());
        let shape = value.shape().map_or_else(|| "-".into(), |s| format!("{s:?}"));
        let (min, max, mean) = (number(s.min), number(s.max), number(s.mean));
        table.row([name.clone(), dtype, shape, min, max, mean, s.first.join(" ")]);
    }
    table
}

/// The same as JSON.
pub fn json(outputs: &[(String, Value)]) -> Json {
    let one = |(name, value): &(String, Value)| {
        let s = Summary::of(value);
        json!({
            "name": name,
            "type": value.ty().to_string(),
            "shape": value.shape(),
            "min": s.min,
            "max": s.max,
            "mean": s.mean,
            "nan": s.nan,
            "inf": s.inf,
            "first": s.first,
        })
    };
    Json::Array(outputs.iter().map(one).collect())
}

/// The output's name with every character replaced that is unusual in a file's name.
pub fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    // These would name a folder.
    if name.is_empty() || name == "." || name == ".." { "_".into() } else { name }
}

/// Writes every output into a folder, which is made if it is not there.
pub fn write(
    dir: &Path,
    outputs: &[(String, Value)],
    format: Format,
    overwrite: bool,
) -> Result<()> {
    std::fs::create_dir_all(dir).or_fail(Code::Run, dir.display())?;
    if format == Format::Npz {
        let bytes = formats::npz::encode(outputs).map_err(Failure::usage)?;
        return formats::write(&dir.join("outputs.npz"), &bytes, overwrite);
    }
    for (name, value) in outputs {
        let (bytes, ending) = match format {
            Format::Npy => (formats::npy::encode(value), "npy"),
            Format::Pb => (formats::pb::encode(name, value), "pb"),
            _ => (Ok(formats::json::encode(value).to_string().into_bytes()), "json"),
        };
        let bytes = bytes.map_err(|e| Failure::usage(format!("output {name:?}: {e}")))?;
        formats::write(&dir.join(format!("{}.{ending}", file_name(name))), &bytes, overwrite)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_file_names() {
        assert_eq!(file_name("a/b:0"), "a_b_0");
        assert_eq!(file_name(".."), "_");
        assert_eq!(file_name("ä"), "_");
    }
}
