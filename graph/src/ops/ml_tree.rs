//! Decision trees (ai.onnx.ml TreeEnsemble, TreeEnsembleClassifier, TreeEnsembleRegressor).
//!
//! x [n, features] → scores [n, targets]: in each tree a row falls to one leaf, whose votes are
//! aggregated by target; a classifier also gives the label of the best class, [n].
use std::collections::HashMap;
use std::sync::Arc;

use super::ml::{
    Labels, PostTransform, check_features, check_numbers, classified, floats_of, rows_and_features,
    tensor,
};
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, Tensor, invalid};

/// How the votes for one target become its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

/// The question that a branch asks of its feature.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Test {
    LessOrEqual(f64),
    Less(f64),
    GreaterOrEqual(f64),
    Greater(f64),
    Equal(f64),
    NotEqual(f64),
    /// Whether it is one of these.
    Member(Vec<f64>),
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// To a branch, an index into [`Forest::branches`].
    Branch(usize),
    /// To a leaf, an index into [`Forest::leaves`].
    Leaf(usize),
}

/// An inner node.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// The feature that it looks at.
    pub feature: usize,
    /// What it asks.
    pub test: Test,
    /// Whether NaN answers yes, whatever the test says.
    pub missing_is_true: bool,
    /// Where yes leads.
    pub yes: Child,
    /// Where no leads.
    pub no: Child,
}

/// What a leaf adds to one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// The target.
    pub target: usize,
    /// What is added, or compared.
    pub weight: f64,
}

/// Trees. Every path from a root ends at a leaf.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forest {
    /// Inner nodes of all trees.
    pub branches: Vec<Branch>,
    /// Votes of the leaves of all trees.
    pub leaves: Vec<Vec<Vote>>,
    /// Where each tree begins.
    pub roots: Vec<Child>,
    /// Whether a threshold or weight was given as a double.
    pub double: bool,
}

/// What the scores are.
#[derive(Clone, Debug, PartialEq)]
pub enum TreeOutput {
    /// Scores of this many targets, of type float.
    Floats(usize),
    /// Scores of this many targets, of the input's type.
    Same(usize),
    /// The best class, and scores of the classes.
    Classes(Labels),
}

/// Scores rows by trees.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEnsemble {
    /// The trees.
    pub forest: Arc<Forest>,
    /// How votes become scores.
    pub aggregate: Aggregate,
    /// What is done with a row's scores.
    pub post_transform: PostTransform,
    /// Added to the scores; empty if nothing is.
    pub base_values: Vec<f64>,
    /// What is made of the scores.
    pub output: TreeOutput,
}

impl TreeEnsemble {
    /// How many scores a row has.
    pub fn targets(&self) -> usize {
        match &self.output {
            TreeOutput::Floats(n) | TreeOutput::Same(n) => *n,
            TreeOutput::Classes(labels) => labels.len(),
        }
    }

    /// How many features a row must have.
    pub fn features(&self) -> usize {
        self.forest.branches.iter().map(|b| b.feature + 1).max().unwrap_or(0)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        let (rows, features) = rows_and_features(x)?;
        check_features(&features, self.features())?;
        let scores = |dtype, n: &usize| {
            one(Fact::new(dtype, [rows.clone(), Dim::from(*n)].into_iter().collect()))
        };
        match &self.output {
            TreeOutput::Same(n) => match x.dtype()? {
                dtype @ (DType::F32 | DType::F64 | DType::F16) => scores(dtype, n),
                other => Err(invalid!("features of type {other}")),
            },
            TreeOutput::Floats(n) => {
                check_numbers(x)?;
                scores(DType::F32, n)
            }
            TreeOutput::Classes(labels) => {
                check_numbers(x)?;
                Ok(classified(&rows, labels))
            }
        }
    }

