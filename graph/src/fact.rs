//! What is known of a value before it exists.

use smallvec::SmallVec;

use crate::shape::{Dim, Shape, Sizes, show};
use crate::{DType, Reason, Tensor, Type, Value, invalid};

/// What a value will hold, as far as that is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// This tensor.
    Const(Tensor),
    /// An int64 tensor of rank 0 or 1 with these elements.
    Dims(Vec<Dim>),
    /// This value, which is no tensor of numbers (strings, sequences, optionals).
    Value(Value),
}

/// Type, shape and content of a value, as far as they are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// The type.
    pub ty: Type,
    /// The sizes of a tensor's axes; `None` if not even the rank is known, or it is no tensor.
    pub shape: Option<Shape>,
    /// The content.
    pub known: Option<Known>,
}

/// Elements of a vector that is followed element by element: no shape or list of pads is longer.
pub const SHORT: usize = 128;

/// The facts of a node's outputs, in order.
pub type Facts = SmallVec<[Fact; 1]>;

impl Fact {
    /// A tensor of which dtype and shape are known.
    pub fn new(dtype: DType, shape: Shape) -> Fact {
        Fact { ty: Type::Tensor(dtype), shape: Some(shape), known: None }
    }

    /// A tensor with concrete sizes.
    pub fn sized(dtype: DType, sizes: &[usize]) -> Fact {
        Fact::new(dtype, sizes.iter().map(|&n| Dim::from(n)).collect())
    }

    /// A tensor of which nothing but the dtype is known.
    pub fn unranked(dtype: DType) -> Fact {
        Fact { ty: Type::Tensor(dtype), shape: None, known: None }
    }

    /// A tensor of known rank and unknown sizes.
    pub fn ranked(dtype: DType, rank: usize) -> Fact {
        Fact::new(dtype, SmallVec::from_elem(Dim::Unknown, rank))
    }

    /// A value of which only the type is known.
    pub fn of(ty: Type) -> Fact {
        Fact { ty, shape: None, known: None }
    }

    /// A tensor whose content is known.
    pub fn constant(tensor: Tensor) -> Fact {
        let mut fact = Fact::sized(tensor.dtype(), tensor.shape());
        fact.known = Some(Known::Const(tensor));
        fact
    }

    /// An int64 vector (or scalar) with these elements.
    pub fn of_dims(dims: Vec<Dim>, scalar: bool) -> Fact {
        let sizes: &[usize] = if scalar { &[] } else { &[dims.len()] };
        let values: Option<Vec<i64>> = dims.iter().map(Dim::value).collect();
        match values.map(|values| Tensor::try_from_slice(sizes, &values)) {
            Some(Ok(tensor)) => Fact::constant(tensor),
            _ => Fact { known: Some(Known::Dims(dims)), ..Fact::sized(DType::I64, sizes) },
        }
    }

    /// The fact of a value that is at hand, content included.
    pub fn of_value(value: &Value) -> Fact {
        match value {
            Value::Tensor(t) => Fact::constant(t.clone()),
            other => Fact {
                ty: other.ty(),
                shape: other.shape().map(|s| s.iter().map(|&n| Dim::from(n)).collect()),
                known: Some(Known::Value(other.clone())),
            },
        }
    }

    /// The fact without its content.
    pub fn forget(mut self) -> Fact {
        self.known = None;
        self
    }

    /// The dtype; `Err` if it is no tensor.
    pub fn dtype(&self) -> Result<DType, Reason> {
        self.ty.dtype().ok_or_else(|| invalid!("a {} where a tensor is expected", self.ty))
    }

