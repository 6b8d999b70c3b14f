//! ai.onnx.ml: models over rows, encoders, features, maps.

use super::super::tensors;
use super::node::{Attrs, NodeOut, flag, float, floats, int, ints, string, strings};
use crate::ops::{
    Aggregate, Child, Features, Forest, LabelEncoder, Labels, LinearModel, MapOp, Norm,
    PostTransform, SupportVectors, SvmKernel, SvmOutput, Test, TreeEnsemble, TreeOutput,
};
use crate::{DType, Reason, Tensor, Value, invalid, unsupported};

/// The newest version of the domain.
const VERSION: i64 = 5;

fn write(op: &str, attrs: Attrs, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.need_domain("ai.onnx.ml", VERSION);
    out.plain(&format!("ai.onnx.ml.{op}"), attrs)
}

/// The attribute that names classes: one of two, by their type.
fn labels(labels: &Labels, as_ints: &str, as_strings: &str) -> rinfer_onnx_proto::AttributeProto {
    match labels {
        Labels::Ints(labels) => ints(as_ints, labels),
        Labels::Texts(labels) => {
            strings(as_strings, &labels.iter().map(String::as_str).collect::<Vec<_>>())
        }
    }
}

fn as_i64(numbers: impl IntoIterator<Item = usize>) -> Vec<i64> {
    numbers.into_iter().map(|n| n as i64).collect()
}

const TRANSFORMS: [(PostTransform, &str); 5] = [
    (PostTransform::None, "NONE"),
    (PostTransform::Softmax, "SOFTMAX"),
    (PostTransform::Logistic, "LOGISTIC"),
    (PostTransform::SoftmaxZero, "SOFTMAX_ZERO"),
    (PostTransform::Probit, "PROBIT"),
];

/// Its number among those of TreeEnsemble, and its name.
fn transform(t: PostTransform) -> (i64, &'static str) {
    let i = TRANSFORMS.iter().position(|(known, _)| *known == t).unwrap_or(0);
    (i as i64, TRANSFORMS[i].1)
}

pub(super) fn features(op: &Features, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    match op {
        Features::Normalize(norm) => {
            let norm = match norm {
                Norm::Max => "MAX",
                Norm::L1 => "L1",
                Norm::L2 => "L2",
            };
            write("Normalizer", vec![string("norm", norm)], out)
        }
        Features::Scale { offset, scale } => {
            write("Scaler", vec![floats("offset", offset), floats("scale", scale)], out)
        }
        Features::ImputeFloats { values, replaced } => {
            let replaced = float("replaced_value_float", *replaced);
            write("Imputer", vec![floats("imputed_value_floats", values), replaced], out)
        }
        Features::ImputeInts { values, replaced } => {
            let replaced = int("replaced_value_int64", *replaced);
            write("Imputer", vec![ints("imputed_value_int64s", values), replaced], out)
        }
        Features::Binarize(threshold) => {
            write("Binarizer", vec![float("threshold", *threshold)], out)
        }
        Features::OneHot { categories, zeros } => {
            let categories = labels(categories, "cats_int64s", "cats_strings");
            write("OneHotEncoder", vec![categories, flag("zeros", *zeros)], out)
        }
        Features::Concat { sizes } => {
            let sizes = as_i64(sizes.iter().copied());
            write("FeatureVectorizer", vec![ints("inputdimensions", &sizes)], out)
        }
        Features::Select => write("ArrayFeatureExtractor", vec![], out),
    }
}

