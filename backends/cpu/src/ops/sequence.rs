//! Sequences: elements are shared, never copied; Concat and Split copy runs along an axis.
use rinfer_graph::ops::{Axis, Sequence};
use rinfer_graph::shape::Sizes;
use rinfer_graph::{DType, Reason, Strings, Tensor, Type, Value, invalid, unsupported};

use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &Sequence, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let op = op.clone();
    let element = match cx.outputs.first().map(|fact| &fact.ty) {
        Some(Type::Sequence(of)) => Some((**of).clone()),
        _ => None,
    };
    Ok(Kernel::values(move |inputs, _| {
        let get = |i: usize| {
            let input = inputs.get(i).and_then(Option::as_ref);
            input.ok_or_else(|| invalid!("input {i} is missing"))
        };
        let at = |i: usize| inputs.get(i).and_then(Option::as_ref).map(position).transpose();
        let same = |x: &Value, of: &Type| match x.ty() == *of {
            true => Ok(()),
            false => Err(invalid!("a {} in a sequence of {of}", x.ty())),
        };
        let y = match &op {
            Sequence::Construct => {
                let items = (0..inputs.len()).map(|i| get(i).cloned()).collect::<Result<_, _>>()?;
                Value::sequence(get(0)?.ty(), items)
            }
            Sequence::Empty(dtype) => Value::sequence(Type::Tensor(*dtype), Vec::new()),
            Sequence::At => {
                let items = get(0)?.as_sequence()?;
                let p = at(1)?.ok_or_else(|| invalid!("input 1 is missing"))?;
                items[resolve(p, items.len(), items.len())?].clone()
            }
            Sequence::Insert => {
                let (s, x) = (get(0)?, get(1)?);
                let Value::Seq { of, items } = s else {
                    return Err(invalid!("a {} where a sequence is expected", s.ty()));
                };
                same(x, of)?;
                let n = items.len();
                let p = at(2)?.map_or(Ok(n), |p| resolve(p, n, n + 1))?;
                let mut made = Vec::with_capacity(n + 1);
                made.extend_from_slice(&items[..p]);
                made.push(x.clone());
                made.extend_from_slice(&items[p..]);
                Value::sequence(of.clone(), made)
            }
            Sequence::Erase => {
                let s = get(0)?;
                let items = s.as_sequence()?;
                let p = resolve(at(1)?.unwrap_or(-1), items.len(), items.len())?;
                let mut made = items.to_vec();
                made.remove(p);
                let of = element.clone().ok_or_else(|| invalid!("the sequence has no type"))?;
                Value::sequence(of, made)
            }
            Sequence::Length => {
                Tensor::scalar(i64::try_from(get(0)?.as_sequence()?.len()).unwrap_or(i64::MAX))
                    .into()
            }
            Sequence::Concat { axis, stack } => join(get(0)?.as_sequence()?, *axis, *stack)?,
            Sequence::Split { axis, keepdims } => {
                let split = inputs.get(1).and_then(Option::as_ref);
                let items = cut(get(0)?, split, *axis, *keepdims)?;
                Value::sequence(get(0)?.ty(), items)
            }
        };
        Ok(vec![y])
    }))
}

/// The integer that says where.
fn position(v: &Value) -> Result<i64, Reason> {
    let ints = v.as_tensor()?.to_ints();
    match ints.as_deref() {
        Some(&[p]) => Ok(p),
        _ => Err(invalid!("the position is not one integer")),
    }
}

/// Position `p` of a sequence of `n`, below `end`.
fn resolve(p: i64, n: usize, end: usize) -> Result<usize, Reason> {
    let at = if p < 0 { p.checked_add(n as i64) } else { Some(p) };
    at.and_then(|at| usize::try_from(at).ok())
        .filter(|&at| at < end)
        .ok_or_else(|| invalid!("position {p} is out of range for a sequence of {n}"))
}

fn shape(x: &Value) -> Result<&[usize], Reason> {
    x.shape().ok_or_else(|| invalid!("a {} where a tensor is expected", x.ty()))
}

