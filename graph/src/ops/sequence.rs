//! Sequences: SequenceConstruct, -Empty, -At, -Insert, -Erase, -Length, ConcatFromSequence,
//! SplitToSequence; and SequenceMap, which becomes a Loop.
use std::sync::Arc;

use super::{Axis, Inputs, Loop, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Fact, Facts, Graph, Node, Reason, Tensor, Type, ValueId, invalid};

/// What is done with a sequence. Positions are integer scalars; negative ones count from the end.
#[derive(Clone, Debug, PartialEq)]
pub enum Sequence {
    /// x… → \[x…\]
    Construct,
    /// → \[\], a sequence of tensors of this dtype.
    Empty(DType),
    /// s, i → s\[i\]
    At,
    /// s, x, i → s with x before position i; without i at the end.
    Insert,
    /// s, i → s without position i; without i the last is left out.
    Erase,
    /// s → the number of its elements, an int64 scalar.
    Length,
    /// s → its elements joined along `axis`, which is a new one if `stack`.
    Concat {
        /// The axis along which they are joined.
        axis: Axis,
        /// Whether the axis is new, and each element fills one position of it.
        stack: bool,
    },
    /// x, split → pieces of x: of size `split` (a scalar), of the sizes in `split` (a vector), or
    /// of size 1 without it.
    Split {
        /// The axis that is cut.
        axis: Axis,
        /// Whether pieces of size 1, cut without `split`, keep the axis.
        keepdims: bool,
    },
}

impl Sequence {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        one(match self {
            Sequence::Construct => {
                let of = &inputs.get(0)?.ty;
                for i in 1..inputs.len() {
                    same_type(of, &inputs.get(i)?.ty)?;
                }
                Fact::of(Type::Sequence(Box::new(of.clone())))
            }
            Sequence::Empty(dtype) => Fact::of(Type::Sequence(Box::new(Type::Tensor(*dtype)))),
            Sequence::At => {
                position(inputs.get(1)?)?;
                Fact::of(element(inputs.get(0)?)?.clone())
            }
            Sequence::Insert => {
                let s = inputs.get(0)?;
                same_type(element(s)?, &inputs.get(1)?.ty)?;
                inputs.opt(2).map_or(Ok(()), position)?;
                s.clone().forget()
            }
            Sequence::Erase => {
                let s = inputs.get(0)?;
                element(s)?;
                inputs.opt(1).map_or(Ok(()), position)?;
                s.clone().forget()
            }
            Sequence::Length => {
                element(inputs.get(0)?)?;
                Fact::sized(DType::I64, &[])
            }
            Sequence::Concat { .. } => match element(inputs.get(0)?)? {
                Type::Tensor(dtype) => Fact::unranked(*dtype),
                other => return Err(invalid!("elements of type {other} cannot be joined")),
            },
            Sequence::Split { axis, .. } => {
                let x = inputs.get(0)?;
                if let Some(rank) = x.rank() {
                    axis.resolve(rank)?;
                }
                Fact::of(Type::Sequence(Box::new(Type::Tensor(x.dtype()?))))
            }
        })
    }
}

/// The type of a sequence's elements; `Err` if it is none.
fn element(s: &Fact) -> Result<&Type, Reason> {
    match &s.ty {
        Type::Sequence(of) => Ok(of),
        other => Err(invalid!("a {other} where a sequence is expected")),
    }
}

fn same_type(of: &Type, ty: &Type) -> Result<(), Reason> {
    match of == ty {
        true => Ok(()),
        false => Err(invalid!("a {ty} in a sequence of {of}")),
    }
}

/// `Err` unless it may be a position: one integer.
fn position(p: &Fact) -> Result<(), Reason> {
    match p.dtype()? {
        DType::I32 | DType::I64 if p.len().is_none_or(|n| n == 1) => Ok(()),
        DType::I32 | DType::I64 => Err(invalid!("{p} is no single position")),
        other => Err(invalid!("a position of type {other}")),
    }
}

pub(super) fn import_construct(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, usize::MAX)?;
    cx.emit(Sequence::Construct)
}

pub(super) fn import_empty(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(0, 0)?;
    let dtype = cx.dtype_attr("dtype")?.unwrap_or(DType::F32);
    cx.emit(Sequence::Empty(dtype))
}

pub(super) fn import_at(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    cx.emit(Sequence::At)
}

pub(super) fn import_insert(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 3)?;
    cx.emit(Sequence::Insert)
}

pub(super) fn import_erase(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 2)?;
    cx.emit(Sequence::Erase)
}

pub(super) fn import_length(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.emit(Sequence::Length)
}

pub(super) fn import_concat(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let axis = cx.int("axis")?.ok_or_else(|| invalid!("attribute axis is missing"))?;
    let stack = cx.flag("new_axis", false)?;
    cx.emit(Sequence::Concat { axis: Axis(axis), stack })
}

pub(super) fn import_split(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 2)?;
    let axis = Axis(cx.int("axis")?.unwrap_or(0));
    // The attribute has a meaning only without the input `split`.
    let keepdims = cx.flag("keepdims", true)? || cx.opt_input(1).is_some();
    cx.emit(Sequence::Split { axis, keepdims })
}