/// `NAME_int64s`, `NAME_floats`, `NAME_strings` or `NAME_tensor`, by the type; a default's name
/// has no plural.
fn column(name: &str, s: &str, value: &Value) -> Result<rinfer_onnx_proto::AttributeProto, Reason> {
    let one = s.is_empty();
    Ok(match value {
        Value::Text(t) => {
            let texts: Vec<&str> = t.as_slice().iter().map(String::as_str).collect();
            match (one, &texts[..]) {
                (true, [text]) => string(&format!("{name}_string"), text),
                _ => strings(&format!("{name}_strings"), &texts),
            }
        }
        Value::Tensor(t) if t.dtype() == DType::I64 => match (one, t.as_slice::<i64>()) {
            (true, [n]) => int(&format!("{name}_int64"), *n),
            (_, numbers) => ints(&format!("{name}_int64s"), numbers),
        },
        Value::Tensor(t) if t.dtype() == DType::F32 => match (one, t.as_slice::<f32>()) {
            (true, [x]) => float(&format!("{name}_float"), *x),
            (_, numbers) => floats(&format!("{name}_floats"), numbers),
        },
        other => super::node::tensor(&format!("{name}_tensor"), tensors::to_proto("", other)?),
    })
}

pub(super) fn label_encoder(op: &LabelEncoder, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let attrs = vec![
        column("keys", "s", &op.keys)?,
        column("values", "s", &op.values)?,
        column("default", "", &op.default)?,
    ];
    write("LabelEncoder", attrs, out)
}

pub(super) fn map(op: &MapOp, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    match op {
        MapOp::Cast { to, width } => {
            let to = match to {
                DType::F32 => "TO_FLOAT",
                DType::I64 => "TO_INT64",
                _ => "TO_STRING",
            };
            let mut attrs = vec![string("cast_to", to)];
            if let Some(width) = width {
                attrs.extend([string("map_form", "SPARSE"), int("max_map", *width as i64)]);
            }
            write("CastMap", attrs, out)
        }
        MapOp::Vectorize(keys) => {
            let keys = labels(keys, "int64_vocabulary", "string_vocabulary");
            write("DictVectorizer", vec![keys], out)
        }
        MapOp::Zip(keys) => {
            write("ZipMap", vec![labels(keys, "classlabels_int64s", "classlabels_strings")], out)
        }
    }
}

pub(super) fn linear_model(op: &LinearModel, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![
        floats("coefficients", &op.coefficients),
        string("post_transform", transform(op.post_transform).1),
    ];
    if !op.intercepts.is_empty() {
        attrs.push(floats("intercepts", &op.intercepts));
    }
    match &op.labels {
        Some(names) => {
            attrs.push(labels(names, "classlabels_ints", "classlabels_strings"));
            write("LinearClassifier", attrs, out)
        }
        None => {
            attrs.push(int("targets", op.targets as i64));
            write("LinearRegressor", attrs, out)
        }
    }
}

pub(super) fn svm(op: &SupportVectors, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let (kernel, params) = match op.kernel {
        SvmKernel::Linear => ("LINEAR", [0.0; 3]),
        SvmKernel::Poly { gamma, coef0, degree } => ("POLY", [gamma, coef0, degree]),
        SvmKernel::Rbf { gamma } => ("RBF", [gamma, 0.0, 0.0]),
        SvmKernel::Sigmoid { gamma, coef0 } => ("SIGMOID", [gamma, coef0, 0.0]),
    };
    let mut attrs = vec![
        string("kernel_type", kernel),
        floats("kernel_params", &params),
        floats("support_vectors", &op.vectors),
        floats("coefficients", &op.coefficients),
        floats("rho", &op.rho),
    ];
    match &op.output {
        SvmOutput::Score { one_class } => {
            attrs.extend([flag("one_class", *one_class), int("n_supports", op.count as i64)]);
            write("SVMRegressor", attrs, out)
        }
        SvmOutput::Classes(c) => {
            attrs.push(labels(&c.labels, "classlabels_ints", "classlabels_strings"));
            attrs.push(ints("vectors_per_class", &as_i64(c.vectors.iter().copied())));
            let column = |i: usize| c.sigmoids.iter().map(|s| s[i]).collect::<Vec<f32>>();
            if !c.sigmoids.is_empty() {
                attrs.extend([floats("prob_a", &column(0)), floats("prob_b", &column(1))]);
            }
            attrs.push(string("post_transform", transform(c.post_transform).1));
            write("SVMClassifier", attrs, out)
        }
    }
}