    /// `Err` unless every path ends and every vote has a target.
    fn checked(self) -> Result<TreeEnsemble, Reason> {
        let targets = self.targets();
        if targets == 0 {
            return Err(invalid!("trees without targets"));
        }
        match self.base_values.len() {
            n if n == 0 || n == targets || (n == 1 && targets == 2) => {}
            n => return Err(invalid!("{n} base values for {targets} targets")),
        }
        if let TreeOutput::Classes(Labels::Texts(labels)) = &self.output
            && let [label] = &labels[..]
        {
            return Err(crate::unsupported!("a classifier with the only class {label:?}"));
        }
        let mut votes = self.forest.leaves.iter().flatten();
        if let Some(vote) = votes.find(|vote| vote.target >= targets) {
            return Err(invalid!("a leaf votes for target {} of {targets}", vote.target));
        }
        self.forest.check_paths()?;
        Ok(self)
    }
}

impl Forest {
    /// `Err` if a path leads back to where it came from, or to no node at all.
    fn check_paths(&self) -> Result<(), Reason> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            Never,
            Above,
            Done,
        }
        let mut seen = vec![Seen::Never; self.branches.len()];
        for &root in &self.roots {
            // A branch is pushed twice: on the way down, and to be finished on the way up.
            let mut stack = vec![(root, false)];
            while let Some((child, leaving)) = stack.pop() {
                let at = match child {
                    Child::Leaf(leaf) if leaf < self.leaves.len() => continue,
                    Child::Leaf(leaf) => {
                        return Err(invalid!("leaf {leaf} of {}", self.leaves.len()));
                    }
                    Child::Branch(at) => at,
                };
                let state = *seen
                    .get(at)
                    .ok_or_else(|| invalid!("node {at} of {}", self.branches.len()))?;
                match (leaving, state) {
                    (true, _) => seen[at] = Seen::Done,
                    (false, Seen::Done) => {}
                    (false, Seen::Above) => {
                        return Err(invalid!("node {at} of a tree leads back to itself"));
                    }
                    (false, Seen::Never) => {
                        seen[at] = Seen::Above;
                        let branch = &self.branches[at];
                        stack.extend([(child, true), (branch.yes, false), (branch.no, false)]);
                    }
                }
            }
        }
        Ok(())
    }
}

fn index(name: &str, n: i64) -> Result<usize, Reason> {
    usize::try_from(n).map_err(|_| invalid!("{n} in attribute {name}"))
}

/// The attribute, as long as the others.
fn column<T>(name: &str, values: Option<Vec<T>>, len: usize) -> Result<Vec<T>, Reason> {
    let values = values.unwrap_or_default();
    match values.len() == len {
        true => Ok(values),
        false => Err(invalid!("{} elements in attribute {name}, {len} are needed", values.len())),
    }
}

/// An attribute that is FLOATS under its name, or a tensor under `name_as_tensor`; whether it is
/// a tensor of doubles too.
fn floats(cx: &NodeCx<'_>, name: &str) -> Result<(Option<Vec<f64>>, bool), Reason> {
    let long = format!("{name}_as_tensor");
    let exact = if cx.version >= 3 { tensor(cx, &long)? } else { None };
    let short = cx.floats(name)?.filter(|v| !v.is_empty());
    match (short, exact) {
        (Some(_), Some(_)) => Err(invalid!("both {name} and {long} are given")),
        (None, Some(t)) => Ok((Some(floats_of(&long, &t)?), t.dtype() == DType::F64)),
        (short, None) => Ok((short.map(|v| v.into_iter().map(f64::from).collect()), false)),
    }
}

pub(super) fn import_classifier(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let labels = Labels::read(cx, "classlabels_int64s", "classlabels_strings")?;
    import_old(cx, "class", Aggregate::Sum, TreeOutput::Classes(labels))
}

pub(super) fn import_regressor(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let aggregate = match cx.string("aggregate_function")?.unwrap_or("SUM") {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(invalid!("aggregate_function {other:?} is unknown")),
    };
    let targets = cx.size("n_targets")?.unwrap_or(1);
    import_old(cx, "target", aggregate, TreeOutput::Floats(targets))
}

