//! If, Loop and Scan: programs that call programs.

use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{If, Loop, Scan};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{
    DType, Dim, Fact, Graph, Kind, Op, Reason, Strings, Tensor, Type, Value, invalid,
};

use crate::executable::{Executable, Located};

/// Runs a Loop or a Scan. `bodies` are its graphs in the order of [`Op::bodies`].
pub(crate) fn run(
    op: &Op,
    bodies: &[Executable],
    inputs: Vec<Option<Value>>,
    cx: &RunCx<'_>,
) -> Result<Vec<Value>, Located> {
    match (op, bodies) {
        (Op::Loop(op), [body]) => run_loop(op, body, inputs, cx),
        (Op::Scan(op), [body]) => run_scan(op, body, inputs, cx),
        _ => Err(invalid!("{} is no loop", op.name()).into()),
    }
}

fn given(value: Option<Value>, i: usize) -> Result<Value, Reason> {
    value.ok_or_else(|| invalid!("input {i} is missing"))
}

fn all(inputs: Vec<Option<Value>>) -> Result<Vec<Value>, Reason> {
    inputs.into_iter().enumerate().map(|(i, v)| given(v, i)).collect()
}

/// One bool, whatever the rank of the tensor around it.
fn condition(value: &Value) -> Result<bool, Reason> {
    let t = value.as_tensor()?;
    match (t.dtype(), t.as_bytes()) {
        (DType::Bool, [b]) => Ok(*b != 0),
        _ => Err(invalid!("the condition is {t:?}, not one bool")),
    }
}

/// Which of its graphs an If runs, and what that is given.
pub(crate) fn branch(op: &If, inputs: Vec<Option<Value>>) -> Result<(usize, Vec<Value>), Reason> {
    let mut inputs = all(inputs)?;
    let captures = inputs.split_off(1.min(inputs.len()));
    let cond = condition(inputs.first().ok_or_else(|| invalid!("input 0 is missing"))?)?;
    let (mut first, split) = (captures, op.then_branch.inputs().len());
    if split > first.len() {
        return Err(invalid!("{} captures where {split} are needed", first.len()));
    }
    let second = first.split_off(split);
    Ok(if cond { (0, first) } else { (1, second) })
}

fn run_loop(
    op: &Loop,
    body: &Executable,
    mut inputs: Vec<Option<Value>>,
    cx: &RunCx<'_>,
) -> Result<Vec<Value>, Located> {
    if inputs.len() < 2 + op.state {
        return Err(invalid!("{} inputs where {} are needed", inputs.len(), 2 + op.state).into());
    }
    let captures = all(inputs.split_off(2 + op.state))?;
    let mut state = all(inputs.split_off(2))?;
    let trips = inputs[0].take().map(|v| trip_count(&v)).transpose()?;
    let mut cond = inputs[1].take().map(|v| condition(&v)).transpose()?.unwrap_or(true);
    let scans = op.body.outputs().len().saturating_sub(1 + op.state);
    let mut collected: Vec<Vec<Value>> = vec![Vec::new(); scans];
    let mut held = 0usize;
    if cond && never_false(&op.body) {
        check_trips(trips, cx.limits.loop_iterations)?;
    }
    let mut i = 0u64;
    while cond && trips.is_none_or(|n| (i as i128) < n as i128) {
        cx.check()?;
        if i >= cx.limits.loop_iterations {
            let limit = cx.limits.loop_iterations;
            return Err(Reason::over("a number of iterations", "more", limit).into());
        }
        let mut given = vec![Tensor::scalar(i as i64).into(), bool_scalar(cond)];
        given.append(&mut state);
        given.extend(captures.iter().cloned());
        let mut made = body.run(given, &cx.iteration(i))?;
        if made.len() < 1 + op.state + scans {
            return Err(invalid!("the body made {} outputs", made.len()).into());
        }
        for (j, value) in made.drain(1 + op.state..).enumerate() {
            held = held.saturating_add(value.byte_len().max(OVERHEAD));
            collected[j].push(value);
        }
        cx.check_memory(held)?;
        state = made.split_off(1);
        cond = condition(&made[0])?;
        i += 1;
    }
    for (j, values) in collected.into_iter().enumerate() {
        state.push(stack(&values, 0, &empty(&op.body, 1 + op.state + j)?)?);
    }
    Ok(state)
}