pub(super) fn trees(op: &TreeEnsemble, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    match &op.output {
        TreeOutput::Same(targets) => new_trees(op, *targets, out),
        TreeOutput::Floats(targets) => {
            let function = match op.aggregate {
                Aggregate::Average => "AVERAGE",
                Aggregate::Sum => "SUM",
                Aggregate::Min => "MIN",
                Aggregate::Max => "MAX",
            };
            let mut attrs = old_trees(op, "target")?;
            attrs.extend([
                string("aggregate_function", function),
                int("n_targets", *targets as i64),
            ]);
            write("TreeEnsembleRegressor", attrs, out)
        }
        TreeOutput::Classes(names) => {
            let mut attrs = old_trees(op, "class")?;
            attrs.push(labels(names, "classlabels_int64s", "classlabels_strings"));
            write("TreeEnsembleClassifier", attrs, out)
        }
    }
}

/// The mode of a branch: its number among those of TreeEnsemble, its older name, its threshold.
fn mode(test: &Test) -> (u8, &'static str, f64) {
    match *test {
        Test::LessOrEqual(x) => (0, "BRANCH_LEQ", x),
        Test::Less(x) => (1, "BRANCH_LT", x),
        Test::GreaterOrEqual(x) => (2, "BRANCH_GTE", x),
        Test::Greater(x) => (3, "BRANCH_GT", x),
        Test::Equal(x) => (4, "BRANCH_EQ", x),
        Test::NotEqual(x) => (5, "BRANCH_NEQ", x),
        Test::Member(_) => (6, "", 0.0),
    }
}

/// Numbers as a tensor of the type that the forest was given in.
fn numbers(forest: &Forest, x: &[f64]) -> Result<Tensor, Reason> {
    if forest.double {
        return Tensor::try_from_slice(&[x.len()], x);
    }
    let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    Tensor::try_from_slice(&[x.len()], &x)
}

fn tensor_attr(name: &str, t: Tensor) -> Result<rinfer_onnx_proto::AttributeProto, Reason> {
    Ok(super::node::tensor(name, tensors::to_proto("", &t.into())?))
}

/// The attributes of TreeEnsemble.
fn new_trees(op: &TreeEnsemble, targets: usize, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let forest = &*op.forest;
    let branch = |child: &Child| match *child {
        Child::Branch(at) | Child::Leaf(at) => at,
    };
    let is_leaf = |child: &Child| usize::from(matches!(child, Child::Leaf(_)));
    let column = |name: &str, f: &dyn Fn(&crate::ops::Branch) -> usize| {
        ints(name, &as_i64(forest.branches.iter().map(f)))
    };
    if !op.base_values.is_empty() || forest.roots.iter().any(|r| is_leaf(r) == 1) {
        return Err(unsupported!("trees with base values or without branches as TreeEnsemble"));
    }
    let mut members = Vec::new();
    for branch in &forest.branches {
        if let Test::Member(values) = &branch.test {
            members.extend(values.iter().copied().chain([f64::NAN]));
        }
    }
    let mut weights = Vec::new();
    let mut votes = Vec::new();
    for leaf in &forest.leaves {
        let [vote] = leaf[..] else {
            return Err(invalid!("a leaf with {} votes", leaf.len()));
        };
        weights.push(vote.weight);
        votes.push(vote.target);
    }
    let modes: Vec<u8> = forest.branches.iter().map(|b| mode(&b.test).0).collect();
    let splits: Vec<f64> = forest.branches.iter().map(|b| mode(&b.test).2).collect();
    let mut attrs = vec![
        int("aggregate_function", op.aggregate as i64),
        int("post_transform", transform(op.post_transform).0),
        int("n_targets", targets as i64),
        column("nodes_featureids", &|b| b.feature),
        column("nodes_missing_value_tracks_true", &|b| b.missing_is_true.into()),
        column("nodes_truenodeids", &|b| branch(&b.yes)),
        column("nodes_falsenodeids", &|b| branch(&b.no)),
        column("nodes_trueleafs", &|b| is_leaf(&b.yes)),
        column("nodes_falseleafs", &|b| is_leaf(&b.no)),
        ints("tree_roots", &as_i64(forest.roots.iter().map(branch))),
        ints("leaf_targetids", &as_i64(votes)),
        tensor_attr("nodes_modes", Tensor::vector(&modes))?,
        tensor_attr("nodes_splits", numbers(forest, &splits)?)?,
        tensor_attr("leaf_weights", numbers(forest, &weights)?)?,
    ];
    if !members.is_empty() {
        attrs.push(tensor_attr("membership_values", numbers(forest, &members)?)?);
    }
    write("TreeEnsemble", attrs, out)
}

