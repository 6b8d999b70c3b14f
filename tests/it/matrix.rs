//! The published table of operators is current.

use std::path::Path;

use rinfer::graph::ops::table::ONNX;
use rinfer_cli::tested;
use rinfer_tests::{folder, matrix};

use crate::onnx_node::{expected_failures, official};

#[test]
fn the_page_is_what_the_command_prints() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operators.md");
    let page = std::fs::read_to_string(file).unwrap();
    assert!(page == tested::page(), "`rinfer ops --markdown > docs/operators.md` makes it current");
}

#[test]
fn the_table_names_operators_and_versions_that_exist() {
    for ((domain, name), rows) in tested::tested() {
        let op = ONNX.iter().find(|op| (op.domain, op.name) == (&*domain, &*name));
        let op = op.unwrap_or_else(|| panic!("there is no {domain} {name}"));
        for (_, version) in rows.keys() {
            assert!(op.since.contains(version), "{name} has no version {version}");
        }
    }
}

#[test]
fn every_official_test_of_one_node_is_in_the_table() {
    let (tested, failures) = (tested::tested(), expected_failures());
    for dir in folder::find(&official().join("node")) {
        let test = format!("node/{}", dir.file_name().unwrap().to_string_lossy());
        let Some((domain, name, version, dtype)) = matrix::row(&dir) else { continue };
        if failures.contains_key(&*test) {
            continue;
        }
        let rows = tested.get(&(domain, name.clone()));
        let types = rows.and_then(|rows| rows.get(&("cpu".to_string(), version)));
        assert!(
            types.is_some_and(|types| types.contains(&dtype)),
            "{test}: {name}-{version} of {dtype} is not in tools/cli/src/tested.json; \
             tests/differential/matrix.py writes it"
        );
    }
}