/// Bytes that a value takes besides its elements, about.
const OVERHEAD: usize = 256;

/// Iterations that no machine ends: at a nanosecond each they take two weeks.
const ENDLESS: i64 = 1 << 50;

/// Whether a body's condition, once true, stays true: it is a constant, or handed through.
fn never_false(body: &Graph) -> bool {
    let Some(&made) = body.outputs().first() else { return false };
    let mut v = made;
    while let Some(id) = body.producer(v) {
        let node = body.node(id);
        match (&node.op, node.inputs.first()) {
            (Op::Identity(_), Some(&Some(from))) => v = from,
            _ => return false,
        }
    }
    let truth = |t: &Tensor| t.dtype() == DType::Bool && t.as_bytes() == [1];
    body.inputs().get(1) == Some(&v) || body.tensor(v).is_some_and(truth)
}

/// `Err` if a Loop that only its trip count ends takes too many trips: waiting would not help.
fn check_trips(trips: Option<i64>, limit: u64) -> Result<(), Reason> {
    match trips {
        None => Err(Reason::new(
            Kind::Limit,
            "the loop never ends: it has no trip count, and its condition is always true",
        )),
        Some(n) if n > ENDLESS || u64::try_from(n).is_ok_and(|n| n > limit) => {
            let limit = limit.min(ENDLESS as u64);
            Err(Reason::over("a number of iterations", n, limit))
        }
        Some(_) => Ok(()),
    }
}

fn trip_count(value: &Value) -> Result<i64, Reason> {
    match value.as_tensor()?.to_ints().as_deref() {
        Some([n]) => Ok(*n),
        _ => Err(invalid!("the trip count is {value:?}, not one integer")),
    }
}

fn bool_scalar(b: bool) -> Value {
    Tensor::scalar(rinfer_graph::Bool::from(b)).into()
}

fn run_scan(
    op: &Scan,
    body: &Executable,
    inputs: Vec<Option<Value>>,
    cx: &RunCx<'_>,
) -> Result<Vec<Value>, Located> {
    let mut state = all(inputs)?;
    let scans_in = op.inputs.len();
    if state.len() < op.state + scans_in {
        return Err(
            invalid!("{} inputs where {} are needed", state.len(), op.state + scans_in).into()
        );
    }
    let captures = state.split_off(op.state + scans_in);
    let scanned = state.split_off(op.state);
    let mut steps = None;
    let mut axes = Vec::new();
    for (value, scan) in scanned.iter().zip(&op.inputs) {
        let shape = value.shape().ok_or_else(|| invalid!("a {} cannot be scanned", value.ty()))?;
        let axis = scan.axis.resolve(shape.len())?;
        match steps.replace(shape[axis]) {
            Some(n) if n != shape[axis] => {
                return Err(invalid!("scan inputs of {n} and {} steps", shape[axis]).into());
            }
            _ => axes.push(axis),
        }
    }
    let steps = steps.ok_or_else(|| invalid!("there is no scan input"))?;
    let mut collected: Vec<Vec<Value>> = vec![Vec::new(); op.outputs.len()];
    let mut held = 0usize;
    for i in 0..steps {
        cx.check()?;
        let mut given = std::mem::take(&mut state);
        for ((value, scan), &axis) in scanned.iter().zip(&op.inputs).zip(&axes) {
            given.push(slice_at(value, axis, if scan.reverse { steps - 1 - i } else { i })?);
        }
        given.extend(captures.iter().cloned());
        let mut made = body.run(given, &cx.iteration(i as u64))?;
        if made.len() != op.state + op.outputs.len() {
            return Err(invalid!("the body made {} outputs", made.len()).into());
        }
        for (list, value) in collected.iter_mut().zip(made.drain(op.state..)) {
            held = held.saturating_add(value.byte_len().max(OVERHEAD));
            list.push(value);
        }
        cx.check_memory(held)?;
        state = made;
    }
    for (j, mut values) in collected.into_iter().enumerate() {
        if op.outputs[j].reverse {
            values.reverse();
        }
        let empty = empty(&op.body, op.state + j)?;
        let axis = op.outputs[j].axis.resolve(empty.rank().unwrap_or(0) + 1);
        let axis = match values.first().and_then(Value::shape) {
            Some(shape) => op.outputs[j].axis.resolve(shape.len() + 1)?,
            None => axis?,
        };
        state.push(stack(&values, axis, &empty)?);
    }
    Ok(state)
}

