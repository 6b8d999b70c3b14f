//! `TensorProto` and its relatives to values and back.

use bytes::Bytes;
use half::{bf16, f16};
use rinfer_onnx_proto as pb;

use super::external::{self, ExternalData};
use crate::shape::{Sizes, count};
use crate::tensor::size_in_bytes;
use crate::{DType, Reason, Strings, Tensor, Type, Value, invalid, unsupported};

/// The dtype with ONNX's number.
pub(crate) fn dtype(number: i32) -> Result<DType, Reason> {
    DType::from_onnx(number).ok_or_else(|| unsupported!("element type {number} is not supported"))
}

fn sizes(dims: &[i64]) -> Result<Sizes, Reason> {
    dims.iter()
        .map(|&d| usize::try_from(d).map_err(|_| invalid!("a tensor of shape {dims:?}")))
        .collect()
}

/// The value of a `TensorProto`: a tensor, or strings. Raw data is not copied.
pub fn tensor(t: &pb::TensorProto, source: &dyn ExternalData) -> Result<Value, Reason> {
    let dtype = dtype(t.data_type())?;
    let shape = sizes(&t.dims)?;
    if t.segment.is_some() {
        return Err(unsupported!("a tensor stored in segments"));
    }
    let external = t.data_location() == pb::tensor_proto::DataLocation::External;
    if dtype == DType::String {
        if external || t.raw_data.is_some() {
            return Err(invalid!("strings in raw or external data"));
        }
        let text = |b: &Bytes| {
            String::from_utf8(b.to_vec()).map_err(|_| invalid!("a string that is not UTF-8"))
        };
        let data = t.string_data.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        return Ok(Value::Text(Strings::new(&shape, data)?));
    }
    if external {
        let bytes = external::read(t, source, size_in_bytes(dtype, &shape)?)?;
        return Ok(Value::Tensor(Tensor::from_bytes(dtype, &shape, bytes)?));
    }
    if let Some(raw) = &t.raw_data {
        return Ok(Value::Tensor(Tensor::from_bytes(dtype, &shape, raw.clone())?));
    }
    typed_data(t, dtype, &shape).map(Value::Tensor)
}

/// Elements in the `float_data`, `int32_data`, … fields.
fn typed_data(t: &pb::TensorProto, dtype: DType, shape: &[usize]) -> Result<Tensor, Reason> {
    use DType::*;
    let len = count(shape).ok_or_else(|| invalid!("a tensor of shape {shape:?}"))?;
    let check = |have: usize, want: usize| match have == want {
        true => Ok(()),
        false => Err(invalid!("{have} elements of data for a {dtype} tensor of shape {shape:?}")),
    };
    // A size that the data does not back must not allocate: compare before anything is made.
    macro_rules! ints {
        ($T:ty) => {{
            check(t.int32_data.len(), len)?;
            Tensor::try_from_slice(
                shape,
                &t.int32_data.iter().map(|&x| x as $T).collect::<Vec<_>>(),
            )
        }};
    }
    match dtype {
        F32 | C64 => {
            check(t.float_data.len(), len.saturating_mul(dtype.size() / 4))?;
            Tensor::try_from_slice(&[t.float_data.len()], &t.float_data)?.recast(dtype, shape)
        }
        F64 | C128 => {
            check(t.double_data.len(), len.saturating_mul(dtype.size() / 8))?;
            Tensor::try_from_slice(&[t.double_data.len()], &t.double_data)?.recast(dtype, shape)
        }
        I64 => {
            check(t.int64_data.len(), len)?;
            Tensor::try_from_slice(shape, &t.int64_data)
        }
        U64 => {
            check(t.uint64_data.len(), len)?;
            Tensor::try_from_slice(shape, &t.uint64_data)
        }
        U32 => {
            check(t.uint64_data.len(), len)?;
            Tensor::try_from_slice(
                shape,
                &t.uint64_data.iter().map(|&x| x as u32).collect::<Vec<_>>(),
            )
        }
        I32 => {
            check(t.int32_data.len(), len)?;
            Tensor::try_from_slice(shape, &t.int32_data)
        }
        I16 => ints!(i16),
        U16 => ints!(u16),
        F16 | BF16 => ints!(u16)?.recast(dtype, shape),
        I8 => ints!(i8),
        U8 => ints!(u8),
        Bool | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 => {
            ints!(u8)?.recast(dtype, shape)
        }
        I2 | U2 | I4 | U4 | F4E2M1 => {
            let bytes = size_in_bytes(dtype, shape)?;
            check(t.int32_data.len(), bytes)?;
            let data: Vec<u8> = t.int32_data.iter().map(|&x| x as u8).collect();
            Tensor::from_bytes(dtype, shape, Bytes::from(data))
        }
        String => Err(invalid!("strings do not fit into a tensor of bytes")),
    }
}

