//! Steps of compositions: what an importer says often when it builds one operator from others.

use super::{
    Axis, Binary, BinaryFn, Cast, Expand, Range, Reduce, ReduceKind, Reshape, Shape, Split,
    Squeeze, Transpose, Unary, UnaryFn, Unsqueeze, Where,
};
use crate::onnx::NodeCx;
use crate::{DType, Reason, ValueId};

impl NodeCx<'_> {
    /// f(a, b), broadcast.
    pub(super) fn binary(
        &mut self,
        f: BinaryFn,
        a: ValueId,
        b: ValueId,
    ) -> Result<ValueId, Reason> {
        self.push1(Binary(f), &[a, b])
    }

    /// a + b, or just a.
    pub(super) fn add_opt(&mut self, a: ValueId, b: Option<ValueId>) -> Result<ValueId, Reason> {
        b.map_or(Ok(a), |b| self.binary(BinaryFn::Add, a, b))
    }

    /// f(x)
    pub(super) fn unary(&mut self, f: UnaryFn, x: ValueId) -> Result<ValueId, Reason> {
        self.push1(Unary(f), &[x])
    }

    /// x in another dtype.
    pub(super) fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, Reason> {
        if self.dtype(x)? == to { Ok(x) } else { self.push1(Cast::to(to), &[x]) }
    }

    /// x in another shape; 0 copies a size, -1 is what remains.
    pub(super) fn reshape(&mut self, x: ValueId, shape: &[i64]) -> Result<ValueId, Reason> {
        let shape = self.constant_ints(shape);
        self.push1(Reshape { allowzero: false }, &[x, shape])
    }

    /// x with its axes in another order.
    pub(super) fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId, Reason> {
        self.push1(Transpose::new(perm), &[x])
    }

    /// The pieces of these sizes.
    pub(super) fn split(
        &mut self,
        x: ValueId,
        axis: i64,
        sizes: &[i64],
    ) -> Result<Vec<ValueId>, Reason> {
        let pieces = self.constant_ints(sizes);
        let op = Split { axis: Axis(axis), num_outputs: None };
        Ok(self.push_n(op, &[Some(x), Some(pieces)], sizes.len())?.to_vec())
    }

    /// The size of an axis counted from the front, as a vector of one element.
    pub(super) fn size_of(&mut self, x: ValueId, axis: i64) -> Result<ValueId, Reason> {
        self.push1(Shape { start: axis, end: Some(axis + 1) }, &[x])
    }

    /// x with axes of size 1 where `axes` says.
    pub(super) fn unsqueeze(&mut self, x: ValueId, axes: &[i64]) -> Result<ValueId, Reason> {
        let axes = self.constant_ints(axes);
        self.push1(Unsqueeze, &[x, axes])
    }

    /// x without these axes of size 1.
    pub(super) fn squeeze(&mut self, x: ValueId, axes: &[i64]) -> Result<ValueId, Reason> {
        let axes = self.constant_ints(axes);
        self.push1(Squeeze, &[x, axes])
    }

    /// 0, 1, .. up to a vector of one int64.
    pub(super) fn count_to(&mut self, n: ValueId) -> Result<ValueId, Reason> {
        let n = self.squeeze(n, &[0])?;
        let (zero, one) = (self.constant_int(0), self.constant_int(1));
        self.push1(Range, &[zero, n, one])
    }

    /// A scalar int64.
    pub(super) fn constant_int(&mut self, n: i64) -> ValueId {
        self.constant(crate::Tensor::scalar(n))
    }

    /// a where the condition holds, else b.
    pub(super) fn select(
        &mut self,
        condition: ValueId,
        [a, b]: [ValueId; 2],
    ) -> Result<ValueId, Reason> {
        self.push1(Where, &[condition, a, b])
    }

    /// x repeated to a shape.
    pub(super) fn expand(&mut self, x: ValueId, shape: ValueId) -> Result<ValueId, Reason> {
        self.push1(Expand, &[x, shape])
    }

    /// x folded over axes that stay with size 1.
    pub(super) fn fold(
        &mut self,
        kind: ReduceKind,
        x: ValueId,
        axes: &[i64],
    ) -> Result<ValueId, Reason> {
        let axes = self.constant_ints(axes);
        self.push1(Reduce { kind, keepdims: true, noop_with_empty_axes: true }, &[x, axes])
    }
}
