//! If, Loop, Scan: operators that run graphs of their own.
//!
//! What a body reads from outside stands at the end of its inputs, and, in the same order, at the
//! end of the node's inputs: a body sees nothing but its inputs and constants.
use std::sync::Arc;

use super::Inputs;
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Graph, Reason, Tensor, Type, ValueId, invalid};

/// Runs one of two graphs. Inputs: cond (bool), then the captures of both, `then`'s first.
#[derive(Clone, Debug)]
pub struct If {
    /// Runs if the condition holds; its inputs are the first captures.
    pub then_branch: Arc<Graph>,
    /// Runs if not; its inputs are the last captures.
    pub else_branch: Arc<Graph>,
}

/// Runs a graph until a condition fails. Inputs: trip count, cond, the loop's state, captures.
///
/// The body: (iteration, cond, state…, captures…) → (cond, state…, scan outputs…).
#[derive(Clone, Debug)]
pub struct Loop {
    /// What each iteration runs.
    pub body: Arc<Graph>,
    /// How many values are handed from one iteration to the next.
    pub state: usize,
}

/// How Scan walks along one input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanAxis {
    /// The axis it walks along.
    pub axis: super::Axis,
    /// Whether it starts at the end (inputs) or puts the newest first (outputs).
    pub reverse: bool,
}

/// Runs a graph for each slice of its scan inputs. Inputs: state, scan inputs, captures.
///
/// The body: (state…, slices…, captures…) → (state…, slices…).
#[derive(Clone, Debug)]
pub struct Scan {
    /// What each step runs.
    pub body: Arc<Graph>,
    /// How many values are handed from one step to the next.
    pub state: usize,
    /// The inputs that are cut into slices.
    pub inputs: Vec<ScanAxis>,
    /// The outputs that are stacked from slices.
    pub outputs: Vec<ScanAxis>,
}

/// Two operators with bodies are the same if they share them.
macro_rules! same_bodies {
    ($Op:ident, $($body:ident),+; $($rest:ident),*) => {
        impl PartialEq for $Op {
            fn eq(&self, other: &$Op) -> bool {
                $(Arc::ptr_eq(&self.$body, &other.$body))&&+ $(&& self.$rest == other.$rest)*
            }
        }
    };
}
same_bodies!(If, then_branch, else_branch;);
same_bodies!(Loop, body; state);
same_bodies!(Scan, body; state, inputs, outputs);

fn output_fact(body: &Graph, i: usize) -> Result<Fact, Reason> {
    let v = body.outputs().get(i).ok_or_else(|| invalid!("the body has no output {i}"))?;
    let mut fact = body.fact(*v).clone().forget();
    // The sizes inside hold for one run of the body, not for every run: keep the rank.
    if let Some(shape) = &mut fact.shape {
        shape.iter_mut().for_each(|d| *d = d.value().map_or(Dim::Unknown, Dim::N));
    }
    Ok(fact)
}

/// What is certain of a value that is described by either fact.
fn either(a: Fact, b: Fact) -> Result<Fact, Reason> {
    if a.ty != b.ty {
        // An optional and what it holds may meet here (ONNX If-16); the optional is the wider.
        return match (&a.ty, &b.ty) {
            (Type::Optional(of), ty) if **of == *ty => Ok(a),
            (ty, Type::Optional(of)) if **of == *ty => Ok(b),
            _ => Err(invalid!("one way gives a {}, the other a {}", a.ty, b.ty)),
        };
    }
    let shape = match (&a.shape, &b.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => Some(
            a.iter()
                .zip(b)
                .map(|(a, b)| if a.same(b) { a.clone() } else { Dim::Unknown })
                .collect::<Shape>(),
        ),
        _ => None,
    };
    Ok(Fact { ty: a.ty, shape, known: None })
}

impl If {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let cond = inputs.get(0)?;
        if cond.dtype()? != DType::Bool {
            return Err(invalid!("the condition is {}, not bool", cond.ty));
        }
        let captures = self.then_branch.inputs().len() + self.else_branch.inputs().len();
        if inputs.len() != 1 + captures {
            return Err(invalid!("{} inputs where {} are needed", inputs.len(), 1 + captures));
        }
        let n = self.then_branch.outputs().len();
        if n != self.else_branch.outputs().len() {
            return Err(invalid!(
                "one branch has {n} outputs, the other {}",
                self.else_branch.outputs().len()
            ));
        }
        (0..n)
            .map(|i| either(output_fact(&self.then_branch, i)?, output_fact(&self.else_branch, i)?))
            .collect()
    }
}

impl Loop {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        if inputs.len() != self.body.inputs().len() {
            return Err(invalid!(
                "{} inputs for a body that takes {}",
                inputs.len(),
                self.body.inputs().len()
            ));
        }
        (1..self.body.outputs().len())
            .map(|i| {
                let fact = output_fact(&self.body, i)?;
                if i > self.state {
                    return stacked(fact, super::Axis(0), Dim::Unknown);
                }
                either(fact, inputs.get(1 + i)?.clone().forget())
            })
            .collect()
    }
}