/// The elements joined along an axis, a new one if `stack`.
fn join(items: &[Value], axis: Axis, stack: bool) -> Result<Value, Reason> {
    let first = items.first().ok_or_else(|| invalid!("an empty sequence cannot be joined"))?;
    let mut sizes = Sizes::from(shape(first)?);
    let axis = match stack {
        true => axis.resolve(sizes.len() + 1)?,
        false => axis.resolve(sizes.len())?,
    };
    let mut n = 0usize;
    for item in items {
        let other = shape(item)?;
        let fits = other.len() == sizes.len()
            && (0..sizes.len()).all(|i| other[i] == sizes[i] || (i == axis && !stack));
        if !fits {
            return Err(invalid!("{:?} and {other:?} cannot be joined", &sizes[..]));
        }
        n = n.saturating_add(if stack { 1 } else { other[axis] });
    }
    let inner: usize = sizes[axis + usize::from(!stack)..].iter().product();
    let outer: usize = sizes[..axis].iter().product();
    let run = |item: &Value| match (stack, item.shape()) {
        (false, Some(s)) => s[axis] * inner,
        _ => inner,
    };
    match stack {
        true => sizes.insert(axis, n),
        false => sizes[axis] = n,
    }
    if let Value::Text(_) = first {
        let mut made = Vec::new();
        for o in 0..outer {
            for item in items {
                made.extend_from_slice(&item.as_text()?.as_slice()[o * run(item)..][..run(item)]);
            }
        }
        return Ok(Value::Text(Strings::new(&sizes, made)?));
    }
    let dtype = first.as_tensor()?.dtype();
    let width = width(dtype)?;
    let mut y = Tensor::try_zeros(dtype, &sizes)?;
    let mut rest = y.as_mut_bytes();
    for o in 0..outer {
        for item in items {
            let x = item.as_tensor()?;
            if x.dtype() != dtype {
                return Err(invalid!("{dtype} and {} cannot be joined", x.dtype()));
            }
            let bytes = run(item) * width;
            let (now, later) = rest.split_at_mut(bytes);
            now.copy_from_slice(&x.as_bytes()[o * bytes..][..bytes]);
            rest = later;
        }
    }
    Ok(y.into())
}

fn width(dtype: DType) -> Result<usize, Reason> {
    match dtype.size() {
        0 => Err(unsupported!("sequences of {dtype} are not cut or joined")),
        width => Ok(width),
    }
}

/// The pieces of `x` along an axis.
fn cut(x: &Value, split: Option<&Value>, axis: Axis, keepdims: bool) -> Result<Vec<Value>, Reason> {
    let sizes = Sizes::from(shape(x)?);
    let axis = axis.resolve(sizes.len())?;
    let lens = pieces(sizes[axis], split)?;
    let inner: usize = sizes[axis + 1..].iter().product();
    let outer: usize = sizes[..axis].iter().product();
    let row = sizes[axis] * inner;
    let mut start = 0;
    let mut made = Vec::with_capacity(lens.len());
    for len in lens {
        let mut out = sizes.clone();
        out[axis] = len;
        if !keepdims {
            out.remove(axis);
        }
        let (from, run) = (start * inner, len * inner);
        made.push(match x {
            Value::Text(s) => {
                let rows = (0..outer).flat_map(|o| &s.as_slice()[o * row + from..][..run]);
                Value::Text(Strings::new(&out, rows.cloned().collect())?)
            }
            x => {
                let x = x.as_tensor()?;
                let width = width(x.dtype())?;
                let mut y = Tensor::try_zeros(x.dtype(), &out)?;
                let (src, bytes) = (x.as_bytes(), run * width);
                for (o, y) in y.as_mut_bytes().chunks_exact_mut(bytes.max(1)).enumerate() {
                    y.copy_from_slice(&src[(o * row + from) * width..][..bytes]);
                }
                y.into()
            }
        });
        start += len;
    }
    Ok(made)
}

