//! Half precision: constants and what is computed are float16, inputs and outputs stay as they are.
//!
//! What float16 does not have (operators that only know float32, numbers beyond 65504) stays
//! float32, with casts around it.

use std::collections::HashMap;

use half::f16;
use rinfer::graph::ops::Cast;
use rinfer::graph::{Node, NodeId, Op, OutputIds, ValueId};
use rinfer::{DType, Model, Reason, Tensor};

use crate::error::Result;
use crate::layers::node_name;
use crate::rebuild::{Rebuild, Writer, rebuild};

/// What became of a model in half precision.
pub struct Halved {
    /// The model.
    pub model: Model,
    /// Nodes that stayed in float32, and why.
    pub kept: Vec<(String, String)>,
}

/// A model in half precision; nodes for which `keep` gives a reason stay as they are.
///
/// # Errors
/// A node takes what it read no more: a defect.
pub fn halve(model: &Model, keep: &dyn Fn(&str, &str) -> Option<String>) -> Result<Halved> {
    let mut writer =
        Halver { keep, kept: Vec::new(), halves: HashMap::new(), wholes: HashMap::new() };
    let graph = rebuild(model.graph(), &mut writer)?;
    let mut made = model.with_graph(graph);
    made.set_metadata("rinfer.quant.mode", "Half");
    Ok(Halved { model: made, kept: writer.kept })
}

struct Halver<'a> {
    keep: &'a dyn Fn(&str, &str) -> Option<String>,
    kept: Vec<(String, String)>,
    /// What stands for a float32 value in float16, by the value in the copy.
    halves: HashMap<(usize, ValueId), ValueId>,
    /// The other way round.
    wholes: HashMap<(usize, ValueId), ValueId>,
}

/// Operators that are exact or meant to be in float32: sizes, indices, accumulation over much.
const WHOLE: &[&str] = &[
    "Cumulative",
    "DFT",
    "STFT",
    "Random",
    "Range",
    "Resize",
    "NonMaxSuppression",
    "Custom",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizedMatMul",
    "MatMulNBits",
    "MatMulBnb4",
    "TopK",
    "Sequence",
    "Optional",
    "Multinomial",
    "RoiAlign",
    "MaxRoiPool",
    "CropAndResize",
    "GridSample",
    "AffineGrid",
    "Dropout",
    "Recurrent",
];

impl Writer for Halver<'_> {
    fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<bool, Reason> {
        let node = r.old.node(id).clone();
        let made_float = node.outputs.iter().any(|&v| r.old.fact(v).dtype() == Ok(DType::F32));
        let name = node_name(r.old, id);
        let why = match () {
            () if !made_float => None,
            () if node.op.is_control() => {
                Some("what goes into its bodies and comes out stays float32".to_string())
            }
            () if WHOLE.contains(&node.op.name()) => Some("it stays exact in float32".into()),
            () if beyond(r, &node) => Some("a constant is beyond float16".into()),
            () => (self.keep)(&name, node.op.name()),
        };
        if made_float && why.is_none() && self.written(r, &node)? {
            return Ok(true);
        }
        if let Some(why) = why {
            self.kept.push((name, why));
        } else if made_float {
            self.kept.push((name, "it does not know float16".into()));
        }
        for &v in node.inputs.iter().flatten() {
            self.whole(r, v)?;
        }
        Ok(false)
    }

    fn after(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<(), Reason> {
        // Outputs of the graph have the type that the model says.
        if r.old.order().last() == Some(&id) {
            for &v in r.old.outputs() {
                self.whole(r, v)?;
            }
        }
        Ok(())
    }
}

/// Whether a constant that a node reads does not fit.
fn beyond(r: &Rebuild<'_>, node: &Node) -> bool {
    let large = |x: &f32| x.is_finite() && x.abs() > 65504.0;
    let constants = node.inputs.iter().flatten().filter_map(|&v| r.old.tensor(v));
    constants.filter(|t| t.dtype() == DType::F32).any(|t| t.as_slice::<f32>().iter().any(large))
}

