//! Slice: every `step`-th element from `start` up to but without `end`, along some axes.
//!
//! y[…, i, …] = x[…, start + i · step, …], 0 ≤ i < ⌈(end - start) / step⌉, both ends clamped
use smallvec::SmallVec;

use super::{Inputs, one, resolve_axes};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{Dim, Fact, Facts, Reason, invalid};

/// x, starts, ends, axes (optional), steps (optional) → y. Negative starts and ends count from the
/// end, negative steps walk backwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice;

/// What a slice takes of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The axis.
    pub axis: usize,
    /// The first index that is taken; 0 if none is.
    pub start: usize,
    /// From one index to the next.
    pub step: i64,
    /// How many are taken.
    pub len: usize,
}

/// Ends at least this large mean the end of the axis: exporters write the largest int32 or int64.
const FAR: i64 = i32::MAX as i64;

impl Slice {
    /// What is taken of an axis of `size` elements.
    pub fn cut(axis: usize, size: usize, start: i64, end: i64, step: i64) -> Result<Cut, Reason> {
        if step == 0 {
            return Err(invalid!("step 0 along axis {axis}"));
        }
        let n = i64::try_from(size).map_err(|_| invalid!("axis {axis} has size {size}"))?;
        let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        // Backwards the walk begins at the last element at the latest, and ends before the first.
        let (lo, hi) = if step > 0 { (0, n) } else { (-1, n - 1) };
        let start = from_end(start).clamp(if step > 0 { 0 } else { 0.min(hi) }, hi);
        let end = from_end(end).clamp(lo, hi);
        let distance = if step > 0 { end - start } else { start - end }.max(0) as u64;
        let len = distance.div_ceil(step.unsigned_abs());
        Ok(Cut { axis, start: if len == 0 { 0 } else { start as usize }, step, len: len as usize })
    }

    /// The cuts of a tensor with these sizes, from the facts of the inputs (by number; `None` if
    /// omitted); `Err` if the content of one is not known.
    pub fn cuts<'a>(
        sizes: &[usize],
        input: &dyn Fn(usize) -> Option<&'a Fact>,
    ) -> Result<SmallVec<[Cut; 4]>, Reason> {
        let ints = |i: usize| match input(i) {
            None => Ok(None),
            Some(fact) => {
                let ints = fact.ints();
                ints.map(Some).ok_or_else(|| invalid!("the content of input {i} is not known"))
            }
        };
        let missing = || invalid!("the starts or ends of the slice are missing");
        let (starts, ends) = (ints(1)?.ok_or_else(missing)?, ints(2)?.ok_or_else(missing)?);
        let axes = ints(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = ints(4)?.unwrap_or_else(|| SmallVec::from_elem(1, starts.len()));
        check_lengths(&[starts.len(), ends.len(), axes.len(), steps.len()])?;
        let axes = resolve_axes(&axes, sizes.len())?;
        (0..axes.len())
            .map(|i| Slice::cut(axes[i], sizes[axes[i]], starts[i], ends[i], steps[i]))
            .collect()
    }

    /// The shape, of which only unknown sizes may stay unknown.
    fn shape(inputs: &Inputs<'_>, shape: &[Dim]) -> Result<Shape, Reason> {
        let mut out: Shape = shape.into();
        let all = |i: usize| inputs.opt(i).map(|f| f.dims());
        let count = [1, 2, 3, 4].into_iter().find_map(|i| inputs.opt(i)?.len());
        let (Some(count), Some(axes)) = (
            count,
            match all(3) {
                None => count.map(|n| (0..n as i64).map(Dim::N).collect::<SmallVec<[Dim; 4]>>()),
                Some(axes) => axes,
            },
        ) else {
            return Ok(SmallVec::from_elem(Dim::Unknown, shape.len()));
        };
        let or_unknown = |i: usize| match all(i) {
            Some(Some(dims)) => dims,
            None if i == 4 => SmallVec::from_elem(Dim::N(1), count),
            _ => SmallVec::from_elem(Dim::Unknown, count),
        };
        let (starts, ends, steps) = (or_unknown(1), or_unknown(2), or_unknown(4));
        check_lengths(&[axes.len(), starts.len(), ends.len(), steps.len()])?;
        let Some(axes) = axes.iter().map(Dim::value).collect::<Option<SmallVec<[i64; 4]>>>() else {
            return Ok(SmallVec::from_elem(Dim::Unknown, shape.len()));
        };
        let axes = resolve_axes(&axes, shape.len())?;
        for (i, &axis) in axes.iter().enumerate() {
            out[axis] = cut_dim(axis, &shape[axis], &starts[i], &ends[i], &steps[i])?;
        }
        Ok(out)
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        inputs.get(1)?;
        inputs.get(2)?;
        let Some(shape) = x.shape() else { return one(Fact::unranked(x.dtype()?)) };
        let out = Slice::shape(inputs, shape)?;
        if shape.len() == 1
            && let Some(elements) = x.elements()
            && let Ok(cuts) = Slice::cuts(&[elements.len()], &|i| inputs.opt(i))
        {
            let Some(cut) = cuts.first() else { return one(x.clone()) };
            let at = |i: usize| (cut.start as i64 + i as i64 * cut.step) as usize;
            return one(Fact::of_dims(
                (0..cut.len).map(|i| elements[at(i)].clone()).collect(),
                false,
            ));
        }
        one(Fact::new(x.dtype()?, out))
    }
}

