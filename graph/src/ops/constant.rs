//! Constant: a value in the model. It becomes a known value of the graph, not a node.
use crate::onnx::{NodeCx, Outputs};
use crate::{Reason, Strings, Tensor, Value, invalid};

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let value = if let Some(value) = cx.tensor("value")? {
        value
    } else if let Some(value) = cx.sparse_tensor("sparse_value")? {
        value
    } else if let Some(x) = cx.float("value_float")? {
        Tensor::scalar(x).into()
    } else if let Some(x) = cx.floats("value_floats")? {
        Tensor::vector(&x).into()
    } else if let Some(x) = cx.int("value_int")? {
        Tensor::scalar(x).into()
    } else if let Some(x) = cx.ints("value_ints")? {
        Tensor::vector(&x).into()
    } else if let Some(x) = cx.string("value_string")? {
        Value::Text(Strings::new(&[], vec![x.to_string()])?)
    } else if let Some(x) = cx.strings("value_strings")? {
        Value::Text(Strings::new(&[x.len()], x)?)
    } else {
        return Err(invalid!("the constant has no value"));
    };
    let v = cx.constant_value(&value);
    cx.done(v)
}
