//! Images with channels side by side: between convolutions values are kept as [n, h, w, c].
//!
//! y = Conv(x)  →  y = back(Conv′(turn(x))), where turn is the Transpose [n, c, h, w] → [n, h, w, c]
//!
//! Vectors of channels suit what convolutions do (XNNPACK and TensorFlow Lite compute so): a pixel
//! is a row of a matrix, and a depthwise window moves by whole vectors. What stands between
//! convolutions — sums, activations, pools, concatenations along channels — does not care, so
//! values are turned where images enter and where something else reads them, and nowhere between.
//! This is done when a plan is made: all sizes are known, and no one outside the plan sees it.

use std::collections::HashMap;

use rinfer_graph::ops::{Axis, Concat, Pool, PoolKind, ReduceKind, Resize, Split, Transpose};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{Dim, Fact, Facts, Limits, Node, Op, Tensor, ValueId};
use smallvec::{SmallVec, smallvec};

use crate::conv::chain::Layer;
use crate::kernel::{Cx, Kernel};
use crate::ops;
use crate::plan::{Out, Place, Plan, Source, Step};
use crate::program::{Local, Nodes};

/// [n, c, h, w] → [n, h, w, c]
const TURN: [usize; 4] = [0, 2, 3, 1];
/// [n, h, w, c] → [n, c, h, w]
const BACK: [usize; 4] = [0, 3, 1, 2];

/// Whether a node is what this is done for: a convolution of images with known weights.
pub(crate) fn is_core(node: &Node, weights: &HashMap<ValueId, Tensor>) -> bool {
    let at = match node.op {
        Op::Conv(_) => 1,
        Op::QLinearConv(_) => 3,
        _ => return false,
    };
    let w = node.inputs.get(at).copied().flatten().and_then(|v| weights.get(&v));
    w.is_some_and(|w| w.shape().len() == 4)
}

/// Turns what gains by it.
pub(crate) fn turn(nodes: &Nodes, facts: &mut Vec<Option<Fact>>, limits: &Limits, plan: &mut Plan) {
    if !nodes.packs.channels_last() {
        return;
    }
    let old = std::mem::take(&mut plan.steps);
    let values = vec![Value::default(); facts.len()];
    let mut turner = Turner { nodes, facts, limits, values, end: plan.end, steps: Vec::new() };
    for step in old {
        turner.step(step);
    }
    plan.steps = turner.steps;
}

/// Where a value of the program is in this plan.
#[derive(Clone, Copy, Default)]
struct Value {
    /// The value that holds it with channels side by side.
    turned: Option<Local>,
    /// Whether it exists in that form only.
    only_turned: bool,
}

/// What becomes of an input when a node's image is turned.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// It is turned too.
    Turn,
    /// It is no image.
    Keep,
    /// Turning it only changes its shape: it has one channel, or one pixel.
    Rename,
}

type Roles = SmallVec<[Role; 4]>;

struct Turner<'a> {
    nodes: &'a Nodes,
    facts: &'a mut Vec<Option<Fact>>,
    limits: &'a Limits,
    values: Vec<Value>,
    /// Where the plan ends.
    end: usize,
    steps: Vec<Step>,
}

