//! Sequences and optionals: the operators on them, and constants that are such.

use rinfer_onnx_proto as pb;

use super::node::{NodeOut, flag, int, type_attr};
use super::{GraphOut, type_proto};
use crate::ops::{Optional, Sequence};
use crate::{Reason, Type, Value, unsupported};

/// Writes nodes that make a constant which no initializer can be.
pub(super) fn constant(out: &mut GraphOut<'_>, name: &str, value: &Value) -> Result<(), Reason> {
    let (op, inputs, attribute) = match value {
        Value::Seq { of: Type::Tensor(dtype), items } if items.is_empty() => {
            ("SequenceEmpty", vec![], vec![int("dtype", dtype.to_onnx() as i64)])
        }
        Value::Seq { of: Type::Tensor(_), items } => {
            let mut inputs = Vec::new();
            for item in items.iter() {
                let element = out.shared.name("element");
                out.constant(&element, item)?;
                inputs.push(element);
            }
            ("SequenceConstruct", inputs, vec![])
        }
        Value::Optional { of, value: None } => {
            ("Optional", vec![], vec![type_attr("type", type_proto(of, None))])
        }
        Value::Optional { value: Some(value), .. } => {
            let element = out.shared.name("element");
            out.constant(&element, value)?;
            ("Optional", vec![element], vec![])
        }
        other => return Err(unsupported!("a constant {} cannot be written", other.ty())),
    };
    out.nodes.push(pb::NodeProto {
        input: inputs,
        output: vec![name.to_string()],
        op_type: Some(op.into()),
        attribute,
        ..Default::default()
    });
    Ok(())
}

pub(super) fn sequence(op: &Sequence, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    match op {
        Sequence::Construct => out.plain("SequenceConstruct", vec![]),
        Sequence::Empty(dtype) => {
            out.plain("SequenceEmpty", vec![int("dtype", dtype.to_onnx() as i64)])
        }
        Sequence::At => out.plain("SequenceAt", vec![]),
        Sequence::Insert => out.plain("SequenceInsert", vec![]),
        Sequence::Erase => out.plain("SequenceErase", vec![]),
        Sequence::Length => out.plain("SequenceLength", vec![]),
        Sequence::Concat { axis, stack } => {
            let attrs = vec![int("axis", axis.0), flag("new_axis", *stack)];
            out.plain("ConcatFromSequence", attrs)
        }
        Sequence::Split { axis, keepdims } => {
            out.plain("SplitToSequence", vec![int("axis", axis.0), flag("keepdims", *keepdims)])
        }
    }
}

pub(super) fn optional(op: &Optional, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    match op {
        Optional::Some => out.plain("Optional", vec![]),
        Optional::None(ty) => out.plain("Optional", vec![type_attr("type", type_proto(ty, None))]),
        Optional::GetElement => out.plain("OptionalGetElement", vec![]),
        Optional::HasElement => out.plain("OptionalHasElement", vec![]),
    }
}