/// TreeEnsembleClassifier and -Regressor: nodes are found by tree id and node id, leaves among
/// them, and votes are listed apart.
fn import_old(
    cx: &mut NodeCx<'_>,
    votes: &str,
    aggregate: Aggregate,
    output: TreeOutput,
) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.ignore(&["nodes_hitrates", "nodes_hitrates_as_tensor"]);
    let post_transform = PostTransform::read(cx)?;
    let (base_values, _) = floats(cx, "base_values")?;
    let forest = Arc::new(old_forest(cx, votes)?);
    let base_values = base_values.unwrap_or_default();
    cx.emit(TreeEnsemble { forest, aggregate, post_transform, base_values, output }.checked()?)
}

/// The columns that describe nodes of the older operators.
struct OldNodes {
    trees: Vec<i64>,
    ids: Vec<i64>,
    features: Vec<i64>,
    values: Vec<f64>,
    modes: Vec<String>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing: Vec<i64>,
    double: bool,
}

impl OldNodes {
    fn read(cx: &NodeCx<'_>) -> Result<OldNodes, Reason> {
        let trees = cx.ints("nodes_treeids")?.unwrap_or_default();
        let n = trees.len();
        let (values, double) = floats(cx, "nodes_values")?;
        let ints = |name: &str| column(name, cx.ints(name)?, n);
        let missing = cx.ints("nodes_missing_value_tracks_true")?.filter(|v| !v.is_empty());
        Ok(OldNodes {
            ids: ints("nodes_nodeids")?,
            features: ints("nodes_featureids")?,
            values: column("nodes_values", values, n)?,
            modes: column("nodes_modes", cx.strings("nodes_modes")?, n)?,
            yes: ints("nodes_truenodeids")?,
            no: ints("nodes_falsenodeids")?,
            missing: column(
                "nodes_missing_value_tracks_true",
                Some(missing.unwrap_or_else(|| vec![0; n])),
                n,
            )?,
            double,
            trees,
        })
    }
}

fn old_forest(cx: &NodeCx<'_>, votes: &str) -> Result<Forest, Reason> {
    let nodes = OldNodes::read(cx)?;
    let n = nodes.trees.len();
    let (mut branches, mut leaves) = (0, 0);
    let mut place = Vec::with_capacity(n);
    let mut by_id = HashMap::with_capacity(n);
    for i in 0..n {
        let count = if nodes.modes[i] == "LEAF" { &mut leaves } else { &mut branches };
        place.push(if nodes.modes[i] == "LEAF" {
            Child::Leaf(*count)
        } else {
            Child::Branch(*count)
        });
        *count += 1;
        if by_id.insert((nodes.trees[i], nodes.ids[i]), i).is_some() {
            return Err(invalid!("node {} of tree {} stands twice", nodes.ids[i], nodes.trees[i]));
        }
    }
    let find = |tree: i64, id: i64| {
        let found = by_id.get(&(tree, id)).copied();
        found.ok_or_else(|| invalid!("tree {tree} has no node {id}"))
    };
    let mut forest = Forest { double: nodes.double, ..Forest::default() };
    let mut is_child = vec![false; n];
    for i in (0..n).filter(|&i| nodes.modes[i] != "LEAF") {
        let (yes, no) = (find(nodes.trees[i], nodes.yes[i])?, find(nodes.trees[i], nodes.no[i])?);
        is_child[yes] = true;
        is_child[no] = true;
        forest.branches.push(Branch {
            feature: index("nodes_featureids", nodes.features[i])?,
            test: old_test(&nodes.modes[i], nodes.values[i])?,
            missing_is_true: nodes.missing[i] != 0,
            yes: place[yes],
            no: place[no],
        });
    }
    // A tree's root is its first node that no branch leads to.
    let mut rooted = std::collections::HashSet::new();
    for i in 0..n {
        if !is_child[i] && rooted.insert(nodes.trees[i]) {
            forest.roots.push(place[i]);
        }
    }
    if let Some(tree) = nodes.trees.iter().find(|tree| !rooted.contains(tree)) {
        return Err(invalid!("tree {tree} has no root"));
    }
    forest.leaves = vec![Vec::new(); leaves];
    read_votes(cx, votes, &mut forest, |tree, id| Ok(place[find(tree, id)?]))?;
    Ok(forest)
}