impl Turner<'_> {
    /// Adds a step, turned or as it is.
    fn step(&mut self, mut step: Step) {
        if self.turned(&mut step) {
            let outputs: SmallVec<[Local; 2]> = step.outputs.iter().map(|o| o.local).collect();
            self.name_outputs(&mut step);
            let node = step.node;
            self.steps.push(step);
            for l in outputs {
                // Whoever reads the program's values reads them as the model has them.
                if self.nodes.is_read_from(l, self.end) {
                    self.turn_back(l, node);
                }
            }
            return;
        }
        for k in 0..step.inputs.len() {
            if let Some(Source::Local(l)) = step.inputs[k] {
                self.turn_back(l, step.node);
            }
        }
        self.steps.push(step);
    }

    /// Makes the step one over turned values, if it can be; what it reads is turned before.
    fn turned(&mut self, step: &mut Step) -> bool {
        let node = self.nodes.node(step.node);
        let image = |fact: &Fact| fact.rank() == Some(4);
        if step.outputs.is_empty() || !step.facts.iter().all(image) {
            return false;
        }
        if self.first(step, node) {
            return true;
        }
        let Some((op, roles)) = self.roles(step, &node.op) else { return false };
        let is_turned = |l: Local| self.values[l].turned.is_some();
        let any = step.inputs.iter().zip(&roles).any(
            |(s, role)| matches!(s, Some(Source::Local(l)) if *role == Role::Turn && is_turned(*l)),
        );
        if !any && !matches!(op, Op::Conv(_) | Op::QLinearConv(_)) {
            return false;
        }
        let Some((kernel, layer)) = self.compile(step, Node { op, ..node.clone() }, &roles) else {
            return false;
        };
        for k in 0..step.inputs.len() {
            if let Some(Source::Local(l)) = step.inputs[k]
                && roles[k] == Role::Turn
            {
                step.inputs[k] = Some(Source::Local(self.turn(l, step.node)));
            }
        }
        (step.kernel, step.layer) = (kernel, layer);
        true
    }

    /// Makes the step a convolution that reads planes and writes channels side by side, if it is
    /// the first of a network: one of few channels, whose image nothing has turned.
    fn first(&self, step: &mut Step, node: &Node) -> bool {
        let Some(Source::Local(image)) = step.inputs[0] else { return false };
        let roles: Roles = smallvec![Role::Keep; step.inputs.len()];
        if !matches!(node.op, Op::Conv(_))
            || self.values[image].turned.is_some()
            || step.inputs.get(3).is_some_and(Option::is_some)
        {
            return false;
        }
        let Some((kernel, layer)) = self.compile(step, node.clone(), &roles) else { return false };
        (step.kernel, step.layer) = (kernel, layer);
        true
    }

    /// The operator over turned values, and what becomes of its inputs.
    fn roles(&self, step: &Step, op: &Op) -> Option<(Op, Roles)> {
        let only = |which: &[usize]| -> Roles {
            let role = |k| if which.contains(&k) { Role::Turn } else { Role::Keep };
            (0..step.inputs.len()).map(role).collect()
        };
        let axis = |axis: Axis| axis.resolve(4).ok().map(|a| Axis(BACK[a] as i64));
        Some(match op {
            Op::Conv(_) => (op.clone(), only(&[0, 3])),
            Op::QLinearConv(_) => (op.clone(), only(&[0])),
            Op::QuantizedAdd(_) => (op.clone(), only(&[0, 3])),
            Op::QuantizeLinear(_) | Op::DequantizeLinear(_) if self.one_scale(step) => {
                (op.clone(), only(&[0]))
            }
            Op::Pool(_) | Op::Unary(_) | Op::Clip(_) => (op.clone(), only(&[0])),
            Op::Binary(_) | Op::Pointwise(_) => (op.clone(), self.broadcast(step)?),
            Op::Concat(Concat { axis: a }) => {
                let roles = smallvec![Role::Turn; step.inputs.len()];
                (Concat { axis: axis(*a)? }.into(), roles)
            }
            Op::Split(split) => {
                let split = Split { axis: axis(split.axis)?, ..split.clone() };
                (split.into(), only(&[0]))
            }
            Op::Resize(resize) => {
                let axes = resize.resolve_axes(4).ok()?;
                let axes = axes.iter().map(|&a| BACK[a] as i64).collect();
                (Resize { axes: Some(axes), ..resize.clone() }.into(), only(&[0]))
            }
            Op::Reduce(reduce) if reduce.kind == ReduceKind::Mean && reduce.keepdims => {
                let l = self.nodes.inputs(step.node).get(1).copied().flatten()?;
                let mut axes = self.facts[l].as_ref()?.tensor()?.to_ints()?;
                axes.iter_mut().for_each(|a| *a += if *a < 0 { 4 } else { 0 });
                axes.sort_unstable();
                if axes.as_slice() != [2, 3] {
                    return None;
                }
                let kind = PoolKind::Average { count_include_pad: false };
                (Pool { kind, window: None }.into(), only(&[0]))
            }
            _ => return None,
        })
    }

    /// Whether a node of codes has one scale for all, which is read wherever channels stand.
    fn one_scale(&self, step: &Step) -> bool {
        let scale = self.nodes.inputs(step.node).get(1).copied().flatten();
        let fact = scale.and_then(|l| self.facts[l].as_ref());
        fact.and_then(Fact::sizes).is_some_and(|sizes| sizes.iter().product::<usize>() == 1)
    }

    /// The roles of operands that are broadcast to the output's shape.
    fn broadcast(&self, step: &Step) -> Option<Roles> {
        let out = step.facts.first()?.sizes()?;
        let locals = self.nodes.inputs(step.node);
        let role = |k: usize| {
            let Some(source) = &step.inputs[k] else { return Some(Role::Keep) };
            let sizes = self.facts[locals[k]?].as_ref()?.sizes()?;
            let varies = matches!(source, Source::Local(_));
            Some(match &sizes[..] {
                s if s.iter().all(|&n| n == 1) && s.len() <= 4 && !varies => Role::Keep,
                s if varies && s == &out[..] => Role::Turn,
                [_, _, 1, 1] | [_, 1, _, _] if varies => Role::Turn,
                [_, _, 1, 1] | [_, 1, 1] | [1, _, _] | [_, 1, _, _] if !varies => Role::Rename,
                _ => return None,
            })
        };
        (0..step.inputs.len()).map(role).collect()
    }

    /// The kernel over values laid out so, and the convolution that it is; `None` if there is none.
    fn compile(&self, step: &Step, node: Node, roles: &Roles) -> Option<(Kernel, Option<Layer>)> {
        let locals = self.nodes.inputs(step.node);
        let mut inputs: SmallVec<[Option<Fact>; 4]> = SmallVec::new();
        for (k, source) in step.inputs.iter().enumerate() {
            let fact = match source {
                None => None,
                Some(_) => Some(self.facts[locals[k]?].clone()?),
            };
            inputs.push(match (fact, roles[k]) {
                (fact, Role::Keep) => fact,
                (None, _) => None,
                (Some(fact), Role::Rename) => Some(turned_fact(&padded(fact))),
                // A constant would have to be turned itself.
                (Some(_), Role::Turn) if !matches!(source, Some(Source::Local(_))) => return None,
                (Some(fact), Role::Turn) => Some(turned_fact(&fact)),
            });
        }
        let inputs: SmallVec<[Option<&Fact>; 4]> = inputs.iter().map(Option::as_ref).collect();
        let outputs: Facts = step.facts.iter().map(turned_fact).collect();
        let cx = self.cx(&node, &inputs, &outputs);
        let layer = match &node.op {
            Op::Conv(op) if roles[0] == Role::Keep => ops::conv::layer_first(op, &cx),
            Op::Conv(op) => ops::conv::layer_last(op, &cx),
            Op::QLinearConv(op) => {
                return Some((ops::conv_integer::compile_last(op, &cx).ok()?, None));
            }
            Op::Pool(op) => return ops::pool::last::compile(op, &cx).ok(),
            _ => return Some((ops::compile(&cx).ok()?, None)),
        };
        let layer = layer.ok()?;
        Some((ops::conv::compile_layer(cx.isa, layer.clone()), Some(layer)))
    }

    fn cx<'c>(
        &'c self,
        node: &'c Node,
        inputs: &'c [Option<&'c Fact>],
        outputs: &'c Facts,
    ) -> Cx<'c> {
        let (isa, packs) = (self.nodes.isa, &self.nodes.packs);
        Cx { isa, node, inputs, outputs, packs, limits: self.limits }
    }

    /// What the step makes is turned from now on.
    fn name_outputs(&mut self, step: &mut Step) {
        for i in 0..step.outputs.len() {
            let l = step.outputs[i].local;
            let fact = turned_fact(&step.facts[i]);
            step.outputs[i].sizes = fact.sizes().unwrap_or_default();
            step.facts[i] = fact.clone();
            step.outputs[i].local = self.new_value(fact);
            self.values[l] = Value { turned: Some(step.outputs[i].local), only_turned: true };
        }
    }

    /// A value that the program does not know.
    fn new_value(&mut self, fact: Fact) -> Local {
        self.facts.push(Some(fact));
        self.values.push(Value::default());
        self.facts.len() - 1
    }

    /// The value that holds `l` turned, made before node `node` if there is none.
    fn turn(&mut self, l: Local, node: usize) -> Local {
        if let Some(turned) = self.values[l].turned {
            return turned;
        }
        let Some(fact) = self.facts[l].clone() else { return l };
        let turned = self.new_value(turned_fact(&fact));
        self.transpose(node, (l, fact), turned, &TURN);
        self.values[l].turned = Some(turned);
        turned
    }

    /// Makes `l` exist as the model has it.
    fn turn_back(&mut self, l: Local, node: usize) {
        if let Value { turned: Some(turned), only_turned: true } = self.values[l]
            && let Some(fact) = self.facts[turned].clone()
        {
            self.transpose(node, (turned, fact), l, &BACK);
            self.values[l].only_turned = false;
        }
    }

    fn transpose(&mut self, node: usize, (from, fact): (Local, Fact), to: Local, perm: &[usize]) {
        let made: Facts = smallvec![permuted(&fact, perm)];
        let turn = Node { op: Transpose::new(perm).into(), ..self.nodes.node(node).clone() };
        let one = [Some(&fact)];
        let sizes = made[0].sizes().unwrap_or_default();
        let kernel = match is_renamed(&sizes, perm) {
            true => Kernel::view(),
            false => match ops::compile(&self.cx(&turn, &one, &made)) {
                Ok(kernel) => kernel,
                Err(_) => unreachable!("a transposition of {fact} is always possible"),
            },
        };
        let dtype = made[0].dtype().unwrap_or(rinfer_graph::DType::F32);
        self.steps.push(Step {
            node,
            kernel,
            inputs: smallvec![Some(Source::Local(from))],
            outputs: smallvec![Out { local: to, dtype, sizes, place: Place::Own }],
            facts: made,
            macs: 0,
            turns: true,
            layer: None,
            dead: SmallVec::new(),
        });
    }
}