/// The sizes of the pieces of an axis of size `n`.
fn pieces(n: usize, split: Option<&Value>) -> Result<Vec<usize>, Reason> {
    let Some(split) = split else { return Ok(vec![1; n]) };
    let split = split.as_tensor()?;
    let ints = split.to_ints().ok_or_else(|| invalid!("pieces of size {}", split.dtype()))?;
    if split.rank() == 0 {
        let size = usize::try_from(ints[0]).ok().filter(|&size| size > 0);
        let size = size.ok_or_else(|| invalid!("pieces of size {}", ints[0]))?;
        return Ok((0..n).step_by(size).map(|at| size.min(n - at)).collect());
    }
    let lens: Option<Vec<usize>> = ints.iter().map(|&len| usize::try_from(len).ok()).collect();
    let lens = lens.ok_or_else(|| invalid!("pieces of sizes {:?}", &ints[..]))?;
    match lens.iter().try_fold(0usize, |sum, &len| sum.checked_add(len)) {
        Some(sum) if sum == n => Ok(lens),
        _ => Err(invalid!("pieces of sizes {lens:?} of an axis of size {n}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;

    fn eval(op: Sequence, inputs: &[Value]) -> Result<Value, Reason> {
        run(Isa::available()[0], op, inputs, 1).map(|mut y| y.remove(0))
    }

    fn ints(xs: &[i64]) -> Value {
        Tensor::vector(xs).into()
    }

    fn at(p: i64) -> Value {
        Tensor::scalar(p).into()
    }

    fn abc() -> Value {
        eval(Sequence::Construct, &[ints(&[1]), ints(&[2, 2]), ints(&[3])]).unwrap()
    }

    #[test]
    fn negative_positions_count_from_the_end() {
        assert_eq!(eval(Sequence::At, &[abc(), at(-1)]).unwrap(), ints(&[3]));
        assert_eq!(eval(Sequence::At, &[abc(), at(0)]).unwrap(), ints(&[1]));
        assert!(eval(Sequence::At, &[abc(), at(3)]).is_err());
        assert!(eval(Sequence::At, &[abc(), at(-4)]).is_err());
    }

    #[test]
    fn insert_goes_before_the_position_or_to_the_end() {
        let s = eval(Sequence::Insert, &[abc(), ints(&[9]), at(-3)]).unwrap();
        assert_eq!(s.as_sequence().unwrap()[0], ints(&[9]));
        let s = eval(Sequence::Insert, &[abc(), ints(&[9])]).unwrap();
        assert_eq!(s.as_sequence().unwrap()[3], ints(&[9]));
        assert!(eval(Sequence::Insert, &[abc(), ints(&[9]), at(4)]).is_err());
    }

    #[test]
    fn erase_without_a_position_drops_the_last() {
        let s = eval(Sequence::Erase, &[abc()]).unwrap();
        assert_eq!(s.as_sequence().unwrap(), [ints(&[1]), ints(&[2, 2])]);
        let empty = eval(Sequence::Empty(DType::I64), &[]).unwrap();
        assert_eq!(eval(Sequence::Length, &[empty.clone()]).unwrap(), at(0));
        assert!(eval(Sequence::Erase, &[empty]).is_err());
    }

    #[test]
    fn the_last_piece_may_be_smaller() {
        let x = Value::from(Tensor::from_slice(&[2, 3], &[1f32, 2., 3., 4., 5., 6.]));
        let split = Sequence::Split { axis: Axis(-1), keepdims: true };
        let s = eval(split.clone(), &[x.clone(), at(2)]).unwrap();
        let want = [
            Tensor::from_slice(&[2, 2], &[1f32, 2., 4., 5.]).into(),
            Tensor::from_slice(&[2, 1], &[3f32, 6.]).into(),
        ];
        assert_eq!(s.as_sequence().unwrap(), want);
        assert!(eval(split.clone(), &[x.clone(), at(0)]).is_err());
        assert!(eval(split.clone(), &[x.clone(), ints(&[1, 1])]).is_err());
        let back = eval(Sequence::Concat { axis: Axis(1), stack: false }, &[s]).unwrap();
        assert_eq!(back, x);
    }

    #[test]
    fn rows_of_strings_split_and_stack() {
        let text: Vec<String> = ["a", "b", "c", "d"].map(String::from).into();
        let x = Value::Text(Strings::new(&[2, 2], text).unwrap());
        let s = eval(Sequence::Split { axis: Axis(1), keepdims: false }, &[x.clone()]).unwrap();
        assert_eq!(s.as_sequence().unwrap()[1].as_text().unwrap().as_slice(), ["b", "d"]);
        let y = eval(Sequence::Concat { axis: Axis(1), stack: true }, &[s]).unwrap();
        assert_eq!(y, x);
    }

    #[test]
    fn what_differs_off_the_axis_cannot_be_joined() {
        assert!(eval(Sequence::Concat { axis: Axis(0), stack: true }, &[abc()]).is_err());
        let y = eval(Sequence::Concat { axis: Axis(0), stack: false }, &[abc()]).unwrap();
        assert_eq!(y, ints(&[1, 2, 2, 3]));
    }
}