/// The attributes that TreeEnsembleRegressor and -Classifier share: a row for each node of each
/// tree, from its root on, and a row for each vote.
fn old_trees(op: &TreeEnsemble, votes: &str) -> Result<Attrs, Reason> {
    let forest = &*op.forest;
    let id = |child: Child| match child {
        Child::Branch(at) => at,
        Child::Leaf(at) => forest.branches.len() + at,
    };
    let (mut values, mut modes, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    // tree, node, feature, yes, no, missing; tree, node, target.
    let (mut nodes, mut voted) = (<[Vec<i64>; 6]>::default(), <[Vec<i64>; 3]>::default());
    for (tree, &root) in forest.roots.iter().enumerate() {
        let mut todo = vec![root];
        let mut seen = std::collections::HashSet::new();
        while let Some(child) = todo.pop() {
            if !seen.insert(id(child)) {
                continue;
            }
            let (row, (name, value)) = match child {
                Child::Branch(at) => {
                    let b = &forest.branches[at];
                    todo.extend([b.no, b.yes]);
                    let (_, name, value) = mode(&b.test);
                    if name.is_empty() {
                        return Err(unsupported!("sets in the nodes of {votes} trees"));
                    }
                    let row = [b.feature, id(b.yes), id(b.no), b.missing_is_true.into()];
                    (row, (name, value))
                }
                Child::Leaf(at) => {
                    for vote in &forest.leaves[at] {
                        let row = [tree, id(child), vote.target];
                        voted.iter_mut().zip(row).for_each(|(c, n)| c.push(n as i64));
                        weights.push(vote.weight);
                    }
                    ([0; 4], ("LEAF", 0.0))
                }
            };
            let row = [tree, id(child)].into_iter().chain(row);
            nodes.iter_mut().zip(row).for_each(|(c, n)| c.push(n as i64));
            modes.push(name);
            values.push(value);
        }
    }
    let names = ["treeids", "nodeids", "featureids", "truenodeids", "falsenodeids"];
    let names = names.iter().chain(&["missing_value_tracks_true"]);
    let mut attrs: Attrs =
        names.zip(&nodes).map(|(name, column)| ints(&format!("nodes_{name}"), column)).collect();
    for (name, column) in ["treeids", "nodeids", "ids"].iter().zip(&voted) {
        attrs.push(ints(&format!("{votes}_{name}"), column));
    }
    attrs.push(strings("nodes_modes", &modes));
    attrs.push(string("post_transform", transform(op.post_transform).1));
    let columns = [
        ("nodes_values".to_string(), &values),
        (format!("{votes}_weights"), &weights),
        ("base_values".to_string(), &op.base_values),
    ];
    for (name, column) in columns.into_iter().filter(|(_, column)| !column.is_empty()) {
        attrs.push(match numbers(forest, column)? {
            t if t.dtype() == DType::F64 => tensor_attr(&format!("{name}_as_tensor"), t)?,
            t => floats(&name, t.as_slice::<f32>()),
        });
    }
    Ok(attrs)
}
