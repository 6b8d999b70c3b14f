//! WordConvEmbedding: a vector for each word, from its characters.
//!
//! ids [words, length] int32, w [f, 1, k, e], b [f], table [characters, e]  →  y [words, f]
//!
//! y = max of tanh(conv(table[ids], w) + b) over the windows of k characters within the word. It
//! has as many characters as ids above 0, and k if there are fewer. Of a word without any, ONNX
//! Runtime leaves y as it found the memory; here it is that of the window over its first k ids.

use super::super::{Axis, BinaryFn, Conv, Gather, ReduceKind, UnaryFn, Window};
use super::heads;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Reason, Tensor, invalid};

pub(in super::super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(4, 4)?;
    let (ids, w, b, table) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?);
    let k = heads::known(cx, w, 2, "the window")?;
    let sizes =
        [("embedding_size", w, 0), ("conv_window_size", w, 2), ("char_embedding_size", w, 3)];
    for (name, v, axis) in sizes {
        let found = heads::known(cx, v, axis, "the weights")?;
        if let Some(said) = cx.int(name)?
            && said != found
        {
            return Err(invalid!("{name} is {said}, the weights have {found}"));
        }
    }
    let ids = cx.cast(ids, DType::I64)?;
    let characters = cx.push1(Gather { axis: Axis(0) }, &[table, ids])?;
    let image = cx.unsqueeze(characters, &[1])?;
    let conv = Conv { window: Window::default(), group: 1, activation: None };
    let y = cx.push1(conv, &[image, w, b])?;
    let y = cx.squeeze(y, &[3])?;
    let y = cx.unary(UnaryFn::Tanh, y)?;
    // The last window within each word, [words, 1, 1].
    let zero = cx.constant_int(0);
    let some = cx.binary(BinaryFn::Greater, ids, zero)?;
    let some = cx.cast(some, DType::I64)?;
    let count = cx.fold(ReduceKind::Sum, some, &[1])?;
    let k = cx.constant_int(k);
    let last = cx.binary(BinaryFn::Sub, count, k)?;
    let last = cx.binary(BinaryFn::Max, last, zero)?;
    let last = cx.unsqueeze(last, &[2])?;
    let windows = cx.size_of(y, 2)?;
    let windows = cx.count_to(windows)?;
    let inside = cx.binary(BinaryFn::LessOrEqual, windows, last)?;
    let outside = cx.constant(Tensor::scalar(f32::NEG_INFINITY));
    let y = cx.select(inside, [y, outside])?;
    let y = cx.fold(ReduceKind::Max, y, &[2])?;
    let y = cx.squeeze(y, &[2])?;
    cx.done(y)
}
