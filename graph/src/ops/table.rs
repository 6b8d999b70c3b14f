//! ONNX's operators: one row each, sorted by domain and name.
//!
//! The support table in the documentation is printed from this list. A row says at which opset
//! versions the definition changed; an operator's versions end in its `import` function.

use super::*;
use crate::onnx::{NodeCx, Outputs};
use crate::unsupported;

/// How one ONNX operator becomes IR.
pub struct OnnxOp {
    /// Its domain; empty for ai.onnx.
    pub domain: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The opset versions at which its definition changed, oldest first.
    pub since: &'static [i64],
    /// Builds the IR of one node.
    pub import: fn(&mut NodeCx<'_>) -> Result<Outputs, Reason>,
}

/// A row of [`ONNX`].
const fn row(
    domain: &'static str,
    name: &'static str,
    since: &'static [i64],
    import: fn(&mut NodeCx<'_>) -> Result<Outputs, Reason>,
) -> OnnxOp {
    OnnxOp { domain, name, since, import }
}

/// Every operator that is read.
#[rustfmt::skip]
pub static ONNX: &[OnnxOp] = &[
    row("", "ConcatFromSequence", &[11], sequence::import_concat),
    row("", "Constant", &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25], constant::import),
    row("", "Flatten", &[1, 9, 11, 13, 21, 23, 24, 25], reshape::import_flatten),
    row("", "Identity", &[1, 13, 14, 16, 19, 21, 23, 24, 25], identity::import),
    row("", "If", &[1, 11, 13, 16, 19, 21, 23, 24, 25], control::import_if),
    row("", "Loop", &[1, 11, 13, 16, 19, 21, 23, 24, 25], control::import_loop),
    row("", "Optional", &[15, 28], optional::import),
    row("", "OptionalGetElement", &[15, 18, 28], optional::import_get),
    row("", "OptionalHasElement", &[15, 18, 28], optional::import_has),
    row("", "Reshape", &[1, 5, 13, 14, 19, 21, 23, 24, 25], reshape::import),
    row("", "Scan", &[8, 9, 11, 16, 19, 21, 23, 24, 25], control::import_scan),
    row("", "SequenceAt", &[11], sequence::import_at),
    row("", "SequenceConstruct", &[11], sequence::import_construct),
    row("", "SequenceEmpty", &[11], sequence::import_empty),
    row("", "SequenceErase", &[11], sequence::import_erase),
    row("", "SequenceInsert", &[11], sequence::import_insert),
    row("", "SequenceLength", &[11], sequence::import_length),
    row("", "SequenceMap", &[17], sequence::import_map),
    row("", "Shape", &[1, 13, 15, 19, 21, 23, 24, 25], shape::import),
    row("", "Size", &[1, 13, 19, 21, 23, 24, 25], shape::import_size),
    row("", "SplitToSequence", &[11, 24], sequence::import_split),
    row("", "Squeeze", &[1, 11, 13, 21, 23, 24, 25], reshape::import_squeeze),
    row("", "Unsqueeze", &[1, 11, 13, 21, 23, 24, 25], reshape::import_unsqueeze),
    row("ai.onnx.ml", "TreeEnsemble", &[5], ml_tree::import),
    row("ai.onnx.ml", "TreeEnsembleClassifier", &[1, 3, 5], ml_tree::import_classifier),
    row("ai.onnx.ml", "TreeEnsembleRegressor", &[1, 3, 5], ml_tree::import_regressor),
];

/// The operator's row, and the version of its definition that `opset` selects.
pub fn find(domain: &str, name: &str, opset: i64) -> Result<(&'static OnnxOp, i64), Reason> {
    let dot = if domain.is_empty() { "" } else { "." };
    let row = ONNX
        .binary_search_by_key(&(domain, name), |op| (op.domain, op.name))
        .map_err(|_| unsupported!("operator {domain}{dot}{name} is not supported"))?;
    let op = &ONNX[row];
    match op.since.iter().rev().find(|&&v| v <= opset) {
        Some(&version) => Ok((op, version)),
        None => Err(invalid!(
            "operator {domain}{dot}{name} begins with opset {}, the model uses {opset}",
            op.since[0]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_domain_and_name() {
        for pair in ONNX.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            assert!((a.domain, a.name) < (b.domain, b.name), "{} stands before {}", a.name, b.name);
        }
    }

    #[test]
    fn the_version_is_the_newest_not_after_the_opset() {
        assert_eq!(find("", "Reshape", 12).unwrap().1, 5);
        assert!(find("", "Scan", 7).is_err());
        assert!(find("", "Nonsense", 7).is_err());
    }
}
