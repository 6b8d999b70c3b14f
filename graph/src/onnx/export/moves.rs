//! Operators that move elements: Transpose, Concat, Gather, Pad, Scatter and their kin.

use super::node::{Attrs, NodeOut, flag, int, ints, sizes, string};
use crate::ops::{
    BlocksTo, DepthOrder, EyeLike, Pad, PadMode, Reduction, SpaceDepth, Split, TensorScatter,
    Transpose,
};
use crate::{Op, Reason, unsupported};

/// Those that are one node with their attributes; `Err` for what nothing here can write.
pub(super) fn export(out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let axis = |axis: crate::ops::Axis| vec![int("axis", axis.0)];
    let reduction = |r: Reduction| string("reduction", reduction_name(r));
    let (name, attrs): (&str, Attrs) = match &out.node.op {
        Op::CenterCropPad(op) => {
            ("CenterCropPad", op.axes.iter().map(|axes| ints("axes", axes)).collect())
        }
        Op::Col2Im(op) => {
            let lists =
                [("dilations", &op.dilations), ("pads", &op.pads), ("strides", &op.strides)];
            let given = lists.iter().filter(|(_, list)| !list.is_empty());
            ("Col2Im", given.map(|(name, list)| ints(name, list)).collect())
        }
        Op::Compress(op) => ("Compress", op.axis.map_or(vec![], axis)),
        Op::Concat(op) => ("Concat", axis(op.axis)),
        Op::Expand(_) => ("Expand", vec![]),
        Op::Gather(op) => ("Gather", axis(op.axis)),
        Op::GatherElements(op) => ("GatherElements", axis(op.axis)),
        Op::GatherND(op) => ("GatherND", vec![int("batch_dims", op.batch_dims as i64)]),
        Op::NonMaxSuppression(op) => {
            ("NonMaxSuppression", vec![flag("center_point_box", op.center_point_box)])
        }
        Op::NonZero(_) => ("NonZero", vec![]),
        Op::OneHot(op) => ("OneHot", axis(op.axis)),
        Op::Range(_) => ("Range", vec![]),
        Op::ReverseSequence(op) => {
            let attrs = [("batch_axis", op.batch_axis), ("time_axis", op.time_axis)];
            ("ReverseSequence", attrs.iter().map(|(name, a)| int(name, a.0)).collect())
        }
        Op::ScatterElements(op) => {
            ("ScatterElements", vec![int("axis", op.axis.0), reduction(op.reduction)])
        }
        Op::ScatterND(op) => ("ScatterND", vec![reduction(op.reduction)]),
        Op::Slice(_) => ("Slice", vec![]),
        Op::Tile(_) => ("Tile", vec![]),
        Op::Trilu(op) => ("Trilu", vec![flag("upper", op.upper)]),
        Op::Unique(op) => {
            let mut attrs = op.axis.map_or(vec![], axis);
            attrs.push(flag("sorted", op.sorted));
            ("Unique", attrs)
        }
        op => return Err(unsupported!("{} cannot be written as ONNX", op.name())),
    };
    out.plain(name, attrs)
}

fn reduction_name(r: Reduction) -> &'static str {
    match r {
        Reduction::None => "none",
        Reduction::Add => "add",
        Reduction::Mul => "mul",
        Reduction::Max => "max",
        Reduction::Min => "min",
    }
}

pub(super) fn transpose(op: &Transpose, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.plain("Transpose", op.perm.iter().map(|perm| sizes("perm", perm)).collect())
}

pub(super) fn split(op: &Split, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![int("axis", op.axis.0)];
    if !out.has(1) {
        let n = op.num_outputs.unwrap_or(out.node.outputs.len());
        attrs.push(int("num_outputs", n as i64));
    }
    out.plain("Split", attrs)
}

pub(super) fn pad(op: &Pad, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mode = match op.mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
        PadMode::Wrap => "wrap",
    };
    out.plain("Pad", vec![string("mode", mode)])
}

pub(super) fn eye_like(op: &EyeLike, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![int("k", op.k)];
    attrs.extend(op.dtype.map(|d| int("dtype", d.to_onnx() as i64)));
    out.plain("EyeLike", attrs)
}

pub(super) fn tensor_scatter(op: &TensorScatter, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.need(24);
    let mode = if op.circular { "circular" } else { "linear" };
    out.plain("TensorScatter", vec![int("axis", op.axis.0), string("mode", mode)])
}

pub(super) fn space_depth(op: &SpaceDepth, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mut attrs = vec![int("blocksize", op.blocksize as i64)];
    let mode = match op.order {
        DepthOrder::BlockFirst => "DCR",
        DepthOrder::ChannelFirst => "CRD",
    };
    match op.to {
        BlocksTo::Space => {
            attrs.push(string("mode", mode));
            out.plain("DepthToSpace", attrs)
        }
        BlocksTo::Depth => {
            if op.order == DepthOrder::ChannelFirst {
                out.need(28);
                attrs.push(string("mode", mode));
            }
            out.plain("SpaceToDepth", attrs)
        }
    }
}
