//! Which operators were seen to give right results, by version, backend and type.
//!
//! `tested.json` has a row `[domain, operator, version, backend, [types]]` for each combination that
//! passed an official ONNX test or agreed with ONNX Runtime or the ONNX reference evaluator on a
//! node drawn at random. `tests/differential/matrix.py` writes it. The type is that of the node's
//! first input; `-` where it has none.

use std::collections::BTreeMap;

use rinfer::graph::ops::table::ONNX;
use serde_json::Value;

/// Types by backend and version, of one operator.
pub type Tested = BTreeMap<(String, i64), Vec<String>>;

/// What was tested of each operator, by domain and name.
pub fn tested() -> BTreeMap<(String, String), Tested> {
    let rows: Value = serde_json::from_str(include_str!("tested.json")).unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let mut found: BTreeMap<(String, String), Tested> = BTreeMap::new();
    for row in rows.as_array().into_iter().flatten() {
        let types = row[4].as_array().into_iter().flatten().map(text).collect();
        let version = row[2].as_i64().unwrap_or_default();
        let operator = found.entry((text(&row[0]), text(&row[1]))).or_default();
        operator.insert((text(&row[3]), version), types);
    }
    found
}

/// The page `docs/operators.md`.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    let tested = tested();
    let mut domain = None;
    for op in ONNX {
        let Some(rows) = tested.get(&(op.domain.into(), op.name.into())) else { continue };
        if domain != Some(op.domain) {
            let name = if op.domain.is_empty() { "ai.onnx" } else { op.domain };
            page += &format!("\n## {name}\n\n| operator | version | backend | types |\n");
            page += "|---|---|---|---|\n";
            domain = Some(op.domain);
        }
        for ((backend, version), types) in rows.iter().rev() {
            page += &format!("| {} | {version} | {backend} | {} |\n", op.name, types.join(" "));
        }
    }
    page
}

const HEAD: &str = "# Operators

What was seen to give right results, by operator, version of its definition, backend, and type of
the first input: each combination passed an official ONNX test, or agreed with ONNX Runtime or the
ONNX reference evaluator on nodes drawn at random (`tests/differential`, `tests/contrib`). What is
not in the table may work; what rinfer does not support it refuses with a sentence.

`rinfer ops --markdown` prints this page from what `tests/differential/matrix.py` collects.
";