    /// The number of axes, if known.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(|s| s.len())
    }

    /// The sizes as far as they are known, if the rank is.
    pub fn shape(&self) -> Option<&[Dim]> {
        self.shape.as_deref()
    }

    /// The sizes, if every one is a number.
    pub fn sizes(&self) -> Option<Sizes> {
        self.shape.as_ref()?.iter().map(Dim::size).collect()
    }

    /// The number of elements, if every size is known.
    pub fn len(&self) -> Option<usize> {
        crate::shape::count(&self.sizes()?)
    }

    /// Whether it certainly has no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.as_ref().is_some_and(|s| s.iter().any(|d| d.is(0)))
    }

    /// The tensor it holds, if known.
    pub fn tensor(&self) -> Option<&Tensor> {
        match &self.known {
            Some(Known::Const(t)) => Some(t),
            _ => None,
        }
    }

    /// The value it holds, if known.
    pub fn value(&self) -> Option<Value> {
        match &self.known {
            Some(Known::Const(t)) => Some(Value::Tensor(t.clone())),
            Some(Known::Value(v)) => Some(v.clone()),
            _ => None,
        }
    }

    /// The integers it holds, if all are known (shapes, axes, sizes).
    pub fn ints(&self) -> Option<SmallVec<[i64; 4]>> {
        match self.tensor() {
            // Nothing is unknown of what is empty.
            None if self.is_empty() && self.dtype().is_ok_and(DType::is_int) => {
                Some(SmallVec::new())
            }
            tensor => tensor.and_then(Tensor::to_ints),
        }
    }

    /// The integers it holds as far as they are known.
    pub fn dims(&self) -> Option<SmallVec<[Dim; 4]>> {
        match &self.known {
            Some(Known::Dims(dims)) => Some(dims.iter().cloned().collect()),
            Some(Known::Const(t)) => Some(t.to_ints()?.into_iter().map(Dim::N).collect()),
            _ => None,
        }
    }

    /// The elements of a short int64 tensor of rank 0 or 1 (a shape, or part of one), as many as
    /// it has: [`Dim::Unknown`] where nothing is known of one.
    pub fn elements(&self) -> Option<SmallVec<[Dim; 4]>> {
        if self.ty != Type::Tensor(DType::I64) || self.rank()? > 1 {
            return None;
        }
        let len = self.len().filter(|&len| len <= SHORT)?;
        Some(self.dims().unwrap_or_else(|| SmallVec::from_elem(Dim::Unknown, len)))
    }

    /// Whether the content is known in full.
    pub fn is_const(&self) -> bool {
        matches!(self.known, Some(Known::Const(_) | Known::Value(_)))
    }

    /// Whether both may describe the same value: types equal, no two sizes certainly different.
    pub fn compatible(&self, other: &Fact) -> bool {
        let dims = match (&self.shape, &other.shape) {
            (Some(a), Some(b)) => {
                let agree =
                    |(a, b): (&Dim, &Dim)| a.value().is_none() || b.value().is_none() || a == b;
                a.len() == b.len() && a.iter().zip(b).all(agree)
            }
            _ => true,
        };
        self.ty == other.ty && dims
    }

    /// This fact, with what `other` knows of the same value filled in where this one does not.
    pub fn refined(mut self, other: &Fact) -> Fact {
        match (&mut self.shape, &other.shape) {
            (shape @ None, theirs) => *shape = theirs.clone(),
            (Some(ours), Some(theirs)) if ours.len() == theirs.len() => {
                for (a, b) in ours.iter_mut().zip(theirs) {
                    if *a == Dim::Unknown || (a.value().is_none() && b.value().is_some()) {
                        *a = b.clone();
                    }
                }
            }
            _ => {}
        }
        self.known = self.known.or_else(|| other.known.clone());
        self
    }
}

impl std::fmt::Display for Fact {
    /// `float[batch, 3]`, `seq(tensor(float))`, `int64[2] = [1, n]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.ty, &self.shape) {
            (Type::Tensor(dtype), Some(shape)) => write!(f, "{dtype}{}", show(shape))?,
            (Type::Tensor(dtype), None) => write!(f, "{dtype}[..]")?,
            (ty, _) => write!(f, "{ty}")?,
        }
        match &self.known {
            Some(Known::Dims(dims)) => write!(f, " = {}", show(dims)),
            _ => Ok(()),
        }
    }
}