impl Tensor {
    /// The same memory as another dtype and shape that take as many bytes.
    fn recast(self, dtype: DType, shape: &[usize]) -> Result<Tensor, Reason> {
        match self.into_buffer() {
            Some(buffer) => Tensor::from_buffer(dtype, shape, buffer),
            None => Err(invalid!("shared data cannot be recast")),
        }
    }
}

/// A dense tensor of a sparse one (ONNX IR, "SparseTensorProto"). A small file can ask for a large
/// tensor this way: `take` is asked for its bytes before there is one.
pub fn sparse(
    t: &pb::SparseTensorProto,
    source: &dyn ExternalData,
    take: &dyn Fn(usize) -> Result<(), Reason>,
) -> Result<Tensor, Reason> {
    let shape = sizes(&t.dims)?;
    let missing = || invalid!("a sparse tensor without values or indices");
    let values = tensor(t.values.as_ref().ok_or_else(missing)?, source)?.into_tensor()?;
    let indices = tensor(t.indices.as_ref().ok_or_else(missing)?, source)?.into_tensor()?;
    let index =
        indices.to_ints().ok_or_else(|| invalid!("sparse indices are {}", indices.dtype()))?;
    let stored = values.len();
    let linear: Vec<i64> = match indices.shape() {
        [n] if *n == stored => index.to_vec(),
        [n, rank] if *n == stored && *rank == shape.len() => index
            .chunks_exact((*rank).max(1))
            .map(|at| linear_index(at, &shape))
            .collect::<Result<_, _>>()?,
        other => return Err(invalid!("sparse indices of shape {other:?} for {stored} values")),
    };
    let width = values.dtype().size();
    if width == 0 {
        return Err(unsupported!("sparse tensors of {}", values.dtype()));
    }
    let bytes = count(&shape).and_then(|n| n.checked_mul(width));
    take(bytes.unwrap_or(usize::MAX))?;
    let mut dense = Tensor::try_zeros(values.dtype(), &shape)?;
    let len = dense.len();
    let (from, to) = (values.as_bytes(), dense.as_mut_bytes());
    for (i, &at) in linear.iter().enumerate() {
        let at = usize::try_from(at)
            .ok()
            .filter(|&at| at < len)
            .ok_or_else(|| invalid!("sparse index {at} in a tensor of {len} elements"))?;
        to[at * width..][..width].copy_from_slice(&from[i * width..][..width]);
    }
    Ok(dense)
}

fn linear_index(at: &[i64], shape: &[usize]) -> Result<i64, Reason> {
    at.iter().zip(shape).try_fold(0i64, |sum, (&i, &n)| {
        if i < 0 || i as u64 >= n as u64 {
            return Err(invalid!("sparse index {at:?} in a tensor of shape {shape:?}"));
        }
        Ok(sum * n as i64 + i)
    })
}