/// Adds the votes in the columns that begin with `prefix` to the leaves that `find` knows.
fn read_votes(
    cx: &NodeCx<'_>,
    prefix: &str,
    forest: &mut Forest,
    find: impl Fn(i64, i64) -> Result<Child, Reason>,
) -> Result<(), Reason> {
    let (weights, double) = floats(cx, &format!("{prefix}_weights"))?;
    let weights = weights.unwrap_or_default();
    let ints = |name: &str| {
        let name = format!("{prefix}_{name}");
        column(&name, cx.ints(&name)?, weights.len())
    };
    let (trees, ids, targets) = (ints("treeids")?, ints("nodeids")?, ints("ids")?);
    for (i, &weight) in weights.iter().enumerate() {
        match find(trees[i], ids[i])? {
            Child::Leaf(leaf) => {
                forest.leaves[leaf].push(Vote { target: index(prefix, targets[i])?, weight });
            }
            // A vote at a branch is never cast.
            Child::Branch(_) => {}
        }
    }
    forest.double |= double;
    Ok(())
}

fn old_test(mode: &str, value: f64) -> Result<Test, Reason> {
    Ok(match mode {
        "BRANCH_LEQ" => Test::LessOrEqual(value),
        "BRANCH_LT" => Test::Less(value),
        "BRANCH_GTE" => Test::GreaterOrEqual(value),
        "BRANCH_GT" => Test::Greater(value),
        "BRANCH_EQ" => Test::Equal(value),
        "BRANCH_NEQ" => Test::NotEqual(value),
        other => return Err(invalid!("the mode {other:?} of a node is unknown")),
    })
}

/// TreeEnsemble: branches and leaves are numbered apart, and each leaf has one vote.
pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.ignore(&["nodes_hitrates"]);
    let aggregate = match cx.int("aggregate_function")?.unwrap_or(1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        n => return Err(invalid!("aggregate_function {n} is unknown")),
    };
    let post_transform = match cx.int("post_transform")?.unwrap_or(0) {
        0 => PostTransform::None,
        1 => PostTransform::Softmax,
        2 => PostTransform::Logistic,
        3 => PostTransform::SoftmaxZero,
        4 => PostTransform::Probit,
        n => return Err(invalid!("post_transform {n} is unknown")),
    };
    let targets = cx.size("n_targets")?.unwrap_or(1);
    let forest = Arc::new(new_forest(cx)?);
    let output = TreeOutput::Same(targets);
    let op = TreeEnsemble { forest, aggregate, post_transform, base_values: Vec::new(), output };
    cx.emit(op.checked()?)
}