impl Halver<'_> {
    /// The node on float16; `false` if it does not take that.
    fn written(&mut self, r: &mut Rebuild<'_>, node: &Node) -> std::result::Result<bool, Reason> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for v in &node.inputs {
            inputs.push(match v {
                Some(v) => Some(self.half(r, *v)?),
                None => None,
            });
        }
        let Ok(facts) = r.new.infer(&node.op, &inputs, node.outputs.len()) else {
            return Ok(false);
        };
        // An operator that makes float32 of float16 computes something else.
        let pairs = facts.iter().zip(&node.outputs);
        let fits = |(fact, &v): (&rinfer::Fact, &ValueId)| match r.old.fact(v).dtype() {
            Ok(DType::F32) => fact.dtype() == Ok(DType::F16),
            dtype => fact.dtype() == dtype,
        };
        if !pairs.clone().all(fits) {
            return Ok(false);
        }
        let outputs: OutputIds = facts.into_iter().map(|fact| r.new.value(fact)).collect();
        for (&new, &old) in outputs.iter().zip(&node.outputs) {
            if let Some(name) = r.old.name(old) {
                r.new.set_name(new, name);
            }
            r.redirect(old, new);
        }
        r.new.push_node(Node {
            op: node.op.clone(),
            inputs: inputs.into_iter().collect(),
            outputs,
            name: node.name.clone(),
        });
        Ok(true)
    }

    /// What stands for an old value, in float16 if it is float32.
    fn half(&mut self, r: &mut Rebuild<'_>, old: ValueId) -> std::result::Result<ValueId, Reason> {
        let v = r.value(old);
        if r.new.fact(v).dtype() != Ok(DType::F32) {
            return Ok(v);
        }
        if let Some(&done) = self.halves.get(&(r.number, v)) {
            return Ok(done);
        }
        let done = match r.new.tensor(v).filter(|_| r.new.producer(v).is_none()) {
            Some(t) => {
                let mut made = Tensor::try_zeros(DType::F16, t.shape())?;
                let out = made.as_mut_slice::<f16>();
                crate::weights::chunks(t, 1 << 12, &mut |i, x| {
                    let at = i << 12;
                    out[at..at + x.len()]
                        .iter_mut()
                        .zip(x)
                        .for_each(|(y, &x)| *y = f16::from_f32(x));
                });
                r.constant(made, old, "half")
            }
            None => cast(r, v, DType::F16, old, "half")?,
        };
        self.halves.insert((r.number, v), done);
        Ok(done)
    }

    /// Makes what stands for an old float32 value float32 again.
    fn whole(&mut self, r: &mut Rebuild<'_>, old: ValueId) -> std::result::Result<(), Reason> {
        let v = r.value(old);
        if r.old.fact(old).dtype() != Ok(DType::F32) || r.new.fact(v).dtype() != Ok(DType::F16) {
            return Ok(());
        }
        let done = match self.wholes.get(&(r.number, v)) {
            Some(&done) => done,
            None => cast(r, v, DType::F32, old, "float")?,
        };
        self.wholes.insert((r.number, v), done);
        // Whoever wants the half finds it.
        self.halves.insert((r.number, done), v);
        r.redirect(old, done);
        Ok(())
    }
}

fn cast(
    r: &mut Rebuild<'_>,
    v: ValueId,
    to: DType,
    old: ValueId,
    suffix: &str,
) -> std::result::Result<ValueId, Reason> {
    let op: Op = Cast { to, saturate: true, round_mode: Default::default() }.into();
    r.step(op, &[v], old, suffix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{cosine, digits, pictures, run};

    #[test]
    fn digits_in_half_precision_are_the_same_digits() {
        let half = halve(&digits(), &|_, _| None).unwrap();
        let bytes = half.model.to_onnx().unwrap();
        assert!(bytes.len() < 15_000, "{}", bytes.len());
        let model = Model::from_bytes(bytes).unwrap();
        assert_eq!(model.inputs()[0].ty, digits().inputs()[0].ty);
        let sample = &pictures(3)[1];
        let found = cosine(&run(&digits(), sample), &run(&model, sample));
        assert!(found > 0.99999, "{found}");
    }

    #[test]
    fn what_does_not_fit_stays() {
        let text = "x: float[n]; c: float = 1e6; a = Mul(x, c); b = Exp(x); y = Add(a, b); → y";
        let half = halve(&Model::from_text(text).unwrap(), &|_, _| None).unwrap();
        assert_eq!(half.kept.len(), 1);
        assert_eq!(half.kept[0].1, "a constant is beyond float16");
    }
}