/// Whether turning to this shape moves nothing: there is one channel, or one pixel.
fn is_renamed(sizes: &Sizes, perm: &[usize]) -> bool {
    let (c, pixels) = match perm == TURN {
        true => (sizes[3], sizes[1] * sizes[2]),
        false => (sizes[1], sizes[2] * sizes[3]),
    };
    c == 1 || pixels == 1
}

/// With ones before its axes, so that there are four.
fn padded(fact: Fact) -> Fact {
    let Some(shape) = fact.shape().filter(|s| s.len() < 4) else { return fact };
    let ones = std::iter::repeat_n(Dim::N(1), 4 - shape.len());
    let shape = ones.chain(shape.iter().cloned()).collect();
    Fact { shape: Some(shape), ..fact.forget() }
}

fn turned_fact(fact: &Fact) -> Fact {
    permuted(fact, &TURN)
}

/// The fact of the value with its axes in another order.
fn permuted(fact: &Fact, perm: &[usize]) -> Fact {
    let shape = fact.shape().map(|shape| perm.iter().map(|&a| shape[a].clone()).collect());
    Fact { shape, ..fact.clone().forget() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rinfer_graph::backend::{Backend, NodeEvent, Profile, Region, RunCx};
    use rinfer_graph::{Graph, Value, onnx};

    use super::*;
    use crate::CpuBackend;
    use crate::conv::testing::Random;
    use crate::eval::run_node;
    use crate::simd::Isa;

    /// Constants and inputs as numbers that are neither large nor regular.
    fn numbers(r: &mut Random, shape: &[usize]) -> Tensor {
        Tensor::from_slice(shape, &r.floats(shape.iter().product()))
    }

    /// Runs a graph node by node, each as the model has it.
    fn one_by_one(g: &Graph, x: &Value) -> Vec<Value> {
        let mut values: HashMap<ValueId, Value> = HashMap::from([(g.inputs()[0], x.clone())]);
        for &id in g.order() {
            let node = g.node(id);
            let get = |v: &ValueId| values.get(v).cloned().or_else(|| g.fact(*v).value());
            let inputs: Vec<_> = node.inputs.iter().map(|v| v.as_ref().and_then(get)).collect();
            let cx = RunCx::unbounded();
            let made = run_node(Isa::best(), node, &inputs, usize::MAX, &cx).unwrap();
            values.extend(node.outputs.iter().copied().zip(made));
        }
        g.outputs().iter().map(|v| values[v].clone()).collect()
    }

    /// Counts images that were turned, convolutions, and concatenations.
    #[derive(Default)]
    struct Seen {
        turns: AtomicUsize,
        convs: AtomicUsize,
        concats: AtomicUsize,
    }

    impl Profile for Seen {
        fn node(&self, event: &NodeEvent<'_>) {
            let count = match event.op {
                "Transpose" => &self.turns,
                "Conv" => &self.convs,
                "Concat" => &self.concats,
                _ => return,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the graph makes of x, and which steps the plan had.
    fn as_a_whole(g: &Graph, x: &Value) -> (Vec<Value>, Seen) {
        let nodes = g.order();
        let (inputs, outputs) = (g.inputs().to_vec(), g.outputs().to_vec());
        let region =
            Region { graph: g, nodes, inputs: &inputs, outputs: &outputs, progress: &|_| {} };
        let program = CpuBackend::new(Isa::best(), 2).unwrap().compile(region).unwrap();
        let seen = Seen::default();
        let cx = RunCx { profile: Some(&seen), ..RunCx::unbounded() };
        let made = program.run(vec![x.clone()], &cx).unwrap();
        assert!(seen.turns.load(Ordering::Relaxed) > 0, "nothing was turned");
        (made, seen)
    }

    /// `text` reads x [2, 3, 17, 20] and weights `w1` to `w9`, whose shapes come first in it; which
    /// steps the plan has.
    fn check(weights: &[&[usize]], text: &str) -> Seen {
        let mut r = Random::new(3);
        let mut source = "x: float[2, 3, 17, 20]; ".to_string();
        for (i, shape) in weights.iter().enumerate() {
            let tensor = numbers(&mut r, shape);
            source += &format!("w{}: float{shape:?} = {:?}; ", i + 1, tensor.as_slice::<f32>());
        }
        let g = onnx::parse(&(source + text)).unwrap();
        let x = Value::Tensor(numbers(&mut r, &[2, 3, 17, 20]));
        let (made, seen) = as_a_whole(&g, &x);
        for (wanted, found) in one_by_one(&g, &x).iter().zip(made) {
            let (wanted, found) = (wanted.as_tensor().unwrap(), found.as_tensor().unwrap());
            assert_eq!(wanted.shape(), found.shape());
            let scale = wanted.as_slice::<f32>().iter().fold(1.0f32, |m, x| m.max(x.abs()));
            for (a, b) in wanted.as_slice::<f32>().iter().zip(found.as_slice::<f32>()) {
                assert!((a - b).abs() <= 1e-5 * scale, "{b} is not {a} of {scale}: {text}");
            }
        }
        seen
    }

    const START: &str = "a = Conv<pads = [1, 1, 1, 1]>(x, w1); b = Relu(a); ";

    #[test]
    fn residuals_activations_and_broadcasts_stay_turned() {
        check(
            &[&[16, 3, 3, 3], &[16, 16, 3, 3], &[16, 1, 3, 3], &[16, 16, 1, 1], &[16, 1, 1]],
            &format!(
                "{START} c = Conv<pads = [1, 1, 1, 1]>(b, w2); d = Add(c, b); \
                 e = Conv<pads = [1, 1, 1, 1], group = 16>(d, w3); f = Mul(e, w5); \
                 g = Conv(f, w4); h = Sub(g, d); i = Sigmoid(h); y = Mul(i, h); → y"
            ),
        );
    }

    #[test]
    fn a_value_that_leaves_is_as_the_model_has_it() {
        check(
            &[&[16, 3, 3, 3], &[8, 16, 1, 1], &[8, 8, 3, 3], &[8, 8, 1, 1]],
            &format!(
                "{START} c = Conv(b, w2); d = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(c, w3); \
                 e = Conv(d, w4); f = Flatten(e); g = Softmax<axis = 1>(c); h = Add(g, c); \
                 → b, c, e, f, h"
            ),
        );
    }

    #[test]
    fn blocks_become_one_step_where_their_middle_is_large() {
        let of = |mid: usize, text: &str| {
            let w = [[8, 3, 3, 3], [mid, 8, 1, 1], [mid, 1, 3, 3], [8, mid, 1, 1]];
            check(&w.each_ref().map(|w| &w[..]), &format!("{START} {text}")).convs.into_inner()
        };
        let block = "c = Conv(b, w2); d = Conv<pads = [1, 1, 1, 1], group = 400>(c, w3); \
                     e = Conv(d, w4); y = Add(e, b);";
        assert_eq!(of(400, &format!("{block} → y")), 2);
        // What others read too is made as a whole.
        assert_eq!(of(400, &format!("{block} → y, d")), 3);
        assert_eq!(of(400, &format!("{block} → y, c")), 4);
        assert_eq!(of(40, &format!("{} → y", block.replace("400", "40"))), 4);
    }

    #[test]
    fn pools_scales_pieces_and_sizes_stay_turned() {
        check(
            &[&[16, 3, 3, 3], &[32, 16, 1, 1], &[4, 32, 1, 1], &[32, 4, 1, 1], &[20, 40, 2, 2]],
            "a = Conv<pads = [1, 1, 1, 1]>(x, w1); c = Conv(a, w2); s = GlobalAveragePool(c); \
             t = Conv(s, w3); u = Relu(t); v = Conv(u, w4); g = HardSigmoid(v); m = Mul(c, g); \
             p, q = Split<axis = 1, num_outputs = 2>(m); \
             k = Concat<axis = 1>(p, q, a); n, o = Split<axis = -3>(k, [40, 8]); \
             z = Resize<mode = \"nearest\">(n, _, [1.0, 1.0, 2.0, 1.5]); \
             l = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(z); \
             j = AveragePool<kernel_shape = [2, 3], pads = [1, 1, 0, 1]>(l); \
             r = ReduceMean<keepdims = 1>(o, [2, 3]); y = Conv<dilations = [2, 1]>(j, w5); → y, r",
        );
    }

    #[test]
    fn what_is_concatenated_is_made_where_it_belongs() {
        let weights: [&[usize]; 5] =
            [&[16, 3, 3, 3], &[8, 16, 1, 1], &[24, 16, 3, 3], &[16, 16, 2, 2], &[8, 16, 3, 3]];
        let start = format!("{START} s = Conv(b, w4);");
        let concats = |text: &str| check(&weights, &format!("{start} {text}")).concats.into_inner();
        let two = "c = Conv(b, w2); d = Conv<pads = [1, 1, 1, 1]>(b, w3); \
                   k = Concat<axis = 1>(d, c);";
        assert_eq!(concats(&format!("{two} y = MaxPool<kernel_shape = [2, 2]>(k); → y, s")), 0);
        assert_eq!(concats(&format!("{two} y = Relu(k); → y, k, s")), 0);
        // What others read too, and what no convolution makes, is copied.
        assert_eq!(concats(&format!("{two} g = Relu(c); → k, g, s")), 1);
        let three = "c = Conv(b, w2); d = Conv<pads = [1, 1, 1, 1]>(b, w5); f = Relu(b);";
        let of = |inputs: &str| concats(&format!("{three} k = Concat<axis = 1>({inputs}); → k, s"));
        assert_eq!(of("d, f, c"), 1);
        assert_eq!(of("f, c, f, d"), 1);
        assert_eq!(of("c, c, d"), 1);
        let twice = "h = Concat<axis = 1>(c, d); k = Concat<axis = 1>(h, f, h); → k, s";
        assert_eq!(concats(&format!("{three} {twice}")), 1);
        assert_eq!(concats(&format!("{three} k = Concat<axis = -2>(c, d); → k, f, s")), 1);
    }

    #[test]
    fn codes_stay_turned_to_the_bit() {
        let mut r = Random::new(9);
        let mut source = "x: float[2, 3, 17, 20]; ".to_string();
        let shapes: [&[usize]; 5] =
            [&[16, 3, 3, 3], &[16, 1, 3, 3], &[24, 16, 1, 1], &[24, 24, 3, 3], &[8, 24, 1, 1]];
        for (i, shape) in shapes.into_iter().enumerate() {
            let n = shape.iter().product::<usize>();
            let codes: Vec<i32> = (0..n).map(|_| r.below(255) as i32 - 127).collect();
            let bias: Vec<i32> = (0..shape[0]).map(|_| r.below(9999) as i32 - 5000).collect();
            let scales: Vec<f32> =
                (0..shape[0]).map(|_| 1e-3 + r.below(100) as f32 * 1e-5).collect();
            let m = shape[0];
            source += &format!("w{i}: int8{shape:?} = {codes:?}; b{i}: int32[{m}] = {bias:?}; ");
            source += &format!("s{i}: float[{m}] = {scales:?}; ");
        }
        let conv = |y: &str, x: &str, i: usize, attributes: &str| {
            format!("{y} = QLinearConv{attributes}({x}, s, z, w{i}, s{i}, zw, s, z, b{i}); ")
        };
        source += "s: float = 0.01; z: uint8 = 120; zw: int8 = 0; q = QuantizeLinear(x, s, z); ";
        source += &conv("c0", "q", 0, "<pads = [1, 1, 1, 1]>");
        source += &conv("c1", "c0", 1, "<pads = [1, 1, 1, 1], group = 16>");
        source += &conv("c2", "c1", 2, "");
        source += "m = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(c2); ";
        source += &conv("c3", "m", 3, "<pads = [1, 1, 1, 1]>");
        source += "d = DequantizeLinear(c3, s, z); f = DequantizeLinear(m, s, z); a = Add(d, f); \
                   e = QuantizeLinear(a, s, z); ";
        source += &conv("c4", "e", 4, "");
        source += "y = DequantizeLinear(c4, s, z); → y";
        let g = onnx::parse(&source).unwrap();
        let x = Value::Tensor(numbers(&mut r, &[2, 3, 17, 20]));
        assert_eq!(one_by_one(&g, &x), as_a_whole(&g, &x).0);
    }
}
