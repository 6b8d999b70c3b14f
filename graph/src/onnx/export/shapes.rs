//! Reshape, Flatten, Shape.

use super::node::{NodeOut, flag, int};
use crate::Reason;
use crate::ops::{Flatten, Reshape, Shape};

pub(super) fn reshape(op: &Reshape, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let attrs = if op.allowzero { vec![flag("allowzero", true)] } else { vec![] };
    out.plain("Reshape", attrs)
}

pub(super) fn flatten(op: &Flatten, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("Flatten", vec![int("axis", op.axis.0)])
}

pub(super) fn shape(op: &Shape, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![];
    if op.start != 0 {
        attrs.push(int("start", op.start));
    }
    attrs.extend(op.end.map(|end| int("end", end)));
    out.plain("Shape", attrs)
}
