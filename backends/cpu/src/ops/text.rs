//! Moves over strings and over elements narrower than a byte, as moves of whole words.
//!
//! A kernel that only moves elements never looks at them. So strings are numbered, their numbers
//! moved as u64, and the numbers replaced by the strings again; packed elements are unpacked to
//! bytes, moved, and packed again. Number 0 is the empty string: what such a kernel fills up with
//! zeros becomes what ONNX fills up with.
use rinfer_graph::backend::RunCx;
use rinfer_graph::{DType, Fact, Facts, Kind, Reason, Strings, Tensor, Type, Value, invalid};

use super::compress::check_memory;
use crate::eval::run_kernel;
use crate::kernel::{Cx, Kernel, Run};

/// Compiles a node whose kernel only moves elements of the dtype of output 0, by `compile` for
/// types whose elements are whole words, and through one of them for the others.
pub(super) fn moves(
    cx: &Cx<'_>,
    compile: impl Fn(&Cx<'_>) -> Result<Kernel, Reason>,
) -> Result<Kernel, Reason> {
    moved(cx, &compile)
}

fn moved(
    cx: &Cx<'_>,
    compile: &dyn Fn(&Cx<'_>) -> Result<Kernel, Reason>,
) -> Result<Kernel, Reason> {
    let dtype = cx.outputs.first().ok_or_else(|| invalid!("no outputs"))?.dtype()?;
    if dtype.size() > 0 {
        return compile(cx);
    }
    let word = if dtype == DType::String { DType::U64 } else { DType::U8 };
    let stand_in = |fact: &Fact| match fact.ty == Type::Tensor(dtype) {
        true => Fact { ty: Type::Tensor(word), ..fact.clone().forget() },
        false => fact.clone(),
    };
    let inputs: Vec<Option<Fact>> = cx.inputs.iter().map(|f| f.map(stand_in)).collect();
    let outputs: Facts = cx.outputs.iter().map(stand_in).collect();
    let refs: Vec<Option<&Fact>> = inputs.iter().map(Option::as_ref).collect();
    let kernel = compile(&Cx { inputs: &refs, outputs: &outputs, ..*cx })?;
    if matches!(kernel.run, Run::View) {
        return Ok(kernel);
    }
    // What an element takes at least: a string its header, a packed one the byte it moves as.
    let bytes = if dtype == DType::String { size_of::<String>() } else { 1 };
    let moved: Vec<bool> = cx.outputs.iter().map(|f| f.ty == Type::Tensor(dtype)).collect();
    Ok(Kernel::values(move |inputs, cx| {
        let words = outputs.iter().try_fold(0usize, |n, f| n.checked_add(f.len().unwrap_or(0)));
        check_memory(words.and_then(|n| n.checked_mul(bytes)), cx)?;
        let mut table = vec![String::new()];
        let mut words = Vec::with_capacity(inputs.len());
        for v in inputs {
            words.push(match v {
                Some(v) => Some(encode(v, dtype, &mut table)?),
                None => None,
            });
        }
        let made = run_kernel(&kernel, &words, &outputs, cx)?;
        made.into_iter()
            .enumerate()
            .map(|(i, v)| match moved.get(i) {
                Some(true) => decode(v.as_tensor()?, dtype, &table, cx),
                _ => Ok(v),
            })
            .collect()
    }))
}

/// The value with whole words for elements, if it is of `dtype`.
fn encode(value: &Value, dtype: DType, table: &mut Vec<String>) -> Result<Value, Reason> {
    Ok(match value {
        Value::Text(strings) => {
            let numbers: Vec<u64> = (table.len() as u64..).take(strings.as_slice().len()).collect();
            table.extend_from_slice(strings.as_slice());
            Tensor::try_from_slice(strings.shape(), &numbers)?.into()
        }
        Value::Tensor(t) if t.dtype() == dtype => unpack(t)?.into(),
        other => other.clone(),
    })
}

/// The value whose elements the words stand for.
fn decode(words: &Tensor, dtype: DType, table: &[String], cx: &RunCx<'_>) -> Result<Value, Reason> {
    if dtype != DType::String {
        return Ok(pack(words, dtype)?.into());
    }
    let mut bytes = 0usize;
    let string = |&number: &u64| {
        let string = usize::try_from(number).ok().and_then(|n| table.get(n));
        let string = string.ok_or_else(|| invalid!("no string has the number {number}"))?;
        bytes = bytes.saturating_add(string.len() + size_of::<String>());
        match bytes <= cx.memory {
            true => Ok(string.clone()),
            false => Err(Reason::new(Kind::Limit, format!("more than {} bytes", cx.memory))),
        }
    };
    let strings = words.as_slice::<u64>().iter().map(string).collect::<Result<Vec<String>, _>>()?;
    Ok(Strings::new(words.shape(), strings)?.into())
}

/// The bits of elements narrower than a byte, one element to a byte.
pub(super) fn unpack(packed: &Tensor) -> Result<Tensor, Reason> {
    let bits = packed.dtype().bits();
    let mut out = Tensor::try_zeros(DType::U8, packed.shape())?;
    let mask = (1u8 << bits) - 1;
    for (out, byte) in out.as_mut_slice::<u8>().chunks_mut(8 / bits).zip(packed.as_bytes()) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = byte >> (i * bits) & mask;
        }
    }
    Ok(out)
}

/// The low bits of bytes, packed as `dtype`, which is narrower than a byte.
pub(super) fn pack(bytes: &Tensor, dtype: DType) -> Result<Tensor, Reason> {
    let bits = dtype.bits();
    let mut out = Tensor::try_zeros(dtype, bytes.shape())?;
    for (out, bytes) in out.as_mut_bytes().iter_mut().zip(bytes.as_slice::<u8>().chunks(8 / bits)) {
        *out = bytes.iter().enumerate().fold(0, |all, (i, byte)| all | byte << (i * bits));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;
    use rinfer_graph::ops::{Pad, PadMode, Transpose};

    #[test]
    fn strings_move_as_numbers_do() {
        let words = ["a", "b", "c", "d", "e", "f"].map(String::from).to_vec();
        let x = Value::Text(Strings::new(&[2, 3], words).unwrap());
        let y = run(Isa::best(), Transpose { perm: None }, &[x], 1).unwrap().remove(0);
        assert_eq!(y.shape(), Some(&[3, 2][..]));
        assert_eq!(y.as_text().unwrap().as_slice(), ["a", "d", "b", "e", "c", "f"]);
    }

    #[test]
    fn packed_elements_move_one_by_one() {
        for dtype in [DType::I4, DType::U2] {
            let x = Tensor::try_from_slice(&[2, 3], &[1u8, 2, 3, 0, 1, 2]).unwrap();
            let x = Value::Tensor(pack(&x, dtype).unwrap());
            let y = run(Isa::best(), Transpose { perm: None }, &[x], 1).unwrap().remove(0);
            let y = y.into_tensor().unwrap();
            assert_eq!(y.dtype(), dtype);
            assert_eq!(unpack(&y).unwrap().as_slice::<u8>(), [1, 0, 2, 1, 3, 2]);
        }
    }

    #[test]
    fn empty_strings_stand_around_strings() {
        let x = Value::Text(Strings::new(&[1], vec!["a".into()]).unwrap());
        let pads = Value::Tensor(Tensor::vector(&[1i64, 1]));
        let y = run(Isa::best(), Pad { mode: PadMode::Constant }, &[x, pads], 1).unwrap();
        assert_eq!(y[0].as_text().unwrap().as_slice(), ["", "a", ""]);
    }
}