/// SequenceMap(s, x…; body) = Loop over the positions of s: each sequence input is read at the
/// position, the body runs, and its results are appended to the output sequences.
pub(super) fn import_map(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let given = cx.all_inputs()?;
    let first = *given.first().ok_or_else(|| invalid!("input 0 is missing"))?;
    let mut elements = Vec::new();
    for &v in &given {
        let fact = cx.fact(v).clone().forget();
        elements.push(match fact.ty {
            Type::Sequence(of) => Fact::of(*of),
            _ => fact,
        });
    }
    let steps = cx.push1(Sequence::Length, &[first])?;
    let (body, captures) = cx.body("body", &elements)?;
    if body.inputs().len() != given.len() + captures.len() {
        return Err(invalid!("{} inputs for a body of other", given.len()));
    }
    let types: Vec<Type> = body.outputs().iter().map(|&v| body.fact(v).ty.clone()).collect();
    let facts: Vec<Fact> = given.iter().map(|&v| cx.fact(v).clone().forget()).collect();
    let body = map_body(body, &facts, given.len())?;
    let cond = cx.constant(Tensor::scalar(crate::Bool::from(true)));
    let mut inputs = vec![Some(steps), Some(cond)];
    for ty in &types {
        let Type::Tensor(dtype) = ty else {
            return Err(invalid!("the body makes a {ty}, not a tensor"));
        };
        inputs.push(Some(cx.push_n(Sequence::Empty(*dtype), &[], 1)?[0]));
    }
    inputs.extend(given.into_iter().chain(captures).map(Some));
    cx.push(Loop { body: Arc::new(body), state: types.len() }, &inputs)
}

/// SequenceMap's body as a Loop's: (i, cond, made…, given…, captures…) → (cond, made…).
fn map_body(mut g: Graph, given: &[Fact], n: usize) -> Result<Graph, Reason> {
    let (old_inputs, old_outputs) = (g.inputs().to_vec(), g.outputs().to_vec());
    let i = g.value(Fact::sized(DType::I64, &[]));
    let cond = g.value(Fact::sized(DType::Bool, &[]));
    let mut inputs = vec![i, cond];
    let mut outputs = vec![cond];
    for &v in &old_outputs {
        inputs.push(g.value(Fact::of(Type::Sequence(Box::new(g.fact(v).ty.clone())))));
    }
    let mut order = Vec::new();
    for (&x, fact) in old_inputs[..n].iter().zip(given) {
        if !matches!(fact.ty, Type::Sequence(_)) {
            inputs.push(x);
            continue;
        }
        let s: ValueId = g.value(fact.clone());
        inputs.push(s);
        order.push(g.push_node(Node {
            op: Sequence::At.into(),
            inputs: [Some(s), Some(i)].into_iter().collect(),
            outputs: [x].into_iter().collect(),
            name: "".into(),
        }));
    }
    inputs.extend(&old_inputs[n..]);
    // What reads the sequences runs before the body's own nodes.
    let own = g.order().len() - order.len();
    order.extend_from_slice(&g.order()[..own]);
    g.set_order(order);
    for (j, &v) in old_outputs.iter().enumerate() {
        outputs.push(g.push1(Sequence::Insert, &[inputs[2 + j], v])?);
    }
    g.set_inputs(inputs);
    g.set_outputs(outputs);
    Ok(g)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;

    fn infer(op: Sequence, facts: &[Fact]) -> Result<Fact, Reason> {
        let facts: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        Op::from(op).infer(&Inputs::new(&facts, 1)).map(|mut f| f.remove(0))
    }

    fn seq(dtype: DType) -> Fact {
        Fact::of(Type::Sequence(Box::new(Type::Tensor(dtype))))
    }

    #[test]
    fn a_sequence_holds_one_type() {
        let (x, y) = (Fact::sized(DType::F32, &[2]), Fact::sized(DType::I64, &[]));
        assert_eq!(infer(Sequence::Construct, &[x.clone(), x.clone()]).unwrap(), seq(DType::F32));
        assert!(infer(Sequence::Construct, &[x.clone(), y.clone()]).is_err());
        assert!(infer(Sequence::Insert, &[seq(DType::F32), y.clone()]).is_err());
        assert!(infer(Sequence::Insert, &[seq(DType::I64), y]).is_ok());
    }

    #[test]
    fn a_position_is_one_integer() {
        let at = |p: Fact| infer(Sequence::At, &[seq(DType::F32), p]);
        assert_eq!(at(Fact::sized(DType::I32, &[])).unwrap(), Fact::unranked(DType::F32));
        assert!(at(Fact::sized(DType::I64, &[2])).is_err());
        assert!(at(Fact::sized(DType::F32, &[])).is_err());
    }

    #[test]
    fn only_sequences_have_elements() {
        assert!(infer(Sequence::Length, &[Fact::sized(DType::F32, &[3])]).is_err());
        assert!(
            infer(
                Sequence::Split { axis: Axis(2), keepdims: true },
                &[Fact::sized(DType::F32, &[3])]
            )
            .is_err()
        );
    }

    #[test]
    fn a_mapped_body_reads_its_element_before_its_own_nodes() {
        let mut g = Graph::new();
        let x = g.input("x", Fact::unranked(DType::F32));
        let y = g.push1(super::super::Identity, &[x]).unwrap();
        g.output(y);
        let body = map_body(g, &[seq(DType::F32)], 1).unwrap();
        let names: Vec<_> = body.nodes().map(|(_, n)| n.op.name()).collect();
        assert_eq!(names, ["Sequence", "Identity", "Sequence"]);
        assert_eq!((body.inputs().len(), body.outputs().len()), (4, 2));
    }
}
