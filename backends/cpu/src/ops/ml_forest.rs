//! Decision trees as flat arrays, walked eight at a time.
//!
//! Every test becomes `x <= t`, an equality or a set, with NaN's way settled beforehand; leaves
//! are nodes that lead to themselves, so that eight walks of different lengths stay in step and
//! their loads overlap.
use rinfer_graph::ops::{Child, Forest, Test};
use rinfer_graph::{Element, Reason, invalid};

/// Walks in step.
const LANES: usize = 8;

/// The type that thresholds, weights and features are compared and added in.
pub(super) trait Real: Element + PartialOrd + Copy + std::ops::AddAssign {
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
    fn next_down(self) -> Self;
    fn nan() -> Self;
}

macro_rules! real {
    ($T:ident) => {
        impl Real for $T {
            fn from_f64(x: f64) -> $T {
                x as $T
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn next_down(self) -> $T {
                self.next_down()
            }
            fn nan() -> $T {
                $T::NAN
            }
        }
    };
}
real!(f32);
real!(f64);

/// One node: `kids[x <= value]`, or by its kind in [`Trees::kinds`].
#[derive(Clone, Copy)]
struct Node<T> {
    value: T,
    /// The feature, and in the top bit whether NaN answers yes.
    feature: u32,
    kids: [u32; 2],
}

const NAN_IS_YES: u32 = 1 << 31;

#[derive(Clone, Copy, PartialEq)]
enum NodeKind {
    LessOrEqual,
    Equal,
    /// One of the members in this range.
    Member(u32, u32),
}

/// Trees made ready: branches first, then leaves.
pub(super) struct Trees<T> {
    nodes: Vec<Node<T>>,
    /// Kinds of the branches; empty if all are `x <= value`.
    kinds: Vec<NodeKind>,
    /// Sorted sets.
    members: Vec<T>,
    roots: Vec<u32>,
    first_leaf: u32,
    /// Where each leaf's votes begin; one more than there are leaves.
    starts: Vec<u32>,
    votes: Vec<(u32, T)>,
    any_nan: bool,
}

impl<T: Real> Trees<T> {
    pub fn new(forest: &Forest) -> Result<Trees<T>, Reason> {
        let n = forest.branches.len();
        let votes: usize = forest.leaves.iter().map(Vec::len).sum();
        if n.max(votes).saturating_add(forest.leaves.len()) >= NAN_IS_YES as usize {
            return Err(invalid!("{n} nodes and {votes} votes are too many"));
        }
        let place = |child: Child| match child {
            Child::Branch(at) => at as u32,
            Child::Leaf(at) => (n + at) as u32,
        };
        let mut trees = Trees {
            nodes: Vec::with_capacity(n + forest.leaves.len()),
            kinds: Vec::with_capacity(n),
            members: Vec::new(),
            roots: forest.roots.iter().map(|&root| place(root)).collect(),
            first_leaf: n as u32,
            starts: vec![0],
            votes: Vec::with_capacity(votes),
            any_nan: false,
        };
        for b in &forest.branches {
            let (kind, value, negated) = trees.simplify(&b.test);
            let (yes, no) = if negated { (b.no, b.yes) } else { (b.yes, b.no) };
            // An ordered test is false of NaN; `!=` is true of it.
            let nan_first = b.missing_is_true || matches!(b.test, Test::NotEqual(_));
            let nan_is_yes = nan_first != negated;
            let feature = u32::try_from(b.feature).ok().filter(|&f| f < NAN_IS_YES);
            let feature = feature.ok_or_else(|| invalid!("feature {}", b.feature))?;
            trees.any_nan |= nan_is_yes;
            trees.kinds.push(kind);
            trees.nodes.push(Node {
                value,
                feature: feature | if nan_is_yes { NAN_IS_YES } else { 0 },
                kids: [place(no), place(yes)],
            });
        }
        if trees.kinds.iter().all(|&kind| kind == NodeKind::LessOrEqual) {
            trees.kinds = Vec::new();
        }
        for (leaf, votes) in forest.leaves.iter().enumerate() {
            let own = (n + leaf) as u32;
            trees.nodes.push(Node { value: T::from_f64(0.0), feature: 0, kids: [own; 2] });
            let vote = |v: &rinfer_graph::ops::Vote| (v.target as u32, T::from_f64(v.weight));
            trees.votes.extend(votes.iter().map(vote));
            trees.starts.push(trees.votes.len() as u32);
        }
        trees.in_walking_order();
        Ok(trees)
    }

    /// A test as a kind, its threshold, and whether the answer is to be negated.
    fn simplify(&mut self, test: &Test) -> (NodeKind, T, bool) {
        // The greatest number that is less; of -∞ nothing is, and nothing is <= NaN.
        let below = |t: f64| {
            let t = T::from_f64(t);
            let least = T::from_f64(f64::NEG_INFINITY);
            if t == least { T::nan() } else { t.next_down() }
        };
        match test {
            Test::LessOrEqual(t) => (NodeKind::LessOrEqual, T::from_f64(*t), false),
            Test::Greater(t) => (NodeKind::LessOrEqual, T::from_f64(*t), true),
            Test::Less(t) => (NodeKind::LessOrEqual, below(*t), false),
            Test::GreaterOrEqual(t) => (NodeKind::LessOrEqual, below(*t), true),
            Test::Equal(t) => (NodeKind::Equal, T::from_f64(*t), false),
            Test::NotEqual(t) => (NodeKind::Equal, T::from_f64(*t), true),
            Test::Member(set) => {
                let start = self.members.len();
                let mut set: Vec<T> = set.iter().map(|&t| T::from_f64(t)).collect();
                set.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
                self.members.extend(set);
                let kind = NodeKind::Member(start as u32, self.members.len() as u32);
                (kind, T::from_f64(0.0), false)
            }
        }
    }

    /// Numbers the branches so that each tree's stand together, the upper ones first.
    fn in_walking_order(&mut self) {
        let branches = self.first_leaf as usize;
        let mut order = Vec::with_capacity(branches);
        let mut place = vec![u32::MAX; branches];
        for &root in &self.roots {
            let start = order.len();
            let mut visit = |at: u32, order: &mut Vec<u32>| {
                if at < self.first_leaf && place[at as usize] == u32::MAX {
                    place[at as usize] = order.len() as u32;
                    order.push(at);
                }
            };
            visit(root, &mut order);
            let mut next = start;
            while next < order.len() {
                let kids = self.nodes[order[next] as usize].kids;
                kids.into_iter().for_each(|kid| visit(kid, &mut order));
                next += 1;
            }
        }
        // Branches that no tree reaches keep a place, behind the others.
        for at in 0..branches {
            if place[at] == u32::MAX {
                place[at] = order.len() as u32;
                order.push(at as u32);
            }
        }
        let renamed = |at: u32| place.get(at as usize).copied().unwrap_or(at);
        let mut nodes: Vec<Node<T>> = order.iter().map(|&at| self.nodes[at as usize]).collect();
        nodes.iter_mut().for_each(|node| node.kids = node.kids.map(renamed));
        nodes.extend_from_slice(&self.nodes[branches..]);
        self.nodes = nodes;
        self.roots.iter_mut().for_each(|root| *root = renamed(*root));
        if !self.kinds.is_empty() {
            self.kinds = order.iter().map(|&at| self.kinds[at as usize]).collect();
        }
    }

    /// The leaves that eight walks end at, each from its root, with its row of features.
    fn walk(&self, mut at: [u32; LANES], rows: [&[T]; LANES]) -> [u32; LANES] {
        match (self.kinds.is_empty(), self.any_nan) {
            (true, false) => self.walk_by(&mut at, rows, |_, node, x| x <= node.value),
            (true, true) => self.walk_by(&mut at, rows, |_, node, x| {
                (x <= node.value) | ((node.feature & NAN_IS_YES != 0) & is_nan(x))
            }),
            (false, _) => self.walk_by(&mut at, rows, |at, node, x| self.mixed(at, node, x)),
        }
        at
    }

    fn walk_by(
        &self,
        at: &mut [u32; LANES],
        rows: [&[T]; LANES],
        test: impl Fn(u32, &Node<T>, T) -> bool,
    ) {
        loop {
            let mut inside = false;
            for lane in 0..LANES {
                let node = &self.nodes[at[lane] as usize];
                let x = rows[lane][(node.feature & !NAN_IS_YES) as usize];
                at[lane] = node.kids[usize::from(test(at[lane], node, x))];
                inside |= at[lane] < self.first_leaf;
            }
            if !inside {
                return;
            }
        }
    }

    fn mixed(&self, at: u32, node: &Node<T>, x: T) -> bool {
        let Some(kind) = self.kinds.get(at as usize) else { return true };
        let yes = match *kind {
            NodeKind::LessOrEqual => x <= node.value,
            NodeKind::Equal => x == node.value,
            NodeKind::Member(start, end) => {
                let set = &self.members[start as usize..end as usize];
                let i = set.partition_point(|&m| m < x);
                set.get(i).is_some_and(|&m| m == x)
            }
        };
        yes | ((node.feature & NAN_IS_YES != 0) & is_nan(x))
    }

    /// Calls `vote` for every vote that row `r` of `x` gets, trees in order.
    pub fn score(&self, x: &[T], features: usize, mut vote: impl FnMut(usize, u32, T)) {
        let rows = x.len() / features.max(1);
        let row = |r: usize| &x[r * features..][..features];
        let mut cast = |r: usize, leaf: u32| {
            let leaf = (leaf - self.first_leaf) as usize;
            let votes = self.starts[leaf] as usize..self.starts[leaf + 1] as usize;
            for &(target, weight) in &self.votes[votes] {
                vote(r, target, weight);
            }
        };
        let whole = rows - rows % LANES;
        for &root in &self.roots {
            for first in (0..whole).step_by(LANES) {
                let leaves = self.walk([root; LANES], std::array::from_fn(|i| row(first + i)));
                leaves.iter().enumerate().for_each(|(i, &leaf)| cast(first + i, leaf));
            }
        }
        for r in whole..rows {
            for roots in self.roots.chunks(LANES) {
                let at = std::array::from_fn(|i| roots[i.min(roots.len() - 1)]);
                let leaves = self.walk(at, [row(r); LANES]);
                leaves[..roots.len()].iter().for_each(|&leaf| cast(r, leaf));
            }
        }
    }
}

fn is_nan<T: Real>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}