fn check_lengths(lengths: &[usize]) -> Result<(), Reason> {
    match lengths.iter().all(|&n| n == lengths[0]) {
        true => Ok(()),
        false => Err(invalid!("starts, ends, axes and steps have {lengths:?} elements")),
    }
}

/// The size of what is taken of an axis of size `size`.
fn cut_dim(axis: usize, size: &Dim, start: &Dim, end: &Dim, step: &Dim) -> Result<Dim, Reason> {
    if step.is(0) {
        return Err(invalid!("step 0 along axis {axis}"));
    }
    if let (Some(n), Some(start), Some(end), Some(step)) =
        (size.size(), start.value(), end.value(), step.value())
    {
        return Ok(Dim::from(Slice::cut(axis, n, start, end, step)?.len));
    }
    if step.is(-1) && start.is(-1) && end.value().is_some_and(|n| n <= -FAR) {
        return Ok(size.clone());
    }
    let (true, Some(start), Some(end)) = (step.is(1), place(start, size), place(end, size)) else {
        return Ok(Dim::Unknown);
    };
    let len = end.sub(&start);
    Ok(if len.is_size() {
        len
    } else if start.sub(&end).is_size() {
        Dim::N(0)
    } else {
        Dim::Unknown
    })
}

/// Where `at` lies in an axis, between 0 and `size`, if that is certain.
fn place(at: &Dim, size: &Dim) -> Option<Dim> {
    if at.value().is_some_and(|n| n >= FAR) {
        return Some(size.clone());
    }
    let at = if at.value().is_some_and(|n| n < 0) { size.add(at) } else { at.clone() };
    (at.is_size() && (at.is(0) || size.sub(&at).is_size())).then_some(at)
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    if cx.version < 10 {
        let (starts, ends) = (cx.ints("starts")?, cx.ints("ends")?);
        let missing = || invalid!("attribute starts or ends is missing");
        let (starts, ends) = (starts.ok_or_else(missing)?, ends.ok_or_else(missing)?);
        for (i, values) in [(1, starts), (2, ends)] {
            let v = cx.constant_ints(&values);
            cx.set_input(i, v);
        }
        cx.attr_to_input("axes", 3)?;
    }
    cx.check_inputs(3, 5)?;
    cx.emit(Slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::shape::show;

    fn cut(size: usize, start: i64, end: i64, step: i64) -> (usize, usize) {
        let cut = Slice::cut(0, size, start, end, step).unwrap();
        (cut.start, cut.len)
    }

    #[test]
    fn ends_beyond_the_axis_are_clamped() {
        assert_eq!(cut(5, 1, i64::MAX, 1), (1, 4));
        assert_eq!(cut(5, i64::MIN, i64::MAX, 2), (0, 3));
        assert_eq!(cut(5, -2, 100, 1), (3, 2));
        assert_eq!(cut(5, 4, 2, 1), (0, 0));
        assert_eq!(cut(0, 0, 10, 1), (0, 0));
    }

    #[test]
    fn negative_steps_walk_backwards() {
        assert_eq!(cut(5, -1, i64::MIN, -1), (4, 5));
        assert_eq!(cut(5, i64::MAX, i64::MIN, -2), (4, 3));
        assert_eq!(cut(5, 3, 0, -1), (3, 3));
        assert_eq!(cut(5, 0, -6, i64::MIN), (0, 1));
        assert_eq!(cut(0, -1, i64::MIN, -1), (0, 0));
        assert_eq!(cut(5, -10, i64::MIN, -1), (0, 1));
    }

    fn size(size: &Dim, start: &Dim, end: &Dim) -> String {
        show(&[cut_dim(0, size, start, end, &Dim::N(1)).unwrap()])
    }

    #[test]
    fn symbols_are_cut_where_the_result_is_certain() {
        let (n, m) = (Dim::symbol("n"), Dim::symbol("m"));
        let far = Dim::N(i64::MAX);
        assert_eq!(size(&n, &Dim::N(0), &far), "[n]");
        assert_eq!(size(&n, &Dim::N(1), &far), "[?]");
        assert_eq!(size(&n.add(&Dim::N(1)), &Dim::N(1), &far), "[n]");
        assert_eq!(size(&n.add(&m), &n, &far), "[m]");
        assert_eq!(size(&n, &Dim::N(0), &n), "[n]");
        assert_eq!(size(&Dim::N(8), &Dim::N(0), &n), "[?]");
    }

    #[test]
    fn a_slice_of_a_shape_is_known() {
        let x = Fact::of_dims(vec![Dim::symbol("n"), Dim::N(3), Dim::N(4)], false);
        let ints = |v: &[i64]| Fact::constant(Tensor::vector(v));
        let (starts, ends) = (ints(&[0]), ints(&[2]));
        let out = Slice.infer(&Inputs::new(&[Some(&x), Some(&starts), Some(&ends)], 1)).unwrap();
        assert_eq!(out[0].to_string(), "int64[2] = [n, 3]");
    }
}
