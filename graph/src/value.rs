//! What flows between nodes: tensors, strings, sequences, optionals, maps.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::shape::{Sizes, count};
use crate::{DType, Reason, Tensor, invalid};

/// The type of a value, as ONNX's `TypeProto` has it, shapes apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A dense tensor, strings included.
    Tensor(DType),
    /// A list of values of one type.
    Sequence(Box<Type>),
    /// A value that may be absent.
    Optional(Box<Type>),
    /// A map from integers or strings to values of one type.
    Map(DType, Box<Type>),
}

impl Type {
    /// The dtype, if it is a tensor.
    pub fn dtype(&self) -> Option<DType> {
        match self {
            Type::Tensor(dtype) => Some(*dtype),
            _ => None,
        }
    }
}

impl fmt::Display for Type {
    /// As ONNX writes it: `tensor(float)`, `seq(tensor(int64))`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(dtype) => write!(f, "tensor({dtype})"),
            Type::Sequence(of) => write!(f, "seq({of})"),
            Type::Optional(of) => write!(f, "optional({of})"),
            Type::Map(key, of) => write!(f, "map({key},{of})"),
        }
    }
}

/// A tensor of UTF-8 strings. Cloning shares the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Strings {
    shape: Sizes,
    data: Arc<Vec<String>>,
}

impl Strings {
    /// Strings in row-major order; `Err` if their number does not fit the shape.
    pub fn new(shape: &[usize], data: Vec<String>) -> Result<Strings, Reason> {
        if count(shape) != Some(data.len()) {
            return Err(invalid!("{} strings for shape {shape:?}", data.len()));
        }
        Ok(Strings { shape: shape.into(), data: Arc::new(data) })
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The strings in row-major order.
    pub fn as_slice(&self) -> &[String] {
        &self.data
    }

    /// The same strings under another shape; `Err` if their number differs.
    pub fn reshaped(mut self, shape: &[usize]) -> Result<Strings, Reason> {
        if count(shape) != Some(self.data.len()) {
            return Err(invalid!("{} strings cannot take the shape {shape:?}", self.data.len()));
        }
        self.shape = shape.into();
        Ok(self)
    }
}

/// A key of a [`Value::Map`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Key {
    Int(i64),
    Text(String),
}

/// What an input, an output or an edge of a graph holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor on the host.
    Tensor(Tensor),
    /// A tensor of strings.
    Text(Strings),
    /// A sequence; `of` is the type of each element.
    Seq {
        /// The type of each element.
        of: Type,
        /// The elements.
        items: Arc<Vec<Value>>,
    },
    /// An optional; `of` is the type of what it may hold.
    Optional {
        /// The type of what it may hold.
        of: Type,
        /// What it holds, if anything.
        value: Option<Arc<Value>>,
    },
    /// A map; `of` is the type of its values, `key` of its keys (a dtype).
    Map {
        /// The dtype of the keys.
        key: DType,
        /// The type of the values.
        of: Type,
        /// The entries.
        entries: Arc<BTreeMap<Key, Value>>,
    },
}

impl From<Tensor> for Value {
    fn from(t: Tensor) -> Value {
        Value::Tensor(t)
    }
}

impl From<Strings> for Value {
    fn from(s: Strings) -> Value {
        Value::Text(s)
    }
}

impl Value {
    /// A sequence of values of type `of`.
    pub fn sequence(of: Type, items: Vec<Value>) -> Value {
        Value::Seq { of, items: Arc::new(items) }
    }

    /// The type.
    pub fn ty(&self) -> Type {
        match self {
            Value::Tensor(t) => Type::Tensor(t.dtype()),
            Value::Text(_) => Type::Tensor(DType::String),
            Value::Seq { of, .. } => Type::Sequence(Box::new(of.clone())),
            Value::Optional { of, .. } => Type::Optional(Box::new(of.clone())),
            Value::Map { key, of, .. } => Type::Map(*key, Box::new(of.clone())),
        }
    }

    /// The size of each axis, if it is a tensor or strings.
    pub fn shape(&self) -> Option<&[usize]> {
        match self {
            Value::Tensor(t) => Some(t.shape()),
            Value::Text(s) => Some(s.shape()),
            _ => None,
        }
    }

    /// The tensor; `Err` names what it is instead.
    pub fn as_tensor(&self) -> Result<&Tensor, Reason> {
        match self {
            Value::Tensor(t) => Ok(t),
            other => Err(invalid!("a {} where a tensor of numbers is expected", other.ty())),
        }
    }

    /// The tensor; `Err` names what it is instead.
    pub fn into_tensor(self) -> Result<Tensor, Reason> {
        match self {
            Value::Tensor(t) => Ok(t),
            other => Err(invalid!("a {} where a tensor of numbers is expected", other.ty())),
        }
    }

    /// The strings; `Err` names what it is instead.
    pub fn as_text(&self) -> Result<&Strings, Reason> {
        match self {
            Value::Text(s) => Ok(s),
            other => Err(invalid!("a {} where strings are expected", other.ty())),
        }
    }

    /// The elements of a sequence; `Err` names what it is instead.
    pub fn as_sequence(&self) -> Result<&[Value], Reason> {
        match self {
            Value::Seq { items, .. } => Ok(items),
            other => Err(invalid!("a {} where a sequence is expected", other.ty())),
        }
    }

    /// Bytes that the elements take, strings and nested values included.
    pub fn byte_len(&self) -> usize {
        match self {
            Value::Tensor(t) => t.byte_len(),
            Value::Text(s) => s.as_slice().iter().map(String::len).sum(),
            Value::Seq { items, .. } => items.iter().map(Value::byte_len).sum(),
            Value::Optional { value, .. } => value.as_ref().map_or(0, |v| v.byte_len()),
            Value::Map { entries, .. } => entries.values().map(Value::byte_len).sum(),
        }
    }
}