/// What is known of a body's output: the shape of a stack of none of them.
fn empty(body: &Graph, output: usize) -> Result<Fact, Reason> {
    let v =
        body.outputs().get(output).ok_or_else(|| invalid!("the body has no output {output}"))?;
    Ok(body.fact(*v).clone())
}

/// Bytes, or strings, of equal-sized pieces around an axis: (outer, size of the axis, inner).
fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// The slice at index `i` of an axis; the axis is gone.
fn slice_at(value: &Value, axis: usize, i: usize) -> Result<Value, Reason> {
    let shape = value.shape().ok_or_else(|| invalid!("a {} has no axes", value.ty()))?;
    let (outer, n, inner) = around(shape, axis);
    let rest: Sizes = shape[..axis].iter().chain(&shape[axis + 1..]).copied().collect();
    match value {
        Value::Tensor(t) => {
            let width = t.dtype().size();
            if width == 0 {
                return Err(rinfer_graph::unsupported!("scanning {}", t.dtype()));
            }
            let mut slice = Tensor::try_zeros(t.dtype(), &rest)?;
            let (from, to) = (t.as_bytes(), slice.as_mut_bytes());
            for o in 0..outer {
                let at = (o * n + i) * inner * width;
                to[o * inner * width..][..inner * width]
                    .copy_from_slice(&from[at..][..inner * width]);
            }
            Ok(slice.into())
        }
        Value::Text(s) => {
            let pick = |o: usize| s.as_slice()[(o * n + i) * inner..][..inner].iter().cloned();
            Ok(Strings::new(&rest, (0..outer).flat_map(pick).collect())?.into())
        }
        other => Err(invalid!("a {} has no axes", other.ty())),
    }
}

/// Values of one shape side by side along a new axis; `empty` describes one, if there is none.
fn stack(values: &[Value], axis: usize, empty: &Fact) -> Result<Value, Reason> {
    let Some(first) = values.first() else { return none_stacked(empty, axis) };
    let shape = first.shape().ok_or_else(|| invalid!("a {} cannot be stacked", first.ty()))?;
    if let Some(odd) = values.iter().find(|v| v.ty() != first.ty() || v.shape() != Some(shape)) {
        return Err(invalid!("{:?} and {:?} cannot be stacked", shape, odd.shape()));
    }
    let mut out: Sizes = shape.into();
    out.insert(axis, values.len());
    let (outer, n, inner) = around(&out, axis);
    if let Value::Text(_) = first {
        let mut data = Vec::new();
        for o in 0..outer {
            for value in values {
                data.extend_from_slice(&value.as_text()?.as_slice()[o * inner..][..inner]);
            }
        }
        return Ok(Strings::new(&out, data)?.into());
    }
    let dtype = first.as_tensor()?.dtype();
    let width = dtype.size();
    if width == 0 {
        return Err(rinfer_graph::unsupported!("stacking {dtype}"));
    }
    let mut all = Tensor::try_zeros(dtype, &out)?;
    let to = all.as_mut_bytes();
    let run = inner * width;
    for (i, value) in values.iter().enumerate() {
        let from = value.as_tensor()?.as_bytes();
        for o in 0..outer {
            to[(o * n + i) * run..][..run].copy_from_slice(&from[o * run..][..run]);
        }
    }
    Ok(all.into())
}

/// A stack of no values: sizes that nothing tells are 0.
fn none_stacked(of: &Fact, axis: usize) -> Result<Value, Reason> {
    let Type::Tensor(dtype) = of.ty else {
        return Err(invalid!("a {} cannot be stacked", of.ty));
    };
    let dims = of.shape().unwrap_or(&[]);
    let mut sizes: Sizes = dims.iter().map(|d| Dim::size(d).unwrap_or(0)).collect();
    sizes.insert(axis.min(sizes.len()), 0);
    match dtype {
        DType::String => Ok(Strings::new(&sizes, Vec::new())?.into()),
        dtype => Ok(Tensor::try_zeros(dtype, &sizes)?.into()),
    }
}