impl Scan {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        if inputs.len() != self.body.inputs().len() {
            return Err(invalid!(
                "{} inputs for a body that takes {}",
                inputs.len(),
                self.body.inputs().len()
            ));
        }
        let mut steps = Dim::Unknown;
        for (i, scan) in self.inputs.iter().enumerate() {
            if let Some(shape) = inputs.shape(self.state + i)? {
                let n = &shape[scan.axis.resolve(shape.len())?];
                steps = if steps == Dim::Unknown { n.clone() } else { steps };
            }
        }
        (0..self.body.outputs().len())
            .map(|i| {
                let fact = output_fact(&self.body, i)?;
                match i.checked_sub(self.state) {
                    None => either(fact, inputs.get(i)?.clone().forget()),
                    Some(j) => {
                        let scan = self
                            .outputs
                            .get(j)
                            .ok_or_else(|| invalid!("no axis for scan output {j}"))?;
                        stacked(fact, scan.axis, steps.clone())
                    }
                }
            })
            .collect()
    }
}

/// The fact of `steps` values of one fact, stacked along a new axis.
fn stacked(mut fact: Fact, axis: super::Axis, steps: Dim) -> Result<Fact, Reason> {
    if let Some(shape) = &mut fact.shape {
        shape.insert(axis.resolve(shape.len() + 1)?, steps);
    }
    Ok(fact)
}

pub(super) fn import_if(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let mut inputs = vec![Some(cx.input(0)?)];
    let (then_branch, captures) = cx.body("then_branch", &[])?;
    inputs.extend(captures.into_iter().map(Some));
    let (else_branch, captures) = cx.body("else_branch", &[])?;
    inputs.extend(captures.into_iter().map(Some));
    cx.push(If { then_branch: Arc::new(then_branch), else_branch: Arc::new(else_branch) }, &inputs)
}

pub(super) fn import_loop(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let mut inputs: Vec<_> = cx.inputs().to_vec();
    inputs.resize(inputs.len().max(2), None);
    let state = inputs.len() - 2;
    let mut facts = vec![Fact::sized(DType::I64, &[]), Fact::sized(DType::Bool, &[])];
    for v in &inputs[2..] {
        let v = v.ok_or_else(|| invalid!("a loop-carried value is missing"))?;
        facts.push(loop_carried(cx.fact(v)));
    }
    let (body, captures) = cx.body("body", &facts)?;
    if body.outputs().len() < 1 + state {
        return Err(invalid!(
            "the body has {} outputs, {} are needed",
            body.outputs().len(),
            1 + state
        ));
    }
    inputs.extend(captures.into_iter().map(Some));
    cx.push(Loop { body: Arc::new(body), state }, &inputs)
}

/// What stays certain of a value that each iteration may replace: its type (the rank may grow).
fn loop_carried(fact: &Fact) -> Fact {
    Fact { ty: fact.ty.clone(), shape: None, known: None }
}

pub(super) fn import_scan(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    if cx.version < 9 {
        return import_batched_scan(cx);
    }
    let scans = usize::try_from(cx.int("num_scan_inputs")?.unwrap_or(-1))
        .map_err(|_| invalid!("num_scan_inputs is missing"))?;
    let given = cx.inputs().len();
    let state =
        given.checked_sub(scans).ok_or_else(|| invalid!("{scans} scan inputs of {given}"))?;
    let axes = |cx: &mut NodeCx<'_>, axes: &str, directions: &str, n: usize| {
        let axes = cx.ints(axes)?.unwrap_or_else(|| vec![0; n]);
        let directions = cx.ints(directions)?.unwrap_or_else(|| vec![0; n]);
        if axes.len() != n || directions.len() != n {
            return Err(invalid!("{} axes, {} directions for {n}", axes.len(), directions.len()));
        }
        let scan =
            |(&axis, &d): (&i64, &i64)| ScanAxis { axis: super::Axis(axis), reverse: d != 0 };
        Ok(axes.iter().zip(&directions).map(scan).collect::<Vec<_>>())
    };
    let inputs = axes(cx, "scan_input_axes", "scan_input_directions", scans)?;
    let outputs_n = cx.outputs().checked_sub(state).ok_or_else(|| invalid!("too few outputs"))?;
    let outputs = axes(cx, "scan_output_axes", "scan_output_directions", outputs_n)?;
    let mut facts = Vec::new();
    for (i, v) in cx.inputs().iter().enumerate() {
        let v = v.ok_or_else(|| invalid!("input {i} is missing"))?;
        let mut fact = cx.fact(v).clone().forget();
        if let Some(j) = i.checked_sub(state) {
            if let Some(shape) = &mut fact.shape {
                let axis = inputs[j].axis.resolve(shape.len())?;
                shape.remove(axis);
            }
        } else {
            fact = loop_carried(&fact);
        }
        facts.push(fact);
    }
    let (body, captures) = cx.body("body", &facts)?;
    let mut ids: Vec<_> = cx.inputs().to_vec();
    ids.extend(captures.into_iter().map(Some));
    cx.push(Scan { body: Arc::new(body), state, inputs, outputs }, &ids)
}