/// A value as a `TensorProto`; raw data for everything but strings.
pub fn to_proto(name: &str, value: &Value) -> Result<pb::TensorProto, Reason> {
    let mut t = pb::TensorProto { name: Some(name.into()), ..Default::default() };
    match value {
        Value::Tensor(tensor) => {
            t.dims = tensor.shape().iter().map(|&n| n as i64).collect();
            t.data_type = Some(tensor.dtype().to_onnx());
            t.raw_data = Some(Bytes::copy_from_slice(tensor.as_bytes()));
        }
        Value::Text(text) => {
            t.dims = text.shape().iter().map(|&n| n as i64).collect();
            t.data_type = Some(DType::String.to_onnx());
            t.string_data =
                text.as_slice().iter().map(|s| Bytes::from(s.clone().into_bytes())).collect();
        }
        other => return Err(invalid!("a {} is no tensor", other.ty())),
    }
    Ok(t)
}

/// A float value as any of the float dtypes that attributes become; others are refused.
pub(crate) fn float_scalar(dtype: DType, x: f32) -> Result<Tensor, Reason> {
    Ok(match dtype {
        DType::F32 => Tensor::scalar(x),
        DType::F64 => Tensor::scalar(x as f64),
        DType::F16 => Tensor::scalar(f16::from_f32(x)),
        DType::BF16 => Tensor::scalar(bf16::from_f32(x)),
        DType::I32 => Tensor::scalar(x as i32),
        DType::I64 => Tensor::scalar(x as i64),
        DType::U32 => Tensor::scalar(x as u32),
        DType::U64 => Tensor::scalar(x as u64),
        DType::I8 => Tensor::scalar(x as i8),
        DType::U8 => Tensor::scalar(x as u8),
        DType::I16 => Tensor::scalar(x as i16),
        DType::U16 => Tensor::scalar(x as u16),
        other => return Err(unsupported!("a constant {x} of type {other}")),
    })
}

/// The type that a `TypeProto` describes, and the shape of a tensor in it.
pub fn type_of(t: &pb::TypeProto) -> Result<(Type, Option<crate::shape::Shape>), Reason> {
    type_at_depth(t, 0)
}

fn type_at_depth(
    t: &pb::TypeProto,
    depth: usize,
) -> Result<(Type, Option<crate::shape::Shape>), Reason> {
    use pb::type_proto::Value as V;
    if depth > 16 {
        return Err(invalid!("a type nested more than 16 deep"));
    }
    let inner = |of: Option<&pb::TypeProto>| match of {
        Some(of) => type_at_depth(of, depth + 1).map(|t| Box::new(t.0)),
        None => Err(invalid!("a type without an element type")),
    };
    Ok(match t.value.as_ref().ok_or_else(|| invalid!("a value without a type"))? {
        V::TensorType(t) => (Type::Tensor(dtype(t.elem_type())?), t.shape.as_ref().map(shape)),
        V::SparseTensorType(t) => {
            (Type::Tensor(dtype(t.elem_type())?), t.shape.as_ref().map(shape))
        }
        V::SequenceType(t) => (Type::Sequence(inner(t.elem_type.as_deref())?), None),
        V::OptionalType(t) => (Type::Optional(inner(t.elem_type.as_deref())?), None),
        V::MapType(t) => (Type::Map(dtype(t.key_type())?, inner(t.value_type.as_deref())?), None),
        #[allow(unreachable_patterns)]
        _ => return Err(unsupported!("an opaque type")),
    })
}

fn shape(s: &pb::TensorShapeProto) -> crate::shape::Shape {
    use crate::Dim;
    use pb::tensor_shape_proto::dimension::Value as V;
    let dim = |d: &pb::tensor_shape_proto::Dimension| match &d.value {
        Some(V::DimValue(n)) if *n >= 0 => Dim::N(*n),
        Some(V::DimParam(name)) if !name.is_empty() => Dim::symbol(name),
        _ => Dim::Unknown,
    };
    s.dim.iter().map(dim).collect()
}