fn new_forest(cx: &NodeCx<'_>) -> Result<Forest, Reason> {
    let modes = tensor(cx, "nodes_modes")?;
    let modes: Vec<u8> = match &modes {
        Some(t) if t.dtype() == DType::U8 => t.as_slice::<u8>().to_vec(),
        Some(t) => return Err(invalid!("nodes_modes is a tensor of {}", t.dtype())),
        None => Vec::new(),
    };
    let n = modes.len();
    let ints = |name: &str| column(name, cx.ints(name)?, n);
    let (yes, no) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (ints("nodes_trueleafs")?, ints("nodes_falseleafs")?);
    let features = ints("nodes_featureids")?;
    let splits = tensor(cx, "nodes_splits")?;
    let double = splits.as_ref().is_some_and(|t| t.dtype() == DType::F64);
    let splits = splits.map(|t: Tensor| floats_of("nodes_splits", &t)).transpose()?;
    let splits = column("nodes_splits", splits, n)?;
    let missing = cx.ints("nodes_missing_value_tracks_true")?.filter(|v| !v.is_empty());
    let missing = missing.unwrap_or_else(|| vec![0; n]);
    let missing = column("nodes_missing_value_tracks_true", Some(missing), n)?;
    let mut members = members(cx)?.into_iter();
    let child = |leaf: i64, at: i64| {
        let at = index("nodes_truenodeids or nodes_falsenodeids", at)?;
        Ok(if leaf != 0 { Child::Leaf(at) } else { Child::Branch(at) })
    };
    let mut forest = Forest { double, ..Forest::default() };
    for i in 0..n {
        let test = match modes[i] {
            0 => Test::LessOrEqual(splits[i]),
            1 => Test::Less(splits[i]),
            2 => Test::GreaterOrEqual(splits[i]),
            3 => Test::Greater(splits[i]),
            4 => Test::Equal(splits[i]),
            5 => Test::NotEqual(splits[i]),
            6 => Test::Member(
                members.next().ok_or_else(|| invalid!("membership_values has too few sets"))?,
            ),
            mode => return Err(invalid!("the mode {mode} of a node is unknown")),
        };
        forest.branches.push(Branch {
            feature: index("nodes_featureids", features[i])?,
            test,
            missing_is_true: missing[i] != 0,
            yes: child(yes_leaf[i], yes[i])?,
            no: child(no_leaf[i], no[i])?,
        });
    }
    let weights = tensor(cx, "leaf_weights")?;
    let weights = weights.map(|t| floats_of("leaf_weights", &t)).transpose()?.unwrap_or_default();
    let targets = column("leaf_targetids", cx.ints("leaf_targetids")?, weights.len())?;
    for (&weight, &target) in weights.iter().zip(&targets) {
        forest.leaves.push(vec![Vote { target: index("leaf_targetids", target)?, weight }]);
    }
    for root in cx.ints("tree_roots")?.unwrap_or_default() {
        forest.roots.push(Child::Branch(index("tree_roots", root)?));
    }
    Ok(forest)
}

/// The sets of `membership_values`: each ends with a NaN.
fn members(cx: &NodeCx<'_>) -> Result<Vec<Vec<f64>>, Reason> {
    let Some(t) = tensor(cx, "membership_values")? else { return Ok(Vec::new()) };
    let mut values = floats_of("membership_values", &t)?;
    if values.last().is_some_and(|x| x.is_nan()) {
        values.pop();
    }
    Ok(values.split(|x| x.is_nan()).map(<[f64]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(yes: Child, no: Child) -> TreeEnsemble {
        let branch =
            |feature| Branch { feature, test: Test::Less(0.5), missing_is_true: false, yes, no };
        let forest = Forest {
            branches: vec![branch(2), branch(0)],
            leaves: vec![vec![Vote { target: 0, weight: 1.0 }], vec![]],
            roots: vec![Child::Branch(0)],
            double: false,
        };
        TreeEnsemble {
            forest: Arc::new(forest),
            aggregate: Aggregate::Sum,
            post_transform: PostTransform::None,
            base_values: Vec::new(),
            output: TreeOutput::Floats(1),
        }
    }

    #[test]
    fn a_path_must_end() {
        assert!(stump(Child::Leaf(0), Child::Leaf(1)).checked().is_ok());
        assert!(stump(Child::Leaf(0), Child::Branch(0)).checked().is_err());
        assert!(stump(Child::Leaf(0), Child::Branch(1)).checked().is_err());
        assert!(stump(Child::Leaf(0), Child::Branch(7)).checked().is_err());
        assert!(stump(Child::Leaf(9), Child::Leaf(0)).checked().is_err());
    }

    #[test]
    fn the_largest_feature_must_be_there() {
        let op = stump(Child::Leaf(0), Child::Leaf(1));
        let infer = |f: usize| {
            let x = Fact::sized(DType::F32, &[5, f]);
            op.infer(&Inputs::new(&[Some(&x)], 1)).map(|f| f[0].sizes())
        };
        assert_eq!(infer(3).unwrap().unwrap()[..], [5, 1]);
        assert!(infer(2).is_err());
    }
}