/// Scan of opset 8: everything has a batch axis in front, and sequences may end early.
///
/// It becomes a Scan over the batch whose body is a Scan over the sequence. What stands behind the
/// end of a sequence in its outputs is undefined in ONNX, and 0 here.
fn import_batched_scan(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let scans = cx.size("num_scan_inputs")?.unwrap_or(0);
    let directions = cx.ints("directions")?.unwrap_or_else(|| vec![0; scans]);
    let lengths = cx.opt_input(0);
    let given: Vec<_> = (1..cx.inputs().len()).map(|i| cx.input(i)).collect::<Result<_, _>>()?;
    let bad =
        || invalid!("{scans} scan inputs of {}, {} directions", given.len(), directions.len());
    let state = given.len().checked_sub(scans).filter(|_| scans > 0).ok_or_else(bad)?;
    if directions.len() != scans {
        return Err(bad());
    }
    let mut facts = Vec::new();
    for (i, &v) in given.iter().enumerate() {
        let slice = sliced(cx.fact(v))?;
        facts.push(if i < state { loop_carried(&slice) } else { sliced(&slice)? });
    }
    let (body, captures) = cx.body("body", &facts)?;
    let outputs_n = cx.outputs().checked_sub(state).ok_or_else(|| invalid!("too few outputs"))?;
    let along = |d: &i64| ScanAxis { axis: super::Axis(0), reverse: *d != 0 };
    let scan = Scan {
        body: Arc::new(body),
        state,
        inputs: directions.iter().map(along).collect(),
        outputs: vec![along(&0); outputs_n],
    };
    let mut item = Graph::new();
    let length = match lengths {
        Some(v) => Some(item.input("", sliced(cx.fact(v))?)),
        None => None,
    };
    let mut inner = Vec::new();
    for &v in &given {
        let fact = sliced(cx.fact(v))?;
        inner.push(item.input("", fact));
    }
    let whole = inner[state];
    if let Some(length) = length {
        for v in &mut inner[state..] {
            *v = shortened(&mut item, *v, length)?;
        }
    }
    for &v in &captures {
        let fact = cx.fact(v).clone().forget();
        inner.push(item.input("", fact));
    }
    let inner: Vec<_> = inner.into_iter().map(Some).collect();
    let made = item.push(scan, &inner, cx.outputs())?;
    for (i, &v) in made.iter().enumerate() {
        let y = match length {
            Some(length) if i >= state => lengthened(&mut item, v, length, whole)?,
            _ => v,
        };
        item.output(y);
    }
    let batched = usize::from(lengths.is_some()) + given.len();
    let batch = Scan {
        body: Arc::new(item),
        state: 0,
        inputs: vec![along(&0); batched],
        outputs: vec![along(&0); cx.outputs()],
    };
    let inputs: Vec<_> = lengths.into_iter().chain(given).chain(captures).map(Some).collect();
    cx.push(batch, &inputs)
}

/// The fact of a slice along the first axis.
fn sliced(fact: &Fact) -> Result<Fact, Reason> {
    let mut fact = fact.clone().forget();
    if let Some(shape) = &mut fact.shape {
        if shape.is_empty() {
            return Err(invalid!("a scalar has no axis to scan along"));
        }
        shape.remove(0);
    }
    Ok(fact)
}

/// The first `length` slices of `v`.
fn shortened(graph: &mut Graph, v: ValueId, length: ValueId) -> Result<ValueId, Reason> {
    let axis = graph.constant(Tensor::vector(&[0i64]));
    let end = as_vector(graph, length)?;
    graph.push1(super::Slice, &[v, axis, end, axis])
}

/// `v` with zeros behind it, up to as many slices as `whole` has.
fn lengthened(
    graph: &mut Graph,
    v: ValueId,
    length: ValueId,
    whole: ValueId,
) -> Result<ValueId, Reason> {
    let axis = graph.constant(Tensor::vector(&[0i64]));
    let length = as_vector(graph, length)?;
    let all = graph.push1(super::Shape { start: 0, end: Some(1) }, &[whole])?;
    let rest = graph.push1(super::Binary(super::BinaryFn::Sub), &[all, length])?;
    let pads = graph.push1(super::Concat { axis: super::Axis(0) }, &[axis, rest])?;
    let pad = super::Pad { mode: super::PadMode::Constant };
    Ok(graph.push(pad, &[Some(v), Some(pads), None, Some(axis)], 1)?[0])
}

/// A scalar, or a vector of one element, as a vector of one element.
fn as_vector(graph: &mut Graph, v: ValueId) -> Result<ValueId, Reason> {
    let shape = graph.constant(Tensor::vector(&[1i64]));
    graph.push1(super::Reshape { allowzero: false }, &[v, shape])
}
